//! The main job through the real binary and its embedded log: an event becomes a balance, a decision, a mail and a chargeback row.
//!
//! Each test starts a server of its own on a folder of its own, and asks it only what a user could: HTTP, Kafka, files.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

#[path = "../common/mod.rs"]
mod common;

mod alerting;
mod allocating;
mod auditing;
mod backfilling;
mod checking;
mod counting;
mod enforcing;
mod focus;
mod forgetting;
mod framing;
mod increasing;
mod invoicing;
mod managing;
mod modes;
mod planning;
mod postgres;
mod querying;
mod rejecting;
mod reporting;
mod repricing;
mod reserving;
mod restating;
mod running;
mod simulating;
mod streaming;
mod tracing;
mod views;
mod windows;
