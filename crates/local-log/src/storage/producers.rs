//! What a partition remembers of idempotent producers, to refuse gaps and answer retries without writing twice.
//!
//! The rules are Kafka's: for each producer id the current epoch and the last five batches. The state is a function of the batch
//! headers in the log, so it is rebuilt from them after a crash; a note beside each closed segment shortens that.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::batch::BatchHeader;

/// How many batches of a producer are remembered: as many as clients keep in flight with idempotence.
const REMEMBERED_BATCHES: usize = 5;
/// A producer that was silent so long is forgotten (`producer.id.expiration.ms` of Kafka).
const EXPIRY_MS: i64 = 24 * 3600 * 1000;
/// Above so many producers in one partition the silent ones are looked for now and then.
const MANY_PRODUCERS: usize = 10_000;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Producer {
    epoch: i16,
    batches: VecDeque<SeenBatch>,
    last_seen_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenBatch {
    first_sequence: i32,
    last_sequence: i32,
    pub base_offset: i64,
    pub timestamp_ms: i64,
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// The very batch is in the log: answer with its offset.
    Retry(SeenBatch),
    /// Its records are in the log, but too long ago to say at which offset.
    OldDuplicate,
    OutOfOrder,
    StaleEpoch,
}

impl ProducerStates {
    pub fn check(&self, header: &BatchHeader) -> Verdict {
        if !header.has_producer() {
            return Verdict::Append;
        }
        // Unknown (expired, or its records were deleted): any sequence number is accepted, as Kafka does.
        let Some(producer) = self.producers.get(&header.producer_id) else { return Verdict::Append };
        if header.producer_epoch < producer.epoch {
            return Verdict::StaleEpoch;
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 { Verdict::Append } else { Verdict::OutOfOrder };
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        if let Some(seen) = producer.batches.iter().find(|b| b.first_sequence == first && b.last_sequence == last) {
            return Verdict::Retry(*seen);
        }
        let Some(newest) = producer.batches.back() else { return Verdict::Append };
        if first == next_sequence(newest.last_sequence) {
            return Verdict::Append;
        }
        // Half of the sequence space behind the newest counts as the past.
        let behind = newest.last_sequence.wrapping_sub(last) & i32::MAX;
        if behind < i32::MAX / 2 { Verdict::OldDuplicate } else { Verdict::OutOfOrder }
    }

    /// Takes in a batch that was appended at `base_offset`; returns what was known before, for [`Self::restore`].
    pub fn record(&mut self, header: &BatchHeader, base_offset: i64, now_ms: i64) -> Option<(i64, Option<Producer>)> {
        if !header.has_producer() {
            return None;
        }
        let before = self.producers.get(&header.producer_id).cloned();
        let producer = self.producers.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            batches: VecDeque::with_capacity(REMEMBERED_BATCHES),
            last_seen_ms: now_ms,
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.last_seen_ms = now_ms;
        producer.batches.push_back(SeenBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            timestamp_ms: if header.is_log_append_time() { header.max_timestamp_ms } else { -1 },
        });
        if before.is_none() && self.producers.len() > MANY_PRODUCERS && self.producers.len().is_multiple_of(1024) {
            self.expire(now_ms);
        }
        Some((header.producer_id, before))
    }

    /// Undoes a [`Self::record`], for a write that failed.
    pub fn restore(&mut self, producer_id: i64, before: Option<Producer>) {
        match before {
            Some(producer) => self.producers.insert(producer_id, producer),
            None => self.producers.remove(&producer_id),
        };
    }

    pub fn expire(&mut self, now_ms: i64) {
        self.producers.retain(|_, producer| now_ms - producer.last_seen_ms < EXPIRY_MS);
    }
}

fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}
