//! What gRPC and HTTP share: a body becomes records, the sink takes them, and the answer says what was refused.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use http_listen::{KeyError, check_key};
use otlp_intake::{Decoded, Encoding, OtlpError, OtlpMap, decode_logs, decode_traces};
use tokio::sync::{Semaphore, SemaphorePermit};
use usage_types::canonical_key;

use crate::failure::Failure;
use crate::{OtlpConfig, OtlpCounts, Record, Sink, SinkError};

/// A body up to this size is read in well under a millisecond, in bytes.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// What a request tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
    /// Taken and dropped.
    Metrics,
}

/// The part of an answer that OTLP calls partial success: empty where all went well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partial {
    /// How many spans or log records were refused.
    pub(crate) rejected: i64,
    /// Why, or what a person should look at.
    pub(crate) message: String,
}

impl Partial {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The entrance: one for all listeners, so that its limits hold for all of them together.
pub struct Entrance {
    pub(crate) config: OtlpConfig,
    sink: Arc<dyn Sink>,
    requests: Semaphore,
    counts: OtlpCounts,
}

impl Entrance {
    /// An entrance before this sink.
    #[must_use]
    pub fn new(config: OtlpConfig, sink: Arc<dyn Sink>) -> Arc<Self> {
        let requests = Semaphore::new(config.requests_max);
        Arc::new(Self { config, sink, requests, counts: OtlpCounts::default() })
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> &OtlpCounts {
        &self.counts
    }

    /// Lets a request in whose key is right, while there is room for its body.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, Failure> {
        check_key(headers, &self.config.key).map_err(unauthorized)?;
        self.requests.try_acquire().map_err(|_| Failure::Busy)
    }

    /// Runs a request within its time.
    pub(crate) async fn within_time<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let limit: Duration = self.config.request_timeout;
        tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::TimedOut(limit.as_secs())))
    }

    /// Counts a request that was not taken.
    pub(crate) fn counted<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.inspect_err(|failure| {
            OtlpCounts::add(&self.counts.failures, 1);
            tracing::debug!(%failure, "an OTLP request was not taken");
        })
    }

    /// Takes a body that is decompressed already.
    pub(crate) async fn take(&self, signal: Signal, body: Bytes, encoding: Encoding) -> Result<Partial, Failure> {
        if signal == Signal::Metrics {
            return Ok(Partial::default());
        }
        let prepared = if body.len() <= INLINE_BYTES_MAX {
            prepare(signal, &body, encoding, &self.config.map)?
        } else {
            let map = self.config.map.clone();
            let work = tokio::task::spawn_blocking(move || prepare(signal, &body, encoding, &map));
            work.await.map_err(|error| {
                tracing::error!(%error, "an OTLP request could not be read");
                Failure::Internal
            })??
        };
        self.publish(prepared).await
    }

    async fn publish(&self, Prepared { records, mut decoded }: Prepared) -> Result<Partial, Failure> {
        let count = records.len();
        let (mut accepted, mut refused) = (0, None);
        if count > 0 {
            let mut results = self.sink.publish(records).await;
            // A result that is missing is no acknowledgement.
            results.resize_with(count, || Err(SinkError::Unavailable("no answer for this event".to_owned())));
            for result in results {
                match result {
                    Ok(()) => accepted += 1,
                    Err(SinkError::Refused(why)) => {
                        decoded.rejected += 1;
                        refused.get_or_insert(why);
                    }
                    // All of it is to come again: what was taken is known by its id.
                    Err(error) => return Err(Failure::Unavailable(error.to_string())),
                }
            }
        }
        OtlpCounts::add(&self.counts.accepted, accepted);
        OtlpCounts::add(&self.counts.ignored, decoded.ignored);
        OtlpCounts::add(&self.counts.rejected, decoded.rejected);
        Ok(partial(&decoded, refused))
    }
}

/// The records of a request, and what remains to be said about the rest.
struct Prepared {
    records: Vec<Record>,
    decoded: Decoded,
}

fn unauthorized(error: KeyError) -> Failure {
    Failure::Unauthorized(match error {
        KeyError::NotOnce => {
            format!("{error}; exporters take it from OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY")
        }
        KeyError::OtherScheme | KeyError::WrongKey => error.to_string(),
    })
}

fn prepare(signal: Signal, body: &Bytes, encoding: Encoding, map: &OtlpMap) -> Result<Prepared, Failure> {
    let decoded =
        if signal == Signal::Logs { decode_logs(body, encoding, map) } else { decode_traces(body, encoding, map) };
    let mut decoded = decoded.map_err(|error| match error {
        OtlpError::TooMany(_) => Failure::TooLarge(error.to_string()),
        OtlpError::NotJson(_) | OtlpError::NotProtobuf(_) => Failure::Unreadable(error.to_string()),
    })?;
    let records = std::mem::take(&mut decoded.events)
        .into_iter()
        .map(|event| Record { key: canonical_key(&event), value: usage_intake::encode(&event).into() })
        .collect();
    Ok(Prepared { records, decoded })
}

/// What the answer says: how many were refused, and of the first ones why; or a warning where none were.
fn partial(decoded: &Decoded, refused_by_log: Option<String>) -> Partial {
    let mut message = String::new();
    for refused in &decoded.reasons {
        let field = refused.rejection.field.as_deref().map(|field| format!(" {field}:")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(message, "{}#{}:{field} {}", separator(&message), refused.index, refused.rejection.message);
    }
    if let Some(why) = refused_by_log {
        let _ = write!(message, "{}the log refused an event: {why}", separator(&message));
    }
    if let Some(operation) = &decoded.unknown_operation {
        let _ = write!(
            message,
            "{}usage of the operation {operation:?} was not counted; if it is a call of a model, add it to opentelemetry.operations in the intake file",
            separator(&message)
        );
    }
    Partial { rejected: i64::try_from(decoded.rejected).unwrap_or(i64::MAX), message }
}

fn separator(message: &str) -> &'static str {
    if message.is_empty() { "" } else { "; " }
}
