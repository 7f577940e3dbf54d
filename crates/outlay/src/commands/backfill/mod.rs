//! `outlay backfill`: takes in usage of the past from files, published to the log as events that say so.
//!
//! Holds here: a row is checked by the decoder that checks every event; one that is wrong is named with its line and field and costs no
//! other row. Each row has an id that a second run gives it too, so a run that was interrupted is simply run again. Files are streamed.

mod parquet;
mod progress;
mod rows;
mod summary;
mod taken_back;

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::Utc;
use clap::Args;
use price_book::{Priced, Pricer};
use ring::digest::{SHA256, digest};
use usage_intake::{Headers, Intake, TableColumns, TableRow, encode};
use usage_types::{RejectCode, Rejection, Role, TimeUs, UsageEvent, canonical_key};

use super::prices::BookOptions;
use super::publishing::{Target, TargetOptions};
use crate::worker::read_intake;
use progress::Progress;
use rows::{FileFormat, Input, Row};
use summary::{Refused, Summary};
use taken_back::TakenBack;

/// Usage is of the past where its time is no later than so long after now: clocks differ.
const TOLERANCE_US: i64 = 5 * TimeUs::MINUTE;

/// Options of `outlay backfill`.
#[derive(Debug, Args)]
pub struct BackfillOptions {
    /// Files of NDJSON, CSV (with a header line) or Parquet, told by their names' endings; `-` for NDJSON from standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The format, where a file's name does not tell
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// The source of rows that name none; rows of two files that hold no ids and may be alike need two
    #[arg(long, value_name = "NAME", default_value = "backfill")]
    source: String,
    /// Skip columns that are no field of an event, instead of refusing the file
    #[arg(long)]
    skip_unknown_columns: bool,
    /// What the names of other formats mean (YAML), as for `outlay serve`: for lines that are CloudEvents
    #[arg(long, env = "OUTLAY_INTAKE", value_name = "FILE")]
    intake: Option<PathBuf>,
    /// Publish nothing: check every row and show what it would count, with its cost by the price book
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    book: BookOptions,
    /// Write the refused rows here, one JSON object a line: where, why, and the row
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    #[command(flatten)]
    target: TargetOptions,
}

impl BackfillOptions {
    fn inputs(&self) -> Vec<Input> {
        let input =
            |path: &PathBuf| Input { path: path.clone(), format: self.format, skip_unknown: self.skip_unknown_columns };
        self.files.iter().map(input).collect()
    }
}

/// Takes the files in. Exit code 1 where any row was refused.
pub fn backfill(options: BackfillOptions) -> Result<ExitCode> {
    let inputs = options.inputs();
    if inputs.iter().filter(|input| input.is_stdin()).count() > 1 {
        bail!("standard input can be read once; give `-` once");
    }
    let mut run = Run {
        intake: read_intake(options.intake.as_deref(), None)?,
        pricer: options.dry_run.then(|| options.book.open()).transpose()?.map(Pricer::new),
        target: (!options.dry_run).then(|| Target::open(&options.target, "outlay-backfill")).transpose()?,
        summary: Summary::new(options.rejected.as_deref())?,
        progress: Progress::new(&inputs)?,
        taken_back: TakenBack::read(&inputs)?,
        source: options.source.clone(),
        latest: TimeUs::from(Utc::now()).plus_us(TOLERANCE_US),
    };
    for (at, input) in inputs.iter().enumerate() {
        run.file(at, input).with_context(|| {
            format!("stopped in {}; run it again with the same files: what was published counts once", input.name())
        })?;
    }
    run.finish(&inputs)
}

struct Run {
    intake: Intake,
    pricer: Option<Pricer>,
    target: Option<Target>,
    summary: Summary,
    progress: Progress,
    taken_back: TakenBack,
    source: String,
    latest: TimeUs,
}

impl Run {
    fn file(&mut self, at: usize, input: &Input) -> Result<()> {
        let mut rows = input.open()?;
        if input.is_stdin() && rows.columns().is_some_and(TableColumns::is_lake) {
            bail!(
                "an export of a lake (it has a column `kind`) is read twice, so it cannot come from standard input; name the file"
            );
        }
        if let Some(unknown) = rows.columns().map(|columns| columns.unknown()).filter(|unknown| !unknown.is_empty()) {
            self.progress.say(&format!("{}: columns that are not read: {}", input.name(), unknown.join(", ")));
        }
        let mut place = 0;
        while let Some(row) = rows.next()? {
            place += 1;
            self.summary.read += 1;
            self.row(at, input, row, place)?;
            if self.summary.read.is_multiple_of(64) {
                let acknowledged = self.target.as_ref().map_or(0, Target::acknowledged);
                self.progress.at(&self.summary, acknowledged, rows.bytes_read(input.size().unwrap_or(0)));
            }
        }
        self.progress.end_of_file(input.size().unwrap_or(0));
        Ok(())
    }

    fn row(&mut self, file: usize, input: &Input, row: Row, place: u64) -> Result<()> {
        let line = row.line;
        let json = match row.content {
            Ok(TableRow::Event(json)) => json,
            Ok(TableRow::Reversal { .. }) => {
                self.summary.taken_back += 1;
                return Ok(());
            }
            Err(rejection) => return self.refuse(input, line, &rejection, &row.raw),
        };
        let event = match self.event(&json, place) {
            Ok(event) => event,
            Err(rejection) => {
                let raw = if row.raw.is_empty() { &json } else { &row.raw };
                return self.refuse(input, line, &rejection, raw);
            }
        };
        if self.taken_back.takes(&event) {
            self.summary.taken_back += 1;
            return Ok(());
        }
        if let Some(pricer) = &mut self.pricer {
            let cost = match pricer.price(&event, event.time) {
                Priced::Cost(cost) => Some(cost),
                Priced::Unpriced(_) => None,
            };
            self.summary.count(&event, cost);
        }
        if let Some(target) = &mut self.target {
            target.publish(&canonical_key(&event), &encode(&event), tag(file, line))?;
            self.summary.sent += 1;
        }
        Ok(())
    }

    /// The event of a row, with a source and an id.
    fn event<'a>(&self, json: &'a str, place: u64) -> Result<UsageEvent<'a>, Rejection> {
        let mut event = self.intake.decode_record(Some(json.as_bytes()), &Headers::NONE, None)?;
        if event.role == Role::Usage {
            event.role = Role::Backfill;
        }
        if event.time > self.latest {
            let message = format!("{} is in the future; backfill takes in usage of the past", event.time);
            return Err(Rejection::field(RejectCode::BadTime, "time", message));
        }
        if event.source.is_empty() {
            event.source = Cow::Owned(self.source.clone());
        }
        if event.id.is_none() {
            event.id = Some(Cow::Owned(id_of(&event, place)));
        }
        Ok(event)
    }

    fn refuse(&mut self, input: &Input, line: u64, rejection: &Rejection, raw: &str) -> Result<()> {
        let refused = Refused {
            file: input.name(),
            line,
            code: rejection.code.name(),
            field: rejection.field.as_deref(),
            message: &rejection.message,
            row: raw,
        };
        if let Some(text) = self.summary.refuse(&refused)? {
            self.progress.say(&text);
        }
        Ok(())
    }

    fn finish(mut self, inputs: &[Input]) -> Result<ExitCode> {
        for (file, line, name) in self.taken_back.missing() {
            let message = format!("it takes back the row `{name}`, which is not in these files; export both");
            let rejection = Rejection::field(RejectCode::UnknownOriginal, "reverses", message);
            self.summary.taken_back -= 1;
            self.refuse(&inputs[file], line, &rejection, "")?;
        }
        let mut published = None;
        if let Some(mut target) = self.target.take() {
            for refused in target.finish()? {
                let (file, line) = of_tag(refused.tag);
                let (code, field, message) = &refused.said;
                let name = inputs.get(file).map(Input::name).unwrap_or_default();
                let refused = Refused { file: name, line, code, field: field.as_deref(), message, row: "" };
                self.summary.sent -= 1;
                if let Some(text) = self.summary.refuse(&refused)? {
                    self.progress.say(&text);
                }
            }
            published = Some(target.name().to_owned());
        }
        self.progress.finish();
        self.summary.print(inputs.len(), published.as_deref())
    }
}

/// A file's place and a line as one number, to be given back.
fn tag(file: usize, line: u64) -> u64 {
    const FILE_SHIFT: u32 = 44;
    (file as u64) << FILE_SHIFT | (line & ((1 << FILE_SHIFT) - 1))
}

fn of_tag(tag: u64) -> (usize, u64) {
    (usize::try_from(tag >> 44).unwrap_or(usize::MAX), tag & ((1 << 44) - 1))
}

/// The id of a row that has none: of what it holds and of its place among the file's rows, from 1, so that the same file gives the same ids
/// in every run and under every name, and two equal rows of one file are two. Changing this would count files again that were taken in.
fn id_of(event: &UsageEvent<'_>, place: u64) -> String {
    let mut content = encode(event);
    content.extend_from_slice(format!("\n{place}").as_bytes());
    let hash = digest(&SHA256, &content);
    hash.as_ref()[..16].iter().fold("row-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id is part of the contract: a file that was taken in by an older version must not count again.
    #[test]
    fn the_id_of_a_row_stays_the_same_from_version_to_version() {
        let json = r#"{"time":"2026-01-02T03:04:05.000001Z","namespace":"a","source":"s","team":"t","model":"m","tokens":{"input":5,"output":6},
            "tool_calls":1,"compute_seconds":"1.5","cost":{"amount":"0.5","currency":"EUR"},"tags":{"b":"2","a":"1"},"backfill":true}"#;
        let event = Intake::default().decode_record(Some(json.as_bytes()), &Headers::NONE, None).unwrap();
        let written = String::from_utf8(encode(&event)).unwrap();
        assert_eq!(
            written,
            r#"{"source":"s","time":"2026-01-02T03:04:05.000001Z","namespace":"a","team":"t","model":"m","backfill":true,"tokens":{"input":5,"output":6},"requests":1,"tool_calls":1,"compute_seconds":"1.5","cost":{"amount":"0.5","currency":"EUR"},"tags":{"a":"1","b":"2"}}"#
        );
        assert_eq!(id_of(&event, 7), "row-a53b6b3b5dfe2beb0bc9c57204b074a0");
        assert_ne!(id_of(&event, 7), id_of(&event, 8));
    }

    #[test]
    fn a_tag_gives_back_its_file_and_line() {
        for (file, line) in [(0, 1), (3, 5_000_000_000), (1000, 0)] {
            assert_eq!(of_tag(tag(file, line)), (file, line));
        }
    }
}
