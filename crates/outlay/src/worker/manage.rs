//! Changing budgets: where they are kept, which version a change is meant for, and what it would do.
//!
//! Holds here: changes come one after the other, each against the version that it names, so none is lost. A change is in the audit log, then on
//! disk, then in force; who asked is told when all three are done. With `--budgets FILE` that file rules, and nothing here changes it. What is
//! granted for a time ([`super::increases`]) is laid over the budgets wherever they come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use arc_swap::ArcSwap;
use budget_core::same_balances;
use http_api::{
    ApiProblem, BudgetsChange, BudgetsPlan, BudgetsSource, BudgetsWrite, Changed, PlannedChange, Stated, Tagged,
};
use ring::digest::{SHA256, digest};
use tokio::sync::oneshot;
use usage_lake::AuditRow;
use usage_types::{BudgetChange, BudgetError, BudgetSet, diff};

use super::audit::{BUDGETS, INCREASES, INVOICES, Kept, entry};
use super::commit::Work;
use super::data_dir::DataDir;
use super::increases::Increases;
use super::invoices::Invoices;
use super::{Shared, effect};
use crate::files::replace;

/// The file in the data folder that holds the budgets of the API.
const STORE: &str = "budgets.json";
/// How long a change may take to be in force: a commit to the lake may be under way.
const IN_FORCE: Duration = Duration::from_secs(30);
/// The name of the one key there is.
pub const ADMIN: &str = "admin";

/// The budgets as they were last accepted; in force a moment later.
pub struct Management {
    file: Option<PathBuf>,
    store: PathBuf,
    current: ArcSwap<BudgetSet>,
    /// Requests for more, and what is granted.
    pub increases: Increases,
    /// What providers ask for.
    pub invoices: Invoices,
    /// Held by whoever changes one of the two.
    pub changing: tokio::sync::Mutex<()>,
    work: SyncSender<Work>,
    /// Sets that wait for the commit thread.
    waiting: AtomicUsize,
}

/// What tells one version from another.
pub struct Version {
    /// The entity tag: a hash of the canonical text, so that what is the same has the same.
    pub etag: String,
    /// The same as a number.
    pub number: i64,
    /// The canonical text.
    pub json: String,
}

/// The version of a set.
pub fn version_of(set: &BudgetSet) -> Version {
    version(set.canonical())
}

/// The version of a text.
pub fn version(json: String) -> Version {
    let hash = digest(&SHA256, json.as_bytes());
    let hash = &hash.as_ref()[..16];
    let number = hash.iter().take(8).fold(0_i64, |number, byte| (number << 8) | i64::from(*byte)) & i64::MAX;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Version { etag: format!("\"{hex}\""), number, json }
}

fn version_of_one(set: &BudgetSet, id: &str) -> Option<Version> {
    set.form_text(id).map(version)
}

impl Management {
    /// Reads the budgets: those of the file where there is one, else those that the API stored. With the file's text.
    pub fn open(file: Option<&Path>, data: &DataDir, work: SyncSender<Work>) -> Result<(Self, String)> {
        let store = data.join(STORE);
        let (text, set) = match file {
            Some(path) => {
                if store.exists() {
                    tracing::warn!(file = %path.display(), store = %store.display(), "--budgets is given, so the budgets of the API are not in force");
                }
                super::budgets::read(path).context("--budgets")?
            }
            None => (String::new(), stored(&store)?),
        };
        let current = ArcSwap::from_pointee(set);
        let (file, increases, invoices) = (file.map(Path::to_owned), Increases::open(data)?, Invoices::open(data)?);
        Ok((
            Self {
                file,
                store,
                current,
                increases,
                invoices,
                changing: tokio::sync::Mutex::new(()),
                work,
                waiting: AtomicUsize::new(0),
            },
            text,
        ))
    }

    /// The budgets.
    pub fn current(&self) -> Arc<BudgetSet> {
        self.current.load_full()
    }

    /// The budgets with what is granted now: what is to be in force.
    pub fn effective(&self) -> Arc<BudgetSet> {
        self.granted(&self.current())
    }

    /// A set with what is granted now.
    fn granted(&self, set: &Arc<BudgetSet>) -> Arc<BudgetSet> {
        let grants = self.increases.grants(chrono::Utc::now().into());
        if grants.is_empty() { Arc::clone(set) } else { Arc::new(set.with_grants(&grants)) }
    }

    fn source(&self) -> BudgetsSource {
        if self.file.is_some() { BudgetsSource::File } else { BudgetsSource::Api }
    }

    /// Takes over what the file says now, and puts it in force.
    ///
    /// # Errors
    /// The server stops.
    pub async fn take_over(&self, shared: &Shared, set: BudgetSet) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        let (old, new) = (self.current(), Arc::new(set));
        let rows = entries(&old, &new, "file", None, &Stated::default());
        if let Err(error) = shared.audit.record(&rows, (BUDGETS, version_of(&new).number)).await {
            // The file rules: not to follow it would be worse. The next start notes that the budgets are others than recorded.
            tracing::error!(%error, "the audit log did not take the change of the budgets file");
        }
        self.current.store(new);
        let _in_force = self.send(shared).await?;
        Ok(())
    }

    /// Puts what is to be in force now in force, in the order of the calls: whoever calls it holds `changing`. Where a history has to be read the
    /// commit thread does it, in its turn; else it is done when this returns, however slow the lake is.
    ///
    /// # Errors
    /// The server stops.
    pub async fn send(&self, shared: &Shared) -> Result<oneshot::Receiver<()>> {
        let (done, in_force) = oneshot::channel();
        let (work, set) = (self.work.clone(), self.effective());
        if self.waiting.load(Ordering::Acquire) == 0 && count_the_same(&shared.budgets.load(), &set) {
            let _no_history = super::budgets::set(shared, set);
            let _awaited = done.send(());
            return Ok(in_force);
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        // The channel is full while a commit is slow; waiting for it must not hold up other tasks.
        let sent = tokio::task::spawn_blocking(move || work.send(Work::Budgets(set, done))).await?;
        sent.map_err(|_| anyhow!("the server stops"))?;
        Ok(in_force)
    }

    /// The commit thread has put a set in force.
    pub fn note_in_force(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// The same, and waits until it is.
    ///
    /// # Errors
    /// It is not yet, since the lake takes no rows.
    pub async fn send_and_wait(&self, shared: &Shared) -> Result<(), ApiProblem> {
        let in_force = match self.send(shared).await {
            Ok(in_force) => matches!(tokio::time::timeout(IN_FORCE, in_force).await, Ok(Ok(()))),
            Err(_) => false,
        };
        if in_force {
            return Ok(());
        }
        let detail =
            "the change is stored and not in force yet, because the lake takes no rows; it comes in force by itself";
        Err(ApiProblem::unavailable("not_in_force_yet", detail, 10))
    }

    /// What is kept beside the budgets, each with its mark in the audit log.
    pub fn kept(&self) -> [Kept; 2] {
        [
            Kept { mark: INCREASES, kind: "increase", name: "increase requests", version: self.increases.version() },
            Kept { mark: INVOICES, kind: "invoice", name: "invoices", version: self.invoices.version() },
        ]
    }

    /// All budgets.
    pub fn all(&self) -> Tagged {
        let Version { etag, json, .. } = version_of(&self.current());
        Tagged { etag, json }
    }

    /// One budget or breaker.
    pub fn one(&self, id: &str) -> Option<Tagged> {
        tagged(&self.current(), id)
    }
}

/// Whether two sets have the same balances, so that no history is needed from one to the other.
fn count_the_same(old: &BudgetSet, new: &BudgetSet) -> bool {
    let both = old.budgets.values().zip(new.budgets.values());
    old.budgets.len() == new.budgets.len()
        && both.into_iter().all(|(old, new)| old.id == new.id && same_balances(old, new))
}

fn tagged(set: &BudgetSet, id: &str) -> Option<Tagged> {
    version_of_one(set, id).map(|Version { etag, json, .. }| Tagged { etag, json })
}

/// What a budgets file would change, and do at once.
pub fn plan(shared: &Shared, text: &str) -> Result<BudgetsPlan, ApiProblem> {
    let new = BudgetSet::from_yaml(text).map_err(|error| refused(&error))?;
    let (old, new) = (shared.management.current(), Arc::new(new));
    let [old_granted, new_granted] = [&old, &new].map(|set| shared.management.granted(set));
    let change = |change: usage_types::BudgetDiff| {
        let id = &change.budget;
        let effect = match old.breakers.contains_key(id) {
            true => effect::of_breaker(shared, id),
            false => effect::of(shared, old_granted.budgets.get(id), new_granted.budgets.get(id)),
        };
        PlannedChange::new(change, effect)
    };
    let changes = diff(&old, &new).into_iter().map(change).collect();
    Ok(BudgetsPlan { etag: version_of(&old).etag, source: shared.management.source(), changes })
}

/// Changes the budgets. To be run to its end: whoever asked may go away.
pub async fn change(shared: Arc<Shared>, change: BudgetsChange) -> Result<Changed, ApiProblem> {
    let management = &shared.management;
    if let Some(file) = &management.file {
        let detail = format!(
            "the budgets are those of the file {}: change them there, or start the server without --budgets to change them here",
            file.display()
        );
        return Err(ApiProblem::new(409, "budgets_from_file", detail));
    }
    let _one_at_a_time = management.changing.lock().await;
    let old = management.current();
    let Wanted { new, was, id } = wanted(&old, &change)?;
    if new != *old {
        put_in_force(&shared, &old, Arc::new(new), &change.stated).await?;
    }
    let now = match (&id, management.current()) {
        (None, _) => Some(management.all()),
        (Some(id), set) => tagged(&set, id),
    };
    Ok(Changed { created: was.is_none() && now.is_some(), now })
}

/// What a change makes of the budgets, which version it was meant for, and which one budget or breaker it is about, if one.
struct Wanted {
    new: BudgetSet,
    was: Option<String>,
    id: Option<String>,
}

fn wanted(old: &BudgetSet, change: &BudgetsChange) -> Result<Wanted, ApiProblem> {
    let id = match &change.write {
        BudgetsWrite::Replace(_) => None,
        BudgetsWrite::Put { id, .. } | BudgetsWrite::Delete { id } => Some(id.clone()),
    };
    let was = match &id {
        None => Some(version_of(old).etag),
        Some(id) => version_of_one(old, id).map(|version| version.etag),
    };
    if let (BudgetsWrite::Delete { id }, None) = (&change.write, &was) {
        return Err(ApiProblem::not_found(format!("there is no budget {id:?}")));
    }
    if !change.precondition.holds(was.as_deref()) {
        let detail = match &was {
            Some(_) => "it has changed since it was read: read it again, and make the change anew",
            None => "there is no such budget any more; send If-None-Match: * to make it",
        };
        let problem = ApiProblem::new(412, "precondition_failed", detail);
        return Err(was.into_iter().fold(problem, |problem, etag| problem.with("etag", etag)));
    }
    let new = match &change.write {
        BudgetsWrite::Replace(text) => BudgetSet::from_yaml(text).map_err(|error| refused(&error))?,
        BudgetsWrite::Delete { id } => old.without(id),
        BudgetsWrite::Put { id, text } => {
            let (named, new) = old.with_budget(text).map_err(|error| refused(&error))?;
            if *named != **id {
                let detail = format!("the budget says {named:?} and the path {id:?}; a budget keeps its id");
                return Err(ApiProblem::invalid("id", detail));
            }
            new
        }
    };
    Ok(Wanted { new, was, id })
}

/// Into the audit log, on disk, in force.
async fn put_in_force(
    shared: &Shared,
    old: &BudgetSet,
    new: Arc<BudgetSet>,
    stated: &Stated,
) -> Result<(), ApiProblem> {
    let management = &shared.management;
    let version = version_of(&new);
    if version.json.len() > BudgetSet::CANONICAL_BYTES_MAX {
        let detail = format!("all budgets together are more than {} bytes", BudgetSet::CANONICAL_BYTES_MAX);
        return Err(ApiProblem::new(413, "too_many_budgets", detail));
    }
    let rows = entries(old, &new, "api", Some(ADMIN), stated);
    let undone = AuditRow { change: Some(version.etag), ..entry("budgets", "undone", "api") };
    let mark = (BUDGETS, version_of(old).number, version.number);
    record_and_store(shared, &rows, mark, (management.store.as_path(), version.json), undone).await?;
    management.current.store(new);
    management.send_and_wait(shared).await
}

/// Into the audit log, with the mark of what is recorded from its old value to the new one; then on disk. Where that fails, the entry
/// `undone` says so.
pub async fn record_and_store(
    shared: &Shared,
    rows: &[AuditRow],
    (mark, old, new): (&'static str, i64, i64),
    (file, json): (&Path, String),
    undone: AuditRow,
) -> Result<(), ApiProblem> {
    let not_written = |what: &str, error: &dyn std::fmt::Display| {
        ApiProblem::new(500, "not_stored", format!("nothing is changed: {what}: {error}"))
    };
    let recorded = shared.audit.record(rows, (mark, new)).await;
    recorded.map_err(|error| not_written("the audit log cannot be written", &error))?;
    let path = file.to_owned();
    let stored = tokio::task::spawn_blocking(move || replace(&path, &json)).await;
    let Err(error) = stored.map_err(anyhow::Error::from).and_then(|stored| stored) else { return Ok(()) };
    let undone = AuditRow { reason: Some(format!("the change before could not be stored: {error:#}")), ..undone };
    if let Err(error) = shared.audit.record(&[undone], (mark, old)).await {
        tracing::error!(%error, "the audit log did not take that a change was undone");
    }
    Err(not_written("the change cannot be stored", &format!("{error:#}")))
}

/// One entry for each budget that changed.
fn entries(
    old: &BudgetSet,
    new: &BudgetSet,
    origin: &'static str,
    key: Option<&str>,
    stated: &Stated,
) -> Vec<AuditRow> {
    let etag = version_of(new).etag;
    let common = entry("budget", "", origin);
    let json = |set: &BudgetSet, id: &str| set.form_text(id);
    let row = |difference: usage_types::BudgetDiff| {
        let action = match difference.change {
            BudgetChange::Add { .. } => "add",
            BudgetChange::Remove { .. } => "remove",
            BudgetChange::Change { .. } => "change",
        };
        AuditRow {
            action: action.to_owned(),
            budget: Some(difference.budget.to_string()),
            key: key.map(str::to_owned),
            actor: stated.actor.clone(),
            reason: stated.reason.clone(),
            before: json(old, &difference.budget),
            after: json(new, &difference.budget),
            change: Some(etag.clone()),
            ..common.clone()
        }
    };
    diff(old, new).into_iter().map(row).collect()
}

/// A budgets file that is refused.
fn refused(error: &BudgetError) -> ApiProblem {
    let mut problem = ApiProblem::new(400, "invalid_budgets", error.to_string());
    if !error.field.is_empty() {
        problem.field = Some(error.field.clone());
    }
    if error.line > 0 {
        problem = problem.with("line", error.line).with("column", error.column);
    }
    problem
}

/// The budgets that the API stored, or none.
fn stored(path: &Path) -> Result<BudgetSet> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BudgetSet::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // Without its budgets a server would let everybody spend.
    BudgetSet::from_canonical(&text).with_context(|| {
        format!("{} was changed by something else; put it right, or give --budgets FILE", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_that_of_what_is_said_and_not_of_how() {
        let set = |text: &str| version_of(&BudgetSet::from_yaml(text).unwrap());
        let plain = set("budgets:\n- id: a\n  window: { every: day }\n  limit: { cost: 5.00 USD }\n");
        let other = set(
            r#"{"budgets": [{"limits": [{"cost": "5 USD"}], "window": {"zone": "UTC", "every": "day"}, "id": "a"}]}"#,
        );
        assert_eq!((&plain.etag, plain.number), (&other.etag, other.number));
        assert_ne!(plain.etag, set("budgets: []").etag);
        assert!(plain.number > 0 && plain.etag.len() == 34, "{}", plain.etag);
    }

    #[test]
    fn what_was_stored_is_read_and_what_is_broken_keeps_a_server_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE);
        assert_eq!(stored(&path).unwrap(), BudgetSet::default());
        let set = BudgetSet::from_yaml("budgets: [{ id: a, window: { every: day }, limit: { tokens: 5 } }]").unwrap();
        replace(&path, set.canonical()).unwrap();
        assert_eq!(stored(&path).unwrap(), set);
        std::fs::write(&path, &set.canonical()[..30]).unwrap();
        assert!(format!("{:#}", stored(&path).unwrap_err()).contains("put it right"));
    }
}
