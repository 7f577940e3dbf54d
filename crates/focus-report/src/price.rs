//! What the price book says about usage, and what has to be told apart for it to say one thing.

use num_bigint::BigInt;
use price_book::{Explanation, Factor, PriceBook, PriceClass};
use usage_types::{Currency, Dimension, DimensionSet, TimeUs};

use crate::number::{PRICE_DIGITS, ten_to};
use crate::usage::Usage;

/// Where prices of a book change. Rows between the same edges, and of the same dimensions, have the same prices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceEdges {
    /// The times at which a price, a discount or an exchange rate begins or ends, ascending.
    pub times: Vec<TimeUs>,
    /// The lengths of prompts, in input tokens, above which there are other prices, ascending.
    pub input_tokens: Vec<u64>,
    /// The dimensions that discounts and markups ask for.
    pub dimensions: DimensionSet,
}

impl PriceEdges {
    /// Those of a book.
    #[must_use]
    pub fn of(book: &PriceBook) -> Self {
        let rules = book.rules();
        let times = rules.iter().flat_map(|rule| [rule.from, rule.to]);
        let times = times.chain(book.adjustments().iter().flat_map(|adjustment| [adjustment.from, adjustment.to]));
        let times = times.chain(book.exchange_rates().iter().flat_map(|rate| [Some(rate.from), rate.to]));
        let lengths = rules.iter().flat_map(|rule| rule.cards().flat_map(|(_, card)| &card.tiers));
        let dimensions = book.adjustments().iter().flat_map(|adjustment| adjustment.matches.iter());
        Self {
            times: ascending(times.flatten()),
            input_tokens: ascending(lengths.map(|tier| tier.above_input_tokens)),
            dimensions: dimensions.map(|(dimension, _)| dimension).collect(),
        }
    }
}

fn ascending<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// A factor as a fraction.
#[derive(Debug, Clone, Copy)]
struct Fraction(u64, u64);

impl Fraction {
    fn of(factor: Option<Factor>) -> Self {
        factor.map_or(Self(1, 1), |factor| Self(factor.numerator(), factor.denominator()))
    }
}

/// The prices of usage by the book, in the currency that it was charged in.
#[derive(Debug)]
pub(crate) struct Quote<'a> {
    pub(crate) explanation: Explanation<'a>,
    multiply: Fraction,
    exchange: Fraction,
}

/// A price as it is written: of one unit of the price, in 10⁻¹⁸ of a currency, not rounded where the denominator is more than 1.
#[derive(Debug)]
pub(crate) struct Rational {
    pub(crate) numerator: BigInt,
    pub(crate) denominator: BigInt,
}

impl<'a> Quote<'a> {
    /// `None` where the book has no price, or another currency, for all that was used.
    pub(crate) fn of(book: &'a PriceBook, usage: &'a Usage) -> Option<Self> {
        let explanation = book.explain_request(&usage.dimensions, usage.input_tokens, usage.time).ok()?;
        let currency = explanation.exchange.map_or(explanation.rates.currency, |exchange| exchange.to_currency);
        let mut tokens = usage.counts.used().filter(|(class, _)| matches!(class, PriceClass::Tokens(_)));
        if currency != usage.currency || !tokens.all(|(class, _)| explanation.rates.listed(class).is_some()) {
            return None;
        }
        let multiply = Fraction::of(explanation.adjustment.map(|adjustment| adjustment.multiply));
        let exchange = Fraction::of(explanation.exchange.map(|exchange| exchange.rate));
        Some(Self { explanation, multiply, exchange })
    }

    /// Whether the book has a price for it.
    pub(crate) fn prices(&self, class: PriceClass) -> bool {
        self.explanation.rates.listed(class).is_some()
    }

    /// In which currency the price is published.
    pub(crate) fn currency(&self) -> Currency {
        self.explanation.rates.currency
    }

    /// Whether it is published in another currency than it is charged in.
    pub(crate) fn is_exchanged(&self) -> bool {
        self.explanation.exchange.is_some()
    }

    fn price(&self, class: PriceClass, factors: &[Fraction]) -> Rational {
        let listed = self.explanation.rates.listed(class).map_or(0, |price| price.0);
        let numerator = BigInt::from(listed) * ten_to(PRICE_DIGITS - usage_types::Pico::DIGITS);
        let start = Rational { numerator, denominator: BigInt::from(1) };
        factors.iter().fold(start, |price, factor| Rational {
            numerator: price.numerator * factor.0,
            denominator: price.denominator * factor.1,
        })
    }

    /// As published.
    pub(crate) fn published(&self, class: PriceClass) -> Rational {
        self.price(class, &[])
    }

    /// As published, with the discount or markup.
    pub(crate) fn agreed(&self, class: PriceClass) -> Rational {
        self.price(class, &[self.multiply])
    }

    /// As published, in the currency of the charge.
    pub(crate) fn list(&self, class: PriceClass) -> Rational {
        self.price(class, &[self.exchange])
    }

    /// What is charged: with the discount or markup, in the currency of the charge.
    pub(crate) fn contracted(&self, class: PriceClass) -> Rational {
        self.price(class, &[self.multiply, self.exchange])
    }
}

/// Who serves the usage: the provider that it names, else the only one whose price the book's rule is.
pub(crate) fn provider_of<'a>(usage: &'a Usage, quote: Option<&Quote<'a>>) -> Option<&'a str> {
    let named = usage.dimensions.get(Dimension::Provider).map(price_book::canonical_provider);
    named.or_else(|| match quote?.explanation.rule.providers.as_slice() {
        [only] => Some(only.as_str()),
        _ => None,
    })
}
