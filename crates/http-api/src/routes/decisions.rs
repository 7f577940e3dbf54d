//! `GET /v1/decisions` and its stream. The stream begins with the full set, so that whoever follows it needs nothing else,
//! and sends the full set again where it would otherwise have lost something.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use usage_types::{Decision, DecisionState};

use super::{json, parameters, refuse_rest};
use crate::ApiProblem;
use crate::router::AppState;

/// Events that wait for one client; the broadcast behind it is bounded by the engine.
const QUEUE: usize = 64;
/// How often a comment keeps an idle connection alive through proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After how long a client should connect again.
const RETRY: Duration = Duration::from_secs(1);

/// Answers with an array of the decisions in force, by key.
pub(crate) async fn decisions(State(app): State<AppState>, uri: Uri) -> Result<Response, ApiProblem> {
    let mut parameters = parameters(&uri)?;
    let state = match parameters.remove("state").as_deref() {
        None => None,
        Some("blocked") => Some(DecisionState::Blocked),
        Some("allowed") => Some(DecisionState::Allowed),
        Some(other) => {
            return Err(ApiProblem::invalid("state", format!("`{other}` is no state; use blocked or allowed")));
        }
    };
    refuse_rest(&parameters, "state")?;
    let mut decisions = app.engine.decisions();
    decisions.retain(|decision| state.is_none_or(|state| decision.state == state));
    decisions.sort_by_cached_key(Decision::key);
    Ok(json(200, &decisions))
}

/// Answers with server-sent events: `reset`, then each decision in force as `decision`, then `ready`, then every new one as
/// `decision`. After `reset` a client forgets what it had.
pub(crate) async fn stream(State(app): State<AppState>) -> Result<Response, ApiProblem> {
    let Ok(permit) = Arc::clone(&app.streams).try_acquire_owned() else {
        let detail = "too many streams are open; close some, or follow the topic usage.decisions with a Kafka client";
        return Err(ApiProblem::unavailable("too_many_streams", detail, 5));
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut stopping = app.stopping.clone();
        tokio::select! {
            _ = feed(&app, &sender) => {}
            () = sender.closed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        drop(permit);
    });
    let stream = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Proxies like nginx hold back what they buffer.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

type Sender = mpsc::Sender<Result<Event, Infallible>>;

/// Sends until the client is gone or the engine stops.
async fn feed(app: &AppState, sender: &Sender) -> Option<()> {
    let mut updates = app.engine.subscribe();
    loop {
        let sent = send_all(app, &updates, sender).await?;
        send_updates(sent, &mut updates, sender).await?;
        // The client was too slow and what it lost is unknown, so it gets everything again.
    }
}

/// What a full set held, as far as it is needed to tell which of the updates that waited meanwhile are older.
struct Sent {
    seqs: HashMap<String, u64>,
    /// How many updates may be older.
    waiting: usize,
}

async fn send_all(app: &AppState, updates: &broadcast::Receiver<Arc<Decision>>, sender: &Sender) -> Option<Sent> {
    let mut decisions = app.engine.decisions();
    let waiting = updates.len();
    decisions.sort_by_cached_key(Decision::key);
    let reset = Event::default().event("reset").retry(RETRY).data(format!("{{\"decisions\":{}}}", decisions.len()));
    sender.send(Ok(reset)).await.ok()?;
    for decision in &decisions {
        sender.send(Ok(event(decision))).await.ok()?;
    }
    sender.send(Ok(Event::default().event("ready").data("{}"))).await.ok()?;
    let seqs = if waiting == 0 {
        HashMap::new()
    } else {
        decisions.iter().map(|decision| (decision.key(), decision.seq)).collect()
    };
    Some(Sent { seqs, waiting })
}

/// Returns where updates were lost; `None` where the stream is over.
async fn send_updates(mut sent: Sent, updates: &mut broadcast::Receiver<Arc<Decision>>, sender: &Sender) -> Option<()> {
    loop {
        let decision = match updates.recv().await {
            Ok(decision) => decision,
            Err(broadcast::error::RecvError::Lagged(_)) => return Some(()),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        let is_older = sent.seqs.get(&decision.key()).is_some_and(|seq| decision.seq <= *seq);
        sent.waiting = sent.waiting.saturating_sub(1);
        if sent.waiting == 0 {
            sent.seqs = HashMap::new();
        }
        if !is_older {
            sender.send(Ok(event(&decision))).await.ok()?;
        }
    }
}

fn event(decision: &Decision) -> Event {
    let id = format!("{}|{}", decision.key(), decision.seq);
    let event = Event::default().event("decision").id(id);
    // A decision holds texts and numbers only, which JSON can always write.
    event.json_data(decision).unwrap_or_else(|_| Event::default().comment("unwritable decision"))
}
