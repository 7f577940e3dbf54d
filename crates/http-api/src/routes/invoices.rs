//! `/v1/invoices`: what providers ask for, to compare with what was metered.

use axum::extract::{Path, Request, State};
use axum::http::Uri;
use axum::response::Response;
use provider_invoice::{Invoice, InvoiceError};

use super::budgets::stated;
use super::{json, parameters, read_body, refuse_rest};
use crate::ApiProblem;
use crate::router::AppState;

/// Answers with all invoices, without their lines, the newest month first.
pub(crate) async fn list(State(app): State<AppState>, uri: Uri) -> Result<Response, ApiProblem> {
    refuse_rest(&parameters(&uri)?, "none")?;
    Ok(json(200, &app.engine.invoices()))
}

/// Answers with one invoice and its lines.
pub(crate) async fn one(
    State(app): State<AppState>,
    Path((provider, number)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, ApiProblem> {
    refuse_rest(&parameters(&uri)?, "none")?;
    Ok(json(200, &app.engine.invoice(&provider, &number).ok_or_else(|| missing(&provider, &number))?))
}

/// Keeps an invoice, in place of an earlier one of this number.
pub(crate) async fn put(
    State(app): State<AppState>,
    Path((provider, number)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, body) = request.into_parts();
    refuse_rest(&parameters(&head.uri)?, "none")?;
    let stated = stated(&head.headers)?;
    let body = read_body(body, app.config.max_body_bytes, app.config.body_timeout).await?;
    let invoice = Invoice::from_json(&provider, &number, &body).map_err(refused)?;
    let (kept, is_new) = app.engine.put_invoice(invoice, stated).await?;
    Ok(json(if is_new { 201 } else { 200 }, &kept))
}

/// Forgets an invoice.
pub(crate) async fn delete(
    State(app): State<AppState>,
    Path((provider, number)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (head, _) = request.into_parts();
    refuse_rest(&parameters(&head.uri)?, "none")?;
    if !app.engine.delete_invoice(&provider, &number, stated(&head.headers)?).await? {
        return Err(missing(&provider, &number));
    }
    let mut response = Response::default();
    *response.status_mut() = axum::http::StatusCode::NO_CONTENT;
    Ok(response)
}

fn missing(provider: &str, number: &str) -> ApiProblem {
    ApiProblem::not_found(format!("there is no invoice {number:?} of {provider:?}"))
}

fn refused(error: InvoiceError) -> ApiProblem {
    let field = Some(error.field).filter(|field| !field.is_empty());
    ApiProblem { field, ..ApiProblem::new(400, "invalid_parameter", error.message) }
}
