//! The one error of this crate: what went wrong and what the caller does next.

use deltalake_core::DeltaTableError;

/// Why the lake, a query or a report could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The location is no local folder.
    #[error("`{location}` is no lake location: {reason}")]
    Location {
        /// The location as it was given.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another writer committed to one of our partitions. Drop the buffer, open the lake again, continue from its offsets.
    #[error(
        "another writer committed `{app_id}` in version {version} of table `{table}`; drop the buffer and reload the lake"
    )]
    Conflict {
        /// The table.
        table: &'static str,
        /// The version that the other writer made.
        version: u64,
        /// What it moved: the `txn` of a partition, or `metadata`.
        app_id: String,
    },
    /// A range starts after the partition's committed offset: events between them would never be counted.
    #[error("partition {partition}: the range starts at {start} but the lake is at {committed}; offsets would be lost")]
    Gap {
        /// The input partition.
        partition: i32,
        /// Where the unit's range starts.
        start: i64,
        /// The lake's next offset.
        committed: i64,
    },
    /// A range starts before the partition's committed offset: events would be counted twice.
    #[error(
        "partition {partition}: the range starts at {start} but the lake is at {committed}; events would count twice"
    )]
    Overlap {
        /// The input partition.
        partition: i32,
        /// Where the unit's range starts.
        start: i64,
        /// The lake's next offset.
        committed: i64,
    },
    /// The commit unit contradicts itself.
    #[error("the commit unit is inconsistent: {0}")]
    BadUnit(String),
    /// A table in the lake is not one that this version can read.
    #[error("table `{table}`: {reason}")]
    Table {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing the storage failed.
    #[error("lake storage: {0}")]
    Storage(#[from] object_store::Error),
    /// The Delta log could not be read or written.
    #[error("delta log: {0}")]
    Delta(#[source] Box<DeltaTableError>),
    /// Parquet could not be read or written.
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow refused a conversion.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// JSON that we wrote or should have written could not be read.
    #[error("json in the delta log: {0}")]
    Json(#[from] serde_json::Error),
    /// A background task ended early, because the runtime shuts down or it panicked.
    #[error("a lake task ended early: {0}")]
    Task(String),

    /// Rows could not be put in order, because files overlap too much in time.
    #[error("putting the rows in order took more than {limit_mib} MiB of memory; take a shorter time")]
    Unordered {
        /// The limit, in MiB.
        limit_mib: usize,
    },

    /// The SQL is wrong, or not allowed; the message is for the person who wrote it.
    #[error("{0}")]
    Sql(String),
    /// The query needed more memory than a query may use.
    #[error(
        "the query used more than {limit_mib} MiB of memory; aggregate more, or select fewer columns or a shorter time"
    )]
    QueryMemory {
        /// The limit, in MiB.
        limit_mib: u64,
    },
    /// The query ran into its deadline and was killed.
    #[error("the query ran longer than {limit_s} s and was stopped; aggregate less, or select a shorter time")]
    QueryTime {
        /// The deadline, in seconds.
        limit_s: u64,
    },
    /// The result is larger than a result may be.
    #[error("the result is larger than {limit} {unit}; aggregate, or add a LIMIT")]
    QueryResult {
        /// The limit.
        limit: u64,
        /// `rows` or `bytes`.
        unit: &'static str,
    },
    /// The expression is nested too deeply to be planned.
    #[error("the query is nested too deeply; use fewer terms in one expression")]
    QueryDepth,
    /// All workers are busy and the queue is full.
    #[error("too many queries run at once; try again in a moment")]
    QueryBusy,
    /// The worker could not be started or broke its protocol.
    #[error("query worker: {0}")]
    QueryWorker(String),

    /// There is no such report.
    #[error("there is no report `{name}`; there are {known}")]
    ReportUnknown {
        /// The name as it was given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A report's parameter is wrong.
    #[error("parameter `{parameter}`: {reason}")]
    ReportParameter {
        /// The parameter.
        parameter: String,
        /// What is wrong and what to write.
        reason: String,
    },
}

impl From<DeltaTableError> for LakeError {
    fn from(error: DeltaTableError) -> Self {
        Self::Delta(Box::new(error))
    }
}

impl From<tokio::task::JoinError> for LakeError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task(error.to_string())
    }
}
