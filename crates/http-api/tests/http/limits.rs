//! Clients that are slow, many, or never end. The deadlines here are short, the waits for them long.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{DEADLINE, get, start, start_with};

const SHORT: Duration = Duration::from_millis(300);

/// Reads until the server closes; fails where it does not.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await;
    // A reset is a close as well.
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_drips_its_head_is_cut_off() {
    let server = start_with(|config| config.header_timeout = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let started = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // Another byte now and then must not win more time.
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x-a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, reader.read_to_end(&mut bytes)).await.expect("the connection is cut");
    assert!(started.elapsed() >= SHORT);
    drip.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    // The request must be there before this is over, also on a busy machine.
    let server = start_with(|config| config.header_timeout = 10 * SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_408() {
    let server = start_with(|config| config.body_timeout = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-admin-key\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
}

#[tokio::test]
async fn a_body_without_a_key_is_not_read() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n").await.unwrap();
    // Nothing of the body was sent, and the answer is there all the same.
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let server = start_with(|config| config.write_timeout = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let body = r#"{"query":"big"}"#;
    let head = format!(
        "POST /v1/sql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-admin-key\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let end = Instant::now() + DEADLINE;
    loop {
        let metrics = String::from_utf8(get(server.addr, "/metrics").await.body.to_vec()).unwrap();
        // The one that asks is counted, the one that does not read no longer.
        if metrics.contains("\noutlay_http_connections 1\n") {
            break;
        }
        assert!(Instant::now() < end, "the connection is held for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let received = read_to_end(&mut stream).await.len();
    assert!(received < 4096 * 64 * 1024, "{received} bytes: the answer was not cut");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_504() {
    let server = start_with(|config| config.request_timeout = SHORT).await;
    let answer = crate::client::ask(server.addr, "POST", "/v1/sql", &[], r#"{"query":"slow"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (504, "timeout"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_closes() {
    let server = start_with(|config| config.max_connections = 1).await;
    let held = TcpStream::connect(server.addr).await.unwrap();
    let mut waiting = TcpStream::connect(server.addr).await.unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    assert!(tokio::time::timeout(SHORT, waiting.read(&mut byte)).await.is_err(), "it was served beyond the limit");
    drop(held);
    assert!(read_to_end(&mut waiting).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_with_events_at_once_are_bounded() {
    let server = start_with(|config| config.max_publishes = 1).await;
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-admin-key\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = crate::client::ask(server.addr, "POST", "/v1/events", &[], "{}").await;
        if answer.status == 503 {
            assert_eq!((answer.problem().as_str(), answer.header("retry-after")), ("queue_full", "1"));
            return;
        }
        assert!(Instant::now() < end, "a second request was read beside the first");
    }
}

#[tokio::test]
async fn a_stop_lets_a_request_finish_and_takes_no_new_one() {
    let mut server = start().await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let event = r#"{"time":"2026-11-21T10:00:00Z","namespace":"support","requests":1}"#;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-admin-key\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The handler reads the body from here on: the request is in flight.
    let mut interim = [0; 25];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.stop.take().unwrap().send(()).unwrap();
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(server.addr).await.is_ok() {
        assert!(Instant::now() < end, "it still accepts");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(event.as_bytes()).await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 202"));
    tokio::time::timeout(DEADLINE, server.task).await.unwrap().unwrap();
    assert_eq!(server.engine.published.lock().len(), 1);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let mut server = start_with(|config| config.shutdown_deadline = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST /v1/sql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-admin-key\r\ncontent-length: 16\r\n\r\n";
    stream.write_all(format!("{head}{{\"query\":\"slow\"}}").as_bytes()).await.unwrap();
    let end = Instant::now() + DEADLINE;
    while server.engine.queries.lock().is_empty() {
        assert!(Instant::now() < end, "the query does not reach the engine");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(DEADLINE, server.task).await.expect("it stops at its deadline").unwrap();
}
