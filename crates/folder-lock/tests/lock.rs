//! The lock among handles and processes.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use folder_lock::FolderLock;
use tempfile::TempDir;

#[test]
fn a_folder_is_held_once_and_free_again_when_dropped() {
    let dir = TempDir::new().unwrap();
    let held = FolderLock::try_acquire(dir.path(), "lock").unwrap().unwrap();
    assert!(FolderLock::try_acquire(dir.path(), "lock").unwrap().is_none());
    assert!(FolderLock::try_acquire(dir.path(), "other").unwrap().is_some());
    drop(held);
    assert!(FolderLock::try_acquire(dir.path(), "lock").unwrap().is_some());
}

#[test]
fn a_missing_folder_is_an_error_and_not_a_held_lock() {
    let dir = TempDir::new().unwrap();
    let error = FolderLock::try_acquire(&dir.path().join("none"), "lock").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

/// Between `fork` and `exec` a child has our files; one that is started at the wrong instant must not keep the folder.
#[test]
fn children_that_are_being_started_do_not_keep_it() {
    let dir = TempDir::new().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // With a hook before `exec`, as programs that confine their children have, the standard library forks.
                    let mut command = Command::new("true");
                    #[cfg(unix)]
                    #[allow(unsafe_code)]
                    // SAFETY: the hook does nothing.
                    unsafe {
                        std::os::unix::process::CommandExt::pre_exec(&mut command, || Ok(()));
                    }
                    command.status().unwrap();
                }
            });
        }
        let lost = (0..2000).filter(|_| FolderLock::try_acquire(dir.path(), "lock").unwrap().is_none()).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(lost, 0);
    });
}
