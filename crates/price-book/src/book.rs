//! The price book: rules in the order of the file, indexed by the names that they match.

use std::sync::Arc;

use hashbrown::HashMap;
use usage_types::{Cost, CostOrigin, Currency, Dimension, TimeUs, UsageEvent};

use crate::adjust::{Adjustment, Adjustments, Serving};
use crate::card::{RateCard, STANDARD_TIER, ServiceTier, canonical_service_tier};
use crate::exact::Exact;
use crate::exchange::{Exchange, ExchangeRate};
use crate::file::Contents;
use crate::matching::tier_bit;
use crate::{FileError, Priced, Rates, UnpricedReason, canonical_provider, file};

/// How a rule came to match a model; the earlier goes before the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchKind {
    /// The model's own name.
    Exact,
    /// Another name of it.
    Alias,
    /// A name that ends in `*`; the longest goes first.
    Wildcard,
}

impl MatchKind {
    /// `exact`, `alias` or `wildcard`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Alias => "alias",
            Self::Wildcard => "wildcard",
        }
    }
}

/// One entry of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceRule {
    /// Whose prices; empty: whoever serves the model.
    pub providers: Vec<String>,
    /// The model's name, or a prefix of names with a `*` at the end.
    pub model: String,
    /// Other names of it, or prefixes.
    pub aliases: Vec<String>,
    /// From when, inclusive; `None`: always.
    pub from: Option<TimeUs>,
    /// Until when, exclusive; `None`: until further notice.
    pub to: Option<TimeUs>,
    /// The prices of standard requests.
    pub standard: RateCard,
    /// The prices at other service tiers, each tier once.
    pub service_tiers: Vec<ServiceTier>,
    /// Where the prices are published.
    pub source: String,
    /// When they were read there, as `YYYY-MM-DD`.
    pub as_of: String,
    /// What the prices leave out.
    pub note: Option<String>,
    /// Where in the file the entry begins, from 1.
    pub line: u64,
    /// The column there, from 1.
    pub column: u64,
}

impl PriceRule {
    /// Whether it applies at that time.
    #[must_use]
    pub fn is_effective(&self, at: TimeUs) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }

    /// The prices at a service tier, by any name of it; `None`: the standard one.
    #[must_use]
    pub fn card(&self, service_tier: Option<&str>) -> Option<&RateCard> {
        match service_tier.map(canonical_service_tier) {
            None | Some(STANDARD_TIER) => Some(&self.standard),
            Some(name) => self.service_tiers.iter().find(|tier| tier.name == name).map(|tier| &tier.card),
        }
    }

    /// All its cards with the name of their service tier, the standard one first.
    pub fn cards(&self) -> impl Iterator<Item = (&str, &RateCard)> {
        let others = self.service_tiers.iter().map(|tier| (tier.name.as_str(), &tier.card));
        std::iter::once((STANDARD_TIER, &self.standard)).chain(others)
    }

    /// The prices for an event of its model, at one of the service tiers on which whoever may have served it agrees.
    #[inline]
    pub(crate) fn rates_for(&self, event: &UsageEvent<'_>, agreed: u16) -> Result<&Rates, UnpricedReason> {
        match event.dimensions.get(Dimension::ServiceTier) {
            None => self.standard.rates_for(event),
            Some(tier) => self.agreed_card(tier, agreed)?.rates_for(event),
        }
    }

    fn agreed_card(&self, tier: &str, agreed: u16) -> Result<&RateCard, UnpricedReason> {
        let name = canonical_service_tier(tier);
        if name == STANDARD_TIER {
            return Ok(&self.standard);
        }
        let found = self.service_tiers.iter().enumerate().find(|(_, tier)| tier.name == name);
        let (at, tier) = found.ok_or(UnpricedReason::NoServiceTier)?;
        if agreed & tier_bit(at) == 0 { Err(UnpricedReason::AmbiguousProvider) } else { Ok(&tier.card) }
    }

    /// The names it matches, with how; a wildcard without its `*`.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = (MatchKind, &str)> {
        let own = std::iter::once((MatchKind::Exact, self.model.as_str()));
        let others = self.aliases.iter().map(|alias| (MatchKind::Alias, alias.as_str()));
        own.chain(others).map(|(kind, text)| text.strip_suffix('*').map_or((kind, text), |p| (MatchKind::Wildcard, p)))
    }
}

/// Prices, read from a file. Never changes; [`crate::Pricer`] is the fast way to ask it again and again.
#[derive(Debug)]
pub struct PriceBook {
    pub(crate) rules: Vec<PriceRule>,
    /// Rules by a name they match whole, in the order of the file.
    pub(crate) by_name: HashMap<String, Vec<(MatchKind, u32)>, ahash::RandomState>,
    /// Rules by a prefix they match, the longest prefix first.
    pub(crate) by_prefix: Vec<(String, u32)>,
    pub(crate) adjustments: Adjustments,
    pub(crate) exchange: Exchange,
    /// No adjustments and no currency to settle in: a price is what the rule says.
    is_plain: bool,
}

/// Which rule prices an event, and what else has to be known of it; small, to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) rule: u32,
    pub(crate) serving: Serving,
    /// The service tiers of the rule on whose prices all agree who may have served it.
    pub(crate) agreed: u16,
}

/// The file that comes with Outlay.
const SHIPPED: &str = include_str!("../../../prices/default.yaml");

impl PriceBook {
    /// Reads a price file.
    ///
    /// # Errors
    /// It is no YAML of this shape, a price is no exact decimal of at most six digits after the point, or two entries, adjustments
    /// or exchange rates would apply to the same request with equal right.
    pub fn from_yaml(text: &str) -> Result<Self, FileError> {
        let Contents { rules, adjustments, exchange } = file::read(text)?;
        let mut by_name: HashMap<String, Vec<(MatchKind, u32)>, _> = HashMap::default();
        let mut by_prefix = Vec::new();
        for (index, rule) in (0_u32..).zip(&rules) {
            for (kind, pattern) in rule.patterns() {
                match kind {
                    MatchKind::Wildcard => by_prefix.push((pattern.to_owned(), index)),
                    kind => by_name.entry(pattern.to_owned()).or_default().push((kind, index)),
                }
            }
        }
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let is_plain = adjustments.list().is_empty() && exchange.settle_in.is_none();
        Ok(Self { rules, by_name, by_prefix, adjustments, exchange, is_plain })
    }

    /// The price file that comes with Outlay.
    #[must_use]
    pub fn shipped() -> Arc<Self> {
        Arc::new(Self::from_yaml(SHIPPED).expect("a test of this crate reads the shipped file"))
    }

    /// The entries, in the order of the file.
    #[must_use]
    pub fn rules(&self) -> &[PriceRule] {
        &self.rules
    }

    /// What an event costs at that time: its own cost where it brings one, else that of the rule that matches best.
    ///
    /// Looks everything up anew; the hot path asks [`crate::Pricer`].
    pub fn price(&self, event: &UsageEvent<'_>, at: TimeUs) -> Priced {
        if let Some(cost) = own_cost(event) {
            return cost;
        }
        let Some(model) = event.dimensions.get(Dimension::Model) else {
            return Priced::Unpriced(UnpricedReason::NoModel);
        };
        let provider = event.dimensions.get(Dimension::Provider).map(canonical_provider);
        match self.hit(provider, model, at).and_then(|hit| self.cost(hit, event, at)) {
            Ok(cost) => Priced::Cost(cost),
            Err(reason) => Priced::Unpriced(reason),
        }
    }

    /// Which rule prices a provider's (by its canonical name) model.
    pub(crate) fn hit(&self, provider: Option<&str>, model: &str, at: TimeUs) -> Result<Hit, UnpricedReason> {
        let resolved = self.resolve(provider, model, at)?;
        let serving = self.adjustments.serving(resolved.provider);
        Ok(Hit { rule: resolved.found.rule, serving, agreed: resolved.agreed })
    }

    /// What an event costs by that rule, adjusted and in the currency of the books. Rounded once, half a pico-unit up.
    #[inline]
    pub(crate) fn cost(&self, hit: Hit, event: &UsageEvent<'_>, at: TimeUs) -> Result<Cost, UnpricedReason> {
        let rates = self.rules[hit.rule as usize].rates_for(event, hit.agreed)?;
        let sum = rates.sum(event)?;
        if !self.is_plain {
            return self.settled(sum.exact(), rates.currency, hit, event, at);
        }
        let amount = sum.rounded().ok_or(UnpricedReason::OutOfRange)?;
        Ok(Cost { amount, currency: rates.currency, origin: CostOrigin::PriceBook })
    }

    /// A function of its own, so that a book without terms has nothing of it in its way.
    #[inline(never)]
    fn settled(
        &self,
        mut sum: Exact,
        mut currency: Currency,
        hit: Hit,
        event: &UsageEvent<'_>,
        at: TimeUs,
    ) -> Result<Cost, UnpricedReason> {
        if let Some(adjustment) = self.adjustments.find(event, hit.serving, at)? {
            sum = sum.times(adjustment.multiply).ok_or(UnpricedReason::OutOfRange)?;
        }
        if let Some(exchange) = self.exchange.find(currency, at)? {
            currency = exchange.to_currency;
            sum = sum.times(exchange.rate).ok_or(UnpricedReason::OutOfRange)?;
        }
        let amount = sum.rounded().ok_or(UnpricedReason::OutOfRange)?;
        Ok(Cost { amount, currency, origin: CostOrigin::PriceBook })
    }

    /// The discounts and markups, the most specific first.
    #[must_use]
    pub fn adjustments(&self) -> &[Adjustment] {
        self.adjustments.list()
    }

    /// The currency that all costs are in; `None`: each in that of its price.
    #[must_use]
    pub fn settle_in(&self) -> Option<Currency> {
        self.exchange.settle_in
    }

    /// The exchange rates, by currency and time.
    #[must_use]
    pub fn exchange_rates(&self) -> &[ExchangeRate] {
        &self.exchange.rates
    }
}

/// The cost that the event itself brings.
pub(crate) fn own_cost(event: &UsageEvent<'_>) -> Option<Priced> {
    event.cost.map(|(amount, currency)| Priced::Cost(Cost { amount, currency, origin: CostOrigin::Event }))
}
