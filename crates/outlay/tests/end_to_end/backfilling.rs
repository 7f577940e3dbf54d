//! `outlay backfill` through the real binary: files of every kind, taken in once however often they are given, equal to the same events sent
//! as they happened.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, StringArray, StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::common::server::{assert_sound, command, run};
use crate::common::{Server, wait_until_eq};

/// The horizon of the servers here, so that they take what is two days old also as it is sent.
const HOURS: [&str; 2] = ["--dedup-hours", "96"];

struct Row {
    id: String,
    time: chrono::DateTime<chrono::Utc>,
    namespace: String,
    model: Option<&'static str>,
    input: u64,
    output: Option<u64>,
    cost: Option<String>,
    tag: Option<String>,
}

/// Events of the last thirty hours, the first of them of now.
fn rows() -> Vec<Row> {
    let now = chrono::Utc::now();
    let row = |n: u64| Row {
        id: format!("e-{n}"),
        time: now - chrono::Duration::minutes(3 * i64::try_from(n).unwrap()) - chrono::Duration::microseconds(7),
        namespace: format!("team, \"{}\"", n % 3),
        model: (!n.is_multiple_of(5)).then_some(if n.is_multiple_of(2) { "gpt-5.1" } else { "nobody-knows-1" }),
        input: 100 + n,
        output: (!n.is_multiple_of(4)).then_some(n),
        cost: n.is_multiple_of(7).then(|| format!("0.{n:012}")),
        tag: n.is_multiple_of(3).then(|| format!("build {n}")),
    };
    (0..600).map(row).collect()
}

fn rfc3339(row: &Row) -> String {
    row.time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn native(row: &Row) -> String {
    let mut event = json!({"id": row.id, "source": "gw", "time": rfc3339(row), "namespace": row.namespace, "tokens": {"input": row.input}});
    if let Some(model) = row.model {
        (event["model"], event["provider"]) = (model.into(), "openai".into());
    }
    if let Some(output) = row.output {
        event["tokens"]["output"] = output.into();
    }
    if let Some(cost) = &row.cost {
        event["cost"] = json!({"amount": cost, "currency": "USD"});
    }
    if let Some(tag) = &row.tag {
        event["tags"] = json!({"build": tag});
    }
    event.to_string()
}

fn ndjson(rows: &[Row]) -> String {
    rows.iter().fold(String::new(), |all, row| all + &native(row) + "\n")
}

fn csv(rows: &[Row]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text =
        "tokens.output,id,time,source,namespace,model,provider,tokens.input,cost.amount,cost.currency,tags.build\r\n"
            .to_owned();
    for row in rows {
        let provider = row.model.map_or("", |_| "openai");
        let output = row.output.map_or(String::new(), |output| output.to_string());
        write!(
            text,
            "{output},{},{},gw,{},{},{provider},{},{},USD,{}\r\n",
            row.id,
            rfc3339(row),
            quoted(&row.namespace),
            row.model.unwrap_or_default(),
            row.input,
            row.cost.as_deref().unwrap_or_default(),
            row.tag.as_deref().map_or(String::new(), quoted),
        )
        .unwrap();
    }
    text
}

/// As another program may write it: nested tokens, missing integers as floating-point numbers, times in nanoseconds, a decimal cost.
fn parquet(path: &Path, rows: &[Row]) {
    let column = |name: &str, column: ArrayRef| (Arc::new(Field::new(name, column.data_type().clone(), true)), column);
    let texts =
        |of: &dyn Fn(&Row) -> Option<String>| Arc::new(rows.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let input: ArrayRef = Arc::new(rows.iter().map(|row| i32::try_from(row.input).ok()).collect::<Int32Array>());
    #[allow(clippy::cast_precision_loss)]
    let output: ArrayRef = Arc::new(rows.iter().map(|row| row.output.map(|n| n as f64)).collect::<Float64Array>());
    let tokens = StructArray::from(vec![column("input", input), column("output", output)]);
    let times: TimestampNanosecondArray = rows.iter().map(|row| row.time.timestamp_nanos_opt()).collect();
    let picos = rows.iter().map(|row| row.cost.as_ref().map(|cost| crate::common::pico(cost)));
    let costs = picos.collect::<Decimal128Array>().with_precision_and_scale(38, 12).unwrap();
    let batch = RecordBatch::from(StructArray::from(vec![
        column("id", texts(&|row| Some(row.id.clone()))),
        column("source", texts(&|_| Some("gw".to_owned()))),
        column("time", Arc::new(times)),
        column("namespace", texts(&|row| Some(row.namespace.clone()))),
        column("model", arrow::compute::cast(&texts(&|row| row.model.map(str::to_owned)), &dictionary()).unwrap()),
        column("provider", texts(&|row| row.model.map(|_| "openai".to_owned()))),
        column("tokens", Arc::new(tokens)),
        column("cost", Arc::new(costs)),
        column("currency", texts(&|_| Some("USD".to_owned()))),
        column("tags.build", texts(&|row| row.tag.clone())),
    ]));
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn backfill(server: &Server, args: &[&str]) -> Output {
    run("backfill", &[&["--kafka", &server.log], args].concat())
}

#[track_caller]
fn expect(output: &Output, code: i32, said: &str) {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(said), "it does not say {said:?}:\n{text}");
}

/// Accepted, duplicate, too late, rejected.
fn status(server: &Server) -> [u64; 4] {
    let totals = server.get_json("/v1/status")["totals"].clone();
    ["accepted", "duplicate", "too_late", "rejected"].map(|kind| totals[kind].as_u64().unwrap())
}

/// All that a row holds but how it came.
fn counted(server: &Server) -> Vec<Value> {
    let columns = "id, source, time, namespace, model, provider, input_tokens, output_tokens, total_tokens, requests, cost, currency, cost_origin, tags";
    server.sql(&format!("select {columns} from usage order by id"))
}

/// The data files of a Delta table.
fn data_files(table: &Path) -> Vec<String> {
    let dates = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    let dates = dates.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("date="));
    let files = dates.flat_map(|date| std::fs::read_dir(date).unwrap()).map(|entry| entry.unwrap().path());
    files.map(|path| path.display().to_string()).collect()
}

#[test]
fn files_of_every_kind_interrupted_and_given_again_count_as_the_same_events_sent_live() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let rows = rows();
    let (lines, rest) = rows.split_at(200);
    let (of_csv, of_parquet) = rest.split_at(200);
    std::fs::write(path("a.ndjson"), ndjson(lines)).unwrap();
    std::fs::write(path("b.csv"), csv(of_csv)).unwrap();
    parquet(&path("c.parquet"), of_parquet);

    let live = Server::start(&path("live"), &HOURS);
    for some in rows.chunks(300) {
        live.post_events("application/x-ndjson", ndjson(some)).expect(202);
    }
    wait_until_eq("what was sent live", &[600, 0, 0, 0], || status(&live));

    // Half of the first file; the process dies before it has read the rest.
    let server = Server::start(&path("data"), &HOURS);
    let mut cut = command("backfill");
    let mut child = cut.args(["--kafka", &server.log, "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(ndjson(&lines[..100]).as_bytes()).unwrap();
    wait_until_eq("what an interrupted run published", &[100, 0, 0, 0], || status(&server));
    child.kill().unwrap();
    child.wait().unwrap();

    let files = ["a.ndjson", "b.csv", "c.parquet"].map(|name| path(name).display().to_string());
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    expect(&backfill(&server, &files), 0, "600 rows read of 3 files: 600 published to 127.0.0.1");
    wait_until_eq("the whole run", &[600, 100, 0, 0], || status(&server));
    assert_eq!(counted(&server), counted(&live));
    assert!(live.balances().len() > 5);
    // Both are asked at about the same time: a window that turns in between is looked at again.
    wait_until_eq("the same balances", &true, || server.balances() == live.balances());
    let kinds = server.sql("select kind, count(*) as n from usage group by kind");
    assert_eq!(kinds, [json!({"kind": "backfill", "n": 600})]);

    // From the lake, after a restart, over HTTP.
    assert!(server.stop().success());
    let server = Server::start(&path("data"), &HOURS);
    let http = ["--http", "--url", &server.url, "--key", &server.key];
    expect(&run("backfill", &[&http, &files[..]].concat()), 0, "600 published to http://");
    wait_until_eq("nothing new", &[0, 600, 0, 0], || status(&server));
    wait_until_eq("the same balances after a restart", &true, || server.balances() == live.balances());
    assert_sound(server, &path("data"));
}

#[test]
fn rows_without_an_id_count_once_by_what_they_hold_and_where_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let line = r#"{"time":"2026-01-02T03:04:05Z","namespace":"a","model":"gpt-5.1","tokens":{"input":5}}"#;
    // Two equal requests are two. The CSV holds the same rows at the same places.
    std::fs::write(path("a.ndjson"), format!("{line}\n\n{line}\n")).unwrap();
    let row = "2026-01-02T03:04:05Z,a,gpt-5.1,5\n";
    std::fs::write(path("b.csv"), format!("time,namespace,model,tokens.input\n{row}{row}{row}")).unwrap();

    let server = Server::start(&path("data"), &[]);
    expect(&backfill(&server, &[&text("a.ndjson"), &text("a.ndjson")]), 0, "4 published");
    wait_until_eq("the file, twice", &[2, 2, 0, 0], || status(&server));
    assert!(server.stop().success());
    let server = Server::start(&path("data"), &[]);
    std::fs::rename(path("a.ndjson"), path("renamed.ndjson")).unwrap();
    expect(&backfill(&server, &[&text("renamed.ndjson"), &text("b.csv")]), 0, "5 published");
    wait_until_eq("the file once more, and one with a further row", &[1, 4, 0, 0], || status(&server));
    expect(&backfill(&server, &["--source", "other", &text("b.csv")]), 0, "3 published");
    wait_until_eq("the same rows of another source", &[4, 4, 0, 0], || status(&server));
    assert_sound(server, &path("data"));
}

#[test]
fn a_wrong_row_is_named_and_kept_and_costs_no_other_and_a_dry_run_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let csv = "time,namespace,model,provider,tokens.input\n\
               2026-01-02T03:04:05Z,shop,gpt-5.1,openai,1000\n\
               2026-01-02T03:04:05Z,shop,gpt-5.1,openai,many\n\
               2026-01-02T03:04:05Z,\"lab\nthree\",gpt-5.1,openai,1\n\
               2026-01-02T03:04:05Z,shop\n\
               2126-01-02T03:04:05Z,shop,gpt-5.1,openai,1\n\
               2026-01-02T03:04:05Z,lab,nobody-knows-1,openai,7\n";
    std::fs::write(path("a.csv"), csv).unwrap();
    std::fs::write(path("b.ndjson"), "{\"time\":\"2026-01-02T03:04:05Z\"}\nnot json\n").unwrap();
    let server = Server::start(&path("data"), &[]);
    let args = ["--rejected", &text("rejected.ndjson"), &text("a.csv"), &text("b.ndjson")];

    let dry = backfill(&server, &[&["--dry-run"], &args[..]].concat());
    expect(&dry, 1, "8 rows read of 2 files: 2 would be published, 6 refused");
    // 1,000 tokens at 1.25 USD per million.
    let table = String::from_utf8_lossy(&dry.stdout).into_owned();
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = table.lines().map(cells).collect();
    assert_eq!(lines[1], ["lab", "1", "7", "-", "1"]);
    assert_eq!(lines[2], ["shop", "1", "1000", "0.00125", "USD", "0"]);

    let wet = backfill(&server, &args);
    expect(&wet, 1, "2 published");
    let said = String::from_utf8_lossy(&wet.stderr).into_owned();
    assert!(said.contains("a.csv, line 3: wrong_type (field tokens.input)"), "{said}");
    wait_until_eq("only the good rows, and none of the dry run", &[2, 0, 0, 0], || status(&server));
    let rejected = std::fs::read_to_string(path("rejected.ndjson")).unwrap();
    let rejected: Vec<Value> = rejected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<(u64, &str, Option<&str>)> = rejected
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["code"].as_str().unwrap(), row["field"].as_str()))
        .collect();
    let expected = [
        (3, "wrong_type", Some("tokens.input")),
        (4, "out_of_range", Some("namespace")),
        (6, "wrong_type", None),
        (7, "bad_time", Some("time")),
        (1, "missing_field", Some("namespace")),
        (2, "not_json", None),
    ];
    assert_eq!(shown, expected);
    assert_eq!(rejected[0]["row"], "2026-01-02T03:04:05Z,shop,gpt-5.1,openai,many");
    assert_eq!(rejected[5]["row"], "not json");

    // A column that nobody knows is most likely a mistake.
    std::fs::write(path("c.csv"), "time,namespace,token.input\n2026-01-02T03:04:05Z,shop,5\n").unwrap();
    expect(&backfill(&server, &[&text("c.csv")]), 1, "token.input");
    assert_sound(server, &path("data"));
}

/// An export holds what was taken back and what took it back; the other lake gets what counts.
#[test]
fn an_export_of_a_lake_with_corrections_brings_another_lake_to_the_same_sums() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let server = Server::start(&path("data"), &HOURS);
    let event = |id: &str, input: u64, more: Value| {
        let row = &rows()[input as usize % 100];
        let mut event = json!({"id": id, "source": "gw", "time": rfc3339(row), "namespace": "shop", "user": "u-1", "model": "gpt-5.1",
            "provider": "openai", "tags": {"env": "ci"}, "tokens": {"input": input}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let void = |id: &str, of: &str| json!({"id": id, "source": "gw", "time": rfc3339(&rows()[0]), "namespace": "shop", "user": "u-1", "corrects": of, "correction": "void"});
    for n in 0..10 {
        server.post_event(&event(&format!("e{n}"), 1000 + n, json!({})));
    }
    server.post_event(&void("v1", "e1"));
    server.post_event(&event("m2", 50, json!({"corrects": "e2", "team": "web"})));
    server.post_event(&event("m3", 60, json!({"corrects": "e3"})));
    server.post_event(&event("m4", 70, json!({"corrects": "e3", "team": "ops"})));
    server.post_event(&void("v5", "e5"));
    server.post_event(&event("m5", 80, json!({"corrects": "e5"})));
    server.post_event(
        &json!({"id": "adj", "source": "gw", "time": rfc3339(&rows()[0]), "namespace": "shop", "adjusts": "contract",
        "cost": {"amount": "-0.000001", "currency": "USD"}}),
    );
    wait_until_eq("all of it", &[17, 0, 0, 0], || status(&server));
    let sums = |server: &Server| {
        let sums = "sum(total_tokens) as tokens, sum(requests) as requests, sum(cost) as cost";
        let groups = server
            .sql(&format!("select time, team, model, tags, {sums} from usage group by 1, 2, 3, 4 order by 1, 2, 3, 4"));
        // A group that was taken back as a whole has a sum of nothing here, and no rows there.
        let is_something =
            |row: &&Value| row["tokens"] != json!(0) || row["cost"].as_str().is_some_and(|cost| cost != "0");
        groups.iter().filter(is_something).cloned().collect::<Vec<_>>()
    };
    let all = sums(&server);
    assert_eq!(all.len(), 10, "{all:?}");

    let csv = path("usage.csv").display().to_string();
    std::fs::write(&csv, server.sql_as("select * from usage", "csv").expect(200).body).unwrap();
    assert_sound(server, &path("data"));
    let exports = [("csv", vec![csv]), ("parquet", data_files(&path("data/lake/usage")))];
    for (format, files) in &exports {
        let data: PathBuf = path(&format!("of-{format}"));
        let other = Server::start(&data, &HOURS);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        for times in 0..2 {
            // Five reversals and what they take back are left out.
            expect(&backfill(&other, &files), 0, "10 published");
            wait_until_eq("what counts", &[10, 10 * times, 0, 0], || status(&other));
        }
        assert_eq!(sums(&other), all, "{format}");
        assert_sound(other, &data);
    }
    // Without what it takes back a reversal says so.
    let part = path("part.csv");
    let whole = std::fs::read_to_string(&exports[0].1[0]).unwrap();
    std::fs::write(&part, whole.lines().filter(|line| !line.contains(",e1,gw,")).collect::<Vec<_>>().join("\n"))
        .unwrap();
    expect(&run("backfill", &["--dry-run", part.to_str().unwrap()]), 1, "it takes back the row `e1`");
}
