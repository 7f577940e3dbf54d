//! Budgets in force: blocked when reached, said everywhere, open again when raised; a wrong file changes nothing.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Days, TimeZone as _, Utc};
use serde_json::{Value, json};

use crate::common::events::{event, event_with, seconds_until, zone_without_full_hour, zone_without_midnight};
use crate::common::sse::Stream;
use crate::common::{Answer, Server, kafka, wait_for, wait_until_eq};

pub struct Budgets(PathBuf);

impl Budgets {
    pub fn new(folder: &Path) -> Self {
        let budgets = Self(folder.join("budgets.yaml"));
        std::fs::write(&budgets.0, "budgets: []\n").unwrap();
        budgets
    }

    /// Replaces the file at once, as editors and deployments do.
    pub fn write(&self, list: &[String]) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("budgets:\n{}", list.concat())).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    pub fn server(&self, args: &[&str]) -> Server {
        let data = self.0.parent().unwrap().join("data");
        Server::start(&data, &[&["--budgets", self.0.to_str().unwrap()], args].concat())
    }
}

/// One budget, of five lines.
fn daily(id: &str, namespace: &str, limit: &str) -> String {
    let zone = zone_without_midnight();
    format!(
        "  - id: {id}\n    match: {{ namespace: {namespace} }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {limit}\n    alerts: {{ at: [] }}\n"
    )
}

fn in_force(server: &Server, budgets: usize) {
    wait_until_eq("budgets in force", &budgets, || server.sql("select id from budgets").len());
}

pub fn check_until(server: &Server, dimensions: &[(&str, &str)], status: u16) -> Answer {
    wait_for(&format!("status {status} of a check of {dimensions:?}"), || {
        Some(server.check(dimensions)).filter(|answer| answer.status == status)
    })
}

/// Waits until this is the last word on the topic. It is published after it is streamed, and neither waits for the other.
fn published_as(server: &Server, decision: &Value) {
    wait_until_eq("the decision on the topic", &Some(decision.clone()), || {
        kafka::latest(&server.log, "usage.decisions").remove("shop-daily|namespace=shop")
    });
}

/// Local midnight after now.
fn next_midnight() -> DateTime<Utc> {
    let zone = zone_without_midnight();
    let tomorrow = Utc::now().with_timezone(&zone).date_naive().checked_add_days(Days::new(1)).unwrap();
    zone.from_local_datetime(&tomorrow.and_hms_opt(0, 0, 0).unwrap()).unwrap().with_timezone(&Utc)
}

#[test]
fn a_daily_cap_blocks_with_403_on_all_channels_and_opens_when_it_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 1000 }")]);
    let server = budgets.server(&[]);
    let (stream, set) = Stream::open(&server);
    assert_eq!(set, [] as [Value; 0]);

    server.post_event(&event("one", "shop", 999));
    wait_until_eq("used", &json!("999"), || server.check(&[("namespace", "shop")]).json()["used"].clone());
    let open = server.check(&[("namespace", "shop"), ("team", "web")]).expect(200);
    assert_eq!((&open.json()["state"], &open.json()["reason_code"]), (&json!("allowed"), &json!("WITHIN_QUOTA")));
    assert_eq!((open.header("retry-after"), open.header("x-outlay-budget")), ("", "shop-daily"));

    server.post_event(&event("two", "shop", 1));
    let blocked = check_until(&server, &[("namespace", "shop"), ("user", "u-1")], 403);
    let body = blocked.json();
    let decision = stream.decision("shop-daily");
    for answer in [&body, &decision] {
        assert_eq!((&answer["budget"], &answer["scope"]), (&json!("shop-daily"), &json!({"namespace": "shop"})));
        assert_eq!((&answer["state"], &answer["reason_code"]), (&json!("blocked"), &json!("NAMESPACE_QUOTA_EXCEEDED")));
        assert_eq!(
            (&answer["measure"], &answer["limit"], &answer["used"]),
            (&json!("tokens"), &json!("1000"), &json!("1000"))
        );
        assert_eq!(answer["http_status"], 403);
        let end: DateTime<Utc> = answer["window"]["end"].as_str().unwrap().parse().unwrap();
        assert_eq!((end, &answer["window"]["zone"]), (next_midnight(), &json!(zone_without_midnight().name())));
    }
    assert_eq!((&decision["seq"], &decision["expires_at"]), (&json!(1), &decision["window"]["end"]));
    let retry_after: i64 = blocked.header("retry-after").parse().unwrap();
    let left = seconds_until(body["window"]["end"].as_str().unwrap());
    assert!((left - 1..=left + 60).contains(&retry_after), "Retry-After {retry_after}, the window ends in {left} s");
    assert_eq!(blocked.header("x-outlay-reason"), "NAMESPACE_QUOTA_EXCEEDED");
    assert_eq!((blocked.header("x-outlay-limit"), blocked.header("x-outlay-used")), ("1000", "1000"));
    let same = [("namespace", "shop"), ("repository", "acme/x"), ("team", "web")];
    assert_eq!(server.check(&same).status, 403, "whoever is in the scope is blocked");
    assert_eq!(server.check(&[("namespace", "other")]).status, 200);
    assert_eq!(server.check(&[("team", "web")]).expect(400).json()["field"], "namespace");

    // The topic says the same as the stream, and whoever comes now is told at once.
    published_as(&server, &decision);
    assert_eq!(Stream::open(&server).1, std::slice::from_ref(&decision));
    assert_eq!(server.get_json("/v1/decisions"), json!([decision]));
    assert_eq!(server.sql("select budget, state, used from decisions")[0]["used"], "1000");
    wait_until_eq("blocked scopes", &1_u64, || server.metric("outlay_scopes_blocked"));

    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 5000 }")]);
    check_until(&server, &[("namespace", "shop")], 200);
    let allowed = stream.decision("shop-daily");
    assert_eq!((&allowed["state"], &allowed["reason_code"]), (&json!("allowed"), &json!("WITHIN_QUOTA")));
    assert_eq!((&allowed["seq"], &allowed["limit"], &allowed["http_status"]), (&json!(2), &json!("5000"), &json!(200)));
    published_as(&server, &allowed);

    // Blocked again, and taken out of the file: open again.
    server.post_event(&event("three", "shop", 4000));
    check_until(&server, &[("namespace", "shop")], 403);
    assert_eq!(stream.decision("shop-daily")["seq"], 3);
    budgets.write(&[]);
    check_until(&server, &[("namespace", "shop")], 200);
    let gone = stream.decision("shop-daily");
    assert_eq!(
        (&gone["seq"], &gone["state"], &gone["reason_code"]),
        (&json!(4), &json!("allowed"), &json!("BUDGET_REMOVED"))
    );
}

#[test]
fn an_hourly_cap_of_each_user_blocks_with_429_and_only_that_user() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let zone = zone_without_full_hour();
    budgets.write(&[format!(
        "  - id: users-hourly\n    match: {{ namespace: lab }}\n    per: [user]\n    window: {{ every: hour, zone: {zone} }}\n    limit: {{ requests: 3 }}\n"
    )]);
    let server = budgets.server(&[]);
    for at in 0..3 {
        server.post_event(&event_with(&format!("a-{at}"), "lab", 1, json!({"user": "u-1"})));
    }
    server.post_event(&event_with("b", "lab", 1, json!({"user": "u-2"})));
    let blocked = check_until(&server, &[("namespace", "lab"), ("user", "u-1")], 429);
    let body = blocked.json();
    assert_eq!((&body["reason_code"], &body["budget"]), (&json!("USER_QUOTA_EXCEEDED"), &json!("users-hourly")));
    assert_eq!((&body["used"], &body["limit"], &body["measure"]), (&json!("3"), &json!("3"), &json!("requests")));
    assert_eq!(body["scope"], json!({"namespace": "lab", "user": "u-1"}));
    let retry_after: i64 = blocked.header("retry-after").parse().unwrap();
    assert!((1..=3600).contains(&retry_after), "{retry_after}");
    assert!((retry_after - seconds_until(body["window"]["end"].as_str().unwrap())).abs() < 60, "{body}");
    wait_until_eq("the other's use", &json!("1"), || {
        server.check(&[("namespace", "lab"), ("user", "u-2")]).expect(200).json()["used"].clone()
    });
    assert_eq!(server.check(&[("namespace", "lab")]).status, 200);
    wait_until_eq("keys on the topic", &vec!["users-hourly|namespace=lab,user=u-1".to_owned()], || {
        kafka::latest(&server.log, "usage.decisions").into_keys().collect()
    });
}

#[test]
fn of_several_limits_the_one_that_trips_is_named_on_all_channels() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let zone = zone_without_midnight();
    budgets.write(&[format!(
        "  - id: studio\n    match: {{ namespace: studio }}\n    window: {{ every: day, zone: {zone} }}\n    limits: [{{ tokens: 1000 }}, {{ images: 4 }}, {{ output: 500 }}]\n"
    )]);
    let server = budgets.server(&["--commit-rows", "1"]);
    let (stream, _) = Stream::open(&server);
    let studio = [("namespace", "studio")];
    server.post_event(&event("text", "studio", 400));
    let fullest = |measure: &str, used: &str| {
        wait_until_eq("the fullest limit", &(json!(measure), json!(used)), || {
            let body = server.check(&studio).json();
            (body["measure"].clone(), body["used"].clone())
        });
    };
    fullest("tokens", "400");
    server.post_event(&event_with("three", "studio", 0, json!({"images": 3})));
    fullest("images", "3");
    server.post_event(&event_with("one", "studio", 0, json!({"images": 1})));
    let body = check_until(&server, &studio, 403).json();
    let decision = stream.decision("studio");
    for said in [&body, &decision] {
        let named = (&said["measure"], &said["limit"], &said["used"]);
        assert_eq!(named, (&json!("images"), &json!("4"), &json!("4")), "{said}");
    }
    // What is streamed, published and shown as an alert do not wait for each other.
    let published = |server: &Server| kafka::latest(&server.log, "usage.decisions").remove("studio|namespace=studio");
    wait_until_eq("the decision on the topic", &Some(decision.clone()), || published(&server));
    let rows = server.get_json("/v1/balances?budget=studio");
    let row = |at: usize| (&rows[at]["measure"], &rows[at]["used"], &rows[at]["limit"], &rows[at]["state"]);
    assert_eq!(row(0), (&json!("tokens"), &json!("400"), &json!("1000"), &json!("blocked")), "{rows}");
    assert_eq!(row(1), (&json!("images"), &json!("4"), &json!("4"), &json!("blocked")), "{rows}");
    assert_eq!(server.sql("select measure from budgets").len(), 3);
    let balance = &server.sql("select images, measure, used from balances where budget = 'studio'")[0];
    assert_eq!(balance, &json!({"images": 4, "measure": "images", "used": "4"}));
    let alert = |threshold: &str| json!({"threshold": threshold, "measure": "images"});
    wait_until_eq("alerts", &vec![alert("0.8"), alert("1")], || {
        server.sql("select threshold, measure from alerts order by threshold")
    });

    // Images come back from the lake, and the last decision stands.
    wait_until_eq("rows in the lake", &json!(3), || server.get_json("/v1/status")["lake"]["rows"].clone());
    server.stop();
    let server = budgets.server(&[]);
    assert_eq!(check_until(&server, &studio, 403).json()["measure"], "images");
    assert_eq!(published(&server), Some(decision), "nothing new is said");
}

#[test]
fn an_override_and_a_plan_set_other_limits_and_changing_plan_keeps_what_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    let zone = zone_without_midnight();
    let file = |plan: &str| {
        format!(
            "  - id: tenants\n    per: [namespace]\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 100 }}\n    \
             overrides: [{{ match: {{ namespace: vip }}, limit: {{ tokens: 300 }} }}]\n    \
             plans: {{ by: namespace, big: {{ of: {plan}, limit: {{ tokens: 200 }} }} }}\n"
        )
    };
    budgets.write(&[file("[globex, vip]")]);
    let server = budgets.server(&[]);
    for namespace in ["vip", "globex", "hobby"] {
        server.post_event(&event(namespace, namespace, 150));
    }
    let limit_of = |namespace: &str, status: u16| {
        let body = check_until(&server, &[("namespace", namespace)], status).json();
        (body["limit"].clone(), body["budget"].clone())
    };
    assert_eq!(limit_of("hobby", 403), (json!("100"), json!("tenants")));
    assert_eq!(limit_of("globex", 200), (json!("200"), json!("tenants")));
    assert_eq!(limit_of("vip", 200), (json!("300"), json!("tenants")));
    let rows = server.sql("select applies_to, \"limit\" from budgets order by 2");
    let row = |applies_to: Value, limit: &str| json!({"applies_to": applies_to, "limit": limit});
    let expected = [row(json!(null), "100"), row(json!("plan big"), "200"), row(json!("namespace=vip"), "300")];
    assert_eq!(rows, expected);

    budgets.write(&[file("[hobby]")]);
    assert_eq!(limit_of("hobby", 200).0, "200", "the block ends with the plan");
    assert_eq!(limit_of("globex", 403).0, "100", "and who leaves it is held to what is used already");
    wait_until_eq("decisions on the topic", &vec![json!("allowed"), json!("blocked")], || {
        let latest = kafka::latest(&server.log, "usage.decisions");
        let state = |namespace: &str| latest.get(&format!("tenants|namespace={namespace}")).map(|d| d["state"].clone());
        [state("hobby"), state("globex")].into_iter().flatten().collect()
    });

    // A promise that the namespace above does not hold is refused with its line; the budgets before it stay.
    let above = format!("  - {{ id: all, window: {{ every: day, zone: {zone} }}, limit: {{ tokens: 250 }} }}\n");
    budgets.write(&[file("[hobby]"), above]);
    let problem = wait_for("the refusal in the status", || {
        let status = server.get_json("/v1/status");
        let rows = status["health"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["component"] == "budgets" && row["ok"] == false)
    });
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("line 6") && detail.contains("budgets[0].overrides[0]"), "{detail}");
    assert!(detail.contains("`tenants` promises 300 tokens, and `all` above it has 250"), "{detail}");
}

#[test]
fn a_new_budget_starts_with_what_its_window_has_used_already() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    // The first four events fill a commit; the rest stays in memory, since the next commit is an hour away.
    let server = budgets.server(&["--commit-rows", "4", "--commit-interval-ms", "3600000"]);
    for at in 0..4 {
        server.post_event(&event(&format!("committed-{at}"), "shop", 100));
    }
    wait_until_eq("rows in the lake", &json!(4), || server.get_json("/v1/status")["lake"]["rows"].clone());
    server.post_event(&event("in memory", "shop", 30));
    server.post_event(&event("foreign", "other", 1000));
    wait_until_eq("rows in memory", &json!(2), || server.get_json("/v1/status")["lake"]["tail_rows"].clone());

    budgets.write(&[daily("late", "shop", "{ tokens: 430 }"), daily("higher", "shop", "{ tokens: 431 }")]);
    let body = check_until(&server, &[("namespace", "shop")], 403).json();
    assert_eq!((&body["budget"], &body["used"]), (&json!("late"), &json!("430")));
    let rows = server.get_json("/v1/balances?budget=higher");
    assert_eq!((&rows[0]["used"], &rows[0]["state"]), (&json!("430"), &json!("allowed")), "{rows}");
    // And counts on from there.
    server.post_event(&event("after", "shop", 1));
    wait_until_eq("used", &json!("431"), || server.get_json("/v1/balances?budget=higher")[0]["used"].clone());
}

#[test]
fn a_wrong_budgets_file_is_refused_whole_with_line_and_field_and_the_old_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = Budgets::new(dir.path());
    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 10 }")]);
    let server = budgets.server(&[]);
    server.post_event(&event("one", "shop", 10));
    check_until(&server, &[("namespace", "shop")], 403);

    // The first budget would open `shop`; the second is wrong in its limit, which is in line 1 + 5 + 4.
    let wrong = daily("wrong", "lab", "{ tokens: -5 }");
    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 99999 }"), wrong]);
    let health = || {
        let status = server.get_json("/v1/status");
        status["health"].as_array().unwrap().iter().find(|row| row["component"] == "budgets").unwrap().clone()
    };
    let refused = wait_for("the refusal in the status", || Some(health()).filter(|row| row["ok"] == false));
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("line 10") && detail.contains("budgets[1].limit.tokens"), "{detail}");
    assert!(server.logged().contains("budgets[1].limit.tokens"), "{}", server.logged());
    assert_eq!(server.metric::<u64>("outlay_budget_reloads_total{kind=\"refused\"}"), 1);
    assert_eq!(server.check(&[("namespace", "shop")]).status, 403, "half of a wrong file came into force");
    assert_eq!(server.sql("select id from budgets").len(), 1);

    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 99999 }"), daily("right", "lab", "{ tokens: 5 }")]);
    check_until(&server, &[("namespace", "shop")], 200);
    in_force(&server, 2);
    wait_for("the budgets' health", || (health()["ok"] == true).then_some(()));

    // The same mistake again is refused again, and taking it back is enough.
    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 99999 }"), daily("wrong", "lab", "{ tokens: -5 }")]);
    wait_for("the second refusal", || (health()["ok"] == false).then_some(()));
    assert_eq!(server.metric::<u64>("outlay_budget_reloads_total{kind=\"refused\"}"), 2);
    budgets.write(&[daily("shop-daily", "shop", "{ tokens: 99999 }"), daily("right", "lab", "{ tokens: 5 }")]);
    wait_for("the budgets' health", || (health()["ok"] == true).then_some(()));
    assert_eq!(server.sql("select id from budgets").len(), 2);

    // At start it is refused as well, before anything runs.
    let file = budgets.0.clone();
    let data = server.data.clone();
    drop(server);
    std::fs::write(&file, "budgets:\n  - id: x\n    limt: { tokens: 5 }\n").unwrap();
    let args = [
        "--data",
        data.to_str().unwrap(),
        "--budgets",
        file.to_str().unwrap(),
        "--http",
        "127.0.0.1:0",
        "--log",
        "127.0.0.1:0",
    ];
    let output = crate::common::server::run("serve", &args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("line 3") && said.contains("limt"), "{said}");
}
