//! What reading costs: events per CPU-second of a bare rdkafka loop and of this crate's reader, each in a process of its
//! own, on the same topic.
//!
//! ```sh
//! ADDRESS=$(scripts/kafka.sh start)
//! cargo build --release -p event-log --example read_rate
//! READ_RATE=${CARGO_TARGET_DIR:-target}/release/examples/read_rate
//! $READ_RATE fill "$ADDRESS" rate 2000000 400        # 6 partitions
//! for run in 1 2 3; do $READ_RATE bare "$ADDRESS" rate; $READ_RATE reader "$ADDRESS" rate; done
//! ```
//!
//! Both loops look at every record's partition, offset, append time and value, and use the same client settings. CPU time
//! is that of the whole process, with librdkafka's own threads and the connection.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use event_log::{EventReader, LogConfig, LogError, Publisher, TopicSpec, ensure_topics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const PARTITIONS: i32 = 6;
const USAGE: &str =
    "usage: read_rate fill HOST:PORT TOPIC COUNT BYTES | read_rate bare|reader HOST:PORT TOPIC [PROPERTY=VALUE...]";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, brokers, topic, rest @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let mut config = LogConfig::new(brokers, "read-rate");
    if mode == "fill" {
        let [count, bytes] = rest else { return Err(USAGE.into()) };
        return Ok(fill(&mut config, topic, count.parse()?, bytes.parse()?)?);
    }
    config
        .extra
        .extend(rest.iter().filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into())));
    let expected = expected(&config, topic)?;
    let (cpu, clock) = (ProcessTime::now(), Instant::now());
    let seen = match mode.as_str() {
        "bare" => bare(&config, topic, expected.records)?,
        "reader" => reader(&config, topic, expected.records)?,
        _ => return Err(USAGE.into()),
    };
    report(mode, &seen, cpu.elapsed(), clock.elapsed());
    if seen != expected {
        return Err(format!("read {seen:?}, but the topic holds {expected:?}").into());
    }
    Ok(())
}

/// What was seen; the sums make both loops touch the same fields, and are compared.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    records: u64,
    offsets: i64,
}

#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
fn report(mode: &str, seen: &Seen, cpu: Duration, wall: Duration) {
    let per_cpu_second = seen.records as f64 / cpu.as_secs_f64();
    let us = cpu.as_secs_f64() * 1e6 / seen.records as f64;
    println!(
        "{mode:6} {} events, {per_cpu_second:9.0} per CPU-second, {us:.3} µs CPU each, {:.2} s wall",
        seen.records,
        wall.as_secs_f64()
    );
}

fn expected(config: &LogConfig, topic: &str) -> Result<Seen, Box<dyn std::error::Error>> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &config.brokers).create()?;
    let mut seen = Seen::default();
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(topic, partition, Duration::from_secs(10))?;
        seen.records += (high - low).unsigned_abs();
        seen.offsets += (low..high).sum::<i64>();
    }
    Ok(seen)
}

fn fill(config: &mut LogConfig, topic: &str, count: u64, bytes: usize) -> Result<(), LogError> {
    let spec = TopicSpec {
        name: topic.to_owned(),
        partitions: PARTITIONS,
        replication: 1,
        configs: [("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())].into(),
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| LogError::Config { reason: error.to_string() })?
        .block_on(ensure_topics(config, &[spec]))?;
    // As a busy gateway sends: some records together.
    config.extra.insert("linger.ms".to_owned(), "5".to_owned());
    let publisher = Publisher::open(config)?;
    for i in 0..count {
        let key = format!("namespace-{}/user-{}", i % 40, i % 5000);
        let mut value = format!(r#"{{"id":"{i}","namespace":"namespace-{}","pad":""#, i % 40).into_bytes();
        value.resize(bytes.saturating_sub(2), b'x');
        value.extend_from_slice(b"\"}");
        publisher.publish(topic, key.as_bytes(), Some(&value), &[], None)?;
    }
    publisher.flush(Duration::from_secs(60))
}

/// The loop that anyone would write with rdkafka, with this project's client settings.
fn bare(config: &LogConfig, topic: &str, count: u64) -> Result<Seen, Box<dyn std::error::Error>> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &config.brokers).set("group.id", "read-rate-bare");
    for (key, value) in [
        ("fetch.queue.backoff.ms", "5"),
        ("fetch.wait.max.ms", "50"),
        ("queued.min.messages", "1000000"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("check.crcs", "true"),
    ] {
        client.set(key, value);
    }
    for (key, value) in &config.extra {
        client.set(key, value);
    }
    let consumer: BaseConsumer = client.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    drop(list);
    let mut seen = Seen::default();
    while seen.records < count {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record?;
            std::hint::black_box((record.partition(), record.timestamp(), record.key(), record.payload()));
            seen.records += 1;
            seen.offsets += record.offset();
        }
    }
    Ok(seen)
}

fn reader(config: &LogConfig, topic: &str, count: u64) -> Result<Seen, LogError> {
    let mut reader = EventReader::open(config, topic, &[])?;
    let mut seen = Seen::default();
    while seen.records < count {
        for record in reader.poll_batch(10_000, Duration::from_millis(100))?.iter() {
            std::hint::black_box((record.partition, record.append_time_ms, record.key, record.value));
            seen.records += 1;
            seen.offsets += record.offset;
        }
    }
    Ok(seen)
}
