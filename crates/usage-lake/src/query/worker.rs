//! The child: reads one request, confines itself, answers it, exits.
//!
//! The binary calls [`main`] for its subcommand `query-worker` before it starts any thread or runtime, since the confinement
//! holds for the calling thread and those that it starts.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use object_store::local::LocalFileSystem;
use url::Url;

use super::encode::Encoder;
use super::postgres::{self, PgDescription};
use super::protocol::{
    Done, FRAME_BYTES_MAX, FRAME_DATA, FRAME_DONE, FRAME_FAILURE, Failure, Question, Request, RequestTable,
    read_header, read_stream, stream, write_frame,
};
use super::sandbox::{Confinement, confine, limit_memory};
use super::table::LakeTable;
use super::tag;
use crate::LakeError;
use crate::schema::with_texts_as;

/// The environment variable with the memory limit in bytes: it must hold before the request is read.
pub(super) const MEMORY_VARIABLE: &str = "OUTLAY_QUERY_MEMORY_BYTES";
/// The stack of a thread that plans and runs queries: thousands of nested terms fit, and what does not ends only the child.
const STACK_BYTES: usize = 32 << 20;
/// Threads that read files, for each thread that computes.
const READERS: usize = 2;
/// What an idle child has on its heap, with room to spare.
const IDLE_BYTES: u64 = 64 << 20;
/// How much of the memory limit DataFusion's own pool hands out; it refuses more in good order, before the system does.
const POOL_SHARE: (u64, u64) = (7, 10);
/// How long after its deadline a child ends itself, should the parent not have done it.
const GRACE: Duration = Duration::from_secs(2);

/// What the standard library and the C library say when the memory limit was reached.
pub(super) const OUT_OF_MEMORY: [&str; 3] = ["memory allocation of", "Cannot allocate memory", "capacity overflow"];

/// The limit for a child whose query may take `memory_bytes`: the system counts stacks in full, whether they are used or not.
pub(super) const fn limit_bytes(memory_bytes: u64, threads: usize) -> u64 {
    let stacks = (threads * (1 + READERS)) as u64 * STACK_BYTES as u64;
    memory_bytes.saturating_add(IDLE_BYTES).saturating_add(stacks)
}

type Table = (RequestTable, SchemaRef, Vec<RecordBatch>);

/// Serves one query on standard input and output. Never returns an error: the parent reads all from the output and the exit.
#[must_use]
pub fn main() -> ExitCode {
    let limit = std::env::var(MEMORY_VARIABLE).ok().and_then(|text| text.parse().ok());
    let limited = limit.is_some_and(limit_memory);
    warm_up();
    let mut input = io::stdin().lock();
    // The end of the input before a request: the parent has no use for this child any more.
    let Ok(request) = read_header(&mut input) else { return ExitCode::SUCCESS };
    let served = read_tables(&mut input, &request).and_then(|tables| {
        let files = tables.iter().flat_map(|(table, ..)| {
            let folder = PathBuf::from(&table.folder);
            table.files.iter().map(move |file| folder.join(&file.path)).collect::<Vec<_>>()
        });
        let confinement = confine(&files.collect::<Vec<_>>(), limited);
        drop(input);
        watch(Duration::from_millis(request.deadline_ms));
        run(request, tables, &confinement)
    });
    let mut output = io::stdout().lock();
    let (kind, payload) = match &served {
        Ok(done) => (FRAME_DONE, serde_json::to_vec(done)),
        Err(failure) => (FRAME_FAILURE, serde_json::to_vec(failure)),
    };
    let sent = payload.map_err(io::Error::other).and_then(|payload| write_frame(&mut output, kind, &payload));
    if sent.and_then(|()| output.flush()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Fills the query engine's tables of functions and rules while nobody waits. On this thread alone: there may be no other yet.
fn warm_up() {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
        let run = async { SessionContext::new().sql("SELECT count(*) FROM (SELECT 1)").await?.collect().await };
        // Whether it works is seen by the query itself.
        let _ = runtime.block_on(run);
    }
}

fn read_tables(input: &mut impl Read, request: &Request) -> Result<Vec<Table>, Failure> {
    let read = |table: &RequestTable| -> Result<Table, LakeError> {
        let (schema, rows) = read_stream(input)?;
        let files = table.files.clone();
        Ok((RequestTable { name: table.name.clone(), folder: table.folder.clone(), files }, schema, rows))
    };
    request.tables.iter().map(read).collect::<Result<_, _>>().map_err(|error| Failure::Worker(error.to_string()))
}

/// Ends the process when the parent is gone or has missed the deadline.
fn watch(deadline: Duration) {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    });
    std::thread::spawn(move || {
        std::thread::sleep(deadline + GRACE);
        std::process::exit(1);
    });
}

fn run(request: Request, tables: Vec<Table>, confinement: &Confinement) -> Result<Done, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(request.threads.max(1))
        .max_blocking_threads(request.threads.max(1) * READERS)
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|error| Failure::Worker(error.to_string()))?;
    // On a worker thread, which has the large stack; and a panic in there ends the task, not the answer.
    let task = runtime.spawn(async move { answer(&request, tables).await });
    let rows = runtime.block_on(task).map_err(|error| panicked(&error.to_string()))??;
    Ok(Done { rows, confinement: confinement.text.clone(), confined: confinement.complete })
}

/// A panic is a limit that was reached, or a bug of the query engine.
fn panicked(message: &str) -> Failure {
    if message.contains("mprotect/mmap failed") {
        // The planner grows its stack on the heap, up to the memory limit.
        Failure::Depth
    } else if OUT_OF_MEMORY.iter().any(|sign| message.contains(sign)) {
        Failure::Memory
    } else {
        Failure::Worker(format!("the query ended early: {message}"))
    }
}

async fn answer(request: &Request, tables: Vec<Table>) -> Result<u64, Failure> {
    let schemas: Vec<(String, SchemaRef)> =
        tables.iter().map(|(table, schema, _)| (table.name.clone(), Arc::clone(schema))).collect();
    let context = session(request, tables)?;
    let mut names = None;
    let frame = match &request.question {
        Question::Rows(sql) => {
            let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
            context.sql_with_options(sql, options).await.map_err(failure)?
        }
        Question::PgRows(query) => {
            postgres::prepare(&context, &schemas, &query.user).map_err(failure)?;
            let (plan, told) = postgres::plan(&context, query, &schemas).await.map_err(failure)?;
            names = told;
            context.execute_logical_plan(plan).await.map_err(failure)?
        }
        Question::PgDescribe(query) => {
            postgres::prepare(&context, &schemas, &query.user).map_err(failure)?;
            let description = postgres::describe(&context, query, &schemas).await.map_err(failure)?;
            return describe(&description).map(|()| 0);
        }
    };
    let mut stream = frame.execute_stream().await.map_err(failure)?;
    let worker = |error: LakeError| Failure::Worker(error.to_string());
    let schema = names.map_or_else(|| stream.schema(), |names| postgres::renamed(&stream.schema(), &names));
    let mut encoder = Encoder::new(request.format, &schema).map_err(worker)?;
    let mut output = Output { sent: AtomicU64::new(0), max: request.bytes_max };
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failure)?;
        rows += batch.num_rows() as u64;
        if rows > request.rows_max {
            return Err(Failure::Rows);
        }
        encoder.write(&batch).map_err(worker)?;
        if encoder.pending() as u64 > request.bytes_max {
            return Err(Failure::Bytes);
        }
        if encoder.pending() >= FRAME_BYTES_MAX {
            output.send(&encoder.drain())?;
        }
    }
    output.send(&encoder.finish().map_err(worker)?)?;
    Ok(rows)
}

/// Sends what a query takes and gives.
fn describe(description: &PgDescription) -> Result<(), Failure> {
    let worker = |error: LakeError| Failure::Worker(error.to_string());
    // With plain texts, as its rows have.
    let columns = with_texts_as(&description.columns, &DataType::Utf8);
    let mut bytes = stream(&postgres::as_schema(&description.parameters), &[]).map_err(worker)?;
    bytes.extend(stream(&columns, &[]).map_err(worker)?);
    Output { sent: AtomicU64::new(0), max: u64::MAX }.send(&bytes)
}

struct Output {
    sent: AtomicU64,
    max: u64,
}

impl Output {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        if sent > self.max {
            return Err(Failure::Bytes);
        }
        let mut output = io::stdout().lock();
        bytes
            .chunks(FRAME_BYTES_MAX)
            .try_for_each(|part| write_frame(&mut output, FRAME_DATA, part))
            .map_err(|error| Failure::Worker(error.to_string()))
    }
}

/// A session that knows these tables and nothing else: no file system, no disk to spill to.
fn session(request: &Request, tables: Vec<Table>) -> Result<SessionContext, Failure> {
    let fail = |error: DataFusionError| Failure::Worker(error.to_string());
    let pool = usize::try_from(request.memory_bytes / POOL_SHARE.1 * POOL_SHARE.0).unwrap_or(usize::MAX);
    let registry = DefaultObjectStoreRegistry::new();
    let everything = ObjectStoreUrl::local_filesystem();
    registry.deregister_store(everything.as_ref()).map_err(fail)?;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(pool)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .with_object_store_registry(Arc::new(registry))
        .build_arc()
        .map_err(fail)?;
    let is_postgres = !matches!(request.question, Question::Rows(_));
    let config = if is_postgres {
        // Its own `information_schema` tells types by their names in PostgreSQL.
        SessionConfig::new().with_default_catalog_and_schema(postgres::DATABASE, postgres::SCHEMA)
    } else {
        SessionConfig::new().with_information_schema(true)
    };
    let config = config
        .with_target_partitions(request.threads.max(1))
        // `user` and `offset` are columns here; the generic dialect takes `user` for a function.
        .set_str("datafusion.sql_parser.dialect", "DuckDB")
        // A literal like 0.5 is an exact decimal: money times it stays exact.
        .set_bool("datafusion.sql_parser.parse_float_as_decimal", true);
    let context = SessionContext::new_with_config_rt(config, runtime);
    context.register_udf(tag::function());
    for (at, (table, schema, rows)) in tables.into_iter().enumerate() {
        let url = Url::parse(&format!("lake://table-{at}")).map_err(|error| Failure::Worker(error.to_string()))?;
        if !table.files.is_empty() {
            let store = LocalFileSystem::new_with_prefix(&table.folder);
            let store = store.map_err(|error| Failure::Worker(error.to_string()))?;
            context.register_object_store(&url, Arc::new(store));
        }
        let store = ObjectStoreUrl::parse(url.as_str()).map_err(fail)?;
        let provider = LakeTable::new(&schema, store, &table.files, &rows);
        let provider = provider.map_err(|error| Failure::Worker(error.to_string()))?;
        context.register_table(table.name.as_str(), Arc::new(provider)).map_err(fail)?;
    }
    Ok(context)
}

/// DataFusion's message without its wrappers and backtrace.
fn failure(error: DataFusionError) -> Failure {
    let root = error.find_root();
    if matches!(root, DataFusionError::ResourcesExhausted(_)) {
        return Failure::Memory;
    }
    let text = error.strip_backtrace();
    if text.contains("RecursionLimitExceeded") { Failure::Depth } else { Failure::Sql(readable(&text)) }
}

/// `Error during planning: DDL not supported: …` becomes a sentence for the person who wrote the query.
fn readable(text: &str) -> String {
    for (marker, what) in [("DDL not supported", "creates or drops"), ("DML not supported", "writes")] {
        if let Some((_, statement)) = text.split_once(marker) {
            let statement = statement.trim_start_matches(": ").trim();
            return format!("only queries are allowed; this statement {what} something ({statement})");
        }
    }
    if let Some((_, statement)) = text.split_once("Statement not supported") {
        let statement = statement.trim_start_matches(": ").trim();
        return format!("only queries are allowed, and no statement that changes the session ({statement})");
    }
    let mut text = text;
    for wrapper in ["Error during planning: ", "SQL error: ", "Schema error: ", "Arrow error: ", "Execution error: "] {
        text = text.strip_prefix(wrapper).unwrap_or(text);
    }
    text.to_owned()
}
