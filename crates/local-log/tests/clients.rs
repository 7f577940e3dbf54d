//! librdkafka against the log: produce, consume, groups.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Client, PATIENCE, eventually, start};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message};
use tempfile::TempDir;

fn config(addr: SocketAddr) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", addr.to_string());
    config
}

fn produce(addr: SocketAddr, topic: &str, compression: &str, numbers: std::ops::Range<u32>) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        config(addr).set("compression.type", compression).set("enable.idempotence", "true").create().unwrap();
    for number in numbers {
        let (key, value) = (format!("key {}", number % 97), number.to_string());
        producer.send(BaseRecord::to(topic).key(&key).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_in_every_compression_in_the_order_of_their_keys() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let addr = log.addr();
    let read = tokio::task::spawn_blocking(move || {
        assert_eq!(Client::connect(addr).create_topic("events", 4, &[]), 0);
        let mut sent = 0;
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
            // A build of librdkafka without a codec refuses the setting; the Python clients test all of them.
            if config(addr).set("compression.type", compression).create::<BaseConsumer>().is_ok() {
                produce(addr, "events", compression, sent..sent + 1000);
                sent += 1000;
            }
        }
        assert!(sent >= 4000, "none, gzip, snappy and lz4 are in every build");
        let consumer: BaseConsumer = config(addr)
            .set("group.id", "readers")
            .set("auto.offset.reset", "earliest")
            .set("check.crcs", "true")
            .create()
            .unwrap();
        consumer.subscribe(&["events"]).unwrap();
        let mut by_key: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
        let mut left = sent;
        eventually("all is read", || {
            // None comes also when the client was busy with its own affairs.
            while let Some(message) = consumer.poll(Duration::from_millis(200)) {
                let message = message.unwrap();
                let number = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
                by_key.entry(message.key().unwrap().to_vec()).or_default().push(number);
                left -= 1;
            }
            left == 0
        });
        by_key
    });
    let by_key = read.await.unwrap();
    assert_eq!(by_key.len(), 97);
    assert!(by_key.values().all(|numbers| numbers.is_sorted_by(|a, b| a < b)));
    log.shutdown().await.unwrap();
}

/// What the members of a group have read: partition and offset, with the reader.
#[derive(Clone, Default)]
struct ReadBy(Arc<Mutex<Readers>>);

type Readers = BTreeMap<(i32, i64), Vec<usize>>;

impl ReadBy {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn readers(&self) -> BTreeSet<usize> {
        self.0.lock().unwrap().values().flatten().copied().collect()
    }
}

fn member(addr: SocketAddr, strategy: &str, number: usize, read: ReadBy, stop: &AtomicBool) {
    let consumer: BaseConsumer = config(addr)
        .set("group.id", "three")
        .set("partition.assignment.strategy", strategy)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("heartbeat.interval.ms", "200")
        .create()
        .unwrap();
    consumer.subscribe(&["events"]).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let at = (message.partition(), message.offset());
            read.0.lock().unwrap().entry(at).or_default().push(number);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_three_reads_every_record_exactly_once() {
    for strategy in ["range", "cooperative-sticky"] {
        let dir = TempDir::new().unwrap();
        let log = start(&dir).await;
        let addr = log.addr();
        let done = tokio::task::spawn_blocking(move || {
            assert_eq!(Client::connect(addr).create_topic("events", 6, &[]), 0);
            let (read, stop) = (ReadBy::default(), Arc::new(AtomicBool::new(false)));
            // Records go on while each member joins; leaving and revoking commits, so nothing may be read twice.
            let mut sent = 0;
            let mut members = Vec::new();
            for number in 0..3 {
                let (its_read, stop) = (read.clone(), Arc::clone(&stop));
                members.push(std::thread::spawn(move || member(addr, strategy, number, its_read, &stop)));
                read_more(addr, &mut sent, members.len(), &read);
            }
            stop.store(true, Ordering::Relaxed);
            members.into_iter().for_each(|member| member.join().unwrap());
            let twice = read_twice(&read);
            (usize::try_from(sent).unwrap(), read.count(), twice)
        });
        let (sent, read, twice) = done.await.unwrap();
        assert_eq!((read, twice), (sent, 0), "{strategy}");
        log.shutdown().await.unwrap();
    }
}

/// Sends until every member has read something and all is read.
fn read_more(addr: SocketAddr, sent: &mut u32, members: usize, read: &ReadBy) {
    eventually("all members read, and all is read", || {
        if read.readers().len() < members {
            produce(addr, "events", "none", *sent..*sent + 200);
            *sent += 200;
        }
        read.readers().len() >= members && read.count() == usize::try_from(*sent).unwrap()
    });
}

fn read_twice(read: &ReadBy) -> usize {
    read.0.lock().unwrap().values().filter(|readers| readers.len() > 1).count()
}
