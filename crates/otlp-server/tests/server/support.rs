//! A running server before a sink in memory, and small clients over hyper that send what no exporter would.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_intake::OtlpMap;
use otlp_server::{Entrance, OtlpConfig, Record, Secret, Server, Sink, SinkError};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const KEY: &str = "test-admin-key";
/// Longer than anything here takes, even on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// 2026-11-21T10:00:00Z.
pub const TIME_NS: u64 = 1_795_255_200_000_000_000;

/// Keeps what it is given, and answers what it is told to.
#[derive(Default)]
pub struct Memory {
    pub records: Mutex<Vec<Record>>,
    /// The answer to each record from now on; none accepts it.
    pub answer: Mutex<Option<SinkError>>,
    /// Whether to keep everybody waiting.
    pub is_stuck: Mutex<bool>,
    /// Told of each who waits.
    pub stuck: tokio::sync::Notify,
}

#[async_trait]
impl Sink for Memory {
    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), SinkError>> {
        if *self.is_stuck.lock().unwrap() {
            self.stuck.notify_one();
            std::future::pending::<()>().await;
        }
        let answer = self.answer.lock().unwrap().clone();
        let results = vec![answer.clone().map_or(Ok(()), Err); records.len()];
        if answer.is_none() {
            self.records.lock().unwrap().extend(records);
        }
        results
    }
}

impl Memory {
    /// The events, as JSON, in the order of their models and ids.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let records = self.records.lock().unwrap();
        let mut events: Vec<serde_json::Value> =
            records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
        events.sort_by_key(|event| (event["model"].to_string(), event["id"].to_string()));
        events
    }
}

pub struct Running {
    pub addr: SocketAddr,
    pub sink: Arc<Memory>,
    pub entrance: Arc<Entrance>,
    pub stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

pub async fn start() -> Running {
    start_with(|_| ()).await
}

pub async fn start_with(adjust: impl FnOnce(&mut OtlpConfig)) -> Running {
    let mut config = OtlpConfig::new(Secret::new(KEY), OtlpMap::default());
    adjust(&mut config);
    let sink = Arc::new(Memory::default());
    let entrance = Entrance::new(config, Arc::clone(&sink) as Arc<dyn Sink>);
    let server = Server::bind(([127, 0, 0, 1], 0).into(), Arc::clone(&entrance)).await.unwrap();
    let addr = server.addr();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async move {
        // A dropped sender stops it as well.
        let _ = stopped.await;
    }));
    Running { addr, sink, entrance, stop: Some(stop), task }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// gRPC's status code: in the trailers, or in the headers where there is no message.
    pub fn grpc_status(&self) -> (i32, String) {
        let find =
            |name| self.trailers.get(name).or(self.headers.get(name)).map_or("", |value| value.to_str().unwrap());
        (find("grpc-status").parse().unwrap(), find("grpc-message").replace("%20", " "))
    }
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}

/// Sends over HTTP/1.
pub async fn send(addr: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let work = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let answer = read(sender.send_request(request).await.unwrap()).await;
        driver.abort();
        answer
    };
    tokio::time::timeout(DEADLINE, work).await.expect("an answer in time")
}

/// A request with the key.
pub fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .unwrap()
}

pub async fn post_protobuf(addr: SocketAddr, path: &str, body: Vec<u8>) -> Answer {
    send(addr, post(path, "application/x-protobuf", body)).await
}

/// Calls a gRPC method with one message; `encoding` says how it is compressed already.
pub async fn call(
    addr: SocketAddr,
    method: &str,
    message: Vec<u8>,
    encoding: Option<&str>,
    key: Option<&str>,
) -> Answer {
    let work = async {
        let stream = TcpStream::connect(addr).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let driver = tokio::spawn(connection);
        let mut body = BytesMut::new();
        body.extend([u8::from(encoding.is_some())]);
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let mut request = Request::post(format!("http://localhost/opentelemetry.proto.collector.{method}/Export"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let answer = read(sender.send_request(request.body(Full::new(body.freeze())).unwrap()).await.unwrap()).await;
        driver.abort();
        answer
    };
    tokio::time::timeout(DEADLINE, work).await.expect("an answer in time")
}

pub const TRACES: &str = "trace.v1.TraceService";
pub const LOGS: &str = "logs.v1.LogsService";
pub const METRICS: &str = "metrics.v1.MetricsService";

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn int(name: &str, int: i64) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(int)) }),
        ..KeyValue::default()
    }
}

pub fn text(name: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

/// A span of so much input.
pub fn span(number: u8, input: i64) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![number; 8],
        end_time_unix_nano: TIME_NS,
        attributes: vec![int("gen_ai.usage.input_tokens", input)],
        ..Span::default()
    }
}

fn resource() -> Option<Resource> {
    let attributes = vec![text("service.name", "bot"), text("outlay.namespace", "support")];
    Some(Resource { attributes, ..Resource::default() })
}

pub fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }],
    }
}

/// A request with one of Claude Code's log records of so much input.
pub fn logs(input: i64) -> ExportLogsServiceRequest {
    let record = LogRecord {
        time_unix_nano: TIME_NS,
        event_name: "claude_code.api_request".to_owned(),
        attributes: vec![text("request_id", "req_011CUabcdef"), int("input_tokens", input)],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }],
    }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python with the packages of tests/requirements.txt.
pub fn python() -> PathBuf {
    let named = std::env::var_os("OUTLAY_TEST_PYTHON").map(PathBuf::from);
    let found = named.unwrap_or_else(|| repository().join(".venv/bin/python"));
    assert!(
        found.exists(),
        "these tests need Python with the packages of tests/requirements.txt; {} does not exist. In the repository run:\n  \
         python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt\nor set OUTLAY_TEST_PYTHON to another Python that has them",
        found.display()
    );
    found
}
