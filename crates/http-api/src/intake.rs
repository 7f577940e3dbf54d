//! The seam to `usage-intake`: the body of `POST /v1/events` or of a callback becomes records for the log, or reasons why not.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use usage_intake::{Headers, Intake};
use usage_types::{RejectCode, Rejection, canonical_key};

use crate::{IntakeRecord, clock};

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// Events: native ones, CloudEvents, and what the configuration maps.
    Events,
    /// Payloads of LiteLLM's generic API callback. Calls that used nothing are no events, so there may be none at all.
    LiteLlm,
}

/// One event of a body: its place in it, and its record or why it is refused.
pub(crate) struct Item {
    pub(crate) index: usize,
    pub(crate) record: Result<IntakeRecord, Rejection>,
}

/// Reads a body; one of events into at least one item.
///
/// # Errors
/// The body as a whole is refused: its format is unknown, its parts cannot be told, it holds no event or too many.
pub(crate) fn decode(
    entrance: Entrance,
    intake: &Intake,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Vec<Item>, Rejection> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let message = format!("the content encoding {encoding:?} is not read here; send the body plain");
        return Err(Rejection::field(RejectCode::UnsupportedFormat, "content-encoding", message));
    }
    let pairs: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let content_type = match headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")) {
        // What `curl -d` says by itself, whatever the data is.
        Some("application/x-www-form-urlencoded") => None,
        other => other,
    };
    let headers = Headers::new(&pairs);
    let items = match entrance {
        Entrance::Events => intake.decode_http(content_type, &headers, body, Some(clock::now()))?,
        Entrance::LiteLlm => intake.decode_litellm(&headers, body)?,
    };
    if items.is_empty() && entrance == Entrance::Events {
        return Err(Rejection::new(RejectCode::Empty, "the body holds no event; send at least one"));
    }
    let record = |item: usage_intake::Item<'_>| {
        let key = canonical_key(&item.event?);
        let value = match item.value {
            Cow::Borrowed(value) => body.slice_ref(value),
            Cow::Owned(value) => value.into(),
        };
        let headers = item.headers.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
        Ok(IntakeRecord { key, value, headers })
    };
    Ok(items.into_iter().map(|item| Item { index: item.index, record: record(item) }).collect())
}
