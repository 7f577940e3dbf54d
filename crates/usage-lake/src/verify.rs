//! Proof that every offset is accounted for once, on any lake.
//!
//! Holds here: nothing is trusted that can be read. Accounts must be contiguous and end at the committed offsets; the rows that
//! are really in the files must be as many as each account says, no two at one offset, no two with one source and id. The one exception is
//! an amendment, which comes with the reversal of what it replaces; and each reversal must be the negation of one row (checked in
//! [`reversals`](crate::reversals)). Files are streamed. What is held in memory is one bit for each offset (three where there are
//! corrections), a line for each reversal, and ids by hash, in as many passes as the bound on them needs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ahash::RandomState;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;
use serde::Serialize;
use usage_types::TokenClass;

use crate::LakeError;
use crate::account::Account;
use crate::kind::RowKind;
use crate::lake::Lake;
use crate::replay::{Kinds, ReplayColumns, ReplayFrom, read_table, rows};
use crate::reversals::Reversals;
use crate::schema::{REJECTED, TOO_LATE, USAGE};
use crate::table::Table;

/// Findings that are listed one by one; more are only counted.
const FINDINGS_MAX: usize = 100;
/// Hashes of ids in one pass, 16 bytes each: 256 MB.
const IDS_PER_PASS: u64 = 16 << 20;

/// What a lake was found to be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// The version of `usage` that was read.
    pub version: u64,
    /// What each input partition's offsets became.
    pub partitions: Vec<PartitionReport>,
    /// Rows in the files of `usage`.
    pub usage_rows: u64,
    /// Rows in the files of `too_late`.
    pub too_late_rows: u64,
    /// Rows in the files of `rejected`.
    pub rejected_rows: u64,
    /// Rows of the side tables whose unit is not committed yet: a worker stopped between the two, and will repeat it.
    pub pending_rows: u64,
    /// What is wrong, up to a hundred of them.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub findings_count: u64,
}

/// The accounts of one input partition, summed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The input partition.
    pub partition: i32,
    /// Its first offset in the lake.
    pub start: i64,
    /// One past its last.
    pub end: i64,
    /// Events that became rows.
    pub accepted: u64,
    /// Events seen before.
    pub duplicate: u64,
    /// Events sent on.
    pub forwarded: u64,
    /// Events in `too_late`.
    pub too_late: u64,
    /// Events in `rejected`.
    pub rejected: u64,
    /// Offsets that hold no event.
    pub holes: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what their Display says")]
pub enum Finding {
    /// A range does not start where the one before ended.
    NotContiguous { partition: i32, version: u64, expected: i64, start: i64 },
    /// A range counts more events than it has offsets.
    TooManyEvents { partition: i32, version: u64, offsets: i64, events: u64 },
    /// The accounts do not end at the committed offset.
    WrongEnd { partition: i32, accounts_end: i64, committed: i64 },
    /// A range's count differs from the rows at its offsets.
    WrongCount { table: &'static str, partition: i32, start: i64, end: i64, accounted: u64, found: u64 },
    /// Two rows at one offset.
    DuplicateOffset { table: &'static str, partition: i32, offset: i64 },
    /// A row at an offset that no account covers.
    Unaccounted { table: &'static str, partition: i32, offset: i64 },
    /// Two rows of one source and id.
    DuplicateId { source: String, id: String, positions: Vec<(i32, i64)> },
    /// A row's total is not the sum of its token classes.
    WrongTotal { partition: i32, offset: i64 },
    /// A reversal is not the negation of the row that it names, or there is no such row.
    WrongReversal { partition: i32, offset: i64 },
    /// A row is taken back by two reversals.
    ReversedTwice { partition: i32, offset: i64 },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotContiguous { partition, version, expected, start } => {
                write!(f, "partition {partition}: the range of version {version} starts at {start}, not at {expected}")
            }
            Self::TooManyEvents { partition, version, offsets, events } => {
                write!(f, "partition {partition}: version {version} counts {events} events in {offsets} offsets")
            }
            Self::WrongEnd { partition, accounts_end, committed } => {
                write!(f, "partition {partition}: the accounts end at {accounts_end}, the lake is at {committed}")
            }
            Self::WrongCount { table, partition, start, end, accounted, found } => write!(
                f,
                "partition {partition}, offsets {start}..{end}: accounted {accounted} for `{table}`, found {found} rows"
            ),
            Self::DuplicateOffset { table, partition, offset } => {
                write!(f, "`{table}` has two rows of partition {partition}, offset {offset}")
            }
            Self::Unaccounted { table, partition, offset } => {
                write!(f, "`{table}` has a row of partition {partition}, offset {offset}, which no account covers")
            }
            Self::DuplicateId { source, id, positions } => {
                write!(f, "the id `{id}` of source `{source}` is there at (partition, offset) {positions:?}")
            }
            Self::WrongTotal { partition, offset } => {
                write!(f, "partition {partition}, offset {offset}: total_tokens is not the sum of the classes")
            }
            Self::WrongReversal { partition, offset } => {
                write!(
                    f,
                    "partition {partition}, offset {offset}: the reversal is not the negation of the row that it names"
                )
            }
            Self::ReversedTwice { partition, offset } => {
                write!(
                    f,
                    "partition {partition}, offset {offset}: the reversal takes a row back that another one took back"
                )
            }
        }
    }
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings_count == 0
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Checks a lake as it is at this moment; another process may go on committing to it.
///
/// # Errors
/// The lake cannot be read. What is wrong with what it holds is in the report.
pub async fn verify(lake: &Lake) -> Result<VerifyReport, LakeError> {
    let accounts = lake.read_accounts().await?;
    let mut report = VerifyReport { version: lake.version(), ..VerifyReport::default() };
    let mut ranges: BTreeMap<i32, Vec<Account>> = BTreeMap::new();
    for account in accounts {
        ranges.entry(account.range.partition).or_default().push(account);
    }
    check_ranges(&mut report, &ranges, &lake.offsets());

    let mut seen = Seen::new(USAGE, &ranges);
    let mut reversals = Reversals::default();
    let mut stream = lake.replay(ReplayFrom::default(), ReplayColumns::Balances);
    while let Some(batch) = stream.try_next().await? {
        report.usage_rows += batch.num_rows() as u64;
        seen.mark(&mut report, &batch, false)?;
        check_totals(&mut report, &batch)?;
        reversals.gather(&mut report, &batch)?;
    }
    reversals.check(&mut report, lake).await?;
    seen.compare(&mut report, &ranges, |account| account.range.accepted);
    report.too_late_rows = check_side(&mut report, lake.too_late.as_ref(), TOO_LATE, &ranges).await?;
    report.rejected_rows = check_side(&mut report, lake.rejected.as_ref(), REJECTED, &ranges).await?;
    check_ids(&mut report, lake).await?;
    Ok(report)
}

fn check_ranges(report: &mut VerifyReport, ranges: &BTreeMap<i32, Vec<Account>>, offsets: &BTreeMap<i32, i64>) {
    for (&partition, accounts) in ranges {
        let mut sum = PartitionReport { partition, start: accounts[0].range.start, ..PartitionReport::default() };
        sum.end = sum.start;
        for Account { version, range, .. } in accounts {
            if range.start != sum.end {
                let (version, expected, start) = (*version, sum.end, range.start);
                report.add(Finding::NotContiguous { partition, version, expected, start });
            }
            let offsets = range.end - range.start;
            let (room, events) = (u64::try_from(offsets).unwrap_or(0), range.events());
            if events > room {
                report.add(Finding::TooManyEvents { partition, version: *version, offsets, events });
            }
            sum.end = range.end;
            sum.accepted += range.accepted;
            sum.duplicate += range.duplicate;
            sum.forwarded += range.forwarded;
            sum.too_late += range.too_late;
            sum.rejected += range.rejected;
            sum.holes += room.saturating_sub(events);
        }
        let committed = offsets.get(&partition).copied().unwrap_or(-1);
        if sum.end != committed {
            report.add(Finding::WrongEnd { partition, accounts_end: sum.end, committed });
        }
        report.partitions.push(sum);
    }
    for (&partition, &committed) in offsets.iter().filter(|(partition, _)| !ranges.contains_key(partition)) {
        report.add(Finding::WrongEnd { partition, accounts_end: -1, committed });
    }
}

async fn check_side(
    report: &mut VerifyReport,
    table: Option<&Table>,
    name: &'static str,
    ranges: &BTreeMap<i32, Vec<Account>>,
) -> Result<u64, LakeError> {
    let mut seen = Seen::new(name, ranges);
    let mut count = 0;
    if let Some(table) = table {
        let mut stream = read_table(table, Some(vec!["partition", "offset"]), |_| true);
        while let Some(batch) = stream.try_next().await? {
            count += batch.num_rows() as u64;
            seen.mark(report, &batch, true)?;
        }
    }
    let is_too_late = name == TOO_LATE;
    let accounted = |account: &Account| if is_too_late { account.range.too_late } else { account.range.rejected };
    seen.compare(report, ranges, accounted);
    Ok(count)
}

/// One bit for each accounted offset of each partition.
struct Seen {
    table: &'static str,
    partitions: HashMap<i32, Bits>,
}

/// Which offsets have a row by itself, a reversal, an amendment: an offset may have one of each of the latter two, or one of the first.
struct Bits {
    start: i64,
    end: i64,
    len: usize,
    rows: [Vec<u64>; 3],
}

const ALONE: usize = 0;
const REVERSAL: usize = 1;
const AMENDMENT: usize = 2;

impl Seen {
    fn new(table: &'static str, ranges: &BTreeMap<i32, Vec<Account>>) -> Self {
        let bits = |accounts: &[Account]| {
            let start = accounts.iter().map(|account| account.range.start).min().unwrap_or(0);
            let end = accounts.iter().map(|account| account.range.end).max().unwrap_or(0);
            let len = usize::try_from((end - start).max(0) / 64 + 1).unwrap_or(0);
            Bits { start, end, len, rows: [vec![0; len], Vec::new(), Vec::new()] }
        };
        let partitions = ranges.iter().map(|(&partition, accounts)| (partition, bits(accounts))).collect();
        Self { table, partitions }
    }

    fn mark(&mut self, report: &mut VerifyReport, batch: &RecordBatch, may_be_ahead: bool) -> Result<(), LakeError> {
        let table = self.table;
        let wrong = || LakeError::Table { table, reason: "it has no `partition` and `offset`".to_owned() };
        let partitions = batch.column_by_name("partition").and_then(|c| c.as_primitive_opt::<Int32Type>());
        let offsets = batch.column_by_name("offset").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (partitions, offsets) = (partitions.ok_or_else(wrong)?.values(), offsets.ok_or_else(wrong)?.values());
        let kinds = Kinds::of(batch);
        for (row, (&partition, &offset)) in partitions.iter().zip(offsets).enumerate() {
            let bits = self.partitions.get_mut(&partition);
            let is_ahead = bits.as_ref().is_none_or(|bits| offset >= bits.end);
            match bits {
                Some(bits) if offset >= bits.start && offset < bits.end => {
                    if !bits.mark(offset, kinds.get(row)?) {
                        report.add(Finding::DuplicateOffset { table, partition, offset });
                    }
                }
                _ if may_be_ahead && is_ahead => report.pending_rows += 1,
                _ => report.add(Finding::Unaccounted { table, partition, offset }),
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        report: &mut VerifyReport,
        ranges: &BTreeMap<i32, Vec<Account>>,
        accounted: impl Fn(&Account) -> u64,
    ) {
        for (&partition, accounts) in ranges {
            let bits = &self.partitions[&partition];
            for account in accounts {
                let (start, end) = (account.range.start, account.range.end);
                let (accounted, found) = (accounted(account), bits.count(start, end));
                if accounted != found {
                    let table = self.table;
                    report.add(Finding::WrongCount { table, partition, start, end, accounted, found });
                }
            }
        }
    }
}

impl Bits {
    /// Whether the offset may have such a row, besides those that it has.
    fn mark(&mut self, offset: i64, kind: RowKind) -> bool {
        let at = usize::try_from(offset - self.start).unwrap_or(0);
        let bit = 1 << (at % 64);
        let class = match kind {
            RowKind::Usage | RowKind::Backfill | RowKind::Adjustment => ALONE,
            RowKind::Reversal => REVERSAL,
            RowKind::Amendment => AMENDMENT,
        };
        if self.rows[class].is_empty() {
            self.rows[class].resize(self.len, 0);
        }
        let has = |class: usize| self.rows[class].get(at / 64).is_some_and(|word| word & bit != 0);
        let others: &[usize] = if class == ALONE { &[REVERSAL, AMENDMENT] } else { &[ALONE] };
        let is_free = !has(class) && !others.iter().any(|other| has(*other));
        self.rows[class][at / 64] |= bit;
        is_free
    }

    fn word(&self, at: usize) -> u64 {
        self.rows.iter().fold(0, |all, words| all | words.get(at).copied().unwrap_or(0))
    }

    fn count(&self, start: i64, end: i64) -> u64 {
        let at = |offset: i64| usize::try_from(offset - self.start).unwrap_or(0);
        let (from, to) = (at(start), at(end.max(start)));
        let mut count = 0;
        let mut next = from;
        while next < to {
            let word_end = (next / 64 + 1) * 64;
            let stop = word_end.min(to);
            let mut word = self.word(next / 64) >> (next % 64);
            if stop - next < 64 {
                word &= (1 << (stop - next)) - 1;
            }
            count += u64::from(word.count_ones());
            next = stop;
        }
        count
    }
}

fn check_totals(report: &mut VerifyReport, batch: &RecordBatch) -> Result<(), LakeError> {
    let longs = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.map(|column| column.values()).ok_or_else(|| LakeError::Table {
            table: USAGE,
            reason: format!("column `{name}` is missing or has another type"),
        })
    };
    let totals = longs("total_tokens")?;
    let classes = TokenClass::ALL.iter().map(|class| longs(class.column())).collect::<Result<Vec<_>, _>>()?;
    for (at, total) in totals.iter().enumerate() {
        let sum: i128 = classes.iter().map(|class| i128::from(class[at])).sum();
        if sum != i128::from(*total) {
            let partition = batch.column_by_name("partition").map_or(-1, |c| c.as_primitive::<Int32Type>().value(at));
            report.add(Finding::WrongTotal { partition, offset: longs("offset")?[at] });
        }
    }
    Ok(())
}

/// An id that more than one row has.
#[derive(Debug, Default)]
struct Twice {
    source: String,
    id: String,
    positions: Vec<(i32, i64)>,
}

/// Finds ids that are there twice: by hash first, then the texts of those few hashes.
async fn check_ids(report: &mut VerifyReport, lake: &Lake) -> Result<(), LakeError> {
    let hashers = [RandomState::new(), RandomState::new()];
    let hash = |source: &str, id: &str| {
        let [low, high] = [0, 1].map(|at| u128::from(hashers[at].hash_one((source, id))));
        high << 64 | low
    };
    let passes = u128::from(report.usage_rows.div_ceil(IDS_PER_PASS).max(1));
    let mut twice: HashMap<u128, Twice> = HashMap::new();
    for pass in 0..passes {
        let mut hashes: Vec<u128> = Vec::new();
        let mut stream = lake.replay(ReplayFrom::default(), ReplayColumns::Ids);
        while let Some(batch) = stream.try_next().await? {
            for row in rows(&batch)? {
                let row = row?;
                // An event has one row, or two: then its reversal stands for both.
                if row.kind == RowKind::Amendment && row.reverses.is_some() {
                    continue;
                }
                let hash = hash(row.source, row.id);
                if hash % passes == pass {
                    hashes.push(hash);
                }
            }
        }
        hashes.sort_unstable();
        for pair in hashes.windows(2).filter(|pair| pair[0] == pair[1]) {
            // Bounded: a wholly doubled lake is as well told by its first findings.
            if twice.len() < FINDINGS_MAX {
                twice.entry(pair[0]).or_default();
            } else if !twice.contains_key(&pair[0]) {
                report.findings_count += 1;
            }
        }
    }
    if twice.is_empty() {
        return Ok(());
    }
    let mut stream = lake.replay(ReplayFrom::default(), ReplayColumns::Ids);
    while let Some(batch) = stream.try_next().await? {
        for row in rows(&batch)? {
            let row = row?;
            if let Some(twice) = twice.get_mut(&hash(row.source, row.id)) {
                (twice.source, twice.id) = (row.source.to_owned(), row.id.to_owned());
                twice.positions.push((row.position.partition, row.position.offset));
            }
        }
    }
    for Twice { source, id, positions } in twice.into_values() {
        report.add(Finding::DuplicateId { source, id, positions });
    }
    Ok(())
}
