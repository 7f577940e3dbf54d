//! What every HTTP entrance does alike: who may come in ([`check_bearer`]), and connections from their acceptance to an end that lets
//! requests finish ([`Listener`]).
//!
//! Deliberately absent: how one connection is served, and what is answered to whom. The shells above say that.

mod bearer;
mod listener;

pub use bearer::{BearerError, Secret, check_bearer};
pub use listener::{Limits, Listener};
