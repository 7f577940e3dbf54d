//! The real binary, started as a user starts it, and its neighbours: HTTP and Kafka clients that share no code with it.
//!
//! Everything waits by looking, with a deadline; nothing sleeps and hopes. A server ends with the value that holds it.

#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]

mod beside;
pub mod browser;
pub mod events;
#[path = "../../../../tests/free_port.rs"]
mod free_port;
pub mod kafka;
pub mod registry;
pub mod server;
pub mod smtp;
pub mod sse;

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use beside::Beside;
pub use free_port::free_port;
pub use server::{Answer, Server};

/// Long enough for a busy machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until there is something, at most [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// Looks until there is something, at most so long.
#[track_caller]
pub fn wait_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "within {patience:?} there was no: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Looks until it is this; the panic shows what it was instead.
#[track_caller]
pub fn wait_until_eq<T: PartialEq + Debug>(what: &str, expected: &T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found == *expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: within {PATIENCE:?}\n  found    {found:?}\n  expected {expected:?}"
        );
        std::thread::sleep(LOOK);
    }
}

/// A Python with the packages of `tests/requirements.txt`; `./dev test` makes one.
#[track_caller]
pub fn python() -> PathBuf {
    let found = std::env::var_os("OUTLAY_TEST_PYTHON").map_or_else(|| repository(".venv/bin/python"), PathBuf::from);
    let help = "this test needs Python with the packages of tests/requirements.txt; in the repository run:\n  python3 -m venv .venv && \
                .venv/bin/pip install -r tests/requirements.txt\nor set OUTLAY_TEST_PYTHON to another Python that has them";
    assert!(found.exists(), "{} does not exist: {help}", found.display());
    found
}

/// A file or folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().unwrap().join(path)
}

/// An exact decimal as an integer of 10⁻¹², whatever zeros it ends with.
#[track_caller]
pub fn pico(text: &str) -> i128 {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(fraction.len() <= 12, "{text} is finer than a pico-unit");
    let parse = |digits: &str| digits.parse::<i128>().unwrap_or_else(|_| panic!("{text:?} is no exact decimal"));
    sign * (parse(whole) * 1_000_000_000_000 + parse(&format!("{fraction:0<12}")))
}
