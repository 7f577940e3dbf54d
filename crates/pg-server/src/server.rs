//! The port, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::Backend;
use crate::startup::{Shared, serve};

/// How long to wait after an accept failed for want of resources, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the protocol is served.
pub struct PgConfig {
    /// Where; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS, where it is offered. Without it only clients of this machine can come in.
    pub tls: Option<TlsAcceptor>,
    /// The most connections at once; further ones wait in the operating system's backlog.
    pub connections_max: usize,
    /// How long queries may take to finish after a stop was asked for.
    pub shutdown_deadline: Duration,
}

impl PgConfig {
    /// Settings with every limit at its default.
    #[must_use]
    pub fn new(listen: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        Self { listen, tls, connections_max: 256, shutdown_deadline: Duration::from_secs(10) }
    }
}

/// A server that listens and is not serving yet.
pub struct PgServer {
    listener: TcpListener,
    addr: SocketAddr,
    config: PgConfig,
    backend: Arc<dyn Backend>,
}

impl PgServer {
    /// Opens the port.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(config: PgConfig, backend: Arc<dyn Backend>) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, config, backend })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` completes; then idle sessions end, and queries have a while to finish.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, addr, config, backend } = self;
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared { backend, sessions: Arc::default(), tls: config.tls, stopping });
        let places = Arc::new(Semaphore::new(config.connections_max));
        let mut shutdown = std::pin::pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = async {
                    // The semaphore is never closed.
                    let place = Arc::clone(&places).acquire_owned().await.ok()?;
                    Some((place, listener.accept().await))
                } => accepted,
                () = &mut shutdown => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Some((place, Ok((stream, _)))) => {
                    let shared = Arc::clone(&shared);
                    let _only_slower = stream.set_nodelay(true);
                    connections.spawn(async move {
                        serve(stream, shared).await;
                        drop(place);
                    });
                }
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => break,
            }
        }
        drop(listener);
        stop.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(config.shutdown_deadline, all).await.is_err() {
            tracing::warn!(%addr, connections = connections.len(), "queries did not finish in time; their connections are cut");
        }
        connections.shutdown().await;
    }
}
