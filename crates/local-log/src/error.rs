//! What can go wrong with the log as a whole; what goes wrong with a request is answered to its client.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a [`crate::LocalLog`] could not start or stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalLogError {
    /// Another process (or another log in this one) uses the data folder.
    #[error("{dir} is in use by another process; stop it or choose another data folder")]
    InUse {
        /// The data folder.
        dir: PathBuf,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {addr}; choose a free port or port 0: {source}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder could not be read or written.
    #[error("cannot use the data folder {dir}; check permissions and space: {source}")]
    Storage {
        /// The data folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the log ended in a way that is a defect of this crate.
    #[error("a task of the local log failed; restart it and report: {0}")]
    Task(#[from] tokio::task::JoinError),
}
