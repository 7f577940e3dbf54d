//! Who may ask: the admin key, as a bearer token or as a password.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_listen::check_key;

use crate::ApiProblem;
use crate::router::AppState;

/// Lets a request through that carries the key, and answers every other with 401 before its body is read.
pub(crate) async fn require_key(State(app): State<AppState>, request: Request, next: Next) -> Response {
    match check_key(request.headers(), &app.config.admin_key) {
        Ok(()) => next.run(request).await,
        Err(error) => ApiProblem::new(401, "unauthorized", error.to_string()).into_response(),
    }
}
