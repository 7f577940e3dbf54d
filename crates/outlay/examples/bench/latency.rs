//! From publishing an event to another client seeing the decision, beside a bare hop through the same broker in the same seconds.
//!
//! Every probe is the first event of a user whose budget is one request, so each brings exactly one decision. Probes and hops take turns
//! while events of others pass at a steady rate; both use the same producer and the same consumer settings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use chrono::{SecondsFormat, Utc};
use event_log::topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;

use crate::events::{self, PROBE_BUDGET, PROBE_NAMESPACE, probe_user, scramble};

/// The topic of the bare hop.
pub const HOP_TOPIC: &str = "bench.hop";
/// From one probe to the next; hops lie in between.
const PERIOD: Duration = Duration::from_millis(20);
/// The first ones find connections, metadata and caches cold; they are not counted.
const WARM_UP: usize = 50;
/// How long the last answers are waited for.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Events of others have numbers from here on, so that their ids are new.
const BACKGROUND_FROM: u64 = 1 << 32;

/// Sorted times.
pub struct Latencies {
    hop: Vec<Duration>,
    decision: Vec<Duration>,
}

/// What a consumer saw, and when.
type Seen = (String, Instant);

/// Measures so many of each.
pub fn measure(kafka: &str, probes: usize, background: u64) -> Result<Latencies> {
    let hops = Follower::start(kafka, HOP_TOPIC, |record| record.key().map(text))?;
    let decisions = Follower::start(kafka, topics::USAGE_DECISIONS, |record| {
        let key = text(record.key()?);
        key.contains(PROBE_BUDGET).then(|| user_of(record.payload()?))?
    })?;
    let load = Background::start(kafka, background)?;
    let producer = producer(kafka)?;
    let (mut sent_hops, mut sent_probes) = (HashMap::new(), HashMap::new());
    let begun = Instant::now();
    for at in 0..probes + WARM_UP {
        // A jitter of a period's eighth, so that no rhythm of anybody's is met each time.
        let jitter = Duration::from_micros(scramble(at as u64) % (PERIOD.as_micros() as u64 / 8));
        let due = begun + PERIOD * u32::try_from(at)? + jitter;
        let (user, event) = (probe_user(at), probe_event(at));
        sleep_until(due);
        sent_hops.insert(user.clone(), send(&producer, HOP_TOPIC, &user, &event)?);
        sleep_until(due + PERIOD / 2);
        sent_probes
            .insert(user.clone(), send(&producer, topics::USAGE_EVENTS, &format!("{PROBE_NAMESPACE}/{user}"), &event)?);
    }
    let hop = hops.collect(&sent_hops)?;
    let decision = decisions.collect(&sent_probes)?;
    load.stop()?;
    Ok(Latencies { hop, decision })
}

/// Prints the table.
pub fn print(latencies: &Latencies, background: u64) {
    let (hop, decision) = (&latencies.hop, &latencies.decision);
    println!("{} decisions and {} hops while {background} events/s pass:\n", decision.len(), hop.len());
    println!("| | p50 | p99 |");
    println!("|---|--:|--:|");
    let row = |name: &str, [p50, p99]: [f64; 2]| println!("| {name} | {p50:.2} ms | {p99:.2} ms |");
    let hop = [50, 99].map(|percent| percentile_ms(hop, percent));
    let decision = [50, 99].map(|percent| percentile_ms(decision, percent));
    row("bare hop: produce to consume", hop);
    row("two of them", hop.map(|ms| 2.0 * ms));
    row("**event to decision, seen by another client**", decision);
    println!("| decision, of two hops | {:.2} | {:.2} |", decision[0] / (2.0 * hop[0]), decision[1] / (2.0 * hop[1]));
}

fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

fn probe_event(at: usize) -> String {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
    let user = probe_user(at);
    serde_json::json!({
        "id": format!("probe-{time}-{at}"), "source": "bench", "time": time, "namespace": PROBE_NAMESPACE, "user": user,
        "provider": "openai", "model": "gpt-5.1", "tokens": {"input": 900, "output": 80}, "requests": 1,
    })
    .to_string()
}

fn user_of(decision: &[u8]) -> Option<String> {
    let decision: serde_json::Value = serde_json::from_slice(decision).ok()?;
    Some(decision["scope"]["user"].as_str()?.to_owned())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The settings of Outlay's own publisher.
fn producer(kafka: &str) -> Result<ThreadedProducer<DefaultProducerContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("enable.idempotence", "true").set("partitioner", "murmur2_random");
    Ok(config.set("linger.ms", "0").set("sticky.partitioning.linger.ms", "0").create()?)
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, key: &str, value: &str) -> Result<Instant> {
    let sent = Instant::now();
    producer.send(BaseRecord::to(topic).key(key).payload(value)).map_err(|(error, _)| anyhow!("{topic}: {error}"))?;
    Ok(sent)
}

fn sleep_until(due: Instant) {
    sleep(due.saturating_duration_since(Instant::now()));
}

/// A consumer with a thread of its own that notes when it sees what.
struct Follower {
    seen: Receiver<Seen>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
    topic: &'static str,
}

impl Follower {
    /// Follows from the topic's end; ready when this returns.
    fn start(
        kafka: &str,
        topic: &'static str,
        name: impl Fn(&rdkafka::message::BorrowedMessage<'_>) -> Option<String> + Send + 'static,
    ) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka).set("group.id", "bench-follower").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.set("fetch.wait.max.ms", "50").create()?;
        let (_, end) = consumer.fetch_watermarks(topic, 0, LAST_ANSWER)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(end))?;
        consumer.assign(&list)?;
        drop(list);
        let (sender, seen) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || follow(&consumer, &stopped, &sender, name));
        Ok(Self { seen, stop, thread, topic })
    }

    /// Waits for everything that was sent; how long each took, sorted, without the first ones.
    fn collect(self, sent: &HashMap<String, Instant>) -> Result<Vec<Duration>> {
        let mut took = HashMap::new();
        while took.len() < sent.len() {
            let (name, at) = self.seen.recv_timeout(LAST_ANSWER).with_context(|| {
                format!("{}: {} of {} were never seen", self.topic, sent.len() - took.len(), sent.len())
            })?;
            if let Some(sent) = sent.get(&name) {
                took.entry(name).or_insert_with(|| at.duration_since(*sent));
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a follower panicked"))??;
        let mut counted: Vec<_> = (WARM_UP..sent.len()).filter_map(|at| took.get(&probe_user(at)).copied()).collect();
        counted.sort_unstable();
        Ok(counted)
    }
}

fn follow(
    consumer: &BaseConsumer,
    stop: &AtomicBool,
    seen: &Sender<Seen>,
    name: impl Fn(&rdkafka::message::BorrowedMessage<'_>) -> Option<String>,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        if let Some(record) = consumer.poll(Duration::from_millis(50)) {
            let (record, at) = (record?, Instant::now());
            if let Some(name) = name(&record) {
                // The receiver ends first only where the run has failed.
                let _failed = seen.send((name, at));
            }
        }
    }
    Ok(())
}

/// Events of others at a steady rate.
struct Background {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Background {
    fn start(kafka: &str, per_second: u64) -> Result<Self> {
        let producer = producer(kafka)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || pass(&producer, &stopped, per_second));
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the background load panicked"))?
    }
}

fn pass(producer: &ThreadedProducer<DefaultProducerContext>, stop: &AtomicBool, per_second: u64) -> Result<()> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        events::write(BACKGROUND_FROM + number, Utc::now(), &mut key, &mut value)?;
        producer
            .send(BaseRecord::to(topics::USAGE_EVENTS).key(&key).payload(&value))
            .map_err(|(error, _)| anyhow!("background: {error}"))?;
        number += 1;
        sleep_until(begun + Duration::from_nanos(number * 1_000_000_000 / per_second.max(1)));
    }
    producer.flush(LAST_ANSWER)?;
    let rate = number as f64 / begun.elapsed().as_secs_f64();
    ensure!(
        rate > 0.9 * per_second as f64,
        "only {rate:.0} events/s passed beside; the machine is too busy to measure"
    );
    Ok(())
}
