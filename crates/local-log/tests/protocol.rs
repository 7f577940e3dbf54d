//! The protocol, request by request: versions, limits, malformed input.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Batch, Client, Fetch, eventually, start, start_with, text, topic_name, values};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Request};
use kafka_protocol::records::Compression;
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn every_offered_version_of_every_api_is_answered() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 2, &[("message.timestamp.type", "LogAppendTime")]), 0);
    let offered = client.call(3, &ApiVersionsRequest::default().with_client_software_name(text("test"))).api_keys;
    for api in offered {
        let key = ApiKey::try_from(api.api_key).unwrap();
        for version in api.min_version..=api.max_version {
            // Listed for librdkafka's sake only; see the list of offered versions.
            if key == ApiKey::Produce && version < 3 {
                continue;
            }
            exercise(&mut client, key, version);
        }
    }
    log.shutdown().await.unwrap();
}

/// Asks for something that fills as many fields of the answer as possible; decoding it is the check.
fn exercise(client: &mut Client, key: ApiKey, version: i16) {
    let unique = format!("{key:?}-{version}");
    match key {
        ApiKey::Produce => {
            let batch = Batch::default().of(&[("k", "v")]);
            let request = common::produce_request("events", 0, batch, 1);
            let part = &client.call(version, &request).responses[0].partition_responses[0];
            assert_eq!(part.error_code, 0);
            assert!(part.base_offset >= 0 && part.log_append_time_ms > 0);
            let missing = common::produce_request("none", 0, Bytes::new(), 1);
            let answer = client.call(version, &missing);
            let refused = ResponseError::UnknownTopicOrPartition.code();
            assert_eq!(answer.responses[0].partition_responses[0].error_code, refused);
        }
        ApiKey::Fetch => {
            let mut request = common::fetch_request("events", 0, 0, Fetch::default());
            request.isolation_level = 1;
            let part = &client.call(version, &request).responses[0].partitions[0];
            assert_eq!(part.error_code, 0);
            let beyond = common::fetch_request("events", 0, 1 << 40, Fetch::default());
            let part = &client.call(version, &beyond).responses[0].partitions[0];
            assert_eq!(part.error_code, ResponseError::OffsetOutOfRange.code());
        }
        ApiKey::ListOffsets => {
            for timestamp in [-1, -2, -3, 0] {
                let part = ListOffsetsPartition::default().with_timestamp(timestamp);
                let topic = ListOffsetsTopic::default().with_name(topic_name("events")).with_partitions(vec![part]);
                let answer = client.call(version, &ListOffsetsRequest::default().with_topics(vec![topic]));
                assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{timestamp}");
            }
        }
        ApiKey::Metadata => {
            let named = MetadataRequestTopic::default().with_name(Some(topic_name("events")));
            let request = MetadataRequest::default().with_topics(Some(vec![named]));
            let answer = client.call(version, &request);
            assert_eq!(answer.topics[0].partitions.len(), 2);
            let all = if version == 0 { Some(Vec::new()) } else { None };
            assert!(!client.call(version, &MetadataRequest::default().with_topics(all)).topics.is_empty());
        }
        ApiKey::OffsetCommit => {
            let part = OffsetCommitRequestPartition::default().with_committed_offset(1);
            let topic = OffsetCommitRequestTopic::default().with_name(topic_name("events")).with_partitions(vec![part]);
            let request = OffsetCommitRequest::default()
                .with_group_id(GroupId(text("committers")))
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic]);
            assert_eq!(client.call(version, &request).topics[0].partitions[0].error_code, 0);
        }
        ApiKey::OffsetFetch if version < 8 => {
            let topic =
                OffsetFetchRequestTopic::default().with_name(topic_name("events")).with_partition_indexes(vec![0, 1]);
            let request = OffsetFetchRequest::default().with_group_id(GroupId(text("committers")));
            let answer = client.call(version, &request.with_topics(Some(vec![topic])));
            let offsets: Vec<i64> = answer.topics[0].partitions.iter().map(|part| part.committed_offset).collect();
            assert_eq!(offsets, [1, -1]);
        }
        ApiKey::OffsetFetch => {
            let topic =
                OffsetFetchRequestTopics::default().with_name(topic_name("events")).with_partition_indexes(vec![0, 1]);
            let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("committers")));
            let all = group.clone().with_topics(None);
            let groups = vec![group.with_topics(Some(vec![topic])), all];
            let answer = client.call(version, &OffsetFetchRequest::default().with_groups(groups));
            assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 1);
            assert_eq!(answer.groups[1].topics[0].partitions.len(), 1);
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::default();
            let request = match version {
                0..=3 => request.with_key(text("g")),
                _ => request.with_coordinator_keys(vec![text("g")]),
            };
            let answer = client.call(version, &request);
            let port = if version < 4 { answer.port } else { answer.coordinators[0].port };
            assert!(port > 0);
        }
        ApiKey::JoinGroup | ApiKey::SyncGroup | ApiKey::Heartbeat | ApiKey::LeaveGroup => {
            membership(client, key, version, &unique);
        }
        ApiKey::DescribeGroups => {
            let groups = vec![GroupId(text("committers")), GroupId(text("nobody"))];
            let answer = client.call(version, &DescribeGroupsRequest::default().with_groups(groups));
            let states: Vec<&str> = answer.groups.iter().map(|group| group.group_state.as_str()).collect();
            assert_eq!(states, ["Empty", "Dead"]);
        }
        ApiKey::ListGroups => {
            assert!(!client.call(version, &ListGroupsRequest::default()).groups.is_empty());
        }
        ApiKey::ApiVersions => {
            assert!(!client.call(version, &ApiVersionsRequest::default()).api_keys.is_empty());
        }
        ApiKey::CreateTopics | ApiKey::DeleteTopics | ApiKey::CreatePartitions => {
            topic_changes(client, key, version, &unique);
        }
        ApiKey::DeleteRecords => {
            use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
            let part = DeleteRecordsPartition::default().with_partition_index(1).with_offset(-1);
            let topic = DeleteRecordsTopic::default().with_name(topic_name("events")).with_partitions(vec![part]);
            let answer = client.call(version, &DeleteRecordsRequest::default().with_topics(vec![topic]));
            assert_eq!(answer.topics[0].partitions[0].error_code, 0);
        }
        ApiKey::InitProducerId => {
            let first = client.call(version, &init_producer_id()).producer_id;
            assert!(client.call(version, &init_producer_id()).producer_id > first);
        }
        ApiKey::OffsetForLeaderEpoch => {
            use kafka_protocol::messages::offset_for_leader_epoch_request::*;
            let part = OffsetForLeaderPartition::default().with_leader_epoch(0).with_current_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default().with_topic(topic_name("events")).with_partitions(vec![part]);
            let answer = client.call(version, &OffsetForLeaderEpochRequest::default().with_topics(vec![topic]));
            assert!(answer.topics[0].partitions[0].end_offset > 0);
        }
        ApiKey::DescribeConfigs => {
            let topic = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("events"));
            let broker = DescribeConfigsResource::default().with_resource_type(4).with_resource_name(text("1"));
            let request =
                DescribeConfigsRequest::default().with_include_synonyms(true).with_resources(vec![topic, broker]);
            let answer = client.call(version, &request);
            assert!(answer.results.iter().all(|result| result.error_code == 0 && !result.configs.is_empty()));
        }
        ApiKey::AlterConfigs => {
            use kafka_protocol::messages::alter_configs_request::*;
            let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("events"));
            let request = AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
            assert_eq!(client.call(version, &request).responses[0].error_code, 0);
        }
        ApiKey::IncrementalAlterConfigs => {
            use kafka_protocol::messages::incremental_alter_configs_request::*;
            let config = AlterableConfig::default().with_name(text("no.such.name")).with_value(Some(text("1")));
            let resource = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("events"));
            let resources = vec![resource.with_configs(vec![config])];
            let answer = client.call(version, &IncrementalAlterConfigsRequest::default().with_resources(resources));
            assert_eq!(answer.responses[0].error_code, ResponseError::InvalidConfig.code());
        }
        ApiKey::DeleteGroups => {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("nobody"))]);
            let answer = client.call(version, &request);
            assert_eq!(answer.results[0].error_code, ResponseError::GroupIdNotFound.code());
        }
        ApiKey::OffsetDelete => {
            let request = OffsetDeleteRequest::default().with_group_id(GroupId(text("committers")));
            assert_eq!(client.call(version, &request).error_code, 0);
        }
        ApiKey::DescribeCluster => {
            assert_eq!(client.call(version, &DescribeClusterRequest::default()).brokers.len(), 1);
        }
        other => panic!("{other:?} is offered but not exercised here"),
    }
}

fn init_producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(None)
}

fn join_request(group: &str, version: i16) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 { request.with_rebalance_timeout_ms(10_000) } else { request }
}

/// Joins, syncs, beats and leaves; the request under test in its version, the others in fitting ones.
fn membership(client: &mut Client, key: ApiKey, version: i16, group: &str) {
    let join_version = if key == ApiKey::JoinGroup { version } else { 3 };
    let mut joined = client.call(join_version, &join_request(group, join_version));
    if joined.error_code == ResponseError::MemberIdRequired.code() {
        let again = join_request(group, join_version).with_member_id(joined.member_id.clone());
        joined = client.call(join_version, &again);
    }
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    let member = joined.member_id.clone();
    let sync_version = if key == ApiKey::SyncGroup { version } else { 3 };
    let assignment = SyncGroupRequestAssignment::default().with_member_id(member.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment.with_assignment(Bytes::from_static(b"mine"))]);
    let synced = client.call(sync_version, &sync);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]));
    let beat_version = if key == ApiKey::Heartbeat { version } else { 3 };
    let beat = HeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(member.clone());
    assert_eq!(client.call(beat_version, &beat).error_code, 0);
    let leave_version = if key == ApiKey::LeaveGroup { version } else { 3 };
    let leave = LeaveGroupRequest::default().with_group_id(GroupId(text(group)));
    let leave = match leave_version {
        0..=2 => leave.with_member_id(member),
        _ => leave.with_members(vec![MemberIdentity::default().with_member_id(member)]),
    };
    let left = client.call(leave_version, &leave);
    assert!(left.error_code == 0 && left.members.iter().all(|member| member.error_code == 0));
}

fn topic_changes(client: &mut Client, key: ApiKey, version: i16, topic: &str) {
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    let of = |api: ApiKey, otherwise: i16| if key == api { version } else { otherwise };
    let wanted =
        CreatableTopic::default().with_name(topic_name(topic)).with_num_partitions(1).with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![wanted]);
    assert_eq!(client.call(of(ApiKey::CreateTopics, 5), &create).topics[0].error_code, 0);
    let again = client.call(of(ApiKey::CreateTopics, 5), &create).topics[0].error_code;
    assert_eq!(again, ResponseError::TopicAlreadyExists.code());
    let more = CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(3).with_assignments(None);
    let more = CreatePartitionsRequest::default().with_topics(vec![more]);
    assert_eq!(client.call(of(ApiKey::CreatePartitions, 3), &more).results[0].error_code, 0);
    let delete_version = of(ApiKey::DeleteTopics, 5);
    let delete = match delete_version {
        0..=5 => DeleteTopicsRequest::default().with_topic_names(vec![topic_name(topic)]),
        _ => {
            let state = DeleteTopicState::default().with_name(Some(topic_name(topic)));
            DeleteTopicsRequest::default().with_topics(vec![state])
        }
    };
    assert_eq!(client.call(delete_version, &delete).responses[0].error_code, 0);
    let again = client.call(delete_version, &delete).responses[0].error_code;
    assert_eq!(again, ResponseError::UnknownTopicOrPartition.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_costs_its_own_connection_only() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut bystander = Client::connect(log.addr());
    assert_eq!(bystander.create_topic("events", 1, &[]), 0);
    let mut frames: Vec<Vec<u8>> = vec![
        // Lengths: negative, above the limit, shorter than a header.
        (-1_i32).to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        [&3_i32.to_be_bytes()[..], &[0; 3]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // An api that does not exist, and one in a version that does not.
        framed(&[0x7f, 0x7f, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        framed(&[0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff]),
        // Metadata that announces two thousand million topics, in both encodings.
        framed(&[0, 3, 0, 5, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        framed(&[0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    ];
    // A produce request with each of its bytes flipped.
    let mut body = bytes::BytesMut::new();
    let batch = Batch::default().of(&[("key", "value")]);
    common::produce_request("events", 0, batch, -1).encode(&mut body, 9).unwrap();
    let header = [0_u8, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0];
    for at in 0..body.len() {
        let mut damaged = body.to_vec();
        damaged[at] ^= 0xff;
        frames.push(framed(&[&header[..], &damaged].concat()));
    }
    for frame in frames {
        let mut client = Client::connect(log.addr());
        client.stream.write_all(&frame).unwrap();
        // The log may have closed it already.
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        drop(client);
        assert_eq!(bystander.call(3, &HeartbeatRequest::default()).error_code, 25, "after {frame:?}");
    }
    assert_eq!(bystander.produce("events", 0, Batch::default().of(&[("k", "still here")])).error_code, 0);
    let read = values(&bystander.read_from("events", 0, 0));
    assert_eq!(read.last().map(String::as_str), Some("still here"));
    log.shutdown().await.unwrap();
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&i32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_contradict_themselves_are_refused() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("plain", 1, &[("max.message.bytes", "1000")]), 0);
    assert_eq!(client.create_topic("compacted", 1, &[("cleanup.policy", "compact")]), 0);
    let good = Batch::default().of(&[("k", "v")]);
    let damaged = |at: usize, with: u8| {
        let mut batch = good.to_vec();
        batch[at] = with;
        Bytes::from(batch)
    };
    let two = Bytes::from([&good[..], &good[..]].concat());
    let large = Batch::default().of(&[("k", &"x".repeat(2000))]);
    let keyless = Batch::default().of(&[("", "v")]);
    // A few kilobytes that decompress to more than the log is willing to hold.
    let bomb = Batch { compression: Compression::Zstd, ..Batch::default() }.of(&[("k", &"x".repeat(140 << 20))]);
    assert!(bomb.len() < 100_000);
    let cases = [
        ("plain", damaged(64, 0x55), ResponseError::CorruptMessage),
        ("plain", damaged(16, 1), ResponseError::UnsupportedForMessageFormat),
        ("plain", good.slice(..40), ResponseError::CorruptMessage),
        ("plain", good.slice(..good.len() - 1), ResponseError::InvalidRecord),
        ("plain", two, ResponseError::InvalidRecord),
        ("plain", Bytes::new(), ResponseError::CorruptMessage),
        ("plain", large, ResponseError::MessageTooLarge),
        ("compacted", keyless, ResponseError::InvalidRecord),
        ("compacted", bomb, ResponseError::InvalidRecord),
    ];
    for (topic, batch, expected) in cases {
        let refused = client.produce(topic, 0, batch);
        assert_eq!(refused.error_code, expected.code(), "{expected:?}");
        assert!(refused.error_message.is_some(), "{expected:?}");
    }
    assert!(client.read_from("plain", 0, 0).is_empty());
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_of_an_idempotent_producer_are_written_once_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 1, &[]), 0);
    let id = client.call(4, &init_producer_id()).producer_id.0;
    let batch = |epoch: i16, sequence: i32| {
        let value = format!("{epoch}.{sequence}");
        Batch { producer: (id, epoch, sequence), ..Batch::default() }.of(&[("k", &value), ("k", "second")])
    };
    for sequence in [0, 2, 4, 6, 8, 10, 12] {
        assert_eq!(client.produce("events", 0, batch(0, sequence)).base_offset, i64::from(sequence));
    }
    for round in ["before the restart", "after it"] {
        let retried = client.produce("events", 0, batch(0, 8));
        assert_eq!((retried.error_code, retried.base_offset), (0, 8), "{round}");
        let old = client.produce("events", 0, batch(0, 0)).error_code;
        assert_eq!(old, ResponseError::DuplicateSequenceNumber.code(), "{round}");
        let gap = client.produce("events", 0, batch(0, 16)).error_code;
        assert_eq!(gap, ResponseError::OutOfOrderSequenceNumber.code(), "{round}");
        assert_eq!(client.read_from("events", 0, 0).len(), 14, "{round}");
        log.shutdown().await.unwrap();
        log = start(&dir).await;
        client = Client::connect(log.addr());
    }
    assert_eq!(client.produce("events", 0, batch(1, 0)).base_offset, 14, "a new epoch starts at 0");
    let stale = client.produce("events", 0, batch(0, 14)).error_code;
    assert_eq!(stale, ResponseError::InvalidProducerEpoch.code());
    assert!(client.call(4, &init_producer_id()).producer_id.0 > id, "ids are not given out twice");
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_woken_by_an_append_and_not_before() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 1, &[]), 0);
    let started = Instant::now();
    let wait = Fetch { max_wait_ms: 300, ..Fetch::default() };
    assert!(client.fetch("events", 0, 0, wait).records.unwrap_or_default().is_empty());
    assert!(started.elapsed() >= Duration::from_millis(300), "it waited {:?}", started.elapsed());

    let mut waiting = Client::connect(log.addr());
    // Longer than the client waits for its answer.
    let long = Fetch { max_wait_ms: 600_000, ..Fetch::default() };
    waiting.send(11, &common::fetch_request("events", 0, 0, long));
    let batch = Batch::default().of(&[("k", "v")]);
    assert_eq!(client.produce("events", 0, batch.clone()).error_code, 0);
    let answer = waiting.receive::<FetchRequest>(11);
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().map(Bytes::len), Some(batch.len()));

    // With a minimum above one batch, the second append wakes it.
    let at_least = i32::try_from(2 * batch.len()).unwrap();
    waiting.send(11, &common::fetch_request("events", 0, 0, Fetch { min_bytes: at_least, ..long }));
    assert_eq!(client.produce("events", 0, batch.clone()).error_code, 0);
    let answer = waiting.receive::<FetchRequest>(11);
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().map(Bytes::len), Some(2 * batch.len()));
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_limits_are_kept_but_the_first_batch_always_comes() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 1, &[]), 0);
    let batch = Batch::default().of(&[("k", &"x".repeat(1000))]);
    for _ in 0..10 {
        assert_eq!(client.produce("events", 0, batch.clone()).error_code, 0);
    }
    let length = |client: &mut Client, options: Fetch| {
        client.fetch("events", 0, 3, options).records.map_or(0, |records| records.len())
    };
    let size = i32::try_from(batch.len()).unwrap();
    assert_eq!(length(&mut client, Fetch { max_bytes: 1, ..Fetch::default() }), batch.len());
    assert_eq!(length(&mut client, Fetch { partition_max_bytes: 2 * size + 7, ..Fetch::default() }), 2 * batch.len());
    assert_eq!(length(&mut client, Fetch { max_bytes: 3 * size, ..Fetch::default() }), 3 * batch.len());
    assert_eq!(length(&mut client, Fetch::default()), 7 * batch.len());
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_append_time_is_stamped_and_leaves_a_valid_crc() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]), 0);
    let produced = client.produce("stamped", 0, Batch::default().of(&[("k", "v"), ("k", "w")]));
    assert!(produced.log_append_time_ms > Batch::default().timestamp_ms);
    // Decoding checks the CRC.
    let records = client.read_from("stamped", 0, 0);
    assert_eq!(values(&records), ["v", "w"]);
    let kind = kafka_protocol::records::TimestampType::LogAppend;
    assert!(records.iter().all(|record| record.timestamp_type == kind));
    let by_time = |client: &mut Client, timestamp: i64| {
        let part = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name("stamped")).with_partitions(vec![part]);
        client.call(5, &ListOffsetsRequest::default().with_topics(vec![topic])).topics[0].partitions[0].offset
    };
    assert_eq!(by_time(&mut client, produced.log_append_time_ms), 0);
    assert_eq!(by_time(&mut client, produced.log_append_time_ms + 1), -1);
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_refused_and_a_stalled_request_is_given_up() {
    let dir = TempDir::new().unwrap();
    let log = start_with(&dir, |config| {
        config.max_connections = 2;
        config.stall_timeout = Duration::from_millis(200);
    })
    .await;
    let mut first = Client::connect(log.addr());
    first.call(3, &ApiVersionsRequest::default());
    let mut stalled = Client::connect(log.addr());
    stalled.stream.write_all(&[0, 0, 1]).unwrap();
    eventually("the limit holds", || {
        let mut third = Client::connect(log.addr());
        third.is_closed()
    });
    assert!(stalled.is_closed(), "half a request must not hold its connection");
    eventually("the place is free again", || {
        let mut fourth = Client::connect(log.addr());
        fourth.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let read = std::io::Read::read(&mut fourth.stream, &mut [0; 1]);
        read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    });
    first.call(3, &ApiVersionsRequest::default());
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_with_a_text_that_says_so() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    let request = FindCoordinatorRequest::default().with_key(text("tx")).with_key_type(1);
    let answer = client.call(3, &request);
    assert_ne!(answer.error_code, 0);
    assert!(answer.error_message.unwrap().contains("no transactions"));
    let request = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("tx"))));
    assert_ne!(client.call(4, &request).error_code, 0);
    assert_eq!(ApiVersionsRequest::KEY, 18);
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_answers_blocks_nobody_and_is_dropped() {
    let dir = TempDir::new().unwrap();
    let log = start_with(&dir, |config| {
        // Long enough for the other client to send a large request, also on a busy machine.
        config.stall_timeout = Duration::from_secs(5);
        config.max_connections = 21;
    })
    .await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 1, &[]), 0);
    let batch = Batch::default().of(&[("k", &"x".repeat(900_000))]);
    for _ in 0..10 {
        assert_eq!(client.produce("events", 0, batch.clone()).error_code, 0);
    }
    let mut slow: Vec<Client> = (0..20).map(|_| Client::connect(log.addr())).collect();
    let everything = Fetch { partition_max_bytes: 50 << 20, ..Fetch::default() };
    for slow in &mut slow {
        for _ in 0..5 {
            slow.send(11, &common::fetch_request("events", 0, 0, everything));
        }
    }
    // The client waits for each answer as long as its patience lasts.
    for _ in 0..20 {
        assert_eq!(client.produce("events", 0, Batch::default().of(&[("k", "v")])).error_code, 0);
    }
    eventually("a slow one lost its place", || {
        let mut another = Client::connect(log.addr());
        another.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let read = std::io::Read::read(&mut another.stream, &mut [0; 1]);
        read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    });
    log.shutdown().await.unwrap();
}
