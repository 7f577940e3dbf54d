//! Mails at thresholds: one each, whatever happens in between.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::common::events::{event, zone_without_midnight};
use crate::common::smtp::SmtpServer;
use crate::common::{Server, free_port, kafka, wait_for, wait_until_eq};

/// The mails in a data folder, by name, decoded as far as these tests look.
fn mails(data: &Path) -> BTreeMap<String, String> {
    let Ok(folder) = std::fs::read_dir(data.join("mail")) else { return BTreeMap::new() };
    folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .filter_map(|path| {
            Some((path.file_name()?.to_str()?.to_owned(), readable(&std::fs::read_to_string(&path).ok()?)))
        })
        .collect()
}

/// A mail with its base64 parts decoded behind it.
fn readable(mail: &str) -> String {
    let mut text = mail.replace("=\r\n", "").replace("=3D", "=");
    for part in mail.split("\r\n\r\n") {
        let joined: String = part.lines().take_while(|line| !line.starts_with("--")).collect();
        if let Ok(bytes) = base64::prelude::BASE64_STANDARD.decode(joined.trim()) {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    text
}

#[test]
fn each_threshold_is_mailed_once_also_across_kills_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (data, budgets) = (dir.path().join("data"), dir.path().join("budgets.yaml"));
    let zone = zone_without_midnight();
    let text = format!(
        "budgets:\n  - id: shop-daily\n    match: {{ namespace: shop }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 100 }}\n    alerts: {{ at: [0.5, 0.8, 1.0], to: [shop-leads@example.com] }}\n"
    );
    std::fs::write(&budgets, text).unwrap();
    let args = ["--budgets", budgets.to_str().unwrap(), "--commit-interval-ms", "100"];
    let server = Server::start(&data, &args);

    server.post_event(&event("a", "shop", 49));
    wait_until_eq("used", &"49".to_owned(), || {
        server.get_json("/v1/balances?budget=shop-daily")[0]["used"].as_str().unwrap_or("").to_owned()
    });
    assert_eq!(mails(&data).len(), 0, "below the first threshold nobody is mailed");
    server.post_event(&event("b", "shop", 1));
    wait_until_eq("mails", &1, || mails(&data).len());

    // Killed right after the mail: the next start knows it.
    server.kill();
    let server = Server::start(&data, &args);
    server.post_event(&event("c", "shop", 30));
    wait_until_eq("mails", &2, || mails(&data).len());
    assert!(server.stop().success());

    let server = Server::start(&data, &args);
    server.post_event(&event("d", "shop", 20));
    server.post_event(&event("e", "shop", 500));
    wait_until_eq("mails", &3, || mails(&data).len());
    wait_for("written mails in the status", || {
        let status = server.get_json("/v1/status");
        let mails = status["mails"].as_array().unwrap();
        (mails.len() == 3 && mails.iter().all(|mail| mail["state"] == "written")).then_some(())
    });
    the_mail_says_what_matters(&server, &data);

    // The mail does not wait for the topic's acknowledgement, nor the topic for the mail.
    wait_until_eq("thresholds on the topic", &["0.5", "0.8", "1"].map(str::to_owned).to_vec(), || {
        let alerts = kafka::latest(&server.log, "usage.alerts");
        alerts.values().map(|alert| alert["threshold"].as_str().unwrap().to_owned()).collect()
    });
    assert_eq!(kafka::read_topic(&server.log, "usage.alerts").len(), 3, "each was published once");
    assert_eq!(server.sql("select id from alerts").len(), 3);

    // Two more starts, more events: no further mail. The last start has evaluated everything when it is ready.
    server.kill();
    let server = Server::start(&data, &args);
    server.post_event(&event("f", "shop", 1));
    wait_until_eq("used", &"601".to_owned(), || {
        server.get_json("/v1/balances?budget=shop-daily")[0]["used"].as_str().unwrap_or("").to_owned()
    });
    assert!(server.stop().success());
    let server = Server::start(&data, &args);
    wait_until_eq("mails in the status", &3, || server.get_json("/v1/status")["mails"].as_array().unwrap().len());
    assert_eq!((mails(&data).len(), kafka::read_topic(&server.log, "usage.alerts").len()), (3, 3));
}

fn the_mail_says_what_matters(server: &Server, data: &Path) {
    let status = server.get_json("/v1/status");
    let shown: &Value =
        status["mails"].as_array().unwrap().iter().find(|mail| mail["id"].as_str().unwrap().ends_with("|0.8")).unwrap();
    let request = server.client().get(
        reqwest::Url::parse(&server.url)
            .map(|mut url| {
                url.path_segments_mut().unwrap().extend(["v1", "mails", shown["id"].as_str().unwrap()]);
                url
            })
            .unwrap(),
    );
    let mail = server.send(request).expect(200);
    assert_eq!(mail.header("content-type"), "message/rfc822");
    let text = readable(&mail.text());
    for part in [
        "To: shop-leads@example.com",
        "Subject: ",
        "text/plain",
        "text/html",
        "shop-daily",
        "namespace=shop",
        "80% of budget shop-daily",
    ] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
    assert_eq!(mails(data).values().filter(|mail| mail.contains("To: shop-leads@example.com")).count(), 3);
}

/// A mail server that is away does not cost the mail, and does not hold up what counts.
#[test]
fn a_mail_waits_while_the_mail_server_is_away_and_is_sent_once_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (data, budgets) = (dir.path().join("data"), dir.path().join("budgets.yaml"));
    let zone = zone_without_midnight();
    let text = format!(
        "budgets:\n  - id: shop-daily\n    match: {{ namespace: shop }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 100 }}\n    alerts: {{ at: [1.0, 2.0], to: [shop-leads@example.com] }}\n"
    );
    std::fs::write(&budgets, text).unwrap();
    // Nobody listens there, for now.
    let port = free_port();
    let smtp = format!("smtp://127.0.0.1:{port}");
    let args = ["--budgets", budgets.to_str().unwrap(), "--smtp", &smtp];
    let server = Server::start(&data, &args);
    server.post_event(&event("a", "shop", 100));
    let mail = |server: &Server| server.get_json("/v1/status")["mails"].as_array().unwrap().last().cloned();
    let waiting = wait_for("the mail that waits", || mail(&server).filter(|mail| mail["error"].is_string()));
    assert_eq!(waiting["state"], "queued", "{waiting}");
    assert_eq!(server.check(&[("namespace", "shop")]).status, 403);
    server.kill();

    let mail_server = SmtpServer::start(&dir.path().join("box"), port);
    let server = Server::start(&data, &args);
    wait_until_eq("mails in the box", &1, || mail_server.mails().len());
    wait_for("a sent mail", || mail(&server).filter(|mail| mail["state"] == "sent"));
    assert!(server.stop().success());

    // A further start sends the next alert, and the first not again.
    let server = Server::start(&data, &args);
    server.post_event(&event("b", "shop", 100));
    wait_for("the second mail", || (mail_server.mails().len() >= 2).then_some(()));
    let ids: Vec<String> = mail_server.mails().iter().map(|mail| header(mail, "Message-ID")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    assert!(mails(&data).is_empty(), "mails that are sent are not written as files");
}

#[test]
fn a_cap_that_is_about_to_fall_is_mailed_once_and_whoever_burns_so_fast_is_slowed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, budgets) = (dir.path().join("data"), dir.path().join("budgets.yaml"));
    let zone = zone_without_midnight();
    let write = |floor: &str| {
        let text = format!(
            "budgets:\n  - id: shop-daily\n    match: {{ namespace: shop }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 1000000 }}\n    \
             predict: {{ warn: 30m, slow: 10m, over: 1h, floor: {{ {floor} }} }}\n    alerts: {{ at: [1.0], to: [shop-leads@example.com] }}\n"
        );
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::rename(dir.path().join("new"), &budgets).unwrap();
    };
    write("requests: 3, within: 1h");
    let port = free_port();
    let mail_server = SmtpServer::start(&dir.path().join("box"), port);
    let smtp = format!("smtp://127.0.0.1:{port}");
    let args = ["--budgets", budgets.to_str().unwrap(), "--smtp", &smtp, "--commit-interval-ms", "100"];
    let server = Server::start(&data, &args);
    // 900,000 in an hour: the rest is used up in a ninth of it.
    server.post_event(&event("a", "shop", 900_000));
    wait_until_eq("mails in the box", &1, || mail_server.mails().len());
    let mail = readable(&mail_server.mails()[0]);
    let subject = "Budget shop-daily is used up in 6 min 40 s at the present rate";
    for part in [subject, "900,000 of 1,000,000 tokens", "900,000 tokens per hour over the last 1 h"] {
        assert!(mail.contains(part), "`{part}` is missing in\n{mail}");
    }
    let alert = wait_for("the alert on the topic", || kafka::latest(&server.log, "usage.alerts").into_values().next());
    assert!(alert["id"].as_str().unwrap().ends_with("|predicted"), "{alert}");
    assert_eq!(alert["predicted"], json!({"over_s": 3600, "within_s": 1800}));
    let row = json!({"threshold": "0.9", "predicted_over_s": 3600, "predicted_within_s": 1800});
    assert_eq!(server.sql("select threshold, predicted_over_s, predicted_within_s from alerts"), [row]);

    // Three an hour pass, one after the other.
    let shop = [("namespace", "shop")];
    let slowed = wait_for("a refused check", || Some(server.check(&shop)).filter(|answer| answer.status == 429));
    assert_eq!(slowed.header("x-outlay-reason"), "PREDICTED_OVERSPEND");
    assert_eq!(slowed.header("ratelimit-policy"), "\"shop-daily\";q=3;w=3600");
    let retry_after: i64 = slowed.header("retry-after").parse().unwrap();
    assert!((1..=1200).contains(&retry_after), "{retry_after}");
    let decision = wait_for("the decision on the topic", || {
        kafka::latest(&server.log, "usage.decisions").remove("shop-daily|namespace=shop")
    });
    let throttle = json!({"reason_code": "PREDICTED_OVERSPEND", "requests": 3, "per_s": 3600, "burst": 1});
    assert_eq!((&decision["throttle"], &decision["state"]), (&throttle, &json!("allowed")));

    // A restart finds the same burn in the lake, says nothing again, and mails nothing again.
    server.kill();
    let server = Server::start(&data, &args);
    wait_for("a refused check", || Some(server.check(&shop)).filter(|answer| answer.status == 429));
    assert_eq!(kafka::latest(&server.log, "usage.decisions").remove("shop-daily|namespace=shop"), Some(decision));
    // At one a second they are refused, and let through again.
    write("requests: 60, within: 1m");
    let answer = wait_for("another rate", || {
        Some(server.check(&shop)).filter(|answer| answer.header("ratelimit-policy").ends_with("q=60;w=60"))
    });
    assert_eq!(answer.json()["throttle"]["burst"], 10);
    wait_for("a refused check", || Some(server.check(&shop)).filter(|answer| answer.status == 429));
    wait_for("one that passes", || Some(server.check(&shop)).filter(|answer| answer.status == 200));
    assert_eq!(kafka::read_topic(&server.log, "usage.alerts").len(), 1);
    assert_eq!(mail_server.mails().len(), 1);
}

fn header(mail: &str, name: &str) -> String {
    let line =
        mail.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase())));
    line.unwrap_or_else(|| panic!("no {name} in\n{mail}")).to_owned()
}
