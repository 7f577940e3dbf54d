//! Committed offsets: commit, fetch, delete.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};

use super::groups::{caller, code};
use super::{Context, text};
use crate::groups::offsets::{Change, Committed};
use crate::groups::state::State;

/// Kafka's default of `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

/// Offsets of one topic: partition, and what is committed for it.
type Found = Vec<(i32, Option<Committed>)>;

/// Partitions of one topic in a commit, and what speaks against each.
type Checked = Vec<(i32, Option<ResponseError>)>;

pub(super) async fn commit(context: Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let group = request.group_id.to_string();
    let by = caller(request.member_id, request.group_instance_id, request.generation_id_or_member_epoch);
    let refused = if group.is_empty() {
        Some(ResponseError::InvalidGroupId)
    } else {
        context.broker.groups.check_commit(&group, &by).err()
    };
    let mut changes: Vec<Change> = Vec::new();
    let mut topics: Vec<(TopicName, Checked)> = Vec::new();
    for topic in request.topics {
        let known = context.broker.topics.get(&topic.name);
        let mut parts = Vec::with_capacity(topic.partitions.len());
        for part in topic.partitions {
            let exists = known.as_ref().is_some_and(|topic| topic.partition(part.partition_index).is_some());
            let error = match refused {
                Some(error) => Some(error),
                None if !exists => Some(ResponseError::UnknownTopicOrPartition),
                None if part.committed_metadata.as_ref().is_some_and(|m| m.len() > METADATA_BYTES_MAX) => {
                    Some(ResponseError::OffsetMetadataTooLarge)
                }
                None => None,
            };
            if error.is_none() {
                let committed = Committed {
                    offset: part.committed_offset,
                    leader_epoch: part.committed_leader_epoch,
                    metadata: part.committed_metadata.map(|metadata| metadata.to_string()),
                };
                changes.push((topic.name.to_string(), part.partition_index, Some(committed)));
            }
            parts.push((part.partition_index, error));
        }
        topics.push((topic.name, parts));
    }
    let failed = context.broker.groups.offsets.change(&group, changes).await.err();
    let topics = topics.into_iter().map(|(name, parts)| {
        let parts = parts.into_iter().map(|(index, error)| {
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code(error.or(failed)))
        });
        OffsetCommitResponseTopic::default().with_name(name).with_partitions(parts.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub(super) async fn fetch(context: Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let wanted = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
            let found = find(&context, &group.group_id, wanted).into_iter().map(|(name, parts)| {
                let parts = parts.into_iter().map(|(index, committed)| {
                    let part = OffsetFetchResponsePartitions::default().with_partition_index(index);
                    match committed {
                        Some(c) => part
                            .with_committed_offset(c.offset)
                            .with_committed_leader_epoch(c.leader_epoch)
                            .with_metadata(Some(text(c.metadata.unwrap_or_default()))),
                        None => part.with_committed_offset(-1).with_metadata(Some(text(""))),
                    }
                });
                OffsetFetchResponseTopics::default().with_name(name).with_partitions(parts.collect())
            });
            OffsetFetchResponseGroup::default().with_topics(found.collect()).with_group_id(group.group_id)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let has_epoch = context.version >= 5;
    let topics = find(&context, &request.group_id, wanted).into_iter().map(|(name, parts)| {
        let parts = parts.into_iter().map(|(index, committed)| {
            let part = OffsetFetchResponsePartition::default().with_partition_index(index);
            match committed {
                Some(c) => {
                    let part =
                        part.with_committed_offset(c.offset).with_metadata(Some(text(c.metadata.unwrap_or_default())));
                    if has_epoch { part.with_committed_leader_epoch(c.leader_epoch) } else { part }
                }
                None => part.with_committed_offset(-1).with_metadata(Some(text(""))),
            }
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(parts.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// What is committed for the wanted partitions, or for all.
fn find(context: &Context, group: &str, wanted: Option<Vec<(TopicName, Vec<i32>)>>) -> Vec<(TopicName, Found)> {
    let offsets = &context.broker.groups.offsets;
    match wanted {
        Some(wanted) => wanted
            .into_iter()
            .map(|(name, parts)| {
                let found = parts.into_iter().map(|index| (index, offsets.get(group, &name, index))).collect();
                (name, found)
            })
            .collect(),
        None => offsets
            .of_group(group)
            .into_iter()
            .map(|(name, parts)| {
                let found = parts.into_iter().map(|(index, committed)| (index, Some(committed))).collect();
                (TopicName(text(name)), found)
            })
            .collect(),
    }
}

pub(super) async fn delete(context: Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = request.group_id.to_string();
    let state = context.broker.groups.inspect(&group, |group| group.state());
    match state {
        None => return OffsetDeleteResponse::default().with_error_code(ResponseError::GroupIdNotFound.code()),
        Some(State::Empty) => {}
        // Which topics the members are subscribed to is their business; so nothing is deleted under them.
        Some(_) => return OffsetDeleteResponse::default().with_error_code(ResponseError::NonEmptyGroup.code()),
    }
    let mut by_topic: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in request.topics {
        let indexes = topic.partitions.iter().map(|part| part.partition_index);
        by_topic.entry(topic.name.to_string()).or_default().extend(indexes);
    }
    let changes = by_topic.iter().flat_map(|(topic, parts)| parts.iter().map(|index| (topic.clone(), *index, None)));
    let failed = context.broker.groups.offsets.change(&group, changes.collect()).await.err();
    let topics = by_topic.into_iter().map(|(name, parts)| {
        let part =
            |index| OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code(failed));
        OffsetDeleteResponseTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(parts.into_iter().map(part).collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
