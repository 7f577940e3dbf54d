//! Prices by length of the prompt and by service tier: which one an event gets, to the token, and when it gets none.

mod support;

use price_book::{PriceBook, Priced, Pricer};
use usage_types::{Dimension, TimeUs, Tokens, UsageEvent};

/// In thousandths of a micro-dollar, that is in dollars per thousand million, every number below is a round one.
const BOOK: &str = r#"
currency: USD
source: s
as_of: 2026-11-01
prices:
  - model: long
    per_million: { input: "1", cache_read: "0.1", cache_write_5m: "1.25", cache_write_1h: "2", output: "10" }
    per_request: "0.5"
    tiers:
      - above_input_tokens: 1000
        per_million: { input: "2", cache_read: "0.2", cache_write_5m: "2.5", cache_write_1h: "4", output: "15" }
      - above_input_tokens: 2000
        multiply: "3"
    service_tiers:
      batch: { multiply: "0.5" }
      flex: { per_million: { input: "0.6", output: "6" }, tiers: [] }
      priority: { per_million: { input: "4", output: "40" }, per_request: "1" }
      fast: { per_million: { input: "5", output: "50" }, tiers: [{ above_input_tokens: 1500, multiply: "2" }] }
  - model: flat
    per_million: { input: "1", output: "2", reasoning: "4" }
    service_tiers: { batches: { multiply: "0.5" } }
  - model: painter
    per_image: "0.04"
    service_tiers: { batch: { per_image: "0.02" } }
"#;

fn event<'a>(model: &'a str, service_tier: Option<&'a str>, tokens: Tokens, requests: u64) -> UsageEvent<'a> {
    let named = [(Dimension::Model, Some(model)), (Dimension::ServiceTier, service_tier)];
    UsageEvent { requests, ..support::event(&named, tokens) }
}

/// What the event costs; the pricer that remembers must say the same.
fn price(event: &UsageEvent<'_>) -> String {
    let book = std::sync::Arc::new(PriceBook::from_yaml(BOOK).expect("a book of this test"));
    let priced = book.price(event, event.time);
    assert_eq!(Pricer::new(book).price(event, event.time), priced, "{event:?}");
    match priced {
        Priced::Cost(cost) => cost.amount.to_string(),
        Priced::Unpriced(reason) => format!("unpriced: {}", reason.code()),
    }
}

fn tokens(input: u64, cache_read: u64, cache_write_5m: u64, cache_write_1h: u64, output: u64) -> Tokens {
    Tokens { input, cache_read, cache_write_5m, cache_write_1h, output, reasoning: 0 }
}

#[test]
fn the_whole_request_costs_what_prompts_of_its_length_do() {
    for (used, expected) in [
        // Exactly 1,000 is not above 1,000: 1,000 × 1 µ$ + 100 × 10 µ$ + 0.5 $ a request.
        (tokens(1000, 0, 0, 0, 100), "0.502"),
        // One more, and all of it costs more, its output too: 1,001 × 2 µ$ + 100 × 15 µ$ + 0.5 $.
        (tokens(1001, 0, 0, 0, 100), "0.503502"),
        // Every class of input counts: 400 + 300 + 200 + 100 = 1,000.
        // 400 × 1 + 300 × 0.1 + 200 × 1.25 + 100 × 2 = 880 µ$, and 0.5 $.
        (tokens(400, 300, 200, 100, 0), "0.50088"),
        // 400 × 2 + 301 × 0.2 + 200 × 2.5 + 100 × 4 = 1,760.2 µ$.
        (tokens(400, 301, 200, 100, 0), "0.5017602"),
        // 400 × 2 + 300 × 0.2 + 201 × 2.5 + 100 × 4 = 1,762.5 µ$.
        (tokens(400, 300, 201, 100, 0), "0.5017625"),
        // 400 × 2 + 300 × 0.2 + 200 × 2.5 + 101 × 4 = 1,764 µ$.
        (tokens(400, 300, 200, 101, 0), "0.501764"),
        // Output does not make a prompt longer: 999 × 1 + 5,000 × 10 = 50,999 µ$.
        (tokens(999, 0, 0, 0, 5000), "0.550999"),
        // The edge of the next tier: 2,000 × 2 µ$, then 2,001 × 3 times the entry's own 1 µ$.
        (tokens(2000, 0, 0, 0, 0), "0.504"),
        (tokens(2001, 0, 0, 0, 0), "0.506003"),
    ] {
        assert_eq!(price(&event("long", None, used, 1)), expected, "{used:?}");
    }
}

#[test]
fn several_requests_in_one_event_are_priced_while_the_length_of_each_cannot_matter() {
    let ambiguous = "unpriced: ambiguous_context";
    for (model, requests, used, expected) in [
        // None of them can be longer than all together: 1,000 × 1 µ$ + 3 × 0.5 $.
        ("long", 3, tokens(1000, 0, 0, 0, 0), "1.501"),
        // Two of 501 and 500 tokens, or one of 1,001 and an empty one?
        ("long", 2, tokens(1001, 0, 0, 0, 0), ambiguous),
        // A part of a request, or a sum that does not count them.
        ("long", 0, tokens(10, 0, 0, 0, 0), ambiguous),
        ("long", 0, tokens(0, 0, 0, 0, 10), ambiguous),
        ("long", 0, tokens(0, 0, 0, 0, 0), "0"),
        // Where the length does not matter, sums are fine: 5,000 × 1 µ$.
        ("flat", 7, tokens(5000, 0, 0, 0, 0), "0.005"),
        ("flat", 0, tokens(5000, 0, 0, 0, 0), "0.005"),
    ] {
        assert_eq!(price(&event(model, None, used, requests)), expected, "{requests} × {model} {used:?}");
    }
}

#[test]
fn a_service_tier_has_its_own_prices_and_is_never_taken_for_another() {
    let (short, long) = (tokens(1000, 0, 0, 0, 100), tokens(1001, 0, 0, 0, 100));
    for (model, tier, used, expected) in [
        ("long", Some("default"), short, "0.502"),
        ("long", Some("AUTO"), long, "0.503502"),
        // Half of the tokens' price, and the request's fee as it is: (1,000 × 1 + 100 × 10) / 2 = 1,000 µ$.
        ("long", Some("batch"), short, "0.501"),
        ("long", Some("BATCH"), short, "0.501"),
        // What is multiplied is multiplied for long prompts too: (1,001 × 2 + 100 × 15) / 2 = 1,751 µ$.
        ("long", Some("batch"), long, "0.501751"),
        // 1,000 × 0.6 + 100 × 6 = 1,200 µ$; its empty list of tiers says that the length does not matter: 1,200.6 µ$.
        ("long", Some("flex"), short, "0.5012"),
        ("long", Some("flex"), long, "0.5012006"),
        // 1,000 × 4 + 100 × 40 = 8,000 µ$, and its own fee; it says nothing of long prompts.
        ("long", Some("priority"), short, "1.008"),
        ("long", Some("priority"), long, "unpriced: no_context_tier"),
        // Its own edge: 1,500 × 5 µ$, 1,501 × 10 µ$.
        ("long", Some("fast"), tokens(1500, 0, 0, 0, 0), "0.5075"),
        ("long", Some("fast"), tokens(1501, 0, 0, 0, 0), "0.51501"),
        ("long", Some("scale"), short, "unpriced: no_service_tier"),
        ("flat", Some("flex"), short, "unpriced: no_service_tier"),
        // The file may use another name too: (1,000 × 1 + 100 × 2) / 2 = 600 µ$.
        ("flat", Some("batch"), short, "0.0006"),
        // A class that the tier does not list has no price in it.
        ("long", Some("flex"), tokens(1, 1, 0, 0, 0), "unpriced: no_rate"),
    ] {
        assert_eq!(price(&event(model, tier, used, 1)), expected, "{tier:?} {model} {used:?}");
    }
    // Reasoning is multiplied from its own price: 10 × 4 µ$ / 2.
    let thought = Tokens { reasoning: 10, ..Tokens::default() };
    assert_eq!(price(&event("flat", Some("batch"), thought, 1)), "0.00002");
}

#[test]
fn images_are_priced_each_and_not_free_where_nothing_prices_them() {
    let images = |model, tier, images| {
        let mut event = event(model, tier, Tokens::default(), 1);
        event.images = images;
        price(&event)
    };
    assert_eq!(images("painter", None, 3), "0.12");
    assert_eq!(images("painter", Some("batch"), 3), "0.06");
    assert_eq!(images("flat", None, 3), "unpriced: no_fee");
}

#[test]
fn providers_must_agree_on_a_tier_to_price_an_event_at_it_that_names_none() {
    let price_at = |second: &str, tier: Option<&str>| {
        let text = format!(
            "currency: USD\nsource: s\nas_of: 2026-11-01\nprices:\n\
             \x20 - {{ model: m, provider: a, per_million: {{ input: 1 }}, service_tiers: {{ batch: {{ multiply: 0.5 }}, flex: {{ multiply: 0.6 }} }} }}\n\
             \x20 - {{ model: m, provider: b, per_million: {{ input: 1 }}{second} }}\n"
        );
        let book = std::sync::Arc::new(PriceBook::from_yaml(&text).expect("a book of this test"));
        let event = event("m", tier, tokens(2, 0, 0, 0, 0), 1);
        let priced = book.price(&event, TimeUs(0));
        assert_eq!(Pricer::new(book).price(&event, TimeUs(0)), priced);
        match priced {
            Priced::Cost(cost) => cost.amount.to_string(),
            Priced::Unpriced(reason) => reason.code().to_owned(),
        }
    };
    // Both halve it in a batch: 2 × 0.5 µ$; only one of them has flex.
    let halved = ", service_tiers: { batch: { per_million: { input: 0.5 } } }";
    assert_eq!(price_at(halved, None), "0.000002");
    assert_eq!(price_at(halved, Some("batch")), "0.000001");
    assert_eq!(price_at(halved, Some("flex")), "ambiguous_provider");
    let other = ", service_tiers: { batch: { multiply: 0.4 }, flex: { multiply: 0.6 } }";
    assert_eq!(price_at(other, Some("batch")), "ambiguous_provider");
    // 2 × 0.6 µ$.
    assert_eq!(price_at(other, Some("flex")), "0.0000012");
    assert_eq!(price_at("", Some("default")), "0.000002");
    assert_eq!(price_at("", Some("batch")), "ambiguous_provider");
    // The length of the prompt is no matter of the service tier.
    assert_eq!(price_at(", tiers: [{ above_input_tokens: 5, multiply: 2 }]", None), "ambiguous_provider");
}

#[test]
fn rows_list_each_tier() {
    let book = PriceBook::from_yaml(BOOK).expect("a book of this test");
    let input: Vec<(&str, u64, String)> = (book.rows())
        .filter(|row| row.model == "long" && row.class.name() == "input")
        .map(|row| (row.service_tier, row.above_input_tokens, row.price.to_string()))
        .collect();
    let expected = [
        ("standard", 0, "1"),
        ("standard", 1000, "2"),
        ("standard", 2000, "3"),
        ("batch", 0, "0.5"),
        ("batch", 1000, "1"),
        ("batch", 2000, "1.5"),
        ("fast", 0, "5"),
        ("fast", 1500, "10"),
        ("flex", 0, "0.6"),
        ("priority", 0, "4"),
    ];
    assert_eq!(input, expected.map(|(tier, above, price)| (tier, above, price.to_owned())));
}
