//! What the burn of the last minutes comes to: when the cap falls if it goes on, and how fast the scope may go on so that it does not.
//!
//! Burn is what a scope has used in the last while, as a rolling window of that length counts it: a budget that predicts has a second tracker for it.
//! So it is a function of the rows and the time, as balances are, and a restart finds the same.
//!
//! Holds here: a rate that was said is kept until what may be sustained has fallen by a fifth below it or risen to four times it, and once said a throttle is
//! kept while the scope uses at least half of it. So looking again changes nothing, and an event more or less seldom does.

use usage_types::{Amount, Fill, Measure, Predict, Rate, TimeUs, Window};

use crate::budgets::BudgetState;
use crate::intern::ScopeId;
use crate::ledger::Ledger;

/// What the burn of a scope comes to.
#[derive(Debug)]
pub(crate) struct Forecast {
    falls: Option<Falls>,
    /// Requests within the time over which burn is measured.
    requests: i128,
    /// When there is less burn though nothing happens.
    pub(crate) look_at: Option<TimeUs>,
    window: Window,
    now: TimeUs,
}

/// The limit that is used up first, if the burn goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Falls {
    pub(crate) fill: Fill,
    /// In how long, in microseconds.
    pub(crate) left_us: i64,
    pub(crate) burn_per_hour: Amount,
}

impl BudgetState {
    /// What the burn of a scope comes to. `None` where the budget does not predict, and for a scope that has used nothing in the window of now, or
    /// all of a limit.
    pub(crate) fn forecast(&self, ledger: &Ledger, scope: Option<ScopeId>, now: TimeUs) -> Option<Forecast> {
        let (predict, tracker) = self.budget.predict.as_ref().zip(self.burn)?;
        let used = ledger.used_at(self.tracker, scope, now);
        let limits = ledger.limits(used.at?, &self.budget);
        if limits.is_reached(|measure| used.amount(measure)) {
            return None;
        }
        let burn = ledger.used_at(tracker, scope, now);
        let over_us = i128::from(predict.over.us());
        let falls = limits.fills(|measure| used.amount(measure)).filter_map(|fill| {
            let burnt = burn.amount(fill.limit.measure).0;
            let left = fill.limit.blocks_at().0 - fill.used.0;
            let left_us = (burnt > 0).then(|| scaled(left, over_us, burnt))?;
            let left_us = i64::try_from(left_us).unwrap_or(i64::MAX);
            let burn_per_hour = Amount(scaled(burnt, i128::from(TimeUs::HOUR), over_us));
            Some(Falls { fill, left_us, burn_per_hour })
        });
        // Among equals the first of the file.
        let falls = falls.reduce(|first, other| if other.left_us < first.left_us { other } else { first });
        let requests = burn.amount(Measure::Requests).0;
        Some(Forecast { falls, requests, look_at: burn.leaves_at(), window: used.window, now })
    }
}

impl Forecast {
    /// The limit that is used up within so long, and before the window ends.
    pub(crate) fn within(&self, within_us: i64) -> Option<Falls> {
        let is_due = |falls: &Falls| falls.left_us <= within_us && self.now.plus_us(falls.left_us) < self.window.end;
        self.falls.filter(is_due)
    }

    /// How fast the scope may go on; `None`: as fast as it likes. `last` is what was said before in this window.
    pub(crate) fn slow(&self, predict: &Predict, last: Option<Rate>) -> Option<Rate> {
        let is_near = self.within(predict.slow_us?).is_some();
        let falls = self.falls?;
        let per_hour = self.sustained_per_hour(predict, falls);
        let kept = last.filter(|last| is_kept(*last, per_hour, predict.floor));
        let rate = kept.unwrap_or_else(|| rounded(per_hour, predict.floor));
        (is_near || (last.is_some() && self.is_busy(predict, rate))).then_some(rate)
    }

    /// The requests of an hour, if what is left lasted until the window ends: as many as now, less by as much as the cap would fall too early.
    fn sustained_per_hour(&self, predict: &Predict, falls: Falls) -> i128 {
        let per_hour = scaled(self.requests.max(1), i128::from(TimeUs::HOUR), i128::from(predict.over.us()));
        let rest_us = i128::from((self.window.end.0 - self.now.0).max(1));
        scaled(per_hour, i128::from(falls.left_us), rest_us)
    }

    /// Whether the scope uses at least half of a rate: it may be what holds it back.
    fn is_busy(&self, predict: &Predict, rate: Rate) -> bool {
        let passes = i128::from(rate.requests) * i128::from(predict.over.us());
        self.requests * 2 * i128::from(rate.per_s) * i128::from(TimeUs::SECOND) >= passes
    }
}

fn is_kept(last: Rate, per_hour: i128, floor: Rate) -> bool {
    let said = hourly(last);
    let is_low_enough = said * 4 <= per_hour.saturating_mul(5) || last == floor;
    is_low_enough && said.saturating_mul(4) >= per_hour && last.cmp_speed(floor).is_ge()
}

fn hourly(rate: Rate) -> i128 {
    i128::from(rate.requests) * 3600 / i128::from(rate.per_s.max(1))
}

/// 1, 2, 5, 10, 20, 50, … a minute, and below one a minute an hour: so many or fewer, but not below the floor.
fn rounded(per_hour: i128, floor: Rate) -> Rate {
    let (count, per_s) = if per_hour >= 60 { (per_hour / 60, 60) } else { (per_hour, 3600) };
    let mut step = 1_i128;
    while step <= count / 10 {
        step *= 10;
    }
    let digit = [5, 2].into_iter().find(|digit| step * digit <= count).unwrap_or(1);
    let requests = u64::try_from(step * digit).unwrap_or(u64::MAX);
    let rate = Rate { requests, per_s };
    if count < 1 || rate.cmp_speed(floor).is_lt() { floor } else { rate }
}

/// `value × by / per`, rounded down; divided first where the product would not fit.
pub(crate) fn scaled(value: i128, by: i128, per: i128) -> i128 {
    value.checked_mul(by).map_or_else(|| (value / per).saturating_mul(by), |product| product.div_euclid(per))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Rate = Rate { requests: 1, per_s: 60 };

    #[test]
    fn a_rate_is_rounded_down_to_a_plain_number_and_not_below_the_floor() {
        let of = |per_hour| rounded(per_hour, Rate { requests: 1, per_s: 3600 });
        for (per_hour, requests, per_s) in [
            (0, 1, 3600),
            (1, 1, 3600),
            (59, 50, 3600),
            (60, 1, 60),
            (119, 1, 60),
            (120, 2, 60),
            (299, 2, 60),
            (300, 5, 60),
            (599, 5, 60),
            (600, 10, 60),
            (6_000_000, 100_000, 60),
        ] {
            assert_eq!(of(per_hour), Rate { requests, per_s }, "{per_hour}");
        }
        assert_eq!(rounded(59, FLOOR), FLOOR);
    }

    #[test]
    fn what_was_just_said_is_kept_and_so_it_is_while_what_may_be_sustained_changes_little() {
        for per_hour in (0..2_000).chain([1 << 40]) {
            assert!(is_kept(rounded(per_hour, FLOOR), per_hour, FLOOR), "{per_hour}");
        }
        let ten = Rate { requests: 10, per_s: 60 };
        let kept: Vec<i128> = (0..4_000).filter(|per_hour| is_kept(ten, *per_hour, FLOOR)).collect();
        assert_eq!((kept.first(), kept.last()), (Some(&480), Some(&2_400)));
    }
}
