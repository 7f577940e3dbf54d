//! Circuit breakers: a scope that burns too fast is blocked for a while, then let through at a trickle, then as before.
//!
//! Holds here: a circuit is driven by the append times of the events that it sees and by nothing else; time alone only lets it go from
//! open to half open to closed. So a replay opens the same circuits at the same times, and what is read late from the log, of a time that is
//! long over, blocks nobody now. Corrections, backfill and adjustments are no burn.
//! After a restart a circuit that was open is open still, by its decision on the topic; what was metered begins anew.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use usage_types::{
    Amount, Breaker, BudgetId, Cost, Decision, DecisionState, Dimensions, Fill, Measure, Mode, Rate, ReasonCode, Role,
    Scope, Surge, Throttle, ThrottleReason, TimeUs, Trip, UsageEvent, Window,
};

use crate::throttle::InForce;

/// Into how many parts the time of a trip is divided: what is metered covers the last nine to ten tenths of it.
const PARTS: i64 = 10;
/// Of how many different requests a scope's repetitions are counted at the same time.
const SAME_MAX: usize = 1024;

/// All circuits.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    watches: BTreeMap<BudgetId, Watch>,
}

/// One breaker with its circuits.
#[derive(Debug)]
struct Watch {
    breaker: Arc<Breaker>,
    circuits: HashMap<Scope, Circuit>,
    /// Scopes whose circuits have opened since they were asked for.
    opened: Vec<Scope>,
    /// How long something may depend on the newest event of a circuit.
    kept_us: i64,
}

/// The circuit of a scope.
#[derive(Debug)]
struct Circuit {
    /// One for each trip.
    meters: Vec<Meter>,
    /// The first and the newest append time.
    first: TimeUs,
    newest: TimeUs,
    open: Option<Opened>,
}

/// When and why a circuit opened, and how many requests have come since it is half open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    since: TimeUs,
    fill: Fill,
    trickled: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open,
    HalfOpen,
}

impl Opened {
    fn phase(&self, breaker: &Breaker, time: TimeUs) -> Phase {
        let until = self.since.plus_us(breaker.open_us);
        match time {
            _ if time < until => Phase::Open,
            _ if time < until.plus_us(breaker.half_open_us) => Phase::HalfOpen,
            _ => Phase::Closed,
        }
    }
}

/// A circuit that is open, or half open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCircuit {
    /// Its breaker.
    pub breaker: Arc<Breaker>,
    /// For whom.
    pub scope: Scope,
    /// From when it opened until it is half open or, where it is that, from then until it closes.
    pub window: Window,
    /// Whether a trickle passes.
    pub is_half_open: bool,
    /// The limit that tripped it, and how much had been used of it within its time.
    pub fill: Fill,
}

impl OpenCircuit {
    /// Of several the one that is open for longest is named.
    pub(crate) fn order(&self) -> (TimeUs, std::cmp::Reverse<&str>) {
        (self.window.end, std::cmp::Reverse(&self.breaker.id))
    }

    /// What is published of it.
    pub(crate) fn decision(&self, seq: u64, now: TimeUs) -> Decision {
        let measure = self.fill.limit.measure;
        let (state, reason_code, http_status) = match self.is_half_open {
            true => (DecisionState::Allowed, ReasonCode::WithinQuota, 200),
            false => (DecisionState::Blocked, ReasonCode::CircuitOpen, Breaker::HTTP_STATUS),
        };
        let decision = Decision {
            budget: self.breaker.id.to_string(),
            scope: self.scope.clone(),
            state,
            reason_code,
            http_status,
            measure: measure.name().to_owned(),
            currency: measure.currency(),
            limit: measure.format(self.fill.limit.amount),
            used: measure.format(self.fill.used),
            seq,
            window: self.window,
            decided_at: now,
            expires_at: self.window.end,
            would_block: None,
            rolled_back: None,
            overage: None,
            progress: None,
            throttle: self.is_half_open.then(|| self.trickle()),
            would_throttle: None,
        };
        if self.breaker.mode == Mode::Shadow { decision.shadowed() } else { decision }
    }
}

impl OpenCircuit {
    /// What passes while it is half open: one request after the other, so that it is never those who ask first that open it again.
    fn trickle(&self) -> Throttle {
        let per_s = (self.breaker.half_open_us / TimeUs::SECOND).max(1).unsigned_abs();
        Throttle::new(ThrottleReason::CircuitHalfOpen, Rate { requests: self.breaker.trickle, per_s }, 1)
    }

    /// The throttle of one that is half open.
    pub(crate) fn throttle(self) -> InForce {
        let throttle = self.trickle();
        let Self { breaker, scope, window, fill, .. } = self;
        InForce {
            budget: Arc::clone(&breaker.id),
            scope,
            throttle,
            window,
            fill,
            is_shadow: breaker.mode == Mode::Shadow,
        }
    }
}

impl Breakers {
    /// Replaces the breakers. One that is as it was keeps its circuits. Those that are gone or changed.
    pub(crate) fn set(&mut self, breakers: &BTreeMap<BudgetId, Arc<Breaker>>) -> Vec<BudgetId> {
        let same = |id: &BudgetId, watch: &Watch| breakers.get(id) == Some(&watch.breaker);
        let gone: Vec<BudgetId> =
            self.watches.iter().filter(|(id, watch)| !same(id, watch)).map(|(id, _)| Arc::clone(id)).collect();
        gone.iter().for_each(|id| drop(self.watches.remove(id)));
        for (id, breaker) in breakers {
            let new = || Watch {
                breaker: Arc::clone(breaker),
                circuits: HashMap::new(),
                opened: Vec::new(),
                kept_us: kept_us(breaker),
            };
            self.watches.entry(Arc::clone(id)).or_insert_with(new);
        }
        gone
    }

    /// Takes over that a circuit is open or half open, where its breaker is there still.
    pub(crate) fn load(&mut self, decision: &Decision) {
        let Some(watch) = self.watches.get_mut(decision.budget.as_str()) else { return };
        let names = |trip: &&Trip| {
            let measure = trip.limit.measure;
            measure.name() == decision.measure
                && measure.currency() == decision.currency
                && measure.format(trip.limit.amount) == decision.limit
        };
        let (true, Some(trip)) = (decision.restrains(), watch.breaker.trips.iter().find(names)) else { return };
        // How much more than that it was the next time will tell.
        let used = trip.limit.amount;
        let open_us = if decision.is_throttled() { watch.breaker.open_us } else { 0 };
        let since = decision.window.start.plus_us(-open_us);
        let mut circuit = Circuit::new(&watch.breaker, since);
        circuit.open = Some(Opened { since, fill: Fill { limit: trip.limit, used }, trickled: 0 });
        watch.circuits.insert(decision.scope.clone(), circuit);
    }

    /// Meters an event that was counted.
    pub(crate) fn note(&mut self, event: &UsageEvent<'_>, cost: Option<Cost>, append: TimeUs) {
        if self.watches.is_empty() || event.role != Role::Usage {
            return;
        }
        for watch in self.watches.values_mut() {
            let breaker = &watch.breaker;
            let Some(scope) = breaker.scope_of(|dim| event.dimensions.get(dim)) else { continue };
            // One that nothing depends on any more is forgotten at no certain time: it is gone from the first moment on at which it may be.
            let kept_us = watch.kept_us;
            let known = watch.circuits.get_mut(&scope).filter(|circuit| circuit.newest.plus_us(kept_us) > append);
            let opened = match known {
                Some(circuit) => circuit.note(breaker, event, cost, append),
                None => {
                    let mut circuit = Circuit::new(breaker, append);
                    let opened = circuit.note(breaker, event, cost, append);
                    watch.circuits.insert(scope.clone(), circuit);
                    opened
                }
            };
            if opened {
                watch.opened.push(scope);
            }
        }
    }

    /// The circuits that have opened since the last call.
    pub(crate) fn take_opened(&mut self) -> impl Iterator<Item = (&BudgetId, Scope)> {
        self.watches.iter_mut().flat_map(|(id, watch)| watch.opened.drain(..).map(move |scope| (id, scope)))
    }

    /// How many circuits are kept.
    pub(crate) fn len(&self) -> usize {
        self.watches.values().map(|watch| watch.circuits.len()).sum()
    }

    /// Whether a breaker has this id.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.watches.contains_key(id)
    }

    /// The circuit of a scope, where it is open or half open.
    pub(crate) fn open(&self, id: &str, scope: &Scope, now: TimeUs) -> Option<OpenCircuit> {
        let watch = self.watches.get(id)?;
        watch.open(scope.clone(), now)
    }

    /// The circuits that hold a request back, open or half open, those in shadow too.
    pub(crate) fn check(&self, dimensions: &Dimensions<'_>, now: TimeUs) -> impl Iterator<Item = OpenCircuit> {
        self.watches.values().filter_map(move |watch| {
            let scope = watch.breaker.scope_of(|dim| dimensions.get(dim))?;
            watch.open(scope, now)
        })
    }

    /// Forgets circuits that nothing depends on any more.
    pub(crate) fn forget_idle(&mut self, append_time: TimeUs) {
        for watch in self.watches.values_mut() {
            watch.circuits.retain(|_, circuit| circuit.newest.plus_us(watch.kept_us) > append_time);
        }
    }
}

fn kept_us(breaker: &Breaker) -> i64 {
    let past = |trip: &Trip| trip.within_us + trip.surge.map_or(0, |surge| surge.of_us);
    let longest = breaker.trips.iter().map(past).max().unwrap_or(0);
    longest.max(breaker.open_us + breaker.half_open_us)
}

impl Watch {
    fn open(&self, scope: Scope, now: TimeUs) -> Option<OpenCircuit> {
        let breaker = &self.breaker;
        let open = self.circuits.get(&scope)?.open?;
        let half_open = open.since.plus_us(breaker.open_us);
        let (is_half_open, start, end) = match open.phase(breaker, now) {
            Phase::Open => (false, open.since, half_open),
            Phase::HalfOpen => (true, half_open, half_open.plus_us(breaker.half_open_us)),
            Phase::Closed => return None,
        };
        let window = Window { start, end, zone: chrono_tz::UTC };
        Some(OpenCircuit { breaker: Arc::clone(breaker), scope, window, is_half_open, fill: open.fill })
    }
}

impl Circuit {
    fn new(breaker: &Breaker, time: TimeUs) -> Self {
        let meters = breaker.trips.iter().map(Meter::new).collect();
        Self { meters, first: time, newest: time, open: None }
    }

    /// Whether this event opened it.
    fn note(&mut self, breaker: &Breaker, event: &UsageEvent<'_>, cost: Option<Cost>, time: TimeUs) -> bool {
        self.newest = self.newest.max(time);
        let phase = self.open.map_or(Phase::Closed, |open| open.phase(breaker, time));
        match (phase, &mut self.open) {
            // What was on its way, or comes from whoever does not follow decisions: it neither counts nor keeps it open.
            (Phase::Open, _) => return false,
            (Phase::HalfOpen, Some(open)) => {
                open.trickled = open.trickled.saturating_add(event.requests);
                if open.trickled > breaker.trickle {
                    let fill = open.fill;
                    self.trip(breaker, time, fill);
                    return true;
                }
            }
            (_, open) => *open = None,
        }
        let mut tripped = None;
        for (meter, trip) in self.meters.iter_mut().zip(&breaker.trips) {
            let Some(used) = meter.note(trip, event, cost, time) else { continue };
            let is_new = tripped.is_none() && used.recent >= trip.limit.amount.0;
            if is_new
                && trip.surge.is_none_or(|surge| {
                    self.first.plus_us(surge.of_us + trip.within_us) <= time && used.is_above(trip, surge)
                })
            {
                tripped = Some(Fill { limit: trip.limit, used: Amount(used.recent) });
            }
        }
        if let Some(fill) = tripped {
            self.trip(breaker, time, fill);
        }
        tripped.is_some()
    }

    /// Opens. What was metered up to now has done its work; the usual rate stays known.
    fn trip(&mut self, breaker: &Breaker, since: TimeUs, fill: Fill) {
        self.open = Some(Opened { since, fill, trickled: 0 });
        for (meter, trip) in self.meters.iter_mut().zip(&breaker.trips) {
            meter.clear(trip);
        }
    }
}

/// What one trip of a circuit has metered.
#[derive(Debug)]
enum Meter {
    All(Burn),
    /// By the value of a tag.
    Same(HashMap<Box<str>, Burn>),
}

/// What was used within the time of a trip, and in the time before that.
#[derive(Debug, Clone, Copy)]
struct Metered {
    recent: i128,
    past: i128,
}

impl Metered {
    /// Whether the rate is so many times the usual one. In whole seconds, so that products fit.
    fn is_above(self, trip: &Trip, surge: Surge) -> bool {
        let (within_s, of_s) = (i128::from(trip.within_us / TimeUs::SECOND), i128::from(surge.of_us / TimeUs::SECOND));
        let usual = self.past.saturating_mul(within_s).saturating_mul(i128::from(surge.times));
        self.recent.saturating_mul(of_s) > usual
    }
}

impl Meter {
    fn new(trip: &Trip) -> Self {
        match trip.same {
            None => Self::All(Burn::default()),
            Some(_) => Self::Same(HashMap::new()),
        }
    }

    fn note(&mut self, trip: &Trip, event: &UsageEvent<'_>, cost: Option<Cost>, time: TimeUs) -> Option<Metered> {
        let amount = amount(event, cost, trip.limit.measure);
        match (self, &trip.same) {
            (Self::Same(values), Some(tag)) => {
                let value = event.tags.get(tag.as_str())?;
                if !values.contains_key(&**value) && values.len() >= SAME_MAX {
                    // A loop repeats itself; what came once makes room.
                    values.retain(|_, burn| burn.newest.plus_us(trip.within_us) > time && burn.sum > 1);
                    if values.len() >= SAME_MAX {
                        return None;
                    }
                }
                Some(values.entry((&**value).into()).or_default().add(trip, amount, time))
            }
            (Self::All(burn), _) => Some(burn.add(trip, amount, time)),
            (Self::Same(_), None) => None,
        }
    }

    fn clear(&mut self, trip: &Trip) {
        match self {
            Self::All(burn) => burn.clear(trip),
            Self::Same(values) => values.clear(),
        }
    }
}

/// Sums over parts of time.
#[derive(Debug)]
struct Burn {
    /// Parts of the trip's time that something was used in, oldest first, and their sum.
    recent: VecDeque<(i64, i128)>,
    sum: i128,
    /// Whole times of the trip before that.
    past: VecDeque<(i64, i128)>,
    newest: TimeUs,
}

impl Default for Burn {
    fn default() -> Self {
        Self { recent: VecDeque::new(), sum: 0, past: VecDeque::new(), newest: TimeUs(i64::MIN) }
    }
}

impl Burn {
    fn add(&mut self, trip: &Trip, amount: i128, time: TimeUs) -> Metered {
        self.newest = self.newest.max(time);
        let part_us = (trip.within_us / PARTS).max(1);
        let now = self.newest.0.div_euclid(part_us);
        while let Some((part, used)) = self.recent.front().copied().filter(|(part, _)| *part <= now - PARTS) {
            self.recent.pop_front();
            self.sum -= used;
            self.age(trip, part, used);
        }
        if let Some(surge) = trip.surge {
            let oldest = (now - PARTS - surge.of_us / part_us).div_euclid(PARTS);
            while self.past.front().is_some_and(|(whole, _)| *whole < oldest) {
                self.past.pop_front();
            }
        }
        let part = time.0.div_euclid(part_us);
        // Another partition may be behind; what is older than the trip's time says nothing of the present.
        if part > now - PARTS {
            add_at(&mut self.recent, part, amount);
            self.sum = self.sum.saturating_add(amount);
        }
        Metered { recent: self.sum, past: self.past.iter().map(|(_, used)| used).sum() }
    }

    /// What is not recent any more is past, where that is needed.
    fn age(&mut self, trip: &Trip, part: i64, used: i128) {
        if trip.surge.is_some() {
            add_at(&mut self.past, part.div_euclid(PARTS), used);
        }
    }

    fn clear(&mut self, trip: &Trip) {
        for (part, used) in std::mem::take(&mut self.recent) {
            self.age(trip, part, used);
        }
        self.sum = 0;
    }
}

/// Adds to a place of a list that is in order; mostly the last one.
fn add_at(list: &mut VecDeque<(i64, i128)>, place: i64, amount: i128) {
    let at = list.iter().rposition(|(is, _)| *is <= place);
    match at.and_then(|at| list.get_mut(at)) {
        Some((is, sum)) if *is == place => *sum = sum.saturating_add(amount),
        _ => list.insert(at.map_or(0, |at| at + 1), (place, amount)),
    }
}

/// How much of a measure an event is.
fn amount(event: &UsageEvent<'_>, cost: Option<Cost>, measure: Measure) -> i128 {
    match measure {
        Measure::Tokens => i128::from(event.tokens.total()),
        Measure::TokensOf(class) => i128::from(event.tokens.get(class)),
        Measure::Requests => i128::from(event.requests),
        Measure::ToolCalls => i128::from(event.tool_calls),
        Measure::Images => i128::from(event.images),
        Measure::Compute => i128::from(event.compute.0),
        Measure::Cost(currency) => cost.filter(|cost| cost.currency == currency).map_or(0, |cost| cost.amount.0),
    }
}
