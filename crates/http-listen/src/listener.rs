//! Accepting connections. `axum::serve` arms no timer for a request's head and has no limit of connections, so this is hyper's parts with a
//! limit, and with an end: stop accepting, and let requests finish within a deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// How long to wait after an accept failed for want of resources (file handles), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What bounds a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at once; further ones wait in the operating system's backlog.
    pub connections_max: usize,
    /// How long requests in flight may take to finish after a stop was asked for.
    pub shutdown_deadline: Duration,
}

/// An open port.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Opens it; port 0 takes a free one. Clients can connect from then on; they are served once [`Self::run`] runs.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Has `serve` serve each connection, which it should have watched, until `shutdown` completes. Then closes the port, calls `stopping`
    /// (for what would go on by itself), and waits for watched connections to end after their requests in flight; those that take longer
    /// than the deadline are cut.
    pub async fn run<F: Future<Output = ()> + Send + 'static>(
        self,
        limits: Limits,
        shutdown: impl Future<Output = ()> + Send,
        stopping: impl FnOnce() + Send,
        serve: impl Fn(TcpStream, Watcher) -> F + Send,
    ) {
        let Self { listener, addr } = self;
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(limits.connections_max));
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &connections) => accepted,
                () = &mut shutdown => break,
            };
            let Some((stream, permit)) = accepted else { continue };
            let served = serve(stream, graceful.watcher());
            tasks.spawn(async move {
                served.await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
        drop(listener);
        stopping();
        if tokio::time::timeout(limits.shutdown_deadline, graceful.shutdown()).await.is_err() {
            tracing::warn!(%addr, connections = tasks.len(), "requests did not finish in time; their connections are cut");
        }
        tasks.shutdown().await;
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and awaited: do not hold them back to fill a packet.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY could not be set");
            }
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
