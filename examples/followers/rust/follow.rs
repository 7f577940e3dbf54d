//! Reads the control topic into [`Decisions`], for ever.

use std::collections::HashSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::decisions::Decisions;

const TOPIC: &str = "usage.decisions";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the thread that follows shares with those that ask.
#[derive(Debug, Default)]
pub struct Followed {
    /// What is known.
    pub decisions: RwLock<Decisions>,
    /// Set once the topic has been read to the end that it had at the start.
    pub ready: AtomicBool,
}

/// Follows until the process ends.
pub fn follow(brokers: &str, followed: &Followed) {
    loop {
        if let Err(error) = read_topic(brokers, followed) {
            eprintln!("follower: {error}; trying again");
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn read_topic(brokers: &str, followed: &Followed) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // Named because the client wants it; nothing is joined or committed.
        .set("group.id", "follower")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("reconnect.backoff.max.ms", "1000")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(TOPIC), ANSWER_TIMEOUT)?;
    let mut unread = HashSet::new();
    let mut all = TopicPartitionList::new();
    // Every follower reads all of it: no group shares it out.
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        all.add_partition_offset(TOPIC, partition.id(), Offset::Beginning)?;
        unread.insert(partition.id());
    }
    if unread.is_empty() {
        eprintln!("follower: there is no topic {TOPIC} yet; trying again");
        return Ok(());
    }
    consumer.assign(&all)?;
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            None => {}
            Some(Ok(record)) => {
                let Some(key) = record.key() else { continue };
                // A panic elsewhere while the lock was held leaves decisions whole: they are only written here.
                let mut decisions = followed.decisions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
                if let Err(error) = decisions.apply(key, record.payload()) {
                    eprintln!("follower: offset {} is no decision: {error}", record.offset());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
                if unread.is_empty() {
                    followed.ready.store(true, Ordering::Release);
                }
            }
            // The client goes on by itself; until it can, what is known is in force.
            Some(Err(error)) => eprintln!("follower: {error}"),
        }
    }
}
