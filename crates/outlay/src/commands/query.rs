//! `outlay sql` and `outlay report`: the same answers as over HTTP, as a table for people or in a format for programs.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use arrow::ipc::reader::StreamReader;
use clap::Args;

use crate::client::{Server, ServerOptions};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table for people
    Table,
    /// An array of row objects; decimals and integers beyond 2^53 as text
    Json,
    /// A row object a line
    Jsonl,
    /// With a header line
    Csv,
    /// An Arrow IPC stream
    Arrow,
    /// A Parquet file
    Parquet,
}

impl Format {
    /// The name to ask the server for: a table is made here, from Arrow.
    const fn asked(self) -> &'static str {
        match self {
            Self::Table | Self::Arrow => "arrow",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// Options of `outlay sql`.
#[derive(Debug, Args)]
pub struct SqlOptions {
    /// The query, like "select namespace, sum(cost) from usage group by 1"
    query: String,
    /// How to print the answer
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    server: ServerOptions,
}

/// Options of `outlay report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// The report; without one, the list of reports
    name: Option<String>,
    /// YYYY, YYYY-MM or YYYY-MM-DD
    #[arg(long)]
    period: Option<String>,
    /// Dimensions, like `namespace,team`
    #[arg(long)]
    group_by: Option<String>,
    /// Time zone of the period
    #[arg(long)]
    zone: Option<String>,
    /// Of `focus`: the version of FOCUS, 1.0 or 1.2 [default: 1.2]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Of `focus`: identifier and name of the organisation that pays
    #[arg(long, value_name = "NAME")]
    billing_account: Option<String>,
    /// How to print the answer
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    server: ServerOptions,
}

/// Runs a query on a server.
pub fn sql(options: SqlOptions) -> Result<ExitCode> {
    let body = serde_json::json!({ "query": options.query, "format": options.format.asked() });
    let server = Server::new(&options.server)?;
    if options.format == Format::Table {
        return print(&server.post("/v1/sql", &body)?, options.format);
    }
    // As it comes: a result may be larger than this machine's memory.
    let mut answer = server.post_for_stream("/v1/sql", &body)?;
    let copied = std::io::copy(&mut answer, &mut std::io::stdout().lock());
    copied.context("the result is not whole: the connection ended before it did; the server's log says why")?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a server for a report, or for the list of its reports.
pub fn report(options: ReportOptions) -> Result<ExitCode> {
    let server = Server::new(&options.server)?;
    let Some(name) = options.name else {
        return list(&server.get("/v1/reports", &[])?);
    };
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        bail!("`{name}` is no report; `outlay report` lists them");
    }
    let given = [
        ("period", options.period),
        ("group_by", options.group_by),
        ("zone", options.zone),
        ("version", options.version),
        ("billing_account", options.billing_account),
    ];
    let mut params: Vec<(&str, &str)> =
        given.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))).collect();
    params.push(("format", options.format.asked()));
    let (body, warning) = server.get_with_warning(&format!("/v1/reports/{name}"), &params)?;
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
    print(&body, options.format)
}

fn list(body: &[u8]) -> Result<ExitCode> {
    #[derive(serde::Deserialize)]
    struct Report {
        name: String,
        description: String,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Reports {
        Bare(Vec<Report>),
        Wrapped { reports: Vec<Report> },
    }
    let (Reports::Bare(reports) | Reports::Wrapped { reports }) =
        serde_json::from_slice(body).context("the list of reports")?;
    let mut out = std::io::stdout().lock();
    for report in reports {
        writeln!(out, "{:<16} {}", report.name, report.description)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(body: &[u8], format: Format) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if format == Format::Table {
        writeln!(out, "{}", table(body)?)?;
    } else {
        out.write_all(body)?;
        if format == Format::Json && body.last() != Some(&b'\n') {
            writeln!(out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An Arrow IPC stream as a table for people.
pub fn table(ipc: &[u8]) -> Result<String> {
    let batches = StreamReader::try_new(ipc, None)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .context("the server's answer is no Arrow stream")?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
}
