//! Plans and exports of budgets whose windows move.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::events::event_with;
use crate::common::{Server, server};
use crate::managing::{budgets, counted, daily, put_all, write};

#[test]
fn a_plan_tells_whom_a_change_blocks_whose_window_moves() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let moving = |id: &str, per: &str, window: Value, limit: u64| json!({"id": id, "match": {"namespace": "shop"}, "per": [per], "window": window, "limit": {"tokens": limit}, "alerts": {"at": []}});
    let hours = |hours: u64, limit: u64| moving("rolls", "user", json!({"rolling": format!("{hours} hours")}), limit);
    let session = |limit: u64| moving("lives", "session", json!({"lifetime": "session", "idle": "24 hours"}), limit);
    put_all(&server, "*", &[hours(6, 100), session(100)]).expect(200);
    for (at, user, session, tokens) in [(0, "a", "s", 40), (1, "a", "t", 30), (2, "b", "s", 20)] {
        let more = json!({"user": user, "session": session});
        server.post_event(&event_with(&format!("e{at}"), "shop", tokens, more));
    }
    counted(&server, "shop", "90");
    let planned = |budgets: &[Value]| {
        let (code, said) = budgets_of(&server, budgets, dir.path());
        assert_eq!(code, 2, "{said}");
        serde_json::from_str::<Value>(&said).unwrap_or_else(|_| panic!("{said}"))["changes"].clone()
    };
    // What each has used: user a 70, user b 20; session s 60, session t 30.
    let changes = planned(&[hours(6, 70), session(31)]);
    let blocked = |change: &Value| {
        let scope = &change["effect"]["scopes"][0];
        (
            change["budget"].clone(),
            change["effect"]["complete"].clone(),
            change["effect"]["blocks"].clone(),
            scope["scope"].clone(),
            scope["used"].clone(),
        )
    };
    let expected = |budget: &str, dim: &str, value: &str, used: &str| {
        (json!(budget), json!(true), json!(1), json!({"namespace": "shop", dim: value}), json!(used))
    };
    assert_eq!(blocked(&changes[0]), expected("lives", "session", "s", "60"), "{changes:#}");
    assert_eq!(blocked(&changes[1]), expected("rolls", "user", "a", "70"), "{changes:#}");
    // Another length counts others: what it blocks is known when its history is read.
    let changes = planned(&[hours(7, 10), session(100)]);
    assert_eq!(
        (changes.as_array().unwrap().len(), &changes[0]["effect"]["complete"]),
        (1, &json!(false)),
        "{changes:#}"
    );
    // It is what was planned.
    put_all(&server, "*", &[hours(6, 70), session(31)]).expect(200);
    let check =
        |user: &str, session: &str| server.check(&[("namespace", "shop"), ("user", user), ("session", session)]).status;
    assert_eq!([check("a", "x"), check("b", "x"), check("c", "s"), check("c", "t")], [403, 200, 403, 200]);
    let changes = planned(&[hours(6, 71), session(31)]);
    assert_eq!(
        (&changes[0]["effect"]["unblocks"], &changes[0]["effect"]["blocks"]),
        (&json!(1), &json!(0)),
        "{changes:#}"
    );
}

/// The plan of these as JSON, and its exit code.
fn budgets_of(server: &Server, new: &[Value], folder: &Path) -> (i32, String) {
    budgets(server, "plan", &write(folder, new), &["--json"])
}

#[test]
fn what_is_exported_is_a_file_that_changes_nothing_and_rules_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("one"), &[]);
    let mut tenants = daily("tenants", "shop", 1_000_000);
    tenants["per"] = json!(["user"]);
    tenants["limits"] = json!([{"tokens": 5}, {"cost": "12.50 USD"}, {"compute_hours": "0.5"}]);
    tenants.as_object_mut().unwrap().remove("limit");
    tenants["overrides"] = json!([{"match": {"user": "yes: \"no\" # 1"}, "limit": {"requests": 7}}]);
    tenants["plans"] = json!({"by": "user", "free": {"of": ["null", "1"], "limit": {"tokens": 4}}});
    let rolls = json!({"id": "rolls", "window": {"rolling": "90 minutes", "zone": "Asia/Tokyo"}, "limit": {"requests": 9}, "mode": "soft"});
    let lives = json!({"id": "lives", "per": ["job"], "window": {"lifetime": "job", "idle": "2 days"}, "limit": {"output": 9}, "alerts": {"at": [0.5], "to": ["a@b.example"]}});
    put_all(&server, "*", &[tenants, rolls, lives]).expect(200);
    let output =
        server::command("budgets").args(["export", "--url", &server.url, "--key", &server.key]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with('#') && text.contains("90 minutes"), "{text}");
    assert!(
        !text.contains("overcommit") && !text.contains("http_status"),
        "what is at its default is left out: {text}"
    );
    let file = dir.path().join("exported.yaml");
    std::fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(server::run("budgets", &["validate", file]).status.code(), Some(0), "{text}");
    let (code, said) = budgets(&server, "plan", file, &[]);
    assert_eq!(code, 0, "{said}\n{text}");
    let other = Server::start(&dir.path().join("two"), &["--budgets", file]);
    let (one, two) = (server.get("/v1/budgets").expect(200), other.get("/v1/budgets").expect(200));
    assert_eq!((one.json(), one.header("etag")), (two.json(), two.header("etag")));
}
