//! The reports' parameters, as they are declared, for whoever asks for a list.

use http_api::{ReportInfo, ReportParameter};
use usage_lake::{Parameter, Report};

/// All reports with what they take.
pub fn list() -> Vec<ReportInfo> {
    let info = |report: &Report| ReportInfo {
        name: report.name.to_owned(),
        description: report.question().to_owned(),
        parameters: report.parameters.iter().map(parameter).collect(),
    };
    Report::all().iter().map(info).collect()
}

fn parameter(parameter: &Parameter) -> ReportParameter {
    ReportParameter {
        name: parameter.name.to_owned(),
        description: parameter.about.to_owned(),
        required: parameter.default.is_none(),
        kind: parameter.kind.name().to_owned(),
        default: parameter.default.filter(|default| !default.is_empty()).map(str::to_owned),
        choices: parameter.kind.choices().iter().map(|choice| (*choice).to_owned()).collect(),
    }
}
