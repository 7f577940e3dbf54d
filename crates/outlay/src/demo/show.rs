//! What the demo prints: the welcome, the chargeback with its proof, and the lines to copy.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use price_book::{PriceBook, Priced, Pricer};
use serde::Deserialize;
use usage_types::{Pico, TimeUs};

use super::trace;
use crate::client::Server;
use crate::worker::Running;

/// The part of `GET /v1/status` that the demo draws.
#[derive(Deserialize)]
pub struct Status {
    /// Events per second.
    pub events_per_second: u64,
    /// Balances of budgets.
    pub balances: Vec<Balance>,
}

/// One balance of a budget.
#[derive(Deserialize)]
#[serde(from = "WireBalance")]
pub struct Balance {
    /// The budget.
    pub budget: String,
    /// The scope as text.
    pub scope: String,
    /// How much is used, and of how much, as text.
    pub used: String,
    /// Likewise.
    pub limit: String,
    /// Of what.
    pub unit: String,
    /// The share.
    pub used_ppm: u64,
    /// Whether it blocks.
    pub blocked: bool,
}

#[derive(Deserialize)]
struct WireBalance {
    budget: Option<String>,
    scope: BTreeMap<String, String>,
    used: String,
    limit: Option<String>,
    measure: String,
    currency: Option<String>,
    used_ppm: Option<u64>,
    state: Option<String>,
}

impl From<WireBalance> for Balance {
    fn from(wire: WireBalance) -> Self {
        let scope: Vec<String> = wire.scope.iter().map(|(dimension, value)| format!("{dimension}={value}")).collect();
        Self {
            budget: wire.budget.unwrap_or_default(),
            scope: scope.join(", "),
            used: wire.used,
            limit: wire.limit.unwrap_or_default(),
            unit: wire.currency.unwrap_or(wire.measure),
            used_ppm: wire.used_ppm.unwrap_or(0),
            blocked: wire.state.as_deref() == Some("blocked"),
        }
    }
}

/// Asks the server how it stands.
pub fn status(server: &Server) -> Result<Status> {
    serde_json::from_slice(&server.get("/v1/status", &[])?).context("the answer of /v1/status")
}

/// The first lines.
#[expect(clippy::print_stdout, reason = "what the demo is for")]
pub fn welcome(running: &Running) {
    println!(
        "Outlay demo: 8,819 real LLM requests of one hour (Azure LLM inference trace 2023), replayed into a fresh server."
    );
    println!("  page   http://{}/#key={}", running.addresses.http, running.admin_key);
    println!("  log    {}  (any Kafka client)", running.addresses.log);
    println!("  data   {}\n", running.shared.settings.data.display());
}

/// Prints the chargeback and compares its total with the trace's own; `false` where they differ.
#[expect(clippy::print_stdout, reason = "what the demo is for")]
pub fn chargeback(server: &Server, end: TimeUs) -> Result<bool> {
    let period = end.to_utc().format("%Y-%m").to_string();
    let ask = |format| {
        let params = [("period", period.as_str()), ("group_by", "namespace,team,repository"), ("format", format)];
        server.get("/v1/reports/chargeback", &params)
    };
    println!("\nChargeback for {period} by namespace, team and repository:");
    println!("{}", crate::commands::table(&ask("arrow")?)?);
    let rows: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&ask("json")?)?;
    let mut reported = Pico::default();
    for row in &rows {
        if let Some(cost) = row.get("cost").and_then(serde_json::Value::as_str) {
            reported = reported.checked_add(cost.parse()?).context("the sum is too large")?;
        }
    }
    let (expected, unpriced) = total()?;
    let adds_up = reported == expected;
    println!("  sum of the report       {reported} USD");
    println!("  total of the trace      {expected} USD  (each of its requests priced by itself)");
    println!(
        "  difference              {} pico-USD{}",
        (reported.0 - expected.0),
        if adds_up { "" } else { "  <-- does not add up" }
    );
    println!(
        "  without a known price   {unpriced} requests of model `{}`, counted in tokens, never as free",
        trace::UNPRICED_MODEL
    );
    Ok(adds_up)
}

/// What the trace costs by the shipped price book, and how many of its requests have no price.
fn total() -> Result<(Pico, u64)> {
    let mut pricer = Pricer::new(PriceBook::shipped());
    let end = TimeUs::from(chrono::Utc::now());
    let (mut total, mut unpriced) = (Pico::default(), 0);
    for row in trace::rows() {
        let event = trace::event_for(&row, end);
        match pricer.price(&event, event.time) {
            Priced::Cost(cost) => total = total.checked_add(cost.amount).context("the sum is too large")?,
            Priced::Unpriced(_) => unpriced += 1,
        }
    }
    Ok((total, unpriced))
}

/// What to try from another terminal.
#[expect(clippy::print_stdout, reason = "what the demo is for")]
pub fn what_next(running: &Running) {
    let (http, log) = (running.addresses.http, &running.addresses.log);
    println!("\nStill serving. From another terminal:");
    println!("  export OUTLAY_ADMIN_KEY=$(cat {}/admin-key)", running.shared.settings.data.display());
    println!(
        "  curl -i -H \"Authorization: Bearer $OUTLAY_ADMIN_KEY\" -H 'X-Outlay-Namespace: support' http://{http}/v1/check"
    );
    println!("  curl -N -H \"Authorization: Bearer $OUTLAY_ADMIN_KEY\" http://{http}/v1/decisions/stream");
    println!("  kcat -b {log} -C -t usage.decisions -e");
    println!("Ctrl-C stops it.");
}
