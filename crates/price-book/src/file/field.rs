//! The fields of a price file, each read exactly or refused with where it stands.

use chrono::{NaiveDate, NaiveTime};
use serde_saphyr::{Location, Spanned};
use usage_types::{Currency, Pico, TimeUs};

use crate::{Factor, PriceError, Rates};

/// A field's text with where it stands.
pub(super) type Text = Spanned<String>;

/// A price per million tokens, as pico-units per token.
pub(super) fn token_price(text: &Option<Text>, field: &str) -> Result<Option<Pico>, PriceError> {
    let Some(per_million) = price(text, field)? else { return Ok(None) };
    let tokens = i128::from(Rates::TOKENS_PER_PRICE);
    match (per_million.0 % tokens, text) {
        (0, _) | (_, None) => Ok(Some(Pico(per_million.0 / tokens))),
        (_, Some(text)) => {
            let message = format!(
                "`{}` has more than 6 digits after the point; a token would cost a fraction of a pico-unit",
                text.value
            );
            Err(error(text.referenced, field, message))
        }
    }
}

pub(super) fn price(text: &Option<Text>, field: &str) -> Result<Option<Pico>, PriceError> {
    let Some(text) = text else { return Ok(None) };
    let price: Pico = text.value.parse().map_err(|why| error(text.referenced, field, format!("{why}")))?;
    if price.0 < 0 {
        return Err(error(text.referenced, field, format!("`{}` is negative; a price is 0 or more", text.value)));
    }
    Ok(Some(price))
}

pub(super) fn currency(text: &Text, field: &str) -> Result<Currency, PriceError> {
    text.value.parse().map_err(|why| error(text.referenced, field, format!("{why}")))
}

pub(super) fn date(text: &Text, field: &str) -> Result<NaiveDate, PriceError> {
    NaiveDate::parse_from_str(&text.value, "%Y-%m-%d")
        .map_err(|_| error(text.referenced, field, format!("`{}` is no date like 2026-11-21", text.value)))
}

/// A date (its beginning in UTC) or an RFC 3339 time.
fn instant(text: &Option<Text>, field: &str) -> Result<Option<TimeUs>, PriceError> {
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
) -> Result<(Option<TimeUs>, Option<TimeUs>), PriceError> {
    let field = |name: &str| format!("{path}.{name}");
    let (start, end) = (instant(from, &field("from"))?, instant(to, &field("to"))?);
    if let (Some(start), Some(end), Some(text)) = (start, end, to)
        && end <= start
    {
        return Err(error(text.referenced, field("to"), format!("`{}` is not after `from`", text.value)));
    }
    Ok((start, end))
}

/// A number to multiply by.
pub(super) fn factor(text: &Text, field: &str, digits: u32, max: u64) -> Result<Factor, PriceError> {
    Factor::parse(&text.value, digits, max).map_err(|message| error(text.referenced, field, message))
}

pub(super) fn error(at: Location, field: impl Into<String>, message: impl Into<String>) -> PriceError {
    PriceError { line: at.line(), column: at.column(), field: field.into(), message: message.into() }
}

/// An error of the YAML reader, without its excerpt of the file: the field is the one it names, else the key on the line.
pub(super) fn not_of_this_shape(text: &str, error: &serde_saphyr::Error) -> PriceError {
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let message = error.without_snippet().to_string();
    let message = message.strip_suffix(&format!(" at line {line}, column {column}")).unwrap_or(&message);
    let named = message.split_once("field `").and_then(|(_, rest)| rest.split('`').next());
    let on_line = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?)).unwrap_or("");
    let key = on_line.trim_start().trim_start_matches("- ").split_once(':').map_or("", |(key, _)| key.trim());
    let plain = |name: &&str| name.len() < 40 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    PriceError {
        line,
        column,
        field: named.or(Some(key)).filter(plain).unwrap_or_default().to_owned(),
        message: message.to_owned(),
    }
}
