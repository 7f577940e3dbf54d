//! Reading many records with one call: the only module with `unsafe`.
//!
//! Why: `BaseConsumer::poll` makes an event object, a shared pointer and a trip through rdkafka's event loop for each
//! record. librdkafka's own `rd_kafka_consume_batch_queue` fills an array in one call: a whole client then takes 0.6 of
//! the CPU time for 400-byte records (measured by `examples/read_rate.rs`). It also keeps what rdkafka's error type
//! drops, the partition and offset that an error is about, and gives header names as bytes, where rdkafka's own
//! accessor panics on a name that is not UTF-8.
//!
//! What the safety of the rest rests on:
//! - [`BatchQueue`] owns the consumer, so its queue and its messages never outlive the librdkafka client.
//! - Messages belong to the `BatchQueue` until it destroys them: at the next [`BatchQueue::fill`], on
//!   [`BatchQueue::clear`], on drop. A [`Batch`] borrows the `BatchQueue` mutably and a [`RecordView`] borrows the
//!   batch, so none can be read after that.
//! - All messages in `BatchQueue::messages` are records; errors are taken out before anyone sees the batch.
//!
//! Deliberately absent: decisions on errors (see `reader`), anything that blocks for longer than it is told.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::{RDKafkaHeaders, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr};

/// An error that librdkafka put between the records of a partition.
#[derive(Debug)]
pub(crate) struct ConsumerFault {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) reason: String,
}

/// A consumer whose partitions all deliver into one queue that is read in batches.
pub(crate) struct BatchQueue<C: ConsumerContext> {
    /// What the last `fill` brought, in the order of the queue.
    messages: Vec<NonNull<RDKafkaMessage>>,
    // Before `consumer`: fields are dropped in this order, and librdkafka wants its queues released before its client.
    queue: OwnedQueue,
    consumer: BaseConsumer<C>,
    topic: CString,
}

// SAFETY: librdkafka's clients, queues and messages may be used and destroyed from any thread; the pointers in here are
// owned by this value alone. It is not `Sync`: a message parses its headers on first access.
unsafe impl<C: ConsumerContext> Send for BatchQueue<C> {}

impl<C: ConsumerContext> BatchQueue<C> {
    /// Forwards the first `partitions` partitions of `topic` to a queue of their own. Must come before they are
    /// assigned: then librdkafka leaves the forwarding as it is, and no record goes to the consumer's common queue.
    pub(crate) fn new(consumer: BaseConsumer<C>, topic: CString, partitions: i32) -> Self {
        let client = consumer.client().native_ptr();
        // SAFETY: `client` is live, it belongs to `consumer`. A new queue is never null (librdkafka aborts without
        // memory).
        let queue =
            OwnedQueue(unsafe { NonNull::new(rd::rd_kafka_queue_new(client)) }.expect("a new queue is not null"));
        for partition in 0..partitions {
            // SAFETY: `client` is live and the name is a C string. The reference to the partition's queue is released
            // by `OwnedQueue`; the forwarding itself keeps both queues alive inside librdkafka.
            unsafe {
                if let Some(from) = NonNull::new(rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition)) {
                    let from = OwnedQueue(from);
                    rd::rd_kafka_queue_forward(from.0.as_ptr(), queue.0.as_ptr());
                }
            }
        }
        Self { messages: Vec::new(), queue, consumer, topic }
    }

    pub(crate) fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }

    /// Replaces the batch by up to `max` records, waiting at most `timeout` for the first. What came with them as
    /// errors is returned, and for a partition with an error `keep_after` decides whether the records behind it stay in
    /// the batch.
    pub(crate) fn fill(
        &mut self,
        max: usize,
        timeout: Duration,
        keep_after: impl Fn(&ConsumerFault) -> bool,
    ) -> Vec<ConsumerFault> {
        self.clear();
        self.messages.reserve(max);
        // A timeout given to librdkafka is for the whole batch: it would wait for `max` records. So take what is there,
        // and only when there is nothing wait for one.
        if self.take(max, 0) == 0 && !timeout.is_zero() && self.take(1, whole_millis(timeout)) == 1 {
            self.take(max - 1, 0);
        }
        self.remove_faults(keep_after)
    }

    /// Destroys the records of the batch.
    pub(crate) fn clear(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: it came from `rd_kafka_consume_batch_queue`, is destroyed once since it leaves the vector, and no
            // view of it lives, because views borrow `self`.
            unsafe { rd::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }

    /// The records of the last [`fill`](Self::fill).
    pub(crate) fn batch(&mut self) -> Batch<'_> {
        Batch { messages: &self.messages }
    }

    /// First and next offset of a partition as of the last answer to a fetch; asks nobody.
    pub(crate) fn cached_watermarks(&self, partition: i32) -> Option<(i64, i64)> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is live, the name is a C string, and the two offsets are written before the call returns.
        let answer = unsafe {
            rd::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                self.topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
            )
        };
        // Both are negative (OFFSET_INVALID) until the first answer.
        (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low.max(0), high))
    }

    /// Appends up to `max` messages; returns how many.
    fn take(&mut self, max: usize, timeout_ms: i32) -> usize {
        if max == 0 {
            return 0;
        }
        self.messages.reserve(max);
        // SAFETY: the vector has room for `max` more pointers behind its length. librdkafka writes `taken` of them,
        // each the only reference to a message that is ours from now on, and none of them null. `NonNull<T>` has the
        // layout of `*mut T`.
        unsafe {
            let free = self.messages.as_mut_ptr().add(self.messages.len()).cast::<*mut RDKafkaMessage>();
            let taken = rd::rd_kafka_consume_batch_queue(self.queue.0.as_ptr(), timeout_ms, free, max);
            let taken = usize::try_from(taken).unwrap_or(0).min(max);
            self.messages.set_len(self.messages.len() + taken);
            taken
        }
    }

    /// Takes the errors out of the batch, and with them the records that must not be delivered after them.
    fn remove_faults(&mut self, keep_after: impl Fn(&ConsumerFault) -> bool) -> Vec<ConsumerFault> {
        let mut faults = Vec::new();
        let mut gate = Gate { keep_after, stopped: Vec::new() };
        // The usual batch has no error: one pass over fields that the caller is about to read anyway.
        let first = self.messages.iter().position(|message| is_fault(*message));
        let mut at = first.unwrap_or(self.messages.len());
        while at < self.messages.len() {
            let message = self.messages[at];
            // SAFETY: the message is live until it is destroyed below.
            let partition = unsafe { message.as_ref().partition };
            let fault = is_fault(message).then(|| fault_of(message));
            if gate.lets_through(partition, fault.as_ref()) {
                at += 1;
                continue;
            }
            self.messages.remove(at);
            // SAFETY: as in `clear`; what `fault_of` took from it is a copy.
            unsafe { rd::rd_kafka_message_destroy(message.as_ptr()) };
            faults.extend(fault);
        }
        faults
    }
}

/// Lets records pass, but no errors, and no record of a partition behind an error that must stop it: librdkafka goes on
/// behind what it cannot read.
struct Gate<F> {
    keep_after: F,
    stopped: Vec<i32>,
}

impl<F: Fn(&ConsumerFault) -> bool> Gate<F> {
    fn lets_through(&mut self, partition: i32, fault: Option<&ConsumerFault>) -> bool {
        let Some(fault) = fault else { return !self.stopped.contains(&partition) };
        if !(self.keep_after)(fault) {
            self.stopped.push(partition);
        }
        false
    }
}

impl<C: ConsumerContext> Drop for BatchQueue<C> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A librdkafka queue reference, released on drop.
struct OwnedQueue(NonNull<RDKafkaQueue>);

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: the reference was given to us by librdkafka and is released once.
        unsafe { rd::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// Records in the order of their offsets within each partition; partitions are mixed. Freed when the reader is used
/// again.
pub struct Batch<'r> {
    messages: &'r [NonNull<RDKafkaMessage>],
}

impl Batch<'_> {
    /// How many records.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordView<'_>> + DoubleEndedIterator {
        self.messages.iter().map(|message| view_of(*message))
    }
}

/// One record, borrowed from the memory of the fetch that brought it.
///
/// Its fields are public so that code which takes records can be tested without a log.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition. Offsets grow, but not always by one (compaction, transactions).
    pub offset: i64,
    /// When the log appended the record, in milliseconds since the Unix epoch. On a topic that does not stamp its
    /// append time (see [`crate::ensure_topics`]) it is the sender's time; -1 when the record has none.
    pub append_time_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers; decoded when first asked for.
    pub headers: Headers<'a>,
}

/// The headers of a record.
#[derive(Clone, Copy)]
pub struct Headers<'a>(HeaderSource<'a>);

#[derive(Clone, Copy)]
enum HeaderSource<'a> {
    Message(NonNull<RDKafkaMessage>, PhantomData<&'a RDKafkaMessage>),
    Slice(&'a [(&'a [u8], Option<&'a [u8]>)]),
}

impl<'a> Headers<'a> {
    /// No headers, for records made by hand.
    pub const NONE: Headers<'static> = Headers(HeaderSource::Slice(&[]));

    /// Headers from a slice, for records made by hand.
    pub fn from_slice(headers: &'a [(&'a [u8], Option<&'a [u8]>)]) -> Self {
        Headers(HeaderSource::Slice(headers))
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        match self.0 {
            // SAFETY: the message outlives `'a`, and its headers live as long as it does.
            HeaderSource::Message(message, _) => {
                native_headers(message).map_or(0, |headers| unsafe { rd::rd_kafka_header_cnt(headers) })
            }
            HeaderSource::Slice(headers) => headers.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name and value of each header in the order of the record. Names are bytes: nothing makes a producer send UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let (source, native) = match self.0 {
            HeaderSource::Message(message, _) => (self.0, native_headers(message)),
            HeaderSource::Slice(_) => (self.0, None),
        };
        (0..self.len()).map_while(move |i| match source {
            HeaderSource::Message(..) => native.and_then(|headers| native_header(headers, i)),
            HeaderSource::Slice(headers) => headers.get(i).copied(),
        })
    }

    /// Value of the last header with this name, which is the one that counts where a name is repeated.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().filter(|(key, _)| *key == name.as_bytes()).last().and_then(|(_, value)| value)
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), value.map(text)))).finish()
    }
}

fn view_of<'a>(message: NonNull<RDKafkaMessage>) -> RecordView<'a> {
    // SAFETY: called by `Batch::iter` only, which limits `'a` to the borrow of the batch; the message is live and a
    // record. Key and value point into memory that the message keeps alive, and nothing writes to it.
    unsafe {
        let record = message.as_ref();
        RecordView {
            partition: record.partition,
            offset: record.offset,
            append_time_ms: rd::rd_kafka_message_timestamp(message.as_ptr(), ptr::null_mut()),
            key: bytes(record.key.cast(), record.key_len),
            value: bytes(record.payload.cast(), record.len),
            headers: Headers(HeaderSource::Message(message, PhantomData)),
        }
    }
}

/// # Safety
/// `data` is null or points to `len` bytes that stay as they are for `'a`.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data, len) })
}

fn native_headers(message: NonNull<RDKafkaMessage>) -> Option<*mut RDKafkaHeaders> {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is live. The first call parses the headers into it, which no other thread can see meanwhile:
    // neither `RecordView` nor `Batch` nor `BatchQueue` is `Sync`, since they hold pointers.
    let answer = unsafe { rd::rd_kafka_message_headers(message.as_ptr(), &raw mut headers) };
    (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null()).then_some(headers)
}

fn native_header<'a>(headers: *mut RDKafkaHeaders, index: usize) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
    // SAFETY: called by `Headers::iter` only: the headers belong to a live message that outlives `'a`. On success
    // librdkafka gives a C string and `len` bytes (or null), both owned by the headers.
    unsafe {
        let answer = rd::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut len);
        (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| (CStr::from_ptr(name).to_bytes(), bytes(value.cast(), len)))
    }
}

fn is_fault(message: NonNull<RDKafkaMessage>) -> bool {
    // SAFETY: the message is live, it is in `BatchQueue::messages`.
    unsafe { message.as_ref().err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR }
}

fn fault_of(message: NonNull<RDKafkaMessage>) -> ConsumerFault {
    // SAFETY: the message is live. An error message carries its text as payload; it may be null.
    unsafe {
        let message = message.as_ref();
        let reason = bytes(message.payload.cast(), message.len).map(|text| String::from_utf8_lossy(text).into_owned());
        let code = RDKafkaErrorCode::from(message.err);
        ConsumerFault {
            code,
            partition: message.partition,
            offset: message.offset,
            reason: reason.unwrap_or_else(|| code.to_string()),
        }
    }
}

/// Rounded up, so that a short wait does not become a busy loop.
fn whole_millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: RDKafkaErrorCode, partition: i32) -> ConsumerFault {
        ConsumerFault { code, partition, offset: 0, reason: String::new() }
    }

    #[test]
    fn records_behind_an_error_that_stops_their_partition_are_withheld_and_no_others() {
        let passing = fault(RDKafkaErrorCode::BrokerTransportFailure, 0);
        let stopping = fault(RDKafkaErrorCode::BadMessage, 1);
        let mut gate = Gate {
            keep_after: |fault: &ConsumerFault| fault.code != RDKafkaErrorCode::BadMessage,
            stopped: Vec::new(),
        };
        for (partition, fault, expected) in [
            (0, None, true),
            (1, None, true),
            (0, Some(&passing), false),
            (0, None, true),
            (1, Some(&stopping), false),
            (1, None, false),
            (0, None, true),
            (1, Some(&stopping), false),
            (2, None, true),
        ] {
            assert_eq!(gate.lets_through(partition, fault), expected, "partition {partition}, {fault:?}");
        }
    }

    #[test]
    fn headers_made_by_hand_read_like_those_of_a_record() {
        let pairs: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"1")), (b"\xff", None), (b"a", Some(b"2"))];
        let headers = Headers::from_slice(&pairs);
        assert_eq!((headers.len(), headers.get("a"), headers.get("b")), (3, Some(&b"2"[..]), None));
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        assert!(Headers::NONE.is_empty());
    }
}
