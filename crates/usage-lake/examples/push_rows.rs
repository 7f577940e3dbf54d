//! Measures what a row costs until it is an Arrow column: `cargo run -p usage-lake --example push_rows --release`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::time::Instant;

use usage_lake::{RowBuffer, RowKind, RowRef};

const ROWS: usize = 2_000_000;

fn main() -> std::io::Result<()> {
    let events: Vec<_> = (0..10_000).map(|offset| (support::event(0, offset), support::id(0, offset))).collect();
    let mut buffer = RowBuffer::new();
    let started = Instant::now();
    let mut batches = 0;
    for (at, (event, id)) in events.iter().cycle().take(ROWS).enumerate() {
        let offset = i64::try_from(at).expect("two million");
        let (cost, position) = (support::cost(offset), support::position(0, offset));
        let row = RowRef {
            event,
            time: event.time,
            cost,
            unpriced_reason: None,
            position,
            late: false,
            clamped: false,
            id,
            kind: RowKind::Usage,
            corrects: None,
            reverses: None,
        };
        buffer.push(row).expect("a row");
        if buffer.len() == 200_000 {
            batches += buffer.take().expect("its columns").len();
        }
    }
    let nanos = started.elapsed().as_nanos() / ROWS as u128;
    writeln!(std::io::stdout(), "{ROWS} rows in {batches} batches: {nanos} ns a row")
}
