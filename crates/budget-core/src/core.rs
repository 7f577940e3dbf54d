//! The state machine.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use usage_types::{
    Alert, BudgetSet, ComputeNs, Cost, Currency, Decision, Dimension, DimensionSet, Dimensions, EventPosition, Every,
    Pico, Role, Scope, TimeUs, Tokens, UsageEvent, WindowSpec,
};

use crate::alert::Alerts;
use crate::balance::{Flags, Usage};
use crate::budgets::{Budgets, HistoryRequest, Since};
use crate::decide::{Decisions, Keys};
use crate::dedup::{Dedup, Fingerprint};
use crate::fold::{BATCH, Fold};
use crate::ledger::Ledger;
use crate::view::{self, BalanceFilter, BalancePage, Check, Cursor};
use crate::window::window_at;

/// Balances and tables of ids that one call of [`Core::evict`] frees: about a millisecond.
const EVICTED_BALANCES_MAX: usize = 4096;
const SWEPT_SHARDS_MAX: usize = 4;

/// What balances are kept for without any budget: of one set of dimensions over some kinds of window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The dimensions; an event that lacks one of them is not counted here.
    pub dimensions: DimensionSet,
    /// The kinds of window.
    pub windows: Vec<WindowSpec>,
}

/// Settings.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// What balances are kept for without any budget.
    pub tracked: Vec<Tracked>,
    /// How long an id is remembered, and how old an event may be, both by the log's append time.
    pub dedup_horizon: Duration,
    /// The most ids that are remembered; beyond it the oldest are forgotten early, and counted.
    pub dedup_ids_max: usize,
    /// How far after its append time an event's time may lie before it is set to that, in microseconds.
    pub future_tolerance_us: i64,
    /// How long after the end of its UTC hour an event is not yet late, in microseconds.
    pub late_grace_us: i64,
    /// Keys of the hashes of senders' texts; from the system's randomness, new in each process.
    pub hash_key: [u64; 2],
}

impl Default for CoreConfig {
    /// Namespace; namespace and team; namespace, team and repository; each over hour, day and month in UTC. 24 hours.
    fn default() -> Self {
        let windows: Vec<WindowSpec> =
            [Every::Hour, Every::Day, Every::Month].map(|every| WindowSpec { every, zone: chrono_tz::UTC }).into();
        let path = [Dimension::Namespace, Dimension::Team, Dimension::Repository];
        Self {
            tracked: (1..=path.len())
                .map(|len| Tracked { dimensions: DimensionSet::of(&path[..len]), windows: windows.clone() })
                .collect(),
            dedup_horizon: Duration::from_secs(24 * 60 * 60),
            dedup_ids_max: 100_000_000,
            future_tolerance_us: 5 * TimeUs::MINUTE,
            late_grace_us: 5 * TimeUs::MINUTE,
            hash_key: [0x6F75_746C_6179_2D31, 0x636F_7265_2D6B_6579],
        }
    }
}

/// An event from the log.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The event. Its id should be there; one without is taken as identified by its partition and offset.
    pub event: &'a UsageEvent<'a>,
    /// What it cost; `None` where that is not known.
    pub cost: Option<Cost>,
    /// Where it stands in the log.
    pub position: EventPosition,
    /// What it corrects, where it amends or voids; the shell looks that up. Ignored for other events.
    pub restates: Option<&'a Restates<'a>>,
}

/// What a correction finds: the event that it names, as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Restates<'a> {
    /// The effective time of that event, at which its corrections count too: its windows are restated.
    pub time: TimeUs,
    /// The row that counts for it now: its own or that of its last amendment. `None` where it is void, and can be amended still.
    pub counts: Option<RestoredRow<'a>>,
}

/// A row that was accepted before, from the lake.
#[derive(Debug, Clone, Copy)]
pub struct RestoredRow<'a> {
    /// The event's id.
    pub id: &'a str,
    /// Who emitted it.
    pub source: &'a str,
    /// The effective time.
    pub time: TimeUs,
    /// When the log took it.
    pub append_time: TimeUs,
    /// Who and what.
    pub dimensions: &'a Dimensions<'a>,
    /// Tokens by class.
    pub tokens: Tokens,
    /// Requests.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Images that a model made.
    pub images: u64,
    /// Compute time.
    pub compute: ComputeNs,
    /// What it cost.
    pub cost: Option<(Pico, Currency)>,
    /// Whether it takes back all of this instead of adding it. The amounts are those of the row that it takes back.
    pub reversal: bool,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is counted.
    Accepted {
        /// Its effective time: its own, or the append time where it was clamped.
        time: TimeUs,
        /// It came after the end of its UTC hour and the grace.
        late: bool,
        /// Its own time lay too far in the future.
        clamped: bool,
    },
    /// Its id was counted already.
    Duplicate,
    /// It corrects an event that is not there, or voids one that is void. It is not counted, and its id not remembered.
    NoOriginal,
    /// It is older than the horizon, so whether it is a duplicate cannot be told. It is not counted.
    TooLate,
}

/// What to publish: each sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Decisions.
    pub decisions: Vec<Decision>,
    /// Alerts.
    pub alerts: Vec<Alert>,
}

impl Effects {
    /// Whether there is nothing to publish.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.alerts.is_empty()
    }
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreStats {
    /// Live balances.
    pub balances: usize,
    /// Scopes that have one.
    pub scopes: usize,
    /// Distinct values in them.
    pub symbols: usize,
    /// Ids that are remembered.
    pub dedup_ids: usize,
    /// Ids that were forgotten before the horizon, because there were too many.
    pub dedup_ids_dropped: u64,
    /// Budgets in force.
    pub budgets: usize,
    /// Of these, how many wait for their history.
    pub budgets_warming: usize,
    /// Keys with a decision.
    pub decisions: usize,
    /// Of these, how many are blocked.
    pub blocked: usize,
    /// Ids of alerts that are remembered.
    pub alerts: usize,
    /// Additions that did not fit: the balance stands at the end of its range.
    pub saturated: u64,
    /// Contributions to windows that had ended for good, or that were not known from their start.
    pub outside: u64,
    /// Memory of balances, scopes, symbols and their indexes, in bytes.
    pub balances_bytes: usize,
    /// Memory of remembered ids, in bytes.
    pub dedup_bytes: usize,
}

/// The state machine. The order of calls at start: [`Core::new`], [`Core::evict`] with the append time that every partition had reached,
/// [`Core::set_budgets`], [`Core::load_decisions`] and [`Core::load_alerts`], [`Core::restore`] for every row with a
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
                if let Disposition::Accepted { time, .. } = disposition {
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
        self.ledger.fold(&[row_fold(row)]);
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
        let changes = self.budgets.set(&set, &mut self.ledger, oldest, since);
        changes.recheck.iter().for_each(|id| self.decisions.recheck_budget(id));
        changes.requests
    }

    /// Gives a row of a budget's history: one that had been folded when the budget was set, each once. Ignored where the
    /// request is out of date, and where the row is not the budget's.
    pub fn add_history(&mut self, request: &HistoryRequest, row: &RestoredRow<'_>) {
        if let Some(tracker) = self.budgets.waiting(request) {
            self.ledger.fold_into(tracker, &row_fold(row));
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
        self.budgets.restart(request, &mut self.ledger, oldest)
    }

    /// What the log holds of decisions, the last for each key, at start.
    pub fn load_decisions(&mut self, decisions: impl IntoIterator<Item = Decision>) {
        decisions.into_iter().for_each(|decision| self.decisions.load(decision));
    }

    /// What the log holds of alerts, at start.
    pub fn load_alerts(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts {
            if alert.window.end > self.ledger.floor {
                self.alerts.load(alert.id, alert.window.end);
            }
        }
    }

    /// What has to be published for the log to agree with the balances at this time. It counts as published from then on: give back to
    /// [`Core::retract`] what could not be. A time before that of an earlier call counts as that one.
    pub fn effects(&mut self, now: TimeUs) -> Effects {
        self.clock = self.clock.max(now);
        let now = self.clock;
        let mut looked_at = std::mem::take(&mut self.ledger.dirty);
        looked_at.extend(self.decisions.take_started(now));
        let mut keys = Keys::new();
        let mut alerts = self.alerts.take_again();
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
                self.decisions.note(&self.ledger, at, state, now, &mut keys);
                self.alerts.judge(&mut self.ledger, at, state, self.restored_until, now, &mut alerts);
            }
        }
        if self.ledger.dirty.is_empty() {
            self.ledger.dirty = looked_at;
        }
        let decisions = self.decisions.decide(&mut self.ledger, &self.budgets, now, keys);
        Effects { decisions, alerts: alerts.into_values().collect() }
    }

    /// Takes back effects that could not be published: the next [`Core::effects`] has them again, as far as they still hold.
    pub fn retract(&mut self, effects: &Effects) {
        effects.decisions.iter().for_each(|decision| self.decisions.retract(decision));
        effects.alerts.iter().for_each(|alert| self.alerts.retract(alert));
    }

    /// When [`Core::effects`] should be called though no event comes: a window turns then. After the last call's time.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<TimeUs> {
        self.decisions.next_after(self.clock)
    }

    /// Whether a scope may spend, by all hard budgets that count it, in the windows that contain `now`. Budgets that wait for
    /// their history have no say.
    #[must_use]
    pub fn check(&self, dimensions: &Dimensions<'_>, now: TimeUs) -> Check {
        view::check(&self.ledger, &self.budgets, dimensions, now)
    }

    /// A page of balances, of at most so many rows.
    #[must_use]
    pub fn balances(&self, filter: &BalanceFilter, after: Option<Cursor>, rows_max: usize) -> BalancePage {
        view::balances(&self.ledger, &self.budgets, filter, after, rows_max)
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
        if floor > self.ledger.floor {
            let before = self.ledger.floor;
            self.ledger.raise_floor(floor);
            self.dedup.forget_before(seconds(floor));
            if before.0.div_euclid(TimeUs::MINUTE) != floor.0.div_euclid(TimeUs::MINUTE) {
                self.alerts.forget_ended(floor);
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
            alerts: self.alerts.len(),
            saturated: self.ledger.saturated,
            outside: self.ledger.outside,
            balances_bytes: self.ledger.allocated_bytes(),
            dedup_bytes: self.dedup.allocated_bytes(),
        }
    }
}

fn fold<'a>(input: &Input<'a>, time: TimeUs) -> Fold<'a> {
    let event = input.event;
    Fold {
        time,
        dimensions: &event.dimensions,
        usage: Usage {
            reversal: false,
            tokens: &event.tokens,
            requests: event.requests,
            tool_calls: event.tool_calls,
            images: event.images,
            compute: event.compute,
            cost: input.cost.map(|cost| (cost.amount, cost.currency)),
            append_s: seconds(input.position.append_time),
        },
    }
}

/// What a correction takes back, as of the correction's own append time.
fn taken_back<'a>(input: &Input<'a>, restates: &'a Restates<'a>) -> Option<Fold<'a>> {
    let counts = restates.counts.as_ref()?;
    let mut fold = row_fold(counts);
    (fold.time, fold.usage.reversal) = (restates.time, true);
    fold.usage.append_s = seconds(input.position.append_time);
    Some(fold)
}

fn row_fold<'a>(row: &'a RestoredRow<'_>) -> Fold<'a> {
    Fold {
        time: row.time,
        dimensions: row.dimensions,
        usage: Usage {
            reversal: row.reversal,
            tokens: &row.tokens,
            requests: row.requests,
            tool_calls: row.tool_calls,
            images: row.images,
            compute: row.compute,
            cost: row.cost,
            append_s: seconds(row.append_time),
        },
    }
}

/// Whole seconds since the epoch, at the ends of the range where it would not fit.
fn seconds(time: TimeUs) -> u32 {
    u32::try_from(time.0.div_euclid(TimeUs::SECOND).max(0)).unwrap_or(u32::MAX)
}
