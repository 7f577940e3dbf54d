//! A query's rows on their way to whoever asked: counted once, however they end.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream;
use http_api::{ApiProblem, QueryBody};
use usage_lake::{Format, LakeError, QueryStream};

use super::engine::problem;
use super::shared::Shared;

/// One query in the metrics: `ok` or `error` as it ends, `cancelled` where its client left before.
pub struct QueryCount {
    shared: Arc<Shared>,
    begun: Instant,
    result: &'static str,
}

impl QueryCount {
    /// Of a query that begins now.
    pub fn begin(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), begun: Instant::now(), result: "cancelled" }
    }

    /// Notes that its rows are on their way, to somebody who may still leave.
    pub fn open(&mut self) {
        self.result = "cancelled";
    }

    /// Notes that all of them are there.
    pub fn done(&mut self) {
        self.result = "ok";
    }

    /// Notes how it ended.
    pub fn note<T>(&mut self, result: Result<T, LakeError>) -> Result<T, LakeError> {
        self.result = if result.is_ok() { "ok" } else { "error" };
        result
    }
}

impl Drop for QueryCount {
    fn drop(&mut self) {
        self.shared.metrics.count_query(self.result, self.begun.elapsed());
    }
}

/// The rows as a body: whole where they are, else piece by piece. What fails in the middle cuts the connection, since the status is sent by
/// then; JSON lines first get one that says why.
pub fn body(mut rows: QueryStream, mut count: QueryCount) -> QueryBody {
    if let Some(whole) = rows.whole() {
        count.done();
        return QueryBody::Bytes(whole);
    }
    count.open();
    QueryBody::Stream(Box::pin(stream::unfold(Some(State { rows, count, cut: None }), next)))
}

struct State {
    rows: QueryStream,
    count: QueryCount,
    /// The error that cuts the connection once the line before it is on its way.
    cut: Option<io::Error>,
}

async fn next(state: Option<State>) -> Option<(Result<Bytes, io::Error>, Option<State>)> {
    let mut state = state?;
    if let Some(error) = state.cut.take() {
        // Lets the server write the line out: with the error it stops writing.
        tokio::task::yield_now().await;
        return Some((Err(error), None));
    }
    let Some(piece) = state.rows.next().await else {
        state.count.done();
        return None;
    };
    let error = match state.count.note(piece) {
        Ok(bytes) => {
            state.count.open();
            return Some((Ok(bytes), Some(state)));
        }
        Err(error) => error,
    };
    tracing::warn!(%error, "a result ended in the middle");
    let problem = problem(error);
    let cut = io::Error::other(problem.detail.clone());
    if state.rows.format() != Format::Jsonl {
        return Some((Err(cut), None));
    }
    state.cut = Some(cut);
    Some((Ok(last_line(&problem)), Some(state)))
}

fn last_line(problem: &ApiProblem) -> Bytes {
    Bytes::from(format!("{}\n", serde_json::json!({ "error": problem.to_json() })))
}
