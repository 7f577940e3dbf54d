//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong between an alert and its mail. Never holds a password.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The SMTP URL cannot be used.
    #[error("the SMTP URL cannot be used: {0}")]
    Url(String),
    /// The sender's address cannot be used.
    #[error("`{text}` is no sender ({reason}); write it like `Outlay <outlay@example.com>`")]
    From {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of root certificates cannot be used.
    #[error("{path}: {reason}; give a PEM file with the certificate of the authority that signed the mail server's", path = path.display())]
    RootCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("TLS to the mail server cannot be set up: {0}")]
    Tls(String),
    /// Another process has the outbox open. Two would send every mail twice.
    #[error("{path} is open in another process; stop that one, or give this one a data folder of its own", path = .0.display())]
    Locked(PathBuf),
    /// The journal holds a line that is no entry, before its last one.
    #[error("{path} line {line} is damaged ({reason}); move the file away to start with an empty outbox, or restore it", path = path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// As many alerts are remembered as the outbox holds. The alert is not lost: alerts are recomputed from balances, so
    /// the caller offers it again later.
    #[error(
        "the outbox holds {0} alerts and takes no more until mails are delivered or forgotten; check the mail server"
    )]
    Full(usize),
    /// The message could not be built.
    #[error("the mail could not be built: {0}")]
    Message(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl MailError {
    /// For `map_err`: says which file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
