//! The OpenTelemetry entrance: OTLP over gRPC and over HTTP, in Protobuf and JSON, into a [`Sink`] of usage records.
//!
//! Holds here: a request needs the key before its body is read; its size is bounded before and while it is decompressed, and how many are
//! in memory at once is bounded too; an answer comes in the encoding of its request, says how many spans were refused and why, and is an
//! error only where nothing or not everything could be taken; what a sender should send again it is told to, after how long.
//! Sending again is safe: the same span gives the same id.
//! Deliberately absent: Kafka and the lake, which stand behind the sink; what a span means, which `otlp-intake` says; TLS, which a proxy
//! ends; and metrics as a source of usage: they are taken and dropped, since exporters send them along.

mod config;
mod counts;
mod failure;
mod grpc;
mod http;
mod inflate;
mod server;
mod sink;
mod take;

pub use config::OtlpConfig;
pub use counts::OtlpCounts;
pub use http_listen::Secret;
pub use server::{BindError, Server};
pub use sink::{Record, Sink, SinkError};
pub use take::Entrance;

use std::sync::Arc;

/// `POST /v1/traces`, `/v1/logs` and `/v1/metrics`, which check the key themselves. For a server that speaks HTTP/1 or 2.
pub fn http_routes(entrance: &Arc<Entrance>) -> axum::Router {
    http::routes(Arc::clone(entrance))
}

/// The gRPC services for traces, logs and metrics, which check the key themselves. For a server that speaks HTTP/2.
pub fn grpc_routes(entrance: &Arc<Entrance>) -> axum::Router {
    grpc::routes(Arc::clone(entrance))
}
