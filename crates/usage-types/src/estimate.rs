//! What a request is expected to use, before it is made.

use crate::{Amount, ComputeNs, Measure, Money, TokenClass, Tokens};

/// What a request is expected to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens whose class is known.
    pub tokens: Tokens,
    /// Tokens whose class is not: they count in limits of all tokens only.
    pub other_tokens: u64,
    /// Requests.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Images that a model makes.
    pub images: u64,
    /// Compute time.
    pub compute: ComputeNs,
    /// Money.
    pub cost: Option<Money>,
}

impl Default for Estimate {
    /// One request of which nothing else is known.
    fn default() -> Self {
        Self {
            tokens: Tokens::default(),
            other_tokens: 0,
            requests: 1,
            tool_calls: 0,
            images: 0,
            compute: ComputeNs(0),
            cost: None,
        }
    }
}

impl Estimate {
    /// How much of a measure.
    #[must_use]
    pub fn amount(&self, measure: Measure) -> Amount {
        let of_count = |count: u64| Amount(i128::from(count));
        match measure {
            Measure::Tokens => of_count(self.tokens.total().saturating_add(self.other_tokens)),
            Measure::TokensOf(class) => of_count(self.tokens.get(class)),
            Measure::Requests => of_count(self.requests),
            Measure::ToolCalls => of_count(self.tool_calls),
            Measure::Images => of_count(self.images),
            Measure::Compute => of_count(self.compute.0),
            Measure::Cost(currency) => {
                self.cost.filter(|cost| cost.currency == currency).map_or(Amount(0), |cost| Amount(cost.amount.0))
            }
        }
    }

    /// All amounts that are not zero.
    pub fn amounts(&self) -> impl Iterator<Item = (Measure, Amount)> {
        let counts = [Measure::Tokens, Measure::Requests, Measure::ToolCalls, Measure::Images, Measure::Compute];
        let cost = self.cost.map(|cost| Measure::Cost(cost.currency));
        let measures = counts.into_iter().chain(TokenClass::ALL.map(Measure::TokensOf)).chain(cost);
        measures.map(|measure| (measure, self.amount(measure))).filter(|(_, amount)| amount.0 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Currency, Pico};

    #[test]
    fn tokens_of_no_class_count_in_the_total_alone() {
        let tokens = Tokens { input: 7, output: 5, ..Tokens::default() };
        let cost = Some(Money { amount: Pico(3), currency: Currency::USD });
        let estimate = Estimate { tokens, other_tokens: 100, cost, ..Estimate::default() };
        let amounts: Vec<_> = estimate.amounts().map(|(measure, amount)| (measure.name(), amount.0)).collect();
        assert_eq!(amounts, [("tokens", 112), ("requests", 1), ("input_tokens", 7), ("output_tokens", 5), ("cost", 3)]);
        assert_eq!(estimate.amount(Measure::Cost("EUR".parse().unwrap())), Amount(0));
    }
}
