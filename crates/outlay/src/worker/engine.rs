//! The HTTP surface's questions, answered from what the threads share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use budget_core::{BalanceFilter, BalanceView, Kind, KindFilter, StandingState};
use bytes::Bytes;
use cost_allocation::AllocationError;
use event_log::{LogError, Publisher, topics};
use focus_report::FocusError;
use http_api::{
    Ack, ApiProblem, BalanceQuery, BalanceRow, BudgetsChange, BudgetsPlan, Changed, CheckAnswer, CheckQuestion,
    Enforcement, Engine, HealthRow, IncreaseAnswer, IncreaseFilter, IncreaseRequest, IntakeRecord, InvoiceView,
    LagView, LakeView, LogKind, LogView, MailRow, MailState, OutputFormat, PublishError, QueryBody, QueryOutput,
    RejectionRow, ReportInfo, Reservation, SimulationRequest, SimulationView, SqlRequest, StandingQuery, StandingView,
    Stated, StatusView, Tagged, Totals, UnpricedRow,
};
use otlp_server::Entrance;
use provider_invoice::Invoice;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};
use usage_lake::{Format, LakeError, QueryConfig, QueryInput, QueryPool, Report, ReportRequest};
use usage_types::{Decision, DecisionState, Fill, IncreaseAsk, Measure, Mode, TimeUs, TokenClass};

use super::counted::Snapshot;
use super::rows::{self, QueryCount};
use super::shared::Shared;
use super::standing;
use super::views::query_input;
use super::{allocation, checks, focus, increases, invoices, manage, reports};
use crate::options::LogChoice;
use crate::simulation;

/// How many balances of budgets the page shows.
const STATUS_BALANCES: usize = 200;
/// Balances that are looked at to find the fullest: some tens of milliseconds, a slice of the lock at a time.
const BALANCES_RANKED: usize = 20_000;
/// Balances taken while the lock is held once.
const PAGE_ROWS: usize = 500;
/// How many alerts the page shows.
const STATUS_ALERTS: usize = 100;
/// How many mails the page shows.
const STATUS_MAILS: usize = 50;

/// How long a simulation may take: less than an answer may take to begin.
pub(super) const SIMULATION_DEADLINE: Duration = Duration::from_secs(100);
/// When to ask again while another one runs.
const SIMULATION_RETRY_S: u64 = 5;
/// Blocks and alerts, and scopes, that an answer lists.
const SIMULATION_DETAILS: usize = 10_000;
/// Memory for the balances of a simulation, and as much again for rows that are put in order.
pub(super) const SIMULATION_MEMORY_MIB: usize = 512;

/// What a query gave, whole.
type QueryBatches = (SchemaRef, Vec<RecordBatch>);

/// The engine behind the HTTP surface.
pub struct Outlay {
    pub(super) shared: Arc<Shared>,
    publisher: Publisher,
    pub(super) queries: QueryPool,
    log_address: String,
    /// One at a time: each takes two processors for a while.
    simulations: Semaphore,
    otlp: OnceLock<Weak<Entrance>>,
}

impl Outlay {
    /// With a publisher of its own for events that come over HTTP.
    pub fn new(shared: Arc<Shared>, queries: QueryPool, log_address: String) -> Result<Self, LogError> {
        let publisher = Publisher::open(&shared.log_config)?;
        let simulations = Semaphore::new(1);
        Ok(Self { shared, publisher, queries, log_address, simulations, otlp: OnceLock::new() })
    }

    /// Shows the counters of this entrance among its own.
    pub fn counts_also(&self, entrance: Arc<Entrance>) {
        // Weak, since the entrance holds the engine. There is one entrance, so nothing is set twice.
        let _first = self.otlp.set(Arc::downgrade(&entrance));
    }

    /// What a query reads.
    pub(super) async fn input(&self, sql: &str) -> Result<QueryInput, ApiProblem> {
        let (shared, text) = (Arc::clone(&self.shared), sql.to_owned());
        blocking(move || query_input(&shared, &text)).await
    }

    async fn query(&self, sql: String, format: OutputFormat) -> Result<QueryOutput, ApiProblem> {
        let mut count = QueryCount::begin(&self.shared);
        let input = self.input(&sql).await?;
        let rows = self.queries.stream(&sql, input, format_of(format)).await;
        let rows = count.note(rows).map_err(problem)?;
        Ok(answer(format, rows::body(rows, count), None))
    }

    /// Answers a report whose rows are not what a query gives, but made of it: by `write`, with what its reader must know.
    async fn made(
        &self,
        sql: &str,
        format: OutputFormat,
        write: impl FnOnce(&QueryBatches, Format, &QueryConfig) -> anyhow::Result<(Vec<u8>, Option<String>)>
        + Send
        + 'static,
    ) -> Result<QueryOutput, ApiProblem> {
        let mut count = QueryCount::begin(&self.shared);
        let input = self.input(sql).await?;
        let result = self.queries.query_batches(sql, input).await;
        let result = count.note(result).map_err(problem)?;
        let limits = self.queries.config().clone();
        let written = blocking(move || Ok(write(&result, format_of(format), &limits))).await?;
        let (bytes, warning) = written.map_err(|error| match error.downcast::<LakeError>() {
            Ok(LakeError::QueryResult { limit, unit }) => {
                let detail =
                    format!("the report is larger than {limit} {unit}; ask for single days of it, or for parquet");
                ApiProblem::new(422, "query_result_too_large", detail)
            }
            Ok(error) => problem(error),
            Err(error) if error.is::<FocusError>() || error.is::<AllocationError>() => {
                ApiProblem::new(422, "number_too_large", error.to_string())
            }
            Err(error) => ApiProblem::internal(format!("{error:#}")),
        })?;
        Ok(answer(format, QueryBody::Bytes(Bytes::from(bytes)), warning))
    }

    /// A report with shared cost; `None` where nothing is shared and the report does without.
    async fn allocated(
        &self,
        report: &Report,
        params: &BTreeMap<String, String>,
    ) -> Result<Option<allocation::Plan>, ApiProblem> {
        let is_detail = report.name == allocation::DETAIL;
        if !is_detail && report.name != allocation::CHARGEBACK {
            return Ok(None);
        }
        let Some(path) = self.shared.settings.allocation.clone() else {
            let detail =
                "there are no rules of shared cost; start the server with --allocation FILE (docs/allocation.md)";
            return if is_detail { Err(ApiProblem::new(422, "no_allocation", detail)) } else { Ok(None) };
        };
        let rules = blocking(move || Ok(allocation::read(&path))).await?;
        let rules = rules.map_err(|error| ApiProblem::new(422, "allocation_invalid", format!("{error:#}")))?;
        let invoices = self.shared.management.invoices.all();
        allocation::Plan::new(report, params, rules, invoices, problem).map(Some)
    }

    /// The turn of whoever reads the history of the lake in this process.
    pub(super) fn turn(&self) -> Result<SemaphorePermit<'_>, ApiProblem> {
        let detail = "another simulation runs; ask again when it is over";
        let busy = |_| ApiProblem::unavailable("simulation_busy", detail, SIMULATION_RETRY_S);
        self.simulations.try_acquire().map_err(busy)
    }

    /// The lake and its tail as they are now. Copying the end of the tail takes a millisecond.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, ApiProblem> {
        let shared = Arc::clone(&self.shared);
        let snapshot = tokio::task::spawn_blocking(move || shared.counted.lock().tail.snapshot()).await;
        snapshot.map_err(LakeError::from).flatten().map_err(problem)
    }

    pub(super) fn balance_pages(&self, filter: &BalanceFilter, rows_max: usize) -> Vec<BalanceView> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = self.shared.counted.lock().core.balances(filter, after, PAGE_ROWS.min(rows_max - rows.len()));
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() || rows.len() >= rows_max {
                return rows;
            }
        }
    }
}

/// Runs what takes a while on a thread that nobody waits for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, ApiProblem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| ApiProblem::internal(error.to_string()))?;
    done.map_err(|error| ApiProblem::internal(format!("{error:#}")))
}

const fn format_of(format: OutputFormat) -> usage_lake::Format {
    match format {
        OutputFormat::Json => usage_lake::Format::Json,
        OutputFormat::Jsonl => usage_lake::Format::Jsonl,
        OutputFormat::Csv => usage_lake::Format::Csv,
        OutputFormat::Arrow => usage_lake::Format::Arrow,
        OutputFormat::Parquet => usage_lake::Format::Parquet,
    }
}

fn answer(format: OutputFormat, body: QueryBody, warning: Option<String>) -> QueryOutput {
    let content_type = format_of(format).content_type().to_owned();
    QueryOutput { content_type, body, warning }
}

/// Runs a change in a task of its own: one that has begun ends, whether or not its client waits for it.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, ApiProblem>> + Send + 'static,
) -> Result<T, ApiProblem> {
    tokio::spawn(change).await.map_err(|error| ApiProblem::internal(error.to_string()))?
}

/// A query's error as the caller is told.
pub(super) fn problem(error: LakeError) -> ApiProblem {
    let (status, code) = match &error {
        LakeError::Sql(_) | LakeError::QueryDepth => (400, "sql_error"),
        LakeError::QueryMemory { .. } => (422, "query_memory_exceeded"),
        LakeError::QueryTime { .. } => (422, "query_time_exceeded"),
        LakeError::QueryResult { .. } => (422, "query_result_too_large"),
        LakeError::QueryBusy => return ApiProblem::unavailable("queries_busy", error.to_string(), 1),
        LakeError::ReportUnknown { .. } => return ApiProblem::not_found(error.to_string()),
        LakeError::ReportParameter { parameter, .. } => {
            return ApiProblem::invalid(parameter.clone(), error.to_string());
        }
        _ => (500, "query_failed"),
    };
    ApiProblem::new(status, code, error.to_string())
}

#[async_trait]
impl Engine for Outlay {
    async fn publish(&self, records: Vec<IntakeRecord>) -> Vec<Result<Ack, PublishError>> {
        // All are queued before the first is awaited, so a batch costs one round trip.
        let queued: Vec<_> = records
            .iter()
            .map(|record| {
                let headers: Vec<(&str, &[u8])> =
                    record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
                self.publisher.send(topics::USAGE_EVENTS, record.key.as_bytes(), Some(&record.value), &headers, None)
            })
            .collect();
        let mut acks = Vec::with_capacity(queued.len());
        for handle in queued {
            let result = match handle {
                Ok(handle) => handle.await,
                Err(error) => Err(error),
            };
            acks.push(match result {
                Ok(position) => Ok(Ack { partition: position.partition, offset: position.offset }),
                Err(LogError::QueueFull) => Err(PublishError::QueueFull),
                Err(error @ LogError::TooLarge { .. }) => Err(PublishError::Refused(error.to_string())),
                Err(error) => Err(PublishError::Unavailable(error.to_string())),
            });
        }
        acks
    }

    fn check(&self, question: &CheckQuestion<'_>) -> CheckAnswer {
        checks::check(&self.shared, question)
    }

    fn reserve(&self, question: &CheckQuestion<'_>, ttl: Duration, force: bool) -> Reservation {
        checks::reserve(&self.shared, question, ttl, force)
    }

    fn release(&self, id: &str) -> bool {
        self.shared.counted.lock().core.release(id, chrono::Utc::now().into())
    }

    fn enforcement(&self) -> Enforcement {
        self.shared.enforcement(chrono::Utc::now().into())
    }

    fn balances(&self, query: &BalanceQuery) -> Vec<BalanceRow> {
        let filter = BalanceFilter {
            kind: query.budget.as_ref().map_or(KindFilter::Any, |id| KindFilter::Budget(id.as_str().into())),
            dimensions: None,
            values: query.scope.clone(),
            every: query.every,
            at: Some(TimeUs::from(chrono::Utc::now())),
        };
        let views = self.balance_pages(&filter, query.limit);
        let rows = views.iter().flat_map(balance_rows);
        rows.filter(|row| query.measure.as_ref().is_none_or(|measure| *measure == row.measure))
            .take(query.limit)
            .collect()
    }

    fn budgets(&self) -> Tagged {
        self.shared.management.all()
    }

    fn budget(&self, id: &str) -> Option<Tagged> {
        self.shared.management.one(id)
    }

    async fn plan_budgets(&self, text: String) -> Result<BudgetsPlan, ApiProblem> {
        let shared = Arc::clone(&self.shared);
        let plan = tokio::task::spawn_blocking(move || manage::plan(&shared, &text)).await;
        plan.map_err(|error| ApiProblem::internal(error.to_string()))?
    }

    async fn change_budgets(&self, change: BudgetsChange) -> Result<Changed, ApiProblem> {
        to_its_end(manage::change(Arc::clone(&self.shared), change)).await
    }

    fn increases(&self, filter: &IncreaseFilter) -> Vec<IncreaseRequest> {
        increases::list(&self.shared, filter)
    }

    fn increase(&self, id: &str) -> Option<IncreaseRequest> {
        increases::one(&self.shared, id)
    }

    async fn ask_increase(&self, ask: IncreaseAsk, stated: Stated) -> Result<IncreaseRequest, ApiProblem> {
        to_its_end(increases::ask(Arc::clone(&self.shared), ask, stated)).await
    }

    async fn answer_increase(
        &self,
        id: String,
        answer: IncreaseAnswer,
        actor: Option<String>,
    ) -> Result<IncreaseRequest, ApiProblem> {
        to_its_end(increases::answer(Arc::clone(&self.shared), id, answer, actor)).await
    }

    fn invoices(&self) -> Vec<InvoiceView> {
        invoices::list(&self.shared)
    }

    fn invoice(&self, provider: &str, number: &str) -> Option<InvoiceView> {
        invoices::one(&self.shared, provider, number)
    }

    async fn put_invoice(&self, invoice: Invoice, stated: Stated) -> Result<(InvoiceView, bool), ApiProblem> {
        to_its_end(invoices::put(Arc::clone(&self.shared), invoice, stated)).await
    }

    async fn delete_invoice(&self, provider: &str, number: &str, stated: Stated) -> Result<bool, ApiProblem> {
        let (provider, number) = (provider.to_owned(), number.to_owned());
        to_its_end(invoices::delete(Arc::clone(&self.shared), provider, number, stated)).await
    }

    fn decisions(&self) -> Vec<Decision> {
        self.shared.counted.lock().core.decisions().cloned().collect()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Decision>> {
        self.shared.decisions.subscribe()
    }

    async fn sql(&self, request: SqlRequest) -> Result<QueryOutput, ApiProblem> {
        self.query(request.query, request.format).await
    }

    async fn report(
        &self,
        name: &str,
        params: &BTreeMap<String, String>,
        format: OutputFormat,
    ) -> Result<QueryOutput, ApiProblem> {
        let report = Report::find(name).map_err(problem)?;
        if report.name == focus::NAME {
            let book = Arc::clone(self.shared.counted.lock().book());
            let plan = focus::Plan::new(report, params, book, problem)?;
            let sql = plan.sql.clone();
            return self
                .made(&sql, format, move |(_, batches), format, limits| {
                    let written = plan.write(batches, format, limits)?;
                    let warning = written.warning();
                    Ok((written.bytes, warning))
                })
                .await;
        }
        if let Some(plan) = self.allocated(report, params).await? {
            let sql = plan.sql.clone();
            return self.made(&sql, format, move |rows, format, limits| plan.write(rows, format, limits)).await;
        }
        let request = ReportRequest { given: params.clone(), ..ReportRequest::default() };
        self.query(report.render(&request).map_err(problem)?, format).await
    }

    async fn simulate(&self, request: SimulationRequest) -> Result<SimulationView, ApiProblem> {
        let _turn = self.turn()?;
        let snapshot = self.snapshot().await?;
        let SimulationRequest { budgets, from, to, count_refused } = request;
        let task = simulation::Task {
            files: snapshot.files,
            tail: snapshot.rows,
            new: budgets,
            present: Some(self.shared.budgets.load_full()),
            settings: budget_simulator::Settings { from, to, count_refused, details_max: SIMULATION_DETAILS },
            memory_mib: SIMULATION_MEMORY_MIB,
        };
        match tokio::time::timeout(SIMULATION_DEADLINE, task.run(|_| ())).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(error)) => Err(standing::failed(error)),
            Err(_) => Err(standing::too_long()),
        }
    }

    async fn standing(&self, query: StandingQuery) -> Result<StandingView, ApiProblem> {
        self.stand(query).await
    }

    fn report_list(&self) -> Vec<ReportInfo> {
        reports::list()
    }

    fn status(&self) -> StatusView {
        let budgets = BalanceFilter {
            kind: KindFilter::Budgets,
            at: Some(TimeUs::from(chrono::Utc::now())),
            ..BalanceFilter::default()
        };
        let views = self.balance_pages(&budgets, BALANCES_RANKED);
        let balances = fullest(views.iter().flat_map(balance_rows), STATUS_BALANCES);
        let shared = &self.shared;
        let (consumer_events, enforcement_us) = shared.lag();
        let counted = shared.counted.lock();
        let (seen, files, tail_rows) = (counted.seen.clone(), counted.tail.files().clone(), counted.tail.len());
        let balances_total = counted.core.stats().balances as u64;
        drop(counted);
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: shared.started_at,
            now: TimeUs::from(chrono::Utc::now()),
            events_per_second: shared.events_per_second(seen.total()),
            totals: Totals {
                accepted: seen.accepted,
                duplicate: seen.duplicate,
                rejected: seen.rejected,
                too_late: seen.too_late,
                forwarded: 0,
                unpriced: seen.unpriced,
            },
            lag: LagView { consumer_events, enforcement_us },
            log: LogView {
                kind: match shared.settings.log {
                    LogChoice::Embedded(_) => LogKind::Embedded,
                    LogChoice::Kafka(_) => LogKind::Kafka,
                },
                address: self.log_address.clone(),
                partitions: u32::try_from(shared.partitions).unwrap_or(0),
            },
            lake: LakeView {
                version: Some(files.version),
                location: files.root.display().to_string(),
                rows: files.usage.iter().map(|file| file.rows).sum(),
                tail_rows: tail_rows as u64,
                committed_at: shared.committed_at(),
            },
            balances_total,
            balances,
            mails: shared.mail.list(STATUS_MAILS).iter().map(mail_row).collect(),
            alerts: shared.alerts().into_iter().take(STATUS_ALERTS).collect(),
            rejections: seen
                .rejections
                .iter()
                .map(|(position, rejection)| RejectionRow {
                    at: position.append_time,
                    partition: position.partition,
                    offset: position.offset,
                    rejection: rejection.clone(),
                })
                .collect(),
            unpriced: seen
                .unpriced_models
                .iter()
                .map(|((provider, model), (events, tokens))| UnpricedRow {
                    provider: provider.clone(),
                    model: model.clone(),
                    events: *events,
                    tokens: *tokens,
                })
                .collect(),
            health: shared
                .problems()
                .into_iter()
                .map(|(component, problem)| HealthRow {
                    component: component.to_owned(),
                    ok: problem.is_none(),
                    detail: problem.unwrap_or_else(|| "ok".to_owned()),
                })
                .collect(),
        }
    }

    fn mail(&self, id: &str) -> Option<Bytes> {
        self.shared.mail.message(id).map(Bytes::from)
    }

    fn ready(&self) -> Result<(), String> {
        self.shared.ready()
    }

    fn metrics(&self) -> String {
        self.shared.metrics.ready.set(i64::from(self.shared.ready().is_ok()));
        let mut text = self.shared.metrics.render();
        if let Some(entrance) = self.otlp.get().and_then(Weak::upgrade) {
            entrance.counts().write(&mut text);
        }
        text
    }
}

fn mail_row(entry: &alert_mail::OutboxEntry) -> MailRow {
    MailRow {
        id: entry.about.id().into_owned(),
        subject: entry.subject.clone(),
        to: entry.recipients.iter().map(|recipient| recipient.address.clone()).collect(),
        state: match entry.state {
            alert_mail::MailState::Pending | alert_mail::MailState::Sending => MailState::Queued,
            alert_mail::MailState::Sent if entry.eml.is_some() => MailState::Written,
            alert_mail::MailState::Sent => MailState::Sent,
            alert_mail::MailState::Failed => MailState::Failed,
        },
        at: entry.sent_at.unwrap_or(entry.queued_at),
        error: entry.last_error.clone(),
    }
}

/// The fullest first, then in the order of the core.
fn fullest(rows: impl Iterator<Item = BalanceRow>, limit: usize) -> Vec<BalanceRow> {
    let mut rows: Vec<BalanceRow> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.used_ppm));
    rows.truncate(limit);
    rows
}

/// A budget's balance has a row for each of its limits; a tracked one has a row for each measure that was used.
pub fn balance_rows(view: &BalanceView) -> Vec<BalanceRow> {
    let row = |measure: Measure, used: String| BalanceRow {
        budget: None,
        scope: view.scope.clone(),
        every: view.spec.every_name().to_owned(),
        window_name: view.spec.window_name(),
        window: view.window,
        measure: measure.name().to_owned(),
        currency: measure.currency(),
        used,
        limit: None,
        used_ppm: None,
        state: None,
        mode: None,
        progress: view.progress,
    };
    if let Kind::Budget(standing) = &view.kind {
        let is_blocked = standing.state == StandingState::Exceeded && standing.mode == Mode::Hard;
        let of = |fill: &Fill| {
            let (measure, limit) = (fill.limit.measure, fill.limit.amount);
            let ppm = fill.used.0.max(0).checked_mul(1_000_000).map(|scaled| scaled / limit.0.max(1));
            BalanceRow {
                budget: Some(standing.id.to_string()),
                limit: Some(measure.format(limit)),
                used_ppm: ppm.and_then(|ppm| u64::try_from(ppm).ok()),
                state: Some(if is_blocked { DecisionState::Blocked } else { DecisionState::Allowed }),
                mode: Some(standing.mode.name().to_owned()),
                ..row(measure, measure.format(fill.used))
            }
        };
        return standing.fills.iter().map(of).collect();
    }
    let mut rows =
        vec![row(Measure::Tokens, view.tokens.total().to_string()), row(Measure::Requests, view.requests.to_string())];
    let classes = TokenClass::ALL.into_iter().filter(|class| view.tokens.get(*class) > 0);
    rows.extend(classes.map(|class| row(Measure::TokensOf(class), view.tokens.get(class).to_string())));
    if view.tool_calls > 0 {
        rows.push(row(Measure::ToolCalls, view.tool_calls.to_string()));
    }
    if view.images > 0 {
        rows.push(row(Measure::Images, view.images.to_string()));
    }
    if view.compute.0 > 0 {
        rows.push(row(Measure::Compute, view.compute.to_string()));
    }
    rows.extend(view.costs.iter().map(|cost| row(Measure::Cost(cost.currency), cost.amount.to_string())));
    rows
}
