//! Retention, compaction, deletion of records: what goes, what stays, and that a crash in between does not matter.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Batch, Client, eventually, start_with, topic_name, values};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::records::{Compression, Record};
use local_log::LocalLog;
use tempfile::TempDir;

async fn start_eager(dir: &TempDir) -> LocalLog {
    start_with(dir, |config| config.maintenance_interval = Duration::from_millis(50)).await
}

fn segments(dir: &Path, topic: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("topics").join(topic).join("0")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|s| s == "log")).collect();
    segments.sort();
    segments
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// What a consumer that reads everything ends up with; a tombstone removes its key.
fn last_values(records: &[Record]) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for record in records {
        let key = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
        match &record.value {
            Some(value) => last.insert(key, String::from_utf8(value.to_vec()).unwrap()),
            None => last.remove(&key),
        };
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_the_last_record_of_each_key_at_its_offset() {
    let dir = TempDir::new().unwrap();
    let log = start_eager(&dir).await;
    let mut client = Client::connect(log.addr());
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "2000"), ("min.cleanable.dirty.ratio", "0.01")];
    assert_eq!(client.create_topic("state", 1, &configs), 0);
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut expected = BTreeMap::new();
    let mut by_offset = BTreeMap::new();
    let mut next = 0;
    for round in 0..200_usize {
        let records: Vec<(String, String)> = (0..5)
            .map(|at| {
                let key = format!("key {}", (round * 7 + at * 3) % 20);
                (key, if (round + at) % 17 == 0 { String::new() } else { format!("{round}.{at} {}", "x".repeat(40)) })
            })
            .collect();
        let borrowed: Vec<(&str, &str)> = records.iter().map(|(key, value)| (&**key, &**value)).collect();
        let batch = Batch { compression: codecs[round % 5], ..Batch::default() }.of(&borrowed);
        assert_eq!(client.produce("state", 0, batch).base_offset, next);
        for (key, value) in records {
            by_offset.insert(next, (key.clone(), value.clone()));
            match value.is_empty() {
                true => expected.remove(&key),
                false => expected.insert(key, value),
            };
            next += 1;
        }
    }
    let mut fewest = usize::MAX;
    eventually("most records are gone", || {
        let records = client.read_from("state", 0, 0);
        assert_eq!(last_values(&records), expected, "whatever compaction is doing");
        for record in &records {
            let key = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
            let value = String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap();
            assert_eq!(by_offset[&record.offset], (key, value), "offset {}", record.offset);
        }
        fewest = fewest.min(records.len());
        records.len() < 100
    });
    assert!(client.read_from("state", 0, 0).iter().any(|record| record.value.is_none()), "tombstones wait");
    log.shutdown().await.unwrap();
    let log = start_eager(&dir).await;
    let records = Client::connect(log.addr()).read_from("state", 0, 0);
    assert_eq!(last_values(&records), expected, "after a restart");
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_go_after_their_time_and_consumers_still_reach_the_end() {
    let dir = TempDir::new().unwrap();
    let log = start_eager(&dir).await;
    let mut client = Client::connect(log.addr());
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0"),
        ("delete.retention.ms", "0"),
    ];
    assert_eq!(client.create_topic("state", 1, &configs), 0);
    for (key, value) in [("a", "1"), ("b", "1"), ("a", ""), ("b", "2"), ("c", "")] {
        assert_eq!(client.produce("state", 0, Batch::default().of(&[(key, value)])).error_code, 0);
    }
    eventually("only what counts is left", || {
        let left: Vec<i64> = client.read_from("state", 0, 0).iter().map(|record| record.offset).collect();
        // The very last record stays, tombstone or not.
        left == [3, 4]
    });
    assert_eq!(client.produce("state", 0, Batch::default().of(&[("d", "1")])).base_offset, 5);
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_mid_compaction_leaves_the_old_or_the_new_never_both() {
    for crash in ["while writing aside", "after the result was whole", "while removing the old"] {
        let dir = TempDir::new().unwrap();
        let log = start_with(&dir, |config| config.maintenance_interval = Duration::from_secs(3600)).await;
        let mut client = Client::connect(log.addr());
        assert_eq!(client.create_topic("state", 1, &[("segment.bytes", "100")]), 0);
        for number in 0..6 {
            let value = number.to_string();
            assert_eq!(client.produce("state", 0, Batch::default().of(&[("key", &value)])).error_code, 0);
        }
        drop(log);
        let files = segments(dir.path(), "state");
        assert_eq!(files.len(), 6, "one batch each");
        let partition = files[0].parent().unwrap();
        // As compaction names its results: the last of the segments 0 to 3 stands for all four.
        let whole = partition.join(format!("{:020}-{:020}.swap", 0, 4));
        let expected: &[&str] = match crash {
            "while writing aside" => {
                fs::write(partition.join(format!("{:020}.cleaned", 0)), b"half a batch").unwrap();
                &["0", "1", "2", "3", "4", "5"]
            }
            "after the result was whole" => {
                fs::copy(&files[3], whole).unwrap();
                &["3", "4", "5"]
            }
            _ => {
                fs::copy(&files[3], whole).unwrap();
                fs::remove_file(&files[1]).unwrap();
                &["3", "4", "5"]
            }
        };
        let log = start_eager(&dir).await;
        let mut client = Client::connect(log.addr());
        assert_eq!(values(&client.read_from("state", 0, 0)), expected, "{crash}");
        assert_eq!(client.produce("state", 0, Batch::default().of(&[("key", "6")])).base_offset, 6);
        let leftovers = fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
        let unfinished = |path: &PathBuf| path.extension().is_some_and(|s| s == "swap" || s == "cleaned");
        assert_eq!(leftovers.filter(unfinished).count(), 0, "{crash}");
        log.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_whole_old_segments_and_moves_the_start() {
    let dir = TempDir::new().unwrap();
    let log = start_eager(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("by-time", 1, &[("segment.bytes", "1000"), ("retention.ms", "3600000")]), 0);
    assert_eq!(client.create_topic("by-size", 1, &[("segment.bytes", "1000"), ("retention.bytes", "3000")]), 0);
    let value = "x".repeat(400);
    let fresh = now_ms();
    for number in 0..20 {
        let age_ms = if number < 10 { 2 * 3_600_000 } else { 0 };
        let old = Batch { timestamp_ms: fresh - age_ms, ..Batch::default() }.of(&[("k", &value)]);
        assert_eq!(client.produce("by-time", 0, old).error_code, 0);
        let batch = Batch { timestamp_ms: fresh, ..Batch::default() }.of(&[("k", &value)]);
        assert_eq!(client.produce("by-size", 0, batch).error_code, 0);
    }
    let first = |client: &mut Client, topic: &str| {
        let out = client.fetch(topic, 0, 0, common::Fetch::default()).error_code;
        (out == ResponseError::OffsetOutOfRange.code())
            .then(|| client.fetch(topic, 0, 20, common::Fetch::default()).log_start_offset)
    };
    eventually("old records are gone", || first(&mut client, "by-time") == Some(10));
    eventually("so are those above the size", || first(&mut client, "by-size").is_some_and(|start| start >= 12));
    assert_eq!(client.read_from("by-time", 0, 10).len(), 10);
    // The files go after the log's start has moved, one by one.
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
    eventually("as many bytes are kept as shall be", || {
        let kept: u64 = segments(dir.path(), "by-size").iter().map(size).sum();
        (3000..5000).contains(&kept)
    });
    drop(log);
    let log = start_eager(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.fetch("by-time", 0, 20, common::Fetch::default()).log_start_offset, 10);
    log.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_stay_deleted_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut log = start_eager(&dir).await;
    let mut client = Client::connect(log.addr());
    assert_eq!(client.create_topic("events", 1, &[("segment.bytes", "150"), ("retention.ms", "-1")]), 0);
    for number in 0..10 {
        let value = number.to_string();
        assert_eq!(client.produce("events", 0, Batch::default().of(&[("k", &value)])).error_code, 0);
    }
    let delete = |client: &mut Client, offset: i64| {
        let part = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name("events")).with_partitions(vec![part]);
        let answer = client.call(2, &DeleteRecordsRequest::default().with_topics(vec![topic]));
        let part = &answer.topics[0].partitions[0];
        (part.error_code, part.low_watermark)
    };
    assert_eq!(delete(&mut client, 11), (ResponseError::OffsetOutOfRange.code(), -1));
    assert_eq!(delete(&mut client, 7), (0, 7));
    assert!(segments(dir.path(), "events").len() < 10);
    for _ in 0..2 {
        let below = client.fetch("events", 0, 6, common::Fetch::default()).error_code;
        assert_eq!(below, ResponseError::OffsetOutOfRange.code());
        assert_eq!(values(&client.read_from("events", 0, 7)), ["7", "8", "9"]);
        drop(log);
        log = start_eager(&dir).await;
        client = Client::connect(log.addr());
    }
    assert_eq!(delete(&mut client, -1), (0, 10));
    assert!(client.read_from("events", 0, 10).is_empty());
    log.shutdown().await.unwrap();
}
