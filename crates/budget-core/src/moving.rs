//! Windows that move on with time: rolling ones, and the lifetimes of sessions, tasks and jobs.
//!
//! Both are counted in **buckets**. A tracker of such a window keeps a balance for each scope and bucket, as a tracker of calendar windows does for
//! each scope and window, so late events, corrections, histories and restarts need nothing of their own. What a scope has used at a time
//! is the sum over the buckets that count then, so it depends on the rows and on the time alone.
//!
//! - A **rolling** window of N has 60 buckets of N/60. At any time the bucket of now and the 60 before it count: at least the last N, at most N and a bucket.
//!   That is the strict side on purpose: in no stretch of N, wherever it begins, is more counted as allowed than the limit.
//! - A **lifetime** with idle time I has buckets of I/12. It goes on from one bucket to the next that is at most 12 later, so it ends when nothing
//!   came for at least I and at most I and a bucket. Of one that lasts longer than 30 times I the last 30 I count: more of the past is needed neither
//!   in memory nor after a restart.
//!
//! An event whose time lies in the future (a sender's clock is ahead) counts at once: or such a clock would evade a window of a minute.

use std::borrow::Cow;

use smallvec::SmallVec;
use usage_types::{Amount, Bounds, Fill, Limit, Limits, Measure, Ppm, TimeUs, Window, WindowSpec};

use crate::balance::Balance;
use crate::intern::ScopeId;
use crate::lane::{Bucket, Lane, sum_of};
use crate::ledger::Ledger;
use crate::tracker::Tracker;
use crate::window::window_at;

/// Buckets of a rolling window: a minute of an hour, a second of a minute.
const ROLLING_BUCKETS: i64 = 60;
/// Buckets of the idle time of a lifetime.
const IDLE_BUCKETS: i64 = 12;
/// How many times its idle time a lifetime counts at most.
const LIFETIME_IDLES: i64 = 30;

/// How a moving window is counted. Buckets begin at multiples of their width since the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moving {
    width_us: i64,
    /// How many buckets count before the one of now.
    reach: i64,
    /// Of a lifetime how many buckets later the next event may come at most.
    gap: Option<i64>,
}

impl Moving {
    pub(crate) fn of(spec: WindowSpec) -> Option<Self> {
        match spec.bounds {
            Bounds::Calendar { .. } => None,
            // A span is whole minutes, so that both divide.
            Bounds::Rolling(span) => {
                Some(Self { width_us: span.us() / ROLLING_BUCKETS, reach: ROLLING_BUCKETS, gap: None })
            }
            Bounds::Lifetime { idle, .. } => Some(Self {
                width_us: idle.us() / IDLE_BUCKETS,
                reach: IDLE_BUCKETS * LIFETIME_IDLES,
                gap: Some(IDLE_BUCKETS),
            }),
        }
    }

    /// The first instant of the bucket of a time.
    pub(crate) fn bucket(self, time: TimeUs) -> TimeUs {
        TimeUs(time.0.div_euclid(self.width_us).saturating_mul(self.width_us))
    }

    pub(crate) fn after(self, bucket: TimeUs, buckets: i64) -> TimeUs {
        bucket.plus_us(self.width_us * buckets)
    }

    /// The first bucket that can count at a time.
    pub(crate) fn first(self, now: TimeUs) -> TimeUs {
        self.after(self.bucket(now), -self.reach)
    }

    /// When a bucket counts no more, whatever comes.
    pub(crate) fn leaves(self, bucket: TimeUs) -> TimeUs {
        self.after(bucket, self.reach + 1)
    }

    /// The buckets of a scope that count at a time, of which `first` is the first bucket that can.
    fn counting(self, lane: &Lane, first: TimeUs, now: TimeUs) -> &[Bucket] {
        let buckets = lane.from(first);
        let Some(gap) = self.gap else { return buckets };
        let mut next = self.bucket(now);
        let goes_on = |(start, _): &&Bucket| {
            let is_near = self.after(*start, gap) >= next;
            next = *start;
            is_near
        };
        &buckets[buckets.len() - buckets.iter().rev().take_while(goes_on).count()..]
    }

    /// When a lifetime with this last bucket is over.
    fn is_over(self, last: TimeUs) -> Option<TimeUs> {
        self.gap.map(|gap| self.after(last, gap + 1))
    }
}

/// What a scope has used in the window of a tracker that contains a time.
#[derive(Debug)]
pub(crate) struct Used<'l> {
    /// That window. One that moves begins with its first bucket and ends with that of now, a lifetime when it would be over if nothing came.
    pub(crate) window: Window,
    /// The balance of a calendar window.
    pub(crate) at: Option<u32>,
    sum: Option<Cow<'l, Balance>>,
    moving: Option<Moving>,
    /// Of a moving window all buckets of the scope.
    pub(crate) lane: Option<&'l Lane>,
    /// Those that count, oldest first.
    buckets: &'l [Bucket],
}

/// How much of each measure that limits are set for.
type Amounts = SmallVec<[(Measure, Amount); 4]>;

fn amount_of(amounts: &Amounts, measure: Measure) -> Amount {
    amounts.iter().find(|(of, _)| *of == measure).map_or(Amount(0), |(_, amount)| *amount)
}

impl Ledger {
    /// What a scope has used in the window of a tracker that contains the time. A moving window is never looked at before the time to which
    /// it has moved.
    pub(crate) fn used_at(&self, tracker_at: u32, scope: Option<ScopeId>, time: TimeUs) -> Used<'_> {
        let tracker = self.tracker(tracker_at);
        if let Some(moving) = tracker.moving {
            return self.used_of_moving(moving, tracker, scope, time.max(self.moved_to));
        }
        let window = tracker.window_of(time, &self.windows);
        let id = tracker.windows.get(&window.start);
        let at = scope.zip(id).and_then(|(scope, id)| self.find_balance(scope, *id));
        let sum = at.map(|at| Cow::Borrowed(self.balances.get(at)));
        Used { window, at, sum, moving: None, lane: None, buckets: &[] }
    }

    fn used_of_moving<'l>(
        &'l self,
        moving: Moving,
        tracker: &'l Tracker,
        scope: Option<ScopeId>,
        now: TimeUs,
    ) -> Used<'l> {
        let mut window = window_at(tracker.spec, now);
        let lane = scope.and_then(|scope| tracker.lanes.get(scope));
        let buckets = lane.map_or(&[][..], |lane| moving.counting(lane, window.start, now));
        if moving.gap.is_some() {
            let [first, last] = [buckets.first(), buckets.last()].map(|at| at.map_or(moving.bucket(now), |at| at.0));
            (window.start, window.end) = (first, moving.is_over(last).unwrap_or(window.end));
        }
        let first = buckets.first().map(|(first, _)| *first);
        let sum = lane.zip(first).and_then(|(lane, first)| lane.total(first, &self.balances)).map(Cow::Owned);
        Used { window, at: None, sum, moving: Some(moving), lane, buckets }
    }

    /// Moves on what is known of a scope in a moving window, so that the looks at this time need not.
    pub(crate) fn move_lane(&mut self, tracker_at: u32, scope: ScopeId, time: TimeUs) {
        let now = time.max(self.moved_to);
        let Some(tracker) = self.trackers[tracker_at as usize].as_mut() else { return };
        let Some((moving, lane)) = tracker.moving.zip(tracker.lanes.get_mut(scope)) else { return };
        let first = moving.counting(lane, window_at(tracker.spec, now).start, now).first().map(|(first, _)| *first);
        lane.move_to(first.unwrap_or(TimeUs(i64::MAX)), &mut self.balances);
    }

    /// Notes whether a threshold of a scope in a moving window is known to have been crossed.
    pub(crate) fn note_crossed(&mut self, tracker: u32, scope: ScopeId, has_crossed: bool) {
        if let Some(lane) = self.tracker_mut(tracker).lanes.get_mut(scope) {
            lane.has_crossed = Some(has_crossed);
        }
    }

    /// Notes whether a scope is over a limit in a moving window by what is said of it.
    pub(crate) fn note_reached(&mut self, tracker: u32, scope: ScopeId, is_reached: bool) {
        if let Some(lane) = self.tracker_mut(tracker).lanes.get_mut(scope) {
            lane.is_reached = is_reached;
        }
    }
}

impl Used<'_> {
    /// How much of a measure.
    pub(crate) fn amount(&self, measure: Measure) -> Amount {
        self.sum.as_ref().map_or(Amount(0), |sum| sum.amount(measure))
    }

    /// All of what is used in a moving window, for people: without what has left it.
    pub(crate) fn sum_anew(&self, ledger: &Ledger) -> Balance {
        sum_of(self.buckets, &ledger.balances)
    }

    /// The balance of the newest bucket: it leaves last.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.buckets.last().map(|(_, at)| *at)
    }

    /// When what is used has left the window, or the lifetime is over, if nothing more comes; `None` where nothing is.
    pub(crate) fn gone_at(&self) -> Option<TimeUs> {
        let (moving, (last, _)) = self.moving.zip(self.buckets.last())?;
        let leaves = moving.leaves(*last);
        Some(moving.is_over(*last).map_or(leaves, |over| over.min(leaves)))
    }

    /// When the oldest bucket leaves; `None` where there is none.
    pub(crate) fn leaves_at(&self) -> Option<TimeUs> {
        self.moving.zip(self.buckets.first()).map(|(moving, (first, _))| moving.leaves(*first))
    }

    /// What is left of these measures at each time at which a bucket leaves if nothing more comes, earliest first; at the last there is nothing.
    fn to_come<'u>(
        &'u self,
        ledger: &'u Ledger,
        measures: impl Iterator<Item = Measure>,
    ) -> impl Iterator<Item = (TimeUs, Amounts)> + 'u {
        let mut left: Amounts = measures.map(|measure| (measure, self.amount(measure))).collect();
        let nothing: Amounts = left.iter().map(|(measure, _)| (*measure, Amount(0))).collect();
        let over = self.moving.zip(self.buckets.last()).and_then(|(moving, (last, _))| moving.is_over(*last));
        let leaves = move |moving: Moving| self.buckets.iter().map(move |(start, at)| (moving.leaves(*start), *at));
        let leaving = self.moving.into_iter().flat_map(leaves);
        let leaving = leaving.take_while(move |(leaves, _)| over.is_none_or(|over| *leaves < over));
        let leaving = leaving.map(move |(leaves, at)| {
            let balance = ledger.balances.get(at);
            left.iter_mut().for_each(|(of, left)| left.0 = left.0.saturating_sub(balance.amount(*of).0));
            (leaves, left.clone())
        });
        // A lifetime is over long before its last bucket leaves.
        leaving.chain(over.map(|over| (over, nothing)))
    }

    /// The window as it is told of one that is reached: until when it is, if nothing more is spent.
    pub(crate) fn reached_window(&self, ledger: &Ledger, limits: &Limits) -> Window {
        let is_reached = |left: &Amounts| limits.is_reached(|measure| amount_of(left, measure));
        let mut to_come = self.to_come(ledger, limits.iter().map(|limit| limit.measure));
        match to_come.find(|(_, left)| !is_reached(left)) {
            Some((until, _)) => Window { end: until, ..self.window },
            None => self.window,
        }
    }

    /// When a limit is reached no more, if nothing more is spent; `None` where no bucket leaves.
    pub(crate) fn clears(&self, ledger: &Ledger, limit: Limit) -> Option<TimeUs> {
        let is_reached = |left: &Amounts| Fill { limit, used: amount_of(left, limit.measure) }.is_reached();
        self.to_come(ledger, [limit.measure].into_iter()).find(|(_, left)| !is_reached(left)).map(|(at, _)| at)
    }

    /// When the fill falls below a share of the limits, if nothing more is spent.
    pub(crate) fn falls_below(&self, ledger: &Ledger, limits: &Limits, share: Ppm) -> TimeUs {
        let has_reached = |left: &Amounts| limits.tightest(|measure| amount_of(left, measure)).has_reached(share);
        let mut to_come = self.to_come(ledger, limits.iter().map(|limit| limit.measure));
        let below = to_come.find(|(_, left)| !has_reached(left));
        below.map_or(self.window.end, |(at, _)| at)
    }

    /// When the fill rises to a limit or a share of it though nothing is spent: where money was given back, and the bucket of that leaves first.
    pub(crate) fn rises(&self, ledger: &Ledger, limits: &Limits, shares: &[Ppm]) -> Option<TimeUs> {
        let has_taken_back = |(lane, (first, _)): (&Lane, &Bucket)| lane.has_taken_back(*first);
        if !self.lane.zip(self.buckets.first()).is_some_and(has_taken_back) {
            return None;
        }
        let is_negative =
            |at: u32| limits.fills(|measure| ledger.balances.get(at).amount(measure)).any(|fill| fill.used.0 < 0);
        if !self.buckets.iter().any(|(_, at)| is_negative(*at)) {
            return None;
        }
        let level = |amount: &dyn Fn(Measure) -> Amount| {
            let fill = limits.tightest(amount);
            (usize::from(limits.is_reached(amount)), shares.iter().filter(|share| fill.has_reached(**share)).count())
        };
        let mut before = level(&|measure| self.amount(measure));
        for (at, left) in self.to_come(ledger, limits.iter().map(|limit| limit.measure)) {
            let then = level(&|measure| amount_of(&left, measure));
            if then.0 > before.0 || then.1 > before.1 {
                return Some(at);
            }
            before = then;
        }
        None
    }
}
