//! The fast way to ask a price book again and again: each provider and model is looked up once, for all times.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use usage_types::{Dimension, TimeUs, UsageEvent};

use crate::book::{Hit, own_cost};
use crate::{PriceBook, Priced, UnpricedReason, canonical_provider};

/// Prices events by a book and remembers what it found for each provider and model.
///
/// One per thread: [`Pricer::price`] takes `&mut self`. It holds at most [`Pricer::ENTRIES_MAX`] names, so that a sender who
/// makes up models costs no more than that: when full, it forgets all.
#[derive(Debug)]
pub struct Pricer {
    book: Arc<PriceBook>,
    known: HashMap<Key, Timeline, ahash::RandomState>,
}

/// What applies from a time until the next one's; the first from the beginning of time.
type Timeline = Box<[(TimeUs, Result<Hit, UnpricedReason>)]>;

/// The names as the event has them, so that a hit normalises nothing.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    provider: Option<Box<str>>,
    model: Box<str>,
}

struct KeyRef<'a> {
    provider: Option<&'a str>,
    model: &'a str,
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The bytes alone: names that only differ in where one ends and the other begins may share a bucket.
        state.write(self.model.as_bytes());
        state.write(self.provider.unwrap_or_default().as_bytes());
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef { provider: self.provider.as_deref(), model: &self.model }.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.model == &*key.model && self.provider == key.provider.as_deref()
    }
}

impl Pricer {
    /// The most names remembered. With names of the longest length that intake lets through about 2 MiB.
    pub const ENTRIES_MAX: usize = 1024;

    /// Prices by this book, having looked up nothing yet.
    #[must_use]
    pub fn new(book: Arc<PriceBook>) -> Self {
        Self { book, known: HashMap::default() }
    }

    /// The book it prices by.
    #[must_use]
    pub fn book(&self) -> &Arc<PriceBook> {
        &self.book
    }

    /// How many names it remembers now.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.known.len()
    }

    /// What [`PriceBook::price`] says, faster.
    pub fn price(&mut self, event: &UsageEvent<'_>, at: TimeUs) -> Priced {
        if let Some(cost) = own_cost(event) {
            return cost;
        }
        let Some(model) = event.dimensions.get(Dimension::Model) else {
            return Priced::Unpriced(UnpricedReason::NoModel);
        };
        let key = KeyRef { provider: event.dimensions.get(Dimension::Provider), model };
        let outcome = match self.known.get(&key) {
            Some(timeline) => outcome_at(timeline, at),
            None => self.learn(&key, at),
        };
        match outcome.and_then(|hit| self.book.cost(hit, event, at)) {
            Ok(cost) => Priced::Cost(cost),
            Err(reason) => Priced::Unpriced(reason),
        }
    }

    #[cold]
    fn learn(&mut self, key: &KeyRef<'_>, at: TimeUs) -> Result<Hit, UnpricedReason> {
        let timeline = timeline(&self.book, key.provider.map(canonical_provider), key.model);
        let outcome = outcome_at(&timeline, at);
        if self.known.len() >= Self::ENTRIES_MAX {
            self.known.clear();
        }
        let key = Key { provider: key.provider.map(Box::from), model: Box::from(key.model) };
        self.known.insert(key, timeline);
        outcome
    }
}

/// The outcome can change only where a rule that matches the name begins or ends.
fn timeline(book: &PriceBook, provider: Option<&str>, model: &str) -> Timeline {
    let mut starts = vec![TimeUs(i64::MIN)];
    for found in book.matches(model) {
        let rule = book.rule(found);
        starts.extend(rule.from.into_iter().chain(rule.to));
    }
    starts.sort_unstable();
    starts.dedup();
    starts.into_iter().map(|start| (start, book.hit(provider, model, start))).collect()
}

fn outcome_at(timeline: &[(TimeUs, Result<Hit, UnpricedReason>)], at: TimeUs) -> Result<Hit, UnpricedReason> {
    // From the newest back: most events are of today, and there are few changes of price.
    let newest_first = timeline.iter().rev().find(|(start, _)| *start <= at);
    newest_first.map_or(Err(UnpricedReason::NotEffective), |(_, outcome)| *outcome)
}
