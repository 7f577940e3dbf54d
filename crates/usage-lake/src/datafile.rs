//! One Parquet file: rows in, bytes and statistics out, and back.
//!
//! Files are encoded in memory, since a commit's rows are there already and a file is written with one durable put.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use usage_types::TimeUs;

use crate::LakeError;
use crate::schema::{DATE, ScalarDefault, default_of, is_added};

/// Rows in a row group: large enough to compress well, small enough that a filter on time skips much of a big file.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// A data file of a table, and what its statistics say: enough to choose files without opening them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Where it is, relative to the table's folder.
    pub path: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// The values of the partition columns, like `date`.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// The earliest and latest value of each time column with statistics.
    pub times: BTreeMap<String, (TimeUs, TimeUs)>,
}

impl FileRef {
    /// Whether a row with this column's time at or after `since` can be in the file.
    #[must_use]
    pub fn may_hold_since(&self, column: &str, since: TimeUs) -> bool {
        self.times.get(column).is_none_or(|(_, latest)| *latest >= since)
    }

    /// The UTC date of its rows, where its table is partitioned by it.
    pub(crate) fn date(&self) -> Option<&str> {
        self.partition_values.get(DATE)?.as_deref()
    }

    /// From the log's statistics; times that another writer rounded down to milliseconds are widened again.
    pub(crate) fn from_log(
        path: String,
        size_bytes: u64,
        partition_values: BTreeMap<String, Option<String>>,
        stats: Option<&str>,
    ) -> Result<Self, LakeError> {
        let stats: Value = stats.map_or(Ok(Value::Null), serde_json::from_str)?;
        let mut times = BTreeMap::new();
        if let Some(columns) = stats["minValues"].as_object() {
            for (name, earliest) in columns {
                let bound = |value: &Value| TimeUs::parse_rfc3339(value.as_str()?).ok();
                if let (Some(earliest), Some(latest)) = (bound(earliest), bound(&stats["maxValues"][name])) {
                    times.insert(name.clone(), (earliest, latest.plus_us(999)));
                }
            }
        }
        let rows = stats["numRecords"].as_u64().unwrap_or(0);
        Ok(Self { path, size_bytes, rows, partition_values, times })
    }
}

/// The Parquet bytes of these rows and their Delta statistics.
pub(crate) fn encode(batches: &[RecordBatch]) -> Result<(Bytes, String), LakeError> {
    let Some(first) = batches.first() else {
        return Err(LakeError::BadUnit("a data file without rows".to_owned()));
    };
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), first.schema(), writer_options()?)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok((writer.into_inner()?.into(), statistics(batches)?))
}

/// How files are encoded: columns whose values hardly repeat have no dictionary, since building one only to drop it costs half the
/// commit's time. Those that grow steadily are stored as differences.
fn writer_options() -> Result<ArrowWriterOptions, LakeError> {
    const GROWING: [&str; 3] = ["time", "offset", "log_time"];
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("outlay".to_owned())
        .set_column_dictionary_enabled("id".into(), false);
    for column in GROWING {
        properties = properties
            .set_column_dictionary_enabled(column.into(), false)
            .set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED);
    }
    // Arrow's own schema would have readers take texts for dictionaries.
    Ok(ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true))
}

/// Count, and the bounds of the columns that readers choose files by. Texts have none: their bounds would have to be cut.
fn statistics(batches: &[RecordBatch]) -> Result<String, LakeError> {
    const COLUMNS: [&str; 6] = ["time", "log_time", "committed_at", "offset", "partition", "version"];
    let mut bounds: [Map<String, Value>; 2] = Default::default();
    let mut nulls = Map::new();
    for name in COLUMNS {
        let columns: Vec<_> = batches.iter().filter_map(|batch| batch.column_by_name(name)).collect();
        let Some(first) = columns.first() else { continue };
        let is_time = matches!(first.data_type(), DataType::Timestamp(..));
        let longs = columns.iter().map(|column| as_longs(column)).collect::<Result<Vec<_>, _>>()?;
        let (Some(low), Some(high)) = (longs.iter().filter_map(min).min(), longs.iter().filter_map(max).max()) else {
            continue;
        };
        for (map, value) in bounds.iter_mut().zip([low, high]) {
            let value = if is_time { json!(micros_text(value)) } else { json!(value) };
            map.insert(name.to_owned(), value);
        }
        nulls.insert(name.to_owned(), json!(longs.iter().map(Array::null_count).sum::<usize>()));
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let [low, high] = bounds;
    Ok(json!({"numRecords": rows, "minValues": low, "maxValues": high, "nullCount": nulls}).to_string())
}

fn as_longs(column: &dyn Array) -> Result<Int64Array, LakeError> {
    Ok(match column.data_type() {
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(),
        DataType::Int32 => column.as_primitive::<Int32Type>().unary(i64::from),
        _ => column
            .as_primitive_opt()
            .cloned()
            .ok_or_else(|| LakeError::BadUnit(format!("a column with statistics has type {}", column.data_type())))?,
    })
}

fn micros_text(micros: i64) -> String {
    TimeUs(micros).to_utc().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// Reads a file's rows with the columns of `schema` that `columns` names (all where `None`).
/// Columns come in the order of `schema`; one that the file was written without holds its default.
pub(crate) fn decode(bytes: Bytes, schema: &SchemaRef, columns: Option<&[&str]>) -> Result<Rows, LakeError> {
    decode_rows(bytes, schema, columns, None)
}

/// The same of chosen rows: the others are skipped without being decoded.
pub(crate) fn decode_rows(
    bytes: Bytes,
    schema: &SchemaRef,
    columns: Option<&[&str]>,
    chosen: Option<RowSelection>,
) -> Result<Rows, LakeError> {
    let plain = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new().with_skip_arrow_metadata(true))?;
    let (mut there, mut missing): (Vec<FieldRef>, Vec<FieldRef>) = Default::default();
    for field in schema.fields() {
        match plain.schema().column_with_name(field.name()) {
            // A program that rewrites files may make every column nullable.
            Some((_, found)) => there.push(Arc::new(field.as_ref().clone().with_nullable(found.is_nullable()))),
            None if is_added(field.name()) => missing.push(Arc::clone(field)),
            None => there.push(Arc::clone(field)),
        }
    }
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(Arc::new(Schema::new(there)));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options)?;
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
    let is_wanted = |field: &Field| columns.is_none_or(|names| names.contains(&field.name().as_str()));
    if let Some(names) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
        builder = builder.with_projection(mask);
    }
    if let Some(chosen) = chosen {
        builder = builder.with_row_selection(chosen);
    }
    let reader = builder.with_batch_size(crate::CHUNK_ROWS).build()?;
    let wanted: Vec<FieldRef> = schema.fields().iter().filter(|field| is_wanted(field)).cloned().collect();
    let is_whole = !missing.iter().any(|field| is_wanted(field));
    Ok(Rows { reader, padded: (!is_whole).then(|| Arc::new(Schema::new(wanted))) })
}

/// The rows of a file.
pub(crate) struct Rows {
    reader: ParquetRecordBatchReader,
    /// The columns asked for, where the file lacks some of them.
    padded: Option<SchemaRef>,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(match &self.padded {
            None => batch,
            Some(schema) => batch.and_then(|batch| padded(&batch, schema)),
        })
    }
}

fn padded(batch: &RecordBatch, to: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => Ok(Arc::clone(column)),
        None => default_column(field, batch.num_rows()),
    };
    RecordBatch::try_new(Arc::clone(to), to.fields().iter().map(column).collect::<Result<_, _>>()?)
}

fn default_column(field: &Field, rows: usize) -> Result<ArrayRef, ArrowError> {
    Ok(match default_of(field.name()) {
        None => new_null_array(field.data_type(), rows),
        Some(ScalarDefault::Long(value)) => Arc::new(Int64Array::from_value(value, rows)),
        Some(ScalarDefault::Text(text)) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))),
    })
}

/// The rows split by the UTC date of `time`, in order of the dates; arrival order is kept within a date.
pub(crate) fn split_by_date(batches: &[RecordBatch]) -> Result<BTreeMap<String, Vec<RecordBatch>>, LakeError> {
    let mut dates: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        let time: &TimestampMicrosecondArray = batch
            .column_by_name("time")
            .and_then(|column| column.as_primitive_opt())
            .ok_or_else(|| LakeError::BadUnit("rows without `time`".to_owned()))?;
        let days: Vec<i64> = time.values().iter().map(|us| us.div_euclid(TimeUs::DAY)).collect();
        let mut distinct = days.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for &day in &distinct {
            let part = if distinct.len() == 1 {
                batch.clone()
            } else {
                let mask = days.iter().map(|&other| Some(other == day)).collect();
                arrow::compute::filter_record_batch(batch, &mask)?
            };
            dates.entry(day).or_default().push(part);
        }
    }
    Ok(dates.into_iter().map(|(day, rows)| (date_of(TimeUs(day.saturating_mul(TimeUs::DAY))), rows)).collect())
}

/// The partition of `usage` that a row of this effective time is in: its UTC date.
pub(crate) fn date_of(time: TimeUs) -> String {
    time.to_utc().format("%Y-%m-%d").to_string()
}
