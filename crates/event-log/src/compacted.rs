//! What a compacted topic says at this moment: its latest value for each key.
//!
//! Outlay reads decisions and alerts this way when it starts, to publish only what differs from them. A broker compacts
//! when it sees fit, so a reader of a compacted topic always has to do this for itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::{EventReader, LogConfig, LogError, Position};

/// Records taken per poll.
const BATCH_LEN: usize = 10_000;
/// How often the deadline is looked at while nothing comes.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// What a compacted topic held when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactedTopic {
    /// The latest record of each key, ordered by partition and offset.
    pub records: Vec<CompactedRecord>,
    /// How many records its partitions have ever taken, those included that compaction has dropped: the sum of their end offsets.
    pub taken: u64,
}

/// The latest record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactedRecord {
    /// The key.
    pub key: Vec<u8>,
    /// Its latest value.
    pub value: Vec<u8>,
    /// Where the record is.
    pub position: Position,
    /// When the log appended it, in milliseconds since the Unix epoch.
    pub append_time_ms: i64,
}

/// The latest value of each key in `topic`, up to the end that each partition has at the time of the call. Keys whose latest record is a tombstone are left out; so are records without a key, which
/// compaction cannot hold.
///
/// Blocks: call it from a thread that may. Memory grows with the live keys only.
///
/// # Errors
/// As [`EventReader::open`] and [`EventReader::poll_batch`], and [`LogError::TimedOut`] when the end is not reached
/// within `timeout`.
pub fn read_compacted(config: &LogConfig, topic: &str, timeout: Duration) -> Result<CompactedTopic, LogError> {
    let deadline = Instant::now() + timeout;
    // The last offsets of a partition may hold no record any more, so reading up to an offset could wait forever: let
    // librdkafka say when a partition is at its end.
    let mut reader = EventReader::open(config, topic, &[])?;
    let watermarks = reader.fetch_watermarks(timeout)?;
    let taken = watermarks.iter().map(|marks| u64::try_from(marks.high).unwrap_or(0)).sum();
    let mut unfinished: HashMap<i32, i64> = watermarks
        .into_iter()
        .filter(|marks| marks.high > marks.low)
        .map(|marks| (marks.partition, marks.high))
        .collect();

    let mut latest = HashMap::new();
    while !unfinished.is_empty() {
        if Instant::now() >= deadline {
            return Err(LogError::TimedOut { what: format!("reading topic {topic} to its end"), timeout });
        }
        for record in reader.poll_batch(BATCH_LEN, POLL_TIMEOUT)?.iter() {
            let Some(end) = unfinished.get(&record.partition).copied() else { continue };
            if record.offset < end
                && let Some(key) = record.key
            {
                apply(&mut latest, key, &record);
            }
            if record.offset >= end - 1 {
                unfinished.remove(&record.partition);
            }
        }
        for at in reader.ends() {
            if unfinished.get(&at.partition).is_some_and(|end| at.offset >= *end) {
                unfinished.remove(&at.partition);
            }
        }
    }
    let mut records: Vec<CompactedRecord> = latest.into_values().collect();
    records.sort_unstable_by_key(|record| record.position);
    Ok(CompactedTopic { records, taken })
}

fn apply(latest: &mut HashMap<Vec<u8>, CompactedRecord>, key: &[u8], record: &crate::RecordView<'_>) {
    let Some(value) = record.value else {
        latest.remove(key);
        return;
    };
    let position = Position { partition: record.partition, offset: record.offset };
    let value =
        CompactedRecord { key: key.to_vec(), value: value.to_vec(), position, append_time_ms: record.append_time_ms };
    latest.insert(key.to_vec(), value);
}
