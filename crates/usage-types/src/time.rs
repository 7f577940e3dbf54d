//! Points in time as microseconds since the Unix epoch, UTC.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time: microseconds since 1970-01-01T00:00:00Z. In JSON an RFC 3339 text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeUs(pub i64);

impl TimeUs {
    /// Microseconds in a second.
    pub const SECOND: i64 = 1_000_000;
    /// Microseconds in a minute.
    pub const MINUTE: i64 = 60 * Self::SECOND;
    /// Microseconds in an hour.
    pub const HOUR: i64 = 60 * Self::MINUTE;
    /// Microseconds in a day of 24 hours.
    pub const DAY: i64 = 24 * Self::HOUR;

    /// From a record's timestamp in milliseconds.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Reads an RFC 3339 text with any offset; digits finer than a microsecond are cut off.
    ///
    /// # Errors
    /// The text is no RFC 3339 time.
    pub fn parse_rfc3339(text: &str) -> Result<Self, chrono::ParseError> {
        DateTime::parse_from_rfc3339(text).map(|time| Self(time.timestamp_micros()))
    }

    /// As chrono's UTC time; the ends of chrono's range where it is outside.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// Later by so many microseconds (earlier where negative), at the ends of the range where it would not fit.
    #[must_use]
    pub fn plus_us(self, delta_us: i64) -> Self {
        Self(self.0.saturating_add(delta_us))
    }
}

impl From<DateTime<Utc>> for TimeUs {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_micros())
    }
}

impl fmt::Display for TimeUs {
    /// RFC 3339 in UTC with as many fractional digits as needed (none, 3 or 6).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = if self.0 % Self::SECOND == 0 {
            SecondsFormat::Secs
        } else if self.0 % 1000 == 0 {
            SecondsFormat::Millis
        } else {
            SecondsFormat::Micros
        };
        f.write_str(&self.to_utc().to_rfc3339_opts(format, true))
    }
}

impl Serialize for TimeUs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeUs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text)
            .map_err(|_| de::Error::custom(format!("`{text}` is no RFC 3339 time like 2026-11-21T10:00:00Z")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_in_any_offset_becomes_utc_with_the_digits_it_needs() {
        for (text, written) in [
            ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
            ("2026-11-21T11:00:00.120+01:00", "2026-11-21T10:00:00.120Z"),
            ("2026-11-21T10:00:00.1234567Z", "2026-11-21T10:00:00.123456Z"),
        ] {
            assert_eq!(TimeUs::parse_rfc3339(text).unwrap().to_string(), written);
        }
        assert!(TimeUs::parse_rfc3339("2026-11-21 10:00").is_err());
    }
}
