//! `POST /v1/simulations`: what budgets would have done over usage of the past.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use usage_types::{BudgetSet, TimeUs};

use super::{expect_json, json, parameters, read_body, refuse_rest};
use crate::router::AppState;
use crate::{ApiProblem, SimulationRequest, schema};

/// The largest body, in bytes: a budgets file of the largest size, with every line end escaped.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What to simulate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimulationBody {
    /// The budgets that are tried out: the text of a budgets file (YAML), or the same as a JSON object.
    #[schemars(with = "BudgetsBody")]
    budgets: Value,
    /// From then on.
    #[schemars(with = "schema::Time")]
    from: TimeUs,
    /// Until before then.
    #[schemars(with = "schema::Time")]
    to: TimeUs,
    /// Whether what a block refuses counts towards balances all the same; not where absent.
    #[serde(default)]
    count_refused: Option<bool>,
}

/// For its shape only.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only the derived schema is used")]
enum BudgetsBody {
    Yaml(String),
    Json(serde_json::Map<String, Value>),
}

/// Answers what they would have done, beside the budgets in force.
pub(crate) async fn simulate(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (head, body) = request.into_parts();
    expect_json(&head.headers)?;
    refuse_rest(&parameters(&head.uri)?, "the body: {\"budgets\": …, \"from\": …, \"to\": …}")?;
    let body = read_body(body, BODY_BYTES_MAX, app.config.body_timeout).await?;
    let body: SimulationBody = serde_json::from_slice(&body).map_err(|error| {
        let like =
            "{\"budgets\": \"budgets: …\", \"from\": \"2026-11-01T00:00:00Z\", \"to\": \"2026-12-01T00:00:00Z\"}";
        ApiProblem::new(400, "invalid_body", format!("{error}; send {like}"))
    })?;
    if body.from >= body.to {
        return Err(ApiProblem::invalid("to", format!("{} is not after `from`, {}", body.to, body.from)));
    }
    let request = SimulationRequest {
        budgets: Arc::new(budgets(&body.budgets)?),
        from: body.from,
        to: body.to,
        count_refused: body.count_refused.unwrap_or(false),
    };
    Ok(json(200, &app.engine.simulate(request).await?))
}

fn budgets(given: &Value) -> Result<BudgetSet, ApiProblem> {
    // JSON is YAML, so an object is read by the same rules.
    let text = match given {
        Value::String(text) => text.clone(),
        Value::Object(_) => given.to_string(),
        _ => return Err(ApiProblem::invalid("budgets", "send the text of a budgets file, or the same as an object")),
    };
    BudgetSet::from_yaml(&text).map_err(|error| {
        let field = if error.field.is_empty() { "budgets".to_owned() } else { error.field.clone() };
        let detail = if given.is_string() { error.to_string() } else { error.message.clone() };
        ApiProblem::invalid(field, detail)
    })
}
