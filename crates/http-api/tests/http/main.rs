//! The HTTP surface over real sockets. What stands behind it is a fake engine; the real one is tested in the binary.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod browser;
mod budgets;
mod check;
mod client;
mod decisions;
mod errors;
mod events;
mod fake;
mod increases;
mod invoices;
mod limits;
mod openapi;
mod page;
mod queries;
mod reservations;
mod simulations;
mod standing;
