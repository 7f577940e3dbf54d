//! Which rows count at a time, found by looking at all of them.

use std::collections::BTreeSet;

use budget_core::RestoredRow;
use budget_core::window::window_at;
use usage_types::{Bounds, TimeUs, Window, WindowSpec};

/// How long a bucket of a window that moves is.
fn width(spec: WindowSpec) -> Option<i64> {
    match spec.bounds {
        Bounds::Calendar { .. } => None,
        Bounds::Rolling(span) => Some(span.us() / 60),
        Bounds::Lifetime { idle, .. } => Some(idle.us() / 12),
    }
}

/// The rows that count, and the window. That of one that moves begins with its first bucket.
pub fn counting<'r, 'a>(
    spec: WindowSpec,
    rows: &[&'r RestoredRow<'a>],
    now: TimeUs,
) -> (Vec<&'r RestoredRow<'a>>, Window) {
    let mut window = window_at(spec, now);
    if let (Bounds::Lifetime { .. }, Some(width)) = (spec.bounds, width(spec)) {
        let present = now.0.div_euclid(width);
        let known: BTreeSet<i64> = rows.iter().map(|row| row.time.0.div_euclid(width)).collect();
        let mut first = present;
        for bucket in known.into_iter().rev().filter(|bucket| (present - 360..=present).contains(bucket)) {
            if first - bucket > 12 {
                break;
            }
            first = bucket;
        }
        window.start = TimeUs(first * width);
    }
    (rows.iter().copied().filter(|row| window.contains(row.time)).collect(), window)
}

/// The begins of buckets after a time.
pub fn ticks(spec: WindowSpec, now: TimeUs) -> impl Iterator<Item = TimeUs> {
    width(spec).into_iter().flat_map(move |width| (now.0.div_euclid(width) + 1..).map(move |at| TimeUs(at * width)))
}

/// When the bucket of a row leaves the window, or its lifetime may be over.
pub fn leaves(spec: WindowSpec, time: TimeUs) -> impl Iterator<Item = TimeUs> {
    let buckets: &[i64] = match spec.bounds {
        Bounds::Calendar { .. } => &[],
        Bounds::Rolling(_) => &[61],
        Bounds::Lifetime { .. } => &[13, 361],
    };
    let width = width(spec).unwrap_or(1);
    buckets.iter().map(move |after| TimeUs((time.0.div_euclid(width) + after) * width))
}
