//! What a gateway is told before a request is made: checks and reservations, answered from the one lock.

use std::collections::BTreeMap;
use std::time::Duration;

use budget_core::{Admission, Check, OpenCircuit, Question, Ration, Restraint, Standing};
use http_api::{CheckAnswer, CheckQuestion, CheckReason, Reservation, ShadowFinding, ThrottleFinding};
use usage_types::{
    Amount, Breaker, DecisionState, Dimension, Dimensions, Estimate, Fill, Money, ReasonCode, Role, Scope, Throttle,
    TimeUs, Tokens, UsageEvent, Window,
};

use super::counted::Counted;
use super::shared::Shared;

/// Whether a request may be made now.
pub fn check(shared: &Shared, question: &CheckQuestion<'_>) -> CheckAnswer {
    let now = TimeUs::from(chrono::Utc::now());
    let mut counted = shared.counted.lock();
    counted.core.expire_holds(now);
    let estimate = priced(&mut counted, question, now);
    let admission = counted.core.admit(&asked(question, estimate.as_ref()), now);
    drop(counted);
    answer_of(admission, estimate.as_ref())
}

/// Holds an estimate, where the request may be made or with `force`.
pub fn reserve(shared: &Shared, question: &CheckQuestion<'_>, ttl: Duration, force: bool) -> Reservation {
    let now = TimeUs::from(chrono::Utc::now());
    let expires_at = now.plus_us(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
    let mut random = [0_u8; 16];
    // Without randomness an id could be guessed, and another's reservation settled: none is given then.
    if getrandom::fill(&mut random).is_err() {
        return Reservation::Full;
    }
    let id = format!("{:032x}", u128::from_le_bytes(random));
    let mut counted = shared.counted.lock();
    let estimate = priced(&mut counted, question, now);
    let admission = counted.core.reserve(&id, &asked(question, estimate.as_ref()), expires_at, force, now);
    drop(counted);
    let Ok(admission) = admission else { return Reservation::Full };
    let is_held = force || admission.is_allowed();
    let answer = answer_of(admission, estimate.as_ref());
    if is_held { Reservation::Held { id, expires_at, answer } } else { Reservation::Refused(answer) }
}

fn asked<'q>(question: &'q CheckQuestion<'_>, estimate: Option<&'q Estimate>) -> Question<'q> {
    Question { dimensions: &question.dimensions, estimate, last_known: question.last_known }
}

/// The estimate with its cost: what it says itself, else what the price book makes of it, where the model is named.
fn priced(counted: &mut Counted, question: &CheckQuestion<'_>, now: TimeUs) -> Option<Estimate> {
    let mut estimate = question.estimate.clone()?;
    if estimate.cost.is_none() && question.dimensions.get(Dimension::Model).is_some() {
        let (cost, _) = counted.price(&event_of(&estimate, &question.dimensions, now), now);
        estimate.cost = cost.map(|cost| Money { amount: cost.amount, currency: cost.currency });
    }
    Some(estimate)
}

/// The event that a request would become that uses what is expected; tokens of no known class at the price of input.
fn event_of<'q>(estimate: &Estimate, dimensions: &'q Dimensions<'_>, now: TimeUs) -> UsageEvent<'q> {
    let mut own = Dimensions::default();
    for (dimension, value) in dimensions.iter() {
        own.set(dimension, Some(value.into()));
    }
    UsageEvent {
        id: None,
        source: "".into(),
        time: now,
        dimensions: own,
        tokens: Tokens { input: estimate.tokens.input.saturating_add(estimate.other_tokens), ..estimate.tokens },
        requests: estimate.requests,
        tool_calls: estimate.tool_calls,
        images: estimate.images,
        compute: estimate.compute,
        cost: None,
        tags: BTreeMap::new(),
        role: Role::Usage,
        progress: None,
    }
}

/// What budgets and circuits say, with the throttles that the request met.
fn answer_of(admission: Admission, estimate: Option<&Estimate>) -> CheckAnswer {
    let Admission { check, throttled, would_throttle } = admission;
    let said = CheckAnswer { would_throttle: would_throttle.as_ref().map(of_throttle), ..answer(check, estimate) };
    let Some(ration) = throttled else { return said };
    let throttle = Some(of_throttle(&ration));
    if ration.retry_at.is_none() {
        return CheckAnswer { throttle, ..said };
    }
    let Ration { budget, scope, throttle: of, window, fill, .. } = &ration;
    let measure = fill.limit.measure;
    CheckAnswer {
        state: DecisionState::Blocked,
        reason_code: CheckReason::Throttled(of.reason_code),
        http_status: Throttle::HTTP_STATUS,
        budget: Some(budget.to_string()),
        scope: Some(scope.clone()),
        measure: Some(measure.name().to_owned()),
        currency: measure.currency(),
        limit: Some(measure.format(fill.limit.amount)),
        overage: fill.limit.told_overage(),
        used: Some(measure.format(fill.used)),
        estimate: estimate.map(|estimate| measure.format(estimate.amount(measure))),
        window: Some(*window),
        held: None,
        // Who is refused anyway is not told what else would.
        would_block: None,
        throttle,
        would_throttle: None,
    }
}

fn of_throttle(ration: &Ration) -> ThrottleFinding {
    let Ration { budget, scope, throttle, window, remaining, full_at, .. } = ration;
    ThrottleFinding {
        budget: budget.to_string(),
        scope: scope.clone(),
        reason_code: throttle.reason_code,
        requests: throttle.requests,
        per_s: throttle.per_s,
        burst: throttle.burst,
        by: throttle.by.clone(),
        remaining: *remaining,
        reset_at: *full_at,
        expires_at: window.end,
    }
}

fn answer(check: Check, estimate: Option<&Estimate>) -> CheckAnswer {
    let (allowed, blocked) = (DecisionState::Allowed, DecisionState::Blocked);
    let (standing, state) = match &check {
        Check::Allowed(standing) | Check::WouldBlock { tightest: standing, .. } => (standing.as_ref(), allowed),
        Check::Reserved(standing) | Check::Exceeds(standing) | Check::Blocked(standing) => (Some(standing), blocked),
        Check::CircuitOpen(_) => (None, blocked),
    };
    let narrowest = standing.and_then(|standing| standing.budget.narrowest_dimension());
    let own = standing.map_or(200, |standing| standing.budget.http_status);
    let (reason, status) = match &check {
        Check::Allowed(_) | Check::WouldBlock { .. } => (CheckReason::Decision(ReasonCode::WithinQuota), 200),
        // It may help to ask again in a moment, whatever the window.
        Check::Reserved(_) => (CheckReason::Reserved(narrowest), 429),
        Check::Exceeds(_) => (CheckReason::EstimateExceeds(narrowest), own),
        Check::Blocked(standing) => (CheckReason::Decision(standing.reason()), own),
        Check::CircuitOpen(_) => (CheckReason::Decision(ReasonCode::CircuitOpen), Breaker::HTTP_STATUS),
    };
    let would_block = if let Check::WouldBlock { by, .. } = &check { Some(finding(by)) } else { None };
    let none = CheckAnswer { would_block, ..CheckAnswer::of_no_budget(state, reason, status) };
    let (told, fill, held) = match (&check, standing) {
        (Check::CircuitOpen(circuit), _) => (of_circuit(circuit), circuit.fill, Amount(0)),
        (_, Some(standing)) => (of_budget(standing), standing.fill, standing.held),
        (_, None) => return none,
    };
    let ShadowFinding { budget, scope, measure, currency, limit, overage, used, window, .. } = told;
    let format = |amount| fill.limit.measure.format(amount);
    CheckAnswer {
        budget: Some(budget),
        scope: Some(scope),
        measure: Some(measure),
        currency,
        limit: Some(limit),
        overage,
        used: Some(used),
        held: Some(held).filter(|held| *held != Amount(0)).map(format),
        estimate: estimate.map(|estimate| format(estimate.amount(fill.limit.measure))),
        window: Some(window),
        ..none
    }
}

fn finding(by: &Restraint) -> ShadowFinding {
    match by {
        Restraint::Budget(standing) => of_budget(standing),
        Restraint::Circuit(circuit) => of_circuit(circuit),
    }
}

/// What is told of how a budget stands, and how it would refuse.
fn of_budget(standing: &Standing) -> ShadowFinding {
    let Standing { budget, scope, window, fill, held: _ } = standing;
    told(&budget.id, scope, *window, fill, (standing.reason(), budget.http_status))
}

/// The same of a circuit that is open.
fn of_circuit(circuit: &OpenCircuit) -> ShadowFinding {
    let OpenCircuit { breaker, scope, window, fill, .. } = circuit;
    told(&breaker.id, scope, *window, fill, (ReasonCode::CircuitOpen, Breaker::HTTP_STATUS))
}

fn told(
    id: &str,
    scope: &Scope,
    window: Window,
    fill: &Fill,
    (reason_code, http_status): (ReasonCode, u16),
) -> ShadowFinding {
    let measure = fill.limit.measure;
    ShadowFinding {
        budget: id.to_owned(),
        scope: scope.clone(),
        reason_code,
        http_status,
        measure: measure.name().to_owned(),
        currency: measure.currency(),
        limit: measure.format(fill.limit.amount),
        overage: fill.limit.told_overage(),
        used: measure.format(fill.used),
        window,
    }
}
