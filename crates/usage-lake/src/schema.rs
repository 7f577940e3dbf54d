//! The columns of each table, in the two forms that they have: in memory and in Delta.
//!
//! Holds here: the in-memory schema is what [`RowBuffer`](crate::RowBuffer) builds and [`replay`](crate::Lake::replay) yields;
//! Delta and Parquet store the same columns with plain strings, and `usage` is partitioned by `date`, the UTC date of `time`,
//! which is derived at the commit and not a column of the files. No row is ever edited: what restates one is more rows, with `kind`,
//! `corrects` and `reverses` saying which, and counts and money of the opposite sign, so that a sum over all rows is always right.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use usage_types::{ComputeNs, Dimension, Pico, TokenClass};

use crate::kind::RowKind;

/// Table of accepted rows.
pub const USAGE: &str = "usage";
/// Table of events that came after the dedup horizon; the columns of `usage`.
pub const TOO_LATE: &str = "too_late";
/// Table of refused events.
pub const REJECTED: &str = "rejected";
/// Table of offset ranges, one row per commit and input partition.
pub const ACCOUNTS: &str = "accounts";
/// The partition column of `usage`.
pub const DATE: &str = "date";

/// Digits of the lake's decimals: the most that `Decimal128` has.
const DECIMAL_PRECISION: u8 = 38;

/// Columns that lakes of the first version lack. Delta has all of them as nullable, since files that were written without them stay as
/// they are.
const ADDED: [&str; 8] =
    ["service_tier", "kind", "corrects", "reverses", "images", "unpriced_reason", "processed", "total"];

/// Whether a table may lack this column, because it was made before there was one.
pub(crate) fn is_added(column: &str) -> bool {
    ADDED.contains(&column)
}

/// What a row has in a column that its file was written without, where that is not null.
pub(crate) fn default_of(column: &str) -> Option<ScalarDefault> {
    match column {
        "kind" => Some(ScalarDefault::Text(RowKind::Usage.name())),
        "images" => Some(ScalarDefault::Long(0)),
        _ => None,
    }
}

/// A default value of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarDefault {
    Text(&'static str),
    Long(i64),
}

/// The type of every time column.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

#[allow(clippy::cast_possible_wrap)]
pub(crate) const COST_TYPE: DataType = DataType::Decimal128(DECIMAL_PRECISION, Pico::DIGITS as i8);
#[allow(clippy::cast_possible_wrap)]
pub(crate) const COMPUTE_TYPE: DataType = DataType::Decimal128(DECIMAL_PRECISION, ComputeNs::DIGITS as i8);

static USAGE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("time", timestamp(), false),
        Field::new("id", DataType::Utf8, false),
        Field::new("source", DataType::Utf8, false),
    ];
    fields.extend(Dimension::ALL.map(|d| Field::new(d.name(), DataType::Utf8, d != Dimension::Namespace)));
    fields.extend(TokenClass::ALL.map(|class| Field::new(class.column(), DataType::Int64, false)));
    fields.extend([
        Field::new("total_tokens", DataType::Int64, false),
        Field::new("requests", DataType::Int64, false),
        Field::new("tool_calls", DataType::Int64, false),
        Field::new("compute_seconds", COMPUTE_TYPE, false),
        Field::new("cost", COST_TYPE, true),
        Field::new("currency", DataType::Utf8, true),
        Field::new("cost_origin", DataType::Utf8, true),
        Field::new("tags", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("log_time", timestamp(), false),
        Field::new("late", DataType::Boolean, false),
        Field::new("clamped", DataType::Boolean, false),
        Field::new("sent_time", timestamp(), true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("corrects", DataType::Utf8, true),
        Field::new("reverses", DataType::Utf8, true),
        Field::new("images", DataType::Int64, true),
        Field::new("unpriced_reason", DataType::Utf8, true),
        Field::new("processed", DataType::Int64, true),
        Field::new("total", DataType::Int64, true),
    ]);
    Arc::new(Schema::new(fields))
});

static REJECTED_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("log_time", timestamp(), false),
        Field::new("code", DataType::Utf8, false),
        Field::new("field", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Utf8, true),
    ]))
});

static ACCOUNTS_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("version", DataType::Int64, false),
        Field::new("committed_at", timestamp(), false),
        Field::new("partition", DataType::Int32, false),
    ];
    fields.extend(
        ["start_offset", "end_offset", "accepted", "duplicate", "forwarded", "too_late", "rejected"]
            .map(|name| Field::new(name, DataType::Int64, false)),
    );
    Arc::new(Schema::new(fields))
});

/// The columns of `usage` and `too_late` in memory.
#[must_use]
pub fn usage_schema() -> SchemaRef {
    Arc::clone(&USAGE_SCHEMA)
}

/// The columns of `rejected` in memory.
#[must_use]
pub fn rejected_schema() -> SchemaRef {
    Arc::clone(&REJECTED_SCHEMA)
}

/// The columns of `accounts` in memory.
#[must_use]
pub fn accounts_schema() -> SchemaRef {
    Arc::clone(&ACCOUNTS_SCHEMA)
}

/// The same columns with every text as `to`: plain for Parquet, views for SQL.
pub(crate) fn with_texts_as(schema: &Schema, to: &DataType) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let is_text = matches!(
            field.data_type(),
            DataType::Dictionary(..) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        );
        if is_text { Arc::new(field.as_ref().clone().with_data_type(to.clone())) } else { Arc::clone(field) }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
