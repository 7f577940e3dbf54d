//! Alerts over real SMTP: protection, login, answers of the server, and what a crash leaves.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use alert_mail::{MailConfig, MailState, RecipientState};
use support::{Mail, Running, Server, alert, entry_where, free_port, open, until};
use tempfile::TempDir;

const LEADS: &str = "Support Leads <leads@example.com>";

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_arrives_over_starttls_with_login_and_reads_well() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(
        &dir.path().join("server"),
        &["--tls", "starttls", "--user", "outlay@example.com", "--password", "p@ss/wörd"],
    );
    let (port, ca) = (server.port, server.ca());
    let outbox = open(
        dir.path(),
        &format!(
            "smtp://outlay%40example.com:p%40ss%2Fw%C3%B6rd@localhost:{port}/relay.example.com?tls=required&ca={ca}"
        ),
    );
    let alert = alert("support", &[LEADS, "cfo@example.com", "CFO@example.com"]);
    assert!(outbox.enqueue(&alert).unwrap());
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;

    assert_eq!((entry.attempts, entry.maybe_twice, &entry.last_error), (1, false, &None));
    assert!(entry.sent_at.is_some());
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let envelope = Server::envelope(&mails[0]);
    assert_eq!(envelope["encrypted"], true);
    assert_eq!(envelope["user"], "outlay@example.com");
    assert_eq!(envelope["from"], "outlay@example.com");
    assert_eq!(envelope["ehlo"], "relay.example.com");
    assert_eq!(envelope["to"], serde_json::json!(["leads@example.com", "cfo@example.com"]));

    let mail = Mail::read(&mails[0]);
    assert_eq!(mail.to(), ["leads@example.com", "cfo@example.com"]);
    assert_eq!(mail.header("From"), "Outlay <outlay@example.com>");
    assert_eq!(mail.header("Subject"), "80% of budget support-daily reached: support (812,345 of 1,000,000 tokens)");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("X-Outlay-Alert-Id"), alert.id);
    assert!(mail.header("Message-ID").ends_with("@example.com>"));
    assert_eq!(mail.header("Date"), "Sat, 21 Nov 2026 13:00:00 +0000");
    for part in [mail.part("text/plain"), mail.part("text/html")] {
        for says in [
            "support has used 81.2% of its 1,000,000 tokens.",
            "812,345 of 1,000,000 tokens",
            "58,024 tokens per hour",
            "Sat 21 Nov 2026, 17:14 CET, 6 h 46 min before the reset",
            "Sat 21 Nov 2026, 00:00 CET to Sun 22 Nov 2026, 00:00 CET (Europe/Berlin)",
            "refused (HTTP 403",
        ] {
            assert!(part.contains(says), "{says:?} is not in {part}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_tls_and_plain_connections_work_too() {
    for (tls, scheme, encrypted) in [("implicit", "smtps", true), ("none", "smtp", false)] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(&dir.path().join("server"), &["--tls", tls, "--user", "u", "--password", "p"]);
        let ca = if encrypted { format!("?ca={}", server.ca()) } else { String::new() };
        let outbox = open(dir.path(), &format!("{scheme}://u:p@127.0.0.1:{}{ca}", server.port));
        let alert = alert("support", &[LEADS]);
        outbox.enqueue(&alert).unwrap();
        let running = Running::start(&outbox);
        entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
        running.stop().await;
        assert_eq!(Server::envelope(&server.mails()[0])["encrypted"], encrypted, "{tls}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_and_a_missing_starttls_send_nothing() {
    for (tls, url, says) in [
        ("starttls", "smtp://u:secret@localhost:PORT?tls=required", "ca=/path/to/ca.pem"),
        ("none", "smtp://u:secret@localhost:PORT?tls=required", "offers no STARTTLS"),
    ] {
        let dir = TempDir::new().unwrap();
        let server = Server::start(&dir.path().join("server"), &["--tls", tls]);
        let outbox = open(dir.path(), &url.replace("PORT", &server.port.to_string()));
        let alert = alert("support", &[LEADS]);
        outbox.enqueue(&alert).unwrap();
        let running = Running::start(&outbox);
        let entry = entry_where(&outbox, &alert, |entry| entry.last_error.is_some()).await;
        running.stop().await;
        assert_eq!(entry.state, MailState::Pending);
        let error = entry.last_error.unwrap();
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
        assert!(server.mails().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_the_mail_goes_out_once_it_is_right() {
    let dir = TempDir::new().unwrap();
    let server =
        Server::start(&dir.path().join("server"), &["--tls", "starttls", "--user", "u", "--password", "right"]);
    let url = |password: &str| format!("smtp://u:{password}@localhost:{}?tls=required&ca={}", server.port, server.ca());
    let outbox = open(dir.path(), &url("wr0ng"));
    let alert = alert("support", &[LEADS]);
    outbox.enqueue(&alert).unwrap();
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.last_error.is_some()).await;
    running.stop().await;
    assert_eq!(entry.state, MailState::Pending);
    let error = entry.last_error.unwrap();
    assert!(error.contains("535") && error.contains("user and password"), "{error}");
    assert!(!error.contains("wr0ng"), "{error}");
    assert_eq!(outbox.server_error().as_deref(), Some(error.as_str()));
    drop(outbox);

    let outbox = open(dir.path(), &url("right"));
    let running = Running::start(&outbox);
    entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    assert_eq!(outbox.server_error(), None);
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_waits_while_the_server_is_down_also_across_a_restart_and_is_sent_later() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let url = format!("smtp://localhost:{port}");
    let outbox = open(dir.path(), &url);
    let alerts = [alert("support", &[LEADS]), alert("sales", &[LEADS])];
    assert_eq!(outbox.enqueue_all(&alerts).unwrap(), 2);
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alerts[0], |entry| entry.attempts >= 3).await;
    assert_eq!(entry.state, MailState::Pending);
    assert!(entry.last_error.unwrap().contains("cannot connect"));
    running.stop().await;
    drop(outbox);

    let outbox = open(dir.path(), &url);
    assert_eq!(outbox.enqueue_all(&alerts).unwrap(), 0);
    let running = Running::start(&outbox);
    entry_where(&outbox, &alerts[0], |entry| entry.attempts >= 1).await;
    let server = Server::start(&dir.path().join("server"), &["--port", &port.to_string()]);
    for alert in &alerts {
        entry_where(&outbox, alert, |entry| entry.state == MailState::Sent).await;
    }
    running.stop().await;
    assert_eq!(server.mails().len(), 2);
    assert_eq!((outbox.counts().sent, outbox.counts().pending), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_raised_again_is_mailed_once_whatever_restarts_in_between() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("server"), &[]);
    let url = format!("smtp://localhost:{}", server.port);
    let first = alert("support", &[LEADS]);
    // Figures have grown: the id is the same, and so is the alert.
    let mut again = first.clone();
    again.used = "900000".to_owned();
    for round in 0..3 {
        let outbox = open(dir.path(), &url);
        assert_eq!(outbox.enqueue(&first).unwrap(), round == 0);
        assert!(!outbox.enqueue(&again).unwrap());
        let running = Running::start(&outbox);
        entry_where(&outbox, &first, |entry| entry.state == MailState::Sent).await;
        assert!(!outbox.enqueue(&first).unwrap());
        running.stop().await;
    }
    // A mail of a later alert proves that nothing of the first was still on its way.
    let outbox = open(dir.path(), &url);
    let other = alert("sales", &[LEADS]);
    outbox.enqueue(&other).unwrap();
    let running = Running::start(&outbox);
    entry_where(&outbox, &other, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_put_off_with_4xx_is_sent_when_the_server_takes_it() {
    let dir = TempDir::new().unwrap();
    let arguments = ["--answer-data", "451 4.7.1 greylisted, come back", "--times", "2"];
    let server = Server::start(&dir.path().join("server"), &arguments);
    let outbox = open(dir.path(), &format!("smtp://localhost:{}", server.port));
    let alert = alert("support", &[LEADS]);
    outbox.enqueue(&alert).unwrap();
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    assert_eq!((entry.attempts, entry.last_error), (3, None));
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_refused_with_5xx_is_kept_as_failed_with_the_servers_words_until_somebody_retries() {
    let dir = TempDir::new().unwrap();
    let arguments = ["--answer-data", "554 5.7.1 looks like spam to me", "--times", "1"];
    let server = Server::start(&dir.path().join("server"), &arguments);
    let url = format!("smtp://localhost:{}", server.port);
    let outbox = open(dir.path(), &url);
    let alert = alert("support", &[LEADS]);
    outbox.enqueue(&alert).unwrap();
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.state == MailState::Failed).await;
    running.stop().await;
    assert!(entry.last_error.unwrap().contains("554 5.7.1 looks like spam to me"));
    assert_eq!(outbox.counts().failed, 1);
    drop(outbox);

    let outbox = open(dir.path(), &url);
    assert_eq!(outbox.get(&alert.id).unwrap().state, MailState::Failed);
    assert!(!outbox.enqueue(&alert).unwrap());
    assert!(outbox.retry(&alert.id).unwrap());
    let running = Running::start(&outbox);
    entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    assert!(!outbox.retry(&alert.id).unwrap());
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_recipient_costs_the_others_nothing() {
    let dir = TempDir::new().unwrap();
    let arguments = ["--answer-rcpt", "gone@example.com=550 5.1.1 no such user"];
    let server = Server::start(&dir.path().join("server"), &arguments);
    let outbox = open(dir.path(), &format!("smtp://localhost:{}", server.port));
    let alert = alert("support", &["nobody", "gone@example.com", LEADS]);
    outbox.enqueue(&alert).unwrap();
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    let states: Vec<_> = entry.recipients.iter().map(|recipient| recipient.state).collect();
    assert_eq!(states, [RecipientState::Refused, RecipientState::Refused, RecipientState::Delivered]);
    let error = entry.last_error.unwrap();
    assert!(error.contains("nobody: it is no mail address") && error.contains("550 5.1.1 no such user"), "{error}");
    assert_eq!(Server::envelope(&server.mails()[0])["to"], serde_json::json!(["leads@example.com"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_put_off_gets_the_mail_later_and_the_others_get_it_once() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let number = port.to_string();
    let arguments = ["--port", &number, "--answer-rcpt", "grey@example.com=450 4.2.0 greylisted"];
    let server = Server::start(&dir.path().join("server"), &arguments);
    let outbox = open(dir.path(), &format!("smtp://localhost:{port}"));
    let alert = alert("support", &[LEADS, "grey@example.com"]);
    outbox.enqueue(&alert).unwrap();
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.attempts >= 2).await;
    assert_eq!(entry.state, MailState::Pending);
    assert_eq!(server.mails().len(), 1);
    drop(server);
    let server = Server::start(&dir.path().join("server"), &["--port", &number]);
    entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    let to: Vec<_> = server.mails().iter().map(|mail| Server::envelope(mail)["to"].clone()).collect();
    assert_eq!(to, [serde_json::json!(["leads@example.com"]), serde_json::json!(["grey@example.com"])]);
}

/// The one gap that SMTP leaves. The server here keeps the mail and never answers; the loop is killed, as the process would be.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_message_left_repeats_the_same_mail_and_says_so() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let number = port.to_string();
    let url = format!("smtp://localhost:{port}");
    let alert = alert("support", &[LEADS]);
    let outbox = open(dir.path(), &url);
    outbox.enqueue(&alert).unwrap();
    let server = Server::start(&dir.path().join("server"), &["--port", &number, "--hold", "3600"]);
    let running = Running::start(&outbox);
    until("the server has the mail", || server.mails().len() == 1).await;
    assert_eq!(outbox.get(&alert.id).unwrap().state, MailState::Sending);
    running.kill().await;
    drop((outbox, server));

    let outbox = open(dir.path(), &url);
    let entry = outbox.get(&alert.id).unwrap();
    assert_eq!((entry.state, entry.maybe_twice), (MailState::Pending, true));
    let server = Server::start(&dir.path().join("server"), &["--port", &number]);
    let running = Running::start(&outbox);
    let entry = entry_where(&outbox, &alert, |entry| entry.state == MailState::Sent).await;
    running.stop().await;
    assert!(entry.maybe_twice);
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(std::fs::read(&mails[0]).unwrap(), std::fs::read(&mails[1]).unwrap(), "the copy differs");
}

/// The gap opens no earlier: a crash while the server still asks who is to get the mail repeats nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_message_left_leaves_no_doubt() {
    let dir = TempDir::new().unwrap();
    let arguments = ["--answer-rcpt", "leads@example.com=450 4.2.0 not yet"];
    let server = Server::start(&dir.path().join("server"), &arguments);
    let url = format!("smtp://localhost:{}", server.port);
    let alert = alert("support", &[LEADS]);
    let outbox = open(dir.path(), &url);
    outbox.enqueue(&alert).unwrap();
    let running = Running::start(&outbox);
    entry_where(&outbox, &alert, |entry| entry.attempts >= 1).await;
    running.kill().await;
    drop(outbox);
    let entry = open(dir.path(), &url).get(&alert.id).unwrap();
    assert_eq!((entry.state, entry.maybe_twice), (MailState::Pending, false));
}

/// An orderly restart is never in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_servers_answer() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(&dir.path().join("server"), &["--hold", "5"]);
    let url = format!("smtp://localhost:{}", server.port);
    let outbox = open(dir.path(), &url);
    let alerts = [alert("support", &[LEADS]), alert("sales", &[LEADS])];
    outbox.enqueue_all(&alerts).unwrap();
    let running = Running::start(&outbox);
    until("the server has the mail", || server.mails().len() == 1).await;
    running.stop().await;
    drop(outbox);
    let outbox = open(dir.path(), &url);
    let entries = alerts.map(|alert| outbox.get(&alert.id).unwrap());
    assert_eq!(entries.each_ref().map(|entry| entry.state), [MailState::Sent, MailState::Pending]);
    assert!(entries.iter().all(|entry| !entry.maybe_twice));
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn the_url_without_a_password_is_what_is_shown() {
    let config = MailConfig::smtp("smtps://outlay%40example.com:hunter2@mail.example.com").unwrap();
    assert_eq!(config.to_string(), "smtps://outlay@example.com:***@mail.example.com:465");
    assert!(!format!("{config:?}").contains("hunter2"));
}
