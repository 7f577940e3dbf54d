//! How long a row takes in a simulation, without reading it: `cargo run --release -p budget-simulator --example simulation_rate [ROWS]`
//!
//! Ten thousand users in a hundred teams over a month: once with four budgets over calendar windows for each row, some of which block, and once
//! with one over a rolling window for each user besides. Time is the processor's (`/proc/thread-self/schedstat`, Linux), so that a busy
//! machine does not count; rows are made beforehand, in batches.
#![allow(clippy::print_stdout, reason = "prints its figures")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use budget_core::RestoredRow;
use budget_simulator::{Settings, Simulation};
use usage_types::{BudgetSet, ComputeNs, Currency, Dimension, Dimensions, Pico, TimeUs, Tokens};

const BATCH: usize = 16_384;
const FROM: TimeUs = TimeUs(1_793_491_200_000_000); // 2026-11-01T00:00:00Z
const BUDGETS: &str = r#"
budgets:
  - { id: user-day, per: [user], window: { every: day, zone: Europe/Berlin }, limits: [{ tokens: 40000 }, { cost: "2.00 USD" }] }
  - { id: user-hour, per: [user], window: { every: hour, zone: UTC }, limit: { requests: 12 } }
  - { id: team-month, per: [namespace, team], window: { every: month, zone: UTC }, limit: { cost: "1000.00 USD" } }
  - { id: all-month, mode: soft, window: { every: month, zone: UTC }, limit: { tokens: 10000000000 } }
"#;
/// One more, of a window that moves.
const ROLLING: &str = r#"  - { id: user-rolling, per: [user], window: { rolling: 6 hours }, limits: [{ tokens: 25000 }, { cost: "1.00 USD" }] }
"#;

/// A small generator (SplitMix64), so that runs are alike.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// Nanoseconds that this thread has been on a processor.
fn cpu_ns() -> u64 {
    let schedstat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has /proc/thread-self/schedstat");
    schedstat.split(' ').next().and_then(|field| field.parse().ok()).expect("its first field is a number")
}

fn dimensions(user: u64) -> Dimensions<'static> {
    let mut dimensions = Dimensions::default();
    let mut set = |dim, text: String| dimensions.set(dim, Some(Cow::Owned(text)));
    set(Dimension::Namespace, format!("namespace-{}", user % 10));
    set(Dimension::Team, format!("team-{}", user % 100));
    set(Dimension::User, format!("user-{user}@example.com"));
    set(Dimension::Model, "gpt-5.1".to_owned());
    dimensions
}

fn main() {
    let rows = std::env::args().nth(1).map_or(10_000_000, |text| text.parse::<usize>().expect("a number"));
    measure("4 calendar budgets each", BUDGETS, rows);
    measure("and a rolling one for each user", &format!("{BUDGETS}{ROLLING}"), rows);
}

fn measure(what: &str, budgets: &str, rows: usize) {
    let set = Arc::new(BudgetSet::from_yaml(budgets).expect("the budgets are right"));
    let step = 30 * TimeUs::DAY / i64::try_from(rows).expect("a number of rows").max(1);
    let to = FROM.plus_us(30 * TimeUs::DAY);
    let mut simulation = Simulation::new(set, Settings { from: FROM, to, count_refused: false, details_max: 10_000 });
    let users: Vec<Dimensions<'static>> = (0..10_000).map(dimensions).collect();
    let (mut random, mut spent_ns, mut bytes, begun) = (Random(7), 0, 0, Instant::now());
    for batch in 0..rows.div_ceil(BATCH) {
        let made: Vec<RestoredRow<'_>> = (batch * BATCH..rows.min((batch + 1) * BATCH))
            .map(|at| {
                // One in two from 1 % of the users.
                let user = if random.below(2) == 0 { random.below(100) } else { random.below(10_000) };
                let time = FROM.plus_us(step * i64::try_from(at).expect("a number of rows"));
                RestoredRow {
                    id: "",
                    source: "",
                    time,
                    append_time: time,
                    dimensions: &users[usize::try_from(user).expect("a small number")],
                    tokens: Tokens { input: 900 + random.below(600), output: 80, ..Tokens::default() },
                    requests: 1,
                    tool_calls: 0,
                    images: 0,
                    compute: ComputeNs(0),
                    cost: Some((Pico(12_500_000_000 + i128::from(random.below(1_000_000))), Currency::USD)),
                    reversal: false,
                    progress: None,
                }
            })
            .collect();
        let start_ns = cpu_ns();
        made.iter().for_each(|row| simulation.row(row, None));
        spent_ns += cpu_ns() - start_ns;
        bytes = bytes.max(simulation.bytes());
    }
    let start_ns = cpu_ns();
    let outcome = simulation.finish();
    spent_ns += cpu_ns() - start_ns;
    let blocks: u64 = outcome.budgets.iter().map(|budget| budget.blocked.count).sum();
    println!(
        "{rows} rows, {what}: {} ns a row, {:.1} s of the processor in all ({:.1} s on the clock with making them); {} refused, {blocks} blocks in {} scopes, at most {} MiB",
        spent_ns / rows.max(1) as u64,
        spent_ns as f64 / 1e9,
        begun.elapsed().as_secs_f64(),
        outcome.refused.events,
        outcome.scopes.len(),
        bytes >> 20,
    );
}
