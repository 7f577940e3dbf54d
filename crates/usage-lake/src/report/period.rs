//! The time that a report is of, as people write it.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike as _, Days, IsoWeek, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc, Weekday,
};
use chrono_tz::Tz;
use usage_types::TimeUs;

use super::wrong;
use crate::LakeError;

/// The years that a period may be in: those that every date in them and after them has a time for.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9998;

/// A year, month, week or day of local time, written as in ISO 8601: `2026`, `2026-11`, `2026-W47`, `2026-11-21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A year.
    Year(i32),
    /// The month that begins with this date.
    Month(NaiveDate),
    /// The week that begins with this Monday.
    Week(NaiveDate),
    /// A day.
    Day(NaiveDate),
}

impl Period {
    /// Its first date, and the first one after it.
    #[must_use]
    pub fn dates(self) -> (NaiveDate, NaiveDate) {
        let first = self.first();
        let next = match self {
            Self::Year(year) => NaiveDate::from_ymd_opt(year + 1, 1, 1),
            Self::Month(month) => month.checked_add_months(chrono::Months::new(1)),
            Self::Week(monday) => monday.checked_add_days(Days::new(7)),
            Self::Day(day) => day.succ_opt(),
        };
        (first, next.unwrap_or(first))
    }

    fn first(self) -> NaiveDate {
        match self {
            Self::Year(year) => NaiveDate::from_yo_opt(year, 1).unwrap_or_default(),
            Self::Month(date) | Self::Week(date) | Self::Day(date) => date,
        }
    }

    /// Its half-open range in a zone.
    #[must_use]
    pub fn range(self, zone: Tz) -> (TimeUs, TimeUs) {
        let (from, to) = self.dates();
        (midnight(from, zone), midnight(to, zone))
    }

    /// The one of the same kind that ends where this one begins; itself at the begin of the calendar.
    #[must_use]
    pub fn before(self) -> Self {
        let last = self.first().pred_opt().filter(|date| YEARS.contains(&date.year()));
        last.map_or(self, |last| self.like(last))
    }

    /// The one of the same kind that a date is in.
    #[must_use]
    pub fn like(self, date: NaiveDate) -> Self {
        match self {
            Self::Year(_) => Self::Year(date.year()),
            Self::Month(_) => Self::Month(date.with_day(1).unwrap_or(date)),
            Self::Week(_) => Self::Week(date.week(Weekday::Mon).checked_first_day().unwrap_or(date)),
            Self::Day(_) => Self::Day(date),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Year(year) => write!(f, "{year:04}"),
            Self::Month(month) => write!(f, "{}", month.format("%Y-%m")),
            Self::Week(monday) => {
                let week: IsoWeek = monday.iso_week();
                write!(f, "{:04}-W{:02}", week.year(), week.week())
            }
            Self::Day(day) => write!(f, "{}", day.format("%Y-%m-%d")),
        }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let number = |part: &str, digits: usize| {
            let is_plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u32>().ok().filter(|_| is_plain)
        };
        let year = |part: &str| number(part, 4).and_then(|y| i32::try_from(y).ok()).filter(|year| YEARS.contains(year));
        let date = |y: &str, m: &str, d: Option<&str>| {
            NaiveDate::from_ymd_opt(year(y)?, number(m, 2)?, d.map_or(Some(1), |d| number(d, 2))?)
        };
        let found = match parts[..] {
            [y] => year(y).map(Self::Year),
            [y, m] => match m.strip_prefix('W') {
                Some(week) => year(y)
                    .zip(number(week, 2))
                    .and_then(|(y, week)| NaiveDate::from_isoywd_opt(y, week, Weekday::Mon))
                    .map(Self::Week),
                None => date(y, m, None).map(Self::Month),
            },
            [y, m, d] => date(y, m, Some(d)).map(Self::Day),
            _ => None,
        };
        found.ok_or_else(|| format!("`{text}` is no period; write it like 2026, 2026-11, 2026-W47 or 2026-11-21"))
    }
}

/// The time zone of this IANA name; UTC where it is empty.
///
/// # Errors
/// There is none.
pub fn parse_zone(text: &str) -> Result<Tz, LakeError> {
    match text {
        "" => Ok(Tz::UTC),
        _ => text.parse().map_err(|_| wrong("zone", format!("`{text}` is no IANA time zone like Europe/Berlin"))),
    }
}

/// The half-open range of a [`Period`]'s local time.
///
/// # Errors
/// It is no period.
pub fn period(text: &str, zone: Tz) -> Result<(TimeUs, TimeUs), LakeError> {
    let period: Period = text.parse().map_err(|reason| wrong("period", reason))?;
    Ok(period.range(zone))
}

/// When a local day begins. Where clocks go forward at midnight it begins at the first time that there is.
#[must_use]
pub fn midnight(date: NaiveDate, zone: Tz) -> TimeUs {
    let mut local = date.and_time(NaiveTime::MIN);
    for _ in 0..48 {
        match zone.from_local_datetime(&local) {
            LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => {
                let utc: DateTime<Utc> = time.to_utc();
                return TimeUs::from(utc);
            }
            LocalResult::None => local += TimeDelta::minutes(15),
        }
    }
    // No zone ever skipped more than half a day but one that skipped a whole one: its midnight is that of UTC then.
    TimeUs::from(date.and_time(NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str, zone: &str) -> Result<(String, String), String> {
        let zone = parse_zone(zone).map_err(|error| error.to_string())?;
        let (from, to) = period(text, zone).map_err(|error| error.to_string())?;
        Ok((from.to_string(), to.to_string()))
    }

    #[test]
    fn a_period_is_local_time_also_where_clocks_change() {
        for (text, zone, from, to) in [
            ("2026-11", "", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2026-12", "Asia/Kolkata", "2026-11-30T18:30:00Z", "2026-12-31T18:30:00Z"),
            ("2026-W47", "", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            // The last week of 2026 is the one with its last Thursday.
            ("2026-W53", "", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
            // 25 and 23 hours.
            ("2026-10-25", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            // Clocks go from 00:00 to 01:00: the day begins at 01:00.
            ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
        ] {
            assert_eq!(range(text, zone), Ok((from.to_owned(), to.to_owned())), "{text} {zone}");
        }
    }

    #[test]
    fn what_is_no_period_or_zone_is_refused() {
        let wrong = ["", "26", "2026-13", "2026-00", "2026-02-30", "2026-1-1-1", "2026-11'; DROP TABLE usage", "-2026"];
        for text in
            wrong.into_iter().chain(["９９９９", "2026-W54", "2025-W53", "2026-W0", "2026-w47", "9999", "2026-1"])
        {
            assert!(range(text, "").is_err(), "{text} was taken");
        }
        assert!(range("2026-11", "Europe/Berlin' OR 1=1").unwrap_err().contains("no IANA time zone"));
    }

    #[test]
    fn the_period_before_is_of_the_same_kind_and_ends_where_this_one_begins() {
        for (text, before) in [
            ("2026", "2025"),
            ("2026-01", "2025-12"),
            ("2026-W01", "2025-W52"),
            ("2027-W01", "2026-W53"),
            ("2026-03-01", "2026-02-28"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.before().to_string(), before);
            assert_eq!(period.before().dates().1, period.dates().0, "{text}");
            assert_eq!(period.to_string(), text);
        }
    }
}
