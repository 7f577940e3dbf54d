//! The state machine.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;
use usage_types::{
    Alert, BudgetId, BudgetSet, Cost, Decision, Dimension, Dimensions, Role, Scope, TimeUs, UsageEvent, decision_key,
};

use crate::alert::Alerts;
use crate::balance::Flags;
use crate::breaker::{Breakers, OpenCircuit};
use crate::budgets::{Budgets, HistoryRequest, Since};
use crate::check::{Admission, Check, Question, ScopeUsage, State};
use crate::config::CoreConfig;
use crate::decide::{Decisions, Keys};
use crate::dedup::{Dedup, Fingerprint};
use crate::fold::{BATCH, Fold};
use crate::holds::{HOLDS_MAX, Holds};
use crate::input::{Disposition, Input, Restates, RestoredRow, fold, row_fold, seconds, taken_back};
use crate::jobs::Jobs;
use crate::ledger::Ledger;
use crate::output::{CoreStats, Effects, HoldsFull};
use crate::pressure::{Pressures, may_press};
use crate::rollback::Rollbacks;
use crate::throttle::{InForce, Met, Rations};
use crate::view::{self, BalanceFilter, BalancePage, Cursor};
use crate::window::window_at;

/// Balances and tables of ids that one call of [`Core::evict`] frees: about a millisecond.
const EVICTED_BALANCES_MAX: usize = 4096;
const SWEPT_SHARDS_MAX: usize = 4;

/// The state machine. The order of calls at start: [`Core::new`], [`Core::evict`] with the append time that every partition had reached,
/// [`Core::set_budgets`], [`Core::load_decisions`], [`Core::load_decisions_end`] and [`Core::load_alerts`], [`Core::restore`] for every row with a
/// time from [`Core::restore_from`] or an append time from [`Core::remembers_from`] on, in any order, [`Core::finish_history`] for each request of `set_budgets` (those rows were its history),
/// then [`Core::apply_batch`] and [`Core::effects`] for ever.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    horizon_us: i64,
    ledger: Ledger,
    dedup: Dedup,
    budgets: Budgets,
    decisions: Decisions,
    alerts: Alerts,
    holds: Holds,
    rollbacks: Rollbacks,
    breakers: Breakers,
    jobs: Jobs,
    rations: Rations,
    pressures: Pressures,
    /// The newest append time that was seen, and of that the newest before the first batch.
    newest: Option<TimeUs>,
    restored_until: Option<TimeUs>,
    applied: bool,
    /// The latest time that was passed to [`Core::effects`]: it does not go back.
    clock: TimeUs,
}

impl Core {
    /// An empty state.
    #[must_use]
    pub fn new(config: CoreConfig) -> Self {
        let horizon_us = i64::try_from(config.dedup_horizon.as_micros()).unwrap_or(i64::MAX);
        let horizon_s = u32::try_from(config.dedup_horizon.as_secs()).unwrap_or(u32::MAX);
        let mut ledger = Ledger::new(config.hash_key);
        for tracked in &config.tracked {
            for spec in &tracked.windows {
                ledger.add_tracker(tracked.dimensions, &Scope::default(), *spec, None, TimeUs(i64::MIN));
            }
        }
        Self {
            horizon_us,
            ledger,
            dedup: Dedup::new(config.hash_key, horizon_s, config.dedup_ids_max),
            config,
            budgets: Budgets::default(),
            decisions: Decisions::default(),
            alerts: Alerts::default(),
            holds: Holds::default(),
            rollbacks: Rollbacks::default(),
            breakers: Breakers::default(),
            jobs: Jobs::default(),
            rations: Rations::default(),
            pressures: Pressures::default(),
            newest: None,
            restored_until: None,
            applied: false,
            clock: TimeUs(i64::MIN),
        }
    }

    /// Takes events in the order of the log, and appends what became of each to `out`. What does depends on the records and their
    /// places alone, never on the time of the call.
    pub fn apply_batch(&mut self, batch: &[Input<'_>], out: &mut Vec<Disposition>) {
        self.applied |= !batch.is_empty();
        out.reserve(batch.len());
        for chunk in batch.chunks(BATCH) {
            let fingerprints: SmallVec<[Fingerprint; BATCH]> =
                chunk.iter().map(|input| self.fingerprint(input)).collect();
            // The second look finds its place in the cache.
            let known = fingerprints.iter().filter(|fingerprint| self.dedup.touch(**fingerprint)).count();
            std::hint::black_box(known);
            let mut folds: SmallVec<[Fold<'_>; BATCH]> = SmallVec::new();
            for (input, fingerprint) in chunk.iter().zip(&fingerprints) {
                let disposition = self.dispose(input, *fingerprint);
                self.settle(input.event, disposition);
                if let Disposition::Accepted { time, .. } = disposition {
                    self.breakers.note(input.event, input.cost, input.position.append_time);
                    if let Some(progress) = input.event.progress {
                        self.jobs.note(&input.event.dimensions, time, progress);
                    }
                    match &input.event.role {
                        Role::Usage | Role::Backfill | Role::Adjusts(_) => folds.push(fold(input, time)),
                        role @ (Role::Amends(_) | Role::Voids(_)) => {
                            folds.extend(input.restates.and_then(|restates| taken_back(input, restates)));
                            folds.extend(matches!(role, Role::Amends(_)).then(|| fold(input, time)));
                        }
                    }
                }
                out.push(disposition);
            }
            self.ledger.fold(&folds);
        }
    }

    /// Ends the reservation of a request whose usage is counted.
    fn settle(&mut self, event: &UsageEvent<'_>, disposition: Disposition) {
        if self.holds.is_empty() || !matches!(disposition, Disposition::Accepted { .. } | Disposition::Duplicate) {
            return;
        }
        if let Some(id) = event.tags.get(UsageEvent::RESERVATION_TAG) {
            self.holds.settle(id, event.dimensions.get(Dimension::Namespace));
        }
    }

    /// The time that an event counts at, and whether that is the log's because its own lay too far in the future.
    #[must_use]
    pub fn effective_time(&self, own: TimeUs, append: TimeUs) -> (TimeUs, bool) {
        let clamped = own > append.plus_us(self.config.future_tolerance_us);
        (if clamped { append } else { own }, clamped)
    }

    fn fingerprint(&self, input: &Input<'_>) -> Fingerprint {
        match &input.event.id {
            Some(id) => self.dedup.fingerprint(&input.event.source, id),
            None => {
                let place = format!("{}/{}", input.position.partition, input.position.offset);
                self.dedup.fingerprint(&input.event.source, &place)
            }
        }
    }

    fn dispose(&mut self, input: &Input<'_>, fingerprint: Fingerprint) -> Disposition {
        let append = input.position.append_time;
        let own = input.event.time;
        self.newest = self.newest.max(Some(append));
        match &input.event.role {
            Role::Usage if own < append.plus_us(-self.horizon_us) => return Disposition::TooLate,
            Role::Usage | Role::Backfill | Role::Adjusts(_) => {}
            role @ (Role::Amends(_) | Role::Voids(_)) => {
                let counts_now =
                    |restates: &&Restates<'_>| restates.counts.is_some() || matches!(role, Role::Amends(_));
                return self.dispose_correction(append, fingerprint, input.restates.filter(counts_now));
            }
        }
        if !self.dedup.admit(fingerprint, seconds(append)) {
            return Disposition::Duplicate;
        }
        let (time, clamped) = self.effective_time(own, append);
        Disposition::Accepted { time, late: self.is_late(time, append), clamped }
    }

    /// A duplicate is told before what it corrects is missed: after the first void there is nothing to void.
    fn dispose_correction(
        &mut self,
        append: TimeUs,
        fingerprint: Fingerprint,
        restates: Option<&Restates<'_>>,
    ) -> Disposition {
        let append_s = seconds(append);
        let Some(restates) = restates else {
            let known = self.dedup.knows(fingerprint, append_s);
            return if known { Disposition::Duplicate } else { Disposition::NoOriginal };
        };
        if !self.dedup.admit(fingerprint, append_s) {
            return Disposition::Duplicate;
        }
        Disposition::Accepted { time: restates.time, late: self.is_late(restates.time, append), clamped: false }
    }

    fn is_late(&self, time: TimeUs, append: TimeUs) -> bool {
        let hour_end = time.plus_us(TimeUs::HOUR - time.0.rem_euclid(TimeUs::HOUR));
        append > hour_end.plus_us(self.config.late_grace_us)
    }

    /// Takes a row that was accepted before: counts it and remembers its id.
    pub fn restore(&mut self, row: &RestoredRow<'_>) {
        self.newest = self.newest.max(Some(row.append_time));
        if !self.applied {
            self.restored_until = self.newest;
        }
        let fingerprint = self.dedup.fingerprint(row.source, row.id);
        let append_s = seconds(row.append_time);
        if self.dedup.remembers(append_s) {
            self.dedup.admit(fingerprint, append_s);
        }
        if let Some(progress) = row.progress.filter(|_| !row.reversal) {
            self.jobs.note(row.dimensions, row.time, progress);
        }
        self.ledger.fold(&[row_fold(row)]);
    }

    /// Meters an event of the past for circuit breakers as if the log had taken it at this time, and counts it nowhere: for simulations, beside
    /// [`Core::restore`], which meters nothing.
    pub fn meter(&mut self, event: &UsageEvent<'_>, cost: Option<Cost>, time: TimeUs) {
        self.breakers.note(event, cost, time);
    }

    /// The append time of the earliest row whose id is still remembered. [`Core::restore`] needs all rows from then on, whatever their
    /// effective time: a correction or a backfilled event may count long ago. `now` is only used before the first [`Core::evict`].
    #[must_use]
    pub fn remembers_from(&self, now: TimeUs) -> TimeUs {
        self.oldest(now)
    }

    /// The earliest effective time of a row that [`Core::restore`] needs: for all windows that are still open to late events, and
    /// for all ids that are still remembered, of which the latest events lie a horizon before their append time.
    /// `now` is only used before the first [`Core::evict`].
    #[must_use]
    pub fn restore_from(&self, now: TimeUs) -> TimeUs {
        let oldest = self.oldest(now);
        let starts = self.ledger.trackers.iter().flatten().map(|tracker| window_at(tracker.spec, oldest).start);
        starts.chain([oldest.plus_us(-self.horizon_us)]).min().unwrap_or(oldest)
    }

    /// The earliest time that an event still to come may have.
    fn oldest(&self, now: TimeUs) -> TimeUs {
        if self.ledger.floor.0 != i64::MIN {
            return self.ledger.floor;
        }
        self.newest.map_or(now, |newest| newest.min(now)).plus_us(-self.horizon_us)
    }

    /// Replaces the budgets. A budget that is new, or whose balances are others than before, is warming until the history that is asked
    /// for here is given with [`Core::add_history`] and [`Core::finish_history`]: it counts new events at once, and decides nothing.
    pub fn set_budgets(&mut self, set: Arc<BudgetSet>, now: TimeUs) -> Vec<HistoryRequest> {
        let since = match self.newest {
            Some(newest) if self.applied => Since::At(newest.min(now)),
            _ => Since::Start,
        };
        let oldest = self.oldest(now);
        let pressed = self.budgets.pressing().next().is_some();
        let changes = self.budgets.set(&set, &mut self.ledger, oldest, since);
        for id in self.breakers.set(&set.breakers).iter().chain(&changes.recheck) {
            self.decisions.recheck_budget(id);
            self.rollbacks.forget(id);
        }
        let has_changed = !changes.requests.is_empty() || !changes.recheck.is_empty();
        if has_changed && (pressed || self.budgets.pressing().next().is_some()) {
            self.press_anew();
        }
        self.holds.recount(|dimensions| State::counted(&self.ledger, &self.budgets, dimensions));
        changes.requests
    }

    /// Has it found anew who presses on whom.
    fn press_anew(&mut self) {
        self.pressures.clear();
        for state in self.budgets.iter() {
            self.decisions.recheck_budget(&state.budget.id);
            if state.warming.is_none() {
                self.ledger.mark_all_dirty(state.tracker, false);
            }
        }
    }

    /// Has those looked at who are below budgets that are used up so far now, or no more, that they slow others.
    fn press(&mut self, looked_at: &mut Vec<u32>, now: TimeUs) {
        if self.budgets.pressing().next().is_none() {
            return;
        }
        let Self { ledger, budgets, decisions, pressures, .. } = self;
        for at in looked_at.iter().copied().filter(|at| ledger.is_live(*at)).collect::<Vec<_>>() {
            let slot = ledger.tracker(ledger.windows.get(ledger.balances.get(at).window).tracker).budget;
            let Some(above) = slot.and_then(|slot| budgets.slot(slot)).filter(|state| state.warming.is_none()) else {
                continue;
            };
            let Some((before, level)) = pressures.note(ledger, at, above, now) else { continue };
            let scope = ledger.scope_of(at);
            for below in budgets.iter().filter(|below| may_press(&above.budget, &below.budget)) {
                ledger.mark_below(below.tracker, &scope, now);
                if level < before {
                    decisions.recheck_budget(&below.budget.id);
                }
            }
        }
        looked_at.append(&mut ledger.dirty);
    }

    /// Gives a row of a budget's history: one that had been folded when the budget was set, each once. Ignored where the
    /// request is out of date, and where the row is not the budget's.
    pub fn add_history(&mut self, request: &HistoryRequest, row: &RestoredRow<'_>) {
        if let Some(state) = self.budgets.waiting(request) {
            for tracker in [Some(state.tracker), state.burn].into_iter().flatten() {
                self.ledger.fold_into(tracker, &row_fold(row));
            }
        }
    }

    /// The history is complete: the budget decides from now on.
    pub fn finish_history(&mut self, request: &HistoryRequest) {
        if let Some(tracker) = self.budgets.finish(request) {
            self.ledger.mark_all_dirty(tracker, true);
            self.decisions.recheck_budget(&request.budget);
        }
    }

    /// Reading a history failed: forgets what was given of it and asks anew, for rows up to what is folded now. `None` where the
    /// request is out of date.
    pub fn restart_history(&mut self, request: &HistoryRequest, now: TimeUs) -> Option<HistoryRequest> {
        let oldest = self.oldest(now);
        let again = self.budgets.restart(request, &mut self.ledger, oldest);
        if self.budgets.pressing().next().is_some() {
            self.press_anew();
        }
        again
    }

    /// What the log holds of decisions, the last for each key, at start.
    pub fn load_decisions(&mut self, decisions: impl IntoIterator<Item = Decision>) {
        for decision in decisions {
            self.budgets.load(&decision);
            self.breakers.load(&decision);
            self.decisions.load(decision);
        }
    }

    /// How many records the log has taken as decisions and tombstones until this start, those included that compaction has dropped: its
    /// end offset. The number of a key that the log holds nothing of begins above that, because it may have been there before.
    pub fn load_decisions_end(&mut self, records: u64) {
        self.decisions.load_end(records);
    }

    /// What the log holds of alerts, at start.
    pub fn load_alerts(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        alerts.into_iter().for_each(|alert| self.alerts.load(alert, self.ledger.floor));
    }

    /// What has to be published for the log to agree with the balances at this time. It counts as published from then on: give back to
    /// [`Core::retract`] what could not be. A time before that of an earlier call counts as that one.
    pub fn effects(&mut self, now: TimeUs) -> Effects {
        self.clock = self.clock.max(now);
        let now = self.clock;
        self.expire_holds(now);
        let mut looked_at = std::mem::take(&mut self.ledger.dirty);
        looked_at.extend(self.decisions.take_started(now));
        self.press(&mut looked_at, now);
        let mut keys = Keys::new();
        let mut alerts = self.alerts.take_again();
        let mut moved = HashSet::new();
        self.rollbacks.move_to(now);
        for at in looked_at.drain(..) {
            self.ledger.balances.get_mut(at).flags.set(Flags::DIRTY, false);
            if !self.ledger.is_live(at) {
                continue;
            }
            let tracker = self.ledger.windows.get(self.ledger.balances.get(at).window).tracker;
            let slot = self.ledger.tracker(tracker).budget;
            let Some(state) = slot.and_then(|slot| self.budgets.slot(slot)) else { continue };
            // One that waits for its history is looked at whole when that is there.
            if state.warming.is_none() {
                self.ledger.resolve_limits(at, &state.budget);
                if state.budget.window.is_moving() {
                    // All buckets of a scope are one look.
                    let scope = self.ledger.balances.get(at).scope;
                    if moved.insert((tracker, scope)) {
                        self.ledger.move_lane(tracker, scope, now);
                        let used = self.ledger.used_at(tracker, Some(scope), now);
                        self.rollbacks.note_moving(&self.ledger, at, state, &used);
                        let pressed = self.pressures.any();
                        self.decisions.note_moving(&self.ledger, at, state, &used, pressed, &mut keys);
                        let has_crossed = self.alerts.judge_moving(&self.ledger, at, state, &used, now, &mut alerts);
                        self.ledger.note_crossed(tracker, scope, has_crossed);
                    }
                    continue;
                }
                if let Some(burn) = state.burn {
                    self.ledger.move_lane(burn, self.ledger.balances.get(at).scope, now);
                }
                self.rollbacks.note(&self.ledger, at, state, now);
                self.decisions.note(&self.ledger, at, state, now, self.pressures.any(), &mut keys);
                self.alerts.judge(&mut self.ledger, at, state, self.restored_until, now, &mut alerts);
                self.alerts.foresee(&self.ledger, at, state, now, &mut alerts);
            }
        }
        if self.ledger.dirty.is_empty() {
            self.ledger.dirty = looked_at;
        }
        if self.budgets.iter().all(|state| state.warming.is_none()) {
            self.alerts.settle(now);
        }
        for (id, rolled_back) in self.rollbacks.due(&self.budgets, now) {
            self.decisions.roll_back(&id, &self.budgets, &mut keys);
            self.budgets.roll_back(&id, rolled_back);
            if self.budgets.by_id(&id).is_some_and(|state| state.budget.pressure.is_some()) {
                self.decisions.recheck_pressed();
            }
        }
        for (id, scope) in self.breakers.take_opened() {
            keys.insert(decision_key(id, &scope), (id.to_string(), scope));
        }
        let decisions = self.decisions.decide(&mut self.ledger, (&self.budgets, &self.breakers, &self.jobs), now, keys);
        let tombstones = self.decisions.forget(now);
        let mut alerts: Vec<Alert> = alerts.into_values().collect();
        alerts.iter_mut().for_each(|alert| alert.progress = self.jobs.of(&alert.scope));
        Effects { decisions, tombstones, alerts }
    }

    /// Takes back effects that could not be published: the next [`Core::effects`] has them again, as far as they still hold.
    pub fn retract(&mut self, effects: &Effects) {
        effects.decisions.iter().for_each(|decision| self.decisions.retract(decision));
        effects.tombstones.iter().for_each(|key| self.decisions.retract_tombstone(key));
        effects.alerts.iter().for_each(|alert| self.alerts.retract(alert));
    }

    /// When [`Core::effects`] should be called though no event comes: a window turns then. After the last call's time.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        self.decisions.next_after(self.clock)
    }

    /// Whether a scope may spend, by all hard budgets that count it, in the windows that contain `now`, and by its circuits. Budgets that wait for
    /// their history have no say.
    #[must_use]
    pub fn check(&self, dimensions: &Dimensions<'_>, now: TimeUs) -> Check {
        self.ask(&Question { dimensions, estimate: None, last_known: false }, now)
    }

    /// Whether a request may be made: as [`Core::check`], with its estimate, beside the open reservations. Holds whose time is over count
    /// until [`Core::expire_holds`].
    #[must_use]
    pub fn ask(&self, question: &Question<'_>, now: TimeUs) -> Check {
        let Self { ledger, budgets, holds, decisions, breakers, .. } = self;
        State { ledger, budgets, holds, decisions }.ask(question, now).beside(breakers.check(question.dimensions, now))
    }

    /// Asks for a request that is made if it may be: as [`Core::ask`], and then asks the throttles of its scopes, which are charged for it where they all
    /// let it pass.
    pub fn admit(&mut self, question: &Question<'_>, now: TimeUs) -> Admission {
        let check = self.ask(question, now);
        let throttles = if check.is_allowed() { self.throttles(question, now) } else { Vec::new() };
        let requests = question.estimate.map_or(1, |estimate| estimate.requests);
        let Met { effective, shadow } = self.rations.ask(throttles, requests, now);
        Admission { check, throttled: effective, would_throttle: shadow }
    }

    /// The throttles in force that a request meets.
    fn throttles(&self, question: &Question<'_>, now: TimeUs) -> Vec<InForce> {
        let Self { ledger, budgets, holds, decisions, breakers, .. } = self;
        let mut throttles = State { ledger, budgets, holds, decisions }.throttles(question, now);
        let circuits = breakers.check(question.dimensions, now).filter(|circuit| circuit.is_half_open);
        throttles.extend(circuits.map(OpenCircuit::throttle));
        throttles
    }

    /// What a scope of a budget has used. `None` where there is no such budget, or the scope is none of its.
    #[must_use]
    pub fn usage(&self, budget: &str, scope: &Scope, now: TimeUs) -> Option<ScopeUsage> {
        let Self { ledger, budgets, holds, decisions, .. } = self;
        State { ledger, budgets, holds, decisions }.usage(budget, scope, now)
    }

    /// Asks as [`Core::admit`] and, where the answer is that the request may be made, holds its estimate until `expires_at`, the event that settles it
    /// (by the tag [`UsageEvent::RESERVATION_TAG`] and in the same namespace) or [`Core::release`]. With `force` whatever the answer is.
    /// An id that is open already is replaced.
    ///
    /// # Errors
    /// There are as many holds as there may be.
    pub fn reserve(
        &mut self,
        id: &str,
        question: &Question<'_>,
        expires_at: TimeUs,
        force: bool,
        now: TimeUs,
    ) -> Result<Admission, HoldsFull> {
        self.expire_holds(now);
        if self.holds.len() >= HOLDS_MAX && (force || self.ask(question, now).is_allowed()) {
            return Err(HoldsFull);
        }
        let admission = match force {
            true => Admission { check: self.ask(question, now), throttled: None, would_throttle: None },
            false => self.admit(question, now),
        };
        if !force && !admission.is_allowed() {
            return Ok(admission);
        }
        let counted = State::counted(&self.ledger, &self.budgets, question.dimensions);
        let estimate = question.estimate.cloned().unwrap_or_default();
        self.holds.open(id, question.dimensions, &estimate, expires_at, counted);
        Ok(admission)
    }

    /// Ends a reservation; whether it was open.
    pub fn release(&mut self, id: &str, now: TimeUs) -> bool {
        self.expire_holds(now);
        self.holds.close(id)
    }

    /// Ends the reservations whose time is over.
    pub fn expire_holds(&mut self, now: TimeUs) {
        self.holds.expire(now);
    }

    /// A page of balances, of at most so many rows.
    #[must_use]
    pub fn balances(&self, filter: &BalanceFilter, after: Option<Cursor>, rows_max: usize) -> BalancePage {
        let now = self.newest.map_or(self.clock, |newest| self.clock.max(newest));
        let mut page = view::balances(&self.ledger, &self.budgets, filter, now, after, rows_max);
        page.rows.iter_mut().for_each(|row| row.progress = self.jobs.of(&row.scope));
        page
    }

    /// The budgets that have rolled back.
    pub fn rolled_back(&self) -> impl Iterator<Item = &BudgetId> {
        self.budgets.iter().filter(|state| state.rolled_back.is_some()).map(|state| &state.budget.id)
    }

    /// The last decision of every key, by key.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// Forgets what no event to come can touch: windows that ended, and ids that were seen, longer than the horizon before `append_time`.
    /// That must be an append time that every partition has reached, or duplicates and late events of one that lags are misjudged.
    /// Frees a bounded amount of memory; whether there is more to free by another call.
    pub fn evict(&mut self, append_time: TimeUs) -> bool {
        let floor = append_time.plus_us(-self.horizon_us);
        let before = self.ledger.floor;
        // What is looked at is never before the clock, so that no late event can bring a bucket back that counts no more.
        self.ledger.raise_floor(floor, append_time.min(self.clock));
        if floor > before {
            self.dedup.forget_before(seconds(floor));
            if before.0.div_euclid(TimeUs::MINUTE) != floor.0.div_euclid(TimeUs::MINUTE) {
                self.alerts.forget_ended(floor);
                self.breakers.forget_idle(append_time);
                self.jobs.forget(floor);
                self.rations.forget(self.clock);
                self.pressures.forget(self.clock);
            }
        }
        let more_ids = self.dedup.sweep(SWEPT_SHARDS_MAX);
        self.ledger.drop_doomed(EVICTED_BALANCES_MAX) || more_ids
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> CoreStats {
        CoreStats {
            balances: self.ledger.balances.len(),
            scopes: self.ledger.scopes.len(),
            symbols: self.ledger.symbols.len(),
            dedup_ids: self.dedup.len(),
            dedup_ids_dropped: self.dedup.dropped_early(),
            budgets: self.budgets.iter().count(),
            budgets_warming: self.budgets.iter().filter(|state| state.warming.is_some()).count(),
            decisions: self.decisions.len(),
            blocked: self.decisions.blocked(),
            would_block: self.decisions.would_block(),
            throttled: self.decisions.throttled(),
            rolled_back: self.rolled_back().count(),
            circuits: self.breakers.len(),
            alerts: self.alerts.len(),
            saturated: self.ledger.saturated,
            outside: self.ledger.outside,
            holds: self.holds.len(),
            balances_bytes: self.ledger.allocated_bytes(),
            dedup_bytes: self.dedup.allocated_bytes(),
        }
    }
}
