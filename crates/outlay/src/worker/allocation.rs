//! The reports `chargeback` and `allocation` with shared cost: sums of the lake, shared out by the rules of `--allocation`.
//!
//! The rows of the SQL files come from the query's child process, told apart by what the rules ask for. What is shared, and who bears it, is
//! computed here and not in SQL: parts add up to the last pico-unit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Int64Type, Schema, SchemaRef};
use chrono::{NaiveDate, Utc};
use cost_allocation::{
    Allocated, Allocation, Every, InvoiceDifference, Note, Part, Reason, Shared, Split, UsageSum, allocate,
};
use http_api::ApiProblem;
use num_bigint::BigInt;
use provider_invoice::Invoice;
use usage_lake::{Format, LakeError, QueryConfig, Report, ReportEdges, ReportRequest, RowWriter, SharedKeys};
use usage_types::{Currency, Dimension, DimensionSet, Money, Pico, Scope};

/// The report that has what each group owes.
pub const CHARGEBACK: &str = "chargeback";
/// The report that has each part of a shared cost.
pub const DETAIL: &str = "allocation";
/// The columns that sharing changes.
const DIRECT: &str = "direct_cost";
const ALLOCATED: &str = "allocated_cost";
const COST: &str = "cost";
/// Notes that a warning tells; of more it tells how many.
const NOTES_TOLD: usize = 5;

/// Everything that such a report needs besides the rows.
pub struct Plan {
    is_detail: bool,
    allocation: Allocation,
    invoices: Vec<Invoice>,
    /// The groups of a chargeback.
    group_by: DimensionSet,
    span: (NaiveDate, NaiveDate),
    /// Its query.
    pub sql: String,
}

/// Reads the file of `--allocation`. It is read for each report, so that a change holds from the next one on.
///
/// # Errors
/// It cannot be read, or something in it is wrong.
pub fn read(path: &Path) -> Result<Allocation> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--allocation {}", path.display()))?;
    Allocation::from_yaml(&text).with_context(|| format!("--allocation {}", path.display()))
}

/// A group's values of the dimensions, and its currency. Null goes last, as in SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group(Vec<(bool, String)>);

impl Plan {
    /// Reads the parameters. `problem` makes an answer of the lake's errors.
    pub fn new(
        report: &Report,
        given: &BTreeMap<String, String>,
        allocation: Allocation,
        invoices: Vec<Invoice>,
        problem: fn(LakeError) -> ApiProblem,
    ) -> Result<Self, ApiProblem> {
        let chosen = report.settings(given).map_err(problem)?;
        let period = chosen.period.ok_or_else(|| ApiProblem::internal("a report of shared cost without a period"))?;
        let (from, to) = period.dates();
        // What has not begun yet has no usage that could bear its fees.
        let today = Utc::now().with_timezone(&chosen.zone).date_naive();
        let month_end = Every::Month.next(Every::Month.begin(today)).unwrap_or(to);
        let shared = SharedKeys {
            dimensions: allocation.dimensions(),
            days: allocation.needs_days(),
            tags: tags(&allocation).into_iter().map(str::to_owned).collect(),
        };
        let edges = ReportEdges { shared: Some(shared), ..ReportEdges::default() };
        let sql = report.render(&ReportRequest { given: given.clone(), edges }).map_err(problem)?;
        let is_detail = report.name == DETAIL;
        let span = (from, to.min(month_end.max(from)));
        Ok(Self { is_detail, allocation, invoices, group_by: chosen.dimensions, span, sql })
    }

    /// Shares the costs of the query's rows, and writes the report; with what its reader must know.
    pub fn write(
        &self,
        (schema, batches): &(SchemaRef, Vec<RecordBatch>),
        format: Format,
        limits: &QueryConfig,
    ) -> Result<(Vec<u8>, Option<String>)> {
        let tags = tags(&self.allocation);
        let mut sums = Vec::new();
        for batch in batches {
            usage_sums(batch, &tags, &mut sums)?;
        }
        let invoices = self.differences(&sums)?;
        let allocated = allocate(&self.allocation, &sums, &invoices, self.span)?;
        let table = if self.is_detail {
            self.detail(&allocated)?
        } else {
            self.chargeback(schema, batches, &sums, &allocated)?
        };
        let mut writer = RowWriter::new(format, &table.schema(), limits.rows_max, limits.bytes_max)?;
        writer.write(&table)?;
        Ok((writer.finish()?, warning(&allocated.notes)))
    }

    /// What the invoices of each provider and month have more than was metered.
    fn differences(&self, sums: &[UsageSum]) -> Result<Vec<InvoiceDifference>> {
        let mut asked: BTreeMap<(&str, NaiveDate, String), Money> = BTreeMap::new();
        for invoice in &self.invoices {
            let total = invoice.total();
            let key = (invoice.provider.as_str(), invoice.month.first_day(), total.currency.to_string());
            let known = asked.entry(key).or_insert(Money { amount: Pico(0), currency: total.currency });
            known.amount = known.amount.checked_add(total.amount).context("the invoices' total is too large")?;
        }
        for sum in sums {
            let (Some(cost), Some(provider)) = (sum.cost, sum.dimensions.get(Dimension::Provider)) else { continue };
            let key = (provider, Every::Month.begin(sum.day), cost.currency.to_string());
            if let Some(known) = asked.get_mut(&key) {
                let left = known.amount.checked_add(Pico(-cost.amount.0));
                known.amount = left.context("an invoice's difference is too large")?;
            }
        }
        let difference = |((provider, month, _), amount): ((&str, NaiveDate, String), Money)| InvoiceDifference {
            provider: provider.to_owned(),
            month,
            amount,
        };
        Ok(asked.into_iter().map(difference).collect())
    }

    /// The groups with their direct cost and what they bear of shared cost.
    fn chargeback(
        &self,
        schema: &SchemaRef,
        batches: &[RecordBatch],
        sums: &[UsageSum],
        allocated: &Allocated,
    ) -> Result<RecordBatch> {
        let measures: Vec<&Field> =
            schema.fields().iter().map(AsRef::as_ref).filter(|field| !is_key(field.name())).collect();
        let place = |name: &str| measures.iter().position(|field| field.name() == name).context("a column is missing");
        let (direct, borne, total) = (place(DIRECT)?, place(ALLOCATED)?, place(COST)?);
        let mut groups: BTreeMap<Group, Vec<Option<i128>>> = BTreeMap::new();
        let mut at = 0;
        for batch in batches {
            let columns = measures.iter().map(|field| numbers(batch, field)).collect::<Result<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                let (sum, is_shared) = (&sums[at], allocated.is_shared[at]);
                at += 1;
                let group = self.group(&sum.dimensions, sum.cost.map(|cost| cost.currency));
                let totals = groups.entry(group).or_insert_with(|| vec![None; measures.len()]);
                for (index, column) in columns.iter().enumerate() {
                    let is_moved = is_shared && (index == direct || index == total);
                    let value = if is_moved { Some(0) } else { column[row] };
                    totals[index] = add(totals[index], value)?;
                }
            }
        }
        for part in &allocated.parts {
            let group = self.group(&part.receiver, Some(part.shared.currency));
            let zeros = || measures.iter().map(|_| Some(0)).collect();
            let totals = groups.entry(group).or_insert_with(zeros);
            for index in [borne, total] {
                totals[index] = add(totals[index], Some(part.amount.0))?;
            }
        }
        let events = place("events")?;
        groups.retain(|_, totals| [events, direct, borne].iter().any(|at| totals[*at].unwrap_or(0) != 0));
        self.table(&measures, &groups)
    }

    fn group(&self, scope: &Scope, currency: Option<Currency>) -> Group {
        let dimensions = self.group_by.iter().map(|dimension| scope.get(dimension).map(str::to_owned));
        let values = dimensions.chain([currency.map(|currency| currency.to_string())]);
        Group(values.map(|value| (value.is_none(), value.unwrap_or_default())).collect())
    }

    fn table(&self, measures: &[&Field], groups: &BTreeMap<Group, Vec<Option<i128>>>) -> Result<RecordBatch> {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let mut fields: Vec<Field> = self.group_by.iter().map(|dimension| text(dimension.name())).collect();
        fields.push(text("currency"));
        let mut columns: Vec<ArrayRef> = Vec::new();
        for at in 0..fields.len() {
            let values = groups.keys().map(|Group(values)| (!values[at].0).then_some(values[at].1.as_str()));
            columns.push(Arc::new(values.collect::<StringArray>()));
        }
        for (at, field) in measures.iter().enumerate() {
            fields.push((*field).clone().with_nullable(true));
            columns.push(column(groups.values().map(|totals| totals[at]), field.data_type())?);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// One row for each part.
    fn detail(&self, allocated: &Allocated) -> Result<RecordBatch> {
        let receivers: DimensionSet = self.allocation.rules.iter().flat_map(|rule| rule.by.iter()).collect();
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let decimal = |name: &str| Field::new(name, DataType::Decimal128(38, 12), true);
        let mut fields = vec![text("rule"), Field::new("begin", DataType::Date32, false), text("every")];
        fields.extend(receivers.iter().map(|dimension| text(dimension.name())));
        fields.extend([text("currency"), decimal("shared_cost"), text("split")]);
        fields.extend(["weight", "weight_of_all", ALLOCATED].map(decimal));
        let parts = &allocated.parts;
        let rule = |part: &Part| self.allocation.rules.iter().find(|rule| rule.id == part.rule);
        let every = |part: &Part| rule(part).map(|rule| rule.every.name());
        let split = |part: &Part| rule(part).map(|rule| split_name(&rule.split));
        let weight = |part: &Part, weight: &BigInt| rule(part).and_then(|rule| in_units(weight, &rule.split));
        let begins = parts.iter().map(|part| Date32Type::from_naive_date(part.begin));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(parts.iter().map(|part| Some(part.rule.as_str())).collect::<StringArray>()),
            Arc::new(begins.map(Some).collect::<Date32Array>()),
            Arc::new(parts.iter().map(every).collect::<StringArray>()),
        ];
        for dimension in receivers.iter() {
            columns.push(Arc::new(parts.iter().map(|part| part.receiver.get(dimension)).collect::<StringArray>()));
        }
        let money = DataType::Decimal128(38, 12);
        columns
            .push(Arc::new(parts.iter().map(|part| Some(part.shared.currency.to_string())).collect::<StringArray>()));
        columns.push(column(parts.iter().map(|part| Some(part.shared.amount.0)), &money)?);
        columns.push(Arc::new(parts.iter().map(split).collect::<StringArray>()));
        columns.push(column(parts.iter().map(|part| weight(part, &part.weight.0)), &money)?);
        columns.push(column(parts.iter().map(|part| weight(part, &part.weight.1)), &money)?);
        columns.push(column(parts.iter().map(|part| Some(part.amount.0)), &money)?);
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// The tags that rules ask for, in the order of their columns.
fn tags(allocation: &Allocation) -> Vec<&str> {
    let tags = allocation.rules.iter().filter_map(|rule| match (&rule.share, &rule.split) {
        (Shared::Usage(_), Split::Tag(tag)) => Some(tag.as_str()),
        _ => None,
    });
    tags.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// Whether a column of the query tells rows apart, and is no sum.
fn is_key(name: &str) -> bool {
    name == "currency" || name.starts_with(SharedKeys::PREFIX) || name.parse::<Dimension>().is_ok()
}

/// The query's rows as what is to be shared, in their order.
fn usage_sums(batch: &RecordBatch, tags: &[&str], sums: &mut Vec<UsageSum>) -> Result<()> {
    let texts = |name: &str| -> Result<Option<ArrayRef>> {
        batch.column_by_name(name).map(|column| Ok(cast(column, &DataType::Utf8)?)).transpose()
    };
    let mut dimensions = Vec::new();
    for dimension in Dimension::ALL {
        dimensions.extend(texts(dimension.name())?.map(|column| (dimension, column)));
    }
    let mut named = Vec::new();
    for (at, tag) in tags.iter().enumerate() {
        named.push((*tag, texts(&SharedKeys::tag_column(at))?.context("a tag's column is missing")?));
    }
    let days = cast(batch.column_by_name(SharedKeys::DAY).context("the day is missing")?, &DataType::Date32)?;
    let currencies = texts("currency")?.context("the currency is missing")?;
    let integer = |name: &str| numbers(batch, batch.schema_ref().field_with_name(name)?);
    let (tokens, costs) = (integer("total_tokens")?, integer(COST)?);
    let text = |column: &ArrayRef, at: usize| {
        let column = column.as_string::<i32>();
        (!column.is_null(at)).then(|| column.value(at).to_owned())
    };
    for at in 0..batch.num_rows() {
        let currency = text(&currencies, at).map(|text| text.parse::<Currency>()).transpose()?;
        let values = dimensions.iter().filter_map(|(dimension, column)| Some((*dimension, text(column, at)?)));
        sums.push(UsageSum {
            day: days.as_primitive::<Date32Type>().value_as_date(at).context("a row without a day")?,
            dimensions: Scope::new(values),
            tags: named.iter().filter_map(|(tag, column)| Some(((*tag).to_owned(), text(column, at)?))).collect(),
            tokens: tokens[at].unwrap_or(0),
            cost: currency.zip(costs[at]).map(|(currency, cost)| Money { amount: Pico(cost), currency }),
        });
    }
    Ok(())
}

/// A column of whole numbers or decimals, in the units of its last digit.
fn numbers(batch: &RecordBatch, field: &Field) -> Result<Vec<Option<i128>>> {
    let column = batch.column_by_name(field.name()).with_context(|| format!("{} is missing", field.name()))?;
    Ok(match field.data_type() {
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().iter().collect(),
        _ => {
            let column = cast(column, &DataType::Int64)?;
            column.as_primitive::<Int64Type>().iter().map(|value| value.map(i128::from)).collect()
        }
    })
}

/// The same as a column again.
fn column(values: impl Iterator<Item = Option<i128>>, data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Decimal128(..) => Arc::new(values.collect::<Decimal128Array>().with_data_type(data_type.clone())),
        _ => {
            let narrow = |value: Option<i128>| value.map(i64::try_from).transpose();
            cast(&values.map(narrow).collect::<Result<Int64Array, _>>()?, data_type)?
        }
    })
}

/// The sum, where null counts for nothing, as in SQL.
fn add(one: Option<i128>, other: Option<i128>) -> Result<Option<i128>> {
    let (Some(one), Some(other)) = (one, other) else { return Ok(one.or(other)) };
    let sum = one.checked_add(other).filter(|sum| sum.unsigned_abs() <= Pico::MAX.0.unsigned_abs());
    Ok(Some(sum.context("a sum has more than 38 digits")?))
}

fn split_name(split: &Split) -> &'static str {
    match split {
        Split::Even => "even",
        Split::Tokens => "tokens",
        Split::Cost => "cost",
        Split::Fixed(_) => "fixed",
        Split::Tag(_) => "tag",
    }
}

/// A weight with 12 digits after the point; `None` where there is none, or it does not fit.
fn in_units(weight: &BigInt, split: &Split) -> Option<i128> {
    let times = match split {
        Split::Even | Split::Tokens => Pico::ONE.0,
        Split::Cost => 1,
        Split::Fixed(_) => Pico::ONE.0 / 1_000_000,
        Split::Tag(_) => return None,
    };
    i128::try_from(weight * times).ok().filter(|weight| *weight <= Pico::MAX.0)
}

fn warning(notes: &[Note]) -> Option<String> {
    let told = notes.iter().take(NOTES_TOLD).map(|Note { rule, begin, reason }| match reason {
        Reason::PartOfMonth => {
            format!(
                "{rule} shares whole months, and the period has a part of that of {begin}: its cost is not shared here"
            )
        }
        Reason::NoReceiver => format!("{rule} found nobody to bear its cost of {begin}"),
        Reason::NoInvoice => format!("{rule} has no invoice of the month of {begin} yet"),
    });
    let mut told: Vec<String> = told.collect();
    if notes.len() > NOTES_TOLD {
        told.push(format!("and {} more of the kind", notes.len() - NOTES_TOLD));
    }
    (!told.is_empty()).then(|| told.join("; "))
}
