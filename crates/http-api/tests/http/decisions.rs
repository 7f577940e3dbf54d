//! The decisions and their stream.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;
use usage_types::{Decision, DecisionState};

use crate::client::{DEADLINE, KEY, Running, get, send, start, start_with};
use crate::fake::blocked;

/// Reads a stream event by event.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    async fn open(server: &Running) -> Self {
        let request =
            Request::get("/v1/decisions/stream").header("host", "x").header("authorization", format!("Bearer {KEY}"));
        let response = send(server.addr, request.body(Full::new(Bytes::new())).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event's name and data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let find =
                        |line: &str| line.strip_prefix(name).and_then(|l| l.strip_prefix(": ")).map(str::to_owned);
                    event.lines().find_map(find)
                };
                let parsed = field("event").map(|name| {
                    (name, field("id").unwrap_or_default(), serde_json::from_str(&field("data").unwrap()).unwrap())
                });
                self.text = rest.to_owned();
                match parsed {
                    Some(event) => return Some(event),
                    // A comment that keeps the connection alive.
                    None => continue,
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("an event in time")?;
            self.text += std::str::from_utf8(&frame.ok()?.into_data().unwrap()).unwrap();
        }
    }

    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.next().await.unwrap().0);
        }
        names
    }
}

#[tokio::test]
async fn the_decisions_in_force_are_listed_by_key_and_filtered_by_state() {
    let server = start().await;
    server.engine.decide(blocked("alpha", 1));
    let answer = get(server.addr, "/v1/decisions").await;
    let decisions: Vec<Decision> = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(decisions.iter().map(|d| d.budget.as_str()).collect::<Vec<_>>(), ["alpha-daily", "support-daily"]);
    assert_eq!(get(server.addr, "/v1/decisions?state=allowed").await.json(), serde_json::json!([]));
    assert_eq!(get(server.addr, "/v1/decisions?state=maybe").await.problem(), "invalid_parameter");
}

#[tokio::test]
async fn a_stream_begins_with_the_full_set_and_goes_on_with_what_is_new() {
    let server = start().await;
    let mut events = Events::open(&server).await;
    let (name, _, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), data["decisions"].as_u64()), ("reset", Some(1)));
    let (name, id, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), id.as_str()), ("decision", "support-daily|namespace=support|17"));
    assert_eq!(serde_json::from_value::<Decision>(data).unwrap().state, DecisionState::Blocked);
    assert_eq!(events.next().await.unwrap().0, "ready");

    server.engine.decide(blocked("support", 18));
    let (name, id, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), id.as_str()), ("decision", "support-daily|namespace=support|18"));
    assert_eq!(data["seq"], 18);
}

#[tokio::test]
async fn an_update_that_the_full_set_already_holds_is_not_sent_again() {
    let server = start().await;
    server.engine.sudden.lock().extend([blocked("support", 18), blocked("support", 19)]);
    let mut events = Events::open(&server).await;
    assert_eq!(events.next().await.unwrap().0, "reset");
    assert_eq!(events.next().await.unwrap().2["seq"], 19);
    assert_eq!(events.next().await.unwrap().0, "ready");
    server.engine.decide(blocked("support", 20));
    assert_eq!(events.next().await.unwrap().2["seq"], 20, "an older decision must not replace a newer one");
}

#[tokio::test]
async fn a_client_that_falls_behind_gets_everything_again_and_ends_with_the_newest() {
    let server = start().await;
    let mut events = Events::open(&server).await;
    assert_eq!(events.names(3).await, ["reset", "decision", "ready"]);
    // No await in between: the stream's task cannot run, and the broadcast holds only four.
    for seq in 18..=40 {
        server.engine.decide(blocked("support", seq));
    }
    let mut newest = 17;
    let mut resets = 0;
    while newest < 40 {
        let (name, _, data) = events.next().await.expect("the stream goes on");
        match name.as_str() {
            "reset" => resets += 1,
            "decision" => {
                let seq = data["seq"].as_u64().unwrap();
                assert!(seq > newest, "{seq} after {newest}: an older decision must not replace a newer one");
                newest = seq;
            }
            _ => {}
        }
    }
    assert_eq!(resets, 1);
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let server = start_with(|config| config.max_streams = 1).await;
    let mut first = Events::open(&server).await;
    assert_eq!(first.next().await.unwrap().0, "reset");
    let refused = get(server.addr, "/v1/decisions/stream").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "too_many_streams"));
    drop(first);
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let request =
            Request::get("/v1/decisions/stream").header("host", "x").header("authorization", format!("Bearer {KEY}"));
        if send(server.addr, request.body(Full::new(Bytes::new())).unwrap()).await.status() == 200 {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "the place of a closed stream is not given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_stop_ends_the_streams_in_order() {
    let mut server = start_with(|config| config.shutdown_deadline = 10 * DEADLINE).await;
    let mut events = Events::open(&server).await;
    assert_eq!(events.names(3).await, ["reset", "decision", "ready"]);
    server.stop.take().unwrap().send(()).unwrap();
    assert!(events.next().await.is_none());
    tokio::time::timeout(DEADLINE, server.task).await.expect("it stops long before its deadline").unwrap();
}
