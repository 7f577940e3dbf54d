//! Who may go on, but not as fast as it likes.

use usage_types::{Budget, Decision, DecisionState, Mode, ReasonCode, Scope, Throttle, ThrottleReason, TimeUs};

use crate::budgets::BudgetState;
use crate::intern::ScopeId;
use crate::ledger::Ledger;

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
    /// How a scope is slowed that is not blocked, if it is. `last` is what was decided before.
    pub(super) fn of(
        ledger: &Ledger,
        state: &BudgetState,
        scope: &Scope,
        found: Option<ScopeId>,
        last: Option<&Decision>,
        now: TimeUs,
    ) -> Option<Self> {
        let predict = state.budget.predict?;
        let forecast = state.forecast(ledger, found, now)?;
        let window = ledger.used_at(state.tracker, found, now).window;
        let said = last.filter(|last| last.window == window).and_then(|last| {
            let throttles = [last.throttle.as_ref(), last.would_throttle.as_ref()];
            throttles.into_iter().flatten().find(|said| said.reason_code == ThrottleReason::PredictedOverspend)
        });
        let rate = forecast.slow(&predict, said.map(Throttle::rate))?;
        let throttle = Some(Throttle::paced(ThrottleReason::PredictedOverspend, rate));
        let (throttle, would_throttle) = match state.mode_of(scope) {
            Mode::Shadow => (None, throttle),
            _ => (throttle, None),
        };
        Some(Self { throttle, would_throttle, until: window.end, look_at: forecast.look_at })
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
