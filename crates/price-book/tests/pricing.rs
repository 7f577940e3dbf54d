//! What an event costs: by which rule, at which time, and to the last pico-unit.

mod support;

use price_book::{MatchKind, PriceBook, Priced, UnpricedReason};
use usage_types::{ComputeNs, CostOrigin, Dimension, Pico, TimeUs, TokenClass, Tokens, UsageEvent};

fn book(entries: &str) -> PriceBook {
    PriceBook::from_yaml(&format!("currency: USD\nsource: s\nas_of: 2026-11-01\nprices:\n{entries}"))
        .expect("a book of this test")
}

fn event(provider: Option<&'static str>, model: Option<&'static str>, tokens: Tokens) -> UsageEvent<'static> {
    let named = [(Dimension::Namespace, Some("support")), (Dimension::Provider, provider), (Dimension::Model, model)];
    UsageEvent { time: at("2026-11-21T00:00:00Z"), ..support::event(&named, tokens) }
}

fn at(text: &str) -> TimeUs {
    TimeUs::parse_rfc3339(text).expect("a book of this test")
}

fn amount(priced: Priced) -> String {
    match priced {
        Priced::Cost(cost) => cost.amount.to_string(),
        Priced::Unpriced(reason) => format!("unpriced: {}", reason.code()),
    }
}

/// The invoices were worked out by hand from the prices written beside them.
#[test]
fn an_invoice_is_the_one_worked_out_by_hand() {
    let book = book(
        "  - model: chat\n    per_million: { input: 1.25, cache_read: 0.125, output: 10 }\n\
         \x20 - model: claude\n    per_million: { input: 3, cache_read: 0.3, cache_write_5m: 3.75, cache_write_1h: 6, output: 15 }\n\
         \x20 - model: thinker\n    per_million: { input: 0.3, output: 2.5, reasoning: 3.5 }\n\
         \x20 - model: embed\n    per_million: { input: 0.02 }\n\
         \x20 - model: search\n    per_million: { input: 1, output: 4 }\n    per_request: 0.005\n    per_tool_call: 0.01\n\
         \x20 - model: gpu\n    per_compute_second: 0.000225\n\
         \x20 - model: tiny\n    per_compute_second: 0.000000000001\n",
    );
    let t = Tokens::default();
    let no_compute = 0;
    let cases = [
        // 900 × 1,250,000 p + 300 × 125,000 p + (80 + 40) × 10,000,000 p = 1,125 + 37.5 + 1,200 million p.
        ("chat", Tokens { input: 900, cache_read: 300, output: 80, reasoning: 40, ..t }, 0, no_compute, "0.0023625"),
        // 1,000 × 3 µ$ + 20,000 × 0.3 µ$ + 4,000 × 3.75 µ$ + 500 × 6 µ$ + 700 × 15 µ$ = 3 + 6 + 15 + 3 + 10.5 m$.
        (
            "claude",
            Tokens {
                input: 1000,
                cache_read: 20_000,
                cache_write_5m: 4000,
                cache_write_1h: 500,
                output: 700,
                reasoning: 0,
            },
            0,
            no_compute,
            "0.0375",
        ),
        // 10 × 0.3 µ$ + 2 × 2.5 µ$ + 3 × 3.5 µ$.
        ("thinker", Tokens { input: 10, output: 2, reasoning: 3, ..t }, 0, no_compute, "0.0000185"),
        // One token of two cents a million.
        ("embed", Tokens { input: 1, ..t }, 0, no_compute, "0.00000002"),
        // 0.005 + 3 × 0.01 + 100 × 1 µ$ + 10 × 4 µ$.
        ("search", Tokens { input: 100, output: 10, ..t }, 3, no_compute, "0.03514"),
        // 12.5 s.
        ("gpu", t, 0, 12_500_000_000, "0.0028125"),
        // A nanosecond of it is 0.225 p: rounds down; 3 ns are 0.675 p: up.
        ("gpu", t, 0, 1, "0"),
        ("gpu", t, 0, 3, "0.000000000001"),
        // Half a pico-unit goes up, a nanosecond less goes down.
        ("tiny", t, 0, 500_000_000, "0.000000000001"),
        ("tiny", t, 0, 499_999_999, "0"),
    ];
    for (model, tokens, tool_calls, compute_ns, expected) in cases {
        let mut event = event(None, Some(model), tokens);
        event.tool_calls = tool_calls;
        event.compute = ComputeNs(compute_ns);
        assert_eq!(amount(book.price(&event, event.time)), expected, "{model}");
    }
}

#[test]
fn a_price_holds_from_its_first_instant_until_before_its_last() {
    let book = book(
        "  - { model: m, to: 2026-03-01, per_request: 1 }\n\
         \x20 - { model: m, from: 2026-03-01, to: \"2026-06-01T12:00:00+02:00\", per_request: 2 }\n\
         \x20 - { model: m, from: 2026-07-01, per_request: 3 }\n\
         \x20 - { model: later, from: 2027-01-01, per_request: 4 }\n",
    );
    for (model, time, expected) in [
        ("m", "1970-01-01T00:00:00Z", "1"),
        ("m", "2026-02-28T23:59:59.999999Z", "1"),
        ("m", "2026-03-01T00:00:00Z", "2"),
        ("m", "2026-06-01T09:59:59.999999Z", "2"),
        ("m", "2026-06-01T10:00:00Z", "unpriced: not_effective"),
        ("m", "2026-06-30T23:59:59.999999Z", "unpriced: not_effective"),
        ("m", "2026-07-01T00:00:00Z", "3"),
        ("later", "2026-12-31T23:59:59.999999Z", "unpriced: not_yet_effective"),
        ("later", "2027-01-01T00:00:00Z", "4"),
    ] {
        let event = event(None, Some(model), Tokens::default());
        assert_eq!(amount(book.price(&event, at(time))), expected, "{model} at {time}");
    }
}

#[test]
fn the_most_specific_rule_in_effect_wins() {
    let book = book(
        "  - { model: gpt-*, per_request: 1 }\n\
         \x20 - { model: gpt-5*, per_request: 2 }\n\
         \x20 - { model: gpt-5*, provider: azure, per_request: 3 }\n\
         \x20 - { model: other, aliases: [gpt-5.1], per_request: 4 }\n\
         \x20 - { model: gpt-5.1, from: 2026-06-01, per_request: 5 }\n\
         \x20 - { model: gpt-5.1, provider: openai, from: 2026-06-01, per_request: 6 }\n\
         \x20 - { model: solo, provider: openai, per_request: 7 }\n",
    );
    for (provider, model, time, expected) in [
        (None, "gpt-4", "2026-07-01T00:00:00Z", "1"),
        (Some("openai"), "gpt-5-x", "2026-07-01T00:00:00Z", "2"),
        (Some("azure.ai.openai"), "gpt-5-x", "2026-07-01T00:00:00Z", "3"),
        (Some("azure"), "gpt-5-x", "2026-07-01T00:00:00Z", "3"),
        // The alias goes before the wildcard, even one of the very provider.
        (Some("azure"), "gpt-5.1", "2026-05-01T00:00:00Z", "4"),
        (Some("anyone"), "gpt-5.1", "2026-07-01T00:00:00Z", "5"),
        (Some("openai"), "gpt-5.1", "2026-07-01T00:00:00Z", "6"),
        // Its name matches better, but it is not in effect yet.
        (Some("openai"), "gpt-5.1", "2026-05-01T00:00:00Z", "4"),
        (Some("azure"), "solo", "2026-07-01T00:00:00Z", "unpriced: unknown_model"),
        (Some("openai"), "sol", "2026-07-01T00:00:00Z", "unpriced: unknown_model"),
        (Some("openai"), "solo2", "2026-07-01T00:00:00Z", "unpriced: unknown_model"),
        (Some("openai"), "Solo", "2026-07-01T00:00:00Z", "unpriced: unknown_model"),
    ] {
        let event = event(provider, Some(model), Tokens::default());
        assert_eq!(amount(book.price(&event, at(time))), expected, "{provider:?} {model} at {time}");
    }
}

#[test]
fn without_a_provider_a_model_has_the_price_on_which_its_providers_agree() {
    let book = book(
        "  - { model: one, provider: openai, per_request: 1 }\n\
         \x20 - { model: same, provider: openai, per_request: 2 }\n\
         \x20 - { model: same, provider: azure, per_request: 2 }\n\
         \x20 - { model: split, provider: groq, per_request: 3 }\n\
         \x20 - { model: split, provider: bedrock, per_request: 4 }\n\
         \x20 - { model: split-late, provider: groq, from: 2027-01-01, per_request: 3 }\n\
         \x20 - { model: split-late, provider: bedrock, per_request: 4 }\n\
         \x20 - { model: open, provider: groq, per_request: 5 }\n\
         \x20 - { model: open, per_request: 6 }\n",
    );
    let time = at("2026-11-21T00:00:00Z");
    for (model, expected) in [
        ("one", "1"),
        ("same", "2"),
        ("split", "unpriced: ambiguous_provider"),
        // Only one of them serves it yet.
        ("split-late", "4"),
        // The rule for whoever serves it.
        ("open", "6"),
    ] {
        assert_eq!(amount(book.price(&event(None, Some(model), Tokens::default()), time)), expected, "{model}");
    }
    assert_eq!(
        amount(book.price(&event(None, Some("split-late"), Tokens::default()), at("2027-01-01T00:00:00Z"))),
        "unpriced: ambiguous_provider"
    );
}

#[test]
fn nothing_is_free_in_silence() {
    let book = book(
        "  - model: chat\n    per_million: { input: 1, output: 2 }\n\
         \x20 - model: gratis\n    per_million: { input: 0, output: 0 }\n\
         \x20 - model: embed\n    per_million: { input: 1 }\n",
    );
    let t = Tokens::default();
    let all = |provider, model, tokens| book.price(&event(provider, model, tokens), at("2026-11-21T00:00:00Z"));
    for (model, tokens, reason) in [
        (None, Tokens { input: 5, ..t }, UnpricedReason::NoModel),
        (Some("unheard-of"), Tokens { input: 5, ..t }, UnpricedReason::UnknownModel),
        (Some("unheard-of"), t, UnpricedReason::UnknownModel),
        (Some("chat"), Tokens { input: 5, cache_read: 1, ..t }, UnpricedReason::NoRate(TokenClass::CacheRead)),
        (Some("chat"), Tokens { cache_write_1h: 1, ..t }, UnpricedReason::NoRate(TokenClass::CacheWrite1h)),
        (Some("embed"), Tokens { input: 5, reasoning: 1, ..t }, UnpricedReason::NoRate(TokenClass::Reasoning)),
    ] {
        assert_eq!(all(None, model, tokens), Priced::Unpriced(reason), "{model:?}");
    }
    assert_eq!(amount(all(None, Some("gratis"), Tokens { input: 5, ..t })), "0", "free because the file says so");
    assert_eq!(amount(all(None, Some("chat"), t)), "0", "a request that used nothing");
    let mut compute_only = event(None, Some("chat"), t);
    compute_only.compute = ComputeNs(1);
    assert_eq!(book.price(&compute_only, compute_only.time), Priced::Unpriced(UnpricedReason::NoFee));
}

#[test]
fn the_cost_that_an_event_brings_goes_before_the_book() {
    let book = book("  - { model: m, per_request: 1 }\n");
    for model in [Some("m"), Some("unheard-of"), None] {
        let mut event = event(None, model, Tokens::default());
        event.cost = Some((Pico(42), "EUR".parse().unwrap()));
        let Priced::Cost(cost) = book.price(&event, event.time) else { panic!("{model:?} has no cost") };
        assert_eq!((cost.amount, cost.currency.as_str(), cost.origin), (Pico(42), "EUR", CostOrigin::Event));
    }
}

#[test]
fn a_cost_beyond_the_lakes_decimal_is_out_of_range_and_never_wraps() {
    let book = book(
        "  - { model: m, per_request: 99999999999999 }\n  - { model: n, per_million: { input: 99999999999999999999999999 } }\n",
    );
    let cost = |model, requests, input| {
        let mut event = event(None, Some(model), Tokens { input, ..Tokens::default() });
        event.requests = requests;
        book.price(&event, event.time)
    };
    assert_eq!(amount(cost("m", 1_000_000_000_000, 0)), "99999999999999000000000000");
    assert_eq!(cost("m", 1_000_000_000_001, 0), Priced::Unpriced(UnpricedReason::OutOfRange));
    assert_eq!(cost("m", u64::MAX, 0), Priced::Unpriced(UnpricedReason::OutOfRange));
    assert_eq!(amount(cost("n", 0, 1_000_000)), "99999999999999999999999999");
    assert_eq!(cost("n", 0, u64::MAX), Priced::Unpriced(UnpricedReason::OutOfRange));
}

#[test]
fn an_explanation_names_the_rule_and_why_it_won() {
    let book = book(
        "  - { model: gpt-5*, provider: openai, per_request: 1 }\n\
         \x20 - { model: gpt-5.1, aliases: [gpt-5.1-20*], provider: [openai, azure], from: 2025-11-13, per_request: 2 }\n",
    );
    let time = at("2026-11-21T00:00:00Z");
    let found = book.explain(Some("azure"), "gpt-5.1-2025-11-13", time).unwrap();
    assert_eq!((found.rule.line, found.matched, found.pattern), (6, MatchKind::Wildcard, "gpt-5.1-20*"));
    assert_eq!((found.provider, found.others), (Some("azure.ai.openai"), 1));
    assert_eq!(
        found.to_string(),
        "wildcard match of `gpt-5.1-20*` for `gpt-5.1` of azure.ai.openai, from 2025-11-13T00:00:00Z \
         (line 6 of the price file; s as of 2026-11-01)"
    );
    assert_eq!(book.explain(None, "gpt-4", time).unwrap_err(), UnpricedReason::UnknownModel);
}

#[test]
fn rows_list_every_provider_and_class_once() {
    let book =
        book("  - { model: m, provider: [openai, azure], per_million: { input: 1, output: 2 }, per_request: 0.5 }\n");
    let rows: Vec<(Option<&str>, &str, u64, String)> =
        book.rows().map(|row| (row.provider, row.class.name(), row.class.units(), row.price.to_string())).collect();
    let of = |provider| {
        [("input", 1_000_000, "1"), ("output", 1_000_000, "2"), ("reasoning", 1_000_000, "2"), ("request", 1, "0.5")]
            .map(|(class, units, price)| (Some(provider), class, units, price.to_owned()))
    };
    assert_eq!(rows, [of("openai"), of("azure.ai.openai")].concat());
}
