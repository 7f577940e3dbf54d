//! The core against a naive model that keeps a list of what was accepted and recomputes everything from it: random events (late, ahead of
//! time, too late, duplicate, voided, amended, backfilled, adjusted), budgets that come, change and go with their histories, windows in awkward zones, evictions, publishes
//! that fail, restarts. A run is named by its seed: `OUTLAY_SEED=17 cargo test -p budget-core --test model` repeats one,
//! `OUTLAY_SEEDS=5000` runs so many; `./dev fuzz` does that with the release build and says how far it is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, outside a test function")]

#[path = "../common/mod.rs"]
mod common;
mod kinds;
mod moving;
mod reference;
mod seeds;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use budget_core::{Check, Core, CoreConfig, DECISIONS_KEPT_US, Effects, HistoryRequest, Restraint};
use common::{Record, apply, at, currency, set};
use kinds::{slowing, tracked, window};
use moving::Told;
use reference::{Model, Random, balances_of, limits_of, reached, tightest};
use usage_types::{
    AlertRule, Amount, Budget, Currency, Decision, DecisionState, Dimension, Limit, Limits, Measure, Mode, Pico, Ppm,
    Predict, Role, Rollback, Scope, SpecialLimit, SpecialLimits, TimeUs, TokenClass, UsageEvent, Whom, alert_id,
};

const HORIZON_US: i64 = TimeUs::DAY;
/// Steps of a run: each gives events, lets time pass, changes budgets, evicts, fails to publish or restarts, and is compared.
const STEPS: u64 = 60;

/// The compacted topics.
#[derive(Default)]
struct Topics {
    decisions: BTreeMap<String, Decision>,
    alerts: BTreeMap<String, usage_types::Alert>,
    failed: bool,
    /// How many records the decisions' one has taken.
    taken: u64,
    /// The highest number of each key, as a follower remembers it who forgets nothing.
    seqs: HashMap<String, u64>,
}

impl Topics {
    fn publish(&mut self, effects: Effects, now: TimeUs) {
        self.taken += (effects.decisions.len() + effects.tombstones.len()) as u64;
        for decision in effects.decisions {
            let before = self.decisions.insert(decision.key(), decision.clone());
            let remembered = self.seqs.insert(decision.key(), decision.seq);
            assert!(remembered.is_none_or(|seq| decision.seq > seq), "{} goes back: {decision:?}", decision.key());
            let before_seq = before.as_ref().map_or(0, |before| before.seq);
            if !self.failed {
                assert!(before.is_none() || decision.seq == before_seq + 1, "{}", decision.key());
                let said = |d: &Decision| {
                    let whom = (d.state, d.would_block, d.rolled_back.clone(), d.window);
                    let whom = (whom, d.throttle.clone(), d.would_throttle.clone(), d.expires_at);
                    (whom, d.limit.clone(), d.overage.clone(), d.http_status, d.measure.clone())
                };
                assert!(before.is_none_or(|before| said(&before) != said(&decision)), "said twice: {decision:?}");
            }
        }
        let is_over = |decision: &Decision| {
            !decision.restrains() && decision.expires_at.max(decision.decided_at).plus_us(DECISIONS_KEPT_US) <= now
        };
        for key in effects.tombstones {
            let gone = self.decisions.remove(&key);
            assert!(gone.as_ref().map_or(self.failed, is_over), "{key} is forgotten: {gone:?}");
        }
        assert!(self.failed || !self.decisions.values().any(is_over), "what is over stays on the topic");
        for alert in effects.alerts {
            assert_eq!(self.alerts.insert(alert.id.clone(), alert), None, "an alert is raised once");
        }
    }
}

/// Which limit a decision names.
fn told(decision: &Decision) -> (String, Option<Currency>, String) {
    (decision.measure.clone(), decision.currency, decision.limit.clone())
}

fn told_of(limit: &Limit) -> (String, Option<Currency>, String) {
    (limit.measure.name().to_owned(), limit.measure.currency(), limit.measure.format(limit.amount))
}

struct World {
    random: Random,
    now: TimeUs,
    core: Core,
    model: Model,
    topics: Topics,
    waiting: Vec<(HistoryRequest, usize)>,
    next_id: u64,
    told: Told,
    /// How many events it was given.
    events: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        // Just before the clocks change in one zone or another.
        let start = random.pick(&[
            "2026-04-04T03:00:00Z",
            "2026-03-28T12:00:00Z",
            "2026-10-29T10:00:00Z",
            "2026-12-31T01:00:00Z",
        ]);
        let config = CoreConfig { tracked: tracked(&mut random), ..CoreConfig::default() };
        let model = Model {
            config: config.clone(),
            accepted: Vec::new(),
            seen: HashMap::new(),
            originals: HashMap::new(),
            floor: TimeUs(i64::MIN),
            budgets: BTreeMap::new(),
            rolled_back: BTreeSet::new(),
        };
        let core = Core::new(config);
        Self {
            random,
            now: at(start),
            core,
            model,
            topics: Topics::default(),
            waiting: Vec::new(),
            next_id: 0,
            told: Told::default(),
            events: 0,
        }
    }

    fn record(&mut self) -> Record {
        let random = &mut self.random;
        let spread = random.pick(&[1, 60, 3_600, 25 * 3_600]);
        let mut time = self.now.plus_us(-(random.below(spread * 1_000) as i64) * 1_000);
        if random.one_in(10) {
            time = self.now.plus_us(random.below(600_000_000) as i64);
        }
        // An id may come again, from another source too, minutes or days later.
        let id = if random.one_in(5) { random.below(self.next_id + 1) } else { self.next_id };
        self.next_id += 1;
        let values = [
            (Dimension::Namespace, random.pick(&["a", "b", "a namespace with a name of more than 24 bytes"])),
            (Dimension::Team, random.pick(&["", "t", "u"])),
            (Dimension::User, random.pick(&["", "a", "v", "w"])),
            (Dimension::Session, random.pick(&["", "a", "v"])),
        ];
        let mut record = Record::new(&id.to_string(), time, &values, random.below(100)).appended(self.now);
        record.event.source = random.pick(&["s", "s", "s", "r"]).into();
        record.event.tokens.output = random.below(50);
        record.event.requests = random.below(3);
        record.event.tool_calls = random.below(3);
        record.event.images = random.pick(&[0, 0, 0, 4]);
        record.event.compute.0 = random.below(5_000_000_000);
        if !random.one_in(4) {
            let code = random.pick(&["USD", "USD", "EUR", "JPY"]);
            // A correction gives money back.
            let pico = random.below(1_000) as i128 - if random.one_in(8) { 2_000 } else { 0 };
            record = record.costing(pico, currency(code));
        }
        record
    }

    fn budget(&mut self, id: &str) -> Budget {
        let random = &mut self.random;
        let matches = random.pick(&[&[][..], &[(Dimension::Namespace, "a")], &[(Dimension::Team, "t")]]);
        let per = random.pick(&[
            &[][..],
            &[Dimension::User],
            &[Dimension::Namespace, Dimension::Team],
            &[Dimension::Session],
        ]);
        let limits = self.limits();
        let special = self.special(per);
        let random = &mut self.random;
        let mut mode = random.pick(&[Mode::Hard, Mode::Hard, Mode::Shadow, Mode::Soft]);
        let mut rollback = None;
        if !per.is_empty() && random.one_in(2) {
            mode = random.pick(&[Mode::Hard, Mode::Canary(Ppm(500_000)), Mode::Canary(Ppm(900_000))]);
            let at_least = random.pick(&[1, 2, 3]);
            rollback = Some(Rollback { blocked_over: Ppm(random.pick(&[250_000, 500_000])), at_least });
            rollback = rollback.filter(|_| random.one_in(2));
        }
        let thresholds = random.pick(&[&[][..], &[800_000, 1_000_000], &[100_000, 500_000, 1_500_000]]);
        let window = window(random, matches, per);
        let (predict, priority, pressure) = slowing(random, window);
        Budget {
            window,
            predict,
            priority,
            pressure,
            limits,
            special,
            overcommit: false,
            mode,
            rollback,
            alerts: AlertRule { at: thresholds.iter().map(|ppm| Ppm(*ppm)).collect(), to: Vec::new() },
            http_status: random.pick(&[403, 429]),
            ..common::budget(id, matches, per, 1)
        }
    }

    /// One to three, each of another measure.
    fn limits(&mut self) -> Limits {
        let random = &mut self.random;
        let mut limits: Vec<Limit> = Vec::new();
        for _ in 0..random.pick(&[1, 1, 2, 3]) {
            let (measure, unit) = random.pick(&[
                (Measure::Tokens, 75),
                (Measure::TokensOf(TokenClass::Output), 25),
                (Measure::Requests, 1),
                (Measure::ToolCalls, 1),
                (Measure::Images, 1),
                (Measure::Compute, 2_500_000_000),
                (Measure::Cost(currency("USD")), 400),
                (Measure::Cost(currency("JPY")), 300),
            ]);
            let amount = Amount(unit * i128::from(1 + random.below(40)));
            limits.retain(|limit| limit.measure != measure);
            let overage = Amount(random.pick(&[0, 0, 0, 1, unit, amount.0 / 10]));
            limits.push(Limit { measure, amount, overage });
        }
        Limits::new(limits).unwrap()
    }

    /// Overrides of some values, then plans of others, for dimensions that the budget splits by.
    fn special(&mut self, per: &[Dimension]) -> SpecialLimits {
        let value = |random: &mut Random, dim| match dim {
            Dimension::Namespace => random.pick(&["a", "b", "nobody"]),
            Dimension::Team => random.pick(&["t", "u"]),
            _ => random.pick(&["a", "v", "w"]),
        };
        let mut entries = Vec::new();
        for _ in 0..self.random.pick(&[0, 0, 1, 3]) {
            let first = self.random.below(per.len() as u64 + 1) as usize;
            let dims = if self.random.one_in(2) { &per[first..] } else { &per[..first] };
            let values = dims.iter().map(|dim| (*dim, value(&mut self.random, *dim)));
            let values = Scope::new(values);
            if !values.is_empty() {
                entries.push(SpecialLimit { whom: Whom::Override, values: vec![values], limits: self.limits() });
            }
        }
        if let (Some(by), true) = (per.last(), self.random.one_in(3)) {
            for plan in ["free", "enterprise"] {
                let of = (0..self.random.below(3)).map(|_| Scope::new([(*by, value(&mut self.random, *by))]));
                let (whom, values) = (Whom::Plan(plan.into()), of.collect());
                entries.push(SpecialLimit { whom, values, limits: self.limits() });
            }
        }
        SpecialLimits::new(entries)
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..8 => self.events(),
            8..11 => {
                let step_us = self.random.pick(&[TimeUs::SECOND, TimeUs::MINUTE, TimeUs::HOUR, 7 * TimeUs::HOUR]);
                self.now = self.now.plus_us(self.random.below(step_us as u64) as i64);
            }
            11 => self.change_budgets(),
            12 => self.answer_history(),
            13 => {
                self.evict();
            }
            14 => self.fail_to_publish(),
            _ if self.random.one_in(3) => self.restart(),
            _ => {}
        }
        let effects = self.effects();
        let before = self.topics.decisions.clone();
        self.topics.publish(effects, self.now);
        assert!(self.core.effects(self.now).is_empty(), "looking again changes nothing");
        assert!(self.core.next_wakeup().is_none_or(|at| at > self.now));
        self.compare_decisions(&before);
        self.told.check(&self.model, &self.topics.alerts, self.now);
        if self.random.one_in(4) {
            self.compare_balances();
        }
    }

    fn effects(&mut self) -> Effects {
        self.model.roll_back(self.now);
        self.core.effects(self.now)
    }

    fn events(&mut self) {
        let count = self.random.pick(&[1, 3, 100]);
        self.events += count;
        let (mut records, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..count {
            self.now = self.now.plus_us(self.random.below(2_000_000) as i64);
            let record = self.record();
            let record = if self.random.one_in(4) { self.restating(record) } else { record };
            expected.push(self.model.dispose(&record));
            records.push(record);
        }
        assert_eq!(apply(&mut self.core, &records), expected);
    }

    /// The record as a correction, with what the shell would find for it, as a backfill or as an adjustment.
    fn restating(&mut self, mut record: Record) -> Record {
        let original = self.random.below(self.next_id).to_string();
        let key = (record.event.source.to_string(), original.clone());
        record.restates = self.model.originals.get(&key).map(|(time, counts)| (*time, counts.clone().map(Box::new)));
        match self.random.below(5) {
            0 | 1 => record.role(Role::Voids(original.into())),
            2 => record.role(Role::Amends(original.into())),
            3 => {
                let days = self.random.below(40) as i64;
                record.event.time = record.event.time.plus_us(-days * TimeUs::DAY);
                record.role(Role::Backfill)
            }
            _ => {
                let mut adjustment = Record::new("", record.event.time, &[], 0).appended(self.now);
                let pico = i128::from(self.random.below(2_000)) - 1_000;
                adjustment = adjustment.costing(pico, currency("USD")).role(Role::Adjusts("run".into()));
                let UsageEvent { id, source, dimensions, .. } = record.event;
                adjustment.event = UsageEvent { id, source, dimensions, requests: 0, ..adjustment.event };
                adjustment
            }
        }
    }

    fn change_budgets(&mut self) {
        let mut budgets: BTreeMap<String, Budget> =
            self.model.budgets.iter().map(|(id, (budget, ..))| (id.clone(), budget.clone())).collect();
        let id = self.random.pick(&["p", "q", "r"]).to_owned();
        let fresh = self.budget(&id);
        match (budgets.remove(&id), self.random.below(4)) {
            (Some(_), 0) => {}
            // Only what does not change the balances.
            (Some(old), 1 | 2) => {
                let scaled = |limit: Limit| {
                    let amount = Amount(1 + limit.amount.0 * i128::from(self.random.below(8)) / 4);
                    Limit { amount, ..limit }
                };
                let kept = Limits::new(old.limits.iter().map(scaled).collect()).unwrap();
                let per: Vec<Dimension> = old.per.iter().collect();
                let special = if self.random.one_in(2) { self.special(&per) } else { old.special.clone() };
                let Budget { alerts, http_status, limits, priority, .. } = fresh;
                let (slows, _, pressure) = slowing(&mut self.random, old.window);
                // Another time that burn is measured over would be another history.
                let predict = old.predict.zip(slows).map(|(old, slows)| Predict { over: old.over, ..slows });
                let predict = predict.or(old.predict);
                let (mode, rollback) = match self.random.one_in(2) && old.per == fresh.per {
                    true => (fresh.mode, fresh.rollback),
                    false => (old.mode, old.rollback),
                };
                let limits = if self.random.one_in(3) { limits } else { kept };
                budgets.insert(
                    id,
                    Budget { limits, special, alerts, mode, rollback, http_status, predict, priority, pressure, ..old },
                );
            }
            _ => {
                budgets.insert(id, fresh);
            }
        }
        let requests = self.core.set_budgets(set(budgets.values().cloned()), self.now);
        let asked: HashMap<String, TimeUs> = requests.iter().map(|r| (r.budget.to_string(), r.from)).collect();
        let before = std::mem::take(&mut self.model.budgets);
        let same = |a: &Budget, b: &Budget| {
            let Budget { alerts, http_status, predict, priority, pressure, .. } = b.clone();
            Budget { alerts, http_status, predict, priority, pressure, ..a.clone() } == *b
        };
        self.model.rolled_back.retain(|id| budgets.get(id).is_some_and(|budget| same(&before[id].0, budget)));
        for (id, budget) in budgets {
            let (warming, from) = match (asked.get(&id), before.get(&id)) {
                (Some(from), _) => (true, *from),
                (None, Some((_, warming, from))) => (*warming, *from),
                (None, None) => panic!("a new budget asks for its history"),
            };
            self.model.budgets.insert(id, (budget, warming, from));
        }
        let folded = self.model.accepted.len();
        self.waiting.extend(requests.into_iter().map(|request| (request, folded)));
    }

    fn answer_history(&mut self) {
        for (mut request, mut folded) in std::mem::take(&mut self.waiting) {
            if self.random.one_in(4) {
                // Half of it is read, then reading fails.
                self.give_history(&request, folded / 2);
                let Some(again) = self.core.restart_history(&request, self.now) else { continue };
                (request, folded) = (again, self.model.accepted.len());
                self.model.budgets.get_mut(&*request.budget).unwrap().2 = request.from;
            }
            self.give_history(&request, folded);
            // Of two requests for one budget only the newer counts; an answer to the older must change nothing.
            let before = self.core.stats().budgets_warming;
            self.core.finish_history(&request);
            if self.core.stats().budgets_warming < before {
                self.model.budgets.get_mut(&*request.budget).unwrap().1 = false;
            }
        }
        assert_eq!(self.core.stats().budgets_warming, 0);
    }

    fn give_history(&mut self, request: &HistoryRequest, folded: usize) {
        for (record, time) in &self.model.accepted[..folded] {
            // Some shells leave out what was not asked for, some do not.
            if *time >= request.from || self.next_id.is_multiple_of(2) {
                self.core.add_history(request, &record.row(*time));
            }
        }
    }

    fn evict(&mut self) {
        while self.core.evict(self.now) {}
        self.model.floor = self.model.floor.max(self.now.plus_us(-HORIZON_US));
    }

    fn fail_to_publish(&mut self) {
        let effects = self.effects();
        if !effects.is_empty() {
            self.core.retract(&effects);
            self.topics.failed = true;
        }
        self.events();
        let effects = self.effects();
        self.core.retract(&effects);
        self.topics.failed |= !(effects.decisions.is_empty() && effects.tombstones.is_empty());
    }

    fn restart(&mut self) {
        let mut core = Core::new(self.model.config.clone());
        core.evict(self.now);
        self.model.floor = self.model.floor.max(self.now.plus_us(-HORIZON_US));
        let requests = core.set_budgets(set(self.model.budgets.values().map(|(budget, ..)| budget.clone())), self.now);
        core.load_decisions(self.topics.decisions.values().cloned());
        core.load_decisions_end(self.topics.taken);
        core.load_alerts(self.topics.alerts.values().cloned());
        let from = core.restore_from(self.now);
        // The lake gives rows of partitions and files in any order.
        let remembered = core.remembers_from(self.now);
        let is_needed = |(record, time): &&(Record, TimeUs)| *time >= from || record.position.append_time >= remembered;
        let mut rows: Vec<&(Record, TimeUs)> = self.model.accepted.iter().filter(is_needed).collect();
        let by = self.random.next();
        rows.sort_by_key(|(record, _)| Random(by ^ record.position.append_time.0 as u64).next());
        rows.iter().for_each(|(record, time)| core.restore(&record.row(*time)));
        for request in requests {
            core.finish_history(&request);
            let budget = self.model.budgets.get_mut(&*request.budget).unwrap();
            (budget.1, budget.2) = (false, request.from);
        }
        self.waiting.clear();
        self.core = core;
    }

    fn compare_balances(&self) {
        let mut found = balances_of(&self.core);
        found.retain(|(whose, ..), _| self.model.budgets.get(whose).is_none_or(|(_, warming, _)| !warming));
        let expected = self.model.balances(self.now);
        for (key, sums) in &expected {
            assert_eq!(found.get(key), Some(sums), "{key:?}");
        }
        assert_eq!(found.len(), expected.len(), "no balance too many");
        let used: BTreeSet<&str> = self.topics.alerts.keys().map(String::as_str).collect();
        for (budget, warming, _) in self.model.budgets.values() {
            // Those of moving windows are looked at in each step.
            if *warming || budget.window.is_moving() {
                continue;
            }
            for (scope, (window, sums)) in &self.model.used(budget, self.now) {
                let limit = tightest(&limits_of(budget, scope).iter().collect::<Vec<_>>(), sums);
                let used_amount = sums.amount(limit.measure);
                for threshold in budget.alerts.at.iter().filter(|at| at.reached(used_amount, limit.amount)) {
                    let id = alert_id(&budget.id, scope, budget.window, window.start, *threshold);
                    assert!(used.contains(id.as_str()), "{id} is missing");
                }
            }
        }
    }

    /// Exactly those scopes are blocked on the topic that have reached a hard limit in the present window, and those would be that have
    /// reached one in shadow.
    fn compare_decisions(&self, before: &BTreeMap<String, Decision>) {
        let mut decided: BTreeMap<String, Mode> = BTreeMap::new();
        let mut warming_ids = BTreeSet::new();
        for (id, (budget, warming, _)) in &self.model.budgets {
            if *warming {
                warming_ids.insert(id.clone());
                continue;
            }
            for (scope, (window, sums)) in self.model.used(budget, self.now) {
                let reached = reached(limits_of(budget, &scope), &sums);
                let mode = self.model.mode_of(budget, &scope);
                let over = Some(mode).filter(|mode| *mode != Mode::Soft && !reached.is_empty());
                let key = usage_types::decision_key(id, &scope);
                if let Some(mode) = over {
                    let decision = &self.topics.decisions[&key];
                    let status =
                        decision.would_block.map_or(decision.http_status, |would_block| would_block.http_status);
                    let said = (decision.window.end, decision.expires_at, status);
                    assert_eq!(said, (window.end, window.end, budget.http_status), "{decision:?}");
                    assert!(budget.window.is_moving() || decision.window == window, "{decision:?}");
                    let is_named = |limit: &Limit| told(decision) == told_of(limit);
                    assert!(reached.iter().any(is_named), "{decision:?} names none of {reached:?}");
                    // Until another one is reached first, it is the tightest that is named.
                    let before = before.get(&key).filter(|before| before.is_reached());
                    if decision.decided_at == self.now
                        && before.is_none_or(|before| !budget.window.is_moving() && before.window != window)
                    {
                        assert_eq!(told(decision), told_of(&tightest(&reached, &sums)), "{decision:?}");
                    }
                    decided.insert(key, mode);
                }
                let mut dims = usage_types::Dimensions::default();
                scope.iter().for_each(|(dim, value)| dims.set(dim, Some(value.to_owned().into())));
                match self.core.check(&dims, self.now) {
                    Check::Blocked(by) => assert_eq!(self.model.mode_of(&by.budget, &by.scope), Mode::Hard),
                    Check::CircuitOpen(_) => panic!("there are no breakers"),
                    Check::WouldBlock { by, .. } => {
                        let Restraint::Budget(by) = by else { panic!("there are no breakers") };
                        assert_eq!(self.model.mode_of(&by.budget, &by.scope), Mode::Shadow);
                        assert_ne!(over, Some(Mode::Hard), "{id} {scope} is over and may spend");
                    }
                    Check::Allowed(_) => assert_eq!(over, None, "{id} {scope} is over and may spend"),
                    check @ (Check::Reserved(_) | Check::Exceeds(_)) => panic!("nothing is reserved: {check:?}"),
                }
            }
        }
        let rolled_back = self.topics.decisions.values().filter(|d| d.rolled_back.is_some()).map(|d| d.budget.clone());
        assert_eq!(rolled_back.collect::<BTreeSet<_>>(), self.model.rolled_back);
        let mode = |d: &Decision| match (d.state, d.would_block) {
            (DecisionState::Blocked, None) => Mode::Hard,
            (DecisionState::Allowed, Some(_)) => Mode::Shadow,
            _ => panic!("it blocks and would: {d:?}"),
        };
        let reached = self.topics.decisions.iter().filter(|(_, d)| d.is_reached() && !warming_ids.contains(&d.budget));
        let said: BTreeMap<String, Mode> = reached.map(|(key, d)| (key.clone(), mode(d))).collect();
        assert_eq!(said, decided);
        let in_core: BTreeMap<String, Decision> = self.core.decisions().map(|d| (d.key(), d.clone())).collect();
        if !self.topics.failed {
            assert_eq!(in_core, self.topics.decisions);
        }
    }
}

#[test]
fn the_core_agrees_with_a_model_that_recomputes_everything() {
    seeds::run_all(seeds::asked_for(), STEPS, |seed| {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.events
    });
}

#[test]
fn any_interleaving_of_partitions_gives_the_same_balances_and_decisions() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        let mut partitions: Vec<Vec<Record>> = Vec::new();
        for partition in 0..3_i32 {
            world.now = world.now.plus_us(world.random.below(10 * TimeUs::HOUR as u64) as i64);
            let mut records = Vec::new();
            for _ in 0..100 {
                world.now = world.now.plus_us(world.random.below(600_000_000) as i64);
                let mut record = world.record();
                record.event.source = partition.to_string().into();
                record.position.partition = partition;
                records.push(record);
            }
            partitions.push(records);
        }
        let budgets = ["p", "q", "r"].map(|id| world.budget(id));
        let outcome = |random: &mut Random, batch: usize| {
            let mut core = Core::new(world.model.config.clone());
            common::set_fresh(&mut core, budgets.clone(), at("2026-01-01T00:00:00Z"));
            let mut left: Vec<&[Record]> = partitions.iter().map(Vec::as_slice).collect();
            while left.iter().any(|records| !records.is_empty()) {
                let from = &mut left[random.below(3) as usize];
                let (now, later) = from.split_at(batch.min(from.len()));
                apply(&mut core, now);
                *from = later;
            }
            let effects = core.effects(world.now);
            let alerts: Vec<String> = effects.alerts.into_iter().map(|alert| format!("{alert:?}")).collect();
            (balances_of(&core), effects.decisions, alerts)
        };
        let expected = outcome(&mut Random(seed), 100);
        for batch in [1, 7, 64] {
            assert_eq!(outcome(&mut Random(seed + 1), batch), expected, "seed {seed}, batches of {batch}");
        }
        assert!(
            expected.0.values().any(|sums| sums.costs.len() > 1 && sums.costs.values().all(|pico| *pico != Pico(0).0))
        );
    }
}
