//! How far a job has come.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many of its records a job has processed, as one of its events says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// Records that are done, all of them since the job began.
    pub processed: u64,
    /// Of how many; `None` where the job does not know. Never less than `processed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl Progress {
    /// The share that is done in tenths of a percent, rounded down; `None` where it cannot be told.
    #[must_use]
    pub fn per_mille(self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        u64::try_from(u128::from(self.processed) * 1000 / u128::from(total)).ok()
    }
}

impl fmt::Display for Progress {
    /// For people: `8200 of 10000 records (82.0%)`, or `8200 records`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.total, self.per_mille()) {
            (Some(total), Some(share)) => {
                write!(f, "{} of {total} records ({}.{}%)", self.processed, share / 10, share % 10)
            }
            (Some(total), None) => write!(f, "{} of {total} records", self.processed),
            (None, _) => write!(f, "{} records", self.processed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_with_its_share_where_the_total_is_known() {
        let told = |processed, total| Progress { processed, total }.to_string();
        assert_eq!(
            [told(8200, Some(10_000)), told(1, Some(3)), told(7, None), told(0, Some(0)), told(1 << 48, Some(1 << 48))],
            [
                "8200 of 10000 records (82.0%)",
                "1 of 3 records (33.3%)",
                "7 records",
                "0 of 0 records",
                "281474976710656 of 281474976710656 records (100.0%)"
            ]
        );
    }
}
