//! When a scope is blocked and allowed again.

mod common;

use budget_core::{Check, Core, CoreConfig, Disposition, Question};
use common::{Record, apply, at, budget, set, set_fresh, told};
use usage_types::{
    Amount, Dimension, Dimensions, Every, Measure, Mode, Role, Scope, SpecialLimit, SpecialLimits, TimeUs, Whom,
};

const SUPPORT: &[(Dimension, &str)] = &[(Dimension::Namespace, "support")];

fn day() -> TimeUs {
    at("2026-11-21T10:00:00Z")
}

fn support(id: &str, time: TimeUs, tokens: u64) -> Record {
    Record::new(id, time, SUPPORT, tokens)
}

fn dims(values: &[(Dimension, &'static str)]) -> Dimensions<'static> {
    let mut dims = Dimensions::default();
    values.iter().for_each(|(dim, value)| dims.set(*dim, Some((*value).into())));
    dims
}

fn core_with_daily(limit: i128) -> Core {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget("daily", SUPPORT, &[], limit)], day());
    core
}

#[test]
fn a_scope_is_blocked_once_at_its_limit_and_allowed_when_the_window_turns() {
    let mut core = core_with_daily(100);
    apply(&mut core, &[support("1", day(), 79)]);
    assert_eq!(told(&core.effects(day())), [""; 0]);
    apply(&mut core, &[support("2", day(), 20), support("2", day(), 20)]);
    assert_eq!(told(&core.effects(day())), ["Alert daily|namespace=support|day|2026-11-21T00:00:00Z|0.8 used 99"]);
    apply(&mut core, &[support("3", day(), 1)]);
    assert_eq!(
        told(&core.effects(day())),
        [
            "Blocked daily|namespace=support #1 NAMESPACE_QUOTA_EXCEEDED 403 used 100 of 100",
            "Alert daily|namespace=support|day|2026-11-21T00:00:00Z|1 used 100"
        ]
    );
    apply(&mut core, &[support("4", day(), 1)]);
    assert!(core.effects(day()).is_empty(), "a block is not said twice");
    let midnight = at("2026-11-22T00:00:00Z");
    assert_eq!(core.next_wakeup(), Some(midnight));
    assert!(core.effects(midnight.plus_us(-1)).is_empty());
    assert_eq!(told(&core.effects(midnight)), ["Allowed daily|namespace=support #2 WITHIN_QUOTA 200 used 0 of 100"]);
    assert!(core.effects(midnight).is_empty());
}

#[test]
fn raising_the_limit_allows_and_lowering_it_blocks_again() {
    let mut core = core_with_daily(100);
    apply(&mut core, &[support("1", day(), 120)]);
    assert_eq!(core.effects(day()).decisions.len(), 1);
    assert!(core.set_budgets(set([budget("daily", SUPPORT, &[], 200)]), day()).is_empty(), "no history is needed");
    assert_eq!(told(&core.effects(day())), ["Allowed daily|namespace=support #2 WITHIN_QUOTA 200 used 120 of 200"]);
    core.set_budgets(set([budget("daily", SUPPORT, &[], 110)]), day());
    assert_eq!(
        told(&core.effects(day())),
        ["Blocked daily|namespace=support #3 NAMESPACE_QUOTA_EXCEEDED 403 used 120 of 110"]
    );
}

#[test]
fn a_correction_allows_again_and_spending_after_it_blocks_again() {
    let mut core = Core::new(CoreConfig::default());
    let usd = common::currency("USD");
    let limit = usage_types::Limit::new(usage_types::Measure::Cost(usd), usage_types::Amount(10));
    set_fresh(&mut core, [usage_types::Budget { limits: limit.into(), ..budget("daily", SUPPORT, &[], 1) }], day());
    let mut states = Vec::new();
    for (id, pico) in [("1", 10), ("2", -1), ("3", 1), ("4", 5)] {
        apply(&mut core, &[support(id, day(), 1).costing(pico, usd)]);
        states.push(core.effects(day()).decisions.first().map(|decision| (decision.state, decision.seq)));
    }
    use usage_types::DecisionState::{Allowed, Blocked};
    assert_eq!(states, [Some((Blocked, 1)), Some((Allowed, 2)), Some((Blocked, 3)), None]);
}

#[test]
fn a_void_lifts_a_block_and_its_alert_is_not_raised_again() {
    let mut core = core_with_daily(100);
    let big = support("big", day(), 90);
    apply(&mut core, &[big.clone(), support("small", day(), 10)]);
    assert_eq!(core.effects(day()).alerts.len(), 2);
    let later = day().plus_us(2 * TimeUs::HOUR);
    let void = |id: &str, counts| {
        let void = Record::new(id, later, SUPPORT, 0).role(Role::Voids("big".into()));
        void.restating(day(), counts)
    };
    let accepted = Disposition::Accepted { time: day(), late: true, clamped: false };
    let out = apply(&mut core, &[void("v", Some(&big)), void("v", None), void("again", None), void("again", None)]);
    assert_eq!(out, [accepted, Disposition::Duplicate, Disposition::NoOriginal, Disposition::NoOriginal]);
    assert_eq!(told(&core.effects(later)), ["Allowed daily|namespace=support #2 WITHIN_QUOTA 200 used 10 of 100"]);
    // Amended, it counts again: 10 + 95, at the time of the original.
    let amended = Record::new("a", later, SUPPORT, 95).role(Role::Amends("big".into())).restating(day(), None);
    assert_eq!(apply(&mut core, &[amended]), [accepted]);
    assert_eq!(
        told(&core.effects(later)),
        ["Blocked daily|namespace=support #3 NAMESPACE_QUOTA_EXCEEDED 403 used 105 of 100"]
    );
}

#[test]
fn removing_a_budget_or_making_it_soft_allows_what_it_blocked() {
    let soft = || usage_types::Budget { mode: Mode::Soft, ..budget("daily", SUPPORT, &[], 100) };
    for budgets in [set([]), set([soft()])] {
        let mut core = core_with_daily(100);
        apply(&mut core, &[support("1", day(), 100)]);
        assert_eq!(core.effects(day()).decisions.len(), 1);
        core.set_budgets(budgets, day());
        assert_eq!(
            told(&core.effects(day())),
            ["Allowed daily|namespace=support #2 BUDGET_REMOVED 200 used 100 of 100"]
        );
        assert!(core.effects(day()).is_empty());
    }
}

#[test]
fn a_failed_publish_is_made_again_and_a_newer_decision_stands() {
    let mut core = core_with_daily(100);
    apply(&mut core, &[support("1", day(), 100)]);
    let failed = core.effects(day());
    assert_eq!((failed.decisions.len(), failed.alerts.len()), (1, 2));
    core.retract(&failed);
    let again = core.effects(day());
    assert_eq!(again.alerts, failed.alerts);
    assert_eq!(again.decisions[0].key(), failed.decisions[0].key());
    assert!(again.decisions[0].seq > failed.decisions[0].seq);
    core.set_budgets(set([budget("daily", SUPPORT, &[], 200)]), day());
    assert_eq!(core.effects(day()).decisions.len(), 1);
    core.retract(&budget_core::Effects { decisions: again.decisions, ..Default::default() });
    assert!(core.effects(day()).is_empty(), "the newer decision replaces the one that failed");
}

#[test]
fn decisions_loaded_from_the_log_are_not_said_again_and_their_numbers_go_on() {
    let mut before = core_with_daily(100);
    apply(&mut before, &[support("1", day(), 100)]);
    let effects = before.effects(day());
    let mut core = core_with_daily(100);
    core.load_decisions(effects.decisions.clone());
    core.load_alerts(effects.alerts.clone());
    for record in [support("1", day(), 100), support("2", day(), 11)] {
        core.restore(&record.row(record.event.time));
    }
    assert!(core.effects(day()).is_empty());
    assert_eq!(core.decisions().count(), 1);
    assert_eq!(core.effects(at("2026-11-22T00:00:00Z")).decisions[0].seq, 2);
    // Of a budget that is gone after the restart, too.
    let mut core = Core::new(CoreConfig::default());
    core.load_decisions(effects.decisions);
    assert_eq!(told(&core.effects(day())), ["Allowed daily|namespace=support #2 BUDGET_REMOVED 200 used 100 of 100"]);
}

#[test]
fn each_value_of_per_has_a_balance_and_an_event_without_it_has_none() {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget("user", SUPPORT, &[Dimension::User], 100)], day());
    let user = |id: &str, ns: &'static str, user: &'static str| {
        Record::new(id, day(), &[(Dimension::Namespace, ns), (Dimension::User, user)], 100)
    };
    apply(
        &mut core,
        &[user("1", "support", "b"), user("2", "support", "a"), user("3", "other", "c"), support("4", day(), 500)],
    );
    assert_eq!(
        core.effects(day()).decisions.iter().map(usage_types::Decision::key).collect::<Vec<_>>(),
        ["user|namespace=support,user=a", "user|namespace=support,user=b"]
    );
}

#[test]
fn a_new_budget_decides_after_its_history_only() {
    let mut core = Core::new(CoreConfig::default());
    let early = support("1", at("2026-11-21T01:00:00Z"), 60);
    apply(&mut core, std::slice::from_ref(&early));
    let requests = core.set_budgets(set([budget("daily", SUPPORT, &[], 100)]), day());
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].from, at("2026-11-20T00:00:00Z"), "events of the day before may still come");
    apply(&mut core, &[support("2", day(), 45)]);
    assert!(core.effects(day()).is_empty());
    assert_eq!(core.check(&dims(SUPPORT), day()), Check::Allowed(None));
    core.add_history(&requests[0], &early.row(early.event.time));
    core.finish_history(&requests[0]);
    assert_eq!(core.effects(day()).decisions[0].used, "105");
    core.add_history(&requests[0], &early.row(early.event.time));
    assert!(core.effects(day()).is_empty(), "an answer that comes twice is ignored");
}

#[test]
fn a_budget_that_changes_whom_it_counts_frees_what_it_blocked_and_asks_for_a_new_history() {
    let mut core = core_with_daily(100);
    let record = support("1", day(), 100);
    apply(&mut core, std::slice::from_ref(&record));
    assert_eq!(core.effects(day()).decisions.len(), 1);
    let old = core.set_budgets(set([budget("daily", SUPPORT, &[Dimension::Team], 100)]), day());
    assert_eq!(told(&core.effects(day())), ["Allowed daily|namespace=support #2 BUDGET_REMOVED 200 used 100 of 100"]);
    // Changed back while the history was still on its way: that history is of no use.
    let new = core.set_budgets(set([budget("daily", SUPPORT, &[], 100)]), day());
    core.add_history(&old[0], &record.row(day()));
    core.finish_history(&old[0]);
    assert!(core.effects(day()).is_empty());
    core.add_history(&new[0], &record.row(day()));
    core.finish_history(&new[0]);
    assert_eq!(core.effects(day()).decisions[0].seq, 3);
}

#[test]
fn a_history_that_failed_begins_anew() {
    let mut core = Core::new(CoreConfig::default());
    let early = support("1", day(), 60);
    apply(&mut core, std::slice::from_ref(&early));
    let request = core.set_budgets(set([budget("daily", SUPPORT, &[], 100)]), day()).remove(0);
    core.add_history(&request, &early.row(day()));
    let later = support("2", day(), 40);
    apply(&mut core, std::slice::from_ref(&later));
    let again = core.restart_history(&request, day()).unwrap();
    assert!(core.restart_history(&request, day()).is_none());
    core.finish_history(&request);
    assert!(core.effects(day()).is_empty());
    core.add_history(&again, &early.row(day()));
    core.add_history(&again, &later.row(day()));
    core.finish_history(&again);
    assert_eq!(core.effects(day()).decisions[0].used, "100");
}

#[test]
fn check_names_the_block_that_lasts_longest_or_the_budget_with_least_left() {
    let mut core = Core::new(CoreConfig::default());
    let hourly = usage_types::Budget {
        window: usage_types::WindowSpec::calendar(Every::Hour, common::UTC),
        http_status: 429,
        ..budget("hourly", SUPPORT, &[], 60)
    };
    let all = budget("all", &[], &[], 1_000);
    set_fresh(&mut core, [hourly, budget("daily", SUPPORT, &[], 100), all], day());
    let name = |core: &Core, now| match core.check(&dims(SUPPORT), now) {
        Check::Allowed(standing) => format!("allowed {}", standing.map_or("-".into(), |s| s.budget.id.to_string())),
        Check::Blocked(standing) => format!("blocked {} {}", standing.budget.id, standing.fill.used),
        other => panic!("nothing is estimated or reserved: {other:?}"),
    };
    assert_eq!(name(&core, day()), "allowed all", "all have the whole of it left: the id decides");
    apply(&mut core, &[support("1", day(), 50)]);
    assert_eq!(name(&core, day()), "allowed hourly");
    apply(&mut core, &[support("2", day(), 15)]);
    assert_eq!(name(&core, day()), "blocked hourly 65");
    apply(&mut core, &[support("3", day(), 35)]);
    assert_eq!(name(&core, day()), "blocked daily 100");
    assert_eq!(name(&core, at("2026-11-22T00:00:00Z")), "allowed all");
    let other = dims(&[(Dimension::Namespace, "never-seen")]);
    assert!(matches!(core.check(&other, day()), Check::Allowed(Some(s)) if &*s.budget.id == "all"));
}

#[test]
fn usage_ahead_of_our_clock_blocks_when_its_window_begins() {
    let mut core = core_with_daily(100);
    let (before, midnight) = (at("2026-11-21T23:58:00Z"), at("2026-11-22T00:00:00Z"));
    apply(&mut core, &[support("1", at("2026-11-22T00:01:00Z"), 100).appended(before)]);
    assert_eq!(core.effects(before).decisions, []);
    assert_eq!(core.next_wakeup(), Some(midnight));
    assert_eq!(core.effects(midnight).decisions.len(), 1);
}

/// A daily budget of `support` with these limits.
fn limited(limits: &[(Measure, i128)]) -> usage_types::Budget {
    usage_types::Budget { limits: common::limits(limits), ..budget("daily", SUPPORT, &[], 1) }
}

fn named(effects: &budget_core::Effects) -> Vec<String> {
    let line = |d: &usage_types::Decision| format!("{:?} #{} {} {} of {}", d.state, d.seq, d.measure, d.used, d.limit);
    effects.decisions.iter().map(line).collect()
}

#[test]
fn of_several_limits_the_first_that_is_reached_blocks_and_is_named_for_as_long_as_it_is() {
    let usd = common::currency("USD");
    let three = [(Measure::Tokens, 100), (Measure::Cost(usd), 1_000), (Measure::Requests, 4)];
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [limited(&three)], day());
    let tightest = |core: &Core| match core.check(&dims(SUPPORT), day()) {
        Check::Allowed(standing) => standing.map(|s| (s.fill.limit.measure, s.fill.used)),
        Check::Blocked(standing) => Some((standing.fill.limit.measure, standing.fill.used)),
        other => panic!("nothing is estimated or reserved: {other:?}"),
    };
    let first = support("1", day(), 20).costing(500, usd);
    apply(&mut core, std::slice::from_ref(&first));
    assert_eq!(core.effects(day()).decisions, []);
    assert_eq!(tightest(&core), Some((Measure::Cost(usd), Amount(500))));
    apply(&mut core, &[support("2", day(), 20).costing(500, usd)]);
    assert_eq!(named(&core.effects(day())), ["Blocked #1 cost 0.000000001 of 0.000000001"]);
    // Tokens are over too, and fuller: the block is the same one.
    apply(&mut core, &[support("3", day(), 100)]);
    assert_eq!(named(&core.effects(day())), [""; 0]);
    assert_eq!(tightest(&core), Some((Measure::Tokens, Amount(140))));
    // The money comes back: the block goes on because of the tokens, and says so.
    let void = Record::new("v", day(), SUPPORT, 0).role(Role::Voids("1".into())).restating(day(), Some(&first));
    apply(&mut core, &[void]);
    assert_eq!(named(&core.effects(day())), ["Blocked #2 tokens 120 of 100"]);
    core.set_budgets(set([limited(&[(Measure::Tokens, 200), (Measure::ToolCalls, 1)])]), day());
    assert_eq!(named(&core.effects(day())), ["Allowed #3 tokens 120 of 200"]);
}

#[test]
fn images_are_counted_and_given_back() {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [limited(&[(Measure::Images, 3)])], day());
    let mut drawn = support("1", day(), 0);
    drawn.event.images = 3;
    apply(&mut core, std::slice::from_ref(&drawn));
    assert_eq!(named(&core.effects(day())), ["Blocked #1 images 3 of 3"]);
    let void = Record::new("v", day(), SUPPORT, 0).role(Role::Voids("1".into())).restating(day(), Some(&drawn));
    apply(&mut core, &[void]);
    assert_eq!(named(&core.effects(day())), ["Allowed #2 images 0 of 3"]);
}

#[test]
fn a_restart_goes_on_naming_the_limit_that_blocked() {
    let limits = [(Measure::Tokens, 100), (Measure::Requests, 2)];
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [limited(&limits)], day());
    let records = [support("1", day(), 10), support("2", day(), 10), support("3", day(), 900)];
    apply(&mut core, &records[..2]);
    let effects = core.effects(day());
    assert_eq!(named(&effects), ["Blocked #1 requests 2 of 2"]);
    apply(&mut core, &records[2..]);
    assert!(core.effects(day()).is_empty());
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [limited(&limits)], day());
    core.load_decisions(effects.decisions);
    core.load_alerts(effects.alerts);
    records.iter().for_each(|record| core.restore(&record.row(day())));
    assert_eq!(named(&core.effects(day())), [""; 0]);
}

#[test]
fn an_override_or_a_plan_takes_the_place_of_the_limit_and_changing_it_needs_no_history() {
    let entry = |whom, user: &str, tokens| SpecialLimit {
        whom,
        values: vec![Scope::new([(Dimension::User, user)])],
        limits: common::limits(&[(Measure::Tokens, tokens)]),
    };
    let with = |special: Vec<SpecialLimit>| usage_types::Budget {
        special: SpecialLimits::new(special),
        ..budget("users", SUPPORT, &[Dimension::User], 100)
    };
    let mut core = Core::new(CoreConfig::default());
    let plan = || Whom::Plan("enterprise".into());
    let first = with(vec![entry(Whom::Override, "a", 300), entry(plan(), "a", 500), entry(plan(), "b", 200)]);
    set_fresh(&mut core, [first], day());
    let user = |name: &'static str| dims(&[(Dimension::Namespace, "support"), (Dimension::User, name)]);
    let spend = |core: &mut Core, id: &str, tokens| {
        let record =
            |name: &str| Record::new(&format!("{id}{name}"), day(), &[SUPPORT[0], (Dimension::User, name)], tokens);
        apply(core, &[record("a"), record("b"), record("c")]);
        let line = |d: &usage_types::Decision| {
            format!("{:?} {} {}", d.state, d.scope.get(Dimension::User).unwrap_or(""), d.limit)
        };
        core.effects(day()).decisions.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(spend(&mut core, "1", 150), ["Blocked c 100"]);
    assert_eq!(spend(&mut core, "2", 100), ["Blocked b 200"]);
    let Check::Allowed(Some(standing)) = core.check(&user("a"), day()) else { panic!("`a` has an override") };
    assert_eq!((standing.fill.used, standing.fill.limit.amount), (Amount(250), Amount(300)));
    assert!(
        matches!(core.check(&user("b"), day()), Check::Blocked(standing) if standing.fill.limit.amount == Amount(200))
    );
    // Without the override `a` is of the plan; `c` gets an override.
    let second = with(vec![entry(Whom::Override, "c", 400), entry(plan(), "a", 240), entry(plan(), "b", 260)]);
    assert!(core.set_budgets(set([second]), day()).is_empty(), "no history is needed");
    assert_eq!(spend(&mut core, "3", 0), ["Blocked a 240", "Allowed b 260", "Allowed c 400"]);
}

fn last_known(core: &Core, dimensions: &Dimensions<'_>, now: TimeUs) -> Check {
    core.ask(&Question { dimensions, estimate: None, last_known: true }, now)
}

#[test]
fn a_decision_that_is_over_gets_one_tombstone_and_its_key_comes_back_above_its_last_number() {
    let mut core = core_with_daily(100);
    let mut told = Vec::new();
    let mut look = |core: &mut Core, now: TimeUs| {
        let effects = core.effects(now);
        told.extend(effects.decisions.iter().map(|d| format!("{:?} #{}", d.state, d.seq)));
        told.extend(effects.tombstones.iter().map(|key| format!("forgotten {key}")));
    };
    apply(&mut core, &[support("1", day(), 100)]);
    look(&mut core, day());
    // Allowed for the whole of the next day, then kept for an hour.
    look(&mut core, at("2026-11-22T00:00:00Z"));
    let over = at("2026-11-23T01:00:00Z");
    assert_eq!(core.next_wakeup(), Some(over));
    look(&mut core, over.plus_us(-1));
    assert_eq!(core.decisions().count(), 1);
    look(&mut core, over);
    look(&mut core, over);
    assert_eq!((core.decisions().count(), core.next_wakeup()), (0, None));
    apply(&mut core, &[support("2", over, 100), Record::new("3", over, &[(Dimension::Namespace, "other")], 100)]);
    look(&mut core, over);
    assert_eq!(told, ["Blocked #1", "Allowed #2", "forgotten daily|namespace=support", "Blocked #3"]);
}

#[test]
fn a_tombstone_that_failed_is_made_again_unless_its_key_has_come_back() {
    let (midnight, over) = (at("2026-11-22T00:00:00Z"), at("2026-11-23T01:00:00Z"));
    let mut core = core_with_daily(100);
    apply(&mut core, &[support("1", day(), 100)]);
    let [_, _, forgotten] = [day(), midnight, over].map(|now| core.effects(now));
    assert_eq!(forgotten.tombstones, ["daily|namespace=support"]);
    core.retract(&forgotten);
    assert_eq!(core.effects(over), forgotten);
    assert!(core.effects(over).is_empty());
    core.retract(&forgotten);
    apply(&mut core, &[support("2", over, 100)]);
    let back = core.effects(over);
    assert_eq!((told(&back).len(), back.tombstones.len()), (2 + 1, 0), "the block and its alerts: {back:?}");
    core.retract(&forgotten);
    assert!(core.effects(over).is_empty(), "the block is newer than the tombstone");
}

#[test]
fn numbers_go_on_above_those_that_a_restart_does_not_find() {
    let (midnight, over) = (at("2026-11-22T00:00:00Z"), at("2026-11-23T01:00:00Z"));
    let mut before = core_with_daily(100);
    apply(&mut before, &[support("1", day(), 100)]);
    let effects = [day(), midnight, over].map(|now| before.effects(now));
    let records: usize = effects.iter().map(|effects| effects.decisions.len() + effects.tombstones.len()).sum();
    let mut core = core_with_daily(100);
    core.load_decisions([]);
    core.load_decisions_end(records as u64);
    apply(&mut core, &[support("2", over, 100)]);
    assert_eq!(core.effects(over).decisions[0].seq, 4, "two decisions and a tombstone were before");

    // Stopped before the tombstone: the next start makes it, also of a budget that is gone.
    for budgets in [set([budget("daily", SUPPORT, &[], 100)]), set([])] {
        let mut core = Core::new(CoreConfig::default());
        core.set_budgets(budgets, over).iter().for_each(|request| core.finish_history(request));
        core.load_decisions(effects[1].decisions.clone());
        core.load_decisions_end(2);
        assert_eq!(core.effects(over), effects[2]);
    }
}

#[test]
fn a_number_above_what_the_log_has_taken_is_not_forgotten() {
    let (midnight, over) = (at("2026-11-22T00:00:00Z"), at("2026-11-23T01:00:00Z"));
    let mut core = core_with_daily(100);
    apply(&mut core, &[support("1", day(), 100)]);
    // The log is away: each attempt has a number, and none of them is a record.
    for _ in 0..5 {
        let effects = core.effects(day());
        core.retract(&effects);
    }
    let [blocked, allowed] = [day(), midnight].map(|now| core.effects(now).decisions.remove(0).seq);
    assert_eq!((blocked, allowed), (6, 7));
    assert!(core.effects(over).is_empty(), "the next start would find two records and begin below 7");
    assert_eq!(core.decisions().count(), 1);
}

#[test]
fn a_key_whose_forgetting_was_put_off_is_not_forgotten_while_it_blocks_again() {
    let (midnight, over) = (at("2026-11-22T00:00:00Z"), at("2026-11-23T01:00:00Z"));
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget("daily", SUPPORT, &[], 100), budget("users", &[], &[Dimension::User], 1)], day());
    apply(&mut core, &[support("1", day(), 100)]);
    for _ in 0..5 {
        let effects = core.effects(day());
        core.retract(&effects);
    }
    let seqs = [day(), midnight].map(|now| core.effects(now).decisions.remove(0).seq);
    assert_eq!((seqs, core.effects(over).tombstones.len()), ([6, 7], 0), "it is put off for an hour");
    // The log takes more than its number.
    let user = |user: u32| Record::new(&user.to_string(), over, &[(Dimension::User, &user.to_string())], 1);
    apply(&mut core, &(0..10).map(user).collect::<Vec<_>>());
    apply(&mut core, &[support("again", over, 100)]);
    assert_eq!(core.effects(over).decisions.len(), 11);
    let later = over.plus_us(TimeUs::HOUR);
    assert!(core.effects(later).is_empty());
    assert!(matches!(core.check(&dims(SUPPORT), later), Check::Blocked(_)));
    assert_eq!(core.decisions().filter(|decision| decision.budget == "daily").count(), 1);
}

#[test]
fn while_balances_are_behind_the_last_decision_blocks_until_its_window_ends() {
    let mut before = core_with_daily(100);
    apply(&mut before, &[support("1", day(), 120)]);
    let decided = before.effects(day()).decisions;
    assert_eq!(decided.len(), 1);

    // A restart that has read none of it yet: the decision is in the log, the balance is not.
    let mut core = core_with_daily(100);
    core.load_decisions(decided.clone());
    let (support, other) = (dims(SUPPORT), dims(&[(Dimension::Namespace, "other")]));
    assert!(matches!(core.check(&support, day()), Check::Allowed(Some(_))));
    let Check::Blocked(standing) = last_known(&core, &support, day()) else { panic!("it is blocked") };
    assert_eq!((standing.window, &*standing.budget.id), (decided[0].window, "daily"));
    assert_eq!(last_known(&core, &other, day()), Check::Allowed(None));
    assert!(matches!(last_known(&core, &support, at("2026-11-22T00:00:00Z")), Check::Allowed(Some(_))));

    // One that waits for its history has no say but by what it decided.
    let mut warming = Core::new(CoreConfig::default());
    assert_eq!(warming.set_budgets(set([budget("daily", SUPPORT, &[], 100)]), day()).len(), 1);
    assert_eq!(last_known(&warming, &support, day()), Check::Allowed(None));
    warming.load_decisions(decided);
    assert!(matches!(last_known(&warming, &support, day()), Check::Blocked(_)));
    assert_eq!(warming.check(&support, day()), Check::Allowed(None));

    // A budget that is gone blocks nobody.
    core.set_budgets(set([]), day());
    assert_eq!(last_known(&core, &support, day()), Check::Allowed(None));
}

#[test]
fn a_budget_that_moves_to_another_zone_counts_the_days_of_that_zone_from_its_history() {
    let mut core = core_with_daily(100);
    // 02:00 in Berlin on the 21st, which is the evening of the 20th in New York.
    let night = at("2026-11-21T01:00:00Z");
    let records = [support("1", night, 100), support("2", day(), 30)];
    apply(&mut core, &records);
    assert_eq!(core.effects(day()).decisions.len(), 1);
    let window = usage_types::WindowSpec::calendar(Every::Day, chrono_tz::America::New_York);
    let moved = usage_types::Budget { window, ..budget("daily", SUPPORT, &[], 100) };
    let request = core.set_budgets(set([moved]), day()).remove(0);
    assert!(request.from <= at("2026-11-20T05:00:00Z"), "from the first day that a late event may fall into");
    records.iter().for_each(|record| core.add_history(&request, &record.row(record.event.time)));
    core.finish_history(&request);
    assert_eq!(told(&core.effects(day()))[0], "Allowed daily|namespace=support #2 WITHIN_QUOTA 200 used 30 of 100");
}
