//! The budgets file: read at start and whenever it changes, refused whole where it is wrong, and put in force with its history.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use budget_core::HistoryRequest;
use futures::{Stream, StreamExt as _};
use tokio::runtime::Handle;
use usage_lake::{Lake, LakeError, ReplayColumns, ReplayFrom, StoredRow, rows};
use usage_types::{BudgetSet, TimeUs};

use super::Shared;
use super::commit::Work;
use super::counted::Snapshot;
use super::recover::restored;

/// How often the file is looked at. Reading it costs microseconds, and works where change notifications do not (network file
/// systems, Kubernetes' ConfigMaps).
const LOOK: Duration = Duration::from_millis(500);
/// How long to wait before a history that could not be read is read again.
const RETRY: Duration = Duration::from_secs(2);
/// Rows of history that are folded while the lock is held: well under a millisecond.
const LOCKED_ROWS: usize = 1024;

/// Reads and checks the file.
pub fn read(path: &Path) -> Result<(String, BudgetSet)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let set = BudgetSet::from_yaml(&text).with_context(|| path.display().to_string())?;
    Ok((text, set))
}

/// Watches the file until the server stops. A file that is wrong is logged once, and the budgets in force stay; it is no problem any more
/// when it says again what is in force.
pub async fn watch(shared: Arc<Shared>, path: std::path::PathBuf, mut text: String) {
    let mut refused = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(now) = tokio::fs::read_to_string(&path).await else { continue };
        if now == refused {
            continue;
        }
        if now == text {
            if !refused.is_empty() {
                shared.budgets_problem(None);
                refused.clear();
            }
            continue;
        }
        match BudgetSet::from_yaml(&now) {
            Ok(set) => {
                if shared.management.take_over(&shared, set).await.is_err() {
                    return;
                }
                shared.metrics.count_budget_reload(true);
                shared.budgets_problem(None);
                refused.clear();
                text = now;
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "the budgets file is refused; the budgets before it stay in force");
                shared.metrics.count_budget_reload(false);
                shared.budgets_problem(Some(format!("{}: {error}", path.display())));
                refused = now;
            }
        }
    }
}

/// Puts budgets in force, and reads the history of the new ones from the lake and the tail. Called by the commit thread between commits, so
/// that files and tail hold each row once.
pub fn put_in_force(shared: &Arc<Shared>, runtime: &Handle, lake: &Lake, work: &SyncSender<Work>, set: Arc<BudgetSet>) {
    let history = self::set(shared, set);
    shared.management.note_in_force();
    if let Some((requests, tail)) = history {
        read_history(shared, runtime, lake, work, requests, tail);
    }
}

/// What is to be read for new budgets, and the tail of the moment at which they were set.
type History = (Vec<HistoryRequest>, Result<Snapshot, LakeError>);

/// Sets budgets. Where some have to read their history, the lake must stand still until they do.
pub fn set(shared: &Shared, set: Arc<BudgetSet>) -> Option<History> {
    let now = TimeUs::from(chrono::Utc::now());
    let mut counted = shared.counted.lock();
    let requests = counted.core.set_budgets(Arc::clone(&set), now);
    let (budgets, breakers) = (set.budgets.len(), set.breakers.len());
    tracing::info!(budgets, breakers, new = requests.len(), "budgets are in force");
    let history = (!requests.is_empty()).then(|| (requests, counted.tail.snapshot()));
    drop(counted);
    shared.budgets.store(set);
    history
}

/// Asks for histories again that could not be read.
pub fn read_again(
    shared: &Arc<Shared>,
    runtime: &Handle,
    lake: &Lake,
    work: &SyncSender<Work>,
    failed: &[HistoryRequest],
) {
    let now = TimeUs::from(chrono::Utc::now());
    let mut counted = shared.counted.lock();
    let requests = failed.iter().filter_map(|request| counted.core.restart_history(request, now)).collect();
    let tail = counted.tail.snapshot();
    drop(counted);
    read_history(shared, runtime, lake, work, requests, tail);
}

fn read_history(
    shared: &Arc<Shared>,
    runtime: &Handle,
    lake: &Lake,
    work: &SyncSender<Work>,
    requests: Vec<HistoryRequest>,
    tail: Result<Snapshot, LakeError>,
) {
    let Some(from) = requests.iter().map(|request| request.from).min() else { return };
    let _context = runtime.enter();
    let files = lake.replay(ReplayFrom { time: Some(from), log_time: None }, ReplayColumns::Balances);
    let (shared, work) = (Arc::clone(shared), work.clone());
    runtime.spawn(async move {
        let result = match tail {
            Ok(tail) => {
                add_all(&shared, &requests, files.chain(futures::stream::iter(tail.rows.into_iter().map(Ok)))).await
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                let mut counted = shared.counted.lock();
                requests.iter().for_each(|request| counted.core.finish_history(request));
            }
            Err(error) => {
                tracing::error!(%error, "the history of new budgets could not be read; trying again");
                tokio::time::sleep(RETRY).await;
                let _stopping = tokio::task::spawn_blocking(move || work.send(Work::History(requests))).await;
            }
        }
    });
}

async fn add_all(
    shared: &Shared,
    requests: &[HistoryRequest],
    mut batches: impl Stream<Item = Result<RecordBatch, LakeError>> + Unpin,
) -> Result<(), LakeError> {
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let stored: Vec<StoredRow<'_>> = rows(&batch)?.collect::<Result<_, _>>()?;
        // The lock is taken for a slice at a time, so that ingest and checks go on.
        for slice in stored.chunks(LOCKED_ROWS) {
            let mut counted = shared.counted.lock();
            for row in slice {
                for request in requests.iter().filter(|request| row.time >= request.from) {
                    counted.core.add_history(request, &restored(row));
                }
            }
        }
    }
    Ok(())
}
