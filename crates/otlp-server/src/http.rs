//! OTLP over HTTP: `POST /v1/traces`, `/v1/logs`, `/v1/metrics`, in Protobuf and JSON. The answer comes in the encoding of the request, errors
//! too (as `google.rpc.Status`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use otlp_intake::Encoding;
use prost::Message;
use serde_json::json;

use crate::Entrance;
use crate::failure::Failure;
use crate::inflate::{inflate, too_large};
use crate::take::{Partial, Signal};

pub(crate) fn routes(entrance: Arc<Entrance>) -> Router {
    Router::new()
        .route("/v1/traces", post(|State(entrance), request| export(entrance, Signal::Traces, request)))
        .route("/v1/logs", post(|State(entrance), request| export(entrance, Signal::Logs, request)))
        .route("/v1/metrics", post(|State(entrance), request| export(entrance, Signal::Metrics, request)))
        .with_state(entrance)
}

async fn export(entrance: Arc<Entrance>, signal: Signal, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let encoding = encoding(&head.headers);
    // What is neither is answered in JSON, which a person can read.
    let answer_in = *encoding.as_ref().unwrap_or(&Encoding::Json);
    let work = async {
        let _permit = entrance.admit(&head.headers)?;
        let encoding = encoding?;
        let body = read(body, &head.headers, entrance.config.body_bytes_max).await?;
        entrance.take(signal, body, encoding).await
    };
    let taken = entrance.within_time(work).await;
    match entrance.counted(taken) {
        Ok(partial) => answer(signal, &partial, answer_in),
        Err(failure) => refusal(&failure, answer_in),
    }
}

/// The encoding by the content type.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let given = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    match given.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" | "application/protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        other => Err(Failure::Unsupported(format!(
            "the content type {other:?} is not read here; send application/x-protobuf or application/json"
        ))),
    }
}

/// Reads and decompresses a body, each within the limit.
async fn read(body: Body, headers: &HeaderMap, bytes_max: usize) -> Result<Bytes, Failure> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?")).to_owned();
    let body = match Limited::new(body, bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large(bytes_max)),
        Err(error) => return Err(Failure::Unreadable(format!("the body did not arrive: {error}; send it again"))),
    };
    if encoding.is_empty() {
        return Ok(body);
    }
    tokio::task::spawn_blocking(move || inflate(body, &encoding, bytes_max)).await.unwrap_or(Err(Failure::Internal))
}

fn answer(signal: Signal, partial: &Partial, encoding: Encoding) -> Response {
    let body = match encoding {
        Encoding::Protobuf => match signal {
            Signal::Traces | Signal::Logs => ExportResponse::new(partial).encode_to_vec(),
            Signal::Metrics => Vec::new(),
        },
        Encoding::Json => {
            let rejected = if signal == Signal::Logs { "rejectedLogRecords" } else { "rejectedSpans" };
            let document = if partial.is_empty() {
                json!({})
            } else {
                json!({ "partialSuccess": { rejected: partial.rejected.to_string(), "errorMessage": partial.message } })
            };
            document.to_string().into_bytes()
        }
    };
    respond(StatusCode::OK, body, encoding)
}

fn refusal(failure: &Failure, encoding: Encoding) -> Response {
    let (code, message) = (failure.code() as i32, failure.to_string());
    let body = match encoding {
        Encoding::Protobuf => tonic_types::Status { code, message, details: Vec::new() }.encode_to_vec(),
        Encoding::Json => json!({ "code": code, "message": message }).to_string().into_bytes(),
    };
    let status = StatusCode::from_u16(failure.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, body, encoding);
    if let Some(delay) = failure.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs()));
    }
    if status == StatusCode::UNAUTHORIZED {
        let realm = HeaderValue::from_static("Bearer realm=\"outlay\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    response
}

fn respond(status: StatusCode, body: Vec<u8>, encoding: Encoding) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// `ExportTraceServiceResponse` and `ExportLogsServiceResponse`, which have the same shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportResponse {
    /// Only where there is something to say.
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess` and `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl ExportResponse {
    pub(crate) fn new(partial: &Partial) -> Self {
        let said = PartialSuccess { rejected: partial.rejected, error_message: partial.message.clone() };
        Self { partial_success: (!partial.is_empty()).then_some(said) }
    }
}
