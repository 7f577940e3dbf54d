//! Reports: SQL files with a few parameters.
//!
//! Holds here: nothing that a caller wrote gets into the SQL (see [`parameter`]), and what a report takes is declared in one place, from which
//! HTTP, the command line, schedules and the page know it.

mod parameter;
mod period;

use std::collections::BTreeMap;

use chrono_tz::Tz;
use parameter::{COMPARE, PERIOD, TAG, ZONE, count, group_by, instant, quoted};
pub use parameter::{Parameter, ParameterKind, ReportSettings};
pub use period::{Period, midnight, period};
use usage_types::{Dimension, DimensionSet, TimeUs};

use crate::LakeError;

/// A report that comes with the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Its name in URLs and on the command line.
    pub name: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// The dimensions that its rows always have; naming them to group by changes nothing.
    pub always_by: &'static [Dimension],
    /// The SQL with its placeholders, and the header that documents it.
    pub sql: &'static str,
}

macro_rules! reports {
    ($($name:literal [$($parameter:expr),*] [$($always:ident),*];)*) => {
        const REPORTS: &[Report] = &[$(Report {
            name: $name,
            parameters: &[$($parameter),*],
            always_by: &[$(Dimension::$always),*],
            sql: include_str!(concat!("../../../../sql/", $name, ".sql")),
        },)*];
    };
}

/// Of which FOCUS.
const VERSION: Parameter = Parameter {
    name: "version",
    about: "of FOCUS: 1.2, which is the default, or 1.0",
    kind: ParameterKind::Choice(&["1.0", "1.2"]),
    default: Some("1.2"),
};
/// Who pays, in FOCUS.
const BILLING_ACCOUNT: Parameter = Parameter {
    name: "billing_account",
    about: "identifier and name of the organisation that pays; `outlay` where it is left out",
    kind: ParameterKind::Text,
    default: Some("outlay"),
};
/// Which dimensions usage should have.
const MISSING: Parameter = Parameter {
    name: "missing",
    about: "the dimensions that are looked for, separated by commas",
    kind: ParameterKind::Missing,
    default: Some("team,repository,user"),
};
/// Down to what an invoice is compared.
const BY: Parameter = Parameter {
    name: "by",
    about: "down to what it is compared: day_and_model, which is the default, day, model or total",
    kind: ParameterKind::Choice(&["day_and_model", "day", "model", "total"]),
    default: Some("day_and_model"),
};
/// The most tokens of a good session: more than any counter holds is a typing error.
const TOKENS: Parameter = count("tokens", "a session that uses fewer than these is a good one", (1, 1 << 48), "100000");
/// How many rows.
const LIMIT: Parameter = count("limit", "the most rows", (1, 100_000), "20");

reports! {
    "chargeback" [PERIOD, group_by("namespace,team"), ZONE] [];
    "allocation" [PERIOD, ZONE] [];
    "reconciliation" [PERIOD, BY, ZONE] [];
    "showback" [PERIOD, group_by("namespace"), ZONE] [];
    "by_model" [PERIOD, group_by(""), ZONE] [Provider, Model];
    "unit_economics" [PERIOD, group_by("namespace"), TAG, ZONE] [];
    "slo" [PERIOD, group_by("namespace"), TOKENS, ZONE] [];
    "top_movers" [PERIOD, COMPARE, group_by("namespace,team"), LIMIT, ZONE] [];
    "unattributed" [PERIOD, MISSING, group_by("namespace"), ZONE] [];
    "unpriced" [PERIOD, group_by(""), ZONE] [Provider, Model];
    "cache" [PERIOD, group_by(""), ZONE] [Model];
    "rejected" [PERIOD, ZONE] [];
    "focus" [PERIOD, group_by("team,repository"), VERSION, BILLING_ACCOUNT, ZONE] [Namespace, Provider, Model, ServiceTier];
}

/// What a caller chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportRequest {
    /// Parameters by name, as text.
    pub given: BTreeMap<String, String>,
    /// What a report of prices has to tell apart.
    pub edges: ReportEdges,
}

impl ReportRequest {
    /// With these parameters.
    #[must_use]
    pub fn of(given: &[(&str, &str)]) -> Self {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { given, edges: ReportEdges::default() }
    }
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
    /// What costs are told apart by before they are shared out (`chargeback`, `allocation`).
    pub shared: Option<SharedKeys>,
}

/// What costs are told apart by before they are shared out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedKeys {
    /// Dimensions.
    pub dimensions: DimensionSet,
    /// Each day, instead of each month.
    pub days: bool,
    /// The values of these tags.
    pub tags: Vec<String>,
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

    /// Reads the parameters.
    ///
    /// # Errors
    /// One is wrong, missing or none of this report; the message says what to write.
    pub fn settings(&self, given: &BTreeMap<String, String>) -> Result<ReportSettings, LakeError> {
        let known = |name: &str| self.parameters.iter().any(|parameter| parameter.name == name);
        if let Some(unknown) = given.keys().find(|name| !known(name)) {
            let names: Vec<&str> = self.parameters.iter().map(|parameter| parameter.name).collect();
            let reason = format!("it is no parameter of the report {}; use {}", self.name, names.join(", "));
            return Err(LakeError::ReportParameter { parameter: unknown.clone(), reason });
        }
        let mut settings = ReportSettings::read(self.parameters, given)?;
        settings.dimensions =
            settings.dimensions.iter().filter(|dimension| !self.always_by.contains(dimension)).collect();
        Ok(settings)
    }

    /// The SQL for these parameters.
    ///
    /// # Errors
    /// A parameter is wrong; the message says what to write.
    pub fn render(&self, request: &ReportRequest) -> Result<String, LakeError> {
        let settings = self.settings(&request.given)?;
        let shared = request.edges.shared.as_ref();
        let also =
            request.edges.dimensions.iter().chain(shared.into_iter().flat_map(|shared| shared.dimensions.iter()));
        let also = also.filter(|dimension| !self.always_by.contains(dimension));
        let dimensions: DimensionSet = settings.dimensions.iter().chain(also).collect();
        let range = settings.period.map(|period| period.range(settings.zone));
        let placed = |name: &str| match name {
            "dimensions," => Some(dimensions.iter().map(|dimension| format!("\"{dimension}\", ")).collect()),
            "same_dimensions" => Some(same(dimensions)),
            "price_span" => range.map(|(from, to)| request.edges.span(from, to, settings.zone)),
            "prompt_band" => Some(request.edges.band()),
            "shared_keys," => Some(shared.map_or_else(String::new, |shared| shared.keys(settings.zone))),
            "shared_names," => Some(shared.map_or_else(String::new, SharedKeys::names)),
            "is_shared" => Some(shared.is_some().to_string()),
            _ => settings.placed(name),
        };
        let body = self.sql.lines().skip_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
        fill(&body, placed).map_err(|name| wrong("report", format!("the report {} has no {name}", self.name)))
    }
}

/// A text with its placeholders filled in once: what is filled in is not looked at again. The error is a placeholder that nothing fills.
fn fill(text: &str, placed: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut parts = text.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").ok_or_else(|| part.to_owned())?;
        filled.push_str(&placed(name).ok_or_else(|| name.to_owned())?);
        filled.push_str(rest);
    }
    Ok(filled)
}

/// That rows of two tables `l` and `r` are of the same group, where null is a value.
fn same(dimensions: DimensionSet) -> String {
    let each =
        dimensions.iter().map(|dimension| format!(" AND (l.\"{dimension}\" IS NOT DISTINCT FROM r.\"{dimension}\")"));
    format!("true{}", each.collect::<String>())
}

impl SharedKeys {
    /// What the names of their columns begin with.
    pub const PREFIX: &str = "shared_";
    /// The column of the day, which is the first one of its month where days are not told apart.
    pub const DAY: &str = "shared_day";

    /// The column of a tag's value, by the tag's place.
    #[must_use]
    pub fn tag_column(at: usize) -> String {
        format!("{}tag_{at}", Self::PREFIX)
    }

    fn keys(&self, zone: Tz) -> String {
        let day = format!("CAST(time AT TIME ZONE {} AS DATE)", quoted(zone.name()));
        let day = if self.days { day } else { format!("CAST(date_trunc('month', {day}) AS DATE)") };
        let tag = |(at, tag): (usize, &String)| format!("tag(tags, {}) AS {}, ", quoted(tag), Self::tag_column(at));
        let tags: String = self.tags.iter().enumerate().map(tag).collect();
        format!("{day} AS {}, {tags}", Self::DAY)
    }

    fn names(&self) -> String {
        let tags: String = (0..self.tags.len()).map(|at| format!("{}, ", Self::tag_column(at))).collect();
        format!("{}, {tags}", Self::DAY)
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

fn wrong(parameter: &str, reason: impl Into<String>) -> LakeError {
    LakeError::ReportParameter { parameter: parameter.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_parameter_is_refused_and_never_reaches_the_sql() {
        let render = |name: &str, more: &[(&str, &str)]| {
            let given = [&[("period", "2026-11")], more].concat();
            Report::find(name).unwrap().render(&ReportRequest::of(&given)).map_err(|error| error.to_string())
        };
        for (report, parameter, value, part) in [
            ("chargeback", "group_by", "team,1=1", "is no dimension"),
            ("chargeback", "period", "2026-11'--", "is no period"),
            ("chargeback", "zone", "Europe/Berlin' OR 1=1", "no IANA time zone"),
            ("chargeback", "tokens", "5", "is no parameter of the report chargeback; use period, group_by, zone"),
            ("rejected", "group_by", "team", "is no parameter of the report rejected"),
            ("top_movers", "limit", "0", "no whole number from 1"),
            ("top_movers", "limit", "1; DROP TABLE usage", "no whole number"),
            ("top_movers", "compare", "yesterday", "is no period"),
            ("slo", "tokens", "-1", "no whole number"),
            ("unattributed", "missing", "", "name one dimension"),
            ("unit_economics", "tag", "a\nb", "without control characters"),
            ("focus", "version", "1.1", "use 1.0 or 1.2"),
        ] {
            let refused = render(report, &[(parameter, value)]).unwrap_err();
            assert!(refused.contains(part) && refused.contains(parameter), "{report} {parameter}={value}: {refused}");
        }
        let missing = Report::find("slo").unwrap().render(&ReportRequest::default()).unwrap_err().to_string();
        assert!(missing.contains("period") && missing.contains("it is missing"), "{missing}");
        // A text stays one text, and is not taken for a placeholder either.
        let sql = render("unit_economics", &[("tag", "it's {{from}}")]).unwrap();
        assert!(sql.contains("tag(tags, 'it''s {{from}}')"), "{sql}");
        assert!(Report::find("nope").unwrap_err().to_string().contains("chargeback, allocation"));
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
            shared: None,
        };
        let sql = |zone: &str| {
            let request = ReportRequest::of(&[("period", "2026-11"), ("zone", zone)]);
            focus.render(&ReportRequest { edges: edges.clone(), ..request }).unwrap()
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
            let sql = report.render(&ReportRequest::of(&[("period", "2026-11")])).unwrap();
            assert!(!sql.contains("{{") && !sql.contains("--"), "{sql}");
        }
    }
}
