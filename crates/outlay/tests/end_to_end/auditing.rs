//! The audit log: who changed which budget, when and why, and what was decided; it survives whatever the server does not.

use serde_json::{Value, json};

use crate::common::events::event;
use crate::common::{Server, kafka, wait_for, wait_until_eq};
use crate::managing::{change, daily};

fn audit(server: &Server, columns: &str, kind: &str) -> Vec<Value> {
    server.sql(&format!("select {columns} from audit where kind = '{kind}' order by time, budget, action"))
}

#[test]
fn every_change_over_http_is_told_with_who_and_why_and_what_it_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(audit(&server, "*", "budget"), [] as [Value; 0]);
    let stated = [("x-outlay-actor", "Zoë Q."), ("x-outlay-reason", "más para abril, INC-7")];
    let with = |more: (&'static str, &'static str)| [&stated[..], &[more]].concat();
    change(&server, "PUT", "", &with(("if-match", "*")), &json!({"budgets": [daily("a", "a", 5), daily("b", "b", 5)]}))
        .expect(200);
    change(&server, "PUT", "/a", &with(("if-match", "*")), &daily("a", "a", 6)).expect(200);
    // One that is refused, or changes nothing, leaves no entry.
    change(&server, "PUT", "/a", &with(("if-match", "\"x\"")), &daily("a", "a", 7)).expect(412);
    change(&server, "PUT", "/a", &with(("if-match", "*")), &daily("a", "a", 6)).expect(200);
    change(&server, "DELETE", "/b", &[("if-match", "*")], &Value::Null).expect(204);

    let rows = audit(&server, "budget, action, origin, key, actor, reason", "budget");
    let row = |budget: &str, action: &str, actor: Option<&str>, reason: Option<&str>| json!({"budget": budget, "action": action, "origin": "api", "key": "admin", "actor": actor, "reason": reason});
    let [said_who, said_why] = stated.map(|(_, said)| Some(said));
    let all = [
        row("a", "add", said_who, said_why),
        row("b", "add", said_who, said_why),
        row("a", "change", said_who, said_why),
        row("b", "remove", None, None),
    ];
    assert_eq!(rows, all);
    let rows = audit(&server, "before, after, change", "budget");
    let limit = |text: &Value| {
        text.as_str().map(|text| serde_json::from_str::<Value>(text).unwrap()["limits"][0]["tokens"].clone())
    };
    let limits: Vec<_> = rows.iter().map(|row| (limit(&row["before"]), limit(&row["after"]))).collect();
    assert_eq!(
        limits,
        [(None, Some(json!(5))), (None, Some(json!(5))), (Some(json!(5)), Some(json!(6))), (Some(json!(5)), None)]
    );
    assert_eq!(rows[0]["change"], rows[1]["change"], "two entries of one change");
    assert_ne!(rows[1]["change"], rows[2]["change"]);
    let recent = server.sql("select count(*) n from audit where time between now() - interval '1 hour' and now()");
    assert_eq!(recent[0]["n"], 4);

    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(audit(&server, "budget, action, origin, key, actor, reason", "budget"), all);
    assert_eq!(audit(&server, "*", "budgets"), [] as [Value; 0], "the budgets at start are those that were recorded");
}

#[test]
fn a_change_of_the_file_is_told_and_so_is_one_that_happened_while_no_server_ran() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("budgets.yaml");
    let write = |tokens: u64| std::fs::write(&file, json!({"budgets": [daily("a", "a", tokens)]}).to_string()).unwrap();
    let data = dir.path().join("data");
    let start = || Server::start(&data, &["--budgets", file.to_str().unwrap()]);
    write(5);
    let server = start();
    let found = audit(&server, "action, origin, key, after", "budgets");
    assert_eq!(
        (found.len(), &found[0]["action"], &found[0]["origin"], &found[0]["key"]),
        (1, &json!("found"), &json!("start"), &Value::Null)
    );
    assert!(found[0]["after"].as_str().unwrap().contains("\"tokens\":5"), "{found:?}");
    write(6);
    let rows = || audit(&server, "budget, action, origin, key", "budget");
    wait_until_eq(
        "the change of the file",
        &vec![json!({"budget": "a", "action": "change", "origin": "file", "key": null})],
        rows,
    );
    assert!(server.stop().success());
    write(7);
    let server = start();
    assert_eq!(audit(&server, "*", "budgets").len(), 2);
    assert!(server.stop().success());
    assert_eq!(audit(&start(), "*", "budgets").len(), 2, "nothing changed meanwhile");
}

#[test]
fn each_decision_is_told_once_even_where_the_server_was_killed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    change(&server, "PUT", "/shop", &[("if-none-match", "*")], &daily("shop", "shop", 10)).expect(201);
    server.post_event(&event("one", "shop", 10));
    wait_for("the decision on the topic", || {
        kafka::latest(&server.log, "usage.decisions").remove("shop|namespace=shop")
    });
    server.kill();
    let server = Server::start(dir.path(), &[]);
    let decisions = || audit(&server, "budget, action, scope, origin, reason, after", "decision");
    wait_until_eq("decisions", &1, || decisions().len());
    let told = decisions().remove(0);
    assert_eq!(
        (&told["budget"], &told["action"], &told["scope"]),
        (&json!("shop"), &json!("blocked"), &json!("namespace=shop"))
    );
    assert_eq!((&told["origin"], &told["reason"]), (&json!("outlay"), &json!("NAMESPACE_QUOTA_EXCEEDED")));
    let after: Value = serde_json::from_str(told["after"].as_str().unwrap()).unwrap();
    assert_eq!((&after["seq"], &after["used"], &after["limit"]), (&json!(1), &json!("10"), &json!("10")));

    change(&server, "PUT", "/shop", &[("if-match", "*")], &daily("shop", "shop", 11)).expect(200);
    let actions = || decisions().iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    wait_until_eq("what was decided", &vec!["blocked".to_owned(), "allowed".to_owned()], actions);
    assert!(server.stop().success());
    let server = Server::start(dir.path(), &[]);
    assert_eq!(audit(&server, "*", "decision").len(), 2);
}
