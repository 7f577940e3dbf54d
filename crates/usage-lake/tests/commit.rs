//! Commits: offsets move with rows, once, and only from where they were.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use futures::TryStreamExt;
use support::{DAY, cost, event, id, mixed_unit, open, unit};
use usage_lake::{Lake, LakeError, OffsetRange, ReplayColumns, ReplayFrom};
use usage_types::{Dimension, TimeUs};

async fn replay(lake: &Lake, from: ReplayFrom) -> Vec<arrow::array::RecordBatch> {
    lake.replay(from, ReplayColumns::All).try_collect().await.unwrap()
}

fn count(batches: &[arrow::array::RecordBatch]) -> usize {
    batches.iter().map(arrow::array::RecordBatch::num_rows).sum()
}

#[tokio::test]
async fn offsets_and_rows_survive_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    assert_eq!(lake.offsets(), BTreeMap::new());
    lake.commit(unit(0, 0..120)).await.unwrap();
    lake.commit(unit(3, 7..40)).await.unwrap();
    lake.commit(unit(0, 120..130)).await.unwrap();
    let version = lake.version();
    drop(lake);

    let lake = open(folder.path()).await;
    assert_eq!(lake.offsets(), BTreeMap::from([(0, 130), (3, 40)]));
    assert_eq!(lake.version(), version);
    assert_eq!(count(&replay(&lake, ReplayFrom::default()).await), 130 + 33);
}

#[tokio::test]
async fn offsets_survive_a_delta_checkpoint_and_the_commits_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    for at in 0..53 {
        lake.commit(unit(at % 3, i64::from(at / 3)..i64::from(at / 3) + 1)).await.unwrap();
    }
    let offsets = lake.offsets();
    drop(lake);
    let log = folder.path().join("usage/_delta_log");
    assert!(log.join("00000000000000000050.checkpoint.parquet").exists(), "no checkpoint was written");
    // With the entries before the checkpoint gone, only the checkpoint can tell.
    for version in 0..50 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let lake = open(folder.path()).await;
    assert_eq!(lake.offsets(), offsets);
    assert_eq!(count(&replay(&lake, ReplayFrom::default()).await), 53);
}

#[tokio::test]
async fn a_range_that_does_not_continue_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..10)).await.unwrap();
    let gap = lake.commit(unit(0, 11..12)).await.unwrap_err();
    assert!(matches!(gap, LakeError::Gap { partition: 0, start: 11, committed: 10 }), "{gap}");
    let overlap = lake.commit(unit(0, 9..12)).await.unwrap_err();
    assert!(matches!(overlap, LakeError::Overlap { partition: 0, start: 9, committed: 10 }), "{overlap}");
    let mut wrong = unit(0, 10..12);
    wrong.ranges[0].accepted = 3;
    assert!(matches!(lake.commit(wrong).await, Err(LakeError::BadUnit(_))));
    assert_eq!(open(folder.path()).await.offsets(), BTreeMap::from([(0, 10)]));
}

#[tokio::test]
async fn of_two_writers_of_one_partition_the_second_gets_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path()).await;
    first.commit(unit(0, 0..10)).await.unwrap();
    let mut second = open(folder.path()).await;
    first.commit(unit(0, 10..20)).await.unwrap();
    let conflict = second.commit(unit(0, 10..20)).await.unwrap_err();
    assert!(matches!(conflict, LakeError::Conflict { table: "usage", .. }), "{conflict}");
    let lake = open(folder.path()).await;
    assert_eq!(lake.offsets(), BTreeMap::from([(0, 20)]));
    assert_eq!(count(&replay(&lake, ReplayFrom::default()).await), 20);
}

#[tokio::test]
async fn writers_of_different_partitions_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path()).await;
    let mut second = open(folder.path()).await;
    for step in 0..4 {
        first.commit(unit(0, step * 5..step * 5 + 5)).await.unwrap();
        let committed = second.commit(unit(1, step * 5..step * 5 + 5)).await.unwrap();
        assert_eq!(committed.files.usage.len() as i64, 2 * (step + 1), "a reader misses the other writer's files");
    }
    let lake = open(folder.path()).await;
    assert_eq!(lake.offsets(), BTreeMap::from([(0, 20), (1, 20)]));
    assert_eq!(count(&replay(&lake, ReplayFrom::default()).await), 40);
}

#[tokio::test]
async fn a_repeated_unit_adds_nothing_twice_to_the_side_tables() {
    let folder = tempfile::tempdir().unwrap();
    // The side tables are written and then the process dies before `usage`: the same unit comes again.
    let mut lake = open(folder.path()).await;
    let usage_log = folder.path().join("usage/_delta_log");
    let aside = folder.path().join("aside");
    std::fs::rename(&usage_log, &aside).unwrap();
    std::fs::write(&usage_log, "in the way").unwrap();
    assert!(lake.commit(mixed_unit(0)).await.is_err(), "the commit could not be made to fail");
    drop(lake);
    std::fs::remove_file(&usage_log).unwrap();
    std::fs::rename(&aside, &usage_log).unwrap();

    let mut lake = open(folder.path()).await;
    assert_eq!(lake.offsets(), BTreeMap::new());
    lake.commit(mixed_unit(0)).await.unwrap();
    let files = lake.files();
    let rows = |files: &[std::sync::Arc<usage_lake::FileRef>]| files.iter().map(|file| file.rows).sum::<u64>();
    assert_eq!((rows(&files.usage), rows(&files.too_late), rows(&files.rejected)), (6, 1, 1));
}

#[tokio::test]
async fn accounts_hold_every_commit_after_opening() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(mixed_unit(0)).await.unwrap();
    lake.commit(unit(0, 10..12)).await.unwrap();
    assert_eq!(lake.files().accounts_tail.len(), 2, "fresh accounts are readable at once");
    drop(lake);
    let lake = open(folder.path()).await;
    let files = lake.files();
    assert!(files.accounts_tail.is_empty());
    assert_eq!(files.accounts.iter().map(|file| file.rows).sum::<u64>(), 2);
    let ranges: Vec<OffsetRange> =
        lake.read_accounts().await.unwrap().into_iter().map(|account| account.range).collect();
    assert_eq!((ranges[0].start, ranges[0].end, ranges[0].duplicate), (0, 10, 1));
    assert_eq!((ranges[1].start, ranges[1].end, ranges[1].accepted), (10, 12, 2));
    // Opening again fills nothing twice.
    drop(lake);
    assert_eq!(open(folder.path()).await.read_accounts().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_replay_gives_back_what_was_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(2, 0..400)).await.unwrap();
    // The decoder reads the lake and a tail alike.
    let mut batches = replay(&lake, ReplayFrom::default()).await;
    batches.extend(support::rows(2, 400..450));
    let mut seen = 0;
    let mut offsets = Vec::new();
    for batch in &batches {
        for row in usage_lake::rows(batch).unwrap() {
            let row = row.unwrap();
            let offset = row.position.offset;
            let sent = event(2, offset);
            assert_eq!(row.id, id(2, offset));
            assert_eq!(row.source, sent.source);
            assert_eq!(row.dimensions, sent.dimensions, "offset {offset}");
            assert_eq!(row.dimensions.get(Dimension::Team).is_some(), offset % 4 != 0);
            assert_eq!((row.tokens, row.requests, row.tool_calls), (sent.tokens, sent.requests, sent.tool_calls));
            assert_eq!((row.compute, row.cost), (sent.compute, cost(offset)));
            assert_eq!(row.position, support::position(2, offset));
            assert_eq!(row.clamped, offset % 50 == 1);
            let own_time = row.sent_time.unwrap_or(row.time);
            assert_eq!((own_time, row.late), (sent.time, offset % 100 == 99));
            let tags = row.tags.map(|text| serde_json::from_str::<BTreeMap<String, String>>(text).unwrap());
            let sent_tags: BTreeMap<String, String> =
                sent.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(tags.unwrap_or_default(), sent_tags);
            offsets.push(offset);
            seen += 1;
        }
    }
    offsets.sort_unstable();
    assert_eq!((seen, offsets), (450, (0..450).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_replay_opens_only_files_that_can_hold_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..100)).await.unwrap();
    lake.commit(unit(0, 100..150)).await.unwrap();
    // Yesterday's one row lies in a file of its own date.
    assert_eq!(lake.files().usage.len(), 3);
    let (files, since) = (lake.files(), TimeUs(DAY));
    let today = ReplayFrom { time: Some(since), log_time: None };
    // The files of a moment can be read while the lake commits.
    let (_, before) = futures::join!(
        async { lake.commit(unit(0, 150..160)).await.unwrap() },
        files.replay(today, ReplayColumns::Ids).try_collect::<Vec<_>>()
    );
    assert_eq!(count(&before.unwrap()), 149);
    assert_eq!(count(&replay(&lake, today).await), 159);
    let newest = ReplayFrom { time: None, log_time: Some(support::position(0, 120).append_time) };
    assert_eq!(count(&replay(&lake, newest).await), 60);
    let later = ReplayFrom { time: Some(TimeUs(DAY + TimeUs::DAY)), log_time: None };
    assert_eq!(count(&replay(&lake, later).await), 0);
}

#[tokio::test]
async fn only_local_folders_are_opened() {
    for location in ["s3://bucket/lake", "https://example.com/lake"] {
        let error = Lake::open(location).await.unwrap_err().to_string();
        assert!(error.contains("only local folders"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Lake::open_existing(folder.path().to_str().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("no lake"), "{error}");
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    Lake::open(url.as_str()).await.unwrap();
    assert!(folder.path().join("usage/_delta_log").is_dir());
}
