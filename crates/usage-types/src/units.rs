//! Money and compute time as integers. No float touches either: a decimal text goes in, the same decimal text comes out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a unit could not be read from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text is no plain decimal number.
    #[error("`{0}` is no decimal number; write it like \"12.5\" (no exponent, no separators)")]
    NotDecimal(String),
    /// More fractional digits than the unit holds.
    #[error("`{text}` has more than {digits} digits after the point")]
    TooFine {
        /// The text as it was given.
        text: String,
        /// How many fractional digits the unit holds.
        digits: u32,
    },
    /// The number does not fit.
    #[error("`{0}` is too large")]
    TooLarge(String),
    /// The text is no ISO 4217 code.
    #[error("`{0}` is no currency code; write three capital letters like \"USD\"")]
    NotCurrency(String),
    /// The text is no `AMOUNT CURRENCY`.
    #[error("`{0}` is no amount of money; write it like \"500.00 USD\"")]
    NotMoney(String),
}

/// Reads a decimal text into an integer of `10^-digits` units.
fn parse_decimal(text: &str, digits: u32) -> Result<i128, UnitError> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty() && !rest.contains('0')) || !plain(whole) || !plain(fraction) {
        return Err(UnitError::NotDecimal(text.to_owned()));
    }
    let fraction_len = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    if fraction_len > digits {
        return Err(UnitError::TooFine { text: text.to_owned(), digits });
    }
    let mut value: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(byte - b'0')))
            .ok_or_else(|| UnitError::TooLarge(text.to_owned()))?;
    }
    let value = 10_i128
        .checked_pow(digits - fraction_len)
        .and_then(|scale| value.checked_mul(scale))
        .ok_or_else(|| UnitError::TooLarge(text.to_owned()))?;
    Ok(if negative { -value } else { value })
}

/// Writes an integer of `10^-digits` units as a decimal text without trailing zeros.
pub(crate) fn format_decimal(value: i128, digits: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let scale = 10_u128.pow(digits);
    let magnitude = value.unsigned_abs();
    if value < 0 {
        f.write_str("-")?;
    }
    write!(f, "{}", magnitude / scale)?;
    let fraction = magnitude % scale;
    if fraction != 0 {
        let text = format!("{fraction:0width$}", width = digits as usize);
        write!(f, ".{}", text.trim_end_matches('0'))?;
    }
    Ok(())
}

/// A decimal given as JSON text or as a JSON integer. A JSON number with a point is refused: it may have been a float.
fn deserialize_decimal<'de, D: Deserializer<'de>>(deserializer: D, digits: u32) -> Result<i128, D::Error> {
    struct Visitor(u32);
    impl de::Visitor<'_> for Visitor {
        type Value = i128;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a decimal number in quotes, like \"0.0123\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<i128, E> {
            parse_decimal(text, self.0).map_err(E::custom)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i128, E> {
            parse_decimal(&value.to_string(), self.0).map_err(E::custom)
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<i128, E> {
            parse_decimal(&value.to_string(), self.0).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Visitor(digits))
}

/// Money in pico-units (10⁻¹²) of its currency. One token at $0.0125 per million is 12,500 pico-dollars, exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pico(pub i128);

impl Pico {
    /// Fractional decimal digits of the unit; also the scale of `Decimal128(38, 12)` in the lake.
    pub const DIGITS: u32 = 12;
    /// One whole unit of the currency.
    pub const ONE: Self = Self(1_000_000_000_000);
    /// The largest amount that `Decimal128(38, 12)` holds.
    pub const MAX: Self = Self(99_999_999_999_999_999_999_999_999_999_999_999_999);

    /// The sum, or `None` where it would not fit the lake's decimal.
    #[must_use]
    #[inline]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).filter(|v| v.unsigned_abs() <= Self::MAX.0.unsigned_abs()).map(Self)
    }
}

impl FromStr for Pico {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let value = parse_decimal(text, Self::DIGITS)?;
        if value.unsigned_abs() > Self::MAX.0.unsigned_abs() {
            return Err(UnitError::TooLarge(text.to_owned()));
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Pico {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_decimal(self.0, Self::DIGITS, f)
    }
}

impl Serialize for Pico {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pico {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserialize_decimal(deserializer, Self::DIGITS)?;
        if value.unsigned_abs() > Self::MAX.0.unsigned_abs() {
            return Err(de::Error::custom(UnitError::TooLarge(value.to_string())));
        }
        Ok(Self(value))
    }
}

/// Compute time in nanoseconds; in JSON a decimal text of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeNs(pub u64);

impl ComputeNs {
    /// Fractional decimal digits of a second.
    pub const DIGITS: u32 = 9;
}

impl FromStr for ComputeNs {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let value = parse_decimal(text, Self::DIGITS)?;
        if value < 0 {
            return Err(UnitError::NotDecimal(text.to_owned()));
        }
        u64::try_from(value).map(Self).map_err(|_| UnitError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for ComputeNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_decimal(i128::from(self.0), Self::DIGITS, f)
    }
}

impl Serialize for ComputeNs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ComputeNs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserialize_decimal(deserializer, Self::DIGITS)?;
        if value < 0 {
            return Err(de::Error::custom("negative compute time; it must be zero or more"));
        }
        u64::try_from(value).map(Self).map_err(|_| de::Error::custom("compute time is too large"))
    }
}

/// An ISO 4217 currency code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// US dollar: the currency of the price book that is shipped.
    pub const USD: Self = Self(*b"USD");

    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl FromStr for Currency {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(UnitError::NotCurrency(text.to_owned())),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// An amount of money in one currency; in JSON `{"amount": "0.0123", "currency": "USD"}`, in YAML also `"0.0123 USD"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// How much, in pico-units.
    pub amount: Pico,
    /// Of which currency.
    pub currency: Currency,
}

impl FromStr for Money {
    type Err = UnitError;
    /// Reads `AMOUNT CURRENCY`, like `500.00 USD`.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (amount, currency) = text.trim().split_once(' ').ok_or_else(|| UnitError::NotMoney(text.to_owned()))?;
        Ok(Self { amount: amount.parse()?, currency: currency.trim().parse()? })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pico_reads_and_writes_the_same_decimal() {
        for (text, pico, written) in [
            ("0", 0, "0"),
            ("0.0123", 12_300_000_000, "0.0123"),
            ("500.00", 500_000_000_000_000, "500"),
            ("-1.5", -1_500_000_000_000, "-1.5"),
            ("0.000000000001", 1, "0.000000000001"),
            (".5", 500_000_000_000, "0.5"),
            ("7.", 7_000_000_000_000, "7"),
        ] {
            let read: Pico = text.parse().unwrap();
            assert_eq!((read.0, read.to_string().as_str()), (pico, written), "{text}");
        }
    }

    #[test]
    fn pico_refuses_what_is_no_exact_decimal() {
        for text in
            ["", ".", "-", "1e3", "1,5", "0.0000000000001", "abc", "1.2.3", " 1", "999999999999999999999999999999"]
        {
            assert!(text.parse::<Pico>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn json_money_is_text_and_a_float_is_refused() {
        let money: Money = serde_json::from_str(r#"{"amount":"0.0123","currency":"USD"}"#).unwrap();
        assert_eq!(serde_json::to_string(&money).unwrap(), r#"{"amount":"0.0123","currency":"USD"}"#);
        let error = serde_json::from_str::<Money>(r#"{"amount":0.0123,"currency":"USD"}"#).unwrap_err();
        assert!(error.to_string().contains("in quotes"), "{error}");
        assert!(serde_json::from_str::<Money>(r#"{"amount":"1","currency":"usd"}"#).is_err());
    }
}
