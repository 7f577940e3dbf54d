//! Records with a schema registry's prefix: the same events as in JSON, by whatever schema they were written, and nothing that hostile bytes or
//! schemas could do.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod avro;
mod hostile;
mod protobuf;
mod support;

use usage_intake::{Encoding, Headers, Intake, IntakeConfig, WriterSchema};
use usage_types::{Dimension, Role, UsageEvent};

use crate::support::{AVSC, AVSC_FIRST, avro_of, check_refused, decode, framed, good_events, good_json, proto_of};

#[test]
fn every_good_event_is_the_same_in_avro_and_protobuf() {
    let published = WriterSchema::new(Encoding::Avro, AVSC, &[]);
    let proto = WriterSchema::new(Encoding::Protobuf, support::PROTO, &[]);
    let (mut roles, mut told) = (0, 0);
    for (case, json, event) in good_events() {
        roles += usize::from(event.role != Role::Usage);
        let (avro, protobuf) = (framed(&avro_of(AVSC, &json)), framed(&proto_of(&json)));
        assert_eq!(decode(&avro, Some(&published)).as_ref(), Ok(&event), "{case}: Avro");
        assert_eq!(decode(&protobuf, Some(&proto)).as_ref(), Ok(&event), "{case}: Protobuf");
        // The same without a registry: Avro unless something says otherwise, and of that what the first schema has.
        told += usize::from(event.progress.is_some());
        let first = UsageEvent { progress: None, ..event.clone() };
        assert_eq!(decode(&framed(&avro_of(AVSC_FIRST, &json)), None).as_ref(), Ok(&first), "{case}: Avro, published");
        let headers: [(&str, &[u8]); 1] = [("Content-Type", b"application/x-protobuf")];
        let read = Intake::default().decode_record(Some(&protobuf), &Headers::new(&headers), None);
        assert_eq!(read.as_ref(), Ok(&event), "{case}: Protobuf, published");
    }
    assert!(roles >= 5 && told > 0);
}

#[test]
fn avro_of_a_newer_schema_without_a_registry_is_refused_and_told_which_to_write_with() {
    let json = good_json(
        r#"{"time":"2026-11-21T10:00:00Z","namespace":"n","job":"j","tokens":{"input":1},"processed":5,"total":9}"#,
    );
    let value = framed(&avro_of(AVSC, &json));
    check_refused(decode(&value, None), "bad_encoding", None, "schemas/usage-event.v1-0.avsc");
}

#[test]
fn framed_json_is_our_json_behind_a_prefix() {
    let schema = WriterSchema::new(Encoding::Json, "{}", &[]);
    for (case, json, event) in good_events() {
        let value = framed(format!(" {json}").as_bytes());
        assert_eq!(decode(&value, Some(&schema)).as_ref(), Ok(&event), "{case}");
        let headers: [(&str, &[u8]); 1] = [("content-type", b"application/json")];
        assert_eq!(Intake::default().decode_record(Some(&value), &Headers::new(&headers), None).as_ref(), Ok(&event));
    }
    check_refused(decode(&framed(b""), Some(&schema)), "empty", None, "no value");
    check_refused(decode(&framed(b"{"), Some(&schema)), "not_json", None, "not JSON");
}

#[test]
fn both_schemas_have_every_member_of_the_json() {
    let json: serde_json::Value = serde_json::from_str(support::JSON_SCHEMA).unwrap();
    let of = |schema: &serde_json::Value| schema["properties"].as_object().unwrap().keys().cloned().collect();
    let members: std::collections::BTreeSet<String> = of(&json);
    let (classes, cost) = (of(&json["properties"]["tokens"]), of(&json["properties"]["cost"]));
    assert_eq!([members.len(), classes.len()], [31, 6]);
    let expected = [members, classes, cost];
    assert_eq!(avro::names(), expected);
    assert_eq!(protobuf::names(), expected);
}

#[test]
fn headers_name_dimensions_and_attributes_as_with_json() {
    let json = good_json(r#"{"time":"2026-11-21T10:00:00Z","team":"own","tokens":{"input":1}}"#);
    let headers: [(&str, &[u8]); 2] = [("x-outlay-namespace", b"support"), ("X-Outlay-Team", b"not this")];
    let cloud_event: [(&str, &[u8]); 5] = [
        ("content-type", b"application/avro"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-1"),
        ("ce_source", b"s"),
        ("x-outlay-namespace", b"support"),
    ];
    for (encoding, value) in [(Encoding::Avro, avro_of(AVSC_FIRST, &json)), (Encoding::Protobuf, proto_of(&json))] {
        let config = IntakeConfig::from_yaml(&format!("framed: {}", encoding.name())).unwrap();
        let intake = Intake { config, ..Intake::default() };
        let value = framed(&value);
        let event = intake.decode_record(Some(&value), &Headers::new(&headers), None).unwrap();
        assert_eq!(event.dimensions.get(Dimension::Namespace), Some("support"));
        assert_eq!(event.dimensions.get(Dimension::Team), Some("own"));
        check_refused(intake.decode_record(Some(&value), &Headers::NONE, None), "missing_field", Some("namespace"), "");
        if encoding == Encoding::Avro {
            let event = intake.decode_record(Some(&value), &Headers::new(&cloud_event), None).unwrap();
            assert_eq!((event.id.as_deref(), event.source.as_ref(), event.tokens.input), (Some("e-1"), "s", 1));
        }
    }
}

#[test]
fn a_content_type_goes_before_the_configuration_and_a_writers_schema_before_both() {
    let json = good_json(r#"{"time":"2026-11-21T10:00:00Z","namespace":"n","tokens":{"input":1}}"#);
    let (avro, protobuf) = (framed(&avro_of(AVSC_FIRST, &json)), framed(&proto_of(&json)));
    let config = IntakeConfig::from_yaml("framed: protobuf").unwrap();
    let intake = Intake { config, ..Intake::default() };
    assert!(intake.decode_record(Some(&protobuf), &Headers::NONE, None).is_ok());
    assert!(intake.decode_record(Some(&avro), &Headers::NONE, None).is_err());
    let schema = WriterSchema::new(Encoding::Protobuf, support::PROTO, &[]);
    for (content_type, value) in [
        ("application/avro", &avro),
        ("application/vnd.apache.avro+binary; charset=x", &avro),
        ("application/protobuf", &protobuf),
        ("Application/X-Protobuf", &protobuf),
    ] {
        let headers = [("content-type", content_type.as_bytes())];
        let headers = Headers::new(&headers);
        assert!(intake.decode_record(Some(value), &headers, None).is_ok(), "{content_type}");
        assert!(intake.decode_framed(&protobuf, &headers, None, Some(&schema)).is_ok(), "{content_type}");
    }
    let headers: [(&str, &[u8]); 1] = [("content-encoding", b"gzip")];
    let refused = intake.decode_record(Some(&protobuf), &Headers::new(&headers), None);
    check_refused(refused, "unsupported_format", Some("content-encoding"), "");
    let wrong = IntakeConfig::from_yaml("framed: thrift").unwrap_err();
    assert_eq!((wrong.field.as_str(), wrong.line), ("framed", 1));
    assert!(wrong.message.contains("protobuf"), "{wrong}");
}

#[test]
fn the_rules_of_the_json_hold_and_name_the_same_fields() {
    let published = WriterSchema::new(Encoding::Avro, AVSC, &[]);
    let proto = WriterSchema::new(Encoding::Protobuf, support::PROTO, &[]);
    let long = "x".repeat(1025);
    for (members, code, field) in [
        (r#""tokens":{"input":-1}"#.to_owned(), "negative", Some("tokens.input")),
        (r#""tokens":{"output":281474976710657}"#.to_owned(), "out_of_range", Some("tokens.output")),
        (r#""requests":-3"#.to_owned(), "negative", Some("requests")),
        (r#""images":1,"processed":-1"#.to_owned(), "negative", Some("processed")),
        (format!(r#""images":1,"user":"{long}""#), "out_of_range", Some("user")),
        (r#""images":1,"model":"a\nb""#.to_owned(), "out_of_range", Some("model")),
        (r#""images":0"#.to_owned(), "no_measure", None),
        (r#""compute_seconds":"-1""#.to_owned(), "negative", Some("compute_seconds")),
        (r#""cost":{"amount":"-1","currency":"USD"}"#.to_owned(), "negative", Some("cost.amount")),
        (r#""cost":{"amount":"1","currency":"usd"}"#.to_owned(), "out_of_range", Some("cost.currency")),
        (r#""images":1,"correction":"void""#.to_owned(), "missing_field", Some("corrects")),
        (r#""images":1,"corrects":"a","correction":"undo""#.to_owned(), "out_of_range", Some("correction")),
        (r#""images":1,"usage":"{}, \"namespace\": \"other\"""#.to_owned(), "not_json", Some("usage")),
        (
            r#""usage":"{\"prompt_tokens\": -1, \"completion_tokens\": 1}""#.to_owned(),
            "negative",
            Some("usage.prompt_tokens"),
        ),
        (r#""images":1,"tags":{"":"x"}"#.to_owned(), "out_of_range", Some("tags.")),
    ] {
        let json = good_json(&format!(r#"{{"time":"2026-11-21T10:00:00Z","namespace":"n",{members}}}"#));
        for (what, value, schema) in [("Avro", avro_of(AVSC, &json), &published), ("Protobuf", proto_of(&json), &proto)]
        {
            eprintln!("{what}: {members:.200}");
            check_refused(decode(&framed(&value), Some(schema)), code, field, "");
        }
    }
}

#[test]
fn a_providers_usage_object_comes_as_json_text() {
    let proto = WriterSchema::new(Encoding::Protobuf, support::PROTO, &[]);
    let usage = r#"{"prompt_tokens": 1200, "completion_tokens": 120, "total_tokens": 1320, "prompt_tokens_details": {"cached_tokens": 300}}"#;
    let json =
        serde_json::json!({"time": "2026-11-21T10:00:00Z", "namespace": "n", "provider": "openai", "usage": usage});
    for (value, schema) in [(avro_of(AVSC_FIRST, &json), None), (proto_of(&json), Some(&proto))] {
        let value = framed(&value);
        let tokens = decode(&value, schema).unwrap().tokens;
        assert_eq!((tokens.input, tokens.cache_read, tokens.output), (900, 300, 120));
    }
}

/// What confluent-kafka 2.16 wrote of this event with version 1 of the published schemas.
#[test]
fn what_version_1_of_the_schemas_wrote_stays_readable() {
    let avro = "000000000102026102027380a9e0c7cdb1b00602026e020274000000000000000000000002880ed8040000a001500000000000020859682f00020a02dd231b\
                0006555344020202610262000000020100";
    let protobuf = "0000000002000a01611201731a0b08a0d785d806108094ef3a22016e2a01748a010e08840710ac021800200028503028ba0103312e35c2010d0a06302e\
                    303132331203555344ca01060a0161120162e00101";
    let json = br#"{"id":"a","source":"s","time":"2026-11-21T10:00:00.123456Z","namespace":"n","team":"t",
        "tokens":{"input":900,"cache_read":300,"cache_write_5m":0,"cache_write_1h":0,"output":80,"reasoning":40},
        "compute_seconds":"1.5","cost":{"amount":"0.0123","currency":"USD"},"tags":{"a":"b"},"backfill":true}"#;
    let expected = Intake::default().decode_record(Some(json), &Headers::NONE, None).unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    assert_eq!(decode(&bytes(avro), None).as_ref(), Ok(&expected));
    let schema = WriterSchema::new(Encoding::Protobuf, support::PROTO, &[]);
    assert_eq!(decode(&bytes(protobuf), Some(&schema)).as_ref(), Ok(&expected));
}
