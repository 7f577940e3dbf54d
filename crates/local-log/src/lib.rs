//! An embedded single-node log that speaks the Kafka wire protocol.
//!
//! It lets Outlay start on a machine without Kafka, on the same code path as with a cluster: any Kafka client (librdkafka, Java,
//! kafka-python, aiokafka) produces to it and consumes from it. It is durable (a record is synced before it is acknowledged or
//! shown), survives kill -9 and full disks, keeps consumer groups and idempotent producers, retention and compaction. It is for one node and
//! for loopback, and says so: there is no replication, no TLS, no authentication, and there are no transactions.
//!
//! ```no_run
//! # async fn example() -> Result<(), local_log::LocalLogError> {
//! let log = local_log::LocalLog::start(local_log::LocalLogConfig::new("data/log")).await?;
//! println!("bootstrap.servers={}", log.addr());
//! log.shutdown().await
//! # }
//! ```
//!
//! Inward to outward: `batch` and `records` peek at record batches; `storage` keeps them; `groups` coordinates
//! consumers; `api` answers requests; `server` carries them.

mod api;
mod batch;
mod broker;
mod config;
mod error;
mod groups;
mod records;
mod server;
mod storage;
mod topic_config;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use folder_lock::FolderLock;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use broker::Broker;
pub use config::LocalLogConfig;
pub use error::LocalLogError;

const LOCK_FILE: &str = "lock";

/// A running log. Dropping it stops serving at once, as a crash would; [`LocalLog::shutdown`] stops in order.
#[derive(Debug)]
pub struct LocalLog {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    maintenance: JoinHandle<()>,
    broker: Shared,
    _lock: FolderLock,
}

/// Keeps the internals out of `Debug`.
struct Shared(Arc<Broker>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broker({})", self.0.config.data_dir.display())
    }
}

impl LocalLog {
    /// Locks and recovers the data folder, and starts to serve on the configured address.
    ///
    /// Needs a multi-threaded tokio runtime with I/O and time. When it returns, clients can connect.
    ///
    /// # Errors
    /// When another process uses the folder, the address is taken, or the folder cannot be read or written.
    pub async fn start(config: LocalLogConfig) -> Result<Self, LocalLogError> {
        let dir = config.data_dir.clone();
        let lock = tokio::task::spawn_blocking(move || lock(&dir)).await??;
        let listen_failed = |source| LocalLogError::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_failed)?;
        let addr = listener.local_addr().map_err(listen_failed)?;
        let dir = config.data_dir.clone();
        let broker = tokio::task::spawn_blocking(move || Broker::open(config, addr)).await?;
        let broker = Arc::new(broker.map_err(|source| LocalLogError::Storage { dir, source })?);
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(server::run(Arc::clone(&broker), listener, stopped.clone()));
        let maintenance = tokio::spawn(storage::maintenance::maintain(Arc::clone(&broker), stopped));
        tracing::info!(%addr, dir = %broker.config.data_dir.display(), "local log serves");
        Ok(Self { addr, stop, server, maintenance, broker: Shared(broker), _lock: lock })
    }

    /// The address it listens on; what clients take as `bootstrap.servers`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops serving, finishes the appends in progress, and notes that the data is whole, for a fast start.
    ///
    /// # Errors
    /// When the data folder cannot be written any more; acknowledged records are safe even then.
    pub async fn shutdown(mut self) -> Result<(), LocalLogError> {
        self.stop.send_replace(true);
        (&mut self.server).await?;
        (&mut self.maintenance).await?;
        let broker = Arc::clone(&self.broker.0);
        let dir = broker.config.data_dir.clone();
        tokio::task::spawn_blocking(move || broker.close())
            .await?
            .map_err(|source| LocalLogError::Storage { dir, source })
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.server.abort();
        self.maintenance.abort();
        // The folder is unlocked next, and another log may open it: no append may come after that.
        self.broker.0.close_partitions();
    }
}

fn lock(dir: &Path) -> Result<FolderLock, LocalLogError> {
    let storage = |source: io::Error| LocalLogError::Storage { dir: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(storage)?;
    let held = FolderLock::try_acquire(dir, LOCK_FILE).map_err(storage)?;
    held.ok_or_else(|| LocalLogError::InUse { dir: dir.to_owned() })
}
