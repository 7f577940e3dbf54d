//! `outlay demo`: the main job on a real request trace, with nothing installed or configured.
//!
//! A server with the embedded log starts in this process on a folder of its own; the trace's requests are published to it over the Kafka
//! protocol with their own timing sped up, and everything shown is read back the way any user would: balances over HTTP, the chargeback from
//! the report, the total recomputed from the trace alone.

mod budgets;
mod replay;
mod show;
pub mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use usage_types::{Every, TimeUs, WindowSpec};

use crate::client::{Server, ServerOptions};
use crate::commands::{runtime, stop_signal};
use crate::options::{ServeOptions, Settings};
use crate::{telemetry, worker};

/// A folder with this file in it was made by a demo, and the next demo may empty it.
const MARKER: &str = "made-by-outlay-demo";

/// Options of `outlay demo`.
#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Folder for the demo's data; one that an earlier demo made is emptied
    #[arg(long, value_name = "DIR", default_value = "data/demo")]
    data: PathBuf,
    /// Where the embedded log listens
    #[arg(long, value_name = "ADDR", default_value = crate::options::DEFAULT_LOG)]
    log: std::net::SocketAddr,
    /// Where HTTP is served
    #[arg(long, value_name = "ADDR", default_value = crate::options::DEFAULT_HTTP)]
    http: std::net::SocketAddr,
    /// Seconds that the replay takes; the trace itself lasts 57 minutes
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// Stop at the end instead of serving on
    #[arg(long)]
    exit: bool,
}

/// Runs the demo. Exit code 1 where the chargeback does not add up to the trace's own total.
pub fn demo(options: DemoOptions) -> Result<ExitCode> {
    telemetry::start(None, "warn");
    fresh_folder(&options.data)?;
    let end = trace_end(TimeUs::from(chrono::Utc::now()));
    let budgets_file = options.data.join("budgets.yaml");
    std::fs::write(&budgets_file, budgets::yaml(end))?;
    let settings = Settings::from_options(ServeOptions {
        data: Some(options.data.clone()),
        log: Some(options.log),
        http: Some(options.http),
        budgets: Some(budgets_file),
        ..ServeOptions::default()
    })?;
    let runtime = runtime()?;
    let running = runtime.block_on(worker::start(settings)).context(
        "the demo could not start; where another program uses its ports, give --http 127.0.0.1:0 --log 127.0.0.1:0",
    )?;
    let server = Server::new(&ServerOptions {
        url: Some(format!("http://{}", running.addresses.http)),
        key: Some(running.admin_key.clone()),
        data: options.data.clone(),
    })?;
    show::welcome(&running);
    let adds_up =
        replay::run(&running, &server, end, options.seconds.max(1)).and_then(|()| show::chargeback(&server, end));
    if adds_up.is_ok() && !options.exit {
        show::what_next(&running);
        runtime.block_on(async {
            tokio::select! { () = stop_signal() => {} _reason = running.failed() => {} }
        });
    }
    runtime.block_on(running.stop())?;
    Ok(if adds_up? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// When the trace ends: now, or just before this month where it would have begun in the last one, so that one month's chargeback holds all
/// of it.
fn trace_end(now: TimeUs) -> TimeUs {
    let month = WindowSpec::calendar(Every::Month, chrono_tz::UTC);
    let start = budget_core::window::window_at(month, now).start;
    if now.plus_us(-trace::duration_us()) < start { start.plus_us(-1) } else { now }
}

/// An empty folder with our mark; never empties one that is not ours.
fn fresh_folder(path: &Path) -> Result<()> {
    if path.exists() && std::fs::read_dir(path)?.next().is_some() {
        if !path.join(MARKER).exists() {
            bail!("{} is not empty and was not made by a demo; give another --data", path.display());
        }
        std::fs::remove_dir_all(path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::write(path.join(MARKER), "`outlay demo` may empty this folder.\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_trace_lies_in_one_month_and_ends_within_the_last_hour() {
        for start in ["2026-10-31T22:00:00Z", "2026-12-31T22:00:00Z", "2028-02-29T22:00:00Z"] {
            for minute in 0..4 * 60 {
                let now = TimeUs::parse_rfc3339(start).unwrap().plus_us(minute * TimeUs::MINUTE);
                let end = trace_end(now);
                let month = |time: TimeUs| time.to_utc().format("%Y-%m").to_string();
                assert_eq!(month(end.plus_us(-trace::duration_us())), month(end), "{now}");
                assert!(end <= now && end > now.plus_us(-TimeUs::HOUR), "{now}: {end}");
            }
        }
    }
}
