//! Rows of Arrow as `DataRow` messages, in the text and in the binary form of each type.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, NaiveDate, NaiveTime};

use crate::PgError;
use crate::message::Outbox;
use crate::numeric;
use crate::types::{state, wire_type};

/// Microseconds and days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
pub(crate) const EPOCH_US: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
pub(crate) const EPOCH_DAYS: i32 = 10_957;

/// The same rows with columns of those types that can be written.
pub(crate) fn prepared(batch: &RecordBatch) -> Result<Vec<ArrayRef>, PgError> {
    let of = |column: &ArrayRef| {
        let to = written_as(column.data_type());
        if *column.data_type() == to { Ok(Arc::clone(column)) } else { cast(column, &to) }
    };
    let columns = batch.columns().iter().map(of).collect::<Result<_, _>>();
    columns.map_err(|error| PgError::new(state::INTERNAL_ERROR, format!("a value cannot be sent: {error}")))
}

/// One type of those that have the same form on the wire.
fn written_as(kind: &DataType) -> DataType {
    match kind {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Dictionary(_, value) => written_as(value),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new("item", written_as(item.data_type()), true)))
        }
        other => other.clone(),
    }
}

/// Appends one row.
pub(crate) fn row(
    outbox: &mut Outbox,
    columns: &[ArrayRef],
    at: usize,
    is_binary: impl Fn(usize) -> bool,
) -> Result<(), PgError> {
    let mut result = Ok(());
    outbox.message(b'D', |body| {
        body.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        result = columns.iter().enumerate().try_for_each(|(index, column)| value(body, column, at, is_binary(index)));
    });
    result
}

/// A value with its length before it; a null has -1.
fn value(body: &mut BytesMut, column: &ArrayRef, at: usize, is_binary: bool) -> Result<(), PgError> {
    if column.is_null(at) || *column.data_type() == DataType::Null {
        body.put_i32(-1);
        return Ok(());
    }
    let start = body.len();
    body.put_i32(0);
    if is_binary {
        binary(body, column, at)?
    } else {
        body.put_slice(text(column, at)?.as_bytes())
    }
    let length = i32::try_from(body.len() - start - 4);
    let length = length.map_err(|_| PgError::new(state::LIMIT_EXCEEDED, "a value is larger than 2 GiB"))?;
    body[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn binary(body: &mut BytesMut, column: &ArrayRef, at: usize) -> Result<(), PgError> {
    match column.data_type() {
        DataType::Boolean => body.put_u8(u8::from(column.as_boolean().value(at))),
        DataType::Int16 => body.put_i16(column.as_primitive::<Int16Type>().value(at)),
        DataType::Int32 => body.put_i32(column.as_primitive::<Int32Type>().value(at)),
        DataType::Int64 => body.put_i64(column.as_primitive::<Int64Type>().value(at)),
        DataType::Float32 => body.put_f32(column.as_primitive::<Float32Type>().value(at)),
        DataType::Float64 => body.put_f64(column.as_primitive::<Float64Type>().value(at)),
        DataType::Binary => body.put_slice(column.as_binary::<i32>().value(at)),
        DataType::Decimal128(..) => numeric::put(body, &text(column, at)?),
        DataType::Date32 => body.put_i32(column.as_primitive::<Date32Type>().value(at).saturating_sub(EPOCH_DAYS)),
        DataType::Time64(_) => body.put_i64(column.as_primitive::<Time64MicrosecondType>().value(at)),
        DataType::Timestamp(..) => {
            body.put_i64(column.as_primitive::<TimestampMicrosecondType>().value(at).saturating_sub(EPOCH_US));
        }
        DataType::Interval(_) => {
            let span = column.as_primitive::<IntervalMonthDayNanoType>().value(at);
            body.put_i64(span.nanoseconds / 1000);
            body.put_i32(span.days);
            body.put_i32(span.months);
        }
        DataType::List(item) => {
            let items = column.as_list::<i32>().value(at);
            // One dimension, or none where there are no items.
            body.put_i32(i32::from(!items.is_empty()));
            body.put_i32(i32::from(items.null_count() > 0));
            body.put_u32(wire_type(item.data_type()).oid);
            if !items.is_empty() {
                body.put_i32(i32::try_from(items.len()).unwrap_or(i32::MAX));
                body.put_i32(1);
            }
            (0..items.len()).try_for_each(|item| value(body, &items, item, true))?;
        }
        _ => body.put_slice(text(column, at)?.as_bytes()),
    }
    Ok(())
}

fn text(column: &ArrayRef, at: usize) -> Result<String, PgError> {
    Ok(match column.data_type() {
        DataType::Boolean => if column.as_boolean().value(at) { "t" } else { "f" }.to_owned(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(at).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(at).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).to_string(),
        DataType::Float32 => float(&column.as_primitive::<Float32Type>().value(at).to_string()),
        DataType::Float64 => float(&column.as_primitive::<Float64Type>().value(at).to_string()),
        DataType::Utf8 => column.as_string::<i32>().value(at).to_owned(),
        DataType::Binary => {
            let hex = |out: String, byte: &u8| out + &format!("{byte:02x}");
            column.as_binary::<i32>().value(at).iter().fold("\\x".to_owned(), hex)
        }
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(at),
        DataType::Date32 => date(column.as_primitive::<Date32Type>().value(at)),
        DataType::Time64(_) => time(column.as_primitive::<Time64MicrosecondType>().value(at)),
        DataType::Timestamp(_, zone) => {
            timestamp(column.as_primitive::<TimestampMicrosecondType>().value(at), zone.is_some())
        }
        DataType::Interval(_) => {
            let span = column.as_primitive::<IntervalMonthDayNanoType>().value(at);
            interval(span.months, span.days, span.nanoseconds / 1000)
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(at))?,
        _ => {
            let formatter = ArrayFormatter::try_new(column, &FormatOptions::default());
            let formatter = formatter.map_err(|error| PgError::new(state::INTERNAL_ERROR, error.to_string()))?;
            formatter.value(at).to_string()
        }
    })
}

fn float(text: &str) -> String {
    text.replace("inf", "Infinity")
}

fn date(days: i32) -> String {
    NaiveDate::from_epoch_days(days).map_or_else(|| days.to_string(), |date| date.format("%Y-%m-%d").to_string())
}

/// Without a fraction where there is none.
fn time(micros: i64) -> String {
    let seconds = u32::try_from(micros / 1_000_000).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos);
    time.map_or_else(|| micros.to_string(), |time| time.format("%H:%M:%S%.f").to_string())
}

/// In ISO style; what has a zone is in UTC, as the parameter `TimeZone` says.
pub(crate) fn timestamp(micros: i64, has_zone: bool) -> String {
    let Some(time) = DateTime::from_timestamp_micros(micros) else { return micros.to_string() };
    let zone = if has_zone { "+00" } else { "" };
    format!("{}{zone}", time.format("%Y-%m-%d %H:%M:%S%.f"))
}

/// In the style `postgres`, like `1 mon 2 days 03:04:05`.
fn interval(months: i32, days: i32, micros: i64) -> String {
    let mut parts = Vec::new();
    let mut unit = |count: i32, name: &str| {
        if count != 0 {
            parts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    };
    unit(months / 12, "year");
    unit(months % 12, "mon");
    unit(days, "day");
    if micros != 0 || parts.is_empty() {
        let (sign, size) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
        let seconds = size / 1_000_000;
        let mut text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if size % 1_000_000 != 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, ".{}", format!("{:06}", size % 1_000_000).trim_end_matches('0'));
        }
        parts.push(text);
    }
    parts.join(" ")
}

/// As `{a,"b c",NULL}`.
fn list(items: &ArrayRef) -> Result<String, PgError> {
    let one = |at: usize| {
        if items.is_null(at) {
            return Ok("NULL".to_owned());
        }
        let text = text(items, at)?;
        let plain = |byte: u8| !matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') && !byte.is_ascii_whitespace();
        let is_bare = !text.is_empty() && !text.eq_ignore_ascii_case("null") && text.bytes().all(plain);
        let is_nested = matches!(items.data_type(), DataType::List(_));
        Ok(if is_bare || is_nested { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) })
    };
    let items = (0..items.len()).map(one).collect::<Result<Vec<_>, PgError>>()?;
    Ok(format!("{{{}}}", items.join(",")))
}
