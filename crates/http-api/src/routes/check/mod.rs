//! `/v1/check`: may this request be made? Made for gateways: they send headers and look at the status alone.

pub(crate) mod estimate;
mod question;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use usage_types::{DecisionState, Dimension, ReasonCode, ThrottleReason, TimeUs};

use self::estimate::{Read, Reading};
use self::question::{Besides, Found};
use super::{expect_json, json, parameters, read_body, refuse_rest};
use crate::router::{App, AppState};
use crate::tokens::{self, Counted};
use crate::{
    ApiProblem, CheckAnswer, CheckQuestion, CheckReason, Enforcement, FailPolicy, Reservation, ThrottleFinding, clock,
    schema,
};

/// The largest body, in bytes: a text of a quarter of a million tokens.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The parameter that sets the status of every refusal.
pub(crate) const REFUSE_WITH: &str = "refuse_with";
/// When to ask again where that may help soon, in seconds.
const SOON_S: u64 = 1;
/// How long a reservation lasts where it does not say, in seconds: longer than most requests to a model.
pub(crate) const TTL_DEFAULT_S: u64 = 300;
/// How long it may last.
pub(crate) const TTL_MAX_S: u64 = 3600;

/// The answer with what is computed from it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckBody {
    #[serde(flatten)]
    answer: CheckAnswer,
    /// The same for people.
    detail: String,
    /// After how many seconds to ask again: when the window ends, or a throttle lets the next request through; only where blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// The tokens of `estimate.text`, which are part of the input that is expected; only where one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    text_tokens: Option<u64>,
    /// The vocabulary that counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<&'static str>,
    /// Whether the model has another vocabulary, or none that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    text_tokens_approximate: Option<bool>,
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
    let Asked { question, refuse_with, counted, .. } = read(&app, request, &[REFUSE_WITH]).await?;
    let Behind { enforcement, reason, policy } = Behind::now(&app);
    let answer = match policy {
        Some(FailPolicy::Open) => {
            CheckAnswer::of_no_budget(DecisionState::Allowed, CheckReason::EnforcementBehind, 200)
        }
        Some(FailPolicy::Closed) => closed(),
        _ => app.engine.check(&CheckQuestion { last_known: policy.is_some(), ..question }),
    };
    let body = CheckBody::new(answer, counted, Behind { enforcement, reason, policy });
    Ok(respond(&body, &body, refuse_with))
}

/// The same for a gateway that appends the original request's path to ours and keeps its method, as Envoy's `ext_authz` does. Query and
/// body are the original request's, so only headers are read.
pub(crate) async fn forwarded(state: State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (mut head, _) = request.into_parts();
    (head.method, head.uri) = (Method::GET, Uri::from_static("/v1/check"));
    check(state, Request::from_parts(head, Body::empty())).await
}

/// A reservation, with what a check says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReservationBody {
    /// What the event that settles it carries as the tag `outlay.reservation`, and what releases it.
    reservation: String,
    /// When it ends by itself.
    #[schemars(with = "schema::Time")]
    expires_at: TimeUs,
    #[serde(flatten)]
    check: CheckBody,
}

/// Holds an estimate, or answers as a check that refuses.
pub(crate) async fn reserve(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let Asked { question, ttl_s, counted, .. } = read(&app, request, &[]).await?;
    let ttl_s = ttl_s.unwrap_or(TTL_DEFAULT_S);
    if !(1..=TTL_MAX_S).contains(&ttl_s) {
        return Err(ApiProblem::invalid("ttl_s", format!("`ttl_s` is {ttl_s}; use 1 to {TTL_MAX_S} seconds")));
    }
    let behind = Behind::now(&app);
    if behind.policy == Some(FailPolicy::Closed) {
        let body = CheckBody::new(closed(), counted, behind);
        return Ok(respond(&body, &body, None));
    }
    let question = CheckQuestion { last_known: behind.policy.is_some(), ..question };
    let force = behind.policy == Some(FailPolicy::Open);
    match app.engine.reserve(&question, Duration::from_secs(ttl_s), force) {
        Reservation::Refused(answer) => {
            let body = CheckBody::new(answer, counted, behind);
            Ok(respond(&body, &body, None))
        }
        Reservation::Held { id, expires_at, answer } => {
            let check = CheckBody::new(answer, counted, behind);
            let body = ReservationBody { reservation: id, expires_at, check };
            let mut response = respond(&body.check, &body, None);
            *response.status_mut() = StatusCode::CREATED;
            if let Ok(location) = HeaderValue::from_str(&format!("/v1/reservations/{}", body.reservation)) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Reservation::Full => {
            let detail = "as many reservations are open as there may be; settle or release some";
            Err(ApiProblem::unavailable("reservations_full", detail, SOON_S))
        }
    }
}

/// Releases a reservation whose request is not made, or failed.
pub(crate) async fn release(State(app): State<AppState>, Path(id): Path<String>) -> Result<StatusCode, ApiProblem> {
    if app.engine.release(&id) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiProblem::not_found(
        "there is no such reservation: it is settled, released or over, or the server has started anew",
    ))
}

/// A question as it is read.
struct Asked {
    question: CheckQuestion<'static>,
    counted: Option<Counted>,
    ttl_s: Option<u64>,
    refuse_with: Option<u16>,
}

/// Reads a question; of the parameters that do not name a dimension these may be there.
async fn read(app: &App, request: Request, besides: &[&str]) -> Result<Asked, ApiProblem> {
    let (head, body) = request.into_parts();
    let names = &app.config.intake.config.headers;
    let (mut found, mut reading, mut ttl_s) = (Found::default(), Reading::default(), None);
    found.headers(&head.headers, names)?;
    reading.headers(&head.headers)?;
    let mut parameters = parameters(&head.uri)?;
    let refuse_with = if besides.contains(&REFUSE_WITH) { refuse_with(&mut parameters)? } else { None };
    for dimension in Dimension::ALL {
        if let Some(value) = parameters.remove(dimension.name()) {
            found.parameter(dimension, value)?;
        }
    }
    let known: Vec<&str> = ["the names of dimensions"].iter().chain(besides).copied().collect();
    refuse_rest(&parameters, &known.join(" and "))?;
    if head.method == Method::POST {
        let body = read_body(body, BODY_BYTES_MAX, app.config.body_timeout).await?;
        if !body.trim_ascii().is_empty() {
            expect_json(&head.headers)?;
            let Besides { estimate, ttl_s: asked_for } = found.body(&body)?;
            reading.body(&estimate)?;
            ttl_s = asked_for;
        }
    }
    let dimensions = found.finish(names)?;
    let (mut estimate, mut counted) = (None, None);
    if let Some(Read { estimate: mut amounts, text }) = reading.finish()? {
        if let Some(text) = text {
            let count = count_text(dimensions.get(Dimension::Model).map(str::to_owned), text).await?;
            amounts.tokens.input = amounts.tokens.input.saturating_add(count.tokens);
            counted = Some(count);
        }
        estimate = Some(amounts);
    }
    Ok(Asked { question: CheckQuestion { dimensions, estimate, last_known: false }, counted, ttl_s, refuse_with })
}

/// Counts a text where it holds nobody up: a large one takes tenths of a second.
async fn count_text(model: Option<String>, text: String) -> Result<Counted, ApiProblem> {
    let counting = tokio::task::spawn_blocking(move || tokens::count(model.as_deref(), &text));
    counting.await.map_err(|_| {
        ApiProblem::invalid("estimate.text", "this text cannot be counted; send its tokens as `estimate.input`")
    })
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

/// How current the balances are, and the policy that answers where they are not current enough.
struct Behind {
    enforcement: Enforcement,
    reason: Option<String>,
    policy: Option<FailPolicy>,
}

impl Behind {
    fn now(app: &App) -> Self {
        let enforcement = app.engine.enforcement();
        let reason = app.config.check.failure(&enforcement);
        let policy = reason.is_some().then_some(app.config.check.fail);
        Self { enforcement, reason, policy }
    }
}

fn closed() -> CheckAnswer {
    CheckAnswer::of_no_budget(DecisionState::Blocked, CheckReason::EnforcementBehind, 503)
}

fn seconds_until(time: TimeUs) -> u64 {
    clock::seconds_until(time, clock::now())
}

impl CheckBody {
    fn new(answer: CheckAnswer, counted: Option<Counted>, behind: Behind) -> Self {
        let retry_after_s =
            (answer.state == DecisionState::Blocked).then(|| match (answer.reason_code, answer.window) {
                (CheckReason::EnforcementBehind | CheckReason::Reserved(_), _) => SOON_S,
                (CheckReason::Throttled(_), _) => {
                    answer.throttle.as_ref().map_or(SOON_S, |of| seconds_until(of.reset_at))
                }
                (_, None) => SOON_S,
                (_, Some(window)) => seconds_until(window.end),
            });
        Self {
            detail: sentence(&answer, behind.reason.as_deref()),
            retry_after_s,
            text_tokens: counted.map(|counted| counted.tokens),
            tokenizer: counted.map(|counted| counted.tokenizer),
            text_tokens_approximate: counted.map(|counted| counted.is_approximate),
            enforcement_lag_us: behind.enforcement.lag_us,
            fail_policy: behind.policy,
            fail_reason: behind.reason,
            answer,
        }
    }
}

/// An answer with what `body` says as headers, too; `written` is the whole of it.
fn respond(body: &CheckBody, written: &impl Serialize, refuse_with: Option<u16>) -> Response {
    let answer = &body.answer;
    let own = match (answer.state, answer.http_status) {
        (DecisionState::Allowed, _) => 200,
        (DecisionState::Blocked, status @ (429 | 503)) => status,
        (DecisionState::Blocked, _) => 403,
    };
    let status = refuse_with.filter(|_| own != 200).unwrap_or(own);
    let mut response = json(status, written);
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
    let throttle = answer.throttle.as_ref();
    add("x-outlay-status", own.to_string());
    add("x-outlay-reason", answer.reason_code.to_string());
    add("x-outlay-enforcement-lag-ms", body.enforcement_lag_us.div_ceil(1000).to_string());
    for (name, value) in [
        ("x-outlay-budget", answer.budget.clone()),
        ("x-outlay-measure", answer.measure.clone()),
        ("x-outlay-limit", answer.limit.clone()),
        ("x-outlay-overage", answer.overage.clone()),
        ("x-outlay-used", answer.used.clone()),
        ("x-outlay-held", answer.held.clone()),
        ("x-outlay-estimate", answer.estimate.clone()),
        ("x-outlay-reset", answer.window.map(|window| window.end.to_string())),
        ("x-outlay-would-block", answer.would_block.as_ref().map(|shadow| shadow.budget.clone())),
        ("x-outlay-would-throttle", answer.would_throttle.as_ref().map(|throttle| throttle.budget.clone())),
        ("x-outlay-fail-policy", body.fail_policy.map(|policy| policy.name().to_owned())),
        // By draft-ietf-httpapi-ratelimit-headers: a quota of `q` requests in a window of `w` seconds, of which `r` remain, until in `t` seconds more do.
        // An id of a budget needs no escapes.
        ("ratelimit-policy", throttle.map(|of| format!("\"{}\";q={};w={}", of.budget, of.requests, of.per_s))),
        (
            "ratelimit",
            throttle.map(|of| format!("\"{}\";r={};t={}", of.budget, of.remaining, seconds_until(of.reset_at))),
        ),
    ] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    response
}

/// What has this reason, and what is at its end.
fn rule(reason: CheckReason) -> (&'static str, &'static str) {
    match reason {
        CheckReason::Decision(ReasonCode::CircuitOpen) => ("breaker", "half open from"),
        CheckReason::Throttled(ThrottleReason::CircuitHalfOpen) => ("breaker", "closes"),
        _ => ("budget", "resets"),
    }
}

fn overage(overage: Option<&str>) -> String {
    overage.map(|overage| format!(" (and {overage} of overage)")).unwrap_or_default()
}

/// The answer as one sentence, like `blocked: 1000450 of 1000000 tokens used of budget support-daily for namespace=support; resets …`.
fn sentence(answer: &CheckAnswer, fail_reason: Option<&str>) -> String {
    let state = match answer.state {
        DecisionState::Allowed => "allowed",
        DecisionState::Blocked => "blocked",
    };
    let (what, ends) = rule(answer.reason_code);
    let mut text = match (&answer.budget, &answer.limit, &answer.used) {
        (Some(budget), Some(limit), Some(used)) => {
            let currency = answer.currency.map(|currency| currency.to_string());
            let unit = currency.or(answer.measure.clone()).unwrap_or_default();
            let scope = answer.scope.as_ref().map(ToString::to_string).unwrap_or_default();
            let more =
                |what: &Option<String>, name| what.as_ref().map_or(String::new(), |what| format!(", {what} {name}"));
            let (held, estimate) = (more(&answer.held, "held"), more(&answer.estimate, "expected"));
            let overage = overage(answer.overage.as_deref());
            format!("{state}: {used} of {limit}{overage} {unit} used{held}{estimate} of {what} {budget} for {scope}")
        }
        _ if answer.reason_code == CheckReason::EnforcementBehind => format!("{state}: enforcement is behind"),
        _ if answer.state == DecisionState::Allowed => "allowed: no budget matches".to_owned(),
        _ => format!("blocked: {}", answer.reason_code),
    };
    // Writing to a String cannot fail.
    if let Some(window) = answer.window {
        let _ = write!(text, "; {ends} {}", window.end);
    }
    for (throttle, says) in [(&answer.throttle, "throttles"), (&answer.would_throttle, "in shadow would throttle")] {
        if let Some(ThrottleFinding { budget, scope, reason_code, requests, per_s, by, .. }) = throttle {
            let what = rule(CheckReason::Throttled(*reason_code)).0;
            let _ = write!(
                text,
                "; {what} {budget} {says} to {requests} requests in {per_s} s for {scope} ({reason_code})"
            );
            if let Some(by) = by {
                let _ = write!(text, ", because {by} is nearly used up");
            }
        }
    }
    if let Some(shadow) = &answer.would_block {
        let unit = shadow.currency.map_or_else(|| shadow.measure.clone(), |currency| currency.to_string());
        let (budget, status, reason) = (&shadow.budget, shadow.http_status, shadow.reason_code);
        let (used, limit, overage) = (&shadow.used, &shadow.limit, overage(shadow.overage.as_deref()));
        let what = rule(CheckReason::Decision(reason)).0;
        let _ = write!(text, "; {what} {budget} in shadow would answer {status} {reason}: ");
        let _ = write!(text, "{used} of {limit}{overage} {unit} used for {}", shadow.scope);
    }
    if let Some(why) = fail_reason {
        let _ = write!(text, "; {why}");
    }
    text
}
