//! The report `focus`: sums of the lake become charges of the FinOps Open Cost and Usage Specification.
//!
//! The rows of `sql/focus.sql` come from the query's child process like those of any report. What they cost by token class is told by the
//! price book, which the child does not have, so their charges are made here, some thousand at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use chrono::{Datelike, Months, NaiveDate};
use chrono_tz::Tz;
use focus_report::{
    Bill, Charge, Column, Counts, DataType as FocusType, Entry, Line, PriceEdges, Settings, Usage, Value, Version,
    columns,
};
use http_api::ApiProblem;
use price_book::PriceBook;
use usage_lake::{Format, QueryConfig, Report, ReportEdges, ReportRequest, RowWriter, midnight};
use usage_types::{ComputeNs, CostOrigin, Dimension, DimensionSet, Dimensions, Pico, TimeUs, TokenClass};

/// The report's name.
pub const NAME: &str = "focus";
/// Charges that are written at once: some megabytes.
const CHARGES_AT_ONCE: usize = 4096;

/// Everything that a report needs besides the rows.
pub struct Plan {
    book: Arc<PriceBook>,
    version: Version,
    settings: Settings,
    zone: Tz,
    /// Its query.
    pub sql: String,
}

/// The report as a file.
pub struct Written {
    /// In the format that was asked for.
    pub bytes: Vec<u8>,
    /// Events of the period that have no price and so no charge, and their tokens.
    pub unpriced: (i64, i64),
}

impl Plan {
    /// Reads the parameters. `problem` makes an answer of the lake's errors.
    pub fn new(
        report: &Report,
        given: &BTreeMap<String, String>,
        book: Arc<PriceBook>,
        problem: fn(usage_lake::LakeError) -> ApiProblem,
    ) -> Result<Self, ApiProblem> {
        let chosen = report.settings(given).map_err(problem)?;
        let version = given.get("version").map(|text| text.trim().parse()).transpose();
        let version =
            version.map_err(|error: focus_report::FocusError| ApiProblem::invalid("version", error.to_string()))?;
        let billing_account = chosen.text("billing_account");
        if billing_account.is_empty() {
            let detail = "give an identifier, like the organisation's name";
            return Err(ApiProblem::invalid("billing_account", detail));
        }
        let PriceEdges { times, input_tokens, dimensions } = PriceEdges::of(&book);
        let edges = ReportEdges { times, input_tokens, dimensions, shared: None };
        let sql = report.render(&ReportRequest { given: given.clone(), edges }).map_err(problem)?;
        let settings = Settings { billing_account: billing_account.to_owned(), tags: chosen.dimensions };
        Ok(Self { book, version: version.unwrap_or_default(), settings, zone: chosen.zone, sql })
    }

    /// Makes charges of the query's rows and writes them.
    pub fn write(&self, batches: &[RecordBatch], format: Format, limits: &QueryConfig) -> Result<Written> {
        let table = Table::new(self.version, format);
        let mut writer = RowWriter::new(format, &table.schema, limits.rows_max, limits.bytes_max)?;
        let mut unpriced = (0, 0);
        for batch in batches {
            let groups = Groups::of(batch)?;
            let mut usages = Vec::with_capacity(groups.len());
            for at in 0..groups.len() {
                match groups.usage(at, self.zone)? {
                    Some(usage) => usages.push(usage),
                    None => {
                        unpriced =
                            (unpriced.0 + groups.long("events", at), unpriced.1 + groups.long("total_tokens", at))
                    }
                }
            }
            self.charge(&usages, &table, &mut writer)?;
        }
        Ok(Written { bytes: writer.finish()?, unpriced })
    }

    fn charge(&self, usages: &[Usage], table: &Table, writer: &mut RowWriter) -> Result<()> {
        for usages in usages.chunks(CHARGES_AT_ONCE / 8) {
            let bills = usages.iter().map(|usage| Bill::of(&self.book, usage)).collect::<Result<Vec<_>, _>>()?;
            let lines = bills.iter().flat_map(|bill| bill.charges.iter().map(move |charge| (bill, charge)));
            let lines: Vec<Line<'_>> = lines.map(|(bill, charge)| self.line(bill, charge)).collect();
            if !lines.is_empty() {
                writer.write(&table.batch(&lines)?)?;
            }
        }
        Ok(())
    }

    fn line<'a>(&'a self, bill: &'a Bill<'a>, charge: &'a Charge) -> Line<'a> {
        Line { settings: &self.settings, bill, charge }
    }
}

impl Written {
    /// What whoever reads the file must know of what is not in it.
    pub fn warning(&self) -> Option<String> {
        let (events, tokens) = self.unpriced;
        (events != 0).then(|| {
            format!(
                "{events} events of the period with {tokens} tokens have no price, so they are no charges and not in this file; the report \
                 unpriced names their models and why"
            )
        })
    }
}

/// The columns of a version in Arrow.
struct Table {
    columns: Vec<&'static Column>,
    schema: SchemaRef,
}

impl Table {
    fn new(version: Version, format: Format) -> Self {
        let columns: Vec<_> = columns(version).collect();
        let field = |column: &&'static Column| {
            let data_type = match column.data_type {
                FocusType::Text => DataType::Utf8,
                FocusType::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                // A text of our own, which always has a point: programs that guess types take a column of `900` for integers.
                FocusType::Decimal(_) if format == Format::Csv => DataType::Utf8,
                FocusType::Decimal(digits) => decimal_type(digits),
            };
            Field::new(column.id, data_type, column.is_nullable)
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Self { columns, schema }
    }

    fn batch(&self, lines: &[Line<'_>]) -> Result<RecordBatch> {
        let arrays = self.columns.iter().zip(self.schema.fields()).map(|(column, field)| {
            let cells = lines.iter().map(|line| column.value(line));
            array(cells, column.data_type, field.data_type())
        });
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), arrays.collect::<Result<_>>()?)?)
    }
}

/// The type of a decimal of 38 digits, so many of them after the point.
fn decimal_type(digits: u32) -> DataType {
    DataType::Decimal128(38, i8::try_from(digits).unwrap_or(i8::MAX))
}

fn array(cells: impl Iterator<Item = Value>, of: FocusType, written: &DataType) -> Result<ArrayRef> {
    let text = |cell| match cell {
        Value::Text(text) => Some(text),
        _ => None,
    };
    let decimal = |cell| match cell {
        Value::Decimal(value) => Some(value),
        _ => None,
    };
    let time = |cell| match cell {
        Value::Time(time) => Some(time.0),
        _ => None,
    };
    Ok(match of {
        FocusType::Text => Arc::new(cells.map(text).collect::<StringArray>()),
        FocusType::Time => Arc::new(cells.map(time).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        FocusType::Decimal(digits) if *written == DataType::Utf8 => {
            let texts = cells.map(|cell| decimal(cell).map(|value| decimal_text(value, digits)));
            Arc::new(texts.collect::<StringArray>())
        }
        FocusType::Decimal(_) => {
            Arc::new(cells.map(decimal).collect::<Decimal128Array>().with_data_type(written.clone()))
        }
    })
}

/// A decimal with a point and one digit after it at least.
fn decimal_text(value: i128, digits: u32) -> String {
    let scale = 10_u128.pow(digits);
    let (whole, part) = (value.unsigned_abs() / scale, value.unsigned_abs() % scale);
    let part = format!("{part:0width$}", width = digits as usize);
    let part = match part.trim_end_matches('0') {
        "" => "0",
        part => part,
    };
    format!("{}{whole}.{part}", if value < 0 { "-" } else { "" })
}

/// The query's rows by the names of their columns.
struct Groups {
    columns: BTreeMap<String, ArrayRef>,
    rows: usize,
}

impl Groups {
    /// Each column in one type of its kind, whichever the query engine chose.
    fn of(batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
            let to = match field.name().as_str() {
                "day" => DataType::Date32,
                "first_time" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                "cost" => decimal_type(Pico::DIGITS),
                "compute_seconds" => decimal_type(ComputeNs::DIGITS),
                "is_correction" => DataType::Boolean,
                name if is_text(name) => DataType::Utf8,
                _ => DataType::Int64,
            };
            Ok((field.name().clone(), cast(column, &to)?))
        });
        Ok(Self { columns: columns.collect::<Result<_>>()?, rows: batch.num_rows() })
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.columns.get(name)
    }

    fn text(&self, name: &str, at: usize) -> Option<&str> {
        let column = self.column(name)?.as_string::<i32>();
        (!column.is_null(at)).then(|| column.value(at))
    }

    /// A count; 0 where there is none.
    fn long(&self, name: &str, at: usize) -> i64 {
        let column: Option<&Int64Array> = self.column(name).map(|column| column.as_primitive::<Int64Type>());
        column.filter(|column| !column.is_null(at)).map_or(0, |column| column.value(at))
    }

    fn decimal(&self, name: &str, at: usize) -> Option<i128> {
        let column = self.column(name)?.as_primitive::<Decimal128Type>();
        (!column.is_null(at)).then(|| column.value(at))
    }

    fn date(&self, at: usize) -> Option<NaiveDate> {
        self.column("day")?.as_primitive::<Date32Type>().value_as_date(at)
    }

    fn flag(&self, name: &str, at: usize) -> bool {
        let column: Option<&BooleanArray> = self.column(name).map(|column| column.as_boolean());
        column.is_some_and(|column| !column.is_null(at) && column.value(at))
    }

    fn time(&self, name: &str, at: usize) -> Option<TimeUs> {
        let column = self.column(name)?.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        (!column.is_null(at)).then(|| TimeUs(column.value(at)))
    }

    /// One row; `None` where it has no cost.
    fn usage(&self, at: usize, zone: Tz) -> Result<Option<Usage>> {
        let (Some(cost), Some(currency)) = (self.decimal("cost", at), self.text("currency", at)) else {
            return Ok(None);
        };
        let day = self.date(at).context("a row without a day")?;
        let month = day.with_day(1).context("a month without a first day")?;
        let (next_day, next_month) = (day.succ_opt(), month.checked_add_months(Months::new(1)));
        let end = |date: Option<NaiveDate>| date.map(|date| midnight(date, zone)).context("a day at the end of time");
        let mut dimensions = Dimensions::default();
        for dimension in Dimension::ALL {
            dimensions.set(dimension, self.text(dimension.name(), at).map(|text| Cow::Owned(text.to_owned())));
        }
        Ok(Some(Usage {
            charge_period: (midnight(day, zone), end(next_day)?),
            billing_period: (midnight(month, zone), end(next_month)?),
            dimensions,
            origin: match self.text("cost_origin", at) {
                Some("price_book") => CostOrigin::PriceBook,
                _ => CostOrigin::Event,
            },
            entry: self.text("adjustment", at).map_or(Entry::Usage, |run| Entry::Adjustment(run.to_owned())),
            is_correction: self.flag("is_correction", at),
            cost: Pico(cost),
            currency: currency.parse()?,
            rows: self.long("row_count", at).unsigned_abs(),
            counts: self.counts(at),
            time: self.time("first_time", at).context("a row without a time")?,
            input_tokens: self.long("longest_prompt", at).unsigned_abs(),
        }))
    }

    fn counts(&self, at: usize) -> Counts {
        Counts {
            tokens: TokenClass::ALL.map(|class| self.long(class.column(), at)),
            requests: self.long("requests", at),
            tool_calls: self.long("tool_calls", at),
            images: self.long("images", at),
            compute_ns: self.decimal("compute_seconds", at).unwrap_or(0),
        }
    }
}

fn is_text(name: &str) -> bool {
    let dimensions: DimensionSet = Dimension::ALL.into_iter().collect();
    matches!(name, "currency" | "cost_origin" | "adjustment")
        || dimensions.iter().any(|dimension| dimension.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_in_csv_has_a_point_and_no_zeros_at_its_end() {
        for (value, digits, text) in [
            (0, 12, "0.0"),
            (900_000_000_000, 9, "900.0"),
            (-1, 12, "-0.000000000001"),
            (1_250_000_000_000_000_000, 18, "1.25"),
            (i128::MAX, 0, "170141183460469231731687303715884105727.0"),
        ] {
            assert_eq!(decimal_text(value, digits), text);
        }
    }
}
