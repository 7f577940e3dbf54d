//! Invoices of providers, as they were imported.
//!
//! Holds here: an invoice is known by its provider and number; a later import of it takes the place of the earlier one. Whoever imports is told
//! when it is in the audit log and on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimeUnit};
use chrono::NaiveDate;
use http_api::{Act, ApiProblem, InvoiceView, Stated};
use provider_invoice::{Invoice, Line};
use serde::{Deserialize, Serialize};
use usage_lake::AuditRow;
use usage_types::Pico;

use super::Shared;
use super::audit::{INVOICES, entry};
use super::data_dir::DataDir;
use super::manage::{ADMIN, Version, record_and_store, version};

/// The file in the data folder that holds them.
const STORE: &str = "invoices.json";
/// Lines of all invoices together: some hundred megabytes at most, and years of the largest users.
const LINES_MAX: usize = 1_000_000;

/// All invoices, as they were last stored.
pub struct Invoices {
    store: PathBuf,
    book: ArcSwap<Vec<Stored>>,
    /// Held by whoever changes them.
    changing: tokio::sync::Mutex<()>,
}

/// What is kept of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    invoice: Invoice,
    imported: Act,
}

impl Invoices {
    /// Reads them from the data folder.
    pub fn open(data: &DataDir) -> Result<Self> {
        let store = data.join(STORE);
        let book = stored(&store)?;
        Ok(Self { store, book: ArcSwap::from_pointee(book), changing: tokio::sync::Mutex::default() })
    }

    /// Which version is stored.
    pub fn version(&self) -> Version {
        version_of(&self.book.load())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Invoice> {
        self.book.load().iter().map(|stored| stored.invoice.clone()).collect()
    }
}

fn version_of(book: &[Stored]) -> Version {
    version(serde_json::to_string(book).unwrap_or_default())
}

fn stored(path: &Path) -> Result<Vec<Stored>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // Without them costs would be allocated that no invoice has.
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} was changed by something else; put it right, or take it away and import the invoices again",
            path.display()
        )
    })
}

/// All of them without their lines, the newest month first.
pub fn list(shared: &Shared) -> Vec<InvoiceView> {
    let book = shared.management.invoices.book.load_full();
    let mut views: Vec<InvoiceView> = book.iter().map(|stored| view(stored, false)).collect();
    views.sort_by(|one, other| {
        (&other.month, &one.provider, &one.number).cmp(&(&one.month, &other.provider, &other.number))
    });
    views
}

/// One of them with its lines.
pub fn one(shared: &Shared, provider: &str, number: &str) -> Option<InvoiceView> {
    shared
        .management
        .invoices
        .book
        .load()
        .iter()
        .find(|stored| is(stored, provider, number))
        .map(|stored| view(stored, true))
}

/// Keeps one. To be run to its end: whoever imports it may go away.
pub async fn put(shared: Arc<Shared>, invoice: Invoice, stated: Stated) -> Result<(InvoiceView, bool), ApiProblem> {
    let _one_at_a_time = shared.management.invoices.changing.lock().await;
    let old = shared.management.invoices.book.load_full();
    let before = old.iter().position(|stored| is(stored, &invoice.provider, &invoice.number));
    let Stated { actor, reason } = stated;
    let imported = Act { at: chrono::Utc::now().into(), key: Some(ADMIN.to_owned()), actor, reason };
    let after = Stored { invoice, imported };
    let mut new = (*old).clone();
    match before {
        Some(at) => new[at] = after.clone(),
        None => new.push(after.clone()),
    }
    let lines: usize = new.iter().map(|stored| stored.invoice.lines.len()).sum();
    if lines > LINES_MAX {
        let detail = format!(
            "all invoices together would have {lines} lines, which is more than {LINES_MAX}; sum some up by day and model"
        );
        return Err(ApiProblem::new(409, "too_many_lines", detail));
    }
    let action = if before.is_some() { "change" } else { "add" };
    let row = row(action, before.map(|at| &old[at]), Some(&after), &after.imported);
    keep(&shared, &old, new, row).await?;
    Ok((view(&after, false), before.is_none()))
}

/// Forgets one; whether there was one. To be run to its end, likewise.
pub async fn delete(shared: Arc<Shared>, provider: String, number: String, stated: Stated) -> Result<bool, ApiProblem> {
    let _one_at_a_time = shared.management.invoices.changing.lock().await;
    let old = shared.management.invoices.book.load_full();
    let Some(at) = old.iter().position(|stored| is(stored, &provider, &number)) else { return Ok(false) };
    let Stated { actor, reason } = stated;
    let by = Act { at: chrono::Utc::now().into(), key: Some(ADMIN.to_owned()), actor, reason };
    let mut new = (*old).clone();
    let gone = new.remove(at);
    keep(&shared, &old, new, row("remove", Some(&gone), None, &by)).await?;
    Ok(true)
}

/// Into the audit log, on disk, then known.
async fn keep(shared: &Shared, old: &[Stored], new: Vec<Stored>, row: AuditRow) -> Result<(), ApiProblem> {
    let version = version_of(&new);
    let undone = AuditRow { change: row.change.clone(), ..entry("invoice", "undone", "api") };
    let mark = (INVOICES, version_of(old).number, version.number);
    record_and_store(shared, &[row], mark, (shared.management.invoices.store.as_path(), version.json), undone).await?;
    shared.management.invoices.book.store(Arc::new(new));
    Ok(())
}

fn is(stored: &Stored, provider: &str, number: &str) -> bool {
    stored.invoice.provider == provider && stored.invoice.number == number
}

fn view(stored: &Stored, with_lines: bool) -> InvoiceView {
    let Stored { invoice, imported } = stored;
    let line = |line: &Line| serde_json::to_value(line).unwrap_or_default();
    InvoiceView {
        provider: invoice.provider.clone(),
        number: invoice.number.clone(),
        month: invoice.month.to_string(),
        currency: invoice.currency.to_string(),
        total: invoice.total().amount.to_string(),
        line_count: invoice.lines.len(),
        lines: if with_lines { invoice.lines.iter().map(line).collect() } else { Vec::new() },
        imported: imported.clone(),
    }
}

/// What the audit log has of a change: the invoice without its lines.
fn row(action: &str, before: Option<&Stored>, after: Option<&Stored>, by: &Act) -> AuditRow {
    let json = |stored: &Stored| serde_json::to_string(&view(stored, false)).ok();
    let named = after.or(before).map(|stored| format!("{}/{}", stored.invoice.provider, stored.invoice.number));
    AuditRow {
        key: by.key.clone(),
        actor: by.actor.clone(),
        reason: by.reason.clone(),
        before: before.and_then(json),
        after: after.and_then(json),
        change: named,
        ..entry("invoice", action, "api")
    }
}

/// The columns of the SQL view `invoices`.
pub fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("provider", DataType::Utf8, false),
        Field::new("invoice", DataType::Utf8, false),
        Field::new("month", DataType::Date32, false),
        Field::new("day", DataType::Date32, true),
        Field::new("model", DataType::Utf8, true),
        Field::new("item", DataType::Utf8, true),
        Field::new("total_tokens", DataType::Int64, true),
        Field::new("cost", DataType::Decimal128(38, 12), true),
        Field::new("currency", DataType::Utf8, false),
        Field::new("imported_at", utc, false),
    ]))
}

/// Its rows, one for each line.
pub fn rows(shared: &Shared, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let book = shared.management.invoices.book.load_full();
    let rows: Vec<(&Stored, &Line)> =
        book.iter().flat_map(|stored| stored.invoice.lines.iter().map(move |line| (stored, line))).collect();
    let text = |get: fn(&(&Stored, &Line)) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(get).collect::<StringArray>())
    };
    let date = |get: fn(&(&Stored, &Line)) -> Option<NaiveDate>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| get(row).map(Date32Type::from_naive_date)).collect::<Date32Array>())
    };
    let costs: Decimal128Array = rows.iter().map(|(_, line)| line.cost.map(|Pico(cost)| cost)).collect();
    let imported = rows.iter().map(|(stored, _)| stored.imported.at.0);
    let columns: Vec<ArrayRef> = vec![
        text(|(stored, _)| Some(stored.invoice.provider.clone())),
        text(|(stored, _)| Some(stored.invoice.number.clone())),
        date(|(stored, _)| Some(stored.invoice.month.first_day())),
        date(|(_, line)| line.day),
        text(|(_, line)| line.model.clone()),
        text(|(_, line)| line.item.clone()),
        Arc::new(rows.iter().map(|(_, line)| line.tokens).collect::<Int64Array>()),
        Arc::new(costs.with_precision_and_scale(38, 12)?),
        text(|(stored, _)| Some(stored.invoice.currency.to_string())),
        Arc::new(TimestampMicrosecondArray::from_iter_values(imported).with_timezone("UTC")),
    ];
    Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
}
