//! Every snippet of `docs/clients.md`, run as it stands by the client it is for, against a running server.
//!
//! What they send is counted exactly, to the token and the pico-dollar; sent again under the same id it is counted once.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod page;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::{Bench, Counted, Models};
use crate::common::{Beside, PATIENCE, free_port, wait_for, wait_until_eq, wait_within};
use crate::page::Use;

/// What every snippet for a call of gpt-5.1 reports: 1200 tokens of input, 300 of them from a cache, and 120 of output, 40 of them
/// reasoning. At $1.25, $0.125 and $10 a million: 900 × 1.25 + 300 × 0.125 + 120 × 10 = 2362.5 micro-dollars.
fn one_call(events: u64) -> [Counted; 1] {
    let of = ["research", "agents", "openai", "gpt-5.1"].map(str::to_owned);
    [Counted { of, counts: [events, 900, 300, 0, 80, 40, events], cost: Some(2_362_500_000) }]
}

/// Runs a snippet twice: its events are counted the first time, and told apart the second.
#[track_caller]
fn counts_once(name: &str) {
    let bench = Bench::new();
    counts_once_at(&bench, name, &[], 1);
}

#[track_caller]
fn counts_once_at(bench: &Bench, name: &str, variables: &[(&str, &str)], events: u64) {
    bench.run(name, variables);
    bench.wait_until_counted(events, 0);
    bench.run(name, variables);
    bench.wait_until_counted(events, events);
    assert_eq!(bench.counted(), one_call(events));
}

#[test]
fn every_block_of_the_page_is_run_or_says_why_not() {
    let source = [include_str!("main.rs"), include_str!("page.rs"), include_str!("bench.rs")].concat();
    let mut seen = BTreeSet::new();
    for (index, block) in page::blocks().into_iter().enumerate() {
        match &block.usage {
            Use::Run(name) | Use::Save(name) => assert!(source.contains(&format!("\"{name}\"")), "no test runs {name}"),
            Use::NotRun(why) => assert!(!why.is_empty()),
            Use::Unmarked => assert_eq!(index, 0, "only the variables need no mark:\n{}", block.text),
        }
        assert!(matches!(block.usage, Use::NotRun(_)) || seen.insert(block.usage.clone()), "twice: {:?}", block.usage);
    }
}

#[test]
fn curl_sends_an_event() {
    counts_once("curl-native");
}

#[test]
fn curl_sends_the_usage_of_a_provider() {
    counts_once("curl-usage");
}

#[test]
fn curl_sends_a_cloudevent() {
    counts_once("curl-cloudevent");
}

#[test]
fn curl_sends_a_batch() {
    counts_once_at(&Bench::new(), "curl-batch", &[], 2);
}

#[test]
fn kcat() {
    counts_once("kcat");
}

#[test]
fn python_over_http() {
    counts_once("python-http");
}

#[test]
fn python_over_kafka() {
    counts_once("python-kafka");
}

#[test]
fn python_over_kafka_in_avro() {
    let bench = Bench::new();
    bench.copy_schema("usage-event.v1-0.avsc");
    counts_once_at(&bench, "python-kafka-avro", &[], 1);
}

#[test]
fn python_over_kafka_in_protobuf() {
    let bench = Bench::new();
    bench.copy_schema("usage-event.v1.proto");
    bench.run("python-protoc", &[]);
    counts_once_at(&bench, "python-kafka-protobuf", &[], 1);
}

#[test]
fn node_over_http() {
    counts_once("node-http");
}

#[test]
fn node_over_kafka() {
    counts_once("node-kafka");
}

#[test]
fn go_over_http() {
    counts_once("go-http");
}

#[test]
fn go_over_kafka() {
    counts_once("go-kafka");
}

#[test]
fn java_over_http() {
    counts_once("java-http");
}

#[test]
fn java_over_kafka() {
    counts_once("java-kafka");
}

#[test]
fn rust_over_http() {
    counts_once("rust-http");
}

#[test]
fn rust_over_kafka() {
    counts_once("rust-kafka");
}

#[test]
fn opentelemetry_over_http() {
    let bench = Bench::new();
    bench.save("call.py");
    counts_once_at(&bench, "otel-http", &[], 1);
}

#[test]
fn opentelemetry_over_grpc() {
    let bench = Bench::new();
    bench.save("call.py");
    let addresses = std::fs::read(bench.server.data.join("server.json")).unwrap();
    let addresses: Value = serde_json::from_slice(&addresses).unwrap();
    let url = format!("http://{}", addresses["otlp_grpc"].as_str().unwrap());
    counts_once_at(&bench, "otel-grpc", &[("OUTLAY_OTLP_GRPC", &url)], 1);
}

#[test]
fn litellm_generic_api_callback() {
    let bench = Bench::new();
    bench.save("litellm.yaml");
    count_proxied_calls(&bench, "litellm");
    assert_eq!(bench.counted(), two_calls("research", "openai"));
}

#[test]
fn litellm_openmeter_callback() {
    let bench = Bench::new();
    bench.save("litellm-openmeter.yaml");
    count_proxied_calls(&bench, "litellm-openmeter");
    // All that it tells is 1200 and 120 tokens: at $1.25 and $10 a million 2700 micro-dollars a call.
    let of = ["default", "", "", "gpt-5.1"].map(str::to_owned);
    let expected = Counted { of, counts: [2, 2400, 0, 0, 240, 0, 2], cost: Some(2 * 2_700_000_000) };
    assert_eq!(bench.counted(), [expected]);
}

/// LiteLLM starts with no key that is easily guessed.
const LITELLM_KEY: &str = "sk-9f2c41d07be84c6ea53d1f60b7c8e2945a";

/// Makes LiteLLM's proxy call a model, plainly and streamed, and the same again; an answer that comes twice has the same id.
#[track_caller]
fn count_proxied_calls(bench: &Bench, name: &str) {
    let (models, port) = (Models::start(bench), free_port().to_string());
    let mut command = bench.command(name);
    command.env("HOST", "127.0.0.1").env("PORT", &port).env("LITELLM_MASTER_KEY", LITELLM_KEY);
    command.env("OPENAI_BASE_URL", &models.url).env("OPENAI_API_KEY", "sk-any");
    // What LiteLLM would look up elsewhere on its own account.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let mut proxy = Beside::start(&bench.folder.join("litellm.txt"), command);
    let url = format!("http://127.0.0.1:{port}");
    let http = bench.server.client();
    // Its modules take their time on a machine that has not read them before.
    wait_within(5 * PATIENCE, "LiteLLM's proxy", || {
        proxy.expect_alive();
        http.get(format!("{url}/health/liveliness")).send().ok().filter(|answer| answer.status() == 200)
    });
    for duplicates in [0, 2] {
        call_plainly_and_streamed(bench, &format!("{url}/v1"), LITELLM_KEY);
        bench.wait_until_counted(2, duplicates);
    }
    assert_eq!(models.requests(), ["openai gpt-5.1"; 4]);
}

/// Calls gpt-5.1 twice, each time with the same usage.
#[track_caller]
fn call_plainly_and_streamed(bench: &Bench, base: &str, key: &str) {
    for stream in [false, true] {
        let mut body = json!({"model": "gpt-5.1", "user": "u-1", "messages": [{"role": "user", "content": "Hello"}]});
        if stream {
            let members = json!({"stream": true, "stream_options": {"include_usage": true}});
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        }
        let request = bench.server.client().post(format!("{base}/chat/completions")).bearer_auth(key);
        let answer = request.json(&body).send().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.text().unwrap().contains("日本語"));
    }
}

/// What these two calls come to.
fn two_calls(namespace: &str, provider: &str) -> [Counted; 1] {
    let of = [namespace, "", provider, "gpt-5.1"].map(str::to_owned);
    [Counted { of, counts: [2, 1800, 600, 0, 160, 80, 2], cost: Some(2 * 2_362_500_000) }]
}

#[test]
fn claude_code() {
    let bench = Bench::new();
    for duplicates in [0, 1] {
        // Its request ids begin anew, so the second run is the first one again.
        let models = Models::start(&bench);
        let variables = [
            ("ANTHROPIC_BASE_URL", models.url.as_str()),
            ("ANTHROPIC_API_KEY", "sk-ant-any"),
            ("ANTHROPIC_MODEL", "claude-sonnet-4-5-20250929"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            // At its end it waits a second or two for what it has to export; a busy machine takes longer.
            ("CLAUDE_CODE_OTEL_FLUSH_TIMEOUT_MS", "60000"),
            ("CLAUDE_CODE_OTEL_SHUTDOWN_TIMEOUT_MS", "60000"),
            ("HOME", bench.folder.to_str().unwrap()),
        ];
        let said = bench.run("claude-code", &variables);
        assert!(said.contains("Hello."), "{said}");
        assert_eq!(models.requests(), ["anthropic claude-sonnet-4-5-20250929"]);
        bench.wait_until_counted(1, duplicates);
    }
    // At $3, $0.30, $3.75 and $15 a million: 4 × 3 + 15000 × 0.3 + 300 × 3.75 + 120 × 15 = 7437 micro-dollars.
    let of = ["engineering", "platform", "anthropic", "claude-sonnet-4-5-20250929"].map(str::to_owned);
    assert_eq!(bench.counted(), [Counted { of, counts: [1, 4, 15_000, 300, 120, 0, 1], cost: Some(7_437_000_000) }]);
}

#[test]
fn nginx_writes_events_and_rsyslog_ships_them() {
    let bench = Bench::new();
    let (models, address) = (Models::start(&bench), format!("127.0.0.1:{}", free_port()));
    let folder = bench.folder.to_str().unwrap();
    let log = format!("{folder}/usage.log");
    bench.save("usage.js");
    let changes =
        [("127.0.0.1:8080", &address), ("https://api.openai.com", &models.url), ("/var/log/nginx/usage.log", &log)];
    bench.save_as("llm.conf", &changes.map(|(from, to)| (from, to.as_str())));
    // What Debian's nginx.conf has around it, all files in one folder.
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};"));
    let around = format!(
        "load_module /usr/lib/nginx/modules/ngx_http_js_module.so; pid nginx.pid; error_log stderr; daemon off; master_process off;\n\
         events {{}}\nhttp {{ access_log off; {} include llm.conf; }}\n",
        temporary.join(" ")
    );
    std::fs::write(bench.folder.join("nginx.conf"), around).unwrap();
    let config = format!("{folder}/nginx.conf");
    let nginx = bench.tool("nginx", &["-p", folder, "-c", &config, "-e", "stderr"]);
    let mut nginx = Beside::start(&bench.folder.join("nginx.txt"), nginx);
    wait_for("nginx", || {
        nginx.expect_alive();
        std::net::TcpStream::connect(&address).ok()
    });
    call_plainly_and_streamed(&bench, &format!("http://{address}/v1"), "key-of-research");
    wait_until_eq("lines of the log", &2, || std::fs::read_to_string(&log).unwrap_or_default().lines().count());

    bench.save_as("rsyslog.conf", &[("/var/log/nginx/usage.log", &log), ("/var/spool/rsyslog", folder)]);
    let (config, pid) = (format!("{folder}/rsyslog.conf"), format!("{folder}/rsyslog.pid"));
    for duplicates in [0, 2] {
        // The second one has lost its place in the file.
        let shipper = bench.tool("rsyslogd", &["-n", "-f", &config, "-i", &pid]);
        let mut shipper = Beside::start(&bench.folder.join("rsyslog.txt"), shipper);
        bench.wait_until_counted(2, duplicates);
        shipper.expect_alive();
        drop(shipper);
        let names = std::fs::read_dir(&bench.folder).unwrap().map(|entry| entry.unwrap().path());
        let state = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("imfile-state");
        names.filter(state).for_each(|path| std::fs::remove_file(path).unwrap());
    }
    assert_eq!(bench.counted(), two_calls("research", "openai"));
    // The ids are the provider's, so that whoever else reports the same answers is not counted again.
    let ids = bench.server.sql("select id from usage where id like 'chatcmpl-%'");
    assert_eq!(ids.len(), 2);
}
