//! Windows that move: rolling ones, and the lifetimes of sessions.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

mod common;

use budget_core::window::window_at;
use budget_core::{BalanceFilter, Check, Core, CoreConfig};
use common::{Record, apply, at, budget, currency, set, set_fresh, told};
use proptest::prelude::*;
use usage_types::{
    AlertRule, Bounds, Budget, Dimension, Dimensions, Limit, Measure, Mode, Ppm, Role, Scope, Span, TimeUs, WindowKind,
    WindowSpec,
};

const SESSION: &[(Dimension, &str)] = &[(Dimension::Session, "s")];
const MINUTE: i64 = TimeUs::MINUTE;

fn ten() -> TimeUs {
    at("2026-11-21T10:00:00Z")
}

fn after(minutes: i64) -> TimeUs {
    ten().plus_us(minutes * MINUTE)
}

fn used(id: &str, time: TimeUs, tokens: u64) -> Record {
    Record::new(id, time, SESSION, tokens)
}

/// A hard budget of 100 tokens of a session over the last hour, with buckets of a minute; without alerts.
fn hourly() -> Budget {
    let window = WindowSpec::rolling(Span::minutes(60), common::UTC);
    let alerts = AlertRule { at: Vec::new(), to: Vec::new() };
    Budget { window, alerts, ..budget("hour", &[], &[Dimension::Session], 100) }
}

/// The same over the lifetime of a session, which ends after an hour without an event, with buckets of five minutes.
fn lifetime() -> Budget {
    let bounds = Bounds::Lifetime { of: Dimension::Session, idle: Span::minutes(60) };
    Budget { window: WindowSpec { bounds, zone: common::UTC }, id: "life".into(), ..hourly() }
}

fn core_with(budget: Budget) -> Core {
    let mut core = Core::new(CoreConfig { tracked: Vec::new(), ..CoreConfig::default() });
    set_fresh(&mut core, [budget], ten());
    core
}

/// What the one scope has used at a time, by what a gateway is told.
fn used_at(core: &Core, now: TimeUs) -> i128 {
    let mut dims = Dimensions::default();
    dims.set(Dimension::Session, Some("s".into()));
    match core.check(&dims, now) {
        other @ (Check::Allowed(None) | Check::WouldBlock { .. } | Check::CircuitOpen(_)) => panic!("{other:?}"),
        Check::Blocked(standing)
        | Check::Allowed(Some(standing))
        | Check::Reserved(standing)
        | Check::Exceeds(standing) => standing.fill.used.0,
    }
}

fn said(core: &mut Core, now: TimeUs) -> Vec<String> {
    let effects = core.effects(now);
    effects.decisions.iter().map(|d| format!("{:?} {} until {}", d.state, d.used, d.expires_at)).collect()
}

#[test]
fn a_rolling_window_counts_all_of_its_length_and_less_than_a_bucket_more() {
    let mut core = core_with(hourly());
    apply(&mut core, &[used("1", ten().plus_us(17 * TimeUs::SECOND), 7)]);
    assert_eq!(used_at(&core, after(1)), 7);
    assert_eq!(used_at(&core, after(60).plus_us(17 * TimeUs::SECOND)), 7, "it is just an hour old");
    assert_eq!(used_at(&core, after(61).plus_us(-1)), 7);
    assert_eq!(used_at(&core, after(61)), 0);
}

proptest! {
    #[test]
    fn a_rolling_window_is_never_short_and_at_most_a_sixtieth_long(
        minutes in 1..2_000_u32,
        ages in prop::collection::vec(0..200_000_000_000_i64, 1..40),
        shift in 0..10_000_000_000_i64,
    ) {
        let (span, now) = (Span::minutes(minutes), ten().plus_us(shift));
        let window = window_at(WindowSpec::rolling(span, common::UTC), now);
        prop_assert!(window.start <= now.plus_us(-span.us()) && window.contains(now));
        prop_assert!(window.start > now.plus_us(-span.us() - span.us() / 60));
        let mut core = core_with(Budget { window: WindowSpec::rolling(span, common::UTC), ..hourly() });
        let record = |(at, age): (usize, &i64)| used(&at.to_string(), now.plus_us(-age), 1).role(Role::Backfill).appended(now);
        apply(&mut core, &ages.iter().enumerate().map(record).collect::<Vec<_>>());
        let within = |us: i64| ages.iter().filter(|age| **age <= us).count() as i128;
        let amount = used_at(&core, now);
        prop_assert!(within(span.us()) <= amount && amount <= within(span.us() + span.us() / 60), "{amount}");
    }
}

#[test]
fn a_block_over_a_rolling_window_says_when_it_ends_and_ends_then_without_an_event() {
    let mut core = core_with(hourly());
    apply(&mut core, &[used("1", ten(), 60), used("2", after(10), 30), used("3", after(20), 30)]);
    // 120 of 100: without the 60 of 10:00, which leave at 11:01, there is room again.
    assert_eq!(said(&mut core, after(21)), ["Blocked 120 until 2026-11-21T11:01:00Z"]);
    assert_eq!(core.next_wakeup(), Some(after(61)));
    assert_eq!(said(&mut core, after(30)), [""; 0], "it is said once");
    // What requests in flight spend puts the end off, and that is said.
    apply(&mut core, &[used("4", after(31), 50)]);
    assert_eq!(said(&mut core, after(31)), ["Blocked 170 until 2026-11-21T11:11:00Z"]);
    apply(&mut core, &[used("5", after(32), 1)]);
    assert_eq!(said(&mut core, after(32)), [""; 0]);
    assert_eq!(said(&mut core, after(71).plus_us(-1)), [""; 0]);
    assert_eq!(said(&mut core, after(71)), ["Allowed 81 until 2026-11-21T11:12:00Z"]);
}

#[test]
fn a_block_names_another_limit_when_the_one_that_it_names_is_within_first() {
    let limits = common::limits(&[(Measure::Tokens, 100), (Measure::Requests, 2)]);
    let mut core = core_with(Budget { limits, ..hourly() });
    apply(&mut core, &[used("1", ten(), 300), used("2", after(20), 1), used("3", after(40), 1)]);
    let named = |core: &mut Core, now| -> Vec<String> {
        core.effects(now).decisions.iter().map(|d| format!("{:?} {}", d.state, d.measure)).collect()
    };
    assert_eq!(named(&mut core, after(40)), ["Blocked tokens"]);
    assert_eq!(core.next_wakeup(), Some(after(61)), "the tokens leave, and two requests stay");
    assert_eq!(named(&mut core, after(61)), ["Blocked requests"]);
    assert_eq!(named(&mut core, after(81)), ["Allowed requests"]);
}

#[test]
fn a_void_of_what_an_old_bucket_holds_ends_a_block() {
    let mut core = core_with(hourly());
    let first = used("1", ten(), 60);
    apply(&mut core, &[first.clone(), used("2", after(40), 60)]);
    assert_eq!(said(&mut core, after(40)).len(), 1);
    let void = Record::new("v", after(45), SESSION, 0).role(Role::Voids("1".into())).restating(ten(), Some(&first));
    apply(&mut core, &[void]);
    assert_eq!(said(&mut core, after(45)), ["Allowed 60 until 2026-11-21T10:46:00Z"]);
}

#[test]
fn money_that_was_given_back_leaves_the_window_too_and_then_blocks_without_an_event() {
    let limit = Limit::new(Measure::Cost(currency("USD")), usage_types::Amount(80));
    let mut core = core_with(Budget { limits: limit.into(), ..hourly() });
    let spend = |id: &str, time, pico| Record::new(id, time, SESSION, 0).costing(pico, currency("USD"));
    apply(&mut core, &[spend("1", ten(), -50), spend("2", after(20), 90)]);
    assert_eq!(said(&mut core, after(21)), [""; 0]);
    assert_eq!(core.next_wakeup(), Some(after(61)));
    assert_eq!(said(&mut core, after(61)), ["Blocked 0.00000000009 until 2026-11-21T11:21:00Z"]);
    assert_eq!(said(&mut core, after(81)).len(), 1);
}

#[test]
fn an_event_from_a_clock_that_is_ahead_counts_at_once() {
    let mut core = core_with(Budget { window: WindowSpec::rolling(Span::minutes(1), common::UTC), ..hourly() });
    apply(&mut core, &[used("1", after(4), 100).appended(ten())]);
    // Its bucket is the second of 10:04, which counts until 10:05:01.
    assert_eq!(said(&mut core, ten()), ["Blocked 100 until 2026-11-21T10:05:01Z"]);
}

#[test]
fn a_lifetime_goes_on_while_something_comes_and_ends_when_it_was_idle() {
    let mut core = core_with(lifetime());
    apply(&mut core, &[used("1", ten(), 40), used("2", after(59), 40)]);
    assert_eq!(used_at(&core, after(100)), 80);
    apply(&mut core, &[used("3", after(118), 40)]);
    // The bucket of 11:55 and an hour, and the bucket that the hour ends in.
    assert_eq!(said(&mut core, after(118)), ["Blocked 120 until 2026-11-21T13:00:00Z"]);
    assert_eq!(said(&mut core, after(179)), [""; 0]);
    assert_eq!(said(&mut core, after(180)), ["Allowed 0 until 2026-11-21T14:05:00Z"]);
    apply(&mut core, &[used("4", after(181), 5)]);
    assert_eq!(used_at(&core, after(181)), 5, "another lifetime has begun");
    let rows =
        core.balances(&BalanceFilter { every: Some(WindowKind::Lifetime), ..BalanceFilter::default() }, None, 10);
    assert_eq!(rows.rows.len(), 1);
    assert_eq!(rows.rows[0].window.start, after(180));
}

#[test]
fn a_late_event_joins_two_lifetimes() {
    let mut core = core_with(lifetime());
    apply(&mut core, &[used("1", ten(), 40), used("2", after(100), 40)]);
    assert_eq!(used_at(&core, after(101)), 40);
    apply(&mut core, &[used("3", after(50), 5).appended(after(102))]);
    assert_eq!(used_at(&core, after(102)), 85);
}

#[test]
fn a_lifetime_without_end_counts_its_last_thirty_idle_times() {
    let mut core = core_with(lifetime());
    let every_half_hour = |at: i64| used(&at.to_string(), after(30 * at), 1);
    apply(&mut core, &(0..100).map(every_half_hour).collect::<Vec<_>>());
    // Thirty hours, which is an event for each half.
    assert_eq!(used_at(&core, after(30 * 99)), 61);
}

#[test]
fn a_restart_and_a_new_budget_find_what_counts_from_the_rows() {
    for budget in [hourly(), lifetime()] {
        let records = [used("1", ten(), 60), used("2", after(10), 60), used("3", after(15), 1)];
        let now = after(20);
        let mut running = core_with(budget.clone());
        apply(&mut running, &records);
        let first = running.effects(now);
        assert_eq!(first.decisions.len(), 1, "{}", budget.id);
        // Again from the lake, where the log knows what was said.
        let mut again = core_with(budget.clone());
        again.load_decisions(first.decisions.clone());
        let from = again.restore_from(now);
        records
            .iter()
            .rev()
            .filter(|record| record.event.time >= from)
            .for_each(|r| again.restore(&r.row(r.event.time)));
        assert!(again.effects(now).is_empty(), "{}", budget.id);
        assert_eq!(used_at(&again, now), 121);
        // A budget that comes while events flow says nothing before its history is in.
        let mut late = core_with(Budget { id: "other".into(), ..hourly() });
        apply(&mut late, &records);
        let request = late.set_budgets(set([budget.clone()]), now).remove(0);
        assert!(records.iter().all(|record| record.event.time >= request.from));
        assert!(late.effects(now).is_empty());
        records.iter().for_each(|record| late.add_history(&request, &record.row(record.event.time)));
        late.finish_history(&request);
        assert_eq!(told(&late.effects(now)), told(&first), "{}", budget.id);
    }
}

#[test]
fn buckets_that_count_no_more_are_dropped_and_a_late_event_does_not_bring_them_back() {
    let mut core = core_with(hourly());
    for minute in 0..600 {
        apply(&mut core, &[used(&minute.to_string(), after(minute), 0)]);
        core.effects(after(minute));
        while core.evict(after(minute)) {}
    }
    assert_eq!(core.stats().balances, 61);
    apply(&mut core, &[used("late", after(100), 500).appended(after(599))]);
    assert_eq!((core.stats().balances, core.stats().outside), (61, 1));
    assert!(core.effects(after(599)).is_empty());
}

fn with_alerts(budget: Budget) -> Budget {
    Budget { mode: Mode::Soft, alerts: AlertRule { at: vec![Ppm(800_000)], to: Vec::new() }, ..budget }
}

fn raised(core: &mut Core, now: TimeUs) -> usize {
    core.effects(now).alerts.len()
}

#[test]
fn a_threshold_of_a_rolling_window_is_told_once_until_the_fill_has_been_below() {
    let mut core = core_with(with_alerts(hourly()));
    apply(&mut core, &[used("1", ten(), 80)]);
    let first = core.effects(ten());
    assert_eq!(told(&first), ["Alert hour|session=s|rolling@1h|2026-11-21T09:00:00Z|0.8 used 80"]);
    let alert = &first.alerts[0];
    assert_eq!((alert.every.as_str(), alert.window_name.as_deref()), ("rolling", Some("rolling 1 hour")));
    assert_eq!((alert.exhausted_at, alert.scope.clone()), (None, Scope::new(SESSION.iter().copied())));
    // It stays above for hours: the same crossing, also for one that starts anew and knows what the log holds.
    let mut records = vec![used("1", ten(), 80)];
    for half in 1..6 {
        let (now, record) = (after(30 * half), used(&format!("h{half}"), after(30 * half), 80));
        apply(&mut core, std::slice::from_ref(&record));
        records.push(record);
        assert_eq!(raised(&mut core, now), 0);
        let mut again = core_with(with_alerts(hourly()));
        again.load_alerts(first.alerts.clone());
        records.iter().for_each(|record| again.restore(&record.row(record.event.time)));
        assert_eq!(raised(&mut again, now), 0, "after a restart");
    }
    // The last 80 left at 13:31: what comes then is another crossing.
    apply(&mut core, &[used("2", after(220), 80)]);
    assert_eq!(told(&core.effects(after(220))).len(), 1);
}

#[test]
fn a_threshold_that_is_taken_out_and_put_back_is_told_again_once_the_fill_was_below() {
    let thresholds = |at: &[u32]| {
        let at = at.iter().map(|ppm| Ppm(*ppm)).collect();
        Budget { alerts: AlertRule { at, to: Vec::new() }, ..hourly() }
    };
    let mut core = core_with(thresholds(&[800_000]));
    let later = used("2", after(30), 80);
    apply(&mut core, &[used("1", ten(), 80)]);
    assert_eq!(raised(&mut core, ten()), 1);
    apply(&mut core, std::slice::from_ref(&later));
    // By itself it would stay above until 11:31.
    assert_eq!(raised(&mut core, after(30)), 0);
    drop(core.set_budgets(set([thresholds(&[5_000_000])]), after(31)));
    assert_eq!(raised(&mut core, after(31)), 0);
    let void = Record::new("v", after(32), SESSION, 0).role(Role::Voids("2".into())).restating(after(30), Some(&later));
    apply(&mut core, &[void, used("3", after(33), 1)]);
    drop(core.set_budgets(set([thresholds(&[800_000])]), after(62)));
    assert_eq!(raised(&mut core, after(62)), 0, "the first 80 have left");
    apply(&mut core, &[used("4", after(63), 80)]);
    assert_eq!(raised(&mut core, after(63)), 1);
}

#[test]
fn a_fill_that_wavers_about_a_threshold_is_told_once_in_the_length_of_the_window() {
    let mut core = core_with(with_alerts(hourly()));
    let first = used("1", ten(), 80);
    apply(&mut core, std::slice::from_ref(&first));
    assert_eq!(raised(&mut core, ten()), 1);
    let void = Record::new("v", after(5), SESSION, 0).role(Role::Voids("1".into())).restating(ten(), Some(&first));
    apply(&mut core, &[void]);
    assert_eq!(raised(&mut core, after(5)), 0);
    apply(&mut core, &[used("2", after(10), 80)]);
    assert_eq!(raised(&mut core, after(10)), 0, "an hour has not passed");
    apply(&mut core, &[used("3", after(60), 1)]);
    assert_eq!(raised(&mut core, after(60)), 1, "it is above still, and nobody knows of it");
}

#[test]
fn a_threshold_is_told_once_in_a_lifetime() {
    let mut core = core_with(with_alerts(lifetime()));
    apply(&mut core, &[used("1", ten(), 90), used("2", after(50), 90), used("3", after(100), 90)]);
    assert_eq!(raised(&mut core, after(100)), 1);
    apply(&mut core, &[used("4", after(150), 90)]);
    assert_eq!(raised(&mut core, after(150)), 0);
    apply(&mut core, &[used("5", after(300), 90)]);
    assert_eq!(raised(&mut core, after(300)), 1, "the next lifetime");
}

#[test]
fn a_late_event_that_moves_the_begin_of_a_lifetime_makes_no_other_one_of_it() {
    let mut core = core_with(with_alerts(lifetime()));
    let first = used("1", after(50), 90);
    apply(&mut core, &[first.clone(), used("2", after(50), 1)]);
    assert_eq!(raised(&mut core, after(50)), 1);
    let void = Record::new("v", after(55), SESSION, 0).role(Role::Voids("1".into())).restating(after(50), Some(&first));
    apply(&mut core, &[void, used("3", after(100), 1)]);
    assert_eq!(raised(&mut core, after(100)), 0);
    apply(&mut core, &[used("late", ten(), 90)]);
    assert_eq!(raised(&mut core, after(115)), 0, "it begins at 10:00 now, and was told at 10:50");
    apply(&mut core, &[used("4", after(300), 90)]);
    assert_eq!(raised(&mut core, after(300)), 1, "the next lifetime");
}

#[test]
fn the_longest_block_is_the_one_that_a_gateway_is_told() {
    let mut core = core_with(hourly());
    set_fresh(&mut core, [hourly(), lifetime()], ten());
    apply(&mut core, &[used("1", ten(), 100)]);
    let mut dims = Dimensions::default();
    dims.set(Dimension::Session, Some("s".into()));
    let Check::Blocked(standing) = core.check(&dims, after(1)) else { panic!("both are over") };
    // The lifetime's bucket ends at 10:05 and the hour at 11:05, the rolling one's at 11:01.
    assert_eq!((&*standing.budget.id, standing.window.end), ("life", after(65)));
}
