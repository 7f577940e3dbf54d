//! The event log against a real Kafka: one broker for all tests here, a topic of its own for each.

// Helpers of tests are not tests in the eyes of clippy.toml.
#![allow(clippy::unwrap_used)]

mod broker;
mod publishing;
mod reading;
mod restart;
mod topics;
mod whole_topic;
