//! Pressure: a budget that several share is nearly used up, and slows those below it, low priority first.
//!
//! Below a budget is a scope of another one that has all of its values and names at least one dimension more. How such a scope is slowed is a function of the
//! balance above it (`decide/slow.rs`). What is kept here only says whom to look at: how far each shared budget was used up when it was looked at last.

use std::collections::HashMap;

use usage_types::{Budget, Decision, Mode, Scope, Throttle, ThrottleReason, TimeUs};

use crate::budgets::{BudgetState, Budgets};
use crate::intern::{ScopeId, Sym};
use crate::ledger::Ledger;

/// Which steps were reached.
#[derive(Debug, Default)]
pub(crate) struct Pressures {
    /// By tracker and scope: in the window that ends then, so many. None is zero.
    levels: HashMap<(u32, ScopeId), (TimeUs, usize)>,
}

/// A budget above that presses on a scope.
#[derive(Debug)]
pub(crate) struct Pressed {
    pub(crate) throttle: Throttle,
    pub(crate) until: TimeUs,
    pub(crate) is_shadow: bool,
}

impl Pressures {
    /// Whether any budget presses on anybody.
    pub(crate) fn any(&self) -> bool {
        !self.levels.is_empty()
    }

    /// Begins anew: everything is looked at again.
    pub(crate) fn clear(&mut self) {
        self.levels.clear();
    }

    /// Forgets windows that are over.
    pub(crate) fn forget(&mut self, now: TimeUs) {
        self.levels.retain(|_, (end, _)| *end > now);
    }

    /// Takes note of a balance that changed. Where other steps hold than did before, how many did.
    pub(crate) fn note(
        &mut self,
        ledger: &Ledger,
        at: u32,
        state: &BudgetState,
        now: TimeUs,
    ) -> Option<(usize, usize)> {
        let pressure = state.budget.pressure.as_ref()?;
        let balance = ledger.balances.get(at);
        let window = ledger.windows.get(balance.window).window;
        if !window.contains(now) {
            return None;
        }
        let fill = ledger.limits(at, &state.budget).tightest(|measure| balance.amount(measure));
        let level = pressure.level(|share| fill.has_reached(share));
        let key = (state.tracker, balance.scope);
        let known = self.levels.get(&key).filter(|(end, _)| *end == window.end).map_or(0, |(_, level)| *level);
        match level {
            0 => drop(self.levels.remove(&key)),
            level => drop(self.levels.insert(key, (window.end, level))),
        }
        (level != known).then_some((known, level))
    }
}

/// Whether scopes of one budget can lie below scopes of another one.
pub(crate) fn may_press(above: &Budget, below: &Budget) -> bool {
    let (wide, narrow) = (above.scope_dimensions(), below.scope_dimensions());
    let presses = above.pressure.and_then(|pressure| pressure.step(below.priority)).is_some();
    presses && above.id != below.id && wide != narrow && wide.iter().all(|dim| narrow.contains(dim))
}

/// The budgets that press on a scope of another one, of those that are effective or in shadow for it.
pub(crate) fn pressed(
    ledger: &Ledger,
    budgets: &Budgets,
    state: &BudgetState,
    scope: &Scope,
    now: TimeUs,
) -> Vec<Pressed> {
    let mut pressed = Vec::new();
    for above in budgets.pressing().filter(|above| may_press(&above.budget, &state.budget)) {
        let budget = &above.budget;
        let step = budget.pressure.and_then(|pressure| pressure.step(state.budget.priority));
        let value = |dim| scope.get(dim);
        let is_below = budget.matches.iter().all(|(dim, text)| value(dim) == Some(text));
        let (Some(step), true, None) = (step, is_below, above.warming) else { continue };
        let used = ledger.used_at(above.tracker, ledger.find_scope(above.tracker, value), now);
        let fill = budget.limits_of(value).tightest(|measure| used.amount(measure));
        let dims = budget.scope_dimensions();
        let mode = above.mode_at(|| Scope::new(dims.iter().filter_map(|dim| Some((dim, scope.get(dim)?)))));
        if mode == Mode::Soft || !fill.has_reached(step.at) {
            continue;
        }
        let throttle = Throttle::paced(ThrottleReason::PriorityThrottled, step.rate);
        let throttle = Throttle { by: Some(budget.id.to_string()), ..throttle };
        pressed.push(Pressed { throttle, until: used.window.end, is_shadow: mode == Mode::Shadow });
    }
    pressed
}

impl Ledger {
    /// Has the balances of a tracker looked at whose scopes have all values that another scope has, in the windows of now.
    pub(crate) fn mark_below(&mut self, tracker: u32, above: &Scope, now: TimeUs) {
        let wanted: Option<Vec<Sym>> = above.iter().map(|(_, text)| self.symbols.find(text)).collect();
        let Some(wanted) = wanted else { return };
        let dims = &self.group(self.tracker(tracker).group).dims;
        let places: Vec<Option<usize>> =
            above.iter().map(|(dim, _)| dims.iter().position(|known| *known == dim)).collect();
        let is_moving = self.tracker(tracker).moving.is_some();
        let mut below = Vec::new();
        for window in self.tracker(tracker).windows.values() {
            if is_moving || self.windows.get(*window).window.contains(now) {
                below.extend(self.chain(*window).filter(|at| {
                    let symbols = self.scopes.symbols(self.balances.get(*at).scope);
                    places.iter().zip(&wanted).all(|(place, sym)| place.is_some_and(|place| symbols[place] == *sym))
                }));
            }
        }
        below.into_iter().for_each(|at| self.mark_dirty(at, false));
    }
}

/// Whether a decision slows its scope because of such a budget.
pub(crate) fn is_pressed(decision: &Decision) -> bool {
    let said = [decision.throttle.as_ref(), decision.would_throttle.as_ref()];
    said.into_iter().flatten().any(|throttle| throttle.reason_code == ThrottleReason::PriorityThrottled)
}
