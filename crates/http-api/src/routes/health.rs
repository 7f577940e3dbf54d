//! `/healthz`, `/readyz` and `/metrics`: for machines that watch. Open, so they tell nothing about who spends.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::json as answer;
use crate::ApiProblem;
use crate::router::AppState;

/// 200 as long as the process answers at all.
pub(crate) async fn healthz() -> Response {
    answer(200, &json!({ "status": "ok" }))
}

/// 200 where events and checks are served, else 503 with the reason.
pub(crate) async fn readyz(State(app): State<AppState>) -> Response {
    if *app.stopping.borrow() {
        return ApiProblem::unavailable("not_ready", "the server is stopping", 1).into_response();
    }
    match app.engine.ready() {
        Ok(()) => answer(200, &json!({ "status": "ready" })),
        Err(reason) => ApiProblem::unavailable("not_ready", reason, 1).into_response(),
    }
}

/// The engine's metrics and those of this server.
pub(crate) async fn metrics(State(app): State<AppState>) -> Response {
    let mut text = app.engine.metrics();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    app.metrics.write(&mut text);
    let mut response = text.into_response();
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, prometheus);
    response
}
