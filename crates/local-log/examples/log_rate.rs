//! Latency and throughput of a log as a librdkafka client sees them: `bench BOOTSTRAP` (`local` starts one in a temporary folder).

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use local_log::{LocalLog, LocalLogConfig};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

type Sender = ThreadedProducer<DefaultProducerContext>;

const PARTITIONS: i32 = 6;
const VALUE_BYTES: usize = 400;
const THROUGHPUT_RECORDS: u64 = 500_000;
const LATENCY_RECORDS: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bootstrap = std::env::args().nth(1).ok_or("usage: bench BOOTSTRAP|local")?;
    if bootstrap != "local" {
        return Ok(tokio::task::spawn_blocking(move || measure(&bootstrap)).await?);
    }
    let dir = tempfile::tempdir()?;
    let log = LocalLog::start(LocalLogConfig::new(dir.path())).await?;
    let addr = log.addr().to_string();
    tokio::task::spawn_blocking(move || measure(&addr)).await?;
    log.shutdown().await?;
    Ok(())
}

fn measure(bootstrap: &str) {
    let run = now_us();
    for (name, linger) in [("default settings (linger.ms=5)", None), ("linger.ms=0", Some("0"))] {
        let [p50, p99] = latency(bootstrap, &format!("latency-{run}-{}", linger.unwrap_or("default")), linger);
        println!("produce to consume, {name}: p50 {:.2} ms, p99 {:.2} ms", p50 / 1000.0, p99 / 1000.0);
    }
    for idempotent in ["false", "true"] {
        throughput(bootstrap, &format!("throughput-{run}-{idempotent}"), idempotent);
    }
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// One record at a time, 2 ms apart. Microseconds at p50 and p99.
fn latency(bootstrap: &str, topic: &str, linger: Option<&str>) -> [f64; 2] {
    let mut settings = config(bootstrap);
    if let Some(linger) = linger {
        settings.set("linger.ms", linger);
    }
    let producer: Sender = settings.create().unwrap();
    send(&producer, topic, 0, b"first");
    producer.flush(Duration::from_secs(10)).unwrap();
    let consumer: BaseConsumer = config(bootstrap).set("group.id", topic).create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::End).unwrap();
    consumer.assign(&partitions).unwrap();
    let reader = std::thread::spawn(move || {
        let mut latencies_us: Vec<u64> = Vec::with_capacity(LATENCY_RECORDS);
        let mut warm = 0;
        while latencies_us.len() < LATENCY_RECORDS {
            let Some(Ok(message)) = consumer.poll(Duration::from_secs(5)) else { continue };
            let sent_us: u64 = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
            warm += 1;
            if warm > 100 {
                latencies_us.push(now_us() - sent_us);
            }
        }
        latencies_us
    });
    while !reader.is_finished() {
        send(&producer, topic, 0, now_us().to_string().as_bytes());
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut latencies_us = reader.join().unwrap();
    latencies_us.sort_unstable();
    [50, 99].map(|percent| latencies_us[latencies_us.len() * percent / 100] as f64)
}

fn throughput(bootstrap: &str, topic: &str, idempotent: &str) {
    let producer: Sender = config(bootstrap)
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("enable.idempotence", idempotent)
        .create()
        .unwrap();
    send(&producer, topic, 0, b"first");
    producer.flush(Duration::from_secs(10)).unwrap();
    let value = vec![b'x'; VALUE_BYTES];
    let started = Instant::now();
    for number in 0..THROUGHPUT_RECORDS {
        send(&producer, topic, i32::try_from(number).unwrap_or(0) % PARTITIONS, &value);
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    report(&format!("produced (acks=all, idempotence {idempotent})"), started);

    let consumer: BaseConsumer =
        config(bootstrap).set("group.id", topic).set("fetch.queue.backoff.ms", "5").create().unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    let started = Instant::now();
    consumer.assign(&partitions).unwrap();
    let mut left = THROUGHPUT_RECORDS + 1;
    while left > 0 {
        if let Some(Ok(_)) = consumer.poll(Duration::from_secs(5)) {
            left -= 1;
        }
    }
    report("consumed", started);
}

fn report(what: &str, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let megabytes = (THROUGHPUT_RECORDS * VALUE_BYTES as u64) as f64 / 1e6;
    println!("{what}: {:.0} records/s, {:.0} MB/s", THROUGHPUT_RECORDS as f64 / seconds, megabytes / seconds);
}

fn send(producer: &Sender, topic: &str, partition: i32, value: &[u8]) {
    let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(partition).payload(value);
    while let Err((_, back)) = producer.send(record) {
        record = back;
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
