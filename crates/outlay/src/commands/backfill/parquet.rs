//! Rows of a Parquet file: every column as text, exactly, so that they are read as those of a CSV file are.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use usage_intake::TableColumns;

use super::rows::Row;

/// Rows decoded at once: bounds the memory beside a row group's pages.
const BATCH_ROWS: usize = 1024;

/// Rows of a Parquet file.
pub struct ParquetRows {
    reader: ParquetRecordBatchReader,
    columns: TableColumns,
    names: Vec<String>,
    batch: Vec<StringArray>,
    batch_rows: usize,
    at: usize,
    read: u64,
    rows: u64,
}

impl ParquetRows {
    /// Opens a file.
    ///
    /// # Errors
    /// It is no Parquet file, has a column without a meaning, or money as floating-point numbers.
    pub fn open(file: &File, skip_unknown: bool) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.try_clone()?)
            .context("it is no Parquet file that can be read")?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let mut leaves = Vec::new();
        flatten_fields(builder.schema(), &mut leaves);
        let columns = TableColumns::new(leaves.iter().map(|(name, _)| name.as_str()), skip_unknown)
            .map_err(|rejection| anyhow::anyhow!(rejection))?;
        for (at, (name, kind)) in leaves.iter().enumerate() {
            if columns.is_money(at) && kind.is_floating() {
                bail!(
                    "the column `{name}` holds floating-point numbers, which are not exact; write it as DECIMAL(38, 12) or as text"
                );
            }
        }
        let names = leaves.into_iter().map(|(name, _)| name).collect();
        let reader = builder.with_batch_size(BATCH_ROWS).build()?;
        Ok(Self { reader, columns, names, batch: Vec::new(), batch_rows: 0, at: 0, read: 0, rows })
    }

    /// Its columns.
    pub fn columns(&self) -> &TableColumns {
        &self.columns
    }

    /// The part of the file that is read, as bytes of its size.
    pub fn bytes_read(&self, size: u64) -> u64 {
        u64::try_from(u128::from(size) * u128::from(self.read) / u128::from(self.rows.max(1))).unwrap_or(size)
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<Row>> {
        while self.at == self.batch_rows {
            let Some(batch) = self.reader.next() else { return Ok(None) };
            self.fill(&batch?)?;
        }
        let at = self.at;
        self.at += 1;
        self.read += 1;
        let cells: Vec<Option<&str>> =
            self.batch.iter().map(|column| column.is_valid(at).then(|| column.value(at))).collect();
        let content = self.columns.row(&cells);
        let raw = match &content {
            Ok(_) => String::new(),
            Err(_) => {
                let there =
                    self.names.iter().zip(&cells).filter_map(|(name, cell)| Some((name.clone(), (*cell)?.into())));
                serde_json::Value::Object(there.collect()).to_string()
            }
        };
        Ok(Some(Row { line: self.read, content, raw }))
    }

    fn fill(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut leaves = Vec::with_capacity(self.names.len());
        flatten(batch.columns(), &mut leaves)?;
        let texts = leaves.iter().enumerate().map(|(at, column)| {
            if !self.columns.is_read(at) {
                return Ok(StringArray::new_null(column.len()));
            }
            texts(column).with_context(|| format!("the column `{}`", self.names[at]))
        });
        self.batch = texts.collect::<Result<_>>()?;
        (self.batch_rows, self.at) = (batch.num_rows(), 0);
        Ok(())
    }
}

/// The names of the columns, those in a struct with its name and a dot before.
fn flatten_fields(schema: &Schema, out: &mut Vec<(String, DataType)>) {
    fn go(prefix: &str, field: &Field, out: &mut Vec<(String, DataType)>) {
        let name = if prefix.is_empty() { field.name().clone() } else { format!("{prefix}.{}", field.name()) };
        match field.data_type() {
            DataType::Struct(fields) => fields.iter().for_each(|field| go(&name, field, out)),
            other => out.push((name, other.clone())),
        }
    }
    schema.fields().iter().for_each(|field| go("", field, out));
}

/// The columns in the same order. What is in a struct that is null is null.
fn flatten(columns: &[ArrayRef], out: &mut Vec<ArrayRef>) -> Result<()> {
    for column in columns {
        let Some(fields) = column.as_struct_opt() else {
            out.push(Arc::clone(column));
            continue;
        };
        let Some(nulls) = fields.nulls() else {
            flatten(fields.columns(), out)?;
            continue;
        };
        let absent = BooleanArray::new(!nulls.inner(), None);
        let masked: Vec<ArrayRef> =
            fields.columns().iter().map(|inner| nullif(inner, &absent)).collect::<Result<_, _>>()?;
        flatten(&masked, out)?;
    }
    Ok(())
}

/// A column as texts: decimals with all their digits, times in RFC 3339. A time without a zone is in UTC.
fn texts(column: &ArrayRef) -> Result<StringArray> {
    const EXACT: CastOptions<'static> =
        CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };
    let column = match column.data_type() {
        DataType::Timestamp(..) => {
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            cast_with_options(column, &utc, &EXACT)?
        }
        DataType::Dictionary(_, values) => cast_with_options(column, values, &EXACT)?,
        _ => Arc::clone(column),
    };
    Ok(cast_with_options(&column, &DataType::Utf8, &EXACT)?.as_string::<i32>().clone())
}
