//! OpenTelemetry's own Python SDK and exporters against the server.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{DEADLINE, KEY, Running, python, repository, start};

/// Runs a script and returns what it printed.
async fn run(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(python());
    command
        .arg(repository().join("tests/otlp").join(script))
        .args(arguments)
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE * 2, command.output()).await.expect("the script ends in time").unwrap();
    assert!(output.status.success(), "{script} failed; see its error above");
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(printed.trim().lines().last().unwrap_or_default()).unwrap()
}

async fn export(server: &Running, protocol: &str, compression: &str, again: bool) -> Value {
    let endpoint = format!("http://{}", server.addr);
    let mut arguments =
        vec!["--protocol", protocol, "--endpoint", &endpoint, "--key", KEY, "--compression", compression];
    arguments.extend(again.then_some("--again"));
    run("export.py", &arguments).await
}

/// What `export.py` spends: a chat told by a span and a log record, embeddings, and a request of Claude Code. Without ids and times, which
/// the SDK makes.
fn spent() -> Value {
    let common = json!({
        "source": "helpdesk-bot", "namespace": "support", "team": "helpdesk", "repository": "acme/bot", "requests": 1,
    });
    let with = |own: Value| {
        let mut event = common.clone();
        event.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        event
    };
    // 1200 - 300 = 900 input, 120 - 40 = 80 output.
    let chat = with(json!({
        "id": "chatcmpl-8f0c2c1e4a7b4d0f", "session": "conv-9", "provider": "openai", "model": "gpt-5.1-2026-10-01", "operation": "chat",
        "tokens": {"input": 900, "cache_read": 300, "output": 80, "reasoning": 40},
    }));
    let embeddings = with(json!({
        "id": null, "model": "text-embedding-3-small", "operation": "embeddings", "tokens": {"input": 7},
    }));
    let claude_code = with(json!({
        "id": "req_011CUabcdef", "session": "8f0c2c1e-sess", "user": "ada@example.com", "provider": "anthropic",
        "model": "claude-sonnet-4-5-20250929", "operation": "chat",
        "tokens": {"input": 4, "cache_read": 15000, "cache_write_5m": 300, "output": 120},
        "cost": {"amount": "0.0074295", "currency": "USD"},
    }));
    json!([claude_code, chat, chat, embeddings])
}

/// The events in memory, less their times; a trace's id becomes `null`.
fn told(server: &Running) -> Value {
    let mut events = server.sink.events();
    for event in &mut events {
        event.as_object_mut().unwrap().remove("time").expect("every event has a time");
        if event["id"].as_str().unwrap().contains('/') {
            event["id"] = Value::Null;
        }
    }
    Value::from(events)
}

#[tokio::test]
async fn the_python_sdk_is_understood_over_grpc_and_http_plain_and_compressed() {
    for (protocol, compression) in [
        ("grpc", "none"),
        ("grpc", "gzip"),
        ("grpc", "deflate"),
        ("http", "none"),
        ("http", "gzip"),
        ("http", "deflate"),
    ] {
        let server = start().await;
        let results = export(&server, protocol, compression, false).await;
        let all_well = json!({"traces": ["SUCCESS"], "logs": ["SUCCESS"], "metrics": ["SUCCESS"]});
        assert_eq!(results, all_well, "{protocol} {compression}");
        assert_eq!(told(&server), spent(), "{protocol} {compression}");
        // The span around all, the agent's span and a plain log record are ignored; the broken span is refused.
        let counts = server.entrance.counts();
        assert_eq!((counts.accepted(), counts.ignored(), counts.rejected()), (4, 3, 1), "{protocol} {compression}");
    }
}

#[tokio::test]
async fn an_export_that_is_repeated_gives_the_same_ids() {
    let server = start().await;
    export(&server, "grpc", "none", true).await;
    let events = server.sink.events();
    assert_eq!(events.len(), 8);
    let mut ids: Vec<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "chat, embeddings, Claude Code: {ids:?}");
}

/// The providers' answers are in `tests/otlp/instrumented.py`. Anthropic's input of 47 and Bedrock's of 12 leave out the cache; OpenAI's 1200
/// include 300 read from it, and its 120 of output include 40 of reasoning.
#[tokio::test]
async fn instrumentations_of_models_are_counted_as_their_providers_bill() {
    let server = start().await;
    let endpoint = format!("http://{}", server.addr);
    run("instrumented.py", &["--endpoint", &endpoint, "--key", KEY]).await;
    let mut events = server.sink.events();
    events.sort_by_key(|event| event["source"].to_string());
    let told: Vec<Value> = events
        .iter()
        .map(|event| json!([event["source"], event["provider"], event["model"], event["tokens"]]))
        .collect();
    let anthropic = json!({"input": 47, "cache_read": 1800, "cache_write_5m": 248, "output": 503});
    assert_eq!(
        told,
        [
            json!(["openinference-anthropic", "anthropic", "claude-sonnet-4-5-20250929", anthropic]),
            json!(["openllmetry-anthropic", "anthropic", "claude-sonnet-4-5-20250929", anthropic]),
            json!([
                "openllmetry-bedrock", "aws.bedrock", "claude-sonnet-4-5-v1:0",
                {"input": 12, "cache_read": 1000, "cache_write_5m": 5, "output": 40},
            ]),
            json!([
                "openllmetry-openai", "openai", "gpt-5.1-2026-10-01",
                {"input": 900, "cache_read": 300, "output": 80, "reasoning": 40},
            ]),
        ]
    );
    assert_eq!(server.entrance.counts().rejected(), 0);
}
