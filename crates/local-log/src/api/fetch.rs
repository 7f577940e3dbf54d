//! Fetch: reads what is there, or waits until something is.
//!
//! Each fetch names all its partitions; fetch sessions (KIP-227) are declined by answering session 0, which every client
//! takes as "none".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use tokio::time::{Instant, timeout_at};

use super::{Context, LEADER_EPOCH, blocking};
use crate::storage::partition::{Bounds, PartitionLog, ReadError};
use crate::storage::waiters::Waiting;

/// What is fetched of one topic.
struct Wanted {
    name: TopicName,
    parts: Vec<WantedPart>,
}

struct WantedPart {
    index: i32,
    offset: i64,
    max_bytes: usize,
    /// The partition, or why it cannot be read.
    log: Result<Arc<PartitionLog>, ResponseError>,
}

struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    read_committed: bool,
}

pub(super) async fn fetch(context: Context, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 && request.session_epoch > 0 {
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let limits = Arc::new(Limits {
        max_bytes: size(request.max_bytes).min(context.broker.config.max_fetch_bytes),
        min_bytes: size(request.min_bytes),
        read_committed: request.isolation_level == 1,
    });
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let wanted: Arc<Vec<Wanted>> = Arc::new(request.topics.into_iter().map(|topic| look_up(&context, topic)).collect());
    let logs = wanted.iter().flat_map(|topic| &topic.parts).filter_map(|part| part.log.as_ref().ok());
    let waiting = Waiting::enter(logs);
    loop {
        let last_round = Instant::now() >= deadline;
        if last_round || is_news(&wanted) {
            let (read_wanted, read_limits) = (Arc::clone(&wanted), Arc::clone(&limits));
            let Some(read) = blocking(move || read_all(&read_wanted, &read_limits)).await else {
                return FetchResponse::default().with_error_code(ResponseError::UnknownServerError.code());
            };
            if last_round || read.failed || read.bytes >= limits.min_bytes {
                return FetchResponse::default().with_responses(read.responses);
            }
        }
        // Elapsing only means that the next round is the last.
        let _ = timeout_at(deadline, waiting.woken()).await;
    }
}

fn look_up(context: &Context, topic: kafka_protocol::messages::fetch_request::FetchTopic) -> Wanted {
    let found = context.broker.topics.get(&topic.topic);
    let part = |part: FetchPartition| {
        let log = found.as_ref().and_then(|topic| topic.partition(part.partition));
        let log = match log {
            Some(_) if part.current_leader_epoch > LEADER_EPOCH => Err(ResponseError::UnknownLeaderEpoch),
            Some(log) => Ok(log),
            None => Err(ResponseError::UnknownTopicOrPartition),
        };
        WantedPart { index: part.partition, offset: part.fetch_offset, max_bytes: size(part.partition_max_bytes), log }
    };
    Wanted { parts: topic.partitions.into_iter().map(part).collect(), name: topic.topic }
}

/// Whether reading could give anything but "nothing yet", found without touching the disk.
fn is_news(wanted: &[Wanted]) -> bool {
    wanted.iter().flat_map(|topic| &topic.parts).any(|part| match &part.log {
        Ok(log) => log.bounds().end_offset != part.offset,
        Err(_) => true,
    })
}

struct Read {
    responses: Vec<FetchableTopicResponse>,
    bytes: usize,
    failed: bool,
}

fn read_all(wanted: &[Wanted], limits: &Limits) -> Read {
    let mut read = Read { responses: Vec::with_capacity(wanted.len()), bytes: 0, failed: false };
    for topic in wanted {
        let mut parts = Vec::with_capacity(topic.parts.len());
        for part in &topic.parts {
            let data = read_part(part, limits, read.bytes);
            read.failed |= data.error_code != 0;
            read.bytes += data.records.as_ref().map_or(0, Bytes::len);
            parts.push(data);
        }
        read.responses.push(FetchableTopicResponse::default().with_topic(topic.name.clone()).with_partitions(parts));
    }
    read
}

fn read_part(part: &WantedPart, limits: &Limits, taken_bytes: usize) -> PartitionData {
    let data = PartitionData::default().with_partition_index(part.index).with_records(Some(Bytes::new()));
    let data = data.with_aborted_transactions(limits.read_committed.then(Vec::new));
    let failed = |data: PartitionData, error: ResponseError| {
        data.with_error_code(error.code()).with_high_watermark(-1).with_last_stable_offset(-1).with_log_start_offset(-1)
    };
    let within = |data: PartitionData, bounds: Bounds| {
        data.with_high_watermark(bounds.end_offset)
            .with_last_stable_offset(bounds.end_offset)
            .with_log_start_offset(bounds.log_start)
    };
    let log = match &part.log {
        Ok(log) => log,
        Err(error) => return failed(data, *error),
    };
    let left = part.max_bytes.min(limits.max_bytes.saturating_sub(taken_bytes));
    // The first batch of an answer comes whole, whatever its size, so that a small limit cannot stop a consumer for good.
    match log.read(part.offset, left, taken_bytes == 0) {
        Ok(fetched) => within(data, fetched.bounds).with_records(Some(fetched.records)),
        Err(ReadError::OutOfRange(_)) => failed(data, ResponseError::OffsetOutOfRange),
        Err(ReadError::Io(error)) => {
            tracing::error!(partition = %log.label, %error, "local log could not read");
            failed(data, ResponseError::KafkaStorageError)
        }
    }
}

fn size(announced: i32) -> usize {
    usize::try_from(announced).unwrap_or(0)
}
