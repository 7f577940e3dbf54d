//! What becomes of offsets: ranges, refused events, and their columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};
use usage_types::{EventPosition, Rejection, TimeUs};

use crate::LakeError;
use crate::schema::{ACCOUNTS, accounts_schema, rejected_schema};

/// The most bytes of a refused event's value that the lake keeps; the dead-letter topic has the whole value.
pub const REJECTED_VALUE_BYTES_MAX: usize = 16 * 1024;

/// A contiguous range of one input partition's offsets and what became of them. Offsets that hold no event (control records,
/// holes of compaction) are inside ranges without being counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The input partition.
    pub partition: i32,
    /// The first offset.
    pub start: i64,
    /// One past the last offset: the next to read.
    pub end: i64,
    /// Events that became rows of `usage`.
    pub accepted: u64,
    /// Events seen before.
    pub duplicate: u64,
    /// Events sent on to their canonical partition.
    pub forwarded: u64,
    /// Events older than the dedup horizon: rows of `too_late`.
    pub too_late: u64,
    /// Refused events: rows of `rejected`.
    pub rejected: u64,
}

impl OffsetRange {
    /// Events of all outcomes together.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.accepted + self.duplicate + self.forwarded + self.too_late + self.rejected
    }
}

/// One row of `accounts`: a range and the commit that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The version of `usage` that carries it.
    pub version: u64,
    /// When that was committed.
    pub committed_at: TimeUs,
    /// The range.
    pub range: OffsetRange,
}

/// A refused event for the table `rejected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Where it stands in the log.
    pub position: EventPosition,
    /// Why it was refused.
    pub rejection: Rejection,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value; what is beyond [`REJECTED_VALUE_BYTES_MAX`] is cut off.
    pub value: Option<Vec<u8>>,
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(REJECTED_VALUE_BYTES_MAX)]).into_owned()
}

/// Refused events as columns of [`rejected_schema`]; bytes that are no UTF-8 are shown as `U+FFFD`.
///
/// # Errors
/// Arrow refuses the columns, which only more than 2 GiB of text can cause.
pub fn rejected_batch(rows: &[RejectedRow]) -> Result<RecordBatch, LakeError> {
    let longs = |get: fn(&RejectedRow) -> i64| rows.iter().map(get).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.position.partition).collect::<Int32Array>()),
        Arc::new(Int64Array::from(longs(|row| row.position.offset))),
        Arc::new(TimestampMicrosecondArray::from(longs(|row| row.position.append_time.0)).with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| Some(row.rejection.code.name())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.rejection.field.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.rejection.message.as_str())).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.key.as_deref().map(shown)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.value.as_deref().map(shown)).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(rejected_schema(), columns)?)
}

/// Accounts as columns of [`accounts_schema`].
///
/// # Errors
/// Arrow refuses the columns, which only a broken invariant of this module can cause.
pub fn accounts_batch(accounts: &[Account]) -> Result<RecordBatch, LakeError> {
    let longs = |get: fn(&Account) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from(accounts.iter().map(get).collect::<Vec<_>>()))
    };
    let long = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let counts = |get: fn(&OffsetRange) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from(accounts.iter().map(|account| long(get(&account.range))).collect::<Vec<_>>()))
    };
    let times: Vec<i64> = accounts.iter().map(|account| account.committed_at.0).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(accounts.iter().map(|account| long(account.version)).collect::<Vec<_>>())),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(accounts.iter().map(|account| account.range.partition).collect::<Int32Array>()),
        longs(|account| account.range.start),
        longs(|account| account.range.end),
        counts(|range| range.accepted),
        counts(|range| range.duplicate),
        counts(|range| range.forwarded),
        counts(|range| range.too_late),
        counts(|range| range.rejected),
    ];
    Ok(RecordBatch::try_new(accounts_schema(), columns)?)
}

/// The rows of a batch of `accounts`.
pub(crate) fn accounts_of(batch: &RecordBatch) -> Result<Vec<Account>, LakeError> {
    let wrong = || LakeError::Table { table: ACCOUNTS, reason: "its columns are not those of accounts".to_owned() };
    let longs = |name: &str| -> Result<&[i64], LakeError> {
        let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        Ok(column.ok_or_else(wrong)?.values())
    };
    let (versions, starts, ends) = (longs("version")?, longs("start_offset")?, longs("end_offset")?);
    let counts = ["accepted", "duplicate", "forwarded", "too_late", "rejected"].map(longs);
    let [accepted, duplicate, forwarded, too_late, rejected] = counts;
    let (accepted, duplicate, forwarded, too_late, rejected) =
        (accepted?, duplicate?, forwarded?, too_late?, rejected?);
    let times = batch.column_by_name("committed_at").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let partitions = batch.column_by_name("partition").and_then(|column| column.as_primitive_opt::<Int32Type>());
    let (times, partitions) = (times.ok_or_else(wrong)?.values(), partitions.ok_or_else(wrong)?.values());
    let count = |value: i64| u64::try_from(value).map_err(|_| wrong());
    let account = |at: usize| -> Result<Account, LakeError> {
        let range = OffsetRange {
            partition: partitions[at],
            start: starts[at],
            end: ends[at],
            accepted: count(accepted[at])?,
            duplicate: count(duplicate[at])?,
            forwarded: count(forwarded[at])?,
            too_late: count(too_late[at])?,
            rejected: count(rejected[at])?,
        };
        Ok(Account { version: count(versions[at])?, committed_at: TimeUs(times[at]), range })
    };
    (0..batch.num_rows()).map(account).collect()
}
