//! Requests for higher limits of a scope for a time: asked, answered, in force, over.
//!
//! Holds here: a request is answered once, since changes come one after the other and an answer is only taken of what is pending. What is
//! granted is kept apart from the budgets, so it works where a file rules them, and no plan shows it. It is in force exactly while it is
//! approved and its end has not come: whether that end could be written down makes no difference, and a start finds the same.

mod terms;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alert_mail::{IncreaseNotice, Standing};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use http_api::{Act, ApiProblem, IncreaseAnswer, IncreaseFilter, IncreaseRequest, IncreaseState, PresentLimit, Stated};
use serde::{Deserialize, Serialize};
use usage_lake::AuditRow;
use usage_types::{Fill, Grant, IncreaseAsk, SpecialLimits, TimeUs};

use super::Shared;
use super::audit::{INCREASES, entry};
use super::data_dir::DataDir;
use super::manage::{ADMIN, Version, record_and_store, version};

/// The file in the data folder that holds them.
const STORE: &str = "increase-requests.json";
/// Requests that may wait for an answer: people have to read them.
const PENDING_MAX: usize = 1_000;
/// Grants that may hold at once.
const GRANTS_MAX: usize = SpecialLimits::GRANTS_MAX;
/// Requests that are kept after they are over. The audit log has all.
const ENDED_KEPT: usize = 1_000;
/// The longest sleep, so that a new grant and a clock that was set are noticed.
const LOOK: Duration = Duration::from_millis(500);
/// How long is waited before the end of a grant is written down again that could not be.
const RETRY: Duration = Duration::from_secs(5);

/// All requests, as they were last stored.
pub struct Increases {
    store: PathBuf,
    book: ArcSwap<Book>,
}

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    /// The number of the last request there ever was.
    last: u64,
    /// The oldest first.
    requests: Vec<IncreaseRequest>,
}

impl Book {
    fn version(&self) -> Version {
        version(serde_json::to_string(self).unwrap_or_default())
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.requests.iter().position(|request| request.id == id)
    }

    /// With this request in the place of its former self, if there was one.
    fn with(&self, request: IncreaseRequest) -> Self {
        let mut book = self.clone();
        match book.find(&request.id) {
            Some(at) => book.requests[at] = request,
            None => book.requests.push(request),
        }
        let over = book.requests.iter().filter(|request| !is_open(request));
        let mut over: Vec<(TimeUs, String)> = over.map(|request| (last_act(request).at, request.id.clone())).collect();
        if over.len() > ENDED_KEPT {
            over.sort_unstable();
            let gone = &over[..over.len() - ENDED_KEPT];
            book.requests.retain(|request| !gone.iter().any(|(_, id)| *id == request.id));
        }
        book
    }
}

/// Whether something may become of it yet.
fn is_open(request: &IncreaseRequest) -> bool {
    matches!(request.state, IncreaseState::Pending | IncreaseState::Approved)
}

/// What was done to it last.
fn last_act(request: &IncreaseRequest) -> &Act {
    request.ended.as_ref().or(request.answered.as_ref()).unwrap_or(&request.asked)
}

/// What it grants now.
fn grant(request: &IncreaseRequest, now: TimeUs) -> Option<Grant> {
    let granted = request.grant.as_ref().filter(|grant| now < grant.expires_at)?;
    (request.state == IncreaseState::Approved).then(|| Grant {
        budget: request.budget.as_str().into(),
        scope: request.scope.clone(),
        limits: granted.limits.clone(),
    })
}

impl Increases {
    /// Reads them from the data folder.
    pub fn open(data: &DataDir) -> Result<Self> {
        let store = data.join(STORE);
        let book = stored(&store)?;
        Ok(Self { store, book: ArcSwap::from_pointee(book) })
    }

    /// What is granted at a time.
    pub fn grants(&self, now: TimeUs) -> Vec<Grant> {
        self.book.load().requests.iter().filter_map(|request| grant(request, now)).collect()
    }

    /// Which version is stored.
    pub fn version(&self) -> Version {
        self.book.load().version()
    }

    /// When the next grant ends that is not noted as over.
    fn next_end(&self) -> Option<TimeUs> {
        let book = self.book.load();
        let granted = book.requests.iter().filter(|request| request.state == IncreaseState::Approved);
        granted.filter_map(|request| request.grant.as_ref().map(|grant| grant.expires_at)).min()
    }
}

fn stored(path: &Path) -> Result<Book> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Book::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // Without its grants a server would block whoever has one.
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} was changed by something else; put it right, or take it away and with it all that is granted",
            path.display()
        )
    })
}

/// The requests that match, the newest first.
pub fn list(shared: &Shared, filter: &IncreaseFilter) -> Vec<IncreaseRequest> {
    let book = shared.management.increases.book.load_full();
    let matches = |request: &&IncreaseRequest| {
        filter.state.is_none_or(|state| state == request.state)
            && filter.budget.as_ref().is_none_or(|budget| *budget == request.budget)
    };
    book.requests.iter().rev().filter(matches).map(|request| shown(shared, request)).collect()
}

/// The request of this id.
pub fn one(shared: &Shared, id: &str) -> Option<IncreaseRequest> {
    let book = shared.management.increases.book.load_full();
    book.find(id).map(|at| shown(shared, &book.requests[at]))
}

/// A request with how its scope stands now.
fn shown(shared: &Shared, request: &IncreaseRequest) -> IncreaseRequest {
    let mut shown = request.clone();
    if is_open(request) {
        let now = TimeUs::from(chrono::Utc::now());
        let usage = shared.counted.lock().core.usage(&request.budget, &request.scope, now);
        shown.present = usage.map(|usage| usage.fills.into_iter().map(present).collect()).unwrap_or_default();
    }
    shown
}

fn present(fill: Fill) -> PresentLimit {
    let measure = fill.limit.measure;
    PresentLimit {
        measure: measure.name().to_owned(),
        currency: measure.currency(),
        limit: measure.format(fill.limit.amount),
        used: measure.format(fill.used),
    }
}

/// Takes a request. To be run to its end: whoever asked may go away.
pub async fn ask(shared: Arc<Shared>, ask: IncreaseAsk, stated: Stated) -> Result<IncreaseRequest, ApiProblem> {
    let management = &shared.management;
    let _one_at_a_time = management.changing.lock().await;
    let (now, book) = (TimeUs::from(chrono::Utc::now()), management.increases.book.load_full());
    let wished = terms::wished(&ask, &management.current(), &management.effective(), now)?;
    let mut pending = book.requests.iter().filter(|request| request.state == IncreaseState::Pending);
    if let Some(same) = pending.clone().find(|other| other.budget == ask.budget && other.scope == wished.scope) {
        let detail = format!("{} asks for more of this already; withdraw it to ask for something else", same.id);
        let problem = ApiProblem { field: Some("scope".to_owned()), ..ApiProblem::new(409, "already_asked", detail) };
        return Err(problem.with("id", same.id.as_str()));
    }
    if pending.nth(PENDING_MAX - 1).is_some() {
        let detail = format!("{PENDING_MAX} requests wait for an answer; answer or withdraw some");
        return Err(ApiProblem::new(409, "too_many_requests_pending", detail));
    }
    let last = book.last + 1;
    let request = IncreaseRequest {
        id: format!("r-{last}"),
        state: IncreaseState::Pending,
        budget: ask.budget,
        scope: wished.scope,
        limits: wished.limits,
        until: ask.until,
        asked: Act { at: now, key: Some(ADMIN.to_owned()), actor: stated.actor, reason: Some(ask.justification) },
        answered: None,
        grant: None,
        ended: None,
        present: Vec::new(),
    };
    let row = row("request", "api", None, &request, Some(&request.asked));
    keep(&shared, &book, Book { last, ..book.with(request.clone()) }, vec![row]).await?;
    let shown = shown(&shared, &request);
    mail(&shared, vec![shown.clone()]).await;
    Ok(shown)
}

/// Mails requests to whoever the alerts of their budgets go to. That it fails undoes no request.
async fn mail(shared: &Arc<Shared>, requests: Vec<IncreaseRequest>) {
    let budgets = shared.management.current();
    let notices: Vec<IncreaseNotice> = requests
        .into_iter()
        .filter_map(|request| {
            let to = budgets.budgets.get(request.budget.as_str())?.alerts.to.clone();
            Some(notice(request, to))
        })
        .collect();
    let shared = Arc::clone(shared);
    let enqueued = tokio::task::spawn_blocking(move || shared.mail.enqueue_increases(&notices, now()));
    if let Err(error) = enqueued.await {
        tracing::error!(%error, "an increase request was not mailed");
    }
}

fn notice(request: IncreaseRequest, to: Vec<String>) -> IncreaseNotice {
    let standing = |PresentLimit { measure, currency, limit, used }| Standing { measure, currency, limit, used };
    IncreaseNotice {
        request: request.id,
        budget: request.budget,
        scope: request.scope,
        limits: request.limits,
        until: request.until,
        present: request.present.into_iter().map(standing).collect(),
        asked_at: request.asked.at,
        actor: request.asked.actor,
        justification: request.asked.reason.unwrap_or_default(),
        to,
    }
}

/// At start: mails the pending requests that a crash kept from being mailed.
pub async fn mail_again(shared: &Arc<Shared>) {
    let book = shared.management.increases.book.load_full();
    let pending = book.requests.iter().filter(|request| request.state == IncreaseState::Pending);
    mail(shared, pending.map(|request| self::shown(shared, request)).collect()).await;
}

/// Answers a request. To be run to its end, likewise.
pub async fn answer(
    shared: Arc<Shared>,
    id: String,
    answer: IncreaseAnswer,
    actor: Option<String>,
) -> Result<IncreaseRequest, ApiProblem> {
    let management = &shared.management;
    let _one_at_a_time = management.changing.lock().await;
    let (now, book) = (TimeUs::from(chrono::Utc::now()), management.increases.book.load_full());
    let at = book.find(&id).ok_or_else(|| ApiProblem::not_found(format!("there is no increase request {id:?}")))?;
    let before = &book.requests[at];
    let is_granted = grant(before, now).is_some();
    let fits = before.state == IncreaseState::Pending || (is_granted && matches!(answer, IncreaseAnswer::Withdraw(_)));
    if !fits {
        return Err(answered(before));
    }
    let act = |reason| Act { at: now, key: Some(ADMIN.to_owned()), actor, reason };
    let mut after = before.clone();
    let action = match answer {
        IncreaseAnswer::Approve(terms) => {
            if management.increases.grants(now).len() >= GRANTS_MAX {
                let detail = format!("{GRANTS_MAX} grants hold already; withdraw some, or raise the budgets' limits");
                return Err(ApiProblem::new(409, "too_many_grants", detail));
            }
            after.grant = Some(terms::granted(before, &terms, &management.current(), now)?);
            (after.state, after.answered) = (IncreaseState::Approved, Some(act(terms.reason)));
            "approve"
        }
        IncreaseAnswer::Deny(reason) => {
            (after.state, after.answered) = (IncreaseState::Denied, Some(act(Some(reason))));
            "deny"
        }
        IncreaseAnswer::Withdraw(reason) => {
            (after.state, after.ended) = (IncreaseState::Withdrawn, Some(act(reason)));
            "withdraw"
        }
    };
    let row = row(action, "api", Some(before), &after, Some(last_act(&after)));
    keep(&shared, &book, book.with(after.clone()), vec![row]).await?;
    if is_granted || after.state == IncreaseState::Approved {
        management.send_and_wait(&shared).await?;
    }
    Ok(shown(&shared, &after))
}

/// It was answered before.
fn answered(request: &IncreaseRequest) -> ApiProblem {
    let last = last_act(request);
    let by = last.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
    let state = request.state.name();
    let detail = format!("{} is {state} since {}{by}; ask again for more", request.id, last.at);
    let problem = ApiProblem { field: Some("state".to_owned()), ..ApiProblem::new(409, "already_answered", detail) };
    problem.with("state", state)
}

fn row(
    action: &str,
    origin: &'static str,
    before: Option<&IncreaseRequest>,
    after: &IncreaseRequest,
    by: Option<&Act>,
) -> AuditRow {
    let json = |request: &IncreaseRequest| serde_json::to_string(request).ok();
    AuditRow {
        budget: Some(after.budget.clone()),
        scope: Some(after.scope.to_string()),
        key: by.and_then(|by| by.key.clone()),
        actor: by.and_then(|by| by.actor.clone()),
        reason: by.and_then(|by| by.reason.clone()),
        before: before.and_then(json),
        after: json(after),
        change: Some(after.id.clone()),
        ..entry("increase", action, origin)
    }
}

/// Into the audit log, on disk, then known.
async fn keep(shared: &Shared, old: &Book, new: Book, rows: Vec<AuditRow>) -> Result<(), ApiProblem> {
    let increases = &shared.management.increases;
    let version = new.version();
    let undone = AuditRow {
        change: rows.first().and_then(|row| row.change.clone()),
        ..entry("increase", "undone", rows.first().map_or("outlay", |row| row.origin))
    };
    let mark = (INCREASES, old.version().number, version.number);
    record_and_store(shared, &rows, mark, (increases.store.as_path(), version.json), undone).await?;
    increases.book.store(Arc::new(new));
    Ok(())
}

/// Ends grants when their time is over, until the server stops.
pub async fn watch(shared: Arc<Shared>) {
    loop {
        let left_us = shared.management.increases.next_end().map_or(i64::MAX, |end| end.0 - now().0);
        if left_us > 0 {
            tokio::time::sleep(LOOK.min(Duration::from_micros(left_us.unsigned_abs()))).await;
            continue;
        }
        // They are out of force before their end is written down: it may be that nothing can be written.
        let one_at_a_time = shared.management.changing.lock().await;
        if shared.management.send(&shared).await.is_err() {
            return;
        }
        if let Err(problem) = note_ends(&shared).await {
            tracing::error!(detail = problem.detail, "the end of a grant could not be written down; trying again");
            drop(one_at_a_time);
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn now() -> TimeUs {
    chrono::Utc::now().into()
}

async fn note_ends(shared: &Shared) -> Result<(), ApiProblem> {
    let (now, old) = (now(), shared.management.increases.book.load_full());
    let (mut new, mut rows) = ((*old).clone(), Vec::new());
    for before in old.requests.iter().filter(|request| request.state == IncreaseState::Approved) {
        let Some(over) = before.grant.as_ref().filter(|grant| grant.expires_at <= now) else { continue };
        let ended = Act { at: over.expires_at, key: None, actor: None, reason: None };
        let after = IncreaseRequest { state: IncreaseState::Expired, ended: Some(ended), ..before.clone() };
        rows.push(row("expire", "outlay", Some(before), &after, None));
        tracing::info!(id = after.id, budget = after.budget, scope = %after.scope, "a grant is over");
        new = new.with(after);
    }
    if rows.is_empty() { Ok(()) } else { keep(shared, &old, new, rows).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its acts are so many seconds after ten.
    fn request(number: usize, state: IncreaseState) -> IncreaseRequest {
        request_at(number, state, number)
    }

    fn request_at(number: usize, state: IncreaseState, seconds: usize) -> IncreaseRequest {
        let at = TimeUs::parse_rfc3339("2026-11-21T10:00:00Z").unwrap().plus_us(seconds as i64 * TimeUs::SECOND);
        let text = format!(
            r#"{{"id": "r-{number}", "state": "{}", "budget": "users", "scope": {{"user": "a"}}, "limits": [{{"tokens": 200}}],
                "asked": {{"at": "{at}"}}, "grant": {{"limits": [{{"tokens": 150}}], "expires_at": "2026-11-21T11:00:00Z"}}}}"#,
            state.name()
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_grant_holds_while_it_is_approved_until_just_before_its_end() {
        let at = |text: &str| TimeUs::parse_rfc3339(text).unwrap();
        let approved = request(1, IncreaseState::Approved);
        let held = grant(&approved, at("2026-11-21T10:59:59.999999Z")).unwrap();
        assert_eq!(
            (&*held.budget, serde_json::to_string(&held.limits).unwrap().as_str()),
            ("users", r#"[{"tokens":150}]"#)
        );
        assert_eq!(grant(&approved, at("2026-11-21T11:00:00Z")), None);
        for state in IncreaseState::ALL.into_iter().filter(|state| *state != IncreaseState::Approved) {
            assert_eq!(grant(&request(1, state), at("2026-11-21T10:00:00Z")), None, "{state:?}");
        }
    }

    #[test]
    fn the_last_requests_that_are_over_are_kept_and_all_that_are_not() {
        let mut book = Book { last: 2, ..Book::default() };
        for (number, state) in [(1, IncreaseState::Pending), (2, IncreaseState::Approved)] {
            book = book.with(request(number, state));
        }
        for number in 3..=ENDED_KEPT + 4 {
            book = book.with(request(number, IncreaseState::Denied));
        }
        let ids: Vec<&str> = book.requests.iter().map(|request| request.id.as_str()).collect();
        assert_eq!((ids.len(), &ids[..4]), (ENDED_KEPT + 2, &["r-1", "r-2", "r-5", "r-6"][..]));
        // By when they were over, and not by when they were asked.
        book = book.with(request_at(2, IncreaseState::Expired, 1_000_000));
        assert_eq!((book.find("r-1"), book.find("r-2"), book.find("r-5")), (Some(0), Some(1), None));
    }

    #[test]
    fn what_was_stored_is_read_and_what_is_broken_keeps_a_server_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE);
        assert_eq!(stored(&path).unwrap(), Book::default());
        let book = Book { last: 7, ..Book::default() }.with(request(7, IncreaseState::Approved));
        let text = book.version().json;
        std::fs::write(&path, &text).unwrap();
        assert_eq!(stored(&path).unwrap(), book);
        std::fs::write(&path, text.replace("tokens", "token")).unwrap();
        assert!(format!("{:#}", stored(&path).unwrap_err()).contains("put it right"));
    }
}
