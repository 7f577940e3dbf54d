//! `schemas/prices.v1.json` describes what the reader takes: only its dimensions are generated, so it is held against the reader and the types.

use std::collections::BTreeSet;

use price_book::{PriceBook, PriceClass};
use serde_json::Value;
use usage_types::{Dimension, TokenClass};

const SCHEMA: &str = include_str!("../../../schemas/prices.v1.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("a schema is JSON")
}

/// The reader and the schema must both take it, or neither.
fn check(text: &str, is_good: bool) {
    let validator = jsonschema::draft202012::new(&schema()).expect("a schema");
    let read = PriceBook::from_yaml(text).map(|book| book.rules().len());
    assert_eq!(read.is_ok(), is_good, "reader: {read:?}\n{text}");
    let value: Value = serde_saphyr::from_str(text).expect("YAML");
    let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert_eq!(errors.is_empty(), is_good, "schema: {errors:?}\n{text}");
}

#[test]
fn the_schema_names_what_the_types_do() {
    let schema = schema();
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<String>>();
    let classes: BTreeSet<String> = TokenClass::ALL.iter().map(|class| class.name().to_owned()).collect();
    assert_eq!(names(&schema["$defs"]["tokens"]["properties"]), classes);
    let fees = PriceClass::ALL.iter().filter(|class| !matches!(class, PriceClass::Tokens(_)));
    for of in ["entry", "service_tier"] {
        let fields = names(&schema["$defs"][of]["properties"]);
        assert!(fees.clone().all(|fee| fields.contains(&format!("per_{}", fee.name()))), "{of}: {fields:?}");
    }
    let dimensions = schema["$defs"]["adjustment"]["properties"]["match"]["propertyNames"]["enum"].as_array();
    let dimensions: Vec<&str> = dimensions.expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(dimensions, Dimension::ALL.map(|dimension| dimension.name()));
}

#[test]
fn the_schema_and_the_reader_agree_on_files() {
    check(include_str!("../../../prices/default.yaml"), true);
    check("currency: USD\nprices: []\n", true);
    for bad in
        ["prices: []\n", "currency: USD\n", "currency: usd\nprices: []\n", "currency: USD\nprices: []\nprice: 1\n"]
    {
        check(bad, false);
    }
    check("currency: USD\nsettle_in: USD\nexchange_rates: []\nadjustments: []\nprices: []\n", true);
}

#[test]
fn the_schema_and_the_reader_agree_on_entries() {
    for (entry, is_good) in [
        ("{ model: m, per_request: 1 }", true),
        ("{ model: m, per_request: \"0.000000000001\" }", true),
        ("{ model: m, per_request: \"0.0000000000001\" }", false),
        ("{ model: m, per_request: -1 }", false),
        ("{ model: m, per_request: \"1e3\" }", false),
        ("{ model: m }", false),
        ("{ per_request: 1 }", false),
        ("{ model: m, per_requests: 1 }", false),
        ("{ model: \"*\", per_image: 0.04 }", true),
        ("{ model: gpt-5*, provider: [openai, azure], aliases: [x, y*], per_tool_call: 1 }", true),
        ("{ model: g*t, per_request: 1 }", false),
        ("{ model: \" m\", per_request: 1 }", false),
        ("{ model: m, provider: [], per_request: 1 }", false),
        ("{ model: m, provider: \"\", per_request: 1 }", false),
        ("{ model: m, from: 2026-01-01, to: \"2026-02-01T12:00:00Z\", per_compute_second: .5 }", true),
        ("{ model: m, from: soon, per_request: 1 }", false),
        ("{ model: m, currency: EUR, per_million: { input: 1.25, output: \"10\", reasoning: 0 } }", true),
        ("{ model: m, per_million: { input: \"0.0000001\" } }", false),
        ("{ model: m, per_million: { inptu: 1 } }", false),
        ("{ model: m, per_million: {} }", false),
        ("{ model: m, per_million: { input: 1 }, tiers: [{ above_input_tokens: 5, multiply: 2 }] }", true),
        (
            "{ model: m, per_million: { input: 1 }, tiers: [{ above_input_tokens: 5, per_million: { input: 2 } }] }",
            true,
        ),
        ("{ model: m, per_million: { input: 1 }, tiers: [{ above_input_tokens: 0, multiply: 2 }] }", false),
        ("{ model: m, per_million: { input: 1 }, tiers: [{ multiply: 2 }] }", false),
        ("{ model: m, per_million: { input: 1 }, tiers: [{ above_input_tokens: 5 }] }", false),
        (
            "{ model: m, per_million: { input: 1 }, tiers: [{ above_input_tokens: 5, multiply: 2, per_million: { input: 1 } }] }",
            false,
        ),
        ("{ model: m, per_million: { input: 1 }, service_tiers: { batch: { multiply: \"0.5\" } } }", true),
        (
            "{ model: m, per_million: { input: 1 }, service_tiers: { flex: { per_million: { input: 1 }, tiers: [] } } }",
            true,
        ),
        ("{ model: m, per_request: 1, service_tiers: { own: { per_request: 2 } } }", true),
        ("{ model: m, per_million: { input: 1 }, service_tiers: { batch: { multiply: 1001 } } }", false),
        (
            "{ model: m, per_million: { input: 1 }, service_tiers: { batch: { multiply: 1, per_million: { input: 1 } } } }",
            false,
        ),
        ("{ model: m, per_million: { input: 1 }, service_tiers: { batch: {} } }", false),
        ("{ model: m, per_million: { input: 1 }, service_tiers: { default: { multiply: 1 } } }", false),
    ] {
        check(&format!("currency: USD\nsource: s\nas_of: 2026-11-01\nprices:\n  - {entry}\n"), is_good);
    }
}

#[test]
fn the_schema_and_the_reader_agree_on_terms() {
    let good = "from_currency: EUR, to_currency: USD, rate: \"1.0834\", from: 2026-11-01, source: s";
    for (rate, is_good) in [
        (good.to_owned(), true),
        (format!("{good}, to: 2026-12-01"), true),
        (good.replace(", source: s", ""), false),
        (good.replace("from_currency: EUR, ", ""), false),
        (good.replace("\"1.0834\"", "0"), false),
        (good.replace("\"1.0834\"", "1000001"), false),
        (good.replace("EUR", "euro"), false),
    ] {
        check(&format!("currency: USD\nsettle_in: USD\nprices: []\nexchange_rates:\n  - {{ {rate} }}\n"), is_good);
    }
    check(&format!("currency: USD\nprices: []\nexchange_rates:\n  - {{ {good} }}\n"), false);
    for (adjustment, is_good) in [
        ("{ match: {}, multiply: 1.1 }", true),
        ("{ match: { namespace: support, model: gpt-5* }, multiply: \"0.85\", from: 2026-01-01, note: agreed }", true),
        ("{ multiply: 1 }", false),
        ("{ match: {} }", false),
        ("{ match: { namspace: support }, multiply: 1 }", false),
        ("{ match: { namespace: \"\" }, multiply: 1 }", false),
        ("{ match: { namespace: support* }, multiply: 1 }", false),
        ("{ match: { model: a*b }, multiply: 1 }", false),
        ("{ match: {}, multiply: -1 }", false),
        ("{ match: {}, multiply: \"0.1234567\" }", false),
    ] {
        check(&format!("currency: USD\nprices: []\nadjustments:\n  - {adjustment}\n"), is_good);
    }
}
