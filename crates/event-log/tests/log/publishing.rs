//! Publishing: what flush and handles tell, where records go, what happens when the log is away.

use std::time::Duration;

use event_log::{EventReader, LogConfig, LogError, Publisher, partition_for};

use crate::broker::{PATIENCE, block_on, config, config_with, create_topic, free_port, owned, read};

#[test]
fn flush_tells_of_a_refused_record_once_and_the_others_are_there() {
    create_topic("small-only", 1, &[("max.message.bytes", "1000")]);
    let publisher = Publisher::open(&config()).unwrap();
    publisher.publish("small-only", b"a", Some(b"fits"), &[], None).unwrap();
    publisher.flush(PATIENCE).unwrap();

    // The broker refuses it, so only the acknowledgement can tell.
    publisher.publish("small-only", b"b", Some(&[7; 5000]), &[], None).unwrap();
    let refused = LogError::TooLarge { topic: "small-only".into(), bytes: 5001 };
    let expected = LogError::FlushFailed { failed: 1, first: Box::new(refused.clone()) };
    assert_eq!(publisher.flush(PATIENCE), Err(expected));

    publisher.publish("small-only", b"c", Some(b"fits too"), &[], None).unwrap();
    assert_eq!(publisher.flush(PATIENCE), Ok(()));

    // A record with a handle of its own is no matter of the flush.
    let handle = publisher.send("small-only", b"d", Some(&[7; 5000]), &[], None).unwrap();
    assert_eq!(block_on(handle), Err(refused));
    assert_eq!(publisher.flush(PATIENCE), Ok(()));

    let mut reader = EventReader::open(&config(), "small-only", &[]).unwrap();
    let keys: Vec<_> = read(&mut reader, 2).into_iter().map(|record| record.key.unwrap()).collect();
    assert_eq!(keys, [b"a", b"c"]);
}

#[test]
fn a_record_beyond_the_clients_own_limit_is_refused_at_once_and_not_counted() {
    create_topic("limit", 1, &[]);
    let publisher = Publisher::open(&config()).unwrap();
    let value = vec![0; 2_000_000];
    let refused = publisher.publish("limit", b"k", Some(&value), &[], None);
    assert_eq!(refused, Err(LogError::TooLarge { topic: "limit".into(), bytes: 2_000_001 }));
    assert_eq!(publisher.flush(PATIENCE), Ok(()));
}

#[test]
fn an_acknowledged_record_is_where_the_answer_says_and_where_its_key_belongs() {
    const PARTITIONS: i32 = 7;
    create_topic("keyed", PARTITIONS, &[]);
    let publisher = Publisher::open(&config()).unwrap();
    let mut expected = Vec::new();
    for i in 0..100 {
        let key = "k".repeat(i % 9) + &i.to_string();
        let place = block_on(publisher.publish_and_wait("keyed", key.as_bytes(), Some(b"v"), &[], None)).unwrap();
        assert_eq!(place.partition, partition_for(key.as_bytes(), PARTITIONS), "{key}");
        expected.push((place, key));
    }
    let mut reader = EventReader::open(&config(), "keyed", &[]).unwrap();
    let found = read(&mut reader, 100).into_iter();
    let mut found: Vec<_> =
        found.map(|record| (record.position, String::from_utf8(record.key.unwrap()).unwrap())).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_full_queue_pushes_back_and_a_log_that_is_away_is_told_by_flush() {
    let unused = format!("127.0.0.1:{}", free_port());
    let mut config = LogConfig::new(unused, "test");
    config.extra = owned(&[("queue.buffering.max.messages", "10"), ("message.timeout.ms", "10000")]);
    let publisher = Publisher::open(&config).unwrap();
    for _ in 0..10 {
        publisher.try_publish("away", b"k", Some(b"v"), &[], None).unwrap();
    }
    assert_eq!(publisher.try_publish("away", b"k", Some(b"v"), &[], None), Err(LogError::QueueFull));
    assert_eq!(publisher.in_flight(), 10);

    let too_short = publisher.flush(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(&too_short, LogError::TimedOut { what, .. } if what.contains("10 records")), "{too_short}");
    let failed = publisher.flush(PATIENCE).unwrap_err();
    assert!(matches!(&failed, LogError::FlushFailed { failed: 10, .. }), "{failed}");
    assert_eq!(publisher.flush(PATIENCE), Ok(()));
}

#[test]
fn a_topic_that_does_not_exist_is_told_by_the_handle() {
    let publisher = Publisher::open(&config_with(&[("topic.metadata.propagation.max.ms", "500")])).unwrap();
    let answer = block_on(publisher.publish_and_wait("none-such-to-publish", b"k", Some(b"v"), &[], None));
    assert_eq!(answer, Err(LogError::TopicMissing { topic: "none-such-to-publish".into() }));
    let answer = publisher.publish("a\0b", b"k", None, &[], None);
    assert_eq!(answer, Err(LogError::BadName { name: "a\0b".into() }));
}
