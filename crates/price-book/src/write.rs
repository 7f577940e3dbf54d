//! Rules as a price file: what an import found, to be read, checked and put under review like one written by hand.

use std::fmt::Write as _;

use usage_types::{Currency, Pico, TimeUs, TokenClass};

use crate::card::{ContextTier, RateCard};
use crate::{PriceBook, PriceClass, PriceRule, Rates};

/// Writes a price file of these rules, with the adjustments, the currency to settle in and the exchange rates of another book, where
/// one is given. The comment goes first, each of its lines behind a `#`.
///
/// [`PriceBook::from_yaml`] reads the same rules from it, unless two of them have an equal right to a request.
#[must_use]
pub fn write_yaml(comment: &str, rules: &[PriceRule], terms: Option<&PriceBook>) -> String {
    let mut out = String::new();
    for line in comment.lines() {
        out.push_str(format!("# {line}").trim_end());
        out.push('\n');
    }
    out.push_str("currency: USD\n");
    if let Some(book) = terms {
        write_terms(&mut out, book);
    }
    out.push_str(if rules.is_empty() { "\nprices: []\n" } else { "\nprices:\n" });
    for rule in rules {
        write_rule(&mut out, rule);
    }
    out
}

/// A line of its own; writing to a text cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => { writeln!($out, $($text)*).expect("a text takes all that is written to it") };
}

/// A text in double quotes: JSON's escapes are YAML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write_terms(out: &mut String, book: &PriceBook) {
    if let Some(currency) = book.settle_in() {
        line!(out, "settle_in: {currency}");
    }
    if !book.exchange_rates().is_empty() {
        line!(out, "exchange_rates:");
    }
    for rate in book.exchange_rates() {
        line!(out, "  - from_currency: {}", rate.from_currency);
        line!(out, "    to_currency: {}", rate.to_currency);
        line!(out, "    rate: \"{}\"", rate.rate);
        write_period(out, Some(rate.from), rate.to);
        line!(out, "    source: {}", quoted(&rate.source));
    }
    if !book.adjustments().is_empty() {
        line!(out, "adjustments:");
    }
    for adjustment in book.adjustments() {
        let pairs: Vec<String> =
            adjustment.matches.iter().map(|(name, value)| format!("{name}: {}", quoted(value))).collect();
        line!(out, "  - match: {{ {} }}", pairs.join(", "));
        line!(out, "    multiply: \"{}\"", adjustment.multiply);
        write_period(out, adjustment.from, adjustment.to);
        if let Some(note) = &adjustment.note {
            line!(out, "    note: {}", quoted(note));
        }
    }
}

fn write_period(out: &mut String, from: Option<TimeUs>, to: Option<TimeUs>) {
    if let Some(from) = from {
        line!(out, "    from: \"{from}\"");
    }
    if let Some(to) = to {
        line!(out, "    to: \"{to}\"");
    }
}

fn write_rule(out: &mut String, rule: &PriceRule) {
    let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    line!(out, "  - model: {}", quoted(&rule.model));
    if !rule.providers.is_empty() {
        line!(out, "    provider: [{}]", list(&rule.providers));
    }
    if !rule.aliases.is_empty() {
        line!(out, "    aliases: [{}]", list(&rule.aliases));
    }
    write_period(out, rule.from, rule.to);
    let RateCard { rates, tiers } = &rule.standard;
    if rates.currency != Currency::USD {
        line!(out, "    currency: {}", rates.currency);
    }
    if let Some(tokens) = per_million(rates) {
        line!(out, "    per_million: {tokens}");
    }
    for (name, fee) in fees(rates) {
        line!(out, "    {name}: \"{fee}\"");
    }
    if !tiers.is_empty() {
        line!(out, "    tiers: {}", tier_list(tiers));
    }
    if !rule.service_tiers.is_empty() {
        line!(out, "    service_tiers:");
    }
    for tier in &rule.service_tiers {
        line!(out, "      {}: {}", quoted(&tier.name), service_tier(&tier.card, &rule.standard));
    }
    line!(out, "    source: {}", quoted(&rule.source));
    line!(out, "    as_of: {}", rule.as_of);
    if let Some(note) = &rule.note {
        line!(out, "    note: {}", quoted(note));
    }
}

fn per_million(rates: &Rates) -> Option<String> {
    let listed = |class| rates.listed(PriceClass::Tokens(class)).map(|price| (class, price));
    let reads_as_output = rates.token(TokenClass::Reasoning) == rates.token(TokenClass::Output);
    let prices = TokenClass::ALL.into_iter().filter_map(listed);
    let prices = prices.filter(|(class, _)| *class != TokenClass::Reasoning || !reads_as_output);
    let pairs: Vec<String> = prices.map(|(class, price)| format!("{}: \"{price}\"", class.name())).collect();
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

fn fees(rates: &Rates) -> impl Iterator<Item = (&'static str, Pico)> {
    let fees = [
        ("per_request", rates.per_request),
        ("per_tool_call", rates.per_tool_call),
        ("per_image", rates.per_image),
        ("per_compute_second", rates.per_compute_second),
    ];
    fees.into_iter().filter_map(|(name, fee)| fee.map(|fee| (name, fee)))
}

fn tier_list(tiers: &[ContextTier]) -> String {
    let text = |tier: &ContextTier| {
        let tokens = tier.rates.as_ref().and_then(per_million)?;
        Some(format!("{{ above_input_tokens: {}, per_million: {tokens} }}", tier.above_input_tokens))
    };
    let tiers: Vec<String> = tiers.iter().filter_map(text).collect();
    format!("[{}]", tiers.join(", "))
}

fn service_tier(card: &RateCard, standard: &RateCard) -> String {
    let mut parts = Vec::new();
    parts.extend(per_million(&card.rates).map(|tokens| format!("per_million: {tokens}")));
    parts.extend(fees(&card.rates).map(|(name, fee)| format!("{name}: \"{fee}\"")));
    // Where it says nothing of long prompts, neither does the file.
    let unpriced = !card.tiers.is_empty() && card.tiers.iter().all(|tier| tier.rates.is_none());
    let nowhere = card.tiers.is_empty() && standard.tiers.is_empty();
    if !unpriced && !nowhere {
        parts.push(format!("tiers: {}", tier_list(&card.tiers)));
    }
    format!("{{ {} }}", parts.join(", "))
}
