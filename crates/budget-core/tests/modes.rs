//! What a budget does in each of its modes.

mod common;

use budget_core::{Check, Core, CoreConfig, DECISIONS_KEPT_US, Effects, Restraint};
use common::{Record, apply, at, budget, set, set_fresh, told};
use usage_types::{
    Amount, Bounds, Budget, Decision, DecisionState, Dimension, Dimensions, Limit, Measure, Mode, Ppm, Rollback, Span,
    TimeUs, WindowSpec, WouldBlock,
};

const SUPPORT: &[(Dimension, &str)] = &[(Dimension::Namespace, "support")];

fn day() -> TimeUs {
    at("2026-11-21T10:00:00Z")
}

fn support(id: &str, tokens: u64) -> Record {
    Record::new(id, day(), SUPPORT, tokens)
}

fn in_support() -> Dimensions<'static> {
    let mut dims = Dimensions::default();
    dims.set(Dimension::Namespace, Some("support".into()));
    dims
}

fn shadow(id: &str, tokens: i128) -> Budget {
    Budget { mode: Mode::Shadow, ..budget(id, SUPPORT, &[], tokens) }
}

/// The states of the decisions, with what would block.
fn decided(effects: &Effects) -> Vec<(DecisionState, u16, Option<u16>)> {
    let of = |would_block: WouldBlock| would_block.http_status;
    effects.decisions.iter().map(|d| (d.state, d.http_status, d.would_block.map(of))).collect()
}

#[test]
fn a_shadow_budget_says_what_it_would_block_and_blocks_nobody() {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [shadow("trial", 100)], day());
    apply(&mut core, &[support("1", 100)]);
    let effects = core.effects(day());
    assert_eq!(decided(&effects), [(DecisionState::Allowed, 200, Some(403))]);
    assert_eq!(effects.decisions[0].would_block.unwrap().reason_code.to_string(), "NAMESPACE_QUOTA_EXCEEDED");
    let modes: Vec<&str> = effects.alerts.iter().map(|alert| alert.mode.as_str()).collect();
    assert_eq!(modes, ["shadow", "shadow"], "its alerts are raised, and say that nothing is blocked");
    assert_eq!((core.stats().blocked, core.stats().would_block), (0, 1));
    let Check::WouldBlock { by: Restraint::Budget(by), tightest: None } = core.check(&in_support(), day()) else {
        panic!("it would block")
    };
    assert_eq!((&*by.budget.id, by.fill.used.0), ("trial", 100));
    apply(&mut core, &[support("2", 1)]);
    assert!(core.effects(day()).is_empty(), "what would block is not said twice");

    // The same over a restart.
    let mut again = Core::new(CoreConfig::default());
    let requests = again.set_budgets(set([shadow("trial", 100)]), day());
    again.load_decisions(effects.decisions.clone());
    again.load_alerts(effects.alerts.clone());
    again.restore(&support("1", 100).row(day()));
    requests.iter().for_each(|request| again.finish_history(request));
    assert!(again.effects(day()).is_empty());

    let midnight = at("2026-11-22T00:00:00Z");
    assert_eq!(core.next_wakeup(), Some(midnight));
    let effects = core.effects(midnight);
    assert_eq!(told(&effects), ["Allowed trial|namespace=support #2 WITHIN_QUOTA 200 used 0 of 100"]);
    assert_eq!((effects.decisions[0].would_block, core.stats().would_block), (None, 0));
    assert!(core.effects(midnight).is_empty());
}

#[test]
fn a_budget_that_changes_between_hard_shadow_and_soft_is_decided_anew() {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [shadow("b", 100)], day());
    apply(&mut core, &[support("1", 100)]);
    let mut said = vec![decided(&core.effects(day()))];
    for mode in [Mode::Hard, Mode::Shadow, Mode::Soft] {
        core.set_budgets(set([Budget { mode, ..shadow("b", 100) }]), day());
        said.push(decided(&core.effects(day())));
        assert!(core.effects(day()).is_empty(), "{mode:?} is said once");
    }
    use DecisionState::{Allowed, Blocked};
    assert_eq!(
        said,
        [[(Allowed, 200, Some(403))], [(Blocked, 403, None)], [(Allowed, 200, Some(403))], [(Allowed, 200, None)]]
    );
}

#[test]
fn a_check_names_the_hard_budget_that_blocks_before_one_in_shadow() {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [shadow("trial", 50), budget("cap", SUPPORT, &[], 100)], day());
    apply(&mut core, &[support("1", 60)]);
    let Check::WouldBlock { by: Restraint::Budget(by), tightest } = core.check(&in_support(), day()) else {
        panic!("60 of 100 are used")
    };
    assert_eq!((&*by.budget.id, &*tightest.unwrap().budget.id), ("trial", "cap"));
    apply(&mut core, &[support("2", 40)]);
    assert!(matches!(core.check(&in_support(), day()), Check::Blocked(standing) if &*standing.budget.id == "cap"));
}

/// A hundred tokens a day for each user, for a share of them.
fn canary(share: u32, rollback: Option<Rollback>) -> Budget {
    Budget { mode: Mode::Canary(Ppm(share)), rollback, ..budget("users", &[], &[Dimension::User], 100) }
}

fn by_user(user: u32, tokens: u64) -> Record {
    Record::new(&format!("{user} {tokens}"), day(), &[(Dimension::User, &user.to_string())], tokens)
}

fn users(core: &Core, state: DecisionState) -> Vec<String> {
    let of = |decision: &Decision| decision.scope.get(Dimension::User).map(str::to_owned);
    core.decisions().filter(|decision| decision.state == state).filter_map(of).collect()
}

#[test]
fn a_canary_blocks_a_stable_share_of_its_scopes_and_a_larger_share_only_adds_some() {
    use DecisionState::{Allowed, Blocked};
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [canary(100_000, None)], day());
    let records: Vec<Record> = (0..500).map(|user| by_user(user, 100)).collect();
    apply(&mut core, &records);
    let effects = core.effects(day());
    assert_eq!(effects.decisions.len(), 500);
    assert!(effects.decisions.iter().all(|d| d.is_reached()), "all are over: some are blocked, the others would be");
    let few = users(&core, Blocked);
    assert!((20..100).contains(&few.len()), "{}", few.len());
    for (state, is_blocked) in [(Blocked, true), (Allowed, false)] {
        for user in users(&core, state) {
            let mut dims = Dimensions::default();
            dims.set(Dimension::User, Some(user.into()));
            assert_eq!(matches!(core.check(&dims, day()), Check::Blocked(_)), is_blocked);
        }
    }
    let modes = |mode: &str| effects.alerts.iter().filter(|alert| alert.mode == mode && alert.threshold == "1").count();
    assert_eq!((modes("hard"), modes("shadow")), (few.len(), 500 - few.len()), "alerts say what holds for the scope");

    core.set_budgets(set([canary(300_000, None)]), day());
    let changed = core.effects(day()).decisions;
    assert!(changed.iter().all(|decision| decision.state == Blocked), "nobody is let go");
    let more = users(&core, Blocked);
    assert_eq!(more.len(), few.len() + changed.len());
    assert!(few.iter().all(|user| more.contains(user)));
    core.set_budgets(set([canary(1_000_000, None)]), day());
    core.effects(day());
    assert_eq!(users(&core, Blocked).len(), 500);
}

#[test]
fn a_budget_that_blocks_too_many_scopes_goes_on_in_shadow_until_it_is_changed() {
    let rollback = Some(Rollback { blocked_over: Ppm(200_000), at_least: 20 });
    let hard = || Budget { mode: Mode::Hard, ..canary(1_000_000, rollback) };
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hard()], day());
    let mut all: Vec<Record> = (0..4).map(|user| by_user(user, 100)).collect();
    all.extend((4..20).map(|user| by_user(user, 10)));
    apply(&mut core, &all);
    let mut log: std::collections::BTreeMap<String, Decision> = std::collections::BTreeMap::new();
    let mut publish = |effects: Effects| -> Vec<String> {
        log.extend(effects.decisions.iter().map(|d| (d.key(), d.clone())));
        let is_block = |d: &Decision| d.state == DecisionState::Blocked;
        let what = |d: &Decision| format!("{} {}", if is_block(d) { "blocks" } else { "allows" }, d.key());
        effects.decisions.iter().map(what).collect()
    };
    let blocks = ["blocks users|user=0", "blocks users|user=1", "blocks users|user=2", "blocks users|user=3"];
    assert_eq!(publish(core.effects(day())), blocks, "4 of 20 are not more than 20 %");

    // The fifth is one too many: it is not blocked at all, and the others are let go.
    apply(&mut core, &[by_user(4, 90)]);
    all.push(by_user(4, 90));
    let effects = core.effects(day());
    let record = effects.decisions.iter().find(|d| d.key() == "users|*").unwrap();
    let rolled_back = record.rolled_back.as_ref().unwrap();
    assert_eq!((rolled_back.blocked, rolled_back.scopes), (5, 20));
    assert_eq!((record.state, record.http_status), (DecisionState::Allowed, 200));
    let said = publish(effects.clone());
    assert_eq!((said.len(), said[0].as_str(), said[5].as_str()), (6, "allows users|*", "allows users|user=4"));
    assert_eq!((core.stats().rolled_back, core.stats().would_block, core.stats().blocked), (1, 5, 0));
    assert!(core.effects(day()).is_empty());

    // It was not published: that is made up for.
    core.retract(&effects);
    assert_eq!(publish(core.effects(day())).len(), 6);

    // It stands over a restart and over midnight, and who changes only its alerts has not changed it.
    let restarted = |budget: Budget, log: Vec<Decision>| {
        let mut core = Core::new(CoreConfig::default());
        let requests = core.set_budgets(set([budget]), day());
        core.load_decisions(log);
        all.iter().for_each(|record| core.restore(&record.row(day())));
        requests.iter().for_each(|request| core.finish_history(request));
        core
    };
    let on_topic: Vec<Decision> = log.values().cloned().collect();
    let mut again = restarted(hard(), on_topic.clone());
    assert_eq!(again.effects(day()).decisions, []);
    let silent = Budget { alerts: usage_types::AlertRule { at: vec![], to: vec![] }, http_status: 429, ..hard() };
    again.set_budgets(set([silent]), day());
    assert!(again.effects(day()).decisions.iter().all(|d| d.state == DecisionState::Allowed));
    let tomorrow = day().plus_us(TimeUs::DAY);
    apply(&mut again, &[Record::new("t", tomorrow, &[(Dimension::User, "7")], 100)]);
    let decisions = again.effects(tomorrow).decisions;
    assert!(
        decisions.iter().all(|d| d.state == DecisionState::Allowed)
            && decisions.iter().any(|d| d.would_block.is_some())
    );

    // A crash before it was published finds the same by the balances.
    let mut lost = restarted(hard(), Vec::new());
    lost.effects(day());
    assert_eq!((lost.stats().rolled_back, lost.stats().blocked), (1, 0));

    // Changed, it blocks again, also where it was changed while nothing ran; the record is withdrawn.
    let raised = || Budget { rollback: Some(Rollback { blocked_over: Ppm(500_000), at_least: 20 }), ..hard() };
    core.set_budgets(set([raised()]), day());
    let mut cold = restarted(raised(), on_topic);
    for core in [&mut core, &mut cold] {
        let decisions = core.effects(day()).decisions;
        let withdrawn = decisions.iter().find(|d| d.key() == "users|*").unwrap();
        assert_eq!((withdrawn.rolled_back.as_ref(), withdrawn.state), (None, DecisionState::Allowed));
        assert_eq!((core.stats().rolled_back, core.stats().blocked, core.stats().would_block), (0, 5, 0));
    }
}

#[test]
fn an_overage_is_let_through_before_the_limit_blocks_and_alerts_stay_at_the_limit() {
    let limits = Budget {
        limits: common::limits(&[(Measure::Tokens, 100), (Measure::Requests, 5)]),
        ..budget("b", SUPPORT, &[], 1)
    };
    let with = |limit: Limit| match limit.measure {
        Measure::Tokens => Limit { overage: Amount(50), ..limit },
        _ => limit,
    };
    let budget = || Budget { limits: limits.limits.with(with), ..limits.clone() };
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget()], day());
    apply(&mut core, &[support("1", 120)]);
    let effects = core.effects(day());
    let said: Vec<_> =
        effects.alerts.iter().map(|a| (a.threshold.as_str(), a.overage.as_deref(), a.limit.as_str())).collect();
    assert_eq!((effects.decisions.len(), said), (0, vec![("0.8", Some("50"), "100"), ("1", Some("50"), "100")]));
    let Check::Allowed(Some(standing)) = core.check(&in_support(), day()) else { panic!("30 are left") };
    assert_eq!((standing.fill.used, standing.fill.limit.overage), (Amount(120), Amount(50)));
    apply(&mut core, &[support("2", 30)]);
    let decision = core.effects(day()).decisions.remove(0);
    let said = (decision.used.as_str(), decision.limit.as_str(), decision.overage.as_deref());
    assert_eq!((decision.state, said), (DecisionState::Blocked, ("150", "100", Some("50"))));

    // Another limit without overage blocks on its own, though a larger share of the first is used.
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget()], day());
    let many: Vec<Record> = (0..5).map(|at| support(&format!("{at}"), 28)).collect();
    apply(&mut core, &many);
    let decision = core.effects(day()).decisions.remove(0);
    assert_eq!((decision.measure.as_str(), decision.used.as_str(), decision.overage), ("requests", "5", None));
    assert!(
        matches!(core.check(&in_support(), day()), Check::Blocked(by) if by.fill.limit.measure == Measure::Requests)
    );

    // Less overage blocks, more lets go.
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget()], day());
    apply(&mut core, &[support("1", 120)]);
    core.effects(day());
    core.set_budgets(set([limits.clone()]), day());
    assert_eq!(decided(&core.effects(day())), [(DecisionState::Blocked, 403, None)]);
    core.set_budgets(set([budget()]), day());
    assert_eq!(decided(&core.effects(day())), [(DecisionState::Allowed, 200, None)]);
}

/// The last hour, in buckets of a minute.
fn last_hour(budget: Budget) -> Budget {
    Budget { window: WindowSpec::rolling(Span::minutes(60), common::UTC), http_status: 429, ..budget }
}

fn after(minutes: i64) -> TimeUs {
    day().plus_us(minutes * TimeUs::MINUTE)
}

#[test]
fn a_budget_in_shadow_over_a_rolling_window_says_until_when_it_would_block_and_when_it_would_not_any_more() {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [last_hour(shadow("trial", 100))], day());
    apply(&mut core, &[support("1", 100)]);
    let said = |core: &mut Core, now: TimeUs| -> Vec<(bool, TimeUs)> {
        core.effects(now).decisions.iter().map(|d| (d.would_block.is_some(), d.expires_at)).collect()
    };
    assert_eq!(said(&mut core, after(1)), [(true, after(61))]);
    assert!(matches!(core.check(&in_support(), after(60)), Check::WouldBlock { .. }));
    let later = Record::new("2", after(5), SUPPORT, 100);
    apply(&mut core, &[later]);
    assert_eq!(said(&mut core, after(5)), [(true, after(66))], "what is spent meanwhile puts the end off");
    assert_eq!(core.next_wakeup(), Some(after(66)));
    assert_eq!(said(&mut core, after(66)).iter().map(|said| said.0).collect::<Vec<_>>(), [false]);
    assert!(core.check(&in_support(), after(66)).is_allowed());
    assert_eq!((core.stats().blocked, core.stats().would_block), (0, 0));
}

#[test]
fn a_rollback_counts_who_has_used_something_in_a_window_that_moves() {
    let rollback = Some(Rollback { blocked_over: Ppm(400_000), at_least: 3 });
    let lifetime =
        WindowSpec { bounds: Bounds::Lifetime { of: Dimension::User, idle: Span::minutes(60) }, zone: common::UTC };
    for window in [last_hour(canary(1_000_000, None)).window, lifetime] {
        let budget = Budget { mode: Mode::Hard, window, ..canary(1_000_000, rollback) };
        let mut core = Core::new(CoreConfig::default());
        set_fresh(&mut core, [budget], day());
        let by = |user: u32, minute: i64, tokens: u64| {
            let dims = [(Dimension::User, &*user.to_string())];
            Record::new(&format!("{user} {minute}"), after(minute), &dims, tokens)
        };
        // Two of five are blocked, each by what two of its buckets hold: that is not more than 40 %.
        let mut records: Vec<Record> = (0..2).flat_map(|user| [by(user, 0, 50), by(user, 30, 50)]).collect();
        records.extend((2..4).map(|user| by(user, 30, 1)));
        records.push(by(4, 0, 1));
        apply(&mut core, &records);
        core.effects(after(30));
        assert_eq!((core.stats().blocked, core.stats().rolled_back), (2, 0));
        core.effects(after(60));
        assert_eq!((core.stats().blocked, core.stats().rolled_back), (2, 0));
        // The fifth has used nothing any more when its one bucket is gone, so it is two of four. In a rolling window the first buckets of those
        // two are gone as well, and they are not blocked any more.
        core.effects(after(65));
        let is_lifetime = window == lifetime;
        assert_eq!(core.stats().rolled_back, usize::from(is_lifetime), "{window}");
        assert_eq!((core.stats().blocked, core.stats().would_block), (0, if is_lifetime { 2 } else { 0 }));
        // Of four that are left three are blocked by what comes.
        apply(&mut core, &[by(0, 66, 60), by(1, 66, 60), by(2, 66, 200)]);
        core.effects(after(66));
        assert_eq!((core.stats().rolled_back, core.stats().blocked, core.stats().would_block), (1, 0, 3));
    }
}

#[test]
fn that_a_budget_has_rolled_back_is_never_forgotten_and_gets_a_tombstone_when_it_is_withdrawn() {
    let rollback = Some(Rollback { blocked_over: Ppm(400_000), at_least: 1 });
    let hard = || Budget { mode: Mode::Hard, ..canary(1_000_000, rollback) };
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [hard()], day());
    apply(&mut core, &[by_user(1, 100)]);
    let record = core.effects(day()).decisions.into_iter().find(|d| d.key() == "users|*").unwrap();
    assert_eq!(record.expires_at, at("9999-01-01T00:00:00Z"));

    let year = day().plus_us(400 * TimeUs::DAY);
    let forgotten = |core: &mut Core, now: TimeUs| {
        let mut tombstones = core.effects(now).tombstones;
        tombstones.extend(core.effects(now.plus_us(TimeUs::DAY + DECISIONS_KEPT_US)).tombstones);
        tombstones
    };
    assert_eq!(forgotten(&mut core, year), ["users|user=1"], "only what ends by itself");
    assert_eq!(core.stats().rolled_back, 1);
    // A start finds it on the topic, however long ago that was.
    let mut again = Core::new(CoreConfig::default());
    set_fresh(&mut again, [hard()], year);
    again.load_decisions([record]);
    again.load_decisions_end(10);
    assert_eq!((forgotten(&mut again, year), again.stats().rolled_back), (Vec::new(), 1));

    for core in [&mut core, &mut again] {
        let later = year.plus_us(2 * TimeUs::DAY);
        core.set_budgets(set([Budget { rollback: None, ..hard() }]), later);
        let withdrawn = core.effects(later).decisions;
        let said: Vec<_> = withdrawn.iter().map(|d| (d.key(), d.rolled_back.is_some(), d.expires_at)).collect();
        assert_eq!(said, [("users|*".to_owned(), false, later)]);
        assert_eq!(forgotten(core, later), ["users|*"]);
        assert_eq!((core.stats().rolled_back, core.decisions().count()), (0, 0));
    }
}
