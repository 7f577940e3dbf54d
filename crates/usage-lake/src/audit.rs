//! The audit log: who changed what, when and why, as a Delta table of its own beside `usage`.
//!
//! Holds here: rows are appended and never touched again; when an append returns, its rows are on disk. A mark moves in the same commit as
//! the rows that it stands for, so whoever continues knows what is in.
//! Deliberately absent: what may be changed, and by whom.

use std::collections::HashMap;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tracing::warn;
use url::Url;
use usage_types::TimeUs;

use crate::LakeError;
use crate::datafile::FileRef;
use crate::lake::location;
use crate::query::QueryTable;
use crate::schema::timestamp;
use crate::table::{Table, TableSpec};

/// Table of changes and decisions.
pub const AUDIT: &str = "audit";
/// Commits between two checkpoints: opening reads at most so many log entries one by one.
const CHECKPOINT_COMMITS: u64 = 50;

const AUDIT_TABLE: TableSpec = TableSpec { name: AUDIT, schema: audit_schema, by_date: false };

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When, by the server's clock.
    pub time: TimeUs,
    /// Of what: `budget`, `decision`, ….
    pub kind: &'static str,
    /// What became of it: `add`, `change`, `remove`, `blocked`, ….
    pub action: String,
    /// The budget.
    pub budget: Option<String>,
    /// Whose balance, as the canonical text of a scope.
    pub scope: Option<String>,
    /// Where it came from: `api`, `file`, `start`, `outlay`.
    pub origin: &'static str,
    /// The key that was proven, by its name; `None` where nobody asked.
    pub key: Option<String>,
    /// Who asked, by their own words.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What was there before, as JSON.
    pub before: Option<String>,
    /// What is there now, as JSON.
    pub after: Option<String>,
    /// Entries of one change have the same.
    pub change: Option<String>,
}

static AUDIT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let mut fields = vec![Field::new("time", timestamp(), false), text("kind", false), text("action", false)];
    fields.extend([text("budget", true), text("scope", true), text("origin", false)]);
    fields.extend(["key", "actor", "reason", "before", "after", "change"].map(|name| text(name, true)));
    Arc::new(Schema::new(fields))
});

/// The columns of `audit` in memory.
#[must_use]
pub fn audit_schema() -> SchemaRef {
    Arc::clone(&AUDIT_SCHEMA)
}

/// Entries as columns of [`audit_schema`].
///
/// # Errors
/// Arrow refuses the columns, which only more than 2 GiB of text can cause.
pub fn audit_batch(rows: &[AuditRow]) -> Result<RecordBatch, LakeError> {
    let texts =
        |get: fn(&AuditRow) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(get).collect::<StringArray>()) };
    let times: Vec<i64> = rows.iter().map(|row| row.time.0).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        texts(|row| Some(row.kind)),
        texts(|row| Some(&row.action)),
        texts(|row| row.budget.as_deref()),
        texts(|row| row.scope.as_deref()),
        texts(|row| Some(row.origin)),
        texts(|row| row.key.as_deref()),
        texts(|row| row.actor.as_deref()),
        texts(|row| row.reason.as_deref()),
        texts(|row| row.before.as_deref()),
        texts(|row| row.after.as_deref()),
        texts(|row| row.change.as_deref()),
    ];
    Ok(RecordBatch::try_new(audit_schema(), columns)?)
}

/// The table, open for the one process that appends.
#[derive(Debug)]
pub struct AuditTable {
    table: Table,
    folder: PathBuf,
}

impl AuditTable {
    /// Opens it in the lake's folder (a path or a `file://` URL), creating it where it is missing.
    ///
    /// # Errors
    /// The location is no local folder, or the table cannot be read or created.
    pub async fn open(lake: &str) -> Result<Self, LakeError> {
        let (root, folder): (Url, PathBuf) = location(lake)?;
        let table = Table::open_or_create(&root, AUDIT_TABLE).await?;
        Ok(Self { table, folder: folder.join(AUDIT) })
    }

    /// Appends entries, and moves marks with them.
    ///
    /// # Errors
    /// The storage fails, or another process moved one of these marks. Nothing is appended then.
    pub async fn append(&mut self, rows: &[AuditRow], marks: &[(&str, i64)]) -> Result<(), LakeError> {
        if rows.is_empty() {
            return Ok(());
        }
        let files = self.table.write(vec![audit_batch(rows)?]).await?;
        let marks: Vec<_> = marks.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let version = self.table.append(files, &marks, HashMap::new()).await?;
        if version.is_multiple_of(CHECKPOINT_COMMITS)
            && let Err(error) = self.table.checkpoint().await
        {
            warn!(%error, "could not write a delta checkpoint of the audit log; opening takes longer until the next one");
        }
        Ok(())
    }

    /// Where a mark stands.
    #[must_use]
    pub fn mark(&self, name: &str) -> Option<i64> {
        self.table.txn(name)
    }

    /// Its files as they are now.
    #[must_use]
    pub fn files(&self) -> Arc<Vec<Arc<FileRef>>> {
        self.table.files()
    }

    /// The folder that the files' paths are relative to.
    #[must_use]
    pub fn folder(&self) -> &FsPath {
        &self.folder
    }
}

/// The view of a query: these files, and entries that are in none of them.
///
/// # Errors
/// As of [`audit_batch`].
pub fn audit_view(folder: &FsPath, files: &Arc<Vec<Arc<FileRef>>>, rows: &[AuditRow]) -> Result<QueryTable, LakeError> {
    let rows = if rows.is_empty() { Vec::new() } else { vec![audit_batch(rows)?] };
    let (name, folder, files) = (AUDIT.to_owned(), folder.to_owned(), Arc::clone(files));
    Ok(QueryTable { name, schema: audit_schema(), folder, files, rows })
}
