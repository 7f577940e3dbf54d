//! From the cost of usage to charges: one for each token class and fee, which add up to it.

use num_bigint::{BigInt, Sign};
use price_book::{PriceBook, PriceClass, STANDARD_TIER, canonical_service_tier};
use usage_types::{Currency, Dimension, Pico, shares};

use crate::FocusError;
use crate::number::{PRICE_DIGITS, PRICED_DIGITS, divided, fitting, ten_to};
use crate::price::{Quote, Rational, provider_of};
use crate::text::sku_id;
use crate::usage::{Entry, Usage};

/// What a cost that has no tokens and no price in the book is for: the first of these that was used.
const WITHOUT_TOKENS: [PriceClass; 4] =
    [PriceClass::Request, PriceClass::ComputeSecond, PriceClass::Image, PriceClass::ToolCall];

/// Usage with its charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill<'a> {
    /// The usage.
    pub usage: &'a Usage,
    /// Who served it, by the OpenTelemetry name; `None` where nobody knows.
    pub provider: Option<String>,
    /// At which service tier, by its canonical name.
    pub service_tier: String,
    /// For prompts of more input tokens than this; `None` where the price does not depend on the length or nobody knows.
    pub above_input_tokens: Option<u64>,
    /// Its charges.
    pub charges: Vec<Charge>,
}

/// One charge: a row of FOCUS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// What it is for; `None`: a cost alone.
    pub class: Option<PriceClass>,
    /// How much: a count, or nanoseconds of compute.
    pub count: i128,
    /// Its part of the cost.
    pub billed: Pico,
    /// Its prices; `None` exactly where `class` is.
    pub prices: Option<UnitPrices>,
}

/// The prices of a charge and what they come to. Unit prices are in 10⁻¹⁸ of a currency, costs in pico-units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitPrices {
    /// Where the contracted price is from.
    pub basis: Basis,
    /// As published, in the currency of the charge.
    pub list: i128,
    /// What was charged.
    pub contracted: i128,
    /// The list price times the quantity.
    pub list_cost: i128,
    /// The contracted price times the quantity.
    pub contracted_cost: i128,
    /// The currency of the price list.
    pub pricing_currency: Currency,
    /// As published, in that currency.
    pub pricing_list: i128,
    /// What was agreed, in that currency.
    pub pricing_contracted: i128,
    /// The cost in that currency.
    pub pricing_cost: i128,
}

/// Where a contracted price is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The price book: quantities times its prices are the cost, but for the rounding of each event.
    PriceBook,
    /// The cost divided by the quantity: the sender gave the cost, or it was set by an earlier price book.
    Average,
}

impl Basis {
    /// The name in the column `x_PriceBasis`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PriceBook => "price_book",
            Self::Average => "average",
        }
    }
}

impl<'a> Bill<'a> {
    /// Splits the cost of usage.
    ///
    /// # Errors
    /// A number does not fit 38 digits.
    pub fn of(book: &'a PriceBook, usage: &'a Usage) -> Result<Self, FocusError> {
        let quote = Quote::of(book, usage);
        let tier = usage.dimensions.get(Dimension::ServiceTier).map_or(STANDARD_TIER, canonical_service_tier);
        let above = quote.as_ref().and_then(|quote| {
            (!quote.explanation.card.tiers.is_empty()).then_some(quote.explanation.above_input_tokens)
        });
        let provider = provider_of(usage, quote.as_ref()).map(str::to_owned);
        let mut bill =
            Bill { usage, provider, service_tier: tier.to_owned(), above_input_tokens: above, charges: Vec::new() };
        bill.charges = bill.split(quote.as_ref())?;
        Ok(bill)
    }

    fn split(&self, quote: Option<&Quote<'_>>) -> Result<Vec<Charge>, FocusError> {
        let usage = self.usage;
        let used = metered(usage, quote);
        if usage.entry != Entry::Usage || used.is_empty() || !is_of_one_sign(usage, &used) {
            let cost = Charge { class: None, count: 0, billed: usage.cost, prices: None };
            return Ok(if usage.cost.0 == 0 { vec![] } else { vec![cost] });
        }
        let explained = quote.filter(|quote| explains(quote, usage, &used));
        let parts = shares(usage.cost.0, &weights(quote, &used));
        let charge = |((class, count), billed): ((PriceClass, i128), i128)| {
            let prices = self.unit_prices(class, count, billed, quote, explained.is_some())?;
            Ok(Charge { class: Some(class), count, billed: Pico(billed), prices: Some(prices) })
        };
        used.into_iter().zip(parts).map(charge).collect()
    }

    fn unit_prices(
        &self,
        class: PriceClass,
        count: i128,
        billed: i128,
        quote: Option<&Quote<'_>>,
        is_explained: bool,
    ) -> Result<UnitPrices, FocusError> {
        let fail = |what| FocusError::OutOfRange { what, sku: sku_id(self, class) };
        let fit = |what, number: &BigInt| fitting(number).ok_or_else(|| fail(what));
        let quantity = priced_quantity(class, count);
        // In 10⁻¹⁸ and 10⁻¹² of a unit: their product has 18 digits more than a cost.
        let cost = |what, price: i128| fit(what, &divided(&(BigInt::from(price) * &quantity), &ten_to(PRICE_DIGITS)));
        let price = |what, exact: &Rational| fit(what, &divided(&exact.numerator, &exact.denominator));
        let list = quote.filter(|quote| quote.prices(class)).map(|quote| price("list price", &quote.list(class)));
        let Some(quote) = quote.filter(|_| is_explained) else {
            // Of the same sign, so the price is not negative.
            let magnitude = BigInt::from(billed.unsigned_abs()) * ten_to(PRICE_DIGITS);
            let average = divided(&magnitude, &BigInt::from(quantity.magnitude().clone()));
            let contracted = fit("price", &average)?;
            let list = list.transpose()?.unwrap_or(contracted);
            return Ok(UnitPrices {
                basis: Basis::Average,
                list,
                contracted,
                list_cost: cost("list cost", list)?,
                contracted_cost: cost("cost", contracted)?,
                pricing_currency: self.usage.currency,
                pricing_list: list,
                pricing_contracted: contracted,
                pricing_cost: billed,
            });
        };
        let list = list.transpose()?.unwrap_or(0);
        let contracted = price("price", &quote.contracted(class))?;
        let agreed = price("price", &quote.agreed(class))?;
        Ok(UnitPrices {
            basis: Basis::PriceBook,
            list,
            contracted,
            list_cost: cost("list cost", list)?,
            contracted_cost: cost("cost", contracted)?,
            pricing_currency: quote.currency(),
            pricing_list: price("list price", &quote.published(class))?,
            pricing_contracted: agreed,
            pricing_cost: if quote.is_exchanged() { cost("cost", agreed)? } else { billed },
        })
    }
}

/// A quantity in units of its price, in 10⁻¹² of one: exact, since a million tokens, one of anything, and a second of nanoseconds are
/// powers of ten.
pub(crate) fn priced_quantity(class: PriceClass, count: i128) -> BigInt {
    let per_unit = match class {
        PriceClass::ComputeSecond => 1_000_000_000,
        class => class.units(),
    };
    BigInt::from(count) * ten_to(PRICED_DIGITS) / per_unit
}

/// What gets a charge: tokens of each class, and whatever else the book has a price for. Where there is none of both, and a cost all the
/// same, one thing that was used.
fn metered(usage: &Usage, quote: Option<&Quote<'_>>) -> Vec<(PriceClass, i128)> {
    let is_metered = |class| matches!(class, PriceClass::Tokens(_)) || quote.is_some_and(|quote| quote.prices(class));
    let metered: Vec<_> = usage.counts.used().filter(|(class, _)| is_metered(*class)).collect();
    if !metered.is_empty() || usage.cost.0 == 0 {
        return metered;
    }
    let counted = WITHOUT_TOKENS.map(|class| (class, usage.counts.get(class)));
    counted.into_iter().find(|(_, count)| *count != 0).into_iter().collect()
}

/// Whether the cost can be a price times what was used: it is not where one is taken back and the other is not.
fn is_of_one_sign(usage: &Usage, used: &[(PriceClass, i128)]) -> bool {
    let signs = || used.iter().map(|(_, count)| *count).chain([usage.cost.0]);
    signs().all(|sign| sign >= 0) || signs().all(|sign| sign <= 0)
}

/// What each thing costs by the book, all in the same unit.
fn by_book(quote: &Quote<'_>, used: &[(PriceClass, i128)]) -> (Vec<BigInt>, BigInt) {
    let prices: Vec<Rational> = used.iter().map(|(class, _)| quote.contracted(*class)).collect();
    // The factors are the same for all, and so is what is below the line.
    let denominator = prices.first().map_or_else(|| BigInt::from(1), |price| price.denominator.clone());
    let costs =
        prices.iter().zip(used).map(|(price, (class, count))| &price.numerator * priced_quantity(*class, *count));
    (costs.collect(), denominator * ten_to(PRICE_DIGITS))
}

/// Whether the cost is that of the book: the cost of each of its rows was rounded, so it is off by half a pico-unit a row at most.
fn explains(quote: &Quote<'_>, usage: &Usage, used: &[(PriceClass, i128)]) -> bool {
    let (costs, denominator) = by_book(quote, used);
    let off = costs.iter().sum::<BigInt>() - BigInt::from(usage.cost.0) * &denominator;
    off.magnitude() * 2_u8 <= denominator.magnitude() * usage.rows
}

/// How the cost is split: by what the book asks; where it knows nothing, or all is free by it, by tokens, so that each class has the same
/// price.
fn weights(quote: Option<&Quote<'_>>, used: &[(PriceClass, i128)]) -> Vec<BigInt> {
    let positive = |number: BigInt| BigInt::from_biguint(Sign::Plus, number.into_parts().1);
    let by_price = quote.map(|quote| by_book(quote, used).0.into_iter().map(positive).collect());
    let by_tokens = used.iter().map(|(class, count)| match class {
        PriceClass::Tokens(_) => BigInt::from(count.unsigned_abs()),
        _ => BigInt::ZERO,
    });
    let mut ways = by_price.into_iter().chain([by_tokens.collect::<Vec<BigInt>>()]);
    let found = ways.find(|weights| weights.iter().any(|weight| weight.sign() == Sign::Plus));
    found.unwrap_or_else(|| vec![BigInt::from(1); used.len()])
}
