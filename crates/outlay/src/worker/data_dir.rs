//! The data folder: made, locked against a second server, and holding the generated admin key.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use folder_lock::FolderLock;

use crate::client::{ADMIN_KEY_FILE, stored_key};

/// An open data folder; the lock goes with it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: FolderLock,
}

impl DataDir {
    /// Makes the folder where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the data folder {}; give another --data", path.display()))?;
        let path = fs::canonicalize(path)?;
        let lock = FolderLock::try_acquire(&path, "lock").with_context(|| format!("cannot lock {}", path.display()))?;
        match lock {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => bail!("another outlay runs on {}; stop it, or give another --data", path.display()),
        }
    }

    /// A folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The admin key: the one given, else the one stored, else a new one; `true` where it is new.
    pub fn admin_key(&self, given: Option<&str>) -> Result<(String, bool)> {
        if let Some(key) = given {
            return Ok((key.to_owned(), false));
        }
        if let Some(key) = stored_key(&self.path)? {
            if key.len() < 16 {
                bail!(
                    "{} holds a key of fewer than 16 characters; remove the file to have a new one",
                    self.join(ADMIN_KEY_FILE).display()
                );
            }
            return Ok((key, false));
        }
        let mut secret = [0_u8; 24];
        getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random bytes for an admin key: {error}"))?;
        let key: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(self.join(ADMIN_KEY_FILE)).context("cannot store the admin key")?;
        writeln!(file, "{key}")?;
        file.sync_all()?;
        Ok((key, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_opened_once_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(&dir.path().join("data")).unwrap();
        let error = DataDir::open(&dir.path().join("data")).unwrap_err().to_string();
        assert!(error.contains("another outlay runs"), "{error}");

        let (key, is_new) = first.admin_key(None).unwrap();
        assert!(is_new && key.len() == 48);
        assert_eq!(first.admin_key(None).unwrap(), (key, false));
        assert_eq!(first.admin_key(Some("given")).unwrap(), ("given".to_owned(), false));
    }
}
