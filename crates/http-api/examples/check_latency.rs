//! How long `/v1/check` takes beside an empty route of axum, over HTTP on loopback, in the same run and while events are being counted behind the
//! same lock: `cargo run --release -p http-api --example check_latency [REQUESTS] [EVENTS_PER_SECOND]`.
//!
//! Each connection asks the one, then the other, so that whatever else the machine does hits both alike.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

#[path = "../tests/http/fake.rs"]
mod fake;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use budget_core::{Check, Core, CoreConfig, Input};
use http_api::{CheckAnswer, CheckReason, HttpConfig, Secret, Server};
use parking_lot::Mutex;
use usage_types::{
    BudgetSet, ComputeNs, DecisionState, Dimension, Dimensions, EventPosition, ReasonCode, Role, TimeUs, Tokens,
    UsageEvent,
};

/// Three that match every question: one with a balance for each user, and two that all share.
const BUDGETS: &str = "
budgets:
  - { id: users-hourly, per: [namespace, user], window: { every: hour, zone: UTC }, limits: [{ tokens: 1000000000 }, { requests: 1000000 }] }
  - { id: shop-daily, match: { namespace: shop }, window: { every: day, zone: Europe/Berlin }, limit: { tokens: 100000000000 } }
  - { id: company-monthly, window: { every: month, zone: UTC }, limit: { tokens: 1000000000000 } }
";
/// Users with a balance.
const USERS: u64 = 100_000;
/// Events applied at once, as the worker does.
const BATCH: u64 = 256;

fn event(number: u64) -> UsageEvent<'static> {
    let mut dimensions = Dimensions::default();
    let user = format!("u-{}", number % USERS);
    for (dimension, value) in [(Dimension::Namespace, "shop".to_owned()), (Dimension::User, user)] {
        dimensions.set(dimension, Some(value.into()));
    }
    UsageEvent {
        id: Some(number.to_string().into()),
        source: "bench".into(),
        time: fake::now(),
        dimensions,
        tokens: Tokens { input: 900, output: 80, ..Tokens::default() },
        requests: 1,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: None,
        tags: BTreeMap::new(),
        role: Role::Usage,
        progress: None,
    }
}

fn apply(core: &Mutex<Core>, from: u64) {
    let events: Vec<UsageEvent<'_>> = (from..from + BATCH).map(event).collect();
    let position = EventPosition { partition: 0, offset: 0, append_time: fake::now() };
    let inputs: Vec<Input<'_>> =
        events.iter().map(|event| Input { event, cost: None, position, restates: None }).collect();
    let mut core = core.lock();
    core.apply_batch(&inputs, &mut Vec::new());
    core.effects(fake::now());
}

fn core() -> Mutex<Core> {
    let mut core = Core::new(CoreConfig::default());
    let set = Arc::new(BudgetSet::from_yaml(BUDGETS).unwrap());
    for request in core.set_budgets(set, fake::now()) {
        core.finish_history(&request);
    }
    let core = Mutex::new(core);
    (0..USERS).step_by(BATCH as usize).for_each(|from| apply(&core, from));
    core
}

fn answer(core: &Mutex<Core>, dimensions: &Dimensions<'_>) -> CheckAnswer {
    let now = TimeUs::from(chrono::Utc::now());
    let Check::Allowed(Some(standing)) = core.lock().check(dimensions, now) else { panic!("nobody is near a limit") };
    let fill = standing.fill;
    let within = CheckReason::Decision(ReasonCode::WithinQuota);
    CheckAnswer {
        budget: Some(standing.budget.id.to_string()),
        scope: Some(standing.scope),
        measure: Some(fill.limit.measure.name().to_owned()),
        limit: Some(fill.limit.measure.format(fill.limit.amount)),
        used: Some(fill.limit.measure.format(fill.used)),
        window: Some(standing.window),
        ..CheckAnswer::of_no_budget(DecisionState::Allowed, within, 200)
    }
}

/// A connection that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
    body: Vec<u8>,
}

impl Connection {
    fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), head: String::new(), body: Vec::new() }
    }

    /// How long until the whole answer is there.
    fn ask(&mut self, request: &str) -> Duration {
        let begun = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        self.head.clear();
        while !self.head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut self.head).unwrap(), 0, "the connection ended");
        }
        assert!(self.head.starts_with("HTTP/1.1 200 "), "{}", self.head);
        let length = self.head.lines().find_map(|line| line.strip_prefix("content-length: "));
        self.body.resize(length.map_or(0, |length| length.parse().unwrap()), 0);
        self.stream.read_exact(&mut self.body).unwrap();
        begun.elapsed()
    }
}

/// Times of the empty route and of checks, in that order, over so many connections.
fn measure(addrs: [SocketAddr; 2], connections: u64, requests: u64) -> [Vec<Duration>; 2] {
    let ask = |seed: u64| {
        let mut both = addrs.map(Connection::open);
        let mut times = [Vec::new(), Vec::new()];
        for number in 0..requests / connections {
            let user = (seed * 7919 + number * 31) % USERS;
            let asked = [
                "GET / HTTP/1.1\r\nhost: bench\r\n\r\n".to_owned(),
                format!(
                    "GET /v1/check HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer fake-admin-key\r\nx-outlay-namespace: shop\r\nx-outlay-user: u-{user}\r\n\r\n"
                ),
            ];
            for ((connection, request), times) in both.iter_mut().zip(&asked).zip(&mut times) {
                times.push(connection.ask(request));
            }
        }
        times
    };
    let mut all = [Vec::new(), Vec::new()];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|seed| scope.spawn(move || ask(seed))).collect();
        for thread in threads {
            all.iter_mut().zip(thread.join().unwrap()).for_each(|(all, times)| all.extend(times));
        }
    });
    all.iter_mut().for_each(|times| times.sort());
    all
}

fn main() {
    let argument = |at: usize, default: u64| std::env::args().nth(at).map_or(default, |text| text.parse().unwrap());
    let (requests, rate) = (argument(1, 20_000), argument(2, 10_000));
    let core = Arc::new(core());

    let mut asked = Vec::new();
    let mut dimensions = event(7).dimensions;
    for user in 0..USERS {
        dimensions.set(Dimension::User, Some(format!("u-{user}").into()));
        let begun = Instant::now();
        std::hint::black_box(answer(&core, &dimensions));
        asked.push(begun.elapsed());
    }
    asked.sort();

    let engine = fake::FakeEngine::default();
    let engine = {
        let core = Arc::clone(&core);
        fake::FakeEngine { checker: Some(Box::new(move |question| answer(&core, &question.dimensions))), ..engine }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let addrs = runtime.block_on(async {
        let config = HttpConfig::new(([127, 0, 0, 1], 0).into(), Secret::new("fake-admin-key"));
        let server = Server::bind(config, Arc::new(engine)).await.unwrap();
        let addr = server.addr();
        tokio::spawn(server.run(std::future::pending()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let empty = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(|| async {}))).await });
        [empty, addr]
    });
    // Events go on being counted until the process ends.
    std::thread::spawn(move || {
        let begun = Instant::now();
        for batch in 0.. {
            let due = begun
                + Duration::from_secs(1) * u32::try_from(batch * BATCH).unwrap_or(u32::MAX)
                    / u32::try_from(rate).unwrap();
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            apply(&core, USERS + batch * BATCH);
        }
    });

    println!("{USERS} users with a balance, 3 budgets, {rate} events/s counted meanwhile; {requests} requests each\n");
    println!("| µs | p50 | p99 | p99.9 |\n|---|--:|--:|--:|");
    let row = |name: &str, times: &[Duration]| {
        let at = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)].as_nanos();
        let [p50, p99, p999] = [500, 990, 999].map(|share| format!("{}.{}", at(share) / 1000, at(share) % 1000 / 100));
        println!("| {name} | {p50} | {p99} | {p999} |");
    };
    row("the question to the core alone, with its lock", &asked);
    for connections in [1, 16] {
        measure(addrs, connections, requests / 10);
        let [empty, check] = measure(addrs, connections, requests);
        row(&format!("empty route of axum, {connections} connections"), &empty);
        row(&format!("**`/v1/check`**, {connections} connections"), &check);
    }
}
