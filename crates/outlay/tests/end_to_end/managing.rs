//! Budgets changed over HTTP and by the command: nothing is lost, everything is in force when it is said to be.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::common::events::{event, event_with, zone_without_midnight};
use crate::common::{Answer, Server, server, wait_for, wait_until_eq};

pub fn daily(id: &str, namespace: &str, tokens: u64) -> Value {
    json!({
        "id": id, "match": {"namespace": namespace}, "limit": {"tokens": tokens}, "alerts": {"at": []},
        "window": {"every": "day", "zone": zone_without_midnight().name()},
    })
}

/// `PUT` or `DELETE` of a path below `/v1/budgets`, with headers.
#[track_caller]
pub fn change(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let url = format!("{}/v1/budgets{path}", server.url);
    let request = server.client().request(method.parse().unwrap(), url);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value.as_bytes()));
    server.send(if body.is_null() { request } else { request.body(body.to_string()) })
}

pub fn put_all(server: &Server, etag: &str, budgets: &[Value]) -> Answer {
    change(server, "PUT", "", &[("if-match", etag)], &json!({ "budgets": budgets }))
}

fn etag(server: &Server, path: &str) -> String {
    server.get(&format!("/v1/budgets{path}")).expect(200).header("etag").to_owned()
}

pub fn counted(server: &Server, namespace: &str, tokens: &str) {
    wait_until_eq("what is counted", &Some(tokens.to_owned()), || {
        server.used(&[("namespace", namespace)], "month", "tokens")
    });
}

#[test]
fn a_change_over_http_is_in_force_on_running_balances_when_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let shop = [("namespace", "shop")];
    server.post_event(&event("one", "shop", 1000));
    counted(&server, "shop", "1000");
    let empty = server.get("/v1/budgets").expect(200);
    assert_eq!((empty.json(), empty.header("etag").len()), (json!({"budgets": []}), 34));

    // A new budget starts with what its window has seen.
    let all = put_all(&server, empty.header("etag"), &[daily("shop", "shop", 1000)]).expect(200);
    assert_eq!(all.header("etag"), etag(&server, ""));
    assert_eq!(all.json()["budgets"][0]["mode"], "hard", "every default is written out");
    wait_for("a block", || (server.check(&shop).status == 403).then_some(()));

    // One that only has another limit keeps its balances: nothing is waited for here.
    for (limit, status) in [(1001, 200), (999, 403), (5000, 200), (1000, 403)] {
        let answer =
            change(&server, "PUT", "/shop", &[("if-match", &etag(&server, "/shop"))], &daily("shop", "shop", limit));
        let answer = answer.expect(200);
        assert_eq!(
            (answer.json()["limits"][0]["tokens"].as_u64(), answer.header("etag")),
            (Some(limit), &*etag(&server, "/shop"))
        );
        assert_eq!(server.check(&shop).status, status, "limit {limit}");
    }
    let made = change(&server, "PUT", "/lab", &[("if-none-match", "*")], &daily("lab", "lab", 5));
    assert_eq!(made.expect(201).json()["id"], "lab");
    change(&server, "DELETE", "/shop", &[("if-match", &etag(&server, "/shop"))], &Value::Null).expect(204);
    assert_eq!(server.check(&shop).status, 200);
    server.get("/v1/budgets/shop").expect(404);

    // It is stored, whether the server stops in order or not.
    let (stored, url) = (server.get_json("/v1/budgets"), server.url.clone());
    assert!(server.stop().success());
    let server = Server::start(dir.path(), &[]);
    assert_ne!(server.url, url);
    assert_eq!(server.get_json("/v1/budgets"), stored);
    change(&server, "PUT", "/shop", &[("if-none-match", "*")], &daily("shop", "shop", 1000)).expect(201);
    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.get_json("/v1/budgets")["budgets"].as_array().unwrap().len(), 2);
    assert_eq!(server.check(&shop).status, 403);
}

#[test]
fn a_change_of_another_version_or_of_what_is_wrong_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let old = etag(&server, "");
    put_all(&server, &old, &[daily("a", "a", 5)]).expect(200);
    let (now, one) = (etag(&server, ""), etag(&server, "/a"));
    let all = |budget: Value| json!({"budgets": [budget]});
    let mut wrong = daily("a", "a", 5);
    wrong["mood"] = json!("hard");
    for (method, path, headers, body, status, code) in [
        ("PUT", "", vec![("if-match", old.as_str())], all(daily("b", "b", 5)), 412, "precondition_failed"),
        ("PUT", "", vec![], all(daily("b", "b", 5)), 428, "precondition_required"),
        ("PUT", "", vec![("if-match", now.as_str())], all(wrong.clone()), 400, "invalid_budgets"),
        ("PUT", "/a", vec![("if-match", one.as_str())], wrong, 400, "invalid_budgets"),
        ("PUT", "/a", vec![("if-match", now.as_str())], daily("a", "a", 6), 412, "precondition_failed"),
        ("PUT", "/a", vec![("if-none-match", "*")], daily("a", "a", 6), 412, "precondition_failed"),
        ("PUT", "/a", vec![("if-match", one.as_str())], daily("c", "a", 6), 400, "invalid_parameter"),
        ("PUT", "/b", vec![("if-match", one.as_str())], daily("b", "b", 6), 412, "precondition_failed"),
        ("DELETE", "/a", vec![("if-match", old.as_str())], Value::Null, 412, "precondition_failed"),
        ("DELETE", "/b", vec![("if-match", "*")], Value::Null, 404, "not_found"),
    ] {
        let answer = change(&server, method, path, &headers, &body).expect(status);
        assert_eq!(answer.json()["code"], code, "{method} {path} {headers:?}");
    }
    let refused = put_all(&server, &now, &[daily("b", "b", 0)]).expect(400).json();
    assert_eq!((&refused["field"], &refused["line"]), (&json!("budgets[0].limit.tokens"), &json!(1)), "{refused}");
    assert_eq!((etag(&server, ""), etag(&server, "/a")), (now.clone(), one));
    // What is the same already is no change.
    assert_eq!(put_all(&server, &now, &[daily("a", "a", 5)]).expect(200).header("etag"), now);
}

#[test]
fn of_writers_at_the_same_time_none_is_lost() {
    const WRITERS: usize = 6;
    const EACH: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let server = &server;
            scope.spawn(move || {
                for at in 0..EACH {
                    let id = format!("w{writer}-{at}");
                    // Read, add, write; again where someone was faster.
                    loop {
                        let read = server.get("/v1/budgets").expect(200);
                        let mut budgets = read.json()["budgets"].as_array().unwrap().clone();
                        budgets.push(daily(&id, &id, 5));
                        let answer = put_all(server, read.header("etag"), &budgets);
                        if answer.status == 200 {
                            break;
                        }
                        answer.expect(412);
                    }
                }
            });
        }
    });
    let there = server.get_json("/v1/budgets");
    assert_eq!(there["budgets"].as_array().unwrap().len(), WRITERS * EACH);
    assert_eq!(server.sql("select id from budgets").len(), WRITERS * EACH, "all of them are in force");
}

#[test]
fn a_file_that_the_server_was_started_with_rules() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("budgets.yaml");
    std::fs::write(&file, json!({"budgets": [daily("a", "a", 5)]}).to_string()).unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--budgets", file.to_str().unwrap()]);
    let read = server.get("/v1/budgets").expect(200);
    assert_eq!(read.json()["budgets"][0]["id"], "a");
    let refused = put_all(&server, read.header("etag"), &[]).expect(409).json();
    assert_eq!(refused["code"], "budgets_from_file");
    assert!(refused["detail"].as_str().unwrap().contains(file.to_str().unwrap()), "{refused}");
    let (code, said) = budgets(&server, "apply", &write(dir.path(), &[]), &["--yes"]);
    assert!(code == 1 && said.contains("change that file"), "{said}");
    std::fs::write(&file, json!({"budgets": [daily("a", "a", 5), daily("b", "b", 5)]}).to_string()).unwrap();
    wait_until_eq("the file's budgets", &2, || server.get_json("/v1/budgets")["budgets"].as_array().unwrap().len());
    assert_eq!(budgets(&server, "plan", file.to_str().unwrap(), &[]).0, 0);
}

/// A file of these budgets.
pub fn write(folder: &Path, budgets: &[Value]) -> String {
    let path = folder.join("new.yaml");
    std::fs::write(&path, json!({ "budgets": budgets }).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// `outlay budgets COMMAND FILE`: its exit code, and what it said.
#[track_caller]
pub fn budgets(server: &Server, command: &str, file: &str, args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = server::command("budgets")
        .args([command, file])
        .args(args)
        .args(["--url", &server.url, "--key", &server.key])
        .output()
        .unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn the_command_shows_what_a_file_changes_and_whom_that_blocks_before_it_applies_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let users = |limit: u64| {
        let mut budget = daily("users", "shop", limit);
        budget["per"] = json!(["user"]);
        budget
    };
    let file = write(dir.path(), &[users(100), daily("lab", "lab", 5)]);
    let (code, said) = budgets(&server, "plan", &file, &[]);
    assert!(
        code == 2 && said.contains("+ users") && said.contains("2 to add, 0 to change, 0 to remove"),
        "{code} {said}"
    );
    let (code, said) = budgets(&server, "apply", &file, &[]);
    assert!(code == 1 && said.contains("nothing was changed") && said.contains("--yes"), "{code} {said}");
    assert_eq!(server.get_json("/v1/budgets")["budgets"], json!([]));
    let (code, said) = budgets(&server, "apply", &file, &["--yes"]);
    assert!(code == 0 && said.ends_with("in force\n"), "{code} {said}");
    assert_eq!(budgets(&server, "plan", &file, &[]).0, 0);

    for (user, tokens) in [("a", 100), ("b", 60), ("c", 10)] {
        server.post_event(&event_with(user, "shop", tokens, json!({"user": user})));
    }
    counted(&server, "shop", "170");
    let file = write(dir.path(), &[users(60)]);
    let (code, said) = budgets(&server, "plan", &file, &[]);
    assert_eq!(code, 2);
    let expected = "~ users\n    limits.tokens  100 → 60\n    now: blocks 1 scope\n      blocked  namespace=shop,user=b  60 tokens of 60\n";
    assert!(said.contains(expected) && said.contains("- lab\n"), "{said}");
    let (code, json) = budgets(&server, "plan", &write(dir.path(), &[users(1000)]), &["--json"]);
    let plan: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
    let change = &plan["changes"][1];
    assert_eq!(
        (code, &change["fields"][0]["new"], &change["effect"]["unblocks"]),
        (2, &json!(1000), &json!(1)),
        "{plan:#}"
    );
    assert_eq!(change["effect"]["scopes"][0]["scope"], json!({"namespace": "shop", "user": "a"}));
    let (code, json) = budgets(&server, "apply", &write(dir.path(), &[users(60)]), &["--yes", "--json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&json).unwrap()["changed"].clone()), (0, json!(true)));
    // It is what was planned.
    for (user, status) in [("a", 403), ("b", 403), ("c", 200)] {
        assert_eq!(server.check(&[("namespace", "shop"), ("user", user)]).status, status, "{user}");
    }
}

#[test]
fn a_plan_tells_whom_a_budget_would_block_that_leaves_the_shadow() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let users = |mode: &str, canary: Value| {
        let mut budget = daily("users", "shop", 100);
        (budget["per"], budget["mode"], budget["canary"]) = (json!(["user"]), json!(mode), canary);
        budget
    };
    let file = write(dir.path(), &[users("shadow", Value::Null)]);
    assert_eq!(budgets(&server, "apply", &file, &["--yes"]).0, 0);
    for (user, tokens) in [("a", 100), ("b", 60)] {
        server.post_event(&event_with(user, "shop", tokens, json!({"user": user})));
    }
    counted(&server, "shop", "160");
    let (code, said) = budgets(&server, "plan", &write(dir.path(), &[users("canary", json!("100%"))]), &[]);
    let expected = "now: blocks 1 scope\n      blocked  namespace=shop,user=a  100 tokens of 100\n";
    assert!(code == 2 && said.contains("shadow → canary") && said.contains(expected), "{said}");
    // Neither of the users is in a canary of a millionth.
    let (_, said) = budgets(&server, "plan", &write(dir.path(), &[users("canary", json!("0.0001%"))]), &[]);
    assert!(said.contains("shadow → canary") && said.contains("now: blocks nobody"), "{said}");
    let (_, said) = budgets(&server, "plan", &write(dir.path(), &[users("soft", Value::Null)]), &[]);
    assert!(said.contains("shadow → soft") && said.contains("now: blocks nobody"), "{said}");
}

#[test]
fn a_breaker_is_managed_as_a_budget_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let trip = json!([{"requests": 3, "within": "1m"}]);
    let loops = json!({"id": "loops", "per": ["agent"], "trip": trip, "open_for": "1h"});
    change(&server, "PUT", "/loops", &[("if-none-match", "*")], &loops).expect(201);
    let shown = server.get_json("/v1/budgets/loops");
    assert_eq!(shown["half_open"], json!({"for": "3600s", "requests": 5}), "every default is written out");
    let bot = [("namespace", "shop"), ("agent", "bot")];
    for at in 0..3 {
        server.post_event(&event_with(&format!("bot {at}"), "shop", 1, json!({"agent": "bot"})));
    }
    let answer = wait_for("the open circuit", || Some(server.check(&bot)).filter(|answer| answer.status == 429)).json();
    assert_eq!((&answer["reason_code"], &answer["budget"]), (&json!("CIRCUIT_OPEN"), &json!("loops")));
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("3 of 3 requests used of breaker loops for agent=bot; half open from"), "{detail}");

    let file = write(dir.path(), &[]);
    let (code, said) = budgets(&server, "plan", &file, &[]);
    let expected = "now: no longer blocks 1 scope\n      open     agent=bot  3 requests of 3\n";
    assert!(code == 2 && said.contains("- loops\n") && said.contains(expected), "{said}");
    let output = server::run("budgets", &["export", "--url", &server.url, "--key", &server.key]);
    let exported = String::from_utf8(output.stdout).unwrap();
    assert!(exported.contains("breakers:\n  - id: loops\n    per: [agent]\n    trip: [{"), "{exported}");
    change(&server, "DELETE", "/loops", &[("if-match", "*")], &Value::Null).expect(204);
    assert_eq!(server.check(&bot).status, 200);
    let rows = server.sql("select action from audit where kind = 'budget' and budget = 'loops' order by time");
    assert_eq!(rows, [json!({"action": "add"}), json!({"action": "remove"})]);
}

#[test]
fn the_command_says_what_is_wrong_in_a_file_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("budgets.yaml");
    let validate = |text: &str, args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let output = server::run("budgets", &[&["validate", file.to_str().unwrap()], args].concat());
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let good = "budgets:\n  - { id: a, window: { every: day }, limit: { tokens: 5 } }\n";
    let wrong = good.replace("tokens", "token");
    let (code, said) = validate(good, &[]);
    assert!(code == 0 && said.contains("1 budgets, all right"), "{said}");
    let (code, said) = validate(&wrong, &[]);
    assert!(
        code == 1
            && said.contains("line 2")
            && said.contains("budgets[0].limit.token")
            && said.contains("did you mean"),
        "{said}"
    );
    let (code, said) = validate(&wrong, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["valid"], &said["errors"][0]["line"]), (1, &json!(false), &json!(2)), "{said}");
    assert_eq!(
        serde_json::from_str::<Value>(&validate(good, &["--json"]).1).unwrap(),
        json!({"valid": true, "budgets": 1, "errors": []})
    );
    // 2 says that something would change, so nothing else may say it.
    assert_eq!(server::run("budgets", &["plan", "--no-such-flag"]).status.code(), Some(1));
}
