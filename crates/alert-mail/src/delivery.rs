//! The loop that delivers what the outbox holds.
//!
//! Holds here: a mail that failed for good never stops the others; a server that cannot be used is asked again with doubling waits, for
//! all mails at once; the time in which a crash leaves open whether a mail arrived is the time between the message and the record of its answer, and no longer.
//!
//! SMTP knows no transaction over our disk and the server's. An entry is marked `sending`, on disk, right before the message leaves
//! (after login, recipients and `DATA`), and `sent` right after the server's 250. A crash between the two is repaired by
//! sending the same bytes again with the same `Message-ID`. A folder has no such gap: writing a file twice is writing it once.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::message::Mailbox;
use tokio::time::{Instant, sleep_until, timeout};
use usage_types::TimeUs;

use crate::MailError;
use crate::address::parse_mailbox;
use crate::config::{Destination, SmtpServer};
use crate::entry::{MailState, OutboxEntry, RecipientState};
use crate::journal::write_atomically;
use crate::message::{eml_name, message_bytes};
use crate::outbox::{Outbox, Shared};
use crate::smtp::{Broken, Session, Verdict};

/// What the loop does next.
enum Next {
    /// This entry is due.
    Due(u64),
    /// The next one is due then.
    At(Instant),
    /// Nothing waits.
    Idle,
}

impl Outbox {
    /// Delivers until `shutdown` is ready. A mail that is being sent then gets [`crate::OutboxOptions::stop_grace`] to finish. Mails
    /// that are left stay in the outbox. A second call waits until the first has ended.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let _running = self.shared.running.lock().await;
        self.shared.state.lock().doubt_what_was_being_sent();
        let mut shutdown = pin!(shutdown);
        let stopping = AtomicBool::new(false);
        // Failures in a row of the server itself (or of our disk): all mails wait for it together.
        let mut failures = 0_u32;
        let mut not_before = Instant::now();
        loop {
            let wake = match self.shared.next(not_before) {
                Next::Due(_) => {
                    let mut round = pin!(self.shared.round(&stopping));
                    let result = tokio::select! {
                        biased;
                        () = &mut shutdown => {
                            stopping.store(true, Ordering::Relaxed);
                            if timeout(self.shared.options.stop_grace, round).await.is_err() {
                                tracing::warn!("stopped while the mail server had not answered; that mail is sent again");
                            }
                            return;
                        }
                        result = &mut round => result,
                    };
                    self.shared.server_is(result.as_ref().err());
                    failures = if result.is_err() { failures.saturating_add(1) } else { 0 };
                    not_before = Instant::now() + self.shared.backoff(failures);
                    continue;
                }
                Next::At(instant) => Some(instant),
                Next::Idle => None,
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = self.shared.wake.notified() => {}
                () = async { match wake { Some(instant) => sleep_until(instant).await, None => std::future::pending().await } } => {}
            }
        }
    }
}

impl Shared {
    fn next(&self, not_before: Instant) -> Next {
        let now = Instant::now();
        let state = self.state.lock();
        let mut earliest = None;
        for seq in &state.open {
            let at = state.retry_at.get(seq).map_or(not_before, |at| (*at).max(not_before));
            if at <= now {
                return Next::Due(*seq);
            }
            earliest = Some(earliest.map_or(at, |earliest: Instant| earliest.min(at)));
        }
        earliest.map_or(Next::Idle, Next::At)
    }

    /// The wait after so many failures in a row: doubling, up to the cap, without chance.
    fn backoff(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).filter(|factor| *factor > 0).unwrap_or(u32::MAX);
                self.options.retry_first.saturating_mul(factor).min(self.options.retry_max)
            }
        }
    }

    /// Delivers all that is due, over one connection. An error concerns all mails.
    async fn round(self: &Arc<Self>, stopping: &AtomicBool) -> Result<(), String> {
        self.blocking(|shared| shared.state.lock().save()).await?;
        let now = Instant::now();
        let mut session = None;
        let result = loop {
            let Next::Due(seq) = self.next(now) else { break Ok(()) };
            if stopping.load(Ordering::Relaxed) {
                break Ok(());
            }
            let result = match &self.config.destination {
                Destination::Folder(folder) => {
                    let folder = folder.clone();
                    self.blocking(move |shared| shared.write_eml(seq, &folder)).await
                }
                Destination::Smtp(server) => self.send(seq, server, &mut session).await,
            };
            if result.is_err() {
                break result;
            }
        };
        if let Some(session) = session {
            session.close().await;
        }
        result
    }

    /// Runs a piece that touches the disk where it holds up no other task.
    async fn blocking(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<(), MailError> + Send + 'static,
    ) -> Result<(), String> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn write_eml(&self, seq: u64, folder: &std::path::Path) -> Result<(), MailError> {
        let Some(mut entry) = self.entry(seq) else { return Ok(()) };
        let to = everyone(&entry);
        std::fs::create_dir_all(folder).map_err(MailError::io(folder))?;
        let path = folder.join(eml_name(&entry.about.id()));
        write_atomically(&path, &message_bytes(&entry.about, &self.config.from, &to)?)?;
        tracing::info!(alert = %entry.about.id(), file = %path.display(), "alert mail written");
        entry.eml = Some(path);
        let verdicts = vec![Verdict::Delivered("written to the folder".to_owned()); entry.recipients.len()];
        self.finish(seq, entry, verdicts)
    }

    async fn send(
        self: &Arc<Self>,
        seq: u64,
        server: &SmtpServer,
        session: &mut Option<Session>,
    ) -> Result<(), String> {
        let Some(entry) = self.entry(seq) else { return Ok(()) };
        let message =
            message_bytes(&entry.about, &self.config.from, &everyone(&entry)).map_err(|error| error.to_string())?;
        let open = match session.take().filter(Session::usable) {
            Some(open) => open,
            None => Session::open(server).await?,
        };
        let open = session.insert(open);
        let sending = OutboxEntry { state: MailState::Sending, ..entry.clone() };
        let mark = || {
            let shared = Arc::clone(self);
            async move {
                let marked = tokio::task::spawn_blocking(move || shared.state.lock().record(seq, sending)).await;
                marked.map_err(|error| MailError::Message(error.to_string()))?
            }
        };
        match open.send(&self.config.from, &waiting(&entry), &message, mark).await {
            Ok(verdicts) => {
                let result = self.blocking(move |shared| shared.finish(seq, entry, verdicts)).await;
                if !open.usable() {
                    *session = None;
                }
                result
            }
            Err(Broken { reason, unknown }) => {
                *session = None;
                if unknown {
                    let entry = OutboxEntry { maybe_twice: true, last_error: Some(reason.clone()), ..entry };
                    self.blocking(move |shared| shared.state.lock().happened(seq, entry)).await?;
                }
                Err(reason)
            }
        }
    }

    fn entry(&self, seq: u64) -> Option<OutboxEntry> {
        self.state.lock().entry(seq).cloned()
    }

    /// Records what the server said. `verdicts` are those of the waiting recipients, in order.
    fn finish(&self, seq: u64, mut entry: OutboxEntry, verdicts: Vec<Verdict>) -> Result<(), MailError> {
        let now = (self.options.now)();
        entry.attempts = entry.attempts.saturating_add(1);
        let deferred = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Deferred(_)));
        let since = *entry.deferred_since.get_or_insert(now);
        let give_up = now.0.saturating_sub(since.0) >= micros(self.options.give_up_after);
        if !deferred {
            entry.deferred_since = None;
        }
        let waiting = entry.recipients.iter_mut().filter(|recipient| recipient.state == RecipientState::Waiting);
        for (recipient, verdict) in waiting.zip(verdicts) {
            (recipient.state, recipient.answer) = match verdict {
                Verdict::Delivered(answer) => (RecipientState::Delivered, Some(answer)),
                Verdict::Refused(answer) => (RecipientState::Refused, Some(answer)),
                Verdict::Deferred(answer) if give_up => {
                    (RecipientState::Refused, Some(format!("given up after {answer}")))
                }
                Verdict::Deferred(answer) => (RecipientState::Waiting, Some(answer)),
            };
        }
        entry.settle(now);
        log(&entry);
        let mut state = self.state.lock();
        if entry.state == MailState::Pending {
            // As long again as it was put off so far: doubling.
            let so_far = Duration::from_micros(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0));
            let wait = so_far.max(self.options.retry_first).min(self.options.retry_max);
            state.retry_at.insert(seq, Instant::now() + wait);
        }
        state.happened(seq, entry)
    }

    /// Keeps why the server cannot be used, for those who look, and says it once in the log for each reason.
    fn server_is(&self, error: Option<&String>) {
        let mut state = self.state.lock();
        if let Some(error) = error {
            state.attempt_failed();
            if state.server_error.as_ref() != Some(error) {
                tracing::warn!(error, waiting = state.open.len(), "alert mails wait");
            }
        } else if state.server_error.is_some() {
            tracing::info!("alert mails are sent again");
        }
        state.server_error = error.cloned();
    }
}

fn log(entry: &OutboxEntry) {
    let (alert, error) = (&*entry.about.id(), entry.last_error.as_deref().unwrap_or("none"));
    match entry.state {
        MailState::Sent => tracing::info!(alert, error, "alert mail sent"),
        MailState::Failed => tracing::error!(alert, error, "alert mail failed"),
        MailState::Pending | MailState::Sending => tracing::warn!(alert, error, "alert mail put off by the server"),
    }
}

/// Those whom the mail still has to reach. Their addresses were read when the alert came.
fn waiting(entry: &OutboxEntry) -> Vec<Mailbox> {
    let waiting = entry.recipients.iter().filter(|recipient| recipient.state == RecipientState::Waiting);
    waiting.filter_map(|recipient| parse_mailbox(&recipient.address).ok()).collect()
}

/// Those whom the mail names: all valid addresses, so that a copy sent later is the same mail.
fn everyone(entry: &OutboxEntry) -> Vec<Mailbox> {
    entry.recipients.iter().filter_map(|recipient| parse_mailbox(&recipient.address).ok()).collect()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(TimeUs(i64::MAX).0)
}
