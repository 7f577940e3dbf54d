//! What comes in: sums over rows of the lake that a price cannot tell apart.

use price_book::PriceClass;
use usage_types::{CostOrigin, Currency, Dimensions, Pico, TimeUs, TokenClass};

/// The cost of one day's usage that is the same in everything that its price depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The day, half-open.
    pub charge_period: (TimeUs, TimeUs),
    /// The month that it belongs to, half-open.
    pub billing_period: (TimeUs, TimeUs),
    /// Whose it is, and of which model: those that it was grouped by.
    pub dimensions: Dimensions<'static>,
    /// Who set its cost.
    pub origin: CostOrigin,
    /// Usage, or a change of its cost.
    pub entry: Entry,
    /// Whether it restates a billing period that was over.
    pub is_correction: bool,
    /// What it cost; negative where it takes back.
    pub cost: Pico,
    /// Of which currency.
    pub currency: Currency,
    /// How many rows of the lake it is the sum of: the cost of each was rounded once.
    pub rows: u64,
    /// What was used; negative where it takes back.
    pub counts: Counts,
    /// When one of its rows happened. Prices are the same for all of them.
    pub time: TimeUs,
    /// The longest prompt of its rows, in input tokens of all classes. Prices are the same for all of them.
    pub input_tokens: u64,
}

/// What [`Usage`] is in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What was used, corrections of it included.
    Usage,
    /// A cost alone, like a repricing, by the name of the run.
    Adjustment(String),
}

/// How much was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens, in the order of [`TokenClass::ALL`].
    pub tokens: [i64; TokenClass::COUNT],
    /// Requests.
    pub requests: i64,
    /// Tool calls.
    pub tool_calls: i64,
    /// Images.
    pub images: i64,
    /// Compute time in nanoseconds.
    pub compute_ns: i128,
}

impl Counts {
    /// How much of one thing: a count, or nanoseconds of compute.
    #[must_use]
    pub fn get(&self, class: PriceClass) -> i128 {
        match class {
            PriceClass::Tokens(class) => self.tokens[class as usize].into(),
            PriceClass::Request => self.requests.into(),
            PriceClass::ToolCall => self.tool_calls.into(),
            PriceClass::Image => self.images.into(),
            PriceClass::ComputeSecond => self.compute_ns,
        }
    }

    /// Everything that was used, in the order of [`PriceClass::ALL`].
    pub(crate) fn used(&self) -> impl Iterator<Item = (PriceClass, i128)> {
        PriceClass::ALL.into_iter().map(|class| (class, self.get(class))).filter(|(_, count)| *count != 0)
    }
}
