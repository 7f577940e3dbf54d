//! Windows other than the plain ones of the calendar, on every channel and over a restart.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::common::events::{event, event_with};
use crate::common::{Answer, Server, kafka, wait_for, wait_until_eq};

const BUDGETS: &str = r#"budgets:
  - id: burst
    match: { namespace: shop }
    window: { rolling: 10 hours, zone: Asia/Tokyo }
    limit: { tokens: 1000 }
    alerts: { at: [0.8], to: [lead@example.com] }
  - id: sessions
    per: [session]
    window: { lifetime: session, idle: 24 hours }
    limit: { requests: 2 }
    alerts: { at: [] }
  - id: billing
    window: { every: month, anchor: 31, at: "06:00", zone: Europe/Berlin }
    limit: { tokens: 1000000000 }
"#;

fn blocked(server: &Server, dimensions: &[(&str, &str)]) -> Answer {
    wait_for(&format!("a block of {dimensions:?}"), || {
        Some(server.check(dimensions)).filter(|answer| answer.status == 403)
    })
}

fn in_hours(time: &Value) -> f64 {
    let time: DateTime<Utc> = time.as_str().unwrap().parse().unwrap();
    (time - Utc::now()).num_seconds() as f64 / 3600.0
}

#[test]
fn windows_that_move_or_are_anchored_are_told_on_all_channels_and_stand_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("budgets.yaml");
    std::fs::write(&file, BUDGETS).unwrap();
    let start =
        || Server::start(&dir.path().join("data"), &["--budgets", file.to_str().unwrap(), "--commit-rows", "1"]);
    let server = start();
    server.post_event(&event("a", "shop", 600));
    server.post_event(&event("b", "shop", 500));
    let shop = [("namespace", "shop")];
    let answer = blocked(&server, &shop);
    // What counts leaves after ten hours and up to a bucket of ten minutes.
    let body = answer.json();
    assert!((9.9..=10.2).contains(&in_hours(&body["window"]["end"])), "{body}");
    assert_eq!(answer.header("x-outlay-reset"), body["window"]["end"]);
    let retry_after: f64 = answer.header("retry-after").parse().unwrap();
    assert!((retry_after / 3600.0 - in_hours(&body["window"]["end"])).abs() < 0.1, "{retry_after}");
    let published = || kafka::latest(&server.log, "usage.decisions").remove("burst|namespace=shop");
    let decision = wait_for("the decision on the topic", published);
    assert_eq!((&decision["expires_at"], &decision["http_status"]), (&body["window"]["end"], &json!(403)));

    let session = |id: &str| event_with(id, "lab", 1, json!({"session": "s-1"}));
    server.post_event(&session("s1"));
    server.post_event(&session("s2"));
    let agent = [("namespace", "lab"), ("session", "s-1")];
    let lifetime = blocked(&server, &agent).json();
    assert_eq!(lifetime["budget"], "sessions");
    assert!((23.9..=26.1).contains(&in_hours(&lifetime["window"]["end"])), "{lifetime}");

    let row = |budget: &str| server.get_json(&format!("/v1/balances?budget={budget}"))[0].clone();
    for (budget, every, name) in [
        ("burst", "rolling", "rolling 10 hours"),
        ("sessions", "lifetime", "lifetime of a session, idle 24 hours"),
        ("billing", "month", "month from day 31 at 06:00"),
    ] {
        let row = row(budget);
        assert_eq!((&row["every"], &row["window_name"]), (&json!(every), &json!(name)), "{row}");
        let said = json!({"every": every, "window_name": name});
        for view in [format!("balances where budget = '{budget}'"), format!("budgets where id = '{budget}'")] {
            assert_eq!(
                server.sql(&format!("select every, window_name from {view}")),
                std::slice::from_ref(&said),
                "{view}"
            );
        }
    }
    assert_eq!(row("burst")["used"], "1100");
    assert_eq!(server.get_json("/v1/balances?every=rolling").as_array().unwrap().len(), 1);
    let alert =
        json!({"every": "rolling", "window_name": "rolling 10 hours", "threshold": "0.8", "zone": "Asia/Tokyo"});
    let alerts = |server: &Server| server.sql("select every, window_name, threshold, zone from alerts");
    wait_until_eq("the alert", &vec![alert.clone()], || alerts(&server));

    // Buckets come back from the lake, the last decision stands, and the threshold is not told again.
    wait_until_eq("rows in the lake", &json!(4), || server.get_json("/v1/status")["lake"]["rows"].clone());
    server.stop();
    let server = start();
    assert_eq!(blocked(&server, &shop).json()["used"], "1100");
    assert_eq!(blocked(&server, &agent).json()["window"], lifetime["window"]);
    server.post_event(&event("c", "shop", 1));
    wait_until_eq("the next event", &json!("1101"), || blocked(&server, &shop).json()["used"].clone());
    assert_eq!(kafka::latest(&server.log, "usage.decisions").remove("burst|namespace=shop"), Some(decision));
    assert_eq!(alerts(&server), [alert]);
}
