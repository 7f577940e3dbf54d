//! A runaway agent: a loop of 200 requests a second through a gateway, against a model that answers in 10 ms. How much does it spend past its cap, and
//! for how long, beside what the formula of docs/decisions.md says?
//!
//! `./dev runaway 200` makes 200 such loops through each gateway and prints the figures; the tests of every day make a few. What they assert
//! holds on a machine of any speed: each loop is stopped, stays stopped, and has spent no more than the formula says with the lag that it had.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failing step fails its test; figures are printed")]

mod agent;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../../../examples/followers/rust/decisions.rs"]
#[allow(dead_code, reason = "a block says more than this gateway tells")]
mod decisions;
mod figures;
#[path = "../../../../examples/followers/rust/follow.rs"]
mod follow;
mod gateway;

use std::path::Path;

use serde_json::{Value, json};

use crate::agent::Run;
use crate::common::events::zone_without_midnight;
use crate::common::{Server, kafka, wait_until_eq};
use crate::gateway::{Gateway, Model};

/// Tokens of each request.
const TOKENS: u64 = 1_000;
/// Requests until an agent's budget is used up: a quarter of a second.
const REQUESTS: usize = 50;
/// Who pays.
const NAMESPACE: &str = "runaway";
/// The budget of each agent.
const BUDGET: &str = "agents-daily";

fn serve(folder: &Path) -> Server {
    let budgets = folder.join("budgets.yaml");
    let (zone, limit) = (zone_without_midnight(), REQUESTS as u64 * TOKENS);
    let text = format!(
        "budgets:\n  - id: {BUDGET}\n    match: {{ namespace: {NAMESPACE} }}\n    per: [agent]\n    window: {{ every: day, zone: {zone} }}\n    \
         limit: {{ tokens: {limit} }}\n    alerts: {{ at: [] }}\n"
    );
    std::fs::write(&budgets, text).unwrap();
    Server::start(&folder.join("data"), &["--budgets", budgets.to_str().unwrap()])
}

/// Runs so many loops through a gateway, one after the other, and holds each against the formula.
fn stops_each_loop(name: &str, gateway: &Gateway, model: &Model, server: &Server) {
    let loops = std::env::var("OUTLAY_RUNAWAY_LOOPS").map_or(5, |text| text.parse().unwrap());
    let mut runs: Vec<Run> = (0..loops).map(|at| agent::run(&format!("agent-{at}"), gateway, model)).collect();
    let served: usize = runs.iter().map(|run| run.served).sum();
    wait_until_eq("events counted", &json!(served), || server.get_json("/v1/status")["totals"]["accepted"].clone());
    let counted = server.sql("select agent, sum(total_tokens) tokens from usage group by agent");
    for run in &mut runs {
        let tokens = counted.iter().find(|row| row["agent"] == *run.agent).map(|row| whole(&row["tokens"]));
        assert_eq!(tokens, Some(run.served as u64 * TOKENS), "what was served is what is counted: {run:?}");
        let key = format!("{BUDGET}|namespace={NAMESPACE},agent={}", run.agent);
        let decision = crate::common::wait_for("the block on the topic", || {
            kafka::latest(&server.log, "usage.decisions").remove(&key)
        });
        run.decided(&decision);
        let (spent, bound) = (run.overshoot(), run.bound());
        assert!(spent <= bound, "{spent} requests past the cap, where the formula allows {bound}: {run:?}");
    }
    figures::print(name, &runs);
}

fn whole(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("no whole number: {value}"))
}

#[test]
fn a_runaway_loop_is_stopped_by_nginx_that_asks_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let model = Model::start(&server.log);
    let gateway = Gateway::nginx(folder.path(), &server, &model);
    stops_each_loop("nginx, `auth_request` to `/v1/check`", &gateway, &model, &server);
}

#[test]
fn a_runaway_loop_is_stopped_by_a_gateway_that_follows_the_control_topic() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    let model = Model::start(&server.log);
    let gateway = Gateway::following(&server.log, &model);
    stops_each_loop("a gateway that follows `usage.decisions`", &gateway, &model, &server);
}
