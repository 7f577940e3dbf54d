//! Protobuf and JSON: what cannot be read costs only itself, and what JSON may look like.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_intake::{Decoded, Encoding, ITEMS_MAX, OtlpError, OtlpMap, decode_traces};
use prost::Message;
use usage_types::RejectCode;

use crate::attributes;
use crate::support::{pair, resource, span, traces};

fn protobuf(body: impl Into<Bytes>) -> Result<Decoded, OtlpError> {
    decode_traces(&body.into(), Encoding::Protobuf, &OtlpMap::default())
}

fn json(body: &str) -> Result<Decoded, OtlpError> {
    decode_traces(&Bytes::copy_from_slice(body.as_bytes()), Encoding::Json, &OtlpMap::default())
}

/// Events and rejected.
fn counts(decoded: &Decoded) -> (usize, u64) {
    (decoded.events.len(), decoded.rejected)
}

fn three_spans(middle: &str) -> ExportTraceServiceRequest {
    let mut spans: Vec<_> = (1..=3).map(|number| span(number, attributes!["gen_ai.usage.input_tokens" => 1])).collect();
    spans[1].attributes.push(pair("note", middle));
    traces(resource(), "scope", spans)
}

#[test]
fn a_span_that_is_no_protobuf_costs_only_itself() {
    let mut body = three_spans("~~~~").encode_to_vec();
    let at = body.windows(4).position(|bytes| bytes == b"~~~~").unwrap();
    body[at] = 0xff; // No UTF-8, which Protobuf asks of a string.
    assert!(ExportTraceServiceRequest::decode(&body[..]).is_err());
    let decoded = protobuf(body).unwrap();
    assert_eq!(counts(&decoded), (2, 1));
    assert_eq!((decoded.reasons[0].index, decoded.reasons[0].rejection.code), (1, RejectCode::UnsupportedFormat));
}

#[test]
fn an_unreadable_resource_costs_only_its_spans() {
    let mut request = three_spans("");
    let mut broken = request.resource_spans[0].clone();
    broken.resource.as_mut().unwrap().attributes.push(pair("note", "~~~~"));
    request.resource_spans.push(broken);
    let mut body = request.encode_to_vec();
    let at = body.windows(4).position(|bytes| bytes == b"~~~~").unwrap();
    body[at] = 0xff;
    let decoded = protobuf(body).unwrap();
    assert_eq!(counts(&decoded), (3, 3));
    assert_eq!(decoded.reasons[0].index, 3);
}

#[test]
fn a_body_that_is_cut_off_is_refused_as_a_whole() {
    let body = three_spans("").encode_to_vec();
    assert_eq!(counts(&protobuf(body.clone()).unwrap()), (3, 0));
    assert!(matches!(protobuf(body[..body.len() - 1].to_vec()), Err(OtlpError::NotProtobuf(_))));
    assert!(matches!(protobuf("{\"resourceSpans\":[]}"), Err(OtlpError::NotProtobuf(_))));
    assert!(matches!(json("{\"resourceSpans\":[{"), Err(OtlpError::NotJson(_))));
    assert!(matches!(json(""), Err(OtlpError::NotJson(_))));
    assert!(matches!(json("[]"), Err(OtlpError::NotJson(_))));
}

#[test]
fn an_empty_request_is_a_request() {
    assert_eq!(protobuf("").unwrap(), Decoded::default());
    assert_eq!(json("{}").unwrap(), Decoded::default());
    assert_eq!(json(r#"{"resourceSpans":null}"#).unwrap(), Decoded::default());
}

#[test]
fn the_resource_counts_wherever_it_stands() {
    let request = three_spans("");
    let group = &request.resource_spans[0];
    // Field 2 (a scope with spans) before field 1 (the resource), both length-delimited.
    let mut scope_first = Vec::new();
    for (key, message) in
        [(0x12, group.scope_spans[0].encode_to_vec()), (0x0a, group.resource.as_ref().unwrap().encode_to_vec())]
    {
        scope_first.push(key);
        scope_first.extend(delimited(&message));
    }
    let mut body = vec![0x0a];
    body.extend(delimited(&scope_first));
    assert_eq!(counts(&protobuf(body).unwrap()), (3, 0));
}

/// A message with its length before it.
fn delimited(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encode_length_delimiter(message.len(), &mut bytes).unwrap();
    bytes.extend(message);
    bytes
}

const ATTRIBUTES: &str = r#""attributes":[{"key":"gen_ai.usage.input_tokens","value":{"intValue":"7"}}]"#;

fn json_span(members: &str) -> String {
    format!(
        r#"{{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","endTimeUnixNano":"1795255200123456789",{members}}}"#
    )
}

fn json_body(spans: &[String]) -> String {
    let resource = r#"{"attributes":[{"key":"outlay.namespace","value":{"stringValue":"support"}}]}"#;
    format!(r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","))
}

#[test]
fn ids_in_either_case_and_numbers_as_text_or_number_are_read() {
    let decoded = json(&json_body(&[json_span(ATTRIBUTES)])).unwrap();
    assert_eq!(decoded.events[0].id.as_deref(), Some("5b8efff798038103d269b633813fc60c/eee19b7ec3c1b174"));
    assert_eq!(decoded.events[0].time.to_string(), "2026-11-21T10:00:00.123456Z");
    for value in [
        r#"{"intValue":7}"#,
        r#"{"intValue":"7"}"#,
        r#"{"intValue":7.0}"#,
        r#"{"doubleValue":7}"#,
        r#"{"doubleValue":"7"}"#,
    ] {
        let span = json_span(&ATTRIBUTES.replace(r#"{"intValue":"7"}"#, value));
        let decoded = json(&json_body(&[span.replace("\"1795255200123456789\"", "1795255200123456789")])).unwrap();
        assert_eq!(decoded.events[0].tokens.input, 7, "{value}");
    }
}

#[test]
fn what_is_not_read_may_be_null_unknown_or_of_any_shape() {
    for extra in [
        r#""parentSpanId":null"#,
        r#""kind":"SPAN_KIND_CLIENT""#,
        r#""status":{},"events":[{}],"links":null,"newField":{"a":[1,{}]}"#,
        r#""name":null"#,
    ] {
        let decoded = json(&json_body(&[json_span(&format!("{extra},{ATTRIBUTES}"))])).unwrap();
        assert_eq!(counts(&decoded), (1, 0), "{extra}");
    }
    for value in [
        r#"{"arrayValue":{}}"#,
        r#"{"kvlistValue":{"values":[{"key":"k"}]}}"#,
        r#"{"bytesValue":"_-8="}"#,
        r#"{"doubleValue":"NaN"}"#,
        r#"{"newValue":1,"stringValue":"x"}"#,
        r#"{"stringValue":null}"#,
        "{}",
        "null",
    ] {
        let more = format!(r#"{{"key":"k","value":{value}}},{{"key":"gen"#);
        let span = json_span(ATTRIBUTES).replacen(r#"{"key":"gen"#, &more, 1);
        assert_eq!(counts(&json(&json_body(&[span])).unwrap()), (1, 0), "{value}");
    }
}

#[test]
fn a_span_that_is_no_span_in_json_costs_only_itself() {
    for bad in [
        json_span(ATTRIBUTES).replace("5B8EFFF7", "5B8EFFFX"),
        json_span(ATTRIBUTES).replace("5B8EFFF7", "5B8EFFF"),
        json_span(ATTRIBUTES).replace("\"1795255200123456789\"", "\"soon\""),
        "7".to_owned(),
        json_span(r#""attributes":{}"#),
    ] {
        let decoded = json(&json_body(&[json_span(ATTRIBUTES), bad.clone(), json_span(ATTRIBUTES)])).unwrap();
        assert_eq!(counts(&decoded), (2, 1), "{bad}");
    }
}

#[test]
fn more_items_than_a_request_may_have_are_refused_without_filling_the_memory() {
    let spans = |count| traces(resource(), "", vec![span(1, Vec::new()); count]).encode_to_vec();
    assert_eq!(protobuf(spans(ITEMS_MAX)).unwrap().ignored, ITEMS_MAX as u64);
    assert_eq!(protobuf(spans(ITEMS_MAX + 1)), Err(OtlpError::TooMany(ITEMS_MAX)));
    // Two bytes each: a resource with nothing in it.
    assert_eq!(protobuf([0x0a, 0].repeat(ITEMS_MAX + 1)), Err(OtlpError::TooMany(ITEMS_MAX)));
    let resources = format!(r#"{{"resourceSpans":[{}]}}"#, vec!["{}"; ITEMS_MAX + 1].join(","));
    assert_eq!(json(&resources), Err(OtlpError::TooMany(ITEMS_MAX)));
    let half = vec!["{}"; ITEMS_MAX / 2 + 1].join(",");
    let twice = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{half}]}},{{"spans":[{half}]}}]}}]}}"#);
    assert_eq!(json(&twice), Err(OtlpError::TooMany(ITEMS_MAX)));
}
