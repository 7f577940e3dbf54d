//! Decisions: who may not spend any more, and who may again.
//!
//! Holds here: a decision is a function of the balance in the current window, compared with the last decision for its key. Nothing
//! is decided by an event. So whatever was lost or failed is made up for by looking again, and looking again changes
//! nothing. The sequence number of a key only rises; it rises by one, but for a decision that could not be published, and for a key that
//! comes back after it was forgotten.

mod forget;
mod slow;

use std::collections::{BTreeMap, BTreeSet};

use usage_types::{
    Budget, Decision, DecisionState, Fill, Mode, ReasonCode, RolledBack, Scope, TimeUs, Window, decision_key,
};

use crate::balance::Flags;
use crate::breaker::{Breakers, OpenCircuit};
use crate::budgets::{BudgetState, Budgets};
use crate::intern::ScopeId;
use crate::jobs::Jobs;
use crate::ledger::Ledger;
use crate::moving::Used;
use crate::pressure::is_pressed;
use crate::rollback;
use forget::Endings;
use slow::Slowed;

pub use forget::DECISIONS_KEPT_US;

/// The last decision for each key, and which keys need a look.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    published: BTreeMap<String, Decision>,
    /// What blocks or throttles, or would, by expiry.
    expiries: BTreeSet<(TimeUs, String)>,
    /// How many of these block nobody, and how many throttle or would.
    would_block: usize,
    throttled: usize,
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
    /// Blocks or, in shadow, would: with the limit that it names, and that one's place in the list.
    Reached(Mode, Window, Fill, usize),
    Allowed(Window, Fill),
    /// May go on, but not as fast as it likes.
    Slowed(Window, Fill, Slowed),
    /// The budget as a whole has rolled back.
    RolledBack(RolledBack),
    /// It is a circuit, which is open, half open or closed.
    Circuit(Option<OpenCircuit>),
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

    /// The last decision for a scope, where it throttles now, or would.
    pub(crate) fn throttle(&self, budget: &str, scope: &Scope, now: TimeUs) -> Option<&Decision> {
        let last = self.published.get(&decision_key(budget, scope))?;
        (last.is_throttled() && now < last.expires_at).then_some(last)
    }

    pub(crate) fn blocked(&self) -> usize {
        self.expiries.len() - self.would_block - self.throttled
    }

    pub(crate) fn would_block(&self) -> usize {
        self.would_block
    }

    pub(crate) fn throttled(&self) -> usize {
        self.throttled
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

    /// Has everything decided anew that is slowed by a budget that others share.
    pub(crate) fn recheck_pressed(&mut self) {
        let pressed = self.published.iter().filter(|(_, decision)| is_pressed(decision)).map(|(key, _)| key.clone());
        self.recheck.extend(pressed);
    }

    /// Has everything decided anew that a budget has decided, and that it has rolled back.
    pub(crate) fn roll_back(&mut self, id: &str, budgets: &Budgets, keys: &mut Keys) {
        self.recheck_budget(id);
        if let Some(state) = budgets.by_id(id) {
            let scope = state.budget.matches.clone();
            keys.insert(decision_key(id, &scope), (id.to_owned(), scope));
        }
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
    /// `pressed`: some shared budget slows others.
    pub(crate) fn note(
        &mut self,
        ledger: &Ledger,
        at: u32,
        state: &BudgetState,
        now: TimeUs,
        pressed: bool,
        keys: &mut Keys,
    ) {
        if !state.budget.mode.decides() {
            return;
        }
        let balance = ledger.balances.get(at);
        let window = ledger.windows.get(balance.window).window;
        let limits = ledger.limits(at, &state.budget);
        let amount = |measure| balance.amount(measure);
        if window.start > now {
            if limits.is_reached(amount) || slow::may_slow(&state.budget) {
                self.starts.insert((window.start, at));
            }
            return;
        }
        let agrees = if balance.flags.has(Flags::BLOCK_PUBLISHED) {
            limits.fills(amount).nth(usize::from(balance.tripped)).is_some_and(|fill| fill.is_reached())
        } else {
            !limits.is_reached(amount)
        };
        if window.contains(now) && (!agrees || pressed || slow::may_slow(&state.budget)) {
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
        pressed: bool,
        keys: &mut Keys,
    ) {
        let (budget, limits) = (&state.budget, ledger.limits(at, &state.budget));
        if let (Some(rise), Some(newest)) = (used.rises(ledger, limits, &budget.alerts.at), used.newest()) {
            self.starts.insert((rise, newest));
        }
        if !budget.mode.decides() {
            return;
        }
        // Of a block, or what would be one, its end may have changed, so that one is always decided again.
        let was_reached = used.lane.is_some_and(|lane| lane.is_reached);
        if was_reached || pressed || limits.is_reached(|measure| used.amount(measure)) {
            let scope = ledger.scope_of(at);
            keys.insert(decision_key(&budget.id, &scope), (budget.id.to_string(), scope));
        }
    }

    /// Decides every key that needs it; `keys` are those that [`Decisions::note`] found.
    pub(crate) fn decide(
        &mut self,
        ledger: &mut Ledger,
        (budgets, breakers, jobs): (&Budgets, &Breakers, &Jobs),
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
            let Found { verdict, place, look } = match breakers.has(&budget_id) {
                true => Verdict::Circuit(breakers.open(&budget_id, &scope, now)).into(),
                false => verdict(ledger, budgets, state, &scope, last, now),
            };
            if matches!(verdict, Verdict::Warming) {
                self.recheck.insert(key);
                continue;
            }
            self.recheck.remove(&key);
            let forced = self.unpublished.remove(&key);
            let tripped = if let Verdict::Reached(.., at) = verdict { Some(at) } else { None };
            match place {
                Some(Place::Balance(at)) => {
                    let balance = ledger.balances.get_mut(at);
                    balance.flags.set(Flags::BLOCK_PUBLISHED, tripped.is_some());
                    balance.tripped = tripped.unwrap_or(0) as u8;
                }
                Some(Place::Lane(tracker, scope)) => ledger.note_reached(tracker, scope, tripped.is_some()),
                None => {}
            }
            let budget = state.map(|state| &*state.budget);
            if let Some((at, newest)) = look {
                self.starts.insert((at, newest));
            }
            let seq = last.map_or(self.endings.floor(), |last| last.seq) + 1;
            let Some(mut decision) = decision(verdict, budget, scope, (last, seq), forced, now) else { continue };
            decision.progress = jobs.of(&decision.scope).filter(|_| decision.state == DecisionState::Blocked);
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
            self.would_block -= usize::from(last.would_block.is_some());
            self.throttled -= usize::from(last.is_throttled());
        }
        self.endings.replace(last, &key, &decision);
        if decision.restrains() {
            self.expiries.insert((decision.expires_at, key.clone()));
            self.would_block += usize::from(decision.would_block.is_some());
            self.throttled += usize::from(decision.is_throttled());
        }
        self.published.insert(key, decision);
    }
}

/// Where it is noted that a key is reached.
enum Place {
    Balance(u32),
    /// Of a tracker and a scope.
    Lane(u32, ScopeId),
}

/// What is found of a key, and when to look at a balance again though no event comes.
struct Found {
    verdict: Verdict,
    place: Option<Place>,
    look: Option<(TimeUs, u32)>,
}

impl From<Verdict> for Found {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, place: None, look: None }
    }
}

fn verdict(
    ledger: &Ledger,
    budgets: &Budgets,
    state: Option<&BudgetState>,
    scope: &Scope,
    last: Option<&Decision>,
    now: TimeUs,
) -> Found {
    if let Some(rolled_back) = state.and_then(|state| state.rolled_back_for(scope)) {
        return Verdict::RolledBack(rolled_back.clone()).into();
    }
    let Some(state) = state.filter(|state| state.budget.mode.decides() && state.budget.owns(scope)) else {
        return Verdict::Removed.into();
    };
    if state.warming.is_some() {
        // That the budget had rolled back is withdrawn at once, also where its scope is one of the changed budget's.
        let is_stale = last.is_some_and(|last| last.rolled_back.is_some());
        return if is_stale { Verdict::Removed } else { Verdict::Warming }.into();
    }
    let limits = state.budget.limits_of(|dim| scope.get(dim));
    let found = ledger.find_scope(state.tracker, |dim| scope.get(dim));
    let used = ledger.used_at(state.tracker, found, now);
    let amount = |measure| used.amount(measure);
    let lane = || found.filter(|_| state.budget.window.is_moving()).map(|scope| Place::Lane(state.tracker, scope));
    let place = used.at.map(Place::Balance).or_else(lane);
    let rise = used.rises(ledger, limits, &state.budget.alerts.at).zip(used.newest());
    let Some(tightest) = limits.tripped(amount) else {
        let fill = limits.tightest(amount);
        let Some(slowed) = Slowed::of(ledger, budgets, state, scope, &used, (found, last), now) else {
            return Found { verdict: Verdict::Allowed(used.window, fill), place, look: rise };
        };
        let look = slowed.look_at.into_iter().chain(rise.map(|(at, _)| at)).min().zip(used.at.or(used.newest()));
        return Found { verdict: Verdict::Slowed(used.window, fill, slowed), place, look };
    };
    let window = used.reached_window(ledger, limits);
    let is_named = |fill: &Fill| last.is_some_and(|last| names(last, fill, &state.budget, window)) && fill.is_reached();
    let named = limits.fills(amount).find(is_named).unwrap_or(tightest);
    let tripped = limits.iter().position(|limit| limit == named.limit).unwrap_or(0);
    // Another limit may be reached for longer than the one that is named.
    let clears = used.clears(ledger, named.limit).filter(|at| *at < window.end);
    let look = rise.map(|(at, _)| at).into_iter().chain(clears).min().zip(used.newest());
    Found { verdict: Verdict::Reached(state.mode_of(scope), window, named, tripped), place, look }
}

/// Whether a decision is that this limit was reached in this window, whatever its amount was. A window that moves is the same while it is reached.
fn names(decision: &Decision, fill: &Fill, budget: &Budget, window: Window) -> bool {
    let measure = fill.limit.measure;
    decision.is_reached()
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
    let was_told = last.is_some_and(|last| last.restrains() || last.rolled_back.is_some());
    let made = match (verdict, budget) {
        (Verdict::Reached(mode, window, fill, _), Some(budget)) => {
            let made = from_budget(budget, scope, window, fill, seq, now);
            let made = if mode == Mode::Shadow { made.shadowed() } else { made };
            return (forced || !last.is_some_and(|last| same(last, &made, budget.window.is_moving()))).then_some(made);
        }
        (Verdict::Slowed(window, fill, slowed), Some(budget)) => {
            let made = slowed.decision(from_budget(budget, scope, window, fill, seq, now));
            return (forced || !last.is_some_and(|last| same(last, &made, budget.window.is_moving()))).then_some(made);
        }
        (Verdict::Circuit(Some(open)), _) => {
            let made = open.decision(seq, now);
            return (forced || !last.is_some_and(|last| same(last, &made, false))).then_some(made);
        }
        (Verdict::Circuit(None), _) => Decision { reason_code: ReasonCode::WithinQuota, ..allowed(last?, seq, now) },
        (Verdict::RolledBack(rolled_back), Some(budget)) => {
            let is_said = last.is_some_and(|last| last.rolled_back.as_ref() == Some(&rolled_back));
            return (forced || !is_said).then(|| rollback::decision(budget, rolled_back, seq, now));
        }
        (Verdict::Allowed(window, fill), Some(budget)) => Decision {
            state: DecisionState::Allowed,
            reason_code: ReasonCode::WithinQuota,
            http_status: 200,
            ..from_budget(budget, scope, window, fill, seq, now)
        },
        // The last decision says what the block was about; there is none only where nothing has to be said.
        _ => allowed(last?, seq, now),
    };
    (was_told || forced).then_some(made)
}

/// What a decision was about is over.
fn allowed(last: &Decision, seq: u64, now: TimeUs) -> Decision {
    Decision {
        state: DecisionState::Allowed,
        reason_code: ReasonCode::BudgetRemoved,
        http_status: 200,
        seq,
        decided_at: now,
        // That a budget has rolled back has no end of its own: it is over when it is taken back.
        expires_at: if last.rolled_back.is_some() { now } else { last.expires_at },
        would_block: None,
        rolled_back: None,
        throttle: None,
        would_throttle: None,
        ..last.clone()
    }
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
        would_block: None,
        rolled_back: None,
        overage: fill.limit.told_overage(),
        progress: None,
        throttle: None,
        would_throttle: None,
    }
}

/// Whether two decisions say the same; what was used by then may differ, and since when it counts in a window that moves.
fn same(a: &Decision, b: &Decision, moves: bool) -> bool {
    let start = |d: &Decision| (!moves).then_some(d.window.start);
    let answer = |d: &Decision| (d.state, d.reason_code, d.http_status, d.would_block);
    let throttle = |d: &Decision| (d.throttle.clone(), d.would_throttle.clone());
    let limit = |d: &Decision| (d.measure.clone(), d.currency, d.limit.clone(), d.overage.clone());
    let window = |d: &Decision| (d.window.zone, start(d), d.expires_at);
    // Of who is slowed the fullest limit may be another one with each event.
    let is_limit_same = (a.is_throttled() && b.is_throttled()) || limit(a) == limit(b);
    answer(a) == answer(b) && window(a) == window(b) && is_limit_same && throttle(a) == throttle(b)
}
