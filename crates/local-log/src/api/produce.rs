//! Produce: checks each batch, queues it, and answers when it is synced.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use tokio::sync::oneshot;

use super::{Context, encode, text};
use crate::batch::{self, BatchHeader};
use crate::records;
use crate::server::{Answer, BadRequest, decode};
use crate::storage::partition::{AppendError, Appended};
use crate::storage::topics::Topic;
use crate::topic_config::TopicConfig;

/// What became of one partition's batch so far.
enum Outcome {
    Refused(ResponseError, String),
    Queued { log_start: i64, answer: oneshot::Receiver<Result<Appended, AppendError>> },
}

/// Queues the batches at once, in the order in which requests come in, and returns the answer to wait for.
pub(super) fn answer(context: Context, body: &Bytes) -> Result<Answer, BadRequest> {
    let request: ProduceRequest = decode(body, context.version).ok_or(BadRequest::Malformed("body"))?;
    let wants_answer = request.acks != 0;
    let transactional = request.transactional_id.is_some();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = context.broker.topics.get(&data.name);
        let queue = |part: PartitionProduceData| (part.index, queue(topic.as_deref(), transactional, part));
        let outcomes: Vec<_> = data.partition_data.into_iter().map(queue).collect();
        topics.push((data.name, outcomes));
    }
    Ok(Box::pin(async move {
        let mut responses = Vec::with_capacity(topics.len());
        for (name, outcomes) in topics {
            let mut parts = Vec::with_capacity(outcomes.len());
            for (index, outcome) in outcomes {
                parts.push(part_response(context.version, index, outcome).await);
            }
            responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(parts));
        }
        if !wants_answer {
            return Ok(None);
        }
        encode(&context, &ProduceResponse::default().with_responses(responses)).map(Some)
    }))
}

fn queue(topic: Option<&Topic>, transactional: bool, part: PartitionProduceData) -> Outcome {
    let Some((topic, partition)) = topic.and_then(|topic| Some((topic, topic.partition(part.index)?))) else {
        let message = "no such topic or partition; create it first".to_owned();
        return Outcome::Refused(ResponseError::UnknownTopicOrPartition, message);
    };
    if transactional {
        return Outcome::Refused(ResponseError::InvalidRequest, super::transactions::UNSUPPORTED.to_owned());
    }
    let batch = part.records.unwrap_or_default();
    match check(&batch, &topic.config()) {
        Ok(header) => {
            let log_start = partition.bounds().log_start;
            Outcome::Queued { log_start, answer: partition.append(batch, header) }
        }
        Err((error, message)) => Outcome::Refused(error, message),
    }
}

/// What Kafka checks of a batch, as far as the header and, for compacted topics, the keys tell.
fn check(batch: &Bytes, config: &TopicConfig) -> Result<BatchHeader, (ResponseError, String)> {
    let refuse = |error: ResponseError, message: &str| Err((error, message.to_owned()));
    let Some(header) = BatchHeader::peek(batch) else {
        return refuse(ResponseError::CorruptMessage, "not a record batch");
    };
    if header.magic != 2 {
        return refuse(ResponseError::UnsupportedForMessageFormat, "only record batches of magic 2 are taken");
    }
    if header.size_bytes != batch.len() {
        return refuse(ResponseError::InvalidRecord, "one whole record batch per partition and request is taken");
    }
    if batch.len() > config.max_message_bytes {
        let message = format!("batch of {} bytes is above max.message.bytes={}", batch.len(), config.max_message_bytes);
        return Err((ResponseError::MessageTooLarge, message));
    }
    if !batch::crc_matches(batch) {
        return refuse(ResponseError::CorruptMessage, "the CRC of the batch does not match");
    }
    if header.is_transactional() || header.is_control() {
        return refuse(ResponseError::InvalidRequest, super::transactions::UNSUPPORTED);
    }
    if header.record_count < 1 || header.last_offset_delta != header.record_count - 1 {
        return refuse(ResponseError::InvalidRecord, "record count and offsets of the batch contradict each other");
    }
    if header.has_producer() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return refuse(ResponseError::InvalidRecord, "a producer id needs an epoch and a sequence number");
    }
    if config.compact {
        match records::all_have_keys(batch, &header) {
            Ok(true) => {}
            Ok(false) => {
                return refuse(ResponseError::InvalidRecord, "a compacted topic takes no record without a key");
            }
            Err(error) => return Err((ResponseError::InvalidRecord, error.to_string())),
        }
    }
    Ok(header)
}

async fn part_response(version: i16, index: i32, outcome: Outcome) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index).with_base_offset(-1);
    let refused = |response: PartitionProduceResponse, error: ResponseError, message: String| {
        let response = response.with_error_code(error.code()).with_log_append_time_ms(-1).with_log_start_offset(-1);
        // Earlier versions have no place for the text.
        if version >= 8 { response.with_error_message(Some(text(message))) } else { response }
    };
    match outcome {
        Outcome::Refused(error, message) => refused(response, error, message),
        Outcome::Queued { log_start, answer } => match answer.await.unwrap_or(Err(AppendError::Closed)) {
            Ok(appended) => {
                let response = response.with_base_offset(appended.base_offset);
                let response = response.with_log_append_time_ms(appended.log_append_time_ms);
                // The field came with version 5.
                if version >= 5 { response.with_log_start_offset(log_start) } else { response }
            }
            Err(error) => {
                let (error, message) = describe(error);
                refused(response, error, message.to_owned())
            }
        },
    }
}

fn describe(error: AppendError) -> (ResponseError, &'static str) {
    match error {
        AppendError::OutOfOrderSequence => {
            (ResponseError::OutOfOrderSequenceNumber, "a batch before this one is missing; send it first")
        }
        AppendError::DuplicateSequence => (ResponseError::DuplicateSequenceNumber, "these records are in the log"),
        AppendError::StaleEpoch => (ResponseError::InvalidProducerEpoch, "a newer epoch of this producer has written"),
        AppendError::Storage => (ResponseError::KafkaStorageError, "the log could not write; free space and retry"),
        AppendError::Closed => (ResponseError::NotLeaderOrFollower, "the topic was deleted or the log is stopping"),
    }
}
