//! Many runs of the model, on all processors: which seeds, how far they are, and which of them failed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// How often is said how far it is.
const TOLD_EVERY: u64 = 500;

/// What `OUTLAY_SEED` or `OUTLAY_SEEDS` ask for, or else the first 100.
pub fn asked_for() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("OUTLAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OUTLAY_SEEDS").unwrap_or(100),
    }
}

/// Runs each seed. A run takes `steps` steps, each compared with the model, and returns how many events were in them.
#[allow(clippy::print_stderr, reason = "progress for people, and the seed of what failed")]
pub fn run_all(seeds: Range<u64>, steps: u64, run: impl Fn(u64) -> u64 + Sync) {
    let (next, done, events, failed) =
        (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let all = seeds.end - seeds.start;
    let work = || {
        while failed.load(Relaxed) == 0 {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(more) => _ = events.fetch_add(more, Relaxed),
                Err(_) => {
                    failed.fetch_add(1, Relaxed);
                    eprintln!("failed with OUTLAY_SEED={seed}");
                }
            }
            let done = done.fetch_add(1, Relaxed) + 1;
            if done.is_multiple_of(TOLD_EVERY) || done == all {
                eprintln!("{done} of {all} seeds, {} cases, {} events", done * steps, events.load(Relaxed));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    assert_eq!(failed.into_inner(), 0, "the core and the model differ: the seed is above");
}
