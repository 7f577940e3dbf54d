//! The outbox on disk, mails in a folder, and texts that try to leave their place.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::time::Duration;

use alert_mail::{Content, MailConfig, MailError, MailState, Outbox, OutboxOptions};
use support::{Mail, Running, Server, alert, emls, entry_where, open, quick};
use tempfile::TempDir;
use usage_types::{Alert, Currency, Dimension, Predicted, Progress, Scope, TimeUs};

fn folder_outbox(dir: &TempDir) -> Outbox {
    let config = MailConfig::folder(dir.path().join("mail"));
    Outbox::open_with(dir.path().join("outbox"), config, quick()).unwrap()
}

async fn deliver(outbox: &Outbox, alert: &Alert) {
    let running = Running::start(outbox);
    entry_where(outbox, alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_mail_is_a_file_that_mail_programs_read() {
    let dir = TempDir::new().unwrap();
    let outbox = folder_outbox(&dir);
    let alert = alert("support", &["leads@example.com"]);
    assert!(outbox.enqueue(&alert).unwrap());
    deliver(&outbox, &alert).await;
    let files = emls(&dir.path().join("mail"));
    assert_eq!(outbox.list(10)[0].eml.as_ref(), Some(&files[0]));
    let mail = Mail::read(&files[0]);
    assert_eq!(mail.to(), ["leads@example.com"]);
    assert_eq!(mail.header("Subject"), outbox.list(10)[0].subject);
    assert!(mail.part("text/html").contains("81.2%"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_record_of_a_file_leaves_one_file() {
    let dir = TempDir::new().unwrap();
    let alert = alert("support", &["leads@example.com"]);
    let journal = dir.path().join("outbox/outbox.jsonl");
    let outbox = folder_outbox(&dir);
    outbox.enqueue(&alert).unwrap();
    let queued = std::fs::read(&journal).unwrap();
    deliver(&outbox, &alert).await;
    drop(outbox);
    let before = std::fs::read(&emls(&dir.path().join("mail"))[0]).unwrap();
    // What the disk holds when the process dies between the file and the record.
    std::fs::write(&journal, queued).unwrap();
    let outbox = folder_outbox(&dir);
    assert_eq!(outbox.get(&alert.id).unwrap().state, MailState::Pending);
    deliver(&outbox, &alert).await;
    let files = emls(&dir.path().join("mail"));
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::read(&files[0]).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_texts_add_no_header_no_recipient_and_no_markup() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("server"), &[]);
    let outbox = open(dir.path(), &format!("smtp://localhost:{}", server.port));
    let evil =
        "x\r\nBcc: victim@example.com\r\n\r\n.\r\nMAIL FROM:<e@e>\u{2028}\u{202E}<script>alert('1')</script>{{rows}}";
    let mut attack = alert(evil, &["leads@example.com", "a@example.com\r\nBcc: victim@example.com"]);
    attack.budget = format!("b\r\nX-Evil: 1{evil}");
    attack.every = evil.to_owned();
    attack.measure = evil.to_owned();
    attack.limit = evil.to_owned();
    attack.mode = evil.to_owned();
    attack.threshold = evil.to_owned();
    attack.id = format!("{}|{evil}", attack.id);
    let plain = alert("support", &["leads@example.com"]);
    assert_eq!(outbox.enqueue_all([&attack, &plain]).unwrap(), 2);
    let running = Running::start(&outbox);
    for alert in [&attack, &plain] {
        entry_where(&outbox, alert, |entry| entry.state == MailState::Sent).await;
    }
    running.stop().await;
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    let (attacked, normal) = (Mail::read(&mails[0]), Mail::read(&mails[1]));
    assert_eq!(attacked.header_names(), normal.header_names());
    assert_eq!(attacked.to(), ["leads@example.com"]);
    assert_eq!(Server::envelope(&mails[0])["to"], serde_json::json!(["leads@example.com"]));
    for shown in [attacked.header("Subject"), attacked.part("text/plain"), attacked.part("text/html")] {
        let tricks = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{202E}');
        assert!(!shown.replace("\r\n", "\n").contains(tricks), "{shown:?}");
    }
    // Nor does a value begin a line of its own in the text.
    assert_eq!(attacked.part("text/plain").lines().count(), normal.part("text/plain").lines().count());
    let html = attacked.part("text/html");
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
    assert_eq!(html.matches("<h1").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_in_any_script_and_of_any_length_are_readable() {
    let dir = TempDir::new().unwrap();
    let outbox = folder_outbox(&dir);
    let long = "ä-very-long-namespace-".repeat(100);
    for namespace in ["Kundenservice Österreich", "サポート", "🦀 crab", &long] {
        let alert = alert(namespace, &["Zoë Müller <zoe@example.com>"]);
        assert!(outbox.enqueue(&alert).unwrap());
        deliver(&outbox, &alert).await;
        let file = outbox.get(&alert.id).unwrap().eml.unwrap();
        let mail = Mail::read(&file);
        let shown: String = namespace.chars().take(200).collect();
        assert!(mail.header("Subject").contains(&shown), "{}", mail.header("Subject"));
        assert!(mail.part("text/plain").contains(&shown));
        let longest = std::fs::read(&file).unwrap().split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap();
        assert!(longest <= 998, "a line has {longest} bytes");
    }
}

#[test]
fn an_alert_for_nobody_and_a_known_one_are_not_taken_and_one_for_bad_addresses_fails_visibly() {
    let dir = TempDir::new().unwrap();
    let outbox = folder_outbox(&dir);
    assert!(!outbox.enqueue(&alert("support", &[])).unwrap());
    let bad = alert("support", &["nobody"]);
    assert!(outbox.enqueue(&bad).unwrap());
    assert!(!outbox.enqueue(&bad).unwrap());
    let entry = outbox.get(&bad.id).unwrap();
    assert_eq!(entry.state, MailState::Failed);
    assert!(entry.last_error.unwrap().contains("alerts.to"));
    assert_eq!(outbox.counts().failed, 1);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = TempDir::new().unwrap();
    let first = folder_outbox(&dir);
    let config = MailConfig::folder(dir.path().join("mail"));
    let error = Outbox::open(dir.path().join("outbox"), config.clone()).unwrap_err();
    assert!(matches!(error, MailError::Locked(_)), "{error}");
    drop(first);
    Outbox::open(dir.path().join("outbox"), config).unwrap();
}

#[test]
fn a_torn_last_line_is_cut_and_damage_before_it_is_refused() {
    let dir = TempDir::new().unwrap();
    let journal = dir.path().join("outbox/outbox.jsonl");
    let first = alert("support", &["leads@example.com"]);
    folder_outbox(&dir).enqueue(&first).unwrap();
    let whole = std::fs::read(&journal).unwrap();
    // Every length of what a crash left of a second line.
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        std::fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(&whole[..cut]).unwrap();
        let outbox = folder_outbox(&dir);
        assert!(!outbox.enqueue(&first).unwrap());
        assert_eq!(std::fs::read(&journal).unwrap(), whole, "cut at {cut}");
    }
    let second = alert("sales", &["leads@example.com"]);
    assert!(folder_outbox(&dir).enqueue(&second).unwrap());
    let mut damaged = std::fs::read(&journal).unwrap();
    damaged[10] = b'\0';
    std::fs::write(&journal, damaged).unwrap();
    let config = MailConfig::folder(dir.path().join("mail"));
    let error = Outbox::open(dir.path().join("outbox"), config).unwrap_err().to_string();
    assert!(error.contains("outbox.jsonl line 1 is damaged"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_remembered_until_window_and_retention_are_over_and_then_leaves_the_disk() {
    static NOW: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let set = |text: &str| NOW.store(TimeUs::parse_rfc3339(text).unwrap().0, std::sync::atomic::Ordering::SeqCst);
    let dir = TempDir::new().unwrap();
    let reopen = || {
        let options = OutboxOptions {
            retention: Duration::from_secs(86_400),
            now: || TimeUs(NOW.load(std::sync::atomic::Ordering::SeqCst)),
            ..quick()
        };
        let config = MailConfig::folder(dir.path().join("mail"));
        Outbox::open_with(dir.path().join("outbox"), config, options).unwrap()
    };
    set("2026-11-21T13:00:00Z");
    let outbox = reopen();
    let alert = alert("support", &["leads@example.com"]);
    outbox.enqueue(&alert).unwrap();
    deliver(&outbox, &alert).await;
    drop(outbox);
    // The window ends on the 21st at 23:00 UTC.
    set("2026-11-22T22:59:59Z");
    assert!(!reopen().enqueue(&alert).unwrap());
    set("2026-11-22T23:00:01Z");
    let outbox = reopen();
    assert_eq!(outbox.list(10).len(), 0);
    assert_eq!(std::fs::read(dir.path().join("outbox/outbox.jsonl")).unwrap(), b"");
}

#[test]
fn a_full_outbox_refuses_by_name_and_takes_nothing() {
    let dir = TempDir::new().unwrap();
    let options = OutboxOptions { entries_max: 1, ..quick() };
    let outbox = Outbox::open_with(dir.path(), MailConfig::folder(dir.path().join("mail")), options).unwrap();
    assert!(outbox.enqueue(&alert("support", &["a@example.com"])).unwrap());
    let error = outbox.enqueue(&alert("sales", &["a@example.com"])).unwrap_err();
    assert!(matches!(error, MailError::Full(1)), "{error}");
    assert_eq!(outbox.list(10).len(), 1);
}

#[test]
fn each_kind_of_alert_says_what_it_means() {
    let base = alert("support", &[]);
    let scope =
        Scope::new([(Dimension::Namespace, "support"), (Dimension::Team, "helpdesk"), (Dimension::ApiKey, "k-3")]);
    for (alert, subject, says) in [
        (
            Alert { threshold: "1".into(), used: "1000450".into(), exhausted_at: None, ..base.clone() },
            "100% of budget support-daily reached: support (1,000,450 of 1,000,000 tokens)",
            vec!["are now refused (HTTP 403", "The limit is reached.", "resets on Sun 22 Nov 2026, 00:00 CET"],
        ),
        (
            Alert { mode: "soft".into(), exhausted_at: None, scope, ..base.clone() },
            "80% of budget support-daily reached: support, team helpdesk, api key k-3 (812,345 of 1,000,000 tokens)",
            vec![
                "At 100% nothing is refused",
                "not reached in this window",
                "namespace support, team helpdesk, api key k-3",
            ],
        ),
        (
            Alert { mode: "shadow".into(), ..base.clone() },
            "80% of budget support-daily reached: support (812,345 of 1,000,000 tokens)",
            vec!["nothing is refused: this budget is in shadow"],
        ),
        (
            Alert { used: "1000450".into(), overage: Some("100000".into()), exhausted_at: None, ..base.clone() },
            "80% of budget support-daily reached: support (1,000,450 of 1,000,000 tokens)",
            vec!["When 100,000 tokens more than the limit are used, requests", "are refused (HTTP 403"],
        ),
        (
            Alert { used: "1100000".into(), overage: Some("100000".into()), exhausted_at: None, ..base.clone() },
            "80% of budget support-daily reached: support (1,100,000 of 1,000,000 tokens)",
            vec!["are now refused (HTTP 403"],
        ),
        (
            Alert {
                scope: Scope::new([(Dimension::Job, "nightly")]),
                progress: Some(Progress { processed: 8200, total: Some(10_000) }),
                ..base.clone()
            },
            "80% of budget support-daily reached: job nightly (812,345 of 1,000,000 tokens)",
            vec!["8200 of 10000 records (82.0%)"],
        ),
        (
            Alert {
                scope: Scope::default(),
                every: "hour".into(),
                measure: "cost".into(),
                currency: Some(Currency::USD),
                limit: "500".into(),
                used: "412.337129384712".into(),
                burn_per_hour: "0.5".into(),
                ..base.clone()
            },
            "80% of budget support-daily reached: everything (412.33 of 500.00 USD)",
            vec!["refused (HTTP 429", "Everything has used 82.4% of its 500.00 USD", "0.50 USD per hour"],
        ),
        (
            Alert {
                every: "rolling".into(),
                window_name: Some("rolling 90 minutes".into()),
                exhausted_at: None,
                ..base.clone()
            },
            "80% of budget support-daily reached: support (812,345 of 1,000,000 tokens)",
            vec![
                "rolling 90 minutes, from Sat 21 Nov 2026, 00:00 CET",
                "refused until enough of the usage is older than the window or the limit is raised",
                "usage leaves the window as it comes",
            ],
        ),
        (
            Alert {
                every: "rolling".into(),
                window_name: Some("rolling 90 minutes".into()),
                used: "1000450".into(),
                overage: Some("100000".into()),
                exhausted_at: None,
                ..base.clone()
            },
            "80% of budget support-daily reached: support (1,000,450 of 1,000,000 tokens)",
            vec![
                "When 100,000 tokens more than the limit are used, requests",
                "refused until enough of the usage is older",
            ],
        ),
        (
            Alert {
                every: "lifetime".into(),
                window_name: Some("lifetime of a session, idle 24 hours".into()),
                threshold: "1".into(),
                used: "1000450".into(),
                exhausted_at: None,
                ..base.clone()
            },
            "100% of budget support-daily reached: support (1,000,450 of 1,000,000 tokens)",
            vec!["are now refused, until Sun 22 Nov 2026, 00:00 CET if nothing more is spent", "The limit is reached."],
        ),
        (
            Alert {
                threshold: "0.4".into(),
                used: "400000".into(),
                burn_per_hour: "1440000".into(),
                exhausted_at: Some(base.raised_at.plus_us(25 * TimeUs::MINUTE)),
                predicted: Some(Predicted { over_s: 300, within_s: 1800 }),
                ..base.clone()
            },
            "Budget support-daily is used up in 25 min at the present rate: support (400,000 of 1,000,000 tokens)",
            vec![
                "support has used 40% of its 1,000,000 tokens, and the rest in 25 min if it goes on as in the last 5 min.",
                "1,440,000 tokens per hour over the last 5 min",
                "the limit is reached on Sat 21 Nov 2026, 14:25 CET",
                "once for this budget, scope and window.",
            ],
        ),
        (
            Alert { measure: "compute_seconds".into(), limit: "36000".into(), used: "28800.5".into(), ..base },
            "80% of budget support-daily reached: support (8 of 10 compute hours)",
            vec!["8 of 10 compute hours (80%)"],
        ),
    ] {
        let content = Content::of(&alert);
        assert_eq!(content.subject, subject);
        for says in says {
            assert!(content.text.contains(says), "{says:?} is not in\n{}", content.text);
            assert!(content.html.contains(says), "{says:?} is not in\n{}", content.html);
        }
    }
}
