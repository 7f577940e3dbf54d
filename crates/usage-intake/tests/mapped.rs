//! What needs the site's configuration: CloudEvents whose data is their sender's own, and dimensions in headers.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use proptest::prelude::*;
use usage_intake::{Headers, Intake, IntakeConfig};
use usage_types::{ComputeNs, Currency, Dimension, Pico, Rejection, TimeUs, Tokens, UsageEvent};

/// What LiteLLM's OpenMeter callback sends (`integrations/openmeter.py`), its numbers ours.
const LITELLM: &str = r#"{"specversion":"1.0","type":"litellm_tokens","id":"chatcmpl-9aX","time":"2026-11-21T10:00:00.123456+00:00","subject":"u-17","source":"litellm-proxy","data":{"model":"gpt-5.1","cost":1.2e-05,"prompt_tokens":1200,"completion_tokens":120,"total_tokens":1320}}"#;

const CONFIG: &str = r#"
cloudevents:
  - type: prompt.*
    subject: user
    dimensions: { namespace: $.tenant.name, agent: $.agent, provider: { value: openai } }
    measures:
      input: $.tokens.in
      cache_read: $.tokens.cached
      output: $.tokens.out
      reasoning: $.tokens.thought
      tool_calls: $.tools
      compute_milliseconds: $.duration_ms
      cost: { amount: $.cost, currency: EUR }
    tags: { env: $.env, tries: $.tries }
    includes_cache: true
    includes_reasoning: true
  - type: answer
    dimensions: { namespace: { value: shop } }
    usage: $.answer.usage
  - type: ping
    dimensions: { namespace: $.ns }
    measures: { requests: { value: 1 } }
headers: { X-Tenant: namespace, x-who: user }
"#;

fn intake() -> Intake {
    Intake { config: IntakeConfig::from_yaml(CONFIG).unwrap(), ..Intake::default() }
}

fn cloud_event(event_type: &str, rest: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"1","source":"s","type":"{event_type}","time":"2026-11-21T10:00:00Z",{rest}}}"#
    )
}

fn decode(text: &str) -> Result<UsageEvent<'static>, Rejection> {
    intake().decode_record(Some(text.as_bytes()), &Headers::NONE, None).map(UsageEvent::into_owned)
}

fn check_refused(text: &str, code: &str, field: &str) {
    let rejection = decode(text).expect_err(text);
    assert_eq!((rejection.code.name(), rejection.field.as_deref()), (code, Some(field)), "{text}: {rejection}");
}

#[test]
fn litellms_openmeter_events_are_read_without_any_configuration() {
    let event = Intake::default().decode_record(Some(LITELLM.as_bytes()), &Headers::NONE, None).unwrap();
    assert_eq!((event.id.as_deref(), event.source.as_ref()), (Some("chatcmpl-9aX"), "litellm-proxy"));
    let named: Vec<_> = event.dimensions.iter().map(|(dimension, value)| (dimension.name(), value)).collect();
    assert_eq!(named, [("namespace", "default"), ("user", "u-17"), ("model", "gpt-5.1")]);
    assert_eq!(event.tokens, Tokens { input: 1200, output: 120, ..Tokens::default() });
    assert_eq!((event.requests, event.cost), (1, None));
    assert_eq!(event.tags.get("litellm_cost").map(AsRef::as_ref), Some("1.2e-05"));
    let yaml = "litellm: { cost: event, default_namespace: gateway }";
    let intake = Intake { config: IntakeConfig::from_yaml(yaml).unwrap(), ..Intake::default() };
    let event = intake.decode_record(Some(LITELLM.as_bytes()), &Headers::NONE, None).unwrap();
    // 1.2 · 10⁻⁵ of 10¹² pico-dollars.
    assert_eq!(event.cost, Some((Pico(12_000_000), Currency::USD)));
    assert_eq!(event.dimensions.get(Dimension::Namespace), Some("gateway"));
    assert!(event.tags.is_empty());
    // An image has a cost and no usage.
    let image = LITELLM.replace(r#","prompt_tokens":1200,"completion_tokens":120,"total_tokens":1320"#, "");
    let event = Intake::default().decode_record(Some(image.as_bytes()), &Headers::NONE, None).unwrap().into_owned();
    assert_eq!((event.tokens.total(), event.requests), (0, 1));
}

#[test]
fn a_mapped_event_is_read_as_its_mapping_says() {
    let data = r#""subject":"u-1","data":{"tenant":{"name":"support"},"agent":7,"tokens":{"in":"100","cached":30,"out":20.0,"thought":5},"tools":2,"duration_ms":"1500.5","cost":"0.25","env":"ci","tries":true}"#;
    let event = decode(&cloud_event("prompt.done", data)).unwrap();
    let named: Vec<_> = event.dimensions.iter().map(|(dimension, value)| (dimension.name(), value)).collect();
    assert_eq!(named, [("namespace", "support"), ("user", "u-1"), ("agent", "7"), ("provider", "openai")]);
    // 100 − 30 not cached, 20 − 5 visible.
    assert_eq!(event.tokens, Tokens { input: 70, cache_read: 30, output: 15, reasoning: 5, ..Tokens::default() });
    assert_eq!((event.requests, event.tool_calls, event.compute), (1, 2, ComputeNs(1_500_500_000)));
    assert_eq!(event.cost, Some((Pico(250_000_000_000), "EUR".parse().unwrap())));
    let tags: Vec<_> = event.tags.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    assert_eq!(tags, [("env", "ci"), ("tries", "true")]);
    let usage = r#""data":{"answer":{"usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":1}}}"#;
    let event = decode(&cloud_event("answer", usage)).unwrap();
    assert_eq!(event.tokens, Tokens { input: 9, cache_read: 4, output: 1, ..Tokens::default() });
    assert_eq!(event.dimensions.get(Dimension::Namespace), Some("shop"));
    // Any other type is our own event.
    let own = cloud_event("prompt", r#""data":{"namespace":"n","tokens":{"input":1}}"#);
    assert_eq!(decode(&own).unwrap().tokens.input, 1);
    assert_eq!(decode(&own.replace(r#""type":"prompt""#, r#""type":5"#)).unwrap().tokens.input, 1);
}

#[test]
fn a_mapped_event_is_the_same_in_every_binding() {
    let expected = decode(&cloud_event("ping", r#""data":{"ns":"a"}"#)).unwrap();
    assert_eq!(decode(&cloud_event("ping", r#""data_base64":"eyJucyI6ImEifQ==""#)), Ok(expected.clone()));
    let headers: [(&str, &[u8]); 5] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"s"),
        ("ce_type", b"ping"),
        ("ce_time", b"2026-11-21T10:00:00Z"),
    ];
    let binary =
        intake().decode_record(Some(br#"{"ns":"a"}"#), &Headers::new(&headers), None).map(UsageEvent::into_owned);
    assert_eq!(binary, Ok(expected));
    let broken = intake().decode_record(Some(br#"{"ns":"a""#), &Headers::new(&headers), None).unwrap_err();
    assert_eq!(broken.code.name(), "not_json");
}

#[test]
fn what_does_not_fit_the_mapping_is_refused_by_its_path() {
    let prompt = |data: &str| cloud_event("prompt.x", &format!(r#""data":{{"tenant":{{"name":"n"}},{data}}}"#));
    check_refused(&prompt(r#""tokens":{"in":"many"}"#), "wrong_type", "data.tokens.in");
    check_refused(&prompt(r#""tokens":{"in":1.5}"#), "wrong_type", "data.tokens.in");
    check_refused(&prompt(r#""tokens":{"in":-1}"#), "negative", "data.tokens.in");
    check_refused(&prompt(r#""tokens":{"in":281474976710657}"#), "out_of_range", "data.tokens.in");
    check_refused(&prompt(r#""tokens":{"in":[1]}"#), "wrong_type", "data.tokens.in");
    check_refused(&prompt(r#""tokens":{"in":5,"cached":6}"#), "out_of_range", "data.tokens.in");
    check_refused(&prompt(r#""tokens":{"in":5},"cost":-1"#), "negative", "data.cost");
    check_refused(&prompt(r#""tokens":{"in":5},"agent":{}"#), "wrong_type", "data.agent");
    check_refused(&prompt(r#""tokens":{"in":5},"env":"a\nb""#), "out_of_range", "data.env");
    check_refused(&prompt(r#""tokens":{"in":5},"duration_ms":1e13"#), "out_of_range", "data.duration_ms");
    let wrong_total = r#""data":{"answer":{"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":9}}}"#;
    check_refused(&cloud_event("answer", wrong_total), "out_of_range", "data.answer.usage.total_tokens");
    check_refused(
        &cloud_event("answer", r#""data":{"answer":{"usage":{}}}"#),
        "unsupported_format",
        "data.answer.usage",
    );
    check_refused(&cloud_event("ping", r#""data":{}"#), "missing_field", "namespace");
    check_refused(&cloud_event("ping", r#""data":null"#), "missing_field", "namespace");
    check_refused(&cloud_event("ping", r#""subject":5,"data":{"ns":"a"}"#), "wrong_type", "subject");
    let nothing = decode(&prompt(r#""tokens":{}"#)).unwrap_err();
    assert_eq!((nothing.code.name(), nothing.field), ("no_measure", None));
}

#[test]
fn a_mapped_event_without_a_time_happened_when_it_arrived() {
    let text = cloud_event("ping", r#""data":{"ns":"a"}"#).replace(r#""time":"2026-11-21T10:00:00Z","#, "");
    check_refused(&text, "missing_field", "time");
    let event =
        intake().decode_record(Some(text.as_bytes()), &Headers::NONE, Some(TimeUs(1_795_255_200_000_000))).unwrap();
    assert_eq!(event.time.to_string(), "2026-11-21T10:00:00Z");
    let own = r#"{"namespace":"a","requests":1}"#;
    let rejection = intake().decode_record(Some(own.as_bytes()), &Headers::NONE, Some(TimeUs(1))).unwrap_err();
    assert_eq!(rejection.field.as_deref(), Some("time"), "our own event tells its time");
}

#[test]
fn a_mapped_event_is_published_as_one_that_needs_no_mapping() {
    let body = format!(
        "[{},{}]",
        cloud_event("ping", r#""data":{"ns":"a","secret":"the prompt"}"#),
        cloud_event("ping", r#""data":{}"#)
    );
    let items = intake()
        .decode_http(Some("application/cloudevents-batch+json"), &Headers::NONE, body.as_bytes(), None)
        .unwrap();
    let published = String::from_utf8(items[0].value.to_vec()).unwrap();
    assert!(!published.contains("the prompt"), "{published}");
    let read = Intake::default().decode_record(Some(&items[0].value), &Headers::NONE, None);
    assert_eq!(read.as_ref(), Ok(items[0].event.as_ref().unwrap()));
    assert!(items[1].event.is_err() && items[1].value.is_empty());
}

#[test]
fn headers_name_the_dimensions_that_the_event_lacks() {
    let value = br#"{"time":"2026-11-21T10:00:00Z","user":"u-1","tokens":{"input":1}}"#;
    let read = |intake: &Intake, headers: &[(&str, &[u8])]| {
        intake.decode_record(Some(value), &Headers::new(headers), None).map(UsageEvent::into_owned)
    };
    let ours: [(&str, &[u8]); 3] = [
        ("X-Outlay-Namespace", b" support "),
        ("x-outlay-team", "pagé".as_bytes()),
        ("x-outlay-user", b"somebody else"),
    ];
    let event = read(&Intake::default(), &ours).unwrap();
    let named: Vec<_> = event.dimensions.iter().map(|(dimension, value)| (dimension.name(), value)).collect();
    assert_eq!(named, [("namespace", "support"), ("team", "pagé"), ("user", "u-1")]);
    let theirs: [(&str, &[u8]); 2] = [("x-tenant", b"gateway"), ("x-outlay-namespace", b"ours")];
    assert_eq!(read(&intake(), &theirs).unwrap().dimensions.get(Dimension::Namespace), Some("gateway"));
    assert_eq!(read(&Intake::default(), &theirs).unwrap().dimensions.get(Dimension::Namespace), Some("ours"));
    let refused = |headers: &[(&str, &[u8])]| {
        let rejection = read(&Intake::default(), headers).unwrap_err();
        (rejection.code.name(), rejection.field.unwrap())
    };
    assert_eq!(refused(&[("x-outlay-namespace", b"")]), ("missing_field", "namespace".to_owned()));
    assert_eq!(refused(&[("x-outlay-team", b"\xff")]), ("bad_utf8", "x-outlay-team".to_owned()));
    assert_eq!(refused(&[("x-outlay-team", b"a\nb")]), ("out_of_range", "x-outlay-team".to_owned()));
    assert_eq!(refused(&[("x-outlay-team", &[b'x'; 1025])]), ("out_of_range", "x-outlay-team".to_owned()));
}

#[test]
fn a_requests_headers_go_with_every_record_of_it() {
    let line = r#"{"time":"2026-11-21T10:00:00Z","tokens":{"input":1}}"#;
    let mapped = cloud_event("ping", r#""data":{}"#);
    let body = format!("{line}\n{mapped}\n");
    let headers: [(&str, &[u8]); 3] =
        [("X-Tenant", b"support"), ("x-who", b"u-1"), ("authorization", b"Bearer secret")];
    let items =
        intake().decode_http(Some("application/x-ndjson"), &Headers::new(&headers), body.as_bytes(), None).unwrap();
    assert_eq!(items.len(), 2);
    for item in &items {
        let event = item.event.as_ref().unwrap();
        assert_eq!(event.dimensions.get(Dimension::Namespace), Some("support"));
        assert_eq!(event.dimensions.get(Dimension::User), Some("u-1"));
        let pairs: Vec<_> = item.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert!(pairs.iter().all(|(name, _)| name.starts_with("x-outlay-")), "{pairs:?}");
        let read = Intake::default().decode_record(Some(&item.value), &Headers::new(&pairs), None);
        assert_eq!(read.as_ref(), Ok(event));
    }
    // With a binary CloudEvent's own headers.
    let headers: [(&str, &[u8]); 5] = [
        ("ce-specversion", b"1.0"),
        ("ce-id", b"1"),
        ("ce-source", b"s"),
        ("ce-time", b"2026-11-21T10:00:00Z"),
        ("x-outlay-namespace", b"support"),
    ];
    let items = Intake::default().decode_http(None, &Headers::new(&headers), br#"{"requests":1}"#, None).unwrap();
    let pairs: Vec<_> = items[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let read = Intake::default().decode_record(Some(&items[0].value), &Headers::new(&pairs), None);
    assert_eq!(read.as_ref(), Ok(items[0].event.as_ref().unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Mapped events and usage objects with bytes replaced, cut out and put in: what is accepted is published as the same event.
    #[test]
    fn no_mutated_event_panics(
        which in 0..4_usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop_oneof![any::<u8>(), Just(b'"'), Just(b'-'), Just(b'9'), Just(b'e'), Just(b'{')]), 1..6),
    ) {
        let mut body = match which {
            0 => LITELLM.to_owned(),
            1 => cloud_event("prompt.x", r#""data":{"tenant":{"name":"n"},"tokens":{"in":"100","cached":30,"out":20.5e1},"duration_ms":"1500.5","cost":1.2e-05,"env":"ci"}"#),
            2 => cloud_event("answer", r#""data":{"answer":{"usage":[{"input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4},"iterations":[{"type":"compaction","input_tokens":1}]},{"output_tokens":1}]}}"#),
            _ => cloud_event("answer", r#""data":{"answer":{"usage":{"inputTokens":9,"outputTokens":1,"cacheWriteInputTokens":3,"cacheDetails":[{"ttl":"1h","inputTokens":3}],"totalTokens":13}}}"#),
        }.into_bytes();
        prop_assert!(intake().decode_record(Some(&body), &Headers::NONE, None).is_ok());
        for (at, edit, byte) in edits {
            let at = at.index(body.len());
            match edit {
                0 => body[at] = byte,
                1 => drop(body.remove(at)),
                _ => body.insert(at, byte),
            }
        }
        let Ok(items) = intake().decode_http(None, &Headers::NONE, &body, Some(TimeUs(1_795_255_200_000_000))) else { return Ok(()) };
        for item in items {
            match &item.event {
                Ok(event) => {
                    let read = intake().decode_record(Some(&item.value), &Headers::NONE, None);
                    prop_assert_eq!(read.as_ref(), Ok(event));
                }
                Err(rejection) => prop_assert!(!rejection.message.is_empty() && !rejection.message.contains('\n'), "{rejection:?}"),
            }
        }
    }
}
