//! `GET /v1/standing`: how full a budget is.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use usage_types::{Dimension, Scope};

use super::{json, parameters, refuse_rest};
use crate::router::AppState;
use crate::{ApiProblem, StandingQuery};

/// Answers with the rows of the budget.
pub(crate) async fn standing(State(app): State<AppState>, uri: Uri) -> Result<Response, ApiProblem> {
    let mut parameters = parameters(&uri)?;
    let mut values = Vec::new();
    for dimension in Dimension::ALL {
        values.extend(parameters.remove(dimension.name()).map(|value| (dimension, value)));
    }
    let budget = parameters.remove("budget");
    let budget = budget.ok_or_else(|| ApiProblem::invalid("budget", "name the budget: budget=ID"))?;
    let period = parameters.remove("period");
    refuse_rest(&parameters, "budget, period or the names of dimensions")?;
    let query = StandingQuery { budget, scope: Scope::new(values), period };
    Ok(json(200, &app.engine.standing(query).await?))
}
