//! Reading from given offsets: order, completeness, gaps.

use std::time::{Duration, Instant};

use event_log::{EventReader, LogConfig, LogError, Position, Publisher, Watermarks};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{
    OwnedRecord, PATIENCE, at, brokers, config, config_with, create_topic, delete_records, fill, free_port, now_ms,
    read, read_until_error,
};

fn of_partition(records: &[OwnedRecord], partition: i32) -> Vec<(i64, String)> {
    let mine = records.iter().filter(|record| record.position.partition == partition);
    mine.map(|record| (record.position.offset, String::from_utf8(record.value.clone().unwrap()).unwrap())).collect()
}

fn counting(offsets: std::ops::Range<i64>) -> Vec<(i64, String)> {
    offsets.map(|offset| (offset, offset.to_string())).collect()
}

#[test]
fn reads_each_partition_from_its_given_offset_in_order_and_again_the_same() {
    create_topic("re-read", 3, &[]);
    fill("re-read", 3, 1000);
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut reader = EventReader::open(&config(), "re-read", &[at(0, 100), at(2, 999)]).unwrap();
        assert_eq!(reader.partitions(), 3);
        let records = read(&mut reader, 900 + 1000 + 1);
        assert!(reader.poll_batch(10, Duration::from_millis(300)).unwrap().is_empty());
        runs.push([0, 1, 2].map(|partition| of_partition(&records, partition)));
    }
    assert_eq!(runs[0], [counting(100..1000), counting(0..1000), counting(999..1000)]);
    assert_eq!(runs[1], runs[0]);
}

#[test]
fn batch_boundaries_lose_and_repeat_nothing_over_100_000_records() {
    const PARTITIONS: i32 = 6;
    const PER_PARTITION: i64 = 100_000 / 6 + 1;
    create_topic("many", PARTITIONS, &[]);
    fill("many", PARTITIONS, PER_PARTITION);

    let mut reader = EventReader::open(&config(), "many", &[]).unwrap();
    let mut next = [0; PARTITIONS as usize];
    let deadline = Instant::now() + PATIENCE;
    for max in [1, 7, 64, 1000, 3, 10_000, 129].into_iter().cycle() {
        if next.iter().all(|offset| *offset == PER_PARTITION) {
            break;
        }
        assert!(Instant::now() < deadline, "stopped at {next:?}");
        let batch = reader.poll_batch(max, Duration::from_millis(50)).unwrap();
        assert!(batch.len() <= max, "{} records, but {max} were asked for", batch.len());
        for record in batch.iter() {
            let expected = &mut next[record.partition as usize];
            assert_eq!(record.offset, *expected, "partition {}", record.partition);
            assert_eq!(record.value.unwrap(), expected.to_string().as_bytes());
            *expected += 1;
        }
    }
    assert_eq!(next, [PER_PARTITION; PARTITIONS as usize]);
}

#[test]
fn a_batch_comes_with_the_first_record_and_does_not_wait_to_be_full() {
    create_topic("prompt", 1, &[]);
    let mut reader = EventReader::open(&config(), "prompt", &[]).unwrap();
    assert!(reader.poll_batch(1000, Duration::from_millis(200)).unwrap().is_empty());
    fill("prompt", 1, 1);
    let begin = Instant::now();
    assert_eq!(reader.poll_batch(1000, 10 * PATIENCE).unwrap().len(), 1);
    assert!(begin.elapsed() < PATIENCE, "waited {:?}", begin.elapsed());
}

#[test]
fn deleted_records_that_were_not_read_stop_the_reader_and_other_partitions_are_delivered() {
    create_topic("lost", 2, &[]);
    fill("lost", 2, 100);
    delete_records("lost", &[at(1, 60)]);

    // At the first offset that is left nothing is lost.
    let mut whole = EventReader::open(&config(), "lost", &[at(1, 60)]).unwrap();
    assert_eq!(read(&mut whole, 140).len(), 140);

    let mut reader = EventReader::open(&config(), "lost", &[at(0, 90), at(1, 59)]).unwrap();
    let (records, error) = read_until_error(&mut reader);
    assert_eq!(error, LogError::OffsetLost { topic: "lost".into(), partition: 1, offset: 59, low: 60, high: 100 });
    assert_eq!(of_partition(&records, 1), []);
    // It stays stopped: going on with the other partition would hide it.
    assert_eq!(reader.poll_batch(10, Duration::ZERO).map(|batch| batch.len()), Err(error));
}

#[test]
fn an_offset_behind_the_end_of_the_log_is_lost_too() {
    create_topic("shorter", 1, &[]);
    fill("shorter", 1, 10);
    let mut reader = EventReader::open(&config(), "shorter", &[at(0, 11)]).unwrap();
    let (records, error) = read_until_error(&mut reader);
    assert_eq!(error, LogError::OffsetLost { topic: "shorter".into(), partition: 0, offset: 11, low: 0, high: 10 });
    assert_eq!(records, []);
}

#[test]
fn a_record_comes_back_with_key_value_headers_and_append_time() {
    create_topic("whole", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let publisher = Publisher::open(&config()).unwrap();
    let headers: &[(&str, &[u8])] = &[("ce_type", b"usage"), ("raw", &[0, 255]), ("empty", b""), ("ce_type", b"again")];
    publisher.publish("whole", b"k", Some(b"v"), headers, None).unwrap();
    publisher.publish("whole", b"k", None, &[], None).unwrap();
    publisher.publish("whole", b"", Some(b""), &[], None).unwrap();
    publisher.flush(PATIENCE).unwrap();

    let mut reader = EventReader::open(&config(), "whole", &[]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut seen = 0;
    while seen < 3 {
        assert!(Instant::now() < deadline, "{seen} records came");
        let batch = reader.poll_batch(10, Duration::from_millis(100)).unwrap();
        for record in batch.iter() {
            match record.offset {
                0 => {
                    assert_eq!((record.key, record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
                    let expected: Vec<_> =
                        headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value))).collect();
                    assert_eq!(record.headers.iter().collect::<Vec<_>>(), expected);
                    assert_eq!(record.headers.get("ce_type"), Some(&b"again"[..]));
                    assert_eq!(record.headers.get("other"), None);
                }
                1 => assert_eq!((record.key, record.value, record.headers.len()), (Some(&b"k"[..]), None, 0)),
                _ => assert_eq!((record.key, record.value), (Some(&b""[..]), Some(&b""[..]))),
            }
            let slack_ms = 1000;
            assert!((before - slack_ms..now_ms() + slack_ms).contains(&record.append_time_ms), "{record:?}");
            seen += 1;
        }
    }
}

#[test]
fn every_codec_that_producers_use_can_be_read() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        // The broker recompresses whatever comes, so the log does hold this codec.
        create_topic(&topic, 1, &[("compression.type", codec)]);
        let publisher = Publisher::open(&config_with(&[("compression.type", codec), ("linger.ms", "20")])).unwrap();
        for i in 0..500 {
            let text = i.to_string();
            publisher.publish(&topic, b"", Some(text.as_bytes()), &[], None).unwrap();
        }
        publisher.flush(PATIENCE).unwrap_or_else(|error| panic!("{codec}: {error}"));
        let mut reader = EventReader::open(&config(), &topic, &[]).unwrap();
        assert_eq!(of_partition(&read(&mut reader, 500), 0), counting(0..500), "{codec}");
    }
}

#[test]
fn watermarks_follow_what_was_fetched() {
    create_topic("marks", 2, &[]);
    fill("marks", 2, 50);
    delete_records("marks", &[at(1, 20)]);
    let mut reader = EventReader::open(&config(), "marks", &[]).unwrap();
    read(&mut reader, 80);
    let expected = [Watermarks { partition: 0, low: 0, high: 50 }, Watermarks { partition: 1, low: 20, high: 50 }];
    assert_eq!(reader.watermarks(), expected);
}

#[test]
fn positions_committed_for_display_are_seen_by_kafkas_own_means() {
    create_topic("shown", 2, &[]);
    fill("shown", 2, 10);
    let mut reader = EventReader::open(&config(), "shown", &[]).unwrap();
    read(&mut reader, 20);

    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "never seen as committed");
        // Again on each turn: a broker that has just started has no coordinator for groups yet.
        reader.commit_for_display(&[at(0, 10), at(1, 7)]);
        reader.poll_batch(1, Duration::from_millis(100)).unwrap();
        if committed("outlay-shown", "shown", 2) == [Offset::Offset(10), Offset::Offset(7)] {
            return;
        }
    }
}

fn committed(group: &str, topic: &str, partitions: i32) -> Vec<Offset> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers()).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    // The list must be gone before its consumer is.
    let answer = consumer.committed_offsets(list, PATIENCE).unwrap();
    answer.elements().iter().map(|element| element.offset()).collect()
}

#[test]
fn a_missing_topic_or_partition_or_broker_is_told_when_opening() {
    create_topic("two", 2, &[]);
    let open = |config: &LogConfig, topic: &str, start: &[Position]| EventReader::open(config, topic, start).map(drop);
    assert_eq!(open(&config(), "none-such", &[]), Err(LogError::TopicMissing { topic: "none-such".into() }));
    let missing = LogError::PartitionMissing { topic: "two".into(), partition: 2, partitions: 2 };
    assert_eq!(open(&config(), "two", &[at(2, 0)]), Err(missing));

    let unused = format!("127.0.0.1:{}", free_port());
    let error = open(&LogConfig::new(&unused, "test"), "two", &[]).unwrap_err();
    assert!(matches!(&error, LogError::Unreachable { brokers, .. } if *brokers == unused), "{error}");

    let error = open(&config_with(&[("none.such.property", "1")]), "two", &[]).unwrap_err();
    assert!(matches!(&error, LogError::Config { reason } if reason.contains("none.such.property")), "{error}");
}

#[test]
fn a_paused_partition_goes_on_where_it_is_told_and_others_meanwhile() {
    create_topic("paused", 2, &[]);
    fill("paused", 2, 1000);
    let mut reader = EventReader::open(&config(), "paused", &[]).unwrap();
    // To the end, so that both ends were read, and to the middle: what was fetched beyond is fetched again.
    let mut read_all = read(&mut reader, 2000);
    assert!(reader.poll_batch(10, Duration::from_millis(300)).unwrap().is_empty());
    reader.pause(1).unwrap();
    fill("paused", 2, 500);
    let more = read(&mut reader, 500);
    assert_eq!(of_partition(&more, 1), []);
    assert!(reader.poll_batch(10, Duration::from_millis(300)).unwrap().is_empty());
    reader.resume(at(1, 1000)).unwrap();
    read_all.extend(more);
    read_all.extend(read(&mut reader, 500));
    for partition in [0, 1] {
        let offsets: Vec<i64> = of_partition(&read_all, partition).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, (0..1500).collect::<Vec<_>>(), "partition {partition}");
    }
}
