//! Files that are written whole or not at all.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts a text into a file: whoever reads it meanwhile, or after a crash, sees the old text or the new one.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        // The name is on disk only with its folder.
        match path.parent().filter(|folder| cfg!(unix) && !folder.as_os_str().is_empty()) {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
