//! `/v1/check` and the balances.

use usage_types::{Dimension, Every, Scope};

use crate::client::{ask, get, start};

#[tokio::test]
async fn a_blocked_namespace_gets_the_budgets_status_and_every_header() {
    let server = start().await;
    let answer = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "support")], "").await;
    assert_eq!(answer.status, 403);
    let body = answer.json();
    for (name, value) in [
        ("state", "blocked"),
        ("reason_code", "NAMESPACE_QUOTA_EXCEEDED"),
        ("budget", "support-daily"),
        ("measure", "tokens"),
        ("limit", "1000000"),
        ("used", "1000450"),
    ] {
        assert_eq!(body[name], value, "{body}");
    }
    assert_eq!(body["scope"]["namespace"], "support");
    for (name, value) in [
        ("x-outlay-reason", "NAMESPACE_QUOTA_EXCEEDED"),
        ("x-outlay-budget", "support-daily"),
        ("x-outlay-enforcement-lag-ms", "2"),
        ("x-outlay-used", "1000450"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_eq!(answer.header("x-outlay-reset"), body["window"]["end"].as_str().unwrap());
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    assert_eq!(body["retry_after_s"], seconds);
}

#[tokio::test]
async fn a_short_windows_block_is_429_and_an_allowed_request_200() {
    let server = start().await;
    server.engine.decisions.lock()[0].http_status = 429;
    let blocked = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "support")], "").await;
    assert_eq!(blocked.status, 429);
    let allowed = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "other")], "").await;
    assert_eq!((allowed.status.as_u16(), allowed.header("retry-after")), (200, ""));
    assert_eq!(allowed.json()["state"], "allowed");
}

#[tokio::test]
async fn dimensions_come_from_headers_the_url_or_the_body_alike() {
    let server = start().await;
    for (method, path, headers, body) in [
        ("GET", "/v1/check?namespace=support", &[][..], ""),
        ("POST", "/v1/check", &[], r#"{"namespace":"support","user":"u-1"}"#),
        ("POST", "/v1/check?team=a", &[("x-outlay-namespace", "support")], ""),
        ("POST", "/v1/check", &[("x-outlay-namespace", "support")], r#"{"namespace":"support"}"#),
    ] {
        assert_eq!(ask(server.addr, method, path, headers, body).await.status, 403, "{method} {path}");
    }
}

#[tokio::test]
async fn an_unclear_question_is_refused_and_never_allowed() {
    let server = start().await;
    let long = "x".repeat(1025);
    for (method, path, headers, body, code, field) in [
        ("GET", "/v1/check", &[][..], "", "missing_field", "namespace"),
        ("GET", "/v1/check", &[("x-outlay-namespace", "")], "", "missing_field", "namespace"),
        (
            "GET",
            "/v1/check",
            &[("x-outlay-namespace", "a"), ("x-outlay-namespace", "b")],
            "",
            "invalid_parameter",
            "namespace",
        ),
        ("GET", "/v1/check?namespace=a", &[("x-outlay-namespace", "b")], "", "invalid_parameter", "namespace"),
        ("GET", "/v1/check?namspace=a", &[("x-outlay-namespace", "a")], "", "invalid_parameter", "namspace"),
        ("GET", "/v1/check", &[("x-outlay-namespace", long.as_str())], "", "invalid_parameter", "namespace"),
        ("POST", "/v1/check", &[], r#"{"namespace":"a","nmae":"b"}"#, "invalid_body", ""),
        ("POST", "/v1/check", &[], "{", "invalid_body", ""),
    ] {
        let answer = ask(server.addr, method, path, headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, code), "{method} {path} {body}");
        assert_eq!(answer.json()["field"].as_str().unwrap_or(""), field);
    }
}

#[tokio::test]
async fn balances_are_filtered_and_say_where_rows_are_left_out() {
    let server = start().await;
    let all = get(server.addr, "/v1/balances").await;
    assert_eq!((all.json().as_array().unwrap().len(), all.header("x-outlay-truncated")), (6, ""));
    let two = get(server.addr, "/v1/balances?limit=2").await;
    assert_eq!((two.json().as_array().unwrap().len(), two.header("x-outlay-truncated")), (2, "true"));
    let one =
        get(server.addr, "/v1/balances?namespace=support&every=hour&measure=requests&budget=per-user-hourly").await;
    assert_eq!(one.json()[0]["used"], "93");
    let query = server.engine.balance_queries.lock().last().unwrap().clone();
    assert_eq!(query.scope, Scope::new([(Dimension::Namespace, "support")]));
    assert_eq!((query.every, query.measure.as_deref()), (Some(Every::Hour), Some("requests")));
}

#[tokio::test]
async fn a_filter_that_is_not_understood_is_refused_and_does_not_show_everything() {
    let server = start().await;
    for (query, field) in [
        ("every=fortnight", "every"),
        ("limit=0", "limit"),
        ("limit=100000", "limit"),
        ("namspace=x", "namspace"),
        ("team=a&team=b", "team"),
    ] {
        let answer = get(server.addr, &format!("/v1/balances?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "invalid_parameter"), "{query}");
        assert_eq!(answer.json()["field"], field);
    }
}
