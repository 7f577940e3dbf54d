//! SQL, reports, the status and its mails.

use http_api::OutputFormat;

use crate::client::{ask, get, start};
use crate::fake::MAIL_ID;

#[tokio::test]
async fn a_query_is_answered_in_the_format_asked_for() {
    let server = start().await;
    for (headers, body, content_type) in [
        (&[][..], r#"{"query":"SELECT 1"}"#, "application/json"),
        (&[("accept", "text/csv")], r#"{"query":"SELECT 1"}"#, "text/csv; charset=utf-8"),
        (&[("accept", "text/csv")], r#"{"query":"SELECT 1","format":"arrow"}"#, "application/vnd.apache.arrow.stream"),
        (&[], r#"{"query":"SELECT 1","format":"parquet"}"#, "application/vnd.apache.parquet"),
        (&[("content-type", "application/x-www-form-urlencoded")], r#"{"query":"SELECT 1"}"#, "application/json"),
    ] {
        let answer = ask(server.addr, "POST", "/v1/sql", headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, content_type), "{body}");
    }
    let asked: Vec<OutputFormat> = server.engine.queries.lock().iter().map(|query| query.format).collect();
    assert_eq!(
        asked,
        [OutputFormat::Json, OutputFormat::Csv, OutputFormat::Arrow, OutputFormat::Parquet, OutputFormat::Json]
    );
}

#[tokio::test]
async fn a_wrong_query_comes_back_with_the_engines_own_problem() {
    let server = start().await;
    let answer = ask(server.addr, "POST", "/v1/sql", &[], r#"{"query":"wrong"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "sql_error"));
    assert_eq!(answer.json()["line"], 1);
}

#[tokio::test]
async fn a_request_that_is_no_query_is_refused() {
    let server = start().await;
    for (headers, body, status, code) in [
        (&[][..], "SELECT 1", 400, "invalid_body"),
        (&[], r#"{"query":" "}"#, 400, "invalid_parameter"),
        (&[], r#"{"sql":"SELECT 1"}"#, 400, "invalid_body"),
        (&[], r#"{"query":"SELECT 1","format":"xml"}"#, 400, "invalid_parameter"),
        (&[("accept", "text/html")], r#"{"query":"SELECT 1"}"#, 406, "not_acceptable"),
        (&[("content-type", "text/csv")], r#"{"query":"SELECT 1"}"#, 415, "unsupported_media_type"),
    ] {
        let answer = ask(server.addr, "POST", "/v1/sql", headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, code), "{body}");
    }
    assert!(server.engine.queries.lock().is_empty());
}

#[tokio::test]
async fn a_streamed_answer_arrives_whole() {
    let server = start().await;
    let answer = ask(server.addr, "POST", "/v1/sql", &[], r#"{"query":"big"}"#).await;
    assert_eq!(answer.body.len(), 4096 * 64 * 1024);
}

#[tokio::test]
async fn a_report_gets_its_parameters_and_a_file_a_name() {
    let server = start().await;
    let list = get(server.addr, "/v1/reports").await;
    assert_eq!(list.json()[0]["name"], "chargeback");
    let path = "/v1/reports/chargeback?period=2026-11&group_by=namespace,team&format=csv";
    let answer = get(server.addr, path).await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"chargeback.csv\"");
    assert_eq!(answer.header("outlay-warning"), "2 events are not in this file");
    let params = server.engine.report_params.lock()[0].clone();
    let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(params, [("group_by", "namespace,team"), ("period", "2026-11")]);
    let missing = get(server.addr, "/v1/reports/nothing").await;
    assert_eq!((missing.status.as_u16(), missing.problem().as_str()), (404, "not_found"));
}

#[tokio::test]
async fn a_mail_is_found_by_an_id_full_of_separators() {
    let server = start().await;
    let escaped: String = MAIL_ID.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = get(server.addr, &format!("/v1/mails/{escaped}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "message/rfc822"));
    assert!(answer.body.starts_with(b"From: Outlay"));
    assert_eq!(get(server.addr, "/v1/mails/nothing").await.problem(), "not_found");
}

#[tokio::test]
async fn readiness_tells_why_not_and_health_does_not_care() {
    let server = start().await;
    assert_eq!(get(server.addr, "/readyz").await.status, 200);
    *server.engine.not_ready.lock() = Some("the lake is being read: 12 of 41 files".into());
    let answer = get(server.addr, "/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "not_ready"));
    assert_eq!(answer.json()["detail"], "the lake is being read: 12 of 41 files");
    assert_eq!(get(server.addr, "/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_hold_the_engines_and_count_by_route_pattern() {
    let server = start().await;
    get(server.addr, "/v1/reports/chargeback?period=2026-11").await;
    get(server.addr, "/made-up-by-the-client").await;
    let text = String::from_utf8(get(server.addr, "/metrics").await.body.to_vec()).unwrap();
    assert!(text.contains("outlay_fake 1\n"), "{text}");
    let line = r#"outlay_http_requests_total{route="/v1/reports/{name}",method="GET",status="200"} 1"#;
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("made-up"), "{text}");
}
