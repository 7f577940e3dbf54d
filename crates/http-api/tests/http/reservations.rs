//! Estimates of a check, and `/v1/reservations`.

use std::time::Duration;

use http_api::{CheckConfig, Enforcement, FailPolicy};
use usage_types::{ComputeNs, Estimate, Tokens};

use crate::client::{ask, get, start, start_with};

const OTHER: (&str, &str) = ("x-outlay-namespace", "other");

#[tokio::test]
async fn an_estimate_comes_from_headers_or_the_body() {
    let server = start().await;
    let headers = [
        OTHER,
        ("x-outlay-estimate-input", "900"),
        ("X-Outlay-Estimate-Cache-Read", "300"),
        ("x-outlay-estimate-tool-calls", "2"),
        ("x-outlay-estimate-compute-seconds", "1.5"),
        ("x-outlay-estimate-cost", "0.05 USD"),
    ];
    let body = r#"{"namespace":"other","estimate":{"input":900,"cache_read":300,"tool_calls":2,"compute_seconds":"1.5","cost":"0.05 USD"}}"#;
    let expected = Estimate {
        tokens: Tokens { input: 900, cache_read: 300, ..Tokens::default() },
        tool_calls: 2,
        compute: ComputeNs(1_500_000_000),
        cost: Some("0.05 USD".parse().unwrap()),
        ..Estimate::default()
    };
    assert_eq!(ask(server.addr, "GET", "/v1/check", &headers, "").await.status, 200);
    assert_eq!(ask(server.addr, "POST", "/v1/check/v1/chat", &headers, "a prompt").await.status, 200);
    assert_eq!(ask(server.addr, "POST", "/v1/check", &[], body).await.status, 200);
    assert_eq!(ask(server.addr, "GET", "/v1/check", &[OTHER, ("x-outlay-estimate-tokens", "7")], "").await.status, 200);
    assert_eq!(ask(server.addr, "GET", "/v1/check", &[OTHER], "").await.status, 200);
    let asked = std::mem::take(&mut *server.engine.estimates.lock());
    let total = Estimate { other_tokens: 7, ..Estimate::default() };
    assert_eq!(asked, [Some(expected.clone()), Some(expected.clone()), Some(expected), Some(total), None]);
}

#[tokio::test]
async fn a_text_is_counted_for_its_model_and_the_answer_says_how() {
    let server = start().await;
    for (model, tokenizer, approximate) in [("gpt-4o", "o200k_base", false), ("claude-opus-4-1", "o200k_base", true)] {
        let body =
            format!(r#"{{"namespace":"other","model":"{model}","estimate":{{"text":"hello world","output":500}}}}"#);
        let answer = ask(server.addr, "POST", "/v1/check", &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let json = answer.json();
        assert_eq!((&json["text_tokens"], &json["tokenizer"]), (&2.into(), &tokenizer.into()));
        assert_eq!(json["text_tokens_approximate"], approximate);
        let asked = server.engine.estimates.lock().pop().unwrap().unwrap();
        assert_eq!(asked.tokens, Tokens { input: 2, output: 500, ..Tokens::default() });
    }
}

#[tokio::test]
async fn an_estimate_that_is_not_understood_is_refused_by_its_name() {
    let server = start().await;
    for (method, headers, body, field) in [
        ("GET", &[OTHER, ("x-outlay-estimate-tokens", "many")][..], "", "x-outlay-estimate-tokens"),
        ("GET", &[OTHER, ("x-outlay-estimate-tokens", "-1")], "", "x-outlay-estimate-tokens"),
        ("GET", &[OTHER, ("x-outlay-estimate-tokns", "1")], "", "x-outlay-estimate-tokns"),
        ("GET", &[OTHER, ("x-outlay-estimate-cost", "1")], "", "x-outlay-estimate-cost"),
        ("GET", &[OTHER, ("x-outlay-estimate-cost", "-1 USD")], "", "x-outlay-estimate-cost"),
        ("POST", &[OTHER], r#"{"estimate":{"outputs":1}}"#, "estimate.outputs"),
        ("POST", &[OTHER], r#"{"estimate":{"output":1.5}}"#, "estimate.output"),
        ("POST", &[OTHER], r#"{"estimate":{"output":281474976710657}}"#, "estimate.output"),
        ("POST", &[OTHER], r#"{"estimate":{"text":["a"]}}"#, "estimate.text"),
        ("POST", &[OTHER], r#"{"estimate":{"tokens":1,"output":1}}"#, "estimate.tokens"),
        ("POST", &[OTHER, ("x-outlay-estimate-output", "1")], r#"{"estimate":{"output":1}}"#, "estimate.output"),
    ] {
        let answer = ask(server.addr, method, "/v1/check", headers, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (400, "invalid_parameter"),
            "{body} {headers:?}"
        );
        assert_eq!(answer.json()["field"], field);
    }
    for body in [
        r#"{"namespace":"a","estimate":5}"#,
        r#"{"namespace":"a","namespace":"b"}"#,
        r#"{"namespace":"a","ttl_s":"x"}"#,
    ] {
        let answer = ask(server.addr, "POST", "/v1/check", &[], body).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "invalid_body"), "{body}");
    }
}

#[tokio::test]
async fn a_reservation_is_held_once_and_released_once() {
    let server = start().await;
    let body = r#"{"namespace":"other","estimate":{"tokens":1000},"ttl_s":60}"#;
    let held = ask(server.addr, "POST", "/v1/reservations", &[], body).await;
    assert_eq!((held.status.as_u16(), held.header("location")), (201, "/v1/reservations/hold-0"));
    let json = held.json();
    assert_eq!((&json["reservation"], &json["state"]), (&"hold-0".into(), &"allowed".into()));
    assert!(json["expires_at"].is_string() && json["enforcement_lag_us"] == 1_500, "{json}");
    assert_eq!(server.engine.reservations.lock()["hold-0"], (Duration::from_secs(60), false));
    assert_eq!(ask(server.addr, "DELETE", "/v1/reservations/hold-0", &[], "").await.status, 204);
    assert_eq!(ask(server.addr, "DELETE", "/v1/reservations/hold-0", &[], "").await.problem(), "not_found");

    // As a gateway would: by headers alone.
    let held = ask(server.addr, "POST", "/v1/reservations", &[OTHER, ("x-outlay-estimate-tokens", "1")], "").await;
    assert_eq!(held.status, 201);
    assert_eq!(server.engine.reservations.lock()["hold-0"], (Duration::from_secs(300), false));
}

#[tokio::test]
async fn a_reservation_that_is_refused_is_answered_as_a_check() {
    let server = start().await;
    let refused = ask(server.addr, "POST", "/v1/reservations", &[("x-outlay-namespace", "support")], "").await;
    assert_eq!((refused.status.as_u16(), refused.header("x-outlay-budget")), (403, "support-daily"));
    assert_eq!(refused.json()["reservation"], serde_json::Value::Null);
    for ttl in [0, 3601] {
        let body = format!(r#"{{"namespace":"other","ttl_s":{ttl}}}"#);
        let answer = ask(server.addr, "POST", "/v1/reservations", &[], &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (400, &"ttl_s".into()));
    }
    for _ in 0..3 {
        assert_eq!(ask(server.addr, "POST", "/v1/reservations", &[OTHER], "").await.status, 201);
    }
    let full = ask(server.addr, "POST", "/v1/reservations", &[OTHER], "").await;
    assert_eq!((full.status.as_u16(), full.problem().as_str()), (503, "reservations_full"));
}

#[tokio::test]
async fn while_the_balances_are_behind_the_fail_policy_decides_on_reservations_too() {
    for (fail, other, support, force) in [
        (FailPolicy::Open, 201, 201, true),
        (FailPolicy::Closed, 503, 503, false),
        (FailPolicy::LastKnown, 201, 403, false),
    ] {
        let server = start_with(|config| config.check = CheckConfig { fail, ..CheckConfig::default() }).await;
        *server.engine.enforcement.lock() = Enforcement { lag_us: 0, problem: Some("stopped".into()) };
        for (namespace, status) in [("other", other), ("support", support)] {
            let named = [("x-outlay-namespace", namespace)];
            let answer = ask(server.addr, "POST", "/v1/reservations", &named, "").await;
            assert_eq!((answer.status.as_u16(), answer.header("x-outlay-fail-policy")), (status, fail.name()));
        }
        assert!(server.engine.reservations.lock().values().all(|(_, forced)| *forced == force));
    }
    let server = start().await;
    assert_eq!(get(server.addr, "/v1/reservations").await.status, 405);
}
