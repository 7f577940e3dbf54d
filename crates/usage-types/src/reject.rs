//! Why an event was refused: the code that programs read and the sentence that people read.

use serde::{Deserialize, Serialize};

/// The reason code of a dead letter or of an HTTP problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// The record has no value, or an empty one.
    Empty,
    /// Larger than the size limit.
    TooLarge,
    /// Not valid UTF-8.
    BadUtf8,
    /// Not JSON.
    NotJson,
    /// JSON, but a field has the wrong type.
    WrongType,
    /// A required field is missing.
    MissingField,
    /// A number is negative.
    Negative,
    /// A value is outside what the field allows (too long, too many, too large).
    OutOfRange,
    /// A field that must be known is not, like a token class.
    UnknownField,
    /// The time is no RFC 3339 time, or absurd.
    BadTime,
    /// A CloudEvents `specversion` other than 1.0.
    UnknownSpecVersion,
    /// A content type or encoding that we do not read.
    UnsupportedFormat,
    /// Avro or Protobuf whose bytes are not what their schema says.
    BadEncoding,
    /// A schema id that the registry does not know, or a schema that is none of usage events.
    UnknownSchema,
    /// Nothing was used: no tokens, no other measure.
    NoMeasure,
    /// It corrects an event that was not counted, is void already, or is itself a correction.
    UnknownOriginal,
}

impl RejectCode {
    /// All codes, in the order of their documentation.
    pub const ALL: [Self; 16] = [
        Self::Empty,
        Self::TooLarge,
        Self::BadUtf8,
        Self::NotJson,
        Self::WrongType,
        Self::MissingField,
        Self::Negative,
        Self::OutOfRange,
        Self::UnknownField,
        Self::BadTime,
        Self::UnknownSpecVersion,
        Self::UnsupportedFormat,
        Self::BadEncoding,
        Self::UnknownSchema,
        Self::NoMeasure,
        Self::UnknownOriginal,
    ];

    /// The code as text, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::BadUtf8 => "bad_utf8",
            Self::NotJson => "not_json",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::Negative => "negative",
            Self::OutOfRange => "out_of_range",
            Self::UnknownField => "unknown_field",
            Self::BadTime => "bad_time",
            Self::UnknownSpecVersion => "unknown_spec_version",
            Self::UnsupportedFormat => "unsupported_format",
            Self::BadEncoding => "bad_encoding",
            Self::UnknownSchema => "unknown_schema",
            Self::NoMeasure => "no_measure",
            Self::UnknownOriginal => "unknown_original",
        }
    }
}

/// Why one event was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// For programs.
    pub code: RejectCode,
    /// The field's path in the event, like `tokens.input`; `None` where the whole event is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For people: what is wrong and what to write instead.
    pub message: String,
}

impl Rejection {
    /// A rejection of the whole event.
    pub fn new(code: RejectCode, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into() }
    }

    /// A rejection of one field.
    pub fn field(code: RejectCode, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, field: Some(field.into()), message: message.into() }
    }
}
