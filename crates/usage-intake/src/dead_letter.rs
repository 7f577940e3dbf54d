//! A dead letter: what `usage.rejected` keeps of a record that was refused, so that it can be understood, and sent again once mended.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use usage_types::{RejectCode, Rejection, TimeUs};

use crate::Headers;

/// A record as it came from the log.
#[derive(Debug, Clone, Copy)]
pub struct RecordParts<'r> {
    /// The topic that it was read from.
    pub topic: &'r str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When the log took it.
    pub append_time: TimeUs,
    /// Its key.
    pub key: Option<&'r [u8]>,
    /// Its value.
    pub value: Option<&'r [u8]>,
    /// Its headers.
    pub headers: Headers<'r>,
}

/// One refused record: the JSON value on `usage.rejected`, described by `schemas/rejected.v1.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The topic that it was read from.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset: with topic and partition it names the record.
    pub offset: i64,
    /// When the log took it.
    pub append_time: TimeUs,
    /// Why it was refused: for programs.
    pub code: RejectCode,
    /// The field's path, where one field is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong and what to write instead.
    pub message: String,
    /// Its key in base64, the first [`DeadLetter::KEY_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// Its value in base64, the first [`DeadLetter::VALUE_BYTES_MAX`] bytes; `None` where the record had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// The whole value's length in bytes; larger than what `value_base64` holds where that was cut.
    pub value_bytes: u64,
    /// Its headers, as far as they fit [`DeadLetter::HEADERS_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<DeadLetterHeader>,
}

/// One header of a refused record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterHeader {
    /// Its name.
    pub name: String,
    /// Its value in base64.
    pub value_base64: String,
}

impl DeadLetter {
    /// How much of a key is kept, in bytes.
    pub const KEY_BYTES_MAX: usize = 4 * 1024;
    /// How much of a value is kept, in bytes: all that the default [`crate::IntakeLimits`] would have read. In base64 it stays well
    /// below the megabyte that Kafka takes for one record.
    pub const VALUE_BYTES_MAX: usize = 256 * 1024;
    /// How much of the headers is kept, names and values together, in bytes.
    pub const HEADERS_BYTES_MAX: usize = 16 * 1024;

    /// The dead letter of a refused record.
    #[must_use]
    pub fn new(record: &RecordParts<'_>, rejection: &Rejection) -> Self {
        let head = |bytes: &[u8], max: usize| BASE64_STANDARD.encode(&bytes[..bytes.len().min(max)]);
        let mut room = Self::HEADERS_BYTES_MAX;
        let fits = |(name, value): &(&str, &[u8])| {
            let left = room.checked_sub(name.len() + value.len());
            room = left.unwrap_or(room);
            left.is_some()
        };
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            append_time: record.append_time,
            code: rejection.code,
            field: rejection.field.clone(),
            message: rejection.message.clone(),
            key_base64: record.key.map(|key| head(key, Self::KEY_BYTES_MAX)),
            value_base64: record.value.map(|value| head(value, Self::VALUE_BYTES_MAX)),
            value_bytes: record.value.map_or(0, |value| value.len() as u64),
            headers: (record.headers.iter().filter(fits))
                .map(|(name, value)| DeadLetterHeader {
                    name: name.to_owned(),
                    value_base64: BASE64_STANDARD.encode(value),
                })
                .collect(),
        }
    }
}
