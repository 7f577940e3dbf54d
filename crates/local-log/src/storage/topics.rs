//! The topics of a data folder: creation, settings, partitions, deletion.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::partition::{PartitionLog, SharedConfig};
use super::{recovery, replace_file, sync_dir};
use crate::topic_config::{self, TopicConfig};

const TOPICS_DIR: &str = "topics";
const TOPIC_FILE: &str = "topic.json";
/// No topic name may contain this, so a half-created or half-deleted topic is never taken for one.
const DISCARDED_MARK: char = '~';
/// Kafka's limit on the length of a topic's name.
const NAME_BYTES_MAX: usize = 249;
/// One open file each, at least.
pub(crate) const PARTITIONS_PER_TOPIC_MAX: i32 = 1024;
const TOPICS_MAX: usize = 1024;

pub(crate) struct Topic {
    pub name: String,
    pub id: Uuid,
    config: SharedConfig,
    state: RwLock<TopicState>,
}

struct TopicState {
    partitions: Vec<Arc<PartitionLog>>,
    /// Settings that were given, by name.
    set: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct TopicFile {
    id: Uuid,
    partitions: usize,
    config: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) enum TopicError {
    Exists,
    Unknown,
    InvalidName(String),
    InvalidPartitions(String),
    InvalidConfig(String),
    TooMany,
    Storage,
}

pub(crate) struct TopicStore {
    dir: PathBuf,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Held while topics are created, altered or deleted.
    change: Mutex<()>,
}

/// Sizes of the written segments at an orderly stop, by partition folder relative to the data folder.
pub(crate) type CleanSizes = BTreeMap<String, u64>;

impl Topic {
    pub fn partition(&self, index: i32) -> Option<Arc<PartitionLog>> {
        self.state.read().partitions.get(usize::try_from(index).ok()?).cloned()
    }

    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        self.state.read().partitions.clone()
    }

    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.state.read().partitions.len()).unwrap_or(i32::MAX)
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// The settings that were given for this topic, by name.
    pub fn set_config(&self) -> BTreeMap<String, String> {
        self.state.read().set.clone()
    }
}

impl TopicStore {
    pub fn open(data_dir: &Path, clean: &CleanSizes) -> io::Result<Self> {
        let dir = data_dir.join(TOPICS_DIR);
        fs::create_dir_all(&dir)?;
        sync_dir(data_dir)?;
        let store = Self { dir, topics: RwLock::default(), change: Mutex::new(()) };
        for entry in fs::read_dir(&store.dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            if name.contains(DISCARDED_MARK) {
                fs::remove_dir_all(&path)?;
                continue;
            }
            let topic = store.load(&name, clean)?;
            store.topics.write().insert(name, Arc::new(topic));
        }
        Ok(store)
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.topics.read().values().find(|topic| topic.id == id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    /// Creates a topic, durably. Blocks on the disk.
    ///
    /// # Errors
    /// When the name is taken or not allowed, a setting is invalid, or the disk refuses.
    pub fn create(
        &self,
        name: &str,
        partitions: i32,
        set: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Option<Arc<Topic>>, TopicError> {
        let _change = self.change.lock();
        check_name(name)?;
        check_partitions(partitions)?;
        check_config(&set)?;
        if self.get(name).is_some() {
            return Err(TopicError::Exists);
        }
        if self.topics.read().len() >= TOPICS_MAX {
            return Err(TopicError::TooMany);
        }
        if validate_only {
            return Ok(None);
        }
        let partitions = usize::try_from(partitions).unwrap_or(0);
        let file = TopicFile { id: Uuid::new_v4(), partitions, config: set };
        let aside = self.dir.join(format!("{DISCARDED_MARK}new-{}", file.id));
        let made = (|| {
            fs::create_dir_all(&aside)?;
            write_topic_file(&aside, &file)?;
            for index in 0..partitions {
                recovery::open(name, &aside.join(index.to_string()), None)?;
            }
            fs::rename(&aside, self.dir.join(name))?;
            sync_dir(&self.dir)
        })();
        let loaded = made.and_then(|()| self.load(name, &CleanSizes::new()));
        let topic = loaded.map_err(|error| {
            let _ = fs::remove_dir_all(&aside);
            storage_failed("create a topic", name, &error)
        })?;
        let topic = Arc::new(topic);
        self.topics.write().insert(name.to_owned(), Arc::clone(&topic));
        Ok(Some(topic))
    }

    /// Removes a topic and its files. Blocks on the disk.
    pub fn delete(&self, name: &str) -> Result<(), TopicError> {
        let _change = self.change.lock();
        let topic = self.get(name).ok_or(TopicError::Unknown)?;
        let discarded = self.dir.join(format!("{DISCARDED_MARK}gone-{}", topic.id));
        fs::rename(self.dir.join(name), &discarded)
            .and_then(|()| sync_dir(&self.dir))
            .map_err(|error| storage_failed("delete a topic", name, &error))?;
        self.topics.write().remove(name);
        for partition in topic.partitions() {
            partition.close();
        }
        if let Err(error) = fs::remove_dir_all(&discarded) {
            tracing::warn!(topic = name, %error, "files of a deleted topic stay until the next start");
        }
        Ok(())
    }

    pub fn add_partitions(&self, name: &str, count: i32, validate_only: bool) -> Result<(), TopicError> {
        let _change = self.change.lock();
        let topic = self.get(name).ok_or(TopicError::Unknown)?;
        let old = topic.partition_count();
        if count <= old {
            return Err(TopicError::InvalidPartitions(format!("the topic has {old} partitions already; ask for more")));
        }
        check_partitions(count)?;
        if validate_only {
            return Ok(());
        }
        let dir = self.dir.join(name);
        let added = (|| {
            let mut added = Vec::new();
            for index in old..count {
                added.push(open_partition(name, &dir, index, &topic.config, None)?);
            }
            let partitions = usize::try_from(count).unwrap_or(0);
            write_topic_file(&dir, &TopicFile { id: topic.id, partitions, config: topic.set_config() })?;
            Ok(added)
        })();
        let added = added.map_err(|error: io::Error| storage_failed("add partitions", name, &error))?;
        topic.state.write().partitions.extend(added);
        Ok(())
    }

    /// Replaces a topic's settings. Blocks on the disk.
    ///
    /// # Errors
    /// When there is no such topic, the edit refuses, a setting is invalid, or the disk refuses; then nothing changed.
    pub fn configure(
        &self,
        name: &str,
        validate_only: bool,
        edit: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), String>,
    ) -> Result<(), TopicError> {
        let _change = self.change.lock();
        let topic = self.get(name).ok_or(TopicError::Unknown)?;
        let mut set = topic.set_config();
        edit(&mut set).map_err(TopicError::InvalidConfig)?;
        check_config(&set)?;
        if validate_only {
            return Ok(());
        }
        let partitions = usize::try_from(topic.partition_count()).unwrap_or(0);
        let file = TopicFile { id: topic.id, partitions, config: set };
        write_topic_file(&self.dir.join(name), &file)
            .map_err(|error| storage_failed("configure a topic", name, &error))?;
        *topic.config.write() = Arc::new(TopicConfig::new(&file.config));
        topic.state.write().set = file.config;
        Ok(())
    }

    fn load(&self, name: &str, clean: &CleanSizes) -> io::Result<Topic> {
        let dir = self.dir.join(name);
        let json = fs::read(dir.join(TOPIC_FILE))?;
        let file: TopicFile = serde_json::from_slice(&json).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", dir.join(TOPIC_FILE).display()))
        })?;
        let config: SharedConfig = Arc::new(RwLock::new(Arc::new(TopicConfig::new(&file.config))));
        let count = i32::try_from(file.partitions).unwrap_or(i32::MAX);
        let partitions = (0..count)
            .map(|index| {
                let clean_size = clean.get(&format!("{TOPICS_DIR}/{name}/{index}")).copied();
                open_partition(name, &dir, index, &config, clean_size)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Topic {
            name: name.to_owned(),
            id: file.id,
            config,
            state: RwLock::new(TopicState { partitions, set: file.config }),
        })
    }

    /// The sizes to note at an orderly stop; call after all partitions are closed.
    pub fn clean_sizes(&self) -> CleanSizes {
        let mut sizes = CleanSizes::new();
        for topic in self.all() {
            for (index, partition) in topic.partitions().iter().enumerate() {
                if let Some(size_bytes) = partition.clean_size_bytes() {
                    sizes.insert(format!("{TOPICS_DIR}/{}/{index}", topic.name), size_bytes);
                }
            }
        }
        sizes
    }
}

fn open_partition(
    name: &str,
    topic_dir: &Path,
    index: i32,
    config: &SharedConfig,
    clean_size: Option<u64>,
) -> io::Result<Arc<PartitionLog>> {
    let dir = topic_dir.join(index.to_string());
    let label = format!("{name}-{index}");
    let recovered = recovery::open(&label, &dir, clean_size)?;
    Ok(PartitionLog::new(label, dir, Arc::clone(config), recovered))
}

fn write_topic_file(dir: &Path, file: &TopicFile) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(file).map_err(io::Error::other)?;
    replace_file(&dir.join(TOPIC_FILE), &json)
}

fn check_name(name: &str) -> Result<(), TopicError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name == "." || name == ".." || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(TopicError::InvalidName(format!(
            "a topic name has 1 to {NAME_BYTES_MAX} of the characters a-z, A-Z, 0-9, '.', '_' and '-'"
        )));
    }
    Ok(())
}

fn check_partitions(count: i32) -> Result<(), TopicError> {
    if (1..=PARTITIONS_PER_TOPIC_MAX).contains(&count) {
        return Ok(());
    }
    Err(TopicError::InvalidPartitions(format!("a topic has 1 to {PARTITIONS_PER_TOPIC_MAX} partitions")))
}

fn check_config(set: &BTreeMap<String, String>) -> Result<(), TopicError> {
    set.iter().try_for_each(|(name, value)| topic_config::validate(name, value)).map_err(TopicError::InvalidConfig)
}

fn storage_failed(doing: &str, name: &str, error: &io::Error) -> TopicError {
    tracing::error!(topic = name, %error, "local log could not {doing}; free space or check the disk");
    TopicError::Storage
}
