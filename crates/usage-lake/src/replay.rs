//! Reading rows back: to rebuild balances and the ids seen, and to give a new budget its window's history.
//!
//! The decoder takes batches of the lake and of the tail alike, since both have the in-memory columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, BooleanArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::mpsc;
use tracing::debug;
use usage_types::{
    ComputeNs, Cost, CostOrigin, Currency, Dimension, Dimensions, EventPosition, Pico, Progress, Role, TimeUs,
    TokenClass, Tokens, UsageEvent,
};

use crate::LakeError;
use crate::datafile::{FileRef, date_of, decode};
use crate::kind::RowKind;
use crate::lake::{Lake, LakeFiles};
use crate::schema::usage_schema;
use crate::table::Table;

/// Batches that a replay decodes ahead of its reader.
const AHEAD_BATCHES: usize = 4;

/// Which rows a replay needs: those with `time` or `log_time` at or after these. Files are chosen by their statistics, so a
/// few rows before come along; the reader compares each row. Without any condition: all rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayFrom {
    /// Rows whose effective time is at or after this.
    pub time: Option<TimeUs>,
    /// Rows that the log took at or after this.
    pub log_time: Option<TimeUs>,
}

impl ReplayFrom {
    fn takes(&self, file: &FileRef) -> bool {
        let conditions = [("time", self.time), ("log_time", self.log_time)];
        let mut given = conditions.iter().filter_map(|(column, since)| since.map(|since| (column, since))).peekable();
        // A row is wanted by either condition.
        given.peek().is_none() || given.any(|(column, since)| file.may_hold_since(column, since))
    }
}

/// Which columns a replay reads; the others are left out of the batches and empty in [`StoredRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayColumns {
    /// All of them.
    All,
    /// What balances are made of, ids included: all without `tags` and `sent_time`.
    Balances,
    /// What deduplication needs: `id`, `source`, `time`, `log_time`, `partition`, `offset`, and what restates what.
    Ids,
}

impl ReplayColumns {
    pub(crate) fn names(self) -> Option<Vec<&'static str>> {
        const IDS: [&str; 9] =
            ["id", "source", "time", "log_time", "partition", "offset", "kind", "corrects", "reverses"];
        match self {
            Self::All => None,
            Self::Ids => Some(IDS.to_vec()),
            Self::Balances => {
                let mut names = IDS.to_vec();
                names.extend(Dimension::ALL.map(Dimension::name));
                names.extend(TokenClass::ALL.map(TokenClass::column));
                names.extend([
                    "total_tokens",
                    "requests",
                    "tool_calls",
                    "images",
                    "compute_seconds",
                    "cost",
                    "currency",
                ]);
                names.extend(["cost_origin", "late", "clamped", "processed", "total"]);
                Some(names)
            }
        }
    }
}

/// A stream of batches that borrows nothing.
pub type RowStream = BoxStream<'static, Result<RecordBatch, LakeError>>;

impl Lake {
    /// Streams the rows of `usage`, as [`LakeFiles::replay`] does.
    #[must_use]
    pub fn replay(&self, from: ReplayFrom, columns: ReplayColumns) -> RowStream {
        read_table(&self.usage, columns.names(), move |file| from.takes(file))
    }
}

impl LakeFiles {
    /// Streams the rows of `usage` that these files hold, file by file, about in the order of their commits and within a file
    /// as they arrived, decoding a few batches ahead. It needs no [`Lake`], so it can run while one commits.
    ///
    /// Items are errors where a file cannot be read; the stream ends with the first. Needs a tokio runtime.
    #[must_use]
    pub fn replay(&self, from: ReplayFrom, columns: ReplayColumns) -> RowStream {
        let takes = move |file: &FileRef| from.takes(file);
        read_files(Arc::clone(&self.usage_store), usage_schema(), &self.usage, columns.names(), takes)
    }

    /// The UTC dates (`YYYY-MM-DD`) on which there are rows of `usage` with a time from `from` until before `to`, in order, each with how
    /// many rows its files hold. A row's date is that of its effective time.
    #[must_use]
    pub fn dates(&self, from: TimeUs, to: TimeUs) -> BTreeMap<String, u64> {
        let wanted = date_of(from)..=date_of(to.plus_us(-1));
        let mut dates = BTreeMap::new();
        for file in self.usage.iter() {
            if let Some(date) = file.date().filter(|date| wanted.contains(&(*date).to_owned())) {
                *dates.entry(date.to_owned()).or_default() += file.rows;
            }
        }
        dates
    }

    /// Streams the rows of `usage` of one UTC date, as [`replay`](Self::replay) does.
    #[must_use]
    pub fn on_date(&self, date: &str, columns: ReplayColumns) -> RowStream {
        let takes = |file: &FileRef| file.date() == Some(date);
        read_files(Arc::clone(&self.usage_store), usage_schema(), &self.usage, columns.names(), takes)
    }
}

/// Streams chosen files of a table.
pub(crate) fn read_table(
    table: &Table,
    columns: Option<Vec<&'static str>>,
    takes: impl Fn(&FileRef) -> bool,
) -> RowStream {
    read_files(table.store(), table.schema(), &table.files(), columns, takes)
}

fn read_files(
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    all: &[Arc<FileRef>],
    columns: Option<Vec<&'static str>>,
    takes: impl Fn(&FileRef) -> bool,
) -> RowStream {
    let (sender, mut receiver) = mpsc::channel(AHEAD_BATCHES);
    let files: Vec<_> = all.iter().filter(|file| takes(file)).cloned().collect();
    debug!(files = files.len(), of = all.len(), "reading files of the lake");
    tokio::spawn(async move {
        for file in files {
            let location = object_store::path::Path::from(file.path.as_str());
            let bytes = match store.get(&location).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            let (to, schema, columns) = (sender.clone(), Arc::clone(&schema), columns.clone());
            let decoded = tokio::task::spawn_blocking(move || -> Result<bool, LakeError> {
                for batch in decode(bytes?, &schema, columns.as_deref())? {
                    if to.blocking_send(Ok(batch?)).is_err() {
                        return Ok(false);
                    }
                }
                Ok(true)
            });
            // A file that cannot be read must not look like the end: its rows would be missing from the balances.
            match decoded.await.map_err(LakeError::from).flatten() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return drop(sender.send(Err(error)).await),
            }
        }
    });
    Box::pin(futures::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

/// One row of `usage`, borrowing its texts from the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow<'a> {
    /// The event's id.
    pub id: &'a str,
    /// Its source; empty where it named none.
    pub source: &'a str,
    /// Its effective time.
    pub time: TimeUs,
    /// Who and what.
    pub dimensions: Dimensions<'a>,
    /// What it is. All that follows of a [`RowKind::Reversal`] is that of the row that it takes back: the lake's columns have the
    /// opposite sign.
    pub kind: RowKind,
    /// The id of the event that a reversal or an amendment corrects, or the run of an adjustment.
    pub corrects: Option<&'a str>,
    /// The id of the row that a reversal takes back, or that an amendment replaces.
    pub reverses: Option<&'a str>,
    /// Tokens by class.
    pub tokens: Tokens,
    /// Requests.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Images.
    pub images: u64,
    /// Compute time.
    pub compute: ComputeNs,
    /// What it cost, where a price was known.
    pub cost: Option<Cost>,
    /// Why no price was known; `None` where one was, and in rows of a version that did not say.
    pub unpriced_reason: Option<&'a str>,
    /// Its free labels as JSON text.
    pub tags: Option<&'a str>,
    /// Where it stood in the log.
    pub position: EventPosition,
    /// It came after its window had closed.
    pub late: bool,
    /// Its own time was replaced by the log's.
    pub clamped: bool,
    /// Its own time, where that was replaced.
    pub sent_time: Option<TimeUs>,
    /// How far its job had come with it.
    pub progress: Option<Progress>,
}

impl<'a> StoredRow<'a> {
    /// What it counts, as the event that it would be: without an id, a cost, labels or a role.
    #[must_use]
    pub fn usage(&self) -> UsageEvent<'a> {
        UsageEvent {
            id: None,
            source: self.source.into(),
            time: self.time,
            dimensions: self.dimensions.clone(),
            tokens: self.tokens,
            requests: self.requests,
            tool_calls: self.tool_calls,
            images: self.images,
            compute: self.compute,
            cost: None,
            tags: BTreeMap::new(),
            role: Role::Usage,
            progress: self.progress,
        }
    }
}

/// The text of a row of a column that may be absent.
fn text_at(column: Option<&StringArray>, at: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(at)).map(|column| column.value(at))
}

/// The columns of a batch of `usage`.
pub(crate) struct Columns<'a> {
    id: &'a StringArray,
    source: &'a StringArray,
    time: &'a TimestampMicrosecondArray,
    log_time: &'a TimestampMicrosecondArray,
    partition: &'a Int32Array,
    offset: &'a Int64Array,
    dimensions: [Option<&'a StringArray>; Dimension::COUNT],
    tokens: [Option<&'a Int64Array>; TokenClass::COUNT],
    requests: Option<&'a Int64Array>,
    tool_calls: Option<&'a Int64Array>,
    compute: Option<&'a Decimal128Array>,
    cost: Option<&'a Decimal128Array>,
    currency: Option<&'a StringArray>,
    cost_origin: Option<&'a StringArray>,
    tags: Option<&'a StringArray>,
    late: Option<&'a BooleanArray>,
    clamped: Option<&'a BooleanArray>,
    sent_time: Option<&'a TimestampMicrosecondArray>,
    kind: Kinds<'a>,
    corrects: Option<&'a StringArray>,
    reverses: Option<&'a StringArray>,
    images: Option<&'a Int64Array>,
    unpriced_reason: Option<&'a StringArray>,
    processed: Option<&'a Int64Array>,
    total: Option<&'a Int64Array>,
}

/// The column `kind`.
pub(crate) struct Kinds<'a>(Option<&'a StringArray>);

impl<'a> Kinds<'a> {
    /// Of a batch; where it has no such column, all of it is usage.
    pub(crate) fn of(batch: &'a RecordBatch) -> Self {
        Self(typed(batch, "kind"))
    }

    /// Another program may have rewritten old files with nulls.
    pub(crate) fn get(&self, at: usize) -> Result<RowKind, LakeError> {
        text_at(self.0, at).map_or(Ok(RowKind::Usage), |kind| kind.parse().map_err(|_| wrong("kind")))
    }
}

fn typed<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a T> {
    batch.column_by_name(name)?.as_any().downcast_ref::<T>()
}

fn wrong(column: &str) -> LakeError {
    LakeError::Table {
        table: crate::schema::USAGE,
        reason: format!("column `{column}` is missing or has another type"),
    }
}

impl<'a> Columns<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self, LakeError> {
        // A column that is there must have its type; one that was not asked for may be absent.
        for field in usage_schema().fields() {
            let found = batch.column_by_name(field.name());
            if found.is_some_and(|column| column.data_type() != field.data_type()) {
                return Err(wrong(field.name()));
            }
        }
        Ok(Self {
            id: typed(batch, "id").ok_or_else(|| wrong("id"))?,
            source: typed(batch, "source").ok_or_else(|| wrong("source"))?,
            time: typed(batch, "time").ok_or_else(|| wrong("time"))?,
            log_time: typed(batch, "log_time").ok_or_else(|| wrong("log_time"))?,
            partition: typed(batch, "partition").ok_or_else(|| wrong("partition"))?,
            offset: typed(batch, "offset").ok_or_else(|| wrong("offset"))?,
            dimensions: Dimension::ALL.map(|dimension| typed(batch, dimension.name())),
            tokens: TokenClass::ALL.map(|class| typed(batch, class.column())),
            requests: typed(batch, "requests"),
            tool_calls: typed(batch, "tool_calls"),
            compute: typed(batch, "compute_seconds"),
            cost: typed(batch, "cost"),
            currency: typed(batch, "currency"),
            cost_origin: typed(batch, "cost_origin"),
            tags: typed(batch, "tags"),
            late: typed(batch, "late"),
            clamped: typed(batch, "clamped"),
            sent_time: typed(batch, "sent_time"),
            kind: Kinds::of(batch),
            corrects: typed(batch, "corrects"),
            reverses: typed(batch, "reverses"),
            images: typed(batch, "images"),
            unpriced_reason: typed(batch, "unpriced_reason"),
            // Nearly always there is none in a whole batch.
            processed: typed(batch, "processed").filter(|column: &&Int64Array| column.null_count() < column.len()),
            total: typed(batch, "total"),
        })
    }

    /// The effective time of a row, and where it stood in the log.
    pub(crate) fn place(&self, at: usize) -> (TimeUs, EventPosition) {
        let append_time = TimeUs(self.log_time.value(at));
        let (partition, offset) = (self.partition.value(at), self.offset.value(at));
        (TimeUs(self.time.value(at)), EventPosition { partition, offset, append_time })
    }

    pub(crate) fn row(&self, at: usize) -> Result<StoredRow<'a>, LakeError> {
        let kind = self.kind.get(at)?;
        let sign = if kind == RowKind::Reversal { -1 } else { 1 };
        // Written from unsigned counts that intake bounds, so of one sign. Another program's rows must not be taken for less than they say.
        let count = |column: Option<&Int64Array>| match column.filter(|column| column.is_valid(at)) {
            Some(column) => u64::try_from(sign * column.value(at)).map_err(|_| self.wrong_sign(at)),
            None => Ok(0),
        };
        let mut dimensions = Dimensions::default();
        for (dimension, column) in Dimension::ALL.into_iter().zip(&self.dimensions) {
            dimensions.set(dimension, text_at(*column, at).map(Into::into));
        }
        let mut tokens = Tokens::default();
        for (class, column) in TokenClass::ALL.into_iter().zip(self.tokens) {
            *tokens.get_mut(class) = count(column)?;
        }
        let compute = self.compute.map_or(Ok(0), |column| u64::try_from(i128::from(sign) * column.value(at)));
        let compute = compute.map_err(|_| self.wrong_sign(at))?;
        let (time, position) = self.place(at);
        let flag = |column: Option<&BooleanArray>| column.is_some_and(|column| column.value(at));
        Ok(StoredRow {
            id: self.id.value(at),
            source: self.source.value(at),
            time,
            dimensions,
            kind,
            corrects: text_at(self.corrects, at),
            reverses: text_at(self.reverses, at),
            tokens,
            requests: count(self.requests)?,
            tool_calls: count(self.tool_calls)?,
            images: count(self.images)?,
            compute: ComputeNs(compute),
            cost: self.cost(at, i128::from(sign))?,
            unpriced_reason: text_at(self.unpriced_reason, at),
            tags: text_at(self.tags, at),
            position,
            late: flag(self.late),
            clamped: flag(self.clamped),
            sent_time: self.sent_time.filter(|column| column.is_valid(at)).map(|column| TimeUs(column.value(at))),
            progress: self.progress(at),
        })
    }

    fn progress(&self, at: usize) -> Option<Progress> {
        let count = |column: &Int64Array| u64::try_from(column.value(at)).ok();
        let processed = self.processed.filter(|column| column.is_valid(at)).and_then(count)?;
        Some(Progress { processed, total: self.total.filter(|column| column.is_valid(at)).and_then(count) })
    }

    fn wrong_sign(&self, at: usize) -> LakeError {
        let (partition, offset) = (self.partition.value(at), self.offset.value(at));
        let reason = format!("the row of partition {partition}, offset {offset} has a count of the wrong sign");
        LakeError::Table { table: crate::schema::USAGE, reason }
    }

    fn cost(&self, at: usize, sign: i128) -> Result<Option<Cost>, LakeError> {
        let Some(amounts) = self.cost.filter(|column| column.is_valid(at)) else { return Ok(None) };
        let currency: Currency =
            text_at(self.currency, at).and_then(|code| code.parse().ok()).ok_or_else(|| wrong("currency"))?;
        let origin = match text_at(self.cost_origin, at) {
            Some("event") => CostOrigin::Event,
            _ => CostOrigin::PriceBook,
        };
        Ok(Some(Cost { amount: Pico(sign * amounts.value(at)), currency, origin }))
    }
}

/// The rows of a batch of `usage`, from [`Lake::replay`] or from a tail.
///
/// # Errors
/// The batch lacks a column of [`ReplayColumns::Ids`], or one has another type; an item is one where its cost has no currency.
pub fn rows(batch: &RecordBatch) -> Result<impl Iterator<Item = Result<StoredRow<'_>, LakeError>>, LakeError> {
    let columns = Columns::of(batch)?;
    Ok((0..batch.num_rows()).map(move |at| columns.row(at)))
}

/// The rows of a batch of which the id and `corrects` pass.
pub(crate) fn rows_where<'a>(
    batch: &'a RecordBatch,
    mut takes: impl FnMut(&str, Option<&str>) -> bool,
) -> Result<impl Iterator<Item = Result<StoredRow<'a>, LakeError>>, LakeError> {
    let columns = Columns::of(batch)?;
    Ok((0..batch.num_rows()).filter_map(move |at| {
        let is_taken = takes(columns.id.value(at), text_at(columns.corrects, at));
        is_taken.then(|| columns.row(at))
    }))
}
