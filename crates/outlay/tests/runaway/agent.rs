//! The agent that has run away: it asks at a steady rate and cares for no refusal.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::Value;

use crate::common::PATIENCE;
use crate::gateway::{AGENT, Gateway, Model};
use crate::{REQUESTS, TOKENS};

/// From one request to the next: 200 a second.
const PERIOD: Duration = Duration::from_millis(5);
/// What is made up for after a delay comes no faster than this, so that the loop has a highest rate: 250 a second.
const SHORTEST: Duration = Duration::from_millis(4);
/// It goes on for so many requests after the first refusal.
const AFTER: usize = 20;

/// A request and its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    sent: Instant,
    answered: Instant,
    status: u16,
}

/// What one loop did.
#[derive(Debug)]
pub struct Run {
    pub agent: String,
    /// Requests that the model answered.
    pub served: usize,
    /// From the report of the answer that used the budget up to the first refusal that the agent saw.
    pub to_refusal: Duration,
    /// The longest from sending a request to its answer, of those answered after the crossing.
    pub in_flight: Duration,
    /// From that report to `decided_at` of the block.
    pub to_decision: Duration,
    crossed: DateTime<Utc>,
}

impl Run {
    /// Requests that were served past the cap.
    pub fn overshoot(&self) -> usize {
        self.served - REQUESTS
    }

    /// The same in tokens.
    pub fn overshoot_tokens(&self) -> u64 {
        self.overshoot() as u64 * TOKENS
    }

    /// The most that the formula allows, in requests: those that were sent between the longest flight before the crossing and the first
    /// refusal.
    pub fn bound(&self) -> usize {
        let window = self.to_refusal + self.in_flight;
        window.as_nanos().div_ceil(SHORTEST.as_nanos()) as usize + 1
    }

    /// Takes the block into account.
    pub fn decided(&mut self, decision: &Value) {
        assert_eq!((&decision["state"], decision["seq"].is_u64()), (&Value::from("blocked"), true), "{decision}");
        let at: DateTime<Utc> = decision["decided_at"].as_str().unwrap().parse().unwrap();
        self.to_decision = (at - self.crossed).to_std().unwrap_or_default();
    }
}

/// Lets one loop run until it has been refused for a while.
pub fn run(agent: &str, gateway: &Gateway, model: &Model) -> Run {
    let answers: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let (sender, ended) = channel::<()>();
    let deadline = Instant::now() + PATIENCE;
    let (mut due, mut sent_count) = (Instant::now(), 0);
    while answers.lock().iter().filter(|asked| asked.status != 200).count() < AFTER {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        assert!(sent < deadline, "the loop is not stopped: {sent_count} requests were sent");
        due = (due + PERIOD).max(sent + SHORTEST);
        let request = gateway.client.post(&gateway.url).header(AGENT, agent);
        let (answers, sender) = (Arc::clone(&answers), sender.clone());
        sent_count += 1;
        model.runtime.spawn(async move {
            let status = request.send().await.unwrap().status().as_u16();
            answers.lock().push(Asked { sent, answered: Instant::now(), status });
            drop(sender);
        });
    }
    drop(sender);
    // All have ended when nobody can send any more.
    assert!(ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    let answers = answers.lock().clone();
    assert_eq!(answers.len(), sent_count, "each request was answered");
    judge(agent, &answers, model)
}

fn judge(agent: &str, answers: &[Asked], model: &Model) -> Run {
    let (served, refused): (Vec<Asked>, Vec<Asked>) = answers.iter().copied().partition(|asked| asked.status == 200);
    assert!(refused.iter().all(|asked| asked.status == 403), "refused for another reason: {refused:?}");
    let reports = model.reports(agent);
    assert_eq!(reports.len(), served.len());
    assert!(served.len() >= REQUESTS, "refused before the cap");
    let (crossed_at, crossed) = reports[REQUESTS - 1];
    let first_refusal = refused.iter().map(|asked| asked.answered).min().unwrap();
    let late = served.iter().find(|asked| asked.sent > first_refusal);
    assert!(late.is_none(), "the loop was served again after its first refusal");
    // What was reported after the crossing was answered after it, too.
    let past = served.iter().filter(|asked| asked.answered > crossed_at);
    let in_flight = past.map(|asked| asked.answered - asked.sent).max().unwrap_or_default();
    let to_refusal = first_refusal.saturating_duration_since(crossed_at);
    let agent = agent.to_owned();
    Run { agent, served: served.len(), to_refusal, in_flight, to_decision: Duration::ZERO, crossed }
}
