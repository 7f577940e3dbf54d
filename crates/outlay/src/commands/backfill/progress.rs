//! How far it is: a bar on a terminal, else a line now and then.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::rows::Input;
use super::summary::Summary;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows how far it is, on standard error.
pub struct Progress {
    bar: ProgressBar,
    before: u64,
    said: Instant,
}

impl Progress {
    /// Of these files; standard input has no end that is known.
    pub fn new(inputs: &[Input]) -> Result<Self> {
        let total: Option<u64> = inputs.iter().map(Input::size).sum();
        let bar = match total {
            Some(total) => ProgressBar::new(total)
                .with_style(ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}, {elapsed} (left: {eta})")?),
            None => ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}, {elapsed}")?),
        };
        Ok(Self { bar, before: 0, said: Instant::now() })
    }

    /// So far; `bytes` are of the present file.
    pub fn at(&mut self, summary: &Summary, acknowledged: u64, bytes: u64) {
        let is_due = self.said.elapsed() >= LINE_EVERY;
        if self.bar.is_hidden() && !is_due {
            return;
        }
        let text = format!("{} rows read, {acknowledged} acknowledged, {} refused", summary.read, summary.refused);
        self.bar.set_position(self.before + bytes);
        if self.bar.is_hidden() {
            self.said = Instant::now();
            let part = self.bar.length().filter(|length| *length > 0).map(|length| 100 * self.bar.position() / length);
            eprintln!("{text}{}", part.map(|part| format!(", {part} %")).unwrap_or_default());
        } else {
            self.bar.set_message(text);
        }
    }

    /// A file of this size is read to its end.
    pub fn end_of_file(&mut self, size: u64) {
        self.before += size;
        self.bar.set_position(self.before);
    }

    /// Writes a line beside the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
