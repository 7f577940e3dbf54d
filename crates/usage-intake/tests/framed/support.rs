//! Encoders that share no code with the readers: Avro by hand from the schema's JSON, Protobuf by reflection from the `.proto`.

use std::sync::LazyLock;

use protox::prost_reflect::prost::Message as _;
use protox::prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MessageDescriptor, Value as Field};
use serde_json::Value;
use usage_intake::{Headers, Intake, WriterSchema, encode};
use usage_types::{Rejection, TimeUs, UsageEvent};

pub const AVSC: &str = include_str!("../../../../schemas/usage-event.v1.avsc");
/// What Avro without a registry is read by.
pub const AVSC_FIRST: &str = include_str!("../../../../schemas/usage-event.v1-0.avsc");
pub const PROTO: &str = include_str!("../../../../schemas/usage-event.v1.proto");
pub const JSON_SCHEMA: &str = include_str!("../../../../schemas/usage-event.v1.json");
const GOOD: &str = include_str!("../../../../tests/data/good-events.ndjson");

/// The good native events of the fixtures, as JSON of texts and whole numbers only, and as what they are read as.
pub fn good_events() -> Vec<(String, Value, UsageEvent<'static>)> {
    let rows = GOOD.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<_> = rows
        .filter_map(|row| {
            let value = row["value"].as_str()?;
            let event = Intake::default().decode_record(Some(value.as_bytes()), &Headers::NONE, None).unwrap();
            let json = serde_json::from_slice(&encode(&event)).unwrap();
            Some((row["case"].as_str()?.to_owned(), json, event.into_owned()))
        })
        .collect();
    assert!(events.len() >= 20);
    events
}

pub fn good_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A value behind a prefix with schema 7.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 7], payload].concat()
}

pub fn decode<'a>(value: &'a [u8], writer: Option<&WriterSchema>) -> Result<UsageEvent<'a>, Rejection> {
    Intake::default().decode_framed(value, &Headers::NONE, None, writer)
}

#[track_caller]
pub fn check_refused(result: Result<UsageEvent<'_>, Rejection>, code: &str, field: Option<&str>, says: &str) {
    let rejection = result.expect_err("it was accepted");
    assert_eq!((rejection.code.name(), rejection.field.as_deref()), (code, field), "{rejection}");
    assert!(rejection.message.contains(says), "{rejection}");
    assert!(!rejection.message.is_empty() && rejection.message.len() < 500, "{rejection}");
    assert!(!rejection.message.chars().any(char::is_control), "{rejection:?}");
}

pub fn long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(u8::try_from(zigzag & 0x7f).unwrap() | 0x80);
        zigzag >>= 7;
    }
    out.push(u8::try_from(zigzag).unwrap());
}

/// The JSON as an Avro datum of this schema, logical types as they are meant.
pub fn avro_of(schema: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    avro(&serde_json::from_str(schema).unwrap(), value, &mut out);
    out
}

fn avro(schema: &Value, value: &Value, out: &mut Vec<u8>) {
    if let Some(variants) = schema.as_array() {
        let fits = |variant: &&Value| (**variant == "null") == value.is_null();
        let at = variants.iter().position(|variant| fits(&variant)).unwrap();
        long(i64::try_from(at).unwrap(), out);
        return avro(&variants[at], value, out);
    }
    let text = |text: &str, out: &mut Vec<u8>| {
        long(i64::try_from(text.len()).unwrap(), out);
        out.extend_from_slice(text.as_bytes());
    };
    let kind = schema["logicalType"].as_str().or(schema["type"].as_str()).or(schema.as_str()).unwrap();
    match kind {
        "null" => {}
        "string" => text(value.as_str().unwrap(), out),
        "int" | "long" => long(value.as_i64().unwrap(), out),
        "double" => out.extend(value.as_f64().unwrap().to_le_bytes()),
        "boolean" => out.push(u8::from(value.as_bool().unwrap())),
        "timestamp-millis" => long(micros(value) / 1000, out),
        "timestamp-micros" => long(micros(value), out),
        "timestamp-nanos" => long(micros(value) * 1000, out),
        "decimal" => {
            let bytes = unscaled(value.as_str().unwrap(), schema["scale"].as_u64().unwrap()).to_be_bytes();
            long(16, out);
            out.extend(bytes);
        }
        "enum" => {
            let symbols = schema["symbols"].as_array().unwrap();
            long(i64::try_from(symbols.iter().position(|symbol| symbol == value).unwrap()).unwrap(), out);
        }
        "map" => {
            let map = value.as_object().unwrap();
            if !map.is_empty() {
                long(i64::try_from(map.len()).unwrap(), out);
            }
            for (name, value) in map {
                text(name, out);
                avro(&schema["values"], value, out);
            }
            out.push(0);
        }
        "record" => {
            for field in schema["fields"].as_array().unwrap() {
                let given = &value[field["name"].as_str().unwrap()];
                avro(&field["type"], if given.is_null() { &field["default"] } else { given }, out);
            }
        }
        other => panic!("{other}"),
    }
}

fn micros(value: &Value) -> i64 {
    TimeUs::parse_rfc3339(value.as_str().unwrap()).unwrap().0
}

fn unscaled(text: &str, scale: u64) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<width$}", width = usize::try_from(scale).unwrap()).parse().unwrap()
}

pub fn message() -> MessageDescriptor {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
        let files = protox::compile(["usage-event.v1.proto"], [folder]).unwrap();
        DescriptorPool::from_file_descriptor_set(files).unwrap()
    });
    POOL.get_message_by_name("outlay.v1.UsageEvent").unwrap()
}

/// The JSON as a message behind the index of the first message.
pub fn proto_of(json: &Value) -> Vec<u8> {
    [&[0], proto(&message(), json).encode_to_vec().as_slice()].concat()
}

fn proto(descriptor: &MessageDescriptor, json: &Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in json.as_object().unwrap() {
        let field = descriptor.get_field_by_name(name).unwrap_or_else(|| panic!("no field {name}"));
        let value = match field.kind() {
            _ if field.is_map() => {
                let text = |value: &Value| Field::String(value.as_str().unwrap().to_owned());
                Field::Map(
                    value.as_object().unwrap().iter().map(|(k, v)| (MapKey::String(k.clone()), text(v))).collect(),
                )
            }
            Kind::String => Field::String(value.as_str().unwrap().to_owned()),
            Kind::Bool => Field::Bool(value.as_bool().unwrap()),
            Kind::Int64 => Field::I64(value.as_i64().unwrap()),
            Kind::Message(kind) if kind.full_name() == "google.protobuf.Timestamp" => {
                let micros = micros(value);
                let mut time = DynamicMessage::new(kind);
                time.set_field_by_name("seconds", Field::I64(micros.div_euclid(1_000_000)));
                time.set_field_by_name(
                    "nanos",
                    Field::I32(i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap()),
                );
                Field::Message(time)
            }
            Kind::Message(kind) => Field::Message(proto(&kind, value)),
            other => panic!("{other:?}"),
        };
        message.set_field(&field, value);
    }
    message
}
