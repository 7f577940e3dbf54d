//! Where the commands publish events to: Kafka (or the embedded log, which speaks it), or a server over HTTP. Both count what was
//! acknowledged, and nothing else counts as published.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use event_log::{LogConfig, LogError, Publisher, topics};

use crate::client::{Server, ServerOptions, log_at};
use crate::options::DEFAULT_LOG;

/// How long the last acknowledgements may take.
const FLUSH: Duration = Duration::from_secs(60);
/// Events in one request; far below the server's limit of items.
const REQUEST_EVENTS: usize = 1_000;
/// Bytes of events in one request; far below the server's limit of a body.
const REQUEST_BYTES: usize = 1 << 20;

/// How to reach a Kafka log.
#[derive(Debug, Clone, Args)]
pub struct KafkaOptions {
    /// Kafka bootstrap servers [default: the log of the server that runs on the data folder, else 127.0.0.1:9092]
    #[arg(long, env = "OUTLAY_KAFKA", value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// Any librdkafka property, like `security.protocol=ssl`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub kafka_property: Vec<String>,
}

impl KafkaOptions {
    /// The configuration of a client of this name; `default` are the bootstrap servers where none were given.
    pub fn config(&self, name: &str, default: Option<String>) -> Result<LogConfig> {
        let brokers = self.kafka.clone().or(default).unwrap_or_else(|| DEFAULT_LOG.to_owned());
        let mut config = LogConfig::new(brokers, name);
        for pair in &self.kafka_property {
            let (key, value) =
                pair.split_once('=').with_context(|| format!("--kafka-property {pair}: write it as KEY=VALUE"))?;
            config.extra.insert(key.to_owned(), value.to_owned());
        }
        Ok(config)
    }
}

/// Where to publish.
#[derive(Debug, Clone, Args)]
pub struct TargetOptions {
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Publish over HTTP, with the admin key, instead of Kafka
    #[arg(long)]
    pub http: bool,
    #[command(flatten)]
    pub server: ServerOptions,
}

impl TargetOptions {
    /// The log's configuration.
    pub fn log(&self, name: &str) -> Result<LogConfig> {
        self.kafka.config(name, log_at(&self.server.data))
    }
}

/// An event that the server refused although it was checked before: its limits may be narrower.
pub struct Refused {
    /// What the caller gave with the event.
    pub tag: u64,
    /// The server's code, field and sentence.
    pub said: (String, Option<String>, String),
}

/// Takes events and publishes them.
pub enum Target {
    /// To a log.
    Kafka {
        /// The producer.
        publisher: Publisher,
        /// Its bootstrap servers.
        brokers: String,
        /// How many were given to it.
        sent: u64,
    },
    /// To a server.
    Http {
        /// The server.
        server: Server,
        /// Events that wait for a request, one a line.
        lines: Vec<u8>,
        /// What the caller gave with each of them.
        tags: Vec<u64>,
        /// How many were acknowledged.
        acknowledged: u64,
        /// Those that the server refused.
        refused: Vec<Refused>,
    },
}

impl Target {
    /// Opens what the options name.
    pub fn open(options: &TargetOptions, name: &str) -> Result<Self> {
        if options.http {
            let server = Server::new(&options.server)?;
            return Ok(Self::Http {
                server,
                lines: Vec::new(),
                tags: Vec::new(),
                acknowledged: 0,
                refused: Vec::new(),
            });
        }
        let config = options.log(name)?;
        Ok(Self::Kafka { publisher: Publisher::open(&config)?, brokers: config.brokers, sent: 0 })
    }

    /// Where it publishes to, for people.
    pub fn name(&self) -> &str {
        match self {
            Self::Kafka { brokers, .. } => brokers,
            Self::Http { server, .. } => server.url(),
        }
    }

    /// Takes one event with its canonical key (HTTP finds that by itself). `tag` comes back where the server refuses the event.
    pub fn publish(&mut self, key: &str, value: &[u8], tag: u64) -> Result<()> {
        match self {
            Self::Kafka { publisher, sent, .. } => {
                publish(publisher, key.as_bytes(), value)?;
                *sent += 1;
                Ok(())
            }
            Self::Http { lines, tags, .. } => {
                lines.extend_from_slice(value);
                lines.push(b'\n');
                tags.push(tag);
                if tags.len() >= REQUEST_EVENTS || lines.len() >= REQUEST_BYTES { self.post() } else { Ok(()) }
            }
        }
    }

    fn post(&mut self) -> Result<()> {
        let Self::Http { server, lines, tags, acknowledged, refused } = self else { return Ok(()) };
        if tags.is_empty() {
            return Ok(());
        }
        let answer = server.post_events(std::mem::take(lines))?;
        *acknowledged += answer.accepted;
        for row in answer.rejected {
            let tag = tags.get(row.index).copied().unwrap_or_default();
            refused.push(Refused { tag, said: (row.code, row.field, row.detail) });
        }
        tags.clear();
        Ok(())
    }

    /// How many are acknowledged by now.
    pub fn acknowledged(&self) -> u64 {
        match self {
            Self::Kafka { publisher, sent, .. } => sent.saturating_sub(publisher.in_flight() as u64),
            Self::Http { acknowledged, .. } => *acknowledged,
        }
    }

    /// Waits until all are acknowledged; those that the server refused.
    pub fn finish(&mut self) -> Result<Vec<Refused>> {
        self.post()?;
        match self {
            Self::Kafka { publisher, .. } => publisher
                .flush(FLUSH)
                .map(|()| Vec::new())
                .context("not every event was acknowledged; run it again: what was published counts once"),
            Self::Http { refused, .. } => Ok(std::mem::take(refused)),
        }
    }
}

/// Queues one event for `usage.events`.
pub fn publish(publisher: &Publisher, key: &[u8], value: &[u8]) -> Result<()> {
    match publisher.publish(topics::USAGE_EVENTS, key, Some(value), &[], None) {
        Err(error @ (LogError::QueueFull | LogError::TopicMissing { .. })) => {
            bail!("{error}; is `outlay serve` running? (it creates the topic)")
        }
        other => Ok(other?),
    }
}
