//! `outlay check`: fails a pipeline where a budget is passed.
//!
//! Exit codes: 0 within, 1 over, 2 where it cannot be told.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use http_api::{BalanceRow, StandingView};
use usage_lake::Lake;
use usage_types::{BudgetSet, Dimension, Pico, Ppm, Scope, TimeUs};

use super::serve::runtime;
use crate::client::{Server, ServerOptions};
use crate::standing::{Task, Windows, answer, check_scope};

/// How long the server may take to count what its log holds and to read the histories of its budgets.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);
/// Memory for reading a lake's folder, in MiB.
const MEMORY_MIB: usize = 2048;
/// The exit code where it cannot be told.
const UNKNOWN: u8 = 2;

/// How the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Text,
    /// An object with `passed` and a row for each limit
    Json,
    /// JUnit's XML, a test case for each limit
    Junit,
}

/// Options of `outlay check`.
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// The budget's id
    #[arg(long, value_name = "ID")]
    budget: String,
    /// Only balances with this value of a dimension, like `namespace=research`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = dimension)]
    scope: Vec<(Dimension, String)>,
    /// Only this CI run or batch job: the same as `--scope job=ID`
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// YYYY, YYYY-MM or YYYY-MM-DD in the budget's time zone: all its calendar windows that begin in it [default: what counts now]
    #[arg(long)]
    period: Option<String>,
    /// Fail where more than this share of a limit is used, like `80%`
    #[arg(long, value_name = "SHARE", default_value = "100%", value_parser = share)]
    fail_over: Ppm,
    /// Fail with exit code 2 where nothing was used: then the usage was not reported, or the names are wrong
    #[arg(long)]
    require_usage: bool,
    /// How to print the answer
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
    /// Ask no server: take the budget from this file and usage from the lake in the data folder
    #[arg(long, value_name = "FILE")]
    budgets: Option<PathBuf>,
    /// With --budgets, another lake's folder
    #[arg(long, value_name = "DIR", requires = "budgets")]
    lake: Option<PathBuf>,
    #[command(flatten)]
    server: ServerOptions,
}

/// `NAME=VALUE`.
fn dimension(text: &str) -> Result<(Dimension, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    Ok((name.parse()?, value.to_owned()))
}

/// `80%`, or 0.8.
fn share(text: &str) -> Result<Ppm, String> {
    let refuse = || format!("`{text}` is no share of a limit from 0% to 1000%; write it like 80%");
    let (number, per_ppm) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), Pico::ONE.0 / 10_000),
        None => (text, Pico::ONE.0 / i128::from(Ppm::ONE.0)),
    };
    let number: Pico = number.parse().map_err(|_| refuse())?;
    let ppm = u32::try_from(number.0 / per_ppm).ok().filter(|ppm| *ppm <= 10 * Ppm::ONE.0);
    ppm.filter(|_| number.0 >= 0 && number.0 % per_ppm == 0).map(Ppm).ok_or_else(refuse)
}

/// Checks.
pub fn check(options: CheckOptions) -> Result<ExitCode> {
    Ok(run(options).unwrap_or_else(|error| {
        eprintln!("outlay: {error:#}");
        ExitCode::from(UNKNOWN)
    }))
}

/// A row, and whether it is over the share.
struct Judged {
    row: BalanceRow,
    is_over: bool,
}

fn run(options: CheckOptions) -> Result<ExitCode> {
    let mut values = options.scope.clone();
    if let Some(run) = &options.run {
        values.push((Dimension::Job, run.clone()));
    }
    let scope = Scope::new(values.iter().cloned());
    if scope.iter().count() != values.len() {
        bail!("a dimension is given twice; give each once");
    }
    let standing = match &options.budgets {
        Some(_) => from_lake(&options, &scope)?,
        None => from_server(&options, &scope)?,
    };
    let is_used = |row: &BalanceRow| row.used != "0";
    if options.require_usage && !standing.rows.iter().any(is_used) {
        bail!("the budget {} has no usage there: was it reported, and are the names right?", standing.budget);
    }
    let judge = |row: &BalanceRow| -> Result<Judged> {
        Ok(Judged { is_over: is_over(row, options.fail_over)?, row: row.clone() })
    };
    let judged: Vec<Judged> = standing.rows.iter().map(judge).collect::<Result<_>>()?;
    // What is left out is less full than what is shown.
    let passed = !judged.iter().any(|judged| judged.is_over);
    let out = std::io::stdout().lock();
    match options.format {
        Format::Text => show::text(&standing, &judged, options.fail_over, out)?,
        Format::Json => show::json(&standing, &judged, options.fail_over, passed, out)?,
        Format::Junit => show::junit(&standing, &judged, options.fail_over, out)?,
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether more than a share is used, exactly: amounts are decimals of one unit.
fn is_over(row: &BalanceRow, share: Ppm) -> Result<bool> {
    let amount = |text: &str| text.parse::<Pico>().with_context(|| format!("`{text}` is no amount"));
    let (used, limit) = (amount(&row.used)?.0, amount(row.limit.as_deref().unwrap_or_default())?.0);
    Ok(match (used.checked_mul(i128::from(Ppm::ONE.0)), limit.checked_mul(i128::from(share.0))) {
        (Some(used), Some(share)) => used > share,
        _ => used > limit,
    })
}

fn from_server(options: &CheckOptions, scope: &Scope) -> Result<StandingView> {
    let server = Server::new(&options.server)?;
    let deadline = Instant::now() + CATCH_UP;
    counted(&server, deadline)?;
    let mut params = vec![("budget", options.budget.as_str())];
    params.extend(scope.iter().map(|(dimension, value)| (dimension.name(), value)));
    params.extend(options.period.as_deref().map(|period| ("period", period)));
    let body = server.get_until("/v1/standing", &params, deadline)?;
    serde_json::from_slice(&body).context("the server's answer")
}

/// Waits until the server has counted what its log holds: the last events of a job are often a moment old.
fn counted(server: &Server, deadline: Instant) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Status {
        lag: Lag,
    }
    #[derive(serde::Deserialize)]
    struct Lag {
        consumer_events: u64,
    }
    loop {
        let status: Status = serde_json::from_slice(&server.get("/v1/status", &[])?).context("the server's status")?;
        match status.lag.consumer_events {
            0 => return Ok(()),
            behind if Instant::now() >= deadline => {
                bail!("the server is {behind} events behind its log; try again when it has caught up")
            }
            _ => std::thread::sleep(LOOK),
        }
    }
}

fn from_lake(options: &CheckOptions, scope: &Scope) -> Result<StandingView> {
    let path = options.budgets.clone().unwrap_or_default();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let set = BudgetSet::from_yaml(&text).with_context(|| path.display().to_string())?;
    let budget = set.budgets.get(options.budget.as_str());
    let budget =
        Arc::clone(budget.with_context(|| format!("there is no budget `{}` in {}", options.budget, path.display()))?);
    check_scope(&budget, scope).map_err(|(_, why)| anyhow::anyhow!(why))?;
    let now = TimeUs::from(chrono::Utc::now());
    let windows = Windows::of(&budget, options.period.as_deref(), now)?;
    let folder = options.lake.clone().unwrap_or_else(|| options.server.data.join("lake"));
    let rows = runtime()?.block_on(async {
        let lake = Lake::open_existing(&folder.display().to_string()).await.context("cannot open the lake")?;
        let (files, budget, scope) = (lake.files(), Arc::clone(&budget), scope.clone());
        let task = Task { files, tail: Vec::new(), budget, scope, windows, memory_mib: MEMORY_MIB };
        anyhow::Ok(task.rows().await?)
    })?;
    Ok(answer(&budget, scope, windows, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        let ppm = |text| share(text).map(|share| share.0).ok();
        assert_eq!(
            ["100%", "80 %", "0.8", "12.5%", "0%", "1000%", "10"].map(ppm),
            [Some(1_000_000), Some(800_000), Some(800_000), Some(125_000), Some(0), Some(10_000_000), Some(10_000_000)]
        );
        assert_eq!(["", "%", "-1%", "1001%", "80", "a%", "0.00001%"].map(ppm), [None; 7]);
    }
}
