//! The demo's trace as `recompute.py` tells it, and what that script makes of it.

use std::collections::BTreeMap;
use std::process::Command;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::common::{pico, repository};

/// The names of token classes, in the order of `recompute.py --events`.
const CLASSES: [&str; 6] = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"];

/// What a namespace, team and repository used: events, tokens by class, pico-dollars, events without a price.
pub type Totals = (u64, [u64; 6], i128, u64);

/// The events to publish and what they must come to.
pub struct Trace {
    /// Key and JSON of each.
    pub events: Vec<(String, String)>,
    /// What they come to.
    pub expected: Expected,
}

/// What the script computed.
pub struct Expected {
    /// By namespace, team and repository.
    pub groups: BTreeMap<[String; 3], Totals>,
    /// By namespace.
    pub namespaces: BTreeMap<String, Totals>,
    /// All together.
    pub total: Totals,
    /// Whether all of the trace lies in the month of its end, in UTC.
    pub one_month: bool,
}

impl Trace {
    /// The trace whose last request is at this time.
    pub fn ending_at(end: DateTime<Utc>) -> Self {
        let csv = std::fs::read_to_string(repository("tests/data/llm-trace.csv")).unwrap();
        let offsets: Vec<i64> =
            csv.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
        let duration = *offsets.last().unwrap();
        let lines = recompute(&["--events"]);
        let events: Vec<_> = lines
            .lines()
            .zip(&offsets)
            .map(|(line, offset)| {
                event(&serde_json::from_str(line).unwrap(), end + Duration::microseconds(offset - duration))
            })
            .collect();
        assert_eq!((events.len(), offsets.len()), (8819, 8819));
        let one_month =
            (end - Duration::microseconds(duration)).format("%Y-%m").to_string() == end.format("%Y-%m").to_string();
        Self { events, expected: Expected::read(one_month) }
    }
}

impl Expected {
    fn read(one_month: bool) -> Self {
        let summary: Value = serde_json::from_str(&recompute(&[])).unwrap();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let rows = |name: &str| summary[name].as_array().unwrap().clone();
        Self {
            groups: rows("groups")
                .iter()
                .map(|row| (["namespace", "team", "repository"].map(|name| text(row, name)), totals(row)))
                .collect(),
            namespaces: rows("namespaces").iter().map(|row| (text(row, "namespace"), totals(row))).collect(),
            total: totals(&summary["total"]),
            one_month,
        }
    }
}

fn totals(row: &Value) -> Totals {
    let count = |value: &Value| value.as_u64().unwrap();
    let tokens = CLASSES.map(|class| count(&row["tokens"][class]));
    (count(&row["events"]), tokens, pico(row["cost"].as_str().unwrap()), count(&row["unpriced"]))
}

/// `[index, namespace, team, repository, user, session, model, [tokens by class], cost]` as a record.
fn event(row: &Value, time: DateTime<Utc>) -> (String, String) {
    let tokens: serde_json::Map<String, Value> =
        CLASSES.iter().enumerate().map(|(at, class)| ((*class).to_owned(), row[7][at].clone())).collect();
    let provider = match row[6].as_str().unwrap() {
        model if model.starts_with("gpt") => "openai",
        model if model.starts_with("claude") => "anthropic",
        model if model.starts_with("gemini") => "gcp.gemini",
        _ => "acme",
    };
    let event = json!({
        "id": format!("request-{}", row[0]), "source": "recovery", "time": time.to_rfc3339_opts(SecondsFormat::Micros, true),
        "namespace": row[1], "team": row[2], "repository": row[3], "user": row[4], "session": row[5],
        "provider": provider, "model": row[6], "tokens": tokens,
    });
    // Any key will do; this one spreads over the partitions.
    (format!("{}", row[0]), event.to_string())
}

fn recompute(args: &[&str]) -> String {
    let run = Command::new("python3")
        .arg(repository("tests/data/recompute.py"))
        .args(args)
        .output()
        .expect("this test needs python3");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}
