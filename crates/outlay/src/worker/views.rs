//! The SQL views that live in memory: `balances`, `decisions`, `alerts`, `budgets`, `prices`. Built for a query that names them.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use budget_core::{BalanceFilter, BalanceView, Kind};
use serde::Serialize;
use serde_json::{Map, Value, json};
use usage_lake::{AUDIT, QueryInput, Tail, audit_schema, rejected_batch};
use usage_types::{
    Budget, BudgetId, Decision, Dimension, Limit, Mode, Predict, Priority, Scope, TimeUs, TokenClass, Whom,
};

use super::counted::Snapshot;
use super::invoices;
use super::shared::Shared;

/// Balances taken while the lock is held once.
const PAGE_ROWS: usize = 500;
/// The most balances in the view; the query says so where there are more.
const BALANCES_MAX: usize = 1_000_000;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}

fn money(name: &str) -> Field {
    Field::new(name, DataType::Decimal128(38, 12), true)
}

fn scope_fields() -> impl Iterator<Item = Field> {
    Dimension::ALL.into_iter().map(|dimension| text(dimension.name()))
}

fn put_scope(row: &mut Map<String, Value>, scope: &Scope) {
    row.extend(scope.iter().map(|(dimension, value)| (dimension.name().to_owned(), json!(value))));
}

/// Rows of JSON as columns of a schema; fields that are not in it are left out.
fn batch(schema: &SchemaRef, rows: &[impl Serialize]) -> Result<Vec<RecordBatch>> {
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(8192).build_decoder()?;
    let mut batches = Vec::new();
    for chunk in rows.chunks(8192) {
        decoder.serialize(chunk)?;
        batches.extend(decoder.flush()?);
    }
    Ok(batches)
}

/// A view in memory: its name, its columns, its rows.
type View = (&'static str, fn() -> SchemaRef, fn(&Shared, &SchemaRef) -> Result<Vec<RecordBatch>>);

const VIEWS: [View; 6] = [
    ("balances", balances_schema, balances),
    ("decisions", decisions_schema, decisions),
    ("alerts", alerts_schema, alerts),
    ("budgets", budgets_schema, budgets),
    ("invoices", invoices::schema, invoices::rows),
    ("prices", prices_schema, prices),
];

/// What a query may read: the lake with its tail, and the views in memory, of which those have rows that its text names.
pub fn query_input(shared: &Shared, sql: &str) -> Result<QueryInput> {
    let sql = sql.to_ascii_lowercase();
    let snapshot: Snapshot = shared.counted.lock().tail.snapshot()?;
    let rejected = if snapshot.rejected.is_empty() { Vec::new() } else { vec![rejected_batch(&snapshot.rejected)?] };
    let tail = Tail { usage: snapshot.rows, too_late: snapshot.too_late, rejected };
    let mut input = QueryInput::of_lake(&snapshot.files, tail)?;
    for (name, schema, rows) in VIEWS {
        let schema = schema();
        // A table that no query names costs nothing; one that is named by a text or comment costs a little.
        let rows = if sql.contains(name) { rows(shared, &schema)? } else { Vec::new() };
        input = input.with_table(name, schema, rows);
    }
    if sql.contains(AUDIT) {
        input.tables.push(shared.audit.view()?);
        Ok(input)
    } else {
        Ok(input.with_table(AUDIT, audit_schema(), Vec::new()))
    }
}

fn balances_schema() -> SchemaRef {
    let mut fields = vec![text("budget"), text("every"), text("window_name")];
    fields.extend([time("window_start"), time("window_end"), text("zone")]);
    fields.extend(scope_fields());
    fields.extend(TokenClass::ALL.into_iter().map(|class| long(class.column())));
    fields.extend([long("total_tokens"), long("requests"), long("tool_calls"), long("images")]);
    fields.extend([Field::new("compute_seconds", DataType::Decimal128(38, 9), true), money("cost"), text("currency")]);
    fields.extend([long("unpriced_events"), text("measure"), text("limit"), text("used"), text("mode")]);
    Arc::new(Schema::new(fields))
}

fn balances(shared: &Shared, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = shared.counted.lock().core.balances(&BalanceFilter::default(), after, PAGE_ROWS);
        rows.extend(page.rows.iter().flat_map(balance_rows));
        after = page.next;
        if after.is_none() || rows.len() >= BALANCES_MAX {
            break;
        }
    }
    batch(schema, &rows)
}

/// One row; for every further currency another one that holds nothing but its cost.
fn balance_rows(view: &BalanceView) -> Vec<Map<String, Value>> {
    let mut base = Map::new();
    put_scope(&mut base, &view.scope);
    base.insert("every".into(), json!(view.spec.every_name()));
    base.insert("window_start".into(), json!(view.window.start));
    base.insert("window_end".into(), json!(view.window.end));
    base.insert("zone".into(), json!(view.window.zone));
    base.insert("window_name".into(), json!(view.spec.to_string()));
    if let Kind::Budget(standing) = &view.kind {
        base.insert("budget".into(), json!(standing.id));
        // Of several limits the tightest: a row a limit would have the sums several times.
        let (limit, used) = (standing.tightest.limit, standing.tightest.used);
        base.insert("measure".into(), json!(limit.measure.name()));
        base.insert("limit".into(), json!(limit.measure.format(limit.amount)));
        base.insert("used".into(), json!(limit.measure.format(used)));
        base.insert("mode".into(), json!(standing.mode.name()));
    }
    let mut first = base.clone();
    for class in TokenClass::ALL {
        first.insert(class.column().into(), json!(view.tokens.get(class)));
    }
    first.insert("total_tokens".into(), json!(view.tokens.total()));
    first.insert("requests".into(), json!(view.requests));
    first.insert("tool_calls".into(), json!(view.tool_calls));
    first.insert("images".into(), json!(view.images));
    first.insert("compute_seconds".into(), json!(view.compute.to_string()));
    first.insert("unpriced_events".into(), json!(view.unpriced));
    let mut rows = vec![first];
    for (at, cost) in view.costs.iter().enumerate() {
        if at > 0 {
            rows.push(base.clone());
        }
        rows[at].insert("cost".into(), json!(cost.amount));
        rows[at].insert("currency".into(), json!(cost.currency));
    }
    rows
}

fn decisions_schema() -> SchemaRef {
    let mut fields = vec![
        text("budget"),
        text("state"),
        text("reason_code"),
        long("http_status"),
        text("measure"),
        text("currency"),
    ];
    fields.extend([text("limit"), text("used"), long("seq"), time("window_start"), time("window_end"), text("zone")]);
    fields.extend([time("decided_at"), time("expires_at"), text("would_block"), text("overage")]);
    fields.extend([long("processed"), long("total")]);
    fields.extend([text("throttle"), text("would_throttle"), long("throttle_requests"), long("throttle_per_s")]);
    fields.extend(scope_fields());
    Arc::new(Schema::new(fields))
}

fn decisions(shared: &Shared, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let rows: Vec<_> = shared.counted.lock().core.decisions().map(decision_row).collect();
    batch(schema, &rows)
}

/// What would block is a column with its reason, so that `would_block is not null` finds it; and so is what throttles, with its rate beside it.
fn decision_row(decision: &Decision) -> Map<String, Value> {
    let mut row = flat(decision, &decision.scope);
    row.insert("would_block".into(), json!(decision.would_block.map(|would_block| would_block.reason_code)));
    for (name, throttle) in [("throttle", &decision.throttle), ("would_throttle", &decision.would_throttle)] {
        row.insert(name.into(), json!(throttle.as_ref().map(|throttle| throttle.reason_code)));
        if let Some(throttle) = throttle {
            row.insert("throttle_requests".into(), json!(throttle.requests));
            row.insert("throttle_per_s".into(), json!(throttle.per_s));
        }
    }
    row
}

fn alerts_schema() -> SchemaRef {
    let mut fields =
        vec![text("id"), text("budget"), text("every"), text("window_name"), text("threshold"), text("measure")];
    fields.push(text("currency"));
    fields.extend([text("limit"), text("used"), text("burn_per_hour"), time("exhausted_at"), text("mode")]);
    fields.push(text("overage"));
    fields.extend([long("predicted_over_s"), long("predicted_within_s")]);
    fields.extend([time("raised_at"), time("window_start"), time("window_end"), text("zone")]);
    fields.extend([long("processed"), long("total")]);
    fields.extend(scope_fields());
    Arc::new(Schema::new(fields))
}

fn alerts(shared: &Shared, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let rows: Vec<_> = shared.alerts().iter().map(|alert| flat(alert, &alert.scope)).collect();
    batch(schema, &rows)
}

/// A decision or an alert as one flat row: its scope, its window, its job's progress and what was predicted become columns.
fn flat(value: &impl Serialize, scope: &Scope) -> Map<String, Value> {
    let Ok(Value::Object(mut row)) = serde_json::to_value(value) else { return Map::new() };
    if let Some(Value::Object(window)) = row.remove("window") {
        row.extend(window.into_iter().map(|(name, value)| match name.as_str() {
            "zone" => (name, value),
            bound => (format!("window_{bound}"), value),
        }));
    }
    if let Some(Value::Object(progress)) = row.remove("progress") {
        row.extend(progress);
    }
    if let Some(Value::Object(predicted)) = row.remove("predicted") {
        row.extend(predicted.into_iter().map(|(name, value)| (format!("predicted_{name}"), value)));
    }
    row.remove("scope");
    put_scope(&mut row, scope);
    row
}

fn budgets_schema() -> SchemaRef {
    let names = [
        "id",
        "match",
        "per",
        "every",
        "window_name",
        "zone",
        "applies_to",
        "measure",
        "currency",
        "limit",
        "overage",
        "mode",
        "thresholds",
        "mail_to",
    ];
    let mut fields: Vec<Field> = names.map(text).into();
    fields.extend([long("http_status"), text("canary"), text("rollback_over"), long("rollback_at_least")]);
    fields.extend([long("predict_warn_s"), long("predict_slow_s"), long("predict_over_s")]);
    fields.extend([text("priority"), text("pressure_low"), text("pressure_normal")]);
    fields.push(Field::new("rolled_back", DataType::Boolean, true));
    Arc::new(Schema::new(fields))
}

fn budgets(shared: &Shared, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let rolled_back: BTreeSet<BudgetId> = shared.counted.lock().core.rolled_back().cloned().collect();
    let budgets = shared.budgets.load();
    let of = |budget: &Arc<Budget>| budget_rows(budget, rolled_back.contains(&budget.id));
    let rows: Vec<Value> = budgets.budgets.values().flat_map(of).collect();
    batch(schema, &rows)
}

/// One row for each limit: the budget's own, then those of overrides and plans.
fn budget_rows(budget: &Budget, rolled_back: bool) -> Vec<Value> {
    let per: Vec<&str> = budget.per.iter().map(Dimension::name).collect();
    let canary = if let Mode::Canary(share) = budget.mode { Some(share.to_string()) } else { None };
    let at: Vec<String> = budget.alerts.at.iter().map(ToString::to_string).collect();
    let predicts = |of: fn(&Predict) -> Option<i64>| budget.predict.as_ref().and_then(of).map(|us| us / TimeUs::SECOND);
    let presses =
        |priority| budget.pressure.and_then(|pressure| pressure.step(priority)).map(|step| step.at.to_string());
    let row = |limit: Limit, applies_to: Option<String>| {
        json!({
            "id": budget.id,
            "match": budget.matches.to_string(),
            "per": per.join(","),
            "every": budget.window.every_name(),
            "window_name": budget.window.to_string(),
            "zone": budget.window.zone,
            "applies_to": applies_to,
            "measure": limit.measure.name(),
            "currency": limit.measure.currency(),
            "limit": limit.measure.format(limit.amount),
            "overage": limit.told_overage(),
            "mode": budget.mode.name(),
            "thresholds": at.join(","),
            "mail_to": budget.alerts.to.join(","),
            "http_status": budget.http_status,
            "canary": canary,
            "rollback_over": budget.rollback.map(|rollback| rollback.blocked_over.to_string()),
            "rollback_at_least": budget.rollback.map(|rollback| rollback.at_least),
            "predict_warn_s": predicts(|predict| predict.warn_us),
            "predict_slow_s": predicts(|predict| predict.slow_us),
            "predict_over_s": predicts(|predict| Some(predict.over.us())),
            "priority": budget.priority.name(),
            "pressure_low": presses(Priority::Low),
            "pressure_normal": presses(Priority::Normal),
            "rolled_back": rolled_back,
        })
    };
    let mut rows: Vec<Value> = budget.limits.iter().map(|limit| row(limit, None)).collect();
    for entry in budget.special.entries() {
        let whom = match &entry.whom {
            Whom::Plan(name) => format!("plan {name}"),
            Whom::Override => entry.values.iter().map(ToString::to_string).collect(),
            Whom::Grant => entry.values.iter().map(|scope| format!("grant {scope}")).collect(),
        };
        rows.extend(entry.limits.iter().map(|limit| row(limit, Some(whom.clone()))));
    }
    rows
}

fn prices_schema() -> SchemaRef {
    let fields = vec![
        text("provider"),
        text("model"),
        text("service_tier"),
        long("above_input_tokens"),
        text("class"),
        money("price"),
        text("currency"),
        long("units"),
        time("effective_from"),
        time("effective_to"),
        text("source"),
        text("as_of"),
        text("note"),
    ];
    Arc::new(Schema::new(fields))
}

fn prices(shared: &Shared, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let book = Arc::clone(shared.counted.lock().book());
    let rows: Vec<Value> = book
        .rows()
        .map(|row| {
            json!({
                "provider": row.provider, "model": row.model, "service_tier": row.service_tier, "above_input_tokens": row.above_input_tokens,
                "class": row.class.name(), "price": row.price, "currency": row.currency,
                "units": row.class.units(), "effective_from": row.from, "effective_to": row.to, "source": row.source, "as_of": row.as_of, "note": row.note,
            })
        })
        .collect();
    batch(schema, &rows)
}
