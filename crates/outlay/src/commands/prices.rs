//! `outlay prices`: which price a model has and why, what a price file says, and what changes when another takes its place.

mod import;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failing helper fails its test")]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use chrono::{NaiveDate, NaiveTime, Utc};
use clap::{Args, Subcommand};
use price_book::{BookDiff, PriceBook, PriceClass, PriceRow, UnpricedReason, canonical_provider, diff};
use usage_types::{Dimension, Dimensions, TimeUs};

use import::LitellmOptions;

/// The lines of a diff that are shown unless all are asked for.
const DIFF_LINES_SHOWN: usize = 60;

/// Options of `outlay prices`.
#[derive(Debug, Args)]
pub struct PricesOptions {
    #[command(subcommand)]
    command: PricesCommand,
}

#[derive(Debug, Subcommand)]
enum PricesCommand {
    /// Show which price a model has, and why
    Explain(ExplainOptions),
    /// List the prices of a file
    List(ListOptions),
    /// Show what changes from one price file to another
    Diff(DiffOptions),
    /// Check a price file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Make a price file of another project's list
    #[command(subcommand)]
    Import(ImportCommand),
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Import LiteLLM's `model_prices_and_context_window.json`
    Litellm(LitellmOptions),
}

/// Which price book.
#[derive(Debug, Args)]
pub(super) struct BookOptions {
    /// Price book (YAML) instead of the one that is shipped
    #[arg(long, env = "OUTLAY_PRICES", value_name = "FILE")]
    prices: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ExplainOptions {
    /// The model, as events name it
    model: String,
    /// Who serves it
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// When: a date or an RFC 3339 time [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<TimeUs>,
    /// The namespace, for discounts and markups
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The service tier, like `batch`, `flex` or `priority` [default: standard]
    #[arg(long, value_name = "NAME")]
    service_tier: Option<String>,
    /// The length of the prompt in tokens, cached or not
    #[arg(long, value_name = "N", default_value_t = 0)]
    input_tokens: u64,
    /// Any other dimension that a discount or markup is for, like `team=helpdesk`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = dimension)]
    dimension: Vec<(Dimension, String)>,
    #[command(flatten)]
    book: BookOptions,
}

#[derive(Debug, Args)]
struct ListOptions {
    /// Only models whose name, or another name, contains this
    model: Option<String>,
    /// Only this provider's
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    #[command(flatten)]
    book: BookOptions,
}

#[derive(Debug, Args)]
struct DiffOptions {
    /// The price file in use; `shipped` for the one that comes with Outlay
    old: PathBuf,
    /// The one to take its place
    new: PathBuf,
    /// Every line; else the first of many
    #[arg(long, conflicts_with = "json")]
    full: bool,
    /// As one JSON object, complete
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands. Exit code 1 where a model has no price, a file is no price book, or an import was not written.
pub fn prices(options: PricesOptions) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let done = match options.command {
        PricesCommand::Explain(options) => explain(&options, &mut out)?,
        PricesCommand::List(options) => list(&options, &mut out)?,
        PricesCommand::Diff(options) => show_diff(&options, &mut out)?,
        PricesCommand::Check { file } => check(&file, &mut out)?,
        PricesCommand::Import(ImportCommand::Litellm(options)) => {
            import::litellm(&options, &mut out, import::on_terminal)?
        }
    };
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A date (its beginning in UTC) or an RFC 3339 time.
pub(super) fn time(text: &str) -> Result<TimeUs, String> {
    let date =
        || NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|date| date.and_time(NaiveTime::MIN).and_utc().into());
    TimeUs::parse_rfc3339(text)
        .or_else(|_| date())
        .map_err(|_| "write a date like 2026-11-21 or a time like 2026-11-21T10:00:00Z".to_owned())
}

fn dimension(text: &str) -> Result<(Dimension, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.parse()?, value.to_owned()))
}

fn read_book(path: &Path) -> Result<PriceBook> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    PriceBook::from_yaml(&text).with_context(|| format!("in {}", path.display()))
}

impl BookOptions {
    pub(super) fn open(&self) -> Result<Arc<PriceBook>> {
        self.prices.as_deref().map_or_else(|| Ok(PriceBook::shipped()), |path| read_book(path).map(Arc::new))
    }
}

fn explain(options: &ExplainOptions, out: &mut dyn Write) -> Result<bool> {
    let book = options.book.open()?;
    let mut dimensions = Dimensions::default();
    for (dimension, value) in &options.dimension {
        dimensions.set(*dimension, Some(Cow::Borrowed(value)));
    }
    dimensions.set(Dimension::Model, Some(Cow::Borrowed(&options.model)));
    for (dimension, value) in [
        (Dimension::Provider, &options.provider),
        (Dimension::Namespace, &options.namespace),
        (Dimension::ServiceTier, &options.service_tier),
    ] {
        if let Some(value) = value {
            dimensions.set(dimension, Some(Cow::Borrowed(value)));
        }
    }
    let at = options.at.unwrap_or_else(|| Utc::now().into());
    writeln!(out, "{} at {at}", options.model)?;
    match book.explain_request(&dimensions, options.input_tokens, at) {
        Ok(found) => {
            for step in found.steps() {
                writeln!(out, "  {step}")?;
            }
            for price in found.prices() {
                let class = price.class.name();
                let listed = format!("{} {}", price.listed, price.currency);
                let charged = format!("{} {}", price.charged, price.charged_currency);
                let unit = unit(price.class);
                if listed == charged {
                    writeln!(out, "  {class:<15} {listed} {unit}")?;
                } else {
                    writeln!(out, "  {class:<15} {listed} {unit} → {charged}")?;
                }
            }
            Ok(true)
        }
        Err(reason) => {
            unpriced(&book, &options.model, reason, out)?;
            Ok(false)
        }
    }
}

const fn unit(class: PriceClass) -> &'static str {
    match class {
        PriceClass::Tokens(_) => "per million tokens",
        PriceClass::Request => "per request",
        PriceClass::ToolCall => "per tool call",
        PriceClass::Image => "per image",
        PriceClass::ComputeSecond => "per second",
    }
}

fn unpriced(book: &PriceBook, model: &str, reason: UnpricedReason, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "  unpriced ({}): {reason}", reason.code())?;
    let mut candidates = book.candidates(model).peekable();
    if candidates.peek().is_some() {
        writeln!(out, "  entries that match the name:")?;
    }
    for (rule, kind) in candidates {
        let providers = if rule.providers.is_empty() { "any provider".to_owned() } else { rule.providers.join(", ") };
        let tiers: Vec<&str> = rule.cards().map(|(name, _)| name).collect();
        let from = rule.from.map(|from| format!(", from {from}")).unwrap_or_default();
        let to = rule.to.map(|to| format!(", until {to}")).unwrap_or_default();
        let (line, name, kind, tiers) = (rule.line, &rule.model, kind.name(), tiers.join(", "));
        writeln!(out, "    line {line}: `{name}` of {providers} ({kind}){from}{to}; service tiers: {tiers}")?;
    }
    Ok(())
}

fn list(options: &ListOptions, out: &mut dyn Write) -> Result<bool> {
    let book = options.book.open()?;
    let provider = options.provider.as_deref().map(canonical_provider);
    let wanted = |row: &PriceRow<'_>| {
        let named = |text: &String| row.model.contains(text) || row.aliases.iter().any(|alias| alias.contains(text));
        options.model.as_ref().is_none_or(named)
            && (provider.is_none() || row.provider.is_none() || row.provider == provider)
    };
    let mut rows = book.rows().filter(wanted).peekable();
    while let Some(first) = rows.next() {
        let mut prices = format!("{} {}", first.class.name(), first.price);
        while let Some(next) = rows.next_if(|next| same_band(&first, next)) {
            prices.push_str(&format!(", {} {}", next.class.name(), next.price));
        }
        let PriceRow { model, service_tier, above_input_tokens, currency, from, to, .. } = first;
        let provider = first.provider.unwrap_or("any");
        let above = if above_input_tokens > 0 { format!(" above {above_input_tokens}") } else { String::new() };
        let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
        let to = to.map(|to| format!(" until {to}")).unwrap_or_default();
        writeln!(out, "{provider:<16} {model:<32} {service_tier}{above}{from}{to}: {prices} {currency}")?;
    }
    Ok(true)
}

/// Whether two rows differ in their class only, and so stand in one line.
fn same_band(a: &PriceRow<'_>, b: &PriceRow<'_>) -> bool {
    let band = |row: &PriceRow<'_>| (row.from, row.to, row.above_input_tokens, row.currency);
    (a.provider, a.model, a.service_tier) == (b.provider, b.model, b.service_tier)
        && band(a) == band(b)
        && !(b.class == PriceClass::Tokens(usage_types::TokenClass::Input))
}

fn show_diff(options: &DiffOptions, out: &mut dyn Write) -> Result<bool> {
    let open = |path: &Path| {
        if path.as_os_str() == "shipped" { Ok(PriceBook::shipped()) } else { read_book(path).map(Arc::new) }
    };
    let changes = diff(&*open(&options.old)?, &*open(&options.new)?);
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &changes)?;
        writeln!(out)?;
    } else {
        print_diff(&changes, options.full, out)?;
    }
    Ok(true)
}

fn print_diff(changes: &BookDiff, full: bool, out: &mut dyn Write) -> Result<()> {
    let lines = changes.lines();
    let shown = if full { lines.len() } else { lines.len().min(DIFF_LINES_SHOWN) };
    for line in &lines[..shown] {
        writeln!(out, "{line}")?;
    }
    if shown < lines.len() {
        writeln!(out, "… and {} lines more (--full shows them)", lines.len() - shown)?;
    }
    writeln!(out, "{changes}")?;
    Ok(())
}

fn check(file: &Path, out: &mut dyn Write) -> Result<bool> {
    let book = read_book(file)?;
    let providers: BTreeSet<&str> = book.rows().filter_map(|row| row.provider).collect();
    writeln!(
        out,
        "{}: {} entries with {} prices of {} providers, {} adjustments, {} exchange rates; no two with an equal right",
        file.display(),
        book.rules().len(),
        book.rows().count(),
        providers.len(),
        book.adjustments().len(),
        book.exchange_rates().len()
    )?;
    let now: TimeUs = Utc::now().into();
    let mut without_rate: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in book.rules().iter().filter(|rule| rule.is_effective(now)) {
        let currency = &rule.standard.rates.currency;
        let in_force = book
            .exchange_rates()
            .iter()
            .any(|rate| rate.from_currency == *currency && rate.from <= now && rate.to.is_none_or(|to| now < to));
        if book.settle_in().is_some_and(|books| books != *currency) && !in_force {
            *without_rate.entry(currency.as_str()).or_default() += 1;
        }
    }
    for (currency, entries) in without_rate {
        writeln!(out, "warning: no exchange rate for {currency} is in force now; {entries} entries price nothing")?;
    }
    Ok(true)
}
