//! Export requests in Protobuf. Spans and log records stay bytes until their turn, so that one that cannot be read costs only itself, and
//! a large request is never in memory as messages.
//!
//! The messages here are the parts that are read of those in `opentelemetry/proto` (1.x, where field numbers are stable); a field that is
//! not named is skipped by its wire type. Tests write the generated messages and read these; the generated ones would bring OpenTelemetry's SDK
//! into the program.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message, Oneof};

use crate::decode::{Level, Parts, Raw, Signal};
use crate::{ITEMS_MAX, OtlpError};

/// The part of a `Resource` that is read.
#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

/// The part of an `InstrumentationScope` that is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InstrumentationScope {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<AnyValue>,
}

/// An attribute's value, or the body of a log record.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) value: Option<Value>,
}

/// What an attribute can be. Lists, maps and bytes stay unread: nothing here is told by one.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Value {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(bytes = "bytes", tag = "5")]
    Array(Bytes),
    #[prost(bytes = "bytes", tag = "6")]
    Kvlist(Bytes),
    #[prost(bytes = "bytes", tag = "7")]
    Bytes(Bytes),
}

/// The part of a `Span` that is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Span {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) trace_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) span_id: Bytes,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(fixed64, tag = "8")]
    pub(crate) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(crate) attributes: Vec<KeyValue>,
}

/// The part of a `LogRecord` that is read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogRecord {
    #[prost(fixed64, tag = "1")]
    pub(crate) time_unix_nano: u64,
    #[prost(message, optional, tag = "5")]
    pub(crate) body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) attributes: Vec<KeyValue>,
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) trace_id: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) span_id: Bytes,
    #[prost(fixed64, tag = "11")]
    pub(crate) observed_time_unix_nano: u64,
    #[prost(string, tag = "12")]
    pub(crate) event_name: String,
}

/// The field of a single message in `ResourceSpans`, `ScopeSpans` and their siblings of logs: the resource or the scope.
const HEAD: u32 = 1;

/// Cuts one message into its parts without copying them. The requests themselves have a list in field 1, the messages beneath in field 2.
fn parts(message: &Bytes, level: Level) -> Result<Parts<Bytes>, OtlpError> {
    let broken = |error: DecodeError| OtlpError::NotProtobuf(error.to_string());
    let list = if level == Level::Request { 1 } else { 2 };
    let (mut rest, mut parts) = (message.clone(), Parts { head: None, items: Vec::new() });
    while rest.has_remaining() {
        let (field, wire_type) = decode_key(&mut rest).map_err(broken)?;
        if wire_type != WireType::LengthDelimited || (field != list && field != HEAD) {
            skip_field(wire_type, field, &mut rest, DecodeContext::default()).map_err(broken)?;
            continue;
        }
        let length = decode_varint(&mut rest).map_err(broken)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
        let Some(length) = length else {
            return Err(OtlpError::NotProtobuf("a field is longer than the message that holds it".to_owned()));
        };
        let part = rest.split_to(length);
        if field != list {
            parts.head = Some(part);
        } else if parts.items.len() < ITEMS_MAX {
            parts.items.push(part);
        } else {
            return Err(OtlpError::TooMany(ITEMS_MAX));
        }
    }
    Ok(parts)
}

fn read<M: Message + Default>(bytes: &Bytes) -> Result<M, String> {
    M::decode(bytes.clone()).map_err(|error| error.to_string())
}

impl Raw for Bytes {
    fn parts(&self, level: Level, _: Signal) -> Result<Parts<Self>, OtlpError> {
        parts(self, level)
    }
    fn resource(&self) -> Result<Vec<KeyValue>, String> {
        read::<Resource>(self).map(|resource| resource.attributes)
    }
    fn scope(&self) -> Result<InstrumentationScope, String> {
        read(self)
    }
    fn span(&self) -> Result<Span, String> {
        read(self)
    }
    fn log_record(&self) -> Result<LogRecord, String> {
        read(self)
    }
}
