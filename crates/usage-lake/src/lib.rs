//! The lake: usage rows as Parquet in a Delta table, recovery from it, and SQL over the lake and the tail.
//!
//! Holds here: a commit carries its rows and its input offsets in one log entry, so the lake is the checkpoint; every offset is
//! accounted for once; SQL from people runs in a child process that the operating system confines.
//! Deliberately absent: what a budget is, consuming and publishing, HTTP, and stores other than a local folder.

mod account;
mod audit;
mod buffer;
mod column;
mod datafile;
mod error;
mod kind;
mod lake;
mod lookup;
mod ordered;
mod query;
mod replay;
mod report;
mod reversals;
mod schema;
mod store;
mod table;
mod verify;

pub use account::{Account, OffsetRange, REJECTED_VALUE_BYTES_MAX, RejectedRow, accounts_batch, rejected_batch};
pub use audit::{AUDIT, AuditRow, AuditTable, audit_batch, audit_schema, audit_view};
pub use buffer::{CHUNK_ROWS, RowBuffer, RowRef};
pub use datafile::FileRef;
pub use error::LakeError;
pub use kind::RowKind;
pub use lake::{CommitUnit, Committed, Lake, LakeFiles, SideOffsets};
pub use lookup::{Chain, EventName, FoundRow, Lookup, rows_of};
pub use ordered::{OrderedRead, OrderedRows};
pub use query::worker as query_worker;
pub use query::{
    BatchStream, Format, PgDescription, PgParameter, PgQuery, QueryConfig, QueryInput, QueryOutput, QueryPool,
    QueryStream, QueryTable, RowWriter, Tail, json_text,
};
pub use replay::{ReplayColumns, ReplayFrom, RowStream, StoredRow, rows};
pub use report::{
    Parameter, ParameterKind, Period, Report, ReportEdges, ReportRequest, ReportSettings, SharedKeys, midnight, period,
};
pub use schema::{ACCOUNTS, REJECTED, TOO_LATE, USAGE, accounts_schema, rejected_schema, usage_schema};
pub use verify::{Finding, PartitionReport, VerifyReport, verify};
