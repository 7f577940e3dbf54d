//! What all requests share: topics, groups, identities.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::config::LocalLogConfig;
use crate::groups::Coordinator;
use crate::storage::replace_file;
use crate::storage::topics::{CleanSizes, TopicStore};

const CLUSTER_FILE: &str = "cluster.json";
const PRODUCER_IDS_FILE: &str = "producer-ids";
const CLEAN_STOP_FILE: &str = "clean-stop";
/// So many ids are set aside with one write; a restart skips the rest.
const PRODUCER_ID_BLOCK: i64 = 1000;

pub(crate) struct Broker {
    pub config: LocalLogConfig,
    /// Where it listens in fact.
    pub addr: SocketAddr,
    pub cluster_id: String,
    pub topics: TopicStore,
    pub groups: Arc<Coordinator>,
    pub producer_ids: ProducerIds,
}

impl Broker {
    /// Opens the data folder, recovering what a crash left. Blocks on the disk.
    pub fn open(config: LocalLogConfig, addr: SocketAddr) -> io::Result<Self> {
        let dir = &config.data_dir;
        let clean = take_clean_sizes(dir)?;
        Ok(Self {
            addr,
            cluster_id: cluster_id(dir)?,
            topics: TopicStore::open(dir, &clean)?,
            groups: Arc::new(Coordinator::open(dir, config.initial_rebalance_delay)?),
            producer_ids: ProducerIds::open(dir)?,
            config,
        })
    }

    /// Closes all partitions and notes their sizes for a fast start. Blocks on the disk.
    pub fn close(&self) -> io::Result<()> {
        self.close_partitions();
        let json = serde_json::to_vec(&self.topics.clean_sizes()).map_err(io::Error::other)?;
        replace_file(&self.config.data_dir.join(CLEAN_STOP_FILE), &json)
    }

    /// Refuses appends from now on and waits for those in progress.
    pub fn close_partitions(&self) {
        for topic in self.topics.all() {
            for partition in topic.partitions() {
                partition.close();
            }
        }
        self.groups.close();
    }
}

/// Hands out producer ids that were never used before, also across crashes.
pub(crate) struct ProducerIds {
    path: PathBuf,
    /// Next id, and the first that is not set aside on disk.
    next: Mutex<(i64, i64)>,
}

impl ProducerIds {
    fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(PRODUCER_IDS_FILE);
        let first = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| invalid(&path, "not a number"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { path, next: Mutex::new((first, first)) })
    }

    pub fn next(&self) -> io::Result<i64> {
        let mut next = self.next.lock();
        let (id, end) = *next;
        if id < end {
            next.0 += 1;
            return Ok(id);
        }
        let end = id + PRODUCER_ID_BLOCK;
        replace_file(&self.path, end.to_string().as_bytes())?;
        *next = (id + 1, end);
        Ok(id)
    }
}

/// Reads and removes the note of an orderly stop: from now on the sizes change.
fn take_clean_sizes(dir: &Path) -> io::Result<CleanSizes> {
    let path = dir.join(CLEAN_STOP_FILE);
    match fs::read(&path) {
        Ok(json) => {
            fs::remove_file(&path)?;
            crate::storage::sync_dir(dir)?;
            // A note that cannot be read is no note.
            Ok(serde_json::from_slice(&json).unwrap_or_default())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(CleanSizes::new()),
        Err(error) => Err(error),
    }
}

fn cluster_id(dir: &Path) -> io::Result<String> {
    let path = dir.join(CLUSTER_FILE);
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| invalid(&path, &error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4().simple().to_string();
            replace_file(&path, format!("\"{id}\"").as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

fn invalid(path: &Path, message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {message}", path.display()))
}
