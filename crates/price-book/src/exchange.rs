//! Prices in another currency than the books': exchange rates by date.

use usage_types::{Currency, TimeUs};

use crate::{Factor, UnpricedReason};

/// What a unit of one currency was worth in another, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRate {
    /// Of which currency.
    pub from_currency: Currency,
    /// In which currency: the one that the file settles in.
    pub to_currency: Currency,
    /// What one unit is worth.
    pub rate: Factor,
    /// From when, inclusive.
    pub from: TimeUs,
    /// Until when, exclusive: until the next rate of the currency unless the file says when it ends; `None`: until further notice.
    pub to: Option<TimeUs>,
    /// Where the rate is published.
    pub source: String,
    /// Where in the file it begins, from 1.
    pub line: u64,
    /// The column there, from 1.
    pub column: u64,
}

/// The currency of the books and the way to it.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// `None`: every price stays in its own currency.
    pub(crate) settle_in: Option<Currency>,
    /// By currency and time; those of a currency do not overlap.
    pub(crate) rates: Vec<ExchangeRate>,
}

impl Exchange {
    /// The rate for a cost in that currency at that time; `None` where it stays in it.
    pub(crate) fn find(&self, currency: Currency, at: TimeUs) -> Result<Option<&ExchangeRate>, UnpricedReason> {
        if self.settle_in.is_none_or(|books| books == currency) {
            return Ok(None);
        }
        // The last that has begun; whether it still holds is another question.
        let after = self.rates.partition_point(|rate| (rate.from_currency, rate.from) <= (currency, at));
        let begun = after.checked_sub(1).map(|index| &self.rates[index]);
        let in_force = begun.filter(|rate| rate.from_currency == currency && rate.to.is_none_or(|to| at < to));
        in_force.map(Some).ok_or(UnpricedReason::NoExchangeRate(currency))
    }
}
