//! The bodies of `POST /v1/events`: cut into items, of which a bad one costs only itself, and read again from the log as the same.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use proptest::prelude::*;
use usage_intake::{Headers, Intake, IntakeLimits, Item};
use usage_types::Rejection;

const A: &str = r#"{"time":"2026-11-21T10:00:00Z","namespace":"a","tokens":{"input":1}}"#;
const B: &str = r#"{"time":"2026-11-21T10:00:00Z","namespace":"b ],[ \"}","requests":2}"#;
const NEGATIVE: &str = r#"{"time":"2026-11-21T10:00:00Z","namespace":"a","tokens":{"input":-1}}"#;
const CLOUD_EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-11-21T10:00:00Z","data":{"namespace":"a","tokens":{"input":1}}}"#;

fn decode<'a>(content_type: &str, body: &'a [u8]) -> Result<Vec<Item<'a>>, Rejection> {
    Intake::default().decode_http(Some(content_type), &Headers::NONE, body, None)
}

/// What became of each item: the namespace of an event, or the code and field of a rejection.
fn outcomes(content_type: &str, body: &[u8]) -> Vec<String> {
    let items = decode(content_type, body).unwrap();
    for (at, item) in items.iter().enumerate() {
        assert_eq!(item.index, at);
        read_again(item);
    }
    items.iter().map(outcome).collect()
}

fn outcome(item: &Item<'_>) -> String {
    match &item.event {
        Ok(event) => event.dimensions.get(usage_types::Dimension::Namespace).unwrap().to_owned(),
        Err(rejection) => format!("{} {}", rejection.code.name(), rejection.field.as_deref().unwrap_or("-")),
    }
}

/// What is accepted here is published as it is: the aggregator must read the same event from the record.
fn read_again(item: &Item<'_>) {
    if let Ok(event) = &item.event {
        let pairs: Vec<_> = item.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let record = Intake::default().decode_record(Some(&item.value), &Headers::new(&pairs), None);
        assert_eq!(record.as_ref(), Ok(event));
    }
}

#[test]
fn one_event_or_an_array_of_them_is_read() {
    assert_eq!(outcomes("application/json", A.as_bytes()), ["a"]);
    assert_eq!(outcomes("application/json; charset=utf-8", format!("\n {A}\r\n").as_bytes()), ["a"]);
    assert_eq!(outcomes("application/json", format!("[{A},{B}]").as_bytes()), ["a", "b ],[ \"}"]);
    assert_eq!(outcomes("application/json", format!(" [ {A} ,\n {CLOUD_EVENT} ] \n").as_bytes()), ["a", "a"]);
    assert_eq!(outcomes("application/json", b"[]"), [""; 0]);
    assert_eq!(outcomes("application/json", b""), ["empty -"]);
    let undeclared = Intake::default().decode_http(None, &Headers::NONE, A.as_bytes(), None).unwrap();
    assert_eq!(outcome(&undeclared[0]), "a");
}

#[test]
fn lines_are_events_and_blank_lines_are_none() {
    let body = format!("{A}\r\n\n{B}\n  \n{CLOUD_EVENT}");
    assert_eq!(outcomes("application/x-ndjson", body.as_bytes()), ["a", "b ],[ \"}", "a"]);
    assert_eq!(outcomes("application/x-ndjson", b"\n"), [""; 0]);
}

#[test]
fn a_bad_event_never_costs_the_good_ones() {
    let bad: [(&[u8], &str); 7] = [
        (NEGATIVE.as_bytes(), "negative tokens.input"),
        (b"{\"namespace\":\"\xff\"}", "bad_utf8 -"),
        (b"{'namespace':1}", "not_json -"),
        (b"{\"a\":1]", "not_json -"),
        (b"[]", "wrong_type -"),
        (b"hello", "not_json -"),
        (b"{}", "missing_field time"),
    ];
    for (bad, expected) in bad {
        let joined = |before: &str, between: &str, after: &str| {
            [
                before.as_bytes(),
                A.as_bytes(),
                between.as_bytes(),
                bad,
                between.as_bytes(),
                B.as_bytes(),
                after.as_bytes(),
            ]
            .concat()
        };
        assert_eq!(outcomes("application/json", &joined("[", ",", "]")), ["a", expected, "b ],[ \"}"]);
        assert_eq!(outcomes("application/x-ndjson", &joined("", "\n", "\n")), ["a", expected, "b ],[ \"}"]);
    }
    assert_eq!(outcomes("application/json", format!("[{A},]").as_bytes()), ["a", "empty -"]);
    let large = format!("[{A},{}\"{}\"}},{B}]", "{\"x\":", "x".repeat(300_000));
    assert_eq!(outcomes("application/json", large.as_bytes()), ["a", "too_large -", "b ],[ \"}"]);
}

#[test]
fn a_body_whose_parts_cannot_be_told_is_refused_as_a_whole() {
    let refused = |content_type: &str, body: &str| {
        let rejection = decode(content_type, body.as_bytes()).unwrap_err();
        (rejection.code.name(), rejection.field.unwrap_or_default())
    };
    assert_eq!(refused("application/json", &format!("[{A}")), ("not_json", String::new()));
    assert_eq!(refused("application/json", &format!("[{A}] {B}")), ("not_json", String::new()));
    assert_eq!(refused("application/json", &format!("[{A}}}")), ("not_json", String::new()));
    assert_eq!(refused("application/json", &format!("[{A},{{\"a\":[1,2}},{B}]")), ("not_json", String::new()));
    assert_eq!(refused("application/cloudevents-batch+json", CLOUD_EVENT), ("not_json", String::new()));
    assert_eq!(refused("application/x-www-form-urlencoded", A), ("unsupported_format", "content-type".to_owned()));
    assert_eq!(refused("text/plain", A), ("unsupported_format", "content-type".to_owned()));
    let limits = IntakeLimits { items_max: 2, ..IntakeLimits::default() };
    let intake = Intake { limits, ..Intake::default() };
    for (content_type, body) in
        [("application/json", format!("[{A},{A},{A}]")), ("application/x-ndjson", format!("{A}\n{A}\n{A}"))]
    {
        let rejection = intake.decode_http(Some(content_type), &Headers::NONE, body.as_bytes(), None).unwrap_err();
        assert_eq!(rejection.code.name(), "too_large");
    }
}

#[test]
fn cloud_events_are_read_one_by_one_and_in_batches() {
    assert_eq!(outcomes("application/cloudevents+json", CLOUD_EVENT.as_bytes()), ["a"]);
    assert_eq!(outcomes("application/cloudevents+json", A.as_bytes()), ["missing_field specversion"]);
    let batch = format!("[{CLOUD_EVENT},{A},{CLOUD_EVENT}]");
    let expected = ["a", "missing_field specversion", "a"];
    assert_eq!(outcomes("application/cloudevents-batch+json; charset=UTF-8", batch.as_bytes()), expected);
}

#[test]
fn a_binary_cloud_event_keeps_its_attributes_as_headers_of_its_record() {
    let data = br#"{"namespace":"a","tokens":{"input":1}}"#;
    let headers: [(&str, &[u8]); 7] = [
        ("Host", b"localhost"),
        ("CE-SpecVersion", b"1.0"),
        ("ce-id", b"caf%C3%A9%201"),
        ("ce-source", b"/s"),
        ("ce-type", b"usage"),
        ("ce-time", b"2026-11-21T10:00:00Z"),
        ("authorization", b"Bearer secret"),
    ];
    let decode = |content_type| Intake::default().decode_http(Some(content_type), &Headers::new(&headers), data, None);
    let items = decode("application/json").unwrap();
    let event = items[0].event.as_ref().unwrap();
    assert_eq!((event.id.as_deref(), event.source.as_ref()), (Some("café 1"), "/s"));
    read_again(&items[0]);
    let kept: Vec<_> = items[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"]);
    assert_eq!(decode("application/x-ndjson").unwrap_err().code.name(), "unsupported_format");
    let headers: [(&str, &[u8]); 2] = [("ce-specversion", b"2.0"), ("ce-id", b"1")];
    let items = Intake::default().decode_http(None, &Headers::new(&headers), data, None).unwrap();
    assert_eq!(outcome(&items[0]), "unknown_spec_version specversion");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_body_panics_and_what_is_accepted_is_read_again(
        body in proptest::collection::vec(prop_oneof![
            Just(A.to_owned()), Just(B.to_owned()), Just(CLOUD_EVENT.to_owned()), Just(NEGATIVE.to_owned()),
            "[\\[\\]{},\"\\\\ \n:a1-]{0,4}",
        ], 0..8),
        content_type in prop_oneof![
            Just("application/json"), Just("application/x-ndjson"), Just("application/cloudevents+json"),
            Just("application/cloudevents-batch+json"),
        ],
        is_array: bool,
    ) {
        let body = if is_array { format!("[{}]", body.join(",")) } else { body.concat() };
        if let Ok(items) = decode(content_type, body.as_bytes()) {
            items.iter().for_each(read_again);
        }
    }
}
