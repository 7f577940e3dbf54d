//! Accepting and serving connections. `axum::serve` arms no timer for a request's head and has no limit of connections, so
//! this is hyper with both, and with an end: stop accepting, let requests finish within a deadline, end the streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::metrics::HttpMetrics;
use crate::router::{App, AppState, router};
use crate::write_timeout::WriteTimeout;
use crate::{Engine, HttpConfig, HttpError};

/// How long to wait after an accept failed for want of resources (file handles), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest head of a request, in bytes: twelve dimensions at their longest fit.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A server that listens and is not serving yet.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    app: AppState,
    more: axum::Router,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Opens the listener. Clients can connect from then on; they are answered once [`Self::run`] runs.
    ///
    /// # Errors
    /// The address is taken or not ours, or the admin key is too short.
    pub async fn bind(config: HttpConfig, engine: Arc<dyn Engine>) -> Result<Self, HttpError> {
        config.validate()?;
        let wrap = |source| HttpError::Bind { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(wrap)?;
        let addr = listener.local_addr().map_err(wrap)?;
        let (stop, stopping) = watch::channel(false);
        let app = Arc::new(App {
            engine,
            metrics: HttpMetrics::default(),
            publishes: Semaphore::new(config.max_publishes),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            stopping,
            config,
        });
        Ok(Self { listener, addr, app, more: axum::Router::new(), stop })
    }

    /// Serves these routes too, with the deadline and the headers of every other. They check the key themselves. The
    /// OpenAPI document describes those of OTLP and knows no others.
    #[must_use]
    pub fn with_routes(mut self, more: axum::Router) -> Self {
        self.more = self.more.merge(more);
        self
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` completes; then stops accepting, ends the streams, and waits for requests in flight for at
    /// most [`HttpConfig::shutdown_deadline`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, app, more, stop, .. } = self;
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(app.config.max_connections));
        let service = TowerToHyperService::new(router(Arc::clone(&app), more));
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &connections) => accepted,
                () = &mut shutdown => break,
            };
            let Some((stream, permit)) = accepted else { continue };
            tasks.spawn(serve(stream, service.clone(), Arc::clone(&app), graceful.watcher(), permit));
            while tasks.try_join_next().is_some() {}
        }
        drop(listener);
        stop.send_replace(true);
        if tokio::time::timeout(app.config.shutdown_deadline, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "requests did not finish in time; their connections are cut");
        }
        tasks.shutdown().await;
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    app: AppState,
    watcher: Watcher,
    permit: OwnedSemaphorePermit,
) {
    /// Counts a connection for as long as it lives, however it ends.
    struct Counted(AppState);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.metrics.disconnected();
        }
    }
    app.metrics.connected();
    let counted = Counted(app);
    let config = &counted.0.config;
    // Answers are small and awaited: do not hold them back to fill a packet.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, config.write_timeout)), service);
    if let Err(error) = watcher.watch(connection).await {
        // A client that went away, was too slow, or spoke no HTTP: its business, not ours.
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}
