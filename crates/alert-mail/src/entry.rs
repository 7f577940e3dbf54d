//! One mail in the outbox, as it is shown and as it is a line of the journal.
//!
//! Holds here: the state of a mail follows from those of its recipients ([`OutboxEntry::settle`]); an address that is wrong is kept with its reason.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use usage_types::{Alert, TimeUs};

use crate::address::parse_mailbox;
use crate::content::Content;
use crate::increase::IncreaseNotice;
use crate::text::clean;

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailState {
    /// It waits: for its first attempt, or for the next.
    Pending,
    /// It is on its way: the server has it, and has not answered yet.
    Sending,
    /// It was taken by the server for at least one recipient, or written to the folder.
    Sent,
    /// No recipient will get it.
    Failed,
}

/// What became of the mail to one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// It waits.
    Waiting,
    /// It was taken by the server, or written to the folder.
    Delivered,
    /// It never will be: the address is wrong, or the server refused it for good.
    Refused,
}

/// One recipient of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// As the budget names it; cleaned of what could not be shown where it is no address.
    pub address: String,
    /// What became of the mail to it.
    pub state: RecipientState,
    /// The server's last answer, or what is wrong with the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What a mail is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A balance has reached a threshold.
    Alert(Box<Alert>),
    /// Somebody asks for more.
    Increase(Box<IncreaseNotice>),
}

impl About {
    /// Under which it is mailed once.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Alert(alert) => Cow::Borrowed(&alert.id),
            Self::Increase(notice) => Cow::Owned(notice.id()),
        }
    }

    /// The mail.
    #[must_use]
    pub fn content(&self) -> Content {
        match self {
            Self::Alert(alert) => Content::of(alert),
            Self::Increase(notice) => notice.content(),
        }
    }

    /// When it came about: the date of the mail.
    pub(crate) fn time(&self) -> TimeUs {
        match self {
            Self::Alert(alert) => alert.raised_at,
            Self::Increase(notice) => notice.asked_at,
        }
    }

    fn to(&self) -> &[String] {
        match self {
            Self::Alert(alert) => &alert.to,
            Self::Increase(notice) => &notice.to,
        }
    }

    /// When it may be forgotten: so long after its window that no restart can raise it again.
    pub(crate) fn forget_after(&self, finished_at: TimeUs, retention_us: i64) -> TimeUs {
        let over = match self {
            Self::Alert(alert) => alert.window.end.max(finished_at),
            Self::Increase(_) => finished_at,
        };
        over.plus_us(retention_us)
    }
}

/// One mail in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// What it is about.
    #[serde(flatten)]
    pub about: About,
    /// Its subject.
    pub subject: String,
    /// What became of it.
    pub state: MailState,
    /// To whom it goes.
    pub recipients: Vec<Recipient>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it is not sent yet, or not to everyone: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it came.
    pub queued_at: TimeUs,
    /// When it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<TimeUs>,
    /// When it was sent, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<TimeUs>,
    /// Since when the server puts it off (4xx).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deferred_since: Option<TimeUs>,
    /// An earlier attempt ended without an answer (a crash or a broken connection after the message had left), so that the server may
    /// have two copies, with the same `Message-ID`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maybe_twice: bool,
    /// The file, where mails go to a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eml: Option<PathBuf>,
}

impl OutboxEntry {
    pub(crate) fn new(about: About, now: TimeUs) -> Self {
        let (recipients, subject) = (recipients(about.to()), about.content().subject);
        let mut entry = Self {
            about,
            subject,
            state: MailState::Pending,
            recipients,
            attempts: 0,
            last_error: None,
            queued_at: now,
            sent_at: None,
            finished_at: None,
            deferred_since: None,
            maybe_twice: false,
            eml: None,
        };
        entry.settle(now);
        entry
    }

    /// Sets the state that follows from those of the recipients.
    pub(crate) fn settle(&mut self, now: TimeUs) {
        let any = |state| self.recipients.iter().any(|recipient| recipient.state == state);
        let (waiting, delivered) = (any(RecipientState::Waiting), any(RecipientState::Delivered));
        self.state = match (waiting, delivered) {
            (true, _) => MailState::Pending,
            (false, true) => MailState::Sent,
            (false, false) => MailState::Failed,
        };
        if delivered && self.sent_at.is_none() {
            self.sent_at = Some(now);
        }
        self.finished_at = if waiting { None } else { self.finished_at.or(Some(now)) };
        let mut open: Vec<String> = Vec::new();
        for recipient in self.recipients.iter().filter(|recipient| recipient.state != RecipientState::Delivered) {
            if let Some(answer) = &recipient.answer {
                open.push(format!("{}: {answer}", recipient.address));
            }
        }
        self.last_error = if open.is_empty() { None } else { Some(open.join("; ")) };
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, MailState::Pending | MailState::Sending)
    }
}

/// RFC 5321, 4.5.3.1.8: a server takes at least 100 recipients for one message.
const RECIPIENTS_MAX: usize = 100;

/// Each address once. One that is wrong is kept with its reason, so that it is seen; the others get the mail.
fn recipients(to: &[String]) -> Vec<Recipient> {
    let mut seen = BTreeSet::new();
    let mut recipients = Vec::new();
    for text in to {
        let (address, refused) = match parse_mailbox(text) {
            Ok(mailbox) if !seen.insert(mailbox.email.to_string().to_ascii_lowercase()) => continue,
            Ok(_) if seen.len() > RECIPIENTS_MAX => (
                text.trim().to_owned(),
                Some(format!("a mail has at most {RECIPIENTS_MAX} recipients; use a mailing list")),
            ),
            Ok(_) => (text.trim().to_owned(), None),
            Err(reason) => (clean(text), Some(format!("{reason}; correct it in the budget's alerts.to"))),
        };
        let state = if refused.is_some() { RecipientState::Refused } else { RecipientState::Waiting };
        recipients.push(Recipient { address, state, answer: refused });
    }
    recipients
}
