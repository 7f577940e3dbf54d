//! `outlay reprice`: a window of the past by a changed price book, as adjustments that stay visible.
//!
//! Holds here: nothing is edited and nothing counted twice. The lake says what the window costs now, so before a run that publishes
//! everything that the log holds must be in it; the ids of adjustments are functions of the run's name and of what they adjust.

mod plan;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use event_log::{EventReader, LogConfig, Position, Publisher, topics};
use price_book::{PriceBook, Pricer};
use usage_intake::encode;
use usage_lake::{Lake, LakeFiles};
use usage_types::{Pico, TimeUs, canonical_key};

use super::prices::{BookOptions, time};
use super::progress::RowsDone;
use super::publishing::{KafkaOptions, publish};
use super::serve::runtime;
use super::text_table::{Align, text_table};
use crate::client::log_at;
use plan::{Costs, Model, RUN_PREFIX, SLOT_US, Totals, Window};

/// How long the server may take to commit what the log holds.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(250);
/// How long the last acknowledgements may take.
const FLUSH: Duration = Duration::from_secs(60);
/// Models that are named one by one.
const MODELS_SHOWN: usize = 20;

/// Options of `outlay reprice`.
#[derive(Debug, Args)]
pub struct RepriceOptions {
    /// From then on: a date (in UTC) or an RFC 3339 time, at a full quarter of an hour
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: TimeUs,
    /// Until before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: TimeUs,
    #[command(flatten)]
    book: BookOptions,
    /// Only this namespace; may be repeated
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,
    /// A name for the run, kept with its adjustments: `reprice-NAME`. The same run again adds only what is missing
    #[arg(long, value_name = "NAME", required_unless_present = "dry_run", value_parser = run_name)]
    run: Option<String>,
    /// Publish nothing: show what would change
    #[arg(long)]
    dry_run: bool,
    /// The data folder, whose lake is read; a server may be running on it
    #[arg(long, env = "OUTLAY_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Another lake's folder
    #[arg(long, value_name = "DIR")]
    lake: Option<PathBuf>,
    #[command(flatten)]
    kafka: KafkaOptions,
}

/// The name with its prefix.
fn run_name(name: &str) -> Result<String, String> {
    let rest = name.strip_prefix(RUN_PREFIX).unwrap_or(name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if rest.is_empty() || rest.len() > 100 || !rest.bytes().all(is_plain) {
        return Err("use letters, digits, `.`, `-` and `_`, like 2026-11-price-cut".to_owned());
    }
    Ok(format!("{RUN_PREFIX}{rest}"))
}

impl RepriceOptions {
    fn window(&self) -> Result<Window> {
        for (flag, time) in [("--from", self.from), ("--to", self.to)] {
            if time.0.rem_euclid(SLOT_US) != 0 {
                bail!(
                    "{flag} {time}: usage is repriced by the quarter of an hour; give a time at :00, :15, :30 or :45"
                );
            }
        }
        if self.from >= self.to {
            bail!("--from {} is not before --to {}", self.from, self.to);
        }
        let run = self.run.clone().unwrap_or_default();
        Ok(Window { from: self.from, to: self.to, namespaces: self.namespace.clone(), run })
    }

    fn folder(&self) -> String {
        self.lake.clone().unwrap_or_else(|| self.data.join("lake")).display().to_string()
    }
}

/// Reprices. Exit code 1 where the book lacks a price, or the run has been there before with another outcome.
pub fn reprice(options: RepriceOptions) -> Result<ExitCode> {
    let window = options.window()?;
    let book = options.book.open()?;
    let runtime = runtime()?;
    let open = async || Lake::open_existing(&options.folder()).await.context("cannot open the lake");
    let mut out = std::io::stdout().lock();
    if options.dry_run {
        let lake = runtime.block_on(open())?;
        let totals = runtime.block_on(totals(&window, &lake.files(), &book))?;
        write!(out, "{}", shown(&totals))?;
        writeln!(out, "nothing was published (as of version {} of the lake)", lake.version())?;
        return Ok(if totals.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let config = options.kafka.config("outlay-reprice", log_at(&options.data))?;
    let files = runtime.block_on(async { committed(&config, open).await.map(|lake| lake.files()) })?;
    let totals = runtime.block_on(totals(&window, &files, &book))?;
    write!(out, "{}", shown(&totals))?;
    if !totals.lost.is_empty() {
        bail!(
            "nothing was published: the book has no price for usage that has a cost now; add one, or narrow the window"
        );
    }
    let publisher = Publisher::open(&config)?;
    let published = runtime.block_on(adjust(&window, &files, &book, &publisher))?;
    publisher
        .flush(FLUSH)
        .context("not every adjustment was acknowledged; run it again: those that were count once")?;
    writeln!(out, "{published} adjustments published to {} as {}", config.brokers, window.run)?;
    if totals.already > 0 {
        let count = totals.already;
        bail!(
            "{count} of them are of usage that this run had adjusted before and that has changed since: these count as duplicates. Run it \
             again under another name"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the lake once all that the log holds is in it.
async fn committed(config: &LogConfig, open: impl AsyncFn() -> Result<Lake>) -> Result<Lake> {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let lake = open().await?;
        let left = tokio::task::block_in_place(|| uncommitted(config, &lake, deadline))?;
        if left == 0 {
            return Ok(lake);
        }
        if Instant::now() >= deadline {
            bail!(
                "the log at {} holds events that are not in the lake; is `outlay serve` running on it?",
                config.brokers
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How many records of the log are behind the lake's offsets, where it is one at least: the rest is not counted.
fn uncommitted(config: &LogConfig, lake: &Lake, deadline: Instant) -> Result<usize> {
    let start = lake.offsets().into_iter().map(|(partition, offset)| Position { partition, offset });
    let mut reader = EventReader::open(config, topics::USAGE_EVENTS, &start.collect::<Vec<_>>())?;
    let mut open: BTreeSet<i32> = (0..reader.partitions()).collect();
    while !open.is_empty() {
        let read = reader.poll_batch(1, LOOK)?.len();
        if read > 0 {
            return Ok(read);
        }
        for end in reader.ends() {
            open.remove(&end.partition);
        }
        if Instant::now() >= deadline {
            bail!("the log at {} does not say where it ends", config.brokers);
        }
    }
    Ok(0)
}

async fn totals(window: &Window, files: &LakeFiles, book: &std::sync::Arc<PriceBook>) -> Result<Totals> {
    let (mut totals, mut pricer) = (Totals::default(), Pricer::new(book.clone()));
    let dates = files.dates(window.from, window.to);
    let mut progress = RowsDone::new("looking", dates.values().sum());
    for (date, rows) in &dates {
        let day = window.day(files, date, &mut pricer, &mut totals).await?;
        day.total(&mut totals);
        progress.inc(*rows);
    }
    totals.lost.retain(|_, (rows, _)| *rows != 0);
    totals.unpriced.retain(|_, rows| *rows != 0);
    progress.finish();
    Ok(totals)
}

/// Publishes the adjustments, date by date; how many.
async fn adjust(
    window: &Window,
    files: &LakeFiles,
    book: &std::sync::Arc<PriceBook>,
    publisher: &Publisher,
) -> Result<u64> {
    let (mut totals, mut pricer, mut published) = (Totals::default(), Pricer::new(book.clone()), 0);
    let dates = files.dates(window.from, window.to);
    let mut progress = RowsDone::new("publishing", dates.values().sum());
    for (date, rows) in &dates {
        let day = window.day(files, date, &mut pricer, &mut totals).await?;
        for event in day.adjustments(&window.run) {
            tokio::task::block_in_place(|| publish(publisher, canonical_key(&event).as_bytes(), &encode(&event)))?;
            published += 1;
        }
        progress.inc(*rows);
    }
    progress.finish();
    Ok(published)
}

/// The totals for people.
fn shown(totals: &Totals) -> String {
    let header = ["namespace", "model", "now", "new", "difference", "currency"].map(str::to_owned);
    let mut lines = vec![header.to_vec()];
    let mut sums: std::collections::BTreeMap<_, Costs> = std::collections::BTreeMap::new();
    let line = |namespace: &str, model: &str, costs: Costs, currency: String| {
        let [now, new, difference] = [costs.now, costs.new, costs.difference()].map(|amount| Pico(amount).to_string());
        vec![namespace.to_owned(), model.to_owned(), now, new, difference, currency]
    };
    for ((namespace, model, currency), costs) in &totals.by_model {
        let sum = sums.entry(*currency).or_default();
        (sum.now, sum.new) = (sum.now + costs.now, sum.new + costs.new);
        lines.push(line(namespace, model, *costs, currency.to_string()));
    }
    for (currency, sum) in sums {
        lines.push(line("all", "", sum, currency.to_string()));
    }
    let right = Align::Right;
    let mut text = text_table(&lines, &[Align::Left, Align::Left, right, right, right, Align::Left]);
    text += &format!(
        "{} rows priced by the book, {} with a cost of their own left alone: {} adjustments\n",
        totals.rows, totals.own_cost, totals.adjustments
    );
    let models = |title: &str, models: Vec<(&Model, String)>| {
        let more = models.len().saturating_sub(MODELS_SHOWN);
        let named = models.into_iter().take(MODELS_SHOWN).map(|((provider, model), rest)| {
            let name = if provider.is_empty() { model.clone() } else { format!("{provider} {model}") };
            format!("{title} {}: {rest}\n", if name.is_empty() { "(no model)" } else { &name })
        });
        let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
        named.collect::<String>() + &more
    };
    let reason = |reason: &Option<_>| reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let lost = totals.lost.iter().map(|(model, (rows, why))| (model, format!("{rows} rows{}", reason(why))));
    text += &models("LOSES ITS PRICE", lost.collect());
    let unpriced = totals.unpriced.iter().map(|(model, rows)| (model, format!("{rows} rows")));
    text += &models("still without a price", unpriced.collect());
    text
}
