//! Who may go on, but not as fast as it likes.

use usage_types::{Budget, Decision, DecisionState, Mode, ReasonCode, Scope, Throttle, ThrottleReason, TimeUs};

use crate::budgets::{BudgetState, Budgets};
use crate::intern::ScopeId;
use crate::ledger::Ledger;
use crate::moving::Used;
use crate::pressure::pressed;

/// How a scope is slowed.
#[derive(Debug)]
pub(super) struct Slowed {
    throttle: Option<Throttle>,
    would_throttle: Option<Throttle>,
    until: TimeUs,
    /// When it needs another look though no event comes.
    pub(super) look_at: Option<TimeUs>,
}

/// Whether a budget may slow its scopes: then those that change are looked at each time.
pub(super) fn may_slow(budget: &Budget) -> bool {
    budget.predict.is_some_and(|predict| predict.slow_us.is_some())
}

impl Slowed {
    /// How a scope is slowed that is not blocked, if it is: of several throttles by the slowest. `last` is what was decided before.
    pub(super) fn of(
        ledger: &Ledger,
        budgets: &Budgets,
        state: &BudgetState,
        scope: &Scope,
        used: &Used<'_>,
        (found, last): (Option<ScopeId>, Option<&Decision>),
        now: TimeUs,
    ) -> Option<Self> {
        let is_shadow = state.mode_of(scope) == Mode::Shadow;
        let mut slowed = Self { throttle: None, would_throttle: None, until: TimeUs(i64::MAX), look_at: None };
        if let Some((throttle, look_at)) = predicted(ledger, state, used, (found, last), now) {
            slowed.add(throttle, is_shadow, used.window.end);
            slowed.look_at = look_at;
        }
        // Who has used nothing in the window of now is looked at when something comes.
        if used.at.or(used.newest()).is_some() {
            for pressed in pressed(ledger, budgets, state, scope, now) {
                let own_end = if state.budget.window.is_moving() { pressed.until } else { used.window.end };
                slowed.add(pressed.throttle, is_shadow || pressed.is_shadow, pressed.until.min(own_end));
            }
        }
        (slowed.throttle.is_some() || slowed.would_throttle.is_some()).then_some(slowed)
    }

    fn add(&mut self, throttle: Throttle, is_shadow: bool, until: TimeUs) {
        self.until = self.until.min(until);
        let place = if is_shadow { &mut self.would_throttle } else { &mut self.throttle };
        if place.as_ref().is_none_or(|known| throttle.rate().cmp_speed(known.rate()).is_lt()) {
            *place = Some(throttle);
        }
    }

    /// The decision that says so, made of one that would block.
    pub(super) fn decision(self, block: Decision) -> Decision {
        Decision {
            state: DecisionState::Allowed,
            reason_code: ReasonCode::WithinQuota,
            http_status: 200,
            expires_at: self.until,
            throttle: self.throttle,
            would_throttle: self.would_throttle,
            ..block
        }
    }
}

/// How a scope is slowed because its cap would fall too soon, and when to look again.
fn predicted(
    ledger: &Ledger,
    state: &BudgetState,
    used: &Used<'_>,
    (found, last): (Option<ScopeId>, Option<&Decision>),
    now: TimeUs,
) -> Option<(Throttle, Option<TimeUs>)> {
    let predict = state.budget.predict?;
    let forecast = state.forecast(ledger, found, now)?;
    let said = last.filter(|last| last.window == used.window).and_then(|last| {
        let throttles = [last.throttle.as_ref(), last.would_throttle.as_ref()];
        throttles.into_iter().flatten().find(|said| said.reason_code == ThrottleReason::PredictedOverspend)
    });
    let rate = forecast.slow(&predict, said.map(Throttle::rate))?;
    Some((Throttle::paced(ThrottleReason::PredictedOverspend, rate), forecast.look_at))
}
