//! Offsets by time, and the end of a leader epoch.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::{Context, LEADER_EPOCH, blocking};
use crate::records;
use crate::storage::partition::PartitionLog;

/// Special timestamps of the protocol.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

pub(super) async fn list_offsets(context: Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let version = context.version;
    let find_all = move || {
        let topic = |topic: kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
            let found = context.broker.topics.get(&topic.name);
            let partitions = topic.partitions.iter().map(|part| {
                let log = found.as_ref().and_then(|topic| topic.partition(part.partition_index));
                let response = ListOffsetsPartitionResponse::default().with_partition_index(part.partition_index);
                let result = match log {
                    Some(_) if part.current_leader_epoch > LEADER_EPOCH => Err(ResponseError::UnknownLeaderEpoch),
                    Some(log) => find(&log, part.timestamp),
                    None => Err(ResponseError::UnknownTopicOrPartition),
                };
                match result {
                    Ok((offset, timestamp)) => {
                        let response = response.with_offset(offset).with_timestamp(timestamp);
                        // The field came with version 4.
                        if version >= 4 && offset >= 0 { response.with_leader_epoch(LEADER_EPOCH) } else { response }
                    }
                    Err(error) => response.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
                }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
        };
        request.topics.into_iter().map(topic).collect::<Vec<_>>()
    };
    ListOffsetsResponse::default().with_topics(blocking(find_all).await.unwrap_or_default())
}

/// Offset and timestamp; (-1, -1) when no record is late enough.
fn find(log: &Arc<PartitionLog>, timestamp: i64) -> Result<(i64, i64), ResponseError> {
    let bounds = log.bounds();
    let failed = |error: std::io::Error| {
        tracing::error!(partition = %log.label, %error, "local log could not read");
        ResponseError::KafkaStorageError
    };
    let sought = match timestamp {
        LATEST => return Ok((bounds.end_offset, -1)),
        EARLIEST | EARLIEST_LOCAL => return Ok((bounds.log_start, -1)),
        MAX_TIMESTAMP => match log.max_timestamp_ms().map_err(failed)? {
            Some(greatest) => greatest,
            None => return Ok((-1, -1)),
        },
        timestamp if timestamp < 0 => return Err(ResponseError::UnsupportedVersion),
        timestamp => timestamp,
    };
    let Some(batch) = log.find_timestamp(sought).map_err(failed)? else { return Ok((-1, -1)) };
    match records::find_timestamp(&batch, sought) {
        Ok(Some((offset, timestamp))) => Ok((offset.max(bounds.log_start), timestamp)),
        Ok(None) => Ok((-1, -1)),
        Err(error) => {
            tracing::warn!(partition = %log.label, %error, "a stored batch cannot be read");
            Err(ResponseError::CorruptMessage)
        }
    }
}

pub(super) async fn offset_for_leader_epoch(
    context: Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let found = context.broker.topics.get(&topic.topic);
        let partitions = topic.partitions.iter().map(|part| {
            let log = found.as_ref().and_then(|topic| topic.partition(part.partition));
            let end =
                EpochEndOffset::default().with_partition(part.partition).with_leader_epoch(-1).with_end_offset(-1);
            match log {
                None => end.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
                Some(_) if part.current_leader_epoch > LEADER_EPOCH => {
                    end.with_error_code(ResponseError::UnknownLeaderEpoch.code())
                }
                Some(log) if part.leader_epoch == LEADER_EPOCH => {
                    end.with_leader_epoch(LEADER_EPOCH).with_end_offset(log.bounds().end_offset)
                }
                Some(_) => end,
            }
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
