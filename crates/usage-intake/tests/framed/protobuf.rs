//! Protobuf by the message of our own schema, and schemas whose messages are something else.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use protox::prost_reflect::prost::Message as _;
use serde_json::json;
use usage_intake::{Encoding, WriterSchema};

use crate::support::{PROTO, check_refused, decode, framed, message, proto_of};

/// The names of the event's, the tokens' and the cost's fields in our schema.
pub fn names() -> [BTreeSet<String>; 3] {
    let of = |name: &str| {
        let message =
            if name.is_empty() { message() } else { message().child_messages().find(|m| m.name() == name).unwrap() };
        message.fields().map(|field| field.name().to_owned()).collect()
    };
    [of(""), of("Tokens"), of("Cost")]
}

fn event() -> Vec<u8> {
    proto_of(&json!({"time": "2026-11-21T10:00:00Z", "namespace": "n", "tokens": {"input": 5}}))
}

#[test]
fn the_message_index_is_a_zero_for_the_first_message_or_the_list_of_places() {
    let message = event().split_off(1);
    let read = |index: &[u8], schema: &str| {
        let value = framed(&[index, message.as_slice()].concat());
        decode(&value, Some(&WriterSchema::new(Encoding::Protobuf, schema, &[]))).map(|event| event.tokens.input)
    };
    // One place, 0: as zigzag varints.
    assert_eq!((read(&[0], PROTO), read(&[2, 0], PROTO)), (Ok(5), Ok(5)));
    let body = PROTO.split_once("message UsageEvent").unwrap().1;
    let second = format!("syntax = \"proto3\"; message Other {{ }} message UsageEvent {body}");
    let nested = format!("syntax = \"proto3\"; message A {{ message B {{}} message UsageEvent {body} }}");
    assert_eq!((read(&[2, 2], &second), read(&[4, 0, 2], &nested)), (Ok(5), Ok(5)));
    let refused = |index: &[u8], schema: &str, code: &str, says: &str| {
        let value = framed(&[index, message.as_slice()].concat());
        let schema = WriterSchema::new(Encoding::Protobuf, schema, &[]);
        check_refused(decode(&value, Some(&schema)), code, None, says);
    };
    refused(&[0], &second, "unknown_schema", "\"Other\"");
    refused(&[2, 6], &second, "unknown_schema", "[3]");
    refused(&[4, 0, 0], PROTO, "unknown_schema", "\"Tokens\"");
    refused(&[2, 1], PROTO, "unknown_schema", "[-1]");
    refused(&[0xfe, 0xff, 0xff, 0xff, 0x0f], PROTO, "unknown_schema", "no message");
}

#[test]
fn a_prefix_that_is_cut_short_or_no_protobuf_is_refused() {
    let schema = WriterSchema::new(Encoding::Protobuf, PROTO, &[]);
    for payload in [&[][..], &[0x80], &[2], &[1], &[0xff; 10]] {
        check_refused(decode(&framed(payload), Some(&schema)), "bad_encoding", None, "index");
    }
    check_refused(decode(&framed(&[0, 0x0a, 0x05, b'a']), Some(&schema)), "bad_encoding", None, "not Protobuf");
    check_refused(decode(&framed(&[0, 0x0a, 0x01, 0xff]), Some(&schema)), "bad_encoding", None, "UTF-8");
}

#[test]
fn a_writers_schema_whose_numbers_or_types_mean_something_else_is_refused() {
    for (from, to, says) in [
        ("string team = 5", "string tier = 5", "tier = 5"),
        ("string team = 5", "string team = 30", "team = 30"),
        ("optional int64 input = 1", "optional sint64 input = 1", "input = 1"),
        ("optional int64 output = 5;", "optional int64 output = 6; optional int64 reasoning = 5;", "Tokens.output"),
        ("google.protobuf.Timestamp time = 3", "int64 time = 3", "time = 3"),
    ] {
        let changed = PROTO.replacen(from, to, 1).replace("    optional int64 reasoning = 6;\n", "");
        assert_ne!(changed, PROTO);
        let schema = WriterSchema::new(Encoding::Protobuf, &changed, &[]);
        check_refused(decode(&framed(&event()), Some(&schema)), "unknown_schema", None, says);
    }
    for broken in ["", "message UsageEvent {", "syntax = \"proto9\";", "AAAA"] {
        let schema = WriterSchema::new(Encoding::Protobuf, broken, &[]);
        assert_eq!(decode(&framed(&event()), Some(&schema)).unwrap_err().code.name(), "unknown_schema", "{broken}");
    }
}

#[test]
fn a_writers_schema_may_have_more_fields_and_fewer_and_come_as_a_descriptor() {
    let more = PROTO.replace("string team = 5;", "string team = 5; bytes checksum = 99; repeated int32 parts = 100;");
    let fewer = PROTO.replace("  optional string adjusts = 29;\n", "").replace("int64 images", "int32 images");
    let file = message().parent_file().file_descriptor_proto().encode_to_vec();
    for schema in [more, fewer, BASE64_STANDARD.encode(file)] {
        // Field 99 is not known: bytes of length 2.
        let value = framed(&[event().as_slice(), &[0x9a, 0x06, 2, 1, 2]].concat());
        let writer = WriterSchema::new(Encoding::Protobuf, &schema, &[]);
        assert_eq!(decode(&value, Some(&writer)).unwrap().tokens.input, 5);
    }
}

#[test]
fn a_token_class_that_is_not_known_is_refused_and_not_lost() {
    // Field 17, the tokens: field 1 is 3, field 9 is 4.
    let value = framed(&[event().as_slice(), &[0x8a, 0x01, 4, 0x08, 3, 0x48, 4]].concat());
    let schema = WriterSchema::new(Encoding::Protobuf, PROTO, &[]);
    check_refused(decode(&value, Some(&schema)), "unknown_field", Some("tokens.9"), "no token class");
}
