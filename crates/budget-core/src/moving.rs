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
use crate::ledger::Ledger;
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
    /// The buckets that count, with the balance in each, oldest first.
    buckets: SmallVec<[(TimeUs, u32); 8]>,
}

impl Ledger {
    /// What a scope has used in the window of a tracker that contains the time. A moving window is never looked at before the time to which
    /// it has moved.
    pub(crate) fn used_at(&self, tracker_at: u32, scope: Option<ScopeId>, time: TimeUs) -> Used<'_> {
        let tracker = self.tracker(tracker_at);
        if let Some(moving) = tracker.moving {
            return self.used_of_moving(moving, tracker_at, scope, time.max(self.moved_to));
        }
        let window = tracker.window_of(time, &self.windows);
        let id = tracker.windows.get(&window.start);
        let at = scope.zip(id).and_then(|(scope, id)| self.find_balance(scope, *id));
        let sum = at.map(|at| Cow::Borrowed(self.balances.get(at)));
        Used { window, at, sum, moving: None, buckets: SmallVec::new() }
    }

    fn used_of_moving(&self, moving: Moving, tracker_at: u32, scope: Option<ScopeId>, now: TimeUs) -> Used<'_> {
        let tracker = self.tracker(tracker_at);
        let mut window = window_at(tracker.spec, now);
        let mut buckets: SmallVec<[(TimeUs, u32); 8]> = SmallVec::new();
        let mut next = moving.bucket(now);
        for (bucket, id) in tracker.windows.range(window.start..).rev() {
            if moving.gap.is_some_and(|gap| moving.after(*bucket, gap) < next) {
                break;
            }
            if let Some(at) = scope.and_then(|scope| self.find_balance(scope, *id)) {
                buckets.push((*bucket, at));
                next = *bucket;
            }
        }
        buckets.reverse();
        if moving.gap.is_some() {
            let [first, last] = [buckets.first(), buckets.last()].map(|at| at.map_or(moving.bucket(now), |at| at.0));
            (window.start, window.end) = (first, moving.is_over(last).unwrap_or(window.end));
        }
        let mut sum: Option<Balance> = None;
        for (_, at) in &buckets {
            let bucket = self.balances.get(*at);
            sum.get_or_insert_with(|| Balance::new(bucket.scope, bucket.window, bucket.next)).absorb(bucket);
        }
        Used { window, at: None, sum: sum.map(Cow::Owned), moving: Some(moving), buckets }
    }
}

impl Used<'_> {
    /// How much of a measure.
    pub(crate) fn amount(&self, measure: Measure) -> Amount {
        self.sum.as_ref().map_or(Amount(0), |sum| sum.amount(measure))
    }

    /// All of it; `None` where there is nothing.
    pub(crate) fn sum(&self) -> Option<&Balance> {
        self.sum.as_deref()
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

    /// What is left at each time at which a bucket leaves if nothing more comes, earliest first; at the last there is nothing.
    fn to_come(&self, ledger: &Ledger) -> Vec<(TimeUs, Balance)> {
        let (Some(moving), Some((last, _))) = (self.moving, self.buckets.last()) else { return Vec::new() };
        let over = moving.is_over(*last).unwrap_or(TimeUs(i64::MAX));
        let (mut left, mut to_come) = (Balance::default(), Vec::with_capacity(self.buckets.len()));
        for (bucket, at) in self.buckets.iter().rev() {
            let leaves = moving.leaves(*bucket);
            if leaves < over {
                to_come.push((leaves, left.clone()));
            }
            left.absorb(ledger.balances.get(*at));
        }
        if over.0 != i64::MAX && moving.leaves(*last) >= over {
            to_come.insert(0, (over, Balance::default()));
        }
        to_come.reverse();
        to_come
    }

    /// The window as it is told of one that is reached: until when it is, if nothing more is spent.
    pub(crate) fn reached_window(&self, ledger: &Ledger, limits: &Limits) -> Window {
        let is_reached = |sum: &Balance| limits.is_reached(|measure| sum.amount(measure));
        match self.to_come(ledger).iter().find(|(_, sum)| !is_reached(sum)) {
            Some((until, _)) => Window { end: *until, ..self.window },
            None => self.window,
        }
    }

    /// When a limit is reached no more, if nothing more is spent; `None` where no bucket leaves.
    pub(crate) fn clears(&self, ledger: &Ledger, limit: Limit) -> Option<TimeUs> {
        let is_reached = |sum: &Balance| Fill { limit, used: sum.amount(limit.measure) }.is_reached();
        self.to_come(ledger).into_iter().find(|(_, sum)| !is_reached(sum)).map(|(at, _)| at)
    }

    /// When the fill falls below a share of the limits, if nothing more is spent.
    pub(crate) fn falls_below(&self, ledger: &Ledger, limits: &Limits, share: Ppm) -> TimeUs {
        let has_reached = |sum: &Balance| limits.tightest(|measure| sum.amount(measure)).has_reached(share);
        let below = self.to_come(ledger).into_iter().find(|(_, sum)| !has_reached(sum));
        below.map_or(self.window.end, |(at, _)| at)
    }

    /// When the fill rises to a limit or a share of it though nothing is spent: where money was given back, and the bucket of that leaves first.
    pub(crate) fn rises(&self, ledger: &Ledger, limits: &Limits, shares: &[Ppm]) -> Option<TimeUs> {
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
        for (at, sum) in self.to_come(ledger) {
            let then = level(&|measure| sum.amount(measure));
            if then.0 > before.0 || then.1 > before.1 {
                return Some(at);
            }
            before = then;
        }
        None
    }
}
