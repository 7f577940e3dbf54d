//! The outbox: which alerts, and requests for higher limits, are to be mailed, which are, and what became of each.
//!
//! Holds here: an alert's id is taken once, across restarts, until its window is over and the retention has passed; an entry changes
//! in memory only after it changed on disk, except that a delivery is never forgotten because the disk is full. Deliberately absent: the network (`delivery`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use usage_types::{Alert, TimeUs};

use crate::address::parse_mailbox;
use crate::config::Destination;
use crate::entry::{About, MailState, OutboxEntry, RecipientState};
use crate::increase::IncreaseNotice;
use crate::journal::Journal;
use crate::{MailConfig, MailError};

/// How the outbox behaves. The defaults are meant for production; tests shorten them.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// The wait after a first failure. It doubles with each further one.
    pub retry_first: Duration,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// How long a mail that the server puts off (4xx) is tried. RFC 5321, 4.5.4.1 asks for four to five days.
    /// An unreachable server does not count: for that one a mail waits without limit.
    pub give_up_after: Duration,
    /// How long an alert is remembered after its window and its delivery. Longer than events can be late, so that no restart mails it again.
    pub retention: Duration,
    /// How many alerts are remembered at most.
    pub entries_max: usize,
    /// How long [`Outbox::run`] waits for a mail that is being sent when it is told to stop.
    pub stop_grace: Duration,
    /// The clock.
    pub now: fn() -> TimeUs,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
            give_up_after: Duration::from_secs(5 * 86_400),
            retention: Duration::from_secs(35 * 86_400),
            entries_max: 50_000,
            stop_grace: Duration::from_secs(10),
            now: || TimeUs::from(chrono::Utc::now()),
        }
    }
}

/// How many mails are in which state; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OutboxCounts {
    /// Waiting or on their way.
    pub pending: usize,
    /// Sent, and still remembered.
    pub sent: usize,
    /// Failed, and still remembered.
    pub failed: usize,
}

/// The durable outbox. Cheap to clone: all clones are the same outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(crate) shared: Arc<Shared>,
}

/// What the clones share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: MailConfig,
    pub(crate) options: OutboxOptions,
    pub(crate) state: Mutex<State>,
    /// Something came or may be tried again.
    pub(crate) wake: Notify,
    /// One delivery loop at a time.
    pub(crate) running: tokio::sync::Mutex<()>,
}

/// The entries by the order in which they came, with their journal.
#[derive(Debug)]
pub(crate) struct State {
    journal: Journal,
    entries: BTreeMap<u64, OutboxEntry>,
    by_id: HashMap<String, u64>,
    next_seq: u64,
    /// Those not finished.
    pub(crate) open: BTreeSet<u64>,
    /// Those that the server put off, with the time of their next attempt.
    pub(crate) retry_at: HashMap<u64, tokio::time::Instant>,
    /// Changed in memory, and not yet on disk.
    unsaved: BTreeSet<u64>,
    /// Why the server cannot be used at present.
    pub(crate) server_error: Option<String>,
    pruned_at: TimeUs,
}

/// The journal is rewritten when it is longer than this and mostly superseded lines.
const JOURNAL_SLACK_BYTES: u64 = 4 << 20;
/// How often what is old is forgotten.
const PRUNE_EVERY_US: i64 = TimeUs::HOUR;

impl Outbox {
    /// Opens the outbox in this folder, which is created when it is missing.
    ///
    /// # Errors
    /// The folder cannot be used, another process uses it, or its journal is damaged.
    pub fn open(folder: impl AsRef<Path>, config: MailConfig) -> Result<Self, MailError> {
        Self::open_with(folder, config, OutboxOptions::default())
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(folder: impl AsRef<Path>, config: MailConfig, options: OutboxOptions) -> Result<Self, MailError> {
        let (journal, lines) = Journal::open(folder.as_ref())?;
        let now = (options.now)();
        let mut state = State {
            journal,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            next_seq: 0,
            open: BTreeSet::new(),
            retry_at: HashMap::new(),
            unsaved: BTreeSet::new(),
            server_error: None,
            pruned_at: now,
        };
        lines.into_iter().for_each(|entry| state.load(entry));
        state.doubt_what_was_being_sent();
        state.prune(now, &options);
        state.compact_if_due(0);
        if let Destination::Folder(folder) = &config.destination {
            std::fs::create_dir_all(folder).map_err(MailError::io(folder))?;
        }
        let shared = Shared {
            config,
            options,
            state: Mutex::new(state),
            wake: Notify::new(),
            running: tokio::sync::Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes an alert to be mailed. `true`: it is new, and is on the disk when this returns. `false`: its id is known, or it has
    /// nobody to mail to (`to` is empty). A known id costs no disk access. Blocks for one write to disk (milliseconds).
    ///
    /// # Errors
    /// The disk failed, or the outbox is full; the alert is not taken, and may be offered again.
    pub fn enqueue(&self, alert: &Alert) -> Result<bool, MailError> {
        self.enqueue_all([alert]).map(|taken| taken == 1)
    }

    /// Takes many with a single write to disk. How many were new.
    ///
    /// # Errors
    /// As [`Self::enqueue`]; then none of them is taken.
    pub fn enqueue_all<'a>(&self, alerts: impl IntoIterator<Item = &'a Alert>) -> Result<usize, MailError> {
        let alerts = alerts.into_iter().filter(|alert| !alert.to.is_empty());
        self.take(alerts.map(|alert| (Cow::Borrowed(&*alert.id), move || About::Alert(Box::new(alert.clone())))))
    }

    /// Takes requests for higher limits to be mailed, each once, likewise.
    ///
    /// # Errors
    /// As [`Self::enqueue`]; then none of them is taken.
    pub fn enqueue_increases<'a>(
        &self,
        notices: impl IntoIterator<Item = &'a IncreaseNotice>,
    ) -> Result<usize, MailError> {
        let notices = notices.into_iter().filter(|notice| !notice.to.is_empty());
        self.take(notices.map(|notice| (Cow::Owned(notice.id()), move || About::Increase(Box::new(notice.clone())))))
    }

    /// Takes what is new, by its id.
    fn take<'a, F: FnOnce() -> About>(
        &self,
        offered: impl Iterator<Item = (Cow<'a, str>, F)>,
    ) -> Result<usize, MailError> {
        let Shared { options, state, wake, .. } = &*self.shared;
        let now = (options.now)();
        let mut state = state.lock();
        if now.0.saturating_sub(state.pruned_at.0) > PRUNE_EVERY_US {
            state.prune(now, options);
        }
        let mut new: Vec<OutboxEntry> = Vec::new();
        let mut ids = BTreeSet::new();
        for (id, about) in offered {
            if !state.by_id.contains_key(&*id) && ids.insert(id) {
                new.push(OutboxEntry::new(about(), now));
            }
        }
        if new.is_empty() {
            return Ok(0);
        }
        if state.entries.len() + new.len() > options.entries_max {
            return Err(MailError::Full(options.entries_max));
        }
        state.journal.append(&new)?;
        let taken = new.len();
        for entry in new {
            if entry.state == MailState::Failed {
                tracing::warn!(alert = %entry.about.id(), error = entry.last_error, "a mail has no usable recipient");
            }
            state.insert(entry);
        }
        state.compact_if_due(JOURNAL_SLACK_BYTES);
        drop(state);
        wake.notify_one();
        Ok(taken)
    }

    /// The newest entries first, at most so many.
    #[must_use]
    pub fn list(&self, limit: usize) -> Vec<OutboxEntry> {
        let state = self.shared.state.lock();
        state.entries.values().rev().take(limit).map(|entry| state.shown(entry)).collect()
    }

    /// One entry, by the id of its alert.
    #[must_use]
    pub fn get(&self, alert_id: &str) -> Option<OutboxEntry> {
        let state = self.shared.state.lock();
        state.by_id.get(alert_id).map(|seq| state.shown(&state.entries[seq]))
    }

    /// How many are in which state.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        let state = self.shared.state.lock();
        let failed = state.entries.values().filter(|entry| entry.state == MailState::Failed).count();
        let pending = state.open.len();
        OutboxCounts { pending, failed, sent: state.entries.len() - pending - failed }
    }

    /// Why the mail server cannot be used at present: unreachable, a wrong password, no STARTTLS. `None` while it can.
    #[must_use]
    pub fn server_error(&self) -> Option<String> {
        self.shared.state.lock().server_error.clone()
    }

    /// Tries a failed mail again, for those recipients that the server refused: after its cause is mended. `false`: there is no
    /// failed mail with a valid recipient under this id.
    ///
    /// # Errors
    /// The disk failed.
    pub fn retry(&self, alert_id: &str) -> Result<bool, MailError> {
        let mut state = self.shared.state.lock();
        let Some(seq) = state.by_id.get(alert_id).copied() else { return Ok(false) };
        let mut entry = state.entries[&seq].clone();
        if entry.state != MailState::Failed {
            return Ok(false);
        }
        for recipient in &mut entry.recipients {
            if parse_mailbox(&recipient.address).is_ok() {
                recipient.state = RecipientState::Waiting;
            }
        }
        entry.deferred_since = None;
        entry.settle((self.shared.options.now)());
        if entry.state != MailState::Pending {
            return Ok(false);
        }
        state.journal.append([&entry])?;
        state.put(seq, entry);
        drop(state);
        self.shared.wake.notify_one();
        Ok(true)
    }
}

impl State {
    /// A line of the journal: an entry that is new, or the later state of one.
    fn load(&mut self, entry: OutboxEntry) {
        match self.by_id.get(&*entry.about.id()).copied() {
            Some(seq) => self.put(seq, entry),
            None => self.insert(entry),
        }
    }

    /// What was being sent when the loop or the process ended, between the message and the record of its answer. The mail is sent
    /// again: a copy with the same `Message-ID` is dropped by servers and mail programs, while an alert that nobody got is found by nobody.
    pub(crate) fn doubt_what_was_being_sent(&mut self) {
        for seq in &self.open {
            if let Some(entry) = self.entries.get_mut(seq).filter(|entry| entry.state == MailState::Sending) {
                entry.state = MailState::Pending;
                entry.maybe_twice = true;
                entry.last_error =
                    Some("its sending was cut off before the server's answer was recorded; it is sent again with the same Message-ID".to_owned());
            }
        }
    }

    fn insert(&mut self, entry: OutboxEntry) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.by_id.insert(entry.about.id().into_owned(), seq);
        self.put(seq, entry);
    }

    fn put(&mut self, seq: u64, entry: OutboxEntry) {
        if entry.is_open() {
            self.open.insert(seq);
        } else {
            self.open.remove(&seq);
            self.retry_at.remove(&seq);
        }
        self.entries.insert(seq, entry);
    }

    pub(crate) fn entry(&self, seq: u64) -> Option<&OutboxEntry> {
        self.entries.get(&seq)
    }

    /// As people see it: what waits for a server says what is wrong with the server.
    fn shown(&self, entry: &OutboxEntry) -> OutboxEntry {
        let mut shown = entry.clone();
        if let (true, Some(error)) = (entry.is_open(), &self.server_error) {
            shown.last_error = Some(error.clone());
        }
        shown
    }

    /// Records what is about to happen; only when it is on disk may it happen.
    pub(crate) fn record(&mut self, seq: u64, entry: OutboxEntry) -> Result<(), MailError> {
        self.journal.append([&entry])?;
        self.put(seq, entry);
        Ok(())
    }

    /// Keeps what has happened, even where the disk fails: then it is written later.
    pub(crate) fn happened(&mut self, seq: u64, entry: OutboxEntry) -> Result<(), MailError> {
        self.put(seq, entry);
        self.unsaved.insert(seq);
        self.save()
    }

    /// Writes what is not on disk yet.
    pub(crate) fn save(&mut self) -> Result<(), MailError> {
        if !self.unsaved.is_empty() {
            self.journal.append(self.unsaved.iter().filter_map(|seq| self.entries.get(seq)))?;
            self.unsaved.clear();
        }
        self.compact_if_due(JOURNAL_SLACK_BYTES);
        Ok(())
    }

    /// Another attempt at everything that waits; kept in memory only, since nothing happened.
    pub(crate) fn attempt_failed(&mut self) {
        for seq in &self.open {
            if let Some(entry) = self.entries.get_mut(seq) {
                entry.attempts = entry.attempts.saturating_add(1);
            }
        }
    }

    fn prune(&mut self, now: TimeUs, options: &OutboxOptions) {
        let retention_us = i64::try_from(options.retention.as_micros()).unwrap_or(i64::MAX);
        self.pruned_at = now;
        let by_id = &mut self.by_id;
        self.entries.retain(|_, entry| {
            let old = entry.finished_at.is_some_and(|at| entry.about.forget_after(at, retention_us) < now);
            if old {
                by_id.remove(&*entry.about.id());
            }
            !old
        });
    }

    /// Rewrites the journal where most of it is superseded. What was forgotten leaves the disk with it. A failure costs only space: the
    /// old journal still holds everything.
    fn compact_if_due(&mut self, slack_bytes: u64) {
        // A mail leaves three lines of about one kilobyte.
        let live_bytes = 1024 * self.entries.len() as u64;
        if self.journal.len_bytes() > slack_bytes + 4 * live_bytes {
            match self.journal.rewrite(self.entries.values()) {
                Ok(()) => self.unsaved.clear(),
                Err(error) => tracing::warn!(%error, "the outbox journal could not be shortened"),
            }
        }
    }
}
