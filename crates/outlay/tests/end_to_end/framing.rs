//! Records of Confluent's own serializers: counted as the same events in JSON, with a schema registry and without one, and never lost while a
//! registry is away.

use serde_json::{Value, json};

use crate::common::events::{event, event_with};
use crate::common::registry::{self, Registry};
use crate::common::server::assert_sound;
use crate::common::{Server, free_port, kafka, wait_for, wait_until_eq};

const FORMATS: [&str; 3] = ["avro", "protobuf", "json"];

/// An event with everything, one without tokens, and one that takes the first one's place.
fn events(format: &str) -> [Value; 3] {
    let tokens = json!({"input": 900, "cache_read": 300, "cache_write_5m": 20, "cache_write_1h": 10, "output": 80, "reasoning": 40});
    let all = json!({"source": "gateway", "team": "agents", "repository": "acme/bot", "user": "u-1", "api_key": "k-1", "agent": "a",
        "session": "s", "task": "t", "job": "j", "provider": "openai", "model": "gpt-5.1", "operation": "chat",
        "service_tier": "flex", "tokens": tokens, "requests": 2, "tool_calls": 3, "images": 4, "compute_seconds": "1.5",
        "cost": {"amount": "0.000000000123", "currency": "EUR"}, "tags": {"env": "ci"}});
    let mut bare = event_with(&format!("{format}-2"), format, 0, json!({"source": "gateway", "tool_calls": 7}));
    bare.as_object_mut().unwrap().remove("tokens");
    let corrects = json!({"source": "gateway", "corrects": format!("{format}-2"), "tool_calls": 5, "requests": 0});
    let mut amendment = event_with(&format!("{format}-3"), format, 0, corrects);
    amendment.as_object_mut().unwrap().remove("tokens");
    [event_with(&format!("{format}-1"), format, 0, all), bare, amendment]
}

/// What each format comes to, and that each said all of it.
#[track_caller]
fn check_counted(server: &Server, formats: &[&str]) {
    let rows = "select kind, id, source, team, repository, user, api_key, agent, session, task, job, provider, model, operation, service_tier, \
                input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, requests, \
                tool_calls, images, cost, currency, tags, corrects from usage";
    let rows_of = |format: &str| {
        let query = format!("{rows} where namespace = '{format}' order by id, kind");
        let rows = server.sql(&query);
        serde_json::from_str::<Value>(&json!(rows).to_string().replace(&format!("{format}-"), "")).unwrap()
    };
    for format in formats {
        wait_until_eq(&format!("rows of {format}"), &4, || rows_of(format).as_array().unwrap().len());
    }
    // The same events as JSON without a prefix.
    let places: Vec<Vec<u8>> = events("plain").iter().map(|event| event.to_string().into_bytes()).collect();
    kafka::publish(
        &server.log,
        "usage.events",
        &places.iter().map(|value| ("k", value.as_slice())).collect::<Vec<_>>(),
    );
    wait_until_eq("rows of plain JSON", &4, || rows_of("plain").as_array().unwrap().len());
    let plain = rows_of("plain");
    assert_eq!(plain[0]["cache_write_1h_tokens"], 10, "{plain}");
    for format in formats {
        assert_eq!(rows_of(format), plain, "{format}");
    }
}

#[test]
fn without_a_registry_the_published_schemas_are_taken_as_the_writers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--commit-interval-ms", "200"]);
    // Avro is what a prefix means unless told otherwise.
    for (format, content_type) in
        [("avro", None), ("protobuf", Some("application/x-protobuf")), ("json", Some("application/json"))]
    {
        registry::publish(format, "mock://", &server.log, &events(format), content_type);
    }
    check_counted(&server, &FORMATS);
    assert_eq!(server.get_json("/v1/status")["totals"]["rejected"], 0);
    assert!(server.stop().success());
}

#[test]
fn with_a_registry_each_record_is_read_by_the_schema_of_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(&dir.path().join("schemas.json"), free_port());
    let server =
        Server::start(&dir.path().join("data"), &["--commit-interval-ms", "200", "--schema-registry", &registry.url]);
    for format in FORMATS {
        registry::publish(format, &registry.url, &server.log, &events(format), None);
    }
    check_counted(&server, &FORMATS);
    // Members that came later are read, too.
    for format in FORMATS {
        let progress = json!({"job": format, "processed": 820, "total": 1000});
        registry::publish(
            format,
            &registry.url,
            &server.log,
            &[event_with(&format!("{format}-4"), "jobs", 1, progress)],
            None,
        );
    }
    let told = || server.sql("select job, processed, total from usage where namespace = 'jobs' order by job");
    let expected = FORMATS.map(|format| json!({"job": format, "processed": 820, "total": 1000}));
    let mut expected = expected.to_vec();
    expected.sort_by_key(|row| row["job"].to_string());
    wait_until_eq("progress", &json!(expected), || json!(told()));

    // An id that nobody registered costs no neighbour, and neither does what is not written with its schema.
    let good = event("good", "good", 5).to_string();
    let records: [(&str, &[u8]); 4] = [
        ("k", b"\0\0\0\x03\xe7abc"),
        ("k", good.as_bytes()),
        ("k", b"\0\0\0\0\x01\xff"),
        ("k", b"\0\xff\xff\xff\xffabc"),
    ];
    kafka::publish(&server.log, "usage.events", &records);
    wait_until_eq("dead letters", &3, || kafka::read_topic(&server.log, "usage.rejected").len());
    let mut letters: Vec<Value> =
        kafka::read_topic(&server.log, "usage.rejected").iter().map(kafka::Record::json).collect();
    letters.sort_by_key(|letter| letter["offset"].as_i64());
    let codes: Vec<&Value> = letters.iter().map(|letter| &letter["code"]).collect();
    assert_eq!(codes, ["unknown_schema", "bad_encoding", "unknown_schema"]);
    assert!(letters[0]["message"].as_str().unwrap().contains("the id 999"), "{}", letters[0]);
    assert_eq!(server.used(&[("namespace", "good")], "month", "tokens").as_deref(), Some("5"));
    // Each id was asked for once; the last one can be none of a registry.
    assert_eq!(server.metric::<u64>("outlay_schema_fetches_total{kind=\"found\"}"), 3);
    assert_eq!(server.metric::<u64>("outlay_schema_fetches_total{kind=\"unknown\"}"), 2);
    assert_sound(server, &dir.path().join("data"));
}

#[test]
fn while_the_registry_is_away_its_partitions_wait_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (file, port) = (dir.path().join("schemas.json"), free_port());
    let (data, url) = (dir.path().join("data"), registry::url(port));
    let args = ["--commit-interval-ms", "200", "--schema-registry", &url];
    let server = Server::start(&data, &args);
    {
        // Another process with the same schemas, which only the producer knows.
        let elsewhere = Registry::start(&file, free_port());
        registry::publish("avro", &elsewhere.url, &server.log, &[event("framed", "lab", 1)], None);
        registry::publish("protobuf", &elsewhere.url, &server.log, &[event("framed-2", "lab", 10)], None);
    }
    let behind = event("behind", "lab", 100).to_string();
    let (held, _) = kafka::publish(&server.log, "usage.events", &[("k", behind.as_bytes())])[0];
    let beside: Vec<(String, String)> =
        (0..32).map(|at| (format!("key-{at}"), event(&format!("beside-{at}"), "other", 1).to_string())).collect();
    let records: Vec<(&str, &[u8])> = beside.iter().map(|(key, value)| (key.as_str(), value.as_bytes())).collect();
    let places = kafka::publish(&server.log, "usage.events", &records);
    let elsewhere = places.iter().filter(|(partition, _)| *partition != held).count();
    assert!((1..32).contains(&elsewhere), "{places:?}");

    wait_until_eq("the other partitions", &Some(elsewhere.to_string()), || {
        server.used(&[("namespace", "other")], "month", "tokens")
    });
    let answer = wait_for("an unready server", || Some(server.get("/readyz")).filter(|answer| answer.status != 200));
    assert!(answer.text().contains("schema registry does not give schema 1"), "{}", answer.text());
    assert_eq!(server.metric::<u64>("outlay_partitions_held"), 1);
    wait_for("two failed questions", || {
        (server.metric::<u64>("outlay_schema_fetches_total{kind=\"failed\"}") >= 2).then_some(())
    });
    assert_eq!(server.used(&[("namespace", "lab")], "month", "tokens"), None);
    assert!(
        server.logged().contains("schema registry") && !server.logged().contains("secret"),
        "the password is in the log"
    );

    // A crash meanwhile loses nothing: the offsets were not passed over.
    server.kill();
    let server = Server::launch_without_waiting(&data, &[&["--log", "127.0.0.1:0"][..], &args].concat());
    wait_until_eq("a partition that waits again", &1, || server.metric::<u64>("outlay_partitions_held"));
    let registry = Registry::start(&file, port);
    let server = server.until_ready();
    wait_until_eq("all of them", &Some("111".to_owned()), || server.used(&[("namespace", "lab")], "month", "tokens"));
    wait_until_eq("all others", &Some("32".to_owned()), || server.used(&[("namespace", "other")], "month", "tokens"));
    assert_eq!(server.metric::<u64>("outlay_partitions_held"), 0);
    // Reading goes on behind what waited.
    registry::publish("avro", &registry.url, &server.log, &[event("later", "lab", 1000)], None);
    wait_until_eq("what came later", &Some("1111".to_owned()), || {
        server.used(&[("namespace", "lab")], "month", "tokens")
    });
    let rows = server.sql("select id from usage where namespace = 'lab' order by \"offset\"");
    assert_eq!(rows, ["framed", "framed-2", "behind", "later"].map(|id| json!({"id": id})));
    assert_eq!(server.get_json("/v1/status")["totals"]["rejected"], 0);
    assert_sound(server, &data);
}
