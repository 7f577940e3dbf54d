//! How to reach the log, and what every client of this crate has in common.
//!
//! Roles add their own settings where they are made ([`crate::EventReader`], [`crate::Publisher`]); the caller's
//! `extra` comes last and so wins, except for the settings that correctness rests on, which each role sets after it.

use std::collections::BTreeMap;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

/// Where the log is and how to talk to it.
#[derive(Debug, Clone, Default)]
pub struct LogConfig {
    /// Bootstrap servers: `host:port`, several separated by commas.
    pub brokers: String,
    /// Name under which brokers log and throttle this client.
    pub client_id: String,
    /// Any librdkafka property, passed through: `security.protocol`, `sasl.username`, `compression.type`, …
    /// TLS and SCRAM need this crate's feature `tls`.
    pub extra: BTreeMap<String, String>,
}

impl LogConfig {
    /// A configuration without extra properties.
    pub fn new(brokers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), client_id: client_id.into(), extra: BTreeMap::new() }
    }

    /// Settings of a client: `defaults` of its role, then the caller's properties, then what must not be changed.
    pub(crate) fn client(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", &self.client_id);
        // A broker that restarts is back within a second or so; librdkafka's ceiling of 10 s would be added to it.
        config.set("reconnect.backoff.max.ms", "1000").set("socket.keepalive.enable", "true");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.extra {
            config.set(key, value);
        }
        for (key, value) in fixed {
            config.set(*key, *value);
        }
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }
}

/// Sends what librdkafka says to `tracing`.
pub(crate) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => tracing::error!(facility, "{message}"),
        // One property list serves all roles, so each client is given some that belong to another.
        Level::Warning if facility == "CONFWARN" => tracing::debug!(facility, "{message}"),
        Level::Warning => tracing::warn!(facility, "{message}"),
        Level::Notice | Level::Info => tracing::info!(facility, "{message}"),
        Level::Debug => tracing::debug!(facility, "{message}"),
    }
}

pub(crate) fn log_error(error: &KafkaError, reason: &str) {
    tracing::warn!(error = %crate::error::plain(error), "{reason}");
}
