//! Limits: bodies that are too large or become so, too many at once, and clients that hold on.

use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, KEY, TRACES, call, gzip, post, post_protobuf, send, span, start, start_with, traces};

/// A gibibyte of zeros in a megabyte: one mebibyte is compressed, and the result repeated, which a full flush allows.
fn bomb() -> Vec<u8> {
    let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
    let mut chunk = Vec::with_capacity(64 << 10);
    deflate.compress_vec(&vec![0; 1 << 20], &mut chunk, flate2::FlushCompress::Full).unwrap();
    assert_eq!(deflate.total_in(), 1 << 20);
    // The head of a gzip file (RFC 1952, 2.3): deflate, no flags, no time. Its end is never reached.
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(chunk.repeat(1024));
    gzip
}

/// The most memory that this process has had, in kilobytes (proc(5), `VmHWM`).
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_body_that_explodes_is_refused_within_bounded_memory() {
    let server = start().await;
    let bomb = bomb();
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let before = peak_kb();
    let mut request = post("/v1/traces", "application/x-protobuf", bomb.clone());
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let answer = send(server.addr, request).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (413, ""));
    assert_eq!(tonic_types::Status::decode(answer.body).unwrap().code, 8);
    let answer = call(server.addr, TRACES, bomb, Some("gzip"), Some(KEY)).await;
    assert_eq!(answer.grpc_status().0, 8, "{answer:?}");
    assert!(
        answer.headers.get("grpc-status-details-bin").is_none()
            && answer.trailers.get("grpc-status-details-bin").is_none()
    );
    // The other tests of this process run meanwhile; a gibibyte would show all the same.
    assert!(peak_kb() - before < 400_000, "{} kB more", peak_kb() - before);
}

#[tokio::test]
async fn a_body_is_refused_above_the_limit_and_taken_at_it() {
    // Forty spans alike, so that compression makes them fewer bytes.
    let body = traces(vec![span(1, 7); 40]).encode_to_vec();
    for (limit, status, code) in [(body.len(), 200, 0), (body.len() - 1, 413, 8)] {
        let server = start_with(|config| config.body_bytes_max = limit).await;
        assert_eq!(post_protobuf(server.addr, "/v1/traces", body.clone()).await.status, status, "{limit}");
        let found = call(server.addr, TRACES, body.clone(), None, Some(KEY)).await.grpc_status().0;
        // tonic says OUT_OF_RANGE (11) for a message whose length is announced.
        assert_eq!(found, if code == 0 { 0 } else { 11 }, "{limit}");
        let mut request = post("/v1/traces", "application/x-protobuf", gzip(&body));
        request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        assert_eq!(send(server.addr, request).await.status, status, "{limit}");
        let found = call(server.addr, TRACES, gzip(&body), Some("gzip"), Some(KEY)).await.grpc_status().0;
        assert!(if code == 0 { found == 0 } else { found == 8 || found == 11 }, "{limit}: {found}");
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_again() {
    let server = start_with(|config| config.requests_max = 1).await;
    *server.sink.is_stuck.lock().unwrap() = true;
    let body = traces(vec![span(1, 7)]).encode_to_vec();
    let addr = server.addr;
    let first = tokio::spawn(post_protobuf(addr, "/v1/traces", body.clone()));
    tokio::time::timeout(DEADLINE, server.sink.stuck.notified()).await.expect("the first request is inside");
    let answer = post_protobuf(addr, "/v1/traces", body.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
    assert_eq!(call(addr, TRACES, body, None, Some(KEY)).await.grpc_status().0, 14);
    first.abort();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_to_come_again() {
    let server = start_with(|config| config.request_timeout = Duration::from_millis(200)).await;
    *server.sink.is_stuck.lock().unwrap() = true;
    let body = traces(vec![span(1, 7)]).encode_to_vec();
    let answer = post_protobuf(server.addr, "/v1/traces", body.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert_eq!(call(server.addr, TRACES, body, None, Some(KEY)).await.grpc_status().0, 14);
}

#[tokio::test]
async fn a_client_that_never_begins_is_cut_off() {
    let server = start_with(|config| config.header_timeout = Duration::from_millis(200)).await;
    for beginning in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"POST /v1/traces HTTP/1.1\r\n"] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{beginning:?}");
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_request_in_flight_and_then_ends() {
    let mut server = start_with(|config| config.shutdown_deadline = Duration::from_millis(200)).await;
    let body = traces(vec![span(1, 7)]).encode_to_vec();
    assert_eq!(post_protobuf(server.addr, "/v1/traces", body).await.status, 200);
    drop(server.stop.take());
    tokio::time::timeout(DEADLINE, server.task).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}
