//! `outlay serve`: runs until SIGTERM or SIGINT, then stops in order.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::options::{LogChoice, ServeOptions, Settings};
use crate::telemetry;
use crate::worker::{self, Running};

/// Runs a server.
pub fn serve(options: ServeOptions) -> Result<ExitCode> {
    let options = options.with_file()?;
    telemetry::start(options.log_format, telemetry::SERVER_FILTER);
    let settings = Settings::from_options(options)?;
    runtime()?.block_on(async {
        let running = worker::start(settings).await?;
        greet(&running)?;
        tokio::select! {
            () = stop_signal() => {}
            _reason = running.failed() => {}
        }
        running.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The runtime of a server: its own threads count and commit, so two workers are enough for the rest.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
}

/// Waits for SIGTERM or SIGINT.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            return;
        }
    }
    let _unavailable = tokio::signal::ctrl_c().await;
}

/// Says once, on standard output, where everything is.
pub fn greet(running: &Running) -> Result<()> {
    let Running { addresses, admin_key, key_is_new, shared, .. } = running;
    let log = match shared.settings.log {
        LogChoice::Embedded(_) => "embedded, speaks the Kafka protocol",
        LogChoice::Kafka(_) => "Kafka",
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "outlay {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(
        out,
        "  page   http://{}/{}",
        addresses.http,
        if *key_is_new { format!("#key={admin_key}") } else { String::new() }
    )?;
    writeln!(out, "  log    {} ({log}, {} partitions)", addresses.log, shared.partitions)?;
    let otlp: Vec<String> = [("gRPC", addresses.otlp_grpc), ("HTTP", addresses.otlp_http)]
        .into_iter()
        .filter_map(|(protocol, addr)| addr.map(|addr| format!("{addr} ({protocol})")))
        .chain([format!("http://{}/v1/traces (HTTP)", addresses.http)])
        .collect();
    writeln!(out, "  otlp   {}", otlp.join(", "))?;
    if let Some(pg) = addresses.pg {
        writeln!(out, "  pg     {pg} (PostgreSQL's protocol; the password is the key)")?;
    }
    writeln!(out, "  data   {}", shared.settings.data.display())?;
    if *key_is_new {
        writeln!(
            out,
            "  key    {admin_key}  (generated; shown this once, kept in {}/admin-key)",
            shared.settings.data.display()
        )?;
    }
    out.flush()?;
    Ok(())
}
