//! What every HTTP entrance does alike: who may come in ([`check_key`]), and connections from their acceptance to an end that lets
//! requests finish ([`Listener`]).
//!
//! Deliberately absent: how one connection is served, and what is answered to whom. The shells above say that.

mod key;
mod listener;

pub use key::{KeyError, Secret, check_key};
pub use listener::{Limits, Listener};
