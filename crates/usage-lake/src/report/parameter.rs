//! What a report can be asked with: each parameter with its kind, which says what is refused and what becomes of it in the SQL.
//!
//! Holds here: nothing that a caller wrote gets into the SQL as it is. A period becomes two instants, a zone the name that chrono knows it by,
//! dimensions their own names, a number its digits, a tag's name a quoted text; what is none of these is refused.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use usage_types::{Dimension, DimensionSet, TimeUs};

use super::period::{Period, parse_zone};
use super::wrong;
use crate::LakeError;

/// The longest text of a parameter, in bytes: as of a dimension's value.
const TEXT_BYTES_MAX: usize = 1024;

/// One parameter of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in URLs, files and (with `-` for `_`) on the command line.
    pub name: &'static str,
    /// What it means and how it is written.
    pub about: &'static str,
    /// What may be given.
    pub kind: ParameterKind,
    /// What holds where it is left out; `None`: it must be given.
    pub default: Option<&'static str>,
}

/// What a parameter may be, and which placeholders it has in the SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// The time that the report is of: `{{from}}` and `{{to}}`.
    Period,
    /// The time that it is compared with, where empty the period before: `{{compare_from}}` and `{{compare_to}}`.
    Compare,
    /// An IANA time zone: `{{zone}}`. UTC where empty.
    Zone,
    /// Dimensions to group by: `{{dimensions,}}`, and `{{same_dimensions}}` where two tables `l` and `r` are joined by them.
    GroupBy,
    /// Dimensions that usage may lack: `{{missing}}` is, for each of them, its name where it is null.
    Missing,
    /// The name of a tag: `{{tag}}` is its value, null where empty.
    Tag,
    /// A whole number: its own name.
    Count {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// One of these: its own name, as a text.
    Choice(&'static [&'static str]),
    /// The id of a budget; not in the SQL.
    Budget,
    /// Any text; not in the SQL.
    Text,
}

impl ParameterKind {
    /// The kind's name, for programs that make a form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Period | Self::Compare => "period",
            Self::Zone => "zone",
            Self::GroupBy | Self::Missing => "dimensions",
            Self::Tag => "tag",
            Self::Count { .. } => "count",
            Self::Choice(_) => "choice",
            Self::Budget => "budget",
            Self::Text => "text",
        }
    }

    /// The values to choose from, where there are few.
    #[must_use]
    pub const fn choices(self) -> &'static [&'static str] {
        match self {
            Self::Choice(choices) => choices,
            _ => &[],
        }
    }
}

/// Which period.
pub(super) const PERIOD: Parameter = Parameter {
    name: "period",
    about: "YYYY, YYYY-MM, YYYY-Www (an ISO week) or YYYY-MM-DD",
    kind: ParameterKind::Period,
    default: None,
};
/// Which period it is compared with.
pub(super) const COMPARE: Parameter = Parameter {
    name: "compare",
    about: "the period to compare with, written like `period`; the one before it where it is left out",
    kind: ParameterKind::Compare,
    default: Some(""),
};
/// Whose midnights.
pub(super) const ZONE: Parameter = Parameter {
    name: "zone",
    about: "IANA time zone of the period; UTC where it is left out",
    kind: ParameterKind::Zone,
    default: Some(""),
};
/// By the values of which tag.
pub(super) const TAG: Parameter = Parameter {
    name: "tag",
    about: "the name of a tag, whose values are told apart",
    kind: ParameterKind::Tag,
    default: Some(""),
};
/// By which dimensions, and by which where none are named.
pub(super) const fn group_by(default: &'static str) -> Parameter {
    let about = "dimensions, separated by commas";
    Parameter { name: "group_by", about, kind: ParameterKind::GroupBy, default: Some(default) }
}
/// A whole number.
pub(super) const fn count(
    name: &'static str,
    about: &'static str,
    (min, max): (u64, u64),
    default: &'static str,
) -> Parameter {
    Parameter { name, about, kind: ParameterKind::Count { min, max }, default: Some(default) }
}

/// The parameters of a request, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSettings {
    /// The time that the report is of; `None` where it has no period.
    pub period: Option<Period>,
    /// The time zone.
    pub zone: Tz,
    /// The dimensions to group by.
    pub dimensions: DimensionSet,
    compare: Option<Period>,
    missing: DimensionSet,
    texts: BTreeMap<&'static str, String>,
}

impl ReportSettings {
    /// Reads what was given for these parameters, and what holds for the others.
    pub(super) fn read(parameters: &[Parameter], given: &BTreeMap<String, String>) -> Result<Self, LakeError> {
        let mut settings = Self {
            period: None,
            zone: Tz::UTC,
            dimensions: DimensionSet::default(),
            compare: None,
            missing: DimensionSet::default(),
            texts: BTreeMap::new(),
        };
        for parameter in parameters {
            let text = given.get(parameter.name).map(|text| text.trim()).or(parameter.default);
            let text = text.ok_or_else(|| wrong(parameter.name, format!("it is missing: {}", parameter.about)))?;
            settings.set(parameter, text)?;
        }
        settings.compare = settings.compare.or_else(|| settings.period.map(Period::before));
        Ok(settings)
    }

    fn set(&mut self, parameter: &Parameter, text: &str) -> Result<(), LakeError> {
        let refuse = |reason: String| wrong(parameter.name, reason);
        match parameter.kind {
            ParameterKind::Period => self.period = Some(text.parse().map_err(refuse)?),
            ParameterKind::Compare if text.is_empty() => {}
            ParameterKind::Compare => self.compare = Some(text.parse().map_err(refuse)?),
            ParameterKind::Zone => self.zone = parse_zone(text)?,
            ParameterKind::GroupBy => self.dimensions = parse_dimensions(text).map_err(refuse)?,
            ParameterKind::Missing => {
                self.missing = parse_dimensions(text).map_err(refuse)?;
                if self.missing.is_empty() {
                    return Err(refuse("name one dimension at least, like team".to_owned()));
                }
            }
            ParameterKind::Count { min, max } => {
                let number = text.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
                let number =
                    number.ok_or_else(|| refuse(format!("`{text}` is no whole number from {min} to {max}")))?;
                self.texts.insert(parameter.name, number.to_string());
            }
            ParameterKind::Choice(choices) => {
                let chosen = choices.iter().find(|choice| **choice == text);
                let chosen =
                    chosen.ok_or_else(|| refuse(format!("`{text}` is none of them; use {}", choices.join(" or "))))?;
                self.texts.insert(parameter.name, quoted(chosen));
            }
            ParameterKind::Tag | ParameterKind::Budget | ParameterKind::Text => {
                let is_required = parameter.default.is_none();
                if text.len() > TEXT_BYTES_MAX || text.contains(char::is_control) || (is_required && text.is_empty()) {
                    return Err(refuse(format!("write 1 to {TEXT_BYTES_MAX} bytes without control characters")));
                }
                self.texts.insert(parameter.name, text.to_owned());
            }
        }
        Ok(())
    }

    /// The text of a parameter that may be anything.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    /// What stands in the SQL where a placeholder is; `None`: it is none of these parameters.
    pub(super) fn placed(&self, placeholder: &str) -> Option<String> {
        let bound = |period: Option<Period>| period.map(|period| period.range(self.zone));
        Some(match placeholder {
            "from" => instant(bound(self.period)?.0),
            "to" => instant(bound(self.period)?.1),
            "compare_from" => instant(bound(self.compare)?.0),
            "compare_to" => instant(bound(self.compare)?.1),
            "zone" => quoted(self.zone.name()),
            "missing" => listed(self.missing, |name| format!("CASE WHEN \"{name}\" IS NULL THEN '{name}' END")),
            "tag" if self.text("tag").is_empty() => "CAST(NULL AS VARCHAR)".to_owned(),
            "tag" => format!("tag(tags, {})", quoted(self.text("tag"))),
            name => self.texts.get(name)?.clone(),
        })
    }
}

/// Each dimension in a form, separated by commas.
fn listed(dimensions: DimensionSet, form: impl Fn(Dimension) -> String) -> String {
    dimensions.iter().map(form).collect::<Vec<_>>().join(", ")
}

/// A text as SQL writes it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A time as SQL writes it.
pub(super) fn instant(time: TimeUs) -> String {
    format!("arrow_cast('{time}', 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

fn parse_dimensions(text: &str) -> Result<DimensionSet, String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::parse::<Dimension>).collect()
}
