//! The one place of this crate that reads the clock: `Retry-After` and countdowns count from now.

use usage_types::TimeUs;

/// Now, by the machine's clock.
pub(crate) fn now() -> TimeUs {
    chrono::Utc::now().into()
}

/// Whole seconds from `now` until `until`, rounded up, at least 1: what `Retry-After` says.
pub(crate) fn seconds_until(until: TimeUs, now: TimeUs) -> u64 {
    let left_us = until.0.saturating_sub(now.0).max(1);
    u64::try_from(left_us).unwrap_or(1).div_ceil(TimeUs::SECOND.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (left_us, seconds) in [(-5, 1), (0, 1), (1, 1), (1_000_000, 1), (1_000_001, 2), (86_400_000_000, 86_400)] {
            assert_eq!(seconds_until(TimeUs(left_us), TimeUs(0)), seconds, "{left_us}");
        }
    }
}
