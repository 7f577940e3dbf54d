//! SQL in a child process: it sees the lake and the tail, and nothing it does hurts anyone else.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use support::{mixed_unit, open, rows, unit};
use usage_lake::{
    CommitUnit, Format, Lake, LakeError, OffsetRange, QueryConfig, QueryInput, QueryPool, RowBuffer, Tail,
    rejected_batch,
};

fn config() -> QueryConfig {
    QueryConfig {
        program: env!("CARGO_BIN_EXE_test-query-worker").into(),
        arguments: vec![],
        warm: 1,
        running_max: 2,
        waiting_max: 8,
        memory_mib: 512,
        // Far above what a query takes that ends, also on a busy machine.
        deadline: Duration::from_secs(300),
        rows_max: 100_000,
        bytes_max: 16 << 20,
        threads: 2,
    }
}

fn pool() -> QueryPool {
    QueryPool::new(config())
}

async fn json(pool: &QueryPool, input: &QueryInput, sql: &str) -> Result<serde_json::Value, LakeError> {
    let output = pool.query(sql, input.clone(), Format::Json).await?;
    Ok(serde_json::from_slice(&output.bytes).unwrap())
}

/// A lake with offsets 0..300 of partition 0 committed and 300..350 in the tail.
async fn lake_and_tail(folder: &std::path::Path) -> (Lake, QueryInput) {
    let mut lake = open(folder).await;
    lake.commit(unit(0, 0..200)).await.unwrap();
    let files = lake.commit(unit(0, 200..300)).await.unwrap().files;
    let tail = Tail { usage: rows(0, 300..350), ..Tail::default() };
    (lake, QueryInput::of_lake(&files, tail).unwrap())
}

#[tokio::test]
async fn a_query_sees_lake_and_tail_as_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, input) = lake_and_tail(folder.path()).await;
    let pool = pool();
    let sql = "SELECT count(*) AS n, min(\"offset\") AS low, max(offset) AS high, sum(requests) AS requests,
                      sum(cost) AS cost, count(cost) AS priced FROM usage";
    let cost: i128 = (0..350).filter_map(support::cost).map(|cost| cost.amount.0).sum();
    let expected = serde_json::json!([{"n": 350, "low": 0, "high": 349, "requests": 350,
        "cost": usage_types::Pico(cost).to_string(), "priced": 315}]);
    assert_eq!(json(&pool, &input, sql).await.unwrap(), expected);
    // Names that are words of SQL, a filter on time, and text of both parts.
    let sql = "SELECT user, team, cost_origin, tags, late, partition, time FROM usage
               WHERE time >= '2026-11-21T00:00:00Z' AND offset IN (98, 301) ORDER BY offset";
    let expected = serde_json::json!([
        {"user": "u-1", "team": "team-3", "cost_origin": "price_book", "tags": "{\"env\":\"c\\\"i\",\"n\":\"98\"}",
         "late": false, "partition": 0, "time": "2026-11-21T00:00:00.098098Z"},
        {"user": "u-10", "team": "team-1", "cost_origin": "price_book", "tags": "{\"env\":\"c\\\"i\",\"n\":\"301\"}",
         "late": false, "partition": 0, "time": "2026-11-21T00:00:00.306301Z"}]);
    assert_eq!(json(&pool, &input, sql).await.unwrap(), expected);
    let yesterday = "SELECT count(*) AS n FROM usage WHERE time < '2026-11-21T00:00:00Z'";
    assert_eq!(json(&pool, &input, yesterday).await.unwrap(), serde_json::json!([{"n": 3}]));
}

#[tokio::test]
async fn side_tables_and_tables_in_memory_are_there_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    let files = lake.commit(mixed_unit(0)).await.unwrap().files;
    // As after a crash: the tail brings offset 4 again, which the side table has, and a new one.
    let rejected = rejected_batch(&[support::rejected(0, 4), support::rejected(0, 11)]).unwrap();
    let tail = Tail { rejected: vec![rejected], ..Tail::default() };
    let schema = Arc::new(Schema::new(vec![Field::new("used", DataType::Int64, false)]));
    let used: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let balances = RecordBatch::try_new(Arc::clone(&schema), vec![used]).unwrap();
    let input = QueryInput::of_lake(&files, tail)
        .unwrap()
        .with_table("balances", Arc::clone(&schema), vec![balances])
        .with_table("alerts", schema, vec![]);
    let sql = "SELECT (SELECT count(*) FROM usage) AS usage, (SELECT count(*) FROM too_late) AS too_late,
                      (SELECT count(*) FROM alerts) AS alerts, (SELECT sum(used) FROM balances) AS used,
                      (SELECT sum(accepted + duplicate + too_late + rejected) FROM accounts) AS accounted";
    let expected = serde_json::json!([{"usage": 6, "too_late": 1, "alerts": 0, "used": 7, "accounted": 9}]);
    let pool = pool();
    assert_eq!(json(&pool, &input, sql).await.unwrap(), expected);
    let sql = "SELECT offset, code, field, key, value FROM rejected ORDER BY offset";
    let row = |offset: i64| serde_json::json!({"offset": offset, "code": "negative", "field": "tokens.input", "key": "k", "value": "{\u{fffd}}"});
    assert_eq!(json(&pool, &input, sql).await.unwrap(), serde_json::json!([row(4), row(11)]));
}

#[tokio::test]
async fn no_row_is_lost_or_doubled_while_commits_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    // As a worker does it: rows stay in the tail until their commit is done, then files and tail are swapped at once.
    let shared = Arc::new(std::sync::Mutex::new((lake.files(), RowBuffer::new(), Vec::<RecordBatch>::new(), 0_i64)));
    let writer = {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            for step in 0..8_i64 {
                let (start, end) = (step * 40, step * 40 + 40);
                for offset in start..end {
                    let mut state = shared.lock().unwrap();
                    support::push(&mut state.1, 0, offset);
                    state.3 = offset + 1;
                }
                let taken = {
                    let mut state = shared.lock().unwrap();
                    state.2 = state.1.take().unwrap();
                    state.2.clone()
                };
                let range = OffsetRange { start, end, accepted: 40, ..OffsetRange::default() };
                let unit = CommitUnit { rows: taken, ranges: vec![range], ..CommitUnit::default() };
                let committed = lake.commit(unit).await.unwrap();
                let mut state = shared.lock().unwrap();
                state.0 = committed.files;
                state.2.clear();
            }
        })
    };
    let pool = pool();
    let mut queries = 0;
    loop {
        let last = writer.is_finished();
        let (input, pushed) = {
            let state = shared.lock().unwrap();
            let usage = state.2.iter().cloned().chain(state.1.snapshot().unwrap()).collect();
            (QueryInput::of_lake(&state.0, Tail { usage, ..Tail::default() }).unwrap(), state.3)
        };
        let sql = "SELECT count(*) AS n, count(DISTINCT offset) AS distinct_n FROM usage";
        let expected = serde_json::json!([{"n": pushed, "distinct_n": pushed}]);
        assert_eq!(json(&pool, &input, sql).await.unwrap(), expected);
        queries += 1;
        if last {
            break;
        }
    }
    writer.await.unwrap();
    assert!(queries > 1, "no query ran beside a commit");
    assert_eq!(shared.lock().unwrap().3, 320);
}

#[tokio::test]
async fn a_memory_bomb_gets_an_error_and_others_go_on() {
    let input = QueryInput::default();
    let pool = pool();
    for bomb in [
        "SELECT repeat('x', 2000000000) AS a",
        "SELECT length(repeat(repeat('x', 1000000), 1900)) AS a",
        "SELECT array_agg(concat(a.value, repeat('x', 100000))) FROM generate_series(1, 100000) a",
    ] {
        let (failed, other) = tokio::join!(json(&pool, &input, bomb), json(&pool, &input, "SELECT 1 AS one"));
        let error = failed.unwrap_err();
        assert!(matches!(error, LakeError::QueryMemory { limit_mib: 512 }), "{bomb}: {error}");
        assert_eq!(other.unwrap(), serde_json::json!([{"one": 1}]));
    }
}

#[tokio::test]
async fn an_endless_query_ends_at_its_deadline_and_others_go_on() {
    let input = QueryInput::default();
    let pool = QueryPool::new(QueryConfig { deadline: Duration::from_secs(10), ..config() });
    // Each side is small: on a quick machine a large one would be out of memory before it is out of time.
    let endless =
        "SELECT count(*) FROM generate_series(1, 2000000) a, generate_series(1, 2000000) b WHERE a.value + b.value = 3";
    // The first answer of the other is there before the endless one is given up.
    let one = async { json(&pool, &input, "SELECT 1 AS one").await.map(|answer| (answer, Instant::now())) };
    let failed = async { (json(&pool, &input, endless).await, Instant::now()) };
    let ((failed, failed_at), one) = tokio::join!(failed, one);
    let error = failed.unwrap_err();
    assert!(matches!(error, LakeError::QueryTime { limit_s: 10 }), "{error}");
    let (one, answered_at) = one.unwrap();
    assert_eq!(one, serde_json::json!([{"one": 1}]));
    assert!(answered_at < failed_at, "the other query waited for the endless one");
}

#[tokio::test]
async fn a_deep_expression_is_answered_or_refused_but_never_kills_the_caller() {
    let input = QueryInput::default();
    // Planning takes more time the longer the expression is, without end that matters here.
    let hurried = QueryPool::new(QueryConfig { deadline: Duration::from_secs(5), ..config() });
    let pool = pool();
    let sum = |terms: usize| format!("SELECT {} AS n", vec!["1"; terms].join(" + "));
    // Whether it is answered depends on the build's speed and stack use; that it ends and says why does not.
    let clear = |result: &Result<serde_json::Value, LakeError>| {
        matches!(result, Ok(_) | Err(LakeError::QueryDepth | LakeError::Sql(_) | LakeError::QueryTime { .. }))
    };
    let many = json(&hurried, &input, &sum(2_000)).await;
    assert!(clear(&many), "{many:?}");
    let far_too_many = json(&hurried, &input, &sum(50_000)).await;
    assert!(far_too_many.is_err() && clear(&far_too_many), "{far_too_many:?}");
    let nested = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let error = json(&pool, &input, &nested).await.unwrap_err();
    assert!(matches!(error, LakeError::QueryDepth | LakeError::Sql(_)), "{error:?}");
    assert_eq!(json(&pool, &input, "SELECT 1 AS one").await.unwrap(), serde_json::json!([{"one": 1}]));
}

#[tokio::test]
async fn only_queries_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("stolen.csv");
    let target = target.to_str().unwrap();
    let input = QueryInput::default();
    let pool = pool();
    for statement in [
        format!("COPY (SELECT 1) TO '{target}'"),
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "DROP TABLE usage".to_owned(),
        "INSERT INTO usage VALUES (1)".to_owned(),
        "SET datafusion.execution.target_partitions = 1".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
    ] {
        let error = json(&pool, &input, &statement).await.unwrap_err();
        assert!(matches!(error, LakeError::Sql(_)), "{statement}: {error:?}");
    }
    let error = json(&pool, &input, "CREATE TABLE t AS SELECT 1").await.unwrap_err().to_string();
    assert!(error.starts_with("only queries are allowed"), "{error}");
    for outside in
        ["SELECT * FROM '/etc/passwd'", "SELECT * FROM \"/etc/passwd\"", "SELECT * FROM read_csv('/etc/passwd')"]
    {
        let error = json(&pool, &input, outside).await.unwrap_err().to_string();
        assert!(!error.contains("root:"), "{error}");
    }
    assert!(!std::path::Path::new(target).exists());
}

/// A file that is in the lake's folder but was not chosen cannot be opened: the child is started as by the pool and told to
/// read it, which is more than SQL can ever make it do.
#[tokio::test]
async fn a_child_reads_only_the_files_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, input) = lake_and_tail(folder.path()).await;
    let mut fewer = input.clone();
    let usage = &mut fewer.tables[0];
    let dropped = Arc::make_mut(&mut usage.files).pop().unwrap();
    usage.rows.clear();
    let n = json(&pool(), &fewer, "SELECT count(*) AS n FROM usage").await.unwrap()[0]["n"].as_u64().unwrap();
    assert_eq!(n, 300 - dropped.rows);
    // A path that leads out of what was granted: named in the list as a file of the table, a symlink to /etc/passwd is
    // no Parquet, and its content is in no message.
    let mut astray = (*dropped).clone();
    astray.path = "../../../../../../../../etc/passwd".to_owned();
    Arc::make_mut(&mut fewer.tables[0].files).push(Arc::new(astray));
    let error = json(&pool(), &fewer, "SELECT count(id) AS n FROM usage").await.unwrap_err().to_string();
    assert!(!error.contains("root:"), "{error}");
}

#[tokio::test]
async fn errors_say_what_is_wrong_in_words_of_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, input) = lake_and_tail(folder.path()).await;
    let pool = pool();
    for (sql, expected) in [
        ("SELECT nonsense FROM usage", "nonsense"),
        ("SELEC 1", "SELEC"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT sum(model) FROM usage", "sum"),
        ("SELECT 1/0 AS a", "ivide by zero"),
    ] {
        let error = json(&pool, &input, sql).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{sql}: {error}");
        assert!(!error.contains("DataFusion error") && !error.contains("backtrace"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_result_beyond_its_limits_is_an_error_and_never_cut() {
    let input = QueryInput::default();
    let pool = QueryPool::new(QueryConfig { rows_max: 10, bytes_max: 1000, ..config() });
    let ten = json(&pool, &input, "SELECT value FROM generate_series(1, 10)").await.unwrap();
    assert_eq!(ten.as_array().unwrap().len(), 10);
    let error = json(&pool, &input, "SELECT value FROM generate_series(1, 11)").await.unwrap_err();
    assert!(matches!(error, LakeError::QueryResult { limit: 10, unit: "rows" }), "{error}");
    for format in Format::ALL {
        let sql = "SELECT arrow_cast(value, 'Utf8') || repeat('x', 2000) AS a FROM generate_series(1, 2)";
        let error = pool.query(sql, input.clone(), format).await.unwrap_err();
        // Parquet compresses: it may fit.
        let fits = format == Format::Parquet;
        assert!(fits || matches!(error, LakeError::QueryResult { unit: "bytes", .. }), "{format:?}: {error}");
        if fits {
            break;
        }
    }
}

async fn until_load(pool: &QueryPool, load: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while pool.load() != load {
        assert!(Instant::now() < deadline, "the pool never had {load} queries");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_dropped_query_frees_its_place_and_a_full_house_refuses() {
    let input = QueryInput::default();
    let pool = QueryPool::new(QueryConfig { running_max: 1, waiting_max: 1, ..config() });
    // Each side is small: on a quick machine a large one would be out of memory before it is out of time.
    let endless =
        "SELECT count(*) FROM generate_series(1, 2000000) a, generate_series(1, 2000000) b WHERE a.value + b.value = 3";
    let spawn = |sql: &'static str| {
        let (pool, input) = (pool.clone(), input.clone());
        tokio::spawn(async move { pool.query(sql, input, Format::Json).await })
    };
    let running = spawn(endless);
    until_load(&pool, 1).await;
    let waiting = spawn("SELECT 1 AS one");
    until_load(&pool, 2).await;
    let third = pool.query("SELECT 1", input.clone(), Format::Json).await;
    assert!(matches!(third, Err(LakeError::QueryBusy)), "{third:?}");
    running.abort();
    assert_eq!(waiting.await.unwrap().unwrap().rows, 1);
}

#[tokio::test]
async fn json_and_csv_lose_no_digit() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("big", DataType::Int64, true),
        Field::new("unsigned", DataType::UInt64, true),
        Field::new("money", DataType::Decimal128(38, 12), true),
        Field::new("share", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
    ]));
    let money =
        Decimal128Array::from(vec![Some(12_300_000_000), Some(-1), None]).with_precision_and_scale(38, 12).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_992), Some(-9_007_199_254_740_993), None])),
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None])),
        Arc::new(money),
        Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None])),
        Arc::new(StringArray::from(vec![Some("a \"b\", c"), Some(""), None])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let input = QueryInput::default().with_table("t", schema, vec![batch]);
    let pool = pool();
    let json = pool.query("SELECT * FROM t", input.clone(), Format::Json).await.unwrap();
    let expected = concat!(
        "[\n",
        r#"{"big":9007199254740992,"unsigned":"18446744073709551615","money":"0.0123","share":0.1,"text":"a \"b\", c"},"#,
        "\n",
        r#"{"big":"-9007199254740993","unsigned":0,"money":"-0.000000000001","share":null,"text":""},"#,
        "\n",
        r#"{"big":null,"unsigned":null,"money":null,"share":null,"text":null}"#,
        "\n]\n"
    );
    assert_eq!(String::from_utf8(json.bytes).unwrap(), expected);
    let csv = pool.query("SELECT * FROM t", input.clone(), Format::Csv).await.unwrap();
    let expected = "big,unsigned,money,share,text\r\n\
        9007199254740992,18446744073709551615,0.0123,0.1,\"a \"\"b\"\", c\"\r\n\
        -9007199254740993,0,-0.000000000001,null,\"\"\r\n\
        ,,,,\r\n";
    assert_eq!(String::from_utf8(csv.bytes).unwrap(), expected);
    let (schema, batches) = pool.query_batches("SELECT big, text FROM t WHERE big > 0", input.clone()).await.unwrap();
    assert_eq!(schema.field(1).data_type(), &DataType::Utf8);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let parquet = pool.query("SELECT * FROM t", input, Format::Parquet).await.unwrap();
    assert_eq!((&parquet.bytes[..4], parquet.rows), (&b"PAR1"[..], 3));
    let none = pool.query("SELECT 1 AS a WHERE false", QueryInput::default(), Format::Json).await.unwrap();
    assert_eq!((none.bytes.as_slice(), none.rows), (&b"[]\n"[..], 0));
}
