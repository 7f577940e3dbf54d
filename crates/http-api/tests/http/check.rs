//! `/v1/check` and the balances.

use std::sync::Arc;

use http_api::{CheckConfig, Enforcement, FailPolicy};
use usage_intake::{Intake, IntakeConfig};
use usage_types::{Decision, DecisionState, Dimension, Every, ReasonCode, Scope, WindowKind};

use crate::client::{ask, ask_as, get, start, start_with};

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
async fn what_a_budget_in_shadow_would_refuse_is_allowed_and_named() {
    let server = start().await;
    let shadowed = server.engine.decisions.lock()[0].clone().shadowed();
    server.engine.decide(shadowed);
    let answer = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "support")], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (200, ""));
    assert_eq!(answer.header("x-outlay-would-block"), "support-daily");
    let body = answer.json();
    assert_eq!((&body["state"], &body["would_block"]["http_status"]), (&"allowed".into(), &403.into()));
    assert_eq!(body["would_block"]["reason_code"], "NAMESPACE_QUOTA_EXCEEDED");
    let detail = body["detail"].as_str().unwrap();
    assert!(
        detail.contains("in shadow would answer 403 NAMESPACE_QUOTA_EXCEEDED: 1000450 of 1000000 tokens"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_throttle_is_told_by_the_drafts_headers_and_in_shadow_by_ours() {
    let server = start().await;
    let blocked = server.engine.decisions.lock()[0].clone();
    let (state, http_status) = (DecisionState::Allowed, 200);
    let reason_code = ReasonCode::WithinQuota;
    let throttled = Decision { state, http_status, reason_code, throttle: Some(crate::fake::throttle()), ..blocked };
    server.engine.decide(throttled.clone());
    let answer = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "support")], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (200, ""));
    assert_eq!(answer.header("ratelimit-policy"), r#""support-daily";q=5;w=60"#);
    let reset = answer.header("ratelimit").strip_prefix(r#""support-daily";r=3;t="#).unwrap();
    assert!((1..=7).contains(&reset.parse::<u64>().unwrap()), "{reset}");
    assert_eq!(answer.json()["throttle"]["per_s"], 60);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("throttles to 5 requests in 60 s for namespace=support (CIRCUIT_HALF_OPEN)"), "{detail}");

    server.engine.decide(throttled.shadowed());
    let answer = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "support")], "").await;
    assert_eq!((answer.header("ratelimit"), answer.header("x-outlay-would-throttle")), ("", "support-daily"));
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
            "x-outlay-namespace",
        ),
        (
            "GET",
            "/v1/check",
            &[("x-outlay-namespace", "a"), ("x-policy-project", "b")],
            "",
            "invalid_parameter",
            "x-policy-project",
        ),
        ("GET", "/v1/check?namespace=a&refuse_with=200", &[], "", "invalid_parameter", "refuse_with"),
        ("GET", "/v1/check/v1/chat?namespace=a", &[], r#"{"namespace":"a"}"#, "missing_field", "namespace"),
        ("GET", "/v1/check?namespace=a", &[("x-outlay-namespace", "b")], "", "invalid_parameter", "namespace"),
        ("GET", "/v1/check?namspace=a", &[("x-outlay-namespace", "a")], "", "invalid_parameter", "namspace"),
        ("GET", "/v1/check", &[("x-outlay-namespace", long.as_str())], "", "invalid_parameter", "x-outlay-namespace"),
        ("POST", "/v1/check", &[], r#"{"namespace":"a","nmae":"b"}"#, "invalid_body", ""),
        ("POST", "/v1/check", &[], "{", "invalid_body", ""),
    ] {
        let answer = ask(server.addr, method, path, headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, code), "{method} {path} {body}");
        assert_eq!(answer.json()["field"].as_str().unwrap_or(""), field);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(!field.starts_with("x-") || detail.contains(field), "{detail}");
    }
}

#[tokio::test]
async fn headers_of_other_names_mean_the_dimensions_that_are_set_for_them() {
    let yaml = "headers: { x-tenant: namespace, x-policy-user: team }";
    let server = start_with(|config| {
        config.intake = Arc::new(Intake { config: IntakeConfig::from_yaml(yaml).unwrap(), ..Intake::default() });
    })
    .await;
    let asked =
        |headers: &'static [(&str, &str)]| async move { ask(server.addr, "GET", "/v1/check", headers, "").await };
    for headers in [
        &[("x-tenant", "support"), ("x-policy-user", "u-1")][..],
        &[("X-Policy-Project", "support"), ("X-Policy-User", "u-1")],
    ] {
        assert_eq!(asked(headers).await.status, 403, "{headers:?}");
    }
    let server = start().await;
    let policy = [("x-policy-project", "support"), ("x-policy-user", "u-1"), ("x-outlay-team", "helpdesk")];
    assert_eq!(ask(server.addr, "GET", "/v1/check", &policy, "").await.status, 403);
    let (asked, _) = server.engine.questions.lock().last().unwrap().clone();
    let named: Vec<_> = asked.iter().collect();
    assert_eq!(named, [(Dimension::Namespace, "support"), (Dimension::Team, "helpdesk"), (Dimension::User, "u-1")]);
}

#[tokio::test]
async fn a_gateway_may_append_the_original_path_and_keep_its_method_query_and_body() {
    let server = start().await;
    for (method, path) in [
        ("GET", "/v1/check/"),
        ("POST", "/v1/check/v1/chat/completions?namespace=other&stream=true"),
        ("PUT", "/v1/check//files/a%20b"),
        ("DELETE", "/v1/check/v1/files/1"),
        ("OPTIONS", "/v1/check/"),
        ("HEAD", "/v1/check/v1/models"),
    ] {
        let body = if method == "POST" { r#"{"model":"gpt-5.1","messages":[]}"# } else { "" };
        let named = [("x-outlay-namespace", "support"), ("content-type", "text/plain")];
        let blocked = ask(server.addr, method, path, &named, body).await;
        assert_eq!(
            (blocked.status.as_u16(), blocked.header("x-outlay-budget")),
            (403, "support-daily"),
            "{method} {path}"
        );
        let other = ask(server.addr, method, path, &[("x-outlay-namespace", "other")], body).await;
        assert_eq!(other.status, 200, "{method} {path}");
    }
    assert_eq!(ask(server.addr, "PUT", "/v1/check", &[("x-outlay-namespace", "other")], "").await.status, 405);
}

#[tokio::test]
async fn a_gateway_that_knows_few_statuses_gets_the_one_it_asks_for_and_the_own_one_beside_it() {
    let server = start().await;
    server.engine.decisions.lock()[0].http_status = 429;
    let named = [("x-outlay-namespace", "support")];
    let refused = ask(server.addr, "GET", "/v1/check?refuse_with=403", &named, "").await;
    assert_eq!((refused.status.as_u16(), refused.header("x-outlay-status")), (403, "429"));
    assert!(!refused.header("retry-after").is_empty());
    let allowed = ask(server.addr, "GET", "/v1/check?refuse_with=403&namespace=other", &[], "").await;
    assert_eq!((allowed.status.as_u16(), allowed.header("x-outlay-status")), (200, "200"));
}

#[tokio::test]
async fn the_key_may_be_a_password_for_gateways_that_can_only_be_given_a_url() {
    let server = start().await;
    // base64 of `outlay:test-admin-key`, and of `outlay:another-key`.
    for (credentials, status) in [("b3V0bGF5OnRlc3QtYWRtaW4ta2V5", 403), ("b3V0bGF5OmFub3RoZXIta2V5", 401)] {
        let basic = format!("Basic {credentials}");
        let headers = [("authorization", basic.as_str()), ("x-outlay-namespace", "support")];
        assert_eq!(ask_as(server.addr, "GET", "/v1/check", &headers, "").await.status, status);
    }
}

#[tokio::test]
async fn while_the_balances_are_behind_the_fail_policy_answers_and_says_so() {
    let late = Enforcement { lag_us: 5_000_001, problem: None };
    let broken = Enforcement { lag_us: 0, problem: Some("catching up with the log".into()) };
    for (policy, allowed, blocked, reason) in [
        (FailPolicy::Open, 200, 200, "ENFORCEMENT_BEHIND"),
        (FailPolicy::Closed, 503, 503, "ENFORCEMENT_BEHIND"),
        (FailPolicy::LastKnown, 200, 403, "WITHIN_QUOTA"),
    ] {
        let server = start_with(|config| config.check = CheckConfig { fail: policy, ..CheckConfig::default() }).await;
        for behind in [&late, &broken] {
            *server.engine.enforcement.lock() = behind.clone();
            let answer = get(server.addr, "/v1/check?namespace=other").await;
            assert_eq!(answer.status, allowed, "{policy:?}");
            assert_eq!(
                (answer.header("x-outlay-fail-policy"), answer.header("x-outlay-reason")),
                (policy.name(), reason)
            );
            assert_eq!(answer.header("retry-after"), if allowed == 503 { "1" } else { "" });
            let body = answer.json();
            assert_eq!(
                (&body["fail_policy"], &body["enforcement_lag_us"]),
                (&policy.name().into(), &behind.lag_us.into())
            );
            let why = behind.problem.clone().unwrap_or("balances are 5000 ms behind, more than 5000 ms".into());
            assert_eq!(body["fail_reason"], why);
            assert!(body["detail"].as_str().unwrap().contains(&why), "{body}");
            assert_eq!(get(server.addr, "/v1/check?namespace=support").await.status, blocked, "{policy:?}");
        }
        let asked = std::mem::take(&mut *server.engine.questions.lock());
        assert!(asked.iter().all(|(_, last_known)| *last_known), "{policy:?}");

        *server.engine.enforcement.lock() = Enforcement { lag_us: 5_000_000, problem: None };
        let answer = get(server.addr, "/v1/check?namespace=support").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-outlay-fail-policy")), (403, ""), "{policy:?}");
        assert_eq!(answer.json()["fail_policy"], serde_json::Value::Null);
        assert!(server.engine.questions.lock().iter().all(|(_, last_known)| !last_known));
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
    assert_eq!((query.every, query.measure.as_deref()), (Some(WindowKind::Calendar(Every::Hour)), Some("requests")));
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
