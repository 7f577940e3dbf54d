//! What the tests share: a log in a folder of its own, a client that speaks single requests, record batches.

// Each test file uses a part of it; and a helper that fails is a test that fails.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

#[path = "../../../../tests/free_port.rs"]
mod free_port;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
pub use free_port::free_port;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use local_log::{LocalLog, LocalLogConfig};
use tempfile::TempDir;

/// Everything here is on loopback; what takes longer has failed, also on a busy machine with a slow disk.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn start(dir: &TempDir) -> LocalLog {
    start_with(dir, |_| {}).await
}

pub async fn start_with(dir: &TempDir, change: impl FnOnce(&mut LocalLogConfig)) -> LocalLog {
    let mut config = LocalLogConfig::new(dir.path());
    change(&mut config);
    LocalLog::start(config).await.unwrap()
}

pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// A connection that sends one request at a time.
pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation_id: 0 }
    }

    /// Sends a request and decodes its answer in the same version.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("test")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = i32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        let mut body = Bytes::from(body);
        let header_version = R::Response::header_version(version);
        let header = kafka_protocol::messages::ResponseHeader::decode(&mut body, header_version).unwrap();
        assert!(header.correlation_id <= self.correlation_id);
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "{} bytes after the answer", body.len());
        response
    }

    /// Whether the log closed this connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }

    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> i16 {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        self.call(7, &request).topics[0].error_code
    }

    pub fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, batch, -1);
        self.call(9, &request).responses.remove(0).partition_responses.remove(0)
    }

    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, options: Fetch) -> PartitionData {
        let request = fetch_request(topic, partition, offset, options);
        self.call(11, &request).responses.remove(0).partitions.remove(0)
    }

    /// All records from `offset` on, over as many fetches as it takes.
    pub fn read_from(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        let mut next = offset;
        loop {
            let data = self.fetch(topic, partition, next, Fetch::default());
            assert_eq!(data.error_code, 0);
            let mut batches = data.records.unwrap_or_default();
            if batches.is_empty() {
                return records;
            }
            for set in RecordBatchDecoder::decode_all(&mut batches).unwrap() {
                records.extend(set.records.into_iter().filter(|record| record.offset >= next));
            }
            next = records.last().map_or(next, |record| record.offset + 1);
        }
    }
}

/// Limits of a fetch.
#[derive(Clone, Copy)]
pub struct Fetch {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

impl Default for Fetch {
    fn default() -> Self {
        Self { max_wait_ms: 0, min_bytes: 1, max_bytes: 50 << 20, partition_max_bytes: 1 << 20 }
    }
}

pub fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    let part = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![part]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64, options: Fetch) -> FetchRequest {
    let part = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(options.partition_max_bytes);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![part]);
    FetchRequest::default()
        .with_max_wait_ms(options.max_wait_ms)
        .with_min_bytes(options.min_bytes)
        .with_max_bytes(options.max_bytes)
        .with_topics(vec![topic])
}

/// How a batch is made.
#[derive(Clone, Copy)]
pub struct Batch {
    pub timestamp_ms: i64,
    pub compression: Compression,
    /// Producer id, epoch, first sequence number.
    pub producer: (i64, i16, i32),
}

impl Default for Batch {
    fn default() -> Self {
        Self { timestamp_ms: 1_700_000_000_000, compression: Compression::None, producer: (-1, -1, -1) }
    }
}

impl Batch {
    /// A batch of records with keys and values; an empty value stands for a tombstone.
    pub fn of(self, records: &[(&str, &str)]) -> Bytes {
        let (producer_id, producer_epoch, first_sequence) = self.producer;
        let records: Vec<Record> = (0..)
            .zip(records)
            .map(|(at, (key, value))| Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id,
                producer_epoch,
                timestamp_type: TimestampType::Creation,
                offset: i64::from(at),
                sequence: first_sequence.wrapping_add(at),
                timestamp: self.timestamp_ms + i64::from(at),
                key: (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes())),
                value: (!value.is_empty()).then(|| Bytes::copy_from_slice(value.as_bytes())),
                headers: Default::default(),
            })
            .collect();
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: self.compression };
        RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
        batch.freeze()
    }
}

pub fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap_or_default().to_vec()).unwrap()).collect()
}

/// Polls until `done`, failing after [`PATIENCE`].
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
