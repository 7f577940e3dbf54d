//! The price file that comes with Outlay: complete enough to be useful, and consistent with what providers say of it.

mod support;

use std::collections::BTreeSet;

use price_book::{MatchKind, PriceBook, Priced, UnpricedReason};
use usage_types::{Dimension, TimeUs, TokenClass, Tokens};

fn at(text: &str) -> TimeUs {
    TimeUs::parse_rfc3339(text).expect("a time of this test")
}

#[test]
fn every_price_has_a_provider_a_source_and_a_date() {
    let book = PriceBook::shipped();
    for row in book.rows() {
        assert!(row.source.starts_with("https://"), "{row:?}");
        assert!(row.as_of.len() == 10 && row.as_of.starts_with("202"), "{row:?}");
        assert!(row.provider.is_some(), "a shipped price belongs to a provider: {row:?}");
    }
    let providers: BTreeSet<&str> = book.rows().filter_map(|row| row.provider).collect();
    for provider in
        ["openai", "anthropic", "gcp.gemini", "mistral_ai", "deepseek", "x_ai", "cohere", "groq", "aws.bedrock"]
    {
        assert!(providers.contains(provider), "{provider} is missing");
    }
}

/// The event that the documentation shows: 900 × 1.25 µ$ + 300 × 0.125 µ$ + (80 + 40) × 10 µ$.
#[test]
fn the_event_of_the_documentation_has_its_price_with_and_without_a_provider() {
    let book = PriceBook::shipped();
    for provider in [Some("openai"), Some("azure"), None] {
        let tokens = Tokens { input: 900, cache_read: 300, output: 80, reasoning: 40, ..Tokens::default() };
        let event = support::event(&[(Dimension::Provider, provider), (Dimension::Model, Some("gpt-5.1"))], tokens);
        let Priced::Cost(cost) = book.price(&event, at("2026-11-21T10:00:00Z")) else {
            panic!("{provider:?} has no price")
        };
        assert_eq!((cost.amount.to_string().as_str(), cost.currency.as_str()), ("0.0023625", "USD"));
    }
}

/// Anthropic: "5-minute cache write tokens are 1.25 times the base input tokens price, 1-hour cache write tokens are 2 times".
#[test]
fn claudes_cache_writes_cost_a_quarter_and_twice_more_than_its_input() {
    let mut checked = 0;
    for rule in PriceBook::shipped().rules() {
        // The one exception of the provider's own table: 0.30 and 0.50 for an input of 0.25.
        if rule.providers != ["anthropic"] || rule.model == "claude-3-haiku-20240307" {
            continue;
        }
        let price = |class| rule.standard.rates.token(class).expect("Anthropic prices every class").0;
        let input = price(TokenClass::Input);
        assert_eq!(price(TokenClass::CacheWrite5m) * 4, input * 5, "{}", rule.model);
        assert_eq!(price(TokenClass::CacheWrite1h), input * 2, "{}", rule.model);
        assert_eq!(price(TokenClass::Output), input * 5, "{}", rule.model);
        assert!(price(TokenClass::CacheRead) * 10 <= input, "{}", rule.model);
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} were checked");
}

#[test]
fn a_dated_snapshot_is_priced_as_its_model_and_a_sibling_is_not() {
    let book = PriceBook::shipped();
    let now = at("2026-11-21T00:00:00Z");
    for (provider, model, rule, kind) in [
        ("openai", "gpt-5.1-2025-11-13", "gpt-5.1", MatchKind::Wildcard),
        ("openai", "gpt-5.1-codex", "gpt-5.1", MatchKind::Alias),
        ("openai", "gpt-5.1-codex-mini", "gpt-5.1-codex-mini", MatchKind::Exact),
        ("openai", "gpt-4o-2024-11-20", "gpt-4o", MatchKind::Wildcard),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13", MatchKind::Exact),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5", MatchKind::Wildcard),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0", MatchKind::Wildcard),
        (
            "bedrock",
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "us.anthropic.claude-haiku-4-5*",
            MatchKind::Wildcard,
        ),
        ("google", "gemini-2.5-flash-lite", "gemini-2.5-flash-lite", MatchKind::Exact),
        ("vertex_ai", "gemini-2.5-pro", "gemini-2.5-pro", MatchKind::Exact),
    ] {
        let found = book.explain(Some(provider), model, now).expect(model);
        assert_eq!((found.rule.model.as_str(), found.matched), (rule, kind), "{model}");
    }
    for (provider, model) in [("openai", "gpt-5.1-realtime"), ("openai", "gpt-4o-audio-preview"), ("groq", "gpt-5.1")] {
        assert_eq!(book.explain(Some(provider), model, now).err(), Some(UnpricedReason::UnknownModel), "{model}");
    }
}

#[test]
fn announced_changes_of_price_come_into_effect_at_their_midnight() {
    let book = PriceBook::shipped();
    for (model, class, time, per_token) in [
        ("claude-sonnet-5-5", TokenClass::CacheRead, "2026-10-06T23:59:59Z", 200_000),
        ("claude-sonnet-5-5", TokenClass::CacheRead, "2026-10-07T00:00:00Z", 100_000),
        ("gemini-3.8-flash", TokenClass::Output, "2026-12-31T23:59:59Z", 3_750_000),
        ("gemini-3.8-flash", TokenClass::Output, "2027-01-01T00:00:00Z", 7_500_000),
        ("o3", TokenClass::Input, "2025-06-09T23:59:59Z", 10_000_000),
        ("o3", TokenClass::Input, "2025-06-10T00:00:00Z", 2_000_000),
    ] {
        let found = book.explain(None, model, at(time)).expect(model);
        assert_eq!(found.rule.standard.rates.token(class).map(|price| price.0), Some(per_token), "{model} at {time}");
    }
}

/// Nobody has cheaper long prompts, dearer batches or a cheaper priority: such a price would be a slip of the pen.
#[test]
fn long_prompts_and_priority_cost_more_and_batches_less_than_the_standard() {
    let book = PriceBook::shipped();
    let (mut long, mut tiers) = (0, 0);
    for rule in book.rules() {
        for (name, card) in rule.cards() {
            let mut shorter = &card.rates;
            for (above, rates) in card.bands().skip(1) {
                assert!(above >= 99_999, "{} above {above}", rule.model);
                for class in TokenClass::ALL {
                    assert!(rates.token(class) >= shorter.token(class), "{} {name} above {above}", rule.model);
                }
                (shorter, long) = (rates, long + 1);
            }
            for (class, price) in card.rates.prices() {
                let standard = rule.standard.rates.listed(class).expect("a tier prices what the standard does");
                let plausible = match name {
                    "standard" => price == standard,
                    "batch" | "flex" => price <= standard && price.0 * 2 >= standard.0,
                    "priority" | "fast" => price > standard && price.0 * 2 <= standard.0 * 5,
                    other => panic!("{} has a tier `{other}`", rule.model),
                };
                assert!(plausible, "{} {name} {}: {price} for {standard}", rule.model, class.name());
                tiers += 1;
            }
        }
    }
    assert!(long >= 40 && tiers >= 300, "{long} {tiers}");
}
