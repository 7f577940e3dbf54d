//! Avro by the schema that the writer had.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use usage_intake::{Encoding, WriterSchema};
use usage_types::{Dimension, Role, TimeUs, UsageEvent};

use crate::support::{AVSC, avro_of, check_refused, decode, framed};

/// The names of the event's, the tokens' and the cost's fields in our schema.
pub fn names() -> [BTreeSet<String>; 3] {
    let schema: Value = serde_json::from_str(AVSC).unwrap();
    let field = |name: &str| {
        let fields = schema["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).unwrap()["type"][1].clone()
    };
    let of = |record: &Value| {
        record["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect()
    };
    [of(&schema), of(&field("tokens")), of(&field("cost"))]
}

fn read(schema: &Value, event: &Value) -> UsageEvent<'static> {
    let text = schema.to_string();
    let writer = WriterSchema::new(Encoding::Avro, &text, &[]);
    decode(&framed(&avro_of(&text, event)), Some(&writer))
        .unwrap_or_else(|error| panic!("{error}: {text}"))
        .into_owned()
}

fn record(fields: &Value) -> Value {
    json!({"type": "record", "name": "Usage", "namespace": "my.company", "fields": fields})
}

#[test]
fn a_writer_may_have_fewer_fields_more_of_them_and_another_order() {
    let schema = record(&json!([
        {"name": "trace", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "tokens", "type": {"type": "record", "name": "T", "fields": [{"name": "output", "type": "int"}]}},
        {"name": "checksum", "type": "boolean"},
        {"name": "namespace", "type": "string"},
        {"name": "nested", "type": {"type": "map", "values": ["null", "double"]}},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    ]));
    let text = schema.to_string();
    // By hand: an empty array, the tokens, a boolean, a text, a map of one null, a time.
    let mut bytes = vec![0, 160, 1, 1, 2, b'n', 2, 2, b'k', 0, 0];
    crate::support::long(1_795_255_200_000_000, &mut bytes);
    let writer = WriterSchema::new(Encoding::Avro, &text, &[]);
    let value = framed(&bytes);
    let event = decode(&value, Some(&writer)).unwrap();
    assert_eq!((event.tokens.output, event.tokens.total(), event.requests), (80, 80, 1));
    assert_eq!(event.dimensions.get(Dimension::Namespace), Some("n"));
    assert_eq!(event.time, TimeUs(1_795_255_200_000_000));
}

#[test]
fn a_time_may_have_any_unit_that_its_schema_names_or_be_a_text() {
    let event = json!({"time": "2026-11-21T10:00:00.123456Z", "namespace": "n", "images": 1});
    let time = |kind: &Value| {
        let fields = json!([{"name": "time", "type": kind}, {"name": "namespace", "type": "string"}, {"name": "images", "type": "int"}]);
        read(&record(&fields), &event).time
    };
    let micros = TimeUs::parse_rfc3339("2026-11-21T10:00:00.123456Z").unwrap();
    assert_eq!(time(&json!({"type": "long", "logicalType": "timestamp-micros"})), micros);
    assert_eq!(time(&json!(["null", {"type": "long", "logicalType": "timestamp-nanos"}])), micros);
    assert_eq!(time(&json!({"type": "long", "logicalType": "timestamp-millis"})), TimeUs(micros.0 / 1000 * 1000));
    assert_eq!(time(&json!("string")), micros);
}

#[test]
fn a_time_without_a_unit_or_out_of_range_is_refused() {
    for (kind, value, code) in [
        (json!("long"), 1_795_255_200_000, "wrong_type"),
        (json!({"type": "long", "logicalType": "local-timestamp-millis"}), 1_795_255_200_000, "wrong_type"),
        (json!({"type": "long", "logicalType": "timestamp-millis"}), i64::MAX, "bad_time"),
        (json!({"type": "long", "logicalType": "timestamp-micros"}), i64::MIN, "bad_time"),
        // Milliseconds in a field of microseconds.
        (json!({"type": "long", "logicalType": "timestamp-micros"}), 1_795_255_200_000, "bad_time"),
    ] {
        let schema = record(&json!([{"name": "time", "type": kind}])).to_string();
        let mut bytes = Vec::new();
        crate::support::long(value, &mut bytes);
        let writer = WriterSchema::new(Encoding::Avro, &schema, &[]);
        check_refused(decode(&framed(&bytes), Some(&writer)), code, Some("time"), "");
    }
}

#[test]
fn amounts_may_be_decimals_of_any_scale_texts_or_whole_numbers_and_no_floats() {
    let with = |amount: &Value, value: &Value| {
        let cost = json!({"type": "record", "name": "C", "fields": [
            {"name": "amount", "type": amount}, {"name": "currency", "type": {"type": "enum", "name": "E", "symbols": ["EUR", "USD"]}}]});
        let fields = json!([{"name": "time", "type": "string"}, {"name": "namespace", "type": "string"}, {"name": "cost", "type": cost}]);
        let event =
            json!({"time": "2026-11-21T10:00:00Z", "namespace": "n", "cost": {"amount": value, "currency": "USD"}});
        (record(&fields).to_string(), event)
    };
    for (kind, value, pico) in [
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 4}),
            json!("12.5"),
            12_500_000_000_000,
        ),
        (json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 12}), json!("0.000000000001"), 1),
        (json!("string"), json!("0.0123"), 12_300_000_000),
        (json!("long"), json!(3), 3_000_000_000_000),
    ] {
        let (schema, event) = with(&kind, &value);
        let read = read(&serde_json::from_str(&schema).unwrap(), &event);
        assert_eq!(
            read.cost.map(|(amount, currency)| (amount.0, currency.to_string())),
            Some((pico, "USD".to_owned()))
        );
    }
    let (schema, event) = with(&json!("double"), &json!(0.5));
    let writer = WriterSchema::new(Encoding::Avro, &schema, &[]);
    check_refused(
        decode(&framed(&avro_of(&schema, &event)), Some(&writer)),
        "wrong_type",
        Some("cost.amount"),
        "float",
    );
}

#[test]
fn enums_and_nested_usage_objects_are_what_their_names_say() {
    let correction = json!(["null", {"type": "enum", "name": "Correction", "symbols": ["amend", "void"]}]);
    let void = json!([{"name": "time", "type": "string"}, {"name": "namespace", "type": "string"},
        {"name": "corrects", "type": "string"}, {"name": "correction", "type": correction}]);
    let event = json!({"time": "2026-11-21T10:00:00Z", "namespace": "n", "corrects": "e-1", "correction": "void"});
    assert_eq!(read(&record(&void), &event).role, Role::Voids("e-1".into()));

    let usage = json!({"type": "record", "name": "Usage2", "fields": [
        {"name": "input_tokens", "type": "long"}, {"name": "cache_read_input_tokens", "type": "long"}, {"name": "output_tokens", "type": "long"}]});
    let fields = json!([{"name": "time", "type": "string"}, {"name": "namespace", "type": "string"}, {"name": "usage", "type": usage},
        {"name": "usage_format", "type": "string"}]);
    let event = json!({"time": "2026-11-21T10:00:00Z", "namespace": "n", "usage_format": "anthropic",
        "usage": {"input_tokens": 21, "cache_read_input_tokens": 5, "output_tokens": 393}});
    let tokens = read(&record(&fields), &event).tokens;
    assert_eq!((tokens.input, tokens.cache_read, tokens.output), (21, 5, 393));
}

#[test]
fn a_token_class_that_is_not_known_is_refused_and_not_lost() {
    let tokens = json!({"type": "record", "name": "T", "fields": [{"name": "input", "type": "long"}, {"name": "audio", "type": "long"}]});
    let schema = record(&json!([{"name": "tokens", "type": tokens}])).to_string();
    let writer = WriterSchema::new(Encoding::Avro, &schema, &[]);
    check_refused(decode(&framed(&[2, 4]), Some(&writer)), "unknown_field", Some("tokens.audio"), "no token class");
}

#[test]
fn a_schema_may_refer_to_others() {
    let tokens =
        json!({"type": "record", "name": "my.Tokens", "fields": [{"name": "input", "type": "long"}]}).to_string();
    let schema = record(
        &json!([{"name": "tokens", "type": "my.Tokens"}, {"name": "namespace", "type": "string"}, {"name": "time", "type": "string"}]),
    );
    let writer = WriterSchema::new(Encoding::Avro, &schema.to_string(), &[tokens]);
    let mut bytes = vec![10, 2, b'n', 40];
    bytes.extend(b"2026-11-21T10:00:00Z");
    let value = framed(&bytes);
    assert_eq!(decode(&value, Some(&writer)).unwrap().tokens.input, 5);
    let alone = WriterSchema::new(Encoding::Avro, &schema.to_string(), &[]);
    check_refused(decode(&value, Some(&alone)), "unknown_schema", None, "my.Tokens");
}

#[test]
fn a_schema_that_is_none_of_events_and_bytes_of_another_schema_are_refused() {
    for schema in ["", "{}", "\"string\"", r#"{"type":"array","items":"long"}"#, r#"{"type":"record","name":"R"}"#] {
        let writer = WriterSchema::new(Encoding::Avro, schema, &[]);
        check_refused(decode(&framed(&[0]), Some(&writer)), "unknown_schema", None, "schema");
    }
    let schema = record(&json!([{"name": "namespace", "type": "string"}])).to_string();
    let writer = WriterSchema::new(Encoding::Avro, &schema, &[]);
    check_refused(decode(&framed(&[2, b'n', 0]), Some(&writer)), "bad_encoding", None, "1 bytes are left");
    check_refused(decode(&framed(&[4, b'n']), Some(&writer)), "bad_encoding", Some("namespace"), "");
    check_refused(decode(&framed(&[2, 0xff]), Some(&writer)), "bad_encoding", Some("namespace"), "UTF-8");
    check_refused(decode(&[0, 0, 0, 0], None), "unsupported_format", None, "five bytes");
}
