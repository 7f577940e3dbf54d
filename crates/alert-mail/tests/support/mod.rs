//! A real SMTP server and a real mail reader, both in Python, for the tests beside.
#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

#[path = "../../../../tests/free_port.rs"]
mod free_port;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alert_mail::{MailConfig, MailError, Outbox, OutboxEntry, OutboxOptions};
pub use free_port::free_port;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use usage_types::{Alert, Dimension, Every, Ppm, Scope, TimeUs, Window, WindowSpec, alert_id};

/// How long something that must happen may take. Far above what it takes, since machines are busy.
const DEADLINE: Duration = Duration::from_secs(60);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The Python with the packages of tests/requirements.txt.
fn python() -> PathBuf {
    let named = std::env::var_os("OUTLAY_TEST_PYTHON").map(PathBuf::from);
    let found = named.unwrap_or_else(|| repository().join(".venv/bin/python"));
    assert!(
        found.exists(),
        "these tests need Python with the packages of tests/requirements.txt; {} does not exist. In the repository run:\n  \
         python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt\nor set OUTLAY_TEST_PYTHON to another Python that has them",
        found.display()
    );
    found
}

pub struct Server {
    child: Child,
    pub port: u16,
    pub dir: PathBuf,
}

impl Server {
    /// Starts it on a free port, or on the one that `--port` names.
    pub fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(python())
            .arg(repository().join("tests/mail/smtp_server.py"))
            .arg("--dir")
            .arg(dir)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the SMTP server started; see its error above");
        let port = u16::try_from(ready["port"].as_u64().unwrap()).unwrap();
        Self { child, port, dir: dir.to_owned() }
    }

    pub fn ca(&self) -> String {
        self.dir.join("ca.pem").display().to_string()
    }

    /// The mails that it has, in order.
    pub fn mails(&self) -> Vec<PathBuf> {
        emls(&self.dir)
    }

    /// The envelope of a mail.
    pub fn envelope(mail: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(mail.with_extension("json")).unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn emls(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut mails: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "eml")).collect();
    mails.sort();
    mails
}

/// A mail as Python's email package reads it.
pub struct Mail(Value);

impl Mail {
    pub fn read(file: &Path) -> Self {
        let output =
            Command::new(python()).arg(repository().join("tests/mail/read_mail.py")).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mail = Self(serde_json::from_slice(&output.stdout).unwrap());
        assert_eq!(mail.0["defects"], serde_json::json!([]), "{}", mail.0);
        assert_eq!(mail.0["type"], "multipart/alternative");
        mail
    }

    pub fn header(&self, name: &str) -> &str {
        let all = self.0["headers"].as_array().unwrap();
        let mut found = all.iter().filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
        let value = found.next().unwrap_or_else(|| panic!("no header {name}"))[1].as_str().unwrap();
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    pub fn header_names(&self) -> Vec<&str> {
        self.0["headers"].as_array().unwrap().iter().map(|header| header[0].as_str().unwrap()).collect()
    }

    pub fn to(&self) -> Vec<&str> {
        self.0["to"].as_array().unwrap().iter().map(|to| to[1].as_str().unwrap()).collect()
    }

    pub fn part(&self, kind: &str) -> &str {
        let parts = self.0["parts"].as_array().unwrap();
        let part = parts.iter().find(|part| part[0] == kind).unwrap_or_else(|| panic!("no part {kind}"));
        assert_eq!(part[1], "base64");
        part[2].as_str().unwrap()
    }
}

/// An alert as the core raises it: 81.2 % of a daily budget in Berlin.
pub fn alert(namespace: &str, to: &[&str]) -> Alert {
    let time = |text| TimeUs::parse_rfc3339(text).unwrap();
    let scope = Scope::new([(Dimension::Namespace, namespace)]);
    let start = time("2026-11-20T23:00:00Z");
    Alert {
        id: alert_id("support-daily", &scope, WindowSpec::calendar(Every::Day, chrono_tz::UTC), start, Ppm(800_000)),
        budget: "support-daily".to_owned(),
        scope,
        window: Window { start, end: time("2026-11-21T23:00:00Z"), zone: chrono_tz::Europe::Berlin },
        every: "day".to_owned(),
        window_name: None,
        threshold: "0.8".to_owned(),
        measure: "tokens".to_owned(),
        currency: None,
        limit: "1000000".to_owned(),
        used: "812345".to_owned(),
        burn_per_hour: "58024".to_owned(),
        exhausted_at: Some(time("2026-11-21T16:14:00Z")),
        mode: "hard".to_owned(),
        raised_at: time("2026-11-21T13:00:00Z"),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        overage: None,
        progress: None,
        predicted: None,
    }
}

/// A delivery loop in the background.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(outbox: &Outbox) -> Self {
        let (stop, stopped) = oneshot::channel();
        let outbox = outbox.clone();
        let task = tokio::spawn(async move {
            outbox
                .run(async {
                    let _ = stopped.await;
                })
                .await;
        });
        Self { stop: Some(stop), task }
    }

    /// An orderly stop.
    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(DEADLINE, self.task).await.expect("the loop did not stop").unwrap();
    }

    /// What a kill leaves: nothing after this instant is done.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Short waits, so that tests are.
pub fn quick() -> OutboxOptions {
    OutboxOptions {
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(100),
        ..OutboxOptions::default()
    }
}

/// Opens the outbox. A loop that was killed may still end a write to disk on another thread, and holds the lock until then.
pub fn open(dir: &Path, url: &str) -> Outbox {
    let started = Instant::now();
    loop {
        match Outbox::open_with(dir.join("outbox"), MailConfig::smtp(url).unwrap(), quick()) {
            Err(MailError::Locked(_)) if started.elapsed() < DEADLINE => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
}

/// Waits until it holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the entry of this alert is so.
pub async fn entry_where(outbox: &Outbox, alert: &Alert, holds: impl Fn(&OutboxEntry) -> bool) -> OutboxEntry {
    entry_of(outbox, &alert.id, holds).await
}

/// The same by its id.
pub async fn entry_of(outbox: &Outbox, id: &str, holds: impl Fn(&OutboxEntry) -> bool) -> OutboxEntry {
    let started = Instant::now();
    loop {
        let entry = outbox.get(id).expect("it is in the outbox");
        if holds(&entry) {
            return entry;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain; the entry is {entry:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
