//! Invoices of providers: what is owed for a month, and the lines that explain it.
//!
//! What holds here:
//! - The costs of an invoice's lines add up to its total: what no line explains is a line of its own.
//! - An invoice is of one provider, one month (in UTC, as providers bill) and one currency.
//! - A number in an export is read as it is written, and is never a float. Only digits beyond the pico-unit are rounded, to the nearest.
//!
//! Deliberately absent: fetching exports (they need the provider's admin key), storing, and comparing with what was metered.

mod decimal;
mod export;
mod invoice;

pub use export::{Export, read_export};
pub use invoice::{Invoice, Line, Month};

/// Why an invoice or an export was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct InvoiceError {
    /// Which field, like `lines[3].day` or `data[0].results[2].amount`; empty where the text as a whole is wrong.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl InvoiceError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
