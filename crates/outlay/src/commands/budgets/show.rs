//! A plan for people: what comes, goes and changes, and whom that blocks or lets go.

use std::io::Write;

use anyhow::Result;
use http_api::{BudgetsPlan, BudgetsSource, PlannedAction, PlannedChange, PlannedEffect};
use serde_json::Value;
use usage_types::budget_fields;

/// Shows a plan.
pub fn plan(plan: &BudgetsPlan, url: &str, out: &mut dyn Write) -> Result<()> {
    let source = match plan.source {
        BudgetsSource::File => "of its file",
        BudgetsSource::Api => "of the API",
    };
    if plan.changes.is_empty() {
        writeln!(out, "{url} has these budgets already ({source})")?;
        return Ok(());
    }
    writeln!(out, "What changes at {url} ({source}, version {}):\n", plan.etag.trim_matches('"'))?;
    for change in &plan.changes {
        one(change, out)?;
    }
    let count = |action| plan.changes.iter().filter(|change| change.action == action).count();
    let [add, modify, remove] = [PlannedAction::Add, PlannedAction::Change, PlannedAction::Remove].map(count);
    writeln!(out, "{add} to add, {modify} to change, {remove} to remove")?;
    Ok(())
}

fn one(change: &PlannedChange, out: &mut dyn Write) -> Result<()> {
    let sign = match change.action {
        PlannedAction::Add => '+',
        PlannedAction::Remove => '-',
        PlannedAction::Change => '~',
    };
    writeln!(out, "{sign} {}", change.budget)?;
    let whole = change.old.as_ref().or(change.new.as_ref());
    let mut lines: Vec<(String, String)> = whole.map(whole_lines).unwrap_or_default();
    lines.extend(change.fields.iter().map(|field| {
        let old = field.old.as_ref().map_or_else(|| "(none)".to_owned(), text);
        let new = field.new.as_ref().map_or_else(|| "(none)".to_owned(), text);
        (field.path.clone(), format!("{old} → {new}"))
    }));
    let width = lines.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
    for (path, value) in &lines {
        writeln!(out, "    {path:<width$}  {value}")?;
    }
    effect(&change.effect, out)?;
    writeln!(out)?;
    Ok(())
}

fn whole_lines(budget: &Value) -> Vec<(String, String)> {
    let fields = budget_fields(budget).into_iter().filter(|(path, _)| path != "id");
    fields.map(|(path, value)| (path, text(&value))).collect()
}

/// A plain value without quotes, a list with them.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn effect(effect: &PlannedEffect, out: &mut dyn Write) -> Result<()> {
    let scopes = |count: u64| if count == 1 { "1 scope".to_owned() } else { format!("{count} scopes") };
    let does: Vec<String> = [("blocks", effect.blocks), ("no longer blocks", effect.unblocks)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(does, count)| format!("{does} {}", scopes(count)))
        .collect();
    match (does.is_empty(), effect.complete) {
        (true, true) => writeln!(out, "    now: blocks nobody and lets nobody go")?,
        (true, false) => writeln!(out, "    now: what it blocks is known once its history is read")?,
        (false, true) => writeln!(out, "    now: {}", does.join(", "))?,
        (false, false) => writeln!(out, "    now: {}, and others perhaps", does.join(", "))?,
    }
    for scope in &effect.scopes {
        let sign = if scope.blocked { "blocked" } else { "open" };
        writeln!(out, "      {sign:<7}  {}  {} {} of {}", scope.scope, scope.used, scope.measure, scope.limit)?;
    }
    let left = (effect.blocks + effect.unblocks).saturating_sub(effect.scopes.len() as u64);
    if left > 0 {
        writeln!(out, "      … and {left} more")?;
    }
    Ok(())
}
