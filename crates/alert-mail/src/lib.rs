//! From an alert, or a request for higher limits, to a mail in somebody's mailbox: message, durable outbox, delivery over SMTP or into a folder.
//!
//! Holds here: an alert's (a request's) id is mailed once, whatever restarts in between; an alert waits while the mail server is down; nothing that an
//! event or a budget names can add a header, a recipient or a command; no password is ever logged.
//! Deliberately absent: when an alert is raised (`budget-core` decides that), and pages that show mails (`http-api`).
//!
//! One exception that SMTP forces: after a crash between the server's answer and our record of it the same mail, with the same
//! `Message-ID`, is sent again rather than lost. Into a folder there is no exception.

mod address;
mod config;
mod content;
mod delivery;
mod entry;
mod error;
mod increase;
mod journal;
mod message;
mod outbox;
mod smtp;
mod text;

pub use config::MailConfig;
pub use content::Content;
pub use entry::{About, MailState, OutboxEntry, Recipient, RecipientState};
pub use error::MailError;
pub use increase::{IncreaseNotice, Standing};
pub use outbox::{Outbox, OutboxCounts, OutboxOptions};
