//! Corrections through the real binary: void and amend over HTTP and Kafka, seen in balances, decisions, SQL and the proof, also after kill -9.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::events::{event_with, now, zone_without_midnight};
use crate::common::server::verify;
use crate::common::{Server, kafka, pico, wait_for, wait_until_eq};

/// One token costs 12,500 pico-dollars of input and 100,000 of output.
const PRICES: &str = r#"
currency: USD
source: https://example.com/prices
as_of: 2026-11-01
prices:
  - model: tiny-1
    provider: acme
    per_million: { input: "0.0125", output: "0.1" }
"#;

const SHOP: &[(&str, &str)] = &[("namespace", "shop")];
const WEB: &[(&str, &str)] = &[("namespace", "shop"), ("team", "web")];

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// A hard budget of 1,000 tokens a day.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("prices.yaml"), PRICES).unwrap();
        let zone = zone_without_midnight();
        let budget = format!(
            "budgets:\n  - id: shop-daily\n    match: {{ namespace: shop }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 1000 }}\n"
        );
        std::fs::write(dir.path().join("budgets.yaml"), budget).unwrap();
        Self { dir }
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn start(&self) -> Server {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        Server::start(&self.data(), &["--prices", &path("prices.yaml"), "--budgets", &path("budgets.yaml")])
    }
}

fn usage(id: &str, input: u64, team: &str) -> Value {
    let more = json!({"source": "gw", "team": team, "provider": "acme", "model": "tiny-1", "user": "u-1", "tags": {"env": "ci"}});
    event_with(id, "shop", input, more)
}

fn void(id: &str, corrects: &str) -> Value {
    json!({"id": id, "source": "gw", "time": now(), "namespace": "shop", "user": "u-1", "corrects": corrects, "correction": "void"})
}

fn amend(id: &str, corrects: &str, input: u64, team: &str) -> Value {
    let mut event = usage(id, input, team);
    event["corrects"] = corrects.into();
    event
}

/// What the balances, SQL and the topic of decisions say, as one value.
fn standing(server: &Server) -> Value {
    let sums = "sum(total_tokens) as tokens, sum(requests) as requests, sum(cost) as cost";
    let rows =
        server.sql(&format!("select team, {sums} from usage where namespace = 'shop' group by team order by team"));
    let tagged = server.sql(&format!("select {sums} from usage where tags like '%ci%'"));
    let decision = kafka::latest(&server.log, "usage.decisions").remove("shop-daily|namespace=shop");
    json!({
        "tokens": server.used(SHOP, "month", "tokens"), "cost": server.used(SHOP, "month", "cost").map(|cost| pico(&cost).to_string()),
        "requests": server.used(SHOP, "month", "requests"), "web": server.used(WEB, "month", "tokens"),
        "rows": rows, "tagged": tagged, "state": decision.map(|decision| decision["state"].clone()),
        "checked": server.check(SHOP).status,
    })
}

/// Tokens that count; each costs 12,500 pico-dollars.
fn expected(by_team: &[(&str, u64, u64)], state: &str) -> Value {
    let cost = |tokens: u64| {
        let text = format!("0.{:012}", tokens * 12_500);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let sum = |tokens: u64, requests: u64| json!({"tokens": tokens, "requests": requests, "cost": cost(tokens)});
    let rows: Vec<Value> = by_team
        .iter()
        .map(|(team, tokens, requests)| {
            let mut row = sum(*tokens, *requests);
            row["team"] = (*team).into();
            row
        })
        .collect();
    let tokens: u64 = by_team.iter().map(|(_, tokens, _)| tokens).sum();
    let requests: u64 = by_team.iter().map(|(_, _, requests)| requests).sum();
    let web = by_team.iter().find(|(team, ..)| *team == "web").map_or(0, |(_, tokens, _)| *tokens);
    json!({
        "tokens": tokens.to_string(), "cost": (u128::from(tokens) * 12_500).to_string(), "requests": requests.to_string(),
        "web": web.to_string(), "rows": rows, "tagged": [sum(tokens, requests)],
        "state": state, "checked": if state == "blocked" { 403 } else { 200 },
    })
}

fn assert_proven(data: &Path) {
    let (passed, said) = verify(data);
    assert!(passed, "{said}");
}

#[test]
fn a_void_and_an_amendment_restate_balances_sql_and_the_block_also_after_kill_9() {
    let setup = Setup::new();
    let server = setup.start();
    for (id, tokens, team) in [("a", 700, "web"), ("b", 250, "web"), ("c", 100, "ops")] {
        server.post_event(&usage(id, tokens, team));
    }
    let all = expected(&[("ops", 100, 1), ("web", 950, 2)], "blocked");
    wait_until_eq("three events", &all, || standing(&server));

    // Void one: 700 tokens go, and so does the block. Over HTTP, sent twice.
    server.post_event(&void("v1", "a"));
    server.post_event(&void("v1", "a"));
    let voided = expected(&[("ops", 100, 1), ("web", 250, 1)], "allowed");
    wait_until_eq("after the void", &voided, || standing(&server));
    wait_until_eq("duplicates", &1_u64, || server.metric("outlay_events_total{kind=\"duplicate\"}"));
    let decision = &kafka::latest(&server.log, "usage.decisions")["shop-daily|namespace=shop"];
    assert_eq!((&decision["seq"], &decision["used"]), (&json!(2), &json!("350")));

    // Amend another over Kafka, to another team; then amend it again in the same breath, and void what the first amendment said not.
    let key = "shop/u-1";
    let lines =
        [amend("m1", "b", 300, "ops"), amend("m2", "b", 20, "ops"), void("v2", "nowhere")].map(|line| line.to_string());
    let records: Vec<(&str, &[u8])> = lines.iter().map(|line| (key, line.as_bytes())).collect();
    kafka::publish(&server.log, "usage.events", &records);
    // The group of team web has a row that takes 250 back and none that counts: its sum is nothing.
    let amended = expected(&[("ops", 120, 2), ("web", 0, 0)], "allowed");
    wait_until_eq("after the amendments", &amended, || standing(&server));
    server.kill();

    let server = setup.start();
    wait_until_eq("the same after kill -9", &amended, || standing(&server));
    // What was refused says what to do, in the topic and in the lake.
    let letter =
        wait_for("the dead letter", || kafka::read_topic(&server.log, "usage.rejected").into_iter().next()).json();
    assert_eq!((&letter["code"], &letter["field"]), (&json!("unknown_original"), &json!("corrects")));
    assert!(letter["message"].as_str().unwrap().contains("with the same Kafka key"), "{letter}");
    assert_eq!(server.sql("select distinct code from rejected"), [json!({"code": "unknown_original"})]);

    // Void again what is void: refused. Amend it: it counts again, at its own time. The first void once more: still a duplicate.
    server.post_event(&void("v3", "a"));
    server.post_event(&amend("m3", "a", 880, "web"));
    server.post_event(&void("v1", "a"));
    // Of another namespace: refused, and not told what there is.
    let mut foreign = void("v4", "c");
    foreign["namespace"] = "other".into();
    server.post_event(&foreign);
    let again = expected(&[("ops", 120, 2), ("web", 880, 1)], "blocked");
    wait_until_eq("after the reinstatement", &again, || standing(&server));
    for said in ["`a` is void already", "no event `c`"] {
        let is_said = |row: &Value| row["message"].as_str().unwrap().contains(said);
        wait_for(said, || server.sql("select message from rejected").iter().any(is_said).then_some(()));
    }
    let times = server.sql("select count(distinct time) as times from usage where id = 'a' or corrects = 'a'");
    assert_eq!(times, [json!({"times": 1})], "all rows of an event lie in its window");
    server.kill();

    let server = setup.start();
    wait_until_eq("the same after another kill -9", &again, || standing(&server));
    assert!(server.stop().success());
    assert_proven(&setup.data());
}

#[test]
fn a_correction_in_the_batch_of_its_event_and_one_long_after_do_the_same() {
    let setup = Setup::new();
    let server = setup.start();
    let key = "shop/u-1";
    let early: Vec<String> = (0..40)
        .flat_map(|n| {
            let (id, correction) = (format!("e{n}"), format!("c{n}"));
            let second = if n % 2 == 0 { void(&correction, &id) } else { amend(&correction, &id, 1, "ops") };
            [usage(&id, 10, "web").to_string(), second.to_string()]
        })
        .collect();
    let records: Vec<(&str, &[u8])> = early.iter().map(|line| (key, line.as_bytes())).collect();
    kafka::publish(&server.log, "usage.events", &records);
    // Half of 40 are void, half are amended to one token.
    let first = expected(&[("ops", 20, 20), ("web", 0, 0)], "none");
    let without_decision = |server: &Server| {
        let mut standing = standing(server);
        standing["state"] = "none".into();
        standing
    };
    wait_until_eq("in one batch", &first, || without_decision(&server));
    wait_until_eq("committed", &json!([{"n": 40 + 40 + 20}]), || server.sql("select count(*) as n from usage").into());
    server.stop();

    // From the lake: the amended ones are void now.
    let server = setup.start();
    let late: Vec<String> = (1..40).step_by(2).map(|n| void(&format!("d{n}"), &format!("e{n}")).to_string()).collect();
    server.post_events("application/x-ndjson", late.join("\n")).expect(202);
    let nothing = expected(&[("ops", 0, 0), ("web", 0, 0)], "none");
    wait_until_eq("after voiding the rest", &nothing, || without_decision(&server));
    server.kill();
    let server = setup.start();
    wait_until_eq("the same after kill -9", &nothing, || without_decision(&server));
    assert!(server.stop().success());
    assert_proven(&setup.data());
}

/// Usage of the past and a change of its cost: neither is too late, and neither counts twice, also after a restart.
#[test]
fn backfill_and_adjustments_are_counted_once_whatever_their_age() {
    let setup = Setup::new();
    let server = setup.start();
    let past = chrono::Utc::now() - chrono::Duration::days(60);
    let past = past.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let old = |id: &str, more: Value| {
        let mut event = usage(id, 1_000, "web");
        event["time"] = past.clone().into();
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let adjusting = json!({"id": "cheaper-1", "source": "gw", "time": past, "namespace": "shop", "team": "web",
        "adjusts": "contract-2026", "cost": {"amount": "-0.0000025", "currency": "USD"}});
    let status = |server: &Server| {
        let seen = server.get_json("/v1/status")["totals"].clone();
        ["accepted", "duplicate", "too_late", "rejected"].map(|kind| seen[kind].as_u64().unwrap())
    };

    server.post_event(&old("late", json!({})));
    server.post_event(&old("late", json!({"backfill": true})));
    server.post_event(&adjusting);
    wait_until_eq("what became of them", &[2, 0, 1, 0], || status(&server));
    server.post_event(&old("late", json!({"backfill": true})));
    server.post_event(&adjusting);
    wait_until_eq("the same again", &[2, 2, 1, 0], || status(&server));

    // 1,000 tokens at 12,500 pico-dollars are 0.0000125; the contract takes 0.0000025 off.
    let sums = "select sum(total_tokens) as tokens, sum(requests) as requests, sum(cost) as cost from usage";
    let counted = json!([{"tokens": 1_000, "requests": 1, "cost": "0.00001"}]);
    assert_eq!(Value::from(server.sql(sums)), counted);
    let kinds = server.sql("select kind, corrects from usage order by kind");
    assert_eq!(
        Value::from(kinds),
        json!([{"kind": "adjustment", "corrects": "contract-2026"}, {"kind": "backfill", "corrects": null}])
    );

    // All is in the lake, and the new process knows what it finds there.
    assert!(server.stop().success());
    let server = setup.start();
    server.post_event(&old("late", json!({"backfill": true})));
    server.post_event(&adjusting);
    wait_until_eq("the same after a restart", &2, || status(&server)[1]);
    assert_eq!(Value::from(server.sql(sums)), counted);
    assert!(server.stop().success());
    assert_proven(&setup.data());
}
