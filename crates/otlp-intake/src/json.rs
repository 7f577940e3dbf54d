//! Export requests in OTLP's JSON, read into the same messages as Protobuf. As there, spans and log records stay text until their turn.
//!
//! Not by the `serde` support of the generated types: that refuses a whole request for an `arrayValue` without values, for `null` in place
//! of a list, for a `doubleValue` of `"NaN"` and for an `intValue` of `5.0`, all of which the JSON mapping of Protobuf allows. Only members that
//! are used are read; all others are skipped unseen, as the specification asks.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::decode::{Level, Parts, Raw, Signal};
use crate::protobuf::{AnyValue, InstrumentationScope, KeyValue, LogRecord, Span, Value};
use crate::{ITEMS_MAX, OtlpError};

#[derive(Deserialize)]
struct JsonResource {
    attributes: Option<Vec<JsonKeyValue>>,
}

#[derive(Deserialize)]
struct JsonScope {
    name: Option<String>,
    attributes: Option<Vec<JsonKeyValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan {
    trace_id: Option<Hex>,
    span_id: Option<Hex>,
    name: Option<String>,
    end_time_unix_nano: Option<Unsigned>,
    attributes: Option<Vec<JsonKeyValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonLogRecord {
    time_unix_nano: Option<Unsigned>,
    observed_time_unix_nano: Option<Unsigned>,
    trace_id: Option<Hex>,
    span_id: Option<Hex>,
    event_name: Option<String>,
    body: Option<JsonValue>,
    attributes: Option<Vec<JsonKeyValue>>,
}

#[derive(Deserialize)]
struct JsonKeyValue {
    key: Option<String>,
    value: Option<JsonValue>,
}

impl From<JsonKeyValue> for KeyValue {
    fn from(pair: JsonKeyValue) -> Self {
        let value = pair.value.map(AnyValue::from);
        Self { key: pair.key.unwrap_or_default(), value }
    }
}

fn attributes(pairs: Option<Vec<JsonKeyValue>>) -> Vec<KeyValue> {
    pairs.unwrap_or_default().into_iter().map(KeyValue::from).collect()
}

/// The body as one unread message.
pub(crate) fn whole(body: &[u8]) -> Result<&RawValue, OtlpError> {
    serde_json::from_slice(body).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> OtlpError {
    OtlpError::NotJson(error.to_string())
}

/// An object of which one member is a single message and one a list of them; all others are skipped.
struct PartsOf {
    head: &'static str,
    list: &'static str,
}

impl<'de> DeserializeSeed<'de> for PartsOf {
    type Value = Result<Parts<&'de RawValue>, OtlpError>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PartsOf {
    type Value = Result<Parts<&'de RawValue>, OtlpError>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.list)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut head, mut items) = (None, List { items: Vec::new(), is_cut: false });
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == self.list {
                items = map.next_value()?;
            } else if name == self.head {
                head = map.next_value::<Option<&RawValue>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(if items.is_cut { Err(OtlpError::TooMany(ITEMS_MAX)) } else { Ok(Parts { head, items: items.items }) })
    }
}

/// Unread messages, no more than a request may have: a body of nothing but commas and braces must not fill the memory.
struct List<'a> {
    items: Vec<&'a RawValue>,
    is_cut: bool,
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = List<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_unit<E: Error>(self) -> Result<List<'de>, E> {
                Ok(List { items: Vec::new(), is_cut: false })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<'de>, A::Error> {
                let mut items = Vec::new();
                while items.len() < ITEMS_MAX {
                    let Some(item) = list.next_element()? else { return Ok(List { items, is_cut: false }) };
                    items.push(item);
                }
                let is_cut = list.next_element::<IgnoredAny>()?.is_some();
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List { items, is_cut })
            }
        }
        deserializer.deserialize_any(Items)
    }
}

fn read<T: DeserializeOwned>(json: &RawValue) -> Result<T, String> {
    serde_json::from_str(json.get()).map_err(|error| error.to_string())
}

impl<'a> Raw for &'a RawValue {
    fn parts(&self, level: Level, signal: Signal) -> Result<Parts<Self>, OtlpError> {
        let (head, list) = match (level, signal) {
            (Level::Request, Signal::Traces) => ("", "resourceSpans"),
            (Level::Request, Signal::Logs) => ("", "resourceLogs"),
            (Level::Resource, Signal::Traces) => ("resource", "scopeSpans"),
            (Level::Resource, Signal::Logs) => ("resource", "scopeLogs"),
            (Level::Scope, Signal::Traces) => ("scope", "spans"),
            (Level::Scope, Signal::Logs) => ("scope", "logRecords"),
        };
        let text: &'a str = self.get();
        PartsOf { head, list }.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(not_json)?
    }
    fn resource(&self) -> Result<Vec<KeyValue>, String> {
        read::<Option<JsonResource>>(self).map(|resource| attributes(resource.and_then(|resource| resource.attributes)))
    }
    fn scope(&self) -> Result<InstrumentationScope, String> {
        let Some(scope) = read::<Option<JsonScope>>(self)? else { return Ok(InstrumentationScope::default()) };
        Ok(InstrumentationScope { name: scope.name.unwrap_or_default(), attributes: attributes(scope.attributes) })
    }
    fn span(&self) -> Result<Span, String> {
        let span: JsonSpan = read(self)?;
        Ok(Span {
            trace_id: span.trace_id.unwrap_or_default().0,
            span_id: span.span_id.unwrap_or_default().0,
            name: span.name.unwrap_or_default(),
            end_time_unix_nano: span.end_time_unix_nano.unwrap_or_default().0,
            attributes: attributes(span.attributes),
        })
    }
    fn log_record(&self) -> Result<LogRecord, String> {
        let record: JsonLogRecord = read(self)?;
        Ok(LogRecord {
            time_unix_nano: record.time_unix_nano.unwrap_or_default().0,
            observed_time_unix_nano: record.observed_time_unix_nano.unwrap_or_default().0,
            trace_id: record.trace_id.unwrap_or_default().0,
            span_id: record.span_id.unwrap_or_default().0,
            event_name: record.event_name.unwrap_or_default(),
            body: record.body.map(AnyValue::from),
            attributes: attributes(record.attributes),
        })
    }
}

/// Bytes in hexadecimal of either case.
#[derive(Default)]
struct Hex(Bytes);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(|bytes| Self(bytes.into())).ok_or_else(|| D::Error::custom("an id is no hexadecimal text"))
    }
}

/// A 64-bit number as a number or as text.
#[derive(Default)]
struct Unsigned(u64);

impl<'de> Deserialize<'de> for Unsigned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Unsigned;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nanoseconds as a whole number, in quotes or without")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Unsigned, E> {
                Ok(Unsigned(value))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Unsigned, E> {
                text.parse().map(Unsigned).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// An attribute's value.
struct JsonValue(Option<Value>);

impl From<JsonValue> for AnyValue {
    fn from(value: JsonValue) -> Self {
        Self { value: value.0 }
    }
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = JsonValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an attribute's value like {\"intValue\": \"900\"}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonValue, A::Error> {
                let mut value = None;
                while let Some(kind) = map.next_key::<Kind>()? {
                    match kind {
                        Kind::Text => value = map.next_value::<Option<String>>()?.map(Value::String).or(value),
                        Kind::Bool => value = map.next_value::<Option<bool>>()?.map(Value::Bool).or(value),
                        Kind::Number => value = map.next_value::<Option<Number>>()?.map(|number| number.0).or(value),
                        Kind::Unread => value = map.next_value::<Option<IgnoredAny>>()?.map(|_| UNREAD).or(value),
                        Kind::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(JsonValue(value))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[derive(Deserialize)]
enum Kind {
    #[serde(rename = "stringValue")]
    Text,
    #[serde(rename = "boolValue")]
    Bool,
    #[serde(rename = "intValue", alias = "doubleValue")]
    Number,
    #[serde(rename = "arrayValue", alias = "kvlistValue", alias = "bytesValue")]
    Unread,
    #[serde(other)]
    Other,
}

/// What stands for a list, a map or bytes.
const UNREAD: Value = Value::Bytes(Bytes::new());

/// An `intValue` or a `doubleValue`, as a number or as text.
struct Number(Value);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, in quotes or without")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
                Ok(Number(Value::Int(value)))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
                // Beyond what Protobuf's `int64` holds, so that it is out of range for whoever reads it.
                Ok(Number(i64::try_from(value).map_or(Value::Double(value as f64), Value::Int)))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Number, E> {
                Ok(Number(Value::Double(value)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                let int = text.parse().map(Value::Int).ok();
                // Rust reads "NaN" and "Infinity" as Protobuf's JSON writes them.
                int.or_else(|| text.parse().map(Value::Double).ok())
                    .map(Number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
