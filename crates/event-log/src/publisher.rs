//! Publishing: decisions, alerts, dead letters, forwarded events, and what the HTTP entrances take in.
//!
//! What holds: a record is published when the log has acknowledged it (all in-sync replicas, idempotent producer: a
//! retry does not repeat or reorder it). There are two ways to learn of it, and each record is accounted to exactly
//! one: [`Publisher::publish`] counts on the next [`Publisher::flush`], [`Publisher::send`] returns a handle of its
//! own.
//!
//! Deliberately absent: waiting to fill batches. Nothing lingers, because a decision that waits is money spent; under
//! load records batch by themselves while earlier ones are in flight.

use std::ffi::CString;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext};
use tokio::sync::oneshot;

use crate::config::{LogConfig, log_error, log_line};
use crate::polled::PolledProducer;
use crate::{LogError, Position};

/// How often a full queue is tried again.
const FULL_QUEUE_RETRY: Duration = Duration::from_millis(2);
/// How long [`Publisher::publish`] waits for room. More than `message.timeout.ms`: by then something has left the
/// queue.
const FULL_QUEUE_TIMEOUT: Duration = Duration::from_secs(35);

const DEFAULTS: &[(&str, &str)] = &[
    // Both add themselves to the latency of every record.
    ("linger.ms", "0"),
    ("sticky.partitioning.linger.ms", "0"),
    // The queue is bounded: 100,000 records, 64 MiB.
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
    // A caller learns after this time that a record did not get through; librdkafka's default is 5 minutes.
    ("message.timeout.ms", "30000"),
    // A topic may be unknown for a moment after it was created. Its default of 30 s would hide what is missing behind
    // the timeout.
    ("topic.metadata.propagation.max.ms", "10000"),
];

const FIXED: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    // The Java client's: a key is in the same partition whoever sends it, and `partition_for` agrees.
    ("partitioner", "murmur2_random"),
];

/// A producer of its own, shared by reference between threads.
///
/// Dropping it gives up on what is still queued: flush first.
pub struct Publisher {
    producer: PolledProducer<DeliveryReports>,
    /// Counts the records published since the last flush.
    current: Mutex<Arc<Epoch>>,
    /// Epochs that a flush has begun to wait for. Its lock makes one flush wait for another.
    closed: Mutex<Vec<Arc<Epoch>>>,
}

impl Publisher {
    /// Sets up a producer. Connects in the background: a log that is away is noticed when publishing.
    ///
    /// # Errors
    /// [`LogError::Config`].
    pub fn open(config: &LogConfig) -> Result<Self, LogError> {
        let producer = PolledProducer::open(&config.client(DEFAULTS, FIXED), DeliveryReports::default())
            .map_err(|error| LogError::from_client(&config.brokers, &error))?;
        Ok(Self { producer, current: Mutex::default(), closed: Mutex::default() })
    }

    /// Queues a record for the next [`flush`](Self::flush) to account for. `value: None` is a tombstone. Without a
    /// `partition` the key decides ([`crate::partition_for`]). Waits while the queue is full, 35 seconds at most.
    ///
    /// # Errors
    /// [`LogError::QueueFull`], [`LogError::TooLarge`], [`LogError::BadName`], [`LogError::TopicMissing`] or
    /// [`LogError::ClientDead`]: the record is not queued and not counted by the flush.
    pub fn publish(
        &self,
        topic: &str,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
    ) -> Result<(), LogError> {
        let deadline = Instant::now() + FULL_QUEUE_TIMEOUT;
        loop {
            match self.try_publish(topic, key, value, headers, partition) {
                Err(LogError::QueueFull) if Instant::now() < deadline => thread::sleep(FULL_QUEUE_RETRY),
                done => return done,
            }
        }
    }

    /// As [`publish`](Self::publish), but never waits.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); [`LogError::QueueFull`] at once.
    pub fn try_publish(
        &self,
        topic: &str,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
    ) -> Result<(), LogError> {
        // The epoch is opened under the lock that `flush` swaps it under, so a flush never misses a record.
        let epoch = {
            let current = lock(&self.current);
            current.open();
            Arc::clone(&current)
        };
        let report = Report::Counted(Arc::clone(&epoch));
        self.enqueue(topic, key, value, headers, partition, report).inspect_err(|_| epoch.forget())
    }

    /// Queues a record and returns a handle that resolves when the log has acknowledged it. Never waits.
    ///
    /// # Errors
    /// As [`try_publish`](Self::try_publish).
    pub fn send(
        &self,
        topic: &str,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
    ) -> Result<DeliveryHandle, LogError> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(topic, key, value, headers, partition, Report::Awaited(sender))?;
        Ok(DeliveryHandle { receiver })
    }

    /// Publishes a record and waits until the log has acknowledged it; returns where it is.
    ///
    /// # Errors
    /// As [`try_publish`](Self::try_publish) and [`DeliveryHandle`].
    pub async fn publish_and_wait(
        &self,
        topic: &str,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
    ) -> Result<Position, LogError> {
        self.send(topic, key, value, headers, partition)?.await
    }

    /// Waits until every record given to [`publish`](Self::publish) and [`try_publish`](Self::try_publish) before this
    /// call is acknowledged. Blocks the thread. Calls from several threads take turns, and each failure is told to one
    /// of them.
    ///
    /// # Errors
    /// [`LogError::FlushFailed`] if any record since the last completed flush failed; [`LogError::TimedOut`] when some
    /// are still open, which the next flush accounts for.
    pub fn flush(&self, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + timeout;
        let mut closed = lock(&self.closed);
        closed.push(std::mem::take(&mut *lock(&self.current)));
        for epoch in closed.iter() {
            if !epoch.wait(deadline) {
                let open: u64 = closed.iter().map(|epoch| lock(&epoch.counts).open).sum();
                return Err(LogError::TimedOut { what: format!("publishing {open} records"), timeout });
            }
        }
        let (mut failed, mut first) = (0, None);
        for epoch in closed.drain(..) {
            let mut counts = lock(&epoch.counts);
            failed += counts.failed;
            first = first.or_else(|| counts.first.take());
        }
        match first {
            Some(first) => Err(LogError::FlushFailed { failed, first: Box::new(first) }),
            None => Ok(()),
        }
    }

    /// Records that are queued or on their way.
    pub fn in_flight(&self) -> usize {
        // Not librdkafka's own count: that one includes its log lines and errors.
        self.producer.context().open.load(Ordering::Relaxed)
    }

    fn enqueue(
        &self,
        topic: &str,
        key: &[u8],
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        partition: Option<i32>,
        report: Report,
    ) -> Result<(), LogError> {
        if CString::new(topic).is_err() {
            return Err(LogError::BadName { name: topic.to_owned() });
        }
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(report)).key(key);
        record.payload = value;
        record.partition = partition;
        if !headers.is_empty() {
            let list = OwnedHeaders::new_with_capacity(headers.len());
            record.headers = Some(
                headers.iter().fold(list, |list, (name, value)| list.insert(Header { key: name, value: Some(*value) })),
            );
        }
        self.producer.context().open.fetch_add(1, Ordering::Relaxed);
        self.producer.send(record).map_err(|(error, _)| {
            self.producer.context().open.fetch_sub(1, Ordering::Relaxed);
            let bytes = key.len() + value.map_or(0, <[u8]>::len);
            match LogError::from_produce(topic, bytes, &error) {
                LogError::ClientDead { reason } => LogError::ClientDead { reason: self.fatal_reason(reason) },
                error => error,
            }
        })
    }

    /// An idempotent producer may meet an error that it cannot go on after; librdkafka keeps the reason.
    fn fatal_reason(&self, otherwise: String) -> String {
        self.producer.client().fatal_error().map_or(otherwise, |(_, reason)| reason)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let left = self.in_flight();
        if left > 0 {
            tracing::warn!(records = left, "a publisher ended before it was flushed");
        }
    }
}

/// Resolves to the place of a record once the log has acknowledged it. Dropping it does not take the record back.
///
/// Fails with [`LogError::NotPublished`], [`LogError::TooLarge`], [`LogError::TopicMissing`] or
/// [`LogError::ClientDead`].
#[must_use = "a failure to publish is told here only"]
pub struct DeliveryHandle {
    receiver: oneshot::Receiver<Result<Position, LogError>>,
}

impl Future for DeliveryHandle {
    type Output = Result<Position, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| Err(LogError::ClientDead { reason: "the publisher was dropped".to_owned() }))
        })
    }
}

/// To whom the fate of a record is told.
enum Report {
    Counted(Arc<Epoch>),
    Awaited(oneshot::Sender<Result<Position, LogError>>),
}

/// The records between two flushes.
#[derive(Default)]
struct Epoch {
    counts: Mutex<Counts>,
    settled: Condvar,
}

#[derive(Default)]
struct Counts {
    open: u64,
    failed: u64,
    first: Option<LogError>,
}

impl Epoch {
    fn open(&self) {
        lock(&self.counts).open += 1;
    }

    /// A record that was not queued after all.
    fn forget(&self) {
        self.settle(Ok(()));
    }

    fn settle(&self, result: Result<(), LogError>) {
        let mut counts = lock(&self.counts);
        counts.open -= 1;
        if let Err(error) = result {
            counts.failed += 1;
            counts.first.get_or_insert(error);
        }
        if counts.open == 0 {
            self.settled.notify_all();
        }
    }

    /// Whether no record is open, waiting until `deadline` for it.
    fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.settled.wait_timeout_while(lock(&self.counts), left, |counts| counts.open > 0);
        let (counts, _) = waited.unwrap_or_else(PoisonError::into_inner);
        counts.open == 0
    }
}

/// Counters stay true when a thread panics between two statements, so a poisoned lock is no reason to stop publishing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes delivery reports, on the producer's own thread.
#[derive(Default)]
struct DeliveryReports {
    /// Records without a report yet.
    open: AtomicUsize,
}

impl ClientContext for DeliveryReports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Box<Report>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Box<Report>) {
        let result = match result {
            Ok(record) => Ok(Position { partition: record.partition(), offset: record.offset() }),
            Err((error, record)) => {
                let bytes = record.key_len() + record.payload_len();
                Err(LogError::from_produce(record.topic(), bytes, error))
            }
        };
        self.open.fetch_sub(1, Ordering::Relaxed);
        match *report {
            Report::Counted(epoch) => epoch.settle(result.map(drop)),
            // Nobody waits any more: the caller said that it does not want to know.
            Report::Awaited(sender) => drop(sender.send(result)),
        }
    }
}
