//! Confluent's own serializers for Python, and schema registries for them: a real one (Apicurio), and the stand-in of `tests/schema_registry`
//! that can go away and come back with what it had.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{PATIENCE, free_port, python, repository, wait_for, wait_within};

/// A running registry; ends with this value. Its log is in the folder that it was given.
pub struct Registry {
    child: Child,
    /// Its URL, with user and password.
    pub url: String,
}

impl Registry {
    /// Starts Apicurio Registry.
    #[track_caller]
    pub fn apicurio(folder: &Path) -> Self {
        let port = free_port();
        let log = std::fs::File::create(folder.join("apicurio.txt")).unwrap();
        let mut command = Command::new(repository("scripts/registry.sh"));
        command.args(["run", &port.to_string()]).stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        let mut child = command.spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}/apis/ccompat/v7");
        let said = || std::fs::read_to_string(folder.join("apicurio.txt")).unwrap();
        // A Java server of this size takes long to start on a busy machine.
        wait_within(3 * PATIENCE, "Apicurio Registry", || {
            assert!(child.try_wait().unwrap().is_none(), "the registry ended: {}", said());
            let answer = reqwest::blocking::get(format!("{url}/subjects")).ok()?;
            answer.status().is_success().then_some(())
        });
        Self { child, url }
    }

    /// Starts the stand-in at this port with what an earlier one kept in the file.
    #[track_caller]
    pub fn start(file: &Path, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(python());
        command.arg(repository("tests/schema_registry/registry.py")).arg(&address).arg(file).arg("someone:secret");
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        wait_for("the registry", || {
            assert!(child.try_wait().unwrap().is_none(), "the registry ended");
            TcpStream::connect(&address).ok()
        });
        Self { child, url: url(port) }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The URL of a registry at this port, running or not.
pub fn url(port: u16) -> String {
    format!("http://someone:secret@127.0.0.1:{port}")
}

/// Publishes native events with the serializer of a format, under the key `k`.
#[track_caller]
pub fn publish(format: &str, registry: &str, brokers: &str, events: &[Value], content_type: Option<&str>) {
    let mut command = Command::new(python());
    command.arg(repository("tests/schema_registry/produce.py")).args([format, registry, brokers, "usage.events"]);
    let mut child = command.args(content_type).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    events.iter().for_each(|event| writeln!(input, "{event}").unwrap());
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
}
