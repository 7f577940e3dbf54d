//! Measures what it costs to find what a correction corrects, in a lake that is made for it:
//! `cargo run --release -p usage-lake --example correction_cost [ROWS] [ROWS OF A FILE]`.
//!
//! Cold: no file's ids are known yet, as after a start. Warm: all are. The last lines are what a batch without corrections pays: one look at
//! the role of each event, beside the rest of appending its row.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use usage_lake::{CommitUnit, EventName, LakeFiles, Lookup, OffsetRange, RowBuffer, RowKind, RowRef};
use usage_types::{Role, TimeUs, UsageEvent};

/// UTC dates over which the rows are spread, a file's on one of them.
const DATES: i64 = 16;
/// Bytes for each row in which its id fits, and in which only what tells that an id is not there does.
const ROOM: [(i64, &str); 2] =
    [(32, "all ids fit into memory"), (8, "half of the ids fit, and of the others what tells that an id is not there")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<i64>());
    let rows = args.next().transpose()?.unwrap_or(4_000_000);
    let of_file = args.next().transpose()?.unwrap_or(100_000);
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut lake = runtime.block_on(support::open(folder.path()));
    for start in (0..rows).step_by(usize::try_from(of_file)?) {
        runtime.block_on(lake.commit(unit(start..(start + of_file).min(rows), start * DATES / rows)))?;
    }
    let files = lake.files();
    writeln!(out, "{rows} rows in {} files of {DATES} dates", files.usage.len())?;

    for (bytes, what) in ROOM {
        writeln!(out, "\n{what}:")?;
        let mut lookup = Lookup::new([7, 11], usize::try_from(bytes * rows)?);
        for state in ["cold", "warm"] {
            let mut find = |what: &str, ids: Vec<String>, found: usize| -> std::io::Result<()> {
                let wanted: HashSet<EventName> = ids.into_iter().map(|id| ("gateway/eu-1".to_owned(), id)).collect();
                let (took, rows) = timed(|| runtime.block_on(lookup.rows_of(&files, &wanted)).expect("a lake").len());
                assert_eq!(rows, found);
                writeln!(out, "  {state}: {what}: {:.2} ms", took.as_secs_f64() * 1e3)
            };
            find("one event of the newest date", vec![support::id(0, rows - 1)], 1)?;
            find("one event of the oldest date", vec![support::id(0, 0)], 1)?;
            find("one event that is nowhere", vec![format!("nowhere-{state}")], 0)?;
            find("256 events that are nowhere", (0..256).map(|n| format!("nowhere-{state}-{n}")).collect(), 0)?;
        }
        known(&mut lookup, &files, &runtime, rows, &mut out)?;
    }
    role_check(&mut out)
}

/// A backfilled event is looked for on three dates.
fn known(
    lookup: &mut Lookup,
    files: &LakeFiles,
    runtime: &tokio::runtime::Runtime,
    rows: i64,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for (what, first) in [("256 backfilled events that are new", rows), ("256 backfilled events that are there", 0)] {
        let name = |offset: i64| (("gateway/eu-1".to_owned(), support::id(0, offset)), TimeUs(support::DAY));
        let wanted: HashMap<EventName, TimeUs> = (first..first + 256).map(name).collect();
        let (took, found) = timed(|| runtime.block_on(lookup.known(files, &wanted)).expect("a lake").len());
        assert_eq!(found, if first == 0 { 256 } else { 0 });
        writeln!(out, "  warm: {what}: {:.2} ms", took.as_secs_f64() * 1e3)?;
    }
    Ok(())
}

fn role_check(out: &mut impl Write) -> Result<(), Box<dyn std::error::Error>> {
    const ROUNDS: u32 = 200;
    let events: Vec<UsageEvent<'_>> = (0..10_240).map(|offset| support::event(0, offset)).collect();
    let (check, any) = timed(|| {
        let batches = || events.chunks(256).map(|batch| batch.iter().any(|event| event.role != Role::Usage));
        (0..ROUNDS).map(|_| black_box(batches()).filter(|any| *any).count()).sum::<usize>()
    });
    assert_eq!(any, 0);
    let mut buffer = RowBuffer::new();
    let (append, rows) = timed(|| {
        events.iter().zip(0_i64..).for_each(|(event, offset)| push(&mut buffer, event, event.time, offset));
        buffer.take().map(|batches| batches.len())
    });
    rows?;
    let per_event = |took: Duration, count: usize| took.as_secs_f64() * 1e9 / count as f64;
    let (check, append) = (per_event(check, events.len() * ROUNDS as usize), per_event(append, events.len()));
    writeln!(
        out,
        "\na batch without corrections: {check:.2} ns an event for the look at its role, beside {append:.0} ns for appending its row"
    )?;
    Ok(())
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let value = run();
    (started.elapsed(), value)
}

fn push(buffer: &mut RowBuffer, event: &UsageEvent<'_>, time: TimeUs, offset: i64) {
    let id = event.id.as_deref().unwrap_or_default();
    let (cost, position) = (support::cost(offset), support::position(0, offset));
    let (late, clamped, kind, corrects, reverses) = (false, false, RowKind::Usage, None, None);
    buffer
        .push(RowRef {
            event,
            time,
            cost,
            unpriced_reason: None,
            position,
            late,
            clamped,
            id,
            kind,
            corrects,
            reverses,
        })
        .expect("a row of this schema");
}

/// Rows of one date, so that they are one file.
fn unit(offsets: std::ops::Range<i64>, date: i64) -> CommitUnit {
    let mut buffer = RowBuffer::new();
    for offset in offsets.clone() {
        let time = TimeUs(support::DAY + date * TimeUs::DAY + offset % 80_000 * TimeUs::SECOND);
        push(&mut buffer, &support::event(0, offset), time, offset);
    }
    let accepted = u64::try_from(offsets.end - offsets.start).unwrap_or(0);
    let range =
        OffsetRange { partition: 0, start: offsets.start, end: offsets.end, accepted, ..OffsetRange::default() };
    CommitUnit { rows: buffer.take().expect("its columns"), ranges: vec![range], ..CommitUnit::default() }
}
