//! The followers of `usage.decisions` in `examples/followers`, each in its own language with its own client, against the embedded log: what
//! they say of requests after each step of `vectors.json`, what they say before they have read the topic, and while the log is away.
#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use event_log::{LogConfig, Publisher, ensure_topics, topics};
use local_log::{LocalLog, LocalLogConfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

#[path = "../../../tests/free_port.rs"]
mod free_port;

/// Long enough for a busy machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The embedded log on a port that it keeps.
struct Log {
    runtime: Runtime,
    running: Option<LocalLog>,
    folder: tempfile::TempDir,
    listen: SocketAddr,
}

impl Log {
    /// One that does not run yet.
    fn new() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port::free_port()));
        Self { runtime: Runtime::new().unwrap(), running: None, folder: tempfile::tempdir().unwrap(), listen }
    }

    fn address(&self) -> String {
        self.listen.to_string()
    }

    fn start(&mut self) {
        let mut config = LocalLogConfig::new(self.folder.path());
        config.listen = self.listen;
        self.running = Some(self.runtime.block_on(LocalLog::start(config)).unwrap());
        self.runtime.block_on(async { ensure_topics(&self.client(), &topics::all(1)).await }).unwrap();
    }

    fn stop(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.shutdown()).unwrap();
    }

    fn client(&self) -> LogConfig {
        LogConfig::new(self.address(), "test")
    }

    /// Publishes records in their order.
    fn publish<'a>(&self, records: impl IntoIterator<Item = (&'a str, Option<Vec<u8>>)>) {
        let publisher = Publisher::open(&self.client()).unwrap();
        for (key, value) in records {
            publisher.publish(topics::USAGE_DECISIONS, key.as_bytes(), value.as_deref(), &[], None).unwrap();
        }
        publisher.flush(PATIENCE).unwrap();
    }
}

/// A program of `examples/followers` that runs until it is dropped.
struct Follower {
    child: Child,
    said: tempfile::NamedTempFile,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        let said = tempfile::NamedTempFile::new().unwrap();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said.reopen().unwrap()).spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{command:?}: {error}; `./dev test` installs what it needs"));
        let (questions, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, said, questions, answers }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the follower has ended: {line:?}"))
    }

    /// Asks until the answer has this status.
    fn wait_for(&mut self, status: u16, question: &Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(question);
            if answer["http_status"] == status {
                return;
            }
            assert!(Instant::now() < deadline, "{question} is never answered with {status}, but with {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}", std::fs::read_to_string(self.said.path()).unwrap_or_default());
        }
    }
}

/// A block of everything that this namespace does, until then.
fn block(namespace: &str, expires_at: &str) -> (String, Value) {
    let decision = json!({
        "budget": "marker", "scope": {"namespace": namespace}, "state": "blocked", "reason_code": "NAMESPACE_QUOTA_EXCEEDED",
        "http_status": 403, "measure": "tokens", "limit": "1", "used": "1", "seq": 1,
        "window": {"start": "2026-11-21T00:00:00Z", "end": expires_at, "zone": "UTC"},
        "decided_at": "2026-11-21T00:00:00Z", "expires_at": expires_at,
    });
    (format!("marker|namespace={namespace}"), decision)
}

fn about(namespace: &str) -> Value {
    json!({"dimensions": {"namespace": namespace}})
}

const FOR_EVER: &str = "9999-12-31T23:59:59Z";

/// An answer as all languages write it the same.
fn normal(mut answer: Value) -> Value {
    if let Some(text) = answer["expires_at"].as_str() {
        let time: DateTime<Utc> = text.parse().unwrap();
        answer["expires_at"] = json!(time);
    }
    answer
}

/// Publishes each step and asks its questions, of one follower that was there all the time and of one that starts now.
fn follows_the_vectors(start: impl Fn(&str, &str) -> Follower) {
    let vectors = std::fs::read(repository("examples/followers/vectors.json")).unwrap();
    let vectors: Value = serde_json::from_slice(&vectors).unwrap();
    let mut log = Log::new();
    log.start();
    let mut follower = start(&log.address(), "closed");
    let steps = vectors["steps"].as_array().unwrap();
    for (at, step) in steps.iter().enumerate() {
        let records = step["publish"].as_array().unwrap().iter().map(|record| {
            let value = match &record["value"] {
                Value::Null => None,
                Value::String(text) => Some(text.clone().into_bytes()),
                decision => Some(decision.to_string().into_bytes()),
            };
            (record["key"].as_str().unwrap(), value)
        });
        // The topic has one order, so whoever knows the last record knows all before it.
        let (marker, last) = block(&format!("step-{at}"), FOR_EVER);
        log.publish(records.chain([(marker.as_str(), Some(last.to_string().into_bytes()))]));
        follower.wait_for(403, &about(&format!("step-{at}")));
        let mut started = None;
        if at % 5 == 4 || at + 1 == steps.len() {
            let mut late = start(&log.address(), "closed");
            late.wait_for(403, &about("step-0"));
            assert_eq!(
                late.ask(&about(&format!("step-{at}")))["http_status"],
                403,
                "it answers before it has read all"
            );
            started = Some(late);
        }
        for asked in step["ask"].as_array().unwrap() {
            let expected = normal(asked["answer"].clone());
            for follower in [Some(&mut follower), started.as_mut()].into_iter().flatten() {
                let said = normal(follower.ask(asked));
                assert_eq!(said, expected, "step {}: {}", step["step"], asked["dimensions"]);
            }
        }
    }
}

/// What it says while the log cannot be read: by its fail policy before it was read, and then what it knows.
fn says_what_it_knows_while_the_log_is_away(start: impl Fn(&str, &str) -> Follower) {
    let mut log = Log::new();
    let mut closed = start(&log.address(), "closed");
    let mut open = start(&log.address(), "open");
    let not_ready = |state: &str, status| json!({"state": state, "http_status": status, "reason_code": "NOT_READY"});
    assert_eq!(closed.ask(&about("held")), not_ready("blocked", 503));
    assert_eq!(open.ask(&about("held")), not_ready("allowed", 200));

    log.start();
    let soon = DateTime::to_rfc3339(&(Utc::now() + chrono::Duration::seconds(3)));
    let blocks = [block("held", FOR_EVER), block("past", "2000-01-01T00:00:00Z"), block("soon", &soon)];
    log.publish(blocks.iter().map(|(key, decision)| (key.as_str(), Some(decision.to_string().into_bytes()))));
    for follower in [&mut closed, &mut open] {
        follower.wait_for(403, &about("held"));
        assert_eq!(follower.ask(&about("past"))["http_status"], 200, "by the clock of now");
    }

    log.stop();
    // Nothing comes any more that could end it.
    closed.wait_for(200, &about("soon"));
    assert_eq!(closed.ask(&about("held"))["http_status"], 403);
    log.start();
    let (key, decision) = block("later", FOR_EVER);
    log.publish([(key.as_str(), Some(decision.to_string().into_bytes()))]);
    closed.wait_for(403, &about("later"));
    assert_eq!(closed.ask(&about("held"))["http_status"], 403);
}

fn python(log: &str, fail: &str) -> Follower {
    let found = std::env::var_os("OUTLAY_TEST_PYTHON").map_or_else(|| repository(".venv/bin/python"), PathBuf::from);
    let mut command = Command::new(found);
    command.arg(repository("examples/followers/python/follower.py")).args([log, "--fail", fail]);
    Follower::start(command)
}

/// Built once, with the modules that `./dev test` has fetched.
fn go(log: &str, fail: &str) -> Follower {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let program = BUILT.get_or_init(|| {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("follower-go");
        let mut build = Command::new("go");
        build.current_dir(repository("examples/followers/go")).args(["build", "-o"]).arg(&program).arg(".");
        let output = build.output().unwrap_or_else(|error| panic!("go: {error}; `./dev test` installs it"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "the follower in Go is not built; `./dev test` fetches its modules:\n{said}");
        program
    });
    let mut command = Command::new(program);
    command.args(["-fail", fail, log]);
    Follower::start(command)
}

fn rust(log: &str, fail: &str) -> Follower {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("follower");
    let built = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    let help = "is not built from what is there; `cargo test` without `--test` builds it, or `cargo build --examples`";
    for file in ["decisions.rs", "follow.rs", "follower.rs"] {
        let source = repository("examples/followers/rust").join(file);
        assert!(built(&program) >= built(&source), "{} {help}", program.display());
    }
    let mut command = Command::new(program);
    command.args([log, "--fail", fail]);
    Follower::start(command)
}

#[test]
fn the_follower_in_python_says_what_the_vectors_say() {
    follows_the_vectors(python);
}

#[test]
fn the_follower_in_go_says_what_the_vectors_say() {
    follows_the_vectors(go);
}

#[test]
fn the_follower_in_rust_says_what_the_vectors_say() {
    follows_the_vectors(rust);
}

#[test]
fn the_follower_in_python_keeps_to_its_fail_policy_and_to_what_it_knows() {
    says_what_it_knows_while_the_log_is_away(python);
}

#[test]
fn the_follower_in_go_keeps_to_its_fail_policy_and_to_what_it_knows() {
    says_what_it_knows_while_the_log_is_away(go);
}

#[test]
fn the_follower_in_rust_keeps_to_its_fail_policy_and_to_what_it_knows() {
    says_what_it_knows_while_the_log_is_away(rust);
}
