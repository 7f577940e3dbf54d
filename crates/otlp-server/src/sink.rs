//! What the entrance asks of the rest of the program: to take records and say that they are safe.

use async_trait::async_trait;
use bytes::Bytes;

/// One event on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's key: [`usage_types::canonical_key`].
    pub key: String,
    /// The record's value: native JSON.
    pub value: Bytes,
}

/// Why a record is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The log cannot be reached or did not acknowledge; sending again later may work.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The queue to the log is full; sending again a moment later should work.
    #[error("the queue to the log is full")]
    QueueFull,
    /// The log refuses this record, and would do so again.
    #[error("the log refused the event: {0}")]
    Refused(String),
}

/// Where usage goes.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Publishes records; one result each, in their order. Returns when each is acknowledged or refused. The future is dropped when the
    /// sender goes away or its time is up; the sender will send the same records again.
    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), SinkError>>;
}
