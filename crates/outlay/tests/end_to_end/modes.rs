//! Budgets that do not simply block: what is said of them, everywhere, and that they are never effective by mistake.

use serde_json::{Value, json};

use super::enforcing::{Budgets, check_until};
use crate::common::events::{event, event_with, zone_without_midnight};
use crate::common::sse::Stream;
use crate::common::{Server, kafka, wait_for, wait_until_eq};

/// A day's budget of a namespace in a mode.
fn daily(id: &str, namespace: &str, tokens: u64, more: &str) -> String {
    let zone = zone_without_midnight();
    format!(
        "  - {{ id: {id}, match: {{ namespace: {namespace} }}, window: {{ every: day, zone: {zone} }}, limit: {{ tokens: {tokens} }}, {more} }}\n"
    )
}

fn published(server: &Server, key: &str) -> Option<Value> {
    kafka::latest(&server.log, "usage.decisions").remove(key)
}

#[test]
fn a_shadow_budget_is_told_on_all_channels_and_enforced_on_none() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    budgets.write(&[daily("trial", "shop", 1000, "mode: shadow"), daily("cap", "shop", 5000, "mode: hard")]);
    let server = budgets.server(&[]);
    let (stream, _) = Stream::open(&server);
    let shop = [("namespace", "shop")];
    server.post_event(&event("one", "shop", 1000));
    let answer = wait_for("the shadow's finding", || {
        let answer = server.check(&shop).expect(200);
        answer.json().get("would_block").is_some().then_some(answer)
    });
    assert_eq!((answer.header("x-outlay-would-block"), answer.header("retry-after")), ("trial", ""));
    let body = answer.json();
    assert_eq!(
        (&body["state"], &body["budget"], &body["http_status"]),
        (&json!("allowed"), &json!("cap"), &json!(200))
    );
    let finding = &body["would_block"];
    assert_eq!((&finding["budget"], &finding["http_status"]), (&json!("trial"), &json!(403)));
    assert_eq!((&finding["used"], &finding["limit"]), (&json!("1000"), &json!("1000")));
    assert!(body["detail"].as_str().unwrap().contains("budget trial in shadow would answer 403"), "{body}");

    let decision = stream.decision("trial");
    assert_eq!((&decision["state"], &decision["http_status"]), (&json!("allowed"), &json!(200)));
    let would_block = json!({"reason_code": "NAMESPACE_QUOTA_EXCEEDED", "http_status": 403});
    assert_eq!(decision["would_block"], would_block);
    wait_until_eq("the decision on the topic", &Some(decision), || published(&server, "trial|namespace=shop"));
    let rows = server.sql("select budget, state, would_block from decisions");
    let reason = json!("NAMESPACE_QUOTA_EXCEEDED");
    assert_eq!(rows, [json!({"budget": "trial", "state": "allowed", "would_block": reason})]);
    assert_eq!(server.sql("select mode from budgets where id = 'trial'")[0]["mode"], "shadow");
    let row = &server.get_json("/v1/balances?budget=trial")[0];
    assert_eq!((&row["state"], &row["mode"]), (&json!("allowed"), &json!("shadow")));
    wait_until_eq("scopes", &(0_u64, 1_u64), || {
        (server.metric("outlay_scopes_blocked"), server.metric("outlay_scopes_would_block"))
    });
    assert_eq!(server.metric::<u64>("outlay_decisions_published_total{kind=\"would_block\"}"), 1);
    wait_until_eq("the mode of its alerts", &vec![json!({"mode": "shadow"}); 2], || {
        server.sql("select mode from alerts where budget = 'trial'")
    });

    // Made hard it blocks at once, and back in shadow it opens again.
    budgets.write(&[daily("trial", "shop", 1000, "mode: hard")]);
    let body = check_until(&server, &shop, 403).json();
    assert_eq!((&body["budget"], body.get("would_block")), (&json!("trial"), None));
    budgets.write(&[daily("trial", "shop", 1000, "mode: shadow")]);
    assert_eq!(check_until(&server, &shop, 200).header("x-outlay-would-block"), "trial");
}

#[test]
fn a_canary_that_blocks_too_many_scopes_goes_back_to_shadow_and_stays_there_until_it_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let zone = zone_without_midnight();
    let file = |over: &str| {
        format!(
            "  - {{ id: users, per: [user], window: {{ every: day, zone: {zone} }}, limit: {{ tokens: 100 }}, mode: canary, canary: 100%, rollback: {{ blocked_over: {over}, at_least: 4 }} }}\n"
        )
    };
    budgets.write(&[file("25%")]);
    let server = budgets.server(&["--commit-rows", "1"]);
    let user = |user: &str, tokens| event_with(&format!("{user} {tokens}"), "shop", tokens, json!({"user": user}));
    let of = |user: &'static str| [("namespace", "shop"), ("user", user)];
    for (name, tokens) in [("a", 1), ("b", 1), ("c", 1), ("d", 100)] {
        server.post_event(&user(name, tokens));
    }
    check_until(&server, &of("d"), 403);
    server.post_event(&user("c", 99));
    let answer = check_until(&server, &of("d"), 200);
    assert_eq!(answer.header("x-outlay-would-block"), "users");
    let record = wait_for("the rollback on the topic", || published(&server, "users|*"));
    let rolled_back = &record["rolled_back"];
    assert_eq!((&rolled_back["blocked"], &rolled_back["scopes"]), (&json!(2), &json!(4)));
    assert_eq!((&record["state"], &record["scope"]), (&json!("allowed"), &json!({})));
    wait_until_eq("the metric", &1_u64, || server.metric("outlay_budgets_rolled_back"));
    assert!(server.logged().contains("goes on in shadow"), "{}", server.logged());
    let row = json!({"canary": "1", "rollback_over": "0.25", "rollback_at_least": 4, "rolled_back": true});
    assert_eq!(server.sql("select canary, rollback_over, rollback_at_least, rolled_back from budgets"), [row]);

    wait_until_eq("rows in the lake", &json!(5), || server.get_json("/v1/status")["lake"]["rows"].clone());
    server.stop();
    let server = budgets.server(&[]);
    wait_until_eq("the metric", &1_u64, || server.metric("outlay_budgets_rolled_back"));
    assert_eq!(server.check(&of("d")).expect(200).header("x-outlay-would-block"), "users");
    assert_eq!(published(&server, "users|*"), Some(record), "it is not said again");

    budgets.write(&[file("75%")]);
    check_until(&server, &of("d"), 403);
    wait_until_eq("the withdrawal on the topic", &Some(None), || {
        published(&server, "users|*").map(|record| record.get("rolled_back").cloned())
    });
}

#[test]
fn an_overage_and_a_preset_are_in_force_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let zone = zone_without_midnight();
    budgets.write(&[
        daily("build", "ci", 1000, "preset: ci, overage: 10%"),
        daily("app", "shop", 1000, "preset: production"),
    ]);
    let server = budgets.server(&[]);
    let (stream, _) = Stream::open(&server);
    let ci = [("namespace", "ci")];
    server.post_event(&event("one", "ci", 1050));
    wait_until_eq("used", &json!("1050"), || server.check(&ci).expect(200).json()["used"].clone());
    server.post_event(&event("two", "ci", 50));
    let answer = check_until(&server, &ci, 403);
    assert_eq!((answer.header("x-outlay-limit"), answer.header("x-outlay-overage")), ("1000", "100"));
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("1100 of 1000 (and 100 of overage) tokens"),
        "{}",
        answer.text()
    );
    let decision = stream.decision("build");
    assert_eq!((&decision["limit"], &decision["overage"]), (&json!("1000"), &json!("100")));
    let columns = "id, overage, mode, http_status, thresholds";
    let row = |id: &str, overage: Value, mode: &str, at: &str| json!({"id": id, "overage": overage, "mode": mode, "http_status": 403, "thresholds": at});
    assert_eq!(
        server.sql(&format!("select {columns} from budgets order by id")),
        [row("app", json!(null), "soft", "0.5,0.8,1"), row("build", json!("100"), "hard", "1")]
    );
    assert_eq!(server.sql("select overage from decisions")[0]["overage"], "100");

    // What is wrong in a preset is told with its place.
    std::fs::write(
        dir.path().join("budgets.yaml"),
        format!("presets:\n  ci: {{ mode: hrad }}\nbudgets:\n  - {{ id: x, window: {{ every: day, zone: {zone} }}, limit: {{ tokens: 5 }} }}\n"),
    )
    .unwrap();
    let problem = wait_for("the refusal", || {
        let status = server.get_json("/v1/status");
        let rows = status["health"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["component"] == "budgets" && row["ok"] == false)
    });
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("line 2") && detail.contains("presets.ci.mode"), "{detail}");
}

#[test]
fn low_priority_is_slowed_when_the_budget_that_all_share_is_nearly_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let zone = zone_without_midnight();
    let batch = format!(
        "  - {{ id: batch, match: {{ namespace: shop, team: batch }}, window: {{ every: day, zone: {zone} }}, limit: {{ tokens: 900 }}, priority: low }}\n"
    );
    let shared = |tokens| {
        daily("shop", "shop", tokens, "pressure: { low: { at: 80%, requests: 3, within: 1h } }, alerts: { at: [] }")
    };
    budgets.write(&[shared(1000), batch.clone()]);
    let server = budgets.server(&[]);
    let (stream, _) = Stream::open(&server);
    let of = |team: &'static str| [("namespace", "shop"), ("team", team)];
    server.post_event(&event_with("one", "shop", 10, json!({"team": "batch"})));
    server.post_event(&event_with("two", "shop", 789, json!({"team": "web"})));
    wait_until_eq("used", &json!("799"), || server.check(&of("web")).expect(200).json()["used"].clone());
    server.check(&of("batch")).expect(200);
    server.post_event(&event_with("three", "shop", 1, json!({"team": "web"})));
    let decision = stream.decision("batch");
    let throttle = json!({"reason_code": "PRIORITY_THROTTLED", "requests": 3, "per_s": 3600, "burst": 1, "by": "shop"});
    assert_eq!((&decision["throttle"], &decision["state"]), (&throttle, &json!("allowed")));
    wait_until_eq("the decision on the topic", &Some(decision), || {
        published(&server, "batch|namespace=shop,team=batch")
    });
    let refused = check_until(&server, &of("batch"), 429);
    assert_eq!((refused.header("x-outlay-reason"), refused.header("x-outlay-budget")), ("PRIORITY_THROTTLED", "batch"));
    assert_eq!(refused.header("ratelimit-policy"), "\"batch\";q=3;w=3600");
    let retry_after: i64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1200).contains(&retry_after), "{retry_after}");
    let body = refused.json();
    assert_eq!((&body["throttle"]["by"], &body["state"]), (&json!("shop"), &json!("blocked")));
    assert!(body["detail"].as_str().unwrap().contains("because shop is nearly used up"), "{body}");
    assert_eq!(server.check(&of("web")).expect(200).header("ratelimit-policy"), "");
    let row = json!({"id": "batch", "priority": "low", "pressure_low": null});
    assert_eq!(server.sql("select id, priority, pressure_low from budgets order by id")[0], row);

    // More for all: nobody is slowed.
    budgets.write(&[shared(5000), batch]);
    assert_eq!(check_until(&server, &of("batch"), 200).header("ratelimit"), "");
}

#[test]
fn a_loop_opens_a_circuit_that_lets_a_trickle_through_and_closes() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let trickling = |open_for: &str, requests: u64| {
        format!(
            "budgets: []\nbreakers:\n  - {{ id: loops, per: [agent], trip: [{{ requests: 20, within: 1m }}], open_for: {open_for}, half_open: {{ for: 1h, requests: {requests} }} }}\n"
        )
    };
    let file = |open_for| trickling(open_for, 3);
    let write = |text: String| {
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join("budgets.yaml")).unwrap();
    };
    write(file("1h"));
    let server = budgets.server(&[]);
    let (stream, _) = Stream::open(&server);
    let bot = [("namespace", "shop"), ("agent", "bot")];
    let mut sent = 0;
    let mut request = |count: usize| {
        for _ in 0..count {
            sent += 1;
            server.post_event(&event_with(&format!("bot {sent}"), "shop", 1, json!({"agent": "bot"})));
        }
    };
    request(20);
    let answer = check_until(&server, &bot, 429);
    assert_eq!(answer.header("x-outlay-reason"), "CIRCUIT_OPEN");
    let retry_after: i64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=3600).contains(&retry_after), "{retry_after}");
    assert_eq!(server.check(&[("namespace", "shop"), ("agent", "other")]).status, 200);
    let decision = stream.decision("loops");
    let said = (&decision["state"], &decision["reason_code"], &decision["http_status"], &decision["used"]);
    assert_eq!(said, (&json!("blocked"), &json!("CIRCUIT_OPEN"), &json!(429), &json!("20")));
    wait_until_eq("the decision on the topic", &Some(decision.clone()), || published(&server, "loops|agent=bot"));

    // It is open over a restart.
    server.stop();
    let server = budgets.server(&[]);
    assert_eq!(check_until(&server, &bot, 429).header("x-outlay-reason"), "CIRCUIT_OPEN");

    // With another time to be open it begins closed, opens, goes half open by itself, and opens again when more than the trickle comes.
    write(file("1s"));
    check_until(&server, &bot, 200);
    let (stream, _) = Stream::open(&server);
    let mut request = |count: usize| {
        for _ in 0..count {
            sent += 1;
            server.post_event(&event_with(&format!("bot {sent}"), "shop", 1, json!({"agent": "bot"})));
        }
    };
    let until = |state: &str| while stream.decision("loops")["state"] != state {};
    let until_throttled = || loop {
        let decision = stream.decision("loops");
        if decision.get("throttle").is_some() {
            return decision;
        }
    };
    request(20);
    until("blocked");
    let decision = until_throttled();
    let trickle = json!({"reason_code": "CIRCUIT_HALF_OPEN", "requests": 3, "per_s": 3600, "burst": 1});
    assert_eq!((&decision["throttle"], &decision["state"]), (&trickle, &json!("allowed")));
    wait_until_eq("the decision on the topic", &Some(decision), || published(&server, "loops|agent=bot"));
    let row =
        json!({"state": "allowed", "throttle": "CIRCUIT_HALF_OPEN", "throttle_requests": 3, "throttle_per_s": 3600});
    assert_eq!(server.sql("select state, throttle, throttle_requests, throttle_per_s from decisions"), [row]);
    wait_until_eq("throttled scopes", &1_u64, || server.metric("outlay_scopes_throttled"));
    // One request in twenty minutes passes; who asks again is told when.
    let passes = server.check(&bot).expect(200);
    assert_eq!(passes.header("ratelimit-policy"), "\"loops\";q=3;w=3600");
    assert!(passes.header("ratelimit").starts_with("\"loops\";r=0;t="), "{}", passes.header("ratelimit"));
    assert_eq!(passes.json()["throttle"]["remaining"], 0);
    let refused = server.check(&bot).expect(429);
    let retry_after: i64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1200).contains(&retry_after), "{retry_after}");
    assert_eq!((refused.header("x-outlay-reason"), refused.header("x-outlay-budget")), ("CIRCUIT_HALF_OPEN", "loops"));
    let throttle = &refused.json()["throttle"];
    assert_eq!((&throttle["requests"], &throttle["per_s"]), (&json!(3), &json!(3600)), "{throttle}");
    assert_eq!(server.check(&[("namespace", "shop"), ("agent", "other")]).status, 200);
    request(4);
    until("blocked");

    // One a second: whoever asks all the time is refused, and let through again.
    write(trickling("1s", 3600));
    let is_closed = |decision: &Value| decision["state"] == "allowed" && decision.get("throttle").is_none();
    while !is_closed(&stream.decision("loops")) {}
    request(20);
    until_throttled();
    let answer = check_until(&server, &bot, 429);
    assert_eq!((answer.header("x-outlay-reason"), answer.header("retry-after")), ("CIRCUIT_HALF_OPEN", "1"));
    assert_eq!(check_until(&server, &bot, 200).header("ratelimit-policy"), "\"loops\";q=3600;w=3600");
}
