//! Results that come while they are made: in bounded memory, within their limits, and for as long as somebody reads them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use usage_lake::{Format, LakeError, QueryConfig, QueryInput, QueryPool, QueryStream};

/// Far more than anybody keeps: some 10 GB as text.
const WITHOUT_END: &str = "SELECT value, value * 2 AS twice FROM generate_series(1, 500000000)";
const PATIENCE: Duration = Duration::from_secs(60);

fn config(program: PathBuf) -> QueryConfig {
    QueryConfig {
        program,
        arguments: vec![],
        warm: 0,
        running_max: 2,
        waiting_max: 8,
        memory_mib: 512,
        deadline: Duration::from_secs(300),
        rows_max: u64::MAX,
        // Below one frame: what is streamed is not bounded by it.
        bytes_max: 1000,
        threads: 2,
    }
}

fn worker() -> PathBuf {
    env!("CARGO_BIN_EXE_test-query-worker").into()
}

async fn stream(pool: &QueryPool, sql: &str, format: Format) -> Result<QueryStream, LakeError> {
    pool.stream(sql, QueryInput::default(), format).await
}

/// Processes whose program is this file.
fn processes_of(program: &Path) -> usize {
    let exe = |entry: std::fs::DirEntry| std::fs::read_link(entry.path().join("exe")).ok();
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| exe(entry.ok()?)).filter(|exe| exe == program).count()
}

/// A pool whose children are told from those of other tests by their program.
fn own_pool(folder: &Path) -> (QueryPool, PathBuf) {
    let program = folder.canonicalize().unwrap().join("worker");
    std::fs::copy(worker(), &program).unwrap();
    (QueryPool::new(config(program.clone())), program)
}

async fn until_processes(program: &Path, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while processes_of(program) != count {
        assert!(Instant::now() < deadline, "{} of {} instead of {count}", processes_of(program), program.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_format_is_the_same_in_pieces_as_it_is_whole() {
    let pool = QueryPool::new(QueryConfig { bytes_max: 64 << 20, ..config(worker()) });
    let sql = "SELECT value, 'some text, with a comma' AS text FROM generate_series(1, 200000) ORDER BY value";
    for format in Format::ALL {
        let whole = pool.query(sql, QueryInput::default(), format).await.unwrap();
        let mut stream = stream(&pool, sql, format).await.unwrap();
        let (mut bytes, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
            pieces += 1;
        }
        assert_eq!((bytes.len(), stream.rows()), (whole.bytes.len(), Some(200_000)), "{format:?}");
        assert!(bytes == whole.bytes, "{format:?} has other bytes in pieces");
        assert!(pieces > 1 || bytes.len() < 1 << 20, "{format:?} came as one");
    }
}

#[tokio::test]
async fn json_lines_have_an_object_a_line_with_the_values_of_json() {
    let pool = QueryPool::new(QueryConfig { bytes_max: 1 << 20, ..config(worker()) });
    let sql = "SELECT value, 0.1 AS share, CAST(NULL AS TEXT) AS nothing FROM generate_series(9007199254740992, 9007199254740993)";
    let lines = pool.query(sql, QueryInput::default(), Format::Jsonl).await.unwrap();
    let expected = "{\"value\":9007199254740992,\"share\":\"0.1\",\"nothing\":null}\n\
                    {\"value\":\"9007199254740993\",\"share\":\"0.1\",\"nothing\":null}\n";
    assert_eq!(String::from_utf8(lines.bytes).unwrap(), expected);
    let none = pool.query("SELECT 1 AS a WHERE false", QueryInput::default(), Format::Jsonl).await.unwrap();
    assert_eq!((none.bytes.as_slice(), none.rows), (&b""[..], 0));
}

#[tokio::test]
async fn a_small_result_is_whole_at_once_and_a_failing_query_is_an_error_and_no_stream() {
    let pool = QueryPool::new(config(worker()));
    let mut small = stream(&pool, "SELECT 1 AS one", Format::Csv).await.unwrap();
    assert_eq!((small.whole().as_deref(), small.rows()), (Some(&b"one\r\n1\r\n"[..]), Some(1)));
    assert!(small.next().await.is_none());
    // It fails after 8,000 rows, which are less than a MiB.
    let late = "SELECT 1 / (8000 - value) AS a FROM generate_series(1, 9000)";
    let error = stream(&pool, late, Format::Csv).await.unwrap_err();
    assert!(error.to_string().contains("ivide by zero"), "{error}");
    let parquet = "SELECT value FROM generate_series(1, 100000)";
    let error = stream(&pool, parquet, Format::Parquet).await.unwrap_err();
    assert!(matches!(error, LakeError::QueryResult { limit: 1000, unit: "bytes" }), "{error}");
}

#[tokio::test]
async fn the_child_waits_for_its_reader_and_dies_with_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, program) = own_pool(folder.path());
    let mut endless = stream(&pool, WITHOUT_END, Format::Csv).await.unwrap();
    assert!(endless.whole().is_none());
    assert!(endless.next().await.unwrap().unwrap().starts_with(b"value,twice\r\n1,2\r\n"));
    // It computes nothing while nobody reads: what it made waits in pipes and in a few frames.
    let deadline = Instant::now() + PATIENCE;
    let (mut before, mut calm) = (processor_time(&program), 0);
    while calm < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = processor_time(&program);
        (calm, before) = (if now == before { calm + 1 } else { 0 }, now);
        assert!(Instant::now() < deadline, "the child goes on computing without a reader");
    }
    assert_eq!((processes_of(&program), pool.load()), (1, 1));
    // It goes on when somebody reads, and is killed when nobody ever will.
    for _ in 0..20 {
        endless.next().await.unwrap().unwrap();
    }
    drop(endless);
    until_processes(&program, 0).await;
    assert_eq!(pool.load(), 0);
}

/// Ticks that the processes of this program have computed.
fn processor_time(program: &Path) -> u64 {
    let of = |entry: std::fs::DirEntry| {
        let exe = std::fs::read_link(entry.path().join("exe")).ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok().filter(|_| exe == program)?;
        // proc_pid_stat(5): fields 14 and 15, counted after the name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.ok()?)).sum()
}

#[tokio::test]
async fn a_query_that_is_silent_dies_with_who_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, program) = own_pool(folder.path());
    let silent =
        "SELECT count(*) FROM generate_series(1, 2000000) a, generate_series(1, 2000000) b WHERE a.value + b.value = 3";
    let asked = {
        let pool = pool.clone();
        tokio::spawn(async move { stream(&pool, silent, Format::Csv).await.map(drop) })
    };
    until_processes(&program, 1).await;
    asked.abort();
    until_processes(&program, 0).await;
    assert!(asked.await.unwrap_err().is_cancelled());
}

/// Bytes that came, and the error after them.
async fn until_error(mut rows: QueryStream) -> (usize, LakeError) {
    let mut bytes = 0;
    loop {
        match rows.next().await {
            Some(Ok(piece)) => bytes += piece.len(),
            Some(Err(error)) => {
                assert!(rows.next().await.is_none() && rows.rows().is_none());
                return (bytes, error);
            }
            None => panic!("it ended as if it were whole"),
        }
    }
}

#[tokio::test]
async fn limits_hold_in_the_middle_of_a_stream() {
    let few = QueryPool::new(QueryConfig { rows_max: 200_000, ..config(worker()) });
    let (bytes, error) = until_error(stream(&few, WITHOUT_END, Format::Csv).await.unwrap()).await;
    assert!(matches!(error, LakeError::QueryResult { limit: 200_000, unit: "rows" }), "{error}");
    assert!(bytes > 1 << 20, "{bytes}");
    // On a machine that is too busy to send anything in the shorter time, the longer one tells the same.
    for limit_s in [5, 60] {
        let short = QueryPool::new(QueryConfig { deadline: Duration::from_secs(limit_s), ..config(worker()) });
        let (bytes, error) = match stream(&short, WITHOUT_END, Format::Csv).await {
            Ok(rows) => until_error(rows).await,
            Err(error) => (0, error),
        };
        assert!(matches!(error, LakeError::QueryTime { limit_s: told } if told == limit_s), "{error}");
        if bytes > 1 << 20 {
            return;
        }
    }
    panic!("the time limit never came in the middle");
}

#[tokio::test]
async fn batches_come_with_their_columns_first_and_hold_every_row() {
    let pool = QueryPool::new(config(worker()));
    let sql = "SELECT value, 'text' AS text FROM generate_series(1, 300000)";
    let mut batches = pool.stream_batches(sql, QueryInput::default()).await.unwrap();
    let names: Vec<String> = batches.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["value", "text"]);
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 300_000);
    let mut none = pool.stream_batches("SELECT 1 AS a WHERE false", QueryInput::default()).await.unwrap();
    assert_eq!(none.schema().fields().len(), 1);
    assert!(none.next().await.is_none());
}
