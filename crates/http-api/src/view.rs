//! The JSON that the routes answer with. Amounts are decimal texts in units of their measure (tokens, requests, seconds,
//! units of the currency), so that no reader rounds them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use usage_types::{Alert, Currency, DecisionState, Dimension, Progress, Rejection, Scope, TimeUs, Window, WindowKind};

use crate::schema;

/// Which balances to show. A field that is `None` does not filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceQuery {
    /// The values that the balance's scope must have; it may name further dimensions.
    pub scope: Scope,
    /// The kind of window.
    pub every: Option<WindowKind>,
    /// The budget's id.
    pub budget: Option<String>,
    /// What is measured, by [`usage_types::Measure::name`].
    pub measure: Option<String>,
    /// At most so many rows: the fullest first, then by scope.
    pub limit: usize,
}

/// One live balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BalanceRow {
    /// The budget that it belongs to; absent for a tracked scope without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Whose balance.
    #[schemars(with = "schema::Scope")]
    pub scope: Scope,
    /// The kind of window: `hour`, `day`, `week`, `month`, …, `rolling` or `lifetime`.
    pub every: String,
    /// The window in words, like `month from day 15`, where `every` does not say all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_name: Option<String>,
    /// The window itself; of one that moves, as of now.
    #[schemars(with = "schema::Window")]
    pub window: Window,
    /// What is measured, like `tokens` or `cost`.
    pub measure: String,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Currency>")]
    pub currency: Option<Currency>,
    /// The balance, in units of the measure.
    pub used: String,
    /// The limit, in units of the measure; absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The balance as a share of the limit, in parts per million, rounded down; absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_ppm: Option<u64>,
    /// Whether the scope may spend; absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::DecisionState>")]
    pub state: Option<DecisionState>,
    /// What reaching the limit does: `hard` blocks, `soft` and `shadow` do not; absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Of a job: how many of its records it has processed, by its latest event of the last day that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Progress>")]
    pub progress: Option<Progress>,
}

/// One report that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportInfo {
    /// Its name in the URL.
    pub name: String,
    /// The question that it answers.
    pub description: String,
    /// What can be set.
    pub parameters: Vec<ReportParameter>,
}

/// One parameter of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportParameter {
    /// Its name in the URL.
    pub name: String,
    /// What it means and how it is written.
    pub description: String,
    /// Whether it must be given.
    pub required: bool,
    /// What may be given: `period`, `zone`, `dimensions` (separated by commas), `tag`, `count`, `choice`, `budget` (its id) or `text`.
    pub kind: String,
    /// What holds where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The values that a `choice` may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// The state of the whole program, as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StatusView {
    /// The program's version.
    pub version: String,
    /// When the process started.
    #[schemars(with = "schema::Time")]
    pub started_at: TimeUs,
    /// The machine's time as this was written; countdowns count from it.
    #[schemars(with = "schema::Time")]
    pub now: TimeUs,
    /// Events taken into account per second, over the last few seconds.
    pub events_per_second: u64,
    /// What became of the events so far.
    pub totals: Totals,
    /// How far behind the program is.
    pub lag: LagView,
    /// The log that it reads.
    pub log: LogView,
    /// The table that it writes.
    pub lake: LakeView,
    /// How many balances live in memory, over all kinds of window.
    pub balances_total: u64,
    /// Balances with a budget, the fullest first; cut off by the engine.
    pub balances: Vec<BalanceRow>,
    /// Mails, newest first; cut off by the engine.
    pub mails: Vec<MailRow>,
    /// Alerts, newest first; cut off by the engine.
    #[schemars(with = "Vec<schema::Alert>")]
    pub alerts: Vec<Alert>,
    /// Rejected events, newest first; cut off by the engine.
    pub rejections: Vec<RejectionRow>,
    /// Models without a price, most events first; cut off by the engine.
    pub unpriced: Vec<UnpricedRow>,
    /// The parts of the program and whether each works.
    pub health: Vec<HealthRow>,
}

/// What became of the events, counted since the lake began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// Counted once.
    pub accepted: u64,
    /// Seen before, and not counted again.
    pub duplicate: u64,
    /// Wrong, and published to the dead letters.
    pub rejected: u64,
    /// Older than the deduplication horizon, and kept apart.
    pub too_late: u64,
    /// Passed on to their canonical partition.
    pub forwarded: u64,
    /// Of the accepted, those whose model has no price: their cost is unknown.
    pub unpriced: u64,
}

/// How far behind the program is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LagView {
    /// Events in the log that were not taken into account yet.
    pub consumer_events: u64,
    /// How old the newest event is that decisions take into account, in microseconds; 0 where all are.
    pub enforcement_us: u64,
}

/// Which kind of log is behind the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// The log inside this process.
    Embedded,
    /// A Kafka cluster.
    Kafka,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogView {
    /// Embedded or a cluster.
    pub kind: LogKind,
    /// Its bootstrap address.
    pub address: String,
    /// The partitions of `usage.events`.
    pub partitions: u32,
}

/// The lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LakeView {
    /// The version of the table; absent before its first commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Where it is.
    pub location: String,
    /// Rows committed.
    pub rows: u64,
    /// Rows in memory that are not committed yet.
    pub tail_rows: u64,
    /// When it was last committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Time>")]
    pub committed_at: Option<TimeUs>,
}

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailState {
    /// Waits for the mail server.
    Queued,
    /// The mail server took it.
    Sent,
    /// Written to a file, since no mail server is configured.
    Written,
    /// The mail server refused it for good.
    Failed,
}

/// One mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MailRow {
    /// Its id in `/v1/mails/{id}`.
    pub id: String,
    /// Its subject.
    pub subject: String,
    /// Whom it goes to.
    pub to: Vec<String>,
    /// What became of it.
    pub state: MailState,
    /// When it reached that state.
    #[schemars(with = "schema::Time")]
    pub at: TimeUs,
    /// What the mail server said last, where it did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One rejected event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RejectionRow {
    /// When it was rejected.
    #[schemars(with = "schema::Time")]
    pub at: TimeUs,
    /// The partition of `usage.events` that it came from.
    pub partition: i32,
    /// Its offset in it.
    pub offset: i64,
    /// Why.
    #[serde(flatten)]
    #[schemars(with = "schema::Rejection")]
    pub rejection: Rejection,
}

/// A model without a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnpricedRow {
    /// Who served it; empty where the events do not say.
    pub provider: String,
    /// Its name in the events.
    pub model: String,
    /// Events of it that were counted without a cost.
    pub events: u64,
    /// Their tokens.
    pub tokens: u64,
}

/// One part of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HealthRow {
    /// Which, like `log`, `lake` or `mail`.
    pub component: String,
    /// Whether it works.
    pub ok: bool,
    /// What is known about it, for people.
    pub detail: String,
}

impl BalanceQuery {
    /// Whether a scope has all the values that this query asks for.
    #[must_use]
    pub fn matches_scope(&self, scope: &Scope) -> bool {
        self.scope.iter().all(|(dimension, value): (Dimension, &str)| scope.get(dimension) == Some(value))
    }
}
