//! `/v1/check`: may this request be made? Made for gateways: they send headers and look at the status alone.

mod question;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use usage_types::{DecisionState, Dimension};

use self::question::Found;
use super::{expect_json, json, parameters, read_body, refuse_rest};
use crate::router::{App, AppState};
use crate::{ApiProblem, CheckAnswer, CheckQuestion, CheckReason, FailPolicy, clock};

/// The largest body, in bytes: every dimension at its longest.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// The parameter that sets the status of every refusal.
pub(crate) const REFUSE_WITH: &str = "refuse_with";
/// When to ask again where enforcement is behind, in seconds.
const BEHIND_RETRY_S: u64 = 1;

/// The answer with what is computed from it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckBody {
    #[serde(flatten)]
    answer: CheckAnswer,
    /// The same for people.
    detail: String,
    /// After how many seconds to ask again: when the window ends; only where blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// How old the newest event is that this answer takes into account, in microseconds.
    enforcement_lag_us: u64,
    /// The policy that answered because the balances are behind; absent where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_policy: Option<FailPolicy>,
    /// Why it answered, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_reason: Option<String>,
}

/// Answers 200, or the status of the budget that blocks.
pub(crate) async fn check(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (head, body) = request.into_parts();
    let names = &app.config.intake.config.headers;
    let mut found = Found::default();
    found.headers(&head.headers, names)?;
    let mut parameters = parameters(&head.uri)?;
    let refuse_with = refuse_with(&mut parameters)?;
    for dimension in Dimension::ALL {
        if let Some(value) = parameters.remove(dimension.name()) {
            found.parameter(dimension, value)?;
        }
    }
    refuse_rest(&parameters, &format!("the names of dimensions and `{REFUSE_WITH}`"))?;
    if head.method == Method::POST {
        let body = read_body(body, BODY_BYTES_MAX, app.config.body_timeout).await?;
        if !body.trim_ascii().is_empty() {
            expect_json(&head.headers)?;
            found.body(&body)?;
        }
    }
    Ok(respond(decide(&app, found, names)?, refuse_with))
}

/// The same for a gateway that appends the original request's path to ours and keeps its method, as Envoy's `ext_authz` does. Query and
/// body are the original request's, so only headers are read.
pub(crate) async fn forwarded(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let names = &app.config.intake.config.headers;
    let mut found = Found::default();
    found.headers(request.headers(), names)?;
    Ok(respond(decide(&app, found, names)?, None))
}

/// The status that every refusal is to have, for gateways that know only some.
fn refuse_with(parameters: &mut BTreeMap<String, String>) -> Result<Option<u16>, ApiProblem> {
    let Some(text) = parameters.remove(REFUSE_WITH) else { return Ok(None) };
    match text.parse() {
        Ok(status @ (401 | 403 | 429 | 503)) => Ok(Some(status)),
        _ => Err(ApiProblem::invalid(
            REFUSE_WITH,
            format!("`{text}` is no status to refuse with; use 401, 403, 429 or 503"),
        )),
    }
}

fn decide(app: &App, found: Found, names: &[(String, Dimension)]) -> Result<CheckBody, ApiProblem> {
    let dimensions = found.finish(names)?;
    let enforcement = app.engine.enforcement();
    let fail_reason = app.config.check.failure(&enforcement);
    let fail_policy = fail_reason.is_some().then_some(app.config.check.fail);
    let behind = CheckReason::EnforcementBehind;
    let answer = match fail_policy {
        Some(FailPolicy::Open) => CheckAnswer::of_no_budget(DecisionState::Allowed, behind, 200),
        Some(FailPolicy::Closed) => CheckAnswer::of_no_budget(DecisionState::Blocked, behind, 503),
        last_known => app.engine.check(&CheckQuestion { dimensions, last_known: last_known.is_some() }),
    };
    let seconds_left = |end| clock::seconds_until(end, clock::now());
    let retry_after_s = (answer.state == DecisionState::Blocked)
        .then(|| answer.window.map_or(BEHIND_RETRY_S, |window| seconds_left(window.end)));
    let detail = sentence(&answer, fail_reason.as_deref());
    Ok(CheckBody { detail, retry_after_s, enforcement_lag_us: enforcement.lag_us, fail_policy, fail_reason, answer })
}

fn respond(body: CheckBody, refuse_with: Option<u16>) -> Response {
    let own = match (body.answer.state, body.answer.http_status) {
        (DecisionState::Allowed, _) => 200,
        (DecisionState::Blocked, status @ (429 | 503)) => status,
        (DecisionState::Blocked, _) => 403,
    };
    let status = refuse_with.filter(|_| own != 200).unwrap_or(own);
    let mut response = json(status, &body);
    let headers = response.headers_mut();
    if let Some(seconds) = body.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let mut add = |name: &'static str, value: String| {
        // A value that HTTP cannot carry is in the body all the same.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let CheckBody { answer, enforcement_lag_us, fail_policy, .. } = body;
    add("x-outlay-status", own.to_string());
    add("x-outlay-reason", answer.reason_code.to_string());
    add("x-outlay-enforcement-lag-ms", enforcement_lag_us.div_ceil(1000).to_string());
    for (name, value) in [
        ("x-outlay-budget", answer.budget),
        ("x-outlay-measure", answer.measure),
        ("x-outlay-limit", answer.limit),
        ("x-outlay-used", answer.used),
        ("x-outlay-reset", answer.window.map(|window| window.end.to_string())),
        ("x-outlay-fail-policy", fail_policy.map(|policy| policy.name().to_owned())),
    ] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    response
}

/// The answer as one sentence, like `blocked: 1000450 of 1000000 tokens used of budget support-daily for namespace=support; resets …`.
fn sentence(answer: &CheckAnswer, fail_reason: Option<&str>) -> String {
    let state = match answer.state {
        DecisionState::Allowed => "allowed",
        DecisionState::Blocked => "blocked",
    };
    let mut text = match (&answer.budget, &answer.limit, &answer.used) {
        (Some(budget), Some(limit), Some(used)) => {
            let currency = answer.currency.map(|currency| currency.to_string());
            let unit = currency.or(answer.measure.clone()).unwrap_or_default();
            let scope = answer.scope.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{state}: {used} of {limit} {unit} used of budget {budget} for {scope}")
        }
        _ if answer.reason_code == CheckReason::EnforcementBehind => format!("{state}: enforcement is behind"),
        _ if answer.state == DecisionState::Allowed => "allowed: no budget matches".to_owned(),
        _ => format!("blocked: {}", answer.reason_code),
    };
    // Writing to a String cannot fail.
    if let Some(window) = answer.window {
        let _ = write!(text, "; resets {}", window.end);
    }
    if let Some(why) = fail_reason {
        let _ = write!(text, "; {why}");
    }
    text
}
