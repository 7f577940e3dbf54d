//! Circuit breakers: when a scope burns so fast that nobody can have meant it.

use crate::{BudgetId, Dimension, DimensionSet, Limit, Mode, Scope};

/// A breaker as people write it: whom it watches, when it opens, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Its id; budgets and breakers have no id in common.
    pub id: BudgetId,
    /// The values that an event must have; empty: every event.
    pub matches: Scope,
    /// One circuit for each combination of values of these dimensions; an event that lacks one of them is not watched.
    pub per: DimensionSet,
    /// What opens it; at least one. The first that is reached is named.
    pub trips: Vec<Trip>,
    /// How long it then blocks, in microseconds.
    pub open_us: i64,
    /// After that, for how long only a trickle may pass, in microseconds.
    pub half_open_us: i64,
    /// How many requests that trickle is. Those of the time after it was open; one more, and it is open again.
    pub trickle: u64,
    /// Whether it blocks ([`Mode::Hard`]) or only says that it would ([`Mode::Shadow`]).
    pub mode: Mode,
}

/// What opens a breaker: so much within so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// How much of what. Without overage.
    pub limit: Limit,
    /// Within how long, in microseconds.
    pub within_us: i64,
    /// Besides, it must be more than usual.
    pub surge: Option<Surge>,
    /// Only requests with the same value of this tag count together: identical requests.
    pub same: Option<String>,
}

/// More than usual: so many times the rate of the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surge {
    /// How many times that rate.
    pub times: u32,
    /// How long that time is, in microseconds. A scope whose first event is not so long ago has no usual rate.
    pub of_us: i64,
}

impl Breaker {
    /// The status of a block: try again later.
    pub const HTTP_STATUS: u16 = 429;

    /// The dimensions of its scopes: those it matches and those it splits by.
    #[must_use]
    pub fn scope_dimensions(&self) -> DimensionSet {
        self.matches.iter().map(|(dimension, _)| dimension).chain(self.per.iter()).collect()
    }

    /// The scope that an event with these values belongs to.
    #[must_use]
    pub fn scope_of<'t>(&self, value: impl Fn(Dimension) -> Option<&'t str>) -> Option<Scope> {
        if self.matches.iter().any(|(dim, text)| value(dim) != Some(text)) {
            return None;
        }
        let values: Option<Vec<(Dimension, &str)>> =
            self.scope_dimensions().iter().map(|dim| Some((dim, value(dim)?))).collect();
        Some(Scope::new(values?))
    }
}
