//! Why a request as a whole was not taken, and how HTTP and gRPC say so by the OTLP specification.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// After how long a sender should send again what could not be taken now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was not taken. Those that are worth another try say so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Unauthorized(String),
    #[error("too many requests at once; send again in a second, in larger batches")]
    Busy,
    #[error("the log is not taking events: {0}; send again")]
    Unavailable(String),
    #[error("the request took longer than {0} s; send again, in smaller batches")]
    TimedOut(u64),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Unreadable(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("something went wrong here; the program's log says what")]
    Internal,
}

impl Failure {
    /// After how long to send again; `None` where it would fail again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Busy | Self::Unavailable(_) | Self::TimedOut(_)).then_some(RETRY_AFTER)
    }

    /// The status over HTTP. Exporters send again on 429, 502, 503 and 504 only.
    pub(crate) fn http_status(&self) -> u16 {
        match self {
            Self::Unauthorized(_) => 401,
            Self::Busy => 429,
            Self::Unavailable(_) | Self::TimedOut(_) => 503,
            Self::TooLarge(_) => 413,
            Self::Unreadable(_) => 400,
            Self::Unsupported(_) => 415,
            Self::Internal => 500,
        }
    }

    /// The code over gRPC. Exporters send again on `Unavailable`, and on `ResourceExhausted` only where it carries a `RetryInfo`.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unauthorized(_) => Code::Unauthenticated,
            Self::Busy | Self::Unavailable(_) | Self::TimedOut(_) => Code::Unavailable,
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Unreadable(_) | Self::Unsupported(_) => Code::InvalidArgument,
            Self::Internal => Code::Internal,
        }
    }

    /// The status over gRPC.
    pub(crate) fn to_status(&self) -> Status {
        match self.retry_after() {
            None => Status::new(self.code(), self.to_string()),
            Some(delay) => {
                Status::with_error_details(self.code(), self.to_string(), ErrorDetails::with_retry_info(Some(delay)))
            }
        }
    }
}
