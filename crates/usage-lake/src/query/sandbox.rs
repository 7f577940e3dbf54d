//! What the child takes away from itself before it looks at a query.
//!
//! Memory: `RLIMIT_DATA`, which counts the heap and thread stacks but not the program's own pages. Files: Landlock, read-only
//! and only the chosen ones. Network and other programs: a seccomp filter that refuses sockets, `execve`, `ptrace`,
//! `io_uring` and the like (Landlock alone knows TCP only, and only from Linux 6.7). Both need a kernel that has them; what was
//! possible is said in [`Confinement`] and the parent logs it. Without them SQL still cannot name a file: the session has no
//! way to, and statements that would are refused.

use std::path::PathBuf;

/// How far the child is confined.
#[derive(Debug, Clone)]
pub(super) struct Confinement {
    /// For people, like `memory, landlock fully, seccomp`.
    pub text: String,
    /// All of it is in force.
    pub complete: bool,
}

/// Limits the memory of this process, in bytes of heap and stacks.
#[cfg(target_os = "linux")]
pub(super) fn limit_memory(bytes: u64) -> bool {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // A core file of a killed child would hold a caller's rows.
    let no_core = setrlimit(Resource::Core, limit(0)).is_ok();
    setrlimit(Resource::Data, limit(bytes)).is_ok() && no_core
}

/// Confines the calling thread and all threads that it starts from now on: call it before there are others.
#[cfg(target_os = "linux")]
pub(super) fn confine(files: &[PathBuf], memory_limited: bool) -> Confinement {
    let landlock = landlock_files(files);
    let seccomp = seccomp_filter();
    let complete = memory_limited && matches!(landlock, Ok("fully")) && seccomp.is_ok();
    let text = format!(
        "memory {}, landlock {}, seccomp {}",
        if memory_limited { "limited" } else { "unlimited" },
        landlock.unwrap_or("refused"),
        if seccomp.is_ok() { "on" } else { "refused" },
    );
    Confinement { text, complete }
}

#[cfg(target_os = "linux")]
fn landlock_files(files: &[PathBuf]) -> Result<&'static str, landlock::RulesetError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    };
    // The newest ABI whose rights all concern files and TCP; older kernels enforce what they know.
    let abi = ABI::V4;
    let rules = Ruleset::default().handle_access(AccessFs::from_all(abi))?;
    let mut rules = rules.handle_access(AccessNet::from_all(abi))?.create()?;
    for file in files {
        // A file that is gone cannot be read; the query says so.
        if let Ok(opened) = PathFd::new(file) {
            rules = rules.add_rule(PathBeneath::new(opened, AccessFs::ReadFile))?;
        }
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => "fully",
        RulesetStatus::PartiallyEnforced => "partly",
        RulesetStatus::NotEnforced => "missing",
    })
}

#[cfg(target_os = "linux")]
fn seccomp_filter() -> Result<(), Box<dyn std::error::Error>> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    const REFUSED: [libc::c_long; 22] = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept4,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kill,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_memfd_create,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
    ];
    let rules = REFUSED.into_iter().map(|call| (call, vec![])).collect();
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn limit_memory(_: u64) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) fn confine(_: &[PathBuf], _: bool) -> Confinement {
    Confinement { text: "this system has no confinement that we use".to_owned(), complete: false }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// On a thread of its own: confinement holds for the thread that asks for it and cannot be undone.
    #[test]
    fn a_confined_thread_reads_the_granted_file_and_reaches_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [granted, other] = ["granted", "other"].map(|name| folder.path().join(name));
        fs::write(&granted, "granted").unwrap();
        fs::write(&other, "secret").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let confined = std::thread::spawn(move || {
            let confinement = confine(std::slice::from_ref(&granted), true);
            if !confinement.complete {
                // A kernel without them: the parent says so in its log, and there is nothing to test.
                return confinement;
            }
            assert_eq!(fs::read_to_string(&granted).unwrap(), "granted");
            for refused in [
                fs::read_to_string(&other).map(drop),
                fs::read_to_string("/etc/passwd").map(drop),
                fs::write(&granted, "overwritten"),
                fs::write(folder.path().join("new"), "x"),
                fs::remove_file(&other),
                TcpStream::connect(address).map(drop),
                UdpSocket::bind("127.0.0.1:0").map(drop),
                UnixStream::pair().map(drop),
                Command::new("/bin/true").spawn().map(drop),
            ] {
                let error = refused.expect_err("something was allowed");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            }
            confinement
        });
        let confinement = confined.join().unwrap();
        assert!(confinement.text.contains("landlock"), "{confinement:?}");
    }
}
