//! `outlay budgets`: check a budgets file, show what it would change on a server, and put it in force there.

mod import;
mod increases;
mod show;
mod yaml;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use http_api::{BudgetsPlan, BudgetsSource};
use serde_json::json;
use usage_types::{BudgetError, BudgetSet};

use super::confirm::confirm;
use crate::client::{Server, ServerOptions};
use crate::commands::stated::stated;

/// What `outlay budgets plan` exits with where there is something to change.
const CHANGES: u8 = 2;

/// Options of `outlay budgets`.
#[derive(Debug, Args)]
pub struct BudgetsOptions {
    #[command(subcommand)]
    command: BudgetsCommand,
}

#[derive(Debug, Subcommand)]
enum BudgetsCommand {
    /// Check a budgets file, without a server
    ///
    /// Exit code 0: it is right; 1: it is not.
    Validate(ValidateOptions),
    /// Show what a budgets file would change on a server, and what that would do at once
    ///
    /// Exit code 0: nothing would change; 2: something would; 1: it could not be told.
    Plan(PlanOptions),
    /// Put a budgets file in force on a server, after showing what it changes
    ///
    /// Exit code 0: it is in force; 1: it is not.
    Apply(ApplyOptions),
    /// Make a budgets file of another gateway's policy: quotas for each user and each project
    Import(import::ImportOptions),
    /// Print the budgets of a server as a budgets file
    Export(ExportOptions),
    /// Ask for higher limits of one scope of a budget, for a time
    Request(increases::AskOptions),
    /// Show who asked for higher limits, and what was answered
    Requests(increases::ListOptions),
    /// Grant a request, or less than it asks for
    Approve(increases::ApproveOptions),
    /// Refuse a request
    Deny(increases::DenyOptions),
    /// Take back a request, or end what is granted
    Withdraw(increases::WithdrawOptions),
}

#[derive(Debug, Args)]
struct ValidateOptions {
    /// The file
    file: PathBuf,
    /// Answer as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PlanOptions {
    /// The file
    file: PathBuf,
    /// Answer as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Args)]
struct ApplyOptions {
    /// The file
    file: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who, for the audit log [default: the user who runs this]
    #[arg(long, env = "OUTLAY_ACTOR", value_name = "NAME")]
    actor: Option<String>,
    /// Answer as one JSON object; does not ask, and so needs --yes
    #[arg(long, requires = "yes")]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Args)]
struct ExportOptions {
    #[command(flatten)]
    server: ServerOptions,
}

/// Runs one of the commands.
pub fn budgets(options: BudgetsOptions) -> Result<ExitCode> {
    let out = &mut std::io::stdout().lock();
    match options.command {
        BudgetsCommand::Validate(options) => return validate(&options, out),
        BudgetsCommand::Plan(options) => return plan(&options, out),
        BudgetsCommand::Apply(options) => return apply(&options, out),
        BudgetsCommand::Import(options) => import::import(&options, out)?,
        BudgetsCommand::Export(options) => export(&options, out)?,
        BudgetsCommand::Request(options) => increases::ask(&options, out)?,
        BudgetsCommand::Requests(options) => increases::list(&options, out)?,
        BudgetsCommand::Approve(options) => increases::approve(&options, out)?,
        BudgetsCommand::Deny(options) => increases::deny(&options, out)?,
        BudgetsCommand::Withdraw(options) => increases::withdraw(&options, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(options: &ValidateOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let text = read(&options.file)?;
    let checked = BudgetSet::from_yaml(&text);
    if options.json {
        let errors: Vec<_> = checked.as_ref().err().into_iter().map(error_json).collect();
        let budgets = checked.as_ref().map_or(0, |set| set.budgets.len());
        writeln!(out, "{}", json!({ "valid": errors.is_empty(), "budgets": budgets, "errors": errors }))?;
        return Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let set = checked.with_context(|| options.file.display().to_string())?;
    let breakers =
        if set.breakers.is_empty() { String::new() } else { format!(" and {} breakers", set.breakers.len()) };
    writeln!(out, "{}: {} budgets{breakers}, all right", options.file.display(), set.budgets.len())?;
    Ok(ExitCode::SUCCESS)
}

fn error_json(error: &BudgetError) -> serde_json::Value {
    json!({ "line": error.line, "column": error.column, "field": error.field, "message": error.message })
}

fn plan(options: &PlanOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let text = checked(&options.file)?;
    let server = Server::new(&options.server)?;
    let (plan, body) = planned(&server, &text)?;
    if options.json {
        writeln!(out, "{body}")?;
    } else {
        show::plan(&plan, server.url(), out)?;
    }
    Ok(if plan.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

fn apply(options: &ApplyOptions, out: &mut dyn Write) -> Result<ExitCode> {
    let text = checked(&options.file)?;
    let server = Server::new(&options.server)?;
    let (plan, body) = planned(&server, &text)?;
    if !options.json {
        show::plan(&plan, server.url(), out)?;
        out.flush()?;
    }
    if plan.source == BudgetsSource::File && !plan.changes.is_empty() {
        bail!(
            "this server follows the budgets file that it was started with: change that file, or start it without --budgets"
        );
    }
    if !plan.changes.is_empty() {
        if !options.yes && !confirm("Put this in force?", "give --yes to put it in force")? {
            writeln!(out, "nothing was changed")?;
            return Ok(ExitCode::FAILURE);
        }
        let stated = stated(options.actor.clone(), options.reason.clone());
        let mut headers = vec![("if-match", plan.etag.as_str())];
        headers.extend(stated.iter().map(|(name, words)| (*name, words.as_str())));
        server.put_text("/v1/budgets", &text, &headers)?;
    }
    if options.json {
        let plan: serde_json::Value = serde_json::from_str(&body)?;
        writeln!(out, "{}", json!({ "changed": !plan["changes"].as_array().is_none_or(Vec::is_empty), "plan": plan }))?;
    } else if !plan.changes.is_empty() {
        writeln!(out, "in force")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn export(options: &ExportOptions, out: &mut dyn Write) -> Result<()> {
    let server = Server::new(&options.server)?;
    let body = String::from_utf8(server.get("/v1/budgets", &[])?)?;
    let set = BudgetSet::from_canonical(&body).context("the server's answer is no set of budgets")?;
    let comment = format!("The budgets of {} at {}.", server.url(), chrono::Utc::now().format("%FT%TZ"));
    Ok(out.write_all(yaml::file(&comment, &set).as_bytes())?)
}

/// What the server says of a file, and that as its text.
fn planned(server: &Server, text: &str) -> Result<(BudgetsPlan, String)> {
    let body = String::from_utf8(server.post_text("/v1/budgets-plan", text)?)?;
    let plan = serde_json::from_str(&body).context("the server's answer is no plan; is it an older version?")?;
    Ok((plan, body))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A file that is right: what is wrong is said with the file's name, before any server is asked.
fn checked(path: &Path) -> Result<String> {
    let text = read(path)?;
    BudgetSet::from_yaml(&text).with_context(|| path.display().to_string())?;
    Ok(text)
}
