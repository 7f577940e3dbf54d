//! The walk over a request: resource by resource, scope by scope, span by span, whatever the encoding.

use bytes::Bytes;
use usage_types::{RejectCode, Rejection, UsageEvent};

use crate::attributes::{Attributes, bounded};
use crate::protobuf::{InstrumentationScope, KeyValue, LogRecord, Span};
use crate::{Decoded, Encoding, ITEMS_MAX, OtlpError, OtlpMap, Refused, claude_code, gen_ai, json};

/// Which of the two kinds of request is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
}

/// Where in a request a message stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The request, a list of resources.
    Request,
    /// A resource with a list of scopes.
    Resource,
    /// A scope with a list of spans or log records.
    Scope,
}

/// A message cut into its parts, unread: what the list is of (the resource or scope), and the list.
pub(crate) struct Parts<I> {
    pub(crate) head: Option<I>,
    pub(crate) items: Vec<I>,
}

/// A message that has not been read yet.
pub(crate) trait Raw: Sized {
    /// Cuts it, into at most [`ITEMS_MAX`] items.
    fn parts(&self, level: Level, signal: Signal) -> Result<Parts<Self>, OtlpError>;
    fn resource(&self) -> Result<Vec<KeyValue>, String>;
    fn scope(&self) -> Result<InstrumentationScope, String>;
    fn span(&self) -> Result<Span, String>;
    fn log_record(&self) -> Result<LogRecord, String>;
}

/// What became of one span or log record.
pub(crate) enum Outcome {
    Event(Box<UsageEvent<'static>>),
    Ignored,
    /// It tells of usage by an operation that is not known.
    UnknownOperation(String),
    Rejected(Rejection),
}

/// Reads an `ExportTraceServiceRequest`.
///
/// # Errors
/// The body is no such message, or has too many spans. What is wrong with single spans is in [`Decoded::reasons`].
pub fn decode_traces(body: &Bytes, encoding: Encoding, map: &OtlpMap) -> Result<Decoded, OtlpError> {
    decode(body, encoding, Signal::Traces, map)
}

/// Reads an `ExportLogsServiceRequest`.
///
/// # Errors
/// The body is no such message, or has too many log records. What is wrong with single ones is in [`Decoded::reasons`].
pub fn decode_logs(body: &Bytes, encoding: Encoding, map: &OtlpMap) -> Result<Decoded, OtlpError> {
    decode(body, encoding, Signal::Logs, map)
}

fn decode(body: &Bytes, encoding: Encoding, signal: Signal, map: &OtlpMap) -> Result<Decoded, OtlpError> {
    match encoding {
        Encoding::Protobuf => walk(body, signal, map),
        Encoding::Json => walk(&json::whole(body)?, signal, map),
    }
}

fn walk<I: Raw>(request: &I, signal: Signal, map: &OtlpMap) -> Result<Decoded, OtlpError> {
    let (mut decoded, mut index) = (Decoded::default(), 0);
    for group in request.parts(Level::Request, signal)?.items {
        let group = group.parts(Level::Resource, signal)?;
        let resource = group.head.as_ref().map_or(Ok(Vec::new()), Raw::resource);
        for scope_group in group.items {
            let scope_group = scope_group.parts(Level::Scope, signal)?;
            let scope = scope_group.head.as_ref().map_or(Ok(InstrumentationScope::default()), Raw::scope);
            for item in scope_group.items {
                if index == ITEMS_MAX as u64 {
                    return Err(OtlpError::TooMany(ITEMS_MAX));
                }
                let outcome = match (&resource, &scope) {
                    (Ok(resource), Ok(scope)) => read(&item, signal, resource, scope, map),
                    (Err(error), _) => Outcome::Rejected(unreadable("its resource", error)),
                    (_, Err(error)) => Outcome::Rejected(unreadable("its scope", error)),
                };
                decoded.take(index, outcome);
                index += 1;
            }
        }
    }
    Ok(decoded)
}

fn read<I: Raw>(
    item: &I,
    signal: Signal,
    resource: &[KeyValue],
    scope: &InstrumentationScope,
    map: &OtlpMap,
) -> Outcome {
    match signal {
        Signal::Traces => match item.span() {
            Ok(span) => gen_ai::span(&span, &Attributes::new(&span.attributes, scope, resource), map),
            Err(error) => Outcome::Rejected(unreadable("the span", &error)),
        },
        Signal::Logs => match item.log_record() {
            Ok(record) => {
                let attributes = Attributes::new(&record.attributes, scope, resource);
                match claude_code::is_api_request(&record, &attributes) {
                    true => claude_code::api_request(&record, &attributes, map),
                    false => gen_ai::log_record(&record, &attributes, map),
                }
            }
            Err(error) => Outcome::Rejected(unreadable("the log record", &error)),
        },
    }
}

fn unreadable(what: &str, error: &str) -> Rejection {
    Rejection::new(RejectCode::UnsupportedFormat, bounded(format!("{what} cannot be read: {error}")))
}

impl Decoded {
    fn take(&mut self, index: u64, outcome: Outcome) {
        match outcome {
            Outcome::Event(event) => self.events.push(*event),
            Outcome::Ignored => self.ignored += 1,
            Outcome::UnknownOperation(name) => {
                self.ignored += 1;
                self.unknown_operation.get_or_insert(name);
            }
            Outcome::Rejected(rejection) => {
                self.rejected += 1;
                if self.reasons.len() < Self::REASONS_MAX {
                    self.reasons.push(Refused { index, rejection });
                }
            }
        }
    }
}
