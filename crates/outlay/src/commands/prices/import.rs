//! `outlay prices import`: another project's list as a price file, written only after its difference to the current one was shown.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::Utc;
use clap::Args;
use price_book::{Imported, PriceBook, SkipReason, canonical_provider, diff, import_litellm, write_yaml};

use super::{print_diff, read_book};
use crate::commands::confirm::confirm;
use crate::files::replace;

/// The largest list that is read: forty times what LiteLLM's takes today.
const BYTES_MAX: u64 = 64 << 20;

/// Options of `outlay prices import litellm`.
#[derive(Debug, Args)]
pub struct LitellmOptions {
    /// The file, or its address (https://…)
    #[arg(value_name = "PATH|URL")]
    from: String,
    /// The price file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The price file to compare with, whose adjustments and exchange rates are kept [default: the one to write where it is
    /// there, else the one that is shipped]
    #[arg(long, env = "OUTLAY_PRICES", value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Only this provider's prices; may be repeated
    #[arg(long, value_name = "NAME")]
    provider: Vec<String>,
    /// Write without asking
    #[arg(long)]
    yes: bool,
    /// Show every line of the difference; else the first of many
    #[arg(long)]
    full: bool,
}

/// Imports, shows what would change, and writes where that is wanted; whether it was written.
pub fn litellm(options: &LitellmOptions, out: &mut dyn Write, confirm: impl Fn(&Path) -> Result<bool>) -> Result<bool> {
    let today = Utc::now().date_naive().to_string();
    let text = fetch(&options.from)?;
    let mut imported =
        import_litellm(&text, &today).with_context(|| format!("{} is no price list of LiteLLM", options.from))?;
    if !options.provider.is_empty() {
        let wanted: Vec<&str> = options.provider.iter().map(|name| canonical_provider(name)).collect();
        imported.rules.retain(|rule| rule.providers.iter().any(|name| wanted.contains(&name.as_str())));
    }
    if imported.rules.is_empty() {
        bail!("{} has no price that could be imported", options.from);
    }
    let current = current(options)?;
    let comment = format!(
        "Prices imported from LiteLLM's list by `outlay prices import litellm` on {today}.\nFrom: {}\nRead there: {} \
         entries. What was left out:\n{}\nAdjustments and exchange rates are those of the price file that this one takes the place of.",
        options.from,
        imported.rules.len(),
        left_out(&imported)
    );
    let yaml = write_yaml(&comment, &imported.rules, Some(&current));
    // What is written must be readable, and nothing in it may have an equal right.
    let new = PriceBook::from_yaml(&yaml).context("the imported prices make no price book; please report this")?;
    print_diff(&diff(&current, &new), options.full, out)?;
    writeln!(out, "{} entries imported; left out:\n{}", imported.rules.len(), left_out(&imported))?;
    out.flush()?;
    if !options.yes && !confirm(&options.out)? {
        writeln!(out, "{} was not written", options.out.display())?;
        return Ok(false);
    }
    replace(&options.out, &yaml)?;
    writeln!(out, "wrote {}; `outlay serve --prices` reads it when it starts", options.out.display())?;
    Ok(true)
}

/// Asks whoever sits at the terminal; without one the answer is no.
pub fn on_terminal(path: &Path) -> Result<bool> {
    let path = path.display();
    confirm(&format!("Write {path}?"), &format!("give --yes to write {path}"))
}

fn fetch(from: &str) -> Result<String> {
    let mut text = String::new();
    let mut limited: Box<dyn Read> = if from.starts_with("https://") || from.starts_with("http://") {
        let client = reqwest::blocking::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(120))
            .build()?;
        let answer = client.get(from).send().and_then(reqwest::blocking::Response::error_for_status);
        Box::new(answer.with_context(|| format!("cannot fetch {from}"))?.take(BYTES_MAX + 1))
    } else {
        let file = std::fs::File::open(from).with_context(|| format!("cannot read {from}"))?;
        Box::new(file.take(BYTES_MAX + 1))
    };
    limited.read_to_string(&mut text).with_context(|| format!("cannot read {from}"))?;
    if text.len() as u64 > BYTES_MAX {
        bail!("{from} has more than {} MiB; that is no price list", BYTES_MAX >> 20);
    }
    Ok(text)
}

fn current(options: &LitellmOptions) -> Result<Arc<PriceBook>> {
    match &options.prices {
        Some(path) => read_book(path).map(Arc::new),
        None if options.out.exists() => read_book(&options.out).map(Arc::new),
        None => Ok(PriceBook::shipped()),
    }
}

/// How many entries and prices were left out, by reason.
fn left_out(imported: &Imported) -> String {
    let mut counts: BTreeMap<SkipReason, (usize, usize)> = BTreeMap::new();
    for skipped in &imported.skipped {
        let (entries, prices) = counts.entry(skipped.reason).or_default();
        *(if skipped.field.is_none() { entries } else { prices }) += 1;
    }
    let line = |(reason, (entries, prices)): (&SkipReason, &(usize, usize))| match (entries, prices) {
        (0, prices) => format!("  {prices} single prices: {reason}"),
        (entries, 0) => format!("  {entries} entries: {reason}"),
        (entries, prices) => format!("  {entries} entries and {prices} single prices: {reason}"),
    };
    counts.iter().map(line).collect::<Vec<_>>().join("\n")
}
