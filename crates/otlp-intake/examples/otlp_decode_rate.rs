//! How fast traces are decoded: `cargo run --release -p otlp-intake --example otlp_decode_rate`.
//!
//! Prints spans per second of one core for batches as an SDK exports them (512 spans, 18 attributes each): what a bare prost decode of the
//! generated messages takes, what reading the events takes, and what reading and writing them as records for the log takes; the same in JSON
//! beside a bare walk over it; and for spans that carry a prompt and an answer, and spans that have nothing to do with models.
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_intake::{Encoding, OtlpMap, decode_traces};
use prost::Message;
use serde::de::IgnoredAny;

const SPANS: u32 = 512;

fn main() {
    let map = OtlpMap::default();
    for (what, request) in [
        ("model calls", request(0, true)),
        ("with 4 KiB of content", request(4096, true)),
        ("other spans", request(0, false)),
    ] {
        let body = Bytes::from(request.encode_to_vec());
        let json = Bytes::from(json(&request));
        let per_span = |bytes: &Bytes| bytes.len() / SPANS as usize;
        println!("{what}: {} bytes a span in Protobuf, {} in JSON", per_span(&body), per_span(&json));
        let events = if what == "other spans" { 0 } else { SPANS as usize };
        measure("prost, generated messages", || {
            ExportTraceServiceRequest::decode(black_box(body.clone())).is_ok_and(|read| !read.resource_spans.is_empty())
        });
        let read = |body: &Bytes, encoding| decode_traces(black_box(body), encoding, &map);
        measure("decode_traces, Protobuf", || {
            read(&body, Encoding::Protobuf).is_ok_and(|read| read.events.len() == events)
        });
        measure("decode_traces and encode", || {
            read(&body, Encoding::Protobuf).is_ok_and(|read| {
                read.events.iter().map(usage_intake::encode).filter(|record| !black_box(record).is_empty()).count()
                    == events
            })
        });
        measure("serde_json, nothing kept", || serde_json::from_slice::<IgnoredAny>(black_box(&json)).is_ok());
        measure("decode_traces, JSON", || read(&json, Encoding::Json).is_ok_and(|read| read.events.len() == events));
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, text)| pair(key, Value::StringValue((*text).to_owned()))).collect()
}

fn request(content_bytes: usize, is_call: bool) -> ExportTraceServiceRequest {
    let resource = texts(&[
        ("service.name", "helpdesk-bot"),
        ("outlay.namespace", "support"),
        ("outlay.team", "helpdesk"),
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.45.2"),
    ]);
    let spans = (0..SPANS).map(|number| span(number, content_bytes, is_call)).collect();
    let scope =
        InstrumentationScope { name: "opentelemetry.instrumentation.openai_v2".to_owned(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }];
    let resource = Some(Resource { attributes: resource, ..Default::default() });
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }] }
}

fn span(number: u32, content_bytes: usize, is_call: bool) -> Span {
    let mut attributes = if is_call {
        texts(&[
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "gpt-5.1"),
            ("gen_ai.response.model", "gpt-5.1-2026-10-01"),
            ("gen_ai.response.id", &format!("chatcmpl-{number:029}")),
            ("gen_ai.conversation.id", "conv_5j66UpCpwteGg4YSxUnt7lPY"),
            ("gen_ai.agent.name", "triage"),
            ("server.address", "api.openai.com"),
            ("enduser.id", "u-17"),
        ])
    } else {
        texts(&[
            ("http.request.method", "POST"),
            ("http.route", "/v1/orders/{id}"),
            ("url.path", "/v1/orders/17"),
            ("url.scheme", "https"),
            ("server.address", "orders.example.com"),
            ("client.address", "10.0.3.17"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "example/1.0"),
            ("enduser.id", "u-17"),
        ])
    };
    let counts: [(&str, i64); 9] = [
        ("gen_ai.usage.input_tokens", 1200),
        ("gen_ai.usage.output_tokens", 120),
        ("gen_ai.usage.cache_read.input_tokens", 300),
        ("gen_ai.usage.reasoning.output_tokens", 40),
        ("gen_ai.request.max_tokens", 4096),
        ("gen_ai.request.seed", 7),
        ("server.port", 443),
        ("http.response.status_code", 200),
        ("thread.id", 140_012),
    ];
    let count =
        |(key, count): &(&str, i64)| pair(if is_call { key } else { &key[key.len() - 9..] }, Value::IntValue(*count));
    attributes.extend(counts.iter().map(count));
    if content_bytes > 0 {
        attributes.extend(texts(&[("gen_ai.input.messages", &"x".repeat(content_bytes))]));
    }
    let id = number.to_be_bytes();
    Span {
        trace_id: id.repeat(4),
        span_id: id.repeat(2),
        name: "chat gpt-5.1".to_owned(),
        kind: 3,
        start_time_unix_nano: 1_795_255_199_000_000_000,
        end_time_unix_nano: 1_795_255_200_123_456_789,
        attributes,
        ..Default::default()
    }
}

/// The request in OTLP's JSON.
fn json(request: &ExportTraceServiceRequest) -> String {
    let attributes = |pairs: &[KeyValue]| -> serde_json::Value {
        let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::IntValue(int)) => serde_json::json!({ "intValue": int.to_string() }),
            Some(Value::StringValue(text)) => serde_json::json!({ "stringValue": text }),
            _ => serde_json::json!({}),
        };
        pairs.iter().map(|pair| serde_json::json!({ "key": pair.key, "value": value(pair) })).collect()
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let group = &request.resource_spans[0];
    let span = |span: &Span| {
        serde_json::json!({
            "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id), "name": span.name, "kind": span.kind,
            "startTimeUnixNano": span.start_time_unix_nano.to_string(),
            "endTimeUnixNano": span.end_time_unix_nano.to_string(), "attributes": attributes(&span.attributes),
        })
    };
    let spans: serde_json::Value = group.scope_spans[0].spans.iter().map(span).collect();
    let resource = group.resource.as_ref().map(|resource| attributes(&resource.attributes));
    serde_json::json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": [{ "spans": spans }] }] })
        .to_string()
}

/// The best of ten runs of a quarter second of this thread's own time: what a core can do, whatever its neighbours take.
fn measure(what: &str, mut work: impl FnMut() -> bool) {
    let mut best_ns = f64::MAX;
    for _ in 0..10 {
        let (start, on_core) = (Instant::now(), on_core_ns());
        let mut count = 0_u32;
        while start.elapsed() < Duration::from_millis(250) {
            assert!(black_box(work()), "{what} failed");
            count += SPANS;
        }
        let spent_ns = match (on_core, on_core_ns()) {
            (Some(before), Some(after)) => after - before,
            _ => start.elapsed().as_secs_f64() * 1e9,
        };
        best_ns = best_ns.min(spent_ns / f64::from(count));
    }
    println!("  {what:<28} {best_ns:>6.0} ns  {:>12.0} spans/s", 1e9 / best_ns);
}

/// How long this thread has been on a core, in nanoseconds, where the system tells (Linux: proc(5), `schedstat`).
fn on_core_ns() -> Option<f64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}
