//! Records of a schema registry's serializers: a zero byte, the schema's id, and the event in Avro, Protobuf or JSON.
//!
//! The event is written as native JSON and read as such, so that there is one mapping and one set of rules, and a refusal names the
//! same field. Members that the native event does not know are left out, as there.
//! Deliberately absent: asking a registry. The caller knows which schema an id stands for; where nobody does, our published one counts,
//! of Avro the first one.

mod avro;
mod avro_schema;
mod json;
mod protobuf;

use usage_types::{RejectCode, Rejection, TimeUs, UsageEvent};

use crate::cloudevents;
use crate::field::bounded;
use crate::headers::{Binding, Headers};
use crate::intake::{Intake, read, text};
use crate::native;
use avro::AvroWriter;
use protobuf::ProtobufWriter;

/// The first byte of a prefix: no JSON text starts with it.
const MAGIC: u8 = 0;
/// The magic byte and the schema's id.
const PREFIX_BYTES: usize = 5;

/// In what a framed event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Avro's binary encoding.
    #[default]
    Avro,
    /// Protobuf, after the index of its message.
    Protobuf,
    /// JSON.
    Json,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Protobuf, Self::Json];

    /// The name in the configuration; in capitals a registry's `schemaType`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
            Self::Json => "json",
        }
    }

    /// The encoding of this name, whatever its case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }
}

/// The schema's id of a value that starts with a registry's prefix; `None` where it does not.
#[must_use]
pub fn schema_id(value: &[u8]) -> Option<u32> {
    match value {
        [MAGIC, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// A schema with which events were written, made ready for reading them.
#[derive(Debug)]
pub struct WriterSchema(Writer);

#[derive(Debug)]
enum Writer {
    Avro(AvroWriter),
    Protobuf(ProtobufWriter),
    Json,
    Refused(Rejection),
}

impl WriterSchema {
    /// Reads a schema's text as a registry keeps it: Avro's JSON, a `.proto` (or its descriptor in base64), a JSON Schema. `references` are the
    /// texts of the schemas that it refers to.
    ///
    /// One that cannot be a usage event's is taken, too: every record of it is then refused for that reason.
    #[must_use]
    pub fn new(encoding: Encoding, schema: &str, references: &[String]) -> Self {
        let writer = match encoding {
            Encoding::Avro => AvroWriter::new(schema, references).map(Writer::Avro),
            Encoding::Protobuf => ProtobufWriter::new(schema).map(Writer::Protobuf),
            Encoding::Json => Ok(Writer::Json),
        };
        Self(
            writer
                .unwrap_or_else(|message| Writer::Refused(Rejection::new(RejectCode::UnknownSchema, bounded(message)))),
        )
    }

    /// In the place of a schema that the registry does not know, or that is of no known type: `message` says so.
    #[must_use]
    pub fn unknown(message: impl Into<String>) -> Self {
        Self(Writer::Refused(Rejection::new(RejectCode::UnknownSchema, bounded(message.into()))))
    }
}

impl Intake {
    /// Reads one record's value that starts with a schema registry's prefix, written with the schema `writer`. Without one the header
    /// `content-type` says what it is, else the configuration, and it was written with our published schema (Avro: `usage-event.v1-0.avsc`).
    ///
    /// Headers and `received_at` are as for [`Intake::decode_record`].
    ///
    /// # Errors
    /// The [`Rejection`] says which rule the event breaks, or that it cannot be read with this schema.
    pub fn decode_framed<'a>(
        &self,
        value: &'a [u8],
        headers: &Headers<'_>,
        received_at: Option<TimeUs>,
        writer: Option<&WriterSchema>,
    ) -> Result<UsageEvent<'a>, Rejection> {
        self.check_size(value)?;
        let (declared, binding) = headers.framed_binding()?;
        let Some(bytes) = value.get(PREFIX_BYTES..) else {
            return self.decode_record(Some(value), headers, received_at);
        };
        let named = self.named(headers)?;
        let json = match writer.map(|writer| &writer.0) {
            Some(Writer::Avro(writer)) => writer.to_json(bytes)?,
            Some(Writer::Protobuf(writer)) => writer.to_json(bytes)?,
            Some(Writer::Refused(rejection)) => return Err(rejection.clone()),
            Some(Writer::Json) => return read(text(bytes)?, binding, headers, &self.site(&named, received_at)),
            None => match declared.unwrap_or(self.config.framed) {
                Encoding::Avro => AvroWriter::without_registry().to_json(bytes)?,
                Encoding::Protobuf => ProtobufWriter::published().to_json(bytes)?,
                Encoding::Json => return read(text(bytes)?, binding, headers, &self.site(&named, received_at)),
            },
        };
        let event = match binding {
            Binding::Binary => cloudevents::binary(&json, headers, &self.site(&named, received_at)),
            Binding::Undeclared | Binding::Structured => native::decode(&json, None, &named),
        };
        event.map(UsageEvent::into_owned)
    }
}
