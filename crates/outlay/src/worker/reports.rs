//! The reports' parameters: what each takes, as text, and what is refused.

use std::collections::BTreeMap;

use http_api::{ApiProblem, ReportInfo, ReportParameter};
use usage_lake::{Report, ReportRequest};

use super::focus;

/// What a report takes: name, description, whether it is required.
type Parameter = (&'static str, &'static str, bool);

/// What every report takes.
const COMMON: [Parameter; 3] = [
    ("period", "YYYY, YYYY-MM or YYYY-MM-DD", true),
    ("group_by", "dimensions, separated by commas", false),
    ("zone", "IANA time zone of the period; UTC where it is left out", false),
];

fn parameters(report: &Report) -> impl Iterator<Item = Parameter> {
    let can_group = report.can_group;
    let own: &[Parameter] = if report.name == focus::NAME { &focus::PARAMETERS } else { &[] };
    COMMON.into_iter().filter(move |(name, ..)| can_group || *name != "group_by").chain(own.iter().copied())
}

/// All reports with what they take.
pub fn list() -> Vec<ReportInfo> {
    let info = |report: &Report| ReportInfo {
        name: report.name.to_owned(),
        description: report.question().to_owned(),
        parameters: parameters(report)
            .map(|(name, description, required)| ReportParameter {
                name: name.to_owned(),
                description: description.to_owned(),
                required,
            })
            .collect(),
    };
    Report::all().iter().map(info).collect()
}

/// The common parameters of a report, where all that were given are its own.
pub fn request(report: &Report, given: &BTreeMap<String, String>) -> Result<ReportRequest, ApiProblem> {
    let known: Vec<&str> = parameters(report).map(|(name, ..)| name).collect();
    if let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str()) && *name != "group_by") {
        let detail = format!("`{unknown}` is no parameter of the report {}; use {}", report.name, known.join(", "));
        return Err(ApiProblem::invalid(unknown.clone(), detail));
    }
    let text = |name: &str| given.get(name).cloned();
    Ok(ReportRequest {
        period: text("period").unwrap_or_default(),
        zone: text("zone").unwrap_or_default(),
        group_by: text("group_by"),
        ..ReportRequest::default()
    })
}
