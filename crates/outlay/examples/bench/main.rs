//! The figures of the README, against a real broker: what a CPU-second counts, how long a decision takes. `scripts/bench.sh` runs it.
//!
//! Each figure stands beside a floor taken on the same machine, broker and topic, one run after the other:
//! - events per CPU-second of the whole `outlay serve` (start included) beside loops that only read the same topic, or read and decode it;
//! - time from publishing an event to another client seeing the decision, beside the bare time from producer to consumer.
//!
//! Deliberately absent: starting a broker, building, figures of memory (see the script), and any comparison with an earlier run.
#![allow(clippy::print_stdout, reason = "printing its figures is what it is for")]

mod events;
mod latency;
mod process;
mod rates;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use event_log::{LogConfig, ensure_topics, topics};

use process::{Spent, load_average};
use rates::Loop;
use server::Server;

/// Partitions of `usage.events`.
const PARTITIONS: i32 = 6;
/// How long everything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures Outlay against a broker that holds none of its topics yet.
#[derive(Debug, Parser)]
struct Options {
    /// Bootstrap servers of a broker of its own
    #[arg(long)]
    kafka: String,
    /// The program to measure
    #[arg(long, default_value = "target/release/outlay")]
    outlay: PathBuf,
    /// An empty folder for its data
    #[arg(long)]
    data: PathBuf,
    /// Events that are counted
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Decisions that are waited for
    #[arg(long, default_value_t = 1_000)]
    probes: usize,
    /// Events per second beside them
    #[arg(long, default_value_t = 1_000)]
    background: u64,
    /// Runs one loop on the events of the topic and prints what it took: how this program calls itself
    #[arg(long, hide = true)]
    only: Option<Loop>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(which) = options.only {
        return rates::run(which, &options.kafka, options.events);
    }
    prepare_topics(&options.kafka)?;
    let start_up = start_up(&options)?;
    let bytes = events::fill(&options.kafka, options.events)?;
    eprintln!("published {} events of {bytes} bytes, load {}", options.events, load_average());

    let loops = [Loop::Poll, Loop::Decode, Loop::Batch].map(|which| rates::in_child(which, &options));
    let [poll, decode, batch] = loops;
    let (poll, decode, batch) = (poll?, decode?, batch?);
    let (server, whole) = count_all(&options)?;
    let peak_mib = server.peak_mib()?;
    server.stop()?;
    print_rates(
        &options,
        bytes,
        &[
            ("bare rdkafka loop that only reads (`BaseConsumer::poll`)", poll),
            ("the same loop that also decodes each event", decode),
            ("Outlay's own reader that only reads", batch),
            ("**`outlay serve`, all of it**", whole),
        ],
    );
    println!(
        "\nThe start is included: {:.2} CPU-seconds on an empty topic. Most memory while counting: {peak_mib} MiB.\n",
        start_up.cpu.as_secs_f64()
    );

    let again = Instant::now();
    let server = Server::start(&options, "counted", &events::budgets(options.events))?;
    server.wait_until_ready(PATIENCE)?;
    eprintln!(
        "started again on {} rows in {:.1} s, load {}",
        options.events,
        again.elapsed().as_secs_f64(),
        load_average()
    );
    let latencies = latency::measure(&options.kafka, options.probes, options.background)?;
    latency::print(&latencies, options.background);
    server.stop()
}

fn prepare_topics(kafka: &str) -> Result<()> {
    let mut specs = topics::all(PARTITIONS);
    // One partition: a hop to compare with, in which nothing but the hop happens.
    specs.push(event_log::TopicSpec { name: latency::HOP_TOPIC.to_owned(), ..topics::all(1).remove(0) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reports = runtime.block_on(ensure_topics(&LogConfig::new(kafka, "bench"), &specs))?;
    ensure!(reports.iter().all(|report| report.created), "the broker holds topics of an earlier run; use a fresh one");
    Ok(())
}

/// What starting takes where there is nothing to count.
fn start_up(options: &Options) -> Result<Spent> {
    let begun = Instant::now();
    let server = Server::start(options, "empty", &events::budgets(options.events))?;
    server.wait_until_ready(PATIENCE)?;
    let spent = Spent { cpu: server.cpu()?, wall: begun.elapsed(), events: 0 };
    server.stop()?;
    Ok(spent)
}

/// From the start of the process to all events counted and committed.
fn count_all(options: &Options) -> Result<(Server, Spent)> {
    let begun = Instant::now();
    let server = Server::start(options, "counted", &events::budgets(options.events))?;
    server.wait_until_committed(options.events, PATIENCE)?;
    ensure!(
        server.metric("outlay_events_unpriced_total")? == 0,
        "some events have no price; the others cost more to count"
    );
    let spent = Spent { cpu: server.cpu()?, wall: begun.elapsed(), events: options.events };
    eprintln!("counted, load {}; CPU-seconds by thread: {}", load_average(), server.threads()?);
    Ok((server, spent))
}

fn print_rates(options: &Options, bytes: u64, rows: &[(&str, Spent)]) {
    println!("{} JSON events of {bytes} bytes over {PARTITIONS} partitions:\n", options.events);
    println!("| | events per CPU-second | µs CPU an event | of the bare loop | events/s on the clock |");
    println!("|---|--:|--:|--:|--:|");
    let floor = rows.first().map_or(f64::NAN, |(_, spent)| spent.per_cpu_second());
    for (name, spent) in rows {
        let rate = spent.per_cpu_second();
        println!(
            "| {name} | {rate:.0} | {:.2} | {:.2} | {:.0} |",
            1e6 / rate,
            rate / floor,
            spent.events as f64 / spent.wall.as_secs_f64()
        );
    }
}
