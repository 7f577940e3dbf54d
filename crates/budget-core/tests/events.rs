//! Which events count, and where.

mod common;

use std::time::Duration;

use budget_core::{BalanceFilter, BalanceView, Core, CoreConfig, CoreStats, Disposition, KindFilter};
use common::{Record, apply, at, budget, currency, set_fresh};
use usage_types::{Budget, Dimension, Every, Pico, Scope, TimeUs, WindowKind};

const SUPPORT: &[(Dimension, &str)] = &[(Dimension::Namespace, "support")];

fn support(id: &str, time: TimeUs, tokens: u64) -> Record {
    Record::new(id, time, SUPPORT, tokens)
}

fn accepted(time: TimeUs, late: bool, clamped: bool) -> Disposition {
    Disposition::Accepted { time, late, clamped }
}

fn all(core: &Core, filter: &BalanceFilter) -> Vec<BalanceView> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = core.balances(filter, after, 3);
        assert!(page.rows.len() <= 3);
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

#[test]
fn an_event_counts_at_its_own_time_unless_that_is_in_the_future() {
    let append = at("2026-11-21T10:30:00Z");
    let mut core = Core::new(CoreConfig::default());
    for (id, time, expected) in [
        ("now", "2026-11-21T10:30:00Z", accepted(append, false, false)),
        ("5 minutes ahead", "2026-11-21T10:35:00Z", accepted(at("2026-11-21T10:35:00Z"), false, false)),
        ("more", "2026-11-21T10:35:00.000001Z", accepted(append, false, true)),
        ("years ahead", "2099-01-01T00:00:00Z", accepted(append, false, true)),
        ("the hour before", "2026-11-21T09:59:59Z", accepted(at("2026-11-21T09:59:59Z"), true, false)),
        ("24 hours ago", "2026-11-20T10:30:00Z", accepted(at("2026-11-20T10:30:00Z"), true, false)),
        ("more than 24 hours ago", "2026-11-20T10:29:59.999999Z", Disposition::TooLate),
    ] {
        assert_eq!(apply(&mut core, &[support(id, at(time), 1).appended(append)]), [expected], "{id}");
    }
    let grace = at("2026-11-21T10:05:00Z");
    let before = support("in the grace", at("2026-11-21T09:59:59Z"), 1).appended(grace);
    assert_eq!(apply(&mut core, &[before]), [accepted(at("2026-11-21T09:59:59Z"), false, false)]);
    let hour =
        BalanceFilter { every: Some(WindowKind::Calendar(Every::Hour)), at: Some(append), ..BalanceFilter::default() };
    assert_eq!(all(&core, &hour)[0].requests, 4);
}

#[test]
fn an_id_counts_once_in_the_horizon_and_sources_have_ids_of_their_own() {
    let start = at("2026-11-21T10:00:00Z");
    let mut core = Core::new(CoreConfig::default());
    let again = |delta_us: i64| {
        let time = start.plus_us(delta_us);
        support("1", time, 1).appended(time)
    };
    let mut other_source = again(0);
    other_source.event.source = "tes".into();
    other_source.event.id = Some("t1".into());
    let mut nameless = again(0);
    nameless.event.id = None;
    let mut nameless_too = nameless.clone();
    nameless_too.position.offset = 1;
    let out = apply(
        &mut core,
        &[
            again(0),
            again(0),
            other_source,
            again(TimeUs::DAY),
            again(TimeUs::DAY + TimeUs::SECOND),
            again(TimeUs::DAY + 2 * TimeUs::SECOND),
            nameless.clone(),
            nameless_too,
            nameless,
        ],
    );
    let kept: Vec<bool> = out.iter().map(|d| *d != Disposition::Duplicate).collect();
    assert_eq!(kept, [true, false, true, false, true, false, true, true, false]);
}

#[test]
fn too_many_ids_forget_the_oldest_first_and_say_so() {
    let start = at("2026-11-21T10:00:00Z");
    let mut core = Core::new(CoreConfig { dedup_ids_max: 160, ..CoreConfig::default() });
    let minute = |n: i64| start.plus_us(n * TimeUs::MINUTE);
    for n in 0..161 {
        apply(&mut core, &[support(&n.to_string(), minute(n), 1)]);
    }
    let stats = core.stats();
    assert_eq!((stats.dedup_ids, stats.dedup_ids_dropped), (150, 11));
    assert_eq!(apply(&mut core, &[support("11", minute(161), 1)]), [Disposition::Duplicate]);
    assert_ne!(apply(&mut core, &[support("10", minute(161), 1)]), [Disposition::Duplicate]);
}

#[test]
fn what_no_event_can_reach_any_more_is_evicted_and_nothing_else() {
    let start = at("2026-11-20T10:30:00Z");
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget("daily", SUPPORT, &[], 100)], start);
    apply(&mut core, &[support("old", start, 100), support("new", start.plus_us(TimeUs::HOUR), 100)]);
    assert_eq!(core.effects(start).alerts.len(), 2);
    let drain = |core: &mut Core, time: &str| {
        while core.evict(at(time)) {}
        core.stats()
    };
    // Two hours, a day and a month tracked; the day of the budget.
    assert_eq!(drain(&mut core, "2026-11-21T10:59:59Z").balances, 5);
    assert_eq!(drain(&mut core, "2026-11-21T11:00:00Z").balances, 4);
    let stats = drain(&mut core, "2026-11-22T00:00:00Z");
    assert_eq!((stats.balances, stats.alerts, stats.dedup_ids), (1, 0, 0));
    let stats = drain(&mut core, "2026-12-02T00:00:00Z");
    assert_eq!((stats.balances, stats.scopes, stats.symbols), (0, 0, 1), "the budget holds its own value");
    assert!(stats.dedup_bytes < 256 * 1024, "{}", stats.dedup_bytes);
    // A partition that lags more than it was said to: its event is accepted, and counts only in windows that are whole.
    apply(&mut core, &[support("lagging", at("2026-11-30T23:00:00Z"), 1).appended(at("2026-11-30T23:00:00Z"))]);
    let CoreStats { balances, outside, .. } = core.stats();
    assert_eq!((balances, outside), (0, 4));
}

#[test]
fn places_of_what_was_evicted_are_used_again_without_mixing_up() {
    let mut core = Core::new(CoreConfig { dedup_horizon: Duration::from_secs(3600), ..CoreConfig::default() });
    let mut time = at("2026-11-21T00:00:00Z");
    for round in 0..50 {
        let records: Vec<Record> = (0..40)
            .map(|n| {
                let (namespace, team) = (format!("n{}-{n}", round % 7), format!("t{round}-{n}"));
                Record::new(
                    &format!("{round}/{n}"),
                    time,
                    &[(Dimension::Namespace, &namespace), (Dimension::Team, &team)],
                    round + n,
                )
            })
            .collect();
        apply(&mut core, &records);
        while core.evict(time) {}
        let hours = BalanceFilter {
            every: Some(WindowKind::Calendar(Every::Hour)),
            at: Some(time),
            ..BalanceFilter::default()
        };
        let rows = all(&core, &hours);
        assert_eq!(rows.len(), 80);
        for record in &records {
            let scope = Scope::new(record.event.dimensions.iter());
            let found: Vec<u64> = rows.iter().filter(|row| row.scope == scope).map(|row| row.tokens.total()).collect();
            assert_eq!(found, [record.event.tokens.total()]);
        }
        time = time.plus_us(2 * TimeUs::HOUR);
    }
}

#[test]
fn money_adds_up_exactly_by_currency_and_events_without_a_price_are_counted() {
    let time = at("2026-11-21T10:00:00Z");
    let (usd, eur, jpy) = (currency("USD"), currency("EUR"), currency("JPY"));
    let mut core = Core::new(CoreConfig::default());
    let costs = [(usd, 12_500), (eur, 1), (usd, -500), (jpy, 7), (eur, 2)];
    let mut records: Vec<Record> = costs
        .iter()
        .enumerate()
        .map(|(n, (currency, pico))| support(&n.to_string(), time, 1).costing(*pico, *currency))
        .collect();
    records.push(support("unpriced", time, 1));
    apply(&mut core, &records);
    let row = &core.balances(&BalanceFilter::default(), None, 1).rows[0];
    let sums: Vec<(Pico, _)> = row.costs.iter().map(|money| (money.amount, money.currency)).collect();
    assert_eq!(sums, [(Pico(3), eur), (Pico(7), jpy), (Pico(12_000), usd)]);
    assert_eq!((row.unpriced, row.requests, row.saturated), (1, 6, false));
}

#[test]
fn a_sum_that_does_not_fit_stays_at_its_end_and_says_so() {
    let time = at("2026-11-21T10:00:00Z");
    let mut core = Core::new(CoreConfig { tracked: Vec::new(), ..CoreConfig::default() });
    set_fresh(&mut core, [budget("daily", SUPPORT, &[], 100)], time);
    let usd = currency("USD");
    // The end is the lake's: counts are signed there, so that they can be taken back.
    let end = i64::MAX as u64;
    let records = ["1", "2"].map(|id| support(id, time, end).costing(Pico::MAX.0, usd));
    apply(&mut core, &records);
    let row = &core.balances(&BalanceFilter::default(), None, 1).rows[0];
    assert_eq!((row.tokens.input, row.costs[0].amount, row.saturated), (end, Pico::MAX, true));
    assert_eq!(core.stats().saturated, 1);
    assert_eq!(core.effects(time).decisions.len(), 1, "a balance that stands still still blocks");
}

#[test]
fn balances_are_found_by_kind_scope_and_window() {
    let time = at("2026-11-21T10:00:00Z");
    let mut core = Core::new(CoreConfig::default());
    let soft = Budget { mode: usage_types::Mode::Soft, ..budget("soft", &[], &[Dimension::Team], 7) };
    set_fresh(&mut core, [budget("daily", SUPPORT, &[], 100), soft], time);
    let team = |id: &str, ns: &str, team: &str| {
        Record::new(id, time, &[(Dimension::Namespace, ns), (Dimension::Team, team)], 6)
    };
    apply(&mut core, &[team("1", "support", "a"), team("2", "support", "b"), team("3", "other", "a")]);
    let count = |filter: BalanceFilter| all(&core, &filter).len();
    let any = BalanceFilter::default;
    assert_eq!(count(any()), 6 + 9 + 1 + 2);
    assert_eq!(count(BalanceFilter { kind: KindFilter::Tracked, ..any() }), 15);
    assert_eq!(count(BalanceFilter { kind: KindFilter::Budgets, ..any() }), 3);
    assert_eq!(count(BalanceFilter { kind: KindFilter::Budget("soft".into()), ..any() }), 2);
    let in_support = BalanceFilter { values: Scope::new(SUPPORT.iter().copied()), ..any() };
    assert_eq!(count(in_support.clone()), 3 + 6 + 1);
    let dimensions = Some(usage_types::DimensionSet::of(&[Dimension::Namespace]));
    assert_eq!(count(BalanceFilter { dimensions, kind: KindFilter::Tracked, ..in_support }), 3);
    let tomorrow = Some(time.plus_us(TimeUs::DAY));
    assert_eq!(count(BalanceFilter { at: tomorrow, ..any() }), 2 + 3, "only the month goes on");
    let rows = all(&core, &BalanceFilter { kind: KindFilter::Budget("soft".into()), ..any() });
    let states: Vec<_> = rows
        .iter()
        .map(|row| match &row.kind {
            budget_core::Kind::Budget(standing) => (row.scope.to_string(), standing.tightest.used.0, standing.state),
            budget_core::Kind::Tracked => unreachable!(),
        })
        .collect();
    use budget_core::StandingState::{Alerted, Exceeded};
    assert_eq!(states, [("team=b".to_owned(), 6, Alerted), ("team=a".to_owned(), 12, Exceeded)]);
}
