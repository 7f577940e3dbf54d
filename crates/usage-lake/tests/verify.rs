//! `verify` finds what is wrong with a lake, and nothing where all is well.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use support::{mixed_unit, open, unit};
use usage_lake::{Finding, Lake, OffsetRange, VerifyReport, verify};

async fn check(folder: &Path) -> VerifyReport {
    let lake = Lake::open_existing(folder.to_str().unwrap()).await.unwrap();
    verify(&lake).await.unwrap()
}

/// Replaces one line of a log entry: what a program that broke the lake would have left there.
fn tamper(log: &Path, version: u64, from: &str, to: &str) {
    let entry = log.join(format!("{version:020}.json"));
    let text = std::fs::read_to_string(&entry).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(entry, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn a_sound_lake_has_no_finding_and_every_offset_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(mixed_unit(0)).await.unwrap();
    lake.commit(unit(0, 10..200)).await.unwrap();
    lake.commit(unit(7, 1000..1100)).await.unwrap();
    let report = check(folder.path()).await;
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.usage_rows, report.too_late_rows, report.rejected_rows), (296, 1, 1));
    let first = &report.partitions[0];
    assert_eq!((first.start, first.end, first.accepted, first.duplicate, first.holes), (0, 200, 196, 1, 1));
    assert_eq!((report.partitions[1].start, report.partitions[1].end), (1000, 1100));
}

#[tokio::test]
async fn a_lost_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..50)).await.unwrap();
    lake.commit(unit(0, 50..80)).await.unwrap();
    // The entry still counts its rows but no longer adds their file.
    let log = folder.path().join("usage/_delta_log");
    let entry = log.join(format!("{:020}.json", 2));
    let text = std::fs::read_to_string(&entry).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("{\"add\"")).collect();
    std::fs::write(&entry, kept.join("\n")).unwrap();
    let report = check(folder.path()).await;
    let missing = Finding::WrongCount { table: "usage", partition: 0, start: 50, end: 80, accounted: 30, found: 0 };
    assert_eq!(report.findings, [missing]);
}

#[tokio::test]
async fn rows_that_are_there_twice_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    // Two offsets with one id: a deduplication that failed.
    let mut twice = unit(0, 0..5);
    let mut buffer = usage_lake::RowBuffer::new();
    let (event, id) = (support::event(0, 3), support::id(0, 3));
    let position = support::position(0, 5);
    let cost = support::cost(3);
    let row = usage_lake::RowRef {
        event: &event,
        time: event.time,
        cost,
        unpriced_reason: None,
        position,
        late: false,
        clamped: false,
        id: &id,
        kind: usage_lake::RowKind::Usage,
        corrects: None,
        reverses: None,
    };
    buffer.push(row).unwrap();
    twice.rows.extend(buffer.take().unwrap());
    twice.ranges[0] = OffsetRange { start: 0, end: 6, accepted: 6, ..OffsetRange::default() };
    lake.commit(twice).await.unwrap();
    // One offset twice: the rows of 8..10 under the account of 6..10, counted as four.
    let mut wrong = unit(0, 8..10);
    wrong.rows.extend(support::rows(0, 8..10));
    wrong.ranges[0] = OffsetRange { start: 6, end: 10, accepted: 4, ..OffsetRange::default() };
    lake.commit(wrong).await.unwrap();
    let report = check(folder.path()).await;
    let findings = &report.findings;
    let same_id = |id: &str, positions: [(i32, i64); 2]| Finding::DuplicateId {
        source: "gateway/eu-1".into(),
        id: id.into(),
        positions: positions.to_vec(),
    };
    for expected in [
        same_id("event-0-3", [(0, 3), (0, 5)]),
        same_id("event-0-8", [(0, 8), (0, 8)]),
        Finding::DuplicateOffset { table: "usage", partition: 0, offset: 8 },
        Finding::DuplicateOffset { table: "usage", partition: 0, offset: 9 },
        Finding::WrongCount { table: "usage", partition: 0, start: 6, end: 10, accounted: 4, found: 2 },
    ] {
        assert!(findings.contains(&expected), "{expected} is not among {findings:?}");
    }
    assert_eq!(report.findings_count, 6);
}

#[tokio::test]
async fn accounts_that_do_not_hold_together_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..50)).await.unwrap();
    lake.commit(unit(0, 50..80)).await.unwrap();
    let log = folder.path().join("usage/_delta_log");
    tamper(&log, 2, "\"start\":50", "\"start\":52");
    tamper(
        &log,
        2,
        "\"appId\":\"outlay/usage.events/0\",\"version\":80",
        "\"appId\":\"outlay/usage.events/0\",\"version\":90",
    );
    let report = check(folder.path()).await;
    for expected in [
        Finding::NotContiguous { partition: 0, version: 2, expected: 50, start: 52 },
        Finding::TooManyEvents { partition: 0, version: 2, offsets: 28, events: 30 },
        Finding::WrongEnd { partition: 0, accounts_end: 80, committed: 90 },
        Finding::WrongCount { table: "usage", partition: 0, start: 52, end: 80, accounted: 30, found: 28 },
    ] {
        assert!(report.findings.contains(&expected), "{expected} is not among {:?}", report.findings);
    }
}

#[tokio::test]
async fn a_side_table_ahead_of_its_unit_is_pending_and_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    let log = folder.path().join("usage/_delta_log");
    let aside = folder.path().join("aside");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::write(&log, "in the way").unwrap();
    lake.commit(mixed_unit(0)).await.unwrap_err();
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    let report = check(folder.path()).await;
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.pending_rows, report.usage_rows), (2, 0));
}
