//! Values in JSON that is not our own: found by a path, and taken as they are written by others, with numbers as texts and floats as costs.
//!
//! Holds here: no float arithmetic. A number is read digit by digit from its text, also one with an exponent, and rounded half to even
//! where it is finer than our units: what a float shows beyond them is not money.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use usage_types::{ComputeNs, Pico, RejectCode, UsageEvent};

use crate::field::{Borrowed, COMPUTE_MAX, COST_MAX, Fault, check_text, json_text, negative};

/// The longest number that is read, in bytes: an f64 in full has some 770 digits, and nobody writes them.
const NUMBER_BYTES_MAX: usize = 64;

/// The value at the end of a path of names; `None` where there is none, or `null`. The JSON is known to be valid.
pub(crate) fn find<N: AsRef<str>>(json: &str, path: impl IntoIterator<Item = N>) -> Option<&str> {
    let mut json = json.trim_ascii();
    for name in path {
        if !json.starts_with('{') {
            return None;
        }
        json = serde_json::Deserializer::from_str(json).deserialize_map(Member(name.as_ref())).ok()??.get();
    }
    (json != "null").then_some(json)
}

/// The members of an object that is looked at several times.
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// Reads JSON that is known to be valid; what is no object has no members.
    pub(crate) fn read(json: &'a str) -> Self {
        let is_object = json.trim_ascii().starts_with('{');
        let read = is_object.then(|| serde_json::Deserializer::from_str(json).deserialize_map(Members));
        Self(read.and_then(Result::ok).unwrap_or_default())
    }

    /// The value at the end of a path of names with dots between; `None` where there is none, or `null`.
    pub(crate) fn find(&self, path: &str) -> Option<&'a str> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let (_, json) = self.0.iter().find(|(is, _)| is == name)?;
        find(json, rest.into_iter().flat_map(|rest| rest.split('.')))
    }
}

/// All members.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de str)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(32);
        while let Some(Borrowed(name)) = map.next_key()? {
            members.push((name, map.next_value::<&RawValue>()?.get()));
        }
        Ok(members)
    }
}

/// The first member of this name.
struct Member<'n>(&'n str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Borrowed(name)) = map.next_key()? {
            if found.is_none() && name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A text, a number or a boolean as text. `None` where it is empty.
pub(crate) fn label(json: &str) -> Result<Option<Cow<'_, str>>, Fault> {
    let text = match json.as_bytes().first() {
        Some(b'"') => json_text(json)?,
        Some(b'{' | b'[') => {
            return Err((RejectCode::WrongType, "a text is needed here, not what holds other values".to_owned()));
        }
        _ => Cow::Borrowed(json),
    };
    check_text(&text)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A whole number: also as a text, and as a float without a fraction.
pub(crate) fn count(json: &str) -> Result<u64, Fault> {
    let text = number_text(json)?;
    let (value, is_exact) = scaled(&text, 0)?;
    if !is_exact {
        return Err((RejectCode::WrongType, format!("{text} is a fraction; a count is a whole number")));
    }
    let max = UsageEvent::COUNT_MAX;
    u64::try_from(value).ok().filter(|count| *count <= max).ok_or_else(|| {
        if value < 0 {
            negative(&text)
        } else {
            (RejectCode::OutOfRange, format!("{text} is more than {max}, the most that one event may count"))
        }
    })
}

/// An amount of money: a number or a text, rounded to pico-units.
pub(crate) fn money(json: &str) -> Result<Pico, Fault> {
    let text = number_text(json)?;
    let (value, _) = scaled(&text, Pico::DIGITS)?;
    match Pico(value) {
        amount if amount < Pico(0) => Err(negative(&text)),
        amount if amount > COST_MAX => {
            Err((RejectCode::OutOfRange, format!("{text} is more than {COST_MAX}, the most that one event may cost")))
        }
        amount => Ok(amount),
    }
}

/// Compute time: a number or a text, in seconds where `digits` is [`ComputeNs::DIGITS`], in milliseconds where it is three less.
pub(crate) fn compute(json: &str, digits: u32) -> Result<ComputeNs, Fault> {
    let text = number_text(json)?;
    let (value, _) = scaled(&text, digits)?;
    match u64::try_from(value).map(ComputeNs) {
        Ok(compute) if compute <= COMPUTE_MAX => Ok(compute),
        _ if value < 0 => Err(negative(&text)),
        _ => {
            let message = format!("{text} is more than {COMPUTE_MAX} seconds, the most that one event may have used");
            Err((RejectCode::OutOfRange, message))
        }
    }
}

/// The text of a number, as it was written.
pub(crate) fn number_text(json: &str) -> Result<Cow<'_, str>, Fault> {
    let text = if json.starts_with('"') { json_text(json)? } else { Cow::Borrowed(json) };
    if text.len() > NUMBER_BYTES_MAX {
        return Err((RejectCode::OutOfRange, "a number of so many digits is not read; round it".to_owned()));
    }
    Ok(text)
}

/// The number in units of `10^-digits`, rounded half to even, and whether nothing was rounded.
pub(crate) fn scaled(text: &str, digits: u32) -> Result<(i128, bool), Fault> {
    let not_a_number = || (RejectCode::WrongType, format!("{text:?} is no number; write it like 12.5"));
    let too_large = || (RejectCode::OutOfRange, format!("{text} is too large"));
    let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| not_a_number())?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) {
        return Err(not_a_number());
    }
    // How many of the digits are left of the unit's point; bounded, so that an absurd exponent costs nothing.
    let kept =
        i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent).saturating_add(i64::from(digits));
    let kept = kept.clamp(-1, 1000);
    let mut value: i128 = 0;
    let mut all = whole.bytes().chain(fraction.bytes());
    for _ in 0..kept {
        let digit = i128::from(all.next().unwrap_or(b'0') - b'0');
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or_else(too_large)?;
    }
    // Where `kept` is negative even the first digit is beyond the half.
    let first = if kept < 0 { Some(b'0') } else { all.next() };
    let is_more =
        all.any(|byte| byte > b'0') || (kept < 0 && mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte)));
    let is_exact = first.is_none_or(|digit| digit == b'0') && !is_more;
    let rounds_up = match first {
        Some(digit) if digit > b'5' => true,
        Some(b'5') => is_more || value % 2 == 1,
        _ => false,
    };
    value += i128::from(rounds_up);
    Ok((if is_negative { -value } else { value }, is_exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_scaled_from_its_digits_and_rounded_half_to_even() {
        for (text, digits, expected) in [
            ("0", 12, Some((0, true))),
            ("12.5", 1, Some((125, true))),
            ("1.2e-05", 12, Some((12_000_000, true))),
            ("1.2E+3", 0, Some((1200, true))),
            ("12.0", 0, Some((12, true))),
            ("0.5", 0, Some((0, false))),
            ("1.5", 0, Some((2, false))),
            ("2.5", 0, Some((2, false))),
            ("2.51", 0, Some((3, false))),
            ("-2.51", 0, Some((-3, false))),
            ("4.9e-1", 0, Some((0, false))),
            ("9e-2", 0, Some((0, false))),
            ("9.99e-14", 12, Some((0, false))),
            // What Python writes for 3 * 0.1: the seventeenth digit is the float's, not the money's.
            ("0.30000000000000004", 12, Some((300_000_000_000, false))),
            ("1e400", 12, None),
            ("1e99999999999999999999", 12, None),
            ("1e-400", 12, Some((0, false))),
            ("0e400", 12, Some((0, true))),
            ("", 0, None),
            (".", 0, None),
            ("1,5", 0, None),
            ("NaN", 0, None),
            ("--1", 0, None),
        ] {
            assert_eq!(scaled(text, digits).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_found_by_its_path_and_null_is_none() {
        let json = r#"{"a":{"b":[1,{"c":2}],"d":null,"\u0065":"x"},"a":5,"":{"":7}}"#;
        let found = |path: &str| find(json, path.split('.'));
        assert_eq!((found("a.b"), found("a.e"), found(".")), (Some(r#"[1,{"c":2}]"#), Some("\"x\""), Some("7")));
        assert_eq!((found("a.d"), found("a.b.c"), found("z"), found("a.z.b")), (None, None, None, None));
        assert_eq!(find(" 5 ", std::iter::empty::<&str>()), Some("5"));
        let object = Object::read(json);
        for path in ["a.b", "a.e", ".", "a.d", "a.b.c", "z", "a.z.b", "a"] {
            assert_eq!(object.find(path), found(path), "{path}");
        }
        assert_eq!(Object::read("[1]").find("a"), None);
    }
}
