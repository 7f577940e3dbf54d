//! Export requests as OpenTelemetry's generated messages write them, and what they are in our books.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod claude_code;
mod dimensions;
mod encodings;
mod ids;
mod properties;
mod spans;
mod support;
