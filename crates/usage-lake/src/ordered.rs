//! Rows in the order of their time, as they count now.
//!
//! Files are read in the order of their earliest row. Whatever lies before the earliest row of the next file is complete and goes on, so only
//! as much is kept as files overlap in time, however long the lake is. A row that was taken back and what takes it back have the same time, so
//! both are there before either goes on, and both are left out: what is left is what counts.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::ObjectStoreExt as _;
use tokio::sync::mpsc;
use usage_types::{Dimension, DimensionSet, TimeUs, TokenClass};

use crate::LakeError;
use crate::datafile::{FileRef, date_of, decode};
use crate::kind::RowKind;
use crate::lake::LakeFiles;
use crate::replay::{Columns, StoredRow};
use crate::reversals::may_restate;
use crate::schema::usage_schema;

/// Rows that are given at once, where there are as many.
const GIVEN_ROWS: usize = 65_536;
/// Files that are decoded ahead, each on a thread of its own.
const AHEAD_FILES: usize = 2;
/// Groups of rows that wait for their reader.
const AHEAD_GROUPS: usize = 2;
const MIB: usize = 1 << 20;

/// Which rows are read in order.
#[derive(Debug, Clone)]
pub struct OrderedRead {
    /// Rows whose effective time is at or after this.
    pub from: TimeUs,
    /// Rows whose effective time is before this.
    pub to: TimeUs,
    /// The dimensions that are read; the others are left out.
    pub dimensions: DimensionSet,
    /// Whether tags are read.
    pub tags: bool,
    /// Rows that are in no file yet, with the columns of [`usage_schema`].
    pub tail: Vec<RecordBatch>,
    /// The most memory that rows may take which wait for files that overlap with theirs, in MiB.
    pub memory_mib: usize,
}

/// Some rows in the order of their time; among equal times in that of the log.
#[derive(Debug, Clone)]
pub struct OrderedRows {
    batches: Vec<RecordBatch>,
    /// For each row its batch and its place there.
    order: Vec<(u32, u32)>,
}

impl OrderedRows {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Gives every row. Ids and sources are read, tags where they were asked for.
    ///
    /// # Errors
    /// A batch lacks a column or has one of another type, or a row is not as it must be.
    pub fn each(&self, mut take: impl FnMut(&StoredRow<'_>)) -> Result<(), LakeError> {
        let columns: Vec<Columns<'_>> = self.batches.iter().map(Columns::of).collect::<Result<_, _>>()?;
        for (batch, row) in &self.order {
            take(&columns[*batch as usize].row(*row as usize)?);
        }
        Ok(())
    }
}

impl LakeFiles {
    /// How many rows the files hold that [`in_order`](Self::in_order) reads, the rows beside the wanted ones included.
    #[must_use]
    pub fn rows_between(&self, from: TimeUs, to: TimeUs) -> u64 {
        self.between(from, to).map(|file| file.rows).sum()
    }

    fn between(&self, from: TimeUs, to: TimeUs) -> impl Iterator<Item = &Arc<FileRef>> {
        let dates = date_of(from)..=date_of(to.plus_us(-1));
        self.usage.iter().filter(move |file| {
            let has_date = file.date().is_none_or(|date| dates.contains(&date.to_owned()));
            has_date && file.times.get("time").is_none_or(|(earliest, latest)| *earliest < to && *latest >= from)
        })
    }

    /// Streams rows of `usage` in the order of their time, as they count now: what was taken back is left out with what takes it back.
    ///
    /// The stream ends with its first error: a file cannot be read, or files overlap by more than `memory_mib`. Needs a tokio runtime.
    #[must_use]
    pub fn in_order(&self, read: OrderedRead) -> BoxStream<'static, Result<OrderedRows, LakeError>> {
        let (sender, mut receiver) = mpsc::channel(AHEAD_GROUPS);
        let mut files: Vec<Arc<FileRef>> = self.between(read.from, read.to).cloned().collect();
        files.sort_by_key(|file| earliest(file));
        let (store, columns) = (Arc::clone(&self.usage_store), columns(&read));
        tokio::spawn(async move {
            let begins: Vec<TimeUs> = files.iter().skip(1).map(|file| earliest(file)).collect();
            let decoded = futures::stream::iter(files).map(|file| {
                let (store, columns) = (Arc::clone(&store), columns.clone());
                tokio::spawn(async move {
                    let bytes = store.get(&object_store::path::Path::from(file.path.as_str())).await?.bytes().await?;
                    let decoded = tokio::task::spawn_blocking(move || -> Result<Vec<RecordBatch>, LakeError> {
                        decode(bytes, &usage_schema(), Some(&columns))?.map(|batch| Ok(batch?)).collect()
                    });
                    decoded.await?
                })
            });
            let mut decoded = decoded.buffered(AHEAD_FILES);
            let mut waiting = Waiting::new(read);
            let mut begins = begins.into_iter();
            let result: Result<(), LakeError> = async {
                let tail = std::mem::take(&mut waiting.read.tail);
                waiting.add(tail)?;
                loop {
                    let file = decoded.next().await;
                    let is_last = file.is_none();
                    if let Some(batches) = file.transpose()? {
                        waiting.add(batches?)?;
                    }
                    let next = if is_last { None } else { begins.next() };
                    for rows in waiting.before(next, is_last)? {
                        if sender.send(Ok(rows)).await.is_err() {
                            return Ok(());
                        }
                    }
                    if is_last {
                        return Ok(());
                    }
                }
            }
            .await;
            if let Err(error) = result {
                drop(sender.send(Err(error)).await);
            }
        });
        Box::pin(futures::stream::poll_fn(move |context| receiver.poll_recv(context)))
    }
}

/// The earliest time of a row in a file; one without statistics comes first.
fn earliest(file: &FileRef) -> TimeUs {
    file.times.get("time").map_or(TimeUs(i64::MIN), |(earliest, _)| *earliest)
}

fn columns(read: &OrderedRead) -> Vec<&'static str> {
    let mut names = vec!["id", "source", "time", "log_time", "partition", "offset", "kind", "reverses"];
    names.extend(read.dimensions.iter().map(Dimension::name));
    names.extend(TokenClass::ALL.map(TokenClass::column));
    names.extend(["requests", "tool_calls", "images", "compute_seconds", "cost", "currency"]);
    if read.dimensions.contains(Dimension::Job) {
        names.extend(["processed", "total"]);
    }
    names.extend(read.tags.then_some("tags"));
    names
}

/// A row that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    time: TimeUs,
    partition: i32,
    offset: i64,
    batch: u32,
    row: u32,
}

/// Rows that files to come may have rows before.
struct Waiting {
    read: OrderedRead,
    batches: Vec<RecordBatch>,
    places: Vec<Place>,
    bytes: usize,
}

impl Waiting {
    fn new(read: OrderedRead) -> Self {
        Self { read, batches: Vec::new(), places: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, batches: Vec<RecordBatch>) -> Result<(), LakeError> {
        for batch in batches {
            let at = self.batches.len() as u32;
            let columns = Columns::of(&batch)?;
            let before = self.places.len();
            for row in 0..batch.num_rows() {
                let (time, position) = columns.place(row);
                if time >= self.read.from && time < self.read.to {
                    let (partition, offset) = (position.partition, position.offset);
                    self.places.push(Place { time, partition, offset, batch: at, row: row as u32 });
                }
            }
            if self.places.len() > before {
                self.bytes += batch.get_array_memory_size() + (self.places.len() - before) * size_of::<Place>();
                self.batches.push(batch);
            }
        }
        if self.bytes > self.read.memory_mib * MIB {
            return Err(LakeError::Unordered { limit_mib: self.read.memory_mib });
        }
        Ok(())
    }

    /// Takes the rows before a time (all where there is none), as long as it is worth while; all that are there at the end.
    fn before(&mut self, time: Option<TimeUs>, is_last: bool) -> Result<Vec<OrderedRows>, LakeError> {
        if self.places.len() < GIVEN_ROWS && !is_last {
            return Ok(Vec::new());
        }
        self.places.sort_unstable();
        let end = time.map_or(self.places.len(), |time| self.places.partition_point(|place| place.time < time));
        let rest = self.places.split_off(end);
        let mut ready = std::mem::replace(&mut self.places, rest);
        self.leave_out_restated(&mut ready)?;
        let given = ready.chunks(GIVEN_ROWS).map(|places| self.given(places)).collect();
        self.forget_read();
        Ok(given)
    }

    /// Leaves out what was taken back, and what takes it back. A reversal of a row that is not there stays: it counts.
    fn leave_out_restated(&self, ready: &mut Vec<Place>) -> Result<(), LakeError> {
        let restating: Vec<bool> = self.batches.iter().map(may_restate).collect();
        if !ready.iter().any(|place| restating[place.batch as usize]) {
            return Ok(());
        }
        let columns: Vec<Columns<'_>> = self.batches.iter().map(Columns::of).collect::<Result<_, _>>()?;
        let mut kept = Vec::with_capacity(ready.len());
        for group in ready.chunk_by(|a, b| a.time == b.time) {
            if group.iter().any(|place| restating[place.batch as usize]) {
                let rows = group.iter().map(|place| columns[place.batch as usize].row(place.row as usize));
                let rows: Vec<StoredRow<'_>> = rows.collect::<Result<_, _>>()?;
                let left = left(&rows);
                kept.extend(group.iter().zip(left).filter(|(_, left)| *left).map(|(place, _)| *place));
            } else {
                kept.extend_from_slice(group);
            }
        }
        *ready = kept;
        Ok(())
    }

    fn given(&self, places: &[Place]) -> OrderedRows {
        let mut given = OrderedRows { batches: Vec::new(), order: Vec::with_capacity(places.len()) };
        let mut at_of: HashMap<u32, u32> = HashMap::new();
        for place in places {
            let at = *at_of.entry(place.batch).or_insert_with(|| {
                given.batches.push(self.batches[place.batch as usize].clone());
                (given.batches.len() - 1) as u32
            });
            given.order.push((at, place.row));
        }
        given
    }

    /// Drops the batches of which no row waits.
    fn forget_read(&mut self) {
        let mut is_needed = vec![false; self.batches.len()];
        self.places.iter().for_each(|place| is_needed[place.batch as usize] = true);
        let mut at_of = vec![0; self.batches.len()];
        let mut kept = Vec::new();
        for (at, batch) in std::mem::take(&mut self.batches).into_iter().enumerate() {
            if is_needed[at] {
                at_of[at] = kept.len() as u32;
                kept.push(batch);
            }
        }
        self.batches = kept;
        self.places.iter_mut().for_each(|place| place.batch = at_of[place.batch as usize]);
        let rows: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        self.bytes = rows + self.places.len() * size_of::<Place>();
    }
}

/// Which of the rows of one time are left.
fn left(rows: &[StoredRow<'_>]) -> Vec<bool> {
    let mut reversals: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.kind == RowKind::Reversal) {
        reversals.entry((row.source, row.reverses.unwrap_or_default())).or_default().push(at);
    }
    let mut left = vec![true; rows.len()];
    for (at, row) in rows.iter().enumerate() {
        if matches!(row.kind, RowKind::Reversal | RowKind::Adjustment) {
            continue;
        }
        if let Some(reversal) = reversals.get_mut(&(row.source, row.id)).and_then(Vec::pop) {
            (left[at], left[reversal]) = (false, false);
        }
    }
    left
}
