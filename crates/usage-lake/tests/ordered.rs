//! Rows in the order of their time, from files that overlap and with corrections applied.
#![allow(clippy::unwrap_used)]

mod support;

use futures::TryStreamExt;
use support::{DAY, cost, event, id, open, position, push};
use usage_lake::{CommitUnit, Lake, LakeError, OffsetRange, OrderedRead, OrderedRows, RowBuffer, RowKind, RowRef};
use usage_types::{Dimension, DimensionSet, TimeUs};

const TO: TimeUs = TimeUs(DAY + TimeUs::DAY);

fn read(from: TimeUs, to: TimeUs) -> OrderedRead {
    let dimensions = DimensionSet::of(&[Dimension::Namespace, Dimension::User]);
    OrderedRead { from, to, dimensions, tags: false, tail: Vec::new(), memory_mib: 64 }
}

/// What is compared of a row: time, id, kind, tokens, cost and the dimensions that were asked for.
type Row = (TimeUs, String, RowKind, u64, Option<i128>, Option<String>, Option<String>);

async fn in_order(lake: &Lake, read: OrderedRead) -> Vec<Row> {
    let groups: Vec<OrderedRows> = lake.files().in_order(read).try_collect().await.unwrap();
    let mut rows = Vec::new();
    for group in &groups {
        let before = rows.len();
        group
            .each(|row| {
                let text = |dimension| row.dimensions.get(dimension).map(str::to_owned);
                // Rows of the tail, of partition 3, have all columns.
                assert!(row.position.partition == 3 || text(Dimension::Team).is_none(), "it was not asked for");
                rows.push((
                    row.time,
                    row.id.to_owned(),
                    row.kind,
                    row.tokens.total(),
                    row.cost.map(|cost| cost.amount.0),
                    text(Dimension::Namespace),
                    text(Dimension::User),
                ));
            })
            .unwrap();
        assert_eq!(rows.len() - before, group.len());
    }
    rows
}

/// The effective time that [`push`] gives a row.
fn time_of(offset: i64) -> TimeUs {
    if offset % 50 == 1 { position(0, offset).append_time } else { event(0, offset).time }
}

fn expected(offset: i64, time: TimeUs, own: i64, kind: RowKind) -> Row {
    let event = event(0, offset);
    let text = |dimension| event.dimensions.get(dimension).map(str::to_owned);
    let cost = cost(offset).map(|cost| cost.amount.0);
    (time, id(0, own), kind, event.tokens.total(), cost, text(Dimension::Namespace), text(Dimension::User))
}

/// Commits so many rows a file, in an order in which every file overlaps with others.
async fn shuffled(lake: &mut Lake, events: i64, files: i64) {
    for file in 0..files {
        let mut buffer = RowBuffer::new();
        // Late ones of the first half come in the second half's files.
        let offsets: Vec<i64> = (0..events).filter(|offset| (offset * 7 + offset / 13) % files == file).collect();
        offsets.iter().rev().for_each(|offset| push(&mut buffer, 0, *offset));
        lake.commit(unit(buffer, file, offsets.len())).await.unwrap();
    }
}

/// A unit whose place in the log is made up: what is read here does not depend on it.
fn unit(mut buffer: RowBuffer, partition: i64, rows: usize) -> CommitUnit {
    let partition = i32::try_from(partition).unwrap() + 10;
    let (end, accepted) = (rows as i64, rows as u64);
    CommitUnit {
        rows: buffer.take().unwrap(),
        ranges: vec![OffsetRange { partition, start: 0, end, accepted, ..OffsetRange::default() }],
        ..CommitUnit::default()
    }
}

#[tokio::test]
async fn rows_of_overlapping_files_come_in_the_order_of_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    shuffled(&mut lake, 3_000, 9).await;
    let mut all: Vec<Row> = (0..3_000).map(|at| expected(at, time_of(at), at, RowKind::Usage)).collect();
    all.sort_by_key(|row| row.0);
    let found = in_order(&lake, read(TimeUs(DAY - TimeUs::DAY), TO)).await;
    assert!(found.windows(2).all(|pair| pair[0].0 <= pair[1].0), "out of order");
    let by_id = |rows: &[Row]| {
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        rows
    };
    assert_eq!(by_id(&found), by_id(&all));

    // A part of the time, half-open.
    let (from, to) = (time_of(700), time_of(1_300));
    let part = in_order(&lake, read(from, to)).await;
    let wanted: Vec<Row> = by_id(&all).into_iter().filter(|row| row.0 >= from && row.0 < to).collect();
    assert!(wanted.len() > 500 && part.iter().any(|row| row.0 == from), "the first row is there");
    assert_eq!(by_id(&part), wanted);
    assert!(lake.files().rows_between(from, to) >= wanted.len() as u64);
    assert_eq!(lake.files().rows_between(TO, TO.plus_us(TimeUs::DAY)), 0);
}

#[tokio::test]
async fn what_was_taken_back_is_left_out_with_what_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    shuffled(&mut lake, 200, 4).await;
    let mut buffer = RowBuffer::new();
    let mut correct = |offset: i64, original: i64, reverses: Option<i64>, amends: bool| {
        let (corrects, own) = (id(0, original), id(0, offset));
        let reverses_id = reverses.map(|offset| id(0, offset));
        let kinds = reverses.map(|of| (of, RowKind::Reversal)).into_iter();
        for (of, kind) in kinds.chain(amends.then_some((offset, RowKind::Amendment))) {
            let row = RowRef {
                event: &event(0, of),
                time: time_of(original),
                cost: cost(of),
                unpriced_reason: None,
                position: position(0, offset),
                late: true,
                clamped: false,
                id: &own,
                kind,
                corrects: Some(&corrects),
                reverses: reverses_id.as_deref(),
            };
            buffer.push(row).unwrap();
        }
    };
    // 5 is void; 7 is amended twice; 8 is void and amended then; what 900 takes back is not there.
    correct(300, 5, Some(5), false);
    correct(301, 7, Some(7), true);
    correct(302, 7, Some(301), true);
    correct(303, 8, Some(8), false);
    correct(304, 8, None, true);
    correct(305, 9, Some(900), false);
    lake.commit(unit(buffer, 5, 6)).await.unwrap();

    let mut wanted: Vec<Row> = (0..200)
        .filter(|offset| ![5, 7, 8].contains(offset))
        .map(|offset| expected(offset, time_of(offset), offset, RowKind::Usage))
        .collect();
    wanted.push(expected(302, time_of(7), 302, RowKind::Amendment));
    wanted.push(expected(304, time_of(8), 304, RowKind::Amendment));
    wanted.push(expected(900, time_of(9), 305, RowKind::Reversal));
    let sorted = |mut rows: Vec<Row>| {
        rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        rows
    };
    let found = in_order(&lake, read(TimeUs(DAY - TimeUs::DAY), TO)).await;
    assert_eq!(sorted(found), sorted(wanted));
}

#[tokio::test]
async fn rows_of_the_tail_are_among_those_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    shuffled(&mut lake, 100, 2).await;
    let mut tail = RowBuffer::new();
    [40_i64, 150, 60].iter().for_each(|offset| push(&mut tail, 3, *offset));
    let read = OrderedRead { tail: tail.take().unwrap(), ..read(TimeUs(DAY), TO) };
    let found = in_order(&lake, read).await;
    let at = |wanted: String| found.iter().position(|row| row.1 == wanted).unwrap();
    assert!(at(id(3, 40)) < at(id(0, 62)) && at(id(3, 60)) > at(id(3, 40)) && at(id(3, 150)) == found.len() - 1);
}

#[tokio::test]
async fn files_that_overlap_too_much_are_refused_with_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    shuffled(&mut lake, 20_000, 3).await;
    let read = OrderedRead { memory_mib: 1, ..read(TimeUs(DAY), TO) };
    let error = lake.files().in_order(read).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, LakeError::Unordered { limit_mib: 1 }), "{error}");
}
