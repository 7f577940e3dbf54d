//! What was acknowledged survives: kill -9, torn and damaged tails, a disk that refuses to write.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Batch, Client, start, values};
use kafka_protocol::ResponseError;
use local_log::{LocalLog, LocalLogConfig, LocalLogError};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use tempfile::TempDir;

/// The example program, serving a folder.
struct Served {
    child: Child,
    addr: SocketAddr,
}

impl Served {
    fn start(dir: &Path) -> Self {
        Self::start_by(Command::new(example()).arg("127.0.0.1:0").arg(dir))
    }

    fn start_by(command: &mut Command) -> Self {
        let mut child = command.env("RUST_LOG", "warn").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, addr }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo builds the examples when it runs all tests, beside the folder of the tests; to run this file alone, say
/// `cargo build -p local-log --examples` first.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/local-log")
}

/// Collects values by partition as they are acknowledged, with their offsets.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Vec<(i32, i64, String)>>>);

impl rdkafka::ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult<'_>, value: Self::DeliveryOpaque) {
        use rdkafka::Message;
        if let Ok(message) = result {
            self.0.lock().unwrap().push((message.partition(), message.offset(), *value));
        }
    }
}

#[test]
fn every_acknowledged_record_is_there_in_order_after_kill_9_in_mid_produce() {
    const PARTITIONS: i32 = 3;
    let dir = TempDir::new().unwrap();
    let acknowledged = Acknowledged::default();
    let stop = Arc::new(AtomicBool::new(false));
    // One port throughout, so that the producer finds the log again.
    let addr = SocketAddr::from(([127, 0, 0, 1], common::free_port()));
    let start = || Served::start_by(Command::new(example()).arg(addr.to_string()).arg(dir.path()));
    let mut served = start();
    assert_eq!(Client::connect(addr).create_topic("events", PARTITIONS, &[("segment.bytes", "200000")]), 0);
    let sender = std::thread::spawn({
        let (acknowledged, stop) = (acknowledged.clone(), Arc::clone(&stop));
        move || send_until(&stop, addr, acknowledged, PARTITIONS)
    });
    for round in 0..4 {
        let before = acknowledged.0.lock().unwrap().len();
        common::eventually("records are acknowledged", || acknowledged.0.lock().unwrap().len() > before + 1000);
        // Somewhere in the middle of a write, a sync, or a new segment.
        std::thread::sleep(Duration::from_micros(700 * round));
        served.kill();
        served = start();
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    served.kill();
    let served = Served::start(dir.path());
    let mut client = Client::connect(served.addr);
    let acknowledged = acknowledged.0.lock().unwrap().clone();
    assert!(acknowledged.len() > 4000);
    for partition in 0..PARTITIONS {
        let records = client.read_from("events", partition, 0);
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert!(offsets.iter().copied().eq(0..offsets.len() as i64), "offsets without a hole");
        let stored = values(&records);
        for (_, offset, value) in acknowledged.iter().filter(|(at, ..)| *at == partition) {
            assert_eq!(stored.get(usize::try_from(*offset).unwrap()), Some(value), "partition {partition}");
        }
        // An idempotent producer's retries neither repeat nor reorder, across all restarts.
        let numbers: Vec<u64> = stored.iter().map(|value| value[..10].parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order and once");
    }
}

fn send_until(stop: &AtomicBool, addr: SocketAddr, acknowledged: Acknowledged, partitions: i32) {
    let producer: ThreadedProducer<Acknowledged> = ClientConfig::new()
        .set("bootstrap.servers", addr.to_string())
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("retry.backoff.ms", "20")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100")
        .set("log_level", "0")
        .create_with_context(acknowledged)
        .unwrap();
    let mut number = 0_i32;
    while !stop.load(Ordering::Relaxed) {
        let value = format!("{number:010} {}", "x".repeat(200));
        let record = BaseRecord::with_opaque_to("events", Box::new(value.clone()));
        let record: BaseRecord<'_, (), String, _> = record.partition(number % partitions).payload(&value);
        if producer.send(record).is_ok() {
            number += 1;
        }
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(common::PATIENCE).unwrap();
}

/// The newest segment file of a partition.
fn newest_segment(dir: &Path, topic: &str) -> PathBuf {
    let partition = dir.join("topics").join(topic).join("0");
    let files = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|suffix| suffix == "log")).max().unwrap()
}

/// What becomes of the end of a segment file of so many bytes; the last batch is so many bytes long.
type Damage = fn(&mut fs::File, u64, u64);

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_or_damaged_tail_is_cut_off_and_the_rest_stays() {
    let cases: [(&str, usize, Damage); 5] = [
        ("one byte short", 9, |file, size, _| file.set_len(size - 1).unwrap()),
        ("half a header", 9, |file, size, last| file.set_len(size - last + 30).unwrap()),
        ("a byte of the last batch changed", 9, |file, size, _| write_at(file, size - 3, b"?")),
        ("garbage after the end", 10, |file, size, _| write_at(file, size, &[0xa5; 500])),
        ("zeros after the end, as after a power cut", 10, |file, size, _| file.set_len(size + 4096).unwrap()),
    ];
    for orderly in [false, true] {
        for (name, left, damage) in cases {
            let dir = TempDir::new().unwrap();
            let log = start(&dir).await;
            let mut client = Client::connect(log.addr());
            assert_eq!(client.create_topic("events", 1, &[]), 0);
            let batch = |number: i32| Batch::default().of(&[("key", &format!("value {number}"))]);
            for number in 0..10 {
                assert_eq!(client.produce("events", 0, batch(number)).base_offset, i64::from(number));
            }
            if orderly {
                log.shutdown().await.unwrap();
            } else {
                drop(log);
            }
            let path = newest_segment(dir.path(), "events");
            let size = fs::metadata(&path).unwrap().len();
            damage(&mut OpenOptions::new().write(true).open(&path).unwrap(), size, batch(9).len() as u64);

            let log = start(&dir).await;
            let mut client = Client::connect(log.addr());
            let expected: Vec<String> = (0..left).map(|number| format!("value {number}")).collect();
            assert_eq!(values(&client.read_from("events", 0, 0)), expected, "{name}, orderly: {orderly}");
            let next = client.produce("events", 0, batch(99)).base_offset;
            assert_eq!(next, i64::try_from(left).unwrap(), "{name}, orderly: {orderly}");
            assert_eq!(values(&client.read_from("events", 0, next)), ["value 99"], "{name}");
            log.shutdown().await.unwrap();
        }
    }
}

fn write_at(file: &mut fs::File, at: u64, bytes: &[u8]) {
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_write_that_fails_is_an_error_loses_nothing_and_passes() {
    let dir = TempDir::new().unwrap();
    // The kernel refuses writes beyond this size of a file, in mid-batch, as a full disk does.
    let limit_blocks = 64;
    let script = format!("trap '' XFSZ; ulimit -S -f {limit_blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).arg(example()).arg("127.0.0.1:0").arg(dir.path()).process_group(0);
    let served = Served::start_by(&mut command);
    let mut client = Client::connect(served.addr);
    assert_eq!(client.create_topic("events", 1, &[]), 0);
    let batch = |number: usize| Batch::default().of(&[("key", &format!("{number:05} {}", "x".repeat(5000)))]);
    let mut acknowledged = 0;
    let refused = loop {
        let answer = client.produce("events", 0, batch(acknowledged));
        if answer.error_code != 0 {
            break answer;
        }
        assert_eq!(answer.base_offset, i64::try_from(acknowledged).unwrap());
        acknowledged += 1;
        assert!(acknowledged < 1000, "the limit does not work");
    };
    assert_eq!(refused.error_code, ResponseError::KafkaStorageError.code());
    assert!(acknowledged > 5);
    for _ in 0..3 {
        assert_eq!(client.produce("events", 0, batch(0)).error_code, ResponseError::KafkaStorageError.code());
    }
    assert_eq!(client.read_from("events", 0, 0).len(), acknowledged, "it goes on serving reads");
    // A smaller record still fits; so the failed ones left nothing behind.
    let small = Batch::default().of(&[("key", "small")]);
    assert_eq!(client.produce("events", 0, small).base_offset, i64::try_from(acknowledged).unwrap());

    let raised = Command::new("prlimit").arg(format!("--pid={}", served.child.id())).arg("--fsize=unlimited:").status();
    assert!(raised.unwrap().success());
    let next = client.produce("events", 0, batch(acknowledged)).base_offset;
    assert_eq!(next, i64::try_from(acknowledged).unwrap() + 1, "it takes writes again");
    served.kill();

    let served = Served::start(dir.path());
    let records = Client::connect(served.addr).read_from("events", 0, 0);
    assert_eq!(records.len(), acknowledged + 2);
    for (number, value) in values(&records).iter().take(acknowledged).enumerate() {
        assert_eq!(value[..5].parse(), Ok(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused_with_a_clear_error() {
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let second = LocalLog::start(LocalLogConfig::new(dir.path())).await;
    assert!(matches!(second, Err(LocalLogError::InUse { .. })), "{second:?}");
    log.shutdown().await.unwrap();
    start(&dir).await.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_settings_and_offsets_survive_a_restart() {
    use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
    use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
    let dir = TempDir::new().unwrap();
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 4, &[("retention.ms", "1234567")]), 0);
    let group = GroupId(common::text("readers"));
    for offset in 0..50 {
        let part = OffsetCommitRequestPartition::default().with_partition_index(2).with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(common::topic_name("events"));
        let request =
            OffsetCommitRequest::default().with_group_id(group.clone()).with_generation_id_or_member_epoch(-1);
        let request = request.with_topics(vec![topic.with_partitions(vec![part])]);
        assert_eq!(client.call(7, &request).topics[0].partitions[0].error_code, 0);
    }
    drop(log);
    let log = start(&dir).await;
    let mut client = Client::connect(log.addr());
    let topic =
        OffsetFetchRequestTopic::default().with_name(common::topic_name("events")).with_partition_indexes(vec![2]);
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![topic]));
    assert_eq!(client.call(5, &request).topics[0].partitions[0].committed_offset, 49);
    assert_eq!(client.create_topic("events", 4, &[]), ResponseError::TopicAlreadyExists.code());
    log.shutdown().await.unwrap();
}
