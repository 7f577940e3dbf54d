//! The same binary against a real Apache Kafka: topics with the right policies, and the main job over them.

#![allow(clippy::unwrap_used, reason = "a failing step fails its test")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::json;

use crate::common::events::{event, event_with, zone_without_midnight};
use crate::common::sse::Stream;
use crate::common::{PATIENCE, Server, kafka, repository, wait_until_eq};

/// A broker of this test's own; it also ends when this process is gone, however that ends.
struct Broker {
    folder: PathBuf,
    address: String,
}

impl Broker {
    fn start() -> Self {
        let pid = std::process::id().to_string();
        let folder = std::env::temp_dir().join(format!("outlay-test-kafka-{pid}"));
        let output = Command::new(repository("scripts/kafka.sh"))
            .args(["start", "--port", "0", "--heap", "384m", "--owner", &pid, "--dir", folder.to_str().unwrap()])
            .output()
            .expect("this test needs bash");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success(),
            "this test needs a real Kafka (Java 17 and, for the first run, Maven):\n{said}"
        );
        Self { folder, address: String::from_utf8(output.stdout).unwrap().trim().to_owned() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _stopped = Command::new(repository("scripts/kafka.sh"))
            .args(["stop", "--dir", self.folder.to_str().unwrap()])
            .output();
    }
}

fn settings(broker: &Broker, topic: &str) -> BTreeMap<String, String> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let described = runtime.block_on(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options)).unwrap();
    let entries = described.into_iter().next().unwrap().unwrap().entries;
    entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

fn partitions(broker: &Broker) -> BTreeMap<String, usize> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &broker.address).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect()
}

#[test]
fn on_a_real_kafka_an_event_becomes_a_balance_a_decision_and_a_row_and_a_restart_goes_on() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let (data, budgets) = (dir.path().join("data"), dir.path().join("budgets.yaml"));
    let zone = zone_without_midnight();
    let text = format!(
        "budgets:\n  - id: shop-daily\n    match: {{ namespace: shop }}\n    window: {{ every: day, zone: {zone} }}\n    limit: {{ tokens: 100 }}\n    alerts: {{ at: [0.8], to: [a@example.com] }}\n"
    );
    std::fs::write(&budgets, text).unwrap();
    let args = [
        "--kafka",
        &broker.address,
        "--partitions",
        "6",
        "--budgets",
        budgets.to_str().unwrap(),
        "--commit-interval-ms",
        "200",
    ];
    let server = Server::launch(&data, &args);
    assert_eq!(server.log, broker.address);
    let status = server.get_json("/v1/status");
    assert_eq!((&status["log"]["kind"], &status["log"]["partitions"]), (&json!("kafka"), &json!(6)), "{status}");

    let topics = partitions(&broker);
    assert_eq!(
        (topics["usage.events"], topics["usage.rejected"], topics["usage.decisions"], topics["usage.alerts"]),
        (6, 6, 1, 1)
    );
    for (topic, policy) in [
        ("usage.events", "delete"),
        ("usage.rejected", "delete"),
        ("usage.decisions", "compact"),
        ("usage.alerts", "compact"),
    ] {
        let settings = settings(&broker, topic);
        assert_eq!(
            (settings["cleanup.policy"].as_str(), settings["message.timestamp.type"].as_str()),
            (policy, "LogAppendTime"),
            "{topic}"
        );
    }

    // By a Kafka client, over HTTP, one wrong, one twice.
    let (stream, _) = Stream::open(&server);
    let first = event_with("one", "shop", 60, json!({"user": "u-1"})).to_string();
    let records: [(&str, &[u8]); 4] = [("a", first.as_bytes()), ("", b"{}"), ("b", first.as_bytes()), ("", b"")];
    kafka::publish(&broker.address, "usage.events", &records);
    server.post_event(&event("two", "shop", 40));
    let decision = stream.decision("shop-daily");
    assert_eq!(
        (&decision["state"], &decision["used"], &decision["seq"]),
        (&json!("blocked"), &json!("100"), &json!(1))
    );
    assert_eq!(server.check(&[("namespace", "shop")]).status, 403);
    assert_eq!(server.used(&[("namespace", "shop")], "month", "tokens").as_deref(), Some("100"));
    assert_eq!(server.sql("select id, total_tokens from usage order by id").len(), 2);
    wait_until_eq("the decision on the topic", &Some(decision.clone()), || {
        kafka::latest(&broker.address, "usage.decisions").remove("shop-daily|namespace=shop")
    });
    wait_until_eq("dead letters", &2, || kafka::read_topic(&broker.address, "usage.rejected").len());
    wait_until_eq("rows in the lake", &json!(2), || server.get_json("/v1/status")["lake"]["rows"].clone());
    wait_until_eq("mails", &1, || server.get_json("/v1/status")["mails"].as_array().unwrap().len());
    wait_until_eq("alerts", &1, || kafka::read_topic(&broker.address, "usage.alerts").len());
    the_groups_offsets_are_shown(&broker, 5);

    // Killed; events come in meanwhile.
    server.kill();
    let more: Vec<String> = (0..200).map(|at| event(&format!("meanwhile-{at}"), "lab", 1).to_string()).collect();
    let records: Vec<(&str, &[u8])> = more.iter().chain([&first]).map(|event| ("", event.as_bytes())).collect();
    kafka::publish(&broker.address, "usage.events", &records);
    let server = Server::launch(&data, &args);
    // Ready means: everything that was in the log at the start is counted.
    assert_eq!(server.used(&[("namespace", "lab")], "month", "tokens").as_deref(), Some("200"));
    assert_eq!(server.used(&[("namespace", "shop")], "month", "tokens").as_deref(), Some("100"));
    assert_eq!(server.check(&[("namespace", "shop")]).status, 403);
    assert_eq!(server.sql("select count(*) as n from usage")[0]["n"], 202);
    server.post_event(&event("last", "shop", 1));
    wait_until_eq("tokens", &Some("101".to_owned()), || server.used(&[("namespace", "shop")], "month", "tokens"));
    assert_eq!(kafka::read_topic(&broker.address, "usage.decisions").len(), 1, "a restart decides nothing anew");
    assert_eq!(kafka::read_topic(&broker.address, "usage.alerts").len(), 1);
    assert!(server.stop().success());
    let (sound, said) = common::server::verify(&data);
    assert!(sound, "{said}");
}

/// What tools show as lag: the offsets of group `outlay-usage.events` reach the number of records.
fn the_groups_offsets_are_shown(broker: &Broker, records: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker.address)
        .set("group.id", "outlay-usage.events")
        .create()
        .unwrap();
    let mut wanted = rdkafka::TopicPartitionList::new();
    wanted.add_partition_range("usage.events", 0, 5);
    // Offsets in force, by partition; those that were never committed are no offsets.
    wait_until_eq("the sum of committed offsets", &records, || {
        // A broker that has just started may have no coordinator for groups yet.
        let committed = consumer.committed_offsets(wanted.clone(), PATIENCE).unwrap_or_default();
        committed.elements().iter().filter_map(|element| element.offset().to_raw()).filter(|offset| *offset > 0).sum()
    });
}
