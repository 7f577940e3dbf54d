//! Results as JSON, JSON lines, CSV, Arrow IPC or Parquet.
//!
//! Holds here: no number loses a digit on its way. In JSON integers beyond 2⁵³ and all decimals are texts, since a reader's
//! float would round them; times are RFC 3339 in UTC.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::cast_batch;
use crate::LakeError;
use crate::schema::with_texts_as;

/// The largest integer whose neighbours a 64-bit float can still tell apart.
const EXACT_IN_FLOAT: u64 = 1 << 53;

/// The form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An array of row objects.
    #[default]
    Json,
    /// A row object a line.
    Jsonl,
    /// RFC 4180 with a header line; null is an empty field, an empty text is `""`.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Json, Self::Jsonl, Self::Csv, Self::Arrow, Self::Parquet];

    /// The name, as in a request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// The media type of a response.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Whether its bytes come while rows do. Those of Parquet come at the end.
    #[must_use]
    pub const fn is_streamed(self) -> bool {
        !matches!(self, Self::Parquet)
    }
}

impl std::str::FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| format!("`{text}` is no format; use json, jsonl, csv, arrow or parquet"))
    }
}

/// Writes batches of one schema in a format.
pub(super) enum Encoder {
    Json { out: Vec<u8>, schema: SchemaRef, rows: u64 },
    Jsonl { out: Vec<u8>, schema: SchemaRef },
    Csv { out: Vec<u8>, schema: SchemaRef },
    Arrow { writer: StreamWriter<Vec<u8>>, schema: SchemaRef },
    Parquet { writer: ArrowWriter<Vec<u8>>, schema: SchemaRef },
}

impl Encoder {
    pub(super) fn new(format: Format, schema: &SchemaRef) -> Result<Self, LakeError> {
        // Readers know plain texts longer than they know views.
        let plain = with_texts_as(schema, &DataType::Utf8);
        Ok(match format {
            Format::Json => Self::Json { out: b"[".to_vec(), schema: Arc::clone(schema), rows: 0 },
            Format::Jsonl => Self::Jsonl { out: Vec::new(), schema: Arc::clone(schema) },
            Format::Csv => {
                let mut line = String::new();
                for (at, field) in schema.fields().iter().enumerate() {
                    line.push_str(if at > 0 { "," } else { "" });
                    push_csv(&mut line, field.name());
                }
                line.push_str("\r\n");
                Self::Csv { out: line.into_bytes(), schema: Arc::clone(schema) }
            }
            Format::Arrow => Self::Arrow { writer: StreamWriter::try_new(Vec::new(), &plain)?, schema: plain },
            Format::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
                let properties = WriterProperties::builder().set_compression(zstd).build();
                let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&plain), Some(properties))?;
                Self::Parquet { writer, schema: plain }
            }
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        match self {
            Self::Json { out, schema, rows } => {
                let mut text = String::new();
                for at in 0..batch.num_rows() {
                    text.push_str(if *rows > 0 { ",\n" } else { "\n" });
                    *rows += 1;
                    push_json_row(&mut text, schema, batch, at)?;
                }
                out.extend_from_slice(text.as_bytes());
            }
            Self::Jsonl { out, schema } => {
                let mut text = String::new();
                for at in 0..batch.num_rows() {
                    push_json_row(&mut text, schema, batch, at)?;
                    text.push('\n');
                }
                out.extend_from_slice(text.as_bytes());
            }
            Self::Csv { out, schema } => {
                let mut text = String::new();
                for at in 0..batch.num_rows() {
                    for column in 0..schema.fields().len() {
                        text.push_str(if column > 0 { "," } else { "" });
                        push_csv_value(&mut text, batch.column(column), at)?;
                    }
                    text.push_str("\r\n");
                }
                out.extend_from_slice(text.as_bytes());
            }
            Self::Arrow { writer, schema } => writer.write(&cast_batch(batch, schema)?)?,
            Self::Parquet { writer, schema } => writer.write(&cast_batch(batch, schema)?)?,
        }
        Ok(())
    }

    /// What is encoded so far and can be sent. Parquet comes only at the end.
    pub(super) fn drain(&mut self) -> Vec<u8> {
        match self {
            Self::Json { out, .. } | Self::Jsonl { out, .. } | Self::Csv { out, .. } => std::mem::take(out),
            Self::Arrow { writer, .. } => std::mem::take(writer.get_mut()),
            Self::Parquet { .. } => Vec::new(),
        }
    }

    /// Bytes that are encoded and not drained.
    pub(super) fn pending(&self) -> usize {
        match self {
            Self::Json { out, .. } | Self::Jsonl { out, .. } | Self::Csv { out, .. } => out.len(),
            Self::Arrow { writer, .. } => writer.get_ref().len(),
            Self::Parquet { writer, .. } => writer.bytes_written() + writer.in_progress_size(),
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, LakeError> {
        Ok(match self {
            Self::Json { mut out, rows, .. } => {
                out.extend_from_slice(if rows > 0 { b"\n]\n" } else { b"]\n" });
                out
            }
            Self::Csv { out, .. } | Self::Jsonl { out, .. } => out,
            Self::Arrow { mut writer, .. } => {
                writer.finish()?;
                writer.into_inner()?
            }
            Self::Parquet { writer, .. } => writer.into_inner()?,
        })
    }
}

/// Writes rows of one schema in a format, up to a size: for callers that make them from a query's.
pub struct RowWriter {
    encoder: Encoder,
    rows: u64,
    rows_max: u64,
    bytes_max: u64,
}

impl RowWriter {
    /// A writer of so many rows and bytes at most.
    ///
    /// # Errors
    /// A column has a type that the format lacks.
    pub fn new(format: Format, schema: &SchemaRef, rows_max: u64, bytes_max: u64) -> Result<Self, LakeError> {
        Ok(Self { encoder: Encoder::new(format, schema)?, rows: 0, rows_max, bytes_max })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// They are too many, or not of the schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.encoder.write(batch)?;
        self.rows += batch.num_rows() as u64;
        if self.rows > self.rows_max {
            return Err(LakeError::QueryResult { limit: self.rows_max, unit: "rows" });
        }
        if self.encoder.pending() as u64 > self.bytes_max {
            return Err(LakeError::QueryResult { limit: self.bytes_max, unit: "bytes" });
        }
        Ok(())
    }

    /// The whole of it.
    ///
    /// # Errors
    /// The format could not be ended.
    pub fn finish(self) -> Result<Vec<u8>, LakeError> {
        self.encoder.finish()
    }
}

/// Rows as JSON, as a query returns them: for callers that have batches already.
///
/// # Errors
/// A column has a type that has no text.
pub fn json_text(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, LakeError> {
    let mut encoder = Encoder::new(Format::Json, schema)?;
    batches.iter().try_for_each(|batch| encoder.write(batch))?;
    String::from_utf8(encoder.finish()?).map_err(|error| LakeError::Sql(error.to_string()))
}

fn push_json_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn push_integer(out: &mut String, magnitude: u64, text: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = if magnitude > EXACT_IN_FLOAT { write!(out, "\"{text}\"") } else { write!(out, "{text}") };
}

fn push_json_row(out: &mut String, schema: &SchemaRef, batch: &RecordBatch, at: usize) -> Result<(), LakeError> {
    out.push('{');
    for (column, field) in schema.fields().iter().enumerate() {
        out.push_str(if column > 0 { "," } else { "" });
        push_json_text(out, field.name());
        out.push(':');
        push_json(out, batch.column(column), at)?;
    }
    out.push('}');
    Ok(())
}

fn push_json(out: &mut String, column: &dyn Array, at: usize) -> Result<(), LakeError> {
    if column.is_null(at) || *column.data_type() == DataType::Null {
        out.push_str("null");
        return Ok(());
    }
    let signed = match column.data_type() {
        DataType::Int8 => Some(i64::from(column.as_primitive::<Int8Type>().value(at))),
        DataType::Int16 => Some(i64::from(column.as_primitive::<Int16Type>().value(at))),
        DataType::Int32 => Some(i64::from(column.as_primitive::<Int32Type>().value(at))),
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(at)),
        DataType::UInt8 => Some(i64::from(column.as_primitive::<UInt8Type>().value(at))),
        DataType::UInt16 => Some(i64::from(column.as_primitive::<UInt16Type>().value(at))),
        DataType::UInt32 => Some(i64::from(column.as_primitive::<UInt32Type>().value(at))),
        _ => None,
    };
    if let Some(value) = signed {
        push_integer(out, value.unsigned_abs(), value);
        return Ok(());
    }
    match column.data_type() {
        DataType::UInt64 => {
            let value = column.as_primitive::<UInt64Type>().value(at);
            push_integer(out, value, value);
        }
        DataType::Float32 => push_float(out, f64::from(column.as_primitive::<Float32Type>().value(at))),
        DataType::Float64 => push_float(out, column.as_primitive::<Float64Type>().value(at)),
        DataType::Boolean => out.push_str(if column.as_boolean().value(at) { "true" } else { "false" }),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_) => {
            let items = match column.data_type() {
                DataType::List(_) => column.as_list::<i32>().value(at),
                DataType::LargeList(_) => column.as_list::<i64>().value(at),
                DataType::ListView(_) => column.as_list_view::<i32>().value(at),
                _ => column.as_fixed_size_list().value(at),
            };
            out.push('[');
            for item in 0..items.len() {
                out.push_str(if item > 0 { "," } else { "" });
                push_json(out, &items, item)?;
            }
            out.push(']');
        }
        DataType::Struct(fields) => {
            out.push('{');
            for (index, field) in fields.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                push_json_text(out, field.name());
                out.push(':');
                push_json(out, column.as_struct().column(index), at)?;
            }
            out.push('}');
        }
        _ => push_json_text(out, &plain_text(column, at)?),
    }
    Ok(())
}

fn push_float(out: &mut String, value: f64) {
    // JSON has no NaN and no infinity.
    let number = serde_json::Number::from_f64(value);
    out.push_str(&number.map_or_else(|| "null".to_owned(), |number| number.to_string()));
}

/// The text of a value that is no number in JSON.
fn plain_text(column: &dyn Array, at: usize) -> Result<String, LakeError> {
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).to_owned(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(at).to_owned(),
        DataType::Utf8View => column.as_string_view().value(at).to_owned(),
        DataType::Decimal128(..) => {
            let text = column.as_primitive::<Decimal128Type>().value_as_string(at);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        DataType::Date32 => date_text(column.as_primitive::<Date32Type>().value_as_date(at)),
        DataType::Date64 => date_text(column.as_primitive::<Date64Type>().value_as_date(at)),
        DataType::Timestamp(_, zone) => {
            let micros = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone.clone());
            let column = arrow::compute::cast(&column.slice(at, 1), &micros)?;
            let value = column.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0);
            usage_types::TimeUs(value).to_string()
        }
        _ => ArrayFormatter::try_new(column, &FormatOptions::default())?.value(at).to_string(),
    })
}

fn date_text(date: Option<chrono::NaiveDate>) -> String {
    date.map_or_else(String::new, |date| date.format("%Y-%m-%d").to_string())
}

fn push_csv_value(out: &mut String, column: &dyn Array, at: usize) -> Result<(), LakeError> {
    if column.is_null(at) {
        return Ok(());
    }
    let is_text = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if is_text || matches!(column.data_type(), DataType::Decimal128(..) | DataType::Timestamp(..)) {
        push_csv(out, &plain_text(column, at)?);
    } else {
        let mut json = String::new();
        push_json(&mut json, column, at)?;
        // A number or date that JSON puts in quotes needs none here.
        let bare = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|rest| !rest.contains('\\'));
        push_csv(out, bare.unwrap_or(&json));
    }
    Ok(())
}

fn push_csv(out: &mut String, text: &str) {
    if text.is_empty() || text.contains([',', '"', '\r', '\n']) || text.starts_with(' ') || text.ends_with(' ') {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}
