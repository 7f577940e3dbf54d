//! What was negotiated, and what is paid in another currency: which adjustment and which exchange rate an event gets.

mod support;

use std::sync::Arc;

use price_book::{PriceBook, Priced, Pricer};
use usage_types::{Dimension, TimeUs, Tokens, UsageEvent};

fn book(text: &str) -> Arc<PriceBook> {
    let text = format!("currency: USD\nsource: s\nas_of: 2026-11-01\n{text}");
    Arc::new(PriceBook::from_yaml(&text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

fn refused(text: &str) -> (u64, String) {
    let text = format!("currency: USD\nsource: s\nas_of: 2026-11-01\nsettle_in: USD\nprices: []\n{text}");
    match PriceBook::from_yaml(&text) {
        Ok(_) => panic!("this was read:\n{text}"),
        Err(error) => (error.line, error.to_string()),
    }
}

/// An event of one request, with dimensions like `namespace=support model=gpt-5.1`.
fn event(dimensions: &str, input: u64) -> UsageEvent<'static> {
    let named = dimensions.split_whitespace().map(|pair| {
        let (name, value) = pair.split_once('=').expect("name=value");
        (name.parse::<Dimension>().expect("a dimension"), Some(value))
    });
    support::event(&named.collect::<Vec<_>>(), Tokens { input, ..Tokens::default() }).into_owned()
}

/// What the event costs at that time; the pricer that remembers must say the same.
fn price(book: &Arc<PriceBook>, event: &UsageEvent<'_>, at: &str) -> String {
    let at = TimeUs::parse_rfc3339(at).expect("a time of this test");
    let priced = book.price(event, at);
    assert_eq!(Pricer::new(Arc::clone(book)).price(event, at), priced, "{event:?}");
    match priced {
        Priced::Cost(cost) => format!("{} {}", cost.amount, cost.currency),
        Priced::Unpriced(reason) => format!("unpriced: {}", reason.code()),
    }
}

const NOON: &str = "2026-11-21T12:00:00Z";

const ADJUSTED: &str = "
adjustments:
  - { match: {}, multiply: 1.1 }
  - { match: { provider: openai }, multiply: 0.9 }
  - { match: { namespace: external, provider: openai }, multiply: 2 }
  - { match: { namespace: support, provider: openai, model: gpt-5* }, multiply: 0.85, to: 2026-12-01 }
  - { match: { namespace: support, provider: openai, model: gpt-5* }, multiply: 0.8, from: 2026-12-01 }
  - { match: { namespace: support, provider: openai, model: gpt-5.1 }, multiply: 0.5 }
  - { match: { namespace: support, provider: openai, model: gpt-5.1, service_tier: batches }, multiply: 0.25 }
  - { match: { namespace: gratis, provider: azure }, multiply: 0 }
prices:
  - { model: gpt-*, provider: [openai, azure], per_million: { input: 1 }, service_tiers: { batch: { multiply: 0.5 } } }
  - { model: solo, provider: openai, per_million: { input: 1 } }
  - { model: open, per_million: { input: 1 } }
";

#[test]
fn the_most_specific_adjustment_applies_and_only_that() {
    let book = book(ADJUSTED);
    // A million tokens at 1 $ a million.
    for (dimensions, at, expected) in [
        ("namespace=n provider=groq model=open", NOON, "1.1 USD"),
        ("namespace=n provider=openai model=gpt-4", NOON, "0.9 USD"),
        ("namespace=external provider=openai model=gpt-5.1", NOON, "2 USD"),
        ("namespace=support provider=openai model=gpt-4", NOON, "0.9 USD"),
        ("namespace=support provider=openai model=gpt-5-x", NOON, "0.85 USD"),
        ("namespace=support provider=openai model=gpt-5-x", "2026-11-30T23:59:59.999999Z", "0.85 USD"),
        ("namespace=support provider=openai model=gpt-5-x", "2026-12-01T00:00:00Z", "0.8 USD"),
        ("namespace=support provider=openai model=gpt-5.1", NOON, "0.5 USD"),
        // Half of it at the tier, and a quarter of that.
        ("namespace=support provider=openai model=gpt-5.1 service_tier=batch", NOON, "0.125 USD"),
        ("namespace=support provider=openai model=gpt-5.1 service_tier=default", NOON, "0.5 USD"),
        // Whatever the provider is called.
        ("namespace=gratis provider=azure.ai.openai model=gpt-5.1", NOON, "0 USD"),
        ("namespace=gratis provider=groq model=open", NOON, "1.1 USD"),
    ] {
        assert_eq!(price(&book, &event(dimensions, 1_000_000), at), expected, "{dimensions} at {at}");
    }
}

#[test]
fn an_adjustment_for_one_of_the_providers_that_may_have_served_an_event_leaves_it_unpriced() {
    let book = book(ADJUSTED);
    // Only openai serves it, so it is known.
    assert_eq!(price(&book, &event("namespace=n model=solo", 1_000_000), NOON), "0.9 USD");
    // Both serve it at one price, and one of them gives a discount; whoever serves it, and one of them gives a discount.
    for model in ["gpt-4", "open"] {
        let event = event(&format!("namespace=n model={model}"), 1);
        assert_eq!(price(&book, &event, NOON), "unpriced: ambiguous_provider", "{model}");
    }
}

#[test]
fn an_adjusted_cost_is_rounded_once_half_a_pico_unit_up() {
    let book = book(
        "adjustments:\n  - { match: { namespace: half }, multiply: 0.5 }\n  - { match: { namespace: third }, multiply: 0.333333 }\n\
         prices:\n  - { model: m, per_million: { input: 0.000001, output: 0.000001 } }\n",
    );
    // A token costs one pico-dollar.
    for (namespace, input, output, expected) in [
        // 3 × 0.5 = 1.5 goes up to 2. Rounded class by class it would be 1 × 0.5 + 2 × 0.5 = 1 + 1 as well, but
        ("half", 1, 2, "0.000000000002 USD"),
        // (1 + 1) × 0.5 is 1, not 1 + 1.
        ("half", 1, 1, "0.000000000001 USD"),
        // 4 × 0.333333 = 1.333332; 5 × 0.333333 = 1.666665.
        ("third", 4, 0, "0.000000000001 USD"),
        ("third", 5, 0, "0.000000000002 USD"),
    ] {
        let mut event = event(&format!("namespace={namespace} model=m"), input);
        event.tokens.output = output;
        assert_eq!(price(&book, &event, NOON), expected, "{namespace} {input} + {output}");
    }
}

#[test]
fn the_cost_that_an_event_brings_is_neither_adjusted_nor_exchanged() {
    let book = book("settle_in: USD\nadjustments:\n  - { match: {}, multiply: 2 }\nprices: []\n");
    let mut event = event("model=m", 1);
    event.cost = Some((usage_types::Pico(42), "EUR".parse().unwrap()));
    assert_eq!(price(&book, &event, NOON), "0.000000000042 EUR");
}

const EXCHANGED: &str = "
settle_in: USD
exchange_rates:
  - { from_currency: EUR, to_currency: USD, rate: \"1.0834\", from: 2026-11-01, source: https://example.com/eur }
  - { from_currency: EUR, to_currency: USD, rate: \"1.1\", from: 2026-12-01, to: 2027-01-01, source: https://example.com/eur }
  - { from_currency: JPY, to_currency: USD, rate: \"0.00652318\", from: 2026-11-01, source: https://example.com/jpy }
adjustments:
  - { match: { namespace: support }, multiply: 0.85 }
prices:
  - { model: european, currency: EUR, per_million: { input: 2 } }
  - { model: japanese, currency: JPY, per_million: { input: 150 } }
  - { model: british, currency: GBP, per_million: { input: 1 } }
  - { model: american, per_million: { input: 1 } }
";

#[test]
fn a_price_in_another_currency_is_exchanged_at_the_rate_of_the_events_time() {
    let book = book(EXCHANGED);
    let no_rate = "unpriced: no_exchange_rate";
    for (model, at, expected) in [
        ("european", "2026-10-31T23:59:59.999999Z", no_rate),
        // 2 € × 1.0834.
        ("european", "2026-11-01T00:00:00Z", "2.1668 USD"),
        // Until the next one begins, and that until its end.
        ("european", "2026-11-30T23:59:59.999999Z", "2.1668 USD"),
        ("european", "2026-12-01T00:00:00Z", "2.2 USD"),
        ("european", "2026-12-31T23:59:59.999999Z", "2.2 USD"),
        ("european", "2027-01-01T00:00:00Z", no_rate),
        // 150 ¥ × 0.00652318, until further notice.
        ("japanese", "2030-01-01T00:00:00Z", "0.978477 USD"),
        ("british", NOON, no_rate),
        ("american", "2020-01-01T00:00:00Z", "1 USD"),
    ] {
        assert_eq!(price(&book, &event(&format!("model={model}"), 1_000_000), at), expected, "{model} at {at}");
    }
    // One token: 2,000,000 p€ × 0.85 × 1.0834 = 1,841,780 p$.
    assert_eq!(price(&book, &event("namespace=support model=european", 1), NOON), "0.00000184178 USD");
}

#[test]
fn two_adjustments_with_an_equal_right_are_refused_naming_both_lines() {
    // The list begins on line 7.
    for list in [
        "  - { match: { namespace: a }, multiply: 1 }\n  - { match: { namespace: a }, multiply: 2 }\n",
        "  - { match: {}, multiply: 1 }\n  - { match: {}, multiply: 2 }\n",
        // Under two names of the provider, of the tier.
        "  - { match: { provider: google }, multiply: 1 }\n  - { match: { provider: gcp.gemini }, multiply: 2 }\n",
        "  - { match: { service_tier: batch }, multiply: 1 }\n  - { match: { service_tier: batches }, multiply: 2 }\n",
        // The same family.
        "  - { match: { model: g* }, multiply: 1 }\n  - { match: { model: g* }, multiply: 2 }\n",
        // Support's requests to openai have both.
        "  - { match: { namespace: support }, multiply: 1 }\n  - { match: { provider: openai }, multiply: 2 }\n",
        // Those to gpt-5.1 have both.
        "  - { match: { namespace: n, model: gpt-5* }, multiply: 1 }\n  - { match: { provider: p, model: gpt-* }, multiply: 2 }\n",
        "  - { match: { namespace: n, model: gpt-5* }, multiply: 1 }\n  - { match: { provider: p, model: gpt-5.1 }, multiply: 2 }\n",
        // A day that both hold.
        "  - { match: { team: t }, multiply: 1, to: 2026-02-02 }\n  - { match: { team: t }, multiply: 2, from: 2026-02-01 }\n",
        // The third that settles them ends before they do, or is for one model only.
        "  - { match: { namespace: n }, multiply: 1 }\n  - { match: { provider: p }, multiply: 2 }\n  - { match: { namespace: n, provider: p }, multiply: 3, to: 2027-01-01 }\n",
        "  - { match: { namespace: n }, multiply: 1 }\n  - { match: { provider: p }, multiply: 2 }\n  - { match: { namespace: n, provider: p, model: m }, multiply: 3 }\n",
    ] {
        let (line, error) = refused(&format!("adjustments:\n{list}"));
        assert_eq!(line, 8, "{list}{error}");
        assert!(error.contains("`adjustments[1]`") && error.contains("line 7"), "{list}{error}");
    }
}

#[test]
fn adjustments_that_never_meet_or_that_a_third_settles_stand_side_by_side() {
    let read = book(
        "adjustments:\n\
         \x20 - { match: { namespace: n }, multiply: 1 }\n\
         \x20 - { match: { namespace: other }, multiply: 1 }\n\
         \x20 - { match: { provider: p }, multiply: 2 }\n\
         \x20 - { match: { namespace: n, provider: p }, multiply: 3 }\n\
         \x20 - { match: { namespace: other, provider: p }, multiply: 4 }\n\
         \x20 - { match: { namespace: n, model: a* }, multiply: 1 }\n\
         \x20 - { match: { namespace: n, model: ab* }, multiply: 1 }\n\
         \x20 - { match: { namespace: n, model: ab }, multiply: 1 }\n\
         \x20 - { match: { provider: p, model: b* }, multiply: 1 }\n\
         \x20 - { match: { namespace: n, provider: p, model: a* }, multiply: 6 }\n\
         \x20 - { match: { namespace: n, provider: p, model: ab* }, multiply: 5 }\n\
         \x20 - { match: { namespace: n, provider: p, model: ab }, multiply: 7 }\n\
         \x20 - { match: { namespace: n, provider: p, model: b* }, multiply: 8 }\n\
         \x20 - { match: { namespace: other, provider: p, model: b* }, multiply: 9 }\n\
         prices:\n  - { model: \"*\", per_million: { input: 1 } }\n",
    );
    for (dimensions, expected) in [
        ("namespace=n provider=p model=x", "3 USD"),
        ("namespace=other provider=p model=x", "4 USD"),
        ("namespace=n provider=p model=abc", "5 USD"),
        ("namespace=n provider=p model=a", "6 USD"),
        ("namespace=n provider=p model=ab", "7 USD"),
        ("namespace=n provider=p model=b", "8 USD"),
    ] {
        assert_eq!(price(&read, &event(dimensions, 1_000_000), NOON), expected, "{dimensions}");
    }
}

#[test]
fn each_mistake_in_the_terms_is_refused_with_its_line_and_field() {
    let rate = |fields: &str| format!("exchange_rates:\n  - {{ {fields} }}\n");
    let good = "from_currency: EUR, to_currency: USD, rate: 1.1, from: 2026-01-01, source: s";
    for (text, line, message) in [
        ("adjustments:\n  - { multiply: 1 }\n".to_owned(), 7, "`adjustments[0].match`: missing"),
        ("adjustments:\n  - { match: {} }\n".to_owned(), 7, "`adjustments[0].multiply`: missing"),
        ("adjustments:\n  - match: {}\n    multiply: -1\n".to_owned(), 8, "negative"),
        ("adjustments:\n  - match: {}\n    multiply: 15%\n".to_owned(), 8, "decimal"),
        ("adjustments:\n  - match: {}\n    multiply: 0.1234567\n".to_owned(), 8, "6 digits"),
        ("adjustments:\n  - match: {}\n    multiply: 1001\n".to_owned(), 8, "more than 1000"),
        ("adjustments:\n  - match:\n      namspace: a\n    multiply: 1\n".to_owned(), 8, "no dimension"),
        ("adjustments:\n  - match:\n      namespace: a*\n    multiply: 1\n".to_owned(), 8, "model's name only"),
        ("adjustments:\n  - match:\n      model: a*b\n    multiply: 1\n".to_owned(), 8, "end of a model's name"),
        ("adjustments:\n  - match:\n      team: \"\"\n    multiply: 1\n".to_owned(), 8, "empty"),
        (
            "adjustments:\n  - { match: {}, multiply: 1, from: 2026-02-01, to: 2026-02-01 }\n".to_owned(),
            7,
            "after `from`",
        ),
        (rate("to_currency: USD, rate: 1.1, from: 2026-01-01, source: s"), 7, "`exchange_rates[0].from_currency`"),
        (rate("from_currency: EUR, rate: 1.1, from: 2026-01-01, source: s"), 7, "to_currency`: missing"),
        (rate("from_currency: EUR, to_currency: USD, from: 2026-01-01, source: s"), 7, "rate`: missing"),
        (rate("from_currency: EUR, to_currency: USD, rate: 1.1, source: s"), 7, "from`: missing"),
        (rate("from_currency: EUR, to_currency: USD, rate: 1.1, from: 2026-01-01"), 7, "source`: missing"),
        (rate(&good.replace("1.1", "0")), 7, "free"),
        (rate(&good.replace("USD", "GBP")), 7, "not chained"),
        (rate(&good.replace("EUR", "USD")), 7, "needs no rate"),
        (rate(&good.replace("1.1", "0.0000000000001")), 7, "12 digits"),
    ] {
        let (at, error) = refused(&text);
        assert!(at == line && error.contains(message), "{text}{error}");
    }
    let without = format!("currency: USD\nprices: []\n{}", rate(good));
    assert!(PriceBook::from_yaml(&without).unwrap_err().to_string().contains("settle_in"));
}

#[test]
fn two_rates_of_a_currency_at_the_same_time_are_refused_naming_both_lines() {
    let rate = |rest: &str| format!("  - {{ from_currency: EUR, to_currency: USD, rate: 1.1, source: s, {rest} }}\n");
    for (first, second) in [
        ("from: 2026-01-01", "from: 2026-01-01"),
        ("from: 2026-01-01, to: 2026-03-01", "from: 2026-02-01"),
        ("from: 2026-02-01", "from: 2026-01-01, to: 2026-03-01"),
    ] {
        let (line, error) = refused(&format!("exchange_rates:\n{}{}", rate(first), rate(second)));
        assert_eq!(line, 8, "{first} {second} {error}");
        assert!(error.contains("`exchange_rates[1]`") && error.contains("line 7"), "{error}");
    }
}

#[test]
fn an_explanation_goes_step_by_step_from_the_rule_to_the_charge() {
    let text = EXCHANGED.replace(
        "per_million: { input: 2 } }",
        "per_million: { input: 2, output: 4 }, note: list price, tiers: [{ above_input_tokens: 1000, multiply: 1.5 }],\n      \
         service_tiers: { batch: { multiply: 0.5 } } }",
    );
    let book = book(&text);
    let request = event("namespace=support model=european service_tier=batches", 1001);
    let at = TimeUs::parse_rfc3339(NOON).unwrap();
    let found = book.explain_request(&request.dimensions, 1001, at).unwrap();
    // Lines are those of the file with the three lines that `book` puts before.
    assert_eq!(
        found.steps(),
        [
            "rule: exact match of `european`, whoever serves it (line 13 of the price file; s as of 2026-11-01)",
            "note: list price",
            "service tier: batch (the entry prices standard, batch)",
            "prompt: 1001 input tokens, the price above 1000 (tiers above 1000)",
            "adjustment: × 0.85 for namespace=support (line 11 of the price file)",
            "exchange: 1 EUR is 1.0834 USD, from 2026-11-01T00:00:00Z until 2026-12-01T00:00:00Z \
             (line 7 of the price file; https://example.com/eur)",
        ]
    );
    let prices: Vec<String> = (found.prices())
        .map(|p| format!("{} {} {} → {} {}", p.class.name(), p.listed, p.currency, p.charged, p.charged_currency))
        .collect();
    // 2 € × 1.5 × 0.5 = 1.5 €; × 0.85 × 1.0834 = 1.381335 $. Output twice that, and reasoning as output.
    let twice = "3 EUR → 2.76267 USD";
    let expected = ["input 1.5 EUR → 1.381335 USD".to_owned(), format!("output {twice}"), format!("reasoning {twice}")];
    assert_eq!(prices, expected);
    // And so an event costs: 1,001 × 1.381335 µ$.
    assert_eq!(price(&book, &request, NOON), "0.001382716335 USD");
}
