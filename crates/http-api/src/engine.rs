//! What the HTTP surface asks of the rest of the program.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use provider_invoice::Invoice;
use serde::Deserialize;
use tokio_stream::Stream;
use usage_types::{Decision, IncreaseAsk};

use crate::{
    ApiProblem, BalanceQuery, BalanceRow, BudgetsChange, BudgetsPlan, Changed, CheckAnswer, CheckQuestion, Enforcement,
    IncreaseAnswer, IncreaseFilter, IncreaseRequest, InvoiceView, ReportInfo, Reservation, SimulationRequest,
    SimulationView, StandingQuery, StandingView, Stated, StatusView, Tagged,
};

/// Everything behind the routes. The methods that are not `async` answer from memory and must not block.
///
/// The future of an `async` method is dropped when its client goes away or its deadline passes; whatever it started
/// (a query in a child process) must end with it.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Publishes events to the log; one result a record, in their order. Returns when each is acknowledged or refused.
    async fn publish(&self, records: Vec<IntakeRecord>) -> Vec<Result<Ack, PublishError>>;

    /// Whether a request may be made now.
    fn check(&self, question: &CheckQuestion<'_>) -> CheckAnswer;

    /// Holds the question's estimate for so long, where the request may be made; with `force` also where it may not.
    fn reserve(&self, question: &CheckQuestion<'_>, ttl: Duration, force: bool) -> Reservation;

    /// Ends a reservation; whether it was open.
    fn release(&self, id: &str) -> bool;

    /// How current the balances are that [`Self::check`] looks at.
    fn enforcement(&self) -> Enforcement;

    /// The live balances that match, at most `query.limit` of them.
    fn balances(&self, query: &BalanceQuery) -> Vec<BalanceRow>;

    /// All budgets, as a budgets file with every default written out.
    fn budgets(&self) -> Tagged;

    /// The budget of this id, likewise.
    fn budget(&self, id: &str) -> Option<Tagged>;

    /// What these budgets, as a budgets file, would change.
    async fn plan_budgets(&self, text: String) -> Result<BudgetsPlan, ApiProblem>;

    /// Changes the budgets. When this returns, the change is on disk and in force.
    async fn change_budgets(&self, change: BudgetsChange) -> Result<Changed, ApiProblem>;

    /// The requests for higher limits that match, the newest first.
    fn increases(&self, filter: &IncreaseFilter) -> Vec<IncreaseRequest>;

    /// The request of this id.
    fn increase(&self, id: &str) -> Option<IncreaseRequest>;

    /// Takes a request for higher limits. When this returns, it is on disk.
    async fn ask_increase(&self, ask: IncreaseAsk, stated: Stated) -> Result<IncreaseRequest, ApiProblem>;

    /// Answers a request, by the words of this actor. When this returns, the answer is on disk and in force.
    async fn answer_increase(
        &self,
        id: String,
        answer: IncreaseAnswer,
        actor: Option<String>,
    ) -> Result<IncreaseRequest, ApiProblem>;

    /// All invoices without their lines, the newest month first.
    fn invoices(&self) -> Vec<InvoiceView>;

    /// One invoice with its lines.
    fn invoice(&self, provider: &str, number: &str) -> Option<InvoiceView>;

    /// Keeps an invoice, in place of an earlier one of its number; whether there was none. When this returns, it is on disk.
    async fn put_invoice(&self, invoice: Invoice, stated: Stated) -> Result<(InvoiceView, bool), ApiProblem>;

    /// Forgets an invoice; whether there was one.
    async fn delete_invoice(&self, provider: &str, number: &str, stated: Stated) -> Result<bool, ApiProblem>;

    /// The decisions in force, one a key.
    fn decisions(&self) -> Vec<Decision>;

    /// Every decision from now on. What [`Self::decisions`] returns after this call holds what was sent before it.
    fn subscribe(&self) -> tokio::sync::broadcast::Receiver<Arc<Decision>>;

    /// Answers a query.
    async fn sql(&self, request: SqlRequest) -> Result<QueryOutput, ApiProblem>;

    /// Answers a report; `params` are the URL's, without `format`.
    async fn report(
        &self,
        name: &str,
        params: &BTreeMap<String, String>,
        format: OutputFormat,
    ) -> Result<QueryOutput, ApiProblem>;

    /// The reports there are.
    fn report_list(&self) -> Vec<ReportInfo>;

    /// What budgets would have done over usage of the past, beside those in force.
    async fn simulate(&self, request: SimulationRequest) -> Result<SimulationView, ApiProblem>;

    /// How full a budget is, now or in a period of the past.
    async fn standing(&self, query: StandingQuery) -> Result<StandingView, ApiProblem>;

    /// Everything that the page shows. Asked for once a second by each open page; keep its lists short.
    fn status(&self) -> StatusView;

    /// One mail as an `.eml` file (RFC 5322).
    fn mail(&self, id: &str) -> Option<Bytes>;

    /// Whether the program can take events and answer checks.
    ///
    /// # Errors
    /// Why it cannot yet, as a sentence for people.
    fn ready(&self) -> Result<(), String>;

    /// The metrics in Prometheus' text format 0.0.4.
    fn metrics(&self) -> String;
}

/// One event on its way to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeRecord {
    /// The record's key: [`usage_types::canonical_key`].
    pub key: String,
    /// The record's value.
    pub value: Bytes,
    /// The record's headers.
    pub headers: Vec<(String, Bytes)>,
}

/// Where the log put a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The partition of `usage.events`.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// Why a record is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The log cannot be reached or did not acknowledge; sending again later may work.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The queue to the log is full; sending again a moment later should work.
    #[error("the queue to the log is full")]
    QueueFull,
    /// The log refuses this record, and would do so again.
    #[error("the log refused the event: {0}")]
    Refused(String),
}

/// A query of a person or program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlRequest {
    /// The SQL text.
    pub query: String,
    /// How to answer.
    pub format: OutputFormat,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// An array of row objects.
    #[default]
    Json,
    /// A row object a line.
    Jsonl,
    /// RFC 4180 with a header line.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl OutputFormat {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Json, Self::Jsonl, Self::Csv, Self::Arrow, Self::Parquet];

    /// The name in `format=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// The media type in `Accept` and `Content-Type`. Arrow and Parquet as registered with IANA; JSON lines have none there, and this is the
    /// usual one.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// The answer to a query or report.
#[derive(Debug)]
pub struct QueryOutput {
    /// The media type of the body, mostly [`OutputFormat::content_type`].
    pub content_type: String,
    /// The rows.
    pub body: QueryBody,
    /// What whoever reads them must know of what is not in them: the header [`WARNING_HEADER`].
    pub warning: Option<String>,
}

/// The header that tells of something that an answer lacks.
pub const WARNING_HEADER: &str = "outlay-warning";

/// The rows of an answer, whole or in pieces.
pub enum QueryBody {
    /// All at once.
    Bytes(Bytes),
    /// Piece by piece; an error cuts the connection, so that no client takes a part for the whole.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>),
}

impl fmt::Debug for QueryBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
