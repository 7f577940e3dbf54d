//! The page in a real browser, fed by the real binary.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use serde_json::json;

use crate::common::browser::Browser;
use crate::common::events::{event_with, zone_without_midnight};
use crate::common::{Server, kafka, repository, wait_for};

#[test]
fn the_page_shows_balances_a_block_mails_and_the_chargeback_as_they_happen() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = dir.path().join("budgets.yaml");
    let zone = zone_without_midnight();
    let budget = |id: &str, namespace: &str, limit: &str, mode: &str| {
        format!(
            "  - id: {id}\n    match: {{ namespace: {namespace} }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ {limit} }}\n    mode: {mode}\n    alerts: {{ at: [0.8, 1.0], to: [leads@example.com] }}\n"
        )
    };
    let list = [
        budget("support-daily", "support", "tokens: 1000000", "hard"),
        budget("research-cost", "research", "cost: \"9.00 USD\"", "soft"),
    ];
    std::fs::write(&budgets, format!("budgets:\n{}", list.concat())).unwrap();
    let server = Server::start(&dir.path().join("data"), &["--budgets", budgets.to_str().unwrap()]);
    let priced = |id: &str, namespace: &str, team: &str, tokens: u64| {
        event_with(
            id,
            namespace,
            tokens,
            json!({"team": team, "repository": "acme/bot", "provider": "openai", "model": "gpt-5.1"}),
        )
    };
    server.post_event(&priced("a", "support", "helpdesk", 850_000));
    // A million input tokens of gpt-5.1 cost $1.25 by the shipped book; three of them are $3.75.
    server.post_event(&priced("b", "research", "agents", 3_000_000));
    server.post_event(&event_with(
        "c",
        "research",
        77,
        json!({"team": "agents", "provider": "acme", "model": "mystery-9"}),
    ));
    kafka::publish(&server.log, "usage.events", &[("", b"{\"namespace\": \"support\"}")]);

    let mut browser = Browser::start(1280, 1000);
    browser.open(&format!("{}/#key={}", server.url, server.key));
    let shows = |browser: &mut Browser, id: &str, parts: &[&str]| {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("the text", || {
                last = browser.text(id);
                parts.iter().all(|part| last.contains(part)).then_some(())
            });
        }));
        assert!(found.is_ok(), "#{id} does not show {parts:?} but\n{last}");
    };
    shows(&mut browser, "accepted", &["3"]);
    shows(&mut browser, "budgets", &["support", "85 %", "support-daily", "per day", "research-cost", "41 %"]);
    shows(&mut browser, "mails", &["80% of budget", "leads@example.com", "written"]);
    shows(&mut browser, "unpriced", &["mystery-9", "77 tokens"]);
    shows(&mut browser, "rejections", &["missing_field", "time"]);
    shows(&mut browser, "health", &["All parts work"]);
    shows(&mut browser, "blocked-empty", &["Nothing is blocked."]);
    // 850,000 input tokens are $1.0625.
    shows(&mut browser, "chargeback", &["helpdesk", "agents", "acme/bot", "4.8125 USD", "no price"]);

    // Without reloading: the stream brings the block, the next look the mail.
    server.post_event(&priced("d", "support", "helpdesk", 150_000));
    shows(&mut browser, "blocked", &["support", "NAMESPACE_QUOTA_EXCEEDED", "HTTP 403", "resets in", "support-daily"]);
    shows(&mut browser, "budgets", &["blocked", "100 %"]);
    shows(&mut browser, "mails", &["100% of budget"]);
    shows(&mut browser, "stream", &["live"]);
    browser.value("document.querySelector('#mails button').click()");
    shows(&mut browser, "mail-text", &["support-daily", "1,000,000"]);
    browser.value("document.getElementById('mail-close').click()");

    // Who is blocked asks for more: that is shown and mailed, and gone when it is answered.
    let asks = |path: &str, body: serde_json::Value| {
        let request = server.client().post(format!("{}/v1/increase-requests{path}", server.url));
        server.send(request.header("x-outlay-actor", "zoe").body(body.to_string()))
    };
    assert_eq!(browser.value("document.getElementById('requests-card').hidden"), json!(true));
    let more = json!({"budget": "support-daily", "limit": {"tokens": 2_000_000}, "justification": "launch week"});
    asks("", more).expect(201);
    shows(&mut browser, "requests", &["support", "2,000,000 tokens", "support-daily", "zoe", "launch week", "r-1"]);
    shows(&mut browser, "mails", &["r-1: more of budget support-daily", "leads@example.com"]);
    asks("/r-1/deny", json!({"reason": "not now"})).expect(200);
    wait_for("no pending request", || {
        (browser.value("document.getElementById('requests-card').hidden") == json!(true)).then_some(())
    });
    browser.value("document.querySelector('#mails button').click()");
    shows(&mut browser, "mail-text", &["zoe", "launch week", "2,000,000"]);
    browser.value("document.getElementById('mail-close').click()");

    let address = browser.value("location.href");
    assert!(!address.as_str().unwrap().contains("key="), "the key stays in the address bar: {address}");
    let picture = repository("target/page.png");
    browser.screenshot(&picture);
    assert!(std::fs::metadata(&picture).unwrap().len() > 10_000);
    assert_eq!(browser.complaints, [] as [String; 0]);

    // A wrong key is said, and nothing is shown.
    let mut stranger = Browser::start(800, 600);
    stranger.open(&format!("{}/#key=wrong", server.url));
    shows(&mut stranger, "login-error", &["key is wrong"]);
    assert!(!stranger.text("budgets").contains("support"));
}
