//! Whatever is wrong with an event becomes a dead letter that says what and where from; its neighbours count.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::common::events::{event, event_with};
use crate::common::server::assert_sound;
use crate::common::{Server, kafka, repository, wait_until_eq};

struct Case {
    name: String,
    value: Vec<u8>,
    code: String,
    field: Option<String>,
}

fn bad_events() -> Vec<Case> {
    let text = std::fs::read_to_string(repository("tests/data/bad-events.ndjson")).unwrap();
    text.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            let value = text("value").map(String::into_bytes);
            let value = value.unwrap_or_else(|| BASE64_STANDARD.decode(text("value_base64").unwrap()).unwrap());
            Case { name: text("case").unwrap(), value, code: text("code").unwrap(), field: text("field") }
        })
        .collect()
}

#[test]
fn every_bad_record_becomes_a_dead_letter_with_its_reason_and_costs_no_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--commit-interval-ms", "200"]);
    let mut cases = bad_events();
    assert!(cases.len() > 100);
    let large = event_with("large", "support", 1, json!({"tags": {"x": "x".repeat(300_000)}})).to_string();
    cases.push(Case { name: "too large".into(), value: large.into_bytes(), code: "too_large".into(), field: None });

    let good: Vec<String> = (0..=cases.len()).map(|at| event(&format!("good-{at}"), "good", 1).to_string()).collect();
    let mut records: Vec<(&str, &[u8])> = vec![("k", good[0].as_bytes())];
    for (case, good) in cases.iter().zip(&good[1..]) {
        // One key, so that good and bad are neighbours in one partition.
        records.extend([("k", case.value.as_slice()), ("k", good.as_bytes())]);
    }
    let places = kafka::publish(&server.log, "usage.events", &records);
    wait_until_eq("good events", &Some(good.len().to_string()), || {
        server.used(&[("namespace", "good")], "month", "tokens")
    });
    wait_until_eq("rejected", &json!(cases.len()), || server.get_json("/v1/status")["totals"]["rejected"].clone());
    assert_eq!(server.used(&[("namespace", "support")], "month", "tokens"), None, "something bad was counted");

    // Dead letters are published with the commit that has their rows.
    wait_until_eq("dead letters", &cases.len(), || kafka::read_topic(&server.log, "usage.rejected").len());
    let letters: BTreeMap<(i64, i64), kafka::Record> = kafka::read_topic(&server.log, "usage.rejected")
        .into_iter()
        .map(|record| {
            ((record.json()["partition"].as_i64().unwrap(), record.json()["offset"].as_i64().unwrap()), record)
        })
        .collect();
    let rows = server.sql("select partition, \"offset\", code, field from rejected");
    assert_eq!(rows.len(), cases.len());
    for (at, case) in cases.iter().enumerate() {
        let (partition, offset) = places[2 * at + 1];
        let letter = &letters[&(partition.into(), offset)];
        let body = letter.json();
        assert_eq!(
            (&body["code"], &body["topic"]),
            (&json!(case.code), &json!("usage.events")),
            "{}: {body}",
            case.name
        );
        assert_eq!(body["field"].as_str(), case.field.as_deref(), "{}: {body}", case.name);
        assert_eq!(letter.headers["reason_code"], case.code.as_bytes(), "{}", case.name);
        assert_eq!(letter.headers["source_offset"], offset.to_string().as_bytes(), "{}", case.name);
        assert_eq!(letter.key(), format!("usage.events/{partition}/{offset}"));
        assert_eq!(body["value_bytes"], case.value.len(), "{}", case.name);
        if case.code != "too_large" {
            assert_eq!(body["value_base64"], BASE64_STANDARD.encode(&case.value), "{}", case.name);
        }
        let row = rows.iter().find(|row| row["partition"] == partition && row["offset"] == offset).expect(&case.name);
        assert_eq!(
            (row["code"].as_str(), row["field"].as_str()),
            (Some(case.code.as_str()), case.field.as_deref()),
            "{}",
            case.name
        );
    }
    let recent = server.get_json("/v1/status")["rejections"].clone();
    assert!(recent.as_array().unwrap().len() >= 10 && recent[0]["code"].is_string(), "{recent}");
    assert_eq!(server.metric::<u64>("outlay_events_rejected_total{kind=\"too_large\"}"), 1);
    assert_sound(server, &dir.path().join("data"));
}

#[test]
fn over_http_a_problem_names_the_field_and_the_others_of_a_batch_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let mut refused = 0;
    for case in bad_events() {
        // An array is a batch here, and bytes that are no JSON at all cannot be sent as one event of a CloudEvents batch.
        if case.name == "an array of events" {
            continue;
        }
        let answer = server.post_events("application/json", case.value.clone());
        assert!((400..500).contains(&answer.status), "{}: {} {}", case.name, answer.status, answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", case.name);
        let body = answer.json();
        assert_eq!(body["code"], case.code.as_str(), "{}: {body}", case.name);
        assert_eq!(body["field"].as_str(), case.field.as_deref(), "{}: {body}", case.name);
        assert!(
            body["detail"].as_str().unwrap().len() > 10 && body["status"] == answer.status,
            "{}: {body}",
            case.name
        );
        refused += 1;
    }
    assert!(refused > 100);

    let negative = event_with("bad", "lab", 1, json!({"tokens": {"output": -1}}));
    let batch = json!([event("one", "lab", 1), negative, event("two", "lab", 2)]);
    let body = server.post_events("application/json", batch.to_string()).expect(202).json();
    assert_eq!((&body["accepted"], &body["acks"][1]["index"]), (&json!(2), &json!(2)), "{body}");
    let row = &body["rejected"][0];
    assert_eq!(
        (&row["index"], &row["code"], &row["field"]),
        (&json!(1), &json!("negative"), &json!("tokens.output")),
        "{body}"
    );
    wait_until_eq("tokens", &Some("3".to_owned()), || server.used(&[("namespace", "lab")], "month", "tokens"));
    // Nothing of what was refused at the door is in the log.
    assert_eq!(kafka::read_topic(&server.log, "usage.events").len(), 2);
    assert_eq!(server.get_json("/v1/status")["totals"]["rejected"], 0);
}

#[test]
fn an_event_older_than_the_deduplication_horizon_is_kept_apart_and_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--dedup-hours", "2"]);
    let minutes_ago = |minutes| (chrono::Utc::now() - chrono::Duration::minutes(minutes)).to_rfc3339();
    // More than an hour and the grace of five minutes: late whatever the minute of the hour is now.
    server.post_event(&event_with("late", "lab", 1, json!({"time": minutes_ago(70)})));
    server.post_event(&event_with("too late", "lab", 10, json!({"time": minutes_ago(180)})));
    server.post_event(&event("now", "lab", 100));
    wait_until_eq("rows", &2, || server.sql("select id from usage").len());
    wait_until_eq("too late", &json!(1), || server.get_json("/v1/status")["totals"]["too_late"].clone());
    let rows = server.sql("select id, late from usage order by id");
    assert_eq!(rows, [json!({"id": "late", "late": true}), json!({"id": "now", "late": false})]);
    assert_eq!(server.sql("select id, total_tokens from too_late"), [json!({"id": "too late", "total_tokens": 10})]);
}
