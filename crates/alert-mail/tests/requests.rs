//! The mail of a request for higher limits.
#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod support;

use alert_mail::{IncreaseNotice, MailConfig, MailState, Outbox, Standing};
use support::{Mail, Running, alert, emls, entry_of, quick};
use tempfile::TempDir;
use usage_types::{Dimension, Scope, TimeUs};

fn notice() -> IncreaseNotice {
    IncreaseNotice {
        request: "r-17".to_owned(),
        budget: "support-daily".to_owned(),
        scope: Scope::new([(Dimension::Namespace, "support"), (Dimension::User, "u-7 <b>bold</b>")]),
        limits: serde_json::from_str(r#"[{"tokens": 2000000}, {"cost": "40.00 USD"}]"#).unwrap(),
        until: Some(TimeUs::parse_rfc3339("2026-11-22T18:00:00Z").unwrap()),
        present: vec![Standing {
            measure: "tokens".to_owned(),
            currency: None,
            limit: "1000000".to_owned(),
            used: "912345".to_owned(),
        }],
        asked_at: TimeUs::parse_rfc3339("2026-11-21T10:00:00Z").unwrap(),
        actor: Some("zoe@example.com".to_owned()),
        justification: "launch week\r\nBcc: everyone@example.com".to_owned(),
        to: vec!["leads@example.com".to_owned()],
    }
}

fn open(dir: &TempDir) -> Outbox {
    let config = MailConfig::folder(dir.path().join("mail"));
    Outbox::open_with(dir.path().join("outbox"), config, quick()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_mailed_once_with_what_is_asked_why_and_how_to_answer() {
    let dir = TempDir::new().unwrap();
    let outbox = open(&dir);
    let nobody = IncreaseNotice { to: Vec::new(), ..notice() };
    assert_eq!(outbox.enqueue_increases([&notice(), &notice(), &nobody]).unwrap(), 1);
    assert!(outbox.enqueue(&alert("support", &["leads@example.com"])).unwrap(), "alerts go the same way");
    // What is not delivered yet is known after a restart.
    drop(outbox);
    let outbox = open(&dir);
    assert_eq!(outbox.enqueue_increases([&notice()]).unwrap(), 0);
    let running = Running::start(&outbox);
    entry_of(&outbox, &notice().id(), |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    drop(outbox);
    let outbox = open(&dir);
    assert_eq!(outbox.enqueue_increases([&notice()]).unwrap(), 0, "it was sent");
    let file = outbox.get(&notice().id()).unwrap().eml.unwrap();
    let mail = Mail::read(&file);
    assert_eq!(mail.to(), ["leads@example.com"]);
    assert_eq!(mail.header("X-Outlay-Increase-Request"), "r-17");
    assert!(mail.header("Subject").starts_with("r-17: more of budget support-daily is asked for support, user u-7"));
    for part in ["text/plain", "text/html"] {
        let text = mail.part(part);
        for said in [
            "2,000,000 tokens",
            "40.00 USD",
            "912,345 of 1,000,000 tokens",
            "zoe@example.com",
            "launch week",
            "22 Nov 2026, 18:00 UTC",
            "outlay budgets approve r-17",
        ] {
            assert!(text.contains(said), "the {part} does not say {said:?}:\n{text}");
        }
    }
    assert!(!mail.part("text/html").contains("<b>"), "what people write is text");
    let raw = std::fs::read_to_string(&file).unwrap();
    assert!(!raw.lines().any(|line| line.starts_with("Bcc:")), "{raw}");
    assert!(emls(&dir.path().join("mail")).len() <= 2);
}
