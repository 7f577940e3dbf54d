//! Budgets as people write them: whom they match, over which window, how much, and what happens then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{
    Amount, Breaker, Dimension, DimensionSet, Limits, Mode, Predict, Pressure, Priority, Rollback, Scope,
    SpecialLimits, WindowSpec,
};

/// The id of a budget: letters, digits, `-`, `_` and `.`, at most 128 bytes, unique in its file.
pub type BudgetId = Arc<str>;

/// Parts per million: how thresholds are kept, so that comparing one with a balance is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(pub u32);

impl Ppm {
    /// The whole.
    pub const ONE: Self = Self(1_000_000);

    /// Whether `used` has reached this share of `limit`; both in the same unit.
    #[must_use]
    pub fn reached(self, used: Amount, limit: Amount) -> bool {
        match (used.0.checked_mul(i128::from(Self::ONE.0)), limit.0.checked_mul(i128::from(self.0))) {
            (Some(used), Some(share)) => used >= share,
            // Beyond 10³² units only the order of the amounts themselves can be told.
            _ => used >= limit,
        }
    }
}

impl fmt::Display for Ppm {
    /// As a fraction: `0.8`, `1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / Self::ONE.0, self.0 % Self::ONE.0);
        if part == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{part:06}").trim_end_matches('0'))
    }
}

/// When to alert, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRule {
    /// Shares of the limit, ascending, each once.
    pub at: Vec<Ppm>,
    /// Mail addresses; empty: the alert is only published and shown.
    pub to: Vec<String>,
}

impl Default for AlertRule {
    /// 80 % and 100 %.
    fn default() -> Self {
        Self { at: vec![Ppm(800_000), Ppm::ONE], to: Vec::new() }
    }
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its id.
    pub id: BudgetId,
    /// The values that an event must have; empty: every event.
    pub matches: Scope,
    /// One balance for each combination of values of these dimensions; an event that lacks one of them is not counted.
    pub per: DimensionSet,
    /// Over which window.
    pub window: WindowSpec,
    /// How much of what. What is said of the budget is said of the limit that is tightest.
    pub limits: Limits,
    /// Who has other limits.
    pub special: SpecialLimits,
    /// Whether it may promise more than the budgets above it have.
    pub overcommit: bool,
    /// What happens when one is reached.
    pub mode: Mode,
    /// When it goes on in shadow by itself.
    pub rollback: Option<Rollback>,
    /// What it does when its cap is about to fall.
    pub predict: Option<Predict>,
    /// Who is slowed first when a budget above is nearly used up.
    pub priority: Priority,
    /// What it does to those below when it is nearly used up itself.
    pub pressure: Option<Pressure>,
    /// When to alert, and whom.
    pub alerts: AlertRule,
    /// The HTTP status of a block: 403 or 429.
    pub http_status: u16,
}

impl Budget {
    /// Whether a scope is one of its.
    #[must_use]
    pub fn owns(&self, scope: &Scope) -> bool {
        scope.dimensions() == self.scope_dimensions()
            && self.matches.iter().all(|(dim, value)| scope.get(dim) == Some(value))
    }

    /// The dimensions of its scopes: those it matches and those it splits by.
    #[must_use]
    pub fn scope_dimensions(&self) -> DimensionSet {
        self.matches.iter().map(|(dimension, _)| dimension).chain(self.per.iter()).collect()
    }

    /// Which limits a scope with these values has: the place of an entry of `special` plus one, or 0 for the budget's own.
    #[must_use]
    pub fn limits_place<'t>(&self, value: impl Fn(Dimension) -> Option<&'t str>) -> u16 {
        self.special.find(value).map_or(0, |at| at + 1)
    }

    /// The limits at such a place.
    #[must_use]
    pub fn limits_at(&self, place: u16) -> &Limits {
        let entry = place.checked_sub(1).and_then(|at| self.special.entries().get(usize::from(at)));
        entry.map_or(&self.limits, |entry| &entry.limits)
    }

    /// The limits of a scope with these values.
    #[must_use]
    pub fn limits_of<'t>(&self, value: impl Fn(Dimension) -> Option<&'t str>) -> &Limits {
        self.limits_at(self.limits_place(value))
    }

    /// The most specific dimension of its scopes: names the reason of a block.
    #[must_use]
    pub fn narrowest_dimension(&self) -> Option<Dimension> {
        self.scope_dimensions()
            .iter()
            .filter(|d| *d <= Dimension::Job)
            .last()
            .or_else(|| self.scope_dimensions().iter().last())
    }
}

/// A validated set of budgets, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BudgetSet {
    /// By id, in the order of ids.
    pub budgets: BTreeMap<BudgetId, Arc<Budget>>,
    /// Circuit breakers, by id, in the order of ids.
    pub breakers: BTreeMap<BudgetId, Arc<Breaker>>,
}

/// Why a budgets file was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}", place = Place { line: *line, column: *column, field })]
pub struct BudgetError {
    /// The line in the file, from 1; 0 where none can be told.
    pub line: usize,
    /// The column in the line, from 1; 0 where none can be told.
    pub column: usize,
    /// The field's path, like `budgets[2].limit`; empty where the whole file is meant.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

struct Place<'a> {
    line: usize,
    column: usize,
    field: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}", self.line, self.column)?;
        } else {
            f.write_str("budgets file")?;
        }
        if self.field.is_empty() { Ok(()) } else { write!(f, ", field {}", self.field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_reached_exactly_at_its_share() {
        let limit = Amount(1_000_001);
        assert!(!Ppm(800_000).reached(Amount(800_000), limit));
        assert!(Ppm(800_000).reached(Amount(800_001), limit));
        assert!(Ppm::ONE.reached(Amount(i128::MAX), Amount(i128::MAX)));
        assert_eq!((Ppm(800_000).to_string(), Ppm::ONE.to_string()), ("0.8".to_owned(), "1".to_owned()));
    }
}
