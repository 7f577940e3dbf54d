//! Negotiated discounts and markups: by what the price of an event is multiplied, for whom, for what and when.
//!
//! Of those that match an event the most specific applies, and only that one: the one that names the most dimensions, and between
//! those that name the same ones the model's own name before the longest prefix. The file's reader refuses a pair of which
//! neither is more specific, so no event ever has two with an equal right.

use std::cmp::Reverse;

use hashbrown::HashMap;
use usage_types::{Dimension, Scope, TimeUs, UsageEvent};

use crate::card::STANDARD_TIER;
use crate::{Factor, UnpricedReason, canonical_service_tier};

/// One discount or markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// The values that an event must have; empty: every event that the book prices. Provider and service tier by their canonical
    /// names, the model as events name it or a prefix with a `*` at the end.
    pub matches: Scope,
    /// What the price is multiplied by: `0.85` for a discount of 15 %.
    pub multiply: Factor,
    /// From when, inclusive; `None`: always.
    pub from: Option<TimeUs>,
    /// Until when, exclusive; `None`: until further notice.
    pub to: Option<TimeUs>,
    /// What was agreed, for people.
    pub note: Option<String>,
    /// Where in the file it begins, from 1.
    pub line: u64,
    /// The column there, from 1.
    pub column: u64,
}

impl Adjustment {
    /// The more specific goes first; those of an equal rank never match the same event, unless one of a better rank does.
    fn rank(&self) -> (Reverse<usize>, bool, Reverse<usize>) {
        let model = self.matches.get(Dimension::Model).unwrap_or_default();
        (Reverse(self.names()), model.ends_with('*'), Reverse(model.len()))
    }

    /// How many dimensions it names.
    pub(crate) fn names(&self) -> usize {
        self.matches.dimensions().len()
    }

    fn is_effective(&self, at: TimeUs) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }
}

/// Who served an event, as far as adjustments ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serving {
    /// The provider of this index.
    Known(u16),
    /// One that no adjustment names.
    Other,
    /// The event does not say, and several may have.
    Unknown,
}

/// All adjustments of a file, the most specific first, found by the namespace.
#[derive(Debug, Default)]
pub(crate) struct Adjustments {
    list: Vec<Adjustment>,
    /// The providers that they name.
    providers: Vec<String>,
    /// Indexes by the namespace that they name, ascending.
    by_namespace: HashMap<String, Vec<u32>, ahash::RandomState>,
    /// Of those that name none.
    of_any_namespace: Vec<u32>,
}

impl Adjustments {
    /// The reader has made sure that no two of them have an equal right.
    pub(crate) fn new(mut list: Vec<Adjustment>) -> Self {
        list.sort_by_key(Adjustment::rank);
        let mut all = Self::default();
        for (index, adjustment) in (0_u32..).zip(&list) {
            match adjustment.matches.get(Dimension::Namespace) {
                Some(namespace) => all.by_namespace.entry(namespace.to_owned()).or_default().push(index),
                None => all.of_any_namespace.push(index),
            }
            all.providers.extend(adjustment.matches.get(Dimension::Provider).map(str::to_owned));
        }
        all.providers.sort_unstable();
        all.providers.dedup();
        Self { list, ..all }
    }

    pub(crate) fn list(&self) -> &[Adjustment] {
        &self.list
    }

    /// `None`: nobody knows who served it.
    pub(crate) fn serving(&self, provider: Option<&str>) -> Serving {
        let Some(provider) = provider else { return Serving::Unknown };
        let index = self.providers.binary_search_by(|name| name.as_str().cmp(provider)).ok();
        index.and_then(|index| u16::try_from(index).ok()).map_or(Serving::Other, Serving::Known)
    }

    /// The one that applies to an event.
    pub(crate) fn find(
        &self,
        event: &UsageEvent<'_>,
        serving: Serving,
        at: TimeUs,
    ) -> Result<Option<&Adjustment>, UnpricedReason> {
        let namespace = event.dimensions.get(Dimension::Namespace);
        let mut own = namespace.and_then(|name| self.by_namespace.get(name)).map_or(&[][..], Vec::as_slice);
        let mut any = self.of_any_namespace.as_slice();
        // Both ascend, so the next of the two is the more specific.
        loop {
            let next = match (own.first(), any.first()) {
                (Some(first), Some(second)) if second < first => &mut any,
                (Some(_), _) => &mut own,
                (None, Some(_)) => &mut any,
                (None, None) => return Ok(None),
            };
            let (index, rest) = next.split_first().expect("its first element was just looked at");
            *next = rest;
            let adjustment = &self.list[*index as usize];
            if adjustment.is_effective(at) && self.matches(adjustment, event, serving)? {
                return Ok(Some(adjustment));
            }
        }
    }

    /// Fails where it would match one provider that may have served the event and not another.
    fn matches(
        &self,
        adjustment: &Adjustment,
        event: &UsageEvent<'_>,
        serving: Serving,
    ) -> Result<bool, UnpricedReason> {
        let mut ambiguous = false;
        for (dimension, wanted) in adjustment.matches.iter() {
            let given = event.dimensions.get(dimension);
            let equal = match dimension {
                Dimension::Provider => match serving {
                    Serving::Known(index) => self.providers[usize::from(index)] == wanted,
                    Serving::Other => false,
                    Serving::Unknown => {
                        ambiguous = true;
                        true
                    }
                },
                Dimension::Model => given.is_some_and(|name| model_matches(wanted, name)),
                Dimension::ServiceTier => given.map_or(STANDARD_TIER, canonical_service_tier) == wanted,
                _ => given == Some(wanted),
            };
            if !equal {
                return Ok(false);
            }
        }
        if ambiguous { Err(UnpricedReason::AmbiguousProvider) } else { Ok(true) }
    }
}

/// Whether a name, or a prefix with a `*`, matches a model's name.
pub(crate) fn model_matches(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == model, |prefix| model.starts_with(prefix))
}
