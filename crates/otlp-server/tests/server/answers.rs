//! What is answered: in the encoding of the request, with what was refused, and with when to come again.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use otlp_server::SinkError;
use prost::Message;
use serde_json::{Value, json};

use crate::support::{KEY, LOGS, METRICS, TRACES, call, gzip, logs, post, post_protobuf, send, span, start, traces};

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[tokio::test]
async fn usage_reaches_the_sink_by_every_way_as_the_same_record() {
    let server = start().await;
    let (spans, records) = (traces(vec![span(1, 7)]).encode_to_vec(), logs(5).encode_to_vec());
    let json_spans = json!({"resourceSpans": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "bot"}}, {"key": "outlay.namespace", "value": {"stringValue": "support"}},
        ]},
        "scopeSpans": [{"spans": [{
            "traceId": "01010101010101010101010101010101", "spanId": "0101010101010101", "endTimeUnixNano": "1795255200000000000",
            "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}],
        }]}],
    }]})
    .to_string();
    for answer in [
        post_protobuf(server.addr, "/v1/traces", spans.clone()).await,
        post_protobuf(server.addr, "/v1/logs", records.clone()).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-protobuf"));
        assert!(answer.body.is_empty(), "an answer without fields has no bytes: {answer:?}");
    }
    let answer = send(server.addr, post("/v1/traces", "application/json; charset=utf-8", json_spans)).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(json_of(&answer.body), json!({}));
    for (method, message) in [(TRACES, spans), (LOGS, records)] {
        let answer = call(server.addr, method, message, None, Some(KEY)).await;
        assert_eq!(answer.grpc_status(), (0, String::new()), "{answer:?}");
        assert_eq!(answer.body, [0, 0, 0, 0, 0][..], "one message without fields");
    }
    let from_span = json!({
        "id": "01010101010101010101010101010101/0101010101010101", "source": "bot", "time": "2026-11-21T10:00:00Z",
        "namespace": "support", "tokens": {"input": 7}, "requests": 1,
    });
    let from_record = json!({
        "id": "req_011CUabcdef", "source": "bot", "time": "2026-11-21T10:00:00Z", "namespace": "support", "provider": "anthropic",
        "operation": "chat", "tokens": {"input": 5}, "requests": 1,
    });
    let events = server.sink.events();
    assert_eq!(events, [from_span.clone(), from_span.clone(), from_span, from_record.clone(), from_record]);
    let keys: Vec<String> = server.sink.records.lock().unwrap().iter().map(|record| record.key.clone()).collect();
    assert_eq!(keys[0], "support/01010101010101010101010101010101/0101010101010101");
    assert_eq!((server.entrance.counts().accepted(), server.entrance.counts().rejected()), (5, 0));
}

#[tokio::test]
async fn what_is_refused_is_counted_and_named_while_the_rest_is_taken() {
    let server = start().await;
    let spans = traces(vec![span(1, 7), span(2, -1), span(3, 8), span(4, -2)]).encode_to_vec();
    let answer = post_protobuf(server.addr, "/v1/traces", spans.clone()).await;
    assert_eq!(answer.status, 200);
    let said = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(said.rejected_spans, 2);
    assert_eq!(
        said.error_message,
        "#1: gen_ai.usage.input_tokens: -1 is negative; send 0 or more; #3: gen_ai.usage.input_tokens: -2 is negative; send 0 or more"
    );
    let answer = call(server.addr, TRACES, spans, None, Some(KEY)).await;
    assert_eq!(answer.grpc_status().0, 0);
    assert_eq!(ExportTraceServiceResponse::decode(&answer.body[5..]).unwrap().partial_success.unwrap(), said);
    let answer = post_protobuf(server.addr, "/v1/logs", logs(-5).encode_to_vec()).await;
    let said = ExportLogsServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!((said.rejected_log_records, said.error_message.starts_with("#0: input_tokens: -5")), (1, true));
    let bad = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"claude_code.api_request"},"timeUnixNano":"1"}]}]}]}"#;
    let answer = send(server.addr, post("/v1/logs", "application/json", bad)).await;
    let said = &json_of(&answer.body)["partialSuccess"];
    assert_eq!((answer.status.as_u16(), &said["rejectedLogRecords"]), (200, &json!("1")));
    assert!(said["errorMessage"].as_str().unwrap().contains("timeUnixNano"), "{said}");
    assert_eq!(server.sink.events().len(), 4);
    assert_eq!((server.entrance.counts().accepted(), server.entrance.counts().rejected()), (4, 6));
}

#[tokio::test]
async fn an_operation_that_is_not_known_is_a_warning() {
    let server = start().await;
    let mut unknown = span(1, 7);
    unknown.attributes.push(crate::support::text("gen_ai.operation.name", "transcribe"));
    let answer = post_protobuf(server.addr, "/v1/traces", traces(vec![unknown]).encode_to_vec()).await;
    let said = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!((said.rejected_spans, said.error_message.contains("\"transcribe\"")), (0, true));
    assert_eq!(server.entrance.counts().ignored(), 1);
}

#[tokio::test]
async fn metrics_are_taken_and_dropped() {
    let server = start().await;
    assert_eq!(post_protobuf(server.addr, "/v1/metrics", vec![1, 2, 3]).await.status, 200);
    let answer = send(server.addr, post("/v1/metrics", "application/json", "{}")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"{}"[..]));
    assert_eq!(call(server.addr, METRICS, vec![1, 2, 3], None, Some(KEY)).await.grpc_status().0, 0);
    assert!(server.sink.events().is_empty());
}

#[tokio::test]
async fn without_the_key_nothing_is_read() {
    let server = start().await;
    for key in [None, Some("Bearer another-key"), Some("test-admin-key")] {
        for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
            let mut request = post(path, "application/json", "no json");
            request.headers_mut().remove("authorization");
            if let Some(key) = key {
                request.headers_mut().insert("authorization", key.parse().unwrap());
            }
            let answer = send(server.addr, request).await;
            assert_eq!((answer.status.as_u16(), &json_of(&answer.body)["code"]), (401, &json!(16)), "{path} {key:?}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
    for (method, key) in [(TRACES, None), (LOGS, Some("another-key")), (METRICS, None)] {
        let answer = call(server.addr, method, traces(vec![span(1, 7)]).encode_to_vec(), None, key).await;
        assert_eq!(answer.grpc_status().0, 16, "{method}");
    }
    assert!(server.sink.events().is_empty());
}

#[tokio::test]
async fn a_sender_comes_again_where_that_helps() {
    let server = start().await;
    let body = traces(vec![span(1, 7)]).encode_to_vec();
    for error in [SinkError::Unavailable("no leader".to_owned()), SinkError::QueueFull] {
        *server.sink.answer.lock().unwrap() = Some(error);
        let answer = post_protobuf(server.addr, "/v1/traces", body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
        assert_eq!(answer.header("content-type"), "application/x-protobuf");
        assert_eq!(tonic_types::Status::decode(answer.body).unwrap().code, 14);
        let answer = call(server.addr, TRACES, body.clone(), None, Some(KEY)).await;
        assert_eq!(answer.grpc_status().0, 14);
        // RetryInfo: by its type, with a delay of one second (field 1 of Duration is 1).
        let details =
            answer.headers.get("grpc-status-details-bin").or(answer.trailers.get("grpc-status-details-bin")).unwrap();
        let details = base64(details.to_str().unwrap());
        let name = b"google.rpc.RetryInfo";
        assert!(details.windows(name.len()).any(|bytes| bytes == name), "{details:?}");
    }
    *server.sink.answer.lock().unwrap() = Some(SinkError::Refused("too large".to_owned()));
    let answer = post_protobuf(server.addr, "/v1/traces", body.clone()).await;
    let said = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!((answer.status.as_u16(), said.rejected_spans), (200, 1));
    assert_eq!(said.error_message, "the log refused an event: too large");
    *server.sink.answer.lock().unwrap() = None;
    assert_eq!(post_protobuf(server.addr, "/v1/traces", body).await.status, 200);
    assert_eq!(server.sink.events().len(), 1);
}

/// Base64 without padding, as gRPC writes binary metadata.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).unwrap();
    let bits: Vec<usize> = text.trim_end_matches('=').bytes().map(value).collect();
    bits.chunks(4)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0, |word, six| word << 6 | six) << (6 * (4 - chunk.len()));
            u32::try_from(word).unwrap().to_be_bytes()[1..chunk.len()].to_vec()
        })
        .collect()
}

#[tokio::test]
async fn what_would_fail_again_is_not_to_come_again() {
    let server = start().await;
    for (path, content_type, body, status) in [
        ("/v1/traces", "application/json", "{\"resourceSpans\":[", 400),
        ("/v1/traces", "application/x-protobuf", "{}", 400),
        ("/v1/logs", "application/json", "[]", 400),
        ("/v1/traces", "text/plain", "{}", 415),
        ("/v1/other", "application/json", "{}", 404),
    ] {
        let answer = send(server.addr, post(path, content_type, body)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (status, ""),
            "{path} {content_type} {body}"
        );
    }
    let mut request = post("/v1/traces", "application/json", gzip(b"{}"));
    request.headers_mut().insert("content-encoding", "br".parse().unwrap());
    assert_eq!(send(server.addr, request).await.status, 415);
    assert_eq!(call(server.addr, TRACES, b"{}".to_vec(), None, Some(KEY)).await.grpc_status().0, 3);
    // Not served: profiles.
    assert_eq!(
        call(server.addr, "profiles.v1development.ProfilesService", Vec::new(), None, Some(KEY)).await.status,
        404
    );
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    let server = start().await;
    let body = traces(vec![span(1, 7)]).encode_to_vec();
    let zlib = {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&body).unwrap();
        encoder.finish().unwrap()
    };
    for (encoding, packed) in
        [("gzip", gzip(&body)), ("deflate", zlib), ("zstd", zstd::encode_all(&body[..], 0).unwrap())]
    {
        let mut request = post("/v1/traces", "application/x-protobuf", packed.clone());
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        assert_eq!(send(server.addr, request).await.status, 200, "{encoding}");
        let answer = call(server.addr, TRACES, packed, Some(encoding), Some(KEY)).await;
        // gRPC senders ask which encodings there are, and zstd is not among them.
        assert_eq!(answer.grpc_status().0, if encoding == "zstd" { 12 } else { 0 }, "{encoding}");
    }
    assert_eq!(server.sink.events().len(), 5);
}
