//! What a simulation is asked and answers, in the JSON of `POST /v1/simulations` and of `outlay simulate --format json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use usage_types::{BudgetSet, Currency, Scope, TimeUs, Window};

use crate::schema;

/// What is simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulationRequest {
    /// The budgets; they are compared with those in force.
    pub budgets: Arc<BudgetSet>,
    /// From then on.
    pub from: TimeUs,
    /// Until before then.
    pub to: TimeUs,
    /// Whether refused usage counts towards balances all the same.
    pub count_refused: bool,
}

/// What budgets would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulationView {
    /// From then on.
    #[schemars(with = "schema::Time")]
    pub from: TimeUs,
    /// Until before then.
    #[schemars(with = "schema::Time")]
    pub to: TimeUs,
    /// Whether refused usage counted towards balances all the same.
    pub count_refused: bool,
    /// The version of the lake's table `usage` that was read.
    pub lake_version: u64,
    /// All usage of that time, refused or not.
    pub spend: SimulatedSpend,
    /// By the budgets that were asked about.
    pub new: SimulatedBudgets,
    /// By the budgets that they are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<SimulatedBudgets>,
}

/// A sum of usage. Below zero only where more was taken back than used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedSpend {
    /// Events.
    pub events: i64,
    /// Requests.
    pub requests: String,
    /// Tokens of all classes.
    pub tokens: String,
    /// Tool calls.
    pub tool_calls: String,
    /// Images.
    pub images: String,
    /// Compute time in seconds.
    pub compute_seconds: String,
    /// Money by currency, like `{"USD": "12.5"}`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub costs: BTreeMap<String, String>,
    /// Of the events those whose cost is not known.
    pub unpriced: i64,
}

/// What one set of budgets would have done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedBudgets {
    /// What would have been refused, each event once.
    pub refused: SimulatedSpend,
    /// What was not refused, and would be if no budget were in shadow, each event once; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_refuse: Option<SimulatedSpend>,
    /// Every budget, by id.
    pub budgets: Vec<SimulatedBudget>,
    /// Scopes that would have been blocked or alerted, by budget and scope.
    pub scopes: Vec<SimulatedScope>,
    /// Scopes, blocks and alerts that are counted above and not listed, because there are too many.
    pub omitted: u64,
}

/// What one budget, or circuit breaker, would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedBudget {
    /// Its id.
    pub budget: String,
    /// Whether it is a circuit breaker: its blocks are the times that its circuits are open. Absent where it is a budget.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub breaker: bool,
    /// What it does when it is reached.
    pub mode: String,
    /// How many of its scopes would have been blocked.
    pub scopes_blocked: u64,
    /// How often, over all scopes.
    pub blocks: u64,
    /// For how long, summed over scopes; whole seconds.
    pub blocked_seconds: u64,
    /// How many alerts would have been raised.
    pub alerts: u64,
    /// What it would have refused. An event that several budgets refuse counts for the one whose block lasts longest.
    pub refused: SimulatedSpend,
    /// What it would do if it were not in shadow; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_block: Option<SimulatedShadow>,
    /// That it would have rolled back, and gone on in shadow; absent where not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<SimulatedRollback>,
}

/// What would be blocks if the budget were not in shadow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedShadow {
    /// How many scopes.
    pub scopes: u64,
    /// How often, over all of them.
    pub blocks: u64,
    /// For how long, summed over them; whole seconds.
    pub blocked_seconds: u64,
    /// What it would refuse, of what no effective block refuses.
    pub refused: SimulatedSpend,
}

/// A budget gives up blocking by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedRollback {
    /// When, the first time.
    #[schemars(with = "schema::Time")]
    pub at: TimeUs,
    /// How many scopes it blocked.
    pub blocked: u64,
    /// Of how many.
    pub scopes: u64,
}

/// What would have become of one scope of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedScope {
    /// The budget.
    pub budget: String,
    /// Whose balance.
    #[schemars(with = "schema::Scope")]
    pub scope: Scope,
    /// How often it would have been blocked.
    pub blocks: u64,
    /// For how long in all; whole seconds.
    pub blocked_seconds: u64,
    /// How many alerts would have been raised.
    pub alerts: u64,
    /// What would have been refused.
    pub refused: SimulatedSpend,
    /// The blocks, in order.
    pub blocked: Vec<SimulatedBlock>,
    /// What would be blocks if the budget were not in shadow; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_block: Option<SimulatedShadow>,
    /// These, in order; absent where none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_be_blocked: Vec<SimulatedBlock>,
    /// The alerts, in order.
    pub alerted: Vec<SimulatedAlert>,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedBlock {
    /// From then on: the event that reached the limit, or the begin of the simulation where it was reached before.
    #[schemars(with = "schema::Time")]
    pub begin: TimeUs,
    /// Until then; absent where the simulation ended first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Time>")]
    pub end: Option<TimeUs>,
    /// The window.
    #[schemars(with = "schema::Window")]
    pub window: Window,
    /// What is limited, like `tokens` or `cost`.
    pub measure: String,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Currency>")]
    pub currency: Option<Currency>,
    /// The limit, in units of the measure.
    pub limit: String,
    /// The balance as it began, in units of the measure.
    pub used: String,
    /// What it would have refused.
    pub refused: SimulatedSpend,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SimulatedAlert {
    /// When.
    #[schemars(with = "schema::Time")]
    pub at: TimeUs,
    /// The threshold as a fraction, like `0.8`.
    pub threshold: String,
    /// What is limited.
    pub measure: String,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Currency>")]
    pub currency: Option<Currency>,
    /// The limit, in units of the measure.
    pub limit: String,
    /// The balance then, in units of the measure.
    pub used: String,
}
