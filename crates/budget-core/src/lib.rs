//! The state machine of Outlay: usage events in, balances, decisions and alerts out.
//!
//! Start at [`Core`]. Every rule about windows, duplicates, budgets, blocks and alerts is in this crate, so that a simulation over an old
//! log runs the very same code as the service.
//!
//! Holds here: what an event does depends on the record and its place in the log alone (and, where it corrects another, on that one); decisions and alerts depend on the balances
//! alone. Amounts are integers and never wrap. A balance is complete or absent.
//! Deliberately absent: I/O, async, clocks (time is passed in), randomness (keys are passed in), prices (an event arrives priced),
//! wire formats.
//!
//! The map: [`window`] calendar windows, `moving` those that move on with time, `slab` and `intern` the containers, `dedup` ids that were seen, `balance` the sums,
//! `tracker` and `ledger` what balances belong to, `fold` how an event finds its own, `budgets` their life, `mode` and `rollback` for whom they are effective,
//! `breaker` who burns too fast, `forecast` who will have used up a budget soon, `pressure` who shares one that is, `throttle` what passes of who is slowed, `decide`, `alert` and `crossing` what follows from the balances, `view`
//! how they are read, `check` and `holds` what a request is told before it is made, `jobs` how far jobs have come, `config`, `input` and `output` what
//! goes in and comes out, `core` all of it together.

mod alert;
mod balance;
mod breaker;
mod budgets;
mod check;
mod config;
mod core;
mod crossing;
mod decide;
mod dedup;
mod fold;
mod forecast;
mod holds;
mod input;
mod intern;
mod jobs;
mod lane;
mod ledger;
mod mode;
mod moving;
mod output;
mod pressure;
mod rollback;
mod slab;
mod throttle;
mod tracker;
mod view;
pub mod window;

pub use crate::breaker::OpenCircuit;
pub use crate::budgets::{HistoryRequest, same_balances};
pub use crate::check::{Admission, Check, Question, Restraint, ScopeUsage, Standing};
pub use crate::config::{CoreConfig, Tracked};
pub use crate::core::Core;
pub use crate::decide::DECISIONS_KEPT_US;
pub use crate::input::{Disposition, Input, Restates, RestoredRow};
pub use crate::mode::mode_of;
pub use crate::output::{CoreStats, Effects, HoldsFull};
pub use crate::rollback::revision;
pub use crate::throttle::Ration;
pub use crate::view::{
    BalanceFilter, BalancePage, BalanceView, BudgetStanding, Cursor, Kind, KindFilter, StandingState,
};
