//! What a change of a budget would do at once: whom it would block, or not block any more, at the balances of now.

use std::sync::Arc;

use budget_core::{BalanceFilter, BalanceView, Kind, KindFilter, StandingState, same_balances};
use http_api::{PlannedEffect, PlannedScope};
use usage_types::{Budget, Mode, TimeUs};

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
        effect.complete = new.is_none_or(|new| !blocks(new));
        return effect;
    };
    if new.is_some_and(|new| !same_balances(old, new)) {
        effect.complete = !blocks(old) && new.is_none_or(|new| !blocks(new));
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

fn look(view: &BalanceView, old: &Budget, new: Option<&Arc<Budget>>, effect: &mut PlannedEffect) {
    let Kind::Budget(standing) = &view.kind else { return };
    if standing.state == StandingState::Warming {
        effect.complete = false;
        return;
    }
    let amount = |measure| view.amount(measure);
    let was = blocks(old) && standing.state == StandingState::Exceeded;
    let fill = new.map(|new| new.limits_of(|dim| view.scope.get(dim)).tightest(amount));
    let will = new.is_some_and(|new| blocks(new)) && fill.is_some_and(|fill| fill.is_reached());
    if was == will {
        return;
    }
    *(if will { &mut effect.blocks } else { &mut effect.unblocks }) += 1;
    if effect.scopes.len() < SCOPES_NAMED {
        let fill = fill.unwrap_or(standing.tightest);
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

/// Whether the budget blocks whoever has reached it.
fn blocks(budget: &Budget) -> bool {
    budget.mode == Mode::Hard
}
