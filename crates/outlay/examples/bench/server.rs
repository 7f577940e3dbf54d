//! The measured program as a process of its own, watched from outside.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::{cpu_by_thread, cpu_of_tree, peak_mib};
use crate::{Options, PATIENCE};

/// How often it is asked how far it is: rarely enough to cost it nothing that shows.
const ASK: Duration = Duration::from_millis(20);

/// A running `outlay serve`.
pub struct Server {
    child: Child,
    url: String,
    output: PathBuf,
    client: Client,
}

impl Server {
    /// Starts one on a folder of this name with these budgets.
    pub fn start(options: &Options, name: &str, budgets: &str) -> Result<Self> {
        let data = options.data.join(name);
        fs::create_dir_all(&data)?;
        let (file, output) = (data.join("budgets.yaml"), data.join("output.log"));
        fs::write(&file, budgets)?;
        let log = File::options().create(true).append(true).open(&output)?;
        let addresses = data.join("server.json");
        let _absent = fs::remove_file(&addresses);
        let mut child = Command::new(&options.outlay)
            .args(["serve", "--kafka", &options.kafka, "--http", "127.0.0.1:0", "--log-format", "text"])
            .args(["--otlp-grpc", "off", "--otlp-http", "off"])
            .arg("--data")
            .arg(&data)
            .arg("--budgets")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", options.outlay.display()))?;
        let deadline = Instant::now() + PATIENCE;
        let url = loop {
            let found = fs::read(&addresses).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(http) = found.as_ref().and_then(|value| value["http"].as_str()) {
                break format!("http://{http}");
            }
            if let Some(status) = child.try_wait()? {
                bail!("outlay ended with {status}; see {}", output.display());
            }
            ensure!(Instant::now() < deadline, "outlay does not start; see {}", output.display());
            sleep(ASK);
        };
        Ok(Self { child, url, output, client: Client::builder().timeout(PATIENCE).build()? })
    }

    /// Waits until it has caught up with the log.
    pub fn wait_until_ready(&self, patience: Duration) -> Result<()> {
        self.wait(patience, "ready", || Ok(self.client.get(format!("{}/readyz", self.url)).send()?.status() == 200))
    }

    /// Waits until so many events are counted and their rows are in the lake.
    pub fn wait_until_committed(&self, events: u64, patience: Duration) -> Result<()> {
        self.wait(patience, "done", || Ok(self.metric("outlay_lake_rows_total")? == events))
    }

    /// A counter that it shows.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.client.get(format!("{}/metrics", self.url)).send()?.text()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("no metric {name}"))?.parse().with_context(|| format!("metric {name}"))
    }

    fn wait(&self, patience: Duration, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !is_so()? {
            ensure!(Instant::now() < deadline, "outlay is not {what}; see {}", self.output.display());
            sleep(ASK);
        }
        Ok(())
    }

    /// CPU time of the process and its children.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of_tree(self.child.id())
    }

    /// CPU-seconds by thread.
    pub fn threads(&self) -> Result<String> {
        cpu_by_thread(self.child.id())
    }

    /// The most memory it had, in MiB.
    pub fn peak_mib(&self) -> Result<u64> {
        peak_mib(self.child.id())
    }

    /// Stops it in order.
    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) => {
                    ensure!(status.success(), "outlay ended with {status}; see {}", self.output.display());
                    return Ok(());
                }
                None if Instant::now() > deadline => bail!("outlay does not stop; see {}", self.output.display()),
                None => sleep(ASK),
            }
        }
    }
}

impl Drop for Server {
    /// For a run that failed half-way.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
