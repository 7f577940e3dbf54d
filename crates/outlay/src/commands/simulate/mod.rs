//! `outlay simulate`: what changed budgets would have done over usage of the past, beside the present ones.

mod show;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use budget_simulator::Settings;
use clap::Args;
use usage_lake::Lake;
use usage_types::{BudgetSet, TimeUs};

use super::prices::time;
use super::progress::RowsDone;
use super::serve::runtime;
use crate::simulation::Task;

/// How the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables for people
    Table,
    /// All of it, as `POST /v1/simulations` answers
    Json,
    /// A line for each block and alert
    Csv,
}

/// Options of `outlay simulate`.
#[derive(Debug, Args)]
pub struct SimulateOptions {
    /// The budgets file (YAML) that is tried out
    #[arg(long, value_name = "FILE")]
    budgets: PathBuf,
    /// The present budgets file, to compare with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// From then on: a date (in UTC) or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: TimeUs,
    /// Until before then [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<TimeUs>,
    /// Have what a block refuses count towards balances all the same
    #[arg(long)]
    count_refused: bool,
    /// How to print the answer
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    /// The most blocks and alerts, and scopes, that are listed one by one; all are counted
    #[arg(long, value_name = "N", default_value = "10000")]
    details: usize,
    /// Memory for balances and outcomes, and as much again for rows that are put in order, in MiB
    #[arg(long, value_name = "MIB", default_value = "2048")]
    memory_mib: usize,
    /// The data folder, whose lake is read; a server may be running on it
    #[arg(long, env = "OUTLAY_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Another lake's folder
    #[arg(long, value_name = "DIR")]
    lake: Option<PathBuf>,
}

fn read(path: &Path) -> Result<Arc<BudgetSet>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Arc::new(BudgetSet::from_yaml(&text).with_context(|| path.display().to_string())?))
}

/// Simulates.
pub fn simulate(options: SimulateOptions) -> Result<ExitCode> {
    let to = options.to.unwrap_or_else(|| chrono::Utc::now().into());
    if options.from >= to {
        bail!("--from {} is not before --to {to}", options.from);
    }
    let settings =
        Settings { from: options.from, to, count_refused: options.count_refused, details_max: options.details };
    let (new, present) = (read(&options.budgets)?, options.compare.as_deref().map(read).transpose()?);
    let folder = options.lake.unwrap_or_else(|| options.data.join("lake"));
    let view = runtime()?.block_on(async {
        let lake = Lake::open_existing(&folder.display().to_string()).await.context("cannot open the lake")?;
        let task =
            Task { files: lake.files(), tail: Vec::new(), new, present, settings, memory_mib: options.memory_mib };
        let mut progress = RowsDone::new("simulating", task.rows());
        let view = task.run(|rows| progress.inc(rows)).await;
        progress.finish();
        view.map_err(anyhow::Error::from)
    })?;
    let mut out = std::io::stdout().lock();
    match options.format {
        Format::Table => write!(out, "{}", show::tables(&view))?,
        Format::Json => writeln!(out, "{:#}", serde_json::to_value(&view)?)?,
        Format::Csv => show::csv(&view, out)?,
    }
    Ok(ExitCode::SUCCESS)
}
