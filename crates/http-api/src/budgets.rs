//! What the routes of budgets and the engine say to each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use usage_types::{BudgetChange, BudgetDiff, FieldChange, Scope};

use crate::schema;

/// A document with the tag that tells one version of it from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The entity tag with its quotes (RFC 9110, 8.8.3): the same exactly if the document is.
    pub etag: String,
    /// JSON.
    pub json: String,
}

/// Which version a change is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// One of these, by their entity tags.
    Match(Vec<String>),
    /// Any, but there must be one.
    MatchAny,
    /// There must be none: the change makes something new.
    MatchNone,
}

impl Precondition {
    /// Whether it holds, where the present version has this tag, or there is none.
    #[must_use]
    pub fn holds(&self, present: Option<&str>) -> bool {
        match (self, present) {
            (Self::Match(tags), Some(present)) => tags.iter().any(|tag| tag == present),
            (Self::MatchAny, Some(_)) | (Self::MatchNone, None) => true,
            (Self::Match(_) | Self::MatchAny, None) | (Self::MatchNone, Some(_)) => false,
        }
    }
}

/// What is to become of the budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetsWrite {
    /// All of them are these: a budgets file.
    Replace(String),
    /// This one is so: one element of a budgets file.
    Put {
        /// Its id.
        id: String,
        /// The budget.
        text: String,
    },
    /// This one goes.
    Delete {
        /// Its id.
        id: String,
    },
}

/// What a client says of who it is and why it asks. Nothing of it is proven: it is kept beside the key that it came with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated {
    /// Who.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// A change of the budgets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetsChange {
    /// What.
    pub write: BudgetsWrite,
    /// Of which version.
    pub precondition: Precondition,
    /// By whom and why.
    pub stated: Stated,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What is there now; `None` where it was deleted.
    pub now: Option<Tagged>,
    /// Whether it was not there before.
    pub created: bool,
}

/// Who rules over the budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetsSource {
    /// The file that the server was started with; it is changed there.
    File,
    /// This API.
    Api,
}

/// What other budgets would change, and do at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetsPlan {
    /// The entity tag of the budgets in force, which this was planned against.
    pub etag: String,
    /// Who rules over the budgets.
    pub source: BudgetsSource,
    /// One for each budget that would change; none where nothing would.
    pub changes: Vec<PlannedChange>,
}

/// One budget that would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedChange {
    /// Which.
    pub budget: String,
    /// What would become of it.
    pub action: PlannedAction,
    /// A removed budget, with every default written out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// An added budget, with every default written out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// The fields of a changed budget that would have other values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<PlannedField>,
    /// What it would do at once, at the balances of now.
    pub effect: PlannedEffect,
}

/// What would become of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    /// It is new.
    Add,
    /// It goes.
    Remove,
    /// It stays, and says something else.
    Change,
}

/// A field that would have another value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedField {
    /// Its path, like `limits.tokens`.
    pub path: String,
    /// Its value before; absent where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// Its value after; absent where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// What a change would do at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedEffect {
    /// Whether it can be told for all scopes. Not where the budget's balances are not there yet, because it is new, or counts others or
    /// over another window than before; and not beyond the number of balances that is looked at.
    pub complete: bool,
    /// How many scopes would be blocked that are not.
    pub blocks: u64,
    /// How many scopes would not be blocked any more by this budget.
    pub unblocks: u64,
    /// The first of them.
    pub scopes: Vec<PlannedScope>,
}

/// A scope that would be blocked, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedScope {
    /// Whose balance.
    #[schemars(with = "schema::Scope")]
    pub scope: Scope,
    /// Whether the budget would block it.
    pub blocked: bool,
    /// Of what, like `tokens`: the limit of which the largest share is used.
    pub measure: String,
    /// How much is used, in units of the measure.
    pub used: String,
    /// The limit that the scope would have, likewise; for a removed budget the one it has.
    pub limit: String,
}

impl PlannedChange {
    /// A difference with what it would do.
    #[must_use]
    pub fn new(diff: BudgetDiff, effect: PlannedEffect) -> Self {
        let (action, old, new, fields) = match diff.change {
            BudgetChange::Add { new } => (PlannedAction::Add, None, Some(new), Vec::new()),
            BudgetChange::Remove { old } => (PlannedAction::Remove, Some(old), None, Vec::new()),
            BudgetChange::Change { fields } => (PlannedAction::Change, None, None, fields),
        };
        let field = |FieldChange { path, old, new }| PlannedField { path, old, new };
        let fields = fields.into_iter().map(field).collect();
        Self { budget: diff.budget.to_string(), action, old, new, fields, effect }
    }
}
