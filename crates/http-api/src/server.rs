//! Serving connections: hyper with a timer for a request's head and for what a client leaves untaken, and an end to the streams.

use std::net::SocketAddr;
use std::sync::Arc;

use http_listen::{Limits, Listener};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::metrics::HttpMetrics;
use crate::router::{App, AppState, router};
use crate::write_timeout::WriteTimeout;
use crate::{Engine, HttpConfig, HttpError};

/// The largest head of a request, in bytes: twelve dimensions at their longest fit.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A server that listens and is not serving yet.
pub struct Server {
    listener: Listener,
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
        let listener = Listener::bind(config.listen).await.map_err(wrap)?;
        let (stop, stopping) = watch::channel(false);
        let app = Arc::new(App {
            engine,
            metrics: HttpMetrics::default(),
            publishes: Semaphore::new(config.max_publishes),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            stopping,
            config,
        });
        Ok(Self { listener, app, more: axum::Router::new(), stop })
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
        self.listener.addr()
    }

    /// Serves until `shutdown` completes; then stops accepting, ends the streams, and waits for requests in flight for at
    /// most [`HttpConfig::shutdown_deadline`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, app, more, stop } = self;
        let service = TowerToHyperService::new(router(Arc::clone(&app), more));
        let HttpConfig { max_connections: connections_max, shutdown_deadline, .. } = app.config;
        let stopping = || _ = stop.send_replace(true);
        let serve = |stream, watcher| serve(stream, service.clone(), Arc::clone(&app), watcher);
        listener.run(Limits { connections_max, shutdown_deadline }, shutdown, stopping, serve).await;
    }
}

async fn serve(stream: TcpStream, service: TowerToHyperService<axum::Router>, app: AppState, watcher: Watcher) {
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
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, config.write_timeout)), service);
    if let Err(error) = watcher.watch(connection).await {
        // A client that went away, was too slow, or spoke no HTTP: its business, not ours.
        tracing::debug!(%error, "a connection ended early");
    }
}
