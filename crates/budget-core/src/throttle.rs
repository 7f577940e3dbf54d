//! Rationing: which of the requests that are asked about pass a throttle.
//!
//! A throttle is a rate that a decision says of a scope. It is kept by the generic cell rate algorithm: of each throttle one time is kept, at
//! which the next request would come if all of them came evenly. A request passes where that is not further ahead than the burst allows, and puts it off
//! by one interval. So between two times that lie `per_s` apart never more pass than `requests` and what the burst is above one.
//!
//! Holds here: what passes depends on the questions and their times alone. A time that is over says nothing, so it is forgotten. Deliberately absent:
//! durability. After a restart a burst may pass that had passed before.

use std::cmp::Ordering;
use std::collections::HashMap;

use usage_types::{BudgetId, Fill, Rate, Scope, Throttle, TimeUs, Window, decision_key};

/// A throttle that a request meets, and what it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ration {
    /// The budget or breaker that throttles.
    pub budget: BudgetId,
    /// For whom.
    pub scope: Scope,
    /// How fast, and why.
    pub throttle: Throttle,
    /// From when until when.
    pub window: Window,
    /// How the budget stands; of a circuit, what opened it.
    pub fill: Fill,
    /// How many requests would pass at once after this one.
    pub remaining: u64,
    /// Where this one does not pass, when one would.
    pub retry_at: Option<TimeUs>,
    /// When as many requests would pass again as ever; where none is left, when the next one does.
    pub full_at: TimeUs,
}

/// A throttle that is in force for a scope.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) budget: BudgetId,
    pub(crate) scope: Scope,
    pub(crate) throttle: Throttle,
    pub(crate) window: Window,
    pub(crate) fill: Fill,
    pub(crate) is_shadow: bool,
}

/// What a question meets.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// The throttle that refuses it or, where none does, the one that leaves least.
    pub(crate) effective: Option<Ration>,
    /// The one that would refuse it if it were not in shadow.
    pub(crate) shadow: Option<Ration>,
}

/// When the next request of each throttled scope is due.
#[derive(Debug, Default)]
pub(crate) struct Rations {
    by_key: HashMap<String, Gate>,
}

#[derive(Debug, Clone, Copy)]
struct Gate {
    /// The throttle that it is of began then: another one begins anew.
    since: TimeUs,
    /// When the last one passed, and at which rate.
    passed_at: TimeUs,
    rate: Rate,
    due: TimeUs,
}

impl Rations {
    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Forgets what says nothing any more.
    pub(crate) fn forget(&mut self, now: TimeUs) {
        self.by_key.retain(|_, gate| gate.due > now);
    }

    /// Asks these throttles for so many requests. A question passes all that are effective, or takes nothing from any.
    pub(crate) fn ask(&mut self, throttles: Vec<InForce>, requests: u64, now: TimeUs) -> Met {
        let (shadow, effective): (Vec<_>, Vec<_>) = throttles.into_iter().partition(|throttle| throttle.is_shadow);
        let refused = effective.iter().filter_map(|throttle| self.refuse(throttle, now)).reduce(longest);
        if refused.is_some() {
            return Met { effective: refused, shadow: None };
        }
        let passed = effective.into_iter().map(|throttle| self.pass(throttle, requests, now)).reduce(tightest);
        let mut met = Met { effective: passed, shadow: None };
        for throttle in shadow {
            match self.refuse(&throttle, now) {
                Some(refused) => met.shadow = [met.shadow.take(), Some(refused)].into_iter().flatten().reduce(longest),
                None => drop(self.pass(throttle, requests, now)),
            }
        }
        met
    }

    /// When the next request is due by this throttle; not before now.
    fn due(&self, throttle: &InForce, now: TimeUs) -> TimeUs {
        let known = self.by_key.get(&decision_key(&throttle.budget, &throttle.scope));
        let Some(gate) = known.filter(|gate| gate.since == throttle.window.start) else { return now };
        let due = match gate.rate == throttle.throttle.rate() {
            true => gate.due,
            // What passed at another rate puts nothing off for longer than the present one may.
            false => gate.due.min(gate.passed_at.plus_us(span_us(&throttle.throttle))),
        };
        due.max(now)
    }

    fn refuse(&self, throttle: &InForce, now: TimeUs) -> Option<Ration> {
        let ready_at = ready_at(&throttle.throttle, self.due(throttle, now));
        // At its end the throttle is over, whatever the rate.
        let retry_at = Some(ready_at.min(throttle.window.end)).filter(|_| ready_at > now)?;
        Some(ration(throttle.clone(), 0, Some(retry_at), retry_at))
    }

    fn pass(&mut self, throttle: InForce, requests: u64, now: TimeUs) -> Ration {
        let (limit, rate) = (&throttle.throttle, throttle.throttle.rate());
        let interval_us = rate.interval_us();
        let taken_us = interval_us.saturating_mul(i64::try_from(requests.max(1)).unwrap_or(i64::MAX));
        let due = self.due(&throttle, now).plus_us(taken_us);
        let gate = Gate { since: throttle.window.start, passed_at: now, rate, due };
        self.by_key.insert(decision_key(&throttle.budget, &throttle.scope), gate);
        let left_us = now.plus_us(span_us(limit)).0.saturating_sub(due.0).max(0);
        let remaining = (left_us / interval_us).unsigned_abs();
        let full_at = if remaining == 0 { ready_at(limit, due) } else { due };
        let full_at = full_at.min(throttle.window.end);
        ration(throttle, remaining, None, full_at)
    }
}

/// How far ahead the next request may be due after one has passed.
fn span_us(throttle: &Throttle) -> i64 {
    throttle.rate().interval_us().saturating_mul(i64::try_from(throttle.burst.max(1)).unwrap_or(i64::MAX))
}

/// When one passes, if the next one is due then.
fn ready_at(throttle: &Throttle, due: TimeUs) -> TimeUs {
    due.plus_us(throttle.rate().interval_us().saturating_sub(span_us(throttle)))
}

fn ration(of: InForce, remaining: u64, retry_at: Option<TimeUs>, full_at: TimeUs) -> Ration {
    let InForce { budget, scope, throttle, window, fill, is_shadow: _ } = of;
    Ration { budget, scope, throttle, window, fill, remaining, retry_at, full_at }
}

/// Of several that refuse the one that does so for longest is named. The id settles a tie.
fn longest(a: Ration, b: Ration) -> Ration {
    let order = a.retry_at.cmp(&b.retry_at).then_with(|| b.budget.cmp(&a.budget));
    if order == Ordering::Less { b } else { a }
}

/// Of several that let a request pass the one that leaves least, then the slowest.
fn tightest(a: Ration, b: Ration) -> Ration {
    let by_rate = || a.throttle.rate().cmp_speed(b.throttle.rate());
    let order = a.remaining.cmp(&b.remaining).then_with(by_rate).then_with(|| a.budget.cmp(&b.budget));
    if order == Ordering::Greater { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usage_types::{Amount, Limit, Measure, ThrottleReason};

    fn throttle(budget: &str, requests: u64, per_s: u64, burst: u64) -> InForce {
        let window = Window { start: TimeUs(0), end: TimeUs(TimeUs::DAY), zone: chrono_tz::UTC };
        let fill = Fill { limit: Limit::new(Measure::Requests, Amount(1)), used: Amount(1) };
        let throttle = Throttle::new(ThrottleReason::CircuitHalfOpen, Rate { requests, per_s }, burst);
        InForce { budget: budget.into(), scope: Scope::default(), throttle, window, fill, is_shadow: false }
    }

    fn at(ms: i64) -> TimeUs {
        TimeUs(ms * 1_000)
    }

    fn passes(rations: &mut Rations, of: &InForce, ms: i64) -> bool {
        rations.ask(vec![of.clone()], 1, at(ms)).effective.unwrap().retry_at.is_none()
    }

    #[test]
    fn the_stated_rate_passes_evenly_and_no_more() {
        let (mut rations, of) = (Rations::default(), throttle("b", 5, 60, 1));
        let passed: Vec<i64> = (0..600).map(|tenth| tenth * 100).filter(|ms| passes(&mut rations, &of, *ms)).collect();
        assert_eq!(passed, [0, 12_000, 24_000, 36_000, 48_000]);
        let refused = rations.ask(vec![of], 1, at(50_000)).effective.unwrap();
        assert_eq!((refused.retry_at, refused.full_at, refused.remaining), (Some(at(60_000)), at(60_000), 0));
    }

    #[test]
    fn a_burst_passes_at_once_and_is_filled_again_evenly() {
        let (mut rations, of) = (Rations::default(), throttle("b", 60, 60, 10));
        let left: Vec<u64> =
            (0..3).map(|_| rations.ask(vec![of.clone()], 1, at(0)).effective.unwrap().remaining).collect();
        assert_eq!(left, [9, 8, 7]);
        assert_eq!((0..20).filter(|_| passes(&mut rations, &of, 0)).count(), 7);
        assert_eq!((0..20).filter(|_| passes(&mut rations, &of, 3_500)).count(), 3);
        // In any minute no more than the rate and the burst.
        let passed = (3_501..63_501).filter(|ms| passes(&mut rations, &of, *ms)).count();
        assert!((59..=60).contains(&passed), "{passed}");
        assert_eq!((0..20).filter(|_| passes(&mut rations, &of, 600_000)).count(), 10);
    }

    #[test]
    fn many_requests_in_one_question_are_paid_for_afterwards() {
        let (mut rations, of) = (Rations::default(), throttle("b", 60, 60, 1));
        let asked = rations.ask(vec![of.clone()], 5, at(0)).effective.unwrap();
        assert_eq!((asked.retry_at, asked.full_at), (None, at(5_000)));
        assert!(!passes(&mut rations, &of, 4_999) && passes(&mut rations, &of, 5_000));
    }

    #[test]
    fn of_several_throttles_the_one_that_refuses_for_longest_is_told_and_none_is_charged() {
        let (mut rations, fast, slow) = (Rations::default(), throttle("fast", 60, 60, 2), throttle("slow", 1, 60, 1));
        let both = || vec![slow.clone(), fast.clone()];
        assert_eq!(rations.ask(both(), 1, at(0)).effective.unwrap().budget, "slow".into());
        let refused = rations.ask(both(), 1, at(10)).effective.unwrap();
        assert_eq!((&*refused.budget, refused.retry_at), ("slow", Some(at(60_000))));
        // What was refused took nothing from the other one.
        assert!(passes(&mut rations, &fast, 20) && !passes(&mut rations, &fast, 30));
        assert_eq!(rations.ask(both(), 1, at(30)).effective.unwrap().retry_at, Some(at(60_000)));
    }

    #[test]
    fn what_would_refuse_in_shadow_is_told_and_refuses_nobody() {
        let mut rations = Rations::default();
        let of = || vec![InForce { is_shadow: true, ..throttle("b", 1, 60, 1) }];
        let first = rations.ask(of(), 1, at(0));
        assert!(first.effective.is_none() && first.shadow.is_none());
        let second = rations.ask(of(), 1, at(1));
        assert!(second.effective.is_none());
        assert_eq!(second.shadow.unwrap().retry_at, Some(at(60_000)));
    }

    #[test]
    fn another_rate_or_another_throttle_owes_nothing_of_the_one_before() {
        let mut rations = Rations::default();
        assert!(passes(&mut rations, &throttle("b", 1, 3_600, 1), 0));
        let faster = throttle("b", 60, 60, 1);
        assert!(!passes(&mut rations, &faster, 10) && passes(&mut rations, &faster, 1_010));
        let mut next = faster;
        next.window.start = at(1_020);
        assert!(passes(&mut rations, &next, 1_020));
        rations.forget(at(2_019));
        assert_eq!(rations.len(), 1);
        rations.forget(at(2_020));
        assert_eq!(rations.len(), 0);
    }
}
