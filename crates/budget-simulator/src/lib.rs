//! What budgets would have done over usage of the past: whom they would have blocked and alerted, when, for how long, and what that would
//! have refused.
//!
//! Start at [`Simulation`]. The state machine is `budget-core`, the one that runs in the service.
//!
//! Holds here: rows come in order of their time, which is the clock; after each row the core is asked what follows, so a block begins with
//! the row that reaches the limit, and a row after it is refused. Whatever is kept is counted in [`Simulation::bytes`].
//! Deliberately absent: reading rows, files, printing, threads.

mod blocks;
mod outcome;
mod simulation;

pub use crate::outcome::{AlertRaised, Block, Blocked, BudgetOutcome, Outcome, RolledBack, ScopeOutcome, Spend};
pub use crate::simulation::{Settings, Simulation, Tags};
