//! `outlay check` through the real binary: exit codes of a pipeline, from a server and from a data folder, for people, programs and CI systems.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::common::events::{event_with, zone_without_midnight};
use crate::common::server::run;
use crate::common::{Server, python, wait_until_eq};

struct Setup {
    dir: tempfile::TempDir,
    server: Server,
}

impl Setup {
    /// A server with a budget for each job, of a thousand tokens and five requests a day, of which CI gets more.
    fn new() -> Self {
        let zone = zone_without_midnight();
        Self::of(&format!(
            "budgets:\n  - id: eval-run\n    match: {{ namespace: evals }}\n    per: [job]\n    window: {{ every: day, zone: {zone} }}\n    limits: [{{ tokens: 1000 }}, {{ requests: 5 }}]\n    overrides: [{{ match: {{ job: big }}, limit: {{ tokens: 9000 }} }}]\n"
        ))
    }

    /// A server with these budgets.
    fn of(budgets: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("budgets.yaml"), budgets).unwrap();
        let server = Self::serve(dir.path());
        Self { dir, server }
    }

    fn serve(dir: &Path) -> Server {
        let budgets = dir.join("budgets.yaml");
        Server::start(&dir.join("data"), &["--budgets", budgets.to_str().unwrap(), "--commit-interval-ms", "50"])
    }

    /// The same after a kill and another start.
    fn restarted(self) -> Self {
        self.server.kill();
        let server = Self::serve(self.dir.path());
        Self { server, ..self }
    }

    fn used(&self, id: &str, job: &str, tokens: u64) {
        self.server.post_event(&event_with(id, "evals", tokens, json!({"job": job})));
    }

    fn in_the_lake(&self, rows: u64) {
        wait_until_eq("rows in the lake", &json!(rows), || self.server.get_json("/v1/status")["lake"]["rows"].clone());
    }

    /// Asks the server.
    fn check(&self, args: &[&str]) -> Output {
        let data = self.dir.path().join("data").display().to_string();
        let budget: &[&str] = if args.contains(&"--budget") { &[] } else { &["--budget", "eval-run"] };
        run("check", &[budget, &["--data", &data], args].concat())
    }

    /// Reads the folder.
    fn check_offline(&self, args: &[&str]) -> Output {
        let budgets = self.dir.path().join("budgets.yaml").display().to_string();
        self.check(&[&["--budgets", &budgets], args].concat())
    }
}

#[track_caller]
fn expect(output: &Output, code: i32, said: &str) -> String {
    let text = String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(said), "it does not say {said:?}:\n{text}");
    text
}

fn rows(output: &Output) -> Vec<Value> {
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |row: &Value| json!([row["scope"]["job"], row["measure"], row["used"], row["limit"], row["over"]]);
    answer["rows"].as_array().unwrap().iter().map(short).collect()
}

#[test]
fn a_pipeline_fails_where_more_than_the_share_is_used_and_not_at_it() {
    let setup = Setup::new();
    setup.used("e1", "ci-1", 600);
    setup.used("e2", "ci-1", 400);
    setup.used("e3", "big", 5000);
    setup.in_the_lake(3);
    for check in [Setup::check, Setup::check_offline] {
        let check = |args: &[&str]| check(&setup, args);
        expect(&check(&["--run", "ci-1"]), 0, "passed: eval-run is within (fails over 100%)");
        expect(&check(&["--scope", "job=ci-1", "--fail-over", "100%"]), 0, "100%");
        let said = "FAILED: eval-run of namespace=evals,job=ci-1 has used 1000 of 1000 tokens (100%), more than 99.9%";
        expect(&check(&["--run", "ci-1", "--fail-over", "99.9%"]), 1, said);
        expect(&check(&["--run", "big"]), 0, "5000");
        // All of the budget's balances.
        let all = check(&["--format", "json", "--fail-over", "0.5"]);
        assert_eq!(all.status.code(), Some(1));
        assert_eq!(
            rows(&all),
            [
                json!(["ci-1", "tokens", "1000", "1000", true]),
                json!(["big", "tokens", "5000", "9000", true]),
                json!(["ci-1", "requests", "2", "5", false]),
            ]
        );
    }
    setup.used("e4", "ci-1", 1);
    expect(&setup.check(&["--run", "ci-1"]), 1, "1001 of 1000 tokens");
}

#[test]
fn a_run_that_used_nothing_passes_unless_usage_is_asked_for() {
    let setup = Setup::new();
    for check in [Setup::check, Setup::check_offline] {
        let nothing = check(&setup, &["--run", "ci-9", "--format", "json"]);
        assert_eq!(nothing.status.code(), Some(0));
        assert_eq!(
            rows(&nothing),
            [json!(["ci-9", "tokens", "0", "1000", false]), json!(["ci-9", "requests", "0", "5", false])]
        );
        expect(&check(&setup, &["--run", "ci-9", "--require-usage"]), 2, "has no usage there");
        expect(&check(&setup, &[]), 0, "nothing was used");
    }
}

#[test]
fn a_period_of_the_past_has_a_row_for_each_window_that_begins_in_it() {
    let setup = Setup::new();
    let past = |id: &str, day: &str, tokens: u64| {
        let mut event = event_with(id, "evals", tokens, json!({"job": "nightly", "backfill": true}));
        event["time"] = json!(format!("{day}T12:00:00Z"));
        setup.server.post_event(&event);
    };
    past("p1", "2026-01-05", 300);
    past("p2", "2026-01-05", 900);
    past("p3", "2026-01-20", 800);
    past("p4", "2026-02-02", 50);
    setup.in_the_lake(4);
    for check in [Setup::check, Setup::check_offline] {
        let month = check(&setup, &["--run", "nightly", "--period", "2026-01", "--format", "json"]);
        assert_eq!(month.status.code(), Some(1));
        assert_eq!(
            rows(&month),
            [
                json!(["nightly", "tokens", "1200", "1000", true]),
                json!(["nightly", "tokens", "800", "1000", false]),
                json!(["nightly", "requests", "2", "5", false]),
                json!(["nightly", "requests", "1", "5", false]),
            ]
        );
        expect(&check(&setup, &["--run", "nightly", "--period", "2026-02"]), 0, "50");
        expect(&check(&setup, &["--run", "nightly", "--period", "2026-03"]), 0, "within");
        expect(&check(&setup, &["--run", "nightly", "--period", "March"]), 2, "is no period");
    }
}

#[test]
fn windows_that_move_are_checked_as_they_are_now_and_have_no_periods() {
    const MOVING: &str = "budgets:
  - { id: eval-run, match: { namespace: evals }, per: [job], window: { lifetime: job, idle: 12 hours }, limit: { tokens: 1000 } }
  - { id: last-day, match: { namespace: evals }, window: { rolling: 24 hours }, limit: { tokens: 1200 } }
";
    let setup = Setup::of(MOVING);
    let at = |id: &str, hours: i64, tokens: u64| {
        let time = chrono::Utc::now() - chrono::Duration::hours(hours);
        let more = json!({"job": "ci-1", "backfill": true, "time": time.to_rfc3339()});
        setup.server.post_event(&event_with(id, "evals", tokens, more));
    };
    // The first lifetime of the job is over; the second one is in its third event.
    at("m1", 40, 5000);
    at("m2", 20, 400);
    at("m3", 10, 400);
    at("m4", 0, 300);
    setup.in_the_lake(4);
    for check in [Setup::check, Setup::check_offline] {
        let check = |args: &[&str]| check(&setup, args);
        expect(&check(&["--run", "ci-1"]), 1, "has used 1100 of 1000 tokens (110%)");
        expect(&check(&["--run", "ci-1"]), 1, "lifetime of a job, idle 12 hours");
        expect(&check(&["--budget", "last-day"]), 0, "1100");
        expect(&check(&["--budget", "last-day", "--fail-over", "90%"]), 1, "rolling 24 hours");
        expect(&check(&["--run", "ci-2", "--require-usage"]), 2, "has no usage there");
        expect(&check(&["--run", "ci-2"]), 0, "within");
        for budget in ["eval-run", "last-day"] {
            let said = "such windows do not begin on dates: leave the period out";
            expect(&check(&["--budget", budget, "--period", "2026-01"]), 2, said);
        }
    }
}

#[test]
fn a_job_that_is_stopped_says_how_many_of_its_records_it_has_processed() {
    let mut setup = Setup::new();
    let used = |setup: &Setup, id: &str, tokens: u64, processed: u64| {
        let more = json!({"job": "nightly", "processed": processed, "total": 10_000});
        setup.server.post_event(&event_with(id, "evals", tokens, more));
    };
    used(&setup, "e1", 500, 4100);
    used(&setup, "e2", 700, 8200);
    let progress = json!({"processed": 8200, "total": 10_000});
    let decided = || setup.server.sql("select state, processed, total from decisions where budget = 'eval-run'");
    wait_until_eq("the block", &vec![json!({"state": "blocked", "processed": 8200, "total": 10_000})], decided);
    setup.in_the_lake(2);
    for restarted in [false, true] {
        if restarted {
            setup = setup.restarted();
        }
        let said = "more than 100%; so far 8200 of 10000 records (82.0%) were processed";
        for check in [Setup::check, Setup::check_offline] {
            expect(&check(&setup, &["--run", "nightly"]), 1, said);
            expect(&check(&setup, &["--run", "nightly", "--format", "junit"]), 1, said);
            let json = check(&setup, &["--run", "nightly", "--format", "json"]);
            let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
            assert_eq!(answer["rows"][0]["progress"], progress, "{answer}");
        }
    }
    // What comes later says more, and the lake has all of it.
    used(&setup, "e3", 1, 9000);
    expect(&setup.check(&["--run", "nightly"]), 1, "so far 9000 of 10000 records (90.0%) were processed");
    setup.in_the_lake(3);
    let rows = setup.server.sql("select processed, total from usage order by processed");
    let rows: Vec<Value> = rows.iter().map(|row| json!([row["processed"], row["total"]])).collect();
    assert_eq!(rows, [json!([4100, 10_000]), json!([8200, 10_000]), json!([9000, 10_000])]);
}

#[test]
fn what_cannot_be_told_is_exit_code_2_and_never_a_pass() {
    let setup = Setup::new();
    for check in [Setup::check, Setup::check_offline] {
        expect(&check(&setup, &["--scope", "team=a"]), 2, "has no balances by team");
        expect(&check(&setup, &["--scope", "namespace=other"]), 2, "counts only the namespace evals");
        expect(&check(&setup, &["--scope", "job=a", "--run", "b"]), 2, "given twice");
        expect(&check(&setup, &["--fail-over", "lots"]), 2, "is no share of a limit");
        expect(&check(&setup, &["--scope", "color=red"]), 2, "is no dimension");
    }
    let data = setup.dir.path().join("data").display().to_string();
    let budgets = setup.dir.path().join("budgets.yaml").display().to_string();
    expect(&run("check", &["--budget", "none", "--data", &data]), 2, "there is no budget `none`");
    expect(
        &run("check", &["--budget", "none", "--data", &data, "--budgets", &budgets]),
        2,
        "there is no budget `none`",
    );
    let nowhere = ["--budget", "a", "--url", "http://127.0.0.1:9", "--key", "some-key-or-other"];
    expect(&run("check", &nowhere), 2, "no server answers");
}

#[test]
fn ci_systems_read_the_junit_report() {
    let setup = Setup::new();
    setup.used("e1", "ci <1> \"&\"", 1200);
    setup.in_the_lake(1);
    let output = setup.check(&["--run", "ci <1> \"&\"", "--format", "junit"]);
    assert_eq!(output.status.code(), Some(1));
    let found = parsed(&output.stdout);
    assert_eq!((&found["tests"], &found["failures"], &found["errors"]), (&json!(2), &json!(1), &json!(0)));
    let cases = found["cases"].as_array().unwrap();
    assert_eq!((&cases[0]["class"], &cases[1]["failures"]), (&json!("budget.eval-run"), &json!([])));
    let name = cases[0]["name"].as_str().unwrap();
    assert!(name.contains("job=ci <1> \"&\"") && name.contains("tokens"), "{name}");
    let failure = cases[0]["failures"][0].as_str().unwrap();
    assert!(failure.contains("has used 1200 of 1000 tokens (120%), more than 100%"), "{failure}");

    // Nothing at all is a suite that passes, not one that did not run.
    let nothing = Setup::new();
    let found = parsed(&nothing.check(&["--format", "junit"]).stdout);
    assert_eq!(
        (&found["tests"], &found["failures"], &found["cases"][0]["name"]),
        (&json!(1), &json!(0), &json!("nothing was used"))
    );
}

/// What junitparser, which CI systems' uploaders use, reads.
fn parsed(xml: &[u8]) -> Value {
    const READ: &str = "
import json, sys
from junitparser import JUnitXml
report = JUnitXml.fromstring(sys.stdin.buffer.read())
cases = [{'name': case.name, 'class': case.classname, 'failures': [result.message for result in case.result]} for suite in report for case in suite]
print(json.dumps({'tests': report.tests, 'failures': report.failures, 'errors': report.errors, 'cases': cases}))
";
    let mut python =
        Command::new(python()).args(["-c", READ]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(xml).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "junitparser does not read it:\n{}", String::from_utf8_lossy(xml));
    serde_json::from_slice(&output.stdout).unwrap()
}
