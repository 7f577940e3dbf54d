//! Writes a lake of one month, for `outlay simulate` to be measured on:
//! `cargo run --release -p usage-lake --example month_lake -- FOLDER [ROWS]`, then `outlay simulate --lake FOLDER --from 2026-11-01 --to 2026-12-01 --budgets …`
//!
//! Ten thousand users in a hundred teams; every other request is of 1 % of them. 100,000 rows a file, in the order of their time.

use std::borrow::Cow;
use std::io::Write as _;
use std::process::ExitCode;

use usage_lake::{CommitUnit, Lake, OffsetRange, RowBuffer, RowKind, RowRef};
use usage_types::{
    ComputeNs, Cost, CostOrigin, Currency, Dimension, Dimensions, EventPosition, Pico, Role, TimeUs, Tokens, UsageEvent,
};

/// Rows of a file.
const FILE_ROWS: i64 = 100_000;
/// 2026-11-01T00:00:00Z.
const FROM: TimeUs = TimeUs(1_793_491_200_000_000);

/// A small generator (SplitMix64), so that runs are alike.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

fn event(random: &mut Random, time: TimeUs) -> UsageEvent<'static> {
    let user = if random.below(2) == 0 { random.below(100) } else { random.below(10_000) };
    let mut dimensions = Dimensions::default();
    let mut set = |dim, text: String| dimensions.set(dim, Some(Cow::Owned(text)));
    set(Dimension::Namespace, format!("namespace-{}", user % 10));
    set(Dimension::Team, format!("team-{}", user % 100));
    set(Dimension::Repository, format!("acme/service-{}", user % 300));
    set(Dimension::User, format!("user-{user}@example.com"));
    set(Dimension::Model, "gpt-5.1".to_owned());
    UsageEvent {
        id: None,
        source: Cow::Borrowed("gateway/eu-1"),
        time,
        dimensions,
        tokens: Tokens { input: 900 + random.below(600), cache_read: 300, output: 80, ..Tokens::default() },
        requests: 1,
        tool_calls: 0,
        images: 0,
        role: Role::Usage,
        compute: ComputeNs(0),
        cost: None,
        tags: [("prompt_hash".into(), random.below(1 << 40).to_string().into())].into(),
        progress: None,
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next() else { return Ok(ExitCode::FAILURE) };
    let rows: i64 = args.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let step_us = 30 * TimeUs::DAY / rows.max(1);
    let (mut lake, mut random) = (Lake::open(&folder).await?, Random(7));
    for start in (0..rows).step_by(usize::try_from(FILE_ROWS)?) {
        let end = (start + FILE_ROWS).min(rows);
        let mut buffer = RowBuffer::new();
        for offset in start..end {
            let time = FROM.plus_us(step_us * offset);
            let event = event(&mut random, time);
            let amount = Pico(12_500_000_000 + i128::from(random.below(1_000_000)));
            buffer.push(RowRef {
                event: &event,
                time,
                cost: Some(Cost { amount, currency: Currency::USD, origin: CostOrigin::PriceBook }),
                unpriced_reason: None,
                position: EventPosition { partition: 0, offset, append_time: time.plus_us(5_000) },
                late: false,
                clamped: false,
                id: &format!("{offset:012}"),
                kind: RowKind::Usage,
                corrects: None,
                reverses: None,
            })?;
        }
        let accepted = u64::try_from(end - start)?;
        let range = OffsetRange { partition: 0, start, end, accepted, ..OffsetRange::default() };
        lake.commit(CommitUnit { rows: buffer.take()?, ranges: vec![range], ..CommitUnit::default() }).await?;
    }
    writeln!(std::io::stdout(), "{rows} rows in {folder}")?;
    Ok(ExitCode::SUCCESS)
}
