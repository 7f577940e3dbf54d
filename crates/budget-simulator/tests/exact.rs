//! A simulation equals a naive one that sums all rows again for every question, on a generated history.
#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod naive;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use budget_core::RestoredRow;
use budget_simulator::{Outcome, Settings, Simulation, Tags};
use usage_types::{BudgetSet, ComputeNs, Currency, Dimension, Dimensions, Pico, TimeUs, Tokens};

use naive::{Naive, Seen};

/// 2026-10-24T21:30:00Z: half an hour before the day turns in Berlin; the clocks go back there in the night that follows.
const FROM: TimeUs = TimeUs(1_792_877_400_000_000);

/// 2026-11-21T00:00:00Z.
const DAY: TimeUs = TimeUs(1_795_219_200_000_000);

const BUDGETS: &str = r#"
budgets:
  - id: user-hour
    per: [user]
    window: { every: hour, zone: Asia/Kolkata }
    limits: [{ tokens: 9000 }, { requests: 7 }, { cost: "0.9 USD" }]
    overrides:
      - { match: { user: u-1 }, limits: [{ tokens: 40000 }] }
      - { match: { user: u-2 }, limits: [{ images: 3 }, { cost: "1.00 EUR" }] }
    alerts: { at: [0.5, 0.9, 1.0] }
  - id: a-day
    match: { namespace: a }
    window: { every: day, zone: Europe/Berlin }
    limits: [{ cost: "30.00 USD" }, { output: 60000, overage: 9000 }]
  - id: team-day
    per: [namespace, team]
    window: { every: day, zone: America/New_York }
    limit: { tokens: 60000 }
    plans:
      by: team
      small: { of: [t-0], limit: { tokens: 20000 } }
  - id: b-minutes
    match: { namespace: b, team: t-1 }
    window: { every: minute, zone: UTC }
    limits: [{ requests: 2 }, { compute_seconds: 2 }]
  - id: b-month
    match: { namespace: b }
    window: { every: month, anchor: 25, at: "06:00", zone: Europe/Berlin }
    limits: [{ tokens: 150000 }]
  - id: user-rolling
    per: [user]
    window: { rolling: 90 minutes, zone: Asia/Kolkata }
    limits: [{ requests: 12 }, { cost: "1.0 USD" }]
    alerts: { at: [0.4, 0.8, 1.0] }
  - id: c-rolling
    match: { namespace: c }
    window: { rolling: 10 minutes }
    limits: [{ tokens: 7000 }]
  - id: sessions
    per: [session]
    window: { lifetime: session, idle: 30 minutes }
    limits: [{ tokens: 120000 }, { cost: "3.0 EUR" }]
    alerts: { at: [0.3, 0.6, 1.0] }
  - id: shadow-hour
    mode: shadow
    per: [user]
    window: { every: hour, zone: UTC }
    limits: [{ requests: 5 }]
    alerts: { at: [1.0] }
  - id: shadow-rolling
    mode: shadow
    per: [namespace]
    overage: 10%
    window: { rolling: 30 minutes }
    limits: [{ tokens: 9000 }]
  - id: canary-day
    mode: canary
    canary: 50%
    per: [user, team]
    window: { every: day, zone: UTC }
    limits: [{ requests: 20 }]
  - id: all-week
    mode: soft
    window: { every: week, zone: UTC }
    limits: [{ tool_calls: 300 }, { tokens: 900000 }]
    alerts: { at: [0.1, 0.35, 1.0] }
breakers:
  - id: burst
    per: [user]
    trip: [{ requests: 6, within: 2m }, { cost: "0.9 EUR", within: 5m }]
    open_for: 10m
    half_open: { for: 10m, requests: 2 }
  - id: surge
    match: { namespace: a }
    per: [team]
    trip: [{ tokens: 5000, within: 5m, times: 3, of: 2h }]
    open_for: 15m
    half_open: { for: 1m, requests: 1 }
  - id: the-same
    mode: shadow
    per: [session]
    trip: [{ repeats: 5, within: 4m, tag: prompt_hash }, { tool_calls: 12, within: 10m }]
    open_for: 20m
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

/// A row that owns what it borrows elsewhere.
#[derive(Debug, Clone)]
struct Row {
    time: TimeUs,
    dimensions: Dimensions<'static>,
    tokens: Tokens,
    requests: u64,
    tool_calls: u64,
    images: u64,
    compute: ComputeNs,
    cost: Option<(Pico, Currency)>,
    reversal: bool,
    /// Its tags, where breakers meter it.
    burn: Option<BTreeMap<String, String>>,
}

impl Row {
    fn restored(&self) -> RestoredRow<'_> {
        RestoredRow {
            id: "any",
            source: "any",
            time: self.time,
            append_time: self.time.plus_us(7),
            dimensions: &self.dimensions,
            tokens: self.tokens,
            requests: self.requests,
            tool_calls: self.tool_calls,
            images: self.images,
            compute: self.compute,
            cost: self.cost,
            reversal: self.reversal,
            progress: None,
        }
    }

    fn tags(&self) -> Option<Tags<'_>> {
        Some(self.burn.as_ref()?.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect())
    }
}

/// Rows of two days and a half, from a day before [`FROM`] on: bursts, equal times, rows without a team, a user, a session or a price, costs in two
/// currencies, adjustments up and down, and rows that are taken back.
fn history(seed: u64) -> Vec<Row> {
    let mut random = Random(seed);
    let mut of_tags = Random(!seed);
    let mut time = FROM.plus_us(-TimeUs::DAY);
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..1_500 {
        let step = match random.below(10) {
            0..2 => 0,
            2..7 => random.below(20) as i64 * TimeUs::SECOND,
            _ => random.below(900) as i64 * TimeUs::SECOND + random.below(1_000_000) as i64,
        };
        time = time.plus_us(step);
        let mut dimensions = Dimensions::default();
        let mut set = |dim, n: u64, text: &str| {
            dimensions.set(dim, Some(Cow::Owned(format!("{text}{n}"))));
        };
        set(Dimension::Team, random.below(3), "t-");
        set(Dimension::User, random.below(5), "u-");
        dimensions.set(Dimension::Namespace, Some(["a", "b", "c"][random.below(3) as usize].into()));
        // One that hardly ever pauses, and others that do.
        dimensions.set(Dimension::Session, Some(["s-0", "s-0", "s-0", "s-1", "s-2"][random.below(5) as usize].into()));
        match random.below(20) {
            0 => dimensions.set(Dimension::Team, None),
            1 => dimensions.set(Dimension::User, None),
            2..5 => dimensions.set(Dimension::Session, None),
            _ => {}
        }
        let currency: Currency = if random.below(4) == 0 { "EUR" } else { "USD" }.parse().unwrap();
        let cost = Pico(i128::from(random.below(600)) * 1_000_000_007);
        let mut row = Row {
            time,
            dimensions,
            tokens: Tokens { input: random.below(2_000), output: random.below(900), ..Tokens::default() },
            requests: random.below(3),
            tool_calls: random.below(4),
            images: random.below(2),
            compute: ComputeNs(random.below(3_000_000_000)),
            cost: (random.below(8) > 0).then_some((cost, currency)),
            reversal: false,
            burn: Some(match of_tags.below(4) {
                0 => BTreeMap::new(),
                _ => [("prompt_hash".to_owned(), of_tags.below(2).to_string())].into(),
            }),
        };
        match random.below(25) {
            // An adjustment.
            0 => {
                let sign = if random.below(2) == 0 { -1 } else { 1 };
                row = Row {
                    tokens: Tokens::default(),
                    requests: 0,
                    tool_calls: 0,
                    images: 0,
                    compute: ComputeNs(0),
                    cost: Some((Pico(sign * cost.0 * 4), currency)),
                    burn: None,
                    ..row
                };
            }
            1 if !rows.is_empty() => {
                let taken_back = rows[random.below(rows.len() as u64) as usize].clone();
                if !taken_back.reversal {
                    row = Row { time, reversal: true, burn: None, ..taken_back };
                }
            }
            _ => {}
        }
        rows.push(row);
    }
    rows
}

/// A request of a user, so many seconds after the begin of [`DAY`].
fn one_request(second: i64, user: &'static str) -> Row {
    let mut dimensions = Dimensions::default();
    dimensions.set(Dimension::User, Some(user.into()));
    Row {
        time: DAY.plus_us(second * TimeUs::SECOND),
        dimensions,
        tokens: Tokens::default(),
        requests: 1,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        reversal: false,
        burn: Some(BTreeMap::new()),
    }
}

fn simulate(set: &Arc<BudgetSet>, rows: &[Row], settings: Settings) -> Outcome {
    let mut simulation = Simulation::new(Arc::clone(set), settings);
    let from = simulation.history_from();
    for row in rows.iter().filter(|row| row.time >= from) {
        simulation.row(&row.restored(), row.tags());
    }
    simulation.finish()
}

/// What an outcome says, in the form of the naive one.
fn seen(outcome: &Outcome) -> Seen {
    let Outcome { spend, refused, would_refuse, .. } = outcome.clone();
    let mut seen = Seen { spend, refused, would_refuse, ..Seen::default() };
    for scope in &outcome.scopes {
        for block in &scope.blocks {
            let key = (scope.budget.to_string(), scope.scope.to_string(), block.begin);
            let named = (block.measure.clone(), block.currency, block.limit.clone(), block.used.clone());
            let block = (block.end, block.window.end, named, block.refused.clone(), block.effective);
            let before = seen.blocks.insert(key, block);
            assert!(before.is_none(), "two blocks begin at once: {before:?}");
        }
        for alert in &scope.alerts {
            let named = (alert.measure.clone(), alert.currency, alert.limit.clone(), alert.used.clone());
            seen.alerts
                .insert((scope.budget.to_string(), scope.scope.to_string(), alert.at, alert.threshold.clone()), named);
        }
    }
    seen
}

/// What the others do not say.
fn differing<K: Ord + Debug, V: PartialEq + Debug>(own: &BTreeMap<K, V>, others: &BTreeMap<K, V>) -> Vec<String> {
    own.iter().filter(|(key, value)| others.get(*key) != Some(*value)).map(|entry| format!("{entry:?}")).collect()
}

fn compare(seed: u64, to: TimeUs, count_refused: bool) -> Outcome {
    let set = Arc::new(BudgetSet::from_yaml(BUDGETS).unwrap());
    let rows = history(seed);
    let settings = Settings { from: FROM, to, count_refused, details_max: usize::MAX };
    let outcome = simulate(&set, &rows, settings);
    let found = seen(&outcome);
    let mut naive = Naive::new(&set, FROM, to, count_refused, &found.alerts);
    rows.iter().for_each(|row| naive.row(row.restored(), row.burn.as_ref()));
    let expected = naive.finish();
    assert_eq!(
        differing(&found.blocks, &expected.blocks),
        differing(&expected.blocks, &found.blocks),
        "blocks of seed {seed}, {count_refused}"
    );
    assert_eq!(
        differing(&found.alerts, &expected.alerts),
        differing(&expected.alerts, &found.alerts),
        "alerts of seed {seed}, {count_refused}"
    );
    assert_eq!(found, expected, "seed {seed}, {count_refused}");
    outcome
}

#[test]
fn a_simulation_equals_one_that_sums_all_rows_again_for_every_question() {
    let mut named: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..12 {
        let outcome = compare(seed, FROM.plus_us(40 * TimeUs::HOUR), seed % 2 == 1);
        let times: BTreeSet<TimeUs> = history(seed).iter().map(|row| row.time).collect();
        for scope in &outcome.scopes {
            for block in &scope.blocks {
                *named.entry(format!("{} {}", scope.budget, block.measure)).or_default() += 1;
                *named.entry(format!("{} open {}", scope.budget, block.end.is_none())).or_default() += 1;
                // Neither with a row nor where the simulation begins.
                let by_itself = block.begin != FROM && !times.contains(&block.begin);
                *named.entry(format!("{} by itself {by_itself}", scope.budget)).or_default() += 1;
                let refuses = block.refused.events > 0;
                *named
                    .entry(format!("{} effective {} refuses {refuses}", scope.budget, block.effective))
                    .or_default() += 1;
            }
            *named.entry(format!("{} alerts", scope.budget)).or_default() += scope.alerts_count;
        }
        assert!(outcome.refused.events > 0 && outcome.refused.costs.len() == 2);
    }
    // The history is such that each of these happens.
    for what in [
        "user-hour requests",
        "user-hour tokens",
        "user-hour images",
        "user-hour cost",
        "a-day cost",
        "a-day output_tokens",
        "team-day tokens",
        "team-day open true",
        "team-day open false",
        "b-minutes requests",
        "b-minutes compute_seconds",
        "b-month open true",
        "user-rolling requests",
        "user-rolling cost",
        "user-rolling open false",
        "user-rolling by itself true",
        "user-rolling alerts",
        "c-rolling open false",
        "sessions tokens",
        "sessions cost",
        "sessions open false",
        "sessions alerts",
        "shadow-hour effective false refuses true",
        "shadow-rolling effective false refuses true",
        "canary-day effective false refuses true",
        "canary-day effective true refuses true",
        "all-week alerts",
        "burst requests",
        "burst cost",
        "burst effective true refuses true",
        "surge tokens",
        "surge effective true refuses true",
        "the-same requests",
        "the-same tool_calls",
        "the-same effective false refuses true",
    ] {
        assert!(named.get(what).is_some_and(|count| *count > 0), "no {what} in {named:?}");
    }
}

#[test]
fn what_a_block_refuses_does_not_count_towards_other_budgets_unless_asked_for() {
    let yaml = "budgets:
  - { id: one, match: { user: u }, window: { every: day, zone: UTC }, limit: { requests: 2 } }
  - { id: whole, window: { every: day, zone: UTC }, limit: { requests: 5 } }";
    let set = Arc::new(BudgetSet::from_yaml(yaml).unwrap());
    // Four of u, of which two are refused; then three of v.
    let rows: Vec<Row> =
        (1..5).map(|second| one_request(second, "u")).chain((5..8).map(|second| one_request(second, "v"))).collect();
    let blocked = |count_refused| {
        let to = DAY.plus_us(TimeUs::HOUR);
        let outcome = simulate(&set, &rows, Settings { from: DAY, to, count_refused, details_max: 10 });
        let begins: Vec<(String, i64, i128)> = outcome
            .scopes
            .iter()
            .filter(|scope| scope.blocked.count > 0)
            .map(|scope| {
                let second = (scope.blocks[0].begin.0 - DAY.0) / TimeUs::SECOND;
                (scope.budget.to_string(), second, scope.blocked.refused.requests)
            })
            .collect();
        (begins, outcome.refused.requests)
    };
    assert_eq!(blocked(false), (vec![("one".to_owned(), 2, 2), ("whole".to_owned(), 7, 0)], 2));
    // The fifth request is the third of v.
    assert_eq!(blocked(true), (vec![("one".to_owned(), 2, 2), ("whole".to_owned(), 5, 2)], 4));
}

#[test]
fn a_budget_begins_with_the_history_of_its_window_and_not_with_that_of_the_one_before() {
    let set = Arc::new(BudgetSet::from_yaml(BUDGETS).unwrap());
    let settings =
        Settings { from: FROM, to: FROM.plus_us(TimeUs::HOUR), count_refused: false, details_max: usize::MAX };
    let simulation = Simulation::new(Arc::clone(&set), settings);
    // The month of b began on the 25th at 6 in Berlin.
    assert_eq!(simulation.history_from().to_string(), "2026-09-25T04:00:00Z");
    // Whatever begins at the first instant was reached before it.
    let outcomes: Vec<Outcome> = (0..12).map(|seed| compare(seed, FROM.plus_us(2 * TimeUs::HOUR), false)).collect();
    let at_once = outcomes.iter().flat_map(|outcome| &outcome.scopes).flat_map(|scope| &scope.blocks);
    assert!(at_once.filter(|block| block.begin == FROM).count() > 0);
}

#[test]
fn what_is_not_listed_is_still_counted() {
    let set = Arc::new(BudgetSet::from_yaml(BUDGETS).unwrap());
    let rows = history(3);
    let settings =
        |details_max| Settings { from: FROM, to: FROM.plus_us(40 * TimeUs::HOUR), count_refused: false, details_max };
    let (whole, short) = (simulate(&set, &rows, settings(usize::MAX)), simulate(&set, &rows, settings(5)));
    let listed = |outcome: &Outcome| outcome.scopes.iter().map(|s| s.blocks.len() + s.alerts.len()).sum::<usize>();
    assert_eq!((short.budgets.clone(), short.refused.clone()), (whole.budgets.clone(), whole.refused.clone()));
    assert_eq!((listed(&short), listed(&whole) as u64, whole.omitted), (5, 5 + short.omitted, 0));
}

#[test]
fn a_budget_in_shadow_refuses_nothing_and_says_what_it_would() {
    let yaml = "budgets:
  - { id: tried, mode: shadow, match: { user: u }, window: { every: day, zone: UTC }, limit: { requests: 2 } }
  - { id: whole, window: { every: day, zone: UTC }, limit: { requests: 4 } }";
    let set = Arc::new(BudgetSet::from_yaml(yaml).unwrap());
    let rows: Vec<Row> = (1..7).map(|second| one_request(second, "u")).collect();
    let to = DAY.plus_us(TimeUs::HOUR);
    let outcome = simulate(&set, &rows, Settings { from: DAY, to, count_refused: false, details_max: 10 });
    // The third and fourth are let through and counted; the rest the other budget refuses.
    let requests = |spend: &budget_simulator::Spend| spend.requests;
    let sums = |blocked: &budget_simulator::Blocked| (blocked.count, requests(&blocked.refused));
    let of: Vec<_> = outcome.budgets.iter().map(|budget| (sums(&budget.blocked), sums(&budget.would_block))).collect();
    assert_eq!(of, [((0, 0), (1, 2)), ((1, 2), (0, 0))]);
    assert_eq!((requests(&outcome.refused), requests(&outcome.would_refuse)), (2, 2));
    assert_eq!((outcome.budgets[0].scopes_blocked, outcome.budgets[0].scopes_would_block), (0, 1));
}

#[test]
fn a_budget_that_rolls_back_refuses_nothing_from_then_on() {
    let yaml = "budgets:
  - { id: users, per: [user], window: { every: day, zone: UTC }, limit: { requests: 2 }, rollback: { blocked_over: 50%, at_least: 2 } }";
    let set = Arc::new(BudgetSet::from_yaml(yaml).unwrap());
    // One of two is blocked at 2, and refused at 4; at 5 it would be two of two.
    let users = ["u", "u", "v", "u", "v", "u", "v"];
    let rows: Vec<Row> = (1..).zip(users).map(|(second, user)| one_request(second, user)).collect();
    let to = DAY.plus_us(TimeUs::HOUR);
    let outcome = simulate(&set, &rows, Settings { from: DAY, to, count_refused: false, details_max: 10 });
    let second = |time: TimeUs| (time.0 - DAY.0) / TimeUs::SECOND;
    let rolled_back = outcome.budgets[0].rolled_back.map(|told| (second(told.at), told.blocked, told.scopes));
    assert_eq!(rolled_back, Some((5, 2, 2)));
    let blocks: Vec<_> = outcome
        .scopes
        .iter()
        .flat_map(|scope| scope.blocks.iter().map(|block| (scope.scope.to_string(), block)))
        .map(|(scope, b)| (scope, b.effective, second(b.begin), b.end.map(second), b.refused.requests))
        .collect();
    let block = |user: &str, effective, begin, end, refused| (format!("user={user}"), effective, begin, end, refused);
    assert_eq!(
        blocks,
        [block("u", true, 2, Some(5), 1), block("u", false, 5, None, 1), block("v", false, 5, None, 1),]
    );
    assert_eq!((outcome.refused.requests, outcome.would_refuse.requests, outcome.scopes.len()), (1, 2, 2));
}

#[test]
fn a_circuit_opens_with_the_row_that_trips_it_refuses_until_it_is_half_open_and_opens_again_beyond_the_trickle() {
    let yaml = "breakers:
  - { id: loop, per: [user], trip: [{ requests: 3, within: 10s }], open_for: 20s, half_open: { for: 30s, requests: 1 } }";
    let set = Arc::new(BudgetSet::from_yaml(yaml).unwrap());
    // It opens at 2, lets one through at 22, opens again at 24, is half open at 44 and closed at 74.
    let seconds = [0, 1, 2, 3, 21, 22, 24, 25, 43, 50, 75, 76, 77];
    let mut rows: Vec<Row> = seconds.map(|second| one_request(second, "u")).into();
    // What is no request does not burn.
    rows.splice(1..1, (0..5).map(|_| Row { burn: None, ..one_request(0, "u") }));
    rows.push(one_request(78, "v"));
    let to = DAY.plus_us(TimeUs::HOUR);
    let outcome = simulate(&set, &rows, Settings { from: DAY, to, count_refused: false, details_max: 10 });
    let second = |time: TimeUs| (time.0 - DAY.0) / TimeUs::SECOND;
    let blocks: Vec<_> = outcome.scopes[0]
        .blocks
        .iter()
        .map(|block| (second(block.begin), block.end.map(second), block.used.as_str(), block.refused.requests))
        .collect();
    assert_eq!(blocks, [(2, Some(22), "3", 2), (24, Some(44), "3", 2), (77, Some(97), "3", 0)]);
    assert_eq!(outcome.scopes.len(), 1);
    let of: Vec<_> = outcome.budgets.iter().map(|budget| (&*budget.id, budget.is_breaker, budget.blocked.us)).collect();
    assert_eq!(of, [("loop", true, 60 * TimeUs::SECOND)]);
    assert_eq!(outcome.refused.requests, 4);
}
