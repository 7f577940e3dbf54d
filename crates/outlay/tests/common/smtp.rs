//! A real mail server: the one of `tests/mail`, in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{python, repository};

/// A running mail server; ends with this value.
pub struct SmtpServer {
    child: Child,
    folder: PathBuf,
}

impl SmtpServer {
    /// Starts it on this port, and returns when it takes connections.
    #[track_caller]
    pub fn start(folder: &Path, port: u16) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let script = repository("tests/mail/smtp_server.py");
        let mut child =
            (Command::new(python()).arg(script).arg("--dir").arg(folder).args(["--port", &port.to_string()]))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("port"), "the mail server did not start; `./dev test` installs what it needs");
        Self { child, folder: folder.to_owned() }
    }

    /// The mails that it took, in order.
    pub fn mails(&self) -> Vec<String> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
