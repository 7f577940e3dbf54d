//! A record of `usage.events` as the worker reads it: out of the reader's memory, or out of what was kept back.

use std::borrow::Cow;

use event_log::{RecordView, topics};
use usage_intake::{DeadLetter, Headers, Intake, RecordParts, schema_id};
use usage_lake::{REJECTED_VALUE_BYTES_MAX, RejectedRow};
use usage_types::{EventPosition, Rejection, TimeUs};

use super::counted::{Decoded, Refused};
use super::schemas::Schemas;

/// A record; only headers whose names are text.
pub struct Record<'a> {
    /// Where it stands.
    pub position: EventPosition,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Vec<(&'a str, &'a [u8])>,
    key: Option<&'a [u8]>,
}

/// The same with memory of its own.
pub struct KeptRecord {
    /// Where it stands.
    pub position: EventPosition,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    key: Option<Vec<u8>>,
}

impl<'a> Record<'a> {
    /// The id of its schema, where its value starts with a registry's prefix.
    pub fn schema_id(&self) -> Option<u32> {
        schema_id(self.value?)
    }

    /// A copy with memory of its own.
    pub fn keep(&self) -> KeptRecord {
        KeptRecord {
            position: self.position,
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect(),
            key: self.key.map(<[u8]>::to_vec),
        }
    }

    /// As an event with an id, or as a dead letter. A framed one is read by the schema that it names, where there is a registry.
    pub fn decode(&self, intake: &Intake, schemas: Option<&Schemas>) -> Decoded<'a> {
        let position = self.position;
        let (headers, received_at) = (Headers::new(&self.headers), Some(position.append_time));
        let writer = schemas.and_then(|schemas| schemas.get(self.schema_id()?));
        let event = match (self.value, writer) {
            (Some(value), Some(writer)) => intake.decode_framed(value, &headers, received_at, Some(writer)),
            (value, _) => intake.decode_record(value, &headers, received_at),
        };
        let outcome = match event {
            Ok(mut event) => {
                if event.id.is_none() {
                    let (partition, offset) = (position.partition, position.offset);
                    event.id = Some(Cow::Owned(format!("{}/{partition}/{offset}", topics::USAGE_EVENTS)));
                }
                Ok(event)
            }
            Err(rejection) => Err(Box::new(self.refused(rejection))),
        };
        Decoded { position, outcome }
    }

    /// As a dead letter.
    pub fn refused(&self, rejection: Rejection) -> Refused {
        let position = self.position;
        let parts = RecordParts {
            topic: topics::USAGE_EVENTS,
            partition: position.partition,
            offset: position.offset,
            append_time: position.append_time,
            key: self.key,
            value: self.value,
            headers: Headers::new(&self.headers),
        };
        let letter = DeadLetter::new(&parts, &rejection);
        let shown =
            |bytes: Option<&[u8]>| bytes.map(|bytes| bytes[..bytes.len().min(REJECTED_VALUE_BYTES_MAX)].to_vec());
        Refused { letter, row: RejectedRow { position, rejection, key: shown(self.key), value: shown(self.value) } }
    }
}

impl<'a> From<&RecordView<'a>> for Record<'a> {
    fn from(view: &RecordView<'a>) -> Self {
        let position = EventPosition {
            partition: view.partition,
            offset: view.offset,
            append_time: TimeUs::from_millis(view.append_time_ms),
        };
        let headers = if view.headers.is_empty() {
            Vec::new()
        } else {
            view.headers.iter().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value?))).collect()
        };
        Self { position, value: view.value, headers, key: view.key }
    }
}

impl<'a> From<&'a KeptRecord> for Record<'a> {
    fn from(kept: &'a KeptRecord) -> Self {
        let headers = kept.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        Self { position: kept.position, value: kept.value.as_deref(), headers, key: kept.key.as_deref() }
    }
}
