//! Predictions: who is warned and who is slowed before a cap falls, how fast they may go on, and when it is over.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

mod common;

use std::collections::{BTreeMap, HashMap};

use budget_core::{Core, CoreConfig, Effects, Question};
use common::{Record, apply, at, budget, set, set_fresh};
use usage_types::{
    Alert, Budget, Decision, DecisionState, Dimension, Dimensions, Mode, Predict, Predicted, Rate, Role, Span,
    Throttle, ThrottleReason, TimeUs,
};

const SECOND: i64 = TimeUs::SECOND;
const MINUTE: i64 = TimeUs::MINUTE;
const HOUR: i64 = TimeUs::HOUR;

fn noon() -> TimeUs {
    at("2026-11-21T12:00:00Z")
}

fn after(seconds: i64) -> TimeUs {
    noon().plus_us(seconds * SECOND)
}

/// A day's budget of tokens for each user, which warns 30 and slows 10 minutes before it is used up, by the burn of 5 minutes.
fn predicting(tokens: i128) -> Budget {
    let predict = Predict {
        over: Span::minutes(5),
        warn_us: Some(30 * MINUTE),
        slow_us: Some(10 * MINUTE),
        floor: Predict::FLOOR,
    };
    Budget { predict: Some(predict), ..budget("users", &[], &[Dimension::User], tokens) }
}

fn core(budget: Budget) -> Core {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, [budget], noon());
    core
}

fn request(user: &str, time: TimeUs, tokens: u64) -> Record {
    thread_local!(static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    let id = NEXT.replace(NEXT.get() + 1).to_string();
    Record::new(&id, time, &[(Dimension::User, user)], tokens)
}

fn user(user: &str) -> Dimensions<'static> {
    let mut dims = Dimensions::default();
    dims.set(Dimension::User, Some(user.to_owned().into()));
    dims
}

fn foreseen(effects: &Effects) -> Vec<&Alert> {
    effects.alerts.iter().filter(|alert| alert.predicted.is_some()).collect()
}

fn slowed_to(requests: u64, per_s: u64) -> Option<Throttle> {
    Some(Throttle::paced(ThrottleReason::PredictedOverspend, Rate { requests, per_s }))
}

/// Every ten seconds a request of so many tokens, from one second to another one. All that was said meanwhile.
fn steady(core: &mut Core, from: i64, to: i64, tokens: u64) -> Vec<Effects> {
    let mut said = Vec::new();
    for second in (from..to).step_by(10) {
        apply(core, &[request("a", after(second), tokens)]);
        said.push(core.effects(after(second)));
    }
    said.into_iter().filter(|effects| !effects.is_empty()).collect()
}

#[test]
fn whoever_will_have_used_up_a_cap_soon_is_told_once_in_a_window_with_when_and_at_which_burn() {
    // 100 tokens a second: the day's 300,000 are used up 50 minutes after noon, by what was used in five minutes 30 minutes before.
    let mut core = core(predicting(300_000));
    let said = steady(&mut core, 0, 1_300, 1_000);
    let alerts: Vec<&Alert> = said.iter().flat_map(|effects| foreseen(effects)).collect();
    let [alert] = alerts.as_slice() else { panic!("{said:?}") };
    assert_eq!(alert.id, "users|user=a|day|2026-11-21T00:00:00Z|predicted");
    assert_eq!(alert.predicted, Some(Predicted { over_s: 300, within_s: 1_800 }));
    // Five minutes and a sixtieth of them hold 31 requests at most.
    let burn: u64 = alert.burn_per_hour.parse().unwrap();
    assert!((360_000..=372_000).contains(&burn), "{burn}");
    assert!((after(1_100)..=after(1_200)).contains(&alert.raised_at), "{alert:?}");
    let left_us = alert.exhausted_at.unwrap().0 - alert.raised_at.0;
    assert!((29 * MINUTE..=30 * MINUTE).contains(&left_us), "{left_us}");
    assert_eq!((alert.threshold.as_str(), alert.mode.as_str()), ("0.38", "hard"));
    assert_eq!(alert.to, ["lead@example.com"]);

    // A restart that knows the alert does not tell it again; the next day may.
    let alert = (*alert).clone();
    let mut again = Core::new(CoreConfig::default());
    for request in again.set_budgets(set([predicting(300_000)]), after(1_300)) {
        again.finish_history(&request);
    }
    again.load_alerts([alert]);
    assert!(steady(&mut again, 1_300, 2_600, 1_000).iter().all(|said| foreseen(said).is_empty()));
    let said = steady(&mut again, 86_400, 86_400 + 1_300, 1_000);
    assert_eq!(said.iter().flat_map(|effects| foreseen(effects)).count(), 1);
}

#[test]
fn who_burns_too_fast_is_slowed_to_what_lasts_and_is_not_told_another_rate_with_each_request() {
    let mut core = core(predicting(300_000));
    let said = steady(&mut core, 0, 2_500, 1_000);
    let mut decisions: Vec<Decision> = said.into_iter().flat_map(|effects| effects.decisions).collect();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    let slowed = decisions.remove(0);
    // 60,000 tokens are left for 11 hours and 20 minutes: of 6 requests a minute one and a half an hour. The floor is one a minute.
    assert_eq!((slowed.throttle.clone(), slowed.state), (slowed_to(1, 60), DecisionState::Allowed));
    assert!((after(2_340)..=after(2_400)).contains(&slowed.decided_at), "{slowed:?}");
    assert_eq!((slowed.expires_at, slowed.seq), (at("2026-11-22T00:00:00Z"), 1));
    let dims = user("a");
    let question = Question { dimensions: &dims, estimate: None, last_known: false };
    let passed = (2_500..2_800).filter(|second| core.admit(&question, after(*second)).is_allowed()).count();
    assert_eq!(passed, 5, "in five minutes");
    let refused = core.admit(&question, after(2_799)).throttled.unwrap();
    assert_eq!(
        (refused.throttle.reason_code, refused.retry_at),
        (ThrottleReason::PredictedOverspend, Some(after(2_800)))
    );
    assert_eq!(refused.fill.limit.amount.0, 300_000);
}

#[test]
fn a_throttle_is_over_when_the_scope_uses_less_than_half_of_it_though_nothing_comes() {
    let mut core = core(predicting(300_000));
    steady(&mut core, 0, 2_500, 1_000);
    assert_eq!(core.stats().throttled, 1);
    // As many as it may: it may want more, so nothing changes for as long as it goes on.
    for minute in 1..60 {
        apply(&mut core, &[request("a", after(2_500 + minute * 60), 100)]);
        assert!(core.effects(after(2_500 + minute * 60)).decisions.is_empty(), "{minute}");
    }
    let last = after(2_500 + 59 * 60);
    let (mut now, mut over) = (last, None);
    while let Some(wakeup) = core.next_wakeup().filter(|_| over.is_none()) {
        now = wakeup;
        over = core.effects(now).decisions.pop();
    }
    let over = over.unwrap();
    assert_eq!((over.throttle, over.reason_code.to_string().as_str(), over.seq), (None, "WITHIN_QUOTA", 2));
    assert!(now > last && now.0 - last.0 <= 5 * MINUTE, "{now}");
    assert_eq!(core.stats().throttled, 0);
}

#[test]
fn the_modes_hold_for_throttles_as_for_blocks() {
    for (mode, outcome) in [(Mode::Hard, Some("throttled")), (Mode::Shadow, Some("would_throttle")), (Mode::Soft, None)]
    {
        let mut core = core(Budget { mode, ..predicting(300_000) });
        let said = steady(&mut core, 0, 2_500, 1_000);
        assert_eq!(said.iter().flat_map(|effects| foreseen(effects)).count(), 1, "{mode:?}");
        let decisions: Vec<&Decision> = said.iter().flat_map(|effects| &effects.decisions).collect();
        assert_eq!(decisions.first().map(|decision| decision.outcome()), outcome);
        assert!(decisions.iter().all(|decision| decision.state == DecisionState::Allowed));
        let dims = user("a");
        let question = Question { dimensions: &dims, estimate: None, last_known: false };
        let told: Vec<(bool, bool)> = (0..2)
            .map(|_| core.admit(&question, after(2_500)))
            .map(|admission| (admission.is_allowed(), admission.would_throttle.is_some()))
            .collect();
        let expected = match mode {
            Mode::Hard => [(true, false), (false, false)],
            Mode::Shadow => [(true, false), (true, true)],
            _ => [(true, false); 2],
        };
        assert_eq!(told, expected, "{mode:?}");
    }
}

#[test]
fn a_cap_that_falls_blocks_whoever_was_slowed_and_a_change_of_the_budget_takes_the_throttle_back() {
    let mut core = core(predicting(300_000));
    let states: Vec<String> = steady(&mut core, 0, 3_100, 1_000)
        .into_iter()
        .flat_map(|effects| effects.decisions)
        .map(|decision| decision.outcome().to_owned())
        .collect();
    assert_eq!(states, ["throttled", "blocked"]);

    let mut core = slowed_core();
    set_fresh(&mut core, [Budget { predict: None, ..predicting(300_000) }], after(2_500));
    let said = core.effects(after(2_500)).decisions;
    assert_eq!((said.len(), said[0].throttle.clone(), said[0].state), (1, None, DecisionState::Allowed));
}

/// One whose user is slowed.
fn slowed_core() -> Core {
    let mut core = core(predicting(300_000));
    steady(&mut core, 0, 2_500, 1_000);
    core
}

/// What a reader of the rules would compute from the list of a scope's requests: at which rate it is slowed.
fn expected(budget: &Budget, rows: &[Record], said: Option<Rate>, now: TimeUs) -> Option<Rate> {
    let predict = budget.predict.unwrap();
    let (over_us, limit) = (predict.over.us(), budget.limits.first().amount.0);
    let width = over_us / 60;
    let sum = |counts: &dyn Fn(TimeUs) -> bool, amount: &dyn Fn(&Record) -> u64| -> i128 {
        rows.iter().filter(|row| counts(row.event.time)).map(|row| i128::from(amount(row))).sum()
    };
    let day = |time: TimeUs| time.0.div_euclid(24 * HOUR);
    let is_today = |time: TimeUs| day(time) == day(now);
    let is_recent = |time: TimeUs| time.0.div_euclid(width) >= now.0.div_euclid(width) - 60;
    let tokens = |row: &Record| row.event.tokens.total();
    let (used, burn) = (sum(&is_today, &tokens), sum(&is_recent, &tokens));
    let requests = sum(&is_recent, &|row| row.event.requests);
    if !rows.iter().any(|row| is_today(row.event.time)) || used >= limit || burn <= 0 {
        return None;
    }
    let rest_us = i128::from((day(now) + 1) * 24 * HOUR - now.0);
    let left_us = (limit - used) * i128::from(over_us) / burn;
    let is_near = left_us <= i128::from(predict.slow_us.unwrap()) && left_us < rest_us;
    let now_per_hour = requests.max(1) * i128::from(HOUR) / i128::from(over_us);
    let may_per_hour = now_per_hour * left_us / rest_us;
    let hourly = |rate: Rate| i128::from(rate.requests) * 3600 / i128::from(rate.per_s);
    let plain = [1, 2, 5].into_iter().flat_map(|digit| (0..9).map(move |zeros| digit * 10_i128.pow(zeros)));
    let of_minute = plain.clone().filter(|count| may_per_hour >= count * 60).max();
    let of_hour = plain.filter(|count| may_per_hour >= *count).max();
    let rate = |count: i128, per_s| Rate { requests: u64::try_from(count).unwrap(), per_s };
    let fresh = of_minute.map(|count| rate(count, 60)).or(of_hour.map(|count| rate(count, 3600)));
    let fresh = fresh.filter(|fresh| hourly(*fresh) >= hourly(predict.floor)).unwrap_or(predict.floor);
    let is_good = |said: &Rate| {
        let said_per_hour = hourly(*said);
        (said_per_hour * 4 <= may_per_hour * 5 || *said == predict.floor) && said_per_hour * 4 >= may_per_hour
    };
    let rate = said.filter(is_good).unwrap_or(fresh);
    let uses_half =
        requests * i128::from(rate.per_s) * i128::from(SECOND) * 2 >= i128::from(rate.requests) * i128::from(over_us);
    (is_near || (said.is_some() && uses_half)).then_some(rate)
}

/// Random loads, with what is voided again, and restarts: who is slowed, and to what, is what the rules say of the rows and of what was said before.
#[test]
fn random_loads_are_slowed_as_the_rules_say_also_after_restarts() {
    let mut outcomes: HashMap<&str, usize> = HashMap::new();
    for seed in 0..60 {
        let mut seed: u64 = 77 + seed;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let floor = [Predict::FLOOR, Rate { requests: 3, per_s: 3_600 }][random(2) as usize];
        let predict =
            Predict { floor, slow_us: Some((1 + random(60) as i64) * MINUTE), ..predicting(1).predict.unwrap() };
        let budget = Budget { predict: Some(predict), ..predicting(2_000 + i128::from(random(200_000))) };
        let mut core = core(budget.clone());
        let mut rows: BTreeMap<&str, Vec<Record>> = BTreeMap::new();
        let (mut topic, mut alerts): (BTreeMap<String, Decision>, Vec<Alert>) = (BTreeMap::new(), Vec::new());
        let (mut now, mut pace) = (noon().plus_us(random(11 * 3_600) as i64 * SECOND), 10);
        for _ in 0..150 {
            pace = if random(10) == 0 { [2, 20, 90, 600][random(4) as usize] } else { pace };
            now = now.plus_us(random(pace * 1_000) as i64 * 1_000);
            // Each scope is looked at in each step.
            for name in ["a", "b"] {
                let mut record = request(name, now, random(2) * random(400));
                record.event.requests = random(3);
                let known = rows.entry(name).or_default();
                if random(12) == 0 && !known.is_empty() {
                    let gone = known.remove(random(known.len() as u64) as usize);
                    let id = gone.event.id.clone().unwrap();
                    let void = request(name, now, 0).role(Role::Voids(id)).restating(gone.event.time, Some(&gone));
                    apply(&mut core, &[void]);
                }
                known.push(record.clone());
                apply(&mut core, &[record]);
            }
            let effects = core.effects(now);
            assert!(core.effects(now).is_empty(), "looking again changes nothing");
            let before = topic.clone();
            topic.extend(effects.decisions.into_iter().map(|decision| (decision.key(), decision)));
            alerts.extend(effects.alerts);
            for (name, rows) in &rows {
                let key = format!("users|user={name}");
                let is_today = |decision: &&Decision| decision.window.contains(now);
                let said =
                    before.get(&key).filter(is_today).and_then(|said| said.throttle.as_ref().map(Throttle::rate));
                let told = topic.get(&key).filter(is_today);
                let used: i128 = rows.iter().map(|row| i128::from(row.event.tokens.total())).sum();
                if used >= budget.limits.first().amount.0 && now < at("2026-11-22T00:00:00Z") {
                    assert_eq!(told.map(|told| told.state), Some(DecisionState::Blocked));
                    continue;
                }
                let rate = expected(&budget, rows, said, now);
                assert_eq!(
                    told.and_then(|told| told.throttle.as_ref()).map(Throttle::rate),
                    rate,
                    "{name} at {now}: {said:?}"
                );
                let outcome = match (said, rate) {
                    (None, Some(_)) => "slowed",
                    (Some(said), Some(rate)) if said == rate => "kept",
                    (Some(_), Some(_)) => "changed",
                    (Some(_), None) => "released",
                    (None, None) => "free",
                };
                *outcomes.entry(outcome).or_default() += 1;
            }
            if random(20) == 0 {
                let mut again = Core::new(CoreConfig::default());
                let requests = again.set_budgets(set([budget.clone()]), now);
                again.load_decisions(topic.values().cloned());
                again.load_alerts(alerts.clone());
                rows.values().flatten().for_each(|row| again.restore(&row.row(row.event.time)));
                requests.iter().for_each(|request| again.finish_history(request));
                assert_eq!(again.effects(now), Effects::default(), "a restart finds the same");
                core = again;
            }
        }
        let mut ids: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "an alert is told once");
    }
    for outcome in ["free", "slowed", "kept", "changed", "released"] {
        assert!(outcomes.get(outcome).is_some_and(|count| *count > 5), "{outcome}: {outcomes:?}");
    }
}
