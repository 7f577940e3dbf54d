//! Shared cost: which cost is borne by others than those whom it fell on, and by whom.
//!
//! Some cost belongs to nobody who used something: a platform's fee, the requests of a key that several teams share, usage that names no team,
//! what a provider's invoice has more than was metered. A file of rules ([`Allocation`]) says how each is shared; [`allocate`] takes sums of
//! usage and gives each receiver's part.
//!
//! What holds here:
//! - Nothing is lost and nothing appears: for each currency, what stays where it fell and all parts together are the cost of the usage, the
//!   fees and the differences of invoices, to the last pico-unit. What cannot be divided goes to the largest remainders.
//! - A cost is shared once: by the first rule of the file that it belongs to. What a rule shares out weighs nothing in another one.
//! - The parts of a month or a day depend on its own usage alone, so they are the same whichever period is reported.
//! - Usage stays where it was used: tokens, requests and calls are never moved, only cost.
//! - No float.
//!
//! Deliberately absent: reading the lake, invoices, time zones (a day is the one that the report has), and reports.

mod allocate;
mod file;
mod rule;

pub use allocate::{Allocated, InvoiceDifference, Note, Part, Reason, UsageSum, allocate};
pub use rule::{Allocation, Every, FixedPart, Rule, Selector, Shared, Split};

/// Why sums could not be allocated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// A sum has more than the 38 digits that readers of decimals take.
    #[error("the cost shared by `{rule}` does not fit 38 digits; check the amounts of its events")]
    OutOfRange {
        /// The rule.
        rule: String,
    },
}
