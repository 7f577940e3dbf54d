//! What one rule charges: by the provider's service tier, and by how long the prompt is.
//!
//! Both are chosen per event: [`crate::PriceRule`] has a [`RateCard`] for standard requests and one for each further service
//! tier that it prices; a card has [`Rates`] for prompts of any length, or of a length band each. What a card does not price is
//! unpriced with a reason, never priced as something else.

use usage_types::{Tokens, UsageEvent};

use crate::{Rates, UnpricedReason};

/// The service tier of an event that names none.
pub const STANDARD_TIER: &str = "standard";

/// What providers and gateways call a service tier, beside the name used here.
/// Sources: `service_tier` of OpenAI's answers (`default`, `flex`, `priority`, `scale`; `auto` is what a request asks for) and of
/// Anthropic's (`standard`, `priority`, `batch`), `serviceTier` of Bedrock's Converse (`default`, `flex`, `priority`, `reserved`),
/// `trafficType` of Vertex AI's usage metadata, `service_tier` of Groq (`on_demand`, `flex`), field names of LiteLLM's price file.
const ALIASES: &[(&str, &str)] = &[
    ("default", STANDARD_TIER),
    ("auto", STANDARD_TIER),
    ("standard_only", STANDARD_TIER),
    ("on_demand", STANDARD_TIER),
    ("on-demand", STANDARD_TIER),
    ("null", STANDARD_TIER),
    ("batches", "batch"),
    ("batch_api", "batch"),
    ("on_demand_flex", "flex"),
    ("on_demand_priority", "priority"),
    ("provisioned_throughput", "provisioned"),
    ("provisioned-throughput", "provisioned"),
    ("scale_tier", "scale"),
];
const NAMES: &[&str] = &[STANDARD_TIER, "batch", "flex", "priority", "scale", "provisioned", "reserved"];

/// One name per service tier, whatever a provider calls it. Case counts for nothing in the names known here and for everything in
/// others. `auto` is what requests ask for; where an answer's own tier is not known it was the standard one unless the account
/// says otherwise, which no event tells.
#[must_use]
pub fn canonical_service_tier(name: &str) -> &str {
    if let Some(known) = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return known;
    }
    ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map_or(name, |(_, canonical)| canonical)
}

/// Prices by length of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateCard {
    /// For prompts that no tier below is for.
    pub rates: Rates,
    /// For longer prompts, the shortest first; empty: the length does not count.
    pub tiers: Vec<ContextTier>,
}

/// Prices of requests whose prompt is longer than so many tokens, and not so long that the next tier is for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextTier {
    /// The longest prompt that is not in it, in tokens of all input classes: uncached, read from a cache and written to one.
    pub above_input_tokens: u64,
    /// The prices of the whole request, of its output too. `None`: such requests are not priced at this service tier.
    pub rates: Option<Rates>,
}

/// The prices of a service tier other than the standard one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTier {
    /// By the name of [`canonical_service_tier`].
    pub name: String,
    /// Its prices.
    pub card: RateCard,
}

/// The length of a prompt as providers tier it: every input token counts, cached or not.
#[must_use]
pub const fn prompt_tokens(tokens: &Tokens) -> u64 {
    // Cannot overflow: intake bounds each class far below a quarter of the range.
    tokens
        .input
        .saturating_add(tokens.cache_read)
        .saturating_add(tokens.cache_write_5m)
        .saturating_add(tokens.cache_write_1h)
}

impl RateCard {
    /// The prices for an event, by the length of its prompt.
    ///
    /// An event of several requests tells their prompts' lengths together only. Up to the first tier that does not matter: none
    /// of them is longer than all. Beyond, and for an event that counts no request (a part of one, or a sum), nobody knows.
    #[inline]
    pub(crate) fn rates_for(&self, event: &UsageEvent<'_>) -> Result<&Rates, UnpricedReason> {
        match self.tiers.first() {
            None => Ok(&self.rates),
            Some(first) => self.rates_of_length(first, event),
        }
    }

    fn rates_of_length(&self, first: &ContextTier, event: &UsageEvent<'_>) -> Result<&Rates, UnpricedReason> {
        let prompt = prompt_tokens(&event.tokens);
        match event.requests {
            1 => self.rates_above(prompt),
            0 if event.tokens.total() == 0 => Ok(&self.rates),
            2.. if prompt <= first.above_input_tokens => Ok(&self.rates),
            _ => Err(UnpricedReason::AmbiguousContext),
        }
    }

    /// The prices of one request with a prompt of so many tokens.
    pub(crate) fn rates_above(&self, prompt: u64) -> Result<&Rates, UnpricedReason> {
        match self.tiers.iter().rev().find(|tier| prompt > tier.above_input_tokens) {
            Some(tier) => tier.rates.as_ref().ok_or(UnpricedReason::NoContextTier),
            None => Ok(&self.rates),
        }
    }

    /// All its prices with the length above which they apply.
    pub fn bands(&self) -> impl Iterator<Item = (u64, &Rates)> {
        let tiers =
            self.tiers.iter().filter_map(|tier| tier.rates.as_ref().map(|rates| (tier.above_input_tokens, rates)));
        std::iter::once((0, &self.rates)).chain(tiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_a_service_tier_become_one() {
        for (given, canonical) in [
            ("default", "standard"),
            ("AUTO", "standard"),
            ("ON_DEMAND", "standard"),
            ("Standard", "standard"),
            ("batches", "batch"),
            ("BATCH", "batch"),
            ("ON_DEMAND_FLEX", "flex"),
            ("priority", "priority"),
            ("PROVISIONED_THROUGHPUT", "provisioned"),
            ("scale", "scale"),
            ("fast", "fast"),
        ] {
            assert_eq!(canonical_service_tier(given), canonical);
            assert_eq!(canonical_service_tier(canonical), canonical, "canonical names stay");
        }
        for (alias, canonical) in ALIASES {
            assert!(NAMES.contains(canonical) && !NAMES.contains(alias), "{alias} leads to {canonical}");
        }
    }
}
