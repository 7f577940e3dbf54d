//! `outlay reprice` through the real binary: what a changed price book makes of the past equals what it would have made of it at the time.

use std::path::PathBuf;
use std::process::Output;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::common::events::zone_without_midnight;
use crate::common::server::{assert_sound, run};
use crate::common::{Server, kafka, pico, wait_until_eq};

const OLD: &str = r#"
currency: USD
prices:
  - { model: tiny-1, provider: acme, per_million: { input: "0.0125", output: "0.1" }, source: "https://example.com/prices", as_of: 2026-11-01 }
  - { model: same-1, provider: acme, per_million: { input: "3", output: "4" }, source: "https://example.com/prices", as_of: 2026-11-01 }
"#;

/// Another price from a minute within a quarter of an hour, another for long prompts, a discount, and a price for what had none.
fn new_prices(change: DateTime<Utc>) -> String {
    let change = change.to_rfc3339_opts(SecondsFormat::Secs, true);
    format!(
        r#"
currency: USD
prices:
  - {{ model: tiny-1, provider: acme, to: "{change}", per_million: {{ input: "0.013", output: "0.1" }}, source: "https://example.com/prices", as_of: 2026-11-01 }}
  - model: tiny-1
    provider: acme
    from: "{change}"
    per_million: {{ input: "0.020001", output: "0.07" }}
    tiers: [{{ above_input_tokens: 1200, multiply: "2" }}]
    source: https://example.com/prices
    as_of: 2026-11-01
  - {{ model: same-1, provider: acme, per_million: {{ input: "3", output: "4" }}, source: "https://example.com/prices", as_of: 2026-11-01 }}
  - {{ model: mini-2, provider: acme, per_million: {{ input: "0.3", output: "1" }}, source: "https://example.com/prices", as_of: 2026-11-01 }}
adjustments:
  - {{ match: {{ namespace: lab }}, multiply: "0.915" }}
"#
    )
}

struct Setup {
    dir: tempfile::TempDir,
    now: DateTime<Utc>,
}

impl Setup {
    /// A hard budget that the old prices stay below and the new ones do not.
    fn new() -> Self {
        let (dir, now) = (tempfile::tempdir().unwrap(), Utc::now());
        let change = now - Duration::hours(20) + Duration::minutes(7);
        std::fs::write(dir.path().join("old.yaml"), OLD).unwrap();
        std::fs::write(dir.path().join("new.yaml"), new_prices(change)).unwrap();
        std::fs::write(dir.path().join("lossy.yaml"), OLD.replace("same-1", "other-1")).unwrap();
        let budget = format!(
            "budgets:\n  - id: cap\n    match: {{ namespace: capped }}\n    window: {{ every: day, zone: {} }}\n    limit: {{ cost: \"0.0002 USD\" }}\n",
            zone_without_midnight()
        );
        std::fs::write(dir.path().join("budgets.yaml"), budget).unwrap();
        Self { dir, now }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, data: &str, prices: &str) -> Server {
        let text = |name: &str| self.path(name).display().to_string();
        let args = ["--prices", &text(prices), "--budgets", &text("budgets.yaml"), "--dedup-hours", "96"];
        Server::start(&self.path(data), &args)
    }

    fn event(&self, id: &str, minutes_ago: i64, namespace: &str, model: &str, more: Value) -> Value {
        let time = self.now - Duration::minutes(minutes_ago) - Duration::microseconds(3);
        let mut event = json!({"id": id, "source": "gw", "time": time.to_rfc3339_opts(SecondsFormat::Micros, true), "namespace": namespace,
            "provider": "acme", "model": model, "user": "u-1", "tokens": {"input": 1000, "output": 33}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    }

    /// Usage of two days, with what restates some of it.
    fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        for n in 0..300_i64 {
            let namespace = ["shop", "lab", "web"][usize::try_from(n % 3).unwrap()];
            let model = ["tiny-1", "tiny-1", "same-1", "mini-2", "ghost-3"][usize::try_from(n % 5).unwrap()];
            let more = match n % 20 {
                0 => json!({"cost": {"amount": "0.25", "currency": "USD"}}),
                1 | 5 => json!({"tokens": {"input": 2000, "output": 7}, "team": "t"}),
                _ => json!({"user": format!("u-{}", n % 4), "tokens": {"input": 900 + n, "output": n}}),
            };
            events.push(self.event(&format!("e{n}"), 9 * n, namespace, model, more));
        }
        let correct = |id: &str, of: &str, namespace: &str| {
            let mut void = self.event(id, 0, namespace, "tiny-1", json!({"corrects": of, "correction": "void"}));
            void.as_object_mut().unwrap().remove("tokens");
            void
        };
        events.push(correct("v1", "e15", "shop"));
        events.push(correct("v2", "e3", "shop"));
        events.push(self.event(
            "m1",
            0,
            "lab",
            "tiny-1",
            json!({"corrects": "e16", "tokens": {"input": 5000, "output": 1}}),
        ));
        events.push(self.event("m2", 0, "lab", "mini-2", json!({"corrects": "e31"})));
        for n in 0..10 {
            events.push(self.event(&format!("c{n}"), 1, "capped", "tiny-1", json!({"tokens": {"input": 1100}})));
        }
        events
    }

    fn reprice(&self, server: &Server, prices: &str, args: &[&str]) -> Output {
        let day = |time: DateTime<Utc>| time.format("%Y-%m-%d").to_string();
        let (from, to) = (day(self.now - Duration::days(4)), day(self.now + Duration::days(1)));
        let (prices, data) = (self.path(prices).display().to_string(), self.path("data").display().to_string());
        let window = ["--data", &data, "--kafka", &server.log, "--from", &from, "--to", &to, "--prices", &prices];
        run("reprice", &[&window, args].concat())
    }
}

#[track_caller]
fn expect(output: &Output, code: i32, said: &str) -> String {
    let text = String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(said), "it does not say {said:?}:\n{text}");
    text
}

fn send(server: &Server, events: &[Value]) {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    server.post_events("application/x-ndjson", lines.join("\n")).expect(202);
}

fn accepted(server: &Server) -> u64 {
    server.get_json("/v1/status")["totals"]["accepted"].as_u64().unwrap()
}

/// Sums by each hour and dimension, exact. What was voided costs nothing, whether it had a price or none.
fn costs(server: &Server) -> Vec<Value> {
    let cost = "case sum(total_tokens) when 0 then coalesce(sum(cost), 0) else sum(cost) end as cost";
    let sums = format!("{cost}, sum(total_tokens) as tokens, sum(requests) as requests");
    server.sql(&format!(
        "select date_trunc('hour', time) as hour, namespace, team, \"user\", model, {sums} from usage group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5"
    ))
}

/// The sums that are others than these.
fn others(server: &Server, wanted: &[Value]) -> Vec<Value> {
    let costs = costs(server);
    assert_eq!(costs.len(), wanted.len());
    costs.into_iter().filter(|row| !wanted.contains(row)).collect()
}

fn adjustments(server: &Server) -> u64 {
    server.sql("select count(*) as n from usage where kind = 'adjustment'")[0]["n"].as_u64().unwrap()
}

#[test]
fn a_repriced_lake_equals_one_that_was_priced_so_from_the_beginning() {
    let setup = Setup::new();
    let events = setup.events();
    let fresh = setup.start("fresh", "new.yaml");
    send(&fresh, &events);
    let server = setup.start("data", "old.yaml");
    send(&server, &events);
    let all = events.len() as u64;
    wait_until_eq("what was sent", &(all, all), || (accepted(&fresh), accepted(&server)));
    let (before, wanted) = (costs(&server), costs(&fresh));
    assert_ne!(before, wanted);

    // The dry run says what the run then does, and does nothing.
    let own = "with a cost of their own left alone";
    let rows =
        |said: &str| said.lines().find(|line| line.contains(own)).and_then(|line| line.split(' ').next()?.parse().ok());
    // A dry run sees what is in the lake. Of two amendments and two voids there are six rows; fifteen events bring their cost.
    wait_until_eq("all of it in the lake", &Some(all + 2 - 15), || {
        rows(&String::from_utf8_lossy(&setup.reprice(&server, "new.yaml", &["--dry-run"]).stdout))
    });
    let dry = expect(&setup.reprice(&server, "new.yaml", &["--dry-run"]), 0, "nothing was published");
    assert_eq!((costs(&server), accepted(&server)), (before.clone(), all));
    let total = |server: &Server| pico(server.sql("select sum(cost) as cost from usage")[0]["cost"].as_str().unwrap());
    let (old_total, new_total) = (total(&server), total(&fresh));
    let line = dry.lines().find(|line| line.starts_with("all ")).unwrap();
    let difference = line.split_whitespace().nth(3).unwrap();
    assert_eq!(pico(difference), new_total - old_total, "{dry}");
    assert!(dry.contains("still without a price acme ghost-3"), "{dry}");

    // The run; budgets react.
    let blocked = |server: &Server| {
        let decision = kafka::latest(&server.log, "usage.decisions").remove("cap|namespace=capped");
        (decision.map(|decision| decision["state"].clone()), server.check(&[("namespace", "capped")]).status)
    };
    wait_until_eq("no block by the old prices", &(None, 200), || blocked(&server));
    let said = expect(&setup.reprice(&server, "new.yaml", &["--run", "2026-11-cut"]), 0, "as reprice-2026-11-cut");
    let published: u64 = said
        .lines()
        .find(|line| line.contains("adjustments published"))
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(published > 20 && published < all, "{said}");
    wait_until_eq("the new costs", &Vec::new(), || others(&server, &wanted));
    wait_until_eq("a block by the new ones", &(Some(json!("blocked")), 403), || blocked(&server));
    wait_until_eq("the same balances", &true, || server.balances() == fresh.balances());
    let runs = server.sql("select distinct corrects as run, source, kind from usage where kind = 'adjustment'");
    assert_eq!(runs, [json!({"run": "reprice-2026-11-cut", "source": "outlay/reprice", "kind": "adjustment"})]);

    // Again, under this name or another: there is nothing left to do.
    for run in ["2026-11-cut", "reprice-again"] {
        expect(&setup.reprice(&server, "new.yaml", &["--run", run]), 0, "0 adjustments published");
    }
    assert_eq!(adjustments(&server), published);
    assert!(server.stop().success());
    let server = setup.start("data", "new.yaml");
    wait_until_eq("the same after a restart", &true, || server.balances() == fresh.balances());
    assert_eq!(others(&server, &wanted), Vec::<Value>::new());
    assert_sound(server, &setup.path("data"));
}

#[test]
fn a_run_adds_to_what_earlier_ones_did_and_never_takes_a_price_away_in_silence() {
    let setup = Setup::new();
    let server = setup.start("data", "old.yaml");
    let first = setup.event("a", 700, "shop", "tiny-1", json!({}));
    send(
        &server,
        &[first, setup.event("b", 700, "lab", "same-1", json!({})), setup.event("c", 700, "lab", "mini-2", json!({}))],
    );
    wait_until_eq("what was sent", &3, || accepted(&server));
    let before = costs(&server);

    // A book that has lost a model: nothing happens, and it says which.
    let lossy = setup.reprice(&server, "lossy.yaml", &["--run", "lossy"]);
    let said = expect(&lossy, 1, "nothing was published");
    assert!(said.contains("LOSES ITS PRICE acme same-1: 1 rows"), "{said}");
    assert_eq!(costs(&server), before);
    expect(&setup.reprice(&server, "new.yaml", &["--run", "a b"]), 2, "letters, digits");
    let data = setup.path("data").display().to_string();
    let odd = ["--data", &data, "--from", "2026-01-01T00:07:00Z", "--to", "2026-01-02", "--dry-run"];
    expect(&run("reprice", &odd), 1, "--from 2026-01-01T00:07:00Z");

    // One namespace, then the rest; then one back to the old prices.
    expect(&setup.reprice(&server, "new.yaml", &["--run", "one", "--namespace", "shop"]), 0, "1 adjustments published");
    expect(&setup.reprice(&server, "new.yaml", &["--run", "one"]), 0, "2 adjustments published");
    let cost = |namespace: &str| {
        let query = format!("select sum(cost) as cost from usage where namespace = '{namespace}'");
        pico(server.sql(&query)[0]["cost"].as_str().unwrap())
    };
    // 1,000 at 0.020001 and 33 at 0.07 USD per million; 8.5 % off for the other.
    wait_until_eq("the new price", &22_311_000, || cost("shop"));
    wait_until_eq("the discount", &((3_132_000_000 + 333_000_000) * 915 / 1000), || cost("lab"));
    // What only a repricing gave a price would lose it.
    let said = expect(&setup.reprice(&server, "old.yaml", &["--run", "back"]), 1, "nothing was published");
    assert!(said.contains("LOSES ITS PRICE acme mini-2: 1 rows"), "{said}");
    expect(
        &setup.reprice(&server, "old.yaml", &["--run", "back", "--namespace", "shop"]),
        0,
        "1 adjustments published",
    );
    wait_until_eq("the old price", &15_800_000, || cost("shop"));

    // Usage that comes later into a slot that a run has adjusted: that run says so, another one adds what is missing.
    send(&server, &[setup.event("d", 700, "shop", "tiny-1", json!({}))]);
    expect(
        &setup.reprice(&server, "new.yaml", &["--run", "third", "--namespace", "shop"]),
        0,
        "1 adjustments published",
    );
    wait_until_eq("both by the new price", &(2 * 22_311_000), || cost("shop"));
    send(&server, &[setup.event("e", 700, "shop", "tiny-1", json!({}))]);
    let again = setup.reprice(&server, "new.yaml", &["--run", "third", "--namespace", "shop"]);
    expect(&again, 1, "1 of them are of usage that this run had adjusted before");
    expect(
        &setup.reprice(&server, "new.yaml", &["--run", "fourth", "--namespace", "shop"]),
        0,
        "1 adjustments published",
    );
    wait_until_eq("all by the new price", &(3 * 22_311_000), || cost("shop"));
    assert_sound(server, &setup.path("data"));
}
