//! Proof that every reversal takes back exactly one row: what it holds is that row with the opposite sign, so the two add up to nothing.
//!
//! Holds here: a reversal has the effective time of what it takes back, so that row is in a file of the same date; only files of dates with
//! reversals are read a second time. Rows are compared by a hash of 128 bits under keys of the process.

use std::collections::{BTreeSet, HashMap};

use ahash::RandomState;
use arrow::array::{Array as _, RecordBatch};
use futures::TryStreamExt;
use usage_types::{TimeUs, TokenClass};

use crate::LakeError;
use crate::datafile::date_of;
use crate::kind::RowKind;
use crate::lake::Lake;
use crate::replay::{ReplayColumns, StoredRow, read_table, rows};
use crate::schema::DATE;
use crate::verify::{Finding, VerifyReport};

/// The reversals of a lake.
#[derive(Default)]
pub(crate) struct Reversals {
    hashers: [RandomState; 2],
    /// By the row that each takes back: what that must hold, and where the reversal stands.
    by_row: HashMap<u128, Reversal>,
    dates: BTreeSet<String>,
}

struct Reversal {
    content: u128,
    position: (i32, i64),
    is_found: bool,
}

impl Reversals {
    /// Notes the reversals of a batch.
    pub(crate) fn gather(&mut self, report: &mut VerifyReport, batch: &RecordBatch) -> Result<(), LakeError> {
        if !may_restate(batch) {
            return Ok(());
        }
        for row in rows(batch)? {
            let row = row?;
            if row.kind != RowKind::Reversal {
                continue;
            }
            let position = (row.position.partition, row.position.offset);
            let key = self.hash((row.source, row.reverses.unwrap_or_default()));
            let reversal = Reversal { content: self.content(&row), position, is_found: false };
            if self.by_row.insert(key, reversal).is_some() {
                report.add(Finding::ReversedTwice { partition: position.0, offset: position.1 });
            }
            self.dates.insert(date_of(row.time));
        }
        Ok(())
    }

    /// Looks for what they take back.
    pub(crate) async fn check(mut self, report: &mut VerifyReport, lake: &Lake) -> Result<(), LakeError> {
        if self.by_row.is_empty() {
            return Ok(());
        }
        let dates = std::mem::take(&mut self.dates);
        let columns = ReplayColumns::Balances.names();
        let mut stream = read_table(&lake.usage, columns, move |file| {
            file.partition_values.get(DATE).is_none_or(|date| date.as_ref().is_none_or(|date| dates.contains(date)))
        });
        while let Some(batch) = stream.try_next().await? {
            for row in rows(&batch)? {
                let row = row?;
                let key = self.hash((row.source, row.id));
                if !matches!(row.kind, RowKind::Usage | RowKind::Backfill | RowKind::Amendment) {
                    continue;
                }
                let content = self.content(&row);
                if let Some(reversal) = self.by_row.get_mut(&key) {
                    reversal.is_found |= reversal.content == content;
                }
            }
        }
        for Reversal { position: (partition, offset), .. } in self.by_row.into_values().filter(|found| !found.is_found)
        {
            report.add(Finding::WrongReversal { partition, offset });
        }
        Ok(())
    }

    fn hash<T: std::hash::Hash>(&self, value: T) -> u128 {
        let [low, high] = [0, 1].map(|at| u128::from(self.hashers[at].hash_one(&value)));
        high << 64 | low
    }

    fn content(&self, row: &StoredRow<'_>) -> u128 {
        let TimeUs(time) = row.time;
        let dimensions: Vec<_> = row.dimensions.iter().collect();
        let tokens = TokenClass::ALL.map(|class| row.tokens.get(class));
        let counts = [row.requests, row.tool_calls, row.images, row.compute.0];
        let cost = row.cost.map(|cost| (cost.amount, cost.currency, cost.origin));
        self.hash((time, dimensions, tokens, counts, cost))
    }
}

/// Whether any of these rows can be a reversal or an amendment with one: nearly always none, which one column tells at once.
pub(crate) fn may_restate(batch: &RecordBatch) -> bool {
    batch.column_by_name("reverses").is_some_and(|column| column.null_count() < batch.num_rows())
}
