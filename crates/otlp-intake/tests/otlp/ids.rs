//! Ids: an export that is repeated, and a call that is told twice, are counted once.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use otlp_intake::OtlpMap;

use crate::attributes;
use crate::support::{END_NS, pair, read, read_logs, resource, span};

const TRACE_AND_SPAN: &str = "0102030405060708090a0b0c0d0e0f10/0000000000000001";

fn usage(response_id: Option<&str>) -> Vec<KeyValue> {
    let mut attributes = attributes!["gen_ai.operation.name" => "chat", "gen_ai.usage.input_tokens" => 7];
    attributes.extend(response_id.map(|id| pair("gen_ai.response.id", id)));
    attributes
}

/// The log record that goes with `span(1, attributes)`.
fn details(attributes: Vec<KeyValue>) -> LogRecord {
    let span = span(1, Vec::new());
    LogRecord {
        observed_time_unix_nano: END_NS,
        event_name: "gen_ai.client.inference.operation.details".to_owned(),
        trace_id: span.trace_id,
        span_id: span.span_id,
        attributes,
        ..LogRecord::default()
    }
}

fn log_ids(records: Vec<LogRecord>) -> Vec<String> {
    let decoded = read_logs(resource(), "a scope", records, &OtlpMap::default());
    assert_eq!((decoded.ignored, decoded.rejected), (0, 0));
    decoded.events.into_iter().map(|event| event.id.unwrap().into_owned()).collect()
}

#[test]
fn a_span_and_the_log_record_that_repeats_it_have_one_id_and_source() {
    for (response_id, id) in [
        (Some("chatcmpl-AbCdEf0123456789"), "chatcmpl-AbCdEf0123456789"),
        (None, TRACE_AND_SPAN),
        // A number of three digits comes again with another answer.
        (Some("chatcmpl-123"), TRACE_AND_SPAN),
        (Some(""), TRACE_AND_SPAN),
    ] {
        let span = read(vec![span(1, usage(response_id))]).events.remove(0);
        let record = read_logs(resource(), "a scope", vec![details(usage(response_id))], &OtlpMap::default());
        assert_eq!(span.id.as_deref(), Some(id), "{response_id:?}");
        assert_eq!(record.events[0], span, "{response_id:?}");
    }
}

#[test]
fn spans_without_ids_of_their_own_are_told_apart() {
    let decoded = read(vec![span(1, usage(None)), span(2, usage(None))]);
    assert_ne!(decoded.events[0].id, decoded.events[1].id);
    let mut bare = span(0, usage(None));
    bare.trace_id = vec![0; 16];
    assert!(read(vec![bare]).events[0].id.as_deref().unwrap().starts_with("content-"));
}

#[test]
fn a_log_record_outside_of_any_span_keeps_its_id_when_it_is_sent_again() {
    let outside = |time_ns, input: i64| LogRecord {
        trace_id: Vec::new(),
        span_id: Vec::new(),
        time_unix_nano: time_ns,
        ..details(attributes!["gen_ai.usage.input_tokens" => input, "gen_ai.request.model" => "gpt-5.1"])
    };
    let mut reordered = outside(END_NS, 7);
    reordered.attributes.reverse();
    let ids =
        log_ids(vec![outside(END_NS, 7), outside(END_NS, 7), reordered, outside(END_NS + 1, 7), outside(END_NS, 8)]);
    assert_eq!((&ids[0], &ids[0]), (&ids[1], &ids[2]));
    assert_ne!(ids[0], ids[3]);
    assert_ne!(ids[0], ids[4]);
    assert!(ids[0].starts_with("content-"), "{}", ids[0]);
}

#[test]
fn other_log_records_are_ignored() {
    let named = |name: &str| LogRecord { event_name: name.to_owned(), ..details(usage(None)) };
    let records = vec![
        named("gen_ai.choice"),
        named(""),
        LogRecord::default(),
        details(attributes!["gen_ai.operation.name" => "chat"]),
        details(attributes!["gen_ai.operation.name" => "invoke_agent", "gen_ai.usage.input_tokens" => 7]),
    ];
    let decoded = read_logs(Vec::new(), "", records, &OtlpMap::default());
    assert_eq!((decoded.events.len(), decoded.ignored, decoded.rejected), (0, 5, 0));
}

#[test]
fn a_log_record_is_known_by_the_attribute_that_named_it_before_it_had_a_field() {
    let mut record = details(usage(None));
    record.event_name = String::new();
    record.attributes.push(pair("event.name", "gen_ai.client.inference.operation.details"));
    assert_eq!(log_ids(vec![record]), [TRACE_AND_SPAN]);
}
