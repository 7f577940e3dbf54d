//! What happens to a reader and a publisher while their broker is away, and when it comes back with a damaged log.

use std::fs;
use std::time::{Duration, Instant};

use event_log::{EventReader, LogError, Publisher, ensure_topics};

use crate::broker::{OwnBroker, OwnedRecord, PATIENCE, at, block_on, read, read_until_error, spec};

fn values(records: &[OwnedRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap()).collect()
}

#[test]
fn a_broker_restart_ends_nothing_and_a_damaged_batch_stops_the_reader_before_it() {
    let broker = OwnBroker::start("restart");
    block_on(ensure_topics(&broker.config(), &[spec("kept", 1, &[]), spec("damaged", 1, &[])])).unwrap();
    let publisher = Publisher::open(&broker.config()).unwrap();
    let publish = |topic, text: &str| publisher.publish(topic, b"k", Some(text.as_bytes()), &[], None).unwrap();
    publish("kept", "before");
    // Each in a batch of its own.
    for text in ["first-record", "second-record", "third-record"] {
        publish("damaged", text);
        publisher.flush(PATIENCE).unwrap();
    }
    let mut reader = EventReader::open(&broker.config(), "kept", &[]).unwrap();
    assert_eq!(values(&read(&mut reader, 1)), ["before"]);
    assert_eq!(reader.last_trouble(), None);

    broker.stop();
    let deadline = Instant::now() + PATIENCE;
    while reader.last_trouble().is_none() {
        assert!(Instant::now() < deadline, "the broker is away, and nobody says so");
        assert!(reader.poll_batch(10, Duration::from_millis(100)).unwrap().is_empty());
    }
    publish("kept", "meanwhile");
    let segment = broker.dir.join("data/damaged-0/00000000000000000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    let place = bytes.windows(13).position(|window| window == b"second-record").unwrap();
    bytes[place] ^= 1;
    fs::write(&segment, bytes).unwrap();

    broker.start_again();
    publish("kept", "after");
    publisher.flush(5 * PATIENCE).unwrap();
    assert_eq!(values(&read(&mut reader, 2)), ["meanwhile", "after"]);

    let mut reader = EventReader::open(&broker.config(), "damaged", &[]).unwrap();
    let (records, error) = read_until_error(&mut reader);
    assert!(
        matches!(&error, LogError::Unreadable { topic, partition: 0, offset: 1, reason } if topic == "damaged" && reason.contains("CRC")),
        "{error}"
    );
    assert_eq!(values(&records), ["first-record"]);
    // Behind the damage the log can be read, for whoever decides to.
    let mut reader = EventReader::open(&broker.config(), "damaged", &[at(0, 2)]).unwrap();
    assert_eq!(values(&read(&mut reader, 1)), ["third-record"]);
    broker.stop();
}
