//! A small HTTP client over hyper, and a server of the real kind with the fake engine behind it.

#![allow(dead_code, reason = "each user of this module needs another part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_api::{Engine, HttpConfig, Secret, Server};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake::FakeEngine;

pub const KEY: &str = "test-admin-key";
/// Longer than anything here takes, even on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A server that runs until it is dropped or stopped.
pub struct Running {
    pub addr: SocketAddr,
    pub engine: Arc<FakeEngine>,
    pub stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
}

pub async fn start() -> Running {
    start_with(|_| ()).await
}

pub async fn start_with(adjust: impl FnOnce(&mut HttpConfig)) -> Running {
    let mut config = HttpConfig::new(([127, 0, 0, 1], 0).into(), Secret::new(KEY));
    adjust(&mut config);
    let engine = Arc::new(FakeEngine::default());
    let server = Server::bind(config, Arc::clone(&engine) as Arc<dyn Engine>).await.unwrap();
    let addr = server.addr();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async move {
        // A dropped sender stops it as well.
        let _ = stopped.await;
    }));
    Running { addr, engine, stop: Some(stop), task }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `code` of a problem, after a look at what every problem must have.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

pub async fn send(addr: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    tokio::time::timeout(DEADLINE, sender.send_request(request)).await.expect("an answer in time").unwrap()
}

/// Sends a request with the key and these headers besides.
pub async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("authorization", "Bearer test-admin-key")];
    all.extend(headers);
    ask_as(addr, method, path, &all, body).await
}

/// Sends a request with these headers only.
pub async fn ask_as(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "outlay");
    for (name, value) in headers {
        request = request.header(*name, hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let response = send(addr, request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()).await;
    let (head, body) = response.into_parts();
    let body = tokio::time::timeout(DEADLINE, body.collect()).await.expect("a body in time").unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    ask(addr, "GET", path, &[], "").await
}
