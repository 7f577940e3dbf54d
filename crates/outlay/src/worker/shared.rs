//! What the threads and tasks of a server share: the one lock, the latest decisions for followers, figures, and what is wrong at present.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use budget_core::CoreStats;
use event_log::LogConfig;
use http_api::Enforcement;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use usage_types::{Alert, BudgetSet, Decision, TimeUs};

use super::audit::Audit;
use super::counted::Counted;
use super::mail::Mail;
use super::manage::Management;
use super::metrics::{Metrics, seconds_between};
use crate::options::Settings;

/// Decisions that a follower may lag behind before it takes the full set again.
const DECISIONS_BUFFERED: usize = 1024;
/// Alerts that are kept for the page and the SQL view; the topic has all of them.
const ALERTS_KEPT: usize = 10_000;
/// Seconds over which the rate of events is taken.
const RATE_SECONDS: usize = 5;
/// The lag is noted twice a second; one that was not noted for so long is not believed any more.
const LAG_STALE_US: u64 = 2_000_000;
/// Trouble with the log older than this is over: librdkafka says so again while it lasts.
const TROUBLE_FADES: Duration = Duration::from_secs(15);

/// Shared by all threads of a server.
pub struct Shared {
    /// The settings.
    pub settings: Settings,
    /// How to reach the log.
    pub log_config: LogConfig,
    /// Partitions of `usage.events`.
    pub partitions: i32,
    /// Balances, tail and accounts.
    pub counted: Mutex<Counted>,
    /// The budgets in force.
    pub budgets: ArcSwap<BudgetSet>,
    /// Who changes them.
    pub management: Management,
    /// Who changed them, and what was decided.
    pub audit: Audit,
    /// Decisions as they are published.
    pub decisions: broadcast::Sender<Arc<Decision>>,
    /// Alert mails.
    pub mail: Mail,
    /// Figures.
    pub metrics: Metrics,
    /// Set once, to stop.
    pub stopping: AtomicBool,
    /// Whether the log has been read up to where it ended at start.
    pub caught_up: AtomicBool,
    /// When the server started.
    pub started_at: TimeUs,
    lag_events: AtomicI64,
    lag_us: AtomicI64,
    /// When the lag was noted last, in microseconds since the epoch.
    lag_noted_us: AtomicI64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    alerts: VecDeque<Alert>,
    rate: VecDeque<(Instant, u64)>,
    log_trouble: Option<(Instant, String)>,
    /// By the id of the schema that is asked for.
    registry_problems: BTreeMap<u32, String>,
    budgets_problem: Option<String>,
    commit_problem: Option<String>,
    committed_at: Option<TimeUs>,
    ended: Option<String>,
}

impl State {
    fn registry_problem(&self) -> Option<String> {
        let (id, problem) = self.registry_problems.first_key_value()?;
        let partitions = "the partitions with records of it wait";
        Some(format!("the schema registry does not give schema {id}, so {partitions}: {problem}"))
    }
}

impl Shared {
    /// What is shared, before the threads start.
    pub fn new(
        settings: Settings,
        log_config: LogConfig,
        partitions: i32,
        counted: Counted,
        (management, audit): (Management, Audit),
        mail: Mail,
    ) -> Self {
        let started_at = TimeUs::from(chrono::Utc::now());
        Self {
            settings,
            log_config,
            partitions,
            counted: Mutex::new(counted),
            budgets: ArcSwap::new(management.effective()),
            management,
            audit,
            decisions: broadcast::channel(DECISIONS_BUFFERED).0,
            mail,
            metrics: Metrics::new(),
            stopping: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            started_at,
            lag_events: AtomicI64::new(0),
            lag_us: AtomicI64::new(0),
            lag_noted_us: AtomicI64::new(started_at.0),
            state: Mutex::default(),
        }
    }

    /// Notes how far the balances are behind the log.
    pub fn note_lag(&self, lag_events: i64, newest: TimeUs, now: TimeUs) {
        let lag_us = if lag_events == 0 { 0 } else { (now.0 - newest.0).max(0) };
        self.lag_events.store(lag_events, Ordering::Relaxed);
        self.lag_us.store(lag_us, Ordering::Relaxed);
        self.lag_noted_us.store(now.0, Ordering::Relaxed);
        self.metrics.consumer_lag.set(lag_events);
        self.metrics.enforcement_lag.set(seconds_between(TimeUs(0), TimeUs(lag_us)));
    }

    /// Records that wait in the log, and the age in microseconds of the newest event that decisions take into account.
    pub fn lag(&self) -> (u64, u64) {
        let lag = |value: &AtomicI64| u64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
        (lag(&self.lag_events), lag(&self.lag_us))
    }

    /// Takes over the core's figures, and everything else that is refreshed now and then.
    pub fn note_stats(&self, stats: &CoreStats) {
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.balances.set(count(stats.balances));
        self.metrics.dedup_ids.set(count(stats.dedup_ids));
        let dropped = &self.metrics.dedup_ids_dropped;
        dropped.inc_by(stats.dedup_ids_dropped.saturating_sub(dropped.get()));
        self.metrics.dedup_bytes.set(count(stats.dedup_bytes));
        self.metrics.budgets.set(count(stats.budgets));
        self.metrics.blocked_scopes.set(count(stats.blocked));
        self.metrics.reservations.set(count(stats.holds));
        self.metrics.rolled_back.set(count(stats.rolled_back));
        self.metrics.circuits.set(count(stats.circuits));
        self.metrics.would_block_scopes.set(count(stats.would_block));
        self.metrics.throttled_scopes.set(count(stats.throttled));
        self.metrics.ready.set(i64::from(self.ready().is_ok()));
        let mails = self.mail.outbox().counts();
        for (state, count) in [("sent", mails.sent), ("pending", mails.pending), ("failed", mails.failed)] {
            self.metrics.set_mails(state, count);
        }
    }

    /// Counts events for the rate that the page shows.
    pub fn note_events(&self, total: u64) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.rate.back().is_none_or(|(at, _)| now.duration_since(*at) >= Duration::from_millis(500)) {
            state.rate.push_back((now, total));
            while state.rate.len() > 2 * RATE_SECONDS + 1 {
                state.rate.pop_front();
            }
        }
    }

    /// Events per second over the last seconds.
    pub fn events_per_second(&self, total: u64) -> u64 {
        let state = self.state.lock();
        let Some((at, before)) = state.rate.front() else { return 0 };
        let elapsed_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        total.saturating_sub(*before).saturating_mul(1000) / elapsed_ms
    }

    /// Keeps an alert for the page, once: one that the log did not take is raised again.
    pub fn remember_alert(&self, alert: &Alert) {
        let mut state = self.state.lock();
        state.alerts.retain(|known| known.id != alert.id);
        state.alerts.push_front(alert.clone());
        state.alerts.truncate(ALERTS_KEPT);
    }

    /// The alerts, newest first.
    pub fn alerts(&self) -> Vec<Alert> {
        self.state.lock().alerts.iter().cloned().collect()
    }

    /// Notes what librdkafka is dealing with.
    pub fn note_log_trouble(&self, at: Instant, trouble: &str) {
        self.state.lock().log_trouble = Some((at, trouble.to_owned()));
    }

    /// Notes that the schema registry does not give a schema, or gave it.
    pub fn note_schema(&self, id: u32, problem: Option<String>) {
        let problems = &mut self.state.lock().registry_problems;
        match problem {
            Some(problem) => drop(problems.insert(id, problem)),
            None => drop(problems.remove(&id)),
        }
    }

    /// Notes that the budgets file is refused, or accepted again.
    pub fn budgets_problem(&self, problem: Option<String>) {
        self.state.lock().budgets_problem = problem;
    }

    /// Notes that a commit failed, or succeeded.
    pub fn note_commit(&self, problem: Option<String>) {
        let mut state = self.state.lock();
        if problem.is_none() {
            state.committed_at = Some(TimeUs::from(chrono::Utc::now()));
        }
        state.commit_problem = problem;
    }

    /// When the lake was last committed to by this server.
    pub fn committed_at(&self) -> Option<TimeUs> {
        self.state.lock().committed_at
    }

    /// Notes why a thread ended by itself: the server is not ready any more.
    pub fn note_end(&self, reason: String) {
        self.state.lock().ended.get_or_insert(reason);
    }

    /// Why a thread ended by itself.
    pub fn ended(&self) -> Option<String> {
        self.state.lock().ended.clone()
    }

    /// The present problem of the log, the lake, the budgets, the mails and, where there is one, the schema registry.
    pub fn problems(&self) -> Vec<(&'static str, Option<String>)> {
        let state = self.state.lock();
        let log =
            state.log_trouble.as_ref().filter(|(at, _)| at.elapsed() < TROUBLE_FADES).map(|(_, what)| what.clone());
        let mut problems = vec![
            ("log", state.ended.clone().or(log)),
            ("lake", state.commit_problem.clone()),
            ("budgets", state.budgets_problem.clone()),
            ("mail", self.mail.outbox().server_error()),
        ];
        if self.settings.schema_registry.is_some() {
            problems.push(("schema registry", state.registry_problem()));
        }
        problems
    }

    /// How current the balances are. Other than readiness this does not look at the lake: while it takes no rows, events are counted
    /// until memory for them is full, and then the lag says so.
    pub fn enforcement(&self, now: TimeUs) -> Enforcement {
        let (lag_events, noted_lag_us) = self.lag();
        let unnoted_us = now.0.saturating_sub(self.lag_noted_us.load(Ordering::Relaxed));
        let is_caught_up = self.caught_up.load(Ordering::Relaxed);
        // A worker that does not say how far it is stands still, for as long as it has not said so.
        let stands_still_us = u64::try_from(unnoted_us).unwrap_or(0);
        let lag_us = if is_caught_up && stands_still_us > LAG_STALE_US {
            noted_lag_us.max(stands_still_us)
        } else {
            noted_lag_us
        };
        let state = self.state.lock();
        let trouble = || state.log_trouble.as_ref().filter(|(at, _)| at.elapsed() < TROUBLE_FADES);
        let problem = state
            .ended
            .clone()
            .or_else(|| state.registry_problem())
            .or_else(|| (!is_caught_up).then(|| format!("catching up with the log: {lag_events} events behind")))
            .or_else(|| trouble().map(|(_, what)| format!("the log is in trouble: {what}")));
        Enforcement { lag_us, problem }
    }

    /// Whether decisions can be relied on.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(reason) = self.ended() {
            return Err(reason);
        }
        if self.stopping.load(Ordering::Relaxed) {
            return Err("stopping".to_owned());
        }
        if let Some(problem) = self.state.lock().registry_problem() {
            return Err(problem);
        }
        if !self.caught_up.load(Ordering::Relaxed) {
            return Err(format!("catching up with the log: {} events behind", self.lag().0));
        }
        match &self.state.lock().commit_problem {
            Some(problem) => Err(format!("the lake does not take rows: {problem}")),
            None => Ok(()),
        }
    }
}
