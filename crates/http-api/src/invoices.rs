//! What the routes of invoices and the engine say to each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::increases::Act;

/// An invoice as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceView {
    /// The provider, as events name it.
    pub provider: String,
    /// Its number.
    pub number: String,
    /// The month that it is of, like `2026-10`, in UTC.
    pub month: String,
    /// The currency of its costs.
    pub currency: String,
    /// What is owed, in whole units of the currency.
    pub total: String,
    /// How many lines explain it.
    pub line_count: usize,
    /// The lines; left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Value>,
    /// Who imported it, when and why.
    pub imported: Act,
}
