//! SQL from people, in a child process.
//!
//! DataFusion in our own process cannot be contained: a function may ignore its memory pool, a join may starve the runtime's
//! timers, a long expression may overflow the stack. So the parent ([`QueryPool`]) hands a query, the chosen files and the tail
//! to a child ([`query_worker`](crate::query_worker)) that the operating system limits in memory, files and sockets, and kills
//! it at its deadline. A child serves one query and exits: nothing of one caller's rows is left for the next, confinement
//! to the chosen files cannot be undone, and a leak or a fragmented heap does not outlive its query. A few are started ahead,
//! so that nobody waits for a start.
//! Deliberately absent: filters on rows by tenant. A view or filter above the scan leaks through errors of a caller's own
//! predicate; whoever may see less is given fewer files and rows.

mod defaults;
mod encode;
mod pool;
mod postgres;
mod protocol;
mod sandbox;
mod stream;
mod table;
mod tag;
pub mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
pub use encode::{Format, RowWriter, json_text};
pub use pool::{QueryConfig, QueryOutput, QueryPool};
pub use postgres::{PgDescription, PgParameter, PgQuery};
pub use stream::{BatchStream, QueryStream};

use crate::LakeError;
use crate::account::accounts_batch;
use crate::datafile::FileRef;
use crate::lake::{LakeFiles, not_below};
use crate::schema::{ACCOUNTS, REJECTED, TOO_LATE, USAGE, accounts_schema, rejected_schema, usage_schema};

/// What a query may read.
#[derive(Debug, Clone, Default)]
pub struct QueryInput {
    /// The tables, each under its name in SQL.
    pub tables: Vec<QueryTable>,
}

/// One table of a query: files of the lake, rows in memory, or both.
#[derive(Debug, Clone)]
pub struct QueryTable {
    /// The name in SQL.
    pub name: String,
    /// The columns, as they are in memory.
    pub schema: SchemaRef,
    /// The folder that the files' paths are relative to.
    pub folder: PathBuf,
    /// The files.
    pub files: Arc<Vec<Arc<FileRef>>>,
    /// The rows in memory, with the columns of `schema`.
    pub rows: Vec<RecordBatch>,
}

/// Rows that are not committed yet, taken at the same moment as the [`LakeFiles`] that they go with.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// Of `usage`.
    pub usage: Vec<RecordBatch>,
    /// Of `too_late`.
    pub too_late: Vec<RecordBatch>,
    /// Of `rejected` ([`rejected_batch`](crate::rejected_batch)).
    pub rejected: Vec<RecordBatch>,
}

impl QueryInput {
    /// The lake's tables with their tails: `usage`, `too_late`, `rejected`, `accounts`.
    ///
    /// # Errors
    /// A tail's batch does not have its table's columns.
    pub fn of_lake(files: &LakeFiles, tail: Tail) -> Result<Self, LakeError> {
        let table = |name: &str, schema, files: &Arc<Vec<Arc<FileRef>>>, folder: &PathBuf, rows| QueryTable {
            name: name.to_owned(),
            schema,
            folder: folder.join(name),
            files: Arc::clone(files),
            rows,
        };
        // After a crash a side table can be ahead of `usage`: its rows come again and are not to be shown twice.
        let (too_late, _) = not_below(&tail.too_late, &files.side_offsets.too_late)?;
        let (rejected, _) = not_below(&tail.rejected, &files.side_offsets.rejected)?;
        let accounts =
            if files.accounts_tail.is_empty() { vec![] } else { vec![accounts_batch(&files.accounts_tail)?] };
        let root = files.root.as_path().to_path_buf();
        Ok(Self {
            tables: vec![
                table(USAGE, usage_schema(), &files.usage, &root, tail.usage),
                table(TOO_LATE, usage_schema(), &files.too_late, &root, too_late),
                table(REJECTED, rejected_schema(), &files.rejected, &root, rejected),
                table(ACCOUNTS, accounts_schema(), &files.accounts, &root, accounts),
            ],
        })
    }

    /// Adds a table that is only in memory, like `balances`.
    #[must_use]
    pub fn with_table(mut self, name: impl Into<String>, schema: SchemaRef, rows: Vec<RecordBatch>) -> Self {
        let (name, folder, files) = (name.into(), PathBuf::new(), Arc::default());
        self.tables.push(QueryTable { name, schema, folder, files, rows });
        self
    }
}

/// The batch with the types of another schema of the same columns.
fn cast_batch(batch: &RecordBatch, to: &SchemaRef) -> Result<RecordBatch, LakeError> {
    if batch.schema() == *to {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().zip(to.fields()).map(|(column, field)| cast(column, field.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(to), columns.collect::<Result<_, _>>()?)?)
}
