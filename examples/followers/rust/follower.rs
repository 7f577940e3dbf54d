//! Follows the control topic and says who may spend, as docs/decisions.md describes it.
//!
//! ```sh
//! echo '{"dimensions": {"namespace": "support"}}' | cargo run -p event-log --example follower -- 127.0.0.1:9092 --fail closed
//! ```
//!
//! Each line of standard input is a question with the dimensions of a request (and the time `at` which, where not now), each line of
//! standard output its answer.
#![allow(clippy::print_stdout, reason = "answers go there")]

mod decisions;
mod follow;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use follow::{Followed, follow};

#[derive(Deserialize)]
struct Question {
    dimensions: BTreeMap<String, String>,
    at: Option<DateTime<Utc>>,
}

/// What a gateway answers.
fn answer(followed: &Followed, question: &Question, fail_open: bool) -> Value {
    if !followed.ready.load(Ordering::Acquire) {
        let (state, status) = if fail_open { ("allowed", 200) } else { ("blocked", 503) };
        return json!({"state": state, "http_status": status, "reason_code": "NOT_READY"});
    }
    let decisions = followed.decisions.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    match decisions.check(&question.dimensions, question.at.unwrap_or_else(Utc::now)) {
        None => json!({"state": "allowed", "http_status": 200}),
        Some(throttled) if !throttled.blocks() => json!({
            "state": "allowed", "http_status": 200, "budget": throttled.budget, "expires_at": throttled.expires_at,
            "throttle": throttled.throttle,
        }),
        Some(block) => json!({
            "state": block.state, "http_status": block.http_status, "budget": block.budget, "reason_code": block.reason_code,
            "expires_at": block.expires_at,
        }),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (brokers, fail_open) = match arguments[..] {
        [brokers] | [brokers, "--fail", "closed"] => (brokers, false),
        [brokers, "--fail", "open"] => (brokers, true),
        _ => return Err("usage: follower HOST:PORT[,...] [--fail open|closed]".into()),
    };
    let followed = Arc::new(Followed::default());
    let (shared, brokers) = (Arc::clone(&followed), brokers.to_owned());
    std::thread::spawn(move || follow(&brokers, &shared));
    // A gateway would answer at once, by its fail policy.
    let patience = Instant::now() + Duration::from_secs(3);
    while !followed.ready.load(Ordering::Acquire) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&followed, &serde_json::from_str(&line?)?, fail_open));
    }
    Ok(())
}
