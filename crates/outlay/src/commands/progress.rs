//! How many rows of a known number are done: a bar on a terminal, else a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows it on standard error.
pub struct RowsDone {
    bar: ProgressBar,
    what: &'static str,
    said: Instant,
}

impl RowsDone {
    /// Of so many rows.
    pub fn new(what: &'static str, rows: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}, {elapsed} (left: {eta})");
        let bar = ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar: bar.with_message(what), what, said: Instant::now() }
    }

    /// So many more.
    pub fn inc(&mut self, rows: u64) {
        self.bar.inc(rows);
        if self.bar.is_hidden() && self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            let part = self.bar.length().filter(|length| *length > 0).map(|length| 100 * self.bar.position() / length);
            eprintln!(
                "{}: {} rows{}",
                self.what,
                self.bar.position(),
                part.map(|part| format!(", {part} %")).unwrap_or_default()
            );
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
