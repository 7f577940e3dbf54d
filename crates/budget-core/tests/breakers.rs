//! Circuit breakers: when they open, what passes then, and when they close.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use budget_core::{Admission, Check, Core, CoreConfig, Question, Restraint};
use common::{Record, apply, at, budget, set, told};
use usage_types::{
    Amount, Breaker, BudgetSet, Decision, DecisionState, Dimension, DimensionSet, Dimensions, Limit, Measure, Mode,
    Rate, Role, Scope, Surge, Throttle, ThrottleReason, TimeUs, Trip,
};

const SECOND: i64 = TimeUs::SECOND;

fn start() -> TimeUs {
    at("2026-11-21T10:00:00Z")
}

fn after(seconds: i64) -> TimeUs {
    start().plus_us(seconds * SECOND)
}

fn trip(measure: Measure, amount: i128, within_s: i64) -> Trip {
    Trip { limit: Limit::new(measure, Amount(amount)), within_us: within_s * SECOND, surge: None, same: None }
}

/// For each agent: a minute open, a minute half open with three requests.
fn breaker(trips: Vec<Trip>) -> Breaker {
    Breaker {
        id: "loops".into(),
        matches: Scope::default(),
        per: DimensionSet::of(&[Dimension::Agent]),
        trips,
        open_us: 60 * SECOND,
        half_open_us: 60 * SECOND,
        trickle: 3,
        mode: Mode::Hard,
    }
}

fn with(breaker: Breaker) -> Arc<BudgetSet> {
    let breakers = BTreeMap::from([(Arc::clone(&breaker.id), Arc::new(breaker))]);
    Arc::new(BudgetSet { breakers, ..BudgetSet::default() })
}

fn core(breaker: Breaker) -> Core {
    let mut core = Core::new(CoreConfig::default());
    assert_eq!(core.set_budgets(with(breaker), start()), [], "a breaker asks for no history");
    core
}

/// A request of an agent at a time, of so many tokens.
fn request(agent: &str, time: TimeUs, tokens: u64) -> Record {
    thread_local!(static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    let id = NEXT.replace(NEXT.get() + 1).to_string();
    Record::new(&id, time, &[(Dimension::Agent, agent)], tokens)
}

fn agent(agent: &str) -> Dimensions<'static> {
    let mut dims = Dimensions::default();
    dims.set(Dimension::Agent, Some(agent.to_owned().into()));
    dims
}

fn is_open(core: &Core, of: &str, now: TimeUs) -> bool {
    match core.check(&agent(of), now) {
        Check::CircuitOpen(_) => true,
        Check::Allowed(None) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_burst_opens_the_circuit_of_its_scope_and_time_lets_it_go_through_a_trickle_to_closed() {
    let mut core = core(breaker(vec![trip(Measure::Requests, 10, 10)]));
    // Slowly it may make as many requests as it likes.
    for at in 0..15 {
        apply(&mut core, &[request("a", after(at * 2), 1), request("b", after(at * 2), 1)]);
    }
    assert_eq!(told(&core.effects(after(30))), [""; 0]);
    for _ in 0..10 {
        apply(&mut core, &[request("a", after(40), 1)]);
    }
    let said = told(&core.effects(after(40)));
    assert_eq!(said, ["Blocked loops|agent=a #1 CIRCUIT_OPEN 429 used 10 of 10"]);
    assert_eq!(core.next_wakeup(), Some(after(100)));
    assert!(is_open(&core, "a", after(99)) && !is_open(&core, "a", after(100)) && !is_open(&core, "b", after(41)));
    // What is on its way changes nothing.
    apply(&mut core, &(0..50).map(|_| request("a", after(45), 1)).collect::<Vec<_>>());
    assert!(core.effects(after(45)).is_empty());

    let half_open = core.effects(after(100));
    assert_eq!(told(&half_open), ["Allowed loops|agent=a #2 WITHIN_QUOTA 200 used 10 of 10"]);
    let trickle = Throttle::new(ThrottleReason::CircuitHalfOpen, Rate { requests: 3, per_s: 60 }, 1);
    let said = half_open.decisions.into_iter().next().unwrap();
    assert_eq!((said.throttle, said.window.start, said.expires_at), (Some(trickle), after(100), after(160)));
    apply(&mut core, &(0..3).map(|at| request("a", after(101 + at), 1)).collect::<Vec<_>>());
    assert!(core.effects(after(110)).is_empty(), "three are the trickle");
    apply(&mut core, &[request("a", after(120), 1)]);
    assert_eq!(told(&core.effects(after(120))), ["Blocked loops|agent=a #3 CIRCUIT_OPEN 429 used 10 of 10"]);
    assert!(is_open(&core, "a", after(179)));
    // No more than the trickle: closed, and as many as ever may come.
    assert_eq!(core.effects(after(180)).decisions.len(), 1);
    apply(&mut core, &(0..3).map(|at| request("a", after(190 + at), 1)).collect::<Vec<_>>());
    let closed = core.effects(after(240)).decisions.remove(0);
    assert_eq!((closed.throttle, closed.state, closed.seq), (None, DecisionState::Allowed, 5));
    apply(&mut core, &(0..9).map(|_| request("a", after(260), 1)).collect::<Vec<_>>());
    assert!(core.effects(after(260)).is_empty());
    apply(&mut core, &[request("a", after(260), 1)]);
    assert_eq!(core.effects(after(260)).decisions[0].window.start, after(260));
}

fn passes(core: &mut Core, of: &str, now: TimeUs) -> Admission {
    core.admit(&Question { dimensions: &agent(of), estimate: None, last_known: false }, now)
}

#[test]
fn a_half_open_circuit_lets_the_trickle_through_evenly_and_those_who_ask_never_open_it_again() {
    let mut core = core(breaker(vec![trip(Measure::Requests, 10, 10)]));
    apply(&mut core, &(0..10).map(|_| request("a", after(0), 1)).collect::<Vec<_>>());
    core.effects(after(0));
    assert!(!passes(&mut core, "a", after(59)).is_allowed());
    // Ten times a second it asks, and makes the requests that it may make.
    let mut passed = Vec::new();
    for tenth in 600..1_200 {
        let now = start().plus_us(tenth * 100_000);
        if passes(&mut core, "a", now).is_allowed() {
            passed.push(tenth / 10);
            apply(&mut core, &[request("a", now, 1)]);
        }
        assert!(core.effects(now).decisions.iter().all(|decision| decision.state == DecisionState::Allowed));
    }
    assert_eq!(passed, [60, 80, 100]);
    let refused = passes(&mut core, "a", after(119)).throttled.unwrap();
    assert_eq!((&*refused.budget, refused.retry_at, refused.remaining), ("loops", Some(after(120)), 0));
    assert!(passes(&mut core, "b", after(119)).throttled.is_none());
    // Closed: nothing is rationed.
    assert!((0..50).all(|_| passes(&mut core, "a", after(120)).throttled.is_none()));
}

#[test]
fn a_half_open_circuit_is_rationed_after_a_restart_too_and_told_in_shadow() {
    let rule = |mode| Breaker { mode, ..breaker(vec![trip(Measure::Requests, 2, 10)]) };
    for mode in [Mode::Hard, Mode::Shadow] {
        let mut core = core(rule(mode));
        apply(&mut core, &[request("a", after(0), 1), request("a", after(0), 1)]);
        core.effects(after(0));
        let published = core.effects(after(60)).decisions;
        let is_told = (published[0].throttle.is_some(), published[0].would_throttle.is_some());
        assert_eq!(is_told, (mode == Mode::Hard, mode == Mode::Shadow));
        let mut again = Core::new(CoreConfig::default());
        again.set_budgets(with(rule(mode)), after(65));
        again.load_decisions(published);
        assert!(again.effects(after(65)).is_empty(), "it is not said again");
        assert_eq!(again.stats().throttled, 1);
        assert!(passes(&mut again, "a", after(65)).is_allowed());
        let second = passes(&mut again, "a", after(66));
        assert_eq!(second.is_allowed(), mode == Mode::Shadow);
        let told = if mode == Mode::Hard { second.throttled } else { second.would_throttle };
        assert_eq!(told.unwrap().retry_at, Some(after(85)));
        assert_eq!((again.effects(after(120)).decisions.len(), again.stats().throttled), (1, 0));
    }
}

#[test]
fn any_measure_trips_over_its_own_time_and_the_first_is_named() {
    let usd = common::currency("USD");
    let trips =
        || vec![trip(Measure::Tokens, 1_000, 1), trip(Measure::Cost(usd), 500, 3_600), trip(Measure::ToolCalls, 5, 60)];
    let tripped = |records: &[Record]| {
        let mut core = core(breaker(trips()));
        apply(&mut core, records);
        let decisions = core.effects(records.last().unwrap().position.append_time).decisions;
        decisions.first().map(|decision| (decision.measure.clone(), decision.used.clone(), decision.limit.clone()))
    };
    let said = |measure: &str, used: &str, limit: &str| Some((measure.to_owned(), used.to_owned(), limit.to_owned()));
    assert_eq!(tripped(&[request("a", after(0), 999), request("a", after(2), 999)]), None);
    assert_eq!(tripped(&[request("a", after(0), 999), request("a", after(0), 2)]), said("tokens", "1001", "1000"));
    let costly = |second| request("a", after(second), 1).costing(300, usd);
    assert_eq!(tripped(&[costly(0), costly(3_000)]), said("cost", "0.0000000006", "0.0000000005"));
    assert_eq!(tripped(&[costly(0), costly(3_700)]), None);
    let mut calls = request("a", after(0), 1);
    calls.event.tool_calls = 7;
    assert_eq!(tripped(&[calls]), said("tool_calls", "7", "5"));
    let other = request("a", after(0), 1).costing(900, common::currency("EUR"));
    assert_eq!(tripped(&[other]), None, "money of another currency");
}

#[test]
fn a_surge_is_measured_against_the_scopes_own_past() {
    let surge = Surge { times: 5, of_us: 300 * SECOND };
    let rule = || breaker(vec![Trip { surge: Some(surge), ..trip(Measure::Requests, 20, 30) }]);
    // Ten requests in each half minute are usual for one, a single one for another; a third is new.
    let mut core = core(rule());
    for at in 0..360 {
        if at % 3 == 0 {
            apply(&mut core, &[request("busy", after(at), 1)]);
        }
        if at % 30 == 0 {
            apply(&mut core, &[request("calm", after(at), 1)]);
        }
    }
    let burst = |core: &mut Core, agent: &str, count: usize| {
        apply(core, &(0..count).map(|_| request(agent, after(361), 1)).collect::<Vec<_>>());
        core.effects(after(361)).decisions.len()
    };
    assert_eq!(burst(&mut core, "calm", 15), 0, "five times as usual, and fewer than 20");
    assert_eq!(burst(&mut core, "calm", 8), 1);
    assert_eq!(burst(&mut core, "busy", 35), 0, "fewer than five times as usual");
    assert_eq!(burst(&mut core, "busy", 15), 1);
    assert_eq!(burst(&mut core, "new", 200), 0, "nothing is usual for it yet");
}

#[test]
fn identical_requests_are_told_by_a_tag() {
    let same = Trip { same: Some("prompt_hash".into()), ..trip(Measure::Requests, 5, 60) };
    let mut core = core(breaker(vec![same]));
    let tagged = |second, tag: String| {
        let mut record = request("a", after(second), 1);
        record.event.tags.insert("prompt_hash".into(), tag.into());
        record
    };
    // Many different ones, more than are kept, and many without the tag.
    apply(&mut core, &(0..3_000).map(|at| tagged(0, at.to_string())).collect::<Vec<_>>());
    apply(&mut core, &(0..100).map(|_| request("a", after(1), 1)).collect::<Vec<_>>());
    apply(&mut core, &(0..4).map(|at| tagged(2 + at, "again".into())).collect::<Vec<_>>());
    assert!(core.effects(after(6)).is_empty());
    apply(&mut core, &[tagged(7, "again".into())]);
    assert_eq!(told(&core.effects(after(7))), ["Blocked loops|agent=a #1 CIRCUIT_OPEN 429 used 5 of 5"]);
}

#[test]
fn corrections_backfill_and_what_is_read_late_open_nothing_now() {
    let mut core = core(breaker(vec![trip(Measure::Tokens, 100, 10)]));
    let original = request("a", after(0), 60);
    let amended = request("a", after(1), 90).role(Role::Amends("x".into())).restating(after(0), Some(&original));
    let old = request("a", after(1), 500).role(Role::Backfill);
    apply(&mut core, &[original, amended, old]);
    assert!(core.effects(after(2)).is_empty());
    // The log is read again, ten minutes behind: that loop is over, or its next events will tell.
    apply(&mut core, &(0..10).map(|at| request("a", after(10 + at), 50)).collect::<Vec<_>>());
    assert!(core.effects(after(610)).is_empty());
    assert!(!is_open(&core, "a", after(610)));
}

#[test]
fn in_shadow_a_breaker_says_what_it_would_do() {
    let mut core = core(Breaker { mode: Mode::Shadow, ..breaker(vec![trip(Measure::Requests, 2, 10)]) });
    apply(&mut core, &[request("a", after(0), 1), request("a", after(0), 1)]);
    let decision = core.effects(after(0)).decisions.remove(0);
    assert_eq!((decision.state, decision.would_block.unwrap().http_status), (DecisionState::Allowed, 429));
    let Check::WouldBlock { by: Restraint::Circuit(circuit), .. } = core.check(&agent("a"), after(1)) else {
        panic!("the circuit is open")
    };
    assert_eq!((&*circuit.breaker.id, circuit.window.end), ("loops", after(60)));
    assert_eq!(core.check(&agent("a"), after(60)), Check::Allowed(None));
}

#[test]
fn an_open_circuit_outlives_a_restart_and_a_change_closes_it() {
    let rule = || breaker(vec![trip(Measure::Requests, 2, 10)]);
    let mut core = core(rule());
    apply(&mut core, &[request("a", after(0), 1), request("a", after(0), 1)]);
    let published: Vec<Decision> = core.effects(after(0)).decisions;
    let restarted = |breaker: Breaker| {
        let mut core = Core::new(CoreConfig::default());
        core.set_budgets(with(breaker), after(5));
        core.load_decisions(published.clone());
        core
    };
    let mut again = restarted(rule());
    assert!(again.effects(after(5)).is_empty(), "it is not said again");
    assert!(is_open(&again, "a", after(5)));
    assert_eq!(again.effects(after(60)).decisions[0].state, DecisionState::Allowed);
    let mut cold = restarted(rule());
    assert_eq!(cold.effects(after(600)).decisions[0].state, DecisionState::Allowed, "it was down all that time");

    let mut changed = restarted(Breaker { trickle: 9, ..breaker(vec![trip(Measure::Requests, 3, 10)]) });
    let decision = changed.effects(after(5)).decisions.remove(0);
    assert_eq!((decision.state, decision.reason_code.to_string()), (DecisionState::Allowed, "WITHIN_QUOTA".into()));
    again = restarted(rule());
    again.set_budgets(set([]), after(6));
    assert_eq!(told(&again.effects(after(6))), ["Allowed loops|agent=a #2 BUDGET_REMOVED 200 used 2 of 2"]);
    assert!(!is_open(&again, "a", after(6)));
}

#[test]
fn a_budget_that_blocks_is_named_before_an_open_circuit() {
    let mut core = core(breaker(vec![trip(Measure::Requests, 2, 10)]));
    let both = BudgetSet {
        budgets: set([budget("cap", &[], &[], 2)]).budgets.clone(),
        ..(*with(breaker(vec![trip(Measure::Requests, 2, 10)]))).clone()
    };
    for request in core.set_budgets(Arc::new(both), start()) {
        core.finish_history(&request);
    }
    apply(&mut core, &[request("a", after(0), 1), request("a", after(0), 1)]);
    assert_eq!(core.effects(after(0)).decisions.len(), 2);
    assert!(matches!(core.check(&agent("a"), after(1)), Check::Blocked(by) if &*by.budget.id == "cap"));
}

#[test]
fn circuits_that_nothing_depends_on_are_forgotten() {
    let mut core = core(breaker(vec![trip(Measure::Requests, 100, 60)]));
    apply(&mut core, &(0..1_000).map(|at| request(&at.to_string(), after(0), 1)).collect::<Vec<_>>());
    assert_eq!(core.stats().circuits, 1_000);
    apply(&mut core, &[request("last", after(500), 1)]);
    while core.evict(after(500)) {}
    assert_eq!(core.stats().circuits, 1);
}

/// What a reader of the rules would compute, from the list of a scope's events alone: when its circuit opens.
fn expected(breaker: &Breaker, events: &[&Record]) -> Vec<TimeUs> {
    // What was metered: when, the record, and how often the circuit had opened before.
    let mut metered: Vec<(TimeUs, &Record, usize)> = Vec::new();
    let (mut opened, mut trickled): (Vec<TimeUs>, u64) = (Vec::new(), 0);
    for record in events {
        let now = record.position.append_time;
        let since = opened.last().map_or(i64::MAX, |since| now.0 - since.0);
        if since < breaker.open_us {
            continue;
        }
        if since < breaker.open_us + breaker.half_open_us {
            trickled += record.event.requests;
            if trickled > breaker.trickle {
                opened.push(now);
                trickled = 0;
                continue;
            }
        }
        metered.push((now, record, opened.len()));
        let is_tripped = |trip: &Trip| {
            let tag = |record: &Record| trip.same.as_ref().and_then(|tag| record.event.tags.get(tag.as_str()).cloned());
            if trip.same.is_some() && tag(record).is_none() {
                return false;
            }
            let part = |time: TimeUs| time.0.div_euclid(trip.within_us / 10);
            let present = part(now);
            let sum = |counts: &dyn Fn(TimeUs, usize) -> bool| -> i128 {
                let counts =
                    metered.iter().filter(|(time, other, before)| counts(*time, *before) && tag(other) == tag(record));
                let amount = |record: &Record| match trip.limit.measure {
                    Measure::Requests => i128::from(record.event.requests),
                    _ => i128::from(record.event.tokens.total()),
                };
                counts.map(|(_, record, _)| amount(record)).sum()
            };
            let is_recent = |time: TimeUs, before: usize| before == opened.len() && part(time) > present - 10;
            let recent = sum(&is_recent);
            let Some(Surge { times, of_us }) = trip.surge else { return recent >= trip.limit.amount.0 };
            let oldest = (present - 10 - of_us / (trip.within_us / 10)).div_euclid(10);
            let past = sum(&|time, before| !is_recent(time, before) && part(time).div_euclid(10) >= oldest);
            let is_known = events[0].position.append_time.0 + of_us + trip.within_us <= now.0;
            let is_above = recent * i128::from(of_us) > past * i128::from(trip.within_us) * i128::from(times);
            recent >= trip.limit.amount.0 && is_known && is_above
        };
        if breaker.trips.iter().any(is_tripped) {
            opened.push(now);
            trickled = 0;
        }
    }
    opened
}

/// Random loads with bursts open the circuits that the rules say, and at the same times whatever the batches are and whenever somebody looks.
#[test]
fn random_loads_open_the_circuits_that_the_rules_say_also_when_they_are_read_again() {
    let surge = Trip { surge: Some(Surge { times: 3, of_us: 120 * SECOND }), ..trip(Measure::Requests, 4, 10) };
    let same = Trip { same: Some("hash".into()), ..trip(Measure::Requests, 4, 20) };
    let kinds = [
        vec![trip(Measure::Requests, 8, 10), trip(Measure::Tokens, 300, 5)],
        vec![surge.clone()],
        vec![same.clone()],
        vec![trip(Measure::Tokens, 400, 5), surge, same],
    ];
    for (kind, trips) in kinds.into_iter().enumerate() {
        let rule = || breaker(trips.clone());
        let mut seed = 17 + kind as u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let (mut time, mut records) = (start(), Vec::new());
        for at in 0..2_000 {
            time = time.plus_us(random(if at / 60 % 4 == 0 { 900_000 } else { 9_000_000 }) as i64);
            let mut record = request(["a", "b", "c"][random(3) as usize], time, random(90));
            if random(3) > 0 {
                record.event.tags.insert("hash".into(), random(6).to_string().into());
            }
            records.push(record);
        }
        let mut wanted: Vec<(String, TimeUs)> = Vec::new();
        for name in ["a", "b", "c"] {
            let is_its = |record: &&Record| record.event.dimensions.get(Dimension::Agent) == Some(name);
            let events: Vec<&Record> = records.iter().filter(is_its).collect();
            wanted.extend(expected(&rule(), &events).into_iter().map(|time| (name.to_owned(), time)));
        }
        wanted.sort();
        assert!(wanted.len() > 10, "{kind}: {}", wanted.len());
        for batch in [1, 7, 2_000] {
            let mut core = core(rule());
            let mut found: Vec<(String, TimeUs)> = Vec::new();
            for (at, chunk) in records.chunks(batch).enumerate() {
                apply(&mut core, chunk);
                if batch == 1 || at % 3 == 0 {
                    let decisions = core.effects(chunk.last().unwrap().position.append_time).decisions;
                    let opened = decisions.iter().filter(|decision| decision.state == DecisionState::Blocked);
                    found.extend(opened.map(|d| (d.scope.get(Dimension::Agent).unwrap().to_owned(), d.window.start)));
                }
            }
            found.sort();
            match batch {
                1 => assert_eq!(found, wanted, "{kind}"),
                // Looked at late only what is open by then is said.
                _ => assert!(found.iter().all(|one| wanted.contains(one)), "{kind}: batches of {batch}"),
            }
        }
    }
}
