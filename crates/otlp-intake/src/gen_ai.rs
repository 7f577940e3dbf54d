//! Spans and log records by the GenAI semantic conventions, their predecessors, and OpenInference.

use std::borrow::Cow;
use std::collections::BTreeMap;

use usage_types::{ComputeNs, Dimension, Dimensions, RejectCode, Rejection, Role, TimeUs, Tokens, UsageEvent};

use crate::attributes::{Attributes, text_of};
use crate::decode::Outcome;
use crate::protobuf::{LogRecord, Span};
use crate::{OtlpMap, id, usage};

/// The log record that repeats a span's attributes.
const DETAILS_EVENT: &str = "gen_ai.client.inference.operation.details";

/// Operations that are no call of a model: what they spend is what the calls beneath them spend, or nothing. From the conventions.
const REPEATING: &[&str] = &[
    "create_agent",
    "invoke_agent",
    "invoke_workflow",
    "execute_tool",
    "plan",
    "retrieval",
    "fetch_response",
    "create_memory",
    "update_memory",
    "delete_memory",
    "search_memory",
];

/// 2000-01-01T00:00:00Z in nanoseconds: nothing that bills AI is older, so an earlier time is a sender's mistake (often 0).
const EARLIEST_NS: u64 = 946_684_800_000_000_000;

/// Reads a span.
pub(crate) fn span(span: &Span, attributes: &Attributes<'_>, map: &OtlpMap) -> Outcome {
    if !attributes.own().iter().any(|pair| usage::tells_of_usage(&pair.key)) || span.name.starts_with("claude_code.") {
        return Outcome::Ignored;
    }
    match operation(attributes, map) {
        Operation::Call(operation) => event(|| {
            let response_id = attributes.own_text(&["gen_ai.response.id"])?;
            let id = id::of_call(response_id, &span.trace_id, &span.span_id)
                .unwrap_or_else(|| id::of_content(span.end_time_unix_nano, &span.name, attributes.own()));
            build(attributes, map, id, operation, time("endTimeUnixNano", span.end_time_unix_nano)?)
        }),
        Operation::Repeats => Outcome::Ignored,
        Operation::Unknown(name) => Outcome::UnknownOperation(name),
    }
}

/// Reads a log record.
pub(crate) fn log_record(record: &LogRecord, attributes: &Attributes<'_>, map: &OtlpMap) -> Outcome {
    if event_name(record, attributes).as_deref() != Some(DETAILS_EVENT)
        || !attributes.own().iter().any(|pair| usage::tells_of_usage(&pair.key))
    {
        return Outcome::Ignored;
    }
    match operation(attributes, map) {
        Operation::Call(operation) => event(|| {
            let response_id = attributes.own_text(&["gen_ai.response.id"])?;
            let (name, time_ns) = record_time(record);
            let id = id::of_call(response_id, &record.trace_id, &record.span_id)
                .unwrap_or_else(|| id::of_content(time_ns, DETAILS_EVENT, attributes.own()));
            build(attributes, map, id, operation, time(name, time_ns)?)
        }),
        Operation::Repeats => Outcome::Ignored,
        Operation::Unknown(name) => Outcome::UnknownOperation(name),
    }
}

/// A log record's name: its field, or the attribute that carried it before there was one, or its body as Claude Code has it.
pub(crate) fn event_name<'a>(record: &'a LogRecord, attributes: &Attributes<'_>) -> Option<Cow<'a, str>> {
    if !record.event_name.is_empty() {
        return Some(Cow::Borrowed(&record.event_name));
    }
    attributes.first_own(&["event.name"]).and_then(|(_, value)| text_of(value)).map(Cow::Owned)
}

/// When a log record happened: by its own time, or where it has none (0) by that of whoever saw it first.
pub(crate) fn record_time(record: &LogRecord) -> (&'static str, u64) {
    match record.time_unix_nano {
        0 => ("observedTimeUnixNano", record.observed_time_unix_nano),
        time => ("timeUnixNano", time),
    }
}

/// Nanoseconds since the epoch as a time; finer digits than microseconds are cut off.
pub(crate) fn time(field: &'static str, unix_nano: u64) -> Result<TimeUs, Rejection> {
    if unix_nano < EARLIEST_NS {
        let message = format!("{unix_nano} is before the year 2000; send nanoseconds since 1970-01-01T00:00:00Z");
        return Err(Rejection::field(RejectCode::BadTime, field, message));
    }
    Ok(TimeUs(i64::try_from(unix_nano / 1000).unwrap_or(i64::MAX)))
}

pub(crate) fn event(read: impl FnOnce() -> Result<UsageEvent<'static>, Rejection>) -> Outcome {
    read().map_or_else(Outcome::Rejected, |event| Outcome::Event(Box::new(event)))
}

enum Operation {
    /// A call of a model; the name where one is given.
    Call(Option<String>),
    Repeats,
    Unknown(String),
}

/// What a span with token counts is.
fn operation(attributes: &Attributes<'_>, map: &OtlpMap) -> Operation {
    let own = |name| attributes.first_own(&[name]).and_then(|(_, value)| text_of(value));
    if let Some(name) = own("gen_ai.operation.name") {
        return if map.operations.contains(&name) {
            Operation::Call(Some(name))
        } else if REPEATING.contains(&name.as_str()) {
            Operation::Repeats
        } else {
            Operation::Unknown(crate::attributes::bounded(name))
        };
    }
    match own("openinference.span.kind").as_deref() {
        None => {}
        Some("LLM") => return Operation::Call(Some("chat".to_owned())),
        Some("EMBEDDING") => return Operation::Call(Some("embeddings".to_owned())),
        Some(_) => return Operation::Repeats,
    }
    // OpenLLMetry before it named operations.
    Operation::Call(own("llm.request.type").map(|kind| match kind.as_str() {
        "completion" => "text_completion".to_owned(),
        "embedding" => "embeddings".to_owned(),
        _ => kind,
    }))
}

fn build(
    attributes: &Attributes<'_>,
    map: &OtlpMap,
    id: String,
    operation: Option<String>,
    time: TimeUs,
) -> Result<UsageEvent<'static>, Rejection> {
    let tokens = usage::tokens(attributes, map)?;
    let mut event = blank(attributes, map, id, time, tokens)?;
    let dimensions = &mut event.dimensions;
    for (dimension, value) in [
        (Dimension::Operation, operation),
        (Dimension::Provider, attributes.own_text(&["llm.provider", "llm.system"])?),
        (Dimension::Model, attributes.own_text(OPENINFERENCE_MODEL)?),
    ] {
        if dimensions.get(dimension).is_none() {
            dimensions.set(dimension, value.map(Cow::Owned));
        }
    }
    if dimensions.get(Dimension::ServiceTier).is_some_and(is_usual_tier) {
        dimensions.set(Dimension::ServiceTier, None);
    }
    Ok(event)
}

/// What OpenInference calls the model, the one that answered first.
const OPENINFERENCE_MODEL: &[&str] =
    &["llm.response.model_name", "llm.model_name", "llm.request.model_name", "embedding.model_name"];

/// Whether a service tier is the one that prices are quoted for.
pub(crate) fn is_usual_tier(tier: &str) -> bool {
    matches!(tier, "default" | "standard" | "auto" | "normal")
}

/// One request with these counts and what the map names.
pub(crate) fn blank(
    attributes: &Attributes<'_>,
    map: &OtlpMap,
    id: String,
    time: TimeUs,
    tokens: Tokens,
) -> Result<UsageEvent<'static>, Rejection> {
    let mut dimensions = Dimensions::default();
    for (dimension, names) in &map.dimensions {
        dimensions.set(*dimension, attributes.text(names)?.map(Cow::Owned));
    }
    if dimensions.get(Dimension::Namespace).is_none_or(|namespace| namespace.trim().is_empty()) {
        let default = &map.default_namespace;
        if default.is_empty() {
            return Err(no_namespace(map));
        }
        dimensions.set(Dimension::Namespace, Some(Cow::Owned(default.clone())));
    }
    let mut tags = BTreeMap::new();
    for name in map.tags.iter().take(UsageEvent::TAGS_MAX) {
        if let Some(value) = attributes.text(&[name])? {
            tags.insert(Cow::Owned(name.clone()), Cow::Owned(value));
        }
    }
    let source = attributes.text(&["service.name"])?.unwrap_or_else(|| attributes.scope_name().to_owned());
    Ok(UsageEvent {
        id: Some(Cow::Owned(id)),
        source: Cow::Owned(source),
        time,
        dimensions,
        tokens,
        requests: 1,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        tags,
        role: Role::Usage,
        progress: None,
    })
}

fn no_namespace(map: &OtlpMap) -> Rejection {
    let name = map.names(Dimension::Namespace).first().map_or("outlay.namespace", String::as_str);
    let message = format!(
        "no attribute names the tenant that pays; set one on the resource, like OTEL_RESOURCE_ATTRIBUTES={name}=support"
    );
    Rejection::field(RejectCode::MissingField, name, message)
}
