//! Errors as RFC 9457 problem documents, with a `code` for programs and a `detail` that says what to do next.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use usage_types::{RejectCode, Rejection};

/// One error as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiProblem {
    /// The HTTP status; what is no error status is sent as 500.
    pub status: u16,
    /// For programs: `snake_case`, stable.
    pub code: Cow<'static, str>,
    /// For people: what is wrong and what to do about it.
    pub detail: String,
    /// The field of the request that is meant.
    pub field: Option<String>,
    /// After how many seconds to try again.
    pub retry_after_s: Option<u64>,
    /// Further members of the document.
    pub members: Map<String, Value>,
}

impl ApiProblem {
    /// The media type of every problem.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// A problem with a status, a code and a sentence.
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.into(), detail.into());
        Self { status, code, detail, field: None, retry_after_s: None, members: Map::new() }
    }

    /// 400: a parameter or field of the request is wrong.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(400, "invalid_parameter", detail) }
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not_found", detail)
    }

    /// 503: not now; try again after so many seconds.
    pub fn unavailable(code: impl Into<Cow<'static, str>>, detail: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(503, code, detail) }
    }

    /// 500: our own fault. The detail goes to the client, so it must hold nothing secret.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, "internal", detail)
    }

    /// Adds a member to the document.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let status = self.status_code();
        let mut document = self.members.clone();
        document.insert("type".into(), "about:blank".into());
        document.insert("title".into(), status.canonical_reason().unwrap_or("Error").into());
        document.insert("status".into(), status.as_u16().into());
        document.insert("code".into(), self.code.as_ref().into());
        document.insert("detail".into(), self.detail.as_str().into());
        if let Some(field) = &self.field {
            document.insert("field".into(), field.as_str().into());
        }
        Value::Object(document)
    }

    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Rejection> for ApiProblem {
    /// A refused event: 400, or the status that HTTP has for its size or format.
    fn from(rejection: Rejection) -> Self {
        let status = match rejection.code {
            RejectCode::TooLarge => 413,
            RejectCode::UnsupportedFormat => 415,
            _ => 400,
        };
        Self { field: rejection.field, ..Self::new(status, rejection.code.name(), rejection.message) }
    }
}

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status_code();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Self::CONTENT_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outlay\""));
        }
        response
    }
}
