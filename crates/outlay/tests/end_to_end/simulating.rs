//! `outlay simulate` and `POST /v1/simulations` through the real binary: known answers on usage of the past, and both the same.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::common::server::run;
use crate::common::{Answer, Server, wait_for, wait_until_eq};

/// Two requests a day for a user, three for the namespace; mails only for everything.
const NEW: &str = "budgets:
  - { id: user-day, per: [user], window: { every: day, zone: Europe/Berlin }, limits: [{ requests: 2 }, { cost: \"1.00 USD\" }] }
  - { id: lab-day, match: { namespace: lab }, window: { every: day, zone: UTC }, limit: { tokens: 350 } }
  - { id: all, mode: soft, window: { every: month, zone: UTC }, limit: { requests: 10 }, alerts: { at: [0.5] } }
";
const PRESENT: &str = "budgets:
  - { id: user-day, per: [user], window: { every: day, zone: Europe/Berlin }, limit: { requests: 5 }, alerts: { at: [] } }
";

/// A request of the past, of 100 tokens and a cost of its own.
fn used(id: &str, time: &str, user: &str, cost: &str) -> Value {
    json!({"id": id, "time": time, "namespace": "lab", "user": user, "backfill": true, "tokens": {"input": 100},
        "cost": {"amount": cost, "currency": "USD"}})
}

/// Seven requests, of which the third is taken back: three of `a` and one of `b` on one day in Berlin, two of `a` on the next.
fn history() -> Vec<Value> {
    vec![
        used("e1", "2026-01-10T10:00:00Z", "a", "0.10"),
        used("e2", "2026-01-10T11:00:00Z", "b", "0.20"),
        used("e3", "2026-01-10T11:30:00Z", "a", "0.30"),
        used("e4", "2026-01-10T12:00:00Z", "a", "0.40"),
        used("e5", "2026-01-10T22:59:59Z", "a", "0.50"),
        // The day has turned in Berlin, and not in UTC.
        used("e6", "2026-01-10T23:30:00Z", "a", "0.60"),
        used("e7", "2026-01-11T08:00:00Z", "a", "0.70"),
        json!({"id": "v1", "time": "2026-01-11T09:00:00Z", "namespace": "lab", "corrects": "e3", "correction": "void"}),
    ]
}

struct Setup {
    dir: tempfile::TempDir,
    server: Server,
}

impl Setup {
    /// A server whose lake has the history.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("new.yaml"), NEW).unwrap();
        std::fs::write(dir.path().join("present.yaml"), PRESENT).unwrap();
        let present = dir.path().join("present.yaml");
        let server = Server::start(
            &dir.path().join("data"),
            &["--budgets", present.to_str().unwrap(), "--commit-interval-ms", "50"],
        );
        let lines: Vec<String> = history().iter().map(Value::to_string).collect();
        server.post_events("application/x-ndjson", lines.join("\n")).expect(202);
        // Seven events and the reversal.
        wait_until_eq("rows in the lake", &json!(8), || server.get_json("/v1/status")["lake"]["rows"].clone());
        Self { dir, server }
    }

    fn simulate(&self, args: &[&str]) -> Output {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let (new, data) = (path("new.yaml"), path("data"));
        run("simulate", &[&["--data", &data, "--budgets", &new], args].concat())
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.simulate(&[args, &["--format", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn present(&self) -> String {
        self.dir.path().join("present.yaml").display().to_string()
    }
}

const WINDOW: [&str; 4] = ["--from", "2026-01-10T09:00:00Z", "--to", "2026-01-11T12:00:00Z"];

/// Each block as budget, scope, begin, end, measure, and what it refused.
fn blocks(set: &Value) -> Vec<Value> {
    blocks_in(set, "blocked")
}

fn blocks_in(set: &Value, list: &str) -> Vec<Value> {
    let scopes = set["scopes"].as_array().unwrap().iter();
    scopes
        .flat_map(|scope| {
            scope[list].as_array().into_iter().flatten().map(|block| {
                let refused = &block["refused"];
                json!([
                    scope["budget"],
                    scope["scope"],
                    block["begin"],
                    block["end"],
                    block["measure"],
                    refused["requests"],
                    refused["costs"]
                ])
            })
        })
        .collect()
}

#[test]
fn a_simulation_of_the_past_says_who_would_have_been_blocked_when_and_what_was_refused() {
    let setup = Setup::new();
    let view = setup.json(&WINDOW);
    assert_eq!(view["spend"]["requests"], "6", "what was taken back is no usage");
    assert_eq!(view["spend"]["costs"], json!({"USD": "2.5"}));
    let (a, b) = (json!({"user": "a"}), json!({"namespace": "lab"}));
    assert_eq!(
        blocks(&view["new"]),
        [
            // 100 tokens of e1, e2, e4 and, e5 being refused, e6.
            json!(["lab-day", b, "2026-01-10T23:30:00Z", "2026-01-11T00:00:00Z", "tokens", "0", {}]),
            json!(["user-day", a, "2026-01-10T12:00:00Z", "2026-01-10T23:00:00Z", "requests", "1", {"USD": "0.5"}]),
            // 1.30 of 1.00 USD is more than 2 of 2 requests.
            json!(["user-day", a, "2026-01-11T08:00:00Z", null, "cost", "0", {}]),
        ]
    );
    assert_eq!(view["new"]["refused"]["costs"], json!({"USD": "0.5"}));
    let all = view["new"]["scopes"].as_array().unwrap().iter().find(|scope| scope["budget"] == "all").unwrap();
    assert_eq!((&all["alerted"][0]["at"], &all["alerted"][0]["used"]), (&json!("2026-01-11T08:00:00Z"), &json!("5")));
    assert_eq!(view.get("present"), None);

    // With what is refused counted, the fourth 100 tokens come with e5.
    let counted = setup.json(&[&WINDOW[..], &["--count-refused"]].concat());
    assert_eq!(counted["count_refused"], true);
    assert_eq!(
        blocks(&counted["new"])[0],
        json!(["lab-day", b, "2026-01-10T22:59:59Z", "2026-01-11T00:00:00Z", "tokens", "1", {"USD": "0.6"}])
    );

    // A simulation that begins later begins with the day's history.
    let later = setup.json(&["--from", "2026-01-10T20:00:00Z", "--to", "2026-01-10T22:00:00Z"]);
    assert_eq!(blocks(&later["new"]), [json!(["user-day", a, "2026-01-10T20:00:00Z", null, "requests", "0", {}])]);
    assert_eq!(later["spend"]["events"], 0);
}

#[test]
fn new_budgets_stand_beside_the_present_ones_in_every_format_and_over_http() {
    let setup = Setup::new();
    let present = setup.present();
    let args = [&WINDOW[..], &["--compare", &present]].concat();
    let view = setup.json(&args);
    assert_eq!((blocks(&view["new"]).len(), blocks(&view["present"]).len()), (3, 0));
    assert_eq!(view["present"]["budgets"][0]["budget"], "user-day");

    let request = setup.server.client().post(format!("{}/v1/simulations", setup.server.url));
    let asked = json!({"budgets": NEW, "from": WINDOW[1], "to": WINDOW[3]});
    let mut answer = setup.server.send(request.json(&asked)).expect(200).json();
    // The server may have committed in between.
    answer["lake_version"] = view["lake_version"].clone();
    assert_eq!(answer, view, "the server compares with the budgets in force");

    let table = String::from_utf8(setup.simulate(&args).stdout).unwrap();
    for line in [
        "would have refused 1 events, 1 requests, 100 tokens, 0.5 USD",
        "the present budgets would have refused 0 events",
        "user-day  user=a",
        "blocked otherwise than by the present budgets",
    ] {
        assert!(table.contains(line), "it does not say {line:?}:\n{table}");
    }
    let csv = setup.simulate(&[&args[..], &["--format", "csv"]].concat());
    let mut reader = csv::Reader::from_reader(csv.stdout.as_slice());
    let columns = reader.headers().unwrap().clone();
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let refused: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line[at("kind")] == *"block")
        .map(|line| (&line[at("budget")], &line[at("refused_cost_USD")]))
        .collect();
    assert_eq!(refused, [("lab-day", "0"), ("user-day", "0.5"), ("user-day", "0")]);
}

#[test]
fn a_budget_in_shadow_refuses_nothing_and_shows_what_it_would() {
    let setup = Setup::new();
    std::fs::write(
        setup.dir.path().join("new.yaml"),
        "budgets: [{ id: tried, mode: shadow, per: [user], window: { every: day, zone: Europe/Berlin }, limit: { requests: 2 } }]",
    )
    .unwrap();
    let view = setup.json(&WINDOW);
    assert_eq!((blocks(&view["new"]), &view["new"]["refused"]["events"]), (vec![], &json!(0)));
    let a = json!({"user": "a"});
    assert_eq!(
        blocks_in(&view["new"], "would_be_blocked"),
        [
            json!(["tried", a, "2026-01-10T12:00:00Z", "2026-01-10T23:00:00Z", "requests", "1", {"USD": "0.5"}]),
            json!(["tried", a, "2026-01-11T08:00:00Z", null, "requests", "0", {}]),
        ]
    );
    let shadow = &view["new"]["budgets"][0]["would_block"];
    assert_eq!(
        (&shadow["scopes"], &shadow["blocks"], &shadow["refused"]["requests"]),
        (&json!(1), &json!(2), &json!("1"))
    );
    assert_eq!(view["new"]["would_refuse"]["costs"], json!({"USD": "0.5"}));
    let table = String::from_utf8(setup.simulate(&WINDOW).stdout).unwrap();
    for line in [
        "the new budgets would have refused 0 events",
        "those of them in shadow would refuse 1 events, 1 requests, 100 tokens more",
        "in shadow: would",
        "no scope would have been blocked",
        "would be blocked if their budgets were not in shadow:",
    ] {
        assert!(table.contains(line), "it does not say {line:?}:\n{table}");
    }
    let csv = String::from_utf8(setup.simulate(&[&WINDOW[..], &["--format", "csv"]].concat()).stdout).unwrap();
    assert_eq!(csv.lines().filter(|line| line.starts_with("new,would_block,tried,user=a,")).count(), 2, "{csv}");
}

#[test]
fn a_breaker_opens_the_circuit_of_whoever_repeats_requests_and_backfill_is_no_burn() {
    let setup = Setup::new();
    std::fs::write(
        setup.dir.path().join("new.yaml"),
        "breakers: [{ id: loops, per: [user], trip: [{ repeats: 3, within: 1m, tag: prompt_hash }], open_for: 10m }]",
    )
    .unwrap();
    // Two hours ago: within the time in which events that are no backfill are taken.
    let begin = chrono::Utc::now().timestamp() - 7_200;
    let at = |second: i64| usage_types::TimeUs((begin + second) * usage_types::TimeUs::SECOND).to_string();
    let request = |second: i64, user: &str, prompt: &str, backfill: bool| {
        let mut event = used(&format!("{user}{second}"), &at(second), user, "0.10");
        (event["backfill"], event["tags"]) = (json!(backfill), json!({"prompt_hash": prompt}));
        event
    };
    let mut events: Vec<Value> = (0..5).map(|second| request(second, "looping", "p", false)).collect();
    events.extend((0..5).map(|second| request(second, "varied", &second.to_string(), false)));
    events.extend((0..5).map(|second| request(second, "past", "p", true)));
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    setup.server.post_events("application/x-ndjson", lines.join("\n")).expect(202);
    wait_until_eq("rows in the lake", &json!(23), || setup.server.get_json("/v1/status")["lake"]["rows"].clone());
    let times = [at(-60), at(3_600)];
    let window = ["--from", times[0].as_str(), "--to", times[1].as_str()];
    let view = setup.json(&window);
    let looping = json!({"user": "looping"});
    assert_eq!(blocks(&view["new"]), [json!(["loops", looping, at(2), at(602), "requests", "2", {"USD": "0.2"}])]);
    assert_eq!(
        (&view["new"]["budgets"][0]["breaker"], &view["new"]["refused"]["requests"]),
        (&json!(true), &json!("2"))
    );
    let table = String::from_utf8(setup.simulate(&window).stdout).unwrap();
    assert!(table.contains("breaker, hard"), "{table}");
}

#[test]
fn one_simulation_runs_at_a_time_and_the_others_are_told_when_to_ask_again() {
    let setup = Setup::new();
    let asked = json!({"budgets": NEW, "from": WINDOW[1], "to": WINDOW[3]});
    let ask = || {
        let request = setup.server.client().post(format!("{}/v1/simulations", setup.server.url));
        setup.server.send(request.json(&asked))
    };
    wait_for("a refused simulation", || {
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        let (refused, answered): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
        assert!(answered.iter().all(|answer| answer.status == 200) && !answered.is_empty());
        for answer in &refused {
            assert_eq!((answer.json()["code"].as_str(), answer.header("retry-after")), (Some("simulation_busy"), "5"));
        }
        (!refused.is_empty()).then_some(())
    });
    // Whoever comes later is served.
    ask().expect(200);
}

#[test]
fn what_cannot_be_simulated_is_told_and_nothing_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.yaml");
    std::fs::write(&new, NEW.replace("every: month", "every: moon")).unwrap();
    let fails = |budgets: &Path, args: &[&str], said: &str| {
        let data = dir.path().join("none").display().to_string();
        let output = run("simulate", &[&["--data", &data, "--budgets", budgets.to_str().unwrap()], args].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "it does not say {said:?}:\n{text}");
        assert!(output.stdout.is_empty());
    };
    fails(&new, &WINDOW, "line 4, column");
    fails(&new, &["--from", "2026-01-11", "--to", "2026-01-10"], "is not before --to");
    std::fs::write(&new, NEW).unwrap();
    fails(&new, &WINDOW, "there is no lake in it");
    fails(&dir.path().join("missing.yaml"), &WINDOW, "cannot read");
}
