//! What a row of `usage` is in the books.

use std::str::FromStr;

/// The column `kind`. A reversal's counts and cost are the negatives of those of the row that it takes back, in the lake and in SQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// Usage as it happened.
    #[default]
    Usage,
    /// Usage of the past, taken in afterwards.
    Backfill,
    /// Takes a row back (`reverses`), because of a correction of an event (`corrects`).
    Reversal,
    /// What an amended event (`corrects`) counts for from now on.
    Amendment,
    /// Changes the cost of its window, on behalf of a run (`corrects`).
    Adjustment,
}

impl RowKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Usage, Self::Backfill, Self::Reversal, Self::Amendment, Self::Adjustment];

    /// The name in the column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Backfill => "backfill",
            Self::Reversal => "reversal",
            Self::Amendment => "amendment",
            Self::Adjustment => "adjustment",
        }
    }
}

impl FromStr for RowKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("`{text}` is no kind of row"))
    }
}
