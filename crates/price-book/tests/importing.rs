//! LiteLLM's price file becomes one of ours, which says the same to the last digit; what cannot is listed with its reason.

use std::collections::BTreeMap;

use price_book::{LITELLM_SOURCE, PriceBook, diff, import_litellm, write_yaml};

/// Made for this test in LiteLLM's shape; models and prices are invented.
const EXCERPT: &str = include_str!("litellm_excerpt.json");

fn imported() -> (String, PriceBook) {
    let imported = import_litellm(EXCERPT, "2026-11-21").expect("an excerpt of this test");
    let yaml = write_yaml("An import.\n\nOf 2026-11-21.", &imported.rules, None);
    let book = PriceBook::from_yaml(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    (yaml, book)
}

/// The prices of a model as `class price`, by service tier and length.
fn prices(book: &PriceBook, provider: &str, model: &str) -> Vec<String> {
    let mut bands: BTreeMap<(String, u64), Vec<String>> = BTreeMap::new();
    for row in book.rows().filter(|row| row.provider == Some(provider) && row.model == model) {
        let band = bands.entry((row.service_tier.to_owned(), row.above_input_tokens)).or_default();
        band.push(format!("{} {}", row.class.name(), row.price));
    }
    let text = |((tier, above), prices): ((String, u64), Vec<String>)| format!("{tier} {above}: {}", prices.join(", "));
    bands.into_iter().map(text).collect()
}

#[test]
fn prices_per_token_become_prices_per_million_of_the_same_digits() {
    let (_, book) = imported();
    // 2e-06 $ a token are 2 $ a million, and so on.
    assert_eq!(
        prices(&book, "openai", "long-model"),
        [
            "batch 0: input 1, output 5, reasoning 5",
            "batch 272000: input 2, output 7.5, reasoning 7.5",
            "priority 0: input 4, output 20, reasoning 20",
            "standard 0: input 2, cache_read 0.2, cache_write_5m 2.5, output 10, reasoning 10",
            "standard 272000: input 4, cache_read 0.4, output 15, reasoning 15",
        ]
    );
    assert_eq!(
        prices(&book, "anthropic", "claude-model"),
        [
            "standard 0: input 0.1, cache_read 0.01, cache_write_5m 0.125, cache_write_1h 0.2, output 0.5, reasoning 0.5",
            "standard 100000: input 0.5, cache_write_5m 0.625, cache_write_1h 1, output 2.5, reasoning 2.5",
        ]
    );
    assert_eq!(prices(&book, "gcp.gemini", "thinker"), ["standard 0: input 0.3, output 2.5, reasoning 3.5"]);
    assert_eq!(
        prices(&book, "deepseek", "hit"),
        ["standard 0: input 0.27, cache_read 0.07, output 1.1, reasoning 1.1"]
    );
    assert_eq!(
        prices(&book, "dashscope", "ranged"),
        ["standard 0: input 1.2, output 6, reasoning 6", "standard 32000: input 2.4, output 12, reasoning 12"]
    );
    // "200k tokens and more" are more than 199,999.
    assert_eq!(
        prices(&book, "x_ai", "grok"),
        ["standard 0: input 2, output 6, reasoning 6", "standard 199999: input 4, output 12, reasoning 12"]
    );
    assert_eq!(prices(&book, "openai", "painter"), ["standard 0: image 0.04"]);
}

#[test]
fn names_and_sources_are_those_that_events_and_pages_have() {
    let (yaml, book) = imported();
    let rule = |model: &str| book.rules().iter().find(|rule| rule.model == model).expect(model);
    assert_eq!(
        (rule("eu/gpt").providers.as_slice(), &rule("eu/gpt").aliases[0]),
        (&["azure.ai.openai".to_owned()][..], &"azure/eu/gpt".to_owned())
    );
    assert_eq!(rule("long-model").source, "https://example.com/long");
    assert_eq!((rule("eu/gpt").source.as_str(), rule("eu/gpt").as_of.as_str()), (LITELLM_SOURCE, "2026-11-21"));
    let thinkers: Vec<&str> =
        (book.rules().iter()).filter(|r| r.model == "thinker").map(|r| r.providers[0].as_str()).collect();
    assert_eq!(thinkers, ["gcp.gemini", "gcp.vertex_ai"]);
    assert!(yaml.starts_with("# An import.\n#\n# Of 2026-11-21.\ncurrency: USD\n"), "{yaml}");
    let note = book.rules().iter().find_map(|rule| rule.note.as_deref());
    assert_eq!(note, Some("a million tokens of sound as input cost 1 USD, which events do not tell apart"));
}

#[test]
fn what_would_be_priced_wrong_is_left_out_with_its_reason() {
    let imported = import_litellm(EXCERPT, "2026-11-21").unwrap();
    let skipped: Vec<(&str, Option<&str>, &str)> =
        imported.skipped.iter().map(|s| (s.name.as_str(), s.field.as_deref(), s.reason.code())).collect();
    for expected in [
        ("sample_spec", None, "not_a_model"),
        ("fallback_generalizations", None, "not_a_model"),
        ("long-model", Some("cache_creation_input_token_cost_above_12hr"), "unit"),
        ("long-model", Some("search_context_cost_per_query"), "unit"),
        ("long-model", Some("input_cost_per_token_ultrafast"), "tier"),
        ("gemini/thinker", Some("input_cost_per_audio_token"), "unit"),
        ("mixed-painter", None, "mixed_output"),
        ("both-painter", Some("output_cost_per_image"), "image_beside_tokens"),
        ("openai/painter", None, "name_taken"),
        ("noise", None, "too_fine"),
        ("gratis", None, "all_zero"),
        ("hourly", None, "by_the_hour"),
        ("speech", None, "mode"),
        ("nothing", None, "no_price"),
        ("minus", None, "not_a_number"),
        ("together/*", None, "pattern"),
    ] {
        assert!(skipped.contains(&expected), "{expected:?} is not in {skipped:#?}");
    }
    assert_eq!(skipped.len(), 16, "{skipped:#?}");
    assert_eq!(imported.rules.len(), 10);
    assert!(import_litellm("[]", "2026-11-21").is_err());
}

#[test]
fn a_book_that_is_written_and_read_again_is_the_same() {
    let text = r#"
currency: EUR
source: s
as_of: 2026-11-01
settle_in: USD
exchange_rates:
  - { from_currency: EUR, to_currency: USD, rate: "1.0834", from: 2026-11-01, to: 2026-12-01, source: "https://e/#x" }
adjustments:
  - { match: {}, multiply: 2 }
  - { match: { namespace: "a: \"b\"", model: gpt-5* }, multiply: "0.85", from: 2026-01-01, to: 2027-01-01, note: agreed }
prices:
  - model: m
    provider: [openai, azure]
    aliases: [m-*, "x: y"]
    from: 2026-01-01
    to: "2026-06-01T12:00:00.000001Z"
    per_million: { input: 1, cache_read: 0.1, output: 2, reasoning: 3 }
    per_request: 0.5
    per_image: 0.04
    tiers: [{ above_input_tokens: 10, multiply: 2 }, { above_input_tokens: 20, multiply: 3 }]
    service_tiers:
      batch: { multiply: 0.5 }
      flex: { per_million: { input: 1 }, tiers: [] }
      priority: { per_million: { input: 3 }, per_request: 1 }
      odd: { per_image: 0.02 }
    note: "a \"note\""
  - { model: any, currency: USD, per_compute_second: 0.001, per_tool_call: 0.01 }
"#;
    for text in [text.to_owned(), include_str!("../../../prices/default.yaml").to_owned()] {
        let book = PriceBook::from_yaml(&text).unwrap();
        let written = write_yaml("", book.rules(), Some(&book));
        let again = PriceBook::from_yaml(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
        let changes = diff(&book, &again);
        assert!(changes.is_empty() && changes.unchanged > 10, "{:#?}", changes.lines());
        // What rows do not show: tiers without a price.
        for (rule, same) in book.rules().iter().zip(again.rules()) {
            assert_eq!((&rule.standard, &rule.service_tiers), (&same.standard, &same.service_tiers), "{}", rule.model);
            assert_eq!((&rule.note, &rule.source, &rule.as_of), (&same.note, &same.source, &same.as_of));
        }
    }
}

#[test]
fn a_diff_shows_what_is_added_removed_and_changed_and_by_how_much() {
    let book = |entries: &str| {
        PriceBook::from_yaml(&format!("currency: USD\nsource: s\nas_of: 2026-11-01\n{entries}"))
            .expect("a book of this test")
    };
    let old = book(
        "settle_in: USD\nadjustments:\n  - { match: { namespace: n }, multiply: 0.9 }\nprices:\n\
         \x20 - { model: m, provider: openai, aliases: [n], per_million: { input: 1.25, output: 10 } }\n\
         \x20 - { model: free, per_request: 0 }\n\
         \x20 - { model: gone, from: 2026-01-01, per_request: 1, per_tool_call: 2 }\n\
         \x20 - { model: third, per_request: 3 }\n",
    );
    let new = book(
        "settle_in: USD\nadjustments:\n  - { match: { namespace: n }, multiply: 0.8 }\nprices:\n\
         \x20 - { model: m, provider: openai, per_million: { input: 1, output: 10 }, service_tiers: { batch: { multiply: 0.5 } } }\n\
         \x20 - { model: free, per_request: 1 }\n\
         \x20 - { model: third, per_request: 2 }\n",
    );
    let changes = diff(&old, &new);
    // 1.25 → 1 is −20 %; 3 → 2 is −33.33… %; of nothing there is no percentage.
    assert_eq!(
        changes.lines(),
        [
            "~ (any provider) free request: 0 USD → 1 USD",
            "~ (any provider) third request: 3 USD → 2 USD (-33.3 %)",
            "~ openai m input: 1.25 USD → 1 USD (-20.0 %)",
            "- × 0.9 for namespace=n",
            "+ × 0.8 for namespace=n",
            "- (any provider) gone from 2026-01-01T00:00:00Z: request 1, tool_call 2 USD",
            "- openai n: input 1.25, output 10, reasoning 10 USD",
            "+ openai m batch: input 0.5, output 5, reasoning 5 USD",
        ]
    );
    assert_eq!(
        changes.to_string(),
        "3 prices added, 5 removed, 3 changed, 2 the same; of adjustments and exchange rates 1 added, 1 removed"
    );
    let json = serde_json::to_value(&changes).unwrap();
    assert_eq!(
        json["changed"][2],
        serde_json::json!({
            "provider": "openai", "model": "m", "from": null, "to": null, "service_tier": "standard", "above_input_tokens": 0,
            "class": "input", "old": "1.25", "old_currency": "USD", "new": "1", "new_currency": "USD", "percent": "-20.0"
        })
    );
    assert!(diff(&old, &old).is_empty());
}
