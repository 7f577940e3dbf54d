//! Simulations: how budgets and times are given, and what is refused.

use serde_json::{Value, json};

use crate::client::{ask, start};

const YAML: &str = "budgets:\n  - id: cap\n    window: { every: day }\n    limit: { requests: 3 }\n";

fn body(budgets: Value, more: Value) -> String {
    let mut body = json!({"budgets": budgets, "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn budgets_are_taken_as_the_text_of_a_file_and_as_json() {
    let server = start().await;
    let object = json!({"budgets": [{"id": "cap", "window": {"every": "day"}, "limit": {"requests": 3}}]});
    for budgets in [json!(YAML), object] {
        let answer =
            ask(server.addr, "POST", "/v1/simulations", &[], &body(budgets, json!({"count_refused": true}))).await;
        assert_eq!(answer.status, 200);
        let view = answer.json();
        assert_eq!((&view["from"], &view["count_refused"]), (&json!("2026-11-01T00:00:00Z"), &json!(true)));
        assert_eq!(view["new"]["scopes"][0]["budget"], "cap");
        assert_eq!(view["spend"]["tokens"], "9007199254740993", "exact");
    }
}

#[tokio::test]
async fn what_cannot_be_simulated_is_refused_with_the_field() {
    let server = start().await;
    let wrong = YAML.replace("requests: 3", "requests: three");
    let wrong_object = json!({"budgets": [{"id": "cap", "window": {"every": "day"}, "limit": {"requests": "three"}}]});
    for (body, code, field, said) in [
        (body(json!(wrong), json!({})), "invalid_parameter", "budgets[0].limit.requests", "line 4, column 24"),
        (body(wrong_object, json!({})), "invalid_parameter", "budgets[0].limit.requests", "three"),
        (body(json!(5), json!({})), "invalid_parameter", "budgets", "the text of a budgets file"),
        (body(json!(YAML), json!({"to": "2026-11-01T00:00:00Z"})), "invalid_parameter", "to", "is not after `from`"),
        (body(json!(YAML), json!({"from": "November"})), "invalid_body", "", "is no RFC 3339 time"),
        (body(json!(YAML), json!({"until": "2026-11-01T00:00:00Z"})), "invalid_body", "", "unknown field `until`"),
    ] {
        let answer = ask(server.addr, "POST", "/v1/simulations", &[], &body).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, code), "{body}");
        let problem = answer.json();
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
}

#[tokio::test]
async fn a_simulation_that_cannot_run_now_says_when_to_ask_again() {
    let server = start().await;
    let answer =
        ask(server.addr, "POST", "/v1/simulations", &[], &body(json!(YAML.replace("cap", "busy")), json!({}))).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "simulation_busy"));
    assert_eq!(answer.header("retry-after"), "5");
}
