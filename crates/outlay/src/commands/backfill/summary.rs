//! What became of the rows, for people and as a file of those that were refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;
use usage_types::{Cost, Currency, Dimension, Pico, UsageEvent};

use crate::commands::text_table::{Align, text_table};

/// Refused rows that are shown one by one.
const SHOWN: u64 = 20;
/// Namespaces that are told apart; those beyond share one row.
const NAMESPACES_MAX: usize = 10_000;

/// A refused row.
#[derive(Serialize)]
pub struct Refused<'a> {
    /// Its file.
    pub file: String,
    /// Its line, or its row in a Parquet file, from 1.
    pub line: u64,
    /// For programs.
    pub code: &'a str,
    /// The field's path, where one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// For people.
    pub message: &'a str,
    /// What was read.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub row: &'a str,
}

/// Counts.
#[derive(Default)]
pub struct Summary {
    /// Rows read.
    pub read: u64,
    /// Events given to the target and not refused by it.
    pub sent: u64,
    /// Rows refused.
    pub refused: u64,
    /// Rows of a lake that are taken back, and those that take them back.
    pub taken_back: u64,
    /// By namespace; only where nothing is published.
    counted: BTreeMap<String, Counted>,
    rejected: Option<BufWriter<File>>,
}

#[derive(Default)]
struct Counted {
    rows: u64,
    tokens: u128,
    costs: BTreeMap<Currency, i128>,
    unpriced: u64,
}

impl Summary {
    /// Nothing so far; refused rows go to this file too.
    pub fn new(rejected: Option<&Path>) -> Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| format!("--rejected {}", path.display()));
        Ok(Self { rejected: rejected.map(create).transpose()?.map(BufWriter::new), ..Self::default() })
    }

    /// Notes a refused row; the line to show, where it is one of the first.
    pub fn refuse(&mut self, refused: &Refused<'_>) -> Result<Option<String>> {
        self.refused += 1;
        if let Some(file) = &mut self.rejected {
            serde_json::to_writer(&mut *file, refused)?;
            file.write_all(b"\n")?;
        }
        let field = refused.field.map(|field| format!(" (field {field})")).unwrap_or_default();
        let Refused { file, line, code, message, .. } = refused;
        Ok((self.refused <= SHOWN).then(|| format!("{file}, line {line}: {code}{field}: {message}")))
    }

    /// Notes what an event would count.
    pub fn count(&mut self, event: &UsageEvent<'_>, cost: Option<Cost>) {
        let mut namespace = event.dimensions.get(Dimension::Namespace).unwrap_or_default();
        if self.counted.len() >= NAMESPACES_MAX && !self.counted.contains_key(namespace) {
            namespace = "(others)";
        }
        let counted = self.counted.entry(namespace.to_owned()).or_default();
        counted.rows += 1;
        counted.tokens += u128::from(event.tokens.total());
        match cost {
            Some(cost) => *counted.costs.entry(cost.currency).or_default() += cost.amount.0,
            None if event.tokens.total() > 0 || event.dimensions.get(Dimension::Model).is_some() => {
                counted.unpriced += 1
            }
            None => {}
        }
    }

    /// Prints all of it; `published` says where to. Exit code 1 where a row was refused.
    pub fn print(mut self, files: usize, published: Option<&str>) -> Result<ExitCode> {
        if let Some(file) = &mut self.rejected {
            file.flush()?;
        }
        let mut out = std::io::stdout().lock();
        if published.is_none() {
            write!(out, "{}", self.table())?;
        }
        if self.refused > SHOWN {
            let more = self.refused - SHOWN;
            let hint = if self.rejected.is_some() { "" } else { "; --rejected FILE writes all of them" };
            writeln!(out, "{more} more refused rows are not shown{hint}")?;
        }
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        let taken_back = match self.taken_back {
            0 => String::new(),
            rows => format!(", {rows} left out because they take each other back"),
        };
        let good = self.read - self.refused - self.taken_back;
        let done = match published {
            Some(name) => format!("{} published to {name}", self.sent),
            None => format!("{good} would be published"),
        };
        writeln!(out, "{} rows read of {files}: {done}{taken_back}, {} refused", self.read, self.refused)?;
        Ok(if self.refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn table(&self) -> String {
        let header = ["namespace", "rows", "tokens", "cost", "currency", "without a price"].map(str::to_owned);
        let mut lines = vec![header.to_vec()];
        for (namespace, counted) in &self.counted {
            let mut costs: Vec<(String, String)> = counted
                .costs
                .iter()
                .map(|(currency, amount)| (Pico(*amount).to_string(), currency.to_string()))
                .collect();
            if costs.is_empty() {
                costs.push(("-".to_owned(), String::new()));
            }
            for (at, (cost, currency)) in costs.into_iter().enumerate() {
                let first = |value: u128| if at == 0 { value.to_string() } else { String::new() };
                lines.push(vec![
                    if at == 0 { namespace.clone() } else { String::new() },
                    first(counted.rows.into()),
                    first(counted.tokens),
                    cost,
                    currency,
                    first(counted.unpriced.into()),
                ]);
            }
        }
        text_table(&lines, &[Align::Left, Align::Right, Align::Right, Align::Right, Align::Left, Align::Right])
    }
}
