//! What `/metrics` shows: the names in one place, `outlay_<name>_<unit>[_total]`. No label takes a value from an event: dispositions,
//! codes and states are closed sets, so the number of series is bounded.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use usage_types::{Decision, RejectCode, TimeUs};

/// One label with a value out of a closed set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    kind: &'static str,
}

/// A gauge of whole numbers.
pub type Count = Gauge<i64, AtomicI64>;
/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// All metrics of a server.
pub struct Metrics {
    registry: Registry,
    events: Family<Kind, Counter>,
    rejected: Family<Kind, Counter>,
    /// Events counted in tokens whose cost is not known.
    pub unpriced: Counter,
    /// Records in the log that are not applied yet.
    pub consumer_lag: Count,
    /// How old the newest event is that decisions take into account; 0 while nothing waits in the log.
    pub enforcement_lag: Seconds,
    decisions: Family<Kind, Counter>,
    /// Scopes that are blocked now.
    pub blocked_scopes: Count,
    /// Reservations.
    pub reservations: Count,
    /// Scopes that would be blocked now if their budgets were not in shadow.
    pub would_block_scopes: Count,
    pub throttled_scopes: Count,
    /// Circuits that breakers watch.
    pub circuits: Count,
    /// Alerts raised.
    pub alerts: Counter,
    mails: Family<Kind, Count>,
    /// Live balances.
    pub balances: Count,
    /// Event ids remembered for deduplication.
    pub dedup_ids: Count,
    /// Ids that were forgotten before the horizon, because there were too many.
    pub dedup_ids_dropped: Counter,
    /// Memory of remembered ids.
    pub dedup_bytes: Count,
    /// Budgets in force.
    pub budgets: Count,
    /// Budgets that have rolled back.
    pub rolled_back: Count,
    budget_reloads: Family<Kind, Counter>,
    schema_fetches: Family<Kind, Counter>,
    /// Partitions that wait for the schema registry.
    pub partitions_held: Count,
    /// Commits to the lake.
    pub commits: Counter,
    /// Commits that failed and were tried again.
    pub commit_failures: Counter,
    /// How long a commit takes.
    pub commit_duration: Histogram,
    /// Rows committed.
    pub rows: Counter,
    /// Version of the lake's table.
    pub lake_version: Count,
    /// Rows that wait for a commit.
    pub tail_rows: Count,
    queries: Family<Kind, Counter>,
    /// How long a query takes.
    pub query_duration: Histogram,
    /// 1 where the server answers as it should.
    pub ready: Count,
}

impl Metrics {
    /// Registers all of them.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("outlay");
        registry.register("build", "Version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        macro_rules! counter {
            ($name:literal, $help:literal) => {{
                let metric = Counter::default();
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        macro_rules! family {
            ($kind:ty, $name:literal, $help:literal) => {{
                let metric = Family::<Kind, $kind>::default();
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        macro_rules! gauge {
            ($name:literal, $help:literal) => {{
                let metric = Count::default();
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        macro_rules! seconds {
            ($metric:expr, $name:literal, $help:literal) => {{
                let metric = $metric;
                registry.register_with_unit($name, $help, Unit::Seconds, metric.clone());
                metric
            }};
        }
        // From 1 ms to 32 s: a commit to a local disk up to one to a slow store, and the deadline of a query.
        let durations = || Histogram::new((0..16).map(|power| 0.001 * f64::from(1_u32 << power)));
        let metrics = Self {
            events: family!(Counter, "events", "Events by what became of them"),
            rejected: family!(Counter, "events_rejected", "Rejected events by reason code"),
            unpriced: counter!("events_unpriced", "Events counted in tokens whose cost is not known"),
            consumer_lag: gauge!("consumer_lag_events", "Records in the log that are not applied yet"),
            enforcement_lag: seconds!(
                Seconds::default(),
                "enforcement_lag",
                "How old the newest event is that decisions take into account; 0 while nothing waits in the log"
            ),
            decisions: family!(Counter, "decisions_published", "Decisions published by state"),
            blocked_scopes: gauge!("scopes_blocked", "Scopes that are blocked now"),
            reservations: gauge!("reservations_open", "Reservations that are open"),
            would_block_scopes: gauge!(
                "scopes_would_block",
                "Scopes that would be blocked now if their budgets were not in shadow"
            ),
            throttled_scopes: gauge!(
                "scopes_throttled",
                "Scopes that a decision in force throttles, or would in shadow"
            ),
            circuits: gauge!("circuits", "Scopes that circuit breakers watch, open or not"),
            alerts: counter!("alerts_raised", "Alerts raised"),
            mails: family!(Count, "mails", "Alert mails by state"),
            balances: gauge!("balances_live", "Live balances"),
            dedup_ids: gauge!("dedup_ids", "Event ids remembered for deduplication"),
            dedup_ids_dropped: counter!(
                "dedup_ids_dropped",
                "Event ids forgotten before the horizon, because there were more than --dedup-ids"
            ),
            dedup_bytes: gauge!("dedup_bytes", "Memory of remembered event ids"),
            budgets: gauge!("budgets", "Budgets in force"),
            rolled_back: gauge!("budgets_rolled_back", "Budgets that blocked too many scopes and went on in shadow"),
            budget_reloads: family!(Counter, "budget_reloads", "Readings of the budgets file by result"),
            schema_fetches: family!(Counter, "schema_fetches", "Questions to the schema registry by result"),
            partitions_held: gauge!("partitions_held", "Partitions that wait for the schema registry"),
            commits: counter!("lake_commits", "Commits to the lake"),
            commit_failures: counter!("lake_commit_failures", "Commits to the lake that failed and were tried again"),
            commit_duration: seconds!(durations(), "lake_commit_duration", "How long a commit to the lake takes"),
            rows: counter!("lake_rows", "Rows committed to the lake"),
            lake_version: gauge!("lake_version", "Version of the lake's table"),
            tail_rows: gauge!("lake_tail_rows", "Rows that wait for a commit"),
            queries: family!(Counter, "sql_queries", "SQL queries and reports by result"),
            query_duration: seconds!(durations(), "sql_query_duration", "How long a SQL query or report takes"),
            ready: gauge!("ready", "1 where the server answers as it should"),
            registry,
        };
        metrics.start_at_zero();
        metrics
    }

    /// Every series exists from the start, so that a rate sees its first event.
    fn start_at_zero(&self) {
        let zero = |family: &Family<Kind, Counter>, kinds: &[&'static str]| {
            kinds.iter().for_each(|kind| drop(family.get_or_create(&Kind { kind })));
        };
        zero(&self.events, &["accepted", "duplicate", "too_late", "rejected"]);
        zero(&self.rejected, &RejectCode::ALL.map(RejectCode::name));
        zero(&self.decisions, &Decision::OUTCOMES);
        zero(&self.budget_reloads, &["ok", "refused"]);
        zero(&self.schema_fetches, &["found", "unknown", "failed"]);
        zero(&self.queries, &["ok", "error", "cancelled"]);
    }

    /// Counts what became of events: `accepted`, `duplicate`, `too_late`, `rejected`.
    pub fn count_events(&self, kind: &'static str, count: u64) {
        if count > 0 {
            self.events.get_or_create(&Kind { kind }).inc_by(count);
        }
    }

    /// Counts one rejected event.
    pub fn count_rejected(&self, code: RejectCode) {
        self.rejected.get_or_create(&Kind { kind: code.name() }).inc();
    }

    /// Counts one published decision by its outcome, of [`Decision::OUTCOMES`].
    pub fn count_decision(&self, state: &'static str) {
        self.decisions.get_or_create(&Kind { kind: state }).inc();
    }

    /// Sets how many mails are in a state.
    pub fn set_mails(&self, state: &'static str, count: usize) {
        self.mails.get_or_create(&Kind { kind: state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts one reading of the budgets file.
    pub fn count_budget_reload(&self, ok: bool) {
        self.budget_reloads.get_or_create(&Kind { kind: if ok { "ok" } else { "refused" } }).inc();
    }

    /// Counts one question to the schema registry: `found`, `unknown`, `failed`.
    pub fn count_schema(&self, result: &'static str) {
        self.schema_fetches.get_or_create(&Kind { kind: result }).inc();
    }

    /// Counts one query, which ended as `ok`, `error` or `cancelled`, and how long it took.
    pub fn count_query(&self, result: &'static str, took: Duration) {
        self.queries.get_or_create(&Kind { kind: result }).inc();
        self.query_duration.observe(took.as_secs_f64());
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to a string cannot fail; should the encoder ever refuse, say so instead of showing half of it.
            return "# the metrics could not be encoded\n".to_owned();
        }
        prometheus_text(&text)
    }
}

/// OpenMetrics, which the encoder writes, in Prometheus' text format 0.0.4: there a family is named like its samples, an `info` is a gauge, and
/// units and an end are not declared. A server that reads 0.0.4 refuses the whole answer over one `info`.
fn prometheus_text(open_metrics: &str) -> String {
    let types: HashMap<&str, &str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let declared = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        let declared = declared.and_then(|(what, rest)| rest.split_once(' ').map(|(name, rest)| (what, name, rest)));
        // Writing to a string cannot fail.
        let _infallible = match declared {
            Some((what, name, rest)) => {
                let (ending, rest) = match (types.get(name), rest) {
                    (Some(&"counter"), rest) => ("_total", rest),
                    (Some(&"info"), "info") => ("_info", "gauge"),
                    (Some(&"info"), rest) => ("_info", rest),
                    (_, rest) => ("", rest),
                };
                writeln!(text, "# {what} {name}{ending} {rest}")
            }
            None => writeln!(text, "{line}"),
        };
    }
    text
}

/// Seconds between two points in time, for a gauge; never negative.
#[expect(clippy::cast_precision_loss, reason = "a gauge of seconds; microseconds are exact up to 285 years")]
pub fn seconds_between(earlier: TimeUs, later: TimeUs) -> f64 {
    (later.0 - earlier.0).max(0) as f64 / 1e6
}
