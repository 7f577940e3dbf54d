//! The control topic does not grow for ever: what is over gets a tombstone, whatever restarts in between, and numbers go on above it.

use serde_json::json;

use crate::common::events::{event, zone_without_midnight};
use crate::common::{Server, kafka, wait_for, wait_until_eq};

const KEY: &str = "shop-daily|namespace=shop";

/// What an earlier Outlay left of a budget whose window was over long ago.
fn left_over(state: &str, seq: u64) -> String {
    let (reason, status) = if state == "blocked" { ("NAMESPACE_QUOTA_EXCEEDED", 403) } else { ("WITHIN_QUOTA", 200) };
    json!({
        "budget": "shop-daily", "scope": {"namespace": "shop"}, "state": state, "reason_code": reason, "http_status": status,
        "measure": "tokens", "limit": "1000", "used": "1000", "seq": seq,
        "window": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "zone": "UTC"},
        "decided_at": "2026-01-01T10:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
    })
    .to_string()
}

#[test]
fn a_decision_that_is_over_is_taken_off_the_topic_at_the_next_start_and_its_key_comes_back_above_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = dir.path().join("budgets.yaml");
    let zone = zone_without_midnight();
    let text = format!(
        "budgets:\n  - id: shop-daily\n    match: {{ namespace: shop }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 1000 }}\n    alerts: {{ at: [] }}\n"
    );
    std::fs::write(&budgets, text).unwrap();
    let args = ["--budgets", budgets.to_str().unwrap()];
    let data = dir.path().join("data");
    let server = Server::start(&data, &args);
    let records = [left_over("blocked", 1), left_over("allowed", 2), left_over("blocked", 3), left_over("allowed", 4)];
    for record in &records {
        kafka::publish(&server.log, "usage.decisions", &[(KEY, record.as_bytes())]);
    }
    server.kill();

    let server = Server::start(&data, &args);
    let values = || kafka::read_topic(&server.log, "usage.decisions").into_iter().map(|record| record.value).collect();
    let mut expected: Vec<Option<Vec<u8>>> = records.iter().map(|record| Some(record.clone().into_bytes())).collect();
    expected.push(None);
    wait_until_eq("the records of the key", &expected, values);
    assert_eq!(server.get_json("/v1/decisions"), json!([]));
    server.kill();

    // Nobody knows the key any more, and a follower may remember its number.
    let server = Server::start(&data, &args);
    server.post_event(&event("one", "shop", 1000));
    let block = wait_for("the block", || kafka::latest(&server.log, "usage.decisions").remove(KEY));
    assert_eq!((&block["state"], &block["seq"]), (&json!("blocked"), &json!(6)), "five records were there: {block}");
    assert_eq!(kafka::read_topic(&server.log, "usage.decisions").len(), 6, "a tombstone is not made twice");
}
