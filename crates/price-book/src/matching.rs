//! Which rule prices a provider's model at a time.
//!
//! Of the rules in effect the most specific wins: the model's own name before an alias before the longest wildcard; between
//! equals the one that names the provider before the one that names none. The file's reader has made sure that at most one is
//! left ([`crate::PriceBook::from_yaml`]).

use std::cmp::Reverse;

use usage_types::TimeUs;

use crate::{MatchKind, PriceBook, PriceRule, UnpricedReason};

/// A rule that matches a model's name, and how. Orders the more specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) kind: MatchKind,
    /// The longer goes first; the same for all that are no wildcards.
    prefix_len: Reverse<usize>,
    /// False goes first.
    any_provider: bool,
    pub(crate) rule: u32,
}

/// The rule that prices a request, and who served it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved<'a> {
    pub(crate) found: Found,
    /// By its canonical name. `None`: the request does not say, and several may have.
    pub(crate) provider: Option<&'a str>,
    /// The service tiers of the rule, a bit each, on whose prices all agree who may have served it.
    pub(crate) agreed: u16,
}

/// The bit of a service tier by its place in the rule. Those beyond the sixteenth share the last one.
pub(crate) fn tier_bit(at: usize) -> u16 {
    1 << at.min(15)
}

/// Nobody else may have served it.
const ALL_TIERS: u16 = u16::MAX;

impl PriceBook {
    /// The rule for a provider (by its canonical name) and a model.
    pub(crate) fn resolve<'a>(
        &'a self,
        provider: Option<&'a str>,
        model: &str,
        at: TimeUs,
    ) -> Result<Resolved<'a>, UnpricedReason> {
        let matches = self.matches(model);
        match provider {
            Some(_) => self.best(&matches, provider, at).map(|found| Resolved { found, provider, agreed: ALL_TIERS }),
            None => self.best_of_any_provider(&matches, at),
        }
    }

    /// All rules that match the model's name, whoever serves it and whenever, the most specific first.
    pub(crate) fn matches(&self, model: &str) -> Vec<Found> {
        let found = |kind, prefix_len, rule: u32| Found {
            kind,
            prefix_len: Reverse(prefix_len),
            any_provider: self.rules[rule as usize].providers.is_empty(),
            rule,
        };
        let whole = self.by_name.get(model).into_iter().flatten().map(|(kind, rule)| found(*kind, 0, *rule));
        let prefixes = self.by_prefix.iter().filter(|(prefix, _)| model.starts_with(prefix.as_str()));
        let mut all: Vec<Found> =
            whole.chain(prefixes.map(|(prefix, rule)| found(MatchKind::Wildcard, prefix.len(), *rule))).collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn rule(&self, found: Found) -> &PriceRule {
        &self.rules[found.rule as usize]
    }

    /// The best among the rules of one provider and those for all providers; of the latter only, where none is given.
    fn best(&self, matches: &[Found], provider: Option<&str>, at: TimeUs) -> Result<Found, UnpricedReason> {
        let mut reason = UnpricedReason::UnknownModel;
        for found in matches {
            let rule = self.rule(*found);
            if !found.any_provider && !provider.is_some_and(|name| rule.providers.iter().any(|other| other == name)) {
                continue;
            }
            if rule.is_effective(at) {
                return Ok(*found);
            }
            let begins_later = rule.from.is_some_and(|from| at < from);
            reason = match reason {
                UnpricedReason::UnknownModel | UnpricedReason::NotYetEffective if begins_later => {
                    UnpricedReason::NotYetEffective
                }
                _ => UnpricedReason::NotEffective,
            };
        }
        Err(reason)
    }

    /// For an event that names no provider: the rule for all providers if there is one, else the price on which all
    /// providers that serve the model agree. They may differ in the service tiers that they price.
    fn best_of_any_provider(&self, matches: &[Found], at: TimeUs) -> Result<Resolved<'_>, UnpricedReason> {
        let mut reason = match self.best(matches, None, at) {
            Ok(found) => return Ok(Resolved { found, provider: None, agreed: ALL_TIERS }),
            Err(reason) => reason,
        };
        let mut providers: Vec<&str> =
            matches.iter().flat_map(|found| &self.rule(*found).providers).map(String::as_str).collect();
        providers.sort_unstable();
        providers.dedup();
        let mut serving: Vec<(Found, &str)> = Vec::new();
        for provider in providers {
            match self.best(matches, Some(provider), at) {
                Ok(found) => serving.push((found, provider)),
                Err(other) if reason == UnpricedReason::UnknownModel => reason = other,
                // Some provider's prices begin later, another's have ended: neither is in effect.
                Err(other) if reason != other => reason = UnpricedReason::NotEffective,
                Err(_) => {}
            }
        }
        let Some((&(found, provider), others)) = serving.split_first() else { return Err(reason) };
        let rule = self.rule(found);
        let mut agreed = ALL_TIERS;
        for other in others.iter().map(|(other, _)| self.rule(*other)) {
            if other.standard != rule.standard {
                return Err(UnpricedReason::AmbiguousProvider);
            }
            for (at, tier) in rule.service_tiers.iter().enumerate() {
                if !other.service_tiers.contains(tier) {
                    agreed &= !tier_bit(at);
                }
            }
        }
        Ok(Resolved { found, provider: others.is_empty().then_some(provider), agreed })
    }
}
