//! How long an event takes in the core, and what a remembered id costs: nine tracked balances and three budgets for each event.
//!
//! `cargo run --release -p budget-core --example apply_rate [EVENTS] [LIVE_BALANCES]`
//! Run for two mixes: senders as they are (a few busy, many rare), and the worst case, where every event meets other balances than the
//! one before. Time is the processor's, in `apply_batch` alone (`/proc/thread-self/schedstat`, Linux), so that a busy machine does not
//! count; the fastest tenth (by the wall clock) shows what other processes' use of the caches costs; events are made beforehand, in batches of 1,000.
#![allow(clippy::print_stdout, reason = "prints its figures")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use budget_core::{Core, CoreConfig, Input};
use usage_types::{
    AlertRule, Amount, Budget, BudgetSet, ComputeNs, Cost, CostOrigin, Currency, Dimension, DimensionSet, Dimensions,
    EventPosition, Every, Limit, Measure, Mode, Pico, Priority, Scope, SpecialLimits, TimeUs, Tokens, UsageEvent,
    WindowSpec,
};

const BATCH: usize = 1000;
const START: TimeUs = TimeUs(1_795_255_200_000_000); // 2026-11-21T10:00:00Z

/// Nanoseconds that this thread has been on a processor.
fn cpu_ns() -> u64 {
    let schedstat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has /proc/thread-self/schedstat");
    schedstat.split(' ').next().and_then(|field| field.parse().ok()).expect("its first field is a number")
}

fn budget(id: &str, per: &[Dimension], every: Every, zone: chrono_tz::Tz) -> (Arc<str>, Arc<Budget>) {
    let budget = Budget {
        id: id.into(),
        matches: Scope::default(),
        per: DimensionSet::of(per),
        window: WindowSpec::calendar(every, zone),
        limits: Limit::new(Measure::Tokens, Amount(1 << 60)).into(),
        special: SpecialLimits::default(),
        overcommit: false,
        mode: Mode::Hard,
        rollback: None,
        predict: None,
        priority: Priority::Normal,
        pressure: None,
        alerts: AlertRule::default(),
        http_status: 403,
    };
    (Arc::clone(&budget.id), Arc::new(budget))
}

/// A small generator (SplitMix64), so that runs are alike.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn event(n: u64, user: u64, time: TimeUs, random: &mut Random) -> UsageEvent<'static> {
    let mut dimensions = Dimensions::default();
    let mut set = |dim, text: String| dimensions.set(dim, Some(Cow::Owned(text)));
    // A user is in one repository, that in one team, that in one namespace.
    set(Dimension::Namespace, format!("namespace-{}", user % 100));
    set(Dimension::Team, format!("team-{}", user % 1_000));
    set(Dimension::Repository, format!("acme/repository-{}", user % 10_000));
    set(Dimension::User, format!("user-{user}@example.com"));
    UsageEvent {
        id: Some(Cow::Owned(format!("01J8{:022x}", u128::from(random.next()) << 64 | u128::from(n)))),
        source: Cow::Borrowed("gateway/eu-1"),
        time,
        dimensions,
        tokens: Tokens { input: 900, cache_read: 300, output: 80, reasoning: 40, ..Tokens::default() },
        requests: 1,
        tool_calls: 0,
        images: 0,
        role: usage_types::Role::Usage,
        progress: None,
        compute: ComputeNs(0),
        cost: None,
        tags: BTreeMap::new(),
    }
}

fn run(name: &str, events: usize, users: u64, mut user: impl FnMut(&mut Random) -> u64) {
    let mut core = Core::new(CoreConfig::default());
    let budgets = [
        budget("user-day", &[Dimension::User], Every::Day, chrono_tz::Europe::Berlin),
        budget("user-hour", &[Dimension::User], Every::Hour, chrono_tz::UTC),
        budget("team-month", &[Dimension::Namespace, Dimension::Team], Every::Month, chrono_tz::UTC),
    ];
    for request in core.set_budgets(Arc::new(BudgetSet { budgets: budgets.into(), ..BudgetSet::default() }), START) {
        core.finish_history(&request);
    }
    let cost = Some(Cost { amount: Pico(12_500), currency: Currency::USD, origin: CostOrigin::PriceBook });
    let (mut random, mut out, mut batches_ns) = (Random(7), Vec::new(), Vec::new());
    let mut spent_ns = 0;
    let warm = users as usize;
    let batches = (warm + events).div_ceil(BATCH);
    for batch in 0..batches {
        let time = START.plus_us(batch as i64 * 1_000);
        let made: Vec<UsageEvent<'_>> = (0..BATCH)
            .map(|n| {
                let n = batch * BATCH + n;
                // First every user once, so that the balances are there.
                let user = if n < warm { n as u64 } else { user(&mut random) };
                event(n as u64, user, time, &mut random)
            })
            .collect();
        let inputs: Vec<Input<'_>> = made
            .iter()
            .map(|event| Input {
                event,
                cost,
                position: EventPosition { partition: 0, offset: 0, append_time: time },
                restates: None,
            })
            .collect();
        out.clear();
        let (start, start_ns) = (Instant::now(), cpu_ns());
        core.apply_batch(&inputs, &mut out);
        if batch * BATCH >= warm {
            batches_ns.push(start.elapsed().as_nanos() as usize);
            spent_ns += cpu_ns() - start_ns;
        }
        let _ = core.effects(time);
    }
    let stats = core.stats();
    batches_ns.sort_unstable();
    let fast_ns = batches_ns.get(batches_ns.len() / 10).map_or(0, |ns| ns / BATCH);
    let measured = batches * BATCH - warm.next_multiple_of(BATCH).min(batches * BATCH);
    println!(
        "{name}: {} ns an event, {fast_ns} in the fastest tenth of batches ({measured} events, 12 balances each, {} live balances, {} ids at {} bytes each)",
        spent_ns / measured.max(1) as u64,
        stats.balances,
        stats.dedup_ids,
        stats.dedup_bytes / stats.dedup_ids.max(1),
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let events = arguments.next().unwrap_or(2_000_000);
    let users = arguments.next().unwrap_or(1_000_000) as u64 / 2;
    run("one in two from 1 % of the users", events, users, |random| {
        if random.below(2) == 0 { random.below((users / 100).max(1)) } else { random.below(users) }
    });
    run("all users alike", events, users, |random| random.below(users));
}
