//! The rules of a file.

use chrono::{Datelike, NaiveDate};
use usage_types::{Dimension, DimensionSet, Money, Scope};
use yaml_file::FileError;

use crate::file;

/// The rules of a file, in its order: the first one that a cost belongs to shares it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Their ids differ.
    pub rules: Vec<Rule>,
}

/// How one shared cost is borne.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name in reports.
    pub id: String,
    /// It shares the months or days that begin on this date or later.
    pub from: Option<NaiveDate>,
    /// It shares the months or days that begin before this date.
    pub to: Option<NaiveDate>,
    /// What is shared at once.
    pub every: Every,
    /// What is shared.
    pub share: Shared,
    /// In which proportion.
    pub split: Split,
    /// Whose usage makes them receivers.
    pub among: Selector,
    /// Who the receivers are: the values of these dimensions. One at least.
    pub by: DimensionSet,
}

/// The time whose cost is shared at once, in the time zone of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Every {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

/// What is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// A fixed amount of more than 0 for each month or day, which no event has.
    Fee(Money),
    /// The cost of this usage, taken from where it fell.
    Usage(Selector),
    /// What a provider's invoice has more, or less, than was metered of it.
    Invoice(String),
}

/// In which proportion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// The same for each receiver that used anything.
    Even,
    /// As their tokens, of all classes.
    Tokens,
    /// As their direct cost in the same currency.
    Cost,
    /// As stated, whatever they used. Not empty, and one weighs more than 0.
    Fixed(Vec<FixedPart>),
    /// All of a row's cost to the receiver that this tag of its events names. Rows without it stay where they fell.
    Tag(String),
}

/// The stated part of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedPart {
    /// The receiver.
    pub receiver: Scope,
    /// Its weight, in millionths of what the file says: parts need not add up to 100.
    pub weight_ppm: u64,
}

/// Which usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Each of these dimensions has one of the values. Empty: any usage.
    pub matches: Vec<(Dimension, Vec<String>)>,
    /// None of these is named.
    pub without: DimensionSet,
}

impl Allocation {
    /// Reads a file.
    ///
    /// # Errors
    /// The first thing in it that is wrong, with line and field.
    pub fn from_yaml(text: &str) -> Result<Self, FileError> {
        file::read(text)
    }

    /// The dimensions that usage has to be told apart by.
    #[must_use]
    pub fn dimensions(&self) -> DimensionSet {
        self.rules.iter().flat_map(|rule| rule.dimensions().iter().collect::<Vec<_>>()).collect()
    }

    /// Whether days have to be told apart, not only months.
    #[must_use]
    pub fn needs_days(&self) -> bool {
        self.rules.iter().any(|rule| rule.every == Every::Day)
    }

    /// Whose tags have to be told apart: the usage that is shared by a tag.
    pub fn tagged(&self) -> impl Iterator<Item = &Selector> {
        self.rules.iter().filter_map(|rule| match (&rule.share, &rule.split) {
            (Shared::Usage(selector), Split::Tag(_)) => Some(selector),
            _ => None,
        })
    }
}

impl Rule {
    fn dimensions(&self) -> DimensionSet {
        let shared = match &self.share {
            Shared::Fee(_) => DimensionSet::default(),
            Shared::Usage(selector) => selector.dimensions(),
            Shared::Invoice(_) => DimensionSet::of(&[Dimension::Provider]),
        };
        self.by.iter().chain(self.among.dimensions().iter()).chain(shared.iter()).collect()
    }

    /// Whether it shares what begins on this date.
    pub(crate) fn is_in_force(&self, begin: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= begin) && self.to.is_none_or(|to| begin < to)
    }
}

impl Every {
    /// The first day of the time that a day is in.
    #[must_use]
    pub fn begin(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => day,
            // Every month has a first day.
            Self::Month => day.with_day(1).unwrap_or(day),
        }
    }

    /// The first day after the time that begins on this one; `None` at the end of the calendar.
    #[must_use]
    pub fn next(self, begin: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => begin.succ_opt(),
            Self::Month => begin.checked_add_months(chrono::Months::new(1)),
        }
    }

    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl Selector {
    /// Whether usage of these dimensions is meant.
    #[must_use]
    pub fn selects(&self, usage: &Scope) -> bool {
        self.matches.iter().all(|(dimension, values)| {
            usage.get(*dimension).is_some_and(|value| values.iter().any(|allowed| allowed == value))
        }) && self.without.iter().all(|dimension| usage.get(dimension).is_none())
    }

    fn dimensions(&self) -> DimensionSet {
        self.matches.iter().map(|(dimension, _)| *dimension).chain(self.without.iter()).collect()
    }
}
