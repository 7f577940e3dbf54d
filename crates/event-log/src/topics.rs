//! The topics of Outlay: names, what they must be, and bringing a cluster to it.
//!
//! A topic that exists is never changed, because it is somebody's; what is wrong with it for Outlay comes back as a
//! warning. The number of partitions is fixed when a topic is created: with another one, keys would move to other
//! partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::LogError;
use crate::config::{LogConfig, Logging};
use crate::error::plain;

/// Usage events on their way in.
pub const USAGE_EVENTS: &str = "usage.events";
/// Dead letters: what could not be accepted, with a reason and its source offset in the headers.
pub const USAGE_REJECTED: &str = "usage.rejected";
/// Decisions, one key per budget and scope; compacted.
pub const USAGE_DECISIONS: &str = "usage.decisions";
/// Alerts, one key per budget, scope, window and threshold; compacted.
pub const USAGE_ALERTS: &str = "usage.alerts";
/// Contributions of several workers to one balance; compacted.
pub const USAGE_BALANCES: &str = "usage.balances";

/// One broker request or the wait for a new topic's leaders.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const LEADER_POLL: Duration = Duration::from_millis(50);

/// Replication factor that leaves the choice to the brokers (`default.replication.factor`); needs Kafka 2.4 or newer.
pub const REPLICATION_OF_BROKER: i32 = -1;

/// What a topic must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name of the topic.
    pub name: String,
    /// Partitions when it is created.
    pub partitions: i32,
    /// Replicas of each partition when it is created, or [`REPLICATION_OF_BROKER`].
    pub replication: i32,
    /// Topic settings when it is created.
    pub configs: BTreeMap<String, String>,
}

/// What was found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReport {
    /// Name of the topic.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Whether it was missing and is created now.
    pub created: bool,
    /// What is wrong with an existing topic, in sentences for an operator.
    pub warnings: Vec<String>,
}

/// All topics of Outlay. `event_partitions` is for events, their dead letters and contributions (64 on a cluster, 8 on
/// the embedded log); decisions and alerts are few, and in one partition they have one order.
pub fn all(event_partitions: i32) -> Vec<TopicSpec> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    vec![
        // A week to notice that the aggregator stands still.
        logged(USAGE_EVENTS, event_partitions, 7 * DAY_MS),
        // Longer, for people look at these.
        logged(USAGE_REJECTED, event_partitions, 30 * DAY_MS),
        compacted(USAGE_DECISIONS, 1),
        compacted(USAGE_ALERTS, 1),
        compacted(USAGE_BALANCES, event_partitions),
    ]
}

fn spec(name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicSpec {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    TopicSpec { name: name.to_owned(), partitions, replication: REPLICATION_OF_BROKER, configs }
}

/// A topic of events: kept for a time, stamped by the log, whose clock no sender can set wrong.
fn logged(name: &str, partitions: i32, retention_ms: u64) -> TopicSpec {
    let retention = retention_ms.to_string();
    spec(
        name,
        partitions,
        &[("cleanup.policy", "delete"), ("message.timestamp.type", "LogAppendTime"), ("retention.ms", &retention)],
    )
}

/// A topic that holds the latest value of each key. Segments are small and old ones are compacted early, because
/// whoever starts reads all of it, and the segment being written is never compacted.
fn compacted(name: &str, partitions: i32) -> TopicSpec {
    spec(
        name,
        partitions,
        &[
            ("cleanup.policy", "compact"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("segment.bytes", "67108864"),
            ("segment.ms", "3600000"),
        ],
    )
}

/// Settings of an existing topic that Outlay relies on, and what happens when they differ.
const RELIED_ON: &[(&str, &str)] = &[
    ("cleanup.policy", "records that Outlay needs would be dropped, or the topic would grow without end"),
    ("message.timestamp.type", "a sender's wrong clock could move its events to another window"),
];

/// Creates the topics that are missing and checks the others; reports come in the order of `specs`. Running it again
/// changes nothing.
///
/// # Errors
/// [`LogError::Config`], [`LogError::Unreachable`], [`LogError::Admin`] when a missing topic cannot be created,
/// [`LogError::TimedOut`] when a new topic has no leaders in time. Topics created before the error stay.
pub async fn ensure_topics(config: &LogConfig, specs: &[TopicSpec]) -> Result<Vec<TopicReport>, LogError> {
    let admin = Admin::open(config)?;
    let existing = admin.partition_counts().await?;
    let (present, missing): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| existing.contains_key(&spec.name));
    let created = admin.create(&missing).await?;
    let counts = admin.wait_for_leaders(specs, &created).await?;
    let mut warnings = admin.check(&present).await?;
    Ok(specs
        .iter()
        .map(|spec| TopicReport {
            name: spec.name.clone(),
            partitions: counts[&spec.name],
            created: created.contains(&spec.name),
            warnings: warnings.remove(&spec.name).unwrap_or_default(),
        })
        .collect())
}

struct PartitionCount {
    total: i32,
    /// Whether each has a leader.
    led: bool,
}

struct Admin {
    client: Arc<AdminClient<Logging>>,
    brokers: String,
    options: AdminOptions,
}

impl Admin {
    fn open(config: &LogConfig) -> Result<Self, LogError> {
        let client = config
            .client(&[], &[])
            .create_with_context(Logging)
            .map_err(|error| LogError::from_client(&config.brokers, &error))?;
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        Ok(Self { client: Arc::new(client), brokers: config.brokers.clone(), options })
    }

    /// Partitions of every topic in the cluster. Asking for one topic by name could create it.
    async fn partition_counts(&self) -> Result<HashMap<String, PartitionCount>, LogError> {
        let client = Arc::clone(&self.client);
        let asked = tokio::task::spawn_blocking(move || {
            client.inner().fetch_metadata(None, REQUEST_TIMEOUT).map(|metadata| {
                metadata
                    .topics()
                    .iter()
                    .map(|topic| {
                        let led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
                        let total = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
                        (topic.name().to_owned(), PartitionCount { total, led })
                    })
                    .collect()
            })
        });
        match asked.await {
            Ok(answer) => answer.map_err(|error| LogError::from_client(&self.brokers, &error)),
            Err(stopped) => Err(LogError::ClientDead { reason: stopped.to_string() }),
        }
    }

    /// Names of those that did not exist before.
    async fn create(&self, specs: &[&TopicSpec]) -> Result<Vec<String>, LogError> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<_> = specs
            .iter()
            .map(|spec| {
                let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(spec.replication));
                spec.configs.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let results = self.client.create_topics(&topics, &self.options).await;
        let mut created = Vec::new();
        for result in results.map_err(|error| self.failed("creating topics", &error))? {
            match result {
                Ok(name) => created.push(name),
                // Another process was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(LogError::Admin { action: format!("creating topic {name}"), reason: code.to_string() });
                }
            }
        }
        Ok(created)
    }

    /// Partition counts of all of `specs`. A new topic is announced before it can be used, so wait until it can.
    async fn wait_for_leaders(
        &self,
        specs: &[TopicSpec],
        created: &[String],
    ) -> Result<HashMap<String, i32>, LogError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let counts = self.partition_counts().await?;
            let ready = |spec: &TopicSpec| {
                counts
                    .get(&spec.name)
                    .is_some_and(|count| count.total > 0 && (count.led || !created.contains(&spec.name)))
            };
            let Some(waiting) = specs.iter().find(|spec| !ready(spec)) else {
                return Ok(counts.into_iter().map(|(name, count)| (name, count.total)).collect());
            };
            if Instant::now() >= deadline {
                let what = format!("waiting for a leader of topic {}", waiting.name);
                return Err(LogError::TimedOut { what, timeout: REQUEST_TIMEOUT });
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// Warnings by topic. Not being allowed to look is a warning too: the topic may well be right.
    async fn check(&self, specs: &[&TopicSpec]) -> Result<HashMap<String, Vec<String>>, LogError> {
        let mut warnings: HashMap<String, Vec<String>> = HashMap::new();
        if specs.is_empty() {
            return Ok(warnings);
        }
        let resources: Vec<_> = specs.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
        let answers = self.client.describe_configs(&resources, &self.options).await;
        let answers = answers.map_err(|error| self.failed("reading topic settings", &error))?;
        // Answers come in the order of the questions; a refused one has no name.
        for (spec, answer) in specs.iter().zip(answers) {
            let found = match answer {
                Ok(resource) => differences(spec, &resource),
                Err(code) => vec![format!("the settings of topic {} cannot be checked: {code}", spec.name)],
            };
            warnings.insert(spec.name.clone(), found);
        }
        Ok(warnings)
    }

    fn failed(&self, action: &str, error: &KafkaError) -> LogError {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown,
            ) => LogError::from_client(&self.brokers, error),
            _ => LogError::Admin { action: action.to_owned(), reason: plain(error) },
        }
    }
}

fn differences(spec: &TopicSpec, found: &ConfigResource) -> Vec<String> {
    debug_assert_eq!(found.specifier, OwnedResourceSpecifier::Topic(spec.name.clone()));
    RELIED_ON
        .iter()
        .filter_map(|(key, consequence)| {
            let wanted = spec.configs.get(*key)?;
            let value = found.get(key)?.value.as_deref()?;
            (value != wanted).then(|| {
                let name = &spec.name;
                format!(
                    "topic {name} has {key}={value}, not {wanted}: {consequence}; change it with kafka-configs --alter"
                )
            })
        })
        .collect()
}
