//! Reports: SQL files with a few parameters.
//!
//! Holds here: nothing that a caller wrote gets into the SQL. A period becomes two instants, a zone becomes the name that
//! chrono knows it by, dimensions become their own names; what is none of these is refused.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use usage_types::{Dimension, DimensionSet, TimeUs};

use crate::LakeError;

/// A report that comes with the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Its name in URLs and on the command line.
    pub name: &'static str,
    /// The dimensions that it groups by where the caller names none.
    pub group_by: &'static [Dimension],
    /// The dimensions that its rows always have; naming them to group by changes nothing.
    pub always_by: &'static [Dimension],
    /// Whether it can be grouped at all.
    pub can_group: bool,
    /// The SQL with its placeholders, and the header that documents it.
    pub sql: &'static str,
}

macro_rules! reports {
    ($($name:literal $can_group:literal [$($dimension:ident),*] [$($always:ident),*];)*) => {
        const REPORTS: &[Report] = &[$(Report {
            name: $name,
            group_by: &[$(Dimension::$dimension),*],
            always_by: &[$(Dimension::$always),*],
            can_group: $can_group,
            sql: include_str!(concat!("../../../sql/", $name, ".sql")),
        },)*];
    };
}

reports! {
    "chargeback" true [Namespace, Team] [];
    "showback" true [Namespace] [];
    "by_model" true [] [Provider, Model];
    "unpriced" true [] [Provider, Model];
    "cache" true [] [Model];
    "rejected" false [] [];
    "focus" true [Team, Repository] [Namespace, Provider, Model, ServiceTier];
}

/// What a caller may choose, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportRequest {
    /// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
    pub period: String,
    /// An IANA time zone; UTC where empty.
    pub zone: String,
    /// Dimensions separated by commas; the report's own where `None`, no grouping where empty.
    pub group_by: Option<String>,
    /// What a report of prices has to tell apart.
    pub edges: ReportEdges,
}

/// Where prices change: rows on two sides of one of these are never summed up by a report that asks for it (`focus`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportEdges {
    /// Times, ascending.
    pub times: Vec<TimeUs>,
    /// Lengths of prompts, in input tokens of all classes, ascending: another price begins above each.
    pub input_tokens: Vec<u64>,
    /// Dimensions to group by besides.
    pub dimensions: DimensionSet,
}

impl Report {
    /// All reports.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        REPORTS
    }

    /// The report of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(name: &str) -> Result<&'static Self, LakeError> {
        REPORTS.iter().find(|report| report.name == name).ok_or_else(|| LakeError::ReportUnknown {
            name: name.to_owned(),
            known: REPORTS.iter().map(|report| report.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The question that it answers: the first line of its file.
    #[must_use]
    pub fn question(&self) -> &'static str {
        self.sql.lines().next().unwrap_or("").trim_start_matches("-- ")
    }

    /// The whole header of its file: question, grain, units and parameters.
    #[must_use]
    pub fn description(&self) -> String {
        let header = self.sql.lines().take_while(|line| line.starts_with("--"));
        header.map(|line| line.trim_start_matches("--").trim_start()).collect::<Vec<_>>().join("\n")
    }

    /// The dimensions that its rows are grouped by, those that they always have left out.
    ///
    /// # Errors
    /// One is no dimension, or the report has none.
    pub fn dimensions(&self, request: &ReportRequest) -> Result<DimensionSet, LakeError> {
        let dimensions = match &request.group_by {
            None => DimensionSet::of(self.group_by),
            Some(text) => parse_dimensions(text)?,
        };
        if !self.can_group && !dimensions.is_empty() {
            return Err(wrong("group_by", format!("the report `{}` has no dimensions to group by", self.name)));
        }
        Ok(dimensions.iter().filter(|dimension| !self.always_by.contains(dimension)).collect())
    }

    /// The SQL for these parameters.
    ///
    /// # Errors
    /// A parameter is wrong; the message says what to write.
    pub fn render(&self, request: &ReportRequest) -> Result<String, LakeError> {
        let zone = parse_zone(&request.zone)?;
        let (from, to) = period(&request.period, zone)?;
        let also = request.edges.dimensions.iter().filter(|dimension| !self.always_by.contains(dimension));
        let dimensions: DimensionSet = self.dimensions(request)?.iter().chain(also).collect();
        let list: String = dimensions.iter().map(|dimension| format!("\"{dimension}\", ")).collect();
        let body = self.sql.lines().skip_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
        Ok(body
            .replace("{{dimensions,}}", &list)
            .replace("{{price_span}}", &request.edges.span(from, to, zone))
            .replace("{{prompt_band}}", &request.edges.band())
            .replace("{{from}}", &instant(from))
            .replace("{{to}}", &instant(to))
            .replace("{{zone}}", &format!("'{}'", zone.name())))
    }
}

impl ReportEdges {
    /// Counts the changes of prices before a row. Those at the begin of a day do not matter: days are told apart anyway.
    fn span(&self, from: TimeUs, to: TimeUs, zone: Tz) -> String {
        let within = |time: TimeUs| from < time && time < to;
        let begins_day = |time: TimeUs| midnight(time.to_utc().with_timezone(&zone).date_naive(), zone) == time;
        let times = self.times.iter().filter(|time| within(**time) && !begins_day(**time));
        place("time >=", &times.map(|time| instant(*time)).collect::<Vec<_>>())
    }

    fn band(&self) -> String {
        place("prompt_tokens >", &self.input_tokens.iter().map(u64::to_string).collect::<Vec<_>>())
    }
}

/// How many of the ascending edges a row is behind, in SQL.
fn place(is_behind: &str, edges: &[String]) -> String {
    if edges.is_empty() {
        return "0".to_owned();
    }
    let arms = edges.iter().enumerate().rev().map(|(at, edge)| format!("WHEN {is_behind} {edge} THEN {} ", at + 1));
    format!("CASE {}ELSE 0 END", arms.collect::<String>())
}

fn wrong(parameter: &'static str, reason: impl Into<String>) -> LakeError {
    LakeError::ReportParameter { parameter, reason: reason.into() }
}

fn instant(time: TimeUs) -> String {
    format!("arrow_cast('{time}', 'Timestamp(Microsecond, Some(\"UTC\"))')")
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

fn parse_dimensions(text: &str) -> Result<DimensionSet, LakeError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| name.parse::<Dimension>().map_err(|reason| wrong("group_by", reason))).collect()
}

/// The half-open range of a period's local time: `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
///
/// # Errors
/// It is none of these.
pub fn period(text: &str, zone: Tz) -> Result<(TimeUs, TimeUs), LakeError> {
    let refuse = || wrong("period", format!("`{text}` is no period; write it like 2026, 2026-11 or 2026-11-21"));
    let numbers = text.split('-').map(|part| {
        let is_plain = part.len() >= 2 && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| is_plain)
    });
    let numbers = numbers.collect::<Option<Vec<u32>>>().ok_or_else(refuse)?;
    let year = |value: u32| i32::try_from(value).ok().filter(|year| (1970..=9998).contains(year));
    let date = |y: u32, m: u32, d: u32| year(y).and_then(|y| NaiveDate::from_ymd_opt(y, m, d));
    let dates = match numbers[..] {
        [y] => (date(y, 1, 1), date(y + 1, 1, 1)),
        [y, 12] => (date(y, 12, 1), date(y + 1, 1, 1)),
        [y, m] => (date(y, m, 1), date(y, m + 1, 1)),
        [y, m, d] => (date(y, m, d), date(y, m, d).and_then(|day| day.succ_opt())),
        _ => (None, None),
    };
    let (Some(from), Some(to)) = dates else { return Err(refuse()) };
    Ok((midnight(from, zone), midnight(to, zone)))
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
    fn what_is_no_parameter_is_refused_and_never_reaches_the_sql() {
        for text in [
            "",
            "26",
            "2026-13",
            "2026-00",
            "2026-02-30",
            "2026-1-1-1",
            "2026-11'; DROP TABLE usage",
            "-2026",
            "９９９９",
        ] {
            assert!(range(text, "").is_err(), "{text} was taken");
        }
        assert!(range("2026-11", "Europe/Berlin' OR 1=1").unwrap_err().contains("no IANA time zone"));
        let report = Report::find("chargeback").unwrap();
        let request =
            ReportRequest { period: "2026-11".into(), group_by: Some("team,1=1".into()), ..Default::default() };
        assert!(report.render(&request).unwrap_err().to_string().contains("is no dimension"));
        assert!(Report::find("nope").unwrap_err().to_string().contains("chargeback, showback"));
        let request = ReportRequest { period: "2026-11".into(), group_by: Some("team".into()), ..Default::default() };
        assert!(Report::find("rejected").unwrap().render(&request).is_err());
    }

    #[test]
    fn only_changes_of_prices_within_a_day_of_the_period_tell_its_rows_apart() {
        let focus = Report::find("focus").unwrap();
        let times = ["2026-10-31T12:00:00Z", "2026-11-20T00:00:00Z", "2026-11-20T15:00:00Z", "2026-12-01T00:00:00Z"];
        let times = times.map(|time| TimeUs::parse_rfc3339(time).unwrap()).to_vec();
        let edges = ReportEdges {
            times,
            input_tokens: vec![1000, 2000],
            dimensions: DimensionSet::of(&[Dimension::User, Dimension::Model]),
        };
        let sql = |zone: &str| {
            let period = "2026-11".to_owned();
            focus
                .render(&ReportRequest { period, zone: zone.into(), edges: edges.clone(), ..Default::default() })
                .unwrap()
        };
        let utc = sql("UTC");
        let three = instant(TimeUs::parse_rfc3339("2026-11-20T15:00:00Z").unwrap());
        assert!(utc.contains(&format!("CASE WHEN time >= {three} THEN 1 ELSE 0 END AS price_span")), "{utc}");
        assert!(
            utc.contains("CASE WHEN prompt_tokens > 2000 THEN 2 WHEN prompt_tokens > 1000 THEN 1 ELSE 0 END"),
            "{utc}"
        );
        assert!(utc.contains("\"team\", \"repository\", \"user\", "), "{utc}");
        // Three in the afternoon is midnight there, and midnight nine in the morning.
        let tokyo = sql("Asia/Tokyo");
        assert!(!tokyo.contains(&three) && tokyo.contains("2026-11-20T00:00:00Z"), "{tokyo}");
    }

    #[test]
    fn every_report_documents_itself_and_leaves_no_placeholder() {
        for report in Report::all() {
            for word in ["Grain:", "Units:", "Parameters:"] {
                assert!(report.description().contains(word), "{} does not document its {word}", report.name);
            }
            assert!(report.question().ends_with('?'), "{}", report.question());
            let sql = report.render(&ReportRequest { period: "2026-11".into(), ..Default::default() }).unwrap();
            assert!(!sql.contains("{{") && !sql.contains("--"), "{sql}");
        }
    }
}
