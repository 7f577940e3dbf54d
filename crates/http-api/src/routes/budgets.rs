//! `/v1/budgets`: read, plan and change budgets. A change names the version that it is meant for, so that none is lost (RFC 9110, 13.1;
//! RFC 6585, 3).

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;

use super::{json, parameters, read_body, refuse_rest};
use crate::ApiProblem;
use crate::budgets::{BudgetsChange, BudgetsWrite, Precondition, Stated, Tagged};
use crate::router::AppState;

/// The largest body, in bytes: a budgets file has at most so many.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Who asks, by their own words.
pub(crate) const ACTOR: &str = "x-outlay-actor";
/// Why.
pub(crate) const REASON: &str = "x-outlay-reason";
const ACTOR_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 4096;

/// Answers with all budgets.
pub(crate) async fn all(State(app): State<AppState>, uri: Uri) -> Result<Response, ApiProblem> {
    refuse_rest(&parameters(&uri)?, "none; `/v1/budgets/ID` has one budget")?;
    tagged(200, app.engine.budgets())
}

/// Answers with one budget.
pub(crate) async fn one(State(app): State<AppState>, Path(id): Path<String>, uri: Uri) -> Result<Response, ApiProblem> {
    refuse_rest(&parameters(&uri)?, "none")?;
    let budget = app.engine.budget(&id);
    tagged(200, budget.ok_or_else(|| ApiProblem::not_found(format!("there is no budget {id:?}")))?)
}

/// Answers what other budgets would change.
pub(crate) async fn plan(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (_, text) = text(&app, request).await?;
    Ok(json(200, &app.engine.plan_budgets(text).await?))
}

/// Replaces all budgets.
pub(crate) async fn replace(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (head, text) = text(&app, request).await?;
    change(&app, &head.headers, BudgetsWrite::Replace(text)).await
}

/// Makes or replaces one budget.
pub(crate) async fn put(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, text) = text(&app, request).await?;
    change(&app, &head.headers, BudgetsWrite::Put { id, text }).await
}

/// Removes one budget.
pub(crate) async fn delete(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, _) = request.into_parts();
    refuse_rest(&parameters(&head.uri)?, "none")?;
    change(&app, &head.headers, BudgetsWrite::Delete { id }).await
}

async fn change(app: &AppState, headers: &HeaderMap, write: BudgetsWrite) -> Result<Response, ApiProblem> {
    let may_be_new = matches!(write, BudgetsWrite::Put { .. });
    let precondition = precondition(headers, may_be_new)?;
    let stated = stated(headers)?;
    let changed = app.engine.change_budgets(BudgetsChange { write, precondition, stated }).await?;
    match changed.now {
        Some(now) => tagged(if changed.created { 201 } else { 200 }, now),
        None => {
            let mut response = Response::default();
            *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
            Ok(response)
        }
    }
}

fn tagged(status: u16, document: Tagged) -> Result<Response, ApiProblem> {
    let etag = HeaderValue::from_str(&document.etag).map_err(|error| ApiProblem::internal(error.to_string()))?;
    let mut response = Response::new(document.json.into());
    *response.status_mut() = axum::http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::ETAG, etag);
    Ok(response)
}

/// What the headers say of who asks and why.
pub(super) fn stated(headers: &HeaderMap) -> Result<Stated, ApiProblem> {
    Ok(Stated { actor: said(headers, ACTOR, ACTOR_BYTES_MAX)?, reason: said(headers, REASON, REASON_BYTES_MAX)? })
}

/// A body of YAML or JSON, which is YAML too.
pub(super) async fn text(app: &AppState, request: Request) -> Result<(Parts, String), ApiProblem> {
    let (head, body) = request.into_parts();
    refuse_rest(&parameters(&head.uri)?, "none")?;
    let given = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = given.map(|text| text.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
    match essence.as_deref() {
        // The last is what `curl --data-binary` says by itself.
        None
        | Some("application/json" | "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml")
        | Some("application/x-www-form-urlencoded") => {}
        Some(other) => {
            let detail = format!("`{other}` is not read here; send Content-Type: application/json or application/yaml");
            return Err(ApiProblem::new(415, "unsupported_media_type", detail));
        }
    }
    let body = read_body(body, BODY_BYTES_MAX, app.config.body_timeout).await?;
    let text = String::from_utf8(body.into());
    let text = text.map_err(|_| ApiProblem::new(400, "invalid_body", "the body is no UTF-8; send JSON or YAML"))?;
    Ok((head, text))
}

/// `If-Match`, or for what may be new `If-None-Match: *`.
fn precondition(headers: &HeaderMap, may_be_new: bool) -> Result<Precondition, ApiProblem> {
    let is_given = |name: HeaderName| headers.contains_key(name);
    match (is_given(header::IF_MATCH), is_given(header::IF_NONE_MATCH)) {
        (true, true) => Err(ApiProblem::invalid("if-none-match", "give If-Match or If-None-Match, not both")),
        (true, false) => if_match(headers),
        (false, true) if !may_be_new => {
            Err(ApiProblem::invalid("if-none-match", "only one budget can be made new; send If-Match here"))
        }
        (false, true) => {
            match headers.get_all(header::IF_NONE_MATCH).iter().all(|value| value.as_bytes().trim_ascii() == b"*") {
                true => Ok(Precondition::MatchNone),
                false => Err(ApiProblem::invalid("if-none-match", "send If-None-Match: * to make a new budget")),
            }
        }
        (false, false) => {
            let new = if may_be_new { ", or If-None-Match: * to make a new budget" } else { "" };
            let detail = format!(
                "send If-Match with the ETag that GET answered with, so that no one else's change is overwritten{new}"
            );
            Err(ApiProblem::new(428, "precondition_required", detail))
        }
    }
}

/// The tags of `If-Match`: `*`, or a list of strong ones.
fn if_match(headers: &HeaderMap) -> Result<Precondition, ApiProblem> {
    let wrong = || ApiProblem::invalid("if-match", "send the ETag as GET answered with it, quotes included");
    let mut tags = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        for tag in value.to_str().map_err(|_| wrong())?.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Precondition::MatchAny);
            }
            // A weak one never matches (RFC 9110, 13.1.1), and ours are strong.
            let quoted = tag.strip_prefix("W/").unwrap_or(tag);
            if quoted.len() < 2 || !quoted.starts_with('"') || !quoted.ends_with('"') {
                return Err(wrong());
            }
            tags.push(tag.to_owned());
        }
    }
    Ok(Precondition::Match(tags))
}

/// A header of people's words: UTF-8, without control characters.
fn said(headers: &HeaderMap, name: &str, bytes_max: usize) -> Result<Option<String>, ApiProblem> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(name) {
            true => Err(ApiProblem::invalid(name, "this header is there twice; send it once")),
            false => Ok(None),
        };
    };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| ApiProblem::invalid(name, "this is no UTF-8"))?;
    if text.len() > bytes_max || text.chars().any(char::is_control) {
        let detail = format!("send at most {bytes_max} bytes without control characters");
        return Err(ApiProblem::invalid(name, detail));
    }
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
