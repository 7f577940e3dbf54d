//! What a request is told before it is made: by its estimate, by reservations, and while enforcement is behind.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::events::{event, event_with, zone_without_midnight};
use crate::common::{Answer, Server, free_port, kafka, wait_for, wait_until_eq};

/// Namespace `shop` may use 1000 tokens a day, and `lab` a dollar.
fn start(folder: &Path, args: &[&str]) -> Server {
    let zone = zone_without_midnight();
    let budget = |namespace: &str, limit: &str| {
        let window = format!("{{ every: day, zone: {zone} }}");
        format!(
            "  - {{ id: {namespace}-daily, match: {{ namespace: {namespace} }}, window: {window}, limit: {{ {limit} }} }}\n"
        )
    };
    let text = format!("budgets:\n{}{}", budget("shop", "tokens: 1000"), budget("lab", "cost: 1.00 USD"));
    let path = folder.join("budgets.yaml");
    std::fs::write(&path, text).unwrap();
    Server::start(&folder.join("data"), &[&["--budgets", path.to_str().unwrap()], args].concat())
}

fn post(server: &Server, path: &str, body: &Value) -> Answer {
    server.send(server.client().post(format!("{}{path}", server.url)).json(body))
}

fn tokens(count: u64) -> Value {
    json!({"namespace": "shop", "estimate": {"tokens": count}})
}

#[test]
fn an_estimate_is_compared_with_what_is_left_and_priced_by_the_book() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &[]);
    post(&server, "/v1/check", &tokens(1000)).expect(200);
    let refused = post(&server, "/v1/check", &tokens(1001)).expect(403).json();
    for (name, value) in [
        ("reason_code", "NAMESPACE_ESTIMATE_EXCEEDS_QUOTA"),
        ("budget", "shop-daily"),
        ("used", "0"),
        ("estimate", "1001"),
        ("limit", "1000"),
    ] {
        assert_eq!(refused[name], value, "{refused}");
    }
    // At $10 a million tokens of output.
    let of_model = |output: u64| json!({"namespace": "lab", "provider": "openai", "model": "gpt-5.1", "estimate": {"output": output}});
    post(&server, "/v1/check", &of_model(100_000)).expect(200);
    let refused = post(&server, "/v1/check", &of_model(100_001)).expect(403).json();
    assert_eq!((&refused["measure"], &refused["estimate"]), (&json!("cost"), &json!("1.00001")));
    let text = json!({"namespace": "lab", "provider": "openai", "model": "gpt-5.1", "estimate": {"text": "word ".repeat(50_000), "output": 99_000}});
    let refused = post(&server, "/v1/check", &text).expect(403).json();
    assert_eq!((&refused["tokenizer"], &refused["text_tokens_approximate"]), (&json!("o200k_base"), &json!(false)));
}

#[test]
fn a_reservation_is_settled_by_its_event_and_forgotten_by_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path(), &[]);
    let reserve = |server: &Server, count| post(server, "/v1/reservations", &tokens(count));
    let held = reserve(&server, 600).expect(201).json();
    let id = held["reservation"].as_str().unwrap().to_owned();
    let refused = reserve(&server, 401).expect(429);
    assert_eq!((refused.header("x-outlay-reason"), refused.header("retry-after")), ("NAMESPACE_QUOTA_RESERVED", "1"));
    assert_eq!(refused.header("x-outlay-held"), "600");
    wait_until_eq("open reservations", &1_u64, || server.metric("outlay_reservations_open"));

    server.post_event(&event_with("settling", "shop", 100, json!({"tags": {"outlay.reservation": id}})));
    wait_for("room for what was not used", || (post(&server, "/v1/check", &tokens(900)).status == 200).then_some(()));
    assert_eq!(post(&server, "/v1/check", &tokens(901)).expect(403).json()["used"], "100");
    let release =
        |server: &Server, id: &str| server.send(server.client().delete(format!("{}/v1/reservations/{id}", server.url)));
    assert_eq!(release(&server, &id).status, 404);

    let second = reserve(&server, 900).expect(201).json()["reservation"].as_str().unwrap().to_owned();
    assert_eq!(server.check(&[("namespace", "shop")]).expect(429).json()["reason_code"], "NAMESPACE_QUOTA_RESERVED");
    release(&server, &second).expect(204);
    server.check(&[("namespace", "shop")]).expect(200);

    let third = reserve(&server, 900).expect(201).json()["reservation"].as_str().unwrap().to_owned();
    assert!(server.stop().success());
    let server = start(dir.path(), &[]);
    assert_eq!(release(&server, &third).status, 404);
    post(&server, "/v1/check", &tokens(900)).expect(200);
}

#[test]
fn while_the_worker_is_behind_a_check_is_answered_by_the_fail_policy() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for (policy, full, other, reason) in [
        ("open", 200, 200, "ENFORCEMENT_BEHIND"),
        ("closed", 503, 503, "ENFORCEMENT_BEHIND"),
        ("last-known", 403, 200, "NAMESPACE_QUOTA_EXCEEDED"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = start(dir.path(), &["--check-fail", policy, "--schema-registry", &nowhere]);
        server.post_event(&event("all", "shop", 1000));
        wait_for("the block", || (server.check(&[("namespace", "shop")]).status == 403).then_some(()));
        // A record by a schema that the registry would have to tell: its partition waits.
        kafka::publish(&server.log, "usage.events", &[("k", b"\0\0\0\0\x07{}")]);
        let behind = wait_for("the worker to be behind", || {
            Some(server.check(&[("namespace", "shop")]))
                .filter(|answer| !answer.header("x-outlay-fail-policy").is_empty())
        });
        assert_eq!((behind.status, behind.header("x-outlay-reason")), (full, reason), "{policy}");
        assert_eq!(behind.header("x-outlay-fail-policy"), policy);
        let why = behind.json()["fail_reason"].as_str().unwrap().to_owned();
        assert!(why.contains("schema 7"), "{why}");
        assert_eq!(server.check(&[("namespace", "other")]).status, other, "{policy}");
    }
}
