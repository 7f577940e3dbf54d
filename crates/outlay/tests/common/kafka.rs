//! A Kafka client of its own: rdkafka as anybody uses it, without the project's crate around it.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Headers, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryFuture, FutureProducer, FutureRecord, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::PATIENCE;

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl Record {
    /// The value as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_deref().unwrap()).unwrap()
    }

    /// The key as text.
    pub fn key(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Publishes records one after the other in one go; where each is, in their order.
#[track_caller]
pub fn publish(brokers: &str, topic: &str, records: &[(&str, &[u8])]) -> Vec<(i32, i64)> {
    publish_with_headers(brokers, topic, &records.iter().map(|(key, value)| (*key, *value, vec![])).collect::<Vec<_>>())
}

/// The same with headers.
#[track_caller]
#[allow(clippy::type_complexity)]
pub fn publish_with_headers(
    brokers: &str,
    topic: &str,
    records: &[(&str, &[u8], Vec<(&str, &str)>)],
) -> Vec<(i32, i64)> {
    // Long enough that all go in one batch of each partition; the flush sends at once.
    let producer: FutureProducer = config(brokers).set("linger.ms", "100").create().unwrap();
    let sent: Vec<DeliveryFuture> = records
        .iter()
        .map(|(key, value, headers)| {
            let headers = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(rdkafka::message::Header { key, value: Some(*value) })
            });
            let record = FutureRecord::to(topic).payload(*value).headers(headers);
            let record = if key.is_empty() { record } else { record.key(*key) };
            producer.send_result(record).map_err(|(error, _)| error).unwrap()
        })
        .collect();
    producer.flush(PATIENCE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    sent.into_iter()
        .map(|delivery| {
            let delivered = runtime.block_on(delivery).unwrap().map_err(|(error, _)| error).unwrap();
            (delivered.partition, delivered.offset)
        })
        .collect()
}

/// Everything that a topic holds now, partition by partition.
#[track_caller]
pub fn read_topic(brokers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        .create()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    assert!(!partitions.is_empty(), "there is no topic {topic}");
    let mut assignment = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        if high > low {
            assignment.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
            ends.insert(partition, high);
        }
    }
    consumer.assign(&assignment).unwrap();
    let mut records = Vec::new();
    while !ends.is_empty() {
        assert!(Instant::now() < deadline, "{topic} was not read to its end; left: {ends:?}");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                    ends.remove(&message.partition());
                }
                records.push(record(&message));
            }
            Some(Err(error)) => eprintln!("reading {topic}: {error}"),
            None => {}
        }
    }
    records
}

/// The last value of each key, as JSON; tombstones remove.
#[track_caller]
pub fn latest(brokers: &str, topic: &str) -> BTreeMap<String, Value> {
    let mut latest = BTreeMap::new();
    for record in read_topic(brokers, topic) {
        match record.value {
            Some(_) => latest.insert(record.key(), record.json()),
            None => latest.remove(&record.key()),
        };
    }
    latest
}

fn record(message: &impl Message) -> Record {
    let headers = message.headers().map_or(BTreeMap::new(), |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_owned())).collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_owned(),
        value: message.payload().map(<[u8]>::to_owned),
        headers,
    }
}

/// A producer that tells which records were acknowledged and which were not.
pub struct Acknowledged {
    producer: ThreadedProducer<Collector>,
    results: Receiver<(usize, bool)>,
}

struct Collector(Sender<(usize, bool)>);

impl ClientContext for Collector {
    // Brokers that went away are what the recovery test is about.
    fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Collector {
    type DeliveryOpaque = Box<usize>;
    fn delivery(&self, result: &DeliveryResult<'_>, at: Box<usize>) {
        let _receiver_gone = self.0.send((*at, result.is_ok()));
    }
}

impl Acknowledged {
    /// A producer that gives a record up soon, so that its caller can send it again elsewhere.
    pub fn new(brokers: &str) -> Self {
        let (sender, results) = channel();
        let producer = config(brokers)
            .set("message.timeout.ms", "2000")
            .set("linger.ms", "5")
            .create_with_context(Collector(sender))
            .unwrap();
        Self { producer, results }
    }

    /// Sends a record under a number; `false` where the queue does not take it.
    pub fn send(&self, at: usize, topic: &str, key: &str, value: &str) -> bool {
        self.producer.send(BaseRecord::with_opaque_to(topic, Box::new(at)).key(key).payload(value)).is_ok()
    }

    /// The numbers that were settled since the last call, and whether each was acknowledged.
    pub fn settled(&self) -> Vec<(usize, bool)> {
        self.results.try_iter().collect()
    }
}
