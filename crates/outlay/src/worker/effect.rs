//! What a change of a budget would do at once: whom it would block, or not block any more, at the balances of now.

use std::sync::Arc;

use budget_core::{BalanceFilter, BalanceView, Kind, KindFilter, StandingState, mode_of, revision, same_balances};
use http_api::{PlannedEffect, PlannedScope};
use usage_types::{Budget, Decision, DecisionState, Mode, Scope, TimeUs};

use super::Shared;

/// Balances that are looked at: some hundred milliseconds, a slice of the lock at a time.
const BALANCES_MAX: usize = 200_000;
/// Balances taken while the lock is held once.
const PAGE_ROWS: usize = 500;
/// Scopes that are named.
const SCOPES_NAMED: usize = 20;

/// The effect of one budget becoming another one.
pub fn of(shared: &Shared, old: Option<&Arc<Budget>>, new: Option<&Arc<Budget>>) -> PlannedEffect {
    let mut effect = PlannedEffect { complete: true, ..PlannedEffect::default() };
    let Some(old) = old else {
        // Its balances are made of history when it comes.
        effect.complete = new.is_none_or(|new| !new.mode.may_block());
        return effect;
    };
    if new.is_some_and(|new| !same_balances(old, new)) {
        effect.complete = !old.mode.may_block() && new.is_none_or(|new| !new.mode.may_block());
        return effect;
    }
    let filter = BalanceFilter {
        kind: KindFilter::Budget(Arc::clone(&old.id)),
        at: Some(TimeUs::from(chrono::Utc::now())),
        ..BalanceFilter::default()
    };
    let (mut looked_at, mut after) = (0, None);
    loop {
        let page = shared.counted.lock().core.balances(&filter, after, PAGE_ROWS);
        looked_at += page.rows.len();
        page.rows.iter().for_each(|view| look(view, old, new, &mut effect));
        after = page.next;
        if after.is_none() {
            return effect;
        }
        if looked_at >= BALANCES_MAX {
            effect.complete = false;
            return effect;
        }
    }
}

/// The effect of a breaker that changes or goes: its circuits begin closed.
pub fn of_breaker(shared: &Shared, id: &str) -> PlannedEffect {
    let mut effect = PlannedEffect { complete: true, ..PlannedEffect::default() };
    let counted = shared.counted.lock();
    let is_open = |decision: &&Decision| decision.budget == id && decision.state == DecisionState::Blocked;
    for decision in counted.core.decisions().filter(is_open) {
        effect.unblocks += 1;
        if effect.scopes.len() < SCOPES_NAMED {
            let Decision { scope, measure, used, limit, .. } = decision.clone();
            effect.scopes.push(PlannedScope { scope, blocked: false, measure, used, limit });
        }
    }
    effect
}

fn look(view: &BalanceView, old: &Budget, new: Option<&Arc<Budget>>, effect: &mut PlannedEffect) {
    let Kind::Budget(standing) = &view.kind else { return };
    if standing.state == StandingState::Warming {
        effect.complete = false;
        return;
    }
    let was = standing.mode == Mode::Hard && standing.state == StandingState::Exceeded;
    let limits = new.map(|new| new.limits_of(|dim| view.scope.get(dim)));
    let amount = |measure| view.amount(measure);
    let tripped = limits.and_then(|limits| limits.tripped(amount));
    let will = tripped.is_some() && new.is_some_and(|new| will_block(old, standing.mode, new, &view.scope));
    if was == will {
        return;
    }
    *(if will { &mut effect.blocks } else { &mut effect.unblocks }) += 1;
    if effect.scopes.len() < SCOPES_NAMED {
        let fill = tripped.or(limits.map(|limits| limits.tightest(amount))).unwrap_or(standing.tightest);
        let measure = fill.limit.measure;
        effect.scopes.push(PlannedScope {
            scope: view.scope.clone(),
            blocked: will,
            measure: measure.name().to_owned(),
            used: measure.format(fill.used),
            limit: measure.format(fill.limit.amount),
        });
    }
}

/// Whether a budget that takes the place of another one blocks a scope that has reached it. `mode` is what the other one does for the scope.
fn will_block(old: &Budget, mode: Mode, new: &Budget, scope: &Scope) -> bool {
    // One that has rolled back goes on in shadow, unless what it is about has changed.
    let has_rolled_back = mode != mode_of(old, scope);
    mode_of(new, scope) == Mode::Hard && !(has_rolled_back && revision(old) == revision(new))
}
