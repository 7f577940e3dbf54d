//! The book as people see it: as rows of the SQL view `prices`.

use usage_types::{Currency, Pico, TimeUs, TokenClass};

use crate::{PriceBook, Rates};

/// What a price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PriceClass {
    /// Tokens of a class.
    Tokens(TokenClass),
    /// Requests.
    Request,
    /// Tool calls.
    ToolCall,
    /// Images that the model made.
    Image,
    /// Seconds of compute.
    ComputeSecond,
}

impl PriceClass {
    /// All of them, in the order of the rows.
    pub const ALL: [Self; 10] = [
        Self::Tokens(TokenClass::Input),
        Self::Tokens(TokenClass::CacheRead),
        Self::Tokens(TokenClass::CacheWrite5m),
        Self::Tokens(TokenClass::CacheWrite1h),
        Self::Tokens(TokenClass::Output),
        Self::Tokens(TokenClass::Reasoning),
        Self::Request,
        Self::ToolCall,
        Self::Image,
        Self::ComputeSecond,
    ];

    /// The name in the price file, in SQL and on pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens(class) => class.name(),
            Self::Request => "request",
            Self::ToolCall => "tool_call",
            Self::Image => "image",
            Self::ComputeSecond => "compute_second",
        }
    }

    /// How many units the price of a row is for: a million tokens, one of anything else.
    #[must_use]
    pub const fn units(self) -> u64 {
        match self {
            Self::Tokens(_) => Rates::TOKENS_PER_PRICE,
            _ => 1,
        }
    }
}

/// One price: a row of the SQL view `prices`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceRow<'a> {
    /// By its OpenTelemetry name; `None`: whoever serves the model.
    pub provider: Option<&'a str>,
    /// The model's name, or a prefix with `*`.
    pub model: &'a str,
    /// Its other names.
    pub aliases: &'a [String],
    /// From when, inclusive.
    pub from: Option<TimeUs>,
    /// Until when, exclusive.
    pub to: Option<TimeUs>,
    /// At which service tier, by the name of [`crate::canonical_service_tier`].
    pub service_tier: &'a str,
    /// For prompts of more input tokens than this, until the next tier; 0: for the shortest.
    pub above_input_tokens: u64,
    /// What the price is for.
    pub class: PriceClass,
    /// The price of [`PriceClass::units`] of it.
    pub price: Pico,
    /// Of which currency.
    pub currency: Currency,
    /// Where the price is published.
    pub source: &'a str,
    /// When it was read there, as `YYYY-MM-DD`.
    pub as_of: &'a str,
    /// What it leaves out.
    pub note: Option<&'a str>,
}

impl PriceBook {
    /// All prices, in the order of the file: one row per provider, model, service tier, length of the prompt and class.
    pub fn rows(&self) -> impl Iterator<Item = PriceRow<'_>> {
        self.rules().iter().flat_map(|rule| {
            let any = rule.providers.is_empty().then_some(None);
            let providers = rule.providers.iter().map(|name| Some(name.as_str())).chain(any);
            providers.flat_map(move |provider| {
                rule.cards().flat_map(move |(service_tier, card)| {
                    card.bands().flat_map(move |(above_input_tokens, rates)| {
                        rates.prices().map(move |(class, price)| PriceRow {
                            provider,
                            model: &rule.model,
                            aliases: &rule.aliases,
                            from: rule.from,
                            to: rule.to,
                            service_tier,
                            above_input_tokens,
                            class,
                            price,
                            currency: rates.currency,
                            source: &rule.source,
                            as_of: &rule.as_of,
                            note: rule.note.as_deref(),
                        })
                    })
                })
            })
        })
    }
}
