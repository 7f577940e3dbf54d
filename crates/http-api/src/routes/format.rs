//! Which format an answer of rows gets: `format=` where it is given, else `Accept`, else JSON.

use axum::http::{HeaderMap, header};

use crate::{ApiProblem, OutputFormat};

/// Chooses among the formats that a route offers.
pub(crate) fn choose(
    asked: Option<&str>,
    headers: &HeaderMap,
    offered: &[OutputFormat],
) -> Result<OutputFormat, ApiProblem> {
    let names = || offered.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
    if let Some(asked) = asked {
        let asked = if asked == "ndjson" { OutputFormat::Jsonl.name() } else { asked };
        return offered
            .iter()
            .copied()
            .find(|format| format.name() == asked)
            .ok_or_else(|| ApiProblem::invalid("format", format!("`{asked}` is no format; use one of {}", names())));
    }
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accept.is_empty() {
        return Ok(OutputFormat::Json);
    }
    let accept = accept.join(",");
    // The first of the best: sorting is stable, and a range that is not given a weight has the full one.
    let mut ranges: Vec<(u16, &str)> =
        accept.split(',').filter_map(weighted).filter(|(weight, _)| *weight > 0).collect();
    ranges.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let found = ranges.iter().find_map(|(_, range)| offered.iter().copied().find(|format| matches(range, *format)));
    found.ok_or_else(|| {
        let detail = format!("none of `{accept}` is written here; use format= with one of {}", names());
        ApiProblem::new(406, "not_acceptable", detail)
    })
}

/// A media range and its weight in thousandths.
fn weighted(text: &str) -> Option<(u16, &str)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some((weight.map_or(1000, thousandths), range))
}

/// A weight like `0.8` (RFC 9110, 12.4.2); what is none counts as 0.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, plain) {
        ("1", true) => 1000,
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

fn matches(range: &str, format: OutputFormat) -> bool {
    let essence = format.content_type().split(';').next().unwrap_or("");
    let main = essence.split('/').next().unwrap_or("");
    let range = range.to_ascii_lowercase();
    range == "*/*" || range == essence || range.strip_suffix("/*").is_some_and(|range| range == main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_goes_before_accept_and_accept_before_the_default() {
        let check = |asked: Option<&str>, accept: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            choose(asked, &headers, &OutputFormat::ALL).map_err(|problem| problem.status)
        };
        for (asked, accept, expected) in [
            (None, None, Ok(OutputFormat::Json)),
            (None, Some("*/*"), Ok(OutputFormat::Json)),
            (None, Some("text/csv"), Ok(OutputFormat::Csv)),
            (None, Some("text/*"), Ok(OutputFormat::Csv)),
            (None, Some("application/json;q=0.5, text/csv;q=0.9"), Ok(OutputFormat::Csv)),
            (None, Some("text/html, application/vnd.apache.arrow.stream"), Ok(OutputFormat::Arrow)),
            (None, Some("text/csv;q=0, */*;q=0.1"), Ok(OutputFormat::Json)),
            (None, Some("text/html"), Err(406)),
            (Some("parquet"), Some("text/csv"), Ok(OutputFormat::Parquet)),
            (None, Some("application/x-ndjson"), Ok(OutputFormat::Jsonl)),
            (Some("ndjson"), None, Ok(OutputFormat::Jsonl)),
            (Some("xml"), None, Err(400)),
        ] {
            assert_eq!(check(asked, accept), expected, "{asked:?} {accept:?}");
        }
    }
}
