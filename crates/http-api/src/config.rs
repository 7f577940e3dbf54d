//! The settings of the server: where it listens, who may ask, and every limit and deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_listen::Secret;
use usage_intake::Intake;

use crate::{CheckConfig, HttpError};

/// The settings of a [`crate::Server`].
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The key that every `/v1` route asks for.
    pub admin_key: Secret,
    /// Reads the bodies of `POST /v1/events`, and says which headers name dimensions.
    pub intake: Arc<Intake>,
    /// What checks answer while the balances are not current.
    pub check: CheckConfig,
    /// The largest body of `POST /v1/events`, in bytes. One event in it has the smaller bound of `usage-intake`.
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's head. An idle kept-alive connection is closed after it as well.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// How long a client may leave the answer's next bytes untaken.
    pub write_timeout: Duration,
    /// How long an answer may take to begin. The engine's own deadlines (for SQL) should be shorter.
    pub request_timeout: Duration,
    /// The most connections at once; further ones wait in the operating system's backlog.
    pub max_connections: usize,
    /// The most decision streams at once; further ones get 503.
    pub max_streams: usize,
    /// The most `POST /v1/events` requests at once, which bounds the memory of their bodies; further ones get 503.
    pub max_publishes: usize,
    /// How long requests in flight may take to finish after a stop was asked for.
    pub shutdown_deadline: Duration,
}

impl HttpConfig {
    /// The shortest admin key, in bytes.
    pub const ADMIN_KEY_BYTES_MIN: usize = 8;

    /// Settings with every limit at its default.
    #[must_use]
    pub fn new(listen: SocketAddr, admin_key: Secret) -> Self {
        Self {
            listen,
            admin_key,
            intake: Arc::new(Intake::default()),
            check: CheckConfig::default(),
            max_body_bytes: 8 << 20,
            // Gateways keep their connections for a minute or so; a head itself takes milliseconds.
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(120),
            max_connections: 2048,
            max_streams: 256,
            max_publishes: 32,
            shutdown_deadline: Duration::from_secs(10),
        }
    }

    /// Refuses settings that would leave the server open.
    ///
    /// # Errors
    /// [`HttpError::WeakKey`] where the admin key is shorter than [`Self::ADMIN_KEY_BYTES_MIN`].
    pub(crate) fn validate(&self) -> Result<(), HttpError> {
        if self.admin_key.expose().len() < Self::ADMIN_KEY_BYTES_MIN {
            return Err(HttpError::WeakKey { min: Self::ADMIN_KEY_BYTES_MIN });
        }
        Ok(())
    }
}
