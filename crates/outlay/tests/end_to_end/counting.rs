//! Every way in counts the same: once, with the exact cost, visible in balances, SQL and reports.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type};
use chrono::Utc;
use serde_json::{Value, json};

use crate::common::events::{event, event_with, month, now};
use crate::common::{PATIENCE, Server, kafka, pico, wait_for, wait_until_eq};

/// Per million tokens, in dollars. One token is therefore, in pico-dollars (10⁻¹² $): input 12,500, cache read 1,250, cache write
/// 15,625 (5 minutes) and 25,000 (1 hour), output and reasoning 100,000.
const PRICES: &str = r#"
currency: USD
source: https://example.com/prices
as_of: 2026-11-01
prices:
  - model: tiny-1
    provider: acme
    per_million: { input: "0.0125", cache_read: "0.00125", cache_write_5m: "0.015625", cache_write_1h: "0.025", output: "0.1" }
"#;

const SHOP: Scope = &[("namespace", "shop"), ("team", "web"), ("repository", "acme/shop")];

type Scope = &'static [(&'static str, &'static str)];

fn shop(id: &str, more: Value) -> Value {
    let mut event = json!({"id": id, "source": "test", "time": now(), "namespace": "shop", "team": "web", "repository": "acme/shop",
        "user": "u-1", "provider": "acme", "model": "tiny-1"});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// The same event as a CloudEvent: id, source and time are the envelope's.
fn cloud_event(id: &str, more: Value) -> Value {
    let mut data = shop(id, more);
    let members = data.as_object_mut().unwrap();
    let (id, source, time) = (members.remove("id"), members.remove("source"), members.remove("time"));
    json!({"specversion": "1.0", "type": "com.example.llm", "id": id, "source": source, "time": time, "data": data})
}

fn with_prices(dir: &tempfile::TempDir, args: &[&str]) -> Server {
    let prices = dir.path().join("prices.yaml");
    std::fs::write(&prices, PRICES).unwrap();
    Server::start(&dir.path().join("data"), &[&["--prices", prices.to_str().unwrap()], args].concat())
}

/// Nine events through every entrance; what each costs by hand, in pico-dollars:
///
/// | sent as | tokens | pico-dollars |
/// |---|---|---|
/// | CloudEvent, structured | 1 input | 12,500 |
/// | CloudEvents batch, first | 900 input + 300 cache read + 80 output + 40 reasoning | 11,250,000 + 375,000 + 12,000,000 |
/// | CloudEvents batch, second | 64 cache write 5 m + 8 cache write 1 h | 1,000,000 + 200,000 |
/// | CloudEvent, binary | 3 input | 37,500 |
/// | native, array, first | 10 input, with its own cost of $0.0123 | 12,300,000,000 |
/// | native, array, second | 2 input, 2 tool calls, 1.5 s of compute time | 25,000 |
/// | native, a line | 4 input | 50,000 |
/// | Kafka, native | 5 input | 62,500 |
/// | Kafka, binary CloudEvent | 6 input | 75,000 |
/// | **sum** | 1,423 | 12,325,087,500 |
const COST: &str = "0.0123250875";
const TOKENS: i64 = 1 + 1320 + 72 + 3 + 10 + 2 + 4 + 5 + 6;

fn send_everything(server: &Server) {
    let structured = cloud_event("structured", json!({"tokens": {"input": 1}}));
    let answer = server.post_events("application/cloudevents+json", structured.to_string()).expect(202).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!([])));

    let first =
        cloud_event("batch-1", json!({"tokens": {"input": 900, "cache_read": 300, "output": 80, "reasoning": 40}}));
    let second = cloud_event("batch-2", json!({"tokens": {"cache_write_5m": 64, "cache_write_1h": 8}}));
    let answer =
        server.post_events("application/cloudevents-batch+json", json!([first, second]).to_string()).expect(202);
    assert_eq!(answer.json()["accepted"], 2);

    let binary = cloud_event("binary", json!({"tokens": {"input": 3}}));
    let request = server.client().post(format!("{}/v1/events", server.url)).header("content-type", "application/json");
    let attributes = ["specversion", "type", "id", "source", "time"];
    let request = attributes
        .iter()
        .fold(request, |request, name| request.header(format!("ce-{name}"), binary[name].as_str().unwrap()));
    server.send(request.body(binary["data"].to_string())).expect(202);

    let own_cost = shop("own-cost", json!({"tokens": {"input": 10}, "cost": {"amount": "0.0123", "currency": "USD"}}));
    let other = shop("measures", json!({"tokens": {"input": 2}, "tool_calls": 2, "compute_seconds": "1.5"}));
    server.post_events("application/json", json!([own_cost, other]).to_string()).expect(202);
    server
        .post_events("application/x-ndjson", format!("{}\n", shop("line", json!({"tokens": {"input": 4}}))))
        .expect(202);

    let native = shop("kafka", json!({"tokens": {"input": 5}})).to_string();
    kafka::publish(&server.log, "usage.events", &[("any key", native.as_bytes())]);
    let binary = cloud_event("kafka-binary", json!({"tokens": {"input": 6}}));
    let data = binary["data"].to_string();
    let names = attributes.map(|name| format!("ce_{name}"));
    let mut headers: Vec<(&str, &str)> =
        attributes.iter().zip(&names).map(|(name, header)| (header.as_str(), binary[name].as_str().unwrap())).collect();
    headers.push(("content-type", "application/json"));
    kafka::publish_with_headers(&server.log, "usage.events", &[("", data.as_bytes(), headers)]);
}

#[test]
fn every_entrance_counts_alike_with_the_exact_cost_in_balances_sql_and_reports() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_prices(&dir, &[]);
    send_everything(&server);

    for scope in [&SHOP[..1], &SHOP[..2], SHOP] {
        let used = |measure| server.used(scope, "month", measure);
        wait_until_eq("tokens of all events", &Some(TOKENS.to_string()), || used("tokens"));
        assert_eq!(pico(&used("cost").unwrap()), pico(COST));
        assert_eq!(used("requests").as_deref(), Some("9"));
        assert_eq!(used("tool_calls").as_deref(), Some("2"));
        assert_eq!(pico(&used("compute_seconds").unwrap()), pico("1.5"));
        assert_eq!(used("cache_write_1h_tokens").as_deref(), Some("8"));
    }
    // Exact text, without a digit that nobody asked for.
    assert_eq!(server.used(SHOP, "month", "cost").as_deref(), Some(COST));

    let rows = server.sql("select id, source, total_tokens, cost, currency, cost_origin, user from usage order by id");
    let cost_of =
        |id: &str| rows.iter().find(|row| row["id"] == id).and_then(|row| row["cost"].as_str()).map(pico).unwrap();
    assert_eq!(rows.len(), 9, "{rows:?}");
    assert!(
        rows.iter().all(|row| row["source"] == "test" && row["currency"] == "USD" && row["user"] == "u-1"),
        "{rows:?}"
    );
    assert_eq!(cost_of("batch-1"), 11_250_000 + 375_000 + 12_000_000);
    assert_eq!(cost_of("batch-2"), 1_200_000);
    assert_eq!(cost_of("own-cost"), 12_300_000_000);
    assert_eq!(cost_of("kafka-binary"), 75_000);

    the_report_says_the_same_in_every_format(&server);
    duplicates_count_once(&server);
}

fn the_report_says_the_same_in_every_format(server: &Server) {
    let path = |format: &str| {
        format!(
            "/v1/reports/chargeback?period={}&group_by=namespace,team,repository&format={format}",
            month(Utc::now())
        )
    };
    let json = server.get(&path("json")).expect(200);
    assert_eq!(json.header("content-type"), "application/json");
    let rows = json.json();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    let row = &rows[0];
    assert_eq!(
        (&row["namespace"], &row["team"], &row["repository"]),
        (&json!("shop"), &json!("web"), &json!("acme/shop"))
    );
    assert_eq!((&row["currency"], &row["events"], &row["total_tokens"]), (&json!("USD"), &json!(9), &json!(TOKENS)));
    assert_eq!(pico(row["cost"].as_str().unwrap()), pico(COST), "{row}");

    let csv = server.get(&path("csv")).expect(200);
    assert!(csv.header("content-type").starts_with("text/csv"));
    let text = csv.text();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let cell = |name: &str| lines[1][lines[0].iter().position(|column| *column == name).unwrap()];
    assert_eq!(
        (lines.len(), cell("namespace"), cell("total_tokens")),
        (2, "shop", TOKENS.to_string().as_str()),
        "{text}"
    );
    assert_eq!(pico(cell("cost")), pico(COST), "{text}");

    let arrow = server.get(&path("arrow")).expect(200);
    let batches = arrow::ipc::reader::StreamReader::try_new(arrow.body.as_slice(), None).unwrap();
    check_columns(&batches.map(Result::unwrap).collect::<Vec<_>>());

    let parquet = server.get(&path("parquet")).expect(200);
    let bytes = bytes::Bytes::from(parquet.body);
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    check_columns(&reader.map(Result::unwrap).collect::<Vec<_>>());
}

fn check_columns(batches: &[RecordBatch]) {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let batch = batches.iter().find(|batch| batch.num_rows() == 1).expect("one row");
    let cost = batch.column_by_name("cost").unwrap().as_primitive::<Decimal128Type>();
    let tokens = batch.column_by_name("total_tokens").unwrap().as_primitive::<Int64Type>();
    assert_eq!((rows, cost.scale(), tokens.value(0)), (1, 12, TOKENS));
    assert_eq!(cost.value(0), pico(COST));
}

/// What was sent over HTTP is sent again over HTTP, over Kafka, and over Kafka under another key.
fn duplicates_count_once(server: &Server) {
    let again = shop("line", json!({"tokens": {"input": 4}}));
    server.post_event(&again);
    let bytes = again.to_string();
    kafka::publish(&server.log, "usage.events", &[("a", bytes.as_bytes()), ("b", bytes.as_bytes())]);
    // The same id from another source is another event.
    server.post_event(&shop("line", json!({"source": "elsewhere", "tokens": {"input": 4}})));
    wait_until_eq("duplicates", &3_u64, || server.metric("outlay_events_total{kind=\"duplicate\"}"));
    let expected = Some((TOKENS + 4).to_string());
    wait_until_eq("tokens", &expected, || server.used(SHOP, "month", "tokens"));
    assert_eq!(server.sql("select id from usage where id = 'line'").len(), 2);
}

#[test]
fn an_event_is_in_sql_within_a_second_long_before_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    // An hour between commits: what SQL shows is the tail.
    let server = with_prices(&dir, &["--commit-interval-ms", "3600000"]);
    let mut fastest = Duration::MAX;
    // The machine may be busy, so the best counts; slowness of our own would be in each.
    let deadline = Instant::now() + PATIENCE;
    for attempt in 0.. {
        let id = format!("fresh-{attempt}");
        let sent = event(&id, "fresh", 1).to_string();
        kafka::publish(&server.log, "usage.events", &[("", sent.as_bytes())]);
        let acknowledged = Instant::now();
        wait_for("the event in SQL", || {
            let rows = server.sql(&format!("select id, partition, \"offset\" from usage where id = '{id}'"));
            (rows.len() == 1).then_some(())
        });
        fastest = fastest.min(acknowledged.elapsed());
        if fastest < Duration::from_secs(1) {
            break;
        }
        assert!(Instant::now() < deadline, "the fastest of {attempt} events took {fastest:?}");
    }
    assert_eq!(server.get_json("/v1/status")["lake"]["rows"], 0, "a commit came between");
}

#[test]
fn a_model_without_a_price_counts_in_tokens_and_is_never_free_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let server = with_prices(&dir, &[]);
    server.post_event(&event_with("priced", "lab", 2, json!({"provider": "acme", "model": "tiny-1"})));
    server.post_event(&event_with("unpriced", "lab", 7, json!({"provider": "acme", "model": "mystery-9"})));
    // The provider matters: the same name is not the same price.
    server.post_event(&event_with("foreign", "lab", 5, json!({"provider": "other", "model": "tiny-1"})));
    // So does the service tier.
    let tiered = json!({"provider": "acme", "model": "tiny-1", "service_tier": "flex"});
    server.post_event(&event_with("tiered", "lab", 3, tiered));
    wait_until_eq("tokens", &Some("17".to_owned()), || server.used(&[("namespace", "lab")], "month", "tokens"));
    assert_eq!(server.used(&[("namespace", "lab")], "month", "cost").as_deref(), Some("0.000000025"));

    let rows = server.sql("select id, cost, currency from usage where cost is null order by id");
    assert_eq!(
        rows.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["foreign", "tiered", "unpriced"]
    );
    assert!(rows.iter().all(|row| row["cost"].is_null() && row["currency"].is_null()), "{rows:?}");
    // Figures follow what is counted.
    wait_until_eq("unpriced events", &3_u64, || server.metric("outlay_events_unpriced_total"));

    let report = server.get_json(&format!("/v1/reports/chargeback?period={}&group_by=namespace", month(Utc::now())));
    let unpriced = report.as_array().unwrap().iter().find(|row| row["cost"].is_null()).expect("a row of its own");
    assert_eq!((&unpriced["total_tokens"], &unpriced["unpriced_events"]), (&json!(15), &json!(3)), "{report}");
    let reasons = || {
        let report = server.get_json(&format!("/v1/reports/unpriced?period={}", month(Utc::now())));
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let rows = report.as_array().unwrap().iter();
        rows.map(|row| ["provider", "model", "reason"].map(|name| text(row, name)).join(" ")).collect::<BTreeSet<_>>()
    };
    let [foreign, tiered, unknown] =
        ["other tiny-1 unknown_model", "acme tiny-1 no_service_tier", "acme mystery-9 unknown_model"]
            .map(str::to_owned);
    assert_eq!(reasons(), BTreeSet::from([foreign, tiered.clone(), unknown.clone()]));

    let status = server.get_json("/v1/status");
    let mystery = status["unpriced"].as_array().unwrap().iter().find(|row| row["model"] == "mystery-9").unwrap();
    assert_eq!((&mystery["events"], &mystery["tokens"], &mystery["provider"]), (&json!(1), &json!(7), &json!("acme")));
    assert_eq!(status["totals"]["unpriced"], 3);

    // What takes a row back has its reason too, so that it goes from the list.
    server.post_event(&event_with(
        "void",
        "lab",
        0,
        json!({"corrects": "foreign", "correction": "void", "tokens": null}),
    ));
    wait_until_eq("what is left", &BTreeSet::from([tiered, unknown]), reasons);
}
