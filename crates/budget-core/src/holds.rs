//! Reservations: what requests under way are expected to use, held until the event that settles them, their release or their expiry.
//!
//! Holds here: the sum for a budget and scope is that of the open holds that the budget counts, whatever the budgets were when they were made.
//! A hold belongs to no window: its event may come after the window's end, so it is compared with whichever window is running.
//! Deliberately absent: durability. Holds are promises of seconds or minutes; after a restart there are none.

use std::collections::{BTreeMap, BTreeSet};

use usage_types::{Amount, BudgetId, Dimension, Dimensions, Estimate, Measure, Scope, TimeUs};

/// The most that may be open: some tens of megabytes.
pub(crate) const HOLDS_MAX: usize = 100_000;

/// Whose balance: a budget's, of a scope.
pub(crate) type Counted = (BudgetId, Scope);

/// All open holds.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    by_id: BTreeMap<Box<str>, Hold>,
    expiries: BTreeSet<(TimeUs, Box<str>)>,
    sums: BTreeMap<Counted, Sums>,
}

#[derive(Debug)]
struct Hold {
    dimensions: Dimensions<'static>,
    estimate: Estimate,
    expires_at: TimeUs,
    counted: Vec<Counted>,
}

/// Amounts by measure; none is zero.
#[derive(Debug, Default)]
pub(crate) struct Sums(Vec<(Measure, i128)>);

impl Sums {
    /// How much of a measure is held.
    pub(crate) fn get(&self, measure: Measure) -> Amount {
        Amount(self.0.iter().find(|(is, _)| *is == measure).map_or(0, |(_, sum)| *sum))
    }

    fn add(&mut self, estimate: &Estimate, sign: i128) {
        for (measure, Amount(amount)) in estimate.amounts() {
            match self.0.iter_mut().find(|(is, _)| *is == measure) {
                Some((_, sum)) => *sum += sign * amount,
                None => self.0.push((measure, sign * amount)),
            }
        }
        self.0.retain(|(_, sum)| *sum != 0);
    }
}

impl Holds {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What is held of a scope of a budget.
    pub(crate) fn of(&self, counted: &Counted) -> Option<&Sums> {
        self.sums.get(counted)
    }

    /// Opens a hold in the place of one of the same id.
    pub(crate) fn open(
        &mut self,
        id: &str,
        dimensions: &Dimensions<'_>,
        estimate: &Estimate,
        expires_at: TimeUs,
        counted: Vec<Counted>,
    ) {
        self.close(id);
        for counted in &counted {
            self.sums.entry(counted.clone()).or_default().add(estimate, 1);
        }
        self.expiries.insert((expires_at, id.into()));
        let (dimensions, estimate) = (dimensions.clone().into_owned(), estimate.clone());
        self.by_id.insert(id.into(), Hold { dimensions, estimate, expires_at, counted });
    }

    /// Ends a hold; whether there was one.
    pub(crate) fn close(&mut self, id: &str) -> bool {
        let Some(hold) = self.by_id.remove(id) else { return false };
        self.expiries.remove(&(hold.expires_at, id.into()));
        for counted in &hold.counted {
            if let Some(sums) = self.sums.get_mut(counted) {
                sums.add(&hold.estimate, -1);
                if sums.0.is_empty() {
                    self.sums.remove(counted);
                }
            }
        }
        true
    }

    /// Ends a hold of this namespace: an event cannot settle another tenant's.
    pub(crate) fn settle(&mut self, id: &str, namespace: Option<&str>) {
        if self.by_id.get(id).is_some_and(|hold| hold.dimensions.get(Dimension::Namespace) == namespace) {
            self.close(id);
        }
    }

    /// Ends the holds whose time is over.
    pub(crate) fn expire(&mut self, now: TimeUs) {
        while let Some((_, id)) = self.expiries.first().filter(|(at, _)| *at <= now).cloned() {
            self.close(&id);
        }
    }

    /// Counts all of them anew, since other budgets are in force.
    pub(crate) fn recount(&mut self, counted: impl Fn(&Dimensions<'_>) -> Vec<Counted>) {
        self.sums.clear();
        for hold in self.by_id.values_mut() {
            hold.counted = counted(&hold.dimensions);
            for counted in &hold.counted {
                self.sums.entry(counted.clone()).or_default().add(&hold.estimate, 1);
            }
        }
    }
}
