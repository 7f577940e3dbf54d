//! Settings of an embedded log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How an embedded log listens, where it keeps its data, and what it admits.
///
/// Start from [`LocalLogConfig::new`] and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LocalLogConfig {
    /// The data folder; created when missing, and locked while the log runs.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes any free port (see [`crate::LocalLog::addr`]).
    pub listen: SocketAddr,
    /// Host name that clients are told to connect to; without one, the address on which each of them came in.
    pub advertised_host: Option<String>,
    /// Partitions of a topic that is created without a count. Default 8.
    pub default_partitions: i32,
    /// Whether a client that asks for a missing topic creates it (if the client allows that). Default true.
    pub auto_create_topics: bool,
    /// A larger request closes its connection. Default 32 MiB.
    pub max_request_bytes: usize,
    /// A fetch answer holds at most so much (but one batch at least), whatever the client asks for. Default 16 MiB.
    pub max_fetch_bytes: usize,
    /// More connections than this are closed at once. Default 512.
    pub max_connections: usize,
    /// Requests of one connection that may be unanswered; then it is not read from. Default 64.
    pub max_in_flight_per_connection: usize,
    /// Produce requests that are unanswered, over all connections, hold at most so much; then reading waits. Default 256 MiB.
    pub max_in_flight_bytes: usize,
    /// A connection that is silent this long is closed. Default 10 minutes, as Kafka's.
    pub idle_timeout: Duration,
    /// A connection that takes no bytes of an answer, or stops in the middle of a request, this long is closed. Default 30 s.
    pub stall_timeout: Duration,
    /// How often retention and compaction look for work. Default 10 s.
    pub maintenance_interval: Duration,
    /// How long the first member of an empty group waits for others. Default zero: groups here are small and local.
    pub initial_rebalance_delay: Duration,
}

impl LocalLogConfig {
    /// The defaults, on a free port of the loopback interface.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertised_host: None,
            default_partitions: 8,
            auto_create_topics: true,
            max_request_bytes: 32 << 20,
            max_fetch_bytes: 16 << 20,
            max_connections: 512,
            max_in_flight_per_connection: 64,
            max_in_flight_bytes: 256 << 20,
            idle_timeout: Duration::from_secs(600),
            stall_timeout: Duration::from_secs(30),
            maintenance_interval: Duration::from_secs(10),
            initial_rebalance_delay: Duration::ZERO,
        }
    }
}
