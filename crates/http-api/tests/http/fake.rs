//! A fake engine: answers from made-up data, so that the HTTP surface is tested alone. The real one is tested in the binary.

#![allow(dead_code, reason = "each user of this module needs another part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_api::{
    Ack, Act, ApiProblem, BalanceQuery, BalanceRow, BudgetsChange, BudgetsPlan, BudgetsSource, BudgetsWrite, Changed,
    CheckAnswer, CheckQuestion, CheckReason, Enforcement, Engine, Granted, HealthRow, IncreaseAnswer, IncreaseFilter,
    IncreaseRequest, IncreaseState, IntakeRecord, InvoiceView, LagView, LakeView, LogKind, LogView, MailRow, MailState,
    OutputFormat, PlannedChange, PlannedEffect, PlannedScope, PresentLimit, PublishError, QueryBody, QueryOutput,
    RejectionRow, ReportInfo, ReportParameter, Reservation, ShadowFinding, SimulatedAlert, SimulatedBlock,
    SimulatedBudget, SimulatedBudgets, SimulatedRollback, SimulatedScope, SimulatedShadow, SimulatedSpend,
    SimulationRequest, SimulationView, SqlRequest, StandingQuery, StandingView, Stated, StatusView, Tagged,
    ThrottleFinding, Totals, UnpricedRow,
};
use parking_lot::Mutex;
use provider_invoice::Invoice;
use tokio::sync::broadcast;
use usage_types::{
    Alert, BudgetSet, Currency, Decision, DecisionState, Dimension, Dimensions, Estimate, IncreaseAsk, Rate,
    ReasonCode, RejectCode, Rejection, Scope, Throttle, ThrottleReason, TimeUs, Window,
};

/// Answers checks.
pub type Checker = Box<dyn Fn(&CheckQuestion<'_>) -> CheckAnswer + Send + Sync>;

/// The engine. Records go to partition 0 at growing offsets.
pub struct FakeEngine {
    pub started_at: TimeUs,
    pub published: Mutex<Vec<IntakeRecord>>,
    /// What happens to the next records instead; then they are acknowledged again.
    pub failures: Mutex<BTreeMap<usize, PublishError>>,
    pub decisions: Mutex<Vec<Decision>>,
    pub updates: broadcast::Sender<Arc<Decision>>,
    /// Decided just before the next full set is told: what a stream must expect between subscribing and asking.
    pub sudden: Mutex<Vec<Decision>>,
    pub not_ready: Mutex<Option<String>>,
    /// What was checked: the dimensions, and whether the last known decisions count.
    pub questions: Mutex<Vec<(Dimensions<'static>, bool)>>,
    pub estimates: Mutex<Vec<Option<Estimate>>>,
    /// What is held, by id: for how long, and whether by force.
    pub reservations: Mutex<BTreeMap<String, (Duration, bool)>>,
    pub enforcement: Mutex<Enforcement>,
    /// Answers checks in the place of the decisions above.
    pub checker: Option<Checker>,
    pub queries: Mutex<Vec<SqlRequest>>,
    pub report_params: Mutex<Vec<BTreeMap<String, String>>>,
    pub balance_queries: Mutex<Vec<BalanceQuery>>,
    pub budget_changes: Mutex<Vec<BudgetsChange>>,
    pub invoices_put: Mutex<Vec<(Invoice, Stated)>>,
    pub increase_filters: Mutex<Vec<IncreaseFilter>>,
    pub increase_asks: Mutex<Vec<(IncreaseAsk, Stated)>>,
    pub increase_answers: Mutex<Vec<(String, IncreaseAnswer, Option<String>)>>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self {
            started_at: now(),
            published: Mutex::default(),
            failures: Mutex::default(),
            decisions: Mutex::new(vec![blocked("support", 17)]),
            updates: broadcast::channel(4).0,
            sudden: Mutex::default(),
            not_ready: Mutex::default(),
            questions: Mutex::default(),
            estimates: Mutex::default(),
            reservations: Mutex::default(),
            checker: None,
            enforcement: Mutex::new(Enforcement { lag_us: 1_500, problem: None }),
            queries: Mutex::default(),
            report_params: Mutex::default(),
            balance_queries: Mutex::default(),
            budget_changes: Mutex::default(),
            invoices_put: Mutex::default(),
            increase_filters: Mutex::default(),
            increase_asks: Mutex::default(),
            increase_answers: Mutex::default(),
        }
    }
}

pub fn now() -> TimeUs {
    chrono::Utc::now().into()
}

/// The budgets of the fake engine, whatever they are changed to.
pub fn budgets(limit: u32) -> BudgetSet {
    let list = format!("{{ id: support-daily, window: {{ every: day }}, limit: {{ tokens: {limit} }} }}");
    BudgetSet::from_yaml(&format!("budgets: [{list}]")).unwrap()
}

/// A request with every member that there is.
fn invoice(provider: &str, number: &str) -> InvoiceView {
    let imported = Act { at: TimeUs(0), key: Some("admin".into()), actor: None, reason: None };
    InvoiceView {
        provider: provider.to_owned(),
        number: number.to_owned(),
        month: "2026-10".to_owned(),
        currency: "USD".to_owned(),
        total: "12.5".to_owned(),
        line_count: 1,
        lines: Vec::new(),
        imported,
    }
}

pub fn increase(id: &str, state: IncreaseState) -> IncreaseRequest {
    let limits = budgets(5).budgets["support-daily"].limits.clone();
    let act = Act { at: now(), key: Some("admin".into()), actor: Some("zoe".into()), reason: Some("launch".into()) };
    let present =
        PresentLimit { measure: "cost".into(), currency: Some(Currency::USD), limit: "5".into(), used: "4.5".into() };
    IncreaseRequest {
        id: id.into(),
        state,
        budget: "support-daily".into(),
        scope: Scope::new([(Dimension::Namespace, "support")]),
        limits: limits.clone(),
        until: Some(now()),
        asked: act.clone(),
        answered: Some(act.clone()),
        grant: Some(Granted { limits, expires_at: now() }),
        ended: Some(act),
        present: vec![present],
    }
}

/// A day that `time` is in, and that does not end within the next 23 hours.
fn day(time: TimeUs) -> Window {
    let start = TimeUs(time.0.div_euclid(TimeUs::HOUR) * TimeUs::HOUR);
    Window { start, end: start.plus_us(TimeUs::DAY), zone: chrono_tz::UTC }
}

/// A decision that blocks a namespace for today.
pub fn blocked(namespace: &str, seq: u64) -> Decision {
    let window = day(now());
    Decision {
        budget: format!("{namespace}-daily"),
        scope: Scope::new([(Dimension::Namespace, namespace)]),
        state: DecisionState::Blocked,
        reason_code: ReasonCode::exceeded(Some(Dimension::Namespace)),
        http_status: 403,
        measure: "tokens".into(),
        currency: None,
        limit: "1000000".into(),
        used: "1000450".into(),
        seq,
        window,
        decided_at: now(),
        expires_at: window.end,
        would_block: None,
        rolled_back: None,
        overage: None,
        progress: None,
        throttle: None,
        would_throttle: None,
    }
}

/// Five requests a minute.
pub fn throttle() -> Throttle {
    Throttle::new(ThrottleReason::CircuitHalfOpen, Rate { requests: 5, per_s: 60 }, 1)
}

impl FakeEngine {
    /// Decides, as the real engine does: first the set, then the broadcast.
    pub fn decide(&self, decision: Decision) {
        let mut decisions = self.decisions.lock();
        decisions.retain(|known| known.key() != decision.key());
        decisions.push(decision.clone());
        // Nobody listening is fine.
        let _ = self.updates.send(Arc::new(decision));
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn publish(&self, records: Vec<IntakeRecord>) -> Vec<Result<Ack, PublishError>> {
        let mut failures = std::mem::take(&mut *self.failures.lock());
        let mut published = self.published.lock();
        let mut publish = |(at, record)| match failures.remove(&at) {
            Some(error) => Err(error),
            None => {
                published.push(record);
                Ok(Ack { partition: 0, offset: i64::try_from(published.len()).unwrap() - 1 })
            }
        };
        records.into_iter().enumerate().map(&mut publish).collect()
    }

    fn budgets(&self) -> Tagged {
        Tagged { etag: "\"all\"".into(), json: budgets(1_000_000).canonical() }
    }

    fn budget(&self, id: &str) -> Option<Tagged> {
        let json = serde_json::to_string(budgets(1_000_000).budgets.get(id)?).unwrap();
        Some(Tagged { etag: "\"one\"".into(), json })
    }

    async fn plan_budgets(&self, text: String) -> Result<BudgetsPlan, ApiProblem> {
        let new =
            BudgetSet::from_yaml(&text).map_err(|error| ApiProblem::invalid(error.field.clone(), error.to_string()))?;
        let scope = PlannedScope {
            scope: Scope::new([(Dimension::Namespace, "support")]),
            blocked: true,
            measure: "tokens".into(),
            used: "7".into(),
            limit: "5".into(),
        };
        let effect = PlannedEffect { complete: true, blocks: 1, unblocks: 0, scopes: vec![scope] };
        let changes = usage_types::diff(&budgets(1_000_000), &new);
        let changes = changes.into_iter().map(|change| PlannedChange::new(change, effect.clone())).collect();
        Ok(BudgetsPlan { etag: "\"all\"".into(), source: BudgetsSource::Api, changes })
    }

    async fn change_budgets(&self, change: BudgetsChange) -> Result<Changed, ApiProblem> {
        let (now, created) = match &change.write {
            BudgetsWrite::Replace(_) => (Some(Engine::budgets(self)), false),
            BudgetsWrite::Put { id, .. } => (Some(self.budget("support-daily").unwrap()), id != "support-daily"),
            BudgetsWrite::Delete { .. } => (None, false),
        };
        self.budget_changes.lock().push(change);
        Ok(Changed { now, created })
    }

    fn increases(&self, filter: &IncreaseFilter) -> Vec<IncreaseRequest> {
        self.increase_filters.lock().push(filter.clone());
        vec![increase("r-2", IncreaseState::Pending), increase("r-1", IncreaseState::Withdrawn)]
    }

    fn increase(&self, id: &str) -> Option<IncreaseRequest> {
        (id == "r-1").then(|| increase(id, IncreaseState::Withdrawn))
    }

    async fn ask_increase(&self, ask: IncreaseAsk, stated: Stated) -> Result<IncreaseRequest, ApiProblem> {
        self.increase_asks.lock().push((ask, stated));
        Ok(increase("r-3", IncreaseState::Pending))
    }

    async fn answer_increase(
        &self,
        id: String,
        answer: IncreaseAnswer,
        actor: Option<String>,
    ) -> Result<IncreaseRequest, ApiProblem> {
        if id != "r-1" {
            return Err(ApiProblem::new(409, "already_answered", "it is denied"));
        }
        self.increase_answers.lock().push((id, answer, actor));
        Ok(increase("r-1", IncreaseState::Approved))
    }

    fn invoices(&self) -> Vec<InvoiceView> {
        vec![invoice("openai", "INV-1")]
    }

    fn invoice(&self, provider: &str, number: &str) -> Option<InvoiceView> {
        (number == "INV-1").then(|| invoice(provider, number))
    }

    async fn put_invoice(&self, kept: Invoice, stated: Stated) -> Result<(InvoiceView, bool), ApiProblem> {
        let view = invoice(&kept.provider, &kept.number);
        let is_new = kept.number != "INV-1";
        self.invoices_put.lock().push((kept, stated));
        Ok((view, is_new))
    }

    async fn delete_invoice(&self, _provider: &str, number: &str, _stated: Stated) -> Result<bool, ApiProblem> {
        Ok(number == "INV-1")
    }

    fn check(&self, question: &CheckQuestion<'_>) -> CheckAnswer {
        if let Some(checker) = &self.checker {
            return checker(question);
        }
        self.estimates.lock().push(question.estimate.clone());
        self.questions.lock().push((question.dimensions.clone().into_owned(), question.last_known));
        let namespace = question.dimensions.get(Dimension::Namespace).unwrap_or_default();
        assert_ne!(namespace, "panic", "asked to panic");
        let decisions = self.decisions.lock();
        let Some(decision) = decisions.iter().find(|d| d.scope.get(Dimension::Namespace) == Some(namespace)).cloned()
        else {
            let within = CheckReason::Decision(ReasonCode::WithinQuota);
            return CheckAnswer::of_no_budget(DecisionState::Allowed, within, 200);
        };
        let finding = |throttle: Throttle| ThrottleFinding {
            budget: decision.budget.clone(),
            scope: decision.scope.clone(),
            reason_code: throttle.reason_code,
            requests: throttle.requests,
            per_s: throttle.per_s,
            burst: throttle.burst,
            by: throttle.by,
            remaining: 3,
            reset_at: now().plus_us(7 * TimeUs::SECOND),
            expires_at: decision.expires_at,
        };
        CheckAnswer {
            throttle: decision.throttle.clone().map(finding),
            would_throttle: decision.would_throttle.clone().map(finding),
            would_block: decision.would_block.map(|would_block| ShadowFinding {
                budget: decision.budget.clone(),
                scope: decision.scope.clone(),
                reason_code: would_block.reason_code,
                http_status: would_block.http_status,
                measure: decision.measure.clone(),
                currency: decision.currency,
                limit: decision.limit.clone(),
                overage: decision.overage.clone(),
                used: decision.used.clone(),
                window: decision.window,
            }),
            budget: Some(decision.budget),
            scope: Some(decision.scope),
            measure: Some(decision.measure),
            currency: decision.currency,
            limit: Some(decision.limit),
            overage: decision.overage,
            used: Some(decision.used),
            window: Some(decision.window),
            ..CheckAnswer::of_no_budget(
                decision.state,
                CheckReason::Decision(decision.reason_code),
                decision.http_status,
            )
        }
    }

    fn reserve(&self, question: &CheckQuestion<'_>, ttl: Duration, force: bool) -> Reservation {
        let answer = self.check(question);
        if answer.state == DecisionState::Blocked && !force {
            return Reservation::Refused(answer);
        }
        let mut reservations = self.reservations.lock();
        if reservations.len() == 3 {
            return Reservation::Full;
        }
        let id = format!("hold-{}", reservations.len());
        reservations.insert(id.clone(), (ttl, force));
        Reservation::Held { id, expires_at: now().plus_us(i64::try_from(ttl.as_micros()).unwrap()), answer }
    }

    fn release(&self, id: &str) -> bool {
        self.reservations.lock().remove(id).is_some()
    }

    fn enforcement(&self) -> Enforcement {
        self.enforcement.lock().clone()
    }

    fn balances(&self, query: &BalanceQuery) -> Vec<BalanceRow> {
        self.balance_queries.lock().push(query.clone());
        let mut rows = self.status().balances;
        rows.retain(|row| {
            query.matches_scope(&row.scope)
                && query.every.is_none_or(|every| row.every == every.name())
                && query.budget.as_ref().is_none_or(|budget| row.budget.as_ref() == Some(budget))
                && query.measure.as_ref().is_none_or(|measure| row.measure == *measure)
        });
        rows.truncate(query.limit);
        rows
    }

    fn decisions(&self) -> Vec<Decision> {
        let sudden = std::mem::take(&mut *self.sudden.lock());
        sudden.into_iter().for_each(|decision| self.decide(decision));
        self.decisions.lock().clone()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Decision>> {
        self.updates.subscribe()
    }

    async fn sql(&self, request: SqlRequest) -> Result<QueryOutput, ApiProblem> {
        self.queries.lock().push(request.clone());
        match request.query.as_str() {
            "slow" => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Err(ApiProblem::internal("slept"))
            }
            "big" => {
                let pieces = std::iter::repeat_with(|| Ok(Bytes::from(vec![b'x'; 64 * 1024]))).take(4096);
                let body = QueryBody::Stream(Box::pin(tokio_stream::iter(pieces)));
                Ok(QueryOutput { content_type: request.format.content_type().into(), body, warning: None })
            }
            "wrong" => Err(ApiProblem::new(400, "sql_error", "there is no column `x`").with("line", 1)),
            _ => {
                let body = match request.format {
                    OutputFormat::Json => r#"[{"n":"9007199254740993"}]"#,
                    _ => "n\n9007199254740993\n",
                };
                Ok(QueryOutput {
                    content_type: request.format.content_type().into(),
                    body: QueryBody::Bytes(Bytes::from_static(body.as_bytes())),
                    warning: None,
                })
            }
        }
    }

    async fn simulate(&self, request: SimulationRequest) -> Result<SimulationView, ApiProblem> {
        if request.budgets.budgets.contains_key("busy") {
            return Err(ApiProblem::unavailable("simulation_busy", "another simulation runs", 5));
        }
        let spend = SimulatedSpend {
            events: 3,
            requests: "3".into(),
            tokens: "9007199254740993".into(),
            costs: [("USD".to_owned(), "0.1".to_owned())].into(),
            ..SimulatedSpend::default()
        };
        let window = Window { start: request.from, end: request.to, zone: chrono_tz::UTC };
        let scope = Scope::new([(Dimension::Namespace, "support")]);
        let block = SimulatedBlock {
            begin: request.from,
            end: Some(request.to),
            window,
            measure: "cost".into(),
            currency: Some(usage_types::Currency::USD),
            limit: "1".into(),
            used: "1.5".into(),
            refused: spend.clone(),
        };
        let alert = SimulatedAlert {
            at: request.from,
            threshold: "0.8".into(),
            measure: "cost".into(),
            currency: Some(usage_types::Currency::USD),
            limit: "1".into(),
            used: "0.8".into(),
        };
        let shadow = SimulatedShadow { scopes: 1, blocks: 1, blocked_seconds: 60, refused: spend.clone() };
        let scopes = request.budgets.budgets.keys().map(|id| SimulatedScope {
            budget: id.to_string(),
            scope: scope.clone(),
            blocks: 1,
            blocked_seconds: 60,
            alerts: 1,
            refused: spend.clone(),
            blocked: vec![block.clone()],
            would_block: Some(shadow.clone()),
            would_be_blocked: vec![block.clone()],
            alerted: vec![alert.clone()],
        });
        let budgets = request.budgets.budgets.keys().map(|id| SimulatedBudget {
            budget: id.to_string(),
            breaker: true,
            mode: "hard".into(),
            scopes_blocked: 1,
            blocks: 1,
            blocked_seconds: 60,
            alerts: 1,
            refused: spend.clone(),
            would_block: Some(shadow.clone()),
            rolled_back: Some(SimulatedRollback { at: request.from, blocked: 3, scopes: 12 }),
        });
        let new = SimulatedBudgets {
            refused: spend.clone(),
            would_refuse: Some(spend.clone()),
            budgets: budgets.collect(),
            scopes: scopes.collect(),
            omitted: 0,
        };
        Ok(SimulationView {
            from: request.from,
            to: request.to,
            count_refused: request.count_refused,
            lake_version: 7,
            spend,
            present: Some(new.clone()),
            new,
        })
    }

    async fn standing(&self, query: StandingQuery) -> Result<StandingView, ApiProblem> {
        if query.budget == "none" {
            return Err(ApiProblem::not_found("there is no budget `none` in force"));
        }
        let asked = BalanceQuery { scope: query.scope, every: None, budget: None, measure: None, limit: 1 };
        let rows = self.balances(&asked);
        Ok(StandingView { budget: query.budget, mode: query.period.unwrap_or_default(), rows, omitted: 0 })
    }

    async fn report(
        &self,
        _name: &str,
        params: &BTreeMap<String, String>,
        format: OutputFormat,
    ) -> Result<QueryOutput, ApiProblem> {
        self.report_params.lock().push(params.clone());
        let rows: Vec<serde_json::Value> = REPORT
            .iter()
            .map(|(namespace, team, repository, requests, tokens, cost)| {
                serde_json::json!({
                    "namespace": namespace, "team": team, "repository": repository,
                    "requests": requests, "total_tokens": tokens, "cost": cost, "currency": cost.map(|_| "USD"),
                })
            })
            .collect();
        let body = match format {
            OutputFormat::Json => serde_json::to_string(&rows).unwrap(),
            _ => "namespace,cost\nsupport,0.000000000001\n".to_owned(),
        };
        let warning = (format == OutputFormat::Csv).then(|| "2 events are not in this file".to_owned());
        Ok(QueryOutput { content_type: format.content_type().into(), body: QueryBody::Bytes(body.into()), warning })
    }

    fn report_list(&self) -> Vec<ReportInfo> {
        vec![ReportInfo {
            name: "chargeback".into(),
            description: "What did each group cost in a month?".into(),
            parameters: vec![ReportParameter {
                name: "period".into(),
                description: "The month, as YYYY-MM.".into(),
                required: true,
                kind: "period".into(),
                default: None,
                choices: Vec::new(),
            }],
        }]
    }

    fn status(&self) -> StatusView {
        sample_status(self.started_at, now())
    }

    fn mail(&self, id: &str) -> Option<Bytes> {
        (id == MAIL_ID).then(|| Bytes::from_static(include_bytes!("mail.eml")))
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().clone().map_or(Ok(()), Err)
    }

    fn metrics(&self) -> String {
        "# TYPE outlay_fake gauge\noutlay_fake 1\n".into()
    }
}

/// An id as the real one builds it: full of what a URL must escape.
pub const MAIL_ID: &str = "support-daily|namespace=support|day|2026-11-21T00:00:00Z|0.8";

/// Namespace, team, repository, requests, tokens, cost. One row has no price.
pub type ReportLine =
    (&'static str, Option<&'static str>, Option<&'static str>, &'static str, &'static str, Option<&'static str>);
pub const REPORT: &[ReportLine] = &[
    ("support", Some("helpdesk"), Some("acme/bot"), "48123", "91230441", Some("412.083441250001")),
    ("support", Some("helpdesk"), Some("acme/kb-search"), "20311", "30118220", Some("120.5")),
    ("support", Some("escalations"), None, "812", "2210034", Some("18.000000000009")),
    ("research", Some("evals"), Some("acme/long-context-evaluation-harness"), "9120", "812004112", Some("2210.77")),
    ("research", Some("agents"), Some("acme/swarm"), "30112", "220114009", Some("733.120000417")),
    ("platform", Some("ci"), Some("acme/monorepo"), "120344", "44120031", Some("61.2500000001")),
    ("<img src=x onerror=alert(1)>", Some("\u{202e}evil"), Some("a/b"), "1", "12", None),
];

fn balance(
    budget: &str,
    scope: &[(Dimension, &str)],
    measure: &str,
    used: &str,
    limit: &str,
    ppm: u64,
    now: TimeUs,
) -> BalanceRow {
    let is_hour = budget.contains("hour");
    let start = TimeUs(now.0.div_euclid(TimeUs::HOUR) * TimeUs::HOUR);
    let hour = Window { start, end: start.plus_us(TimeUs::HOUR), zone: chrono_tz::UTC };
    BalanceRow {
        budget: Some(budget.into()),
        scope: Scope::new(scope.iter().copied()),
        every: if is_hour { "hour" } else { "day" }.into(),
        window_name: None,
        window: if is_hour { hour } else { day(now) },
        measure: measure.into(),
        currency: (measure == "cost").then_some(Currency::USD),
        used: used.into(),
        limit: Some(limit.into()),
        used_ppm: Some(ppm),
        state: Some(if ppm >= 1_000_000 && !budget.contains("soft") {
            DecisionState::Blocked
        } else {
            DecisionState::Allowed
        }),
        mode: Some(if budget.contains("soft") { "soft" } else { "hard" }.into()),
        progress: None,
    }
}

/// Data for the page: everything that it has a place for.
pub fn sample_status(started_at: TimeUs, now: TimeUs) -> StatusView {
    use Dimension::{Namespace, Repository, Team, User};
    let seconds = u64::try_from((now.0 - started_at.0) / TimeUs::SECOND).unwrap_or(0);
    let growing = (400_000 + seconds * 11_000).min(1_300_000);
    let mail = |id: &str, subject: &str, state, at: i64, error: Option<&str>| MailRow {
        id: id.into(),
        subject: subject.into(),
        to: vec!["support-leads@example.com".into()],
        state,
        at: now.plus_us(-at * TimeUs::SECOND),
        error: error.map(Into::into),
    };
    let rejection = |at: i64, offset, rejection| RejectionRow {
        at: now.plus_us(-at * TimeUs::SECOND),
        partition: 3,
        offset,
        rejection,
    };
    StatusView {
        version: "0.1.0".into(),
        started_at,
        now,
        events_per_second: 4_200 + (now.0 / 1_000_000 * 7919 % 900).unsigned_abs(),
        totals: Totals {
            accepted: 1_204_332 + seconds * 4_300,
            duplicate: 412,
            rejected: 3,
            too_late: 2,
            forwarded: 120,
            unpriced: 51,
        },
        lag: LagView { consumer_events: 12, enforcement_us: 2_100 },
        log: LogView { kind: LogKind::Embedded, address: "127.0.0.1:9092".into(), partitions: 8 },
        lake: LakeView {
            version: Some(41),
            location: "data/lake/usage".into(),
            rows: 1_190_000,
            tail_rows: 14_332,
            committed_at: Some(now.plus_us(-2 * TimeUs::SECOND)),
        },
        balances_total: 8_112,
        balances: vec![
            balance(
                "support-daily",
                &[(Namespace, "support")],
                "tokens",
                &growing.to_string(),
                "1000000",
                growing,
                now,
            ),
            balance(
                "research-cost-soft",
                &[(Namespace, "research")],
                "cost",
                "5210.770000000417",
                "5000",
                1_042_154,
                now,
            ),
            balance(
                "per-user-hourly",
                &[(Namespace, "support"), (User, "u-17")],
                "requests",
                "93",
                "100",
                930_000,
                now,
            ),
            balance(
                "ci",
                &[(Namespace, "platform"), (Team, "ci"), (Repository, "acme/monorepo")],
                "cost",
                "61.2500000001",
                "100",
                612_500,
                now,
            ),
            balance("xss", &[(Namespace, "<img src=x onerror=alert(1)>")], "tokens", "12", "1000", 12_000, now),
            balance("everything", &[], "cost", "3555.723441667010", "50000", 71_114, now),
        ],
        mails: vec![
            mail(MAIL_ID, "Outlay: support has used 80 % of support-daily", MailState::Sent, 40, None),
            mail(
                "b",
                "Outlay: research has used 100 % of research-cost-soft",
                MailState::Queued,
                300,
                Some("connection refused"),
            ),
        ],
        alerts: vec![Alert {
            id: MAIL_ID.into(),
            budget: "support-daily".into(),
            scope: Scope::new([(Namespace, "support")]),
            window: day(now),
            every: "day".into(),
            window_name: Some("day at 06:00".into()),
            threshold: "0.8".into(),
            measure: "tokens".into(),
            currency: None,
            limit: "1000000".into(),
            used: "800123".into(),
            burn_per_hour: "120000".into(),
            exhausted_at: Some(now.plus_us(TimeUs::HOUR)),
            mode: "hard".into(),
            raised_at: now.plus_us(-40 * TimeUs::SECOND),
            to: vec!["support-leads@example.com".into()],
            overage: None,
            progress: Some(usage_types::Progress { processed: 8200, total: Some(10_000) }),
            predicted: None,
        }],
        rejections: vec![
            rejection(
                12,
                88_121,
                Rejection::field(RejectCode::Negative, "tokens.input", "`-5` is negative; send zero or more"),
            ),
            rejection(
                75,
                88_002,
                Rejection::new(RejectCode::NotJson, "the value is no JSON at column 1; send one JSON object"),
            ),
            rejection(
                310,
                87_440,
                Rejection::field(RejectCode::MissingField, "namespace", "there is no `namespace`; name who pays"),
            ),
        ],
        unpriced: vec![UnpricedRow {
            provider: "acme".into(),
            model: "in-house-7b".into(),
            events: 51,
            tokens: 81_200,
        }],
        health: [
            ("log", "8 partitions, all assigned", true),
            ("lake", "version 41, 2 s ago", true),
            ("mail", "smtp.example.com:587: connection refused; 1 waits", false),
            ("prices", "book of 2026-11-01, 212 models", true),
        ]
        .map(|(component, detail, ok)| HealthRow { component: component.into(), ok, detail: detail.into() })
        .into(),
    }
}
