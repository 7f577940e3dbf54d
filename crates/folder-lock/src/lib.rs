//! Keeps a second process out of a data folder.
//!
//! The lock is `flock`'s: the kernel lets go of it when the process dies, however it dies.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Holds a folder until it is dropped.
#[derive(Debug)]
pub struct FolderLock(File);

impl FolderLock {
    /// Makes the file `name` in `folder`, which must exist, and locks it. `None`: somebody else, in this process or another, holds it.
    ///
    /// # Errors
    /// The file cannot be made, or its file system has no locks.
    pub fn try_acquire(folder: &Path, name: &str) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started has a copy of it until it executes its program, and
        // the lock lives as long as any copy. Unlocking ends it for all of them. It can fail only where closing is all that is left.
        let _ = self.0.unlock();
    }
}
