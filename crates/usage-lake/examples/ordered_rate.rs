//! How long a row of the lake takes to be read in the order of its time, as a simulation reads it:
//! `cargo run --release -p usage-lake --example ordered_rate [ROWS]`
//!
//! Writes the rows into a folder of its own first, 100,000 a file, in about the order of their time as a server does. The clock is the wall's and the
//! processor's time that of the whole process, since decoding is spread over threads.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use usage_lake::{CommitUnit, OffsetRange, OrderedRead, RowBuffer};
use usage_types::{Dimension, DimensionSet, TimeUs};

/// Rows of a file.
const FILE_ROWS: i64 = 100_000;

/// The processor's time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc/self/stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: i64 = std::env::args().nth(1).map_or(Ok(10_000_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let mut lake = support::open(folder.path()).await;
    for start in (0..rows).step_by(usize::try_from(FILE_ROWS)?) {
        let end = (start + FILE_ROWS).min(rows);
        let mut buffer = RowBuffer::new();
        (start..end).for_each(|offset| support::push(&mut buffer, 0, offset));
        let accepted = u64::try_from(end - start)?;
        let range = OffsetRange { partition: 0, start, end, accepted, ..OffsetRange::default() };
        lake.commit(CommitUnit { rows: buffer.take()?, ranges: vec![range], ..CommitUnit::default() }).await?;
    }
    let read = OrderedRead {
        from: TimeUs(support::DAY - TimeUs::DAY),
        to: TimeUs(support::DAY + TimeUs::DAY),
        dimensions: DimensionSet::of(&[Dimension::Namespace, Dimension::Team, Dimension::User]),
        tags: false,
        tail: Vec::new(),
        memory_mib: 1024,
    };
    let (begun, cpu_before) = (Instant::now(), cpu());
    let (mut given, mut tokens) = (0, 0);
    let mut groups = lake.files().in_order(read);
    while let Some(group) = groups.try_next().await? {
        given += group.len();
        group.each(|row| tokens += row.tokens.total())?;
    }
    let (clock, spent) = (begun.elapsed(), cpu() - cpu_before);
    let ns = spent.as_nanos() / u128::try_from(given.max(1))?;
    writeln!(
        std::io::stdout(),
        "{given} rows ({tokens} tokens) in order: {clock:.1?} on the clock, {ns} ns of the processor a row"
    )?;
    Ok(())
}
