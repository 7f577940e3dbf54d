//! The commands, one file each.

mod emit;
mod prices;
mod query;
mod serve;
mod verify;

pub use crate::demo::{DemoOptions, demo};
pub use emit::{EmitOptions, emit};
pub use prices::{PricesOptions, prices};
pub use query::{ReportOptions, SqlOptions, report, sql, table};
pub use serve::{runtime, serve, stop_signal};
pub use verify::{VerifyOptions, verify};
