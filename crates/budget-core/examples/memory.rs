//! How much memory a live balance takes, as the process's resident set sees it (`/proc/self/statm`, Linux).
//!
//! `cargo run --release -p budget-core --example memory [BALANCES]`
//! The worst case: every balance has a scope and a value of its own. The usual one: each of many repositories has the three
//! windows that are tracked by default.
#![allow(clippy::print_stdout, reason = "prints its figures")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use budget_core::{Core, CoreConfig, Input};
use usage_types::{
    AlertRule, Amount, Budget, BudgetSet, ComputeNs, Cost, CostOrigin, Currency, Dimension, DimensionSet, Dimensions,
    EventPosition, Every, Limit, Measure, Mode, Pico, Priority, Scope, SpecialLimits, TimeUs, Tokens, UsageEvent,
    WindowSpec,
};

const BATCH: usize = 1000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc/self/statm");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("its second field is a number");
    pages * 4096
}

fn fill(core: &mut Core, events: usize, values: impl Fn(usize) -> Vec<(Dimension, String)>) {
    let time = TimeUs(1_795_255_200_000_000);
    let cost = Some(Cost { amount: Pico(12_500), currency: Currency::USD, origin: CostOrigin::PriceBook });
    let mut out = Vec::new();
    for batch in 0..events.div_ceil(BATCH) {
        let made: Vec<UsageEvent<'_>> = (batch * BATCH..((batch + 1) * BATCH).min(events))
            .map(|n| {
                let mut dimensions = Dimensions::default();
                values(n).into_iter().for_each(|(dim, text)| dimensions.set(dim, Some(Cow::Owned(text))));
                UsageEvent {
                    id: Some(Cow::Owned(n.to_string())),
                    source: Cow::Borrowed(""),
                    time,
                    dimensions,
                    tokens: Tokens { input: 900, ..Tokens::default() },
                    requests: 1,
                    tool_calls: 0,
                    images: 0,
                    role: usage_types::Role::Usage,
                    progress: None,
                    compute: ComputeNs(0),
                    cost: None,
                    tags: BTreeMap::new(),
                }
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
        core.apply_batch(&inputs, &mut out);
        let _ = core.effects(time);
    }
}

fn report(name: &str, before: usize, core: &Core) {
    let stats = core.stats();
    let resident = resident_bytes().saturating_sub(before).saturating_sub(stats.dedup_bytes);
    println!(
        "{name}: {} balances, {} scopes, {} values: {} bytes a balance resident, {} counted; {} bytes an id over {} ids",
        stats.balances,
        stats.scopes,
        stats.symbols,
        resident / stats.balances.max(1),
        stats.balances_bytes / stats.balances.max(1),
        stats.dedup_bytes / stats.dedup_ids.max(1),
        stats.dedup_ids,
    );
}

fn worst(balances: usize) {
    let budget = Budget {
        id: "user-day".into(),
        matches: Scope::default(),
        per: DimensionSet::of(&[Dimension::User]),
        window: WindowSpec::calendar(Every::Day, chrono_tz::UTC),
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
    let before = resident_bytes();
    let mut core = Core::new(CoreConfig { tracked: Vec::new(), ..CoreConfig::default() });
    let budgets = [(Arc::clone(&budget.id), Arc::new(budget))].into();
    let set = BudgetSet { budgets, ..BudgetSet::default() };
    for request in core.set_budgets(Arc::new(set), TimeUs(1_795_255_200_000_000)) {
        core.finish_history(&request);
    }
    fill(&mut core, balances, |n| vec![(Dimension::User, format!("user-{n:07}@example.com"))]);
    report("one balance a value", before, &core);
}

fn usual(balances: usize) {
    let before = resident_bytes();
    let mut core = Core::new(CoreConfig::default());
    fill(&mut core, balances / 3, |n| {
        vec![
            (Dimension::Namespace, format!("namespace-{}", n % 100)),
            (Dimension::Team, format!("team-{}", n % 1_000)),
            (Dimension::Repository, format!("acme/repository-{n:07}")),
        ]
    });
    report("tracked by default", before, &core);
}

fn main() {
    let balances = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number of balances"));
    // Each in a process of its own would be cleaner; in this order what the first gives back is not counted for the second twice.
    if std::env::args().nth(2).as_deref() == Some("usual") { usual(balances) } else { worst(balances) }
}
