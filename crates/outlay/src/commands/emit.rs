//! `outlay emit`: publishes events from a file or standard input, one JSON event a line, checked before they are sent.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use event_log::Publisher;
use indicatif::{ProgressBar, ProgressStyle};
use usage_intake::{Headers, Intake};

use super::publishing::{KafkaOptions, publish};

/// Options of `outlay emit`.
#[derive(Debug, Args)]
pub struct EmitOptions {
    /// File with one JSON event a line (native or CloudEvents); `-` for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    kafka: KafkaOptions,
    /// Send lines that are no valid events too; they become dead letters
    #[arg(long)]
    unchecked: bool,
}

/// Publishes every good line; names every bad one. Exit code 1 where any was bad.
pub fn emit(options: EmitOptions) -> Result<ExitCode> {
    let config = options.kafka.config("outlay-emit", None)?;
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
        publish(&publisher, key.as_bytes(), &line)?;
        sent += 1;
        progress.set_position(sent);
    }
    publisher
        .flush(Duration::from_secs(60))
        .context("not every event was acknowledged; publish the file again: repeated events count once")?;
    progress.finish_and_clear();
    eprintln!(
        "{sent} events published to {}{}",
        config.brokers,
        if bad > 0 { format!(", {bad} lines refused") } else { String::new() }
    );
    Ok(if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
