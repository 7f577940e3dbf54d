//! A topic as an asynchronous stream of owned records: for server-sent events, for tools, for tests. Not for the
//! aggregator, which reads in batches without copying.
//!
//! A thread reads and hands records over through a bounded channel; when the taker is slow, the thread waits, and the
//! fetch queue behind it is bounded too. It ends when the [`Follower`] is dropped.

use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::{EventReader, LogConfig, LogError, Position, RecordView};

/// Records on their way to the taker.
const CHANNEL_LEN: usize = 1024;
const BATCH_LEN: usize = 256;
/// How soon the thread notices that its follower is gone.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowFrom {
    /// With the oldest record of each partition.
    Beginning,
    /// With what is appended from now on.
    Now,
    /// With the next offsets given; partitions not named start at their beginning.
    Positions(Vec<Position>),
}

/// A record with memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Where it is.
    pub position: Position,
    /// When the log appended it, in milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone on a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Name and value of each header.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl From<&RecordView<'_>> for OwnedRecord {
    fn from(record: &RecordView<'_>) -> Self {
        Self {
            position: Position { partition: record.partition, offset: record.offset },
            append_time_ms: record.append_time_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// Follows a topic; see the module.
pub struct Follower {
    records: mpsc::Receiver<Result<OwnedRecord, LogError>>,
}

impl Follower {
    /// Starts to follow `topic`. When it returns, the position is fixed: with [`FollowFrom::Now`], every record
    /// appended after the return is seen.
    ///
    /// # Errors
    /// As [`EventReader::open`], and [`LogError::TimedOut`] when the ends of the partitions cannot be asked for.
    pub async fn open(config: LogConfig, topic: String, from: FollowFrom) -> Result<Self, LogError> {
        let (sender, records) = mpsc::channel(CHANNEL_LEN);
        let (opened, is_open) = oneshot::channel();
        thread::Builder::new()
            .name("log-follower".to_owned())
            .spawn(move || match open_reader(&config, &topic, from) {
                Ok(reader) => {
                    // A caller that no longer waits has dropped its receiver as well, which `pass_on` notices.
                    let _ = opened.send(Ok(()));
                    pass_on(reader, &sender);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| LogError::Config { reason: format!("no thread for a follower: {error}") })?;
        is_open
            .await
            .unwrap_or_else(|_| Err(LogError::ClientDead { reason: "the follower's thread ended".to_owned() }))?;
        Ok(Self { records })
    }

    /// The next record; waits for it. After an error there is nothing more. Safe to cancel.
    pub async fn next(&mut self) -> Option<Result<OwnedRecord, LogError>> {
        self.records.recv().await
    }
}

fn open_reader(config: &LogConfig, topic: &str, from: FollowFrom) -> Result<EventReader, LogError> {
    match from {
        FollowFrom::Beginning => EventReader::open(config, topic, &[]),
        FollowFrom::Positions(start) => EventReader::open(config, topic, &start),
        FollowFrom::Now => {
            let ends = EventReader::open(config, topic, &[])?.fetch_watermarks(WATERMARK_TIMEOUT)?;
            let start: Vec<_> =
                ends.iter().map(|marks| Position { partition: marks.partition, offset: marks.high }).collect();
            EventReader::open(config, topic, &start)
        }
    }
}

fn pass_on(mut reader: EventReader, sender: &mpsc::Sender<Result<OwnedRecord, LogError>>) {
    while !sender.is_closed() {
        match reader.poll_batch(BATCH_LEN, POLL_TIMEOUT) {
            Ok(batch) => {
                for record in batch.iter() {
                    if sender.blocking_send(Ok(OwnedRecord::from(&record))).is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        }
    }
}
