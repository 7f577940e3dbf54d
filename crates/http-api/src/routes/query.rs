//! `POST /v1/sql` and the reports: rows in the format that was asked for.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::format::choose;
use super::{expect_json, json, parameters, read_body, refuse_rest};
use crate::router::AppState;
use crate::{ApiProblem, OutputFormat, QueryBody, QueryOutput, SqlRequest, WARNING_HEADER};

/// The largest body of a query, in bytes.
const SQL_BYTES_MAX: usize = 256 * 1024;
/// A query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlBody {
    /// One SQL statement that reads.
    query: String,
    /// `json`, `jsonl` (also `ndjson`), `csv`, `arrow` or `parquet`; where absent, the `Accept` header decides.
    #[serde(default)]
    format: Option<String>,
}

/// Answers a query.
pub(crate) async fn sql(State(app): State<AppState>, request: Request) -> Result<Response, ApiProblem> {
    let (head, body) = request.into_parts();
    expect_json(&head.headers)?;
    refuse_rest(&parameters(&head.uri)?, "the body: {\"query\": …, \"format\": …}")?;
    let body = read_body(body, SQL_BYTES_MAX, app.config.body_timeout).await?;
    let body: SqlBody = serde_json::from_slice(&body).map_err(|error| {
        ApiProblem::new(400, "invalid_body", format!("{error}; send {{\"query\": \"SELECT …\", \"format\": \"json\"}}"))
    })?;
    if body.query.trim().is_empty() {
        return Err(ApiProblem::invalid("query", "the query is empty; send one SELECT"));
    }
    let format = choose(body.format.as_deref(), &head.headers, &OutputFormat::ALL)?;
    Ok(rows(app.engine.sql(SqlRequest { query: body.query, format }).await?, None))
}

/// Answers with the reports there are.
pub(crate) async fn reports(State(app): State<AppState>) -> Response {
    json(200, &app.engine.report_list())
}

/// Answers a report.
pub(crate) async fn report(
    State(app): State<AppState>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiProblem> {
    let reports = app.engine.report_list();
    if !reports.iter().any(|report| report.name == name) {
        let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
        return Err(ApiProblem::not_found(format!("there is no report `{name}`; there are: {}", names.join(", "))));
    }
    let mut parameters = parameters(&uri)?;
    let format = choose(parameters.remove("format").as_deref(), &headers, &OutputFormat::ALL)?;
    let output = app.engine.report(&name, &parameters, format).await?;
    Ok(rows(output, Some((&name, format))))
}

/// The rows as an answer; those of a report in a file format come with a name for the file.
fn rows(output: QueryOutput, report: Option<(&str, OutputFormat)>) -> Response {
    let body = match output.body {
        QueryBody::Bytes(bytes) => Body::from(bytes),
        QueryBody::Stream(stream) => Body::from_stream(stream),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&output.content_type).unwrap_or(octets));
    if let Some(Ok(warning)) = output.warning.map(|text| HeaderValue::from_str(&text)) {
        headers.insert(HeaderName::from_static(WARNING_HEADER), warning);
    }
    // The same URL answers in several formats.
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if let Some((name, format)) = report.filter(|(_, format)| *format != OutputFormat::Json) {
        let disposition = format!("attachment; filename=\"{name}.{}\"", format.name());
        if let Ok(value) = HeaderValue::from_str(&disposition) {
            headers.insert(HeaderName::from_static("content-disposition"), value);
        }
    }
    response
}
