//! What happens at start: the lake's rows are folded through the code that folds events, and the compacted topics say what is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use budget_core::{Core, RestoredRow};
use event_log::{LogConfig, LogError, read_compacted, topics};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use usage_lake::{Lake, ReplayColumns, ReplayFrom, RowKind, StoredRow, rows};
use usage_types::{Alert, BudgetSet, Decision, TimeUs};

/// How long reading a compacted topic may take.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(60);

/// A row of the lake as the core takes it.
pub fn restored<'a>(row: &'a StoredRow<'_>) -> RestoredRow<'a> {
    RestoredRow {
        id: row.id,
        source: row.source,
        time: row.time,
        append_time: row.position.append_time,
        dimensions: &row.dimensions,
        tokens: row.tokens,
        requests: row.requests,
        tool_calls: row.tool_calls,
        images: row.images,
        compute: row.compute,
        cost: row.cost.map(|cost| (cost.amount, cost.currency)),
        reversal: row.kind == RowKind::Reversal,
        progress: row.progress,
    }
}

/// What the compacted topics hold.
pub struct Published {
    /// Decisions, the last of each key.
    pub decisions: Vec<Decision>,
    /// How many records the topic of decisions has ever taken.
    pub decisions_end: u64,
    /// Alerts.
    pub alerts: Vec<Alert>,
}

/// Reads both compacted topics to their ends.
pub fn published(config: &LogConfig) -> Result<Published, LogError> {
    let (decisions, decisions_end) = read_json(config, topics::USAGE_DECISIONS)?;
    let (alerts, _) = read_json(config, topics::USAGE_ALERTS)?;
    Ok(Published { decisions, decisions_end, alerts })
}

fn read_json<T: serde::de::DeserializeOwned>(config: &LogConfig, topic: &str) -> Result<(Vec<T>, u64), LogError> {
    let read = read_compacted(config, topic, TOPIC_TIMEOUT)?;
    let values = (read.records.iter())
        .filter_map(|record| {
            serde_json::from_slice(&record.value)
                .inspect_err(|error| {
                    let key = String::from_utf8_lossy(&record.key);
                    tracing::warn!(topic, %key, %error, "a record that is not ours is ignored");
                })
                .ok()
        })
        .collect();
    Ok((values, read.taken))
}

/// Brings a new core to the state that the lake and the topics hold.
pub async fn restore(core: &mut Core, lake: &Lake, budgets: Arc<BudgetSet>, published: &Published) -> Result<()> {
    let now = TimeUs::from(chrono::Utc::now());
    let reached = newest_common(lake).await?.unwrap_or(now).min(now);
    core.evict(reached);
    let requests = core.set_budgets(budgets, now);
    core.load_decisions(published.decisions.iter().cloned());
    core.load_decisions_end(published.decisions_end);
    core.load_alerts(published.alerts.iter().cloned());
    let from = core.restore_from(now);
    let progress = progress();
    let needed = ReplayFrom { time: Some(from), log_time: Some(core.remembers_from(now)) };
    let files = lake.replay(needed, ReplayColumns::Balances);
    let mut batches = Box::pin(files);
    while let Some(batch) = batches.next().await {
        let batch = batch.context("cannot read the lake")?;
        for row in rows(&batch)? {
            core.restore(&restored(&row?));
        }
        progress.inc(batch.num_rows() as u64);
    }
    requests.iter().for_each(|request| core.finish_history(request));
    progress.finish_and_clear();
    tracing::info!(rows = progress.position(), from = %from, balances = core.stats().balances, "balances restored from the lake");
    Ok(())
}

/// The append time that every partition had reached when the lake was last written: the least of the newest of each, by the rows of the last
/// day of commits. Partitions without rows there are read to their end or idle, and hold nothing back.
async fn newest_common(lake: &Lake) -> Result<Option<TimeUs>> {
    let files = lake.files();
    let newest = files.usage.iter().filter_map(|file| file.times.get("log_time")).map(|(_, latest)| *latest).max();
    let Some(newest) = newest else { return Ok(None) };
    let since = ReplayFrom { time: None, log_time: Some(newest.plus_us(-TimeUs::DAY)) };
    let mut batches = Box::pin(lake.replay(since, ReplayColumns::Ids));
    let mut reached: BTreeMap<i32, TimeUs> = BTreeMap::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.context("cannot read the lake")?;
        for row in rows(&batch)? {
            let position = row?.position;
            let at = reached.entry(position.partition).or_insert(position.append_time);
            *at = (*at).max(position.append_time);
        }
    }
    Ok(reached.into_values().min())
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} restoring balances: {pos} rows, {per_sec}, {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
