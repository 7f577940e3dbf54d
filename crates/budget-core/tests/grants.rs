//! Grants are changes of budgets to the core: what is in force and what is used decide, and neither when nor how often it started.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use std::sync::Arc;

use budget_core::{Core, CoreConfig};
use common::{Record, apply, at, budget, limits, set, set_fresh};
use usage_types::{
    Budget, BudgetSet, Decision, Dimension, Every, Grant, Measure, Ppm, Rollback, Scope, Span, TimeUs, WindowSpec,
};

const SHOP: (Dimension, &str) = (Dimension::Namespace, "shop");

fn day() -> TimeUs {
    at("2026-11-21T10:00:00Z")
}

fn user(name: &str) -> Scope {
    Scope::new([SHOP, (Dimension::User, name)])
}

fn users(window: WindowSpec) -> Budget {
    Budget { window, ..budget("users", &[SHOP], &[Dimension::User], 100) }
}

fn granted(budgets: &BudgetSet, name: &str, tokens: i128) -> Arc<BudgetSet> {
    let limits = limits(&[(Measure::Tokens, tokens)]);
    Arc::new(budgets.with_grants(&[Grant { budget: "users".into(), scope: user(name), limits }]))
}

fn told(decisions: &[Decision]) -> Vec<String> {
    let line =
        |d: &Decision| format!("{:?} {} #{} of {}", d.state, d.scope.get(Dimension::User).unwrap(), d.seq, d.limit);
    decisions.iter().map(line).collect()
}

/// The decisions of a core that starts with these rows, budgets and published decisions.
fn restarted(records: &[Record], budgets: &Arc<BudgetSet>, published: &[Decision]) -> Vec<String> {
    let mut core = Core::new(CoreConfig::default());
    let requests = core.set_budgets(Arc::clone(budgets), day());
    core.load_decisions(published.iter().cloned());
    records.iter().for_each(|record| core.restore(&record.row(record.event.time)));
    requests.iter().for_each(|request| core.finish_history(request));
    told(&core.effects(day()).decisions)
}

#[test]
fn a_grant_and_its_end_decide_at_once_and_a_restart_at_any_point_decides_the_same() {
    for window in [WindowSpec::calendar(Every::Day, common::UTC), WindowSpec::rolling(Span::minutes(360), common::UTC)]
    {
        let own = set([users(window)]);
        let mut core = Core::new(CoreConfig::default());
        set_fresh(&mut core, [users(window)], day());
        let records = ["a", "b"].map(|name| Record::new(name, day(), &[SHOP, (Dimension::User, name)], 150));
        apply(&mut core, &records);
        let mut published = core.effects(day()).decisions;
        assert_eq!(told(&published), ["Blocked a #1 of 100", "Blocked b #1 of 100"]);

        let with_grant = granted(&own, "a", 200);
        assert!(core.set_budgets(Arc::clone(&with_grant), day()).is_empty(), "no history is needed");
        // As it was published and not: a crash may come before either.
        assert_eq!(restarted(&records, &with_grant, &published), ["Allowed a #2 of 200"]);
        let made = core.effects(day()).decisions;
        assert_eq!(told(&made), ["Allowed a #2 of 200"]);
        published.retain(|before| !made.iter().any(|now| now.key() == before.key()));
        published.extend(made);
        assert_eq!(restarted(&records, &with_grant, &published), [""; 0]);

        // It ends, whether the core runs or not.
        assert_eq!(restarted(&records, &own, &published), ["Blocked a #3 of 100"]);
        core.set_budgets(Arc::clone(&own), day());
        assert_eq!(told(&core.effects(day()).decisions), ["Blocked a #3 of 100"]);
    }
}

#[test]
fn what_a_scope_has_used_is_told_with_its_limits_and_before_it_has_used_anything() {
    let own = set([users(WindowSpec::rolling(Span::minutes(360), common::UTC))]);
    let mut core = Core::new(CoreConfig::default());
    let requests = core.set_budgets(granted(&own, "a", 200), day());
    let usage = |core: &Core, scope: &Scope| {
        let usage = core.usage("users", scope, day())?;
        Some((usage.fills.iter().map(|fill| (fill.used.0, fill.limit.amount.0)).collect::<Vec<_>>(), usage.warming))
    };
    assert_eq!(usage(&core, &user("a")), Some((vec![(0, 200)], true)));
    requests.iter().for_each(|request| core.finish_history(request));
    apply(&mut core, &[Record::new("1", day(), &[SHOP, (Dimension::User, "a")], 150)]);
    assert_eq!(usage(&core, &user("a")), Some((vec![(150, 200)], false)));
    assert_eq!(usage(&core, &user("b")), Some((vec![(0, 100)], false)));
    assert_eq!(usage(&core, &Scope::new([SHOP])), None, "that is no scope of the budget");
    assert_eq!(core.usage("nothing", &user("a"), day()), None);
}

#[test]
fn a_grant_is_no_reason_for_a_budget_that_has_rolled_back_to_block_again() {
    let rollback = Some(Rollback { blocked_over: Ppm(100_000), at_least: 1 });
    let own = set([Budget { rollback, ..budget("users", &[SHOP], &[Dimension::User], 100) }]);
    let mut core = Core::new(CoreConfig::default());
    core.set_budgets(Arc::clone(&own), day()).iter().for_each(|request| core.finish_history(request));
    apply(&mut core, &["a", "b"].map(|name| Record::new(name, day(), &[SHOP, (Dimension::User, name)], 150)));
    core.effects(day());
    assert_eq!(core.stats().rolled_back, 1);
    // With grants for both of them nobody is blocked, so it would not roll back again by itself.
    for budgets in [granted(&granted(&own, "a", 200), "b", 200), own] {
        core.set_budgets(budgets, day());
        core.effects(day());
        assert_eq!((core.stats().rolled_back, core.stats().blocked), (1, 0));
    }
}
