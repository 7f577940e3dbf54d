//! The handlers, one module for each group of routes, and what they share: reading bodies and parameters.

pub(crate) mod balances;
pub(crate) mod budgets;
pub(crate) mod check;
pub(crate) mod decisions;
pub(crate) mod events;
pub(crate) mod format;
pub(crate) mod health;
pub(crate) mod increases;
pub(crate) mod invoices;
pub(crate) mod query;
pub(crate) mod simulations;
pub(crate) mod standing;
pub(crate) mod status;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use crate::ApiProblem;

/// Reads a whole body, within a size and a time.
pub(crate) async fn read_body(body: Body, bytes_max: usize, deadline: Duration) -> Result<Bytes, ApiProblem> {
    let collected = tokio::time::timeout(deadline, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is larger than {bytes_max} bytes; send it in several requests");
            Err(ApiProblem::new(413, "body_too_large", detail))
        }
        Ok(Err(error)) => Err(ApiProblem::new(400, "body_broken", format!("the body could not be read: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s; send it faster", deadline.as_secs());
            Err(ApiProblem::new(408, "body_timeout", detail))
        }
    }
}

/// Refuses a body that says it is something other than JSON. No type at all and that of a form are taken: the former is
/// common in scripts, the latter is what `curl -d` says by itself.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), ApiProblem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or("?").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "application/x-www-form-urlencoded" => Ok(()),
        other if other.ends_with("+json") => Ok(()),
        other => {
            let detail = format!("`{other}` is not read here; send Content-Type: application/json");
            Err(ApiProblem::new(415, "unsupported_media_type", detail))
        }
    }
}

/// The parameters of a URL; each at most once.
pub(crate) fn parameters(uri: &Uri) -> Result<BTreeMap<String, String>, ApiProblem> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
        ApiProblem::new(400, "invalid_parameter", format!("the URL's query is unreadable: {error}"))
    })?;
    let mut parameters = BTreeMap::new();
    for (name, value) in pairs {
        if parameters.contains_key(&name) {
            return Err(ApiProblem::invalid(&name, format!("`{name}` is given twice; give it once")));
        }
        parameters.insert(name, value);
    }
    Ok(parameters)
}

/// Refuses parameters that a route does not know: a misspelt filter must not show everything.
pub(crate) fn refuse_rest(rest: &BTreeMap<String, String>, known: &str) -> Result<(), ApiProblem> {
    match rest.keys().next() {
        None => Ok(()),
        Some(name) => Err(ApiProblem::invalid(name, format!("`{name}` is no parameter of this route; use {known}"))),
    }
}

/// A value as JSON with the given status.
pub(crate) fn json(status: u16, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = axum::http::StatusCode::from_u16(status).unwrap_or_default();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => ApiProblem::internal(format!("the answer could not be written: {error}")).into_response(),
    }
}
