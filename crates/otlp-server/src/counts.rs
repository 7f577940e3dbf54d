//! What the entrance counts about itself. No label comes from a sender.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Spans and log records by what became of them.
const ITEMS: &str = "outlay_otlp_items_total";
/// Requests that were not taken as a whole.
const FAILURES: &str = "outlay_otlp_failures_total";

/// The counters of an entrance since it started.
#[derive(Debug, Default)]
pub struct OtlpCounts {
    pub(crate) accepted: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl OtlpCounts {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Spans and log records whose usage the sink has acknowledged.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Spans and log records that told of no usage, or repeated what others told.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// Spans and log records that were wrong.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Appends Prometheus' text format.
    pub fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {ITEMS} Spans and log records by what became of them.\n# TYPE {ITEMS} counter");
        for (outcome, count) in
            [("accepted", self.accepted()), ("ignored", self.ignored()), ("rejected", self.rejected())]
        {
            let _ = writeln!(out, "{ITEMS}{{outcome=\"{outcome}\"}} {count}");
        }
        let _ = writeln!(out, "# HELP {FAILURES} OTLP requests that were not taken.\n# TYPE {FAILURES} counter");
        let _ = writeln!(out, "{FAILURES} {}", self.failures.load(Ordering::Relaxed));
    }
}
