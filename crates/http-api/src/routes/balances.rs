//! `GET /v1/balances`: the live balances, filtered.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::Response;
use usage_types::{Dimension, Scope};

use super::{json, parameters, refuse_rest};
use crate::router::AppState;
use crate::{ApiProblem, BalanceQuery};

/// Rows where the URL does not say.
const LIMIT_DEFAULT: usize = 100;
/// The most rows of one answer.
const LIMIT_MAX: usize = 10_000;
/// Set to `true` on an answer that leaves rows out.
pub(crate) const TRUNCATED: &str = "x-outlay-truncated";

/// Answers with an array of rows.
pub(crate) async fn balances(State(app): State<AppState>, uri: Uri) -> Result<Response, ApiProblem> {
    let mut parameters = parameters(&uri)?;
    let mut values = Vec::new();
    for dimension in Dimension::ALL {
        values.extend(parameters.remove(dimension.name()).map(|value| (dimension, value)));
    }
    let limit = match parameters.remove("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| ApiProblem::invalid("limit", format!("`{text}` is no number from 1 to {LIMIT_MAX}")))?,
    };
    let every = parameters.remove("every").map(|text| text.parse()).transpose();
    let query = BalanceQuery {
        scope: Scope::new(values),
        every: every.map_err(|detail: String| ApiProblem::invalid("every", detail))?,
        budget: parameters.remove("budget"),
        measure: parameters.remove("measure"),
        limit: limit + 1,
    };
    refuse_rest(&parameters, "every, budget, measure, limit or the names of dimensions")?;
    // One more than asked for tells whether there is more.
    let mut rows = app.engine.balances(&query);
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    let mut response = json(200, &rows);
    if truncated {
        response.headers_mut().insert(HeaderName::from_static(TRUNCATED), HeaderValue::from_static("true"));
    }
    Ok(response)
}
