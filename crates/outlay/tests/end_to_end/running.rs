//! The process itself: health, keys, orderly stop, and what is said where it cannot start.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::common::events::event;
use crate::common::server::{GIVEN_KEY, run, verify};
use crate::common::{Server, wait_until_eq};

#[test]
fn sigterm_commits_everything_and_the_next_start_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Without the stop, nothing would be committed for an hour.
    let server = Server::start(&data, &["--commit-interval-ms", "3600000"]);
    for at in 0..20 {
        server.post_event(&event(&format!("e-{at}"), "lab", 5));
    }
    wait_until_eq("tokens", &Some("100".to_owned()), || server.used(&[("namespace", "lab")], "month", "tokens"));
    assert_eq!(server.get_json("/v1/status")["lake"]["rows"], 0);
    let key = server.key.clone();
    assert_eq!(server.stop().code(), Some(0));
    assert!(!data.join("server.json").exists(), "nobody listens there any more");
    let (sound, said) = verify(&data);
    assert!(sound, "{said}");

    let server = Server::start(&data, &[]);
    assert_eq!(server.key, key);
    let status = server.get_json("/v1/status");
    assert_eq!((&status["lake"]["rows"], &status["lake"]["tail_rows"]), (&json!(20), &json!(0)));
    assert_eq!(server.used(&[("namespace", "lab")], "month", "tokens").as_deref(), Some("100"));
    assert_eq!(server.sql("select count(*) as n, sum(total_tokens) as t from usage")[0], json!({"n": 20, "t": 100}));
    // What was sent before the stop is known.
    server.post_event(&event("e-7", "lab", 5));
    server.post_event(&event("new", "lab", 1));
    wait_until_eq("tokens", &Some("101".to_owned()), || server.used(&[("namespace", "lab")], "month", "tokens"));
}

#[test]
fn health_metrics_and_keys_are_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    server.post_event(&event("one", "lab", 1));
    wait_until_eq("accepted", &1_u64, || server.metric("outlay_events_total{kind=\"accepted\"}"));

    // Machines that watch need no key, and learn nothing about who spends.
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/"] {
        server.send_without_key(server.client().get(format!("{}{path}", server.url))).expect(200);
    }
    let metrics = server.get("/metrics").text();
    assert!(!metrics.contains("lab"), "{metrics}");
    in_prometheus_text_format(&metrics);
    // Looked at every half second, so it may still show the event as not read.
    wait_until_eq("lag and readiness", &(0_u64, 1_u64), || {
        (server.metric("outlay_consumer_lag_events"), server.metric("outlay_ready"))
    });
    assert!(server.metric::<f64>("outlay_enforcement_lag_seconds") < 60.0);

    for path in [
        "/v1/status",
        "/v1/balances",
        "/v1/decisions",
        "/v1/decisions/stream",
        "/v1/reports",
        "/v1/check?namespace=lab",
    ] {
        for key in [None, Some("wrong"), Some("")] {
            let request = server.client().get(format!("{}{path}", server.url));
            let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
            let answer = server.send_without_key(request).expect(401);
            assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        }
        if !path.ends_with("stream") {
            server.get(path).expect(200);
        }
    }
    let request = server.client().post(format!("{}/v1/events", server.url)).body(event("two", "lab", 1).to_string());
    server.send_without_key(request).expect(401);

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(data.join("admin-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the key is for its owner");
    }
    // Printed at the first start, and never logged.
    let printed = std::fs::read_to_string(data.join("stdout.txt")).unwrap();
    assert_eq!(printed.matches(&server.key).count(), 2, "once as key and once in the page's address: {printed}");
    assert!(!server.logged().contains(&server.key));
    // Logs of a service are one JSON object a line.
    for line in server.logged().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(server.stop().success());
    let server = Server::start(&data, &[]);
    assert_eq!(
        std::fs::read_to_string(data.join("stdout.txt")).unwrap().matches(&server.key).count(),
        2,
        "shown again"
    );
}

#[test]
fn the_openapi_document_lists_what_is_served_and_which_of_it_needs_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let document: Value = server.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(["/v1/events", "/v1/traces", "/v1/logs", "/v1/metrics"].iter().all(|path| paths.contains_key(*path)));
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_ascii_uppercase().parse().unwrap();
            let url = format!("{}{}", server.url, path.replace(['{', '}'], ""));
            let status = if operation["security"] == serde_json::json!([]) { 200 } else { 401 };
            let answer = server.send_without_key(server.client().request(method, url)).expect(status);
            let content = &operation["responses"][status.to_string()]["content"];
            let media_type = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
            assert!(content[media_type.as_str()].is_object(), "{path}: {media_type} is not in {content}");
        }
    }
}

/// The rules of Prometheus' text format 0.0.4 that its server refuses an answer by, and the project's own about names.
fn in_prometheus_text_format(metrics: &str) {
    let mut families = std::collections::BTreeSet::new();
    let (mut name, mut kind) = ("", "");
    for line in metrics.lines() {
        assert!(!line.is_empty());
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            (name, kind) = declared.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
            assert!(name.starts_with("outlay_") && families.insert(name), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else if let Some(declared) = line.strip_prefix("# HELP ") {
            assert!(declared.starts_with("outlay_"), "{line}");
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let sample = line.split(['{', ' ']).next().unwrap();
            let ending = sample.strip_prefix(name).unwrap_or_else(|| panic!("{line} stands under {name}"));
            let endings: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(endings.contains(&ending), "{line} stands under {name}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
    assert!(families.len() >= 18, "{families:?}");
}

#[test]
fn a_given_key_is_used_and_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--admin-key", GIVEN_KEY]);
    server.get("/v1/status").expect(200);
    assert!(!data.join("admin-key").exists());
    drop(server);
    let output = run("serve", &["--data", data.to_str().unwrap(), "--admin-key", "short"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("16 characters"), "{said}");
}

#[test]
fn a_folder_or_port_in_use_is_said_and_nothing_is_harmed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let refused = |args: &[&str]| {
        let output = run("serve", args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let said = refused(&["--data", data.to_str().unwrap(), "--http", "127.0.0.1:0", "--log", "127.0.0.1:0"]);
    assert!(said.contains("another outlay runs on") && said.contains("--data"), "{said}");

    let other = dir.path().join("other");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let said = refused(&["--data", other.to_str().unwrap(), "--http", &taken, "--log", "127.0.0.1:0"]);
    assert!(said.contains(&taken) && said.contains("choose another address"), "{said}");
    let said = refused(&["--data", other.to_str().unwrap(), "--http", "127.0.0.1:0", "--log", &taken]);
    assert!(said.contains(&taken) && said.contains("--log"), "{said}");
    let said = refused(&["--data", other.to_str().unwrap(), "--budgets", "/nowhere/budgets.yaml"]);
    assert!(said.contains("--budgets /nowhere/budgets.yaml"), "{said}");

    server.post_event(&event("still", "lab", 1));
    wait_until_eq("tokens", &Some("1".to_owned()), || server.used(&[("namespace", "lab")], "month", "tokens"));
}
