//! `outlay verify`: proves the accounts of a lake from its files alone.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use usage_lake::{Lake, VerifyReport, verify as verify_lake};

use super::serve::runtime;

/// Options of `outlay verify`.
#[derive(Debug, Args)]
pub struct VerifyOptions {
    /// The data folder, whose lake is verified; a server may be running on it
    #[arg(long, env = "OUTLAY_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Another lake's folder
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    lake: Option<PathBuf>,
}

/// Verifies; exit code 1 where anything does not add up.
pub fn verify(options: VerifyOptions) -> Result<ExitCode> {
    let folder = options.lake.unwrap_or_else(|| options.data.join("lake"));
    let report = runtime()?.block_on(async {
        let lake = Lake::open_existing(&folder.display().to_string()).await.context("cannot open the lake")?;
        verify_lake(&lake).await.context("cannot read the lake")
    })?;
    print(&report)?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &VerifyReport) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "partition      first        end   accepted  duplicate   too late   rejected  forwarded      holes")?;
    for p in &report.partitions {
        writeln!(
            out,
            "{:>9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            p.partition, p.start, p.end, p.accepted, p.duplicate, p.too_late, p.rejected, p.forwarded, p.holes
        )?;
    }
    let VerifyReport {
        version, usage_rows, too_late_rows, rejected_rows, pending_rows, findings, findings_count, ..
    } = report;
    writeln!(
        out,
        "version {version}: {usage_rows} rows in usage, {too_late_rows} in too_late, {rejected_rows} in rejected"
    )?;
    if *pending_rows > 0 {
        writeln!(
            out,
            "{pending_rows} rows of the side tables belong to a commit that a crash cut off; the next start repeats it"
        )?;
    }
    for finding in findings {
        writeln!(out, "WRONG: {finding}")?;
    }
    match findings_count {
        0 => writeln!(out, "every offset is accounted for once")?,
        count => writeln!(out, "{count} findings: the lake does not add up")?,
    }
    Ok(())
}
