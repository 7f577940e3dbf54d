//! Loops over the same topic that do less than Outlay does: the floors of its figure. Each runs in a process of its own, with the client
//! settings of Outlay's reader.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use event_log::{EventReader, LogConfig, topics};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use usage_intake::{Headers, Intake};

use crate::process::{Spent, cpu_of_tree, load_average};
use crate::{Options, PARTITIONS};

/// What a loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Loop {
    /// rdkafka's `BaseConsumer::poll`, looking at each record.
    Poll,
    /// The same, decoding each event.
    Decode,
    /// Outlay's reader, looking at each record.
    Batch,
}

/// Settings of Outlay's reader that are not librdkafka's defaults.
const READER_SETTINGS: [(&str, &str); 7] = [
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "50"),
    ("queued.min.messages", "1000000"),
    ("check.crcs", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
];

/// Runs a loop in a process of its own.
pub fn in_child(which: Loop, options: &Options) -> Result<Spent> {
    let name = which.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let output = Command::new(std::env::current_exe()?)
        .args(["--only", &name, "--kafka", &options.kafka, "--events", &options.events.to_string()])
        .arg("--data")
        .arg(&options.data)
        .output()?;
    ensure!(output.status.success(), "loop {name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("a loop printed too little")?.context("a loop printed no number");
    let spent =
        Spent { cpu: Duration::from_secs_f64(next()?), wall: Duration::from_secs_f64(next()?), events: options.events };
    eprintln!("{name}: {:.0} events per CPU-second, load {}", spent.per_cpu_second(), load_average());
    Ok(spent)
}

/// Runs a loop in this process; prints CPU and wall seconds.
pub fn run(which: Loop, kafka: &str, events: u64) -> Result<()> {
    let begun = Instant::now();
    let decoded = match which {
        Loop::Poll => poll(kafka, events, |record| record.payload().map_or(0, |value| u64::from(!value.is_empty())))?,
        Loop::Decode => {
            let intake = Intake::default();
            poll(kafka, events, |record| {
                u64::from(intake.decode_record(record.payload(), &Headers::NONE, None).is_ok())
            })?
        }
        Loop::Batch => batches(kafka, events)?,
    };
    ensure!(decoded == events, "{decoded} of {events} events were as they should be");
    println!("{} {}", cpu_of_tree(std::process::id())?.as_secs_f64(), begun.elapsed().as_secs_f64());
    Ok(())
}

fn poll(kafka: &str, events: u64, look: impl Fn(&rdkafka::message::BorrowedMessage<'_>) -> u64) -> Result<u64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka).set("group.id", "bench-loop");
    for (name, value) in READER_SETTINGS {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topics::USAGE_EVENTS, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    drop(list);
    let (mut read, mut good) = (0, 0);
    while read < events {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record?;
            std::hint::black_box((record.partition(), record.offset(), record.timestamp(), record.key()));
            good += look(&record);
            read += 1;
        }
    }
    Ok(good)
}

fn batches(kafka: &str, events: u64) -> Result<u64> {
    let mut reader = EventReader::open(&LogConfig::new(kafka, "bench-loop"), topics::USAGE_EVENTS, &[])?;
    let mut read = 0;
    while read < events {
        for record in reader.poll_batch(1024, Duration::from_millis(100))?.iter() {
            std::hint::black_box((record.partition, record.offset, record.append_time_ms, record.key, record.value));
            read += 1;
        }
    }
    Ok(read)
}
