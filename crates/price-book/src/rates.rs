//! The arithmetic: what each unit costs, and what an event therefore costs.

use usage_types::{Cost, Currency, Pico, TokenClass, UsageEvent};

use crate::PriceClass;
use crate::exact::Exact;

/// Prices per unit, in pico-units of one currency. `None`: the file names no price for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of which currency.
    pub currency: Currency,
    /// For one token of each class, in the order of [`TokenClass::ALL`].
    pub per_token: [Option<Pico>; TokenClass::COUNT],
    /// For one request.
    pub per_request: Option<Pico>,
    /// For one tool call.
    pub per_tool_call: Option<Pico>,
    /// For one image that the model made.
    pub per_image: Option<Pico>,
    /// For one second of compute.
    pub per_compute_second: Option<Pico>,
}

/// What an event costs, or why nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Priced {
    /// It costs this.
    Cost(Cost),
    /// It has no price: count it in tokens, leave its cost empty, and say so. Never take it for free.
    Unpriced(UnpricedReason),
}

/// Why an event has no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnpricedReason {
    /// The event names no model and brings no cost.
    NoModel,
    /// No rule matches the provider and the model.
    UnknownModel,
    /// The event names no provider, and those that serve the model ask different prices, or an adjustment is for one of them.
    AmbiguousProvider,
    /// Rules match, but all of them begin after the event.
    NotYetEffective,
    /// Rules match, but none is in effect at the event's time (any more).
    NotEffective,
    /// The rule has no price for a token class that the event used.
    NoRate(TokenClass),
    /// The event used only compute time, tool calls or images, and the rule has no price for these.
    NoFee,
    /// The rule has no prices for the event's service tier.
    NoServiceTier,
    /// The rule has no price for prompts this long at the event's service tier.
    NoContextTier,
    /// The rule's price depends on the length of the prompt, and the event is not about one request.
    AmbiguousContext,
    /// The price is in this currency, and the file has no rate for it at the event's time.
    NoExchangeRate(Currency),
    /// The cost is larger than the lake's decimal holds.
    OutOfRange,
}

impl UnpricedReason {
    /// A short name for metrics, pages and rows; there are as many as variants, so it is safe as a label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoModel => "no_model",
            Self::UnknownModel => "unknown_model",
            Self::AmbiguousProvider => "ambiguous_provider",
            Self::NotYetEffective => "not_yet_effective",
            Self::NotEffective => "not_effective",
            Self::NoRate(_) => "no_rate",
            Self::NoFee => "no_fee",
            Self::NoServiceTier => "no_service_tier",
            Self::NoContextTier => "no_context_tier",
            Self::AmbiguousContext => "ambiguous_context",
            Self::NoExchangeRate(_) => "no_exchange_rate",
            Self::OutOfRange => "out_of_range",
        }
    }
}

impl std::fmt::Display for UnpricedReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoModel => f.write_str("the event names no model; send one, or the cost itself"),
            Self::UnknownModel => f.write_str("no price for this provider and model; add one to the price file"),
            Self::AmbiguousProvider => {
                f.write_str("providers ask different prices for this model; name the provider in the event")
            }
            Self::NotYetEffective => f.write_str("the model's prices begin later; add one for this time"),
            Self::NotEffective => f.write_str("no price of the model is in effect at this time; add one"),
            Self::NoRate(class) => {
                write!(f, "the model has no price for {} tokens; add it, 0 if it is free", class.name())
            }
            Self::NoFee => f.write_str("the model has no price per request, tool call, image or compute second; add one"),
            Self::NoServiceTier => f.write_str("the model has no price at this service tier; add it under `service_tiers`"),
            Self::NoContextTier => {
                f.write_str("the model has no price for prompts this long at this service tier; add `tiers` to it")
            }
            Self::AmbiguousContext => f.write_str(
                "the price depends on the length of the prompt, which events of several requests do not tell; send one event a request",
            ),
            Self::NoExchangeRate(currency) => {
                write!(f, "no exchange rate for {currency} is in force at this time; add one under `exchange_rates`")
            }
            Self::OutOfRange => f.write_str("the cost does not fit 26 digits before the point; check the counts"),
        }
    }
}

impl Rates {
    /// Token prices are published per so many tokens.
    pub const TOKENS_PER_PRICE: u64 = 1_000_000;

    /// The price as published: of a million tokens, of one of anything else.
    #[must_use]
    pub fn listed(&self, class: PriceClass) -> Option<Pico> {
        match class {
            // Cannot overflow: the file's reader divided a `Pico` by the same number.
            PriceClass::Tokens(class) => self.token(class).map(|p| Pico(p.0 * i128::from(Self::TOKENS_PER_PRICE))),
            PriceClass::Request => self.per_request,
            PriceClass::ToolCall => self.per_tool_call,
            PriceClass::Image => self.per_image,
            PriceClass::ComputeSecond => self.per_compute_second,
        }
    }

    /// The price of one token of a class.
    #[must_use]
    pub const fn token(&self, class: TokenClass) -> Option<Pico> {
        self.per_token[class as usize]
    }

    pub(crate) fn names_no_price(&self) -> bool {
        let fees = [self.per_request, self.per_tool_call, self.per_image, self.per_compute_second];
        self.per_token.iter().chain(&fees).all(Option::is_none)
    }

    /// The prices as published, in the order of [`PriceClass::ALL`].
    pub fn prices(&self) -> impl Iterator<Item = (PriceClass, Pico)> {
        PriceClass::ALL.into_iter().filter_map(|class| self.listed(class).map(|price| (class, price)))
    }

    /// What the event costs at these rates, whatever model it names: the sum over the token classes, requests, tool calls, images
    /// and compute time, not rounded yet.
    #[inline]
    pub(crate) fn sum(&self, event: &UsageEvent<'_>) -> Result<Sum, UnpricedReason> {
        let mut sum = Some(0_i128);
        let mut tokens_used = false;
        for class in TokenClass::ALL {
            let count = event.tokens.get(class);
            if count > 0 {
                tokens_used = true;
                let rate = self.token(class).ok_or(UnpricedReason::NoRate(class))?;
                sum = add_product(sum, rate, count);
            }
        }
        if self.has_fees() || !tokens_used {
            return self.with_fees(sum, tokens_used, event);
        }
        sum.map(|whole| Sum { whole, billionths: 0 }).ok_or(UnpricedReason::OutOfRange)
    }

    /// Most models charge nothing but tokens, and most events use some.
    #[inline]
    const fn has_fees(&self) -> bool {
        self.per_request.is_some()
            | self.per_tool_call.is_some()
            | self.per_image.is_some()
            | self.per_compute_second.is_some()
    }

    fn with_fees(
        &self,
        mut sum: Option<i128>,
        tokens_used: bool,
        event: &UsageEvent<'_>,
    ) -> Result<Sum, UnpricedReason> {
        let mut fee_applies = self.per_request.is_some();
        let fees = [
            (self.per_request, event.requests),
            (self.per_tool_call, event.tool_calls),
            (self.per_image, event.images),
        ];
        for (rate, count) in fees {
            if let (Some(rate), 1..) = (rate, count) {
                fee_applies = true;
                sum = add_product(sum, rate, count);
            }
        }
        let mut billionths = 0;
        if let (Some(rate), 1..) = (self.per_compute_second, event.compute.0) {
            fee_applies = true;
            let compute = compute_cost(rate, event.compute.0);
            billionths = compute.map_or(0, |(_, billionths)| billionths);
            sum = sum.zip(compute).and_then(|(sum, (cost, _))| sum.checked_add(cost));
        }
        if !tokens_used && !fee_applies && (event.tool_calls > 0 || event.images > 0 || event.compute.0 > 0) {
            return Err(UnpricedReason::NoFee);
        }
        sum.map(|whole| Sum { whole, billionths }).ok_or(UnpricedReason::OutOfRange)
    }
}

fn add_product(sum: Option<i128>, rate: Pico, count: u64) -> Option<i128> {
    let product = match u64::try_from(rate.0) {
        // Two 64-bit numbers always fit: one multiplication instead of a checked one of 128 bits, which is a call.
        Ok(rate) => i128::try_from(u128::from(rate) * u128::from(count)).ok(),
        Err(_) => rate.0.checked_mul(i128::from(count)),
    };
    product.and_then(|product| sum?.checked_add(product))
}

/// Pico-units for so many nanoseconds at a price per second, and the billionths of one that are left.
fn compute_cost(per_second: Pico, compute_ns: u64) -> Option<(i128, u32)> {
    let scaled = per_second.0.checked_mul(i128::from(compute_ns))?;
    let billionths = u32::try_from(scaled % Sum::BILLION).expect("a price is not negative, and a billion fits");
    Some((scaled / Sum::BILLION, billionths))
}

/// What an event costs at the prices of the file: 0 or more, not rounded yet. Only compute time leaves a part of a pico-unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    /// In pico-units.
    whole: i128,
    /// Billionths of one.
    billionths: u32,
}

impl Sum {
    const BILLION: i128 = 1_000_000_000;

    /// To be multiplied.
    pub(crate) fn exact(self) -> Exact {
        match self.billionths {
            0 => Exact::new(self.whole),
            part => Exact::with_part(self.whole, part.into(), Self::BILLION.unsigned_abs()),
        }
    }

    /// In whole pico-units, half of one up.
    #[inline]
    pub(crate) fn rounded(self) -> Option<Pico> {
        let up = i128::from(i128::from(self.billionths) * 2 >= Self::BILLION);
        self.whole.checked_add(up).filter(|amount| *amount <= Pico::MAX.0).map(Pico)
    }
}
