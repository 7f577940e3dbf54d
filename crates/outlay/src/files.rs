//! Files that are written whole or not at all.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

/// Puts bytes into a file: whoever reads it meanwhile, or after a crash, sees the old ones or the new ones.
pub fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    replace_from(path, bytes.as_ref())
}

/// The same with all that is read, as it comes.
pub fn replace_from(path: &Path, mut bytes: impl Read) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut write = || {
        let mut file = std::fs::File::create(&new)?;
        std::io::copy(&mut bytes, &mut file)?;
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
