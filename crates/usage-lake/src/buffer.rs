//! The tail: rows that are accepted and not yet committed, column by column.
//!
//! Rows gather in an open chunk; a full chunk is sealed and from then on shared, never copied. So a reader's snapshot costs
//! a copy of at most [`CHUNK_ROWS`] rows however long the tail is.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::DataType;
use usage_types::{Cost, CostOrigin, Dimension, EventPosition, Progress, TimeUs, TokenClass, UsageEvent};

use crate::LakeError;
use crate::column::{Optional, OptionalTexts, Texts, flags, ints, longs, times};
use crate::kind::RowKind;
use crate::schema::{COMPUTE_TYPE, COST_TYPE, usage_schema};

/// Rows in a sealed chunk: bounds what a snapshot copies (about 3 MB, a millisecond).
pub const CHUNK_ROWS: usize = 16_384;

/// Rows that [`RowBuffer::share`] copies: few enough to cost some ten microseconds, many enough that a tail of chunks which were sealed
/// early has not too many of them.
const COPIED_ROWS_MAX: usize = 1_024;

/// One row to append: an event, and what intake, pricing and the fold decided about it.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    /// The event as it was read.
    pub event: &'a UsageEvent<'a>,
    /// The effective time: the event's own, or the log's where that was clamped.
    pub time: TimeUs,
    /// What it costs; `None` where no price is known.
    pub cost: Option<Cost>,
    /// Why no price is known, as a short code; `None` where one is.
    pub unpriced_reason: Option<&'a str>,
    /// Where it stands in the log.
    pub position: EventPosition,
    /// It came after its window had closed.
    pub late: bool,
    /// Its own time was too far in the future and was replaced by the log's.
    pub clamped: bool,
    /// The event's id, or the one that its position gives it.
    pub id: &'a str,
    /// What it is. Of a [`RowKind::Reversal`], `event` and `cost` are those of the row that it takes back; `id`, `position` and `late`
    /// are the correction's.
    pub kind: RowKind,
    /// The id of the event that a reversal or an amendment corrects, or the run of an adjustment.
    pub corrects: Option<&'a str>,
    /// The id of the row that a reversal takes back; an amendment that replaces a row names it too.
    pub reverses: Option<&'a str>,
}

/// Rows on their way into the lake, in arrival order.
#[derive(Debug)]
pub struct RowBuffer {
    sealed: Vec<RecordBatch>,
    open: Chunk,
    rows: usize,
    sealed_bytes: usize,
    scratch: String,
}

impl Default for RowBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl RowBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self { sealed: Vec::new(), open: Chunk::default(), rows: 0, sealed_bytes: 0, scratch: String::new() }
    }

    /// Appends one row.
    ///
    /// # Errors
    /// A full chunk could not be sealed, which only a broken invariant of this module can cause.
    pub fn push(&mut self, row: RowRef<'_>) -> Result<(), LakeError> {
        self.open.push(row, &mut self.scratch);
        self.rows += 1;
        if self.open.len() >= CHUNK_ROWS { self.seal() } else { Ok(()) }
    }

    fn seal(&mut self) -> Result<(), LakeError> {
        if self.open.len() > 0 {
            self.sealed_bytes += self.open.bytes();
            self.sealed.push(std::mem::take(&mut self.open).finish()?);
        }
        Ok(())
    }

    /// How many rows it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// About how much memory its rows take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sealed_bytes + self.open.bytes()
    }

    /// All rows as they are now, for a reader: sealed chunks shared, the open one copied.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn snapshot(&self) -> Result<Vec<RecordBatch>, LakeError> {
        let mut batches = self.sealed.clone();
        if self.open.len() > 0 {
            batches.push(self.open.clone().finish()?);
        }
        Ok(batches)
    }

    /// The same for whoever looks often: copies at most [`COPIED_ROWS_MAX`] rows, and seals the open chunk where it is longer.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn share(&mut self) -> Result<Vec<RecordBatch>, LakeError> {
        if self.open.len() > COPIED_ROWS_MAX {
            self.seal()?;
        }
        self.snapshot()
    }

    /// Takes all rows out, to commit them.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn take(&mut self) -> Result<Vec<RecordBatch>, LakeError> {
        self.seal()?;
        self.rows = 0;
        self.sealed_bytes = 0;
        Ok(std::mem::take(&mut self.sealed))
    }
}

/// The columns of [`usage_schema`], growing.
#[derive(Debug, Clone, Default)]
struct Chunk {
    time: Vec<i64>,
    id: Texts,
    source: OptionalTexts,
    dimensions: [OptionalTexts; Dimension::COUNT],
    tokens: [Vec<i64>; TokenClass::COUNT],
    total_tokens: Vec<i64>,
    requests: Vec<i64>,
    tool_calls: Vec<i64>,
    compute: Optional<i128>,
    cost: Optional<i128>,
    currency: OptionalTexts,
    cost_origin: OptionalTexts,
    tags: OptionalTexts,
    partition: Vec<i32>,
    offset: Vec<i64>,
    log_time: Vec<i64>,
    late: Vec<bool>,
    clamped: Vec<bool>,
    sent_time: Optional<i64>,
    images: Vec<i64>,
    unpriced_reason: OptionalTexts,
    /// Rows that are not usage, by number: nearly always none.
    restating: Vec<(usize, Restating)>,
    /// Rows that say how far their job has come, by number.
    progress: Vec<(usize, Progress)>,
}

/// What a row says about others.
#[derive(Debug, Clone)]
struct Restating {
    kind: RowKind,
    corrects: Option<String>,
    reverses: Option<String>,
}

/// A count as the lake's signed column; intake bounds every count far below (`UsageEvent::COUNT_MAX`).
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The name of an origin in the column `cost_origin`.
pub(crate) const fn origin_name(origin: CostOrigin) -> &'static str {
    match origin {
        CostOrigin::Event => "event",
        CostOrigin::PriceBook => "price_book",
    }
}

impl Chunk {
    fn len(&self) -> usize {
        self.time.len()
    }

    /// Fixed columns by their width, texts by their length.
    fn bytes(&self) -> usize {
        const FIXED: usize = 8 * (7 + TokenClass::COUNT) + 2 * 17 + 4 + 9 + 2 + 5 * (Dimension::COUNT + 9);
        let texts = [&self.source, &self.currency, &self.cost_origin, &self.tags, &self.unpriced_reason];
        self.len() * FIXED
            + self.id.bytes_len()
            + texts.into_iter().chain(&self.dimensions).map(OptionalTexts::bytes_len).sum::<usize>()
    }

    fn push(&mut self, row: RowRef<'_>, scratch: &mut String) {
        let RowRef { event, time, cost, unpriced_reason, position, late, clamped, id, kind, corrects, reverses } = row;
        let sign = if kind == RowKind::Reversal { -1 } else { 1 };
        if kind != RowKind::Usage {
            let (corrects, reverses) = (corrects.map(str::to_owned), reverses.map(str::to_owned));
            self.restating.push((self.time.len(), Restating { kind, corrects, reverses }));
        }
        if let Some(progress) = event.progress.filter(|_| kind != RowKind::Reversal) {
            self.progress.push((self.time.len(), progress));
        }
        self.time.push(time.0);
        self.id.push(id);
        self.source.push(Some(&event.source));
        for (column, dimension) in self.dimensions.iter_mut().zip(Dimension::ALL) {
            column.push(event.dimensions.get(dimension));
        }
        let mut total: i64 = 0;
        for (column, class) in self.tokens.iter_mut().zip(TokenClass::ALL) {
            let tokens = sign * count(event.tokens.get(class));
            total = total.saturating_add(tokens);
            column.push(tokens);
        }
        self.total_tokens.push(total);
        self.requests.push(sign * count(event.requests));
        self.tool_calls.push(sign * count(event.tool_calls));
        self.images.push(sign * count(event.images));
        self.compute.push(Some(i128::from(sign) * i128::from(event.compute.0)));
        self.cost.push(cost.map(|cost| i128::from(sign) * cost.amount.0));
        self.currency.push(cost.as_ref().map(|cost| cost.currency.as_str()));
        self.cost_origin.push(cost.map(|cost| origin_name(cost.origin)));
        self.unpriced_reason.push(unpriced_reason);
        if event.tags.is_empty() {
            self.tags.push(None);
        } else {
            write_json_object(scratch, &event.tags);
            self.tags.push(Some(scratch));
        }
        self.partition.push(position.partition);
        self.offset.push(position.offset);
        self.log_time.push(position.append_time.0);
        self.late.push(late);
        self.clamped.push(clamped);
        self.sent_time.push(clamped.then_some(event.time.0));
    }

    /// In the order of [`usage_schema`].
    fn finish(self) -> Result<RecordBatch, LakeError> {
        let [kind, corrects, reverses] = restating(self.restating, self.time.len());
        let [processed, total] = progress(self.progress, self.time.len());
        let mut columns: Vec<ArrayRef> = vec![times(self.time), self.id.finish()?, self.source.finish()?];
        for column in self.dimensions {
            columns.push(column.finish()?);
        }
        columns.extend(self.tokens.into_iter().map(longs));
        columns.extend([
            longs(self.total_tokens),
            longs(self.requests),
            longs(self.tool_calls),
            self.compute.decimals(&COMPUTE_TYPE)?,
            self.cost.decimals(&COST_TYPE)?,
            self.currency.finish()?,
            self.cost_origin.finish()?,
            self.tags.finish()?,
            ints(self.partition),
            longs(self.offset),
            times(self.log_time),
            flags(self.late),
            flags(self.clamped),
            self.sent_time.times()?,
            kind,
            corrects,
            reverses,
            longs(self.images),
            self.unpriced_reason.finish()?,
            processed,
            total,
        ]);
        Ok(RecordBatch::try_new(usage_schema(), columns)?)
    }
}

/// The columns `kind`, `corrects` and `reverses` of so many rows, from those that are not usage.
fn restating(marked: Vec<(usize, Restating)>, rows: usize) -> [ArrayRef; 3] {
    let kinds = |kinds: &mut dyn Iterator<Item = RowKind>| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(kinds.map(RowKind::name)))
    };
    if marked.is_empty() {
        let none = new_null_array(&DataType::Utf8, rows);
        return [kinds(&mut std::iter::repeat_n(RowKind::Usage, rows)), Arc::clone(&none), none];
    }
    let (mut kind, mut corrects, mut reverses) = (vec![RowKind::Usage; rows], vec![None; rows], vec![None; rows]);
    for (at, row) in marked {
        (kind[at], corrects[at], reverses[at]) = (row.kind, row.corrects, row.reverses);
    }
    let texts = |texts: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
    [kinds(&mut kind.into_iter()), texts(corrects), texts(reverses)]
}

/// The columns `processed` and `total` of so many rows, from those that say it.
fn progress(said: Vec<(usize, Progress)>, rows: usize) -> [ArrayRef; 2] {
    if said.is_empty() {
        let none = new_null_array(&DataType::Int64, rows);
        return [Arc::clone(&none), none];
    }
    let (mut processed, mut total) = (vec![None; rows], vec![None; rows]);
    for (at, progress) in said {
        (processed[at], total[at]) = (Some(count(progress.processed)), progress.total.map(count));
    }
    [processed, total].map(|values| -> ArrayRef { Arc::new(Int64Array::from(values)) })
}

/// Writes `{"name":"value",…}` into `into`, replacing what is there.
fn write_json_object<K: AsRef<str>, V: AsRef<str>>(into: &mut String, entries: &std::collections::BTreeMap<K, V>) {
    into.clear();
    into.push('{');
    for (at, (name, value)) in entries.iter().enumerate() {
        if at > 0 {
            into.push(',');
        }
        write_json_text(into, name.as_ref());
        into.push(':');
        write_json_text(into, value.as_ref());
    }
    into.push('}');
}

fn write_json_text(into: &mut String, text: &str) {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        into.push('"');
        into.push_str(text);
        into.push('"');
    } else {
        into.push_str(&serde_json::Value::from(text).to_string());
    }
}
