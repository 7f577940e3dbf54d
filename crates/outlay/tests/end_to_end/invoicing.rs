//! Invoices of providers: imported from exports, kept over a restart, asked in SQL, and compared with what was metered.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::Server;
use crate::common::server::run;

const COSTS: &str = r#"{"object": "page", "has_more": false, "data": [
    {"object": "bucket", "start_time": 1790812800, "end_time": 1790899200, "results": [
        {"object": "organization.costs.result", "amount": {"value": 0.75, "currency": "usd"}, "line_item": "gpt-5, input"},
        {"object": "organization.costs.result", "amount": {"value": 0.5, "currency": "usd"}, "line_item": "gpt-5, output"}]},
    {"object": "bucket", "start_time": 1790899200, "end_time": 1790985600, "results": [
        {"object": "organization.costs.result", "amount": {"value": 2, "currency": "usd"}, "line_item": "gpt-5, input"}]}]}"#;
const USAGE: &str = r#"{"object": "page", "has_more": false, "data": [
    {"object": "bucket", "start_time": 1790812800, "end_time": 1790899200, "results": [
        {"object": "organization.usage.completions.result", "input_tokens": 900, "output_tokens": 100, "model": "gpt-5"}]}]}"#;

/// Runs `outlay invoices` against a server; the code and what was said.
fn invoices(server: &Server, args: &[&str]) -> (Option<i32>, String) {
    let output = run("invoices", &[args, &["--url", &server.url, "--key", &server.key]].concat());
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// The exports of October in files.
fn exports(dir: &Path) -> [String; 2] {
    [("costs.json", COSTS), ("usage.json", USAGE)].map(|(name, text)| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

fn import(server: &Server, number: &str, more: &[&str]) -> (Option<i32>, String) {
    let identity = ["import", "--provider", "openai", "--number", number, "--month", "2026-10"];
    invoices(server, &[&identity, more].concat())
}

fn totals(server: &Server) -> Vec<Value> {
    server.sql("select invoice, cast(sum(cost) as text) as cost, sum(total_tokens) as tokens from invoices group by 1 order by 1")
}

#[test]
fn an_invoice_is_imported_from_exports_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    assert_eq!(totals(&server), Vec::<Value>::new());
    let [costs, usage] = exports(dir.path());
    let (code, said) =
        import(&server, "INV-1", &[&costs, &usage, "--total", "3.3", "--actor", "ada", "--reason", "october"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("openai INV-1 of 2026-10: 3.3 USD in 5 lines"), "{said}");
    let rows = server
        .sql("select day, model, item, cast(cost as text) as cost, total_tokens from invoices order by day, item");
    let row = |day: &str, item: &str, cost: &str| json!({"day": day, "model": "gpt-5", "item": item, "cost": cost, "total_tokens": null});
    assert_eq!(rows[0], row("2026-10-01", "input", "0.750000000000"), "{rows:?}");
    assert_eq!(rows[1], row("2026-10-01", "output", "0.500000000000"));
    assert_eq!((&rows[2]["item"], &rows[2]["total_tokens"]), (&Value::Null, &json!(1000)));
    assert_eq!(rows[3], row("2026-10-02", "input", "2.000000000000"));
    // What no line explains of the total.
    assert_eq!((&rows[4]["day"], &rows[4]["cost"]), (&Value::Null, &json!("0.050000000000")));

    // The same number again takes its place, another is beside it.
    let (code, said) = import(&server, "INV-1", &[&costs]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(import(&server, "INV-2", &["--total", "-1"]).0, Some(0));
    let expected = [
        json!({"invoice": "INV-1", "cost": "3.250000000000", "tokens": null}),
        json!({"invoice": "INV-2", "cost": "-1.000000000000", "tokens": null}),
    ];
    assert_eq!(totals(&server), expected);
    server.stop();
    let server = Server::start(&data, &[]);
    assert_eq!(totals(&server), expected);

    let (code, said) =
        invoices(&server, &["remove", "--provider", "openai", "--number", "INV-2", "--reason", "a mistake"]);
    assert_eq!(code, Some(0), "{said}");
    let (_, listed) = invoices(&server, &["list"]);
    assert!(listed.contains("INV-1") && listed.contains("3.25") && !listed.contains("INV-2"), "{listed}");
    assert_eq!(totals(&server), expected[..1]);
    let audited =
        server.sql("select action, key, actor, reason, change from audit where kind = 'invoice' order by time");
    let actions: Vec<&str> = audited.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["add", "change", "add", "remove"]);
    let first = json!({"action": "add", "key": "admin", "actor": "ada", "reason": "october", "change": "openai/INV-1"});
    assert_eq!((&audited[0], &audited[3]["reason"]), (&first, &json!("a mistake")));
}

#[test]
fn what_cannot_be_imported_is_refused_before_anything_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let [costs, _] = exports(dir.path());
    let other = dir.path().join("euro.csv");
    std::fs::write(&other, "day,cost,currency\n2026-10-01,1,EUR\n").unwrap();
    for (args, says) in [
        (vec![costs.as_str(), other.to_str().unwrap()], "is in EUR, and not in USD"),
        (vec![costs.as_str(), "--currency", "EUR"], "is in USD, and not in EUR"),
        (vec!["missing.json"], "cannot read missing.json"),
        (vec!["--total", "1,5"], "no decimal number"),
        (vec![], "--total"),
    ] {
        let (code, said) = import(&server, "INV-1", &args);
        assert!(code != Some(0) && said.contains(says), "{args:?}: {said}");
    }
    let november = ["import", "--provider", "openai", "--number", "INV-1", "--month", "2026-11", &costs];
    let (code, said) = invoices(&server, &november);
    assert!(code != Some(0) && said.contains("2026-10-01 is not in 2026-11"), "{said}");
    assert_eq!(
        invoices(&server, &["list"]).1.trim(),
        "there are none; outlay invoices import --help says how to import one"
    );
    let (code, said) = invoices(&server, &["remove", "--provider", "openai", "--number", "INV-1"]);
    assert!(code != Some(0) && said.contains("there is no invoice"), "{said}");
}
