//! Circuit breakers in the simplest way: every row that a circuit has metered is kept, and summed anew for every trip.

use std::collections::BTreeMap;

use budget_core::RestoredRow;
use usage_types::{Breaker, BudgetId, Scope, TimeUs, Trip};

use super::amount;

/// What a circuit has metered: the row, the values of its tags and whether the circuit has opened since.
struct Metered<'a> {
    row: RestoredRow<'a>,
    tags: &'a BTreeMap<String, String>,
    is_over: bool,
}

/// The circuit of a scope.
#[derive(Default)]
pub struct Circuit<'a> {
    metered: Vec<Metered<'a>>,
    first: Option<TimeUs>,
    newest: Option<TimeUs>,
    /// When it opened, and how many requests came since it is half open.
    open: Option<(TimeUs, u64)>,
}

/// A tenth of the time of a trip.
fn part(trip: &Trip, time: TimeUs) -> i64 {
    time.0.div_euclid(trip.within_us / 10)
}

impl<'a> Circuit<'a> {
    /// Meters a row. What tripped it, where it opens: the measure's place among the trips and how much was used.
    pub fn meter(
        &mut self,
        breaker: &Breaker,
        row: RestoredRow<'a>,
        tags: &'a BTreeMap<String, String>,
        last: Option<(usize, i128)>,
    ) -> Option<(usize, i128)> {
        let now = row.time;
        let past_us = |trip: &Trip| trip.within_us + trip.surge.map_or(0, |surge| surge.of_us);
        let kept_us = breaker.trips.iter().map(past_us).max().unwrap().max(breaker.open_us + breaker.half_open_us);
        if self.newest.is_some_and(|newest| newest.plus_us(kept_us) <= now) {
            *self = Self::default();
        }
        self.newest = Some(now);
        let first = *self.first.get_or_insert(now);
        if let Some((since, trickled)) = self.open {
            let half_open = since.plus_us(breaker.open_us);
            if now < half_open {
                return None;
            }
            if now < half_open.plus_us(breaker.half_open_us) {
                self.open = Some((since, trickled + row.requests));
                if trickled + row.requests > breaker.trickle {
                    self.open(now);
                    return last;
                }
            } else {
                self.open = None;
            }
        }
        self.metered.push(Metered { row, tags, is_over: false });
        let tripped = breaker.trips.iter().enumerate().find_map(|(at, trip)| {
            let used = |is_recent: bool| -> i128 {
                let counts = |metered: &&Metered<'_>| {
                    let is = !metered.is_over && part(trip, metered.row.time) > part(trip, now) - 10;
                    let same = trip.same.as_ref().is_none_or(|tag| {
                        let value = metered.tags.get(tag);
                        value.is_some() && value == tags.get(tag)
                    });
                    is == is_recent && same
                };
                let of = |metered: &Metered<'_>| amount(&metered.row, trip.limit.measure);
                let oldest = trip
                    .surge
                    .map_or(0, |surge| (part(trip, now) - 10 - surge.of_us / (trip.within_us / 10)).div_euclid(10));
                let is_known =
                    |metered: &&Metered<'_>| is_recent || part(trip, metered.row.time).div_euclid(10) >= oldest;
                self.metered.iter().filter(counts).filter(is_known).map(of).sum()
            };
            if trip.same.as_ref().is_some_and(|tag| !tags.contains_key(tag)) {
                return None;
            }
            let recent = used(true);
            let is_unusual = trip.surge.is_none_or(|surge| {
                let is_known = first.plus_us(surge.of_us + trip.within_us) <= now;
                let usual = used(false) * i128::from(trip.within_us / TimeUs::SECOND) * i128::from(surge.times);
                is_known && recent * i128::from(surge.of_us / TimeUs::SECOND) > usual
            });
            (recent >= trip.limit.amount.0 && is_unusual).then_some((at, recent))
        });
        if tripped.is_some() {
            self.open(now);
        }
        tripped
    }

    fn open(&mut self, now: TimeUs) {
        self.open = Some((now, 0));
        self.metered.iter_mut().for_each(|metered| metered.is_over = true);
    }
}

/// All circuits, with what tripped each last.
pub type Circuits<'a> = BTreeMap<(BudgetId, Scope), (Circuit<'a>, Option<(usize, i128)>)>;
