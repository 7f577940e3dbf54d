//! Reading a compacted topic to its end.

use std::time::{Duration, Instant};

use event_log::{CompactedTopic, LogError, Publisher, read_compacted};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::{PATIENCE, at, brokers, config, create_topic, delete_records, fill};

#[test]
fn the_latest_value_of_each_key_is_read_and_tombstones_are_dropped() {
    create_topic("compacted", 3, &[("cleanup.policy", "compact")]);
    assert_eq!(read_compacted(&config(), "compacted", PATIENCE).unwrap(), CompactedTopic::default());

    let publisher = Publisher::open(&config()).unwrap();
    for round in 0..5 {
        for key in 0..20 {
            let (key, value) = (format!("key-{key}"), format!("{key}/{round}"));
            publisher.publish("compacted", key.as_bytes(), Some(value.as_bytes()), &[], None).unwrap();
        }
    }
    for key in ["key-3", "key-4", "never-there"] {
        publisher.publish("compacted", key.as_bytes(), None, &[], None).unwrap();
    }
    // A key that comes back after its tombstone is there.
    publisher.publish("compacted", b"key-4", Some(b"back"), &[], None).unwrap();
    publisher.flush(PATIENCE).unwrap();

    let CompactedTopic { records, taken } = read_compacted(&config(), "compacted", PATIENCE).unwrap();
    assert_eq!(taken, 5 * 20 + 3 + 1, "tombstones and what they replace count");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found: Vec<_> = records.iter().map(|record| (text(&record.key), text(&record.value))).collect();
    found.sort();
    let mut expected: Vec<_> = (0..20)
        .filter(|key| *key != 3)
        .map(|key| (format!("key-{key}"), if key == 4 { "back".to_owned() } else { format!("{key}/4") }))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    assert!(records.is_sorted_by_key(|record| record.position));
}

#[test]
fn a_partition_whose_last_records_are_gone_does_not_keep_the_reader_waiting() {
    create_topic("emptied", 2, &[]);
    fill("emptied", 2, 10);
    delete_records("emptied", &[at(0, 10), at(1, 8)]);
    let records = read_compacted(&config(), "emptied", PATIENCE).unwrap().records;
    assert_eq!(records.iter().map(|record| record.position).collect::<Vec<_>>(), [at(1, 8), at(1, 9)]);
}

#[test]
fn a_partition_that_ends_in_no_record_does_not_keep_the_reader_waiting() {
    create_topic("marker-last", 1, &[("cleanup.policy", "compact")]);
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers()).set("transactional.id", "marker-last");
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::to("marker-last").key("k").payload("v")).unwrap();
    producer.commit_transaction(PATIENCE).unwrap();
    // The commit marker takes offset 1, the last one. The broker writes it after it answered.
    let deadline = Instant::now() + PATIENCE;
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
    while consumer.fetch_watermarks("marker-last", 0, PATIENCE).unwrap() != (0, 2) {
        assert!(Instant::now() < deadline, "the transaction is not finished");
    }
    let records = read_compacted(&config(), "marker-last", PATIENCE).unwrap().records;
    assert_eq!(records.iter().map(|record| record.position).collect::<Vec<_>>(), [at(0, 0)]);
}

#[test]
fn a_deadline_that_cannot_be_kept_is_told() {
    create_topic("hurried", 1, &[]);
    fill("hurried", 1, 10);
    let error = read_compacted(&config(), "hurried", Duration::ZERO).unwrap_err();
    assert!(matches!(error, LogError::TimedOut { .. }), "{error}");
}
