//! A simulation for people and for spreadsheets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use http_api::{
    SimulatedBlock, SimulatedBudget, SimulatedBudgets, SimulatedRollback, SimulatedScope, SimulatedShadow,
    SimulatedSpend, SimulationView,
};
use usage_types::Scope;

use crate::commands::text_table::{Align, text_table};

/// Scopes that are named one by one in the tables.
const SCOPES_SHOWN: usize = 20;

/// The sets of budgets that were simulated, each with its name.
fn sets(view: &SimulationView) -> impl Iterator<Item = (&'static str, &SimulatedBudgets)> {
    [("new", Some(&view.new)), ("present", view.present.as_ref())]
        .into_iter()
        .filter_map(|(name, set)| Some((name, set?)))
}

/// All of it in tables.
pub fn tables(view: &SimulationView) -> String {
    let SimulationView { from, to, lake_version, spend, .. } = view;
    let mut text = format!(
        "{from} to {to}: {} events, {} requests, {} tokens, {} (version {lake_version} of the lake)\n",
        spend.events,
        spend.requests,
        spend.tokens,
        money(spend)
    );
    if spend.events == 0 {
        text += "there is no usage of that time in the lake\n";
    }
    if spend.unpriced > 0 {
        text += &format!("{} events have no known cost; limits of money do not see them\n", spend.unpriced);
    }
    text += if view.count_refused {
        "what a block refuses counts towards balances all the same (--count-refused)\n"
    } else {
        "what a block refuses counts towards no balance, as a refused request uses nothing\n"
    };
    for (name, set) in sets(view) {
        let refused = &set.refused;
        let (events, requests, tokens) = (refused.events, &refused.requests, &refused.tokens);
        text += &format!(
            "the {name} budgets would have refused {events} events, {requests} requests, {tokens} tokens, {}\n",
            money(refused)
        );
        if let Some(SimulatedSpend { events, requests, tokens, .. }) = &set.would_refuse {
            text += &format!(
                "those of them in shadow would refuse {events} events, {requests} requests, {tokens} tokens more\n"
            );
        }
    }
    text += "\n";
    text += &budgets(view);
    text += &scopes(view, Which::Effective);
    text += &scopes(view, Which::InShadow);
    let omitted: u64 = sets(view).map(|(_, set)| set.omitted).sum();
    if omitted > 0 {
        text +=
            &format!("{omitted} scopes, blocks and alerts are counted above and not listed (--details lists more)\n");
    }
    text
}

/// What a line of a table says of blocks: effective ones, or those of a budget in shadow.
struct Sum<'a> {
    scopes: u64,
    blocks: u64,
    seconds: u64,
    refused: &'a SimulatedSpend,
}

impl<'a> Sum<'a> {
    fn of_shadow(shadow: &'a SimulatedShadow) -> Self {
        let SimulatedShadow { scopes, blocks, blocked_seconds, refused } = shadow;
        Self { scopes: *scopes, blocks: *blocks, seconds: *blocked_seconds, refused }
    }

    fn cells(&self) -> Vec<String> {
        let Self { refused, .. } = self;
        let blocks = [self.blocks.to_string(), duration(self.seconds)];
        blocks.into_iter().chain([refused.requests.clone(), refused.tokens.clone(), money(refused)]).collect()
    }
}

/// Every budget, once for each set that has it; what is in shadow has a line of its own.
fn budgets(view: &SimulationView) -> String {
    let header = [
        "budget",
        "of",
        "mode",
        "scopes blocked",
        "blocks",
        "blocked for",
        "refused requests",
        "tokens",
        "cost",
        "alerts",
    ];
    let mut lines = BTreeMap::new();
    let mut notes = String::new();
    for (at, (name, set)) in sets(view).enumerate() {
        for budget in &set.budgets {
            let mut put = |mode: String, sum: &Sum<'_>, alerts: String| {
                let mut line = vec![budget.budget.clone(), name.to_owned(), mode, sum.scopes.to_string()];
                line.extend(sum.cells());
                line.push(alerts);
                let key = (budget.budget.clone(), at, lines.len());
                lines.insert(key, line);
            };
            let SimulatedBudget { scopes_blocked, blocks, blocked_seconds, refused, mode, .. } = budget;
            let effective = Sum { scopes: *scopes_blocked, blocks: *blocks, seconds: *blocked_seconds, refused };
            let mode = if budget.breaker { format!("breaker, {mode}") } else { mode.clone() };
            put(mode, &effective, budget.alerts.to_string());
            if let Some(shadow) = &budget.would_block {
                put("in shadow: would".to_owned(), &Sum::of_shadow(shadow), String::new());
            }
            if let Some(SimulatedRollback { at, blocked, scopes }) = &budget.rolled_back {
                let id = &budget.budget;
                notes += &format!(
                    "{id} of the {name} budgets would have rolled back at {at}, blocking {blocked} of {scopes} scopes\n"
                );
            }
        }
    }
    let lines: Vec<Vec<String>> =
        std::iter::once(header.map(str::to_owned).to_vec()).chain(lines.into_values()).collect();
    let mut aligns = vec![Align::Left; 3];
    aligns.resize(header.len(), Align::Right);
    text_table(&lines, &aligns) + &notes
}

/// Which blocks a table of scopes is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Effective,
    InShadow,
}

impl Which {
    fn sum(self, scope: &SimulatedScope) -> Option<Sum<'_>> {
        match self {
            Self::Effective if scope.blocks == 0 => None,
            Self::Effective => {
                let SimulatedScope { blocks, blocked_seconds, refused, .. } = scope;
                Some(Sum { scopes: 1, blocks: *blocks, seconds: *blocked_seconds, refused })
            }
            Self::InShadow => scope.would_block.as_ref().map(Sum::of_shadow),
        }
    }

    fn blocks(self, scope: &SimulatedScope) -> &[SimulatedBlock] {
        match self {
            Self::Effective => &scope.blocked,
            Self::InShadow => &scope.would_be_blocked,
        }
    }
}

/// The scopes that were blocked, or would be blocked otherwise than now; those with the longest difference first.
fn scopes(view: &SimulationView, which: Which) -> String {
    let mut by_scope: BTreeMap<(&str, &Scope), [Option<&SimulatedScope>; 2]> = BTreeMap::new();
    for (at, (_, set)) in sets(view).enumerate() {
        for scope in set.scopes.iter().filter(|scope| which.sum(scope).is_some()) {
            by_scope.entry((scope.budget.as_str(), &scope.scope)).or_default()[at] = Some(scope);
        }
    }
    let has_present = view.present.is_some();
    let is_same = |[new, present]: &[Option<&SimulatedScope>; 2]| {
        new.map(|s| which.blocks(s)) == present.map(|s| which.blocks(s))
    };
    let mut rows: Vec<_> = by_scope.into_iter().filter(|(_, pair)| !has_present || !is_same(pair)).collect();
    let blocked =
        |scope: Option<&SimulatedScope>| scope.and_then(|scope| which.sum(scope)).map_or(0, |sum| sum.seconds);
    rows.sort_by_key(|(_, [new, present])| std::cmp::Reverse(blocked(*new).abs_diff(blocked(*present))));
    let mut header =
        vec!["budget", "scope", "first blocked", "blocks", "blocked for", "refused requests", "tokens", "cost"];
    if has_present {
        header.extend(["present: blocks", "blocked for", "refused requests"]);
    }
    let more = rows.len().saturating_sub(SCOPES_SHOWN);
    let mut lines = vec![header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
    let none = SimulatedSpend { requests: "0".into(), tokens: "0".into(), ..SimulatedSpend::default() };
    let cells = |scope: Option<&SimulatedScope>| {
        let sum = scope.and_then(|scope| which.sum(scope));
        sum.unwrap_or(Sum { scopes: 0, blocks: 0, seconds: 0, refused: &none }).cells()
    };
    for ((budget, scope), [new, present]) in rows.into_iter().take(SCOPES_SHOWN) {
        let first = new.and_then(|new| which.blocks(new).first()).map(|block| block.begin.to_string());
        let mut line = vec![budget.to_owned(), scope.to_string(), first.unwrap_or_default()];
        line.extend(cells(new));
        if has_present {
            line.extend(cells(present).into_iter().take(3));
        }
        lines.push(line);
    }
    let mut aligns = vec![Align::Left; 3];
    aligns.resize(header.len(), Align::Right);
    let table = text_table(&lines, &aligns);
    let rest = if more > 0 { format!("and {more} more; --format json and csv have all\n") } else { String::new() };
    let title = match (which, has_present, table.is_empty()) {
        (Which::InShadow, _, true) => return String::new(),
        (Which::Effective, false, true) => "no scope would have been blocked",
        (Which::Effective, true, true) => "no scope would be blocked otherwise than by the present budgets",
        (Which::Effective, false, false) => "blocked:",
        (Which::Effective, true, false) => "blocked otherwise than by the present budgets:",
        (Which::InShadow, false, false) => "would be blocked if their budgets were not in shadow:",
        (Which::InShadow, true, false) => {
            "would be blocked if their budgets were not in shadow, otherwise than by the present budgets:"
        }
    };
    format!("\n{title}\n{table}{rest}")
}

fn money(spend: &SimulatedSpend) -> String {
    if spend.costs.is_empty() {
        return "0".to_owned();
    }
    spend.costs.iter().map(|(currency, amount)| format!("{amount} {currency}")).collect::<Vec<_>>().join(" + ")
}

/// The two largest units of a time.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A line for each block, each that would be one, and each alert. There is a column of refused cost for each currency.
pub fn csv(view: &SimulationView, out: impl Write) -> Result<()> {
    let refused = |set: &'_ SimulatedBudgets| -> Vec<String> {
        let of_scope = |scope: &SimulatedScope| {
            let shadow = scope.would_block.as_ref().map(|shadow| &shadow.refused);
            [Some(&scope.refused), shadow]
                .into_iter()
                .flatten()
                .flat_map(|spend| spend.costs.keys().cloned())
                .collect::<Vec<_>>()
        };
        set.scopes.iter().flat_map(of_scope).collect()
    };
    let currencies: BTreeSet<String> = sets(view).flat_map(|(_, set)| refused(set)).collect();
    let mut csv = csv::Writer::from_writer(out);
    let columns =
        ["budgets", "kind", "budget", "scope", "begin", "end", "threshold", "measure", "currency", "limit", "used"];
    let of_refused = ["refused_events", "refused_requests", "refused_tokens"];
    let names = columns.iter().chain(&of_refused).map(|name| (*name).to_owned());
    csv.write_record(names.chain(currencies.iter().map(|currency| format!("refused_cost_{currency}"))))?;
    for (set_name, set) in sets(view) {
        for scope in &set.scopes {
            let whose = [scope.budget.clone(), scope.scope.to_string()];
            let blocks = scope.blocked.iter().map(|block| ("block", block));
            for (kind, block) in blocks.chain(scope.would_be_blocked.iter().map(|block| ("would_block", block))) {
                let SimulatedBlock { begin, end, measure, currency, limit, used, refused, .. } = block;
                let text = |value: Option<String>| value.unwrap_or_default();
                let mut line = vec![set_name.to_owned(), kind.to_owned()];
                line.extend(whose.clone());
                line.extend([begin.to_string(), text(end.map(|end| end.to_string())), String::new(), measure.clone()]);
                line.extend([text(currency.map(|currency| currency.to_string())), limit.clone(), used.clone()]);
                line.extend([refused.events.to_string(), refused.requests.clone(), refused.tokens.clone()]);
                line.extend(
                    currencies
                        .iter()
                        .map(|currency| refused.costs.get(currency).cloned().unwrap_or_else(|| "0".into())),
                );
                csv.write_record(line)?;
            }
            for alert in &scope.alerted {
                let mut line = vec![set_name.to_owned(), "alert".to_owned()];
                line.extend(whose.clone());
                line.extend([alert.at.to_string(), String::new(), alert.threshold.clone()]);
                line.extend([alert.measure.clone(), alert.currency.map(|c| c.to_string()).unwrap_or_default()]);
                line.extend([alert.limit.clone(), alert.used.clone()]);
                line.resize(columns.len() + of_refused.len() + currencies.len(), String::new());
                csv.write_record(line)?;
            }
        }
    }
    csv.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        let told = [0, 59, 61, 3_599, 3_600, 86_399, 90_000, 900_000].map(duration);
        assert_eq!(told, ["0s", "59s", "1m 1s", "59m 59s", "1h 0m", "23h 59m", "1d 1h", "10d 10h"]);
    }
}
