//! What the routes of increase requests and the engine say to each other. A request never changes but by its answers, each of which is only
//! taken in the states that it fits, so no version has to be named.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use usage_types::{Currency, IncreaseTerms, Limits, Scope, TimeUs};

use crate::schema;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncreaseState {
    /// It waits for an answer.
    Pending,
    /// It is granted, until its end.
    Approved,
    /// It was refused.
    Denied,
    /// It was taken back, before or after it was granted.
    Withdrawn,
    /// It was granted, and that is over.
    Expired,
}

impl IncreaseState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Denied, Self::Withdrawn, Self::Expired];

    /// The name in JSON and in `state=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// A request for higher limits of one scope of a budget, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IncreaseRequest {
    /// Its id, like `r-17`.
    pub id: String,
    /// Where it stands.
    pub state: IncreaseState,
    /// Of which budget.
    pub budget: String,
    /// Whose: a whole scope of the budget, with the values that it matches.
    #[schemars(with = "schema::Scope")]
    pub scope: Scope,
    /// The limits that are wished, as in a budgets file.
    #[schemars(with = "Vec<BTreeMap<String, Value>>")]
    pub limits: Limits,
    /// Until when; absent: to the end of the window in which it is granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Time>")]
    pub until: Option<TimeUs>,
    /// Who asked, when and why.
    pub asked: Act,
    /// Who approved or denied it, when and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Act>,
    /// What was granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Granted>,
    /// Who withdrew it, when and why; by nobody where its time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Act>,
    /// How the scope stands now, while the request is pending or granted; absent where the budget or the scope is not there any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<PresentLimit>,
}

/// Who did something, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Act {
    /// When, by the server's clock.
    #[schemars(with = "schema::Time")]
    pub at: TimeUs,
    /// The name of the key that it came with; absent where nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who, by their own words. Not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Granted {
    /// The limits, as in a budgets file. They hold where they are more than those of the budget.
    #[schemars(with = "Vec<BTreeMap<String, Value>>")]
    pub limits: Limits,
    /// Until when.
    #[schemars(with = "schema::Time")]
    pub expires_at: TimeUs,
}

/// A limit of a scope as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresentLimit {
    /// Of what, like `tokens`.
    pub measure: String,
    /// The currency of a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Currency>")]
    pub currency: Option<Currency>,
    /// The limit, with grants, in units of the measure.
    pub limit: String,
    /// What is used of it.
    pub used: String,
}

/// Which requests to list. A field that is `None` does not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncreaseFilter {
    /// Those that stand so.
    pub state: Option<IncreaseState>,
    /// Those of this budget.
    pub budget: Option<String>,
}

/// What is answered to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncreaseAnswer {
    /// It is granted, or less than it, or for less long.
    Approve(IncreaseTerms),
    /// It is refused, for this reason.
    Deny(String),
    /// It is taken back; what is granted ends.
    Withdraw(Option<String>),
}
