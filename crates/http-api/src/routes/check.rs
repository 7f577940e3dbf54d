//! `GET|POST /v1/check`: may this request be made? Made for gateways: they send headers and look at the status alone.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use usage_types::{DecisionState, Dimension, Dimensions, Scope, UsageEvent};

use super::{expect_json, json, parameters, read_body, refuse_rest};
use crate::router::AppState;
use crate::{ApiProblem, CheckAnswer, clock};

/// The largest body, in bytes: every dimension at its longest.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The answer with what is computed from it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckBody {
    #[serde(flatten)]
    answer: CheckAnswer,
    /// The same for people.
    detail: String,
    /// After how many seconds the window ends; only where blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
}

/// Answers 200, or the status of the budget that blocks.
pub(crate) async fn check(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (head, body) = request.into_parts();
    let mut dimensions = Dimensions::default();
    from_headers(&head.headers, &mut dimensions)?;
    let mut parameters = parameters(&head.uri)?;
    for dimension in Dimension::ALL {
        if let Some(value) = parameters.remove(dimension.name()) {
            put(&mut dimensions, dimension, value)?;
        }
    }
    refuse_rest(&parameters, "the names of dimensions")?;
    if head.method == Method::POST {
        let body = read_body(body, BODY_BYTES_MAX, app.config.body_timeout).await?;
        if !body.trim_ascii().is_empty() {
            expect_json(&head.headers)?;
            from_body(&body, &mut dimensions)?;
        }
    }
    if dimensions.get(Dimension::Namespace).is_none() {
        // An answer would look at global budgets alone: a gateway that forgot the header would never be blocked.
        let detail = "no namespace is named; send the header X-Outlay-Namespace";
        return Err(ApiProblem { field: Some("namespace".into()), ..ApiProblem::new(400, "missing_field", detail) });
    }
    Ok(respond(app.engine.check(&dimensions)))
}

fn from_headers(headers: &HeaderMap, dimensions: &mut Dimensions<'_>) -> Result<(), ApiProblem> {
    for dimension in Dimension::ALL {
        for value in headers.get_all(dimension.header()) {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| {
                ApiProblem::invalid(dimension.name(), format!("the header {} is not UTF-8", dimension.header()))
            })?;
            put(dimensions, dimension, text.trim().to_owned())?;
        }
    }
    Ok(())
}

fn from_body(body: &[u8], dimensions: &mut Dimensions<'_>) -> Result<(), ApiProblem> {
    let scope: Scope = serde_json::from_slice(body).map_err(|error| {
        let detail = format!("{error}; send dimensions like {{\"namespace\": \"support\"}}");
        ApiProblem::new(400, "invalid_body", detail)
    })?;
    scope.iter().try_for_each(|(dimension, value)| put(dimensions, dimension, value.to_owned()))
}

/// Sets a value, unless another one is there already: who can add a header must not choose whose budget is looked at.
fn put(dimensions: &mut Dimensions<'_>, dimension: Dimension, value: String) -> Result<(), ApiProblem> {
    if value.len() > UsageEvent::TEXT_BYTES_MAX {
        let detail = format!("`{dimension}` is longer than {} bytes", UsageEvent::TEXT_BYTES_MAX);
        return Err(ApiProblem::invalid(dimension.name(), detail));
    }
    if dimensions.get(dimension).is_some_and(|known| known != value) {
        return Err(ApiProblem::invalid(
            dimension.name(),
            format!("`{dimension}` is given twice with different values"),
        ));
    }
    dimensions.set(dimension, Some(Cow::Owned(value)));
    Ok(())
}

fn respond(answer: CheckAnswer) -> Response {
    let blocked = answer.state == DecisionState::Blocked;
    let status = match (blocked, answer.http_status) {
        (false, _) => 200,
        (true, 429) => 429,
        (true, _) => 403,
    };
    let retry_after_s = answer.window.filter(|_| blocked).map(|window| clock::seconds_until(window.end, clock::now()));
    let detail = sentence(&answer);
    let mut response = json(status, &CheckBody { detail, retry_after_s, answer: answer.clone() });
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let mut add = |name: &'static str, value: String| {
        // A value that HTTP cannot carry is in the body all the same.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    add("x-outlay-reason", answer.reason_code.to_string());
    add("x-outlay-enforcement-lag-ms", answer.enforcement_lag_us.div_ceil(1000).to_string());
    if let Some(budget) = answer.budget {
        add("x-outlay-budget", budget);
    }
    for (name, value) in
        [("x-outlay-measure", answer.measure), ("x-outlay-limit", answer.limit), ("x-outlay-used", answer.used)]
    {
        if let Some(value) = value {
            add(name, value);
        }
    }
    if let Some(window) = answer.window {
        add("x-outlay-reset", window.end.to_string());
    }
    response
}

/// The answer as one sentence, like `budget support-daily of namespace=support: 1000450 of 1000000 tokens used, …`.
fn sentence(answer: &CheckAnswer) -> String {
    let (Some(budget), Some(limit), Some(used)) = (&answer.budget, &answer.limit, &answer.used) else {
        return match answer.state {
            DecisionState::Allowed => "allowed: no budget matches".to_owned(),
            DecisionState::Blocked => format!("blocked: {}", answer.reason_code),
        };
    };
    let mut text = match answer.state {
        DecisionState::Allowed => "allowed".to_owned(),
        DecisionState::Blocked => "blocked".to_owned(),
    };
    let unit = answer.currency.map(|currency| currency.to_string()).or(answer.measure.clone()).unwrap_or_default();
    let scope = answer.scope.as_ref().map(ToString::to_string).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(text, ": {used} of {limit} {unit} used of budget {budget} for {scope}");
    if let Some(window) = answer.window {
        let _ = write!(text, "; resets {}", window.end);
    }
    text
}
