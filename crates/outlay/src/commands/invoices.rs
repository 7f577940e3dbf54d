//! `outlay invoices`: what providers ask for, to compare with what was metered.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use http_api::InvoiceView;
use provider_invoice::{Export, Invoice, Line, Month, read_export};
use reqwest::Url;
use serde_json::json;
use usage_types::{Currency, Pico};

use super::stated::stated;
use super::text_table::{Align, text_table};
use crate::client::{Server, ServerOptions};

const PATH: &str = "/v1/invoices";

/// Options of `outlay invoices`.
#[derive(Debug, Args)]
pub struct InvoicesOptions {
    #[command(subcommand)]
    command: InvoicesCommand,
}

#[derive(Debug, Subcommand)]
enum InvoicesCommand {
    /// Import an invoice: its total, the provider's exports of costs and usage, or both
    Import(ImportOptions),
    /// List the invoices
    List(ListOptions),
    /// Forget an invoice
    Remove(RemoveOptions),
}

#[derive(Debug, Args)]
struct ImportOptions {
    /// Exports of costs or usage: OpenAI's or Anthropic's as JSON or CSV, or any CSV with a day and a cost or tokens
    files: Vec<PathBuf>,
    #[command(flatten)]
    identity: Identity,
    /// The month that it is of, like 2026-10, in UTC
    #[arg(long, value_name = "YYYY-MM")]
    month: Month,
    /// What is owed, like 1234.56 [default: the sum of the exports' costs]
    #[arg(long, required_unless_present = "files", allow_negative_numbers = true, value_name = "AMOUNT")]
    total: Option<Pico>,
    /// The currency of all costs [default: that of the exports, else USD]
    #[arg(long, value_name = "CODE")]
    currency: Option<Currency>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct ListOptions {
    /// Answer as a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Args)]
struct RemoveOptions {
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Identity {
    /// The provider, as events name it, like openai
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// The invoice's number
    #[arg(long, value_name = "NUMBER")]
    number: String,
}

#[derive(Debug, Args)]
struct Common {
    /// Who, for the audit log [default: the user who runs this]
    #[arg(long, env = "OUTLAY_ACTOR", value_name = "NAME")]
    actor: Option<String>,
    /// Why, likewise
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    server: ServerOptions,
}

/// Runs one of the commands.
pub fn invoices(options: InvoicesOptions) -> Result<ExitCode> {
    let out = &mut std::io::stdout().lock();
    match options.command {
        InvoicesCommand::Import(options) => import(options, out)?,
        InvoicesCommand::List(options) => list(&options, out)?,
        InvoicesCommand::Remove(options) => remove(&options, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn import(options: ImportOptions, out: &mut dyn Write) -> Result<()> {
    let (lines, currency) = exports(&options.files, options.currency)?;
    let Identity { provider, number } = &options.identity;
    // Checked here, too: what is wrong is said with its place before anything is sent.
    let invoice = Invoice::new(provider, number, options.month, currency, options.total, lines)?;
    let body = json!({ "month": invoice.month, "currency": invoice.currency, "lines": invoice.lines });
    let stated = stated(options.common.actor, options.common.reason);
    let headers: Vec<(&str, &str)> = stated.iter().map(|(name, words)| (*name, words.as_str())).collect();
    let path = path(&options.identity)?;
    let answer = Server::new(&options.common.server)?.put_text(&path, &body.to_string(), &headers)?;
    let kept: InvoiceView =
        serde_json::from_slice(&answer).context("the server's answer is no invoice; is it an older version?")?;
    let InvoiceView { provider, number, month, total, currency, line_count, .. } = kept;
    writeln!(out, "{provider} {number} of {month}: {total} {currency} in {line_count} lines")?;
    writeln!(out, "compare it: outlay report reconciliation --period {month}")?;
    Ok(())
}

/// The lines of all files, and their currency.
fn exports(files: &[PathBuf], stated: Option<Currency>) -> Result<(Vec<Line>, Currency)> {
    let (mut lines, mut named) = (Vec::new(), stated);
    for path in files {
        let Export { lines: more, currency } = export(path)?;
        if let (Some(one), Some(other)) = (named, currency)
            && one != other
        {
            bail!("{} is in {other}, and not in {one}; import each currency as an invoice of its own", path.display());
        }
        named = named.or(currency);
        lines.extend(more);
    }
    Ok((lines, named.unwrap_or(Currency::USD)))
}

fn export(path: &Path) -> Result<Export> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    read_export(&text).with_context(|| format!("cannot read {}", path.display()))
}

fn list(options: &ListOptions, out: &mut dyn Write) -> Result<()> {
    let body = Server::new(&options.server)?.get(PATH, &[])?;
    if options.json {
        writeln!(out, "{}", String::from_utf8(body)?)?;
        return Ok(());
    }
    let invoices: Vec<InvoiceView> = serde_json::from_slice(&body).context("the server's answer is no list")?;
    if invoices.is_empty() {
        writeln!(out, "there are none; outlay invoices import --help says how to import one")?;
    }
    let header = ["MONTH", "PROVIDER", "NUMBER", "TOTAL", "", "LINES", "IMPORTED"].map(str::to_owned);
    let line = |view: &InvoiceView| {
        let by = view.imported.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
        vec![
            view.month.clone(),
            view.provider.clone(),
            view.number.clone(),
            view.total.clone(),
            view.currency.clone(),
            view.line_count.to_string(),
            format!("{}{by}", view.imported.at),
        ]
    };
    let lines: Vec<Vec<String>> = std::iter::once(header.into()).chain(invoices.iter().map(line)).collect();
    use Align::{Left, Right};
    write!(out, "{}", text_table(&lines, &[Left, Left, Left, Right, Left, Right, Left]))?;
    Ok(())
}

fn remove(options: &RemoveOptions, out: &mut dyn Write) -> Result<()> {
    let stated = stated(options.common.actor.clone(), options.common.reason.clone());
    let headers: Vec<(&str, &str)> = stated.iter().map(|(name, words)| (*name, words.as_str())).collect();
    Server::new(&options.common.server)?.delete(&path(&options.identity)?, &headers)?;
    writeln!(out, "forgotten; the audit log has it")?;
    Ok(())
}

/// The invoice's path, with its names encoded.
fn path(identity: &Identity) -> Result<String> {
    let mut url = Url::parse("http://outlay").context("no URL")?;
    let segments = ["v1", "invoices", &identity.provider, &identity.number];
    url.path_segments_mut().map_err(|()| anyhow::anyhow!("no path"))?.extend(segments);
    Ok(url.path().to_owned())
}
