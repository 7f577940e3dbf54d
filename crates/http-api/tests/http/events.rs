//! `POST /v1/events`.

use http_api::PublishError;
use serde_json::{Value, json};

use crate::client::{Answer, ask, start, start_with};

const GOOD: &str =
    r#"{"id":"1","time":"2026-11-21T10:00:00Z","namespace":"support","user":"u-17","tokens":{"input":5}}"#;
const NEGATIVE: &str = r#"{"time":"2026-11-21T10:00:00Z","namespace":"support","tokens":{"input":-5}}"#;

fn indexes(answer: &Answer, member: &str) -> Vec<u64> {
    let rows = answer.json()[member].as_array().unwrap().clone();
    rows.iter().map(|row| row.as_u64().or(row["index"].as_u64()).unwrap()).collect()
}

#[tokio::test]
async fn a_good_event_is_published_verbatim_under_its_canonical_key() {
    let server = start().await;
    let answer = ask(server.addr, "POST", "/v1/events", &[("content-type", "application/json")], GOOD).await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.json(),
        json!({"accepted": 1, "acks": [{"index": 0, "partition": 0, "offset": 0}], "rejected": []})
    );
    let published = server.engine.published.lock().clone();
    assert_eq!((published[0].key.as_str(), &published[0].value[..]), ("support/u-17", GOOD.as_bytes()));
}

#[tokio::test]
async fn curls_own_content_type_and_none_at_all_are_taken_as_json() {
    let server = start().await;
    for headers in [&[][..], &[("content-type", "application/x-www-form-urlencoded")]] {
        assert_eq!(ask(server.addr, "POST", "/v1/events", headers, GOOD).await.status, 202, "{headers:?}");
    }
}

#[tokio::test]
async fn a_binary_cloudevent_keeps_its_attributes_as_record_headers() {
    let server = start().await;
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-source", "gateway"),
        ("ce-type", "x"),
        ("ce-time", "2026-11-21T10:00:00Z"),
    ];
    let answer = ask(server.addr, "POST", "/v1/events", &headers, r#"{"namespace":"support","requests":1}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let record = server.engine.published.lock()[0].clone();
    assert_eq!(record.key, "support/e-1");
    assert!(record.headers.iter().any(|(name, value)| name == "ce_id" && value == "e-1"), "{record:?}");
}

#[tokio::test]
async fn a_bad_event_is_a_problem_that_names_the_field() {
    let server = start().await;
    let answer = ask(server.addr, "POST", "/v1/events", &[], NEGATIVE).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "negative"));
    assert_eq!(answer.json()["field"], "tokens.input");
    assert!(server.engine.published.lock().is_empty());
}

#[tokio::test]
async fn one_bad_event_does_not_cost_the_good_ones() {
    let server = start().await;
    let batch = format!("[{GOOD},{NEGATIVE},{GOOD}, 7]");
    let answer = ask(server.addr, "POST", "/v1/events", &[], &batch).await;
    assert_eq!((answer.status.as_u16(), answer.json()["accepted"].as_u64()), (202, Some(2)));
    assert_eq!((indexes(&answer, "acks"), indexes(&answer, "rejected")), (vec![0, 2], vec![1, 3]));
    assert_eq!(answer.json()["rejected"][0]["code"], "negative");
    assert_eq!(answer.json()["rejected"][0]["field"], "tokens.input");
    assert_eq!(server.engine.published.lock().len(), 2);
}

#[tokio::test]
async fn a_batch_without_a_good_event_is_refused_with_every_reason() {
    let server = start().await;
    let answer = ask(server.addr, "POST", "/v1/events", &[], &format!("[{NEGATIVE},{NEGATIVE}]")).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "no_event_accepted"));
    assert_eq!(indexes(&answer, "rejected"), [0, 1]);
    let empty = ask(server.addr, "POST", "/v1/events", &[], "[]").await;
    assert_eq!((empty.status.as_u16(), empty.problem().as_str()), (400, "empty"));
}

#[tokio::test]
async fn what_the_log_did_not_take_is_named_so_that_only_that_is_sent_again() {
    let server = start().await;
    server.engine.failures.lock().extend([
        (1, PublishError::Unavailable("no broker".into())),
        (2, PublishError::Refused("record too large".into())),
    ]);
    let answer = ask(server.addr, "POST", "/v1/events", &[], &format!("[{GOOD},{GOOD},{GOOD},{NEGATIVE}]")).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "log_unavailable"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(indexes(&answer, "acks"), [0]);
    assert_eq!(indexes(&answer, "unpublished"), [1]);
    assert_eq!(indexes(&answer, "rejected"), [2, 3]);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let server = start().await;
    server.engine.failures.lock().insert(0, PublishError::QueueFull);
    let answer = ask(server.addr, "POST", "/v1/events", &[], GOOD).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "queue_full"));
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_format_that_is_not_read_is_415_and_a_body_that_is_too_large_413() {
    let server = start_with(|config| config.max_body_bytes = 1000).await;
    for headers in [[("content-type", "application/xml")], [("content-encoding", "gzip")]] {
        let answer = ask(server.addr, "POST", "/v1/events", &headers, GOOD).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (415, "unsupported_format"), "{headers:?}");
    }
    let answer = ask(server.addr, "POST", "/v1/events", &[], &" ".repeat(1001)).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_large_batch_comes_back_with_every_position_in_order() {
    let server = start().await;
    let batch: Vec<Value> = (0..5000)
        .map(|n| json!({"id": n.to_string(), "time": "2026-11-21T10:00:00Z", "namespace": "support", "requests": 1}))
        .collect();
    let answer = ask(server.addr, "POST", "/v1/events", &[], &Value::from(batch).to_string()).await;
    assert_eq!(answer.json()["accepted"], 5000);
    assert_eq!(indexes(&answer, "acks"), (0..5000).collect::<Vec<u64>>());
    assert_eq!(server.engine.published.lock()[4999].key, "support/4999");
}

/// LiteLLM's proxy sends what succeeded and what failed alike, and takes any answer of 200 for delivered.
#[tokio::test]
async fn litellms_payloads_are_published_as_events_without_what_was_said() {
    let server = start().await;
    let call = json!({
        "id": "chatcmpl-1", "status": "success", "call_type": "acompletion", "custom_llm_provider": "openai", "model": "gpt-5.1",
        "startTime": 1_795_255_200.0, "endTime": 1_795_255_201.5,
        "prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980,
        "metadata": {"user_api_key_team_alias": "triage"},
        "messages": [{"role": "user", "content": "THE SECRET"}], "response": {"content": "THE SECRET"},
    });
    let failed = json!({
        "id": "chatcmpl-2", "status": "failure", "call_type": "acompletion", "model": "gpt-5.1",
        "startTime": 1_795_255_200.0, "endTime": 1_795_255_200.1,
        "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "metadata": {},
    });
    let answer = ask(server.addr, "POST", "/v1/litellm", &[], &json!([failed, call]).to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["accepted"].as_u64()), (202, Some(1)), "{answer:?}");
    assert_eq!(indexes(&answer, "acks"), [1], "the call's place in the list");
    let published = server.engine.published.lock().clone();
    let event: Value = serde_json::from_slice(&published[0].value).unwrap();
    assert_eq!((event["team"].as_str(), event["tokens"]["input"].as_u64()), (Some("triage"), Some(900)), "{event}");
    assert!(!event.to_string().contains("SECRET"), "{event}");

    let answer = ask(server.addr, "POST", "/v1/litellm", &[], &json!([failed]).to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["accepted"].as_u64()),
        (202, Some(0)),
        "nothing used, nothing to say"
    );
    assert_eq!(server.engine.published.lock().len(), 1);
}

/// An event as OpenMeter's users send it, to where they send it: no namespace, no time, the customer as subject.
#[tokio::test]
async fn openmeters_path_takes_what_the_configuration_maps() {
    let server = start().await;
    let event = json!({
        "specversion": "1.0", "type": "litellm_tokens", "id": "c-1", "source": "litellm-proxy", "subject": "anna",
        "time": "2026-11-21T10:00:00Z",
        "data": {"model": "gpt-5.1", "cost": 0.0019, "prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980},
    });
    let headers = [("content-type", "application/cloudevents+json")];
    let answer = ask(server.addr, "POST", "/api/v1/events", &headers, &event.to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(server.engine.published.lock()[0].key, "default/anna");
}
