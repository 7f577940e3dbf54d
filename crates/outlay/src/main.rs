//! The `outlay` binary: reads its configuration, wires the shells around the core, and runs one of its commands.
//!
//! Everything that decides about money lives in the libraries; here are clocks, threads, signals and files.

mod client;
mod commands;
mod demo;
mod files;
mod options;
mod simulation;
mod standing;
mod telemetry;
mod worker;

use clap::{Parser, Subcommand};

use crate::options::ServeOptions;

/// Meters what AI traffic spends, stops what would overspend, and bills it back.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value, made once at start")]
enum Command {
    /// Run the server: meter, enforce, alert, report
    Serve(ServeOptions),
    /// See the main job at work: replay a real request trace into a server that needs nothing else
    Demo(commands::DemoOptions),
    /// Take in usage of the past from NDJSON, CSV and Parquet files
    Backfill(commands::BackfillOptions),
    /// Check, compare and apply budgets
    Budgets(commands::BudgetsOptions),
    /// Fail a CI pipeline where a budget is passed
    Check(commands::CheckOptions),
    /// Publish events from a file or standard input (one JSON event a line)
    Emit(commands::EmitOptions),
    /// Import invoices of providers, to compare them with what was metered
    Invoices(commands::InvoicesOptions),
    /// Show, check, compare and import prices
    Prices(commands::PricesOptions),
    /// Print a report of a running server, or of a data folder
    Report(commands::ReportOptions),
    /// Apply a changed price book to usage of the past, as adjustments
    Reprice(commands::RepriceOptions),
    /// Show what changed budgets would have done over usage of the past
    Simulate(commands::SimulateOptions),
    /// Run a SQL query on a running server, or on a data folder
    Sql(commands::SqlOptions),
    /// Prove that every offset of the log is accounted for once in the lake
    Verify(commands::VerifyOptions),
    /// Run one SQL query for the server (it starts these by itself)
    #[command(hide = true)]
    QueryWorker,
}

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && std::env::args_os().nth(1).is_some_and(|name| name == "budgets") => {
            // Not with 2, as clap does by itself: there that says that something would change.
            let _unwritable = error.print();
            return std::process::ExitCode::FAILURE;
        }
        Err(error) => error.exit(),
    };
    let result = match cli.command {
        Command::Serve(options) => commands::serve(options),
        Command::Demo(options) => commands::demo(options),
        Command::Backfill(options) => commands::backfill(options),
        Command::Budgets(options) => commands::budgets(options),
        Command::Check(options) => commands::check(options),
        Command::Emit(options) => commands::emit(options),
        Command::Invoices(options) => commands::invoices(options),
        Command::Prices(options) => commands::prices(options),
        Command::Report(options) => commands::report(options),
        Command::Reprice(options) => commands::reprice(options),
        Command::Simulate(options) => commands::simulate(options),
        Command::Sql(options) => commands::sql(options),
        Command::Verify(options) => commands::verify(options),
        Command::QueryWorker => return usage_lake::query_worker::main(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outlay: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
