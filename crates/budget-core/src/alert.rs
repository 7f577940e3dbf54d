//! Alerts: a balance has reached a threshold of its budget.
//!
//! Holds here: one alert for an id, whatever restarts in between, as long as the ids that were published are loaded.
//! An ended window alerts too (the process may have been down when it ended, events may come late), but a budget that is new
//! or changed does not report on windows that were over before: see [`Alerts::may_raise`].

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use usage_types::{
    Alert, Amount, Fill, Ppm, Predicted, Scope, TimeUs, Window, WindowKind, alert_id, predicted_alert_id,
};

use crate::balance::Balance;
use crate::budgets::{BudgetState, Since};
use crate::crossing::{Crossings, crossing_key};
use crate::forecast::scaled;
use crate::ledger::Ledger;
use crate::moving::Used;

/// How far before the last event that it knew a restarted core reports on windows that had ended: far more than passes between
/// folding an event and publishing its alert, and little enough not to dig up what a budget never reported on.
const LOOKBACK_US: i64 = TimeUs::HOUR;
/// How far append times of different partitions may be apart, for a budget that comes while events flow.
const SKEW_US: i64 = TimeUs::MINUTE;

/// Which alerts were raised.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    /// By id, with the end of the window, after which it can be forgotten.
    raised: HashMap<String, TimeUs>,
    /// Raised, but not published: to be raised again as they are.
    again: BTreeMap<String, Alert>,
    /// Of moving windows.
    crossings: Crossings,
}

impl Alerts {
    /// Takes one that the log holds. What was raised of a window that ended by the floor is not needed any more.
    pub(crate) fn load(&mut self, alert: Alert, floor: TimeUs) {
        if alert.every == WindowKind::Rolling.name() || alert.every == WindowKind::Lifetime.name() {
            self.crossings.load(&alert);
        } else if alert.window.end > floor {
            self.raised.insert(alert.id, alert.window.end);
        }
    }

    pub(crate) fn retract(&mut self, alert: &Alert) {
        self.again.insert(alert.id.clone(), alert.clone());
    }

    /// Takes those that have to be raised again.
    pub(crate) fn take_again(&mut self) -> BTreeMap<String, Alert> {
        std::mem::take(&mut self.again)
    }

    pub(crate) fn forget_ended(&mut self, floor: TimeUs) {
        self.raised.retain(|_, end| *end > floor);
        self.crossings.forget(floor);
    }

    pub(crate) fn len(&self) -> usize {
        self.raised.len() + self.crossings.len()
    }

    /// Every scope of a moving window has been looked at since alerts were loaded.
    pub(crate) fn settle(&mut self, now: TimeUs) {
        self.crossings.settle(now);
    }

    /// Raises what a scope has reached in a moving window, where that is a new crossing. Whether one is known.
    pub(crate) fn judge_moving(
        &mut self,
        ledger: &Ledger,
        balance_at: u32,
        state: &BudgetState,
        used: &Used<'_>,
        now: TimeUs,
        raised: &mut BTreeMap<String, Alert>,
    ) -> bool {
        let (budget, limits) = (&state.budget, ledger.limits(balance_at, &state.budget));
        let Some(lowest) = budget.alerts.at.first() else { return false };
        let fill = limits.tightest(|measure| used.amount(measure));
        if !fill.has_reached(*lowest) && used.lane.is_some_and(|lane| lane.has_crossed == Some(false)) {
            return false;
        }
        let is_reached = limits.is_reached(|measure| used.amount(measure));
        let window = if is_reached { used.reached_window(ledger, limits) } else { used.window };
        let scope = ledger.scope_of(balance_at);
        let (mut key, mut has_crossed) = (crossing_key(&budget.id, &scope, &budget.window.id_name(), ""), false);
        let prefix = key.len();
        for threshold in &budget.alerts.at {
            key.truncate(prefix);
            let _infallible = write!(key, "{threshold}");
            let above_until = fill.has_reached(*threshold).then(|| used.falls_below(ledger, limits, *threshold));
            let is_new = self.crossings.judge(&key, above_until, budget.window, window.start, now);
            has_crossed |= self.crossings.knows(&key);
            if is_new {
                let id = alert_id(&budget.id, &scope, budget.window, window.start, *threshold);
                raised.insert(id.clone(), alert(id, state, &scope, window, *threshold, fill, now));
            }
        }
        has_crossed
    }

    /// Raises what a balance has reached.
    pub(crate) fn judge(
        &mut self,
        ledger: &mut Ledger,
        balance_at: u32,
        state: &BudgetState,
        restored_until: Option<TimeUs>,
        now: TimeUs,
        raised: &mut BTreeMap<String, Alert>,
    ) {
        let budget = &state.budget;
        let balance = ledger.balances.get(balance_at);
        let window = ledger.windows.get(balance.window).window;
        let done = balance.flags.thresholds();
        if done == budget.alerts.at.len() {
            return;
        }
        // A share that any limit has reached the tightest has reached.
        let fill = ledger.limits(balance_at, budget).tightest(|measure| balance.amount(measure));
        let reached = budget.alerts.at.iter().take_while(|at| fill.has_reached(**at)).count();
        if reached <= done || !Self::may_raise(state.since, restored_until, balance, window) {
            return;
        }
        let scope = ledger.scope_of(balance_at);
        for threshold in &budget.alerts.at[done..reached] {
            let id = alert_id(&budget.id, &scope, budget.window, window.start, *threshold);
            if !self.raised.contains_key(&id) {
                self.raised.insert(id.clone(), window.end);
                raised.insert(id.clone(), alert(id, state, &scope, window, *threshold, fill, now));
            }
        }
        ledger.balances.get_mut(balance_at).flags.set_thresholds(reached);
    }

    /// Raises that a scope will have used up its budget soon, once in a window.
    pub(crate) fn foresee(
        &mut self,
        ledger: &Ledger,
        balance_at: u32,
        state: &BudgetState,
        now: TimeUs,
        raised: &mut BTreeMap<String, Alert>,
    ) {
        let budget = &state.budget;
        let Some((predict, warn_us)) = budget.predict.and_then(|predict| Some((predict, predict.warn_us?))) else {
            return;
        };
        let balance = ledger.balances.get(balance_at);
        let window = ledger.windows.get(balance.window).window;
        if !window.contains(now) {
            return;
        }
        let forecast = state.forecast(ledger, Some(balance.scope), now);
        let Some(falls) = forecast.and_then(|forecast| forecast.within(warn_us)) else { return };
        let scope = ledger.scope_of(balance_at);
        let id = predicted_alert_id(&budget.id, &scope, budget.window, window.start);
        if self.raised.contains_key(&id) {
            return;
        }
        self.raised.insert(id.clone(), window.end);
        let (fill, measure) = (falls.fill, falls.fill.limit.measure);
        let seconds = |us: i64| (us / TimeUs::SECOND).unsigned_abs();
        let foreseen = Alert {
            burn_per_hour: measure.format(falls.burn_per_hour),
            exhausted_at: Some(now.plus_us(falls.left_us)),
            predicted: Some(Predicted { over_s: seconds(predict.over.us()), within_s: seconds(warn_us) }),
            ..alert(id.clone(), state, &scope, window, whole_percent(fill), fill, now)
        };
        raised.insert(id, foreseen);
    }

    fn may_raise(since: Since, restored_until: Option<TimeUs>, balance: &Balance, window: Window) -> bool {
        let since = match since {
            Since::At(time) => time.plus_us(-SKEW_US),
            Since::Start => match restored_until {
                Some(time) => time.plus_us(-LOOKBACK_US),
                None => return true,
            },
        };
        // An event of this second may have come at its end.
        window.end > since || (i64::from(balance.touched_s) + 1) * TimeUs::SECOND > since.0
    }
}

fn alert(
    id: String,
    state: &BudgetState,
    scope: &Scope,
    window: Window,
    threshold: Ppm,
    fill: Fill,
    now: TimeUs,
) -> Alert {
    let budget = &state.budget;
    let (measure, limit) = (fill.limit.measure, fill.limit.amount);
    let (burn_per_hour, mut exhausted_at) = projection(fill.used, limit, window, now);
    if budget.window.is_moving() {
        // What is used leaves a rolling window as fast as it came, and how long a lifetime goes on nobody knows.
        exhausted_at = None;
    }
    Alert {
        id,
        budget: budget.id.to_string(),
        scope: scope.clone(),
        window,
        every: budget.window.every_name().to_owned(),
        window_name: budget.window.window_name(),
        threshold: threshold.to_string(),
        measure: measure.name().to_owned(),
        currency: measure.currency(),
        limit: measure.format(limit),
        used: measure.format(fill.used),
        burn_per_hour: measure.format(burn_per_hour),
        exhausted_at,
        mode: state.mode_of(scope).name().to_owned(),
        raised_at: now,
        to: budget.alerts.to.clone(),
        overage: fill.limit.told_overage(),
        predicted: None,
        progress: None,
    }
}

/// Used per hour over the part of the window that has passed (at least a second), and when the rest of the limit is used up
/// at that rate, if that is before the window ends.
fn projection(used: Amount, limit: Amount, window: Window, now: TimeUs) -> (Amount, Option<TimeUs>) {
    let until = now.0.min(window.end.0);
    let elapsed_us = i128::from((until - window.start.0).max(TimeUs::SECOND));
    let per_hour = scaled(used.0, i128::from(TimeUs::HOUR), elapsed_us);
    let left = limit.0.saturating_sub(used.0);
    if left <= 0 || used.0 <= 0 {
        return (Amount(per_hour), None);
    }
    let exhausted_at =
        i64::try_from(scaled(left, elapsed_us, used.0)).ok().map(|left_us| TimeUs(until).plus_us(left_us));
    (Amount(per_hour), exhausted_at.filter(|at| *at < window.end && now < window.end))
}

/// The share that is used, in whole percent: what who does not know of predictions takes for the threshold, and it is true.
fn whole_percent(fill: Fill) -> Ppm {
    let percent = scaled(fill.used.0.max(0), 100, fill.limit.amount.0.max(1));
    Ppm(u32::try_from(percent).unwrap_or(u32::MAX / 10_000).min(u32::MAX / 10_000) * 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> Window {
        Window { start: TimeUs(0), end: TimeUs(TimeUs::DAY), zone: chrono_tz::UTC }
    }

    #[test]
    fn a_projection_goes_on_at_the_rate_so_far() {
        let six = TimeUs(6 * TimeUs::HOUR);
        let at = |hours: i64| Some(TimeUs(hours * TimeUs::HOUR));
        assert_eq!(projection(Amount(600), Amount(1_000), day(), six), (Amount(100), at(10)));
        // Not within the window, used up already, over.
        assert_eq!(projection(Amount(600), Amount(3_000), day(), six), (Amount(100), None));
        assert_eq!(projection(Amount(600), Amount(600), day(), six), (Amount(100), None));
        assert_eq!(projection(Amount(480), Amount(500), day(), TimeUs(TimeUs::DAY)), (Amount(20), None));
    }

    #[test]
    fn a_projection_of_an_amount_at_the_end_of_its_range_does_not_overflow() {
        let (per_hour, at) = projection(Amount(i128::MAX / 2), Amount(i128::MAX), day(), TimeUs(TimeUs::HOUR));
        assert!(per_hour.0 > 0);
        assert!(at.is_some_and(|at| at.0 > TimeUs::HOUR));
    }
}
