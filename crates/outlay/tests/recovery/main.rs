//! Invariants 2 and 4: `kill -9` at any point changes nothing.
//!
//! The demo's trace is published at speed to two servers by the same budgets. One runs undisturbed. The other is killed at random points:
//! while it starts, while it counts and commits, while it stops. In the end both must hold the same balances, rows, decisions, alerts and
//! mails, and both what `recompute.py`, which shares no code with Outlay, makes of the trace.
//!
//! `OUTLAY_RECOVERY_KILLS` is how often (3), `OUTLAY_RECOVERY_SEED` repeats the points of a run. `./dev recovery 20` is the long form.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

#[path = "../common/mod.rs"]
mod common;
mod outcome;
mod trace;
mod victim;

use std::path::Path;
use std::time::Instant;

use chrono::Utc;

use crate::common::Server;
use crate::common::events::{let_the_month_end, zone_without_midnight};
use crate::common::server::verify;
use crate::outcome::Outcome;
use crate::trace::{Expected, Trace};
use crate::victim::{Random, Sender};

/// Small commits, so that a kill finds many states: about a hundred commits in a run.
const COMMITS: [&str; 4] = ["--commit-interval-ms", "100", "--commit-rows", "200"];

/// Hard and soft, tokens, money and requests, of one scope and of each team or user. The trace has 8,819 requests, 4,437,538 tokens of `support`
/// and $6.44 of `checkout`; `everything` is reached only if each event counts, and `one-more` only if one counts twice.
fn budgets() -> String {
    let zone = zone_without_midnight();
    let budget = |id: &str, scope: &str, limit: &str, mode: &str, at: &str| {
        format!(
            "  - id: {id}\n    {scope}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ {limit} }}\n    mode: {mode}\n    alerts: {{ at: [{at}], to: [{id}@example.com] }}\n"
        )
    };
    [
        "budgets:\n".to_owned(),
        budget("support-tokens", "match: { namespace: support }", "tokens: 3000000", "hard", "0.5, 0.8, 1.0"),
        budget("checkout-warns", "match: { namespace: checkout }", "cost: \"7.00 USD\"", "soft", "0.8, 1.0"),
        budget("checkout-stops", "match: { namespace: checkout }", "cost: \"5.00 USD\"", "hard", "0.8, 1.0, 1.2"),
        budget("search-teams", "match: { namespace: search }\n    per: [team]", "tokens: 1000000", "hard", "0.8, 1.0"),
        budget("users", "per: [namespace, user]", "requests: 200", "hard", "1.0"),
        budget("everything", "match: {}", "requests: 8819", "soft", "0.25, 0.5, 0.75, 1.0"),
        budget("one-more", "match: {}", "requests: 8820", "hard", "1.0"),
    ]
    .concat()
}

#[test]
fn a_server_killed_at_random_points_ends_as_an_undisturbed_one_and_as_the_recomputation() {
    let number = |name: &str| {
        std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text}")))
    };
    let kills = number("OUTLAY_RECOVERY_KILLS").unwrap_or(3);
    let seed = number("OUTLAY_RECOVERY_SEED").unwrap_or_else(|| Utc::now().timestamp_micros().unsigned_abs());
    eprintln!("recovery: {kills} kills, OUTLAY_RECOVERY_SEED={seed}");

    // Both runs are of one month.
    let_the_month_end(chrono::Duration::minutes(15));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("budgets.yaml");
    std::fs::write(&file, budgets()).unwrap();
    let args = [&["--log", "127.0.0.1:0", "--budgets", file.to_str().unwrap()], &COMMITS[..]].concat();
    let trace = Trace::ending_at(Utc::now());

    let begun = Instant::now();
    let calm = run_undisturbed(&dir.path().join("calm"), &args, &trace);
    eprintln!("recovery: the undisturbed run took {:.1} s: {calm}", begun.elapsed().as_secs_f64());
    calm.expect_what_was_recomputed(&trace.expected);

    let begun = Instant::now();
    let killed = run_killed(&dir.path().join("killed"), &args, &trace, kills, seed);
    eprintln!("recovery: the run with {kills} kills took {:.1} s: {killed}", begun.elapsed().as_secs_f64());
    killed.expect_what_was_recomputed(&trace.expected);
    killed.expect_same(&calm);
}

fn run_undisturbed(data: &Path, args: &[&str], trace: &Trace) -> Outcome {
    let server = Server::launch(data, args);
    let mut sender = Sender::new(trace);
    sender.connect(&server.log);
    sender.send_until(trace.events.len());
    finish(server, &trace.expected)
}

fn run_killed(data: &Path, args: &[&str], trace: &Trace, kills: u64, seed: u64) -> Outcome {
    let mut random = Random(seed);
    let mut sender = Sender::new(trace);
    for kill in 1..=kills {
        // Each life gets its share, so that every kill has something to disturb.
        let share = sender.acknowledged()
            + (trace.events.len() - sender.acknowledged()) / usize::try_from(kills - kill + 2).unwrap();
        let point = victim::Point::draw(&mut random);
        let ended = victim::live_and_die(data, args, point, &mut sender, share);
        eprintln!(
            "recovery: kill {kill} of {kills}: {point}; {ended}; {} of {} acknowledged",
            sender.acknowledged(),
            trace.events.len()
        );
    }
    let server = Server::launch(data, args);
    let repeated = sender.connect(&server.log);
    sender.send_until(trace.events.len());
    let outcome = finish(server, &trace.expected);
    assert!(repeated == 0 || outcome.duplicates > 0, "{repeated} events came twice, and none was met before");
    outcome
}

/// Waits until everything is counted, looks, stops the server, and proves its lake.
fn finish(server: Server, expected: &Expected) -> Outcome {
    let outcome = Outcome::of(&server, expected);
    let data = server.data.clone();
    assert!(server.stop().success());
    let (sound, said) = verify(&data);
    assert!(sound, "{said}");
    outcome
}
