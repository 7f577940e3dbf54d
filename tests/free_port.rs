//! Ports for programs that cannot choose one by themselves, or must have the same one when they are started again.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port of loopback on which nobody listens. It is outside of the range from which the system takes ports for connections (to that very
/// port, too, while nobody listens there) and for servers that leave the choice to it, and a process gives out each only once: nobody else
/// takes it before that program does.
#[allow(clippy::unwrap_used, reason = "a failing helper fails its test")]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let last_of_range = range.split_whitespace().nth(1).and_then(|last| last.parse::<u16>().ok()).unwrap_or(60_999);
    // By default the range ends at 60,999; where it was made to go further, the ports below its usual beginning are left.
    let low = if last_of_range < 61_000 { 61_000 } else { 5_500 };
    loop {
        // Each process begins elsewhere.
        let at = std::process::id().wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = low + u16::try_from(at % 4_500).unwrap();
        // Asked by connecting, and not by listening for a moment: another thread may start a program in that moment, which then listens, too,
        // until it is that program.
        let answer = TcpStream::connect(("127.0.0.1", port));
        if answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            return port;
        }
    }
}
