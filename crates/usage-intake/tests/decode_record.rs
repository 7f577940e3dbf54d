//! One record's value: what is read, what is refused and why, and that nothing panics.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::Value;
use usage_intake::{Headers, Intake, IntakeLimits};
use usage_types::{ComputeNs, Currency, Dimension, Pico, RejectCode, Rejection, Role, TimeUs, UsageEvent};

const BAD: &str = include_str!("../../../tests/data/bad-events.ndjson");
const GOOD: &str = include_str!("../../../tests/data/good-events.ndjson");

fn decode(value: &[u8]) -> Result<UsageEvent<'_>, Rejection> {
    Intake::default().decode_record(Some(value), &Headers::NONE, None)
}

fn cases(text: &str) -> Vec<(String, Vec<u8>, Value)> {
    text.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let value = match &row["value_base64"] {
                Value::String(encoded) => BASE64_STANDARD.decode(encoded).unwrap(),
                _ => row["value"].as_str().unwrap().as_bytes().to_vec(),
            };
            (row["case"].as_str().unwrap().to_owned(), value, row)
        })
        .collect()
}

fn good(case: &str) -> Vec<u8> {
    cases(GOOD).into_iter().find(|(name, ..)| name == case).unwrap_or_else(|| panic!("no case {case:?}")).1
}

fn check_refused(case: &str, result: Result<UsageEvent<'_>, Rejection>, code: &str, field: Option<&str>) {
    let rejection = result.expect_err(case);
    assert_eq!((rejection.code.name(), rejection.field.as_deref()), (code, field), "{case}: {rejection}");
    assert!(!rejection.message.is_empty() && rejection.message.len() < 500, "{case}: {rejection}");
    assert!(!rejection.message.chars().any(char::is_control), "{case}: {rejection:?}");
}

#[test]
fn every_bad_event_is_refused_for_its_reason_and_by_its_field() {
    // Too large is tested below, schemas in `framed`; what a correction's original is only the worker knows.
    let mut codes = BTreeSet::from(["too_large", "unknown_original", "unknown_schema", "bad_encoding"]);
    let cases = cases(BAD);
    for (case, value, row) in &cases {
        let code = row["code"].as_str().unwrap();
        check_refused(case, decode(value), code, row["field"].as_str());
        codes.insert(code);
    }
    assert_eq!(codes, RejectCode::ALL.iter().map(|code| code.name()).collect());
}

#[test]
fn a_record_without_a_value_or_with_too_large_a_one_is_refused() {
    let limits = IntakeLimits::default();
    check_refused("none", Intake::default().decode_record(None, &Headers::NONE, None), "empty", None);
    let mut large = good("only what is required");
    large.resize(limits.record_bytes_max, b' ');
    assert!(decode(&large).is_ok());
    large.push(b' ');
    check_refused("large", decode(&large), "too_large", None);
}

#[test]
fn the_contracts_example_is_read_in_full_and_borrows() {
    let value = good("the contract's example");
    let event = decode(&value).unwrap();
    assert_eq!(event.id.as_deref(), Some("01J8ZK5V7Q"));
    assert!(matches!(event.id, Some(std::borrow::Cow::Borrowed(_))));
    assert_eq!(event.source, "gateway/eu-1");
    assert_eq!(event.time, TimeUs::parse_rfc3339("2026-11-21T10:00:00.123Z").unwrap());
    let named: Vec<_> = event.dimensions.iter().collect();
    let expected = [
        (Dimension::Namespace, "support"),
        (Dimension::Team, "helpdesk"),
        (Dimension::Repository, "acme/bot"),
        (Dimension::User, "u-17"),
        (Dimension::ApiKey, "k-3"),
        (Dimension::Agent, "triage"),
        (Dimension::Session, "s-9"),
        (Dimension::Provider, "openai"),
        (Dimension::Model, "gpt-5.1"),
        (Dimension::Operation, "chat"),
    ];
    assert_eq!(named, expected);
    let tokens = event.tokens;
    assert_eq!((tokens.input, tokens.cache_read, tokens.output, tokens.reasoning), (900, 300, 80, 40));
    assert_eq!((tokens.cache_write_5m, tokens.cache_write_1h, tokens.total()), (0, 0, 1320));
    assert_eq!((event.requests, event.tool_calls, event.compute, event.cost), (1, 0, ComputeNs(0), None));
    assert_eq!(event.tags.iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect::<Vec<_>>(), [("env", "ci")]);
}

#[test]
fn every_good_event_is_read() {
    for (case, value, _) in cases(GOOD) {
        assert!(decode(&value).is_ok(), "{case}: {:?}", decode(&value));
    }
}

#[test]
fn measures_units_and_texts_are_what_was_sent() {
    let read = |case| decode(&good(case)).unwrap().into_owned();
    assert_eq!(read("compute seconds alone").compute, ComputeNs(12_500_000_000));
    assert_eq!(read("compute seconds as an integer").compute, ComputeNs(7_200_000_000_000));
    assert_eq!(read("a cost alone").cost, Some((Pico(12_300_000_000), "EUR".parse::<Currency>().unwrap())));
    assert_eq!(read("an offset other than Z").time, read("only what is required").time);
    assert_eq!(read("the largest counts").tokens.input, UsageEvent::COUNT_MAX);
    let texts = read("escaped and non-ASCII texts");
    assert_eq!(texts.dimensions.get(Dimension::Namespace), Some("café \"x\""));
    assert_eq!(texts.dimensions.get(Dimension::Team), Some("支援"));
    let tags = read("tags of every plain kind").tags;
    let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    assert_eq!(tags, [("a", "x"), ("b", "1.50"), ("c", "true")]);
}

#[test]
fn requests_default_to_one_where_a_model_was_at_work() {
    for (rest, requests) in [
        (r#""tokens":{"input":1}"#, 1),
        (r#""tokens":{"input":1},"requests":0"#, 0),
        (r#""tokens":{"input":1},"requests":5"#, 5),
        (r#""model":"m","cost":{"amount":"1","currency":"USD"}"#, 1),
        (r#""provider":"p","compute_seconds":1"#, 1),
        (r#""tool_calls":3"#, 0),
        (r#""compute_seconds":"1""#, 0),
        (r#""cost":{"amount":"1","currency":"USD"}"#, 0),
    ] {
        let value = format!(r#"{{"time":"2026-11-21T10:00:00Z","namespace":"n",{rest}}}"#);
        assert_eq!(decode(value.as_bytes()).unwrap().requests, requests, "{rest}");
    }
}

#[test]
fn an_event_has_the_role_that_it_names() {
    let read = |case| decode(&good(case)).unwrap().into_owned();
    for (case, role, requests) in [
        ("only what is required", Role::Usage, 1),
        ("roles of null", Role::Usage, 1),
        ("a backfilled event", Role::Backfill, 1),
        ("an amendment", Role::Amends("e-1".into()), 1),
        ("an amendment that says so", Role::Amends("e-1".into()), 1),
        ("a backfill of false", Role::Amends("e-1".into()), 1),
        ("a void", Role::Voids("e-1".into()), 0),
        ("a cost adjusted downwards", Role::Adjusts("run-7".into()), 0),
        ("a cost adjusted upwards", Role::Adjusts("run-7".into()), 0),
    ] {
        let event = read(case);
        assert_eq!((event.role, event.requests), (role, requests), "{case}");
    }
    assert_eq!(read("a cost adjusted downwards").cost, Some((Pico(-12_300_000_000), Currency::USD)));
    assert_eq!(read("images alone").images, 2);
    assert_eq!(read("a service tier").dimensions.get(Dimension::ServiceTier), Some("batch"));
}

#[test]
fn a_cloud_event_is_the_same_event_whichever_way_it_is_written() {
    let read = |case| decode(&good(case)).unwrap().into_owned();
    let event = read("a structured CloudEvent");
    assert_eq!((event.id.as_deref(), event.source.as_ref()), (Some("1"), "s"));
    assert_eq!(event.tokens.input, 1);
    for (case, ..) in cases(GOOD).iter().filter(|(case, ..)| case.contains("CloudEvent")) {
        assert_eq!(read(case), event, "{case}");
    }
    let headers: [(&str, &[u8]); 5] = [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"s"),
        ("ce_time", b"2026-11-21T10:00:00Z"),
    ];
    let value = br#"{"namespace":"support","tokens":{"input":1},"id":"the data's"}"#;
    let binary = Intake::default().decode_record(Some(value), &Headers::new(&headers), None);
    assert_eq!(binary.unwrap(), event);
}

#[test]
fn headers_that_do_not_fit_are_refused_by_name() {
    let value = good("only what is required");
    let check = |headers: &[(&str, &[u8])], code: &str, field: &str| {
        let result = Intake::default().decode_record(Some(&value), &Headers::new(headers), None);
        check_refused(field, result, code, Some(field));
    };
    check(&[("content-type", b"application/x-protobuf")], "unsupported_format", "content-type");
    check(&[("content-type", b"application/json; charset=latin1")], "unsupported_format", "content-type");
    check(&[("Content-Type", b"application/cloudevents-batch+json")], "unsupported_format", "content-type");
    check(&[("content-encoding", b"gzip")], "unsupported_format", "content-encoding");
    check(&[("content-type", b"application/cloudevents+json")], "missing_field", "specversion");
    check(&[("ce_specversion", b"0.3"), ("ce_id", b"1")], "unknown_spec_version", "specversion");
    check(&[("ce_specversion", b"1.0"), ("ce_source", b"s")], "missing_field", "id");
    check(&[("ce_specversion", b"1.0"), ("ce_id", b"\xff"), ("ce_source", b"s")], "bad_utf8", "id");
    check(&[("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"s"), ("ce_time", b"x")], "bad_time", "time");
}

fn good_values() -> impl Strategy<Value = Vec<u8>> {
    let values: Vec<_> = cases(GOOD).into_iter().map(|(_, value, _)| value).collect();
    proptest::sample::select(values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&value);
    }

    /// Valid events with bytes replaced, cut out and put in: still an event or a rejection that can be sent on.
    #[test]
    fn no_mutated_event_panics(
        mut value in good_values(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop_oneof![any::<u8>(), Just(b'"'), Just(b'-'), Just(b'9'), Just(b'{'), Just(b'\\')]), 1..6),
    ) {
        for (at, edit, byte) in edits {
            if value.is_empty() { break; }
            let at = at.index(value.len());
            match edit {
                0 => value[at] = byte,
                1 => drop(value.remove(at)),
                _ => value.insert(at, byte),
            }
        }
        match decode(&value) {
            Ok(event) => {
                prop_assert!(event.dimensions.get(Dimension::Namespace).is_some());
                let counts = event.tokens.total() + event.requests + event.tool_calls + event.images + event.compute.0;
                let is_used = counts > 0 || event.cost.is_some();
                prop_assert_eq!(is_used, !matches!(event.role, Role::Voids(_)));
            }
            Err(rejection) => prop_assert!(!rejection.message.is_empty() && !rejection.message.contains('\n')),
        }
    }
}
