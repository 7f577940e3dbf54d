//! The settings of the entrance: who may send, and every limit and deadline.

use std::time::Duration;

use otlp_intake::OtlpMap;

use http_listen::Secret;

/// The settings of an [`crate::Entrance`] and of the [`crate::Server`]s before it.
#[derive(Debug, Clone)]
pub struct OtlpConfig {
    /// The key that every request must carry.
    pub key: Secret,
    /// What spans and log records mean.
    pub map: OtlpMap,
    /// The largest body, in bytes, as it comes and again as it is decompressed. Default 8 MiB: a collector's largest batches have one.
    pub body_bytes_max: usize,
    /// The most requests whose bodies are in memory at once; further ones are told to come again. Default 32.
    pub requests_max: usize,
    /// How long a request may take, its body and the sink's acknowledgement included. Default 30 s; exporters give up after 10.
    pub request_timeout: Duration,
    /// How long a client may take to send the head of a request, or to answer a ping. Default 30 s.
    pub header_timeout: Duration,
    /// The most connections at once, of each listener; further ones wait in the operating system's backlog. Default 1024.
    pub connections_max: usize,
    /// How long requests in flight may take to finish after a stop was asked for. Default 10 s.
    pub shutdown_deadline: Duration,
}

impl OtlpConfig {
    /// Settings with every limit at its default.
    #[must_use]
    pub fn new(key: Secret, map: OtlpMap) -> Self {
        Self {
            key,
            map,
            body_bytes_max: 8 << 20,
            requests_max: 32,
            request_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            connections_max: 1024,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}
