//! What a check says to people, programs and CI systems.

use std::io::Write;

use anyhow::Result;
use http_api::{BalanceRow, StandingView};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, Event};
use serde_json::json;
use usage_types::{Ppm, WindowKind};

use super::Judged;
use crate::commands::text_table::{Align, text_table};

/// Rows that are named one by one for people.
const ROWS_SHOWN: usize = 50;

fn percent(ppm: u64) -> String {
    match (ppm / 10_000, ppm / 1_000 % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenth) => format!("{whole}.{tenth}%"),
    }
}

fn unit(row: &BalanceRow) -> String {
    row.currency.map_or_else(|| row.measure.clone(), |currency| currency.to_string())
}

/// The bounds of a window of the calendar. One that moves has others at every moment.
fn window(row: &BalanceRow) -> String {
    let is_moving = [WindowKind::Rolling.name(), WindowKind::Lifetime.name()].contains(&row.every.as_str());
    let name = row.window_name.as_ref().filter(|_| is_moving);
    name.cloned().unwrap_or_else(|| format!("{} to {}", row.window.start, row.window.end))
}

/// Why a row fails.
fn reason(standing: &StandingView, row: &BalanceRow, share: Ppm) -> String {
    let (limit, used, unit) = (row.limit.as_deref().unwrap_or_default(), &row.used, unit(row));
    let of = percent(row.used_ppm.unwrap_or(u64::MAX));
    let over = percent(u64::from(share.0));
    let so_far = row.progress.map(|progress| format!("; so far {progress} were processed")).unwrap_or_default();
    format!("{} of {} has used {used} of {limit} {unit} ({of}), more than {over}{so_far}", standing.budget, row.scope)
}

/// Tables and what fails.
pub fn text(standing: &StandingView, judged: &[Judged], share: Ppm, mut out: impl Write) -> Result<()> {
    let has_progress = judged.iter().any(|judged| judged.row.progress.is_some());
    let processed = if has_progress { "processed" } else { "" };
    let header = ["scope", "window", "measure", "used", "limit", "share", "", processed].map(str::to_owned).to_vec();
    let line = |Judged { row, is_over }: &Judged| {
        let limit = row.limit.clone().unwrap_or_default();
        let of = row.used_ppm.map(percent).unwrap_or_default();
        let mark = if *is_over { "OVER" } else { "" };
        let processed = row.progress.map(|progress| progress.to_string()).unwrap_or_default();
        vec![row.scope.to_string(), window(row), unit(row), row.used.clone(), limit, of, mark.to_owned(), processed]
    };
    let lines: Vec<Vec<String>> = std::iter::once(header).chain(judged.iter().take(ROWS_SHOWN).map(line)).collect();
    let (left, right) = (Align::Left, Align::Right);
    write!(out, "{}", text_table(&lines, &[left, left, left, right, right, right, left, left]))?;
    let more = judged.len().saturating_sub(ROWS_SHOWN) as u64 + standing.omitted;
    if more > 0 {
        writeln!(out, "and {more} more, less full")?;
    }
    let over = judged.iter().filter(|judged| judged.is_over);
    for Judged { row, .. } in over.clone().take(ROWS_SHOWN) {
        writeln!(out, "FAILED: {}", reason(standing, row, share))?;
    }
    if over.count() == 0 {
        let what = if judged.is_empty() { "nothing was used" } else { "within" };
        writeln!(out, "passed: {} is {what} (fails over {})", standing.budget, percent(u64::from(share.0)))?;
    }
    Ok(())
}

/// An object.
pub fn json(standing: &StandingView, judged: &[Judged], share: Ppm, passed: bool, mut out: impl Write) -> Result<()> {
    let mut rows = Vec::new();
    for Judged { row, is_over } in judged {
        let mut row = serde_json::to_value(row)?;
        row["over"] = json!(is_over);
        rows.push(row);
    }
    let StandingView { budget, mode, omitted, .. } = standing;
    let (fail_over, omitted) = (share.to_string(), *omitted);
    let answer = json!({"budget": budget, "mode": mode, "passed": passed, "fail_over": fail_over, "rows": rows, "omitted": omitted});
    writeln!(out, "{answer:#}")?;
    Ok(())
}

/// JUnit's XML. There is always a test case: systems take a suite without any for one that did not run.
pub fn junit(standing: &StandingView, judged: &[Judged], share: Ppm, mut out: impl Write) -> Result<()> {
    let (tests, failures) = (judged.len().max(1), judged.iter().filter(|judged| judged.is_over).count());
    let counts = [("tests", tests.to_string()), ("failures", failures.to_string()), ("errors", "0".to_owned())];
    let counts = counts.each_ref().map(|(name, value)| (*name, value.as_str()));
    let class = format!("budget.{}", standing.budget);
    let mut xml = Writer::new_with_indent(&mut out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    xml.create_element("testsuites").with_attributes(counts).write_inner_content(|xml| {
        let suite = xml.create_element("testsuite").with_attribute(("name", "outlay check")).with_attributes(counts);
        suite.write_inner_content(|xml| {
            if judged.is_empty() {
                let case = xml.create_element("testcase").with_attribute(("classname", class.as_str()));
                case.with_attribute(("name", "nothing was used")).with_attribute(("time", "0")).write_empty()?;
            }
            for Judged { row, is_over } in judged {
                let name = format!("{} {}, {}", row.scope, unit(row), window(row));
                let case = xml.create_element("testcase").with_attribute(("classname", class.as_str()));
                let case = case.with_attribute(("name", name.as_str())).with_attribute(("time", "0"));
                if *is_over {
                    let message = reason(standing, row, share);
                    case.write_inner_content(|xml| {
                        let failure = xml.create_element("failure").with_attribute(("type", "over_budget"));
                        failure.with_attribute(("message", message.as_str())).write_empty()?;
                        Ok(())
                    })?;
                } else {
                    case.write_empty()?;
                }
            }
            Ok(())
        })?;
        Ok(())
    })?;
    writeln!(out)?;
    Ok(())
}
