//! A price book with everything in it, events priced one by one, and their sums as the report's SQL makes them.
#![allow(dead_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use focus_report::{Counts, Entry, PriceEdges, Usage};
use price_book::{PriceBook, PriceClass, Priced, prompt_tokens};
use usage_types::{
    ComputeNs, Cost, CostOrigin, Currency, Dimension, Dimensions, Pico, Role, TimeUs, TokenClass, Tokens, UsageEvent,
};

/// Prices that change at noon, with long prompts, service tiers, fees, discounts for a namespace and a team, and another currency.
pub const BOOK: &str = r#"
currency: USD
settle_in: USD
exchange_rates:
  - { from_currency: EUR, to_currency: USD, rate: "1.083412345", from: 2026-11-01, source: "https://example.org/rates" }
  - { from_currency: EUR, to_currency: USD, rate: "1.09", from: "2026-11-20T18:00:00Z", source: "https://example.org/rates" }
adjustments:
  - { match: { namespace: support }, multiply: "0.85" }
  - { match: { namespace: support, team: night }, multiply: "0.333333", from: "2026-11-20T06:00:00Z" }
prices:
  - model: long
    provider: openai
    per_million: { input: "1.25", cache_read: "0.125", output: "10" }
    tiers:
      - { above_input_tokens: 1000, per_million: { input: "2.5", cache_read: "0.25", output: "15" } }
      - { above_input_tokens: 2000, multiply: "3" }
    service_tiers:
      batch: { multiply: "0.5" }
    source: https://example.org/prices
    as_of: 2026-11-01
  - model: changes
    provider: anthropic
    to: "2026-11-20T12:00:00Z"
    per_million: { input: "3", cache_read: "0.3", cache_write_5m: "3.75", cache_write_1h: "6", output: "15", reasoning: "0" }
    source: https://example.org/prices
    as_of: 2026-11-01
  - model: changes
    provider: anthropic
    from: "2026-11-20T12:00:00Z"
    per_million: { input: "0.000001", cache_read: "0.3", cache_write_5m: "3.75", cache_write_1h: "6", output: "15" }
    source: https://example.org/prices
    as_of: 2026-11-01
  - model: fees
    provider: mistral_ai
    currency: EUR
    per_million: { input: "0.4", output: "2" }
    per_request: "0.01"
    per_tool_call: "0.000000000001"
    per_compute_second: "0.000271828182"
    source: https://example.org/prices
    as_of: 2026-11-01
"#;

pub fn book() -> PriceBook {
    PriceBook::from_yaml(BOOK).unwrap_or_else(|error| panic!("{error}"))
}

pub fn at(text: &str) -> TimeUs {
    TimeUs::parse_rfc3339(text).unwrap()
}

pub fn dimensions(values: &[(Dimension, &str)]) -> Dimensions<'static> {
    let mut dimensions = Dimensions::default();
    for (dimension, value) in values {
        dimensions.set(*dimension, Some(Cow::Owned((*value).to_owned())));
    }
    dimensions
}

/// An event of a model of the book.
pub fn event(model: &str, time: TimeUs, tokens: Tokens) -> UsageEvent<'static> {
    let provider = match model {
        "changes" => "anthropic",
        "fees" => "mistral",
        _ => "openai",
    };
    let values = [(Dimension::Namespace, "research"), (Dimension::Provider, provider), (Dimension::Model, model)];
    UsageEvent {
        id: None,
        source: Cow::Borrowed(""),
        time,
        dimensions: dimensions(&values),
        tokens,
        requests: 1,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        tags: BTreeMap::new(),
        role: Role::Usage,
        progress: None,
    }
}

/// A row of the lake: an event with its cost.
pub type Row = (UsageEvent<'static>, Cost);

/// The rows of events that have a price.
pub fn priced(book: &PriceBook, events: Vec<UsageEvent<'static>>) -> Vec<Row> {
    let row = |event: UsageEvent<'static>| match book.price(&event, event.time) {
        Priced::Cost(cost) => Some((event, cost)),
        Priced::Unpriced(_) => None,
    };
    events.into_iter().filter_map(row).collect()
}

/// The sums of rows by day and everything that a price depends on, as the report's SQL makes them.
pub fn summed(edges: &PriceEdges, rows: &[Row]) -> Vec<Usage> {
    let mut sums: BTreeMap<String, Usage> = BTreeMap::new();
    for (event, cost) in rows {
        let prompt = prompt_tokens(&event.tokens);
        let span = edges.times.iter().filter(|edge| **edge <= event.time).count();
        let band = edges.input_tokens.iter().filter(|above| prompt > **above).count();
        let day = event.time.0.div_euclid(TimeUs::DAY);
        let origin = matches!(cost.origin, CostOrigin::Event);
        let key = format!("{day} {span} {band} {origin} {} {:?}", cost.currency, event.dimensions);
        let sum = sums.entry(key).or_insert_with(|| Usage {
            charge_period: (TimeUs(day * TimeUs::DAY), TimeUs((day + 1) * TimeUs::DAY)),
            billing_period: (at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z")),
            dimensions: event.dimensions.clone(),
            origin: cost.origin,
            entry: Entry::Usage,
            is_correction: false,
            cost: Pico(0),
            currency: cost.currency,
            rows: 0,
            counts: Counts::default(),
            time: event.time,
            input_tokens: 0,
        });
        sum.cost.0 += cost.amount.0;
        sum.rows += 1;
        sum.time = sum.time.min(event.time);
        sum.input_tokens = sum.input_tokens.max(prompt);
        for class in TokenClass::ALL {
            sum.counts.tokens[class as usize] += i64::try_from(event.tokens.get(class)).unwrap();
        }
        sum.counts.requests += i64::try_from(event.requests).unwrap();
        sum.counts.tool_calls += i64::try_from(event.tool_calls).unwrap();
        sum.counts.images += i64::try_from(event.images).unwrap();
        sum.counts.compute_ns += i128::from(event.compute.0);
    }
    sums.into_values().collect()
}

/// The same usage, taken back.
pub fn negated(usage: &Usage) -> Usage {
    let mut usage = usage.clone();
    usage.cost.0 = -usage.cost.0;
    usage.counts.tokens = usage.counts.tokens.map(|count| -count);
    usage.counts.requests = -usage.counts.requests;
    usage.counts.tool_calls = -usage.counts.tool_calls;
    usage.counts.images = -usage.counts.images;
    usage.counts.compute_ns = -usage.counts.compute_ns;
    usage
}

/// The usage of one event with its cost by the book.
pub fn usage_of(book: &PriceBook, event: UsageEvent<'static>) -> Usage {
    summed(&PriceEdges::of(book), &priced(book, vec![event])).pop().expect("the book has a price for it")
}

/// The same with a cost that its sender gave.
pub fn usage_with_cost(event: UsageEvent<'static>, cost: &str) -> Usage {
    let cost = Cost { amount: cost.parse().unwrap(), currency: Currency::USD, origin: CostOrigin::Event };
    summed(&PriceEdges::default(), &[(event, cost)]).pop().unwrap()
}

pub const INPUT: PriceClass = PriceClass::Tokens(TokenClass::Input);
pub const CACHE_READ: PriceClass = PriceClass::Tokens(TokenClass::CacheRead);
pub const OUTPUT: PriceClass = PriceClass::Tokens(TokenClass::Output);
