//! Errors as PostgreSQL tells them.

use crate::types::state;

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It goes on.
    Error,
    /// It ends.
    Fatal,
}

/// An error with its SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PgError {
    /// What becomes of the session.
    pub severity: Severity,
    /// The SQLSTATE (PostgreSQL, appendix A).
    pub state: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<usize>,
}

impl PgError {
    /// An error after which the session goes on.
    pub fn new(state: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, state, message: message.into(), hint: None, position: None }
    }

    /// An error that ends the session.
    pub fn fatal(state: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::new(state, message) }
    }

    /// A message that breaks the protocol: the session cannot go on.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::fatal(state::PROTOCOL_VIOLATION, message)
    }

    /// The query was cancelled.
    pub(crate) fn cancelled() -> Self {
        Self::new(state::QUERY_CANCELED, "canceling statement due to user request")
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
