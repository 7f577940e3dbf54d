//! The buckets of a scope in a window that moves, and a sum that is kept up to date while they come and go.
//!
//! Holds here: a lane has every bucket of its scope that has a balance. Its sum is what adding up the buckets in its range would give, so a look adds and
//! takes off only those that came and went since the one before. It leaves the newest bucket out, because that is where events are added; what is
//! added to another one is added to the sum as well ([`Flags::SUMMED`] says of a balance that it is in a sum).
//! A sum that has reached the end of its range is not used.

use std::ops::Range;

use usage_types::TimeUs;

use crate::balance::{Balance, Flags, Usage};
use crate::intern::ScopeId;
use crate::slab::Slab;

/// A bucket: its first instant and its balance.
pub(crate) type Bucket = (TimeUs, u32);

/// The buckets of one scope.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Oldest first.
    buckets: Vec<Bucket>,
    sum: Balance,
    /// The sum is of the buckets that begin in this range.
    summed: Range<TimeUs>,
    /// The newest bucket from which something was taken back.
    taken_back: Option<TimeUs>,
    /// A block, or what would be one, is in force by the last decision.
    pub(crate) is_reached: bool,
    /// Whether a threshold of it is known to have been crossed; `None` until that was looked up for the present budget.
    pub(crate) has_crossed: Option<bool>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            buckets: Vec::new(),
            sum: Balance::default(),
            summed: TimeUs(i64::MIN)..TimeUs(i64::MIN),
            taken_back: None,
            is_reached: false,
            has_crossed: None,
        }
    }
}

impl Lane {
    /// The buckets from a time on, oldest first.
    pub(crate) fn from(&self, from: TimeUs) -> &[Bucket] {
        &self.buckets[self.buckets.partition_point(|(start, _)| *start < from)..]
    }

    /// Whether something was taken back from a bucket that begins then or later.
    pub(crate) fn has_taken_back(&self, from: TimeUs) -> bool {
        self.taken_back.is_some_and(|start| start >= from)
    }

    /// The range of a sum of the buckets from a time on without the newest.
    fn range(&self, from: TimeUs) -> Range<TimeUs> {
        from..self.buckets.last().map_or(from, |(newest, _)| *newest)
    }

    /// Moves the sum on to the buckets from a time on.
    pub(crate) fn move_to(&mut self, from: TimeUs, balances: &mut Slab<Balance>) {
        let range = self.range(from);
        let is_lost = self.sum.flags.has(Flags::SATURATED);
        if self.summed == range && !is_lost {
            return;
        }
        let before = std::mem::replace(&mut self.summed, range);
        if is_lost {
            self.sum = Balance::default();
        }
        for (start, at) in &self.buckets {
            let balance = balances.get_mut(*at);
            let (was_in, is_in) = (before.contains(start), self.summed.contains(start));
            match (was_in && !is_lost, is_in) {
                (false, true) => self.sum.absorb(balance),
                (true, false) => self.sum.give_back(balance),
                _ => {}
            }
            balance.flags.set(Flags::SUMMED, is_in);
        }
    }

    /// The sum of the buckets from a time on; `None` where there is none.
    pub(crate) fn total(&self, from: TimeUs, balances: &Slab<Balance>) -> Option<Balance> {
        let buckets = self.from(from);
        let (_, newest) = buckets.last()?;
        let range = self.range(from);
        let mut sum = self.sum.clone();
        if self.summed != range {
            for (start, at) in &self.buckets {
                match (self.summed.contains(start), range.contains(start)) {
                    (false, true) => sum.absorb(balances.get(*at)),
                    (true, false) => sum.give_back(balances.get(*at)),
                    _ => {}
                }
            }
        }
        sum.absorb(balances.get(*newest));
        Some(if sum.flags.has(Flags::SATURATED) { sum_of(buckets, balances) } else { sum })
    }

    /// Notes what was added to one of its buckets, or taken back from it, which is in its sum or takes something back.
    fn note(&mut self, start: TimeUs, usage: &Usage<'_>, is_saturated: bool) {
        if self.summed.contains(&start) {
            self.sum.add(usage);
            self.sum.flags.set(Flags::SATURATED, is_saturated || self.sum.flags.has(Flags::SATURATED));
        }
        if usage.takes_back() {
            self.taken_back = self.taken_back.max(Some(start));
        }
    }
}

/// The sum of buckets, from the oldest on.
pub(crate) fn sum_of(buckets: &[Bucket], balances: &Slab<Balance>) -> Balance {
    let mut sum = Balance::default();
    buckets.iter().for_each(|(_, at)| sum.absorb(balances.get(*at)));
    sum
}

/// The lanes of a tracker.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_scope: hashbrown::HashMap<ScopeId, Lane, ahash::RandomState>,
    /// How many buckets their lists have room for.
    room: usize,
}

impl Lanes {
    pub(crate) fn get(&self, scope: ScopeId) -> Option<&Lane> {
        self.by_scope.get(&scope)
    }

    pub(crate) fn get_mut(&mut self, scope: ScopeId) -> Option<&mut Lane> {
        self.by_scope.get_mut(&scope)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.by_scope.values_mut()
    }

    /// Adds a bucket, with a balance that holds nothing yet. Whether it is in the sum.
    pub(crate) fn insert(&mut self, scope: ScopeId, (start, at): Bucket) -> bool {
        let lane = self.by_scope.entry(scope).or_default();
        let place = lane.buckets.partition_point(|(other, _)| *other < start);
        let room = lane.buckets.capacity();
        lane.buckets.insert(place, (start, at));
        self.room += lane.buckets.capacity() - room;
        lane.summed.contains(&start)
    }

    /// Takes a bucket out that is dropped with its balance.
    pub(crate) fn remove(&mut self, scope: ScopeId, at: u32, balance: &Balance) {
        let Some(lane) = self.by_scope.get_mut(&scope) else { return };
        // Of a tracker that took the place of the balance's it is not.
        let Some(place) = lane.buckets.iter().position(|(_, other)| *other == at) else { return };
        let (start, _) = lane.buckets.remove(place);
        if lane.summed.contains(&start) {
            lane.sum.give_back(balance);
        }
        if lane.buckets.is_empty() {
            self.room -= lane.buckets.capacity();
            self.by_scope.remove(&scope);
        }
    }

    /// Notes what was added to a bucket or taken back from it.
    pub(crate) fn note(&mut self, balance: &Balance, start: TimeUs, usage: &Usage<'_>) {
        if let Some(lane) = self.by_scope.get_mut(&balance.scope) {
            lane.note(start, usage, balance.flags.has(Flags::SATURATED));
        }
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.by_scope.allocation_size() + self.room * size_of::<Bucket>()
    }
}
