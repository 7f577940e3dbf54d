//! One Delta table: open, create, append, checkpoint.
//!
//! Holds here: the log entry `version + 1` is written only if it does not exist yet, which is the one point where writers meet.
//! Who loses that race reads the winner's entry: if it moved a `txn` that we are about to move, our offsets are no longer
//! what we continued from, and the append fails. Any other entry (an append of other partitions, a compaction) is taken into
//! our state and the append tries the next version. So the state of a table is always the log as far as it was read, and a
//! partition's offset never changes under its owner's feet unnoticed.
//! Deliberately absent: updates and deletes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use bytes::Bytes;
use chrono::Utc;
use deltalake_core::kernel::engine::arrow_conversion::TryFromArrow;
use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{Action, Add, MetadataExt as _, Snapshot, StructField, StructType, Transaction};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, get_actions, logstore_with};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError, Path};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tracing::info;
use url::Url;
use uuid::Uuid;

use crate::LakeError;
use crate::datafile::{FileRef, encode, split_by_date};
use crate::schema::{DATE, is_added, with_texts_as};
use crate::store::DurableLocal;

/// How long a state is used without a look at the whole log. Entries after it must still be there to be noticed, and clean-up
/// drops them after 30 days.
const STATE_AGE_MAX: Duration = Duration::from_secs(3600);
/// How long log entries are kept after a checkpoint made them unnecessary: Delta's own default.
const LOG_RETENTION_MS: i64 = 30 * 24 * 3600 * 1000;

/// What distinguishes our tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableSpec {
    pub(crate) name: &'static str,
    pub(crate) schema: fn() -> SchemaRef,
    pub(crate) by_date: bool,
}

/// A table as far as its log was read.
#[derive(Debug)]
pub(crate) struct Table {
    spec: TableSpec,
    root: Url,
    read_at: Instant,
    log: LogStoreRef,
    store: Arc<dyn ObjectStore>,
    version: u64,
    txns: BTreeMap<String, i64>,
    files: Arc<Vec<Arc<FileRef>>>,
}

/// A data file that is written and not yet part of the table.
#[derive(Debug)]
pub(crate) struct NewFile {
    add: Add,
}

impl Table {
    /// Opens the table if there is one.
    pub(crate) async fn open(root: &Url, spec: TableSpec) -> Result<Option<Self>, LakeError> {
        let log = log_store(root, spec)?;
        if !log.is_delta_table_location().await? {
            return Ok(None);
        }
        let snapshot = Snapshot::try_new(log.as_ref(), None).await?;
        check_schema(&snapshot, spec)?;
        let store = log.object_store(None);
        let version = snapshot.version();
        let views: Vec<_> = snapshot.file_views(log.as_ref(), None).try_collect().await?;
        let mut files = Vec::with_capacity(views.len());
        for view in views {
            if view.deletion_vector_descriptor().is_some() {
                return Err(deletion_vector(spec));
            }
            let size = u64::try_from(view.size()).unwrap_or(0);
            let partitions = view.partition_values_map().into_iter().collect();
            let stats = view.stats();
            files.push(Arc::new(FileRef::from_log(view.path().into_owned(), size, partitions, stats.as_deref())?));
        }
        // A checkpoint keeps no order of commits; this comes close to it.
        files.sort_by_key(|file| (file.times.get("log_time").map(|(earliest, _)| *earliest), file.path.clone()));
        let txns = read_txns(&log, spec, version).await?;
        let (root, read_at, files) = (root.clone(), Instant::now(), Arc::new(files));
        Ok(Some(Self { spec, root, read_at, log, store, version, txns, files }))
    }

    /// Opens the table, creating it where there is none.
    pub(crate) async fn open_or_create(root: &Url, spec: TableSpec) -> Result<Self, LakeError> {
        if let Some(table) = Self::open(root, spec).await? {
            return Ok(table);
        }
        let created = create(root, spec).await;
        match Self::open(root, spec).await? {
            Some(table) => Ok(table),
            None => Err(created.err().unwrap_or_else(|| table_error(spec, "it was created and is not there"))),
        }
    }

    /// Adds the columns that the table was made without, in one entry of its log: its files stay as they are. A table that another
    /// process changes at the same time is a conflict, as in [`append`](Self::append).
    pub(crate) async fn add_columns(&mut self) -> Result<(), LakeError> {
        let snapshot = Snapshot::try_new(self.log.as_ref(), Some(self.version)).await?;
        let found = snapshot.schema();
        let added: Vec<StructField> =
            delta_fields(self.spec)?.into_iter().filter(|field| found.field(field.name()).is_none()).collect();
        if added.is_empty() {
            return Ok(());
        }
        info!(table = self.spec.name, columns = added.len(), "adding columns that came with this version");
        let schema = StructType::try_new(found.fields().cloned().chain(added.iter().cloned()));
        let schema = schema.map_err(DeltaTableError::from)?;
        let operation = DeltaOperation::AddColumn { fields: added };
        let metadata = snapshot.metadata().clone().with_schema(&schema).map_err(DeltaTableError::from)?;
        let data = CommitData::new(vec![Action::Metadata(metadata)], operation, HashMap::new(), Vec::new());
        let bytes = data.get_bytes().map_err(DeltaTableError::from)?;
        let next = self.version + 1;
        match self.log.write_commit_entry(next, CommitOrBytes::LogBytes(bytes.clone()), Uuid::new_v4()).await {
            Ok(()) => self.take_in(next, &bytes).map(|_| ()),
            Err(TransactionError::VersionAlreadyExists(version)) => {
                Err(LakeError::Conflict { table: self.spec.name, version, app_id: "metadata".to_owned() })
            }
            Err(error) => Err(DeltaTableError::from(error).into()),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn txn(&self, app_id: &str) -> Option<i64> {
        self.txns.get(app_id).copied()
    }

    pub(crate) fn txns(&self) -> &BTreeMap<String, i64> {
        &self.txns
    }

    pub(crate) fn files(&self) -> Arc<Vec<Arc<FileRef>>> {
        Arc::clone(&self.files)
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        (self.spec.schema)()
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Writes rows as Parquet files, durably. They are not part of the table until [`append`](Self::append) adds them; those
    /// of a commit that never came are left behind, are never read, and cost only their space.
    pub(crate) async fn write(&self, batches: Vec<RecordBatch>) -> Result<Vec<NewFile>, LakeError> {
        let by_date = self.spec.by_date;
        let encoded = tokio::task::spawn_blocking(move || -> Result<Vec<_>, LakeError> {
            let parts = if by_date {
                split_by_date(&batches)?.into_iter().map(|(date, rows)| (Some(date), rows)).collect()
            } else {
                vec![(None, batches)]
            };
            let parts = parts.into_iter().filter(|(_, rows)| rows.iter().any(|batch| batch.num_rows() > 0));
            parts.map(|(date, rows)| encode(&rows).map(|(bytes, stats)| (date, bytes, stats))).collect()
        })
        .await??;
        let mut files = Vec::with_capacity(encoded.len());
        for (date, bytes, stats) in encoded {
            let name = format!("part-{}.zstd.parquet", Uuid::new_v4());
            let path = date.as_ref().map_or(name.clone(), |date| format!("{DATE}={date}/{name}"));
            let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            self.store.put(&Path::from(path.as_str()), bytes.into()).await?;
            let partition_values = date.map(|date| (DATE.to_owned(), Some(date))).into_iter().collect();
            let modification_time = Utc::now().timestamp_millis();
            let stats = Some(stats);
            let add = Add {
                path,
                partition_values,
                size,
                modification_time,
                data_change: true,
                stats,
                tags: None,
                deletion_vector: None,
                base_row_id: None,
                default_row_commit_version: None,
                clustering_provider: None,
            };
            files.push(NewFile { add });
        }
        Ok(files)
    }

    /// Appends files and moves `txn`s, in one commit.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] where another writer moved one of these `txn`s since our state.
    pub(crate) async fn append(
        &mut self,
        files: Vec<NewFile>,
        txns: &[(String, i64)],
        info: HashMap<String, Value>,
    ) -> Result<u64, LakeError> {
        if self.read_at.elapsed() > STATE_AGE_MAX {
            self.read_again(txns).await?;
        }
        let bytes = self.entry(files, txns, info)?;
        loop {
            let next = self.version + 1;
            let entry = CommitOrBytes::LogBytes(bytes.clone());
            match self.log.write_commit_entry(next, entry, Uuid::new_v4()).await {
                Ok(()) => return self.take_in(next, &bytes),
                Err(TransactionError::VersionAlreadyExists(_)) => {}
                // The answer may be lost while the entry was written: only the log knows.
                Err(error) if self.log.read_commit_entry(next).await?.is_none() => {
                    return Err(DeltaTableError::from(error).into());
                }
                Err(_) => {}
            }
            let found = self.log.read_commit_entry(next).await?;
            let found =
                found.ok_or_else(|| table_error(self.spec, format!("version {next} exists and is not there")))?;
            // Our bytes name our files and the time: no one else writes the same.
            if found == bytes {
                return self.take_in(next, &bytes);
            }
            self.check_conflict(next, &found, txns)?;
            self.take_in(next, &found)?;
        }
    }

    /// Reads the whole state again; a conflict if one of these `txn`s moved meanwhile.
    async fn read_again(&mut self, txns: &[(String, i64)]) -> Result<(), LakeError> {
        let fresh = Self::open(&self.root, self.spec).await?;
        let fresh = fresh.ok_or_else(|| table_error(self.spec, "it was removed while we were writing to it"))?;
        if let Some((app_id, _)) = txns.iter().find(|(id, _)| fresh.txn(id) != self.txn(id)) {
            let app_id = app_id.clone();
            return Err(LakeError::Conflict { table: self.spec.name, version: fresh.version, app_id });
        }
        *self = fresh;
        Ok(())
    }

    fn entry(
        &self,
        files: Vec<NewFile>,
        txns: &[(String, i64)],
        info: HashMap<String, Value>,
    ) -> Result<Bytes, LakeError> {
        let partition_by = self.spec.by_date.then(|| vec![DATE.to_owned()]);
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by, predicate: None };
        let actions = files.into_iter().map(|file| Action::Add(file.add)).collect();
        let now_ms = Utc::now().timestamp_millis();
        let txns = txns.iter().map(|(id, version)| Transaction::new_with_last_update(id, *version, Some(now_ms)));
        let data = CommitData::new(actions, operation, info, txns.collect());
        data.get_bytes().map_err(|error| DeltaTableError::from(error).into())
    }

    fn check_conflict(&self, version: u64, entry: &Bytes, txns: &[(String, i64)]) -> Result<(), LakeError> {
        for action in get_actions(version, entry)? {
            let app_id = match action {
                Action::Txn(txn) if txns.iter().any(|(ours, _)| *ours == txn.app_id) => txn.app_id,
                Action::Metadata(_) | Action::Protocol(_) => "metadata".to_owned(),
                _ => continue,
            };
            return Err(LakeError::Conflict { table: self.spec.name, version, app_id });
        }
        Ok(())
    }

    /// Makes one log entry part of our state.
    fn take_in(&mut self, version: u64, entry: &Bytes) -> Result<u64, LakeError> {
        let mut files = Arc::clone(&self.files);
        for action in get_actions(version, entry)? {
            match action {
                Action::Add(add) if add.deletion_vector.is_some() => return Err(deletion_vector(self.spec)),
                Action::Add(add) => {
                    let size = u64::try_from(add.size).unwrap_or(0);
                    let partitions = add.partition_values.into_iter().collect();
                    let file = FileRef::from_log(add.path, size, partitions, add.stats.as_deref())?;
                    Arc::make_mut(&mut files).push(Arc::new(file));
                }
                Action::Remove(remove) => Arc::make_mut(&mut files).retain(|file| file.path != remove.path),
                Action::Txn(txn) => {
                    self.txns.insert(txn.app_id, txn.version);
                }
                _ => {}
            }
        }
        self.files = files;
        self.version = version;
        self.read_at = Instant::now();
        Ok(version)
    }

    /// The `commitInfo` of one version, where its log entry still exists.
    pub(crate) async fn commit_info(&self, version: u64) -> Result<Option<HashMap<String, Value>>, LakeError> {
        let Some(entry) = self.log.read_commit_entry(version).await? else { return Ok(None) };
        let info = get_actions(version, &entry)?.into_iter().find_map(|action| match action {
            Action::CommitInfo(info) => Some(info.info),
            _ => None,
        });
        Ok(Some(info.unwrap_or_default()))
    }

    /// Writes a Delta checkpoint of the current version, so that opening reads one file and the few entries after it, and
    /// drops entries that have not been needed for 30 days.
    pub(crate) async fn checkpoint(&self) -> Result<(), LakeError> {
        let mut table = DeltaTable::new(Arc::clone(&self.log));
        table.load_version(self.version).await?;
        create_checkpoint(&table, None).await?;
        let cutoff_ms = Utc::now().timestamp_millis() - LOG_RETENTION_MS;
        cleanup_expired_logs_for(self.version, self.log.as_ref(), cutoff_ms, None).await?;
        Ok(())
    }
}

fn table_error(spec: TableSpec, reason: impl Into<String>) -> LakeError {
    LakeError::Table { table: spec.name, reason: reason.into() }
}

fn deletion_vector(spec: TableSpec) -> LakeError {
    table_error(spec, "it has deletion vectors, which we do not read; purge them with the tool that wrote them")
}

fn log_store(root: &Url, spec: TableSpec) -> Result<LogStoreRef, LakeError> {
    let location = root
        .join(&format!("{}/", spec.name))
        .map_err(|error| LakeError::Location { location: root.to_string(), reason: error.to_string() })?;
    Ok(logstore_with(Arc::new(DurableLocal::new()), &location, StorageConfig::default())?)
}

/// The Delta columns: plain texts, and the partition column.
fn delta_fields(spec: TableSpec) -> Result<Vec<StructField>, LakeError> {
    let schema = with_texts_as(&(spec.schema)(), &DataType::Utf8);
    let delta = StructType::try_from_arrow(schema.as_ref())?;
    let mut fields: Vec<StructField> = delta.fields().cloned().collect();
    // A table that gets them later can only have them as nullable, and all tables shall be alike.
    fields.iter_mut().filter(|field| is_added(field.name())).for_each(|field| field.nullable = true);
    if spec.by_date {
        fields.push(StructField::new(DATE, deltalake_core::kernel::DataType::DATE, false));
    }
    Ok(fields)
}

async fn create(root: &Url, spec: TableSpec) -> Result<(), LakeError> {
    let builder = CreateBuilder::new()
        .with_log_store(log_store(root, spec)?)
        .with_table_name(spec.name)
        .with_columns(delta_fields(spec)?);
    let builder = if spec.by_date { builder.with_partition_columns([DATE]) } else { builder };
    builder.await?;
    Ok(())
}

/// Every column of ours must be there with its type, or be one that came later; more columns are another program's business.
fn check_schema(snapshot: &Snapshot, spec: TableSpec) -> Result<(), LakeError> {
    let found = snapshot.schema();
    for field in delta_fields(spec)? {
        match found.field(field.name()) {
            Some(other) if other.data_type() == field.data_type() => {}
            None if is_added(field.name()) => {}
            Some(other) => {
                let reason = format!("column `{}` is {}, not {}", field.name(), other.data_type(), field.data_type());
                return Err(table_error(spec, reason));
            }
            None => return Err(table_error(spec, format!("column `{}` is missing", field.name()))),
        }
    }
    Ok(())
}

/// All `txn`s at this version: those of the newest checkpoint, overwritten by the entries after it. (The Delta kernel only
/// answers for one application id at a time, and which partitions exist is what we want to know.)
async fn read_txns(log: &LogStoreRef, spec: TableSpec, version: u64) -> Result<BTreeMap<String, i64>, LakeError> {
    let store = log.object_store(None);
    let mut txns = BTreeMap::new();
    let mut next = 0;
    if let Some((at, parts)) = newest_checkpoint(store.as_ref(), version).await? {
        for part in parts {
            let bytes = store.get(&part).await?.bytes().await?;
            txns.extend(checkpoint_txns(bytes)?);
        }
        next = at + 1;
    }
    for at in next..=version {
        let entry = log.read_commit_entry(at).await?;
        let entry = entry.ok_or_else(|| table_error(spec, format!("log entry {at} is missing")))?;
        for action in get_actions(at, &entry)? {
            if let Action::Txn(txn) = action {
                txns.insert(txn.app_id, txn.version);
            }
        }
    }
    Ok(txns)
}

/// The newest complete checkpoint not after `version`, in one file or in several.
async fn newest_checkpoint(store: &dyn ObjectStore, version: u64) -> Result<Option<(u64, Vec<Path>)>, LakeError> {
    let listed: Vec<_> = store.list(Some(&Path::from("_delta_log"))).try_collect().await?;
    let mut found: BTreeMap<(u64, usize), Vec<Path>> = BTreeMap::new();
    for meta in listed {
        let Some(name) = meta.location.filename() else { continue };
        let pieces: Vec<&str> = name.split('.').collect();
        let parts = match pieces[..] {
            [_, "checkpoint", "parquet"] => Some(1),
            [_, "checkpoint", _, count, "parquet"] => count.parse().ok(),
            _ => None,
        };
        if let (Some(parts), Ok(at)) = (parts, pieces[0].parse::<u64>())
            && at <= version
        {
            found.entry((at, parts)).or_default().push(meta.location.clone());
        }
    }
    Ok(found.into_iter().rev().find(|((_, count), files)| files.len() == *count).map(|((at, _), files)| (at, files)))
}

fn checkpoint_txns(bytes: Bytes) -> Result<Vec<(String, i64)>, LakeError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["txn"]);
    let mut txns = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let Some(rows) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else { continue };
        let ids = rows.column_by_name("appId").and_then(|column| column.as_string_opt::<i32>());
        let versions = rows.column_by_name("version").and_then(|column| column.as_primitive_opt::<Int64Type>());
        if let (Some(ids), Some(versions)) = (ids, versions) {
            let present = (0..rows.len()).filter(|&at| rows.is_valid(at) && ids.is_valid(at));
            txns.extend(present.map(|at| (ids.value(at).to_owned(), versions.value(at))));
        }
    }
    Ok(txns)
}

#[cfg(test)]
mod tests;
