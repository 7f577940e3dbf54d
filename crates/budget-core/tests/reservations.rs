//! Estimates and reservations: what is left is promised once.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use std::collections::BTreeMap;

use budget_core::{Check, Core, CoreConfig, Question};
use common::{Record, apply, at, budget, currency, set, set_fresh};
use proptest::prelude::*;
use usage_types::{
    Amount, Budget, Dimension, Dimensions, Estimate, Limit, Limits, Measure, Mode, Money, Pico, TimeUs, Tokens,
    UsageEvent,
};

const SUPPORT: &[(Dimension, &str)] = &[(Dimension::Namespace, "support")];
const MINUTE: i64 = TimeUs::MINUTE;

fn day() -> TimeUs {
    at("2026-11-21T10:00:00Z")
}

fn dims(values: &[(Dimension, &'static str)]) -> Dimensions<'static> {
    let mut dims = Dimensions::default();
    values.iter().for_each(|(dim, value)| dims.set(*dim, Some((*value).into())));
    dims
}

fn tokens(input: u64) -> Estimate {
    Estimate { tokens: Tokens { input, ..Tokens::default() }, ..Estimate::default() }
}

fn ask(core: &Core, estimate: Option<&Estimate>) -> Check {
    core.ask(&Question { dimensions: &dims(SUPPORT), estimate, last_known: false }, day())
}

fn reserve(core: &mut Core, id: &str, estimate: &Estimate, now: TimeUs) -> Check {
    let question = Question { dimensions: &dims(SUPPORT), estimate: Some(estimate), last_known: false };
    core.reserve(id, &question, now.plus_us(MINUTE), false, now).unwrap().check
}

/// The event that a reserved request has become.
fn settling(reservation: &str, record: Record) -> Record {
    let mut record = record;
    record.event.tags.insert(UsageEvent::RESERVATION_TAG.into(), reservation.to_owned().into());
    record
}

fn said(check: Check) -> (&'static str, i128, i128) {
    match check {
        Check::Allowed(None) => ("nothing matches", 0, 0),
        Check::Allowed(Some(standing)) => ("allowed", standing.fill.used.0, standing.held.0),
        Check::Reserved(standing) => ("reserved", standing.fill.used.0, standing.held.0),
        Check::Exceeds(standing) => ("exceeds", standing.fill.used.0, standing.held.0),
        Check::Blocked(standing) => ("blocked", standing.fill.used.0, standing.held.0),
        Check::WouldBlock { .. } | Check::CircuitOpen(_) => panic!("no budget is in shadow, and nothing watches"),
    }
}

fn core_with(budgets: impl IntoIterator<Item = Budget>) -> Core {
    let mut core = Core::new(CoreConfig::default());
    set_fresh(&mut core, budgets, day());
    core
}

#[test]
fn an_estimate_may_fill_a_limit_and_not_exceed_it() {
    let mut core = core_with([budget("daily", SUPPORT, &[], 100)]);
    apply(&mut core, &[Record::new("1", day(), SUPPORT, 60)]);
    assert_eq!(said(ask(&core, None)), ("allowed", 60, 0));
    assert_eq!(said(ask(&core, Some(&tokens(40)))), ("allowed", 60, 0));
    assert_eq!(said(ask(&core, Some(&tokens(41)))), ("exceeds", 60, 0));
    let unknown_class = Estimate { other_tokens: 41, ..Estimate::default() };
    assert_eq!(said(ask(&core, Some(&unknown_class))), ("exceeds", 60, 0));
    apply(&mut core, &[Record::new("2", day(), SUPPORT, 40)]);
    assert_eq!(said(ask(&core, Some(&tokens(0)))), ("blocked", 100, 0), "a cap that is reached goes first");
}

#[test]
fn each_measure_of_an_estimate_is_compared_with_its_own_limits() {
    let usd = currency("USD");
    let limits = [(Measure::Requests, 3), (Measure::Cost(usd), 500), (Measure::Images, 2)];
    let limits = limits.map(|(measure, amount)| Limit::new(measure, Amount(amount)));
    let core = core_with([Budget { limits: Limits::new(limits.into()).unwrap(), ..budget("daily", SUPPORT, &[], 1) }]);
    let cost = |pico, currency| Some(Money { amount: Pico(pico), currency });
    for (estimate, word) in [
        (Estimate { cost: cost(500, usd), ..tokens(1_000_000) }, "allowed"),
        (Estimate { cost: cost(501, usd), ..tokens(1) }, "exceeds"),
        (Estimate { cost: cost(501, currency("EUR")), ..tokens(1) }, "allowed"),
        (Estimate { requests: 4, ..Estimate::default() }, "exceeds"),
        (Estimate { images: 3, ..Estimate::default() }, "exceeds"),
    ] {
        assert_eq!(said(ask(&core, Some(&estimate))).0, word, "{estimate:?}");
    }
}

#[test]
fn what_is_held_is_not_promised_again_until_it_is_settled_released_or_over() {
    let mut core = core_with([budget("daily", SUPPORT, &[], 100), budget("all", &[], &[Dimension::Namespace], 1000)]);
    assert_eq!(said(reserve(&mut core, "a", &tokens(60), day())).0, "allowed");
    assert_eq!(said(reserve(&mut core, "b", &tokens(40), day())).0, "allowed");
    assert_eq!(said(reserve(&mut core, "c", &tokens(1), day())), ("reserved", 0, 100));
    assert_eq!(said(ask(&core, None)), ("reserved", 0, 100));
    assert_eq!(said(reserve(&mut core, "c", &tokens(101), day())), ("exceeds", 0, 100), "it would never fit");

    // The event may have used less, or more, than was held; a copy of it changes nothing.
    let event = settling("a", Record::new("1", day(), SUPPORT, 10));
    apply(&mut core, &[event.clone(), event]);
    assert_eq!(said(ask(&core, Some(&tokens(50)))), ("allowed", 10, 40));
    assert_eq!(said(ask(&core, Some(&tokens(51)))), ("reserved", 10, 40));

    assert!(core.release("b", day()) && !core.release("b", day()));
    assert_eq!(said(ask(&core, Some(&tokens(90)))), ("allowed", 10, 0));

    assert_eq!(said(reserve(&mut core, "d", &tokens(90), day())).0, "allowed");
    let before = day().plus_us(MINUTE - 1);
    assert_eq!(said(reserve(&mut core, "e", &tokens(1), before)).0, "reserved");
    assert_eq!(said(reserve(&mut core, "e", &tokens(1), day().plus_us(MINUTE))).0, "allowed");
    assert_eq!(core.stats().holds, 1);
}

#[test]
fn an_event_of_another_namespace_settles_nothing() {
    let mut core = core_with([budget("daily", SUPPORT, &[], 100)]);
    reserve(&mut core, "a", &tokens(60), day());
    let theirs = settling("a", Record::new("1", day(), &[(Dimension::Namespace, "research")], 1));
    apply(&mut core, &[theirs]);
    assert_eq!(said(ask(&core, None)), ("allowed", 0, 60));
}

#[test]
fn a_hold_counts_in_a_budget_that_comes_later_and_in_the_window_that_runs() {
    let mut core = core_with([budget("daily", SUPPORT, &[], 100)]);
    reserve(&mut core, "a", &tokens(60), day());
    for request in core.set_budgets(set([budget("new", SUPPORT, &[], 70)]), day()) {
        core.finish_history(&request);
    }
    assert_eq!(said(ask(&core, Some(&tokens(11)))), ("reserved", 0, 60));

    let midnight = at("2026-11-22T00:00:00Z");
    let late = midnight.plus_us(-1);
    let question = Question { dimensions: &dims(SUPPORT), estimate: Some(&tokens(5)), last_known: false };
    core.release("a", day());
    core.reserve("b", &question, midnight.plus_us(MINUTE), false, late).unwrap();
    assert_eq!(said(core.ask(&question, midnight)), ("allowed", 0, 5));
}

#[test]
fn soft_budgets_refuse_no_reservation_and_force_passes_hard_ones() {
    let mut core =
        core_with([Budget { mode: Mode::Soft, ..budget("soft", SUPPORT, &[], 10) }, budget("hard", SUPPORT, &[], 50)]);
    assert_eq!(said(reserve(&mut core, "a", &tokens(40), day())).0, "allowed");
    let question = Question { dimensions: &dims(SUPPORT), estimate: Some(&tokens(40)), last_known: false };
    let forced = core.reserve("b", &question, day().plus_us(MINUTE), true, day()).unwrap();
    assert_eq!(said(forced.check), ("reserved", 0, 40));
    assert_eq!(said(ask(&core, None)), ("reserved", 0, 80));
}

/// What one step of the property does; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Hold { user: usize, tokens: u64, minutes: i64 },
    Settle { hold: usize, tokens: u64, twice: bool },
    Release { hold: usize },
    Spend { user: usize, tokens: u64 },
    Wait { seconds: i64 },
    Budgets { team: i128, each: i128 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 0..60_u64, 1..5_i64).prop_map(|(user, tokens, minutes)| Step::Hold { user, tokens, minutes }),
        4 => (any::<usize>(), 0..60_u64, any::<bool>()).prop_map(|(hold, tokens, twice)| Step::Settle { hold, tokens, twice }),
        2 => any::<usize>().prop_map(|hold| Step::Release { hold }),
        1 => (0..3_usize, 0..30_u64).prop_map(|(user, tokens)| Step::Spend { user, tokens }),
        3 => (1..120_i64).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1..200_i128, 1..100_i128).prop_map(|(team, each)| Step::Budgets { team, each }),
    ]
}

const USERS: [&str; 3] = ["a", "b", "c"];

/// Everything by hand: used and held by user, and the limits.
struct Model {
    core: Core,
    now: TimeUs,
    used: [u64; 3],
    holds: BTreeMap<String, (usize, u64, TimeUs)>,
    made: usize,
    limits: (i128, i128),
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            core: Core::new(CoreConfig::default()),
            now: day(),
            used: [0; 3],
            holds: BTreeMap::new(),
            made: 0,
            limits: (100, 50),
        };
        model.set_budgets();
        model
    }

    fn set_budgets(&mut self) {
        let (team, each) = self.limits;
        let budgets = [budget("team", SUPPORT, &[], team), budget("each", SUPPORT, &[Dimension::User], each)];
        for request in self.core.set_budgets(set(budgets), self.now) {
            self.core.finish_history(&request);
        }
    }

    fn who(user: usize) -> [(Dimension, &'static str); 2] {
        [(Dimension::Namespace, "support"), (Dimension::User, USERS[user])]
    }

    fn held(&self, user: Option<usize>) -> u64 {
        self.holds.values().filter(|(of, ..)| user.is_none_or(|user| *of == user)).map(|(_, tokens, _)| tokens).sum()
    }

    /// Whether so many more tokens of a user fit beside what is used and held. A limit that is full refuses even nothing.
    fn fits(&self, user: usize, tokens: u64) -> bool {
        let fits = |used: u64, held: u64, limit: i128| {
            i128::from(used + held) < limit && i128::from(used + held + tokens) <= limit
        };
        fits(self.used.iter().sum(), self.held(None), self.limits.0)
            && fits(self.used[user], self.held(Some(user)), self.limits.1)
    }

    fn spend(&mut self, user: usize, tokens: u64, hold: Option<&str>, copies: usize) {
        self.made += 1;
        let mut event = Record::new(&format!("e{}", self.made), self.now, &Self::who(user), tokens);
        if let Some(hold) = hold {
            event = settling(hold, event);
        }
        apply(&mut self.core, &vec![event; copies]);
        self.used[user] += tokens;
    }

    fn take(&mut self, step: &Step) {
        let chosen = |at: usize, holds: &BTreeMap<String, _>| holds.keys().nth(at % holds.len().max(1)).cloned();
        match *step {
            Step::Hold { user, tokens: amount, minutes } => {
                self.made += 1;
                let (id, ends) = (format!("h{}", self.made), self.now.plus_us(minutes * MINUTE));
                let (dimensions, estimate) = (dims(&Self::who(user)), tokens(amount));
                let question = Question { dimensions: &dimensions, estimate: Some(&estimate), last_known: false };
                let check = self.core.reserve(&id, &question, ends, false, self.now).unwrap().check;
                assert_eq!(matches!(check, Check::Allowed(_)), self.fits(user, amount), "{step:?}: {check:?}");
                if matches!(check, Check::Allowed(_)) {
                    self.holds.insert(id, (user, amount, ends));
                }
            }
            Step::Settle { hold, tokens, twice } => {
                let Some(id) = chosen(hold, &self.holds) else { return };
                let (user, ..) = self.holds.remove(&id).unwrap();
                self.spend(user, tokens, Some(&id), 1 + usize::from(twice));
            }
            Step::Release { hold } => {
                let Some(id) = chosen(hold, &self.holds) else { return };
                self.holds.remove(&id);
                assert!(self.core.release(&id, self.now));
            }
            Step::Spend { user, tokens } => self.spend(user, tokens, None, 1),
            Step::Wait { seconds } => {
                self.now = self.now.plus_us(seconds * TimeUs::SECOND);
                self.holds.retain(|_, (.., ends)| *ends > self.now);
                self.core.expire_holds(self.now);
            }
            Step::Budgets { team, each } => {
                self.limits = (team, each);
                self.set_budgets();
            }
        }
        self.compare();
    }

    /// Balance and open holds are what a check compares, for every user and any estimate.
    fn compare(&self) {
        assert_eq!(self.core.stats().holds, self.holds.len());
        for user in 0..USERS.len() {
            for amount in [0, 1, 10, 50] {
                let (dimensions, estimate) = (dims(&Self::who(user)), tokens(amount));
                let question = Question { dimensions: &dimensions, estimate: Some(&estimate), last_known: false };
                let check = self.core.ask(&question, self.now);
                assert_eq!(matches!(check, Check::Allowed(_)), self.fits(user, amount), "{user} {amount}: {check:?}");
                let standing = match check {
                    Check::Allowed(standing) => standing.unwrap(),
                    Check::Reserved(standing) | Check::Exceeds(standing) | Check::Blocked(standing) => standing,
                    Check::WouldBlock { .. } | Check::CircuitOpen(_) => {
                        panic!("no budget is in shadow, and nothing watches")
                    }
                };
                let (used, held) = match &*standing.budget.id {
                    "team" => (self.used.iter().sum::<u64>(), self.held(None)),
                    _ => (self.used[user], self.held(Some(user))),
                };
                assert_eq!((standing.fill.used.0, standing.held.0), (used.into(), held.into()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_of_holds_promises_more_than_a_limit(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.take(step));
    }
}
