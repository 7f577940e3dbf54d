//! Rollback: a budget that blocks more scopes than was thought gives up blocking and goes on in shadow, until somebody changes it.
//!
//! Holds here: whether it is due is a function of the balances and the time alone. That it happened is a decision on the compacted topic, for the budget as a
//! whole: so it stands over a restart and over the end of the window, and what was decided and not published is decided again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use usage_types::{
    Budget, BudgetId, Decision, DecisionState, Limits, Mode, ReasonCode, RolledBack, TimeUs, Whom, Window,
};

use crate::budgets::{BudgetState, Budgets};
use crate::ledger::Ledger;
use crate::moving::Used;
use crate::window::window_at;

/// 9999-01-01T00:00:00Z: that a budget has rolled back does not end by itself.
const NEVER: TimeUs = TimeUs(253_370_764_800 * TimeUs::SECOND);

/// A scope that has used something in a window, by the number of its balance or, in a window that moves, its own.
type Number = u32;

/// How it stands.
#[derive(Debug, Clone, Copy)]
struct Seen {
    is_effective: bool,
    /// Until when it is over a limit, if nothing more comes; `None` where it is not, or where the budget is not effective for it.
    blocked_until: Option<TimeUs>,
    /// Until when what it has used is in the window, likewise.
    used_until: TimeUs,
}

/// The scopes of one window.
#[derive(Debug)]
struct Scopes {
    /// Of the calendar; `None`: one that moves, of which there is always one.
    window: Option<Window>,
    seen: HashMap<Number, Seen>,
    /// When each will stand otherwise, in a window that moves.
    ends: BTreeSet<(TimeUs, Number)>,
    effective: u64,
    blocked: u64,
}

impl Scopes {
    fn new(window: Option<Window>) -> Self {
        Self { window, seen: HashMap::new(), ends: BTreeSet::new(), effective: 0, blocked: 0 }
    }

    fn put(&mut self, number: Number, seen: Seen) {
        self.take(number);
        self.effective += u64::from(seen.is_effective);
        self.blocked += u64::from(seen.blocked_until.is_some());
        if self.window.is_none() {
            self.ends.extend(seen.ends().map(|end| (end, number)));
        }
        self.seen.insert(number, seen);
    }

    fn take(&mut self, number: Number) -> Option<Seen> {
        let seen = self.seen.remove(&number)?;
        self.effective -= u64::from(seen.is_effective);
        self.blocked -= u64::from(seen.blocked_until.is_some());
        seen.ends().for_each(|end| _ = self.ends.remove(&(end, number)));
        Some(seen)
    }

    /// Moves on to a time: who is within its limits by then is, and who has used nothing any more is gone.
    fn move_to(&mut self, now: TimeUs) {
        while let Some((_, number)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            let Some(seen) = self.take(number).filter(|seen| seen.used_until > now) else { continue };
            self.put(number, Seen { blocked_until: seen.blocked_until.filter(|until| *until > now), ..seen });
        }
    }

    fn is_over(&self, now: TimeUs) -> bool {
        self.window.map_or(self.seen.is_empty(), |window| window.end <= now)
    }
}

impl Seen {
    fn ends(self) -> impl Iterator<Item = TimeUs> {
        self.blocked_until.into_iter().chain([self.used_until])
    }
}

/// Of the budgets that may roll back: who is blocked.
#[derive(Debug, Default)]
pub(crate) struct Rollbacks {
    /// By the start of the window; all of one that moves are under one start.
    tallies: HashMap<BudgetId, BTreeMap<TimeUs, Scopes>>,
}

impl Rollbacks {
    /// Moves all that is known on to a time. Before anything is noted at it, because numbers of what is gone are given again.
    pub(crate) fn move_to(&mut self, now: TimeUs) {
        self.tallies.retain(|_, tally| {
            tally.values_mut().for_each(|scopes| scopes.move_to(now));
            tally.retain(|_, scopes| !scopes.is_over(now));
            !tally.is_empty()
        });
    }

    /// Takes a balance of a calendar window into account that has changed.
    pub(crate) fn note(&mut self, ledger: &Ledger, at: u32, state: &BudgetState, now: TimeUs) {
        let balance = ledger.balances.get(at);
        let window = ledger.windows.get(balance.window).window;
        if window.end > now && may_roll_back(state) {
            let is_reached = ledger.limits(at, &state.budget).is_reached(|measure| balance.amount(measure));
            let blocked_until = is_reached.then_some(window.end);
            self.see(ledger, at, state, Some(window), at, (blocked_until, window.end));
        }
    }

    /// The same with what a scope has used in a window that moves.
    pub(crate) fn note_moving(&mut self, ledger: &Ledger, at: u32, state: &BudgetState, used: &Used<'_>) {
        let number = ledger.balances.get(at).scope;
        if !may_roll_back(state) {
            return;
        }
        let Some(used_until) = used.gone_at() else {
            let tally = self.tallies.get_mut(&state.budget.id);
            tally.into_iter().flat_map(BTreeMap::values_mut).for_each(|scopes| _ = scopes.take(number));
            return;
        };
        let limits = ledger.limits(at, &state.budget);
        let is_reached = limits.is_reached(|measure| used.amount(measure));
        let blocked_until = is_reached.then(|| used.reached_window(ledger, limits).end);
        self.see(ledger, at, state, None, number, (blocked_until, used_until));
    }

    fn see(
        &mut self,
        ledger: &Ledger,
        at: u32,
        state: &BudgetState,
        window: Option<Window>,
        number: Number,
        (blocked_until, used_until): (Option<TimeUs>, TimeUs),
    ) {
        let tally = self.tallies.entry(Arc::clone(&state.budget.id)).or_default();
        let start = window.map_or(TimeUs(0), |window| window.start);
        let scopes = tally.entry(start).or_insert_with(|| Scopes::new(window));
        let is_effective = match scopes.seen.get(&number) {
            Some(seen) => seen.is_effective,
            None => state.mode_at(|| ledger.scope_of(at)) == Mode::Hard,
        };
        let blocked_until = blocked_until.filter(|_| is_effective);
        scopes.put(number, Seen { is_effective, blocked_until, used_until });
    }

    /// The budgets that are to roll back now.
    pub(crate) fn due(&mut self, budgets: &Budgets, now: TimeUs) -> Vec<(BudgetId, RolledBack)> {
        let mut due = Vec::new();
        for (id, tally) in &self.tallies {
            let Some(budget) = budgets.by_id(id).filter(|state| state.warming.is_none()).map(|state| &state.budget)
            else {
                continue;
            };
            let is_due = |scopes: &&Scopes| {
                let is_now = scopes.window.is_none_or(|window| window.contains(now));
                let rollback = budget.rollback.filter(|_| is_now);
                rollback.is_some_and(|rollback| rollback.is_due(scopes.blocked, scopes.effective))
            };
            if let Some(scopes) = tally.values().find(is_due) {
                let (blocked, scopes) = (scopes.blocked, scopes.effective);
                due.push((Arc::clone(id), RolledBack { revision: revision(budget), blocked, scopes }));
            }
        }
        due.iter().for_each(|(id, _)| self.forget(id));
        due
    }

    /// Counts a budget's scopes anew from now on: the core has all of its balances looked at again.
    pub(crate) fn forget(&mut self, id: &str) {
        self.tallies.remove(id);
    }
}

fn may_roll_back(state: &BudgetState) -> bool {
    state.budget.rollback.is_some() && state.rolled_back.is_none()
}

/// What is said of a budget that has rolled back. To whoever does not know of rollbacks it is one that blocks no longer.
pub(crate) fn decision(budget: &Budget, rolled_back: RolledBack, seq: u64, now: TimeUs) -> Decision {
    let limit = budget.limits.first();
    Decision {
        budget: budget.id.to_string(),
        scope: budget.matches.clone(),
        state: DecisionState::Allowed,
        reason_code: ReasonCode::BudgetRemoved,
        http_status: 200,
        measure: limit.measure.name().to_owned(),
        currency: limit.measure.currency(),
        limit: limit.measure.format(limit.amount),
        used: limit.measure.format(usage_types::Amount(0)),
        seq,
        window: window_at(budget.window, now),
        decided_at: now,
        expires_at: NEVER,
        would_block: None,
        rolled_back: Some(rolled_back),
        overage: None,
        progress: None,
        throttle: None,
        would_throttle: None,
    }
}

/// What a budget is called as it is: a name for everything that decides whom it blocks, the same in every process. Alerts and the status of
/// a block are left out: who changes these does not say that the budget is right now.
#[must_use]
pub fn revision(budget: &Budget) -> String {
    let per: Vec<&str> = budget.per.iter().map(|dim| dim.name()).collect();
    let (window, zone) = (budget.window.id_name(), budget.window.zone.name());
    let mut text = format!("{}|{}|{window} {zone}|{}", budget.matches, per.join(","), listed(&budget.limits));
    // Writing to a String cannot fail.
    for entry in budget.special.entries() {
        let whom = match &entry.whom {
            Whom::Override => "",
            Whom::Plan(name) => name,
            // It comes and goes, and does not say that the budget is right now.
            Whom::Grant => continue,
        };
        let values: Vec<String> = entry.values.iter().map(ToString::to_string).collect();
        let _ = write!(text, "|{whom} {} {}", values.join(";"), listed(&entry.limits));
    }
    let _ = write!(text, "|{}", budget.mode.name());
    if let Mode::Canary(share) = budget.mode {
        let _ = write!(text, " {share}");
    }
    if let Some(rollback) = budget.rollback {
        let _ = write!(text, "|{} {}", rollback.blocked_over, rollback.at_least);
    }
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn listed(limits: &Limits) -> String {
    let one = |limit: usage_types::Limit| {
        let currency = limit.measure.currency().map(|currency| currency.to_string()).unwrap_or_default();
        format!("{} {currency} {} {}", limit.measure.name(), limit.amount.0, limit.overage.0)
    };
    limits.iter().map(one).collect::<Vec<_>>().join(";")
}
