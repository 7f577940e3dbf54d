//! Rows of `/v1/sql` come while the query runs, within its limits, and for as long as the client is there.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::{PATIENCE, Server, wait_for};

/// Far more than anybody keeps.
const WITHOUT_END: &str = "select value, value * 2 as twice from generate_series(1, 500000000)";

/// A query over a bare connection; what it answers is not read.
fn ask(server: &Server, query: &str, format: &str) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = json!({"query": query, "format": format}).to_string();
    let (key, length) = (&server.key, body.len());
    write!(
        stream,
        "POST /v1/sql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

/// The server's children: those that wait for a query and those that have one.
fn children(server: &Server) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flat_map(|task| of(task.unwrap()).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn is_gone(child: &str) -> bool {
    !std::path::Path::new(&format!("/proc/{child}")).exists()
}

#[test]
fn a_client_that_leaves_ends_its_query_at_once_whether_rows_flow_or_not() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing else would end them within the test's patience.
    let server = Server::start(&dir.path().join("data"), &["--sql-timeout-s", "3600", "--sql-rows-max", "1000000000"]);
    let silent =
        "select count(*) from generate_series(1, 2000000) a, generate_series(1, 2000000) b where a.value + b.value = 3";
    for (query, rows_flow) in [(silent, false), (WITHOUT_END, true)] {
        let idle = children(&server);
        assert_eq!(idle.len(), 1, "one child waits: {idle:?}");
        let mut stream = ask(&server, query, "csv");
        if rows_flow {
            let mut some = vec![0; 3 << 20];
            stream.read_exact(&mut some).unwrap();
            assert!(some.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&some[..200]));
        }
        // The child that waited has the query now, and the next one waits.
        wait_for("the next child", || (children(&server).len() == 2).then_some(()));
        assert!(children(&server).contains(&idle[0]), "{idle:?} {:?}", children(&server));
        drop(stream);
        wait_for("the end of the query's child", || is_gone(&idle[0]).then_some(()));
        assert_eq!(server.sql("select 1 as one"), [json!({"one": 1})]);
        wait_for("one child that waits", || (children(&server).len() == 1).then_some(()));
    }
    assert_eq!(server.metric::<u64>("outlay_sql_queries_total{kind=\"cancelled\"}"), 2);
}

#[test]
fn a_limit_reached_after_the_first_rows_cuts_the_answer_and_json_lines_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--sql-rows-max", "200000"]);
    // 200,000 rows are whole; one more is not.
    let query = |rows: u32| format!("select value, 'some text of a row' as text from generate_series(1, {rows})");
    let whole = server.sql_as(&query(200_000), "jsonl").expect(200);
    assert_eq!(whole.header("content-type"), "application/x-ndjson");
    let last: Value = serde_json::from_str(whole.text().lines().last().unwrap()).unwrap();
    assert_eq!((whole.text().lines().count(), &last["value"]), (200_000, &json!(200_000)));
    for format in ["jsonl", "json", "csv", "arrow"] {
        let mut stream = ask(&server, &query(200_001), format);
        let mut answer = Vec::new();
        // The connection is over without the last chunk, by which every HTTP client sees that the body is not whole.
        let _reset = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{format}");
        assert!(answer.len() > 2 << 20, "{format}: {}", answer.len());
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{format} ends as if it were whole");
        if format == "jsonl" {
            let text = String::from_utf8(answer).unwrap();
            let line = text.lines().rfind(|line| line.starts_with('{')).unwrap();
            let error = &serde_json::from_str::<Value>(line).unwrap()["error"];
            assert_eq!((&error["status"], &error["code"]), (&json!(422), &json!("query_result_too_large")), "{line}");
            assert!(error["detail"].as_str().unwrap().contains("200000 rows"), "{line}");
        }
    }
    // What fails before rows are sent has its own status in every format.
    for format in ["jsonl", "json", "csv", "arrow"] {
        let problem = server.sql_as("select 1 / 0 as a", format).expect(400).json();
        assert_eq!(problem["code"], "sql_error", "{problem}");
    }
    assert_eq!(server.metric::<u64>("outlay_sql_queries_total{kind=\"error\"}"), 8);
}
