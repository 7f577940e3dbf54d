//! `GET /v1/status` and the mails it lists: what the page shows.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::json;
use crate::ApiProblem;
use crate::router::AppState;

/// Answers with the state of the program.
pub(crate) async fn status(State(app): State<AppState>) -> Response {
    json(200, &app.engine.status())
}

/// Answers with one mail as a file.
pub(crate) async fn mail(State(app): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiProblem> {
    let Some(bytes) = app.engine.mail(&id) else {
        return Err(ApiProblem::not_found("there is no such mail; /v1/status lists the latest"));
    };
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("message/rfc822"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"mail.eml\""));
    Ok(response)
}
