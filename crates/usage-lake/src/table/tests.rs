//! Commits whose answer is lost, and what a crash leaves behind.

use deltalake_core::DeltaResult;
use deltalake_core::logstore::{LogStore, LogStoreConfig};
use object_store::ObjectStoreExt as _;

use super::*;
use crate::account::{Account, OffsetRange, accounts_batch};
use crate::schema::accounts_schema;

const SPEC: TableSpec = TableSpec { name: "accounts", schema: accounts_schema, by_date: false };

/// A store that loses the answer to a write: either the write was done (`keeps`) or it was not.
#[derive(Debug)]
struct Forgetful {
    inner: LogStoreRef,
    keeps: bool,
}

#[async_trait::async_trait]
impl LogStore for Forgetful {
    fn name(&self) -> String {
        self.inner.name()
    }
    async fn read_commit_entry(&self, version: u64) -> DeltaResult<Option<Bytes>> {
        self.inner.read_commit_entry(version).await
    }
    async fn write_commit_entry(&self, version: u64, entry: CommitOrBytes, id: Uuid) -> Result<(), TransactionError> {
        if self.keeps {
            self.inner.write_commit_entry(version, entry, id).await?;
        }
        Err(TransactionError::LogStoreError { msg: "connection reset".into(), source: "connection reset".into() })
    }
    async fn abort_commit_entry(&self, version: u64, entry: CommitOrBytes, id: Uuid) -> Result<(), TransactionError> {
        self.inner.abort_commit_entry(version, entry, id).await
    }
    async fn get_latest_version(&self, version: u64) -> DeltaResult<u64> {
        self.inner.get_latest_version(version).await
    }
    fn object_store(&self, id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.object_store(id)
    }
    fn root_object_store(&self, id: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.root_object_store(id)
    }
    fn config(&self) -> &LogStoreConfig {
        self.inner.config()
    }
}

async fn append(table: &mut Table, end: i64) -> Result<u64, LakeError> {
    let account =
        Account { version: 1, committed_at: usage_types::TimeUs(0), range: OffsetRange { end, ..Default::default() } };
    let files = table.write(vec![accounts_batch(&[account]).unwrap()]).await.unwrap();
    table.append(files, &[("app".to_owned(), end)], HashMap::new()).await
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_reading_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let root = Url::from_directory_path(folder.path()).unwrap();
    let mut table = Table::open_or_create(&root, SPEC).await.unwrap();
    let log = Arc::clone(&table.log);

    table.log = Arc::new(Forgetful { inner: Arc::clone(&log), keeps: true });
    assert_eq!(append(&mut table, 5).await.unwrap(), 1, "the entry is in the log: it is committed");
    table.log = Arc::new(Forgetful { inner: Arc::clone(&log), keeps: false });
    append(&mut table, 6).await.unwrap_err();
    assert_eq!(table.txn("app"), Some(5), "nothing was written: nothing has moved");

    table.log = log;
    assert_eq!(append(&mut table, 6).await.unwrap(), 2);
    let again = Table::open(&root, SPEC).await.unwrap().unwrap();
    assert_eq!((again.txn("app"), again.files().len()), (Some(6), 2));
}

#[tokio::test]
async fn what_a_crash_leaves_behind_is_not_part_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let root = Url::from_directory_path(folder.path()).unwrap();
    let mut table = Table::open_or_create(&root, SPEC).await.unwrap();
    append(&mut table, 5).await.unwrap();
    // A data file whose commit never came, and a log entry that never got its name.
    table.store.put(&Path::from("part-orphan.parquet"), Bytes::from_static(b"PAR1").into()).await.unwrap();
    let staged = folder.path().join("accounts/_delta_log/00000000000000000002.json#123000001");
    std::fs::write(&staged, "{\"add\":{\"pa").unwrap();
    let mut table = Table::open(&root, SPEC).await.unwrap().unwrap();
    assert_eq!((table.version(), table.files().len()), (1, 1));
    append(&mut table, 6).await.unwrap();
    table.checkpoint().await.unwrap();
    assert_eq!(Table::open(&root, SPEC).await.unwrap().unwrap().txn("app"), Some(6));
}
