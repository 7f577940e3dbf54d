//! A place to run snippets in: a folder of their own, a server of their own, and the variables that the page names.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Beside, Server, pico, python, repository, wait_until_eq};
use crate::page;

/// A server, and a folder for the files of a client.
pub struct Bench {
    pub server: Server,
    pub folder: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// Starts a server.
    #[track_caller]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("client");
        std::fs::create_dir(&folder).unwrap();
        let server = Server::start(&dir.path().join("data"), &["--commit-interval-ms", "200"]);
        Self { server, folder, _dir: dir }
    }

    /// Saves a file of the page under its name.
    #[track_caller]
    pub fn save(&self, file: &str) {
        self.save_as(file, &[]);
    }

    /// Saves a file of the page with what its reader would change in it, each found once.
    #[track_caller]
    pub fn save_as(&self, file: &str, changes: &[(&str, &str)]) {
        let text = changes.iter().fold(page::to_save(file), |text, (from, to)| {
            assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
            text.replace(from, to)
        });
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    /// Puts a published schema beside the snippet.
    #[track_caller]
    pub fn copy_schema(&self, file: &str) {
        std::fs::copy(repository("schemas").join(file), self.folder.join(file)).unwrap();
    }

    /// Runs a snippet to its end with further variables; it must be a success. What it said.
    #[track_caller]
    pub fn run(&self, name: &str, variables: &[(&str, &str)]) -> String {
        let output = self.command(name).envs(variables.iter().copied()).output();
        let output = output.unwrap_or_else(|error| panic!("{name}: {error}; `./dev test` installs what it needs"));
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name} ended with {}:\n{said}", output.status);
        said
    }

    /// A snippet, saved and ready to start by the means of its language.
    #[track_caller]
    pub fn command(&self, name: &str) -> Command {
        let block = page::to_run(name);
        let save = |file: &str| {
            let path = self.folder.join(file);
            std::fs::write(&path, &block.text).unwrap();
            path
        };
        let clients = repository("tests/clients");
        match block.language.as_str() {
            "sh" => self.tool("bash", &["-c", &format!("set -euo pipefail\n{}", block.text)]),
            "python" => self.tool(python(), &[save("report.py")]),
            "js" => {
                self.link(&clients.join("node_modules"), "node_modules");
                self.tool("node", &[save("report.mjs")])
            }
            "go" => {
                for file in ["go.mod", "go.sum"] {
                    std::fs::copy(clients.join("go").join(file), self.folder.join(file)).unwrap();
                }
                save("main.go");
                self.tool("go", &["run", "."])
            }
            "java" => {
                self.link(&kafka_jars(), "libs");
                save("Report.java");
                self.tool("java", &["-cp", "libs/*", "Report.java"])
            }
            "rust" => self.tool(example(&name.replace("rust-", "report_"), &block.text), &[] as &[&str]),
            other => panic!("{name} is in a language that nothing here runs: {other:?}"),
        }
    }

    /// A program in the folder, with the variables of the page and the packages of the tests, and no telemetry of the tester's own.
    pub fn tool(&self, program: impl AsRef<std::ffi::OsStr>, args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars() {
            if ["OTEL_", "OUTLAY_", "ANTHROPIC_", "OPENAI_", "CLAUDE"].iter().any(|begin| variable.starts_with(begin)) {
                command.env_remove(variable);
            }
        }
        let places = [
            python().parent().unwrap().to_owned(),
            repository(".venv-litellm/bin"),
            repository("tests/clients/node_modules/.bin"),
        ];
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(places.into_iter().chain(std::env::split_paths(&path))).unwrap();
        command.args(args).current_dir(&self.folder).stdin(Stdio::null()).env("PATH", path);
        command.env("OUTLAY_URL", &self.server.url).env("OUTLAY_KAFKA", &self.server.log);
        command.env("OUTLAY_ADMIN_KEY", &self.server.key);
        command
    }

    fn link(&self, from: &Path, name: &str) {
        assert!(from.exists(), "{} is missing; `./dev test` installs it", from.display());
        let to = self.folder.join(name);
        if !to.exists() {
            symlink(from, to).unwrap();
        }
    }

    /// Waits until so many events are counted and so many were told apart as sent before; nothing else has come.
    #[track_caller]
    pub fn wait_until_counted(&self, accepted: u64, duplicate: u64) {
        wait_until_eq("events accepted, duplicate, rejected, too late", &[accepted, duplicate, 0, 0], || {
            let totals = &self.server.get_json("/v1/status")["totals"];
            ["accepted", "duplicate", "rejected", "too_late"].map(|name| totals[name].as_u64().unwrap())
        });
    }

    /// Who paid for what, over all events.
    #[track_caller]
    pub fn counted(&self) -> Vec<Counted> {
        let query = "select namespace, team, provider, model, count(*) events, sum(input_tokens) input, sum(cache_read_tokens) cache_read, \
                     sum(cache_write_5m_tokens) cache_write, sum(output_tokens) output, sum(reasoning_tokens) reasoning, \
                     sum(requests) requests, sum(cost) cost from usage group by 1, 2, 3, 4 order by 1, 2, 3, 4";
        self.server.sql(query).iter().map(Counted::read).collect()
    }
}

/// What was counted for one model of one team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Namespace, team, provider, model; empty where there is none.
    pub of: [String; 4],
    /// Events, then tokens by class: input, cache read, cache write, output, reasoning; then requests.
    pub counts: [u64; 7],
    /// In 10⁻¹² dollars.
    pub cost: Option<i128>,
}

impl Counted {
    fn read(row: &Value) -> Self {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let count = |name: &str| match &row[name] {
            Value::String(text) => text.parse().unwrap(),
            number => number.as_u64().unwrap_or_else(|| panic!("{name}: {number}")),
        };
        Self {
            of: ["namespace", "team", "provider", "model"].map(text),
            counts: ["events", "input", "cache_read", "cache_write", "output", "reasoning", "requests"].map(count),
            cost: row["cost"].as_str().map(pico),
        }
    }
}

/// The stand-in for providers of models, see `tests/clients/models.py`.
pub struct Models {
    process: Beside,
    /// `http://HOST:PORT`.
    pub url: String,
}

impl Models {
    #[track_caller]
    pub fn start(bench: &Bench) -> Self {
        let script = repository("tests/clients/models.py");
        let mut process = Beside::start(&bench.folder.join("models.txt"), bench.tool(python(), &[script]));
        let port = crate::common::wait_for("the port of models.py", || {
            process.expect_alive();
            let said = process.said();
            said.split_once('\n').map(|(port, _)| port.to_owned())
        });
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }

    /// The requests to models so far, each as provider and model.
    pub fn requests(&self) -> Vec<String> {
        BufReader::new(self.process.said().as_bytes()).lines().skip(1).map(Result::unwrap).collect()
    }
}

/// The jars of Kafka's client and what it needs: `scripts/kafka.sh` keeps them.
fn kafka_jars() -> PathBuf {
    let output = Command::new(repository("scripts/kafka.sh")).arg("install").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("libs")
}

/// An example of this crate, which must say what the page says.
fn example(name: &str, text: &str) -> PathBuf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let written = std::fs::read_to_string(&source).unwrap();
    assert_eq!(written, text, "examples/{name}.rs and docs/clients.md");
    let program = Path::new(env!("CARGO_BIN_EXE_outlay")).with_file_name("examples").join(name);
    let built = |path: &Path| path.metadata().and_then(|about| about.modified()).ok();
    let help = "is not built from what is there; `cargo test` without `--test` builds it, or `cargo build --examples`";
    assert!(built(&program) >= built(&source), "{} {help}", program.display());
    program
}
