//! Structured logs on standard error, so that standard output stays for results.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::options::LogFormat;

/// Starts logging: `RUST_LOG` chooses what (default `info`, and only warnings of the libraries below us).
pub fn start(format: Option<LogFormat>, default_filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let format = format.unwrap_or(if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json });
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start (the demo inside a test) keeps the first.
    let _already = match format {
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}

/// What a server logs unless `RUST_LOG` says otherwise.
pub const SERVER_FILTER: &str = "info,delta_kernel=warn,buoyant_kernel=warn,deltalake_core=warn,datafusion=warn";
