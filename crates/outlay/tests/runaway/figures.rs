//! Prints what the loops came to.

use std::time::Duration;

use crate::agent::Run;
use crate::{REQUESTS, TOKENS};

/// One table, in Markdown.
pub fn print(name: &str, runs: &[Run]) {
    let budget = REQUESTS as u64 * TOKENS;
    println!("\n{} loops of 200 requests/s, {TOKENS} tokens each, cap {budget} tokens: {name}\n", runs.len());
    println!("| | p50 | p99 | most |\n|---|--:|--:|--:|");
    let row = |what: &str, of: &dyn Fn(&Run) -> String, by: &dyn Fn(&Run) -> u128| {
        let mut sorted: Vec<&Run> = runs.iter().collect();
        sorted.sort_by_key(|run| by(run));
        let [p50, p99, most] = [50, 99, 100].map(|percent| of(sorted[(runs.len() * percent).div_ceil(100).max(1) - 1]));
        println!("| {what} | {p50} | {p99} | {most} |");
    };
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    row("crossing to `decided_at`", &|run| millis(run.to_decision), &|run| run.to_decision.as_nanos());
    row("crossing to first refusal", &|run| millis(run.to_refusal), &|run| run.to_refusal.as_nanos());
    row("longest in flight past the cap", &|run| millis(run.in_flight), &|run| run.in_flight.as_nanos());
    row("**overshoot**", &|run| format!("{} tokens", run.overshoot_tokens()), &|run| run.overshoot() as u128);
    row("at most, by the formula", &|run| format!("{} tokens", run.bound() as u64 * TOKENS), &|run| {
        run.bound() as u128
    });
}
