//! LiteLLM's generic API callback: what its payloads become, and that nothing of what was said gets through.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use usage_intake::{Headers, Intake, IntakeConfig, Item};
use usage_types::{Currency, Dimension, Pico, Rejection, Tokens};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/litellm").join(name)
}

fn golden(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
}

fn chat() -> Value {
    golden("chat.json")["payload"].clone()
}

fn decode(body: &str) -> Result<Vec<Item<'_>>, Rejection> {
    Intake::default().decode_litellm(&Headers::NONE, body.as_bytes())
}

/// The tokens of one payload, or the code and field for which it is refused.
fn tokens(payload: &Value) -> Result<Tokens, (String, Option<String>)> {
    let body = payload.to_string();
    let item = decode(&body).unwrap().remove(0);
    item.event.map(|event| event.tokens).map_err(|rejection| (rejection.code.name().to_owned(), rejection.field))
}

#[test]
fn every_payload_becomes_the_event_that_was_worked_out_by_hand() {
    #[derive(serde::Deserialize)]
    struct Golden<'a> {
        /// Verbatim: a number stays as Python wrote it.
        #[serde(borrow)]
        payload: &'a serde_json::value::RawValue,
        event: Value,
    }
    for name in ["chat.json", "messages-with-cache.json", "image.json", "cache-hit.json"] {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let golden: Golden<'_> = serde_json::from_str(&text).unwrap();
        let items = decode(golden.payload.get()).unwrap();
        let published: Value = serde_json::from_slice(&items[0].value).unwrap();
        assert_eq!(published, golden.event, "{name}");
        let read = Intake::default().decode_record(Some(&items[0].value), &Headers::NONE, None);
        assert_eq!(read.as_ref(), Ok(items[0].event.as_ref().unwrap()), "{name}");
    }
}

#[test]
fn nothing_that_was_said_is_published() {
    let mut payload = chat();
    payload["error_str"] = json!("THE SECRET ERROR");
    payload["metadata"]["prompt_management_metadata"] = json!({"prompt_variables": {"a": "THE SECRET VARIABLE"}});
    let body = payload.to_string();
    assert!(body.contains("THE SECRET PROMPT") && body.contains("THE SECRET ANSWER"));
    let items = decode(&body).unwrap();
    let published = format!("{:?} {}", items[0].event, String::from_utf8_lossy(&items[0].value));
    assert!(!published.contains("SECRET"), "{published}");
    payload["metadata"]["usage_object"]["prompt_tokens"] = json!("THE SECRET");
    let body = payload.to_string();
    let items = decode(&body).unwrap();
    assert!(items[0].event.is_err() && items[0].value.is_empty());
}

#[test]
fn every_log_format_is_read_and_calls_without_usage_are_left_out() {
    let (good, mut failed, mut bad) = (chat(), chat(), chat());
    failed["status"] = json!("failure");
    failed["response_cost"] = json!(0.0);
    failed["metadata"]["usage_object"] = json!({});
    failed["response"] = json!({});
    (failed["prompt_tokens"], failed["completion_tokens"]) = (json!(0), json!(0));
    bad["endTime"] = json!("yesterday");
    let outcomes = |body: &str| -> Vec<(usize, bool)> {
        decode(body).unwrap().iter().map(|item| (item.index, item.event.is_ok())).collect()
    };
    assert_eq!(outcomes(&good.to_string()), [(0, true)]);
    assert_eq!(outcomes(&serde_json::to_string_pretty(&good).unwrap()), [(0, true)]);
    assert_eq!(outcomes(&json!([failed, good, null, bad, good]).to_string()), [(1, true), (3, false), (4, true)]);
    assert_eq!(outcomes(&format!("{failed}\n{good}\r\n\n{bad}\n{good}")), [(1, true), (2, false), (3, true)]);
    assert_eq!(outcomes(&format!("{good}\nhello\n{good}")), [(0, true), (1, false), (2, true)]);
    assert_eq!(outcomes(&format!("[{good},hello,{good}]")), [(0, true), (1, false), (2, true)]);
    for body in ["", "[]", "null", &failed.to_string()] {
        assert_eq!(outcomes(body), [], "{body}");
    }
    assert_eq!(decode("[1").unwrap_err().code.name(), "not_json");
    // A stream that broke off has used what it has.
    failed["metadata"]["usage_object"] = json!({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10});
    assert_eq!(outcomes(&failed.to_string()), [(0, true)]);
}

#[test]
fn the_cost_counts_where_the_site_says_so() {
    let config = IntakeConfig::from_yaml("litellm: { cost: event }").unwrap();
    let intake = Intake { config, ..Intake::default() };
    let body = chat().to_string();
    let event = intake.decode_litellm(&Headers::NONE, body.as_bytes()).unwrap().remove(0).event.unwrap();
    // 0.00022500000000000002 to the picodollar: 225 · 10⁻⁶ of 10¹².
    assert_eq!(event.cost, Some((Pico(225_000_000), Currency::USD)));
    assert!(!event.tags.contains_key("litellm_cost"));
}

#[test]
fn the_site_and_the_headers_name_dimensions() {
    let yaml = "litellm: { default_namespace: gateway, dimensions: { namespace: nobody, user: [model_parameters.user], job: requester_metadata.run } }";
    let intake = Intake { config: IntakeConfig::from_yaml(yaml).unwrap(), ..Intake::default() };
    let mut payload = chat();
    payload["model_parameters"]["user"] = json!("by parameter");
    payload["metadata"]["requester_metadata"] = json!({"run": 42});
    let body = payload.to_string();
    let read = |headers: &[(&str, &[u8])], dimension| {
        let items = intake.decode_litellm(&Headers::new(headers), body.as_bytes()).unwrap();
        items[0].event.as_ref().unwrap().dimensions.get(dimension).map(str::to_owned)
    };
    assert_eq!(read(&[], Dimension::Namespace).as_deref(), Some("gateway"));
    assert_eq!(
        read(&[("x-outlay-namespace", b"of the header")], Dimension::Namespace).as_deref(),
        Some("of the header")
    );
    assert_eq!(read(&[], Dimension::User).as_deref(), Some("by parameter"));
    assert_eq!(read(&[], Dimension::Job).as_deref(), Some("42"));
    // Without a proxy there is no key: the request names the user.
    let alone = json!({"endTime": 1795257511.5, "model": "m", "model_parameters": {"user": "u-1"}}).to_string();
    let event = Intake::default().decode_litellm(&Headers::NONE, alone.as_bytes()).unwrap().remove(0).event.unwrap();
    assert_eq!(event.dimensions.get(Dimension::User), Some("u-1"));
    assert_eq!(read(&[("x-outlay-team", b"of the header")], Dimension::Team).as_deref(), Some("helpdesk"));
}

#[test]
fn tokens_are_disjoint_whatever_litellm_put_where() {
    let of = |usage: Value| {
        let mut payload = chat();
        payload["metadata"]["usage_object"] = usage;
        tokens(&payload)
    };
    let expected = Tokens { input: 60, cache_read: 30, cache_write_5m: 10, output: 5, ..Tokens::default() };
    for usage in [
        json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
            "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10}}),
        json!({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 30, "cache_creation_tokens": 10}}),
        json!({"prompt_tokens": 100, "completion_tokens": 5, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10}),
        json!({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0},
            "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10}),
        // A provider's own object, as the pass-through entrances log it.
        json!({"input_tokens": 60, "output_tokens": 5, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 10}),
        json!({"inputTokens": 60, "outputTokens": 5, "totalTokens": 105, "cacheReadInputTokens": 30, "cacheWriteInputTokens": 10}),
    ] {
        assert_eq!(of(usage.clone()), Ok(expected), "{usage}");
    }
    // LiteLLM counts the reasoning with its own tokenizer: never more than the output.
    let reasoning =
        json!({"prompt_tokens": 1, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 7}});
    assert_eq!(of(reasoning), Ok(Tokens { input: 1, reasoning: 5, ..Tokens::default() }));
    let beside = json!({"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 13, "completion_tokens_details": {"reasoning_tokens": 7}});
    assert_eq!(of(beside), Ok(Tokens { input: 1, output: 5, reasoning: 7, ..Tokens::default() }));
    let searches = json!({"search_units": 1});
    assert_eq!(of(searches).map(|tokens| tokens.total()), Ok(1320), "of the answer's usage");
    let too_much = json!({"prompt_tokens": 5, "completion_tokens": 5, "cache_read_input_tokens": 6});
    let field = "metadata.usage_object.cache_read_input_tokens";
    assert_eq!(of(too_much), Err(("out_of_range".to_owned(), Some(field.to_owned()))));
}

#[test]
fn what_is_no_payload_is_refused_by_its_field() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut payload = chat();
        change(&mut payload);
        tokens(&payload).unwrap_err()
    };
    let expect = |code: &str, field: &str| (code.to_owned(), Some(field.to_owned()));
    assert_eq!(tokens(&json!({})).unwrap_err(), expect("missing_field", "endTime"));
    assert_eq!(tokens(&json!(5)).unwrap_err(), ("not_json".to_owned(), None));
    assert_eq!(refused(&|payload| payload["endTime"] = json!(5)), expect("bad_time", "endTime"));
    assert_eq!(refused(&|payload| payload["endTime"] = json!([])), expect("wrong_type", "endTime"));
    assert_eq!(refused(&|payload| payload["response_cost"] = json!(-1)), expect("negative", "response_cost"));
    assert_eq!(refused(&|payload| payload["id"] = json!("a\nb")), expect("out_of_range", "id"));
    let team = "metadata.user_api_key_team_alias";
    assert_eq!(
        refused(&|payload| payload["metadata"]["user_api_key_team_alias"] = json!({})),
        expect("wrong_type", team)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_classes_are_disjoint_and_sum_to_what_litellm_counts(
        (input, read, short, long) in (0..9999_u64, 0..9999_u64, 0..9999_u64, 0..9999_u64),
        (output, reasoning) in (1..9999_u64, 0..9999_u64),
        place in 0..4_usize,
    ) {
        let written = short + long;
        let details = json!({"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long});
        let mut usage = json!({"prompt_tokens": input + read + written, "completion_tokens": output + reasoning,
            "total_tokens": input + read + written + output + reasoning,
            "completion_tokens_details": {"reasoning_tokens": reasoning},
            "prompt_tokens_details": {"cache_creation_token_details": details}});
        let (cached, writes) = [
            (["prompt_tokens_details", "cached_tokens"], ["prompt_tokens_details", "cache_write_tokens"]),
            (["prompt_tokens_details", "cached_tokens"], ["prompt_tokens_details", "cache_creation_tokens"]),
            (["", "cache_read_input_tokens"], ["", "cache_creation_input_tokens"]),
            (["", "prompt_cache_hit_tokens"], ["prompt_tokens_details", "cache_write_tokens"]),
        ][place];
        for ([parent, name], count) in [(cached, read), (writes, written)] {
            let object = if parent.is_empty() { &mut usage } else { &mut usage[parent] };
            object[name] = count.into();
        }
        let mut payload = chat();
        payload["metadata"]["usage_object"] = usage;
        let expected =
            Tokens { input, cache_read: read, cache_write_5m: short, cache_write_1h: long, output, reasoning };
        prop_assert_eq!(tokens(&payload), Ok(expected), "{}", payload["metadata"]["usage_object"]);
    }

    #[test]
    fn no_body_panics_and_what_is_accepted_is_read_from_the_log(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop_oneof![any::<u8>(), Just(b'"'), Just(b'-'), Just(b'9'), Just(b'{'), Just(b'\n')]), 1..8),
        is_list: bool,
    ) {
        let mut body = chat().to_string().into_bytes();
        if is_list {
            body = [b"[", body.as_slice(), b",", body.as_slice(), b"]"].concat();
        }
        for (at, edit, byte) in edits {
            let at = at.index(body.len());
            match edit {
                0 => body[at] = byte,
                1 => drop(body.remove(at)),
                _ => body.insert(at, byte),
            }
        }
        for item in Intake::default().decode_litellm(&Headers::NONE, &body).unwrap_or_default() {
            match &item.event {
                Ok(event) => {
                    let read = Intake::default().decode_record(Some(&item.value), &Headers::NONE, None);
                    prop_assert_eq!(read.as_ref(), Ok(event));
                }
                Err(rejection) => prop_assert!(item.value.is_empty() && !rejection.message.contains('\n')),
            }
        }
    }
}
