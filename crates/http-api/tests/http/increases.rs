//! Increase requests over HTTP: what must be said, and what the engine is told of it.

use http_api::{IncreaseAnswer, IncreaseFilter, IncreaseRequest, IncreaseState, Stated};
use usage_types::{IncreaseTerms, Wish};

use crate::client::{ask, get, start};

const PATH: &str = "/v1/increase-requests";
pub const ASK: &str =
    r#"{"budget": "support-daily", "scope": {"user": "u-7"}, "add": {"tokens": 5}, "justification": "launch week"}"#;

#[tokio::test]
async fn requests_are_listed_by_state_and_budget() {
    let server = start().await;
    let all = get(server.addr, PATH).await;
    let ids: Vec<String> =
        all.json().as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((all.status.as_u16(), ids), (200, vec!["r-2".to_owned(), "r-1".to_owned()]));
    get(server.addr, &format!("{PATH}?state=pending&budget=b")).await;
    let wanted = IncreaseFilter { state: Some(IncreaseState::Pending), budget: Some("b".into()) };
    assert_eq!(*server.engine.increase_filters.lock(), [IncreaseFilter::default(), wanted]);
    for (query, field) in [("?state=open", "state"), ("?user=a", "user")] {
        let refused = get(server.addr, &format!("{PATH}{query}")).await;
        assert_eq!((refused.problem().as_str(), refused.json()["field"].as_str()), ("invalid_parameter", Some(field)));
    }
    let one = get(server.addr, &format!("{PATH}/r-1")).await;
    let read: IncreaseRequest = serde_json::from_slice(&one.body).unwrap();
    assert_eq!((read.state, read.asked.actor.as_deref()), (IncreaseState::Withdrawn, Some("zoe")));
    assert_eq!(get(server.addr, &format!("{PATH}/r-9")).await.problem(), "not_found");
}

#[tokio::test]
async fn a_request_is_told_to_the_engine_with_who_asks() {
    let server = start().await;
    let asked = ask(server.addr, "POST", PATH, &[("x-outlay-actor", "Zoë")], ASK).await;
    assert_eq!((asked.status.as_u16(), asked.header("location")), (201, "/v1/increase-requests/r-3"));
    for (body, field) in [
        (ASK.replace("tokens", "token"), "add.token"),
        (ASK.replace("user", "usr"), "scope.usr"),
        (ASK.replace("justification", "why"), "why"),
    ] {
        let refused = ask(server.addr, "POST", PATH, &[], &body).await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (400, "invalid_parameter"));
        assert_eq!((refused.json()["field"].as_str(), refused.json()["line"].as_u64()), (Some(field), Some(1)));
    }
    let told = server.engine.increase_asks.lock();
    let (told, stated) = &told[0];
    assert_eq!(
        (told.justification.as_str(), stated),
        ("launch week", &Stated { actor: Some("Zoë".into()), reason: None })
    );
    assert!(matches!(told.wish, Wish::By(_)));
}

#[tokio::test]
async fn an_answer_is_told_to_the_engine_with_its_terms_and_reason() {
    let server = start().await;
    let answer = async |what: &str, headers: &[(&'static str, &'static str)], body: &str| {
        ask(server.addr, "POST", &format!("{PATH}/r-1/{what}"), headers, body).await
    };
    let header = [("x-outlay-actor", "ada"), ("x-outlay-reason", "by header")];
    let terms = r#"{"limit": {"tokens": 5}, "until": "2026-11-22T18:00:00Z", "reason": "by body"}"#;
    assert_eq!(answer("approve", &header, terms).await.status, 200);
    assert_eq!(answer("approve", &header, "").await.status, 200);
    assert_eq!(answer("withdraw", &[], "").await.status, 200);
    assert_eq!(answer("deny", &header, "").await.status, 200);
    for (what, body, field) in [
        ("deny", "", "reason"),
        ("deny", r#"{"reason": "no", "until": "2026-11-22T18:00:00Z"}"#, "until"),
        ("withdraw", r#"{"limit": {"tokens": 5}}"#, "limit"),
        ("approve", r#"{"add": {"tokens": 5}}"#, "add"),
    ] {
        let refused = answer(what, &[], body).await;
        assert_eq!((refused.status.as_u16(), refused.json()["field"].as_str()), (400, Some(field)), "{what} {body}");
    }
    let late = ask(server.addr, "POST", &format!("{PATH}/r-2/deny"), &[], r#"{"reason": "no"}"#).await;
    assert_eq!((late.status.as_u16(), late.problem().as_str()), (409, "already_answered"));

    let told = server.engine.increase_answers.lock();
    let by: Vec<_> = told.iter().map(|(id, _, actor)| (id.as_str(), actor.as_deref())).collect();
    assert_eq!(by, [("r-1", Some("ada")), ("r-1", Some("ada")), ("r-1", None), ("r-1", Some("ada"))]);
    let IncreaseAnswer::Approve(terms) = &told[0].1 else { panic!("{:?}", told[0]) };
    assert_eq!(
        (terms.reason.as_deref(), terms.until.unwrap().to_string().as_str()),
        (Some("by body"), "2026-11-22T18:00:00Z")
    );
    assert_eq!(terms.limits.as_ref().unwrap().iter().count(), 1);
    assert_eq!(told[2].1, IncreaseAnswer::Withdraw(None));
    assert_eq!(told[3].1, IncreaseAnswer::Deny("by header".into()));
    let as_asked = IncreaseTerms { reason: Some("by header".into()), ..IncreaseTerms::default() };
    assert_eq!(told[1].1, IncreaseAnswer::Approve(as_asked));
}
