//! Usage and its cost as charges of FOCUS, the FinOps Open Cost and Usage Specification (<https://focus.finops.org>).
//!
//! A row of the lake has one cost for all that an event used; a row of FOCUS has one SKU, one quantity and one price. So what usage of one
//! day and of the same price came to ([`Usage`]) is split into charges, one for each token class and fee ([`Bill`]), and each charge is
//! written as the columns of a version of the specification ([`columns`]).
//!
//! What holds here:
//! - The billed and effective costs of a bill's charges add up to the usage's cost, to the last pico-unit: each charge has its
//!   proportional part, and the pico-units that are left go to the largest remainders.
//! - No float. Costs have 12 digits after the point, unit prices 18, quantities 9, quantities in units of the price 12.
//! - A price that is named is one that was charged: that of the book where it explains the cost to the rounding of the single
//!   events, else the cost divided by the quantity ([`Basis`] says which).
//! - The product of a unit price and a quantity is the cost that FOCUS says it must be.
//! - Cells follow the specification's rules of what is null when, and which texts are allowed; the tests hold both versions to it.
//!
//! Deliberately absent: reading the lake, file formats, usage without a price (it has no currency, so it is no charge), and shared costs.

mod bill;
mod columns;
mod number;
mod price;
mod text;
mod usage;

pub use bill::{Basis, Bill, Charge, UnitPrices};
pub use columns::{Column, DataType, Line, Settings, Value, Version, columns};
pub use price::PriceEdges;
pub use usage::{Counts, Entry, Usage};

/// Why usage could not be written as charges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FocusError {
    /// The version is none that is written here.
    #[error("`{0}` is no version of FOCUS that is written here; use 1.0 or 1.2")]
    Version(String),
    /// A number has more than the 38 digits that readers of decimals take.
    #[error("the {what} of {sku} does not fit 38 digits; check its price and its counts")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Of which SKU.
        sku: String,
    },
}
