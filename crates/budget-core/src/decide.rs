//! Decisions: who may not spend any more, and who may again.
//!
//! Holds here: a decision is a function of the balance in the current window, compared with the last decision for its key. Nothing
//! is decided by an event. So whatever was lost or failed is made up for by looking again, and looking again changes
//! nothing. The sequence number of a key only rises; it rises by one, but for a decision that could not be published, and for a key that
//! comes back after it was forgotten.

mod forget;

use std::collections::{BTreeMap, BTreeSet};

use usage_types::{Budget, Decision, DecisionState, Fill, Mode, ReasonCode, Scope, TimeUs, Window, decision_key};

use crate::balance::Flags;
use crate::budgets::{BudgetState, Budgets, owns};
use crate::ledger::Ledger;
use crate::moving::Used;
use forget::Endings;

pub use forget::DECISIONS_KEPT_US;

/// The last decision for each key, and which keys need a look.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    published: BTreeMap<String, Decision>,
    /// Blocks in force, by expiry.
    expiries: BTreeSet<(TimeUs, String)>,
    /// Keys to look at again: loaded, or of a budget that changed.
    recheck: BTreeSet<String>,
    /// Keys whose last decision did not reach the log.
    unpublished: BTreeSet<String>,
    /// Balances to look at though no event comes: of windows that have not begun, because a sender's clock may be ahead of ours, and of moving ones
    /// whose fill will rise.
    starts: BTreeSet<(TimeUs, u32)>,
    /// Keys that are over.
    endings: Endings,
}

/// Keys to look at, with the budget and scope of each.
pub(crate) type Keys = BTreeMap<String, (String, Scope)>;

/// What ought to be in force for a key.
enum Verdict {
    /// With the limit that it names, and that one's place in the list.
    Blocked(Window, Fill, usize),
    Allowed(Window, Fill),
    /// The budget is gone or does not block, or the scope is not one of its.
    Removed,
    /// Not to be decided yet.
    Warming,
}

impl Decisions {
    pub(crate) fn load(&mut self, decision: Decision) {
        let key = decision.key();
        self.recheck.insert(key.clone());
        self.put(key, decision);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.published.values()
    }

    /// The last decision for a scope, where it blocks now.
    pub(crate) fn block(&self, budget: &str, scope: &Scope, now: TimeUs) -> Option<&Decision> {
        let last = self.published.get(&decision_key(budget, scope))?;
        (last.state == DecisionState::Blocked && last.window.contains(now)).then_some(last)
    }

    pub(crate) fn blocked(&self) -> usize {
        self.expiries.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.published.len()
    }

    /// Has the keys of a budget looked at again.
    pub(crate) fn recheck_budget(&mut self, id: &str) {
        let prefix = format!("{id}|");
        let keys = self.published.range(prefix.clone()..).map(|(key, _)| key);
        self.recheck.extend(keys.take_while(|key| key.starts_with(&prefix)).cloned());
    }

    /// Has a decision made again that did not reach the log, unless a newer one has been made since.
    pub(crate) fn retract(&mut self, decision: &Decision) {
        let key = decision.key();
        self.endings.lost();
        if self.published.get(&key).is_some_and(|last| last.seq == decision.seq) {
            self.unpublished.insert(key);
        }
    }

    /// When a key needs a look though no event comes.
    pub(crate) fn next_after(&self, now: TimeUs) -> Option<TimeUs> {
        let after = now.plus_us(1);
        let expiry = self.expiries.range((after, String::new())..).next().map(|(time, _)| *time);
        let start = self.starts.range((after, 0)..).next().map(|(time, _)| *time);
        expiry.into_iter().chain(start).chain(self.endings.next_after(after)).min()
    }

    /// Balances whose windows have begun by now.
    pub(crate) fn take_started(&mut self, now: TimeUs) -> Vec<u32> {
        let later = self.starts.split_off(&(now.plus_us(1), 0));
        std::mem::replace(&mut self.starts, later).into_iter().map(|(_, balance)| balance).collect()
    }

    /// Looks at a balance that changed: its key needs a look where the balance and the last decision may disagree.
    pub(crate) fn note(&mut self, ledger: &Ledger, at: u32, state: &BudgetState, now: TimeUs, keys: &mut Keys) {
        if state.budget.mode != Mode::Hard {
            return;
        }
        let balance = ledger.balances.get(at);
        let window = ledger.windows.get(balance.window).window;
        let limits = ledger.limits(at, &state.budget);
        let amount = |measure| balance.amount(measure);
        if window.start > now {
            if limits.is_reached(amount) {
                self.starts.insert((window.start, at));
            }
            return;
        }
        let agrees = if balance.flags.has(Flags::BLOCK_PUBLISHED) {
            limits.fills(amount).nth(usize::from(balance.tripped)).is_some_and(|fill| fill.is_reached())
        } else {
            !limits.is_reached(amount)
        };
        if window.contains(now) && !agrees {
            let scope = ledger.scope_of(at);
            keys.insert(decision_key(&state.budget.id, &scope), (state.budget.id.to_string(), scope));
        }
    }

    /// Looks at what a scope has used in a moving window, one of whose buckets changed.
    pub(crate) fn note_moving(
        &mut self,
        ledger: &Ledger,
        at: u32,
        state: &BudgetState,
        used: &Used<'_>,
        keys: &mut Keys,
    ) {
        let (budget, limits) = (&state.budget, ledger.limits(at, &state.budget));
        if let (Some(rise), Some(newest)) = (used.rises(ledger, limits, &budget.alerts.at), used.newest()) {
            self.starts.insert((rise, newest));
        }
        if budget.mode != Mode::Hard {
            return;
        }
        let scope = ledger.scope_of(at);
        let key = decision_key(&budget.id, &scope);
        // Of a block its end may have changed, so that one is always decided again.
        let is_blocked = || self.published.get(&key).is_some_and(|last| last.state == DecisionState::Blocked);
        if limits.is_reached(|measure| used.amount(measure)) || is_blocked() {
            keys.insert(key, (budget.id.to_string(), scope));
        }
    }

    /// Decides every key that needs it; `keys` are those that [`Decisions::note`] found.
    pub(crate) fn decide(
        &mut self,
        ledger: &mut Ledger,
        budgets: &Budgets,
        now: TimeUs,
        mut keys: Keys,
    ) -> Vec<Decision> {
        let expired = self.expiries.iter().take_while(|(time, _)| *time <= now).map(|(_, key)| key);
        for key in expired.chain(&self.recheck).chain(&self.unpublished) {
            if let Some(last) = self.published.get(key) {
                keys.entry(key.clone()).or_insert_with(|| (last.budget.clone(), last.scope.clone()));
            }
        }
        let mut made = Vec::new();
        for (key, (budget_id, scope)) in keys {
            let state = budgets.by_id(&budget_id);
            let last = self.published.get(&key);
            let (verdict, balance, rise) = verdict(ledger, state, &scope, last, now);
            if matches!(verdict, Verdict::Warming) {
                self.recheck.insert(key);
                continue;
            }
            self.recheck.remove(&key);
            let forced = self.unpublished.remove(&key);
            if let Some(balance) = balance.map(|at| ledger.balances.get_mut(at)) {
                let tripped = if let Verdict::Blocked(.., at) = verdict { Some(at) } else { None };
                balance.flags.set(Flags::BLOCK_PUBLISHED, tripped.is_some());
                balance.tripped = tripped.unwrap_or(0) as u8;
            }
            let budget = state.map(|state| &*state.budget);
            if let Some((rise, newest)) = rise {
                self.starts.insert((rise, newest));
            }
            let seq = last.map_or(self.endings.floor(), |last| last.seq) + 1;
            let Some(decision) = decision(verdict, budget, scope, (last, seq), forced, now) else { continue };
            made.push(decision.clone());
            self.put(key, decision);
        }
        self.endings.sent(made.len());
        made
    }

    fn put(&mut self, key: String, decision: Decision) {
        let last = self.published.get(&key);
        if let Some(last) = last {
            self.expiries.remove(&(last.expires_at, key.clone()));
        }
        self.endings.replace(last, &key, &decision);
        if decision.state == DecisionState::Blocked {
            self.expiries.insert((decision.expires_at, key.clone()));
        }
        self.published.insert(key, decision);
    }
}

fn verdict(
    ledger: &Ledger,
    state: Option<&BudgetState>,
    scope: &Scope,
    last: Option<&Decision>,
    now: TimeUs,
) -> (Verdict, Option<u32>, Option<(TimeUs, u32)>) {
    let Some(state) = state.filter(|state| state.budget.mode == Mode::Hard && owns(&state.budget, scope)) else {
        return (Verdict::Removed, None, None);
    };
    if state.warming.is_some() {
        return (Verdict::Warming, None, None);
    }
    let limits = state.budget.limits_of(|dim| scope.get(dim));
    let scope = ledger.find_scope(state.tracker, |dim| scope.get(dim));
    let used = ledger.used_at(state.tracker, scope, now);
    let amount = |measure| used.amount(measure);
    let tightest = limits.tightest(amount);
    let rise = used.rises(ledger, limits, &state.budget.alerts.at).zip(used.newest());
    if !tightest.is_reached() {
        return (Verdict::Allowed(used.window, tightest), used.at, rise);
    }
    let window = used.reached_window(ledger, limits);
    let is_named = |fill: &Fill| last.is_some_and(|last| names(last, fill, &state.budget, window)) && fill.is_reached();
    let named = limits.fills(amount).find(is_named).unwrap_or(tightest);
    let place = limits.iter().position(|limit| limit == named.limit).unwrap_or(0);
    (Verdict::Blocked(window, named, place), used.at, rise)
}

/// Whether a decision blocks this window because of this limit, whatever its amount was. A window that moves is the same while the block lasts.
fn names(decision: &Decision, fill: &Fill, budget: &Budget, window: Window) -> bool {
    let measure = fill.limit.measure;
    decision.state == DecisionState::Blocked
        && (budget.window.is_moving() || decision.window == window)
        && decision.measure == measure.name()
        && decision.currency == measure.currency()
}

/// The decision to publish, where the last one does not say the same.
fn decision(
    verdict: Verdict,
    budget: Option<&Budget>,
    scope: Scope,
    (last, seq): (Option<&Decision>, u64),
    forced: bool,
    now: TimeUs,
) -> Option<Decision> {
    let was_blocked = last.is_some_and(|last| last.state == DecisionState::Blocked);
    let made = match (verdict, budget) {
        (Verdict::Blocked(window, fill, _), Some(budget)) => {
            let made = from_budget(budget, scope, window, fill, seq, now);
            return (forced || !last.is_some_and(|last| same(last, &made, budget))).then_some(made);
        }
        (Verdict::Allowed(window, fill), Some(budget)) => Decision {
            state: DecisionState::Allowed,
            reason_code: ReasonCode::WithinQuota,
            http_status: 200,
            ..from_budget(budget, scope, window, fill, seq, now)
        },
        // The last decision says what the block was about; there is none only where nothing has to be said.
        _ => Decision {
            state: DecisionState::Allowed,
            reason_code: ReasonCode::BudgetRemoved,
            http_status: 200,
            seq,
            decided_at: now,
            ..last?.clone()
        },
    };
    (was_blocked || forced).then_some(made)
}

fn from_budget(budget: &Budget, scope: Scope, window: Window, fill: Fill, seq: u64, now: TimeUs) -> Decision {
    let measure = fill.limit.measure;
    Decision {
        budget: budget.id.to_string(),
        scope,
        state: DecisionState::Blocked,
        reason_code: ReasonCode::exceeded(budget.narrowest_dimension()),
        http_status: budget.http_status,
        measure: measure.name().to_owned(),
        currency: measure.currency(),
        limit: measure.format(fill.limit.amount),
        used: measure.format(fill.used),
        seq,
        window,
        decided_at: now,
        expires_at: window.end,
    }
}

/// Whether two decisions say the same; what was used by then may differ, and since when it counts in a window that moves.
fn same(a: &Decision, b: &Decision, budget: &Budget) -> bool {
    let start = |d: &Decision| (!budget.window.is_moving()).then_some(d.window.start);
    let said =
        |d: &Decision| (d.state, d.reason_code, d.http_status, d.currency, d.window.zone, start(d), d.expires_at);
    said(a) == said(b) && a.measure == b.measure && a.limit == b.limit
}
