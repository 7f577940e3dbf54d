//! Server-sent events, read by a thread.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use super::{PATIENCE, Server};

/// An open stream of decisions.
pub struct Stream(Receiver<(String, Value)>);

impl Stream {
    /// Opens it; returns when the full set was sent, with that set.
    #[track_caller]
    pub fn open(server: &Server) -> (Self, Vec<Value>) {
        let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(600)).build().unwrap();
        let answer = client.get(format!("{}/v1/decisions/stream", server.url)).bearer_auth(&server.key).send().unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let (mut event, mut data) = (String::new(), String::new());
            for line in BufReader::new(answer).lines().map_while(Result::ok) {
                match line.split_once(": ").or_else(|| line.split_once(':')) {
                    Some(("event", value)) => event = value.to_owned(),
                    Some(("data", value)) => data.push_str(value),
                    _ if line.is_empty() && !data.is_empty() => {
                        let value = serde_json::from_str(&std::mem::take(&mut data)).unwrap();
                        if sender.send((std::mem::take(&mut event), value)).is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        let stream = Self(events);
        assert_eq!(stream.next().0, "reset");
        let mut set = Vec::new();
        loop {
            match stream.next() {
                (event, _) if event == "ready" => return (stream, set),
                (_, decision) => set.push(decision),
            }
        }
    }

    /// The next event.
    #[track_caller]
    pub fn next(&self) -> (String, Value) {
        self.0.recv_timeout(PATIENCE).expect("the stream sends an event in time")
    }

    /// The next decision of a budget.
    #[track_caller]
    pub fn decision(&self, budget: &str) -> Value {
        loop {
            let (event, data) = self.next();
            if event == "decision" && data["budget"] == budget {
                return data;
            }
        }
    }
}
