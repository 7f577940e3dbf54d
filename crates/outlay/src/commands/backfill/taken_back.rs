//! What an export of a lake takes back: its reversals are read before, so that each of them is left out together with the row that it names.

use std::collections::HashMap;

use anyhow::{Context, Result};
use usage_intake::TableRow;
use usage_types::{Role, UsageEvent};

use super::rows::Input;

/// Rows that are taken back, by source and id; corrections are few, so they fit in memory.
pub struct TakenBack {
    by_row: HashMap<(String, String), Reversal>,
}

struct Reversal {
    file: usize,
    line: u64,
    is_found: bool,
}

impl TakenBack {
    /// Reads the reversals of those files that are a lake's.
    pub fn read(inputs: &[Input]) -> Result<Self> {
        let mut by_row = HashMap::new();
        for (file, input) in inputs.iter().enumerate() {
            if input.is_stdin() {
                continue;
            }
            let mut rows = input.open()?;
            if !rows.columns().is_some_and(|columns| columns.is_lake()) {
                continue;
            }
            while let Some(row) = rows.next().with_context(|| format!("in {}", input.name()))? {
                if let Ok(TableRow::Reversal { source, reverses }) = row.content {
                    by_row.insert((source, reverses), Reversal { file, line: row.line, is_found: false });
                }
            }
        }
        Ok(Self { by_row })
    }

    /// Whether the event's row is taken back.
    pub fn takes(&mut self, event: &UsageEvent<'_>) -> bool {
        if self.by_row.is_empty() || matches!(event.role, Role::Adjusts(_)) {
            return false;
        }
        let name = (event.source.to_string(), event.id.as_deref().unwrap_or_default().to_owned());
        let reversal = self.by_row.get_mut(&name);
        reversal.is_some_and(|reversal| {
            reversal.is_found = true;
            true
        })
    }

    /// Reversals whose row is not there: their file, line, and the row's id.
    pub fn missing(&self) -> Vec<(usize, u64, String)> {
        let left = self.by_row.iter().filter(|(_, reversal)| !reversal.is_found);
        let mut missing: Vec<_> = left.map(|((_, id), reversal)| (reversal.file, reversal.line, id.clone())).collect();
        missing.sort_unstable();
        missing
    }
}
