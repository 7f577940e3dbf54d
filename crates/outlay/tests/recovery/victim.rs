//! A server that is killed, and a sender that goes on until each event is acknowledged.

use std::fmt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::common::kafka::Acknowledged;
use crate::common::server::{Server, addresses, spawn};
use crate::common::{PATIENCE, wait_for};
use crate::trace::Trace;

/// `SplitMix64` (Steele, Lea, Flood 2014): a seed gives the same run again.
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// When a server is killed.
#[derive(Debug, Clone, Copy)]
pub enum Point {
    /// So long after its process was started: it may not listen yet.
    Starting(Duration),
    /// So long after it listens and events come in: it catches up, counts, decides, commits.
    Running(Duration),
    /// So long after SIGTERM, which came when it had its share: it stops.
    Stopping(Duration),
}

impl Point {
    /// One at random, mostly while it runs.
    pub fn draw(random: &mut Random) -> Self {
        match random.below(10) {
            0 | 1 => Self::Starting(Duration::from_millis(random.below(2500))),
            2 => Self::Stopping(Duration::from_millis(random.below(400))),
            _ => Self::Running(Duration::from_millis(random.below(1500))),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(after) => write!(f, "{} ms after its start", after.as_millis()),
            Self::Running(after) => write!(f, "{} ms after it listened", after.as_millis()),
            Self::Stopping(after) => write!(f, "{} ms after SIGTERM", after.as_millis()),
        }
    }
}

/// One life: starts, takes events up to a share, and is killed. What it was when it was killed.
pub fn live_and_die(data: &Path, args: &[&str], point: Point, sender: &mut Sender<'_>, share: usize) -> String {
    let mut child = spawn(data, args);
    let begun = Instant::now();
    if let Point::Starting(after) = point {
        sender.disconnect();
        // Events come in also here, from the moment that it listens.
        while begun.elapsed() < after {
            let listening = addresses(data, &child);
            match listening {
                Some(found) if !sender.is_connected() => drop(sender.connect(found["log"].as_str().unwrap())),
                Some(_) => sender.step(share),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        return if sender.is_connected() { "it listened".to_owned() } else { "it did not listen yet".to_owned() };
    }
    let log = wait_for("a server that listens", || listening(data, &mut child));
    sender.connect(&log);
    let server = Server::found(child, data);
    let begun = Instant::now();
    match point {
        Point::Starting(_) => {}
        Point::Running(after) => {
            // At a pace that lasts until the kill, so that it comes amid events.
            let first = sender.acknowledged();
            let events = share.saturating_sub(first) as u128;
            while begun.elapsed() < after {
                let due = events * begun.elapsed().as_millis() / after.as_millis().max(1);
                sender.step(first + usize::try_from(due).unwrap());
            }
        }
        Point::Stopping(after) => {
            sender.send_until(share);
            server.terminate();
            std::thread::sleep(after);
        }
    }
    let ready = server.client().get(format!("{}/readyz", server.url)).timeout(Duration::from_millis(200)).send();
    let state = match ready {
        Ok(answer) if answer.status() == 200 => "it was ready",
        Ok(_) => "it was not ready",
        Err(_) => "it did not answer any more",
    };
    server.kill();
    state.to_owned()
}

fn listening(data: &Path, child: &mut Child) -> Option<String> {
    assert!(
        child.try_wait().unwrap().is_none(),
        "the server ended by itself; see {}",
        data.join("stderr.txt").display()
    );
    Some(addresses(data, child)?["log"].as_str().unwrap().to_owned())
}

/// Publishes the trace; what is not acknowledged is published again to the next server.
pub struct Sender<'t> {
    trace: &'t Trace,
    acknowledged: Vec<bool>,
    /// All before it are acknowledged or on their way to the present server.
    next: usize,
    count: usize,
    producer: Option<Acknowledged>,
}

impl<'t> Sender<'t> {
    /// Nothing is published yet.
    pub fn new(trace: &'t Trace) -> Self {
        Self { trace, acknowledged: vec![false; trace.events.len()], next: 0, count: 0, producer: None }
    }

    /// How many events are acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.count
    }

    /// Whether there is a server to publish to.
    pub fn is_connected(&self) -> bool {
        self.producer.is_some()
    }

    /// The server is gone.
    pub fn disconnect(&mut self) {
        self.take_results();
        self.producer = None;
    }

    /// There is a new server: whatever is not acknowledged is published to it again. Returns how many of those that are acknowledged, too.
    pub fn connect(&mut self, log: &str) -> u64 {
        self.disconnect();
        self.producer = Some(Acknowledged::new(log));
        self.next = self.acknowledged.iter().position(|known| !known).unwrap_or(self.acknowledged.len());
        // And some that were acknowledged, as senders do that lost the answer: the new server must know them by its lake.
        let producer = self.producer.as_ref().expect("just made");
        let mut repeated = 0;
        let known = self.acknowledged.iter().enumerate().filter(|(_, known)| **known).map(|(at, _)| at);
        for at in known.rev().step_by(7).take(60) {
            let (key, json) = &self.trace.events[at];
            assert!(producer.send(at, "usage.events", key, json), "an empty queue takes sixty records");
            repeated += 1;
        }
        repeated
    }

    /// Publishes a few, up to the share, and takes acknowledgements in.
    pub fn step(&mut self, share: usize) {
        let producer = self.producer.as_ref().expect("a server");
        let end = share.min(self.next + 50);
        while self.next < end {
            let (key, json) = &self.trace.events[self.next];
            if !self.acknowledged[self.next] && !producer.send(self.next, "usage.events", key, json) {
                break;
            }
            self.next += 1;
        }
        std::thread::sleep(Duration::from_millis(2));
        self.take_results();
    }

    /// Publishes until so many are acknowledged.
    pub fn send_until(&mut self, share: usize) {
        // Each batch waits for the disk.
        let deadline = Instant::now() + 5 * PATIENCE;
        while self.count < share {
            assert!(Instant::now() < deadline, "{} of {share} events were acknowledged in time", self.count);
            self.step(share);
        }
    }

    fn take_results(&mut self) {
        let Some(producer) = &self.producer else { return };
        for (at, taken) in producer.settled() {
            if !taken {
                // Given up by the client: published again, perhaps a second time. It counts once.
                self.next = self.next.min(at);
            } else if !self.acknowledged[at] {
                self.acknowledged[at] = true;
                self.count += 1;
            }
        }
    }
}
