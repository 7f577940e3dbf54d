//! Listening for OTLP. gRPC and HTTP have ports of their own by convention (4317 and 4318), which people mix up; so each listener takes both
//! and tells them apart by the first bytes of a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http_listen::{Limits, Listener};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Entrance, OtlpConfig, grpc_routes, http_routes};

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// The most requests at once on one HTTP/2 connection. An exporter has one or two.
const STREAMS_MAX: u32 = 32;
/// What an HTTP/2 connection may send ahead of its being read, in bytes.
const WINDOW_BYTES: u32 = 1 << 20;
/// How an HTTP/2 connection begins (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a connection whose first bytes come one by one is looked at.
const PEEK_PAUSE: Duration = Duration::from_millis(10);

/// The listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for OTLP on {addr}: {source}; free the port or choose another address")]
pub struct BindError {
    addr: SocketAddr,
    source: std::io::Error,
}

/// A listener that is not serving yet.
pub struct Server {
    listener: Listener,
    entrance: Arc<Entrance>,
}

impl Server {
    /// Opens the listener; port 0 takes a free one. Clients can connect from then on; they are answered once [`Self::run`] runs.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(addr: SocketAddr, entrance: Arc<Entrance>) -> Result<Self, BindError> {
        let listener = Listener::bind(addr).await.map_err(|source| BindError { addr, source })?;
        Ok(Self { listener, entrance })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Serves until `shutdown` completes; then stops accepting and waits for requests in flight for at most
    /// [`OtlpConfig::shutdown_deadline`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, entrance } = self;
        let service = TowerToHyperService::new(http_routes(&entrance).merge(grpc_routes(&entrance)));
        let OtlpConfig { connections_max, shutdown_deadline, header_timeout, .. } = entrance.config;
        let serve = |stream, watcher| serve(stream, service.clone(), header_timeout, watcher);
        listener.run(Limits { connections_max, shutdown_deadline }, shutdown, || (), serve).await;
    }
}

async fn serve(stream: TcpStream, service: TowerToHyperService<Router>, header_timeout: Duration, watcher: Watcher) {
    let Some(is_http2) = is_http2(&stream, Instant::now() + header_timeout).await else { return };
    let io = TokioIo::new(stream);
    let ended = if is_http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_stream_window_size(WINDOW_BYTES)
            // A client that takes nothing and answers nothing is cut off; one that only idles is not.
            .keep_alive_interval(header_timeout)
            .keep_alive_timeout(header_timeout)
            .serve_connection(io, service);
        watcher.watch(connection).await
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_header_size(HEAD_BYTES_MAX as usize)
            .serve_connection(io, service);
        watcher.watch(connection).await
    };
    if let Err(error) = ended {
        // A client that went away, was too slow, or spoke no HTTP: its business, not ours.
        tracing::debug!(%error, "an OTLP connection ended early");
    }
}

/// Whether a connection begins as HTTP/2 does; `None` where it ends or does not begin in time.
async fn is_http2(stream: &TcpStream, deadline: Instant) -> Option<bool> {
    let mut seen = [0; HTTP2_PREFACE.len()];
    loop {
        let count = timeout_at(deadline, stream.peek(&mut seen)).await.ok()?.ok().filter(|count| *count > 0)?;
        if !HTTP2_PREFACE.starts_with(&seen[..count]) {
            return Some(false);
        }
        if count == HTTP2_PREFACE.len() {
            return Some(true);
        }
        // A part of it is there, so a further peek would answer at once with the same.
        timeout_at(deadline, sleep(PEEK_PAUSE)).await.ok()?;
    }
}
