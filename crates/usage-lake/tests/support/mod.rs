//! Events for the tests, each a pure function of its offset.
#![allow(dead_code, clippy::unwrap_used)]

use std::borrow::Cow;

use arrow::array::RecordBatch;
use usage_lake::{CommitUnit, Lake, OffsetRange, RejectedRow, RowBuffer, RowKind, RowRef};
use usage_types::{
    ComputeNs, Cost, CostOrigin, Currency, Dimension, Dimensions, EventPosition, Pico, Progress, RejectCode, Rejection,
    TimeUs, Tokens, UsageEvent,
};

/// 2026-11-21T00:00:00Z, in microseconds.
pub const DAY: i64 = 1_795_219_200 * TimeUs::SECOND;

/// An event whose every field depends on its offset; every tenth has no price, every hundredth belongs to the day before.
pub fn event(partition: i32, offset: i64) -> UsageEvent<'static> {
    let mut dimensions = Dimensions::default();
    dimensions.set(Dimension::Namespace, Some(Cow::Owned(format!("ns-{}", offset % 3))));
    dimensions.set(Dimension::Team, (offset % 4 != 0).then(|| Cow::Owned(format!("team-{}", offset % 5))));
    dimensions.set(Dimension::User, Some(Cow::Owned(format!("u-{}", offset % 97))));
    dimensions.set(Dimension::Session, Some(Cow::Owned(format!("s-{}", offset % 50))));
    dimensions.set(Dimension::Model, Some(Cow::Borrowed("gpt-5.1")));
    let yesterday = if offset % 100 == 99 { TimeUs::DAY } else { 0 };
    UsageEvent {
        id: Some(Cow::Owned(id(partition, offset))),
        source: Cow::Borrowed("gateway/eu-1"),
        time: TimeUs(DAY + offset * 1_001 - yesterday),
        dimensions,
        tokens: Tokens { input: 900 + offset as u64, cache_read: 300, output: 80, reasoning: 40, ..Tokens::default() },
        requests: 1,
        tool_calls: (offset % 2) as u64,
        images: 0,
        role: usage_types::Role::Usage,
        progress: progress(offset),
        compute: ComputeNs(1_500_000_000 + offset as u64),
        cost: None,
        tags: if offset % 7 == 0 {
            [(Cow::Borrowed("env"), Cow::Borrowed("c\"i")), (Cow::Borrowed("n"), Cow::Owned(offset.to_string()))].into()
        } else {
            Default::default()
        },
    }
}

/// One in a hundred says how far its job is, some without knowing of how many.
pub fn progress(offset: i64) -> Option<Progress> {
    let total = (offset % 300 != 0).then_some(1_000_000);
    (offset % 100 == 0).then_some(Progress { processed: offset as u64, total })
}

pub fn id(partition: i32, offset: i64) -> String {
    format!("event-{partition}-{offset}")
}

pub fn cost(offset: i64) -> Option<Cost> {
    let amount = Pico(12_500 + i128::from(offset) * 1_000_003);
    (offset % 10 != 0).then_some(Cost { amount, currency: Currency::USD, origin: CostOrigin::PriceBook })
}

pub fn position(partition: i32, offset: i64) -> EventPosition {
    EventPosition { partition, offset, append_time: TimeUs(DAY + offset * 1_001 + 5_000) }
}

pub fn push(buffer: &mut RowBuffer, partition: i32, offset: i64) {
    let event = event(partition, offset);
    let id = id(partition, offset);
    let clamped = offset % 50 == 1;
    let position = position(partition, offset);
    let time = if clamped { position.append_time } else { event.time };
    let late = offset % 100 == 99;
    buffer
        .push(RowRef {
            event: &event,
            time,
            cost: cost(offset),
            unpriced_reason: cost(offset).is_none().then_some("unknown_model"),
            position,
            late,
            clamped,
            id: &id,
            kind: RowKind::Usage,
            corrects: None,
            reverses: None,
        })
        .unwrap();
}

pub fn rows(partition: i32, offsets: std::ops::Range<i64>) -> Vec<RecordBatch> {
    let mut buffer = RowBuffer::new();
    offsets.for_each(|offset| push(&mut buffer, partition, offset));
    buffer.take().unwrap()
}

/// A unit in which every event was accepted.
pub fn unit(partition: i32, offsets: std::ops::Range<i64>) -> CommitUnit {
    let accepted = (offsets.end - offsets.start) as u64;
    let range = OffsetRange { partition, start: offsets.start, end: offsets.end, accepted, ..OffsetRange::default() };
    CommitUnit { rows: rows(partition, offsets), ranges: vec![range], ..CommitUnit::default() }
}

pub fn rejected(partition: i32, offset: i64) -> RejectedRow {
    RejectedRow {
        position: position(partition, offset),
        rejection: Rejection::field(RejectCode::Negative, "tokens.input", "must not be negative"),
        key: Some(b"k".to_vec()),
        value: Some(vec![b'{', 0xff, b'}']),
    }
}

/// Offsets 0..10 accepted but 3 (too late), 4 (rejected), 5 (duplicate) and 6 (a hole).
pub fn mixed_unit(partition: i32) -> CommitUnit {
    let mut buffer = RowBuffer::new();
    (0..10).filter(|offset| !(3..7).contains(offset)).for_each(|offset| push(&mut buffer, partition, offset));
    let range =
        OffsetRange { partition, start: 0, end: 10, accepted: 6, duplicate: 1, forwarded: 0, too_late: 1, rejected: 1 };
    CommitUnit {
        rows: buffer.take().unwrap(),
        too_late: rows(partition, 3..4),
        rejected: vec![rejected(partition, 4)],
        ranges: vec![range],
    }
}

pub async fn open(folder: &std::path::Path) -> Lake {
    Lake::open(folder.to_str().unwrap()).await.unwrap()
}
