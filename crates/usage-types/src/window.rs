//! Kinds of windows: which stretches of time a budget counts over.

use std::fmt;

use chrono_tz::Tz;

use crate::{Dimension, TimeUs};

/// How long a calendar window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Every {
    /// A minute.
    Minute,
    /// An hour of the zone's wall clock.
    Hour,
    /// A day from midnight to midnight; 23 or 25 hours where the clocks change.
    Day,
    /// An ISO 8601 week, from Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar quarter.
    Quarter,
    /// A calendar year.
    Year,
}

impl Every {
    /// All of them, shortest first.
    pub const ALL: [Self; 7] =
        [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year];

    /// The name in YAML and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    /// The HTTP status of a block where the budget names none: 429 (try again soon) up to an hour, else 403.
    #[must_use]
    pub const fn default_status(self) -> u16 {
        match self {
            Self::Minute | Self::Hour => 429,
            _ => 403,
        }
    }
}

impl std::str::FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|every| every.name() == text)
            .ok_or_else(|| format!("`{text}` is no window; use one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Where in its period a calendar window begins. The default is the calendar's own beginning, at midnight; minutes and hours know no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// Months after the period's first: 0 to 2 for a quarter, 0 to 11 for a year, else 0.
    pub month: u8,
    /// Of a month, quarter or year the day of the month, 1 to 31: the last day where the month is shorter. Of a week the day by ISO 8601,
    /// from 1 (Monday) to 7. Else 1.
    pub day: u8,
    /// Minutes after midnight of the wall clock, 0 to 1439.
    pub minute: u16,
}

impl Default for Anchor {
    fn default() -> Self {
        Self { month: 0, day: 1, minute: 0 }
    }
}

impl Anchor {
    /// The days of a week as they are written, from Monday.
    pub const WEEKDAYS: [&'static str; 7] =
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

    /// As in a budgets file: the day (`15`, `sunday`, `04-06`), then the time (`06:00`), each only where it is not the default.
    fn texts(self, every: Every) -> (Option<String>, Option<String>) {
        let is_first = self.month == 0 && self.day == 1;
        let day = (!is_first).then(|| match every {
            Every::Week => Self::WEEKDAYS[usize::from(self.day.clamp(1, 7)) - 1].to_owned(),
            Every::Quarter | Every::Year => format!("{:02}-{:02}", self.month + 1, self.day),
            _ => self.day.to_string(),
        });
        let time = (self.minute != 0).then(|| format!("{:02}:{:02}", self.minute / 60, self.minute % 60));
        (day, time)
    }
}

/// A length of time in whole minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    minutes: u32,
}

impl Span {
    /// So many minutes; at least one.
    #[must_use]
    pub const fn minutes(minutes: u32) -> Self {
        Self { minutes: if minutes == 0 { 1 } else { minutes } }
    }

    /// In microseconds; a multiple of a minute.
    #[must_use]
    pub const fn us(self) -> i64 {
        self.minutes as i64 * TimeUs::MINUTE
    }

    /// The count and the unit that it is told in: days from two on.
    const fn parts(self) -> (u32, &'static str) {
        match self.minutes {
            minutes if minutes % 1440 == 0 && minutes > 1440 => (minutes / 1440, "day"),
            minutes if minutes % 60 == 0 => (minutes / 60, "hour"),
            minutes => (minutes, "minute"),
        }
    }

    /// Like `90m`, `24h` or `30d`.
    fn short(self) -> String {
        let (count, unit) = self.parts();
        format!("{count}{}", &unit[..1])
    }
}

impl fmt::Display for Span {
    /// Like `90 minutes`, `1 hour` or `30 days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = self.parts();
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

/// What `every` says in JSON and SQL: the kinds of windows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowKind {
    /// One of the calendar.
    Calendar(Every),
    /// The last stretch of time, at any moment.
    Rolling,
    /// As long as a session, task or job goes on.
    Lifetime,
}

impl WindowKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Calendar(Every::Minute),
        Self::Calendar(Every::Hour),
        Self::Calendar(Every::Day),
        Self::Calendar(Every::Week),
        Self::Calendar(Every::Month),
        Self::Calendar(Every::Quarter),
        Self::Calendar(Every::Year),
        Self::Rolling,
        Self::Lifetime,
    ];

    /// The name in JSON and SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calendar(every) => every.name(),
            Self::Rolling => "rolling",
            Self::Lifetime => "lifetime",
        }
    }
}

impl std::str::FromStr for WindowKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is no window; use one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Where windows of a kind begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bounds {
    /// They are periods of the calendar.
    Calendar {
        /// How long.
        every: Every,
        /// Where each of them begins.
        anchor: Anchor,
    },
    /// The last so much time, whenever it is asked.
    Rolling(Span),
    /// From the first event of a scope until it was idle for so long.
    Lifetime {
        /// What lives: a session, task or job.
        of: Dimension,
        /// How long it must be idle to be over.
        idle: Span,
    },
}

/// A kind of window: which stretches of time, in which time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    /// Which.
    pub bounds: Bounds,
    /// The IANA time zone in which the bounds of calendar windows lie; of others the one in which they are shown.
    pub zone: Tz,
}

impl WindowSpec {
    /// Calendar windows that begin where the calendar has it.
    #[must_use]
    pub fn calendar(every: Every, zone: Tz) -> Self {
        Self::anchored(every, Anchor::default(), zone)
    }

    /// Calendar windows that begin elsewhere.
    #[must_use]
    pub const fn anchored(every: Every, anchor: Anchor, zone: Tz) -> Self {
        Self { bounds: Bounds::Calendar { every, anchor }, zone }
    }

    /// The last so much time.
    #[must_use]
    pub const fn rolling(span: Span, zone: Tz) -> Self {
        Self { bounds: Bounds::Rolling(span), zone }
    }

    /// The kind by name.
    #[must_use]
    pub const fn kind(self) -> WindowKind {
        match self.bounds {
            Bounds::Calendar { every, .. } => WindowKind::Calendar(every),
            Bounds::Rolling(_) => WindowKind::Rolling,
            Bounds::Lifetime { .. } => WindowKind::Lifetime,
        }
    }

    /// What `every` says of it in JSON and SQL.
    #[must_use]
    pub const fn every_name(self) -> &'static str {
        self.kind().name()
    }

    /// Whether its windows move on with time instead of following each other.
    #[must_use]
    pub const fn is_moving(self) -> bool {
        !matches!(self.bounds, Bounds::Calendar { .. })
    }

    /// The HTTP status of a block where the budget names none: 429 (try again soon) up to an hour, else 403.
    #[must_use]
    pub const fn default_status(self) -> u16 {
        match self.bounds {
            Bounds::Calendar { every, .. } => every.default_status(),
            Bounds::Rolling(span) if span.us() <= TimeUs::HOUR => 429,
            Bounds::Rolling(_) | Bounds::Lifetime { .. } => 403,
        }
    }

    /// The text for people, where the name of its kind does not say all.
    #[must_use]
    pub fn window_name(self) -> Option<String> {
        Some(self.to_string()).filter(|text| text != self.every_name())
    }

    /// The members of `window` in a budgets file; an anchor only where it is not the default.
    #[must_use]
    pub fn fields(self) -> Vec<(&'static str, String)> {
        let mut fields = match self.bounds {
            Bounds::Calendar { every, anchor } => {
                let (day, time) = anchor.texts(every);
                let mut fields = vec![("every", every.name().to_owned())];
                fields.extend(day.map(|day| ("anchor", day)));
                fields.extend(time.map(|time| ("at", time)));
                fields
            }
            Bounds::Rolling(span) => vec![("rolling", span.to_string())],
            Bounds::Lifetime { of, idle } => vec![("lifetime", of.to_string()), ("idle", idle.to_string())],
        };
        fields.push(("zone", self.zone.name().to_owned()));
        fields
    }

    /// Names the kind in ids: `month`, with an anchor `month@15T06:00`, and `rolling@90m`. Two kinds of one zone that may have windows of the
    /// same start have different names.
    #[must_use]
    pub fn id_name(self) -> String {
        let kind = self.every_name();
        match self.bounds {
            Bounds::Calendar { every, anchor } => match anchor.texts(every) {
                (None, None) => kind.to_owned(),
                (Some(text), None) | (None, Some(text)) => format!("{kind}@{text}"),
                (Some(day), Some(time)) => format!("{kind}@{day}T{time}"),
            },
            Bounds::Rolling(span) => format!("{kind}@{}", span.short()),
            Bounds::Lifetime { of, idle } => format!("{kind}@{of}:{}", idle.short()),
        }
    }
}

impl fmt::Display for WindowSpec {
    /// For people: `month`, `month from day 15 at 06:00`, `week from sunday`, `year from 04-06`, `rolling 90 minutes`,
    /// `lifetime of a session, idle 24 hours`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.every_name())?;
        match self.bounds {
            Bounds::Calendar { every, anchor } => {
                let (day, time) = anchor.texts(every);
                match (every, day) {
                    (Every::Month, Some(day)) => write!(f, " from day {day}")?,
                    (_, Some(day)) => write!(f, " from {day}")?,
                    (_, None) => {}
                }
                time.map_or(Ok(()), |time| write!(f, " at {time}"))
            }
            Bounds::Rolling(span) => write!(f, " {span}"),
            Bounds::Lifetime { of, idle } => write!(f, " of a {of}, idle {idle}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_window_has_a_name_of_its_own_and_the_plain_ones_keep_theirs() {
        for (every, (month, day, minute), id, text) in [
            (Every::Month, (0, 1, 0), "month", "month"),
            (Every::Month, (0, 31, 0), "month@31", "month from day 31"),
            (Every::Month, (0, 15, 390), "month@15T06:30", "month from day 15 at 06:30"),
            (Every::Week, (0, 7, 0), "week@sunday", "week from sunday"),
            (Every::Quarter, (1, 1, 0), "quarter@02-01", "quarter from 02-01"),
            (Every::Year, (3, 6, 0), "year@04-06", "year from 04-06"),
            (Every::Day, (0, 1, 360), "day@06:00", "day at 06:00"),
        ] {
            let spec = WindowSpec::anchored(every, Anchor { month, day, minute }, Tz::UTC);
            assert_eq!((spec.id_name().as_str(), spec.to_string().as_str()), (id, text));
        }
    }
    #[test]
    fn a_moving_window_is_named_in_the_largest_unit_that_fits() {
        for (minutes, id, text, status) in [
            (1, "rolling@1m", "rolling 1 minute", 429),
            (60, "rolling@1h", "rolling 1 hour", 429),
            (90, "rolling@90m", "rolling 90 minutes", 403),
            (1440, "rolling@24h", "rolling 24 hours", 403),
            (43_200, "rolling@30d", "rolling 30 days", 403),
        ] {
            let spec = WindowSpec::rolling(Span::minutes(minutes), Tz::UTC);
            let named = (spec.id_name(), spec.to_string(), spec.default_status());
            assert_eq!(named, (id.to_owned(), text.to_owned(), status));
        }
        let of = Dimension::Session;
        let spec = WindowSpec { bounds: Bounds::Lifetime { of, idle: Span::minutes(30) }, zone: Tz::UTC };
        assert_eq!(spec.id_name(), "lifetime@session:30m");
        assert_eq!((spec.to_string().as_str(), spec.default_status()), ("lifetime of a session, idle 30 minutes", 403));
    }
}
