//! The entrance with a sink in memory: what clients send, by hand and with OpenTelemetry's own SDKs, and what they are answered.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod answers;
mod exporters;
mod limits;
mod support;
