//! Kinds of windows: which stretches of time a budget counts over.

use std::fmt;

use chrono_tz::Tz;

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

/// A kind of window: which stretches of time, in which time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    /// How long.
    pub every: Every,
    /// Where each of them begins.
    pub anchor: Anchor,
    /// In which IANA time zone its bounds lie.
    pub zone: Tz,
}

impl WindowSpec {
    /// Calendar windows that begin where the calendar has it.
    #[must_use]
    pub fn calendar(every: Every, zone: Tz) -> Self {
        Self { every, anchor: Anchor::default(), zone }
    }

    /// What `every` says of it in JSON and SQL.
    #[must_use]
    pub const fn every_name(self) -> &'static str {
        self.every.name()
    }

    /// The HTTP status of a block where the budget names none: 429 (try again soon) up to an hour, else 403.
    #[must_use]
    pub const fn default_status(self) -> u16 {
        self.every.default_status()
    }

    /// The text for people, where the name of its length does not say all.
    #[must_use]
    pub fn window_name(self) -> Option<String> {
        Some(self.to_string()).filter(|text| *text != self.every_name())
    }

    /// The members of `window` in a budgets file; an anchor only where it is not the default.
    #[must_use]
    pub fn fields(self) -> Vec<(&'static str, String)> {
        let (day, time) = self.anchor.texts(self.every);
        let mut fields = vec![("every", self.every_name().to_owned())];
        fields.extend(day.map(|day| ("anchor", day)));
        fields.extend(time.map(|time| ("at", time)));
        fields.push(("zone", self.zone.name().to_owned()));
        fields
    }

    /// Names the kind in ids: `month`, and with an anchor `month@15T06:00`. Two kinds of one zone that may have windows of the same start have
    /// different names.
    #[must_use]
    pub fn id_name(self) -> String {
        let every = self.every_name();
        match self.anchor.texts(self.every) {
            (None, None) => every.to_owned(),
            (Some(text), None) | (None, Some(text)) => format!("{every}@{text}"),
            (Some(day), Some(time)) => format!("{every}@{day}T{time}"),
        }
    }
}

impl fmt::Display for WindowSpec {
    /// For people: `month`, `month from day 15 at 06:00`, `week from sunday`, `year from 04-06`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.every_name())?;
        let (day, time) = self.anchor.texts(self.every);
        match (self.every, day) {
            (Every::Month, Some(day)) => write!(f, " from day {day}")?,
            (_, Some(day)) => write!(f, " from {day}")?,
            (_, None) => {}
        }
        time.map_or(Ok(()), |time| write!(f, " at {time}"))
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
            let spec = WindowSpec { anchor: Anchor { month, day, minute }, ..WindowSpec::calendar(every, Tz::UTC) };
            assert_eq!((spec.id_name().as_str(), spec.to_string().as_str()), (id, text));
        }
    }
}
