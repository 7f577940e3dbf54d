//! A dead letter keeps enough of a refused record to understand it and to send it again, and never more than fits a record.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use usage_intake::{DeadLetter, Headers, Intake, RecordParts};
use usage_types::TimeUs;

fn dead_letter(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) -> DeadLetter {
    let headers = Headers::new(headers);
    let rejection = Intake::default().decode_record(value, &headers, None).unwrap_err();
    let append_time = TimeUs::parse_rfc3339("2026-11-21T10:00:00Z").unwrap();
    let record = RecordParts { topic: "usage.events", partition: 3, offset: 42, append_time, key, value, headers };
    DeadLetter::new(&record, &rejection)
}

#[test]
fn it_names_the_record_and_the_reason_and_gives_the_bytes_back() {
    let value = b"{\"time\":\"2026-11-21T10:00:00Z\",\"namespace\":\"a\",\"tokens\":{\"input\":-1}}";
    let letter = dead_letter(Some(b"a/u-1"), Some(value), &[("content-type", b"application/json"), ("x", b"\xff")]);
    let json = serde_json::to_value(&letter).unwrap();
    let expected = serde_json::json!({
        "topic": "usage.events", "partition": 3, "offset": 42, "append_time": "2026-11-21T10:00:00Z",
        "code": "negative", "field": "tokens.input", "message": letter.message,
        "key_base64": "YS91LTE=", "value_base64": BASE64_STANDARD.encode(value), "value_bytes": value.len(),
        "headers": [{"name": "content-type", "value_base64": "YXBwbGljYXRpb24vanNvbg=="}, {"name": "x", "value_base64": "/w=="}],
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<DeadLetter>(json).unwrap(), letter);
}

#[test]
fn a_record_without_key_and_value_has_none_in_its_letter() {
    let json = serde_json::to_value(dead_letter(None, None, &[])).unwrap();
    assert_eq!((json.get("key_base64"), json.get("value_base64"), json.get("headers")), (None, None, None));
    assert_eq!((&json["value_bytes"], &json["code"]), (&0.into(), &"empty".into()));
}

#[test]
fn it_stays_below_kafkas_megabyte_whatever_the_record_holds() {
    let large = vec![b'x'; 2_000_000];
    let letter = dead_letter(Some(&large), Some(&large), &[("large", &large), ("small", b"kept")]);
    assert_eq!(letter.value_bytes, 2_000_000);
    assert_eq!(
        BASE64_STANDARD.decode(letter.value_base64.as_ref().unwrap()).unwrap().len(),
        DeadLetter::VALUE_BYTES_MAX
    );
    assert_eq!(letter.headers.iter().map(|header| header.name.as_str()).collect::<Vec<_>>(), ["small"]);
    assert!(serde_json::to_vec(&letter).unwrap().len() < 1_000_000);
}
