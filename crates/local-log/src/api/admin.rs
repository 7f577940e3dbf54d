//! Creating and deleting topics, partitions and records.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use super::{Context, blocking, configs, text};
use crate::storage::partition::ReadError;
use crate::storage::topics::{Topic, TopicError};

/// "Up to the end" in DeleteRecords.
const HIGH_WATERMARK: i64 = -1;

/// Code and text for a client.
pub(super) fn describe(error: TopicError) -> (ResponseError, String) {
    match error {
        TopicError::Exists => (ResponseError::TopicAlreadyExists, "the topic exists".to_owned()),
        TopicError::Unknown => (ResponseError::UnknownTopicOrPartition, "no such topic".to_owned()),
        TopicError::InvalidName(message) => (ResponseError::InvalidTopicException, message),
        TopicError::InvalidPartitions(message) => (ResponseError::InvalidPartitions, message),
        TopicError::InvalidConfig(message) => (ResponseError::InvalidConfig, message),
        TopicError::TooMany => (ResponseError::PolicyViolation, "too many topics; delete some".to_owned()),
        TopicError::Storage => {
            (ResponseError::KafkaStorageError, "the log could not write; free space and retry".to_owned())
        }
    }
}

pub(super) async fn create_topics(context: Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        results.push(create_topic(&context, topic, request.validate_only).await);
    }
    CreateTopicsResponse::default().with_topics(results)
}

async fn create_topic(context: &Context, topic: CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic.name.clone());
    let failed = |result: CreatableTopicResult, error: ResponseError, message: String| {
        result.with_error_code(error.code()).with_error_message(Some(text(message)))
    };
    if topic.replication_factor > 1 || topic.assignments.iter().any(|assignment| assignment.broker_ids.len() > 1) {
        let message = "this log is a single node; use a replication factor of 1".to_owned();
        return failed(result, ResponseError::InvalidReplicationFactor, message);
    }
    let partitions = match (topic.num_partitions, topic.assignments.len()) {
        (-1, 0) => context.broker.config.default_partitions,
        (-1, assigned) => i32::try_from(assigned).unwrap_or(i32::MAX),
        (count, _) => count,
    };
    let set = topic.configs.into_iter().filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
    let set: BTreeMap<String, String> = set.collect();
    let (broker, name) = (Arc::clone(&context.broker), topic.name.to_string());
    let created = blocking(move || broker.topics.create(&name, partitions, set, validate_only)).await;
    match created {
        Some(Ok(Some(created))) => created_result(context.version, result, &created),
        Some(Ok(None)) if context.version >= 5 => result.with_num_partitions(partitions).with_replication_factor(1),
        Some(Ok(None)) => result,
        Some(Err(error)) => {
            let (error, message) = describe(error);
            failed(result, error, message)
        }
        None => failed(result, ResponseError::UnknownServerError, "the log is stopping".to_owned()),
    }
}

fn created_result(version: i16, result: CreatableTopicResult, topic: &Topic) -> CreatableTopicResult {
    let result = if version >= 7 { result.with_topic_id(topic.id) } else { result };
    if version < 5 {
        return result;
    }
    let configs = configs::effective(&topic.set_config()).into_iter().map(|(name, value, source)| {
        CreatableTopicConfigs::default().with_name(text(name)).with_value(Some(text(value))).with_config_source(source)
    });
    result.with_num_partitions(topic.partition_count()).with_replication_factor(1).with_configs(Some(configs.collect()))
}

pub(super) async fn delete_topics(context: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let wanted: Vec<_> = by_name.chain(request.topics.into_iter().map(|topic| (topic.name, topic.topic_id))).collect();
    let mut responses = Vec::with_capacity(wanted.len());
    for (name, id) in wanted {
        responses.push(delete_topic(&context, name, id).await);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete_topic(context: &Context, name: Option<TopicName>, id: Uuid) -> DeletableTopicResult {
    let version = context.version;
    let result = |name: Option<TopicName>, failed: Option<(ResponseError, String)>| {
        let result = DeletableTopicResult::default().with_name(name);
        let result = if version >= 6 { result.with_topic_id(id) } else { result };
        let Some((error, message)) = failed else { return result };
        let result = result.with_error_code(error.code());
        if version >= 5 { result.with_error_message(Some(text(message))) } else { result }
    };
    let name = match name {
        Some(name) => name.to_string(),
        None => match context.broker.topics.get_by_id(id) {
            Some(topic) => topic.name.clone(),
            None => return result(None, Some((ResponseError::UnknownTopicId, "no topic has this id".to_owned()))),
        },
    };
    let (broker, owned) = (Arc::clone(&context.broker), name.clone());
    let deleted = blocking(move || broker.topics.delete(&owned)).await;
    let shown = Some(TopicName(text(name.clone())));
    match deleted {
        Some(Ok(())) => {
            context.broker.groups.offsets.delete_topic(&name).await;
            result(shown, None)
        }
        Some(Err(error)) => result(shown, Some(describe(error))),
        None => result(shown, Some((ResponseError::UnknownServerError, "the log is stopping".to_owned()))),
    }
}

pub(super) async fn create_partitions(context: Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let (broker, name) = (Arc::clone(&context.broker), topic.name.to_string());
        let (count, validate_only) = (topic.count, request.validate_only);
        let added = blocking(move || broker.topics.add_partitions(&name, count, validate_only)).await;
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(match added {
            Some(Ok(())) => result,
            Some(Err(error)) => {
                let (error, message) = describe(error);
                result.with_error_code(error.code()).with_error_message(Some(text(message)))
            }
            None => result.with_error_code(ResponseError::UnknownServerError.code()),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

pub(super) async fn delete_records(context: Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let work = move || {
        let topics = request.topics.into_iter().map(|topic| {
            let found = context.broker.topics.get(&topic.name);
            let partitions = topic.partitions.iter().map(|part| {
                let result = DeleteRecordsPartitionResult::default().with_partition_index(part.partition_index);
                match delete_before(found.as_deref(), part.partition_index, part.offset) {
                    Ok(start) => result.with_low_watermark(start),
                    Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
                }
            });
            let partitions = partitions.collect();
            DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
        });
        topics.collect::<Vec<_>>()
    };
    DeleteRecordsResponse::default().with_topics(blocking(work).await.unwrap_or_default())
}

fn delete_before(topic: Option<&Topic>, index: i32, offset: i64) -> Result<i64, ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let log = topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let config = topic.config();
    if config.compact && !config.delete {
        return Err(ResponseError::PolicyViolation);
    }
    let offset = if offset == HIGH_WATERMARK { log.bounds().end_offset } else { offset };
    if offset < 0 {
        return Err(ResponseError::OffsetOutOfRange);
    }
    log.delete_before(offset).map_err(|error| match error {
        ReadError::OutOfRange(_) => ResponseError::OffsetOutOfRange,
        ReadError::Io(error) => {
            tracing::error!(partition = %log.label, %error, "local log could not delete records");
            ResponseError::KafkaStorageError
        }
    })
}
