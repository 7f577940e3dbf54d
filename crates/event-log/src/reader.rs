//! Reading a topic from given offsets: the aggregator's input.
//!
//! What holds: every partition is assigned, each from its given position (or its beginning); within a partition records
//! come in order, none twice and none left out; an error that means a gap stops the reader for good, with the records
//! before it delivered and none after it. The calling thread is the only one that reads, so nothing here is locked.
//!
//! Deliberately absent: group subscription and rebalancing, offset storage, decoding.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::batch::{Batch, BatchQueue, ConsumerFault};
use crate::config::{LogConfig, log_error, log_line};
use crate::error::plain;
use crate::{LogError, Position};

/// How long opening may take: finding a broker and the topic's partitions.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a lost offset may wait for the watermarks that explain it.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long librdkafka's own thread may take to note a position; it asks nobody.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
/// Log lines and broker errors taken per poll. They are rare; the bound keeps a storm of them from starving the
/// records.
const SIDE_EVENTS_PER_POLL: usize = 8;
/// The pause before a partition that had nobody to answer is asked again for its end.
const MARKS_RETRY: Duration = Duration::from_millis(100);

/// What a caller may change, with values that serve both catch-up and latency.
const DEFAULTS: &[(&str, &str)] = &[
    // After its queue was full librdkafka waits this long before it fetches again. Its default of 1000 halves catch-up.
    ("fetch.queue.backoff.ms", "5"),
    // An idle broker answers a fetch after this time at the latest; a record ends the wait at once.
    ("fetch.wait.max.ms", "50"),
    // Prefetch is bounded by bytes (queued.max.messages.kbytes, 64 MiB), not by count.
    ("queued.min.messages", "1000000"),
    // Brokers check a batch when they take it in, not when they give it out. This catches what happened to it since, as
    // the Java client does by default, for about 0.1 µs per record of 400 bytes.
    ("check.crcs", "true"),
];

/// What correctness rests on.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Tells when a partition is read to its end, which its last offset alone does not.
    ("enable.partition.eof", "true"),
    // The default silently jumps to the end and loses what was between.
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
];

/// First offset that a partition holds, and the one that its next record will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset of the oldest record.
    pub low: i64,
    /// Offset that the next record will get.
    pub high: i64,
}

/// Reads all partitions of one topic in batches. Belongs to one thread.
pub struct EventReader {
    queue: BatchQueue<ReaderContext>,
    topic: String,
    partitions: i32,
    /// The error that stopped it.
    stopped: Option<LogError>,
    last_trouble: Option<(Instant, String)>,
    /// Partitions found read to their end by the last poll, with the next offset.
    ends: Vec<Position>,
}

impl EventReader {
    /// Opens `topic` with every partition starting at its next offset in `start`; partitions not named there start at
    /// their beginning.
    ///
    /// Blocks until the topic's partitions are known, 10 seconds at most. Whether the offsets still exist is found out
    /// by reading.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Unreachable`], [`LogError::TopicMissing`], and [`LogError::PartitionMissing`]
    /// when `start` names a partition that the topic does not have.
    pub fn open(config: &LogConfig, topic: &str, start: &[Position]) -> Result<Self, LogError> {
        let name = CString::new(topic).map_err(|_| LogError::BadName { name: topic.to_owned() })?;
        let group = format!("outlay-{topic}");
        let defaults: Vec<_> = DEFAULTS.iter().copied().chain([("group.id", group.as_str())]).collect();
        let consumer: BaseConsumer<ReaderContext> = config
            .client(&defaults, FIXED)
            .create_with_context(ReaderContext)
            .map_err(|error| LogError::from_client(&config.brokers, &error))?;

        let partitions = count_partitions(&consumer, config, topic)?;
        if let Some(unknown) = start.iter().find(|position| !(0..partitions).contains(&position.partition)) {
            return Err(LogError::PartitionMissing {
                topic: topic.to_owned(),
                partition: unknown.partition,
                partitions,
            });
        }
        let queue = BatchQueue::new(consumer, name, partitions);
        assign(queue.consumer(), topic, partitions, start)
            .map_err(|error| LogError::from_client(&config.brokers, &error))?;
        Ok(Self { queue, topic: topic.to_owned(), partitions, stopped: None, last_trouble: None, ends: Vec::new() })
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Up to `max` records that have already been fetched; when there are none, waits up to `timeout` for the first. An
    /// empty batch means that none came.
    ///
    /// # Errors
    /// [`LogError::OffsetLost`], [`LogError::Unreadable`] or [`LogError::ClientDead`]: the reader stopped for good,
    /// every later call says the same, and a new one must be opened. All records before the gap have been delivered by
    /// earlier calls. Brokers that do not answer are no error: librdkafka tries again, see
    /// [`EventReader::last_trouble`].
    pub fn poll_batch(&mut self, max: usize, timeout: Duration) -> Result<Batch<'_>, LogError> {
        self.queue.clear();
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        self.serve_side_events();
        self.ends.clear();
        let faults = self.queue.fill(max.max(1), timeout, |fault| !ends_partition(fault));
        for fault in faults {
            self.note_fault(fault);
        }
        let batch = self.queue.batch();
        // What came before the gap is delivered first; the error waits for the next call.
        match &self.stopped {
            Some(error) if batch.is_empty() => Err(error.clone()),
            _ => Ok(batch),
        }
    }

    /// Stops delivering a partition's records. What was delivered so far stays delivered; what was fetched is fetched again later.
    ///
    /// # Errors
    /// [`LogError::ClientDead`].
    pub fn pause(&mut self, partition: i32) -> Result<(), LogError> {
        self.of_partition(partition, BaseConsumer::pause)
    }

    /// Goes on with a paused partition at this position.
    ///
    /// It is told, since librdkafka does not know: an end that was read counts as a record to it, so it would go on one too far.
    ///
    /// # Errors
    /// [`LogError::ClientDead`].
    pub fn resume(&mut self, next: Position) -> Result<(), LogError> {
        let seek = self.queue.consumer().seek(&self.topic, next.partition, Offset::Offset(next.offset), SEEK_TIMEOUT);
        seek.map_err(|error| LogError::ClientDead { reason: plain(&error) })?;
        self.of_partition(next.partition, BaseConsumer::resume)
    }

    fn of_partition(
        &self,
        partition: i32,
        call: impl Fn(&BaseConsumer<ReaderContext>, &TopicPartitionList) -> KafkaResult<()>,
    ) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        call(self.queue.consumer(), &list).map_err(|error| LogError::ClientDead { reason: plain(&error) })
    }

    /// What each partition holds, as of the last answer to a fetch. Asks nobody and so never waits; partitions that
    /// have not been fetched yet are left out. The lag of a partition is `high` less the next offset to read.
    pub fn watermarks(&self) -> Vec<Watermarks> {
        (0..self.partitions)
            .filter_map(|partition| {
                let (low, high) = self.queue.cached_watermarks(partition)?;
                Some(Watermarks { partition, low, high })
            })
            .collect()
    }

    /// Tells the log how far was read (next offsets), under the group `outlay-<topic>`, so that Kafka's own tools show
    /// the lag. It is sent in the background and may fail in silence: nothing is ever read back from there.
    pub fn commit_for_display(&self, next: &[Position]) {
        let mut list = TopicPartitionList::with_capacity(next.len());
        for position in next {
            if let Err(error) =
                list.add_partition_offset(&self.topic, position.partition, Offset::Offset(position.offset))
            {
                tracing::debug!(%error, "position not shown as committed");
            }
        }
        if list.count() > 0
            && let Err(error) = self.queue.consumer().commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "positions not shown as committed");
        }
    }

    /// The last error that librdkafka is dealing with by itself (a broker that does not answer, …), and when it was
    /// noticed.
    pub fn last_trouble(&self) -> Option<(Instant, &str)> {
        self.last_trouble.as_ref().map(|(at, reason)| (*at, reason.as_str()))
    }

    /// Partitions that the last poll found read to their end, with the next offset. It may lie behind the last record: transaction
    /// markers and what compaction removed take offsets too.
    pub fn ends(&self) -> &[Position] {
        &self.ends
    }

    /// First and next offset of every partition, asked from the brokers.
    ///
    /// # Errors
    /// [`LogError::TimedOut`].
    pub fn fetch_watermarks(&self, timeout: Duration) -> Result<Vec<Watermarks>, LogError> {
        let deadline = Instant::now() + timeout;
        (0..self.partitions).map(|partition| self.fetch_marks_of(partition, deadline, timeout)).collect()
    }

    /// Asks again until the deadline: a partition that was just created, or whose leader moves, has nobody to answer for a moment.
    fn fetch_marks_of(&self, partition: i32, deadline: Instant, timeout: Duration) -> Result<Watermarks, LogError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.queue.consumer().fetch_watermarks(&self.topic, partition, left) {
                Ok((low, high)) => return Ok(Watermarks { partition, low, high }),
                Err(error) if Instant::now() + MARKS_RETRY < deadline => {
                    tracing::debug!(topic = self.topic, partition, %error, "asking again for the end");
                    std::thread::sleep(MARKS_RETRY);
                }
                Err(error) => {
                    let what = format!("asking for the end of {}: {}", self.topic, plain(&error));
                    return Err(LogError::TimedOut { what, timeout });
                }
            }
        }
    }

    /// Logs, answers to commits, and errors that concern no partition.
    fn serve_side_events(&mut self) {
        for _ in 0..SIDE_EVENTS_PER_POLL {
            match self.queue.consumer().poll(Duration::ZERO) {
                None => return,
                // Every partition was forwarded to the batch queue before it was assigned. A record here would be one
                // left out.
                Some(Ok(record)) => {
                    let reason = format!("partition {} delivered past its queue", record.partition());
                    self.stopped = Some(LogError::ClientDead { reason });
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    self.stopped = Some(LogError::ClientDead { reason: code.to_string() });
                }
                Some(Err(error)) => self.last_trouble = Some((Instant::now(), plain(&error))),
            }
        }
    }

    fn note_fault(&mut self, fault: ConsumerFault) {
        if fault.code == RDKafkaErrorCode::PartitionEOF {
            self.ends.push(Position { partition: fault.partition, offset: fault.offset });
            return;
        }
        if !ends_partition(&fault) {
            tracing::warn!(topic = self.topic, partition = fault.partition, offset = fault.offset, "{}", fault.reason);
            self.last_trouble = Some((Instant::now(), fault.reason));
            return;
        }
        let error = self.error_of(fault);
        tracing::error!(%error, "stopped reading");
        // The first one counts: others are often its consequence.
        self.stopped.get_or_insert(error);
    }

    fn error_of(&self, fault: ConsumerFault) -> LogError {
        let ConsumerFault { code, partition, offset, reason } = fault;
        let topic = self.topic.clone();
        match code {
            RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::LogTruncation => {
                let (low, high) =
                    self.queue.consumer().fetch_watermarks(&topic, partition, WATERMARK_TIMEOUT).unwrap_or((-1, -1));
                LogError::OffsetLost { topic, partition, offset, low, high }
            }
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => LogError::TopicMissing { topic },
            RDKafkaErrorCode::Fatal => LogError::ClientDead { reason },
            _ => LogError::Unreadable { topic, partition, offset, reason },
        }
    }
}

/// Whether nothing after the error may be taken: librdkafka skips what it cannot read and goes on behind it, or stops
/// the partition and says so once.
fn ends_partition(fault: &ConsumerFault) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        fault.code,
        Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::LogTruncation
            | Code::BadMessage
            | Code::BadCompression
            | Code::NotImplemented
            | Code::InvalidMessage
            | Code::InvalidRecord
            | Code::MessageSizeTooLarge
            | Code::UnsupportedCompressionType
            | Code::TopicAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::Fatal
    )
}

fn count_partitions(consumer: &BaseConsumer<ReaderContext>, config: &LogConfig, topic: &str) -> Result<i32, LogError> {
    let metadata = consumer
        .fetch_metadata(Some(topic), OPEN_TIMEOUT)
        .map_err(|error| LogError::from_client(&config.brokers, &error))?;
    let partitions =
        metadata.topics().iter().find(|found| found.name() == topic).map_or(0, |found| found.partitions().len());
    match i32::try_from(partitions) {
        Ok(partitions) if partitions > 0 => Ok(partitions),
        _ => Err(LogError::TopicMissing { topic: topic.to_owned() }),
    }
}

fn assign(consumer: &BaseConsumer<ReaderContext>, topic: &str, partitions: i32, start: &[Position]) -> KafkaResult<()> {
    let start: BTreeMap<i32, i64> = start.iter().map(|position| (position.partition, position.offset)).collect();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let offset = start.get(&partition).map_or(Offset::Beginning, |offset| Offset::Offset(*offset));
        list.add_partition_offset(topic, partition, offset)?;
    }
    // The list ends here: one that is kept while its consumer is dropped makes the drop wait forever.
    consumer.assign(&list)
}

/// Sends logs to `tracing`.
pub(crate) struct ReaderContext;

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for ReaderContext {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "positions not shown as committed");
        }
    }
}
