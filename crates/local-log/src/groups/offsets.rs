//! Committed offsets: a compacted partition of our own, and its content in memory.
//!
//! A commit is a batch with one record for each partition, appended like any other: synced before it is acknowledged,
//! recovered after a crash, compacted in the background. Keys and values are JSON, written with
//! `kafka-protocol`'s record encoder. Offsets are kept until the group or topic is deleted; they do not expire.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchDecoder,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::batch::BatchHeader;
use crate::storage::partition::{PartitionLog, ReadError};
use crate::storage::{now_ms, recovery};
use crate::topic_config::TopicConfig;

const OFFSETS_DIR: &str = "group-offsets";
const SEGMENT_BYTES: &str = "4194304";
const READ_BYTES: usize = 1 << 20;

pub(crate) struct OffsetStore {
    pub log: Arc<PartitionLog>,
    groups: Mutex<BTreeMap<String, GroupOffsets>>,
}

type GroupOffsets = BTreeMap<(String, i32), Stored>;

struct Stored {
    committed: Committed,
    /// Where it stands in the log: of two commits the later one counts, in whichever order they are acknowledged.
    log_offset: i64,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    group: String,
    topic: String,
    partition: i32,
}

/// One change: topic, partition, and the offset or, to forget it, nothing.
pub(crate) type Change = (String, i32, Option<Committed>);

impl OffsetStore {
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let set = [("cleanup.policy", "compact"), ("segment.bytes", SEGMENT_BYTES), ("delete.retention.ms", "0")];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = Arc::new(RwLock::new(Arc::new(TopicConfig::new(&set))));
        let dir = data_dir.join(OFFSETS_DIR);
        let recovered = recovery::open(OFFSETS_DIR, &dir, None)?;
        let log = PartitionLog::new(OFFSETS_DIR.to_owned(), dir, config, recovered);
        let store = Self { log, groups: Mutex::default() };
        store.read_all()?;
        Ok(store)
    }

    /// Makes the changes durable, then visible.
    pub async fn change(&self, group: &str, changes: Vec<Change>) -> Result<(), ResponseError> {
        if changes.is_empty() {
            return Ok(());
        }
        let batch = encode(group, &changes).map_err(|error| {
            tracing::error!(group, %error, "offsets could not be encoded");
            ResponseError::UnknownServerError
        })?;
        let header = BatchHeader::peek(&batch).ok_or(ResponseError::UnknownServerError)?;
        let appended = match self.log.append(batch, header).await {
            Ok(Ok(appended)) => appended,
            // Clients retry this one; the reason was logged where the write failed.
            Ok(Err(_)) | Err(_) => return Err(ResponseError::CoordinatorNotAvailable),
        };
        let mut groups = self.groups.lock();
        for ((topic, partition, committed), log_offset) in changes.into_iter().zip(appended.base_offset..) {
            apply(&mut groups, group, (topic, partition), committed, log_offset);
        }
        Ok(())
    }

    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        let groups = self.groups.lock();
        groups.get(group)?.get(&(topic.to_owned(), partition)).map(|stored| stored.committed.clone())
    }

    /// All offsets of a group, by topic.
    pub fn of_group(&self, group: &str) -> BTreeMap<String, Vec<(i32, Committed)>> {
        let mut topics: BTreeMap<String, Vec<(i32, Committed)>> = BTreeMap::new();
        for ((topic, partition), stored) in self.groups.lock().get(group).into_iter().flatten() {
            topics.entry(topic.clone()).or_default().push((*partition, stored.committed.clone()));
        }
        topics
    }

    pub fn has_group(&self, group: &str) -> bool {
        self.groups.lock().contains_key(group)
    }

    pub fn groups(&self) -> BTreeSet<String> {
        self.groups.lock().keys().cloned().collect()
    }

    pub async fn delete_group(&self, group: &str) -> Result<(), ResponseError> {
        let keys: Vec<_> = self.groups.lock().get(group).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        self.change(group, keys.into_iter().map(|(topic, partition)| (topic, partition, None)).collect()).await
    }

    /// Forgets what all groups committed for a topic that is gone.
    pub async fn delete_topic(&self, topic: &str) {
        for group in self.groups() {
            let partitions: Vec<i32> =
                self.of_group(&group).remove(topic).into_iter().flatten().map(|(p, _)| p).collect();
            let changes = partitions.into_iter().map(|partition| (topic.to_owned(), partition, None)).collect();
            if let Err(error) = self.change(&group, changes).await {
                tracing::warn!(group, topic, %error, "offsets of a deleted topic could not be forgotten");
            }
        }
    }

    fn read_all(&self) -> io::Result<()> {
        let bounds = self.log.bounds();
        let mut next = bounds.log_start;
        let mut groups = self.groups.lock();
        while next < bounds.end_offset {
            let fetched = self.log.read(next, READ_BYTES, true).map_err(|error| match error {
                ReadError::Io(error) => error,
                ReadError::OutOfRange(bounds) => io::Error::other(format!("{next} is not in {bounds:?}")),
            })?;
            if fetched.records.is_empty() {
                break;
            }
            for set in RecordBatchDecoder::decode_all(&mut fetched.records.clone()).map_err(io::Error::other)? {
                for record in set.records {
                    next = record.offset + 1;
                    let key: Key = serde_json::from_slice(record.key.as_deref().unwrap_or_default())?;
                    let committed = record.value.map(|json| serde_json::from_slice(&json)).transpose()?;
                    apply(&mut groups, &key.group, (key.topic, key.partition), committed, record.offset);
                }
            }
            // Compaction may have emptied the end of the last batch.
            next = next.max(last_offset(&fetched.records) + 1);
        }
        Ok(())
    }
}

fn last_offset(batches: &Bytes) -> i64 {
    let mut at = 0;
    let mut last = -1;
    while let Some(header) = BatchHeader::peek(&batches[at..]) {
        last = header.last_offset();
        at += header.size_bytes;
        if at >= batches.len() {
            break;
        }
    }
    last
}

fn apply(
    groups: &mut BTreeMap<String, GroupOffsets>,
    group: &str,
    partition: (String, i32),
    committed: Option<Committed>,
    log_offset: i64,
) {
    let offsets = groups.entry(group.to_owned()).or_default();
    if offsets.get(&partition).is_none_or(|stored| stored.log_offset < log_offset) {
        match committed {
            Some(committed) => offsets.insert(partition, Stored { committed, log_offset }),
            None => offsets.remove(&partition),
        };
    }
    if offsets.is_empty() {
        groups.remove(group);
    }
}

fn encode(group: &str, changes: &[Change]) -> io::Result<Bytes> {
    let now = now_ms();
    let mut records = Vec::with_capacity(changes.len());
    for ((topic, partition, committed), offset) in changes.iter().zip(0_i64..) {
        let key = Key { group: group.to_owned(), topic: topic.clone(), partition: *partition };
        let value = committed.as_ref().map(serde_json::to_vec).transpose()?;
        records.push(Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            // The encoder starts a new batch where offset and sequence do not advance together.
            sequence: NO_SEQUENCE.wrapping_add(i32::try_from(offset).unwrap_or(i32::MAX)),
            timestamp: now,
            key: Some(Bytes::from(serde_json::to_vec(&key)?)),
            value: value.map(Bytes::from),
            headers: Default::default(),
        });
    }
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, &records, &options).map_err(io::Error::other)?;
    Ok(batch.freeze())
}
