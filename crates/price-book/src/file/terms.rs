//! Adjustments and exchange rates of the file, and the pairs of them that exclude each other.

use std::collections::BTreeMap;

use usage_types::{Currency, Dimension, Scope, TimeUs};
use yaml_file::{FileError, Spanned, Text};

use super::field::{currency, factor, period};
use super::{RawAdjustment, RawBook, RawRate};
use crate::adjust::{Adjustment, Adjustments, model_matches};
use crate::exchange::{Exchange, ExchangeRate};
use crate::{Factor, canonical_provider, canonical_service_tier};

/// Reads the adjustments and checks that no event could have two of them with an equal right.
pub(super) fn adjustments(raw: &[Spanned<RawAdjustment>]) -> Result<Adjustments, FileError> {
    let mut list = Vec::with_capacity(raw.len());
    for (index, adjustment) in raw.iter().enumerate() {
        list.push(one_adjustment(adjustment, &format!("adjustments[{index}]"))?);
    }
    refuse_equal_adjustments(&list)?;
    Ok(Adjustments::new(list))
}

fn one_adjustment(raw: &Spanned<RawAdjustment>, path: &str) -> Result<Adjustment, FileError> {
    let (at, raw) = (raw.referenced, &raw.value);
    let missing = |name: &str, what: &str| FileError::at(at, format!("{path}.{name}"), format!("missing; {what}"));
    let matches = raw.matches.as_ref();
    let matches = matches.ok_or_else(|| missing("match", "say for whom it is, or write {} where for everything"))?;
    let multiply = raw.multiply.as_ref().ok_or_else(|| missing("multiply", "write 0.85 for a discount of 15 %"))?;
    let multiply = factor(multiply, &format!("{path}.multiply"), Factor::MULTIPLIER_DIGITS, Factor::MULTIPLIER_MAX)?;
    let (from, to) = period(&raw.from, &raw.to, path)?;
    Ok(Adjustment {
        matches: scope(matches, &format!("{path}.match"))?,
        multiply,
        from,
        to,
        note: raw.note.clone(),
        line: at.line(),
        column: at.column(),
    })
}

fn scope(given: &BTreeMap<String, Text>, path: &str) -> Result<Scope, FileError> {
    let mut values = Vec::with_capacity(given.len());
    for (name, text) in given {
        let refuse = |message: String| FileError::at(text.referenced, format!("{path}.{name}"), message);
        let dimension: Dimension = name.parse().map_err(refuse)?;
        let value = text.value.as_str();
        if value.is_empty() || value.trim() != value {
            return Err(refuse("empty or with spaces around it; write the value as events have it".to_owned()));
        }
        let plain = if dimension == Dimension::Model { value.strip_suffix('*').unwrap_or(value) } else { value };
        if plain.contains('*') {
            return Err(refuse(format!("`{value}`: a `*` may stand at the end of a model's name only")));
        }
        let value = match dimension {
            Dimension::Provider => canonical_provider(value),
            Dimension::ServiceTier => canonical_service_tier(value),
            _ => value,
        };
        values.push((dimension, value));
    }
    Ok(Scope::new(values))
}

fn refuse_equal_adjustments(list: &[Adjustment]) -> Result<(), FileError> {
    for (index, one) in list.iter().enumerate() {
        let equal = list[..index].iter().find(|other| equal_right(one, other) && !settled(one, other, list));
        if let Some(other) = equal {
            return Err(FileError {
                line: one.line,
                column: one.column,
                field: format!("adjustments[{index}]"),
                message: format!(
                    "applies as specifically as the one of line {} to the same events at the same time; end one with `to`, \
                     remove it, or add one that names the dimensions of both",
                    other.line
                ),
            });
        }
    }
    Ok(())
}

/// Whether some event could have both, and neither is the more specific one.
fn equal_right(a: &Adjustment, b: &Adjustment) -> bool {
    let ends_before =
        |to: Option<TimeUs>, from: Option<TimeUs>| matches!((to, from), (Some(to), Some(from)) if to <= from);
    if a.names() != b.names() || ends_before(a.to, b.from) || ends_before(b.to, a.from) {
        return false;
    }
    let same_dimensions = a.matches.dimensions() == b.matches.dimensions();
    a.matches.iter().all(|(dimension, value)| match (dimension, b.matches.get(dimension)) {
        (_, None) => true,
        // Of two prefixes the longer is the more specific, and a name more than any, where they name the same dimensions.
        (Dimension::Model, Some(other)) if !same_dimensions => within(value, other) || within(other, value),
        (_, Some(other)) => value == other,
    })
}

/// Whether a third one, more specific than both, is for every event that has both, as long as both hold.
fn settled(a: &Adjustment, b: &Adjustment, list: &[Adjustment]) -> bool {
    let value_of_both = |dimension| match (a.matches.get(dimension), b.matches.get(dimension)) {
        (Some(one), Some(other)) => Some(if within(one, other) { one } else { other }),
        (one, other) => one.or(other),
    };
    let (from, to) = (a.from.max(b.from), [a.to, b.to].into_iter().flatten().min());
    list.iter().any(|third| {
        let in_time = third.from <= from && third.to.is_none_or(|end| to.is_some_and(|to| to <= end));
        third.names() > a.names()
            && in_time
            && third.matches.iter().all(|(dimension, wanted)| match (dimension, value_of_both(dimension)) {
                (_, None) => false,
                (Dimension::Model, Some(value)) => within(value, wanted),
                (_, Some(value)) => value == wanted,
            })
    })
}

/// Whether every model that the one pattern matches is matched by the other, too.
fn within(narrow: &str, wide: &str) -> bool {
    narrow == wide || (wide.ends_with('*') && model_matches(wide, narrow.trim_end_matches('*')))
}

/// Reads the currency of the books and the rates that lead to it.
pub(super) fn exchange(raw: &RawBook) -> Result<Exchange, FileError> {
    let settle_in = raw.settle_in.as_ref().map(|text| currency(text, "settle_in")).transpose()?;
    let mut rates = Vec::with_capacity(raw.exchange_rates.len());
    for (index, rate) in raw.exchange_rates.iter().enumerate() {
        rates.push((index, one_rate(rate, settle_in, &format!("exchange_rates[{index}]"))?));
    }
    rates.sort_by_key(|(index, rate)| (rate.from_currency, rate.from, *index));
    for at in 1..rates.len() {
        let (before, next) = (rates[at - 1].1.clone(), &rates[at]);
        if before.from_currency != next.1.from_currency {
            continue;
        }
        if before.from == next.1.from || before.to.is_some_and(|to| next.1.from < to) {
            let ((index, one), other) = if before.line < next.1.line {
                ((next.0, &next.1), &before)
            } else {
                ((rates[at - 1].0, &before), &next.1)
            };
            return Err(FileError {
                line: one.line,
                column: one.column,
                field: format!("exchange_rates[{index}]"),
                message: format!(
                    "a second rate for {} at the same time as the one of line {}; correct `from` or `to`, or remove it",
                    one.from_currency, other.line
                ),
            });
        }
        let next_from = next.1.from;
        // Without an end of its own a rate holds until the next one.
        rates[at - 1].1.to.get_or_insert(next_from);
    }
    Ok(Exchange { settle_in, rates: rates.into_iter().map(|(_, rate)| rate).collect() })
}

fn one_rate(raw: &Spanned<RawRate>, settle_in: Option<Currency>, path: &str) -> Result<ExchangeRate, FileError> {
    let (at, raw) = (raw.referenced, &raw.value);
    let field = |name: &str| format!("{path}.{name}");
    let missing = |name: &str, what: &str| FileError::at(at, field(name), format!("missing; {what}"));
    let Some(settle_in) = settle_in else {
        return Err(FileError::at(
            at,
            path,
            "of no use without `settle_in`; say at the top in which currency the books are",
        ));
    };
    let text = raw.from_currency.as_ref().ok_or_else(|| missing("from_currency", "name the currency of the prices"))?;
    let from_currency = currency(text, &field("from_currency"))?;
    if from_currency == settle_in {
        return Err(FileError::at(
            text.referenced,
            field("from_currency"),
            "is the currency of the books; it needs no rate",
        ));
    }
    let text = raw.to_currency.as_ref().ok_or_else(|| missing("to_currency", "name the currency of the books"))?;
    if currency(text, &field("to_currency"))? != settle_in {
        let message = format!("`{}` is not what the file settles in, {settle_in}; rates are not chained", text.value);
        return Err(FileError::at(text.referenced, field("to_currency"), message));
    }
    let text = raw.rate.as_ref().ok_or_else(|| missing("rate", "say what one unit is worth"))?;
    let rate = factor(text, &field("rate"), Factor::RATE_DIGITS, Factor::RATE_MAX)?;
    if rate.is_zero() {
        return Err(FileError::at(
            text.referenced,
            field("rate"),
            "0 would make everything free; write what one unit is worth",
        ));
    }
    let (from, to) = period(&raw.from, &raw.to, path)?;
    Ok(ExchangeRate {
        from_currency,
        to_currency: settle_in,
        rate,
        from: from.ok_or_else(|| missing("from", "say from when the rate holds"))?,
        to,
        source: raw.source.as_ref().ok_or_else(|| missing("source", "say where the rate is published"))?.value.clone(),
        line: at.line(),
        column: at.column(),
    })
}
