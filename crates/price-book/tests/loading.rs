//! What a price file may say, and how one that says something else is refused: whole, with line and field.

use price_book::{FileError, PriceBook};

fn refused(entries: &str) -> FileError {
    let text = format!("currency: USD\nsource: https://example.com/prices\nas_of: 2026-11-01\nprices:\n{entries}");
    match PriceBook::from_yaml(&text) {
        Ok(_) => panic!("this was read:\n{text}"),
        Err(error) => error,
    }
}

#[test]
fn each_mistake_is_refused_with_its_line_and_field() {
    // Entries begin on line 5.
    let cases = [
        ("  - model: m\n    per_million: { input: 1.2345678 }\n", 6, "prices[0].per_million.input", "6 digits"),
        ("  - model: m\n    per_million:\n      output: \"1e3\"\n", 7, "prices[0].per_million.output", "decimal"),
        ("  - model: m\n    per_million:\n      output: 1e3\n", 7, "prices[0].per_million.output", "decimal"),
        ("  - model: m\n    per_million:\n      input: -1\n", 7, "prices[0].per_million.input", "negative"),
        ("  - model: m\n    per_request: 0.0000000000001\n", 6, "prices[0].per_request", "12 digits"),
        ("  - model: m\n    per_millon: { input: 1 }\n", 6, "per_millon", "unknown field"),
        ("  - model: m\n    per_million: { inptu: 1 }\n", 6, "inptu", "unknown field"),
        ("  - provider: openai\n    per_million: { input: 1 }\n", 5, "prices[0].model", "missing"),
        ("  - model: m\n", 5, "prices[0]", "names no price"),
        ("  - model: g*t\n    per_request: 1\n", 5, "prices[0].model", "at the end"),
        ("  - model: \" m\"\n    per_request: 1\n", 5, "prices[0].model", "spaces"),
        ("  - model: m\n    aliases:\n      - a\n      - m\n    per_request: 1\n", 8, "prices[0].aliases[1]", "twice"),
        ("  - model: m\n    provider: [bedrock, aws.bedrock]\n    per_request: 1\n", 6, "prices[0].provider", "twice"),
        ("  - model: m\n    provider: []\n    per_request: 1\n", 6, "prices[0].provider", "empty"),
        ("  - model: m\n    from: 2026-13-01\n    per_request: 1\n", 6, "prices[0].from", "date"),
        (
            "  - model: m\n    from: 2026-02-01\n    to: 2026-02-01\n    per_request: 1\n",
            7,
            "prices[0].to",
            "after `from`",
        ),
        ("  - model: m\n    as_of: yesterday\n    per_request: 1\n", 6, "prices[0].as_of", "date"),
        ("  - model: m\n    currency: dollar\n    per_request: 1\n", 6, "prices[0].currency", "currency"),
        (
            "  - model: m\n    per_request: 1\n    tiers:\n      - per_million: { input: 1 }\n",
            8,
            "prices[0].tiers[0].above_input_tokens",
            "missing",
        ),
        (
            "  - model: m\n    per_request: 1\n    tiers:\n      - above_input_tokens: 5\n",
            8,
            "prices[0].tiers[0]",
            "names no price",
        ),
        (
            "  - model: m\n    per_request: 1\n    tiers:\n      - above_input_tokens: 5\n        multiply: 2\n",
            9,
            "prices[0].tiers[0].multiply",
            "no `per_million`",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    tiers:\n      - { above_input_tokens: 5, multiply: 2 }\n      - { above_input_tokens: 5, multiply: 3 }\n",
            9,
            "prices[0].tiers[1].above_input_tokens",
            "shortest first",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    tiers:\n      - { above_input_tokens: 0, multiply: 2 }\n",
            8,
            "prices[0].tiers[0].above_input_tokens",
            "shortest first",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    tiers:\n      - above_input_tokens: 1.5\n        multiply: 2\n",
            8,
            "above_input_tokens",
            "",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    service_tiers:\n      batch:\n        multiply: 0.5\n        per_million: { input: 1 }\n",
            9,
            "prices[0].service_tiers.batch.multiply",
            "one of them",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    service_tiers:\n      batch: { multiply: -0.5 }\n",
            8,
            "prices[0].service_tiers.batch.multiply",
            "negative",
        ),
        (
            "  - model: m\n    per_million: { input: 0.000001 }\n    service_tiers:\n      batch: { multiply: 0.5 }\n",
            8,
            "prices[0].service_tiers.batch.multiply",
            "6 digits",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    service_tiers:\n      default: { multiply: 0.5 }\n",
            8,
            "prices[0].service_tiers.default",
            "standard",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    service_tiers:\n      batch: { multiply: 0.5 }\n      batches: { multiply: 0.5 }\n",
            9,
            "prices[0].service_tiers.batches",
            "second time",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    service_tiers:\n      batch: { tiers: [] }\n",
            8,
            "prices[0].service_tiers.batch",
            "names no price",
        ),
        (
            "  - model: m\n    per_million: { input: 1 }\n    service_tiers:\n      batch: { multiply: 0.5 }\n      batch: { multiply: 0.4 }\n",
            9,
            "batch",
            "duplicate",
        ),
        ("  - model: [m]\n    per_request: 1\n", 5, "model", ""),
        ("  - model: m\n    per_request: 1\n    per_request: 2\n", 7, "per_request", "duplicate"),
    ];
    for (entries, line, field, message) in cases {
        let error = refused(entries);
        assert_eq!((error.line, error.field.as_str()), (line, field), "{entries}{error}");
        assert!(error.message.contains(message), "{entries}{error}");
        assert!(error.column > 0, "{entries}{error}");
    }
}

#[test]
fn a_file_without_a_currency_source_or_date_is_refused() {
    let book = |header: &str| PriceBook::from_yaml(&format!("{header}prices:\n  - model: m\n    per_request: 1\n"));
    assert!(book("currency: USD\nsource: s\nas_of: 2026-11-01\n").is_ok());
    for (header, missing) in [
        ("source: s\nas_of: 2026-11-01\n", "currency"),
        ("currency: USD\nas_of: 2026-11-01\n", "source"),
        ("currency: USD\nsource: s\n", "as_of"),
    ] {
        let error = book(header).expect_err(missing);
        assert!(error.to_string().contains(missing), "{error}");
    }
    assert!(PriceBook::from_yaml("").is_err());
    assert!(PriceBook::from_yaml("prices: [").is_err());
}

#[test]
fn two_equal_claims_to_a_model_are_refused_naming_both_lines() {
    let equal = [
        // The same name of the same provider.
        "  - model: m\n    provider: openai\n    per_request: 1\n  - model: m\n    provider: openai\n    per_request: 1\n",
        // Under two names of the provider.
        "  - model: m\n    provider: google\n    per_request: 1\n  - model: m\n    provider: gcp.gemini\n    per_request: 1\n",
        // One of several providers.
        "  - model: m\n    provider: [a, b]\n    per_request: 1\n  - model: m\n    provider: [b, c]\n    per_request: 1\n",
        // An alias of both.
        "  - model: m\n    aliases: [x]\n    per_request: 1\n  - model: n\n    aliases: [x]\n    per_request: 1\n",
        // The same prefix, as a model and as an alias.
        "  - model: m-*\n    per_request: 1\n\n  - model: n\n    aliases: [m-*]\n    per_request: 1\n",
        // A day that both cover.
        "  - model: m\n    to: 2026-02-02\n    per_request: 1\n  - model: m\n    from: 2026-02-01\n    per_request: 1\n",
    ];
    for entries in equal {
        let error = refused(entries);
        let second = 5 + entries.lines().take_while(|line| !line.starts_with("  - ")).count() as u64;
        assert_eq!(second, 5, "entries begin with the first line");
        let begins: Vec<u64> =
            (5..).zip(entries.lines()).filter(|(_, line)| line.starts_with("  - ")).map(|(at, _)| at).collect();
        assert_eq!((error.line, error.field.as_str()), (begins[1], "prices[1]"), "{error}");
        assert!(error.message.contains(&format!("after line {},", begins[0])), "{error}");
    }
}

#[test]
fn claims_of_different_strength_provider_or_time_stand_side_by_side() {
    let text = "currency: USD\nsource: s\nas_of: 2026-11-01\nprices:\n\
        \x20 - { model: m, to: 2026-02-01, per_request: 1 }\n\
        \x20 - { model: m, from: 2026-02-01, per_request: 2 }\n\
        \x20 - { model: m, provider: openai, per_request: 3 }\n\
        \x20 - { model: other, aliases: [m, m*], per_request: 4 }\n\
        \x20 - { model: mm*, per_request: 5 }\n";
    assert_eq!(PriceBook::from_yaml(text).unwrap().rules().len(), 5);
}

#[test]
fn a_price_is_the_text_of_the_file_quoted_or_not() {
    // As a float 0.1 is 0.1000000000000000055…; 4.35 is 4.3499999….
    let text = "currency: USD\nsource: s\nas_of: 2026-11-01\nprices:\n\
        \x20 - model: m\n    per_million: { input: 0.1, output: \"4.35\", cache_read: 4.350000, cache_write_5m: .000001 }\n";
    let book = PriceBook::from_yaml(text).unwrap();
    let listed: Vec<(&str, String)> = book.rows().map(|row| (row.class.name(), row.price.to_string())).collect();
    let expected = [
        ("input", "0.1"),
        ("cache_read", "4.35"),
        ("cache_write_5m", "0.000001"),
        ("output", "4.35"),
        // Not given: as output.
        ("reasoning", "4.35"),
    ];
    assert_eq!(listed, expected.map(|(class, price)| (class, price.to_owned())));
}
