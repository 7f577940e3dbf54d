//! The state behind the one lock: balances, the rows that are not committed yet, and what became of every offset.
//!
//! What holds: an event is in the balances exactly if its row is in `files` ∪ `handed` ∪ `rows`, and its offset is in exactly one
//! range. A reader that copies files and tail under the lock therefore sees every row once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use budget_core::{Core, Disposition, Input};
use price_book::{Priced, Pricer, UnpricedReason};
use usage_intake::DeadLetter;
use usage_lake::{CommitUnit, LakeError, LakeFiles, OffsetRange, RejectedRow, RowBuffer, RowKind, RowRef};
use usage_types::{Cost, Dimension, EventPosition, Rejection, TimeUs, UsageEvent};

/// How many refused events the page shows.
const RECENT_REJECTIONS: usize = 50;
/// How many unpriced models are told apart; those beyond share one row.
const UNPRICED_MODELS_MAX: usize = 200;

/// One record of the log, decoded.
pub struct Decoded<'a> {
    /// Where it stands.
    pub position: EventPosition,
    /// The event, with an id, or why it was refused.
    pub outcome: Result<UsageEvent<'a>, Box<Refused>>,
}

/// A refused record: a row for the lake and a dead letter for the topic.
pub struct Refused {
    /// The row.
    pub row: RejectedRow,
    /// The dead letter.
    pub letter: DeadLetter,
}

/// What the committer is given.
#[derive(Clone)]
pub struct Handed {
    /// What goes into the lake.
    pub unit: CommitUnit,
    /// What goes to the dead-letter topic before.
    pub letters: Arc<Vec<DeadLetter>>,
    /// What goes to the log again before.
    pub forwards: Arc<Vec<Forward>>,
}

/// An event that is published again, because what it corrects may be in a partition that is not read so far.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Its canonical key.
    pub key: String,
    /// The event as native JSON.
    pub value: Vec<u8>,
    /// How often it was published again, this time included.
    pub hops: u32,
}

/// Rows and accounts that are not in the lake yet, and the files that are.
pub struct Tail {
    rows: RowBuffer,
    too_late: RowBuffer,
    rejected: Vec<RejectedRow>,
    letters: Vec<DeadLetter>,
    forwards: Vec<Forward>,
    ranges: BTreeMap<i32, OffsetRange>,
    since: Option<Instant>,
    handed: Option<Handed>,
    files: LakeFiles,
    committed: BTreeMap<i32, i64>,
}

/// Every row that exists at one moment: files of the lake, and what is not in them yet.
#[derive(Clone)]
pub struct Snapshot {
    /// Files.
    pub files: LakeFiles,
    /// Rows of `usage`.
    pub rows: Vec<RecordBatch>,
    /// Rows of `too_late`.
    pub too_late: Vec<RecordBatch>,
    /// Rows of `rejected`.
    pub rejected: Vec<RejectedRow>,
}

impl Tail {
    /// An empty tail behind these files, which hold everything before these offsets.
    pub fn new(files: LakeFiles, committed: BTreeMap<i32, i64>) -> Self {
        Self {
            rows: RowBuffer::new(),
            too_late: RowBuffer::new(),
            rejected: Vec::new(),
            letters: Vec::new(),
            forwards: Vec::new(),
            ranges: BTreeMap::new(),
            since: None,
            handed: None,
            files,
            committed,
        }
    }

    /// Rows that are not in the lake, of all tables.
    pub fn len(&self) -> usize {
        let handed = self.handed.as_ref().map_or(0, |handed| handed.unit.rows.iter().map(RecordBatch::num_rows).sum());
        self.waiting() + handed
    }

    /// Rows that are not handed to the committer.
    pub fn waiting(&self) -> usize {
        self.rows.len() + self.too_late.len() + self.rejected.len()
    }

    /// Since when something waits to be handed over.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The lake's files.
    pub fn files(&self) -> &LakeFiles {
        &self.files
    }

    /// Whether a commit is under way.
    pub fn is_handed(&self) -> bool {
        self.handed.is_some()
    }

    /// Takes what waits, for the committer. It stays visible until [`Self::committed`]. `None` where nothing waits or a commit is
    /// still under way.
    pub fn hand_over(&mut self) -> Result<Option<Handed>, LakeError> {
        if self.handed.is_some() || self.ranges.is_empty() {
            return Ok(None);
        }
        let unit = CommitUnit {
            rows: self.rows.take()?,
            too_late: self.too_late.take()?,
            rejected: std::mem::take(&mut self.rejected),
            ranges: std::mem::take(&mut self.ranges).into_values().collect(),
        };
        self.since = None;
        let (letters, forwards) = (std::mem::take(&mut self.letters), std::mem::take(&mut self.forwards));
        let handed = Handed { unit, letters: Arc::new(letters), forwards: Arc::new(forwards) };
        self.handed = Some(handed.clone());
        Ok(Some(handed))
    }

    /// What was handed over is in these files now.
    pub fn committed(&mut self, files: LakeFiles) {
        let ranges = self.handed.take().map(|handed| handed.unit.ranges).unwrap_or_default();
        self.committed.extend(ranges.iter().map(|range| (range.partition, range.end)));
        self.files = files;
    }

    /// The next offset of each partition that is not in the lake.
    pub fn offsets(&self) -> &BTreeMap<i32, i64> {
        &self.committed
    }

    /// The rows of `usage` that are not in the lake's files. Cheap: next to nothing is copied.
    pub fn usage_rows(&mut self) -> Result<Vec<RecordBatch>, LakeError> {
        let mut rows = self.handed.as_ref().map_or_else(Vec::new, |handed| handed.unit.rows.clone());
        rows.extend(self.rows.share()?);
        Ok(rows)
    }

    /// Everything there is at this moment.
    pub fn snapshot(&self) -> Result<Snapshot, LakeError> {
        let (mut rows, mut too_late, mut rejected) = match &self.handed {
            Some(handed) => (handed.unit.rows.clone(), handed.unit.too_late.clone(), handed.unit.rejected.clone()),
            None => Default::default(),
        };
        rows.extend(self.rows.snapshot()?);
        too_late.extend(self.too_late.snapshot()?);
        rejected.extend(self.rejected.iter().cloned());
        Ok(Snapshot { files: self.files.clone(), rows, too_late, rejected })
    }
}

/// Counts of this run, for the page and the metrics.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Events that were counted.
    pub accepted: u64,
    /// Events seen before.
    pub duplicate: u64,
    /// Events older than the horizon.
    pub too_late: u64,
    /// Events that were refused.
    pub rejected: u64,
    /// Events without a known cost.
    pub unpriced: u64,
    /// The append time of the newest record that balances hold.
    pub newest: TimeUs,
    /// The last refused events, newest first.
    pub rejections: VecDeque<(EventPosition, Rejection)>,
    /// Events and tokens without a price, by provider and model.
    pub unpriced_models: BTreeMap<(String, String), (u64, u64)>,
}

/// Everything that one lock protects.
pub struct Counted {
    /// The balances.
    pub core: Core,
    /// The rows.
    pub tail: Tail,
    /// The counts.
    pub seen: Seen,
    pricer: Pricer,
    dispositions: Vec<Disposition>,
    /// Why the batch's events have no price, in their order.
    unpriced: Vec<Option<UnpricedReason>>,
    next: BTreeMap<i32, i64>,
}

/// What one batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events that were counted.
    pub accepted: u64,
    /// Events seen before.
    pub duplicate: u64,
    /// Events older than the horizon.
    pub too_late: u64,
    /// Events that were refused.
    pub rejected: u64,
    /// Counted events without a known cost.
    pub unpriced: u64,
}

impl Applied {
    /// Adds what another part of the batch did.
    pub fn add(&mut self, more: Self) {
        self.accepted += more.accepted;
        self.duplicate += more.duplicate;
        self.too_late += more.too_late;
        self.rejected += more.rejected;
        self.unpriced += more.unpriced;
    }
}

impl Counted {
    /// A state that goes on where the lake ends.
    pub fn new(core: Core, pricer: Pricer, tail: Tail, next: BTreeMap<i32, i64>) -> Self {
        Self { core, tail, seen: Seen::default(), pricer, dispositions: Vec::new(), unpriced: Vec::new(), next }
    }

    /// The next offset of each partition.
    pub fn next(&self) -> &BTreeMap<i32, i64> {
        &self.next
    }

    /// The price book.
    pub fn book(&self) -> &std::sync::Arc<price_book::PriceBook> {
        self.pricer.book()
    }

    /// Applies one batch of usage in log order: prices, deduplicates, folds, and appends the rows. A batch with events of another role
    /// needs [`Self::apply_restating`].
    pub fn apply(&mut self, batch: Vec<Decoded<'_>>) -> Result<Applied, LakeError> {
        let mut inputs = Vec::with_capacity(batch.len());
        for run in batch.chunk_by(|one, other| one.position.partition == other.position.partition) {
            run.last().into_iter().for_each(|last| self.open_range(last.position));
        }
        self.unpriced.clear();
        for Decoded { position, outcome } in &batch {
            self.seen.newest = self.seen.newest.max(position.append_time);
            if let Ok(event) = outcome {
                let (at, _) = self.core.effective_time(event.time, position.append_time);
                let (cost, unpriced) = self.price(event, at);
                self.unpriced.push(unpriced);
                inputs.push(Input { event, cost, position: *position, restates: None });
            }
        }
        self.dispositions.clear();
        self.core.apply_batch(&inputs, &mut self.dispositions);
        let mut applied = self.append(&inputs)?;
        drop(inputs);
        for Decoded { position, outcome } in batch {
            if let Err(refused) = outcome {
                applied.rejected += 1;
                self.refuse(position, *refused);
            }
        }
        self.seen.add(applied);
        Ok(applied)
    }

    /// Appends the row of each event that has one, and accounts for all of them.
    fn append(&mut self, inputs: &[Input<'_>]) -> Result<Applied, LakeError> {
        let mut applied = Applied::default();
        let Tail { rows, too_late, ranges, .. } = &mut self.tail;
        for ((input, disposition), unpriced) in inputs.iter().zip(&self.dispositions).zip(&self.unpriced) {
            let (event, position, cost) = (input.event, input.position, input.cost);
            let Some(range) = ranges.get_mut(&position.partition) else { continue };
            // As it stands in `too_late`.
            let row = RowRef {
                event,
                time: event.time,
                cost,
                unpriced_reason: unpriced.map(UnpricedReason::code),
                position,
                late: true,
                clamped: false,
                id: event.id.as_deref().unwrap_or_default(),
                kind: RowKind::Usage,
                corrects: None,
                reverses: None,
            };
            match *disposition {
                Disposition::Accepted { time, late, clamped } => {
                    range.accepted += 1;
                    applied.accepted += 1;
                    applied.unpriced += u64::from(self.seen.note_cost(event, cost));
                    rows.push(RowRef { time, late, clamped, ..row })?;
                }
                // Only a correction has no original, and none comes this way.
                Disposition::Duplicate | Disposition::NoOriginal => {
                    range.duplicate += 1;
                    applied.duplicate += 1;
                }
                Disposition::TooLate => {
                    range.too_late += 1;
                    applied.too_late += 1;
                    too_late.push(row)?;
                }
            }
        }
        Ok(applied)
    }

    /// Notes that the offsets of one partition's records are passed, also over holes that compaction or control records leave.
    pub fn open_range(&mut self, last: EventPosition) {
        let next = self.next.entry(last.partition).or_insert(0);
        let start = std::mem::replace(next, last.offset + 1);
        self.tail.since.get_or_insert_with(Instant::now);
        let opened = OffsetRange { partition: last.partition, start, ..OffsetRange::default() };
        self.tail.ranges.entry(last.partition).or_insert(opened).end = last.offset + 1;
    }

    /// The account of a partition whose offsets are passed.
    pub fn range(&mut self, partition: i32) -> &mut OffsetRange {
        let nothing = OffsetRange { partition, ..OffsetRange::default() };
        self.tail.ranges.entry(partition).or_insert(nothing)
    }

    /// Has an event published again, and accounts for this copy of it.
    pub fn forward(&mut self, position: EventPosition, forward: Forward) {
        self.range(position.partition).forwarded += 1;
        self.tail.forwards.push(forward);
    }

    /// Appends a row of `usage`.
    pub fn push(&mut self, row: RowRef<'_>) -> Result<(), LakeError> {
        self.tail.rows.push(row)
    }

    /// Takes in a refused record.
    pub fn refuse(&mut self, position: EventPosition, refused: Refused) {
        if let Some(range) = self.tail.ranges.get_mut(&position.partition) {
            range.rejected += 1;
        }
        if self.seen.rejections.len() == RECENT_REJECTIONS {
            self.seen.rejections.pop_back();
        }
        self.seen.rejections.push_front((position, refused.row.rejection.clone()));
        self.tail.rejected.push(refused.row);
        self.tail.letters.push(refused.letter);
    }

    /// The event's own cost, else the book's at the time that the event counts at; else why there is none.
    #[inline]
    pub fn price(&mut self, event: &UsageEvent<'_>, at: TimeUs) -> (Option<Cost>, Option<UnpricedReason>) {
        match self.pricer.price(event, at) {
            Priced::Cost(cost) => (Some(cost), None),
            Priced::Unpriced(reason) => (None, Some(reason)),
        }
    }
}

impl Seen {
    /// All events, whatever became of them.
    pub fn total(&self) -> u64 {
        self.accepted + self.duplicate + self.too_late + self.rejected
    }

    /// Counts what a batch did.
    pub fn add(&mut self, applied: Applied) {
        self.accepted += applied.accepted;
        self.duplicate += applied.duplicate;
        self.too_late += applied.too_late;
        self.rejected += applied.rejected;
        self.unpriced += applied.unpriced;
    }

    /// Notes an event whose cost is not known where it should be; whether it is one.
    pub fn note_cost(&mut self, event: &UsageEvent<'_>, cost: Option<Cost>) -> bool {
        let is_unpriced =
            cost.is_none() && (event.tokens.total() > 0 || event.dimensions.get(Dimension::Model).is_some());
        if is_unpriced {
            self.unpriced(event);
        }
        is_unpriced
    }

    fn unpriced(&mut self, event: &UsageEvent<'_>) {
        let text = |dimension| event.dimensions.get(dimension).unwrap_or_default().to_owned();
        let mut key = (text(Dimension::Provider), text(Dimension::Model));
        if self.unpriced_models.len() >= UNPRICED_MODELS_MAX && !self.unpriced_models.contains_key(&key) {
            key = ("(others)".to_owned(), "(others)".to_owned());
        }
        let counts = self.unpriced_models.entry(key).or_default();
        counts.0 += 1;
        counts.1 += event.tokens.total();
    }
}
