//! The commit thread: dead letters first, then the lake. It tries again until the store takes the rows, and never drops any.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use budget_core::HistoryRequest;
use event_log::{LogError, Publisher, topics};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use usage_intake::DeadLetter;
use usage_lake::{Lake, LakeError};
use usage_types::BudgetSet;

use super::counted::{Forward, Handed};
use super::ingest::FORWARDED_HEADER;
use super::{Shared, budgets};

/// The first pause before a failed commit is tried again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long a commit is still tried when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long dead letters may take to be acknowledged before that is tried again.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// What the thread is asked to do. One thread does both, because both need the lake to stand still.
pub enum Work {
    /// Commit this.
    Commit(Handed),
    /// Put these budgets in force, say so, and read the history of those that are new.
    Budgets(Arc<BudgetSet>, oneshot::Sender<()>),
    /// Read these histories again, which could not be read.
    History(Vec<HistoryRequest>),
    /// Commit nothing more and stop.
    Stop,
}

/// Commits what it is handed until it is told to stop.
///
/// # Errors
/// Another worker commits to this lake, or the accounts do not fit it: this worker must not go on.
pub fn run(
    shared: &Arc<Shared>,
    runtime: &Handle,
    mut lake: Lake,
    (again, work): &(SyncSender<Work>, Receiver<Work>),
) -> Result<()> {
    let publisher = Publisher::open(&shared.log_config)?;
    while let Ok(work) = work.recv() {
        match work {
            Work::Commit(unit) => commit_one(shared, runtime, &publisher, &mut lake, unit)?,
            Work::Budgets(set, done) => {
                budgets::put_in_force(shared, runtime, &lake, again, set);
                // Whoever asked may be gone.
                let _gone = done.send(());
            }
            Work::History(failed) => budgets::read_again(shared, runtime, &lake, again, &failed),
            Work::Stop => break,
        }
    }
    runtime.block_on(lake.fill_accounts()).context("cannot write the table of accounts")
}

fn commit_one(shared: &Shared, runtime: &Handle, publisher: &Publisher, lake: &mut Lake, handed: Handed) -> Result<()> {
    let rows: usize = handed.unit.rows.iter().map(arrow::array::RecordBatch::num_rows).sum();
    let mut pause = RETRY.0;
    let begun = Instant::now();
    loop {
        let published =
            publish_again(publisher, &handed.forwards).and_then(|()| publish_letters(publisher, &handed.letters));
        let result = match published {
            Ok(()) => runtime.block_on(lake.commit(handed.unit.clone())).map_err(CommitProblem::Lake),
            Err(error) => Err(CommitProblem::Letters(error)),
        };
        match result {
            Ok(done) => {
                shared.metrics.commits.inc();
                shared.metrics.commit_duration.observe(begun.elapsed().as_secs_f64());
                shared.metrics.rows.inc_by(rows as u64);
                shared.metrics.lake_version.set(i64::try_from(done.version).unwrap_or(i64::MAX));
                shared.counted.lock().tail.committed(done.files);
                shared.note_commit(None);
                tracing::debug!(version = done.version, rows, "committed");
                return Ok(());
            }
            Err(CommitProblem::Lake(error)) if is_fatal(&error) => {
                bail!("{error}; this worker stops so that no event is counted twice");
            }
            Err(problem) => {
                tracing::error!(error = %problem, rows, "the lake did not take the rows; trying again");
                shared.metrics.commit_failures.inc();
                shared.note_commit(Some(problem.to_string()));
                if shared.stopping.load(Ordering::Relaxed) && begun.elapsed() > STOP_GRACE {
                    bail!(
                        "{problem}; stopped with {rows} rows not in the lake: the next start reads them from the log again"
                    );
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

/// Whether trying again would count events twice or leave some out: the lake is not where this worker took it to be.
fn is_fatal(error: &LakeError) -> bool {
    use LakeError::{BadUnit, Conflict, Gap, Overlap};
    matches!(error, Conflict { .. } | Gap { .. } | Overlap { .. } | BadUnit(_))
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
enum CommitProblem {
    #[error("{0}")]
    Lake(LakeError),
    #[error("dead letters or forwarded events were not published: {0}")]
    Letters(LogError),
}

/// Publishes events again. One that is published twice, because the commit after it failed, has its id and counts once.
fn publish_again(publisher: &Publisher, forwards: &[Forward]) -> Result<(), LogError> {
    for Forward { key, value, hops } in forwards {
        let hops = hops.to_string();
        let headers: [(&str, &[u8]); 1] = [(FORWARDED_HEADER, hops.as_bytes())];
        publisher.publish(topics::USAGE_EVENTS, key.as_bytes(), Some(value), &headers, None)?;
    }
    if forwards.is_empty() { Ok(()) } else { publisher.flush(FLUSH_TIMEOUT) }
}

/// Publishes dead letters under their source position. One that is published again after a crash has the same key.
fn publish_letters(publisher: &Publisher, letters: &[DeadLetter]) -> Result<(), LogError> {
    for letter in letters {
        let key = format!("{}/{}/{}", letter.topic, letter.partition, letter.offset);
        let value = serde_json::to_vec(letter).unwrap_or_else(|_| letter.message.clone().into_bytes());
        let code = letter.code.name().as_bytes();
        let offset = letter.offset.to_string();
        let headers: [(&str, &[u8]); 3] =
            [("reason_code", code), ("source_topic", letter.topic.as_bytes()), ("source_offset", offset.as_bytes())];
        publisher.publish(topics::USAGE_REJECTED, key.as_bytes(), Some(&value), &headers, None)?;
    }
    publisher.flush(FLUSH_TIMEOUT)
}
