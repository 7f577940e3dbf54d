//! The lake: four Delta tables, one truth.
//!
//! Holds here: a commit of `usage` carries the rows of contiguous offset ranges and, in the same log entry, each partition's
//! next offset. The side tables (`too_late`, `rejected`) are written before it and carry offsets of their own, so that a
//! unit that is repeated after a crash adds nothing twice. `accounts` is derived from the commits and filled behind them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use chrono::Utc;
use futures::TryStreamExt;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};
use url::Url;
use usage_types::TimeUs;

use crate::LakeError;
use crate::account::{Account, OffsetRange, RejectedRow, accounts_batch, accounts_of, rejected_batch};
use crate::datafile::FileRef;
use crate::kind::RowKind;
use crate::replay::read_table;
use crate::reversals::may_restate;
use crate::schema::{ACCOUNTS, REJECTED, TOO_LATE, USAGE, accounts_schema, rejected_schema, usage_schema};
use crate::table::{Table, TableSpec};

/// Commits between two checkpoints: opening reads at most so many log entries one by one.
const CHECKPOINT_COMMITS: u64 = 50;
/// Commits between two fillings of `accounts`.
const ACCOUNTS_COMMITS: usize = 50;
/// The `txn` of `accounts`: the last version of `usage` that it holds.
const ACCOUNTS_APP: &str = "outlay/usage";
/// The key of our part of a commit's information.
const COMMIT_KEY: &str = "outlay";

const USAGE_TABLE: TableSpec = TableSpec { name: USAGE, schema: usage_schema, by_date: true };
// Not by date: an event's absurd time must not become a folder.
const TOO_LATE_TABLE: TableSpec = TableSpec { name: TOO_LATE, schema: usage_schema, by_date: false };
const REJECTED_TABLE: TableSpec = TableSpec { name: REJECTED, schema: rejected_schema, by_date: false };
const ACCOUNTS_TABLE: TableSpec = TableSpec { name: ACCOUNTS, schema: accounts_schema, by_date: false };

/// What one commit takes in.
#[derive(Debug, Clone, Default)]
pub struct CommitUnit {
    /// Accepted rows, with the columns of [`usage_schema`].
    pub rows: Vec<RecordBatch>,
    /// Rows older than the dedup horizon, with the same columns.
    pub too_late: Vec<RecordBatch>,
    /// Refused events.
    pub rejected: Vec<RejectedRow>,
    /// One range for each partition that moved.
    pub ranges: Vec<OffsetRange>,
}

/// What a commit made.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The version of `usage`.
    pub version: u64,
    /// The files from now on. A reader that has the tail swaps files and tail at once, and loses or doubles no row.
    pub files: LakeFiles,
}

/// The files of all tables at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LakeFiles {
    /// The folder of the lake.
    pub root: Arc<PathBuf>,
    /// The version of `usage`.
    pub version: u64,
    /// Files of `usage`.
    pub usage: Arc<Vec<Arc<FileRef>>>,
    /// Files of `too_late`.
    pub too_late: Arc<Vec<Arc<FileRef>>>,
    /// Files of `rejected`.
    pub rejected: Arc<Vec<Arc<FileRef>>>,
    /// Files of `accounts`.
    pub accounts: Arc<Vec<Arc<FileRef>>>,
    /// Accounts that are committed and not yet in a file of `accounts`.
    pub accounts_tail: Arc<Vec<Account>>,
    /// The next offset that each side table expects of each partition: tail rows below are in its files already.
    pub side_offsets: Arc<SideOffsets>,
    pub(crate) usage_store: Arc<dyn ObjectStore>,
}

/// Where the side tables stand, by input partition.
#[derive(Debug, Clone, Default)]
pub struct SideOffsets {
    /// Of `too_late`.
    pub too_late: BTreeMap<i32, i64>,
    /// Of `rejected`.
    pub rejected: BTreeMap<i32, i64>,
}

/// Our part of a commit's information.
#[derive(Debug, Serialize, Deserialize)]
struct CommitNote {
    committed_at: TimeUs,
    ranges: Vec<OffsetRange>,
}

/// An open lake.
#[derive(Debug)]
pub struct Lake {
    root: Url,
    folder: Arc<PathBuf>,
    pub(crate) usage: Table,
    pub(crate) too_late: Option<Table>,
    pub(crate) rejected: Option<Table>,
    pub(crate) accounts: Option<Table>,
    accounts_tail: Arc<Vec<Account>>,
}

/// The `txn` application id of an input partition.
fn app_id(partition: i32) -> String {
    format!("outlay/usage.events/{partition}")
}

fn partition_of(app_id: &str) -> Option<i32> {
    app_id.strip_prefix("outlay/usage.events/")?.parse().ok()
}

/// The offsets that a table's `txn`s hold.
fn offsets_of(table: Option<&Table>) -> BTreeMap<i32, i64> {
    let txns = table.into_iter().flat_map(Table::txns);
    txns.filter_map(|(id, offset)| Some((partition_of(id)?, *offset))).collect()
}

/// A folder as URL; only local ones so far.
pub(crate) fn location(text: &str) -> Result<(Url, PathBuf), LakeError> {
    let refuse = |reason: &str| LakeError::Location { location: text.to_owned(), reason: reason.to_owned() };
    let folder = match Url::parse(text) {
        Ok(url) if url.scheme() == "file" => url
            .to_file_path()
            .map_err(|()| refuse("a file URL must name an absolute folder, like file:///var/lib/outlay"))?,
        // One letter is a drive.
        Ok(url) if url.scheme().len() > 1 => {
            return Err(refuse("only local folders are supported so far; write a path or a file:// URL"));
        }
        _ => PathBuf::from(text),
    };
    let folder = std::path::absolute(&folder).map_err(|error| refuse(&error.to_string()))?;
    let url = Url::from_directory_path(&folder).map_err(|()| refuse("it is no absolute folder"))?;
    Ok((url, folder))
}

impl Lake {
    /// Opens the lake in a folder (a path or a `file://` URL), creating what is missing, and brings `accounts` up to date.
    /// For the one process that commits.
    ///
    /// # Errors
    /// The location is no local folder, or its tables cannot be read or created.
    pub async fn open(text: &str) -> Result<Self, LakeError> {
        let (root, folder) = location(text)?;
        let usage = Table::open_or_create(&root, USAGE_TABLE).await?;
        let mut lake = Self::with_usage(root, folder, usage).await?;
        for table in [Some(&mut lake.usage), lake.too_late.as_mut()].into_iter().flatten() {
            table.add_columns().await?;
        }
        if !lake.accounts_tail.is_empty() {
            lake.fill_accounts().await?;
        }
        info!(version = lake.usage.version(), files = lake.usage.files().len(), "opened the lake");
        Ok(lake)
    }

    /// Opens a lake that exists, only to read it; another process may be committing to it.
    ///
    /// # Errors
    /// There is no lake, or its tables cannot be read.
    pub async fn open_existing(text: &str) -> Result<Self, LakeError> {
        let (root, folder) = location(text)?;
        let usage = Table::open(&root, USAGE_TABLE).await?.ok_or_else(|| LakeError::Location {
            location: text.to_owned(),
            reason: "there is no lake in it; `outlay serve` makes one".to_owned(),
        })?;
        Self::with_usage(root, folder, usage).await
    }

    async fn with_usage(root: Url, folder: PathBuf, usage: Table) -> Result<Self, LakeError> {
        let too_late = Table::open(&root, TOO_LATE_TABLE).await?;
        let rejected = Table::open(&root, REJECTED_TABLE).await?;
        let accounts = Table::open(&root, ACCOUNTS_TABLE).await?;
        let folder = Arc::new(folder);
        let mut lake = Self { root, folder, usage, too_late, rejected, accounts, accounts_tail: Arc::default() };
        lake.accounts_tail = Arc::new(lake.unfilled_accounts().await?);
        Ok(lake)
    }

    /// The next offset of each input partition that the lake knows: where a worker continues.
    #[must_use]
    pub fn offsets(&self) -> BTreeMap<i32, i64> {
        offsets_of(Some(&self.usage))
    }

    /// The version of `usage`.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.usage.version()
    }

    /// The folder of the lake.
    #[must_use]
    pub fn folder(&self) -> &FsPath {
        &self.folder
    }

    /// The files of all tables as they are now.
    #[must_use]
    pub fn files(&self) -> LakeFiles {
        let files = |table: &Option<Table>| table.as_ref().map(Table::files).unwrap_or_default();
        LakeFiles {
            root: Arc::clone(&self.folder),
            version: self.usage.version(),
            usage: self.usage.files(),
            usage_store: self.usage.store(),
            too_late: files(&self.too_late),
            rejected: files(&self.rejected),
            accounts: files(&self.accounts),
            accounts_tail: Arc::clone(&self.accounts_tail),
            side_offsets: Arc::new(SideOffsets {
                too_late: offsets_of(self.too_late.as_ref()),
                rejected: offsets_of(self.rejected.as_ref()),
            }),
        }
    }

    /// Commits a unit: side tables first, then rows and offsets in one log entry. When it returns, all of it is on disk.
    ///
    /// A unit whose commit failed may be given again as it is, except after [`LakeError::Conflict`], [`LakeError::Gap`] and
    /// [`LakeError::Overlap`]: then the lake is not where the unit continues from, and the worker drops its buffer and reloads.
    ///
    /// # Errors
    /// As said; and when the unit contradicts itself or the storage fails.
    pub async fn commit(&mut self, unit: CommitUnit) -> Result<Committed, LakeError> {
        self.check(&unit)?;
        if unit.ranges.is_empty() {
            return Ok(Committed { version: self.usage.version(), files: self.files() });
        }
        append_side(&self.root, &mut self.too_late, TOO_LATE_TABLE, &unit.too_late).await?;
        if !unit.rejected.is_empty() {
            let batch = rejected_batch(&unit.rejected)?;
            append_side(&self.root, &mut self.rejected, REJECTED_TABLE, &[batch]).await?;
        }
        let files = self.usage.write(unit.rows).await?;
        let txns: Vec<_> = unit.ranges.iter().map(|range| (app_id(range.partition), range.end)).collect();
        let committed_at = TimeUs::from(Utc::now());
        let note = CommitNote { committed_at, ranges: unit.ranges };
        let info = HashMap::from([(COMMIT_KEY.to_owned(), serde_json::to_value(&note)?)]);
        let version = self.usage.append(files, &txns, info).await?;
        let accounts = note.ranges.iter().map(|&range| Account { version, committed_at, range });
        Arc::make_mut(&mut self.accounts_tail).extend(accounts);
        self.maintain(version).await;
        Ok(Committed { version, files: self.files() })
    }

    fn check(&self, unit: &CommitUnit) -> Result<(), LakeError> {
        let mut seen = std::collections::BTreeSet::new();
        for &OffsetRange { partition, start, end, .. } in &unit.ranges {
            if start > end || !seen.insert(partition) {
                let reason = format!("the range {start}..{end} of partition {partition} is reversed or the second one");
                return Err(LakeError::BadUnit(reason));
            }
            match self.usage.txn(&app_id(partition)) {
                Some(committed) if start > committed => return Err(LakeError::Gap { partition, start, committed }),
                Some(committed) if start < committed => return Err(LakeError::Overlap { partition, start, committed }),
                _ => {}
            }
        }
        let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let sum = |get: fn(&OffsetRange) -> u64| unit.ranges.iter().map(get).sum::<u64>();
        for (what, rows, counted) in [
            ("accepted", rows(&unit.rows) - second_rows(&unit.rows)?, sum(|range| range.accepted)),
            ("too late", rows(&unit.too_late), sum(|range| range.too_late)),
            ("rejected", unit.rejected.len(), sum(|range| range.rejected)),
        ] {
            if rows as u64 != counted {
                return Err(LakeError::BadUnit(format!("{rows} {what} rows, but its ranges count {counted}")));
            }
        }
        Ok(())
    }

    /// What comes after a commit and must not make it fail: a later commit or the next opening does it again.
    async fn maintain(&mut self, version: u64) {
        let is_due = self.accounts_tail.len() >= ACCOUNTS_COMMITS || version.is_multiple_of(CHECKPOINT_COMMITS);
        if is_due && let Err(error) = self.fill_accounts().await {
            warn!(%error, "could not fill the table of accounts; trying again later");
            // Log clean-up must not drop commits whose accounts are not yet in their table.
            return;
        }
        if version.is_multiple_of(CHECKPOINT_COMMITS) {
            for table in [Some(&self.usage), self.too_late.as_ref(), self.rejected.as_ref(), self.accounts.as_ref()] {
                let Some(table) = table else { continue };
                if let Err(error) = table.checkpoint().await {
                    warn!(%error, "could not write a delta checkpoint; opening takes longer until the next one");
                }
            }
        }
    }

    /// Accounts of commits that the table of accounts does not hold yet, from the log.
    async fn unfilled_accounts(&self) -> Result<Vec<Account>, LakeError> {
        let filled = self.accounts.as_ref().and_then(|table| table.txn(ACCOUNTS_APP)).unwrap_or(0);
        let mut accounts = Vec::new();
        for version in u64::try_from(filled).unwrap_or(0) + 1..=self.usage.version() {
            let Some(mut info) = self.usage.commit_info(version).await? else {
                warn!(version, "the log entry is gone before its accounts were filled");
                continue;
            };
            let note = info.remove(COMMIT_KEY).unwrap_or(Value::Null);
            // Not every version is ours: a compaction has no accounts.
            if !note.is_null() {
                let CommitNote { committed_at, ranges } = serde_json::from_value(note)?;
                accounts.extend(ranges.into_iter().map(|range| Account { version, committed_at, range }));
            }
        }
        Ok(accounts)
    }

    /// All accounts, in order of versions and partitions: those in their table and those still only in the commits.
    ///
    /// # Errors
    /// The storage fails.
    pub async fn read_accounts(&self) -> Result<Vec<Account>, LakeError> {
        let mut accounts = Vec::new();
        if let Some(table) = &self.accounts {
            let batches: Vec<RecordBatch> = read_table(table, None, |_| true).try_collect().await?;
            for batch in &batches {
                accounts.extend(accounts_of(batch)?);
            }
        }
        accounts.extend(self.accounts_tail.iter().copied());
        accounts.sort_by_key(|account: &Account| (account.version, account.range.partition));
        Ok(accounts)
    }

    /// Moves the accounts of all commits so far into their table.
    ///
    /// # Errors
    /// The storage fails. Another process that fills them at the same time is no error.
    pub async fn fill_accounts(&mut self) -> Result<(), LakeError> {
        // From the log and not from the tail: other workers' commits are in it too.
        let accounts = self.unfilled_accounts().await?;
        if accounts.is_empty() {
            return Ok(());
        }
        let batch = accounts_batch(&accounts)?;
        let table = ensure(&self.root, &mut self.accounts, ACCOUNTS_TABLE).await?;
        let files = table.write(vec![batch]).await?;
        let version = i64::try_from(self.usage.version()).unwrap_or(i64::MAX);
        match table.append(files, &[(ACCOUNTS_APP.to_owned(), version)], HashMap::new()).await {
            Ok(_) => self.accounts_tail = Arc::default(),
            Err(LakeError::Conflict { .. }) => {
                self.accounts = Table::open(&self.root, ACCOUNTS_TABLE).await?;
                self.accounts_tail = Arc::new(self.unfilled_accounts().await?);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// How many rows are the second one of an event: an amendment beside its reversal.
fn second_rows(batches: &[RecordBatch]) -> Result<usize, LakeError> {
    let mut count = 0;
    for batch in batches {
        if may_restate(batch) {
            for row in crate::replay::rows(batch)? {
                let row = row?;
                count += usize::from(row.kind == RowKind::Amendment && row.reverses.is_some());
            }
        }
    }
    Ok(count)
}

async fn ensure<'a>(root: &Url, slot: &'a mut Option<Table>, spec: TableSpec) -> Result<&'a mut Table, LakeError> {
    let table = match slot.take() {
        Some(table) => table,
        None => Table::open_or_create(root, spec).await?,
    };
    Ok(slot.insert(table))
}

/// Appends to a side table what it does not have yet.
async fn append_side(
    root: &Url,
    slot: &mut Option<Table>,
    spec: TableSpec,
    batches: &[RecordBatch],
) -> Result<(), LakeError> {
    if batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(());
    }
    let table = ensure(root, slot, spec).await?;
    let (fresh, ends) = not_below(batches, &offsets_of(Some(table)))?;
    if fresh.is_empty() {
        return Ok(());
    }
    let files = table.write(fresh).await?;
    let txns: Vec<_> = ends.into_iter().map(|(partition, end)| (app_id(partition), end)).collect();
    table.append(files, &txns, HashMap::new()).await?;
    Ok(())
}

/// The rows that are not below their partition's offset, and one past the highest offset of each partition among them.
pub(crate) fn not_below(
    batches: &[RecordBatch],
    offsets: &BTreeMap<i32, i64>,
) -> Result<(Vec<RecordBatch>, BTreeMap<i32, i64>), LakeError> {
    let mut fresh = Vec::new();
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for batch in batches {
        let partitions = batch.column_by_name("partition").and_then(|column| column.as_primitive_opt::<Int32Type>());
        let positions = batch.column_by_name("offset").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(partitions), Some(positions)) = (partitions, positions) else {
            return Err(LakeError::BadUnit("rows without `partition` and `offset`".to_owned()));
        };
        let mut keep = Vec::with_capacity(batch.num_rows());
        for at in 0..partitions.len() {
            let (partition, offset) = (partitions.value(at), positions.value(at));
            let is_fresh = offsets.get(&partition).is_none_or(|next| offset >= *next);
            if is_fresh {
                let end = ends.entry(partition).or_insert(offset + 1);
                *end = (*end).max(offset + 1);
            }
            keep.push(is_fresh);
        }
        let kept = filter_record_batch(batch, &BooleanArray::from(keep))?;
        if kept.num_rows() > 0 {
            fresh.push(kept);
        }
    }
    Ok((fresh, ends))
}
