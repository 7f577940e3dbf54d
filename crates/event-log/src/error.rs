//! The one error of this crate. Every message ends in what to do next, because an operator reads it in a log at night.
//!
//! The error can be cloned and compared: a reader keeps the error that stopped it and says it again at every later
//! call.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What can go wrong between Outlay and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The client could not be set up: a property is unknown or its value is not allowed.
    #[error("the Kafka client refused its settings: {reason}; check the extra Kafka properties")]
    Config {
        /// What librdkafka says.
        reason: String,
    },
    /// No broker answered in time.
    #[error(
        "no answer from Kafka at {brokers}: {reason}; check that it runs and that its advertised address can be reached"
    )]
    Unreachable {
        /// The bootstrap servers that were asked.
        brokers: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The topic does not exist (any more).
    #[error("topic {topic} does not exist; create it, or let Outlay do so with the right to create topics")]
    TopicMissing {
        /// Name of the topic.
        topic: String,
    },
    /// A starting position names a partition that the topic does not have: it was deleted and created again.
    #[error(
        "topic {topic} has {partitions} partitions, but a stored position names partition {partition}; was the topic recreated?"
    )]
    PartitionMissing {
        /// Name of the topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
        /// How many partitions there are.
        partitions: i32,
    },
    /// The log lost records that had not been read (retention, deletion), or is shorter than what was already read.
    #[error(
        "topic {topic} partition {partition} no longer holds offset {offset} (it holds {low} to {high}): records were lost before they were \
         read; lengthen retention.ms, and restart with the loss acknowledged"
    )]
    OffsetLost {
        /// Name of the topic.
        topic: String,
        /// Partition of the topic.
        partition: i32,
        /// The offset that was to be read next.
        offset: i64,
        /// First offset that the partition still holds; -1 when it could not be asked for.
        low: i64,
        /// Offset that the partition's next record will get; -1 when it could not be asked for.
        high: i64,
    },
    /// A part of the log cannot be read: damaged, in an unknown codec or format, or forbidden.
    #[error(
        "topic {topic} partition {partition} cannot be read at offset {offset}: {reason}; nothing after it was taken"
    )]
    Unreadable {
        /// Name of the topic.
        topic: String,
        /// Partition of the topic.
        partition: i32,
        /// Offset that librdkafka names: of the record, or of the record batch that holds it.
        offset: i64,
        /// What librdkafka says.
        reason: String,
    },
    /// The publisher's bounded queue is full: the log is slower than the caller, or away. Try again later.
    #[error("the queue of records to publish is full; slow down and try again")]
    QueueFull,
    /// A record is larger than the client or the topic allows.
    #[error(
        "a record of {bytes} bytes is too large for topic {topic}; send less, or raise max.message.bytes of the topic and message.max.bytes here"
    )]
    TooLarge {
        /// Name of the topic.
        topic: String,
        /// Bytes of key and value.
        bytes: usize,
    },
    /// A topic or header name cannot be sent.
    #[error("{name:?} cannot be a topic or header name: it holds a zero byte")]
    BadName {
        /// The name as given.
        name: String,
    },
    /// A record was not acknowledged by the log: it may or may not be in it.
    #[error("a record for topic {topic} was not acknowledged: {reason}; publish it again")]
    NotPublished {
        /// Name of the topic.
        topic: String,
        /// What librdkafka says.
        reason: String,
    },
    /// Some records since the last flush were not acknowledged.
    #[error("{failed} records since the last flush were not published, the first because: {first}")]
    FlushFailed {
        /// How many.
        failed: u64,
        /// The failure that came first.
        first: Box<LogError>,
    },
    /// A deadline passed.
    #[error("{what} did not finish within {timeout:?}; check the brokers and try again")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        timeout: Duration,
    },
    /// The client met an error that it cannot recover from; it must be opened again.
    #[error("the Kafka client stopped for good: {reason}; open it again")]
    ClientDead {
        /// What librdkafka says.
        reason: String,
    },
    /// An administrative request failed.
    #[error("{action} failed: {reason}; check the rights of this client")]
    Admin {
        /// What was tried.
        action: String,
        /// What the broker says.
        reason: String,
    },
}

impl LogError {
    /// An error of setting up a client, or of a request that needs a broker.
    pub(crate) fn from_client(brokers: &str, error: &KafkaError) -> LogError {
        match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                LogError::Config { reason: error.to_string() }
            }
            _ => LogError::Unreachable { brokers: brokers.to_owned(), reason: plain(error) },
        }
    }

    /// Why a record was not taken or not acknowledged.
    pub(crate) fn from_produce(topic: &str, bytes: usize, error: &KafkaError) -> LogError {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => LogError::QueueFull,
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => LogError::TooLarge { topic: topic.to_owned(), bytes },
            Some(RDKafkaErrorCode::Fatal) => LogError::ClientDead { reason: plain(error) },
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                LogError::TopicMissing { topic: topic.to_owned() }
            }
            _ => LogError::NotPublished { topic: topic.to_owned(), reason: plain(error) },
        }
    }
}

/// The broker's words without rdkafka's wrapping.
pub(crate) fn plain(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}
