//! The outbox on disk: one JSON line for each change of an entry, the last line of an id counts.
//!
//! Holds here: what `append` returned from is on the disk; a torn last line (a crash in mid-write) is cut off, a damaged line
//! before it is refused by name, never skipped: it may be the only trace that a mail was sent. One process at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use folder_lock::FolderLock;

use crate::{MailError, OutboxEntry};

/// The journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    /// Held as long as the journal is open; the system lets go of it when the process dies.
    _lock: FolderLock,
}

impl Journal {
    /// Opens or creates it, and reads every line.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<OutboxEntry>), MailError> {
        std::fs::create_dir_all(folder).map_err(MailError::io(folder))?;
        let lock = lock(folder)?;
        let path = folder.join("outbox.jsonl");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(MailError::Io { path, source }),
        };
        let (entries, len_bytes) = read_lines(&path, &bytes)?;
        let file = open_append(&path)?;
        if len_bytes < bytes.len() as u64 {
            tracing::warn!(path = %path.display(), cut_bytes = bytes.len() as u64 - len_bytes, "the outbox ended in a torn line");
            file.set_len(len_bytes).and_then(|()| file.sync_all()).map_err(MailError::io(&path))?;
        }
        sync_folder(folder)?;
        Ok((Self { path, file, len_bytes, _lock: lock }, entries))
    }

    /// How long it is, in bytes.
    pub(crate) const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Appends the present state of these entries, durably. After an error nothing of them counts.
    pub(crate) fn append<'a>(&mut self, entries: impl IntoIterator<Item = &'a OutboxEntry>) -> Result<(), MailError> {
        let lines = to_lines(&self.path, entries)?;
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Takes back what was written in part, so that the next line does not continue it.
            let _ = self.file.set_len(self.len_bytes);
            return Err(MailError::Io { path: self.path.clone(), source });
        }
        self.len_bytes += lines.len() as u64;
        Ok(())
    }

    /// Replaces it by these entries alone, atomically.
    pub(crate) fn rewrite<'a>(&mut self, entries: impl IntoIterator<Item = &'a OutboxEntry>) -> Result<(), MailError> {
        let lines = to_lines(&self.path, entries)?;
        let beside = self.path.with_extension("tmp");
        let write = || {
            // What an earlier crash left.
            std::fs::remove_file(&beside)
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            let mut file = OpenOptions::new().create_new(true).append(true).open(&beside)?;
            file.write_all(&lines)?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)?;
            Ok(file)
        };
        // This very handle goes on: one to the old file would write where nobody reads.
        self.file = write().map_err(MailError::io(&self.path))?;
        self.len_bytes = lines.len() as u64;
        self.path.parent().map_or(Ok(()), sync_folder)
    }
}

fn lock(folder: &Path) -> Result<FolderLock, MailError> {
    const NAME: &str = "outbox.lock";
    let held = FolderLock::try_acquire(folder, NAME).map_err(MailError::io(&folder.join(NAME)))?;
    held.ok_or_else(|| MailError::Locked(folder.to_owned()))
}

fn open_append(path: &Path) -> Result<File, MailError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(MailError::io(path))
}

/// The entries, and how many bytes hold them.
fn read_lines(path: &Path, bytes: &[u8]) -> Result<(Vec<OutboxEntry>, u64), MailError> {
    let mut entries = Vec::new();
    let mut at = 0;
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice(line) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                return Err(MailError::Damaged { path: path.to_owned(), line: index + 1, reason: error.to_string() });
            }
        }
        at += line.len();
    }
    Ok((entries, at as u64))
}

fn to_lines<'a>(path: &Path, entries: impl IntoIterator<Item = &'a OutboxEntry>) -> Result<Vec<u8>, MailError> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry).map_err(|error| MailError::io(path)(error.into()))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Writes a file so that a crash leaves the old one or the new one, never a part: beside it, to the disk, then renamed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), MailError> {
    let beside = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(MailError::io(path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A rename or a new file is on the disk only when its folder is.
fn sync_folder(folder: &Path) -> Result<(), MailError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(MailError::io(folder))
}
