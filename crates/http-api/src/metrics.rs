//! What this server counts about itself. The labels are the routes of its own table, so nothing a client sends can grow them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Answers by route, method and status.
pub(crate) const REQUESTS: &str = "outlay_http_requests_total";
/// Open connections.
pub(crate) const CONNECTIONS: &str = "outlay_http_connections";

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics {
    requests: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    connections: AtomicU64,
}

impl HttpMetrics {
    /// Counts one answer; `route` is the pattern in the route table, or empty where none matched.
    pub(crate) fn count(&self, route: &str, method: &axum::http::Method, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *requests.entry((route.to_owned(), known(method), status)).or_default() += 1;
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Appends Prometheus' text format.
    pub(crate) fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {REQUESTS} Answers by route, method and status.\n# TYPE {REQUESTS} counter");
        let requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for ((route, method, status), count) in requests.iter() {
            let _ = writeln!(out, "{REQUESTS}{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}");
        }
        let connections = self.connections.load(Ordering::Relaxed);
        let _ = writeln!(out, "# HELP {CONNECTIONS} Open connections.\n# TYPE {CONNECTIONS} gauge");
        let _ = writeln!(out, "{CONNECTIONS} {connections}");
    }
}

/// A method as a label: a client may send any word as one.
fn known(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
