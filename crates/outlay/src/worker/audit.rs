//! The audit log's writer: changes are on disk before they take effect, decisions some seconds after they are made.
//!
//! Holds here: a query sees every entry once, whether it is in a file yet or not. What a crash keeps out of the log is made up for at the next
//! start, as far as the decisions' topic and the stored budgets tell.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use usage_lake::{AuditRow, AuditTable, FileRef, LakeError, QueryTable, audit_view};
use usage_types::{BudgetSet, Decision, TimeUs};

use super::manage::{Version, version_of};

/// How long an entry of a decision may wait for others, so that a day of them is not a hundred thousand files. Queries see it at once.
const FLUSH: Duration = Duration::from_secs(10);
/// How long is waited after the storage failed.
const RETRY: Duration = Duration::from_secs(5);
/// The mark that says up to when decisions are in.
const DECIDED: &str = "outlay/decided_at";
/// The mark that says which budgets the last entry of them left in force.
pub const BUDGETS: &str = "outlay/budgets";
/// The mark that says which increase requests the last entry of them left.
pub const INCREASES: &str = "outlay/increases";

/// The mark that says which invoices the last entry of them left.
pub const INVOICES: &str = "outlay/invoices";

/// Something that is kept in a file of its own, as a start finds it.
pub struct Kept {
    /// The mark that says which version the last entry of it left.
    pub mark: &'static str,
    /// The kind of its entries.
    pub kind: &'static str,
    /// What it is, in a sentence.
    pub name: &'static str,
    /// The version that is there.
    pub version: Version,
}

/// The audit log.
pub struct Audit {
    table: tokio::sync::Mutex<AuditTable>,
    seen: Mutex<Seen>,
}

/// What a query sees.
struct Seen {
    folder: PathBuf,
    files: Arc<Vec<Arc<FileRef>>>,
    waiting: Vec<AuditRow>,
    decided_at: i64,
}

impl Audit {
    /// Opens it beside the lake, and makes up for what a crash kept out of it.
    pub async fn open(lake: &str, decisions: &[Decision], budgets: &BudgetSet, kept: &[Kept]) -> Result<Self> {
        let mut table = AuditTable::open(lake).await.context("cannot open the audit log")?;
        let known = table.mark(DECIDED).unwrap_or(0);
        let mut missing: Vec<&Decision> = decisions.iter().filter(|decision| decision.decided_at.0 > known).collect();
        missing.sort_by_key(|decision| decision.decided_at);
        let mut rows: Vec<AuditRow> = missing.iter().map(|decision| decided(decision)).collect();
        let decided_at = missing.last().map_or(known, |last| last.decided_at.0);
        let version = version_of(budgets);
        let recorded = table.mark(BUDGETS);
        if recorded != Some(version.number) && !(recorded.is_none() && *budgets == BudgetSet::default()) {
            rows.push(AuditRow {
                reason: Some("the budgets at start are not those that were last recorded".to_owned()),
                after: Some(version.json.clone()),
                change: Some(version.etag.clone()),
                ..entry("budgets", "found", "start")
            });
        }
        let mut marks = vec![(DECIDED, decided_at), (BUDGETS, version.number)];
        for Kept { mark, kind, name, version } in kept {
            // Where none was ever recorded, there is none, or one was recorded and a crash came between the two.
            if table.mark(mark).is_some_and(|recorded| recorded != version.number) {
                rows.push(AuditRow {
                    reason: Some(format!("the {name} at start are not those that were last recorded")),
                    after: Some(version.json.clone()),
                    ..entry(kind, "found", "start")
                });
            }
            marks.push((mark, version.number));
        }
        table.append(&rows, &marks).await.context("cannot write the audit log")?;
        let seen = Seen { folder: table.folder().to_owned(), files: table.files(), waiting: Vec::new(), decided_at };
        Ok(Self { table: tokio::sync::Mutex::new(table), seen: Mutex::new(seen) })
    }

    /// Writes entries, and moves the mark that says what they leave; they are on disk when this returns.
    pub async fn record(&self, rows: &[AuditRow], mark: (&str, i64)) -> Result<(), LakeError> {
        let mut table = self.table.lock().await;
        table.append(rows, &[mark]).await?;
        self.seen.lock().files = table.files();
        Ok(())
    }

    /// Notes decisions; they are written soon.
    pub fn note_decisions(&self, decisions: &[Decision]) {
        if let Some(newest) = decisions.iter().map(|decision| decision.decided_at.0).max() {
            let mut seen = self.seen.lock();
            seen.waiting.extend(decisions.iter().map(decided));
            seen.decided_at = seen.decided_at.max(newest);
        }
    }

    /// The view of a query.
    pub fn view(&self) -> Result<QueryTable, LakeError> {
        let seen = self.seen.lock();
        audit_view(&seen.folder, &seen.files, &seen.waiting)
    }

    /// Writes what waits, now and then, until told to stop; then the rest.
    pub async fn run(&self, mut stopped: tokio::sync::watch::Receiver<bool>) {
        loop {
            let is_over = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => true,
                () = tokio::time::sleep(FLUSH) => false,
            };
            if let Err(error) = self.flush().await {
                tracing::error!(%error, "the audit log did not take entries; trying again");
                if !is_over {
                    tokio::time::sleep(RETRY).await;
                }
            }
            if is_over {
                return;
            }
        }
    }

    /// Writes what waits.
    pub async fn flush(&self) -> Result<(), LakeError> {
        let mut table = self.table.lock().await;
        let (rows, decided_at) = {
            let seen = self.seen.lock();
            (seen.waiting.clone(), seen.decided_at)
        };
        if rows.is_empty() {
            return Ok(());
        }
        table.append(&rows, &[(DECIDED, decided_at)]).await?;
        let mut seen = self.seen.lock();
        seen.waiting.drain(..rows.len());
        seen.files = table.files();
        Ok(())
    }
}

/// An entry of now that says nothing yet.
pub fn entry(kind: &'static str, action: &str, origin: &'static str) -> AuditRow {
    AuditRow {
        time: TimeUs::from(chrono::Utc::now()),
        kind,
        action: action.to_owned(),
        budget: None,
        scope: None,
        origin,
        key: None,
        actor: None,
        reason: None,
        before: None,
        after: None,
        change: None,
    }
}

fn decided(decision: &Decision) -> AuditRow {
    let throttle = decision.throttle.as_ref().or(decision.would_throttle.as_ref());
    let reason = match (throttle, decision.would_block) {
        (Some(throttle), _) => throttle.reason_code.to_string(),
        (None, Some(would_block)) => would_block.reason_code.to_string(),
        (None, None) => decision.reason_code.to_string(),
    };
    AuditRow {
        time: decision.decided_at,
        budget: Some(decision.budget.clone()),
        scope: Some(decision.scope.to_string()),
        reason: Some(reason),
        after: serde_json::to_string(decision).ok(),
        ..entry("decision", decision.outcome(), "outlay")
    }
}
