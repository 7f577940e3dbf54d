//! `outlay emit`: publishes events from a file or standard input, one JSON event a line, checked before they are sent.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use event_log::{LogConfig, LogError, Publisher, topics};
use indicatif::{ProgressBar, ProgressStyle};
use usage_intake::{Headers, Intake};

use crate::options::DEFAULT_LOG;

/// Options of `outlay emit`.
#[derive(Debug, Args)]
pub struct EmitOptions {
    /// File with one JSON event a line (native or CloudEvents); `-` for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Kafka bootstrap servers [default: the embedded log at 127.0.0.1:9092]
    #[arg(long, env = "OUTLAY_KAFKA", value_name = "HOST:PORT", default_value = DEFAULT_LOG)]
    kafka: String,
    /// Any librdkafka property, like `security.protocol=ssl`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    kafka_property: Vec<String>,
    /// Send lines that are no valid events too; they become dead letters
    #[arg(long)]
    unchecked: bool,
}

/// Publishes every good line; names every bad one. Exit code 1 where any was bad.
pub fn emit(options: EmitOptions) -> Result<ExitCode> {
    let mut config = LogConfig::new(options.kafka.clone(), "outlay-emit");
    for pair in &options.kafka_property {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("--kafka-property {pair}: write it as KEY=VALUE"))?;
        config.extra.insert(key.to_owned(), value.to_owned());
    }
    let publisher = Publisher::open(&config)?;
    let input: Box<dyn Read> = if options.file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?)
    };
    let progress = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {pos} events, {per_sec}, {elapsed}")?);
    let intake = Intake::default();
    let (mut sent, mut bad) = (0_u64, 0_u64);
    for (at, line) in BufReader::with_capacity(1 << 20, input).split(b'\n').enumerate() {
        let line = line.context("cannot read the input")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let key = match intake.decode_record(Some(&line), &Headers::NONE, None) {
            Ok(event) => usage_types::canonical_key(&event),
            Err(_) if options.unchecked => String::new(),
            Err(rejection) => {
                progress.suspend(|| eprintln!("line {}: {}: {rejection}", at + 1, rejection.code.name()));
                bad += 1;
                continue;
            }
        };
        send(&publisher, key.as_bytes(), &line)?;
        sent += 1;
        progress.set_position(sent);
    }
    publisher
        .flush(Duration::from_secs(60))
        .context("not every event was acknowledged; publish the file again: repeated events count once")?;
    progress.finish_and_clear();
    eprintln!(
        "{sent} events published to {}{}",
        options.kafka,
        if bad > 0 { format!(", {bad} lines refused") } else { String::new() }
    );
    Ok(if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn send(publisher: &Publisher, key: &[u8], value: &[u8]) -> Result<()> {
    match publisher.publish(topics::USAGE_EVENTS, key, Some(value), &[], None) {
        Err(error @ (LogError::QueueFull | LogError::TopicMissing { .. })) => {
            bail!("{error}; is `outlay serve` running? (it creates the topic)")
        }
        other => Ok(other?),
    }
}
