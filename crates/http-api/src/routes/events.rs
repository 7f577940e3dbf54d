//! `POST /v1/events` and the callbacks beside it: events in, acknowledgements out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use usage_intake::Intake;

use super::{json, read_body};
use crate::intake::Entrance;
use crate::router::AppState;
use crate::{ApiProblem, PublishError, intake};

/// After how many seconds a sender should try again when the log is away or its queue full.
const RETRY_AFTER_S: u64 = 1;
/// A body up to this size is read in about 0.2 ms, in bytes.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// What became of each event of a request.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct EventsAnswer {
    /// How many the log has acknowledged.
    accepted: usize,
    /// Where each of them is.
    acks: Vec<AckRow>,
    /// Those that are wrong, and will be whenever they are sent again.
    rejected: Vec<RejectedRow>,
}

/// Where one event is in the log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AckRow {
    /// Its place in the request, from 0.
    index: usize,
    /// The partition of `usage.events`.
    partition: i32,
    /// Its offset in it.
    offset: i64,
}

/// Why one event was refused.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RejectedRow {
    /// Its place in the request, from 0.
    index: usize,
    /// For programs.
    code: String,
    /// The field's path in the event; absent where the whole event is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// For people: what is wrong and what to write instead.
    detail: String,
}

/// Takes one event or a batch. One wrong event does not cost the others.
pub(crate) async fn publish(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    take(app, Entrance::Events, request).await
}

/// Takes what LiteLLM's generic API callback sends.
pub(crate) async fn litellm(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    take(app, Entrance::LiteLlm, request).await
}

async fn take(app: AppState, entrance: Entrance, request: Request) -> Result<Response, ApiProblem> {
    let Ok(_permit) = app.publishes.try_acquire() else {
        let detail = "too many requests with events at once; send again in a second, in larger batches";
        return Err(ApiProblem::unavailable("queue_full", detail, RETRY_AFTER_S));
    };
    let (head, body) = request.into_parts();
    let body = read_body(body, app.config.max_body_bytes, app.config.body_timeout).await?;
    let items = decode(entrance, Arc::clone(&app.config.intake), head.headers, body).await?;
    let (single, mut answer) = (items.len() == 1, EventsAnswer::default());
    let (mut indexes, mut records, mut only_rejection) = (Vec::new(), Vec::new(), None);
    for item in items {
        match item.record {
            Ok(record) => {
                indexes.push(item.index);
                records.push(record);
            }
            Err(rejection) => {
                answer.rejected.push(RejectedRow {
                    index: item.index,
                    code: rejection.code.name().to_owned(),
                    field: rejection.field.clone(),
                    detail: rejection.message.clone(),
                });
                only_rejection = Some(rejection).filter(|_| single);
            }
        }
    }
    if let Some(rejection) = only_rejection {
        return Err(rejection.into());
    }
    let unpublished = if records.is_empty() { Vec::new() } else { send(&app, &indexes, records, &mut answer).await };
    Ok(conclude(answer, unpublished))
}

/// Reads a body; a large one away from the threads that serve checks.
async fn decode(
    entrance: Entrance,
    intake: Arc<Intake>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<intake::Item>, ApiProblem> {
    if body.len() <= INLINE_BYTES_MAX {
        return Ok(intake::decode(entrance, &intake, &headers, &body)?);
    }
    match tokio::task::spawn_blocking(move || intake::decode(entrance, &intake, &headers, &body)).await {
        Ok(items) => Ok(items?),
        Err(error) => Err(ApiProblem::internal(format!("the body could not be read: {error}"))),
    }
}

/// Publishes and notes what became of each; returns those that should be sent again, with why.
async fn send(
    app: &AppState,
    indexes: &[usize],
    records: Vec<crate::IntakeRecord>,
    answer: &mut EventsAnswer,
) -> Vec<(usize, PublishError)> {
    let mut results = app.engine.publish(records).await;
    // A result that is missing is no acknowledgement.
    results.resize_with(indexes.len(), || Err(PublishError::Unavailable("no answer for this event".to_owned())));
    let mut unpublished = Vec::new();
    for (index, result) in indexes.iter().copied().zip(results) {
        match result {
            Ok(ack) => answer.acks.push(AckRow { index, partition: ack.partition, offset: ack.offset }),
            Err(PublishError::Refused(detail)) => {
                answer.rejected.push(RejectedRow { index, code: "log_refused".to_owned(), field: None, detail });
            }
            Err(error) => unpublished.push((index, error)),
        }
    }
    answer.accepted = answer.acks.len();
    answer.rejected.sort_by_key(|row| row.index);
    unpublished
}

/// 202 where anything was taken, 503 where something must be sent again, 400 where nothing can be.
fn conclude(answer: EventsAnswer, unpublished: Vec<(usize, PublishError)>) -> Response {
    let problem = if let Some((_, first)) = unpublished.first() {
        let code = if *first == PublishError::QueueFull { "queue_full" } else { "log_unavailable" };
        let indexes: Vec<usize> = unpublished.iter().map(|(index, _)| *index).collect();
        let detail = format!("{first}; send the events of `unpublished` again after Retry-After");
        ApiProblem::unavailable(code, detail, RETRY_AFTER_S).with("unpublished", indexes)
    } else if answer.accepted == 0 && !answer.rejected.is_empty() {
        ApiProblem::new(400, "no_event_accepted", "every event was refused; `rejected` says why")
    } else {
        return json(202, &answer);
    };
    let rows = |value: Result<serde_json::Value, _>| value.unwrap_or_default();
    problem
        .with("accepted", answer.accepted)
        .with("acks", rows(serde_json::to_value(&answer.acks)))
        .with("rejected", rows(serde_json::to_value(&answer.rejected)))
        .into_response()
}
