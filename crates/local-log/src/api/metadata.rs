//! Metadata: one broker, its topics; creates a missing topic where client and settings allow it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};

use super::{Context, LEADER_EPOCH, NODE_ID, blocking, text};
use crate::storage::topics::{Topic, TopicError};

pub(super) async fn metadata(context: Context, request: MetadataRequest) -> MetadataResponse {
    // Version 0 asks for all topics with an empty list, later ones with null.
    let wanted = request.topics.filter(|topics| context.version > 0 || !topics.is_empty());
    // Before version 4 a client could not say no.
    let may_create =
        context.broker.config.auto_create_topics && (context.version < 4 || request.allow_auto_topic_creation);
    let topics = match wanted {
        None => context.broker.topics.all().iter().map(|topic| describe(&context, topic)).collect(),
        Some(wanted) => {
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                topics.push(look_up(&context, topic, may_create).await);
            }
            topics
        }
    };
    let (host, port) = context.advertised();
    let broker = MetadataResponseBroker::default().with_node_id(BrokerId(NODE_ID)).with_host(host).with_port(port);
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(context.broker.cluster_id.clone())))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
}

pub(super) async fn describe_cluster(context: Context, _request: DescribeClusterRequest) -> DescribeClusterResponse {
    let (host, port) = context.advertised();
    let broker = DescribeClusterBroker::default().with_broker_id(BrokerId(NODE_ID)).with_host(host).with_port(port);
    DescribeClusterResponse::default()
        .with_cluster_id(text(context.broker.cluster_id.clone()))
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![broker])
}

async fn look_up(context: &Context, wanted: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let Some(name) = wanted.name else {
        return match context.broker.topics.get_by_id(wanted.topic_id) {
            Some(topic) => describe(context, &topic),
            None => MetadataResponseTopic::default()
                .with_topic_id(wanted.topic_id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    let failed = |error: ResponseError| {
        MetadataResponseTopic::default().with_name(Some(name.clone())).with_error_code(error.code())
    };
    if let Some(topic) = context.broker.topics.get(&name) {
        return describe(context, &topic);
    }
    if !may_create {
        return failed(ResponseError::UnknownTopicOrPartition);
    }
    let (broker, owned) = (Arc::clone(&context.broker), name.to_string());
    let partitions = broker.config.default_partitions;
    let created = blocking(move || broker.topics.create(&owned, partitions, BTreeMap::new(), false)).await;
    match created {
        Some(Ok(Some(topic))) => describe(context, &topic),
        // Another client was faster.
        Some(Err(TopicError::Exists)) => match context.broker.topics.get(&name) {
            Some(topic) => describe(context, &topic),
            None => failed(ResponseError::LeaderNotAvailable),
        },
        Some(Err(TopicError::InvalidName(_))) => failed(ResponseError::InvalidTopicException),
        Some(Err(TopicError::Storage)) => failed(ResponseError::KafkaStorageError),
        _ => failed(ResponseError::UnknownTopicOrPartition),
    }
}

fn describe(context: &Context, topic: &Topic) -> MetadataResponseTopic {
    let node = vec![BrokerId(NODE_ID)];
    let partition = |index: i32| {
        let partition = MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_replica_nodes(node.clone())
            .with_isr_nodes(node.clone());
        // The field came with version 7.
        if context.version >= 7 { partition.with_leader_epoch(LEADER_EPOCH) } else { partition }
    };
    let partitions = (0..topic.partition_count()).map(partition).collect();
    let response = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.clone()))))
        .with_partitions(partitions);
    if context.version >= 10 { response.with_topic_id(topic.id) } else { response }
}
