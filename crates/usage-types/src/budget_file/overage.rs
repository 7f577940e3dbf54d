//! Overage: how much more than its limits a budget lets through before it blocks.

use crate::budget_file::field::Field;
use crate::budget_file::limit::{limit, list};
use crate::budget_file::mode::share;
use crate::budget_file::tree::Value;
use crate::{Amount, BudgetError, Limit, Limits, Ppm};

/// What is written as `overage`.
pub(super) enum Overage {
    /// So much of each limit.
    Share(Ppm),
    /// So much of these measures.
    Amounts(Vec<Limit>),
}

impl Overage {
    /// Reads a share, like `10%`, or amounts like `{ tokens: 50000 }`.
    pub(super) fn read(field: &Field<'_>) -> Result<Self, BudgetError> {
        match field.node.value {
            Value::Map(_) => Ok(Self::Amounts(vec![limit(field)?])),
            Value::List(_) => Ok(Self::Amounts(list(field)?)),
            Value::Text(_) | Value::Null => Ok(Self::Share(share(field)?)),
        }
    }

    fn of(&self, limit: Limit) -> Amount {
        match self {
            Self::Share(share) => Amount(limit.amount.0 * i128::from(share.0) / i128::from(Ppm::ONE.0)),
            Self::Amounts(amounts) => {
                amounts.iter().find(|of| of.measure == limit.measure).map_or(Amount(0), |of| of.amount)
            }
        }
    }

    /// The limits with this overage, where they have none of their own.
    pub(super) fn on(&self, limits: &Limits) -> Limits {
        let of = |limit: Limit| if limit.overage.0 > 0 { limit.overage } else { self.of(limit) };
        limits.with(|limit| Limit { overage: of(limit), ..limit })
    }

    /// Refuses an amount of what none of these limits is of: it would never count.
    pub(super) fn check<'l>(
        &self,
        field: &Field<'_>,
        limits: impl Iterator<Item = &'l Limits> + Clone,
    ) -> Result<(), BudgetError> {
        let Self::Amounts(amounts) = self else { return Ok(()) };
        let is_limited =
            |of: &Limit| limits.clone().any(|limits| limits.iter().any(|limit| limit.measure == of.measure));
        match amounts.iter().find(|of| !is_limited(of)) {
            Some(of) => {
                let of = of
                    .measure
                    .currency()
                    .map_or_else(|| of.measure.name().to_owned(), |currency| format!("cost in {currency}"));
                Err(field.error(format!(
                    "the budget has no limit of {of}; write it for what is limited, or as a share like 10%"
                )))
            }
            None => Ok(()),
        }
    }
}
