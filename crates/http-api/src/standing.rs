//! How full a budget is, now or in a period of the past.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usage_types::Scope;

use crate::BalanceRow;

/// Which budget, whose, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingQuery {
    /// The budget's id.
    pub budget: String,
    /// The values that the balance's scope must have; it may name further dimensions.
    pub scope: Scope,
    /// `YYYY`, `YYYY-MM` or `YYYY-MM-DD` in the budget's time zone: all windows that begin in it. `None`: the windows of now.
    pub period: Option<String>,
}

/// How full it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandingView {
    /// The budget.
    pub budget: String,
    /// What it does when it is reached.
    pub mode: String,
    /// A row for each limit of each balance that matches; the fullest first.
    pub rows: Vec<BalanceRow>,
    /// Rows that are left out, because there are too many.
    pub omitted: u64,
}
