//! The price file: reads YAML into rules and refuses what it cannot read exactly, with line and field.
//!
//! Prices stay text until they are integers of pico-units: `1.25` and `"1.25"` are the same, and neither is ever a float.

mod entry;
mod equal;
mod field;
mod terms;

use std::collections::BTreeMap;

use serde::Deserialize;
use yaml_file::{FileError, OneOrMore, Spanned, Text};

use crate::PriceRule;
use crate::adjust::Adjustments;
use crate::exchange::Exchange;
use field::{currency, date};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBook {
    currency: Text,
    source: Option<Text>,
    as_of: Option<Text>,
    settle_in: Option<Text>,
    #[serde(default)]
    exchange_rates: Vec<Spanned<RawRate>>,
    #[serde(default)]
    adjustments: Vec<Spanned<RawAdjustment>>,
    prices: Vec<Spanned<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRate {
    from_currency: Option<Text>,
    to_currency: Option<Text>,
    rate: Option<Text>,
    from: Option<Text>,
    to: Option<Text>,
    source: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdjustment {
    #[serde(rename = "match")]
    matches: Option<BTreeMap<String, Text>>,
    multiply: Option<Text>,
    from: Option<Text>,
    to: Option<Text>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    provider: Option<Spanned<OneOrMore>>,
    model: Option<Text>,
    #[serde(default)]
    aliases: Vec<Text>,
    from: Option<Text>,
    to: Option<Text>,
    currency: Option<Text>,
    per_million: Option<RawTokens>,
    per_request: Option<Text>,
    per_tool_call: Option<Text>,
    per_image: Option<Text>,
    per_compute_second: Option<Text>,
    #[serde(default)]
    tiers: Vec<Spanned<RawContextTier>>,
    #[serde(default)]
    service_tiers: BTreeMap<String, Spanned<RawServiceTier>>,
    source: Option<Text>,
    as_of: Option<Text>,
    note: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTokens {
    input: Option<Text>,
    cache_read: Option<Text>,
    cache_write_5m: Option<Text>,
    cache_write_1h: Option<Text>,
    output: Option<Text>,
    reasoning: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContextTier {
    above_input_tokens: Option<Spanned<u64>>,
    per_million: Option<RawTokens>,
    multiply: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServiceTier {
    per_million: Option<RawTokens>,
    multiply: Option<Text>,
    per_request: Option<Text>,
    per_tool_call: Option<Text>,
    per_image: Option<Text>,
    per_compute_second: Option<Text>,
    tiers: Option<Vec<Spanned<RawContextTier>>>,
}

/// What a file says.
pub(crate) struct Contents {
    pub(crate) rules: Vec<PriceRule>,
    pub(crate) adjustments: Adjustments,
    pub(crate) exchange: Exchange,
}

/// Reads a file and checks that nothing in it has an equal right to any request as something else of its kind.
pub(crate) fn read(text: &str) -> Result<Contents, FileError> {
    let raw: RawBook = yaml_file::from_str(text)?;
    let currency = currency(&raw.currency, "currency")?;
    if let Some(as_of) = &raw.as_of {
        date(as_of, "as_of")?;
    }
    let mut rules = Vec::with_capacity(raw.prices.len());
    for (index, entry) in raw.prices.iter().enumerate() {
        rules.push(entry::rule(&raw, entry, currency, &format!("prices[{index}]"))?);
    }
    equal::refuse_equal_rules(&rules)?;
    Ok(Contents { rules, adjustments: terms::adjustments(&raw.adjustments)?, exchange: terms::exchange(&raw)? })
}
