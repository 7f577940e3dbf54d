//! Increase requests: somebody who is blocked asks for more, is let go for a time, and is blocked again when that is over.

use chrono::{Duration, Utc};
use serde_json::{Value, json};

use crate::common::events::{event_with, now};
use crate::common::{Answer, Server, server, wait_for, wait_until_eq};
use crate::managing::{change, daily};

const PATH: &str = "/v1/increase-requests";

/// A server whose budgets are those of a file: each user of the shop has a hundred tokens a day.
fn with_a_file(dir: &std::path::Path) -> Server {
    let file = dir.join("budgets.yaml");
    let mut budget = daily("users", "shop", 100);
    budget["per"] = json!(["user"]);
    std::fs::write(&file, json!({ "budgets": [budget] }).to_string()).unwrap();
    Server::start(&dir.join("data"), &["--budgets", file.to_str().unwrap()])
}

/// A server with this user over the limit.
fn with_a_blocked_user(dir: &std::path::Path, user: &str, tokens: u64) -> Server {
    let server = with_a_file(dir);
    spend(&server, user, tokens);
    server
}

fn spend(server: &Server, user: &str, tokens: u64) {
    server.post_event(&event_with(&format!("{user}-{tokens}"), "shop", tokens, json!({"user": user})));
    wait_for("a block", || (check(server, user) == 403).then_some(()));
}

fn check(server: &Server, user: &str) -> u16 {
    server.check(&[("namespace", "shop"), ("user", user)]).status
}

fn post(server: &Server, path: &str, actor: &str, body: &Value) -> Answer {
    let request = server.client().post(format!("{}{PATH}{path}", server.url)).header("x-outlay-actor", actor);
    server.send(request.body(body.to_string()))
}

/// Asks for so many tokens in total; the request's id.
#[track_caller]
fn ask(server: &Server, user: &str, tokens: u64) -> String {
    let body = json!({"budget": "users", "scope": {"user": user}, "limit": {"tokens": tokens}, "justification": "launch week"});
    post(server, "", "zoe", &body).expect(201).json()["id"].as_str().unwrap().to_owned()
}

fn answer(server: &Server, id: &str, what: &str, body: &Value) -> Answer {
    post(server, &format!("/{id}/{what}"), "ada", body)
}

fn state(server: &Server, id: &str) -> String {
    server.get_json(&format!("{PATH}/{id}"))["state"].as_str().unwrap().to_owned()
}

fn audited(server: &Server) -> Vec<Value> {
    server.sql("select action, budget, scope, origin, key, actor, reason, before, after, change from audit where kind = 'increase' order by time")
}

fn actions(server: &Server) -> Vec<String> {
    audited(server).iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect()
}

/// A grant that ends soon, and yet held when it was looked at, however slow this machine is; its id.
fn short_grant(server: &Server, user: &str, tokens: u64) -> String {
    for seconds in [2, 4, 8, 16, 32, 64] {
        let id = ask(server, user, tokens);
        let until = (Utc::now() + Duration::seconds(seconds)).to_rfc3339();
        let answer = answer(server, &id, "approve", &json!({ "until": until }));
        if answer.status == 200 && check(server, user) == 200 {
            return id;
        }
        if state(server, &id) == "pending" {
            post(server, &format!("/{id}/withdraw"), "zoe", &Value::Null).expect(200);
        }
    }
    panic!("no grant was in force when it was looked at");
}

#[test]
fn a_grant_lets_a_blocked_scope_go_at_once_until_it_is_withdrawn_or_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_a_blocked_user(dir.path(), "a", 150);
    spend(&server, "b", 100);
    let id = ask(&server, "a", 300);
    assert_eq!(check(&server, "a"), 403, "asking changes nothing");
    let pending = server.get_json(&format!("{PATH}?state=pending"));
    assert_eq!((pending.as_array().unwrap().len(), &pending[0]["id"]), (1, &json!(id)));
    assert_eq!(pending[0]["present"], json!([{"measure": "tokens", "limit": "100", "used": "150"}]));
    assert_eq!(pending[0]["scope"], json!({"namespace": "shop", "user": "a"}));

    // In force when it is answered: nothing is waited for. Less than was asked for is given.
    let approved =
        answer(&server, &id, "approve", &json!({"limit": {"tokens": 200}, "reason": "once"})).expect(200).json();
    assert_eq!((&approved["state"], &approved["grant"]["limits"]), (&json!("approved"), &json!([{"tokens": 200}])));
    assert_eq!(approved["present"][0]["limit"], "200");
    assert_eq!([check(&server, "a"), check(&server, "b")], [200, 403], "only whom it was granted to");
    let window = server.get_json("/v1/balances?budget=users&user=a");
    assert_eq!((&window[0]["limit"], &window[0]["window"]["end"]), (&json!("200"), &approved["grant"]["expires_at"]));
    let in_force = server.sql("select applies_to, \"limit\" from budgets where applies_to is not null");
    assert_eq!(in_force, [json!({"applies_to": "grant namespace=shop,user=a", "limit": "200"})]);
    // The file's budgets are what they were.
    assert_eq!(server.get_json("/v1/budgets/users")["overrides"], json!([]));

    let decided = || {
        let rows =
            server.sql("select action from audit where kind = 'decision' and scope like '%user=a' order by time");
        rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until_eq("what was decided", &["blocked", "allowed"].map(str::to_owned).to_vec(), decided);
    answer(&server, &id, "withdraw", &json!({"reason": "too much"})).expect(200);
    assert_eq!(check(&server, "a"), 403);
    wait_until_eq("what was decided", &["blocked", "allowed", "blocked"].map(str::to_owned).to_vec(), decided);
    let short = short_grant(&server, "a", 160);
    wait_until_eq("the end of the grant", &"expired".to_owned(), || state(&server, &short));
    wait_until_eq("a block", &403, || check(&server, "a"));

    let rows = audited(&server);
    let told: Vec<_> = rows.iter().filter(|row| row["change"] == *id).collect();
    let who = |row: &Value| (row["action"].clone(), row["key"].clone(), row["actor"].clone(), row["reason"].clone());
    let expected = [("request", "zoe", "launch week"), ("approve", "ada", "once"), ("withdraw", "ada", "too much")];
    let expected = expected.map(|(action, actor, reason)| (json!(action), json!("admin"), json!(actor), json!(reason)));
    assert_eq!(told.iter().map(|row| who(row)).collect::<Vec<_>>(), expected);
    assert!(told.iter().all(|row| row["budget"] == "users" && row["scope"] == "namespace=shop,user=a"));
    let of = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    assert_eq!((&told[0]["before"], of(&told[0]["after"])["state"].clone()), (&Value::Null, json!("pending")));
    assert_eq!(
        (of(&told[1]["before"])["state"].clone(), of(&told[1]["after"])["grant"].clone()),
        (json!("pending"), approved["grant"].clone())
    );
    let over = rows.last().unwrap();
    assert_eq!((&over["action"], &over["origin"], &over["actor"]), (&json!("expire"), &json!("outlay"), &Value::Null));
    assert_eq!((&over["change"], of(&over["after"])["state"].clone()), (&json!(short), json!("expired")));
}

#[test]
fn requests_and_grants_outlive_a_kill_and_a_grant_ends_while_the_server_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_a_blocked_user(dir.path(), "a", 150);
    spend(&server, "b", 150);
    let (long, waiting) = (ask(&server, "a", 200), ask(&server, "b", 200));
    answer(&server, &long, "approve", &Value::Null).expect(200);
    server.kill();
    let server = with_a_file(dir.path());
    assert_eq!([check(&server, "a"), check(&server, "b")], [200, 403]);
    assert_eq!([state(&server, &long), state(&server, &waiting)], ["approved", "pending"]);
    assert_eq!(actions(&server), ["request", "request", "approve"], "nothing was found to be different");

    answer(&server, &waiting, "deny", &json!({"reason": "ask your lead"})).expect(200);
    let short = short_grant(&server, "b", 200);
    let until = server.get_json(&format!("{PATH}/{short}"))["grant"]["expires_at"].as_str().unwrap().to_owned();
    server.kill();
    let until = chrono::DateTime::parse_from_rfc3339(&until).unwrap();
    wait_for("the end of the grant", || (Utc::now() > until).then_some(()));
    let server = with_a_file(dir.path());
    assert_eq!([check(&server, "a"), check(&server, "b")], [200, 403]);
    wait_until_eq("the end of the grant", &"expired".to_owned(), || state(&server, &short));
    let ended: Vec<Value> = audited(&server).into_iter().filter(|row| row["change"] == *short).collect();
    assert_eq!(ended.last().unwrap()["action"], "expire");
    assert_eq!(server.get_json(&format!("{PATH}?state=denied"))[0]["answered"]["reason"], "ask your lead");
    let before = audited(&server);
    assert!(server.stop().success());
    let server = with_a_file(dir.path());
    assert_eq!((audited(&server), check(&server, "a")), (before, 200), "an end is told once");
}

#[test]
fn of_two_who_answer_at_the_same_time_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_a_blocked_user(dir.path(), "a", 150);
    for round in 0..6 {
        let id = ask(&server, "a", 200);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let (server, id) = (&server, id.as_str());
            let bodies =
                [("approve", json!({"reason": "yes"})), ("deny", json!({"reason": "no"})), ("approve", Value::Null)];
            let asked = bodies.map(|(what, body)| scope.spawn(move || answer(server, id, what, &body)));
            asked.map(|asked| asked.join().unwrap()).into()
        });
        let taken: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(taken.len(), 1, "round {round}: {answers:?}");
        let taken = taken[0].json()["state"].as_str().unwrap().to_owned();
        for late in answers.iter().filter(|answer| answer.status != 200) {
            let problem = late.json();
            assert_eq!(
                (late.status, &problem["code"], &problem["field"]),
                (409, &json!("already_answered"), &json!("state"))
            );
            assert_eq!(problem["state"], taken);
        }
        assert_eq!(
            (state(&server, &id), check(&server, "a")),
            (taken.clone(), if taken == "approved" { 200 } else { 403 })
        );
        if taken == "approved" {
            answer(&server, &id, "withdraw", &Value::Null).expect(200);
        }
    }
    let answers = actions(&server).into_iter().filter(|action| action == "approve" || action == "deny").count();
    assert_eq!(answers, 6);
}

#[test]
fn what_cannot_be_asked_for_or_granted_is_refused_with_the_field_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut users = daily("users", "shop", 100);
    users["per"] = json!(["user"]);
    change(&server, "PUT", "", &[("if-match", "*")], &json!({"budgets": [users, daily("lab", "lab", 5)]})).expect(200);
    let good = json!({"budget": "users", "scope": {"user": "a"}, "limit": {"tokens": 200}, "justification": "why"});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for (body, field) in [
        (with("budget", json!("nothing")), "budget"),
        (with("scope", json!({})), "scope.user"),
        (with("scope", json!({"user": "a", "team": "t"})), "scope.team"),
        (with("scope", json!({"user": "a", "namespace": "lab"})), "scope.namespace"),
        (with("limit", json!({"tokens": 100})), "limit"),
        (with("limit", json!({"requests": 100})), "limit"),
        (with("until", json!(now())), "until"),
        (with("until", json!((Utc::now() + Duration::days(400)).to_rfc3339())), "until"),
        (with("justification", json!("")), "justification"),
    ] {
        let refused = post(&server, "", "zoe", &body).expect(400).json();
        assert_eq!((&refused["code"], &refused["field"]), (&json!("invalid_parameter"), &json!(field)), "{refused}");
    }
    let until = (Utc::now() + Duration::days(2)).to_rfc3339();
    let asked = post(&server, "", "zoe", &with("until", json!(until))).expect(201).json();
    let id = asked["id"].as_str().unwrap();
    let twice = post(&server, "", "zoe", &good).expect(409).json();
    assert_eq!((&twice["code"], &twice["id"]), (&json!("already_asked"), &json!(id)));
    for (body, field) in [
        (json!({"limit": {"tokens": 201}}), "limit"),
        (json!({"limits": [{"tokens": 100}]}), "limits"),
        (json!({"limit": {"requests": 5}}), "limit"),
        (json!({"until": (Utc::now() + Duration::days(3)).to_rfc3339()}), "until"),
        (json!({"until": now()}), "until"),
    ] {
        let refused = answer(&server, id, "approve", &body).expect(400).json();
        assert_eq!((&refused["code"], &refused["field"]), (&json!("invalid_parameter"), &json!(field)), "{refused}");
    }
    answer(&server, "r-99", "approve", &Value::Null).expect(404);
    // What it asks for cannot be given any more.
    change(&server, "PUT", "/users", &[("if-match", "*")], &with_limit(300)).expect(200);
    let refused = answer(&server, id, "approve", &Value::Null).expect(409).json();
    assert_eq!((&refused["code"], &refused["field"]), (&json!("cannot_be_granted"), &json!("limits")), "{refused}");
    change(&server, "DELETE", "/users", &[("if-match", "*")], &Value::Null).expect(204);
    let refused = answer(&server, id, "approve", &Value::Null).expect(409).json();
    assert_eq!((&refused["code"], &refused["field"]), (&json!("cannot_be_granted"), &json!("budget")), "{refused}");
    answer(&server, id, "deny", &json!({"reason": "it is gone"})).expect(200);
    let again = answer(&server, id, "deny", &json!({"reason": "it is gone"})).expect(409).json();
    assert_eq!((&again["field"], &again["state"]), (&json!("state"), &json!("denied")), "{again}");
    assert_eq!(actions(&server), ["request", "deny"]);
}

fn with_limit(tokens: u64) -> Value {
    let mut users = daily("users", "shop", tokens);
    users["per"] = json!(["user"]);
    users
}

#[test]
fn a_plan_shows_no_grant_and_knows_whom_one_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let all = |tokens| json!({"budgets": [with_limit(tokens)]});
    let etag = change(&server, "PUT", "", &[("if-match", "*")], &all(100)).expect(200).header("etag").to_owned();
    spend(&server, "a", 150);
    spend(&server, "b", 150);
    let id = ask(&server, "a", 200);
    answer(&server, &id, "approve", &Value::Null).expect(200);
    let plan = |tokens| {
        let request = server.client().post(format!("{}/v1/budgets-plan", server.url));
        server.send(request.body(all(tokens).to_string())).expect(200).json()
    };
    assert_eq!((&plan(100)["changes"], &plan(100)["etag"]), (&json!([]), &json!(etag)));
    // To 140: the one with a grant stays free, the other one stays blocked. To 160: only that other one is let go.
    let effect = |tokens| plan(tokens)["changes"][0]["effect"].clone();
    assert_eq!((&effect(140)["blocks"], &effect(140)["unblocks"]), (&json!(0), &json!(0)));
    assert_eq!((&effect(160)["unblocks"], &effect(160)["scopes"][0]["scope"]["user"]), (&json!(1), &json!("b")));
    // A grant goes on with a budget that is changed, and says nothing where the budget has more.
    change(&server, "PUT", "/users", &[("if-match", "*")], &with_limit(140)).expect(200);
    assert_eq!([check(&server, "a"), check(&server, "b")], [200, 403]);
    change(&server, "PUT", "/users", &[("if-match", "*")], &with_limit(500)).expect(200);
    assert_eq!(server.get_json(&format!("{PATH}/{id}"))["present"][0]["limit"], "500");
}

#[test]
fn a_grant_and_its_end_wait_for_no_lake_that_takes_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_a_blocked_user(dir.path(), "a", 150);
    let log = server.data.join("lake/usage/_delta_log");
    let away = server.data.join("lake/usage/_away");
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "in the way").unwrap();
    spend(&server, "b", 100);
    wait_for("a lake that takes no rows", || (server.get("/readyz").status == 503).then_some(()));
    let id = ask(&server, "a", 200);
    answer(&server, &id, "approve", &Value::Null).expect(200);
    assert_eq!([check(&server, "a"), check(&server, "b")], [200, 403]);
    answer(&server, &id, "withdraw", &Value::Null).expect(200);
    assert_eq!(check(&server, "a"), 403);
    let short = short_grant(&server, "a", 200);
    wait_until_eq("the end of the grant", &"expired".to_owned(), || state(&server, &short));
    assert_eq!(check(&server, "a"), 403, "it is over before that is told");
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    wait_for("a lake that takes rows", || (server.get("/readyz").status == 200).then_some(()));
}

#[test]
fn the_command_asks_answers_and_shows() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_a_blocked_user(dir.path(), "a", 150);
    let run = |args: &[&str]| {
        let output =
            server::command("budgets").args(args).args(["--url", &server.url, "--key", &server.key]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let wish =
        ["request", "users", "--scope", "user=a", "--add", "tokens=100", "--reason", "launch week", "--actor", "zoe"];
    let (code, said) = run(&wish);
    assert!(code == 0 && said.contains("r-1  pending  users  namespace=shop,user=a"), "{said}");
    assert!(
        said.contains("200 tokens until the end of the window") && said.contains("150 of 100 tokens used"),
        "{said}"
    );
    let (code, said) = run(&wish);
    assert!(code == 1 && said.contains("r-1 asks for more of this already") && said.contains("field scope"), "{said}");
    let (code, said) = run(&["requests", "--state", "pending"]);
    assert!(code == 0 && said.contains("r-1  pending") && said.contains("by zoe: launch week"), "{said}");
    let (code, said) = run(&["approve", "r-1", "--limit", "tokens=160", "--reason", "once", "--actor", "ada"]);
    assert!(code == 0 && said.contains("r-1  approved") && said.contains("granted    160 tokens until"), "{said}");
    assert_eq!(check(&server, "a"), 200);
    let (code, said) = run(&["withdraw", "r-1", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((code, &said["state"], check(&server, "a")), (0, &json!("withdrawn"), 403));
    assert!(
        run(&["request", "users", "--scope", "user=a", "--limit", "tokens=300", "--reason", "again"]).1.contains("r-2")
    );
    let (code, said) = run(&["deny", "r-2", "--reason", "enough"]);
    assert!(code == 0 && said.contains("denied") && said.contains(": enough"), "{said}");
    let (code, said) = run(&["deny", "r-2", "--reason", "enough"]);
    assert!(code == 1 && said.contains("r-2 is denied since"), "{said}");
    let (code, said) = run(&["requests", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((code, &said[0]["id"], &said[1]["id"]), (0, &json!("r-2"), &json!("r-1")));
}

#[test]
fn a_request_is_mailed_once_to_whoever_the_alerts_of_its_budget_go_to_also_after_a_crash_before_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("budgets.yaml"), dir.path().join("data"));
    let mut budget = daily("users", "shop", 100);
    budget["per"] = json!(["user"]);
    budget["alerts"] = json!({"at": [], "to": ["leads@example.com"]});
    std::fs::write(&file, json!({ "budgets": [budget, daily("silent", "lab", 100)] }).to_string()).unwrap();
    let start = || Server::start(&data, &["--budgets", file.to_str().unwrap()]);
    let mails = |server: &Server| -> Vec<Value> {
        let mails = server.get_json("/v1/status")["mails"].as_array().unwrap().clone();
        mails.into_iter().filter(|mail| mail["state"] == "written").collect()
    };
    let subjects = |server: &Server| -> Vec<String> {
        mails(server).iter().map(|mail| mail["subject"].as_str().unwrap().to_owned()).collect()
    };
    let server = start();
    let id = ask(&server, "ann", 500);
    let nobody = json!({"budget": "silent", "limit": {"tokens": 500}, "justification": "because"});
    post(&server, "", "zoe", &nobody).expect(201);
    let expected = json!([format!("{id}: more of budget users is asked for shop, user ann")]);
    wait_until_eq("a mail", &expected, || json!(subjects(&server)));
    assert_eq!(mails(&server)[0]["to"], json!(["leads@example.com"]));
    drop(server);

    // The disk as a crash leaves it between the request and its mail.
    std::fs::remove_dir_all(data.join("outbox")).unwrap();
    std::fs::remove_dir_all(data.join("mail")).unwrap();
    let server = start();
    wait_until_eq("the mail that was missing", &expected, || json!(subjects(&server)));
    drop(server);
    let server = start();
    assert_eq!(json!(server.get_json("/v1/status")["mails"].as_array().unwrap().len()), json!(1), "it is mailed once");
    // What is answered needs no mail any more.
    answer(&server, &id, "deny", &json!({"reason": "no"})).expect(200);
    drop(server);
    std::fs::remove_dir_all(data.join("outbox")).unwrap();
    let server = start();
    assert_eq!(server.get_json("/v1/status")["mails"], json!([]));
}
