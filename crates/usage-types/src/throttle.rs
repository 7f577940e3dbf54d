//! Throttles: how fast a scope may go on that is neither free nor blocked.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TimeUs;

/// Why a scope is throttled: for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ThrottleReason {
    /// Its circuit was open, and a trickle tries out whether it may close.
    CircuitHalfOpen,
    /// At its present burn its cap would fall too soon.
    PredictedOverspend,
    /// A budget that it shares is nearly used up, and others have a higher priority.
    PriorityThrottled,
}

impl ThrottleReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CircuitHalfOpen, Self::PredictedOverspend, Self::PriorityThrottled];

    /// The name in JSON and in headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CircuitHalfOpen => "CIRCUIT_HALF_OPEN",
            Self::PredictedOverspend => "PREDICTED_OVERSPEND",
            Self::PriorityThrottled => "PRIORITY_THROTTLED",
        }
    }
}

impl fmt::Display for ThrottleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// So many requests in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many; at least one.
    pub requests: u64,
    /// In how many seconds; at least one.
    pub per_s: u64,
}

impl Rate {
    /// How long after one request the next may come, in microseconds: rounded up, so that a stretch of `per_s` never has more than `requests`.
    #[must_use]
    pub fn interval_us(self) -> i64 {
        let per_us = self.per_s.saturating_mul(TimeUs::SECOND.unsigned_abs());
        i64::try_from(per_us.div_ceil(self.requests.max(1)).max(1)).unwrap_or(i64::MAX)
    }

    /// Which lets less through.
    #[must_use]
    pub fn cmp_speed(self, other: Self) -> Ordering {
        let speed = |a: Self, b: Self| u128::from(a.requests) * u128::from(b.per_s);
        speed(self, other).cmp(&speed(other, self))
    }
}

/// What a decision says of a scope that may go on, but not as fast as it likes. Ration by it: a token bucket of `burst` that is filled evenly with
/// `requests` in `per_s` seconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Throttle {
    /// Why.
    pub reason_code: ThrottleReason,
    /// How many requests may be made; at least one.
    pub requests: u64,
    /// In how many seconds; at least one.
    pub per_s: u64,
    /// How many of them at once; at least one.
    pub burst: u64,
    /// The id of the shared budget that is nearly used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Throttle {
    /// The status of what it refuses: ask again in a moment.
    pub const HTTP_STATUS: u16 = 429;

    /// A throttle of whoever spends too fast: ten seconds of the rate at once.
    #[must_use]
    pub fn paced(reason_code: ThrottleReason, rate: Rate) -> Self {
        let burst = rate.requests.saturating_mul(10) / rate.per_s.max(1);
        Self::new(reason_code, rate, burst.max(1))
    }

    /// A throttle to this rate.
    #[must_use]
    pub const fn new(reason_code: ThrottleReason, rate: Rate, burst: u64) -> Self {
        Self { reason_code, requests: rate.requests, per_s: rate.per_s, burst, by: None }
    }

    /// Its rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        Rate { requests: self.requests, per_s: self.per_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_so_far_apart_that_no_more_fit_into_the_time() {
        for (requests, per_s, interval_us) in [(5, 60, 12_000_000), (3, 1, 333_334), (1, 3_600, 3_600_000_000)] {
            assert_eq!(Rate { requests, per_s }.interval_us(), interval_us);
        }
        let [a, b] = [Rate { requests: 1, per_s: 60 }, Rate { requests: 59, per_s: 3_600 }];
        assert_eq!(
            (a.cmp_speed(b), a.cmp_speed(Rate { requests: 60, per_s: 3_600 })),
            (Ordering::Greater, Ordering::Equal)
        );
    }
}
