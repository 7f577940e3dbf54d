//! Why the server could not start or go on.

use std::net::SocketAddr;

/// The error of this crate. What goes wrong inside one request is an [`crate::ApiProblem`] instead.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The listener could not be opened.
    #[error("cannot listen for HTTP on {addr}: {source}; free the port or choose another address")]
    Bind {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The admin key would let everybody in.
    #[error("the admin key has fewer than {min} characters; set a longer one or none, so that one is generated")]
    WeakKey {
        /// The shortest key that is taken, in bytes.
        min: usize,
    },
}
