//! Which price a request has, and why: the rule, the service tier, the length of the prompt, the adjustment, the exchange rate.

use std::borrow::Cow;
use std::fmt;

use usage_types::{ComputeNs, Currency, Dimension, Dimensions, Pico, Role, TimeUs, Tokens, UsageEvent};

use crate::adjust::model_matches;
use crate::exact::Exact;
use crate::{
    Adjustment, ExchangeRate, MatchKind, PriceBook, PriceClass, PriceRule, RateCard, Rates, UnpricedReason,
    canonical_provider, canonical_service_tier, prompt_tokens,
};

/// Which rule prices a request, and everything that its price depends on.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    /// The rule.
    pub rule: &'a PriceRule,
    /// How it matched.
    pub matched: MatchKind,
    /// The text in the file that matched: the model, an alias, or a prefix with `*`.
    pub pattern: &'a str,
    /// The provider asked for, by its OpenTelemetry name.
    pub provider: Option<&'a str>,
    /// How many other rules match the model's name, of whatever provider and time.
    pub others: usize,
    /// The service tier, by its canonical name.
    pub service_tier: &'a str,
    /// The rule's prices at that service tier.
    pub card: &'a RateCard,
    /// The length of the prompt, in input tokens of all classes.
    pub input_tokens: u64,
    /// The length above which these prices apply; 0: those of the shortest prompts.
    pub above_input_tokens: u64,
    /// The prices, before the adjustment and the exchange.
    pub rates: &'a Rates,
    /// The discount or markup that applies.
    pub adjustment: Option<&'a Adjustment>,
    /// The exchange rate that applies.
    pub exchange: Option<&'a ExchangeRate>,
}

/// The price of a class in an [`Explanation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExplainedPrice {
    /// What it is for.
    pub class: PriceClass,
    /// The price of [`PriceClass::units`] of it in the file.
    pub listed: Pico,
    /// Of which currency.
    pub currency: Currency,
    /// The same, adjusted and exchanged; half a pico-unit up. An event is rounded after adding up, not by this.
    pub charged: Pico,
    /// Of which currency.
    pub charged_currency: Currency,
}

impl PriceBook {
    /// Which rule prices a standard request of a short prompt to a provider's model at that time, and why. The provider may go by
    /// any name known to [`canonical_provider`].
    ///
    /// # Errors
    /// No rule does; the reason is the one that an event would get.
    pub fn explain<'a>(
        &'a self,
        provider: Option<&'a str>,
        model: &str,
        at: TimeUs,
    ) -> Result<Explanation<'a>, UnpricedReason> {
        let mut dimensions = Dimensions::default();
        dimensions.set(Dimension::Provider, provider.map(Cow::Borrowed));
        dimensions.set(Dimension::Model, Some(Cow::Borrowed(model)));
        self.explained(provider, &request(dimensions, 0, at), at)
    }

    /// The same for a request of so many input tokens with any dimensions: a service tier, a namespace with a discount.
    ///
    /// # Errors
    /// It has no price; the reason is the one that an event would get.
    pub fn explain_request<'a>(
        &'a self,
        dimensions: &'a Dimensions<'_>,
        input_tokens: u64,
        at: TimeUs,
    ) -> Result<Explanation<'a>, UnpricedReason> {
        let provider = dimensions.get(Dimension::Provider);
        self.explained(provider, &request(dimensions.clone(), input_tokens, at), at)
    }

    fn explained<'a>(
        &'a self,
        provider: Option<&'a str>,
        event: &UsageEvent<'_>,
        at: TimeUs,
    ) -> Result<Explanation<'a>, UnpricedReason> {
        let model = event.dimensions.get(Dimension::Model).ok_or(UnpricedReason::NoModel)?;
        let provider = provider.map(canonical_provider);
        let resolved = self.resolve(provider, model, at)?;
        let (found, rule) = (resolved.found, self.rule(resolved.found));
        let names = std::iter::once(&rule.model).chain(&rule.aliases).map(String::as_str);
        let pattern =
            names.filter(|name| model_matches(name, model)).max_by_key(|name| (!name.ends_with('*'), name.len()));
        let tier = event.dimensions.get(Dimension::ServiceTier).map(canonical_service_tier);
        let asked = rule.cards().find(|(name, _)| tier.is_none_or(|tier| tier == *name));
        let (service_tier, card) = asked.ok_or(UnpricedReason::NoServiceTier)?;
        let rates = rule.rates_for(event, resolved.agreed)?;
        let band = card.bands().find(|(_, band)| std::ptr::eq(*band, rates));
        Ok(Explanation {
            rule,
            matched: found.kind,
            pattern: pattern.unwrap_or(&rule.model),
            provider,
            others: self.matches(model).iter().filter(|other| other.rule != found.rule).count(),
            service_tier,
            card,
            input_tokens: prompt_tokens(&event.tokens),
            above_input_tokens: band.map_or(0, |(above, _)| above),
            rates,
            adjustment: self.adjustments.find(event, self.adjustments.serving(resolved.provider), at)?,
            exchange: self.exchange.find(rates.currency, at)?,
        })
    }

    /// The rules whose names match a model, of whatever provider and time, the most specific first.
    pub fn candidates(&self, model: &str) -> impl Iterator<Item = (&PriceRule, MatchKind)> {
        let mut matches = self.matches(model);
        matches.dedup_by_key(|found| found.rule);
        matches.into_iter().map(|found| (self.rule(found), found.kind))
    }
}

fn request(dimensions: Dimensions<'_>, input: u64, time: TimeUs) -> UsageEvent<'_> {
    UsageEvent {
        id: None,
        source: Cow::Borrowed(""),
        time,
        dimensions,
        tokens: Tokens { input, ..Tokens::default() },
        requests: 1,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        tags: std::collections::BTreeMap::new(),
        role: Role::Usage,
        progress: None,
    }
}

impl Explanation<'_> {
    /// The prices of each class, as in the file and as charged.
    pub fn prices(&self) -> impl Iterator<Item = ExplainedPrice> {
        self.rates.prices().filter_map(|(class, listed)| {
            let factors = [self.adjustment.map(|a| a.multiply), self.exchange.map(|e| e.rate)];
            let charged = factors.into_iter().flatten().try_fold(Exact::new(listed.0), Exact::times)?.rounded()?;
            let currency = self.rates.currency;
            let charged_currency = self.exchange.map_or(currency, |exchange| exchange.to_currency);
            Some(ExplainedPrice { class, listed, currency, charged, charged_currency })
        })
    }

    /// Why, step by step, a sentence each: the rule, then whatever else the price depends on.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let mut steps = vec![format!("rule: {self}")];
        if let Some(note) = &self.rule.note {
            steps.push(format!("note: {note}"));
        }
        if self.others > 0 {
            steps.push(format!(
                "other entries that match the name, but less well or of other providers or times: {}",
                self.others
            ));
        }
        let others: Vec<&str> = self.rule.service_tiers.iter().map(|tier| tier.name.as_str()).collect();
        steps.push(match others.as_slice() {
            [] => format!("service tier: {}, the only one that the entry prices", self.service_tier),
            names => format!("service tier: {} (the entry prices standard, {})", self.service_tier, names.join(", ")),
        });
        steps.extend(self.length_step());
        if let Some(adjustment) = self.adjustment {
            let note = adjustment.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            steps.push(format!(
                "adjustment: × {} for {}{} (line {} of the price file){note}",
                adjustment.multiply,
                adjustment.matches,
                Period(adjustment.from, adjustment.to),
                adjustment.line
            ));
        }
        if let Some(exchange) = self.exchange {
            steps.push(format!(
                "exchange: 1 {} is {} {}{} (line {} of the price file; {})",
                exchange.from_currency,
                exchange.rate,
                exchange.to_currency,
                Period(Some(exchange.from), exchange.to),
                exchange.line,
                exchange.source
            ));
        }
        steps
    }

    fn length_step(&self) -> Option<String> {
        let edges: Vec<String> = self.card.tiers.iter().map(|tier| tier.above_input_tokens.to_string()).collect();
        if edges.is_empty() {
            return None;
        }
        let which = match self.above_input_tokens {
            0 => "the base price".to_owned(),
            above => format!("the price above {above}"),
        };
        Some(format!("prompt: {} input tokens, {which} (tiers above {})", self.input_tokens, edges.join(", ")))
    }
}

impl fmt::Display for Explanation<'_> {
    /// One sentence, like ``alias match of `gpt-5.1-20*` for `gpt-5.1` of openai (line 12 of the price file; https://… as of …)``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} match of `{}`", self.matched.name(), self.pattern)?;
        if self.pattern != self.rule.model {
            write!(f, " for `{}`", self.rule.model)?;
        }
        match self.provider {
            _ if self.rule.providers.is_empty() => f.write_str(", whoever serves it")?,
            Some(provider) => write!(f, " of {provider}")?,
            None => write!(f, ", on whose price {} agree", self.rule.providers.join(" and "))?,
        }
        let PriceRule { from, to, line, source, as_of, .. } = self.rule;
        write!(f, "{} (line {line} of the price file; {source} as of {as_of})", Period(*from, *to))
    }
}

/// `, from … until …`; nothing where it always is.
struct Period(Option<TimeUs>, Option<TimeUs>);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (None, None) => Ok(()),
            (Some(from), None) => write!(f, ", from {from}"),
            (None, Some(to)) => write!(f, ", until {to}"),
            (Some(from), Some(to)) => write!(f, ", from {from} until {to}"),
        }
    }
}
