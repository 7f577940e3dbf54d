//! A real broker from `scripts/kafka.sh`, and what tests do to it past the crate under test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use event_log::{EventReader, LogConfig, LogError, Position, Publisher, RecordView, TopicSpec, ensure_topics};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

#[path = "../../../../tests/free_port.rs"]
mod free_port;

pub use free_port::free_port;

/// Long enough for a busy machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Address of the broker that the tests of this binary share. It ends with this process.
pub fn brokers() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let pid = std::process::id().to_string();
        let dir = std::env::temp_dir().join(format!("outlay-event-log-test-{pid}"));
        start(&["--port", "0", "--heap", "384m", "--owner", &pid, "--dir", dir.to_str().unwrap()])
    })
}

fn start(options: &[&str]) -> String {
    let (succeeded, address, said) = kafka_sh(&[&["start"], options].concat());
    assert!(
        succeeded,
        "these tests need a real Kafka, which scripts/kafka.sh could not start (Java 17 and, for the first run, Maven must be \
         installed):\n{said}"
    );
    address
}

fn kafka_sh(arguments: &[&str]) -> (bool, String, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka.sh");
    let output = Command::new(script).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {script}: {error}; these tests need bash"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// A broker of one test's own, to be stopped and started again.
pub struct OwnBroker {
    pub dir: PathBuf,
    pub address: String,
}

impl OwnBroker {
    pub fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("outlay-event-log-test-{}-{name}", std::process::id()));
        let address = Self::run(&dir, "0");
        Self { dir, address }
    }

    pub fn stop(&self) {
        let (succeeded, _, said) = kafka_sh(&["stop", "--dir", self.dir.to_str().unwrap()]);
        assert!(succeeded, "{said}");
    }

    pub fn start_again(&self) {
        let port = self.address.rsplit(':').next().unwrap();
        assert_eq!(Self::run(&self.dir, port), self.address);
    }

    pub fn config(&self) -> LogConfig {
        let mut config = LogConfig::new(&self.address, "event-log-test");
        // A broker may take longer to start again than a record usually waits for it.
        config.extra = owned(&[("message.timeout.ms", "300000")]);
        config
    }

    fn run(dir: &Path, port: &str) -> String {
        let pid = std::process::id().to_string();
        start(&["--port", port, "--heap", "320m", "--owner", &pid, "--dir", dir.to_str().unwrap()])
    }
}

pub fn config() -> LogConfig {
    LogConfig::new(brokers(), "event-log-test")
}

pub fn config_with(extra: &[(&str, &str)]) -> LogConfig {
    let mut config = config();
    config.extra = owned(extra);
    config
}

pub fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn spec(name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, replication: 1, configs: owned(configs) }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Polls until the reader stops with an error; returns it with what was delivered before.
pub fn read_until_error(reader: &mut EventReader) -> (Vec<OwnedRecord>, LogError) {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "no error came, but {} records", records.len());
        match reader.poll_batch(1000, Duration::from_millis(100)) {
            Ok(batch) => records.extend(batch.iter().map(|record| OwnedRecord::from(&record))),
            Err(error) => return (records, error),
        }
    }
}

pub fn create_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let reports = block_on(ensure_topics(&config(), &[spec(name, partitions, configs)])).unwrap();
    assert!(reports[0].created, "{name} is used by another test");
}

pub fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap()
}

/// Deletes everything before the given offsets, as retention would.
pub fn delete_records(topic: &str, before: &[Position]) {
    let mut list = TopicPartitionList::new();
    for position in before {
        list.add_partition_offset(topic, position.partition, Offset::Offset(position.offset)).unwrap();
    }
    let done = block_on(admin().delete_records(&list, &AdminOptions::new())).unwrap();
    for element in done.elements() {
        element.error().unwrap();
    }
}

/// Publishes `count` records to each partition: the value of the one at offset `i` is `i` as text.
pub fn fill(topic: &str, partitions: i32, count: i64) {
    let publisher = Publisher::open(&config()).unwrap();
    for i in 0..count {
        for partition in 0..partitions {
            let text = i.to_string();
            publisher.publish(topic, text.as_bytes(), Some(text.as_bytes()), &[], Some(partition)).unwrap();
        }
    }
    publisher.flush(PATIENCE).unwrap();
}

/// Reads until `count` records have come.
pub fn read(reader: &mut EventReader, count: usize) -> Vec<OwnedRecord> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", records.len());
        let batch = reader.poll_batch(1000, Duration::from_millis(100)).unwrap();
        records.extend(batch.iter().map(|record| OwnedRecord::from(&record)));
    }
    records
}

pub fn at(partition: i32, offset: i64) -> Position {
    Position { partition, offset }
}

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// A record with memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Where it is.
    pub position: Position,
    /// When the log appended it, in milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone on a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Name and value of each header.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl From<&RecordView<'_>> for OwnedRecord {
    fn from(record: &RecordView<'_>) -> Self {
        Self {
            position: Position { partition: record.partition, offset: record.offset },
            append_time_ms: record.append_time_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        }
    }
}
