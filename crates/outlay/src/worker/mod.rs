//! The server's inside: one thread that counts, one that commits, and what they share.
//!
//! What holds: everything that decides about money is behind one lock ([`counted::Counted`]), so that balances, rows and
//! accounts of offsets never disagree; nobody holds that lock while waiting for I/O.

mod allocation;
mod audit;
mod budgets;
mod checks;
mod commit;
mod counted;
mod data_dir;
mod effect;
mod engine;
mod focus;
mod increases;
mod ingest;
mod invoices;
mod mail;
mod manage;
mod metrics;
mod otlp;
mod pg;
mod publish;
mod record;
mod recover;
mod registry;
mod reports;
mod restate;
mod rows;
mod schemas;
mod server;
mod shared;
mod standing;
mod views;

pub use engine::balance_rows;
pub use recover::restored;
pub use server::{ADDRESSES_FILE, Addresses, Running, read_intake, start};
pub use shared::Shared;
