//! Programs of others that run beside a test.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process_group};

/// A program that runs beside the test until it is dropped, or ends by itself.
pub struct Beside {
    child: Child,
    log: PathBuf,
}

impl Beside {
    /// Starts it; what it says goes to this file.
    #[track_caller]
    pub fn start(log: &Path, mut command: Command) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; `./dev test` installs what it needs"));
        Self { child, log: log.to_owned() }
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Panics where it has ended.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended with {status}:\n{}", self.said());
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // A shell's programs with it.
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.said());
        }
    }
}
