//! The table of routes and what surrounds every one of them: deadline, panics, the key, headers of every answer.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, delete, get, post, put};
use tokio::sync::{Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;

use crate::metrics::HttpMetrics;
use crate::routes::{
    balances, budgets, check, decisions, events, health, increases, invoices, query, simulations, standing, status,
};
use crate::{ApiProblem, Engine, HttpConfig, auth, openapi, page};

/// What the handlers share.
pub(crate) struct App {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) config: HttpConfig,
    pub(crate) metrics: HttpMetrics,
    pub(crate) publishes: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stopping: watch::Receiver<bool>,
}

pub(crate) type AppState = Arc<App>;

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// `GET`, and `HEAD` with it.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// Whatever a client sends.
    Any,
}

/// One route: the table is what the router is built from and what the OpenAPI document is checked against.
struct Route {
    method: Method,
    path: &'static str,
    handler: MethodRouter<AppState>,
}

fn route(method: Method, path: &'static str, handler: MethodRouter<AppState>) -> Route {
    Route { method, path, handler }
}

#[rustfmt::skip]
fn table() -> Vec<Route> {
    use Method::{Any, Delete, Get, Post, Put};
    let mut table = vec![
        route(Post, "/v1/events",           post(events::publish)),
        // Where clients of OpenMeter's API send theirs.
        route(Post, "/api/v1/events",       post(events::publish)),
        route(Post, "/v1/litellm",          post(events::litellm)),
        route(Get,  "/v1/check",            get(check::check)),
        route(Post, "/v1/check",            post(check::check)),
        route(Any,  "/v1/check/",           any(check::forwarded)),
        route(Any,  "/v1/check/{*path}",    any(check::forwarded)),
        route(Post, "/v1/reservations",     post(check::reserve)),
        route(Delete, "/v1/reservations/{id}", delete(check::release)),
        route(Get,  "/v1/balances",         get(balances::balances)),
        route(Get,  "/v1/budgets",          get(budgets::all)),
        route(Put,  "/v1/budgets",          put(budgets::replace)),
        route(Post, "/v1/budgets-plan",     post(budgets::plan)),
        route(Get,  "/v1/budgets/{id}",     get(budgets::one)),
        route(Put,  "/v1/budgets/{id}",     put(budgets::put)),
        route(Delete, "/v1/budgets/{id}",   delete(budgets::delete)),
        route(Get,  "/v1/increase-requests", get(increases::list)),
        route(Post, "/v1/increase-requests", post(increases::ask)),
        route(Get,  "/v1/increase-requests/{id}", get(increases::one)),
        route(Post, "/v1/increase-requests/{id}/approve", post(increases::approve)),
        route(Post, "/v1/increase-requests/{id}/deny", post(increases::deny)),
        route(Post, "/v1/increase-requests/{id}/withdraw", post(increases::withdraw)),
        route(Get,  "/v1/invoices",         get(invoices::list)),
        route(Get,  "/v1/invoices/{provider}/{number}", get(invoices::one)),
        route(Put,  "/v1/invoices/{provider}/{number}", put(invoices::put)),
        route(Delete, "/v1/invoices/{provider}/{number}", delete(invoices::delete)),
        route(Get,  "/v1/decisions",        get(decisions::decisions)),
        route(Get,  "/v1/decisions/stream", get(decisions::stream)),
        route(Post, "/v1/sql",              post(query::sql)),
        route(Get,  "/v1/reports",          get(query::reports)),
        route(Get,  "/v1/reports/{name}",   get(query::report)),
        route(Post, "/v1/simulations",      post(simulations::simulate)),
        route(Get,  "/v1/standing",         get(standing::standing)),
        route(Get,  "/v1/status",           get(status::status)),
        route(Get,  "/v1/mails/{id}",       get(status::mail)),
        route(Get,  "/healthz",             get(health::healthz)),
        route(Get,  "/readyz",              get(health::readyz)),
        route(Get,  "/metrics",             get(health::metrics)),
        route(Get,  "/openapi.json",        get(openapi::serve)),
    ];
    table.extend(page::ASSETS.iter().map(|asset| route(Get, asset.path, get(move || async move { page::respond(asset) }))));
    table
}

/// Every route that is served, as method and path pattern.
#[must_use]
pub fn routes() -> Vec<(Method, &'static str)> {
    table().into_iter().map(|route| (route.method, route.path)).collect()
}

/// Whether a path needs the key.
pub(crate) fn needs_key(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/api/v1/")
}

/// The whole service: our own routes, and those of others.
pub(crate) fn router(app: AppState, more: Router) -> Router {
    let mut router = more.with_state(());
    for Route { path, handler, .. } in table() {
        let key = middleware::from_fn_with_state(Arc::clone(&app), auth::require_key);
        router = router.route(path, if needs_key(path) { handler.layer(key) } else { handler });
    }
    router
        .fallback(|| async {
            ApiProblem::not_found("there is nothing at this path; /openapi.json lists what there is")
        })
        .method_not_allowed_fallback(|| async {
            ApiProblem::new(
                405,
                "method_not_allowed",
                "this path does not take this method; the Allow header says which",
            )
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), surround))
        .with_state(app)
}

/// Around every request: its deadline, its count, and the headers that every answer has.
async fn surround(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let is_private = needs_key(request.uri().path());
    let mut response = tokio::time::timeout(app.config.request_timeout, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {} s; ask for less at once", app.config.request_timeout.as_secs());
        ApiProblem::new(504, "timeout", detail).into_response()
    });
    app.metrics.count(&route, &method, response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // The page brings a policy of its own; nothing else is ever to be shown as a document.
    headers
        .entry(HeaderName::from_static("content-security-policy"))
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"));
    if is_private {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// A handler that panicked: told in the log, not to the client.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("no text"), "a handler panicked");
    ApiProblem::internal("something went wrong here; the program's log says what").into_response()
}
