//! The fields of a price file, each read exactly or refused with where it stands.

use chrono::{NaiveDate, NaiveTime};
use usage_types::{Currency, Pico, TimeUs};
use yaml_file::{FileError, Text};

use crate::{Factor, Rates};

/// A price per million tokens, as pico-units per token.
pub(super) fn token_price(text: &Option<Text>, field: &str) -> Result<Option<Pico>, FileError> {
    let Some(per_million) = price(text, field)? else { return Ok(None) };
    let tokens = i128::from(Rates::TOKENS_PER_PRICE);
    match (per_million.0 % tokens, text) {
        (0, _) | (_, None) => Ok(Some(Pico(per_million.0 / tokens))),
        (_, Some(text)) => {
            let message = format!(
                "`{}` has more than 6 digits after the point; a token would cost a fraction of a pico-unit",
                text.value
            );
            Err(FileError::at(text.referenced, field, message))
        }
    }
}

pub(super) fn price(text: &Option<Text>, field: &str) -> Result<Option<Pico>, FileError> {
    let Some(text) = text else { return Ok(None) };
    let price: Pico = text.value.parse().map_err(|why| FileError::at(text.referenced, field, format!("{why}")))?;
    if price.0 < 0 {
        return Err(FileError::at(
            text.referenced,
            field,
            format!("`{}` is negative; a price is 0 or more", text.value),
        ));
    }
    Ok(Some(price))
}

pub(super) fn currency(text: &Text, field: &str) -> Result<Currency, FileError> {
    text.value.parse().map_err(|why| FileError::at(text.referenced, field, format!("{why}")))
}

pub(super) fn date(text: &Text, field: &str) -> Result<NaiveDate, FileError> {
    NaiveDate::parse_from_str(&text.value, "%Y-%m-%d")
        .map_err(|_| FileError::at(text.referenced, field, format!("`{}` is no date like 2026-11-21", text.value)))
}

/// A date (its beginning in UTC) or an RFC 3339 time.
fn instant(text: &Option<Text>, field: &str) -> Result<Option<TimeUs>, FileError> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(time) = TimeUs::parse_rfc3339(&text.value) {
        return Ok(Some(time));
    }
    Ok(Some(date(text, field)?.and_time(NaiveTime::MIN).and_utc().into()))
}

/// From when, inclusive, until when, exclusive.
pub(super) fn period(
    from: &Option<Text>,
    to: &Option<Text>,
    path: &str,
) -> Result<(Option<TimeUs>, Option<TimeUs>), FileError> {
    let field = |name: &str| format!("{path}.{name}");
    let (start, end) = (instant(from, &field("from"))?, instant(to, &field("to"))?);
    if let (Some(start), Some(end), Some(text)) = (start, end, to)
        && end <= start
    {
        return Err(FileError::at(text.referenced, field("to"), format!("`{}` is not after `from`", text.value)));
    }
    Ok((start, end))
}

/// A number to multiply by.
pub(super) fn factor(text: &Text, field: &str, digits: u32, max: u64) -> Result<Factor, FileError> {
    Factor::parse(&text.value, digits, max).map_err(|message| FileError::at(text.referenced, field, message))
}
