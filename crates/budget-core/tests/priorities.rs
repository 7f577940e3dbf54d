//! Priorities: who is slowed when a budget that several share is nearly used up, to what, and when it is over.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use budget_core::{Core, CoreConfig, Effects, Question};
use common::{Record, apply, at, budget, set, set_fresh};
use usage_types::{
    Budget, Decision, DecisionState, Dimension, Dimensions, Mode, Ppm, Pressure, PressureStep, Priority, Rate, Role,
    Scope, Throttle, ThrottleReason, TimeUs, WindowSpec, decision_key,
};

const HOUR: i64 = TimeUs::HOUR;

fn noon() -> TimeUs {
    at("2026-11-21T12:00:00Z")
}

fn step(at: u32, requests: u64) -> Option<PressureStep> {
    Some(PressureStep { at: Ppm(at), rate: Rate { requests, per_s: 60 } })
}

/// 1,000 tokens a day that all of acme share: low priority is slowed from 80 % on, normal from 90 %.
fn shared() -> Budget {
    let pressure = Some(Pressure { low: step(800_000, 6), normal: step(900_000, 60) });
    Budget { pressure, ..budget("acme", &[(Dimension::Namespace, "acme")], &[], 1_000) }
}

/// Each team's own, which is never reached.
fn teams(id: &str, matches: &[(Dimension, &str)], per: &[Dimension], priority: Priority) -> Budget {
    Budget { priority, ..budget(id, matches, per, 1_000_000) }
}

fn all() -> [Budget; 4] {
    let team = |name: &'static str| [(Dimension::Namespace, "acme"), (Dimension::Team, name)];
    [
        shared(),
        teams("batch", &team("batch"), &[], Priority::Low),
        teams("users", &[], &[Dimension::Namespace, Dimension::User], Priority::Normal),
        teams("sales", &team("sales"), &[], Priority::High),
    ]
}

fn request(values: &[(Dimension, &str)], time: TimeUs, tokens: u64) -> Record {
    thread_local!(static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    let id = NEXT.replace(NEXT.get() + 1).to_string();
    Record::new(&id, time, values, tokens)
}

fn by(namespace: &'static str, team: &'static str, user: &'static str) -> [(Dimension, &'static str); 3] {
    [(Dimension::Namespace, namespace), (Dimension::Team, team), (Dimension::User, user)]
}

fn core(budgets: impl IntoIterator<Item = Budget>) -> Core {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, budgets, noon());
    core
}

/// What was decided: the key, its outcome and the rate.
fn said(effects: &Effects) -> BTreeMap<String, String> {
    let rate = |decision: &Decision| {
        let throttle = decision.throttle.as_ref().or(decision.would_throttle.as_ref());
        throttle.map_or(String::new(), |throttle| format!(" {}/{}", throttle.requests, throttle.per_s))
    };
    let line = |decision: &Decision| (decision.key(), format!("{}{}", decision.outcome(), rate(decision)));
    effects.decisions.iter().map(line).collect()
}

fn told<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
    of.into_iter().map(|(key, outcome)| (key.to_owned(), outcome.to_owned())).collect()
}

#[test]
fn low_priority_is_slowed_first_then_normal_and_high_never_before_the_cap() {
    let mut core = core(all());
    let give = |core: &mut Core, tokens: u64| {
        apply(core, &[request(&by("acme", "sales", "u"), noon(), tokens)]);
        said(&core.effects(noon()))
    };
    apply(&mut core, &[request(&by("acme", "batch", "b"), noon(), 10)]);
    apply(&mut core, &[request(&by("other", "batch", "b"), noon(), 10)]);
    assert_eq!(give(&mut core, 789), told([]));
    assert_eq!(give(&mut core, 1), told([("batch|namespace=acme,team=batch", "throttled 6/60")]));
    let slowed =
        [("users|namespace=acme,user=b", "throttled 60/60"), ("users|namespace=acme,user=u", "throttled 60/60")];
    assert_eq!(give(&mut core, 100), told(slowed));
    assert_eq!(give(&mut core, 99), told([]), "it is said once");
    let decision = core.decisions().find(|decision| &*decision.budget == "batch").unwrap();
    let throttle = Throttle::paced(ThrottleReason::PriorityThrottled, Rate { requests: 6, per_s: 60 });
    assert_eq!(decision.throttle, Some(Throttle { by: Some("acme".into()), ..throttle }));
    assert_eq!((decision.state, decision.expires_at), (DecisionState::Allowed, at("2026-11-22T00:00:00Z")));
    // Who comes now is slowed from its first usage on; the cap blocks all.
    apply(&mut core, &[request(&by("acme", "sales", "new"), noon(), 0)]);
    assert_eq!(said(&core.effects(noon())), told([("users|namespace=acme,user=new", "throttled 60/60")]));
    assert_eq!(give(&mut core, 1), told([("acme|namespace=acme", "blocked")]));
}

#[test]
fn a_check_passes_at_the_rate_of_the_slowest_throttle_of_the_scopes_that_it_is_in() {
    let mut core = core(all());
    apply(&mut core, &[request(&by("acme", "batch", "b"), noon(), 950)]);
    core.effects(noon());
    let mut passed = |team: &'static str, user: &'static str| {
        let mut dims = Dimensions::default();
        by("acme", team, user).iter().for_each(|(dim, value)| dims.set(*dim, Some((*value).into())));
        let question = Question { dimensions: &dims, estimate: None, last_known: false };
        (0..600).filter(|tenth| core.admit(&question, noon().plus_us(tenth * 100_000)).is_allowed()).count()
    };
    // Sales is of high priority, and this user has used nothing yet.
    assert_eq!(passed("sales", "new"), 600);
    assert_eq!(passed("batch", "new"), 6);
}

#[test]
fn the_pressure_is_over_with_the_window_a_higher_limit_or_a_correction() {
    let under_pressure = || {
        let mut core = core(all());
        let large = request(&by("acme", "batch", "b"), noon(), 850);
        apply(&mut core, std::slice::from_ref(&large));
        assert_eq!(said(&core.effects(noon())), told([("batch|namespace=acme,team=batch", "throttled 6/60")]));
        (core, large)
    };
    let free = || told([("batch|namespace=acme,team=batch", "allowed")]);
    let (mut core, _) = under_pressure();
    assert_eq!(core.next_wakeup(), Some(at("2026-11-22T00:00:00Z")));
    assert_eq!(said(&core.effects(at("2026-11-22T00:00:00Z"))), free());

    let (mut core, _) = under_pressure();
    let [mut more, rest @ ..] = all();
    more.limits = common::limits(&[(usage_types::Measure::Tokens, 2_000)]);
    core.set_budgets(set([more].into_iter().chain(rest)), noon());
    assert_eq!(said(&core.effects(noon())), free());

    let (mut core, large) = under_pressure();
    let id = large.event.id.clone().unwrap();
    let void = request(&by("acme", "batch", "b"), noon(), 0).role(Role::Voids(id)).restating(noon(), Some(&large));
    apply(&mut core, &[void]);
    assert_eq!(said(&core.effects(noon())), free());

    let (mut core, _) = under_pressure();
    let [_, rest @ ..] = all();
    core.set_budgets(set(rest), noon());
    assert_eq!(said(&core.effects(noon())), free());
}

#[test]
fn it_is_effective_where_both_budgets_are_and_told_where_one_is_in_shadow() {
    let modes = [Mode::Hard, Mode::Shadow, Mode::Soft];
    for (above, below) in modes.into_iter().flat_map(|above| modes.map(|below| (above, below))) {
        let batch = teams("batch", &[(Dimension::Namespace, "acme"), (Dimension::Team, "batch")], &[], Priority::Low);
        let mut core = core([Budget { mode: above, ..shared() }, Budget { mode: below, ..batch }]);
        apply(&mut core, &[request(&by("acme", "batch", "b"), noon(), 850)]);
        let expected = match (above, below) {
            (Mode::Soft, _) | (_, Mode::Soft) => told([]),
            (Mode::Hard, Mode::Hard) => told([("batch|namespace=acme,team=batch", "throttled 6/60")]),
            _ => told([("batch|namespace=acme,team=batch", "would_throttle 6/60")]),
        };
        assert_eq!(said(&core.effects(noon())), expected, "{above:?} above {below:?}");
    }
}

/// What a reader of the rules would compute from the list of rows.
fn expected(budgets: &[Budget], rows: &[Record], now: TimeUs) -> BTreeMap<String, (String, String)> {
    let day = |time: TimeUs| time.0.div_euclid(24 * HOUR);
    let today: Vec<&Record> = rows.iter().filter(|row| day(row.event.time) == day(now)).collect();
    let scope_of = |budget: &Budget, row: &Record| {
        let dims = budget.scope_dimensions();
        let values: Option<Vec<(Dimension, &str)>> =
            dims.iter().map(|dim| Some((dim, row.event.dimensions.get(dim)?))).collect();
        let scope = Scope::new(values?);
        budget.matches.iter().all(|(dim, value)| scope.get(dim) == Some(value)).then_some(scope)
    };
    let used = |budget: &Budget, scope: &Scope| -> i128 {
        let own = today.iter().filter(|row| scope_of(budget, row).as_ref() == Some(scope));
        own.map(|row| i128::from(row.event.tokens.total())).sum()
    };
    let mut slowed = BTreeMap::new();
    for below in budgets.iter().filter(|budget| budget.priority != Priority::High) {
        let scopes: BTreeSet<Scope> = today.iter().filter_map(|row| scope_of(below, row)).collect();
        for scope in scopes {
            if used(below, &scope) >= below.limits.first().amount.0 {
                continue;
            }
            let mut rates: Vec<(u64, String)> = Vec::new();
            for above in budgets {
                let Some(step) = above.pressure.and_then(|pressure| pressure.step(below.priority)) else { continue };
                let dims = above.scope_dimensions();
                let shared = Scope::new(dims.iter().filter_map(|dim| Some((dim, scope.get(dim)?))));
                let is_above = shared.iter().count() == dims.len()
                    && dims.len() < scope.iter().count()
                    && above.matches.iter().all(|(dim, value)| scope.get(dim) == Some(value));
                let limit = above.limits.first().amount.0;
                if is_above && used(above, &shared) * 1_000_000 >= limit * i128::from(step.at.0) {
                    rates.push((step.rate.requests, above.id.to_string()));
                }
            }
            rates.sort();
            if let Some((requests, by)) = rates.first() {
                slowed.insert(decision_key(&below.id, &scope), (format!("{requests}"), by.clone()));
            }
        }
    }
    slowed
}

/// Random usage under two shared budgets, one above the other, with what is voided, changes of the budgets and restarts.
#[test]
fn random_usage_slows_those_whom_the_rules_say_also_after_restarts() {
    let (mut slowed, mut freed) = (0, 0);
    for seed in 0..80 {
        let mut seed: u64 = 5 + seed;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let pressure = |random: &mut dyn FnMut(u64) -> u64, rates: [u64; 2]| {
            let low = 100_000 * (1 + random(6) as u32);
            let normal = step(low + 100_000 * random(4) as u32, rates[1]);
            Some(Pressure { low: step(low, rates[0]), normal: normal.filter(|_| random(3) > 0) })
        };
        let make = |random: &mut dyn FnMut(u64) -> u64| {
            let tokens = |random: &mut dyn FnMut(u64) -> u64| 500 + i128::from(random(3_000));
            let company = Budget { pressure: pressure(random, [1, 3]), ..budget("all", &[], &[], 2 * tokens(random)) };
            let space = budget("spaces", &[], &[Dimension::Namespace], tokens(random));
            let space = Budget { pressure: pressure(random, [2, 4]), priority: Priority::Low, ..space };
            let users = teams("users", &[], &[Dimension::Namespace, Dimension::User], Priority::Normal);
            let batch = teams("batch", &[(Dimension::Team, "batch")], &[Dimension::Namespace], Priority::Low);
            vec![company, space, users, batch]
        };
        let mut budgets = make(&mut random);
        let mut core = core(budgets.clone());
        let (mut rows, mut topic): (Vec<Record>, BTreeMap<String, Decision>) = (Vec::new(), BTreeMap::new());
        let mut now = noon().plus_us(11 * HOUR);
        for _ in 0..60 {
            now = now.plus_us(random(90_000_000) as i64);
            for _ in 0..random(4) {
                let pick = |of: [&'static str; 3], at: u64| of[at as usize];
                let values = by(
                    pick(["a", "b", "c"], random(3)),
                    pick(["batch", "web", "web"], random(3)),
                    pick(["u", "v", "w"], random(3)),
                );
                let record = request(&values, now, random(200));
                apply(&mut core, std::slice::from_ref(&record));
                rows.push(record);
            }
            if random(8) == 0 && !rows.is_empty() {
                let gone = rows.remove(random(rows.len() as u64) as usize);
                let id = gone.event.id.clone().unwrap();
                let void =
                    request(&by("a", "web", "u"), now, 0).role(Role::Voids(id)).restating(gone.event.time, Some(&gone));
                apply(&mut core, &[void]);
                // It leaves a scope with nothing used, which the list of rows does not know.
                rows.push(Record {
                    event: usage_types::UsageEvent { tokens: usage_types::Tokens::default(), ..gone.event },
                    ..gone
                });
            }
            if random(15) == 0 {
                budgets = make(&mut random);
                for request in core.set_budgets(set(budgets.clone()), now) {
                    rows.iter().for_each(|row| core.add_history(&request, &row.row(row.event.time)));
                    core.finish_history(&request);
                }
            }
            if random(15) == 0 {
                core = Core::new(CoreConfig::default());
                let requests = core.set_budgets(set(budgets.clone()), now);
                core.load_decisions(topic.values().cloned());
                rows.iter().for_each(|row| core.restore(&row.row(row.event.time)));
                requests.iter().for_each(|request| core.finish_history(request));
            }
            let effects = core.effects(now);
            assert!(core.effects(now).is_empty(), "looking again changes nothing");
            freed += effects.decisions.iter().filter(|decision| decision.outcome() == "allowed").count();
            topic.extend(effects.decisions.into_iter().map(|decision| (decision.key(), decision)));
            effects.tombstones.iter().for_each(|key| drop(topic.remove(key)));
            let in_force = topic.values().filter(|decision| now < decision.expires_at);
            let told: BTreeMap<String, (String, String)> = in_force
                .filter_map(|decision| Some((decision.key(), decision.throttle.clone()?)))
                .map(|(key, throttle)| (key, (throttle.requests.to_string(), throttle.by.unwrap())))
                .collect();
            assert_eq!(told, expected(&budgets, &rows, now), "at {now}");
            slowed += told.len();
        }
    }
    assert!(slowed > 1_000 && freed > 100, "{slowed} {freed}");
}

/// A scope of a window that moves is slowed too, and a shared budget over such a window presses on nobody.
#[test]
fn a_session_below_a_shared_budget_is_slowed_until_the_shared_window_ends() {
    let rolling = WindowSpec::rolling(usage_types::Span::minutes(60), common::UTC);
    let user =
        Budget { window: rolling, ..teams("users", &[], &[Dimension::Namespace, Dimension::User], Priority::Low) };
    let mut core = core([shared(), user]);
    apply(&mut core, &[request(&by("acme", "web", "u"), noon(), 800)]);
    let effects = core.effects(noon());
    assert_eq!(said(&effects), told([("users|namespace=acme,user=u", "throttled 6/60")]));
    assert_eq!(effects.decisions[0].expires_at, at("2026-11-22T00:00:00Z"));
    apply(&mut core, &[request(&by("acme", "web", "u"), noon().plus_us(HOUR), 1)]);
    assert!(core.effects(noon().plus_us(HOUR)).is_empty(), "it is said once");
    let over = core.effects(at("2026-11-22T00:00:00Z"));
    assert_eq!(said(&over), told([("users|namespace=acme,user=u", "allowed")]));
}
