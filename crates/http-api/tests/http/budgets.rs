//! Budgets over HTTP: what a change must say, and what the engine is told of it.

use http_api::{BudgetsWrite, Precondition, Stated};

use crate::client::{ask, get, start};

#[tokio::test]
async fn budgets_are_read_with_a_tag() {
    let server = start().await;
    let all = get(server.addr, "/v1/budgets").await;
    assert_eq!(
        (all.status.as_u16(), all.header("etag"), all.header("content-type")),
        (200, "\"all\"", "application/json")
    );
    assert_eq!(all.json()["budgets"][0]["id"], "support-daily");
    let one = get(server.addr, "/v1/budgets/support-daily").await;
    assert_eq!(
        (one.status.as_u16(), one.header("etag"), one.json()["limits"][0]["tokens"].as_u64()),
        (200, "\"one\"", Some(1_000_000))
    );
    assert_eq!(get(server.addr, "/v1/budgets/nothing").await.problem(), "not_found");
    assert_eq!(get(server.addr, "/v1/budgets?id=a").await.problem(), "invalid_parameter");
}

#[tokio::test]
async fn a_change_must_name_the_version_that_it_is_meant_for() {
    let server = start().await;
    for (method, path, headers, status, code) in [
        ("PUT", "/v1/budgets", &[][..], 428, "precondition_required"),
        ("PUT", "/v1/budgets/b", &[], 428, "precondition_required"),
        ("DELETE", "/v1/budgets/b", &[], 428, "precondition_required"),
        ("PUT", "/v1/budgets", &[("if-none-match", "*")], 400, "invalid_parameter"),
        ("DELETE", "/v1/budgets/b", &[("if-none-match", "*")], 400, "invalid_parameter"),
        ("PUT", "/v1/budgets/b", &[("if-none-match", "\"a\"")], 400, "invalid_parameter"),
        ("PUT", "/v1/budgets/b", &[("if-none-match", "*"), ("if-match", "*")], 400, "invalid_parameter"),
        ("PUT", "/v1/budgets", &[("if-match", "all")], 400, "invalid_parameter"),
        ("PUT", "/v1/budgets", &[("if-match", "\"all\""), ("content-type", "text/csv")], 415, "unsupported_media_type"),
        (
            "PUT",
            "/v1/budgets",
            &[("if-match", "\"all\""), ("x-outlay-actor", "a"), ("x-outlay-actor", "b")],
            400,
            "invalid_parameter",
        ),
        ("PUT", "/v1/budgets?force=true", &[("if-match", "\"all\"")], 400, "invalid_parameter"),
    ] {
        let answer = ask(server.addr, method, path, headers, "budgets: []").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, code), "{method} {path} {headers:?}");
    }
    assert!(server.engine.budget_changes.lock().is_empty());
}

#[tokio::test]
async fn the_engine_is_told_what_by_whom_and_why() {
    let server = start().await;
    let stated = [("x-outlay-actor", "Zoë"), ("x-outlay-reason", " más para abril ")];
    let with = |more: &[(&'static str, &'static str)]| [&stated, more].concat();
    let replaced =
        ask(server.addr, "PUT", "/v1/budgets", &with(&[("if-match", "\"all\", W/\"b\"")]), "budgets: []").await;
    assert_eq!((replaced.status.as_u16(), replaced.header("etag")), (200, "\"all\""));
    let made = ask(
        server.addr,
        "PUT",
        "/v1/budgets/b",
        &with(&[("if-none-match", "*"), ("content-type", "application/yaml")]),
        "id: b",
    )
    .await;
    assert_eq!((made.status.as_u16(), made.header("etag")), (201, "\"one\""));
    let gone = ask(server.addr, "DELETE", "/v1/budgets/b", &[("if-match", "*")], "").await;
    assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));

    let changes = server.engine.budget_changes.lock();
    let written: Vec<_> = changes.iter().map(|change| (change.write.clone(), change.precondition.clone())).collect();
    let tags = ["\"all\"".to_owned(), "W/\"b\"".to_owned()];
    assert_eq!(
        written,
        [
            (BudgetsWrite::Replace("budgets: []".into()), Precondition::Match(tags.into())),
            (BudgetsWrite::Put { id: "b".into(), text: "id: b".into() }, Precondition::MatchNone),
            (BudgetsWrite::Delete { id: "b".into() }, Precondition::MatchAny),
        ]
    );
    let said = Stated { actor: Some("Zoë".into()), reason: Some("más para abril".into()) };
    assert_eq!((&changes[0].stated, &changes[2].stated), (&said, &Stated::default()));
}

#[test]
fn a_precondition_holds_for_its_own_version_only() {
    let tags = |tags: &[&str]| Precondition::Match(tags.iter().map(|tag| (*tag).to_owned()).collect());
    for (precondition, present, holds) in [
        (tags(&["\"a\"", "\"b\""]), Some("\"b\""), true),
        (tags(&["\"a\""]), Some("\"b\""), false),
        (tags(&["W/\"a\""]), Some("\"a\""), false),
        (tags(&["\"a\""]), None, false),
        (Precondition::MatchAny, Some("\"a\""), true),
        (Precondition::MatchAny, None, false),
        (Precondition::MatchNone, None, true),
        (Precondition::MatchNone, Some("\"a\""), false),
    ] {
        assert_eq!(precondition.holds(present), holds, "{precondition:?} {present:?}");
    }
}
