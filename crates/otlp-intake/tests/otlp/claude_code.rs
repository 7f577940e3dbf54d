//! Claude Code's log records, in the shapes that its versions send.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use otlp_intake::OtlpMap;
use usage_types::{Currency, Dimension, Pico, RejectCode, Tokens};

use crate::attributes;
use crate::support::{END, END_NS, IntoValue, pair, read_logs, read_with, resource, span};

const SCOPE: &str = "com.anthropic.claude_code.events";

fn record(attributes: Vec<KeyValue>) -> LogRecord {
    LogRecord {
        time_unix_nano: END_NS,
        body: Some(AnyValue { value: Some("claude_code.api_request".into_value()) }),
        attributes,
        ..LogRecord::default()
    }
}

fn request() -> Vec<KeyValue> {
    attributes![
        "event.name" => "api_request",
        "event.sequence" => 7,
        "session.id" => "8f0c2c1e-sess",
        "organization.id" => "org-1",
        "user.id" => "d41d8cd98f00",
        "user.email" => "ada@example.com",
        "model" => "claude-sonnet-4-5-20250929",
        "input_tokens" => 4,
        "output_tokens" => 120,
        "cache_read_tokens" => 15000,
        "cache_creation_tokens" => 300,
        "cost_usd" => 0.0074295,
        "duration_ms" => 2400,
        "request_id" => "req_011CUabcdef",
        "query_source" => "repl_main_thread",
        "speed" => "normal",
    ]
}

fn without(names: &[&str]) -> Vec<KeyValue> {
    request().into_iter().filter(|pair| !names.contains(&pair.key.as_str())).collect()
}

#[test]
fn an_api_request_is_counted_with_the_cache_beside_its_input() {
    let decoded = read_logs(resource(), SCOPE, vec![record(request())], &OtlpMap::default());
    assert_eq!((decoded.events.len(), decoded.ignored, decoded.rejected), (1, 0, 0));
    let event = &decoded.events[0];
    assert_eq!(
        event.tokens,
        Tokens { input: 4, cache_read: 15000, cache_write_5m: 300, cache_write_1h: 0, output: 120, reasoning: 0 }
    );
    assert_eq!(event.id.as_deref(), Some("req_011CUabcdef"));
    assert_eq!(event.time.to_string(), END);
    // 0.0074295 dollars are 7,429,500,000 pico-dollars.
    assert_eq!(event.cost, Some((Pico(7_429_500_000), Currency::USD)));
    let dimensions: Vec<(Dimension, &str)> = event.dimensions.iter().collect();
    assert_eq!(
        dimensions,
        [
            (Dimension::Namespace, "support"),
            (Dimension::User, "ada@example.com"),
            (Dimension::Session, "8f0c2c1e-sess"),
            (Dimension::Provider, "anthropic"),
            (Dimension::Model, "claude-sonnet-4-5-20250929"),
            (Dimension::Operation, "chat"),
        ]
    );
    assert_eq!(event.tags.get("query_source").map(AsRef::as_ref), Some("repl_main_thread"));
}

#[test]
fn it_is_known_by_its_body_by_its_name_and_in_its_scope_by_its_short_name() {
    let map = OtlpMap::default();
    let count = |scope, record| read_logs(resource(), scope, vec![record], &map).events.len();
    let named = |name: &str| LogRecord { body: None, event_name: name.to_owned(), ..record(without(&["event.name"])) };
    assert_eq!(count("", named("claude_code.api_request")), 1);
    assert_eq!(count(SCOPE, named("api_request")), 1);
    assert_eq!(count("another.scope", named("api_request")), 0);
    assert_eq!(count(SCOPE, LogRecord { body: None, ..record(request()) }), 1);
    assert_eq!(count(SCOPE, named("claude_code.api_error")), 0);
    assert_eq!(count(SCOPE, named("claude_code.tool_result")), 0);
}

#[test]
fn older_versions_send_texts_and_no_request_id() {
    let mut attributes = without(&["request_id", "input_tokens", "cost_usd"]);
    attributes.push(pair("input_tokens", "4"));
    attributes.push(pair("cost_usd", "0.0074295"));
    let event = read_logs(resource(), SCOPE, vec![record(attributes)], &OtlpMap::default()).events.remove(0);
    assert_eq!((event.tokens.input, event.cost.unwrap().0), (4, Pico(7_429_500_000)));
    assert_eq!(event.id.as_deref(), Some("8f0c2c1e-sess/7"));
    let bare = || record(without(&["request_id", "session.id", "event.sequence"]));
    let ids = read_logs(resource(), SCOPE, vec![bare(), bare()], &OtlpMap::default()).events;
    assert!(ids[0].id.as_deref().unwrap().starts_with("content-"));
    assert_eq!(ids[0].id, ids[1].id);
}

#[test]
fn a_faster_service_is_a_tier_of_its_own_and_the_estimate_can_be_left_out() {
    let mut attributes = without(&["speed"]);
    attributes.push(pair("speed", "fast"));
    let map = OtlpMap { claude_code_cost: false, ..OtlpMap::default() };
    let event = read_logs(resource(), SCOPE, vec![record(attributes)], &map).events.remove(0);
    assert_eq!(event.dimensions.get(Dimension::ServiceTier), Some("fast"));
    assert_eq!(event.cost, None);
}

#[test]
fn wrong_counts_and_costs_are_refused_with_their_attribute() {
    for (name, value, code) in [
        ("input_tokens", (-1).into_value(), RejectCode::Negative),
        ("cache_read_tokens", "many".into_value(), RejectCode::WrongType),
        ("cost_usd", (-0.5).into_value(), RejectCode::Negative),
        ("cost_usd", f64::NAN.into_value(), RejectCode::WrongType),
    ] {
        let mut attributes = without(&[name]);
        attributes.push(pair(name, value));
        let decoded = read_logs(resource(), SCOPE, vec![record(attributes)], &OtlpMap::default());
        let rejection = &decoded.reasons[0].rejection;
        assert_eq!((rejection.code, rejection.field.as_deref()), (code, Some(name)));
    }
}

#[test]
fn its_spans_tell_the_same_once_more_and_are_not_counted() {
    let mut request = span(1, request());
    request.name = "claude_code.llm_request".to_owned();
    request.attributes.push(pair("gen_ai.usage.input_tokens", 15304));
    let decoded = read_with(resource(), "com.anthropic.claude_code", vec![request], &OtlpMap::default());
    assert_eq!((decoded.events.len(), decoded.ignored), (0, 1));
}
