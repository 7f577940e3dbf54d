//! When alerts are raised, and that they are raised once.

mod common;

use budget_core::{Core, CoreConfig};
use common::{Record, apply, at, budget, set, set_fresh};
use usage_types::{Budget, Dimension, Every, Mode, TimeUs, WindowSpec};

const SUPPORT: &[(Dimension, &str)] = &[(Dimension::Namespace, "support")];

fn support(id: &str, time: TimeUs, tokens: u64) -> Record {
    Record::new(id, time, SUPPORT, tokens)
}

fn hourly(limit: i128) -> Budget {
    let window = WindowSpec::calendar(Every::Hour, common::UTC);
    Budget { window, mode: Mode::Soft, ..budget("hourly", SUPPORT, &[], limit) }
}

/// The start of the window and the threshold of each alert.
fn raised(core: &mut Core, now: TimeUs) -> Vec<String> {
    let effects = core.effects(now);
    assert!(effects.decisions.is_empty(), "a soft budget decides nothing");
    effects.alerts.iter().map(|alert| format!("{} {}", alert.window.start, alert.threshold)).collect()
}

#[test]
fn each_threshold_alerts_once_even_if_the_limit_is_raised_and_reached_again() {
    let now = at("2026-11-21T10:30:00Z");
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hourly(100)], now);
    apply(&mut core, &[support("1", now, 100)]);
    assert_eq!(raised(&mut core, now), ["2026-11-21T10:00:00Z 0.8", "2026-11-21T10:00:00Z 1"]);
    core.set_budgets(set([hourly(200)]), now);
    assert_eq!(raised(&mut core, now), [""; 0]);
    apply(&mut core, &[support("2", now, 100)]);
    assert_eq!(raised(&mut core, now), [""; 0]);
}

#[test]
fn an_alert_says_what_the_mail_needs() {
    let now = at("2026-11-21T10:30:00Z");
    let mut core = Core::new(CoreConfig::default());
    let usd = common::currency("USD");
    let limit = usage_types::Limit::new(usage_types::Measure::Cost(usd), usage_types::Amount(10_000_000_000_000));
    set_fresh(&mut core, [Budget { limits: limit.into(), ..hourly(1) }], now);
    let eur = common::currency("EUR");
    apply(
        &mut core,
        &[support("1", now, 1).costing(99_000_000_000_000, eur), support("2", now, 1).costing(8_000_000_000_000, usd)],
    );
    let alert = core.effects(now).alerts.remove(0);
    assert_eq!(alert.id, "hourly|namespace=support|hour|2026-11-21T10:00:00Z|0.8");
    assert_eq!((alert.measure.as_str(), alert.currency, alert.limit.as_str()), ("cost", Some(usd), "10"));
    // 8 USD in half an hour: 16 an hour; the last 2 in 7.5 minutes.
    assert_eq!((alert.used.as_str(), alert.burn_per_hour.as_str()), ("8", "16"));
    assert_eq!(alert.exhausted_at, Some(at("2026-11-21T10:37:30Z")));
    assert_eq!((alert.mode.as_str(), alert.every.as_str(), alert.raised_at), ("soft", "hour", now));
    assert_eq!(alert.to, ["lead@example.com"]);
}

#[test]
fn a_late_event_alerts_for_the_window_it_belongs_to() {
    let now = at("2026-11-21T10:30:00Z");
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hourly(100)], now);
    apply(&mut core, &[support("1", at("2026-11-21T07:10:00Z"), 90).appended(now)]);
    assert_eq!(raised(&mut core, now), ["2026-11-21T07:00:00Z 0.8"]);
}

#[test]
fn a_window_that_ended_while_the_process_was_down_still_alerts_once() {
    let (event, restart) = (at("2026-11-21T10:30:00Z"), at("2026-11-21T15:00:00Z"));
    let record = support("1", event, 90);
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hourly(100)], restart);
    core.restore(&record.row(event));
    let alerts = core.effects(restart).alerts;
    assert_eq!(alerts.len(), 1);
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hourly(100)], restart);
    core.load_alerts(alerts);
    core.restore(&record.row(event));
    assert_eq!(raised(&mut core, restart), [""; 0]);
}

#[test]
fn a_new_budget_does_not_report_on_windows_that_were_over() {
    let now = at("2026-11-21T10:30:00Z");
    let records = [support("1", at("2026-11-21T03:10:00Z"), 90), support("2", now, 90)];
    let report = |core: &mut Core| {
        let request = core.set_budgets(set([hourly(100)]), now).remove(0);
        for record in &records {
            core.add_history(&request, &record.row(record.event.time));
        }
        core.finish_history(&request);
        raised(core, now)
    };
    let mut core = Core::new(CoreConfig::default());
    apply(&mut core, &records);
    assert_eq!(report(&mut core), ["2026-11-21T10:00:00Z 0.8"]);
    // Nor after a restart, but for windows that ended shortly before.
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hourly(100)], now);
    records.iter().for_each(|record| core.restore(&record.row(record.event.time)));
    assert_eq!(raised(&mut core, now), ["2026-11-21T10:00:00Z 0.8"]);
    // Once an event comes for it, it does.
    apply(&mut core, &[support("3", at("2026-11-21T03:20:00Z"), 1).appended(now)]);
    assert_eq!(raised(&mut core, now), ["2026-11-21T03:00:00Z 0.8"]);
}

#[test]
fn an_alert_that_could_not_be_published_is_raised_again_as_it_was() {
    let now = at("2026-11-21T10:30:00Z");
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hourly(100)], now);
    apply(&mut core, &[support("1", now, 90)]);
    let failed = core.effects(now);
    assert_eq!(failed.alerts.len(), 1);
    core.retract(&failed);
    // Even if the budget is gone by then: the threshold was reached.
    core.set_budgets(set([]), now);
    let later = now.plus_us(2 * TimeUs::DAY);
    core.evict(later);
    assert_eq!(core.effects(later).alerts, failed.alerts);
    assert!(core.effects(later).is_empty());
}

#[test]
fn a_budget_of_several_limits_alerts_once_a_threshold_and_names_the_tightest() {
    let mut core = Core::new(CoreConfig::default());
    let now = at("2026-11-21T10:30:00Z");
    let limits = common::limits(&[(usage_types::Measure::Tokens, 100), (usage_types::Measure::Requests, 10)]);
    set_fresh(&mut core, [Budget { limits, ..hourly(1) }], now);
    let alerts = |core: &mut Core, tokens: [u64; 3], id: &str| -> Vec<String> {
        let records =
            tokens.iter().enumerate().map(|(at, tokens)| Record::new(&format!("{id}{at}"), now, SUPPORT, *tokens));
        apply(core, &records.collect::<Vec<_>>());
        let line = |a: usage_types::Alert| format!("{} {} {} of {}", a.threshold, a.measure, a.used, a.limit);
        core.effects(now).alerts.into_iter().map(line).collect()
    };
    assert_eq!(alerts(&mut core, [0, 0, 0], "a"), [""; 0]);
    assert_eq!(alerts(&mut core, [80, 0, 0], "b"), ["0.8 tokens 80 of 100"]);
    assert_eq!(alerts(&mut core, [0, 0, 0], "c"), [""; 0], "requests are above 80 % too: one mail is enough");
    assert_eq!(alerts(&mut core, [0, 0, 0], "d"), ["1 requests 12 of 10"]);
}
