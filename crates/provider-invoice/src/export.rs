//! What providers export: costs and usage by day, in the forms of their APIs and in CSV.
//!
//! - OpenAI: `GET /v1/organization/costs` (grouped by `line_item`) and `GET /v1/organization/usage/completions` (grouped by `model`), as JSON
//!   or as the CSV of the usage page (<https://platform.openai.com/docs/api-reference/usage>).
//! - Anthropic: `GET /v1/organizations/cost_report` (grouped by `description`) and `…/usage_report/messages` (grouped by `model`)
//!   (<https://platform.claude.com/docs/en/api/admin/cost_report>). Its amounts are in cents.
//! - Any CSV with a header: a day, and a cost or tokens.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate};
use serde::Deserialize;
use serde_json::value::RawValue;
use usage_types::{Currency, Pico};

use crate::decimal::pico;
use crate::{InvoiceError, Line};

/// The seconds of a day.
const DAY_S: i64 = 86_400;
/// The names that a column may have, in CSV; the first one that is there counts.
const DAY: [&str; 6] = ["day", "date", "usage_date_utc", "usage_date", "start_time_iso", "starting_at"];
const MODEL: [&str; 2] = ["model", "model_version"];
const ITEM: [&str; 4] = ["item", "line_item", "token_type", "description"];
const COST: [&str; 4] = ["cost", "amount_value", "cost_usd", "amount"];
const CURRENCY: [&str; 2] = ["currency", "amount_currency"];
const TOTAL_TOKENS: [&str; 2] = ["total_tokens", "tokens"];
/// Columns of tokens that add up; parts of others, like `input_cached_tokens`, are not among them.
const TOKENS: [&str; 7] = [
    "input_tokens",
    "output_tokens",
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_read",
    "usage_output_tokens",
];

/// What an export says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// Its lines.
    pub lines: Vec<Line>,
    /// The currency of its costs, where it names one.
    pub currency: Option<Currency>,
}

/// Reads an export, whichever it is.
///
/// # Errors
/// It is none that is known, a value in it cannot be read exactly, or a page of it is missing.
pub fn read_export(text: &str) -> Result<Export, InvoiceError> {
    let text = text.trim_start_matches('\u{feff}');
    match text.trim_start().as_bytes().first() {
        Some(b'{') => json(&[serde_json::from_str(text).map_err(no_json)?]),
        Some(b'[') => json(&serde_json::from_str::<Vec<Page<'_>>>(text).map_err(no_json)?),
        Some(_) => table(text),
        None => Err(InvoiceError::new("", "the export is empty")),
    }
}

fn no_json(error: serde_json::Error) -> InvoiceError {
    InvoiceError::new("", format!("it is no page of an export: {error}"))
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Bucket<'a>>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Bucket<'a> {
    start_time: Option<i64>,
    end_time: Option<i64>,
    starting_at: Option<String>,
    ending_at: Option<String>,
    #[serde(borrow, alias = "result")]
    results: Vec<Entry<'a>>,
}

/// An entry of any of the four.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    currency: Option<String>,
    line_item: Option<String>,
    model: Option<String>,
    token_type: Option<String>,
    description: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    uncached_input_tokens: Option<i64>,
    cache_read_input_tokens: Option<i64>,
    cache_creation: Option<BTreeMap<String, i64>>,
}

/// An amount of OpenAI's.
#[derive(Deserialize)]
struct Amount<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    currency: String,
}

fn json(pages: &[Page<'_>]) -> Result<Export, InvoiceError> {
    let mut export = Export::default();
    if pages.last().is_some_and(|page| page.has_more) {
        let message =
            "there are more pages; fetch them with `next_page` and give all of them, as files or as one JSON array";
        return Err(InvoiceError::new("has_more", message));
    }
    for (at, bucket) in pages.iter().flat_map(|page| &page.data).enumerate() {
        let path = format!("data[{at}]");
        let day = bucket.day(&path)?;
        for (at, entry) in bucket.results.iter().enumerate() {
            entry.read(day, &format!("{path}.results[{at}]"), &mut export)?;
        }
    }
    Ok(export)
}

impl Bucket<'_> {
    fn day(&self, path: &str) -> Result<NaiveDate, InvoiceError> {
        let seconds = |text: &Option<String>| Some(DateTime::parse_from_rfc3339(text.as_deref()?).ok()?.timestamp());
        let (start, end) = match (self.start_time, self.end_time) {
            (Some(start), Some(end)) => (Some(start), Some(end)),
            _ => (seconds(&self.starting_at), seconds(&self.ending_at)),
        };
        let day = start.zip(end).filter(|(start, end)| start % DAY_S == 0 && end - start == DAY_S);
        let day = day.and_then(|(start, _)| Some(DateTime::from_timestamp(start, 0)?.date_naive()));
        day.ok_or_else(|| InvoiceError::new(path, "it is no day in UTC; export with a bucket width of 1d"))
    }
}

impl Entry<'_> {
    fn read(&self, day: NaiveDate, path: &str, export: &mut Export) -> Result<(), InvoiceError> {
        let day = Some(day);
        let line = match (self.amount, self.tokens()) {
            (Some(amount), _) if amount.get().starts_with('{') => {
                let wrong = |_| InvoiceError::new(format!("{path}.amount"), "it has no `value` and `currency`");
                let Amount { value, currency } = serde_json::from_str(amount.get()).map_err(wrong)?;
                export.pay_in(&currency, &format!("{path}.amount.currency"))?;
                let cost = cost(value.get(), 0, &format!("{path}.amount.value"))?;
                let (model, item) = self.line_item.as_deref().map_or((None, None), model_and_item);
                Line { day, model, item, cost: Some(cost), tokens: None }
            }
            (Some(amount), _) => {
                // In the currency's smallest unit, which is a hundredth of all that Anthropic bills in.
                let cost = cost(amount.get(), -2, &format!("{path}.amount"))?;
                export.pay_in(self.currency.as_deref().unwrap_or_default(), &format!("{path}.currency"))?;
                let item = self.token_type.clone().or_else(|| self.description.clone());
                Line { day, model: self.model.clone(), item, cost: Some(cost), tokens: None }
            }
            (None, Some(tokens)) => {
                Line { day, model: self.model.clone(), item: None, cost: None, tokens: Some(tokens) }
            }
            (None, None) => {
                let message = "it has neither an amount nor tokens; export costs, or usage of completions or messages";
                return Err(InvoiceError::new(path, message));
            }
        };
        export.lines.push(line);
        Ok(())
    }

    /// Tokens of all classes: OpenAI's `input_tokens` include those from a cache, Anthropic's classes are disjoint.
    fn tokens(&self) -> Option<i64> {
        let input = match (self.uncached_input_tokens, self.input_tokens) {
            (Some(uncached), _) => {
                let written: i64 = self.cache_creation.iter().flat_map(BTreeMap::values).sum();
                uncached.checked_add(self.cache_read_input_tokens.unwrap_or(0))?.checked_add(written)?
            }
            (None, input) => input?,
        };
        input.checked_add(self.output_tokens.unwrap_or(0))
    }
}

impl Export {
    /// All costs of an export are in one currency.
    fn pay_in(&mut self, text: &str, field: &str) -> Result<(), InvoiceError> {
        let wrong = |message: String| InvoiceError::new(field, message);
        let currency: Currency = text.trim().to_ascii_uppercase().parse().map_err(|why| wrong(format!("{why}")))?;
        match self.currency {
            Some(first) if first != currency => {
                Err(wrong(format!("`{currency}` follows `{first}`; import each currency as an invoice of its own")))
            }
            _ => {
                self.currency = Some(currency);
                Ok(())
            }
        }
    }
}

/// A number, which may be a text.
fn cost(raw: &str, times_ten_to: i32, field: &str) -> Result<Pico, InvoiceError> {
    let text = raw.trim().trim_matches('"');
    pico(text, times_ten_to).ok_or_else(|| InvoiceError::new(field, format!("`{text}` is no amount of money")))
}

/// OpenAI's items are like `gpt-4o-2024-08-06, input`; those of tools have no comma.
fn model_and_item(text: &str) -> (Option<String>, Option<String>) {
    match text.rsplit_once(", ") {
        Some((model, item)) => (Some(model.to_owned()), Some(item.to_owned())),
        None => (None, Some(text.to_owned())),
    }
}

fn table(text: &str) -> Result<Export, InvoiceError> {
    let header = text.lines().next().unwrap_or_default();
    let delimiter = [b',', b'\t', b';'].into_iter().max_by_key(|byte| header.bytes().filter(|b| b == byte).count());
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter.unwrap_or(b','))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let broken = |error: csv::Error| InvoiceError::new("", format!("it is no CSV: {error}"));
    let names: Vec<String> = reader.headers().map_err(broken)?.iter().map(str::to_ascii_lowercase).collect();
    let columns = Columns::of(&names)?;
    let mut export = Export::default();
    for (at, record) in reader.records().enumerate() {
        let record = record.map_err(broken)?;
        // The header is line 1.
        columns.read(&record, at + 2, &mut export)?;
    }
    Ok(export)
}

/// Where the columns are.
struct Columns {
    day: Option<usize>,
    model: Option<usize>,
    item: Option<usize>,
    cost: Option<usize>,
    currency: Option<usize>,
    tokens: Vec<usize>,
}

impl Columns {
    fn of(names: &[String]) -> Result<Self, InvoiceError> {
        let at = |wanted: &[&str]| wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted));
        let tokens = match at(&TOTAL_TOKENS) {
            Some(total) => vec![total],
            None => TOKENS.iter().filter_map(|name| at(&[name])).collect(),
        };
        let columns = Self {
            day: at(&DAY),
            model: at(&MODEL),
            item: at(&ITEM),
            cost: at(&COST),
            currency: at(&CURRENCY),
            tokens,
        };
        if columns.cost.is_none() && columns.tokens.is_empty() {
            let message = format!(
                "there is no column of a cost ({}) and none of tokens ({}, {}) in the header",
                COST.join(", "),
                TOTAL_TOKENS.join(", "),
                TOKENS.join(", ")
            );
            return Err(InvoiceError::new("", message));
        }
        Ok(columns)
    }

    fn read(&self, record: &csv::StringRecord, line: usize, export: &mut Export) -> Result<(), InvoiceError> {
        let cell = |at: Option<usize>| at.and_then(|at| record.get(at)).filter(|cell| !cell.is_empty());
        let field = |name: &str| format!("line {line}, {name}");
        let day = cell(self.day).map(|text| {
            // A day, or a time that begins with one.
            let day = text.get(..10).and_then(|day| day.parse::<NaiveDate>().ok());
            day.ok_or_else(|| InvoiceError::new(field("day"), format!("`{text}` is no day like 2026-10-31")))
        });
        let cost = cell(self.cost).map(|text| cost(text, 0, &field("cost"))).transpose()?;
        let mut tokens: Option<i64> = None;
        for text in self.tokens.iter().filter_map(|at| cell(Some(*at))) {
            let wrong = || InvoiceError::new(field("tokens"), format!("`{text}` is no count of tokens"));
            let count: i64 = text.parse().map_err(|_| wrong())?;
            tokens = Some(tokens.unwrap_or(0).checked_add(count).ok_or_else(wrong)?);
        }
        // A day without anything, as OpenAI writes it.
        if cost.is_none() && tokens.is_none() {
            return Ok(());
        }
        if let (Some(currency), Some(_)) = (cell(self.currency), cost) {
            export.pay_in(currency, &field("currency"))?;
        }
        let item = cell(self.item).map(model_and_item).unwrap_or_default();
        let (of_item, item) = if self.model.is_none() { item } else { (None, cell(self.item).map(str::to_owned)) };
        let model = cell(self.model).map(str::to_owned).or(of_item);
        export.lines.push(Line { day: day.transpose()?, model, item, tokens, cost });
        Ok(())
    }
}
