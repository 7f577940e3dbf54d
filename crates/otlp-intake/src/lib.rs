//! OpenTelemetry to usage events: pure functions from the body of an OTLP export request to [`UsageEvent`]s.
//!
//! What is counted, each call of a model once:
//! - a **span** that carries token counts by the GenAI semantic conventions (or OpenInference's) and whose operation is a call of a model
//!   ([`OtlpMap::operations`]) or is not named. A span of an agent, a workflow or a tool repeats what its children spent, so its counts
//!   are not counted again;
//! - a **log record** `gen_ai.client.inference.operation.details`, which repeats a span's attributes and gets the same id, so that whichever
//!   comes second is a duplicate;
//! - Claude Code's **log record** `claude_code.api_request`. Its metrics and spans repeat it and are left alone.
//!
//! Everything else is ignored and not refused. Holds here: token classes end up disjoint (`usage` says how each source counts); one span
//! that is wrong or unreadable costs only itself; an export that is repeated gives the same ids; prompts and answers are dropped.
//! Deliberately absent: I/O, clocks, decompression, metrics (they cannot be told apart by request, so they cannot be counted once), and
//! prices.

mod attributes;
mod claude_code;
mod decode;
mod gen_ai;
mod id;
mod json;
mod protobuf;
mod usage;

use usage_types::{Rejection, UsageEvent};

pub use decode::{decode_logs, decode_traces};
pub use usage_intake::OtlpMap;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary Protobuf.
    Protobuf,
    /// OTLP's JSON: ids in hexadecimal, 64-bit numbers as text or number.
    Json,
}

/// What was in an export request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The usage, one event a call of a model, in the order of the request.
    pub events: Vec<UsageEvent<'static>>,
    /// Spans or log records that tell of no usage, or repeat what others tell.
    pub ignored: u64,
    /// Spans or log records that tell of usage and are wrong.
    pub rejected: u64,
    /// Why: the first [`Self::REASONS_MAX`] of them.
    pub reasons: Vec<Refused>,
    /// The first operation that is neither counted nor known to repeat others, though its span tells of usage. An operator should look at
    /// it: it belongs into [`OtlpMap::operations`] (`opentelemetry.operations` of the intake file) if it is a call of a model.
    pub unknown_operation: Option<String>,
}

impl Decoded {
    /// How many reasons are kept.
    pub const REASONS_MAX: usize = 8;
}

/// A span or log record that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the request, from 0, counting over all resources and scopes.
    pub index: u64,
    /// Why; the field is the attribute's name.
    pub rejection: Rejection,
}

/// Why a body could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The body is no Protobuf message of this kind.
    #[error("the body is no OTLP message in Protobuf: {0}; send what an OTLP exporter sends")]
    NotProtobuf(String),
    /// The body is no JSON of this kind.
    #[error("the body is no OTLP message in JSON: {0}; send what an OTLP exporter sends")]
    NotJson(String),
    /// More spans or log records than one request may have.
    #[error("more than {0} spans or log records in one request; set a smaller batch size in the exporter")]
    TooMany(usize),
}

/// The most spans or log records in one request: forty times what an SDK sends by default, twice what a collector does.
pub const ITEMS_MAX: usize = 20_000;
