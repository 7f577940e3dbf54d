//! What is asked for more of, and what is answered, as people write it. How it is read is with the budgets file, whose terms it uses.

use crate::{Limits, Scope, TimeUs};

/// Somebody asks that a scope of a budget has higher limits for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncreaseAsk {
    /// The budget's id.
    pub budget: String,
    /// For whom: the values of what the budget splits by, with or without those that it matches.
    pub scope: Scope,
    /// How much.
    pub wish: Wish,
    /// The field of the wish: `limit`, `limits` or `add`.
    pub wish_field: &'static str,
    /// Until when; `None`: to the end of the window in which it is granted.
    pub until: Option<TimeUs>,
    /// Why.
    pub justification: String,
}

/// How much is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These limits.
    To(Limits),
    /// So much more than now.
    By(Limits),
}

/// An answer: what is given where it is not all that was asked for, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncreaseTerms {
    /// Other limits than those asked for.
    pub limits: Option<Limits>,
    /// The field that they stand in: `limit` or `limits`.
    pub limits_field: &'static str,
    /// Another end than that asked for.
    pub until: Option<TimeUs>,
    /// Why.
    pub reason: Option<String>,
}
