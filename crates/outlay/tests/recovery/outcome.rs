//! Everything that a run must come to, as anybody can see it from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Server, kafka, pico, wait_until_eq};
use crate::trace::{Expected, Totals};

/// What a run came to.
pub struct Outcome {
    /// What balances say, by budget or `-`, scope, window and measure.
    balances: BTreeMap<String, Value>,
    /// What the lake's rows come to, by namespace, team and repository.
    rows: BTreeMap<[String; 3], Totals>,
    /// State, limit and window of each key on the topic of decisions, and how many records the key has.
    decisions: BTreeMap<String, Value>,
    /// The ids on the topic of alerts.
    alerts: BTreeSet<String>,
    /// The alert ids of the mails in the folder.
    mails: Vec<String>,
    /// Events that the last server had met before.
    pub duplicates: u64,
}

impl Outcome {
    /// Waits until the server has counted every event and sent every mail, and looks at all of it.
    pub fn of(server: &Server, expected: &Expected) -> Self {
        let events = json!(expected.total.0);
        wait_until_eq("events in SQL", &events, || {
            server.sql("select count(*) as events from usage")[0]["events"].clone()
        });
        // The last event of all is what this alert waits for; its mail is the last.
        let everything = || server.get_json("/v1/balances?budget=everything")[0]["used"].clone();
        wait_until_eq("requests", &json!(expected.total.0.to_string()), everything);
        // Alerts are raised, published and mailed in this order, but those of one batch of events before those of the next only in the first.
        let settled = || {
            let raised = server.sql("select id from alerts");
            let last = raised.iter().any(|alert| {
                alert["id"].as_str().unwrap().starts_with("everything|*|")
                    && alert["id"].as_str().unwrap().ends_with("|1")
            });
            let status = server.get_json("/v1/status");
            let mails = status["mails"].as_array().unwrap();
            let written = mails.iter().filter(|mail| mail["state"] == "written").count();
            let alerts = kafka::latest(&server.log, "usage.alerts").len();
            (last, written == raised.len(), alerts == raised.len())
        };
        wait_until_eq("each alert raised, mailed and published, the last one included", &(true, true, true), settled);
        let in_force = server.get_json("/v1/decisions");
        let in_force = in_force.as_array().unwrap().iter().filter(|decision| decision["state"] == "blocked").count();
        wait_until_eq("decisions on the topic", &in_force, || {
            let published = kafka::latest(&server.log, "usage.decisions");
            published.values().filter(|decision| decision["state"] == "blocked").count()
        });
        Self {
            balances: balances(server),
            rows: rows(server),
            decisions: decisions(server),
            alerts: kafka::latest(&server.log, "usage.alerts").into_keys().collect(),
            mails: mails(&server.data),
            duplicates: server.metric("outlay_events_total{kind=\"duplicate\"}"),
        }
    }

    /// Compares with the recomputation: every event once, every pico-dollar.
    pub fn expect_what_was_recomputed(&self, expected: &Expected) {
        assert_same("rows of the lake", &self.rows, &expected.groups);
        let budget = |id: &str, scope: &str, measure: &str| {
            self.balances[&format!("{id} {scope} day {measure}")]["used"].as_str().unwrap()
        };
        let support = expected.namespaces["support"].1.iter().sum::<u64>().to_string();
        assert_eq!(budget("support-tokens", "namespace=support", "tokens"), support);
        assert_eq!(pico(budget("checkout-warns", "namespace=checkout", "cost")), expected.namespaces["checkout"].2);
        assert_eq!(budget("one-more", "*", "requests"), "8819");
        if expected.one_month {
            for ([namespace, team, repository], (events, tokens, cost, _)) in &expected.groups {
                let scope = format!("namespace={namespace},team={team},repository={repository}");
                let used =
                    |measure: &str| self.balances[&format!("- {scope} month {measure}")]["used"].as_str().unwrap();
                assert_eq!(used("requests"), events.to_string(), "{scope}");
                assert_eq!(used("tokens"), tokens.iter().sum::<u64>().to_string(), "{scope}");
                assert_eq!(pico(used("cost")), *cost, "{scope}");
            }
        }
        // What must be blocked and mailed, from the budgets and the totals alone.
        let blocked: BTreeSet<&str> = self.decisions.keys().filter_map(|key| key.split('|').next()).collect();
        assert!(
            blocked.is_superset(&BTreeSet::from(["support-tokens", "checkout-stops", "search-teams"])),
            "{blocked:?}"
        );
        assert!(blocked.is_disjoint(&BTreeSet::from(["everything", "one-more", "checkout-warns"])), "{blocked:?}");
        assert!(self.decisions.values().all(|decision| decision["state"] == "blocked"), "{:#?}", self.decisions);
        let of = |budget: &str| self.alerts.iter().filter(|id| id.starts_with(&format!("{budget}|"))).count();
        // $6.44 is above 80 % of 7, and above 120 % of 5.
        assert_eq!(
            [of("support-tokens"), of("checkout-warns"), of("checkout-stops"), of("everything"), of("one-more")],
            [3, 1, 3, 4, 0]
        );
        assert_eq!(self.mails, self.alerts.iter().cloned().collect::<Vec<_>>(), "exactly one mail for each alert");
    }

    /// Compares with another run.
    pub fn expect_same(&self, other: &Self) {
        assert_same("balances", &self.balances, &other.balances);
        assert_same("decisions", &self.decisions, &other.decisions);
        assert_eq!(self.alerts, other.alerts);
        assert_eq!(self.mails, other.mails);
        assert_same("rows", &self.rows, &other.rows);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: u64 = self.rows.values().map(|totals| totals.0).sum();
        write!(
            f,
            "{events} events, {} balances, {} decisions, {} alerts, {} mails; the last server met {} duplicates",
            self.balances.len(),
            self.decisions.len(),
            self.alerts.len(),
            self.mails.len(),
            self.duplicates
        )
    }
}

/// Says which entries differ instead of printing both maps.
#[track_caller]
fn assert_same<K: Ord + fmt::Debug, V: PartialEq + fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) {
    let mut differences = Vec::new();
    for key in found.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
        if found.get(key) != expected.get(key) {
            differences.push(format!(
                "  {key:?}\n    found    {:?}\n    expected {:?}",
                found.get(key),
                expected.get(key)
            ));
        }
    }
    assert!(differences.is_empty(), "{what}: {} differ\n{}", differences.len(), differences.join("\n"));
}

fn scope_text(scope: &Value) -> String {
    let order = ["namespace", "team", "repository", "user"];
    let parts: Vec<String> =
        order.iter().filter_map(|name| Some(format!("{name}={}", scope[name].as_str()?))).collect();
    if parts.is_empty() { "*".to_owned() } else { parts.join(",") }
}

/// All balances of windows that hold now, but those of an hour, and those of a day in UTC: which one that is depends on when it is asked.
fn balances(server: &Server) -> BTreeMap<String, Value> {
    let answer = server.get("/v1/balances?limit=10000").expect(200);
    assert_eq!(answer.header("x-outlay-truncated"), "");
    let rows = answer.json();
    let rows =
        rows.as_array().unwrap().iter().filter(|row| row["every"] == "month" || row.get("budget").is_some()).map(
            |row| {
                let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
                (
                    format!("{} {} {} {}", text("budget"), scope_text(&row["scope"]), text("every"), text("measure")),
                    row.clone(),
                )
            },
        );
    rows.collect()
}

fn rows(server: &Server) -> BTreeMap<[String; 3], Totals> {
    let classes = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"];
    let sums: String = classes.iter().map(|class| format!("sum({class}_tokens) as {class}, ")).collect();
    let query = format!(
        "select namespace, team, repository, {sums} count(*) as events, sum(cost) as cost, count(*) - count(cost) as unpriced \
         from usage group by namespace, team, repository"
    );
    let count = |value: &Value| {
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no count"))
    };
    let rows = server.sql(&query).into_iter().map(|row| {
        let key = ["namespace", "team", "repository"].map(|name| row[name].as_str().unwrap().to_owned());
        let cost = row["cost"].as_str().map_or(0, pico);
        (key, (count(&row["events"]), classes.map(|class| count(&row[class])), cost, count(&row["unpriced"])))
    });
    rows.collect()
}

/// The amount used is what a batch came to when the limit was passed, so it may differ; the rest may not.
fn decisions(server: &Server) -> BTreeMap<String, Value> {
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    for record in kafka::read_topic(&server.log, "usage.decisions") {
        *records.entry(record.key()).or_default() += 1;
    }
    let latest = kafka::latest(&server.log, "usage.decisions").into_iter().map(|(key, decision)| {
        // Not `seq`: where a key begins depends on how much the topic held when the server started. That a block is said once is `records`.
        let kept = ["state", "reason_code", "http_status", "measure", "limit", "window"];
        let mut kept: serde_json::Map<String, Value> =
            kept.iter().map(|name| ((*name).to_owned(), decision[name].clone())).collect();
        kept.insert("records".to_owned(), json!(records[&key]));
        (key, Value::Object(kept))
    });
    latest.collect()
}

/// The alert ids of the mails, by their own header, ascending.
fn mails(data: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(data.join("mail")).unwrap().map(|entry| entry.unwrap().path());
    let mut ids: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("X-Outlay-Alert-Id: "));
            line.unwrap_or_else(|| panic!("{} names no alert:\n{text}", path.display())).to_owned()
        })
        .collect();
    ids.sort();
    ids
}
