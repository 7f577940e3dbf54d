//! Requests from parts, as Protobuf by the generated messages and as JSON by the rules of OTLP's JSON.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_intake::{Decoded, Encoding, OtlpMap, decode_logs, decode_traces};
use prost::Message;
use serde_json::{Value as Json, json};

/// 2026-11-21T10:00:00.123456789Z.
pub const END_NS: u64 = 1_795_255_200_123_456_789;
pub const END: &str = "2026-11-21T10:00:00.123456Z";

/// An attribute's value from what tests write.
pub trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for i64 {
    fn into_value(self) -> Value {
        Value::IntValue(self)
    }
}

impl IntoValue for f64 {
    fn into_value(self) -> Value {
        Value::DoubleValue(self)
    }
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::StringValue(self.to_owned())
    }
}

impl IntoValue for Value {
    fn into_value(self) -> Value {
        self
    }
}

pub fn list_value() -> Value {
    Value::ArrayValue(ArrayValue { values: Vec::new() })
}

pub fn pair(name: &str, value: impl IntoValue) -> KeyValue {
    let value = Some(AnyValue { value: Some(value.into_value()) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

/// `attributes!["name" => value, …]`
#[macro_export]
macro_rules! attributes {
    ($($name:literal => $value:expr),* $(,)?) => { vec![$($crate::support::pair($name, $value)),*] };
}

/// A span of the trace 0102…10.
pub fn span(number: u8, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: vec![0, 0, 0, 0, 0, 0, 0, number],
        name: format!("span {number}"),
        end_time_unix_nano: END_NS,
        attributes,
        ..Span::default()
    }
}

pub fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() }
}

pub fn resource() -> Vec<KeyValue> {
    attributes!["service.name" => "helpdesk-bot", "outlay.namespace" => "support"]
}

pub fn traces(resource: Vec<KeyValue>, scope_name: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_spans =
        vec![ScopeSpans { scope: Some(scope(scope_name)), spans, schema_url: "https://example.com".into() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

pub fn logs(resource: Vec<KeyValue>, scope_name: &str, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_logs = vec![ScopeLogs { scope: Some(scope(scope_name)), log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }] }
}

/// Reads spans by the default map, as Protobuf and as JSON, which must agree.
pub fn read(spans: Vec<Span>) -> Decoded {
    read_with(resource(), "a scope", spans, &OtlpMap::default())
}

pub fn read_with(resource: Vec<KeyValue>, scope: &str, spans: Vec<Span>, map: &OtlpMap) -> Decoded {
    let request = traces(resource, scope, spans);
    let decoded = decode_traces(&request.encode_to_vec().into(), Encoding::Protobuf, map).unwrap();
    let json = Bytes::from(traces_json(&request).to_string());
    assert_eq!(decode_traces(&json, Encoding::Json, map).unwrap(), decoded, "{json:?}");
    decoded
}

pub fn read_logs(resource: Vec<KeyValue>, scope: &str, records: Vec<LogRecord>, map: &OtlpMap) -> Decoded {
    let request = logs(resource, scope, records);
    let decoded = decode_logs(&request.encode_to_vec().into(), Encoding::Protobuf, map).unwrap();
    let json = Bytes::from(logs_json(&request).to_string());
    assert_eq!(decode_logs(&json, Encoding::Json, map).unwrap(), decoded, "{json:?}");
    decoded
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn value_json(value: &Option<AnyValue>) -> Json {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        None => json!({}),
        Some(Value::StringValue(text)) => json!({ "stringValue": text }),
        Some(Value::BoolValue(bool)) => json!({ "boolValue": bool }),
        Some(Value::IntValue(int)) => json!({ "intValue": int.to_string() }),
        Some(Value::DoubleValue(double)) if double.is_finite() => json!({ "doubleValue": double }),
        Some(Value::DoubleValue(double)) if double.is_nan() => json!({ "doubleValue": "NaN" }),
        Some(Value::DoubleValue(double)) => {
            json!({ "doubleValue": if *double > 0.0 { "Infinity" } else { "-Infinity" } })
        }
        Some(Value::ArrayValue(_)) => json!({ "arrayValue": {} }),
        Some(other) => panic!("no test writes {other:?}"),
    }
}

fn attributes_json(attributes: &[KeyValue]) -> Json {
    attributes.iter().map(|pair| json!({ "key": pair.key, "value": value_json(&pair.value) })).collect()
}

pub fn traces_json(request: &ExportTraceServiceRequest) -> Json {
    let span = |span: &Span| {
        json!({
            "traceId": hex(&span.trace_id), "spanId": hex(&span.span_id), "parentSpanId": "", "name": span.name, "kind": 3,
            "endTimeUnixNano": span.end_time_unix_nano.to_string(), "attributes": attributes_json(&span.attributes), "status": {},
        })
    };
    let group = |group: &ResourceSpans| {
        let resource =
            group.resource.as_ref().map(|resource| json!({ "attributes": attributes_json(&resource.attributes) }));
        let scope = |scope: &ScopeSpans| {
            let name = scope.scope.as_ref().map(|scope| json!({ "name": scope.name }));
            json!({ "scope": name, "spans": scope.spans.iter().map(span).collect::<Json>() })
        };
        json!({ "resource": resource, "scopeSpans": group.scope_spans.iter().map(scope).collect::<Json>() })
    };
    json!({ "resourceSpans": request.resource_spans.iter().map(group).collect::<Json>() })
}

pub fn logs_json(request: &ExportLogsServiceRequest) -> Json {
    let record = |record: &LogRecord| {
        json!({
            "timeUnixNano": record.time_unix_nano.to_string(), "observedTimeUnixNano": record.observed_time_unix_nano,
            "traceId": hex(&record.trace_id), "spanId": hex(&record.span_id), "eventName": record.event_name,
            "severityNumber": 9, "body": record.body.as_ref().map(|_| value_json(&record.body)),
            "attributes": attributes_json(&record.attributes),
        })
    };
    let group = |group: &ResourceLogs| {
        let resource =
            group.resource.as_ref().map(|resource| json!({ "attributes": attributes_json(&resource.attributes) }));
        let scope = |scope: &ScopeLogs| {
            let name = scope.scope.as_ref().map(|scope| json!({ "name": scope.name }));
            json!({ "scope": name, "logRecords": scope.log_records.iter().map(record).collect::<Json>() })
        };
        json!({ "resource": resource, "scopeLogs": group.scope_logs.iter().map(scope).collect::<Json>() })
    };
    json!({ "resourceLogs": request.resource_logs.iter().map(group).collect::<Json>() })
}
