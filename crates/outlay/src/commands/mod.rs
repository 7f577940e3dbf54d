//! The commands, one file each.

mod backfill;
mod budgets;
mod check;
mod confirm;
mod emit;
mod invoices;
mod prices;
mod progress;
mod publishing;
mod query;
mod reprice;
mod serve;
mod simulate;
mod stated;
mod text_table;
mod verify;

pub use crate::demo::{DemoOptions, demo};
pub use backfill::{BackfillOptions, backfill};
pub use budgets::{BudgetsOptions, budgets};
pub use check::{CheckOptions, check};
pub use emit::{EmitOptions, emit};
pub use invoices::{InvoicesOptions, invoices};
pub use prices::{PricesOptions, prices};
pub use query::{ReportOptions, SqlOptions, report, sql, table};
pub use reprice::{RepriceOptions, reprice};
pub use serve::{runtime, serve, stop_signal};
pub use simulate::{SimulateOptions, simulate};
pub use verify::{VerifyOptions, verify};
