//! One process of the binary, and questions to it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::events::let_the_month_end;
use super::{PATIENCE, wait_for, wait_within};

/// A running `outlay serve`; killed when dropped.
pub struct Server {
    child: Child,
    /// The data folder.
    pub data: PathBuf,
    /// `http://HOST:PORT`.
    pub url: String,
    /// The log's `HOST:PORT`.
    pub log: String,
    /// The admin key.
    pub key: String,
    client: Client,
}

/// An answer over HTTP, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// This answer, whose status must be the given one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

impl Server {
    /// Starts one on this folder with the embedded log on free ports, and waits until it is ready.
    #[track_caller]
    pub fn start(data: &Path, args: &[&str]) -> Self {
        Self::launch(data, &[&["--log", "127.0.0.1:0"], args].concat())
    }

    /// Starts one on this folder; `args` say which log. Waits until it is ready.
    #[track_caller]
    pub fn launch(data: &Path, args: &[&str]) -> Self {
        Self::launch_without_waiting(data, args).until_ready()
    }

    /// Starts one and waits only until it says where it listens.
    #[track_caller]
    pub fn launch_without_waiting(data: &Path, args: &[&str]) -> Self {
        let mut child = spawn(data, args);
        wait_for("server.json of this process", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended at start with {status}:\n{}", tail(data));
            }
            addresses(data, &child)
        });
        Self::found(child, data)
    }

    /// The server of a process that [`spawn`] started and [`addresses`] found listening.
    #[track_caller]
    pub fn found(child: Child, data: &Path) -> Self {
        let addresses = addresses(data, &child).expect("it listens");
        let text = |name: &str| addresses[name].as_str().unwrap().to_owned();
        let key =
            std::fs::read_to_string(data.join("admin-key")).map_or(GIVEN_KEY.to_owned(), |key| key.trim().to_owned());
        let client = Client::builder().timeout(2 * PATIENCE).build().unwrap();
        let (url, log) = (format!("http://{}", text("http")), text("log"));
        Self { child, data: data.to_owned(), url, log, key, client }
    }

    /// Waits until `/readyz` says so.
    #[track_caller]
    pub fn until_ready(mut self) -> Self {
        let mut last = String::new();
        let ready = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("readiness", || {
                assert!(self.child.try_wait().unwrap().is_none(), "the server ended");
                let answer = self.client.get(format!("{}/readyz", self.url)).send().ok()?;
                let ready = answer.status() == 200;
                last = answer.text().unwrap_or_default();
                ready.then_some(())
            });
        }));
        assert!(ready.is_ok(), "not ready: {last}\n{}", tail(&self.data));
        self
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for nothing.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        let data = self.data.clone();
        wait_within(Duration::from_secs(90), &format!("end after SIGTERM of the server on {}", data.display()), || {
            self.child.try_wait().unwrap()
        })
    }

    /// What it logged so far, over all its starts.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.data.join("stderr.txt")).unwrap()
    }

    /// A request with the key.
    #[track_caller]
    pub fn send(&self, request: RequestBuilder) -> Answer {
        self.send_without_key(request.bearer_auth(&self.key))
    }

    /// A request as it is.
    #[track_caller]
    pub fn send_without_key(&self, request: RequestBuilder) -> Answer {
        let answer = request.send().unwrap_or_else(|error| panic!("{error:?}\n{}", tail(&self.data)));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().unwrap().to_vec() }
    }

    /// A client for requests of another shape.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.url)))
    }

    /// `GET` of JSON.
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        self.get(path).expect(200).json()
    }

    /// `POST /v1/events` with a content type.
    #[track_caller]
    pub fn post_events(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.client.post(format!("{}/v1/events", self.url)).header("content-type", content_type);
        self.send(request.body(body.into()))
    }

    /// One native event over HTTP, which must be taken.
    #[track_caller]
    pub fn post_event(&self, event: &Value) {
        self.post_events("application/json", event.to_string()).expect(202);
    }

    /// A query; its rows.
    #[track_caller]
    pub fn sql(&self, query: &str) -> Vec<Value> {
        let answer = self.sql_as(query, "json").expect(200);
        answer.json().as_array().unwrap_or_else(|| panic!("no rows: {}", answer.text())).clone()
    }

    /// A query in a format.
    #[track_caller]
    pub fn sql_as(&self, query: &str, format: &str) -> Answer {
        let request = self.client.post(format!("{}/v1/sql", self.url));
        self.send(request.json(&json!({"query": query, "format": format})))
    }

    /// `GET /v1/check` with dimensions in headers.
    #[track_caller]
    pub fn check(&self, dimensions: &[(&str, &str)]) -> Answer {
        let request = self.client.get(format!("{}/v1/check", self.url));
        self.send(
            dimensions
                .iter()
                .fold(request, |request, (name, value)| request.header(format!("x-outlay-{name}"), *value)),
        )
    }

    /// How much a tracked scope has used in the running window, or `None` where there is no such balance.
    #[track_caller]
    pub fn used(&self, scope: &[(&str, &str)], every: &str, measure: &str) -> Option<String> {
        let filter: String = scope.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        let rows = self.get_json(&format!("/v1/balances?{filter}every={every}&measure={measure}&limit=10000"));
        let wanted: Value = scope.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let found =
            rows.as_array().unwrap().iter().find(|row| row["scope"] == wanted && row.get("budget").is_none())?;
        Some(found["used"].as_str().unwrap().to_owned())
    }

    /// All balances, in an order of their own: equal ones stand in any.
    #[track_caller]
    pub fn balances(&self) -> Vec<String> {
        let rows = self.get_json("/v1/balances?limit=10000");
        let mut rows: Vec<String> = rows.as_array().unwrap().iter().map(Value::to_string).collect();
        rows.sort();
        rows
    }

    /// The value of a metric's first line with this beginning: a whole number, or seconds.
    #[track_caller]
    pub fn metric<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str) -> T {
        let text = self.get("/metrics").expect(200).text();
        let line = text.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's last lines ({})\n{}", self.data.display(), tail(&self.data));
        }
    }
}

/// Starts a process of `outlay serve` on this folder and waits for nothing.
pub fn spawn(data: &Path, args: &[&str]) -> Child {
    let_the_month_end(chrono::Duration::minutes(5));
    std::fs::create_dir_all(data).unwrap();
    let mut command = command("serve");
    command
        .arg("--data")
        .arg(data)
        .args(["--http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"])
        .args(args)
        // A busy machine is no reason to give up a query, where the test does not say when.
        .env("OUTLAY_SQL_TIMEOUT_S", PATIENCE.as_secs().to_string());
    command.stdout(append(data, "stdout.txt")).stderr(append(data, "stderr.txt")).spawn().unwrap()
}

/// Where this process listens, once it says so. The file of a killed server is still there: it names another process.
pub fn addresses(data: &Path, child: &Child) -> Option<Value> {
    let text = std::fs::read(data.join("server.json")).ok()?;
    serde_json::from_slice(&text).ok().filter(|value: &Value| value["pid"] == child.id())
}

/// The key where a test gives one instead of having one generated.
pub const GIVEN_KEY: &str = "a-key-given-by-the-test";

/// The binary with a command; nothing of the tester's own settings reaches it.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outlay"));
    for (variable, _) in
        std::env::vars().filter(|(variable, _)| variable.starts_with("OUTLAY_") || variable == "RUST_LOG")
    {
        command.env_remove(variable);
    }
    command.arg(name).stdin(Stdio::null());
    command
}

/// Runs a command of the binary to its end.
#[track_caller]
pub fn run(name: &str, args: &[&str]) -> Output {
    command(name).args(args).output().unwrap()
}

/// `outlay verify` of a data folder: whether it passed, and what it said.
#[track_caller]
pub fn verify(data: &Path) -> (bool, String) {
    let output = run("verify", &["--data", data.to_str().unwrap()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Stops a server, and has every offset of its data folder accounted for.
#[track_caller]
pub fn assert_sound(server: Server, data: &Path) {
    assert!(server.stop().success());
    let (passed, said) = verify(data);
    assert!(passed, "{said}");
}

fn append(data: &Path, name: &str) -> File {
    OpenOptions::new().create(true).append(true).open(data.join(name)).unwrap()
}

fn tail(data: &Path) -> String {
    let text = std::fs::read_to_string(data.join("stderr.txt")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
