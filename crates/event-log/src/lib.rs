//! The event log: everything Outlay says to Kafka, and the only crate that knows `rdkafka`.
//!
//! What holds here:
//! - **Offsets belong to the caller.** [`EventReader`] is assigned every partition at the positions it is given;
//!   nothing is stored or committed behind the caller's back. What is committed to the group is for lag display only.
//! - **Nothing is skipped in silence.** Records that the log lost before they were read are [`LogError::OffsetLost`], a
//!   batch that cannot be read is [`LogError::Unreadable`], and both stop the reader. Errors that pass by themselves (a
//!   broker restarts) are retried by librdkafka, logged, and never end a loop.
//! - **A record counts as published when the log has acknowledged it**: [`Publisher::flush`] tells of every failure
//!   since the last one.
//! - **Every queue is bounded**, in records and in bytes.
//!
//! Deliberately absent: consumer groups (one worker owns all partitions; its offsets live in the lake), Kafka
//! transactions (ids, offsets kept with the state and idempotent sinks take their place), and any knowledge of what a
//! record means.

mod batch;
mod compacted;
mod config;
mod error;
mod partitioner;
mod polled;
mod publisher;
mod reader;
pub mod topics;

pub use batch::{Batch, Headers, RecordView};
pub use compacted::{CompactedRecord, CompactedTopic, read_compacted};
pub use config::LogConfig;
pub use error::LogError;
pub use partitioner::partition_for;
pub use publisher::{DeliveryHandle, Publisher};
pub use reader::{EventReader, Watermarks};
pub use topics::{TopicReport, TopicSpec, ensure_topics};

/// A place in a topic: the record at `offset` of `partition`. As a starting point, `offset` is the next one to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Partition of the topic, from 0.
    pub partition: i32,
    /// Offset in the partition, from 0.
    pub offset: i64,
}
