//! From a connection to a session: TLS where both sides want it, then the key.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::cancel::Sessions;
use crate::message::{EARLY_BYTES_MAX, Frontend, Opening, Status};
use crate::session::{Client, Session, Stop};
use crate::settings::{Settings, TOLD};
use crate::types::state;
use crate::{Backend, Caller, PgError};

/// How long a client may take to come in (PostgreSQL: `authentication_timeout`).
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// What all connections share.
pub(crate) struct Shared {
    pub backend: Arc<dyn Backend>,
    pub sessions: Arc<Sessions>,
    pub tls: Option<TlsAcceptor>,
    pub stopping: watch::Receiver<bool>,
}

/// A connection, with or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let entered = tokio::time::timeout(STARTUP_TIMEOUT, enter(stream, &shared)).await;
    match entered {
        Ok(Ok(Some(session))) => session.run().await,
        Ok(Ok(None)) => {}
        Ok(Err(Stop::Gone(error))) => tracing::debug!(%error, "a client of PostgreSQL's protocol left"),
        Ok(Err(Stop::Error(error))) => tracing::info!(%error, "a client of PostgreSQL's protocol was not let in"),
        Err(_) => tracing::debug!("a client of PostgreSQL's protocol did not come in in time"),
    }
}

/// The session of a client that may come in; `None` where it only wanted to cancel.
async fn enter(stream: TcpStream, shared: &Arc<Shared>) -> Result<Option<Session>, Stop> {
    // A key in clear is for this machine alone.
    let is_near = stream.peer_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback());
    let mut client = Client::new(Stream::Plain(stream));
    let mut is_private = is_near;
    loop {
        match client.opening().await? {
            Opening::Ssl => match &shared.tls {
                Some(tls) => {
                    client.answer(b'S').await?;
                    client = Client::new(Stream::Tls(Box::new(tls.accept(client.into_plain()?).await?)));
                    is_private = true;
                }
                None => client.answer(b'N').await?,
            },
            Opening::Gss => client.answer(b'N').await?,
            Opening::Cancel { process, secret } => {
                shared.sessions.cancel(process, secret);
                return Ok(None);
            }
            Opening::Startup { major, minor, parameters } => {
                let greeted = greet(&mut client, (major, minor), &parameters, is_private, shared).await;
                if let Err(Stop::Error(error)) = &greeted {
                    client.outbox.error(error);
                    client.flush().await?;
                }
                let caller = greeted?;
                return open(client, caller, &parameters, shared).await.map(Some);
            }
        }
    }
}

/// Asks for the key, and lets in who has it.
async fn greet(
    client: &mut Client,
    (major, minor): (u16, u16),
    parameters: &[(String, String)],
    is_private: bool,
    shared: &Shared,
) -> Result<Caller, Stop> {
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0");
        return Err(PgError::fatal(state::FEATURE_NOT_SUPPORTED, message).into());
    }
    let unknown: Vec<&str> =
        parameters.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
    if minor > 0 || !unknown.is_empty() {
        client.outbox.negotiate(&unknown);
    }
    let user = parameters.iter().find(|(name, _)| name == "user").map_or("", |(_, user)| user.as_str());
    if !is_private {
        let error = PgError::fatal(state::INVALID_AUTHORIZATION, "a key is taken over TLS only, or from this machine");
        let hint = if shared.tls.is_some() {
            "connect with sslmode=require"
        } else {
            "start the server with --pg-tls-cert and --pg-tls-key, and connect with sslmode=require"
        };
        return Err(error.hint(hint).into());
    }
    client.outbox.ask_password();
    client.flush().await?;
    let Frontend::Password(password) = client.message(EARLY_BYTES_MAX).await? else {
        return Err(PgError::protocol("expected a password").into());
    };
    let caller = shared.backend.authenticate(user, &password).await;
    caller.ok_or_else(|| {
        let error =
            PgError::fatal(state::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""));
        error.hint("the password is the key that HTTP takes, too").into()
    })
}

async fn open(
    mut client: Client,
    caller: Caller,
    parameters: &[(String, String)],
    shared: &Arc<Shared>,
) -> Result<Session, Stop> {
    let entry = shared.sessions.enter().map_err(|error| PgError::fatal(state::INTERNAL_ERROR, error.to_string()))?;
    let (entry, cancelled) = entry;
    let mut settings = Settings::default();
    parameters.iter().for_each(|(name, value)| settings.set(name, value));
    client.outbox.let_in();
    TOLD.iter().for_each(|(name, value)| client.outbox.parameter(name, value));
    client.outbox.parameter("application_name", settings.get("application_name").unwrap_or_default());
    client.outbox.key(entry.process, entry.secret);
    client.outbox.ready(Status::Idle);
    client.flush().await?;
    client.cancelled = Some(cancelled);
    Ok(Session::new(client, Arc::clone(&shared.backend), caller, settings, entry, shared.stopping.clone()))
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Self::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
