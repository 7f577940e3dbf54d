//! OpenTelemetry: what its own SDK exports is counted once, whichever port and protocol it comes by, and however often.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Server, python, repository, wait_until_eq};

/// `tests/otlp/export.py` spends a chat (told by a span and by a log record), embeddings with a span of their own in every run, and a request of
/// Claude Code.
fn export(server: &Server, protocol: &str, endpoint: &str) {
    let script = repository("tests/otlp/export.py");
    let args =
        ["--protocol", protocol, "--endpoint", endpoint, "--key", &server.key, "--compression", "gzip", "--again"];
    let output = Command::new(python()).arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let twice = json!(["SUCCESS", "SUCCESS"]);
    assert_eq!(results, json!({"traces": twice, "logs": twice, "metrics": twice}), "{protocol} {endpoint}");
}

#[test]
fn what_the_sdk_exports_by_every_port_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let addresses: Value = serde_json::from_slice(&std::fs::read(server.data.join("server.json")).unwrap()).unwrap();
    let url = |name: &str| format!("http://{}", addresses[name].as_str().unwrap());
    export(&server, "grpc", &url("otlp_grpc"));
    export(&server, "http", &url("otlp_http"));
    export(&server, "http", &server.url);
    let query = "SELECT model, count(*) AS events, sum(input_tokens) AS input, sum(cache_read_tokens) AS cache_read, \
                 sum(output_tokens) AS output, sum(reasoning_tokens) AS reasoning FROM usage GROUP BY model ORDER BY model";
    let row = |model, events, input, cache_read, output, reasoning| json!({"model": model, "events": events, "input": input, "cache_read": cache_read, "output": output, "reasoning": reasoning});
    let expected = vec![
        row("claude-sonnet-4-5-20250929", 1, 4, 15000, 120, 0),
        row("gpt-5.1-2026-10-01", 1, 900, 300, 80, 40),
        row("text-embedding-3-small", 3, 21, 0, 0, 0),
    ];
    wait_until_eq("the usage of three exports", &expected, || server.sql(query));
    // Three runs, each sent twice: a chat as span and as record, embeddings, and Claude Code's record.
    let metrics = server.get("/metrics").expect(200).text();
    assert!(metrics.contains("outlay_otlp_items_total{outcome=\"accepted\"} 24\n"), "{metrics}");
}
