//! `outlay sql` and `outlay report`: the same answers as over HTTP, as a table for people or in a format for programs.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use arrow::ipc::reader::StreamReader;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use usage_lake::Report;

use crate::client::{Server, ServerOptions};
use crate::files;

/// What is said where an answer breaks off.
const NOT_WHOLE: &str = "the result is not whole: the connection ended before it did; the server's log says why";

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

/// Where an answer goes.
#[derive(Debug, Args)]
struct Output {
    /// How to print the answer
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    /// Write the answer into this file, whole or not at all, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Options of `outlay sql`.
#[derive(Debug, Args)]
pub struct SqlOptions {
    /// The query, like "select namespace, sum(cost) from usage group by 1"
    query: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerOptions,
}

/// Options of `outlay report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// The report; without one, the list of reports
    name: Option<String>,
    #[command(flatten)]
    parameters: Parameters,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerOptions,
}

/// A flag for each parameter that any report declares.
#[derive(Debug, Default)]
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Each name once, with what it means and the reports that take it.
    fn all() -> BTreeMap<&'static str, (&'static str, Vec<&'static str>)> {
        let mut all = BTreeMap::new();
        for report in Report::all() {
            for parameter in report.parameters {
                let (_, reports): &mut (&str, Vec<&str>) =
                    all.entry(parameter.name).or_insert((parameter.about, Vec::new()));
                reports.push(report.name);
            }
        }
        all
    }
}

impl Args for Parameters {
    fn augment_args(command: Command) -> Command {
        let arg = |(name, (about, reports)): (&'static str, (&str, Vec<&str>))| {
            let whose = match reports.len() {
                few @ 1..=3 if few < Report::all().len() => format!("Of {}: ", reports.join(", ")),
                _ => String::new(),
            };
            // The names live as long as the program, which reads its command line once.
            let flag: &'static str = name.replace('_', "-").leak();
            Arg::new(name).long(flag).value_name("VALUE").help(format!("{whose}{about}"))
        };
        command.next_help_heading("Parameters").args(Self::all().into_iter().map(arg)).next_help_heading("Options")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Parameters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = Self::all()
            .into_keys()
            .filter_map(|name| matches.get_one::<String>(name).map(|value| (name.to_owned(), value.clone())));
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs a query on a server.
pub fn sql(options: SqlOptions) -> Result<ExitCode> {
    let body = serde_json::json!({ "query": options.query, "format": options.output.format.asked() });
    // As it comes: a result may be larger than this machine's memory.
    options.output.put(Server::new(&options.server)?.post_for_stream("/v1/sql", &body)?)
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
    let given = options.parameters.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let params: Vec<(&str, &str)> = given.chain([("format", options.output.format.asked())]).collect();
    let (body, warning) = server.get_with_warning(&format!("/v1/reports/{name}"), &params)?;
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
    options.output.put(body.as_slice())
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

impl Output {
    /// Prints an answer, or writes it into the file.
    fn put(&self, mut answer: impl Read) -> Result<ExitCode> {
        if self.format == Format::Table {
            let mut body = Vec::new();
            answer.read_to_end(&mut body).context(NOT_WHOLE)?;
            let text = format!("{}\n", table(&body)?);
            self.write(text.as_bytes())?;
        } else {
            self.write(answer)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, mut answer: impl Read) -> Result<()> {
        match &self.out {
            // Whoever watches the file sees what it was or all of the new one.
            Some(file) => files::replace_from(file, answer).context(NOT_WHOLE),
            None => std::io::copy(&mut answer, &mut std::io::stdout().lock()).map(drop).context(NOT_WHOLE),
        }
    }
}

/// An Arrow IPC stream as a table for people.
pub fn table(ipc: &[u8]) -> Result<String> {
    let batches = StreamReader::try_new(ipc, None)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .context("the server's answer is no Arrow stream")?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
}
