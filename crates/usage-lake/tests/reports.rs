//! Reports: their rows add up exactly to the total, in the zone that was asked for.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use support::{mixed_unit, open, unit};
use usage_lake::{Format, QueryConfig, QueryInput, QueryPool, Report, ReportEdges, ReportRequest, Tail};
use usage_types::{Dimension, DimensionSet, Pico, TimeUs};

fn pool() -> QueryPool {
    QueryPool::new(QueryConfig {
        program: env!("CARGO_BIN_EXE_test-query-worker").into(),
        arguments: vec![],
        warm: 1,
        running_max: 2,
        waiting_max: 8,
        memory_mib: 512,
        deadline: Duration::from_secs(30),
        rows_max: 100_000,
        bytes_max: 16 << 20,
        threads: 2,
    })
}

async fn run(pool: &QueryPool, input: &QueryInput, name: &str, request: &ReportRequest) -> Vec<serde_json::Value> {
    let sql = Report::find(name).unwrap().render(request).unwrap();
    let output = pool.query(&sql, input.clone(), Format::Json).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&output.bytes).unwrap()
}

fn request(period: &str, zone: &str, group_by: &str) -> ReportRequest {
    ReportRequest::of(&[("period", period), ("zone", zone), ("group_by", group_by)])
}

fn money(rows: &[serde_json::Value]) -> i128 {
    rows.iter().filter_map(|row| row["cost"].as_str()).map(|text| text.parse::<Pico>().unwrap().0).sum()
}

fn sum(rows: &[serde_json::Value], column: &str) -> i64 {
    rows.iter().map(|row| row[column].as_i64().unwrap()).sum()
}

/// A lake with offsets 0..300 of partition 0 committed and 300..350 in the tail.
async fn input(folder: &std::path::Path) -> QueryInput {
    let mut lake = open(folder).await;
    let files = lake.commit(unit(0, 0..300)).await.unwrap().files;
    QueryInput::of_lake(&files, Tail { usage: support::rows(0, 300..350), ..Tail::default() }).unwrap()
}

#[tokio::test]
async fn chargeback_adds_up_to_the_last_pico_however_it_is_grouped() {
    let folder = tempfile::tempdir().unwrap();
    let (input, pool) = (input(folder.path()).await, pool());
    let cost: i128 = (0..350).filter_map(support::cost).map(|cost| cost.amount.0).sum();
    let tokens: u64 = (0..350).map(|offset| support::event(0, offset).tokens.total()).sum();
    for (group_by, groups) in [("", 1), ("namespace", 3), ("namespace,team", 18), ("user , model", 97)] {
        let rows = run(&pool, &input, "chargeback", &request("2026-11", "Europe/Berlin", group_by)).await;
        assert_eq!(money(&rows), cost, "grouped by {group_by}");
        assert_eq!(sum(&rows, "total_tokens") as u64, tokens);
        let classes = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"];
        let classes = classes.into_iter().chain(["output_tokens", "reasoning_tokens"]);
        assert_eq!(classes.map(|class| sum(&rows, class)).sum::<i64>() as u64, tokens);
        assert_eq!((sum(&rows, "events"), sum(&rows, "requests"), sum(&rows, "unpriced_events")), (350, 350, 35));
        let priced = rows.iter().filter(|row| row["currency"] == "USD").count();
        assert_eq!(priced, groups, "grouped by {group_by}");
        // What has no price is in rows of its own, never free among the others.
        assert!(rows.iter().all(|row| row["currency"].is_null() == (row["cost"].is_null())));
    }
    let none = run(&pool, &input, "chargeback", &request("2026-10", "", "namespace")).await;
    assert_eq!(none.len(), 0);
}

#[tokio::test]
async fn the_sums_that_charges_are_made_of_add_up_to_the_chargeback_and_keep_prices_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (input, pool) = (input(folder.path()).await, pool());
    let chargeback = run(&pool, &input, "chargeback", &request("2026-11", "", "")).await;
    let plain = run(&pool, &input, "focus", &request("2026-11", "", "")).await;
    let time = |text: &str| TimeUs::parse_rfc3339(text).unwrap();
    let edges = ReportEdges {
        // The first begins a day, which is told apart anyway.
        times: vec![time("2026-11-21T00:00:00Z"), time("2026-11-21T00:00:00.2Z")],
        input_tokens: vec![1000, 1400],
        dimensions: DimensionSet::of(&[Dimension::User]),
        shared: None,
    };
    let apart = run(&pool, &input, "focus", &ReportRequest { edges, ..request("2026-11", "", "") }).await;
    for rows in [&plain, &apart] {
        assert_eq!(money(rows), money(&chargeback));
        assert_eq!(sum(rows, "events"), 350);
        assert_eq!(sum(rows, "total_tokens"), sum(&chargeback, "total_tokens"));
    }
    let values = |rows: &[serde_json::Value], column: &str| -> std::collections::BTreeSet<String> {
        rows.iter().map(|row| row[column].to_string()).collect()
    };
    assert_eq!((values(&plain, "price_span").len(), values(&plain, "prompt_band").len()), (1, 1));
    assert!(values(&apart, "price_span").len() == 2 && values(&apart, "prompt_band").len() == 2, "{apart:?}");
    assert!(values(&apart, "user").len() > 1 && plain[0].get("user").is_none());
    assert_eq!(values(&apart, "is_correction").into_iter().collect::<Vec<_>>(), ["false"]);
}

#[tokio::test]
async fn a_day_is_that_of_the_zone() {
    let folder = tempfile::tempdir().unwrap();
    let (input, pool) = (input(folder.path()).await, pool());
    // Offset 99, 199 and 299 are of the day before in UTC; nine hours east all events are of the 21st.
    for (day, zone, events) in [
        ("2026-11-20", "UTC", 3),
        ("2026-11-21", "UTC", 347),
        ("2026-11-20", "America/New_York", 347),
        ("2026-11-21", "Asia/Tokyo", 347),
        ("2026-11-20", "Asia/Tokyo", 3),
    ] {
        let rows = run(&pool, &input, "chargeback", &request(day, zone, "")).await;
        assert_eq!(sum(&rows, "events"), events, "{day} in {zone}");
    }
    let rows = run(&pool, &input, "showback", &request("2026-11", "America/New_York", "namespace")).await;
    let days: std::collections::BTreeSet<_> = rows.iter().map(|row| row["day"].as_str().unwrap().to_owned()).collect();
    assert_eq!(days.into_iter().collect::<Vec<_>>(), ["2026-11-19", "2026-11-20"]);
    assert_eq!(sum(&rows, "events"), 350);
}

/// The columns that reports ask for of the server's view of invoices.
fn invoices() -> SchemaRef {
    let money = DataType::Decimal128(38, 12);
    let columns = [("provider", DataType::Utf8), ("month", DataType::Date32), ("day", DataType::Date32)];
    let more =
        [("model", DataType::Utf8), ("total_tokens", DataType::Int64), ("cost", money), ("currency", DataType::Utf8)];
    let field = |(name, kind): (&str, DataType)| Field::new(name, kind, true);
    Arc::new(Schema::new(columns.into_iter().chain(more).map(field).collect::<Vec<_>>()))
}

#[tokio::test]
async fn every_report_runs_with_and_without_groups() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    let files = lake.commit(mixed_unit(0)).await.unwrap().files;
    let input = QueryInput::of_lake(&files, Tail::default()).unwrap().with_table("invoices", invoices(), Vec::new());
    let pool = pool();
    for report in Report::all() {
        let plain = ReportRequest::of(&[("period", "2026")]);
        assert!(!run(&pool, &input, report.name, &plain).await.is_empty(), "{} is empty", report.name);
        if report.parameters.iter().any(|parameter| parameter.name == "group_by") {
            let all = Dimension::ALL.map(Dimension::name).join(",");
            let rows = run(&pool, &input, report.name, &request("2026", "Europe/Berlin", &all)).await;
            assert!(rows[0].get("user").is_some(), "{}: {}", report.name, rows[0]);
        }
    }
    let unpriced = run(&pool, &input, "unpriced", &request("2026-11", "", "")).await;
    assert_eq!((unpriced[0]["model"].as_str(), sum(&unpriced, "events")), (Some("gpt-5.1"), 1));
    assert_eq!(unpriced[0]["reason"].as_str(), Some("unknown_model"));
    let rejected = run(&pool, &input, "rejected", &ReportRequest::of(&[("period", "2026-11")])).await;
    assert_eq!((rejected[0]["code"].as_str(), sum(&rejected, "events")), (Some("negative"), 1));
}
