//! The usage objects of providers: their published examples with the classes worked out by hand, and that whatever the format the
//! classes are disjoint and add up to the provider's total.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use usage_intake::{Headers, Intake};
use usage_types::{Dimension, Rejection, Tokens, UsageEvent};

/// A native event with these members beside what every event needs.
fn event(members: &Value) -> Result<UsageEvent<'static>, Rejection> {
    let mut event = json!({ "time": "2026-11-21T10:00:00Z", "namespace": "support" });
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let text = event.to_string();
    Intake::default().decode_record(Some(text.as_bytes()), &Headers::NONE, None).map(UsageEvent::into_owned)
}

fn check_refused(members: &Value, code: &str, field: &str) {
    let rejection = event(members).expect_err(&members.to_string());
    assert_eq!((rejection.code.name(), rejection.field.as_deref()), (code, Some(field)), "{members}: {rejection}");
}

#[test]
fn every_published_example_is_counted_as_by_hand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/usage");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let what = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut members = json!({ "usage": golden["usage"], "model": "m" });
        members["provider"] = golden["provider"].clone();
        let read = event(&members).unwrap_or_else(|rejection| panic!("{what}: {rejection:?}"));
        let tokens: Tokens = serde_json::from_value(golden["tokens"].clone()).unwrap();
        assert_eq!(read.tokens, tokens, "{what}");
        assert_eq!(Some(read.tokens.total()), golden["total"].as_u64(), "{what}");
        assert_eq!(read.tool_calls, golden["tool_calls"].as_u64().unwrap_or(0), "{what}");
        assert_eq!(read.dimensions.get(Dimension::ServiceTier), golden["service_tier"].as_str(), "{what}");
        assert_eq!(read.requests, 1, "{what}");
        examples += 1;
    }
    assert_eq!(examples, 17);
}

#[test]
fn a_total_that_its_parts_do_not_add_up_to_is_refused_by_name() {
    for (usage, field) in [
        (json!({"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 30}), "total_tokens"),
        (json!({"input_tokens": 19, "output_tokens": 10, "total_tokens": 28}), "total_tokens"),
        (
            json!({"prompt_tokens": 19, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 20}}),
            "prompt_tokens_details.cached_tokens",
        ),
        (
            json!({"input_tokens": 9, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 5}}),
            "input_tokens_details.cache_write_tokens",
        ),
        (
            json!({"input_tokens": 9, "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 2}}),
            "output_tokens_details.reasoning_tokens",
        ),
        (
            json!({"input_tokens": 90, "output_tokens": 1, "input_tokens_details": {"cache_write_tokens": 7,
                "cache_write_tokens_details": {"ttl_30m_tokens": 3, "ttl_12h_tokens": 3}}}),
            "input_tokens_details.cache_write_tokens",
        ),
        (
            json!({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 4}}),
            "cache_creation_input_tokens",
        ),
        (json!({"promptTokenCount": 34, "candidatesTokenCount": 418, "totalTokenCount": 890}), "totalTokenCount"),
        (json!({"prompt_token_count": 5, "cached_content_token_count": 6}), "cached_content_token_count"),
        (json!({"inputTokens": 30, "outputTokens": 628, "totalTokens": 659}), "totalTokens"),
        (
            json!({"inputTokens": 1, "outputTokens": 1, "totalTokens": 2, "cacheWriteInputTokens": 9,
                "cacheDetails": [{"ttl": "5m", "inputTokens": 8}]}),
            "cacheWriteInputTokens",
        ),
    ] {
        check_refused(&json!({ "usage": usage }), "out_of_range", &format!("usage.{field}"));
    }
}

#[test]
fn what_is_no_usage_object_is_refused_by_its_field() {
    for (members, code, field) in [
        (json!({"usage": {"tokens": 5}}), "unsupported_format", "usage"),
        (json!({"usage": {}}), "unsupported_format", "usage"),
        (json!({"usage": []}), "unsupported_format", "usage"),
        (json!({"usage": 5}), "wrong_type", "usage"),
        (json!({"usage": [[{"prompt_tokens": 1}]]}), "wrong_type", "usage"),
        (json!({"usage": {"prompt_tokens": 1.5}}), "wrong_type", "usage.prompt_tokens"),
        (json!({"usage": {"prompt_tokens": -1}}), "negative", "usage.prompt_tokens"),
        (
            json!({"usage": {"prompt_tokens": 9, "prompt_tokens_details": 5}}),
            "wrong_type",
            "usage.prompt_tokens_details",
        ),
        (
            json!({"usage": {"inputTokens": 1, "cacheDetails": [{"ttl": "2d", "inputTokens": 8}]}}),
            "unknown_field",
            "usage.cacheDetails",
        ),
        (json!({"usage": {"inputTokens": 1, "cacheDetails": 5}}), "wrong_type", "usage.cacheDetails"),
        (json!({"usage": {"prompt_tokens": 1}, "tokens": {"input": 1}}), "out_of_range", "usage"),
        (json!({"usage": {"prompt_tokens": 1}, "usage_format": "cohere"}), "out_of_range", "usage_format"),
        (json!({"usage": {"prompt_tokens": 1}, "usage_format": "bedrock"}), "missing_field", "usage.inputTokens"),
        (json!({"usage": {"prompt_tokens": 1}, "corrects": "e", "correction": "void"}), "out_of_range", "usage"),
        (
            json!({"usage": {"prompt_tokens": 1}, "adjusts": "r", "cost": {"amount": "1", "currency": "USD"}}),
            "out_of_range",
            "usage",
        ),
        (
            json!({"usage": {"input_tokens": 1, "total_tokens": 1, "cache_read_input_tokens": 1}}),
            "unsupported_format",
            "usage",
        ),
    ] {
        check_refused(&members, code, field);
    }
    let twice =
        br#"{"time":"2026-11-21T10:00:00Z","namespace":"n","usage":{"promptTokenCount":1,"prompt_token_count":1}}"#;
    let rejection = Intake::default().decode_record(Some(twice), &Headers::NONE, None).unwrap_err();
    assert_eq!((rejection.code.name(), rejection.field.as_deref()), ("wrong_type", Some("usage.prompt_token_count")));
    let rejection = event(&json!({"usage": {"prompt_tokens": 0, "total_tokens": 0}})).unwrap_err();
    assert_eq!((rejection.code.name(), rejection.field), ("no_measure", None));
}

#[test]
fn the_format_is_the_named_one_else_what_the_members_show_else_the_providers() {
    let input = |members: Value| event(&members).unwrap().tokens.input;
    let anthropic = json!({"input_tokens": 100, "cache_read_input_tokens": 40, "output_tokens": 1});
    assert_eq!(input(json!({"usage": anthropic})), 100);
    // A provider that serves others' models answers in their format.
    assert_eq!(input(json!({"usage": anthropic, "provider": "gcp.vertex_ai"})), 100);
    assert_eq!(input(json!({"usage": anthropic, "provider": "somebody else's"})), 100);
    let both = json!({"input_tokens": 100, "cache_read_input_tokens": 40, "output_tokens": 1, "total_tokens": 101});
    assert_eq!(input(json!({"usage": both, "provider": "anthropic"})), 100);
    assert_eq!(input(json!({"usage": both, "usage_format": "openai"})), 60);
    assert_eq!(input(json!({"usage": {"input_tokens": 7, "output_tokens": 1}})), 7);
    // As LiteLLM answers for an embedding: a total that was not filled in is none.
    assert_eq!(input(json!({"usage": {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 0}})), 7);
    let chat = json!({"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 40}});
    assert_eq!(input(json!({"usage": chat, "provider": "anthropic"})), 60);
}

#[test]
fn what_the_event_says_itself_goes_before_the_usage_object() {
    let usage = json!({"input_tokens": 1, "output_tokens": 1, "service_tier": "priority", "server_tool_use": {"web_search_requests": 3}});
    let read = event(&json!({"usage": usage})).unwrap();
    assert_eq!((read.tool_calls, read.dimensions.get(Dimension::ServiceTier)), (3, Some("priority")));
    let read = event(&json!({"usage": usage, "tool_calls": 5, "service_tier": "batch", "requests": 2})).unwrap();
    assert_eq!((read.tool_calls, read.requests, read.dimensions.get(Dimension::ServiceTier)), (5, 2, Some("batch")));
    let fast = json!({"input_tokens": 1, "output_tokens": 1, "service_tier": "standard", "speed": "fast"});
    assert_eq!(event(&json!({"usage": fast})).unwrap().dimensions.get(Dimension::ServiceTier), Some("fast"));
    let cloud = json!({"specversion": "1.0", "id": "1", "source": "s", "data": {"usage": usage}, "namespace": null});
    assert!(event(&cloud).is_err(), "the data has no namespace");
    let cloud = json!({"specversion": "1.0", "id": "1", "source": "s", "data": {"namespace": "n", "usage": usage}});
    assert_eq!(event(&cloud).unwrap().tokens.total(), 2);
}

#[test]
fn a_stream_counts_the_last_of_each_number() {
    let written_later = json!([
        {"input_tokens": 5, "cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 10}, "output_tokens": 1},
        null,
        {"cache_creation_input_tokens": 30, "output_tokens": 9}
    ]);
    let tokens = event(&json!({"usage": written_later})).unwrap().tokens;
    assert_eq!(tokens, Tokens { input: 5, cache_write_5m: 20, cache_write_1h: 10, output: 9, ..Tokens::default() });
    let gemini = json!([
        {"promptTokenCount": 8, "totalTokenCount": 8},
        {"promptTokenCount": 8, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 15}
    ]);
    let tokens = event(&json!({"usage": gemini})).unwrap().tokens;
    assert_eq!(tokens, Tokens { input: 8, output: 5, reasoning: 2, ..Tokens::default() });
}

/// Anthropic's summing-up is billed beside the totals (its own words: not included in the top-level fields).
#[test]
fn a_compaction_is_counted_beside_the_totals() {
    let usage = json!({"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 0, "iterations": [
        {"type": "compaction", "input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1},
        {"type": "message", "input_tokens": 100, "output_tokens": 10}
    ]});
    let tokens = event(&json!({"usage": usage})).unwrap().tokens;
    assert_eq!(tokens, Tokens { input: 107, cache_read: 2, cache_write_5m: 1, output: 13, ..Tokens::default() });
}

fn tokens() -> impl Strategy<Value = Tokens> {
    let count = || prop_oneof![Just(0_u64), 1..100_000_u64];
    (count(), count(), count(), count(), count(), count()).prop_map(
        |(input, cache_read, cache_write_5m, cache_write_1h, output, reasoning)| Tokens {
            input,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
        },
    )
}

/// What a provider would answer for these tokens, by what its documentation says contains what; and what it cannot tell apart is none.
fn as_a_provider_tells(provider: usize, t: Tokens) -> (Tokens, Value) {
    let (written, total) = (t.cache_write_5m + t.cache_write_1h, t.total());
    let input = t.input + t.cache_read + written;
    let details = json!({"cached_tokens": t.cache_read, "cache_write_tokens": written,
        "cache_write_tokens_details": {"ttl_30m_tokens": t.cache_write_5m, "ttl_12h_tokens": t.cache_write_1h}});
    let without_writes = Tokens { cache_write_5m: 0, cache_write_1h: 0, ..t };
    let gemini = |names: [&str; 6]| {
        let all = without_writes.total();
        let tools = t.input / 3;
        let values = [t.input - tools + t.cache_read, t.cache_read, t.output, t.reasoning, tools, all];
        names.into_iter().map(str::to_owned).zip(values.map(Value::from)).collect::<serde_json::Map<_, _>>().into()
    };
    match provider {
        0 => (
            t,
            json!({"prompt_tokens": input, "completion_tokens": t.output + t.reasoning, "total_tokens": total,
            "prompt_tokens_details": details, "completion_tokens_details": {"reasoning_tokens": t.reasoning, "audio_tokens": t.output}}),
        ),
        1 => (
            t,
            json!({"input_tokens": input, "output_tokens": t.output + t.reasoning, "total_tokens": total,
            "input_tokens_details": details, "output_tokens_details": {"reasoning_tokens": t.reasoning}}),
        ),
        2 => (
            t,
            json!({"input_tokens": t.input, "output_tokens": t.output + t.reasoning, "cache_read_input_tokens": t.cache_read,
            "cache_creation_input_tokens": written, "output_tokens_details": {"thinking_tokens": t.reasoning},
            "cache_creation": {"ephemeral_5m_input_tokens": t.cache_write_5m, "ephemeral_1h_input_tokens": t.cache_write_1h}}),
        ),
        3 => (
            without_writes,
            gemini([
                "promptTokenCount",
                "cachedContentTokenCount",
                "candidatesTokenCount",
                "thoughtsTokenCount",
                "toolUsePromptTokenCount",
                "totalTokenCount",
            ]),
        ),
        4 => (
            without_writes,
            gemini([
                "prompt_token_count",
                "cached_content_token_count",
                "candidates_token_count",
                "thoughts_token_count",
                "tool_use_prompt_token_count",
                "total_token_count",
            ]),
        ),
        _ => {
            let t = Tokens { reasoning: 0, ..t };
            (
                t,
                json!({"inputTokens": t.input, "outputTokens": t.output, "totalTokens": t.total(), "cacheReadInputTokens": t.cache_read,
                "cacheWriteInputTokens": written, "cacheDetails": [{"ttl": "1h", "inputTokens": t.cache_write_1h},
                {"ttl": "5m", "inputTokens": t.cache_write_5m}]}),
            )
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_format_the_classes_are_disjoint_and_sum_to_the_total(provider in 0..6_usize, tokens in tokens(), is_stream: bool) {
        let (tokens, usage) = as_a_provider_tells(provider, tokens);
        let usage = if is_stream { json!([usage, usage]) } else { usage };
        let members = json!({"usage": usage, "requests": 1});
        let read = event(&members).map(|event| event.tokens);
        prop_assert_eq!(read, Ok(tokens), "{}", members);
    }

    #[test]
    fn a_wrong_total_is_never_taken(provider in prop::sample::select(vec![0_usize, 1, 3, 4]), tokens in tokens(), off in 1..1000_u64) {
        let (_, mut usage) = as_a_provider_tells(provider, tokens);
        let name = ["total_tokens", "total_tokens", "", "totalTokenCount", "total_token_count"][provider];
        usage[name] = (usage[name].as_u64().unwrap() + off).into();
        // The one other reading: reasoning counted beside the output, as xAI does.
        prop_assume!(provider > 1 || off != tokens.reasoning);
        let rejection = event(&json!({"usage": usage, "requests": 1})).unwrap_err();
        prop_assert_eq!(rejection.field, Some(format!("usage.{name}")));
    }
}
