//! `/v1/increase-requests`: ask for more, answer, and see what is granted.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use usage_types::{BudgetError, IncreaseAsk, IncreaseTerms};

use super::budgets::{stated, text};
use super::{json, parameters, refuse_rest};
use crate::ApiProblem;
use crate::increases::{IncreaseAnswer, IncreaseFilter, IncreaseState};
use crate::router::AppState;

/// Answers with the requests, the newest first.
pub(crate) async fn list(State(app): State<AppState>, uri: Uri) -> Result<Response, ApiProblem> {
    let mut parameters = parameters(&uri)?;
    let state = parameters.remove("state").map(|text| {
        let found = IncreaseState::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| {
            let names = IncreaseState::ALL.map(IncreaseState::name).join(", ");
            ApiProblem::invalid("state", format!("`{text}` is no state of a request; use one of {names}"))
        })
    });
    let filter = IncreaseFilter { state: state.transpose()?, budget: parameters.remove("budget") };
    refuse_rest(&parameters, "state or budget")?;
    Ok(json(200, &app.engine.increases(&filter)))
}

/// Answers with one request.
pub(crate) async fn one(State(app): State<AppState>, Path(id): Path<String>, uri: Uri) -> Result<Response, ApiProblem> {
    refuse_rest(&parameters(&uri)?, "none")?;
    let found = app.engine.increase(&id);
    Ok(json(200, &found.ok_or_else(|| ApiProblem::not_found(format!("there is no increase request {id:?}")))?))
}

/// Takes a request.
pub(crate) async fn ask(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (head, text) = text(&app, request).await?;
    let ask = IncreaseAsk::from_yaml(&text).map_err(|error| refused(&error))?;
    let asked = app.engine.ask_increase(ask, stated(&head.headers)?).await?;
    let mut response = json(201, &asked);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/increase-requests/{}", asked.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Grants a request.
pub(crate) async fn approve(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, text) = text(&app, request).await?;
    let terms = IncreaseTerms::from_yaml(&text).map_err(|error| refused(&error))?;
    answer(&app, id, IncreaseAnswer::Approve(terms), &head.headers).await
}

/// Refuses a request.
pub(crate) async fn deny(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, text) = text(&app, request).await?;
    let why = IncreaseTerms::reason_from_yaml(&text).map_err(|error| refused(&error))?.reason;
    let why = why.or(stated(&head.headers)?.reason);
    let why = why.ok_or_else(|| ApiProblem::invalid("reason", "`reason` is missing; say why it is denied"))?;
    answer(&app, id, IncreaseAnswer::Deny(why), &head.headers).await
}

/// Takes back a request, or what is granted.
pub(crate) async fn withdraw(
    State(app): State<AppState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, text) = text(&app, request).await?;
    let why = IncreaseTerms::reason_from_yaml(&text).map_err(|error| refused(&error))?.reason;
    answer(&app, id, IncreaseAnswer::Withdraw(why), &head.headers).await
}

/// A reason in the body goes before one in the header.
async fn answer(
    app: &AppState,
    id: String,
    mut answer: IncreaseAnswer,
    headers: &HeaderMap,
) -> Result<Response, ApiProblem> {
    let stated = stated(headers)?;
    match &mut answer {
        IncreaseAnswer::Approve(IncreaseTerms { reason, .. }) | IncreaseAnswer::Withdraw(reason) => {
            *reason = reason.take().or_else(|| stated.reason.clone());
        }
        IncreaseAnswer::Deny(_) => {}
    }
    Ok(json(200, &app.engine.answer_increase(id, answer, stated.actor).await?))
}

/// A body that is refused.
fn refused(error: &BudgetError) -> ApiProblem {
    let mut problem = ApiProblem::new(400, "invalid_parameter", &*error.message);
    if !error.field.is_empty() {
        problem.field = Some(error.field.clone());
    }
    if error.line > 0 {
        problem = problem.with("line", error.line).with("column", error.column);
    }
    problem
}
