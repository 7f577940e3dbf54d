//! What a budget limits, and amounts of it.

use std::fmt;

use crate::units::format_decimal;
use crate::{ComputeNs, Currency, Pico, TokenClass};

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Tokens of all classes.
    Tokens,
    /// Tokens of one class.
    TokensOf(TokenClass),
    /// Requests.
    Requests,
    /// Tool calls.
    ToolCalls,
    /// Images that a model made.
    Images,
    /// Compute time.
    Compute,
    /// Money of one currency.
    Cost(Currency),
}

impl Measure {
    /// The name in decisions and in SQL: `tokens`, `output_tokens`, `requests`, `tool_calls`, `images`, `compute_seconds`,
    /// `cost`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::TokensOf(class) => class.column(),
            Self::Requests => "requests",
            Self::ToolCalls => "tool_calls",
            Self::Images => "images",
            Self::Compute => "compute_seconds",
            Self::Cost(_) => "cost",
        }
    }

    /// The currency of a cost.
    #[must_use]
    pub const fn currency(self) -> Option<Currency> {
        match self {
            Self::Cost(currency) => Some(currency),
            _ => None,
        }
    }

    /// The amount as text: a whole count, seconds, or units of the currency.
    #[must_use]
    pub fn format(self, amount: Amount) -> String {
        match self {
            Self::Cost(_) => Pico(amount.0).to_string(),
            // A balance can hold more than one event's `ComputeNs` does.
            Self::Compute => Seconds(amount.0).to_string(),
            _ => amount.0.to_string(),
        }
    }
}

/// Nanoseconds, written as seconds.
struct Seconds(i128);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_decimal(self.0, ComputeNs::DIGITS, f)
    }
}

/// An amount in the smallest unit of its measure: one token, request, call or image, one nanosecond, one pico-unit of money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub i128);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_units_of_their_measure() {
        let beyond_one_event = Amount(i128::from(u64::MAX) * 10);
        assert_eq!(Measure::Compute.format(beyond_one_event), "184467440737.09551615");
        assert_eq!(Measure::Compute.format(Amount(1_500_000_000)), "1.5");
        assert_eq!(Measure::Cost(Currency::USD).format(Amount(12_300_000_000)), "0.0123");
        assert_eq!(Measure::TokensOf(TokenClass::Output).format(Amount(7)), "7");
    }
}
