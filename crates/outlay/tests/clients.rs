//! What the README tells people to copy is copied from it here, and run as it stands: curl, kcat, Python and the binary itself.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::common::events::{event, zone_without_midnight};
use crate::common::{PATIENCE, Server, kafka, python, repository, wait_for, wait_until_eq};

/// The shell blocks of the section "Try it", joined lines and all, cut into commands at blank lines and line ends.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let section = readme.split("\n## Try it\n").nth(1).expect("a section `Try it`").split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("\n```").next().unwrap());
    let mut commands = Vec::new();
    for block in blocks {
        let mut command = String::new();
        for line in block.lines() {
            command.push_str(line);
            command.push('\n');
            // A quote or a trailing backslash leaves a command open.
            if command.matches('\'').count().is_multiple_of(2) && !line.ends_with('\\') {
                commands.push(std::mem::take(&mut command));
            }
        }
        assert_eq!(command, "", "an unfinished command");
    }
    commands.into_iter().filter(|command| !command.trim().is_empty()).collect()
}

/// Runs a command in the repository as a person would who did the first block: the variables name the server.
fn run(server: &Server, command: &str) -> (bool, String) {
    let data = server.data.to_str().unwrap();
    let venv = python().parent().unwrap().display().to_string();
    let own = Path::new(env!("CARGO_BIN_EXE_outlay")).display().to_string();
    let command = command
        .replace("pip install confluent-kafka && ", "")
        .replace("target/debug/outlay", &own)
        .replace("data/demo", data);
    let path = format!("{venv}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &format!("set -o pipefail; {command}")])
        .current_dir(repository(""))
        .env("PATH", path)
        .env("OUTLAY_URL", &server.url)
        .env("OUTLAY_KAFKA", &server.log)
        .env("OUTLAY_ADMIN_KEY", &server.key);
    if command.starts_with("curl -N") {
        return (true, follow(shell));
    }
    let output = shell.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Runs a command that follows a stream until it is interrupted: here, when it has said that the full set was sent.
fn follow(mut shell: Command) -> String {
    let mut child = shell.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let lines = std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    let mut said = String::new();
    while !said.contains("event: ready\n") {
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the stream says no more than:\n{said}"));
        said.push_str(&line);
        said.push('\n');
    }
    kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    lines.join().unwrap();
    said
}

#[test]
fn every_line_of_the_readme_works_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = dir.path().join("budgets.yaml");
    let zone = zone_without_midnight();
    let text = format!(
        "budgets:\n  - id: support-daily\n    match: {{ namespace: support }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 1000 }}\n"
    );
    std::fs::write(&budgets, text).unwrap();
    let args = ["--budgets", budgets.to_str().unwrap(), "--commit-interval-ms", "200"];
    let server = Server::start(&dir.path().join("data"), &args);
    server.post_event(&event("full", "support", 1000));
    wait_for("the block", || (server.check(&[("namespace", "support")]).status == 403).then_some(()));
    wait_until_eq("rows in the lake", &1, || server.get_json("/v1/status")["lake"]["rows"].as_u64().unwrap());
    wait_until_eq("decisions on the topic", &1, || kafka::read_topic(&server.log, "usage.decisions").len());
    let ids = || -> Vec<String> {
        let rows = server.sql("select id from usage where source = 'readme' order by id");
        rows.iter().map(|row| row["id"].as_str().unwrap().split('-').next().unwrap().to_owned()).collect()
    };

    let mut said = BTreeMap::new();
    for command in commands().iter().filter(|command| !command.starts_with("export ")) {
        if command.contains("/v1/sql") {
            // Whoever types the next command gives the server this time: one event by each of the three clients.
            wait_until_eq("events of the README", &["curl", "kcat", "python"].map(str::to_owned).to_vec(), ids);
        }
        let (succeeded, output) = run(&server, command);
        eprintln!("$ {command}{output}");
        assert!(succeeded, "{command}\n{output}");
        said.insert(command.clone(), output);
    }
    let about = |part: &str| {
        let found: Vec<_> = said.iter().filter(|(command, _)| command.contains(part)).collect();
        assert_eq!(found.len(), 1, "one command with `{part}`");
        found[0].1.as_str()
    };
    assert!(about("\"curl-1\"").contains("\"accepted\":1"));
    assert!(about("examples/python-event.py").starts_with("at "));
    let check = about("/v1/check");
    assert!(
        check.contains("403")
            && check.contains("NAMESPACE_QUOTA_EXCEEDED")
            && check.to_lowercase().contains("retry-after: "),
        "{check}"
    );
    let topic = about("-t usage.decisions");
    assert!(topic.contains("support-daily|namespace=support {") && topic.contains("\"state\":\"blocked\""), "{topic}");
    let stream = about("/v1/decisions/stream");
    assert!(stream.contains("event: decision\n") && stream.contains("event: ready\n"), "{stream}");
    let rows: Vec<&str> = about("/v1/sql").lines().collect();
    assert_eq!((rows[0], rows.len()), ("namespace,model,tokens,cost", 3), "{rows:?}");
    assert!(rows.iter().any(|row| row.starts_with("research,gpt-5.1,")), "{rows:?}");
    assert!(about("/v1/reports/chargeback").starts_with("namespace,team,currency,"));
    assert!(about("report chargeback").contains("| research"));
    assert!(about("'select * from decisions'").contains("support-daily"));
    assert!(about(" verify ").contains("every offset is accounted for once"));

    assert_eq!(server.get_json("/v1/status")["totals"]["rejected"], 0);
}
