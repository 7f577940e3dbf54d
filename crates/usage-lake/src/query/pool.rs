//! The parent's side: a bounded number of children, some started ahead, each killed when its query is over or given up.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::encode::Format;
use super::postgres::{PgDescription, PgQuery};
use super::protocol::{Done, Question, Request, RequestTable, header, read_stream, stream};
use super::stream::{BatchStream, Conversation, QueryStream};
use super::worker::{MEMORY_VARIABLE, limit_bytes};
use super::{QueryInput, QueryTable};
use crate::LakeError;

const MIB: u64 = 1 << 20;

/// How queries run.
#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// The program that serves as child.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Children that are started ahead.
    pub warm: usize,
    /// Queries that run at once.
    pub running_max: usize,
    /// Queries that wait for one of those; one more is refused.
    pub waiting_max: usize,
    /// Memory of one query, in MiB, its share of the tail included.
    pub memory_mib: u64,
    /// How long a query may run, from when it has a child until the last of its result is taken.
    pub deadline: Duration,
    /// The most rows of a result.
    pub rows_max: u64,
    /// The largest result that is held whole, in bytes of its format.
    pub bytes_max: u64,
    /// Threads of one query.
    pub threads: usize,
}

impl QueryConfig {
    /// Children of this program, by its subcommand `query-worker`: two at once, one ahead, 1 GiB and 30 s each.
    ///
    /// # Errors
    /// The system does not tell where our program is.
    pub fn of_current_program() -> Result<Self, LakeError> {
        // The image that runs, also after the file was replaced by a newer one that may speak another protocol.
        let image = PathBuf::from("/proc/self/exe");
        let program = if cfg!(target_os = "linux") && image.exists() { Ok(image) } else { std::env::current_exe() };
        let program = program.map_err(|error| LakeError::QueryWorker(error.to_string()))?;
        Ok(Self {
            program,
            arguments: vec!["query-worker".into()],
            warm: 1,
            running_max: 2,
            waiting_max: 32,
            memory_mib: 1024,
            deadline: Duration::from_secs(30),
            rows_max: 1_000_000,
            bytes_max: 256 * MIB,
            threads: 2,
        })
    }
}

/// A query's result.
#[derive(Debug, Clone)]
pub struct QueryOutput {
    /// The form of `bytes`.
    pub format: Format,
    /// The whole result in that form.
    pub bytes: Vec<u8>,
    /// How many rows it has.
    pub rows: u64,
}

/// Runs queries in children. Cheap to clone; dropping the last clone ends the children that wait.
#[derive(Debug, Clone)]
pub struct QueryPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: QueryConfig,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    warm: Mutex<VecDeque<Child>>,
    told_confinement: AtomicBool,
}

impl QueryPool {
    /// A pool; its first children start with the first call of [`warm`](Self::warm) or of a query.
    #[must_use]
    pub fn new(config: QueryConfig) -> Self {
        let running = Arc::new(Semaphore::new(config.running_max.max(1)));
        let (waiting, warm, told) = (AtomicUsize::new(0), Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { config, running, waiting, warm, told_confinement: told }))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &QueryConfig {
        &self.0.config
    }

    /// How many queries run or wait now.
    #[must_use]
    pub fn load(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Starts children ahead, as many as the settings say.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn warm(&self) -> Result<(), LakeError> {
        let mut warm = self.0.warm.lock().unwrap_or_else(PoisonError::into_inner);
        while warm.len() < self.0.config.warm {
            warm.push_back(self.start()?);
        }
        Ok(())
    }

    fn start(&self) -> Result<Child, LakeError> {
        let QueryConfig { program, arguments, memory_mib, threads, .. } = &self.0.config;
        Command::new(program)
            .args(arguments)
            // Our environment holds keys and passwords.
            .env_clear()
            .env(MEMORY_VARIABLE, limit_bytes(memory_mib * MIB, *threads).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| LakeError::QueryWorker(format!("cannot start {}: {error}", program.display())))
    }

    fn take(&self) -> Result<Child, LakeError> {
        loop {
            let waiting = self.0.warm.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut child) = waiting else { return self.start() };
            // One that died while it waited is of no use.
            if matches!(child.try_wait(), Ok(None)) {
                return Ok(child);
            }
        }
    }

    /// Runs a query and returns its whole result in a format. Dropping the future kills the child.
    ///
    /// # Errors
    /// [`LakeError::Sql`] where the query is wrong, not allowed or fails; the `Query…` errors where a limit is reached.
    pub async fn query(&self, sql: &str, input: QueryInput, format: Format) -> Result<QueryOutput, LakeError> {
        let stream = self.open(Question::Rows(sql.to_owned()), input, format, self.0.config.bytes_max).await?;
        Self::whole(stream).await
    }

    async fn whole(mut stream: QueryStream) -> Result<QueryOutput, LakeError> {
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(QueryOutput { format: stream.format(), bytes, rows: stream.rows().unwrap_or_default() })
    }

    /// Runs a query and returns its result as it is made, in bounded memory whatever its size; what comes only at its end, as Parquet does,
    /// is bounded in size instead. The deadline holds up to the last byte that is taken.
    ///
    /// # Errors
    /// As [`query`](Self::query), for what fails before the first MiB; what fails later is in the stream.
    pub async fn stream(&self, sql: &str, input: QueryInput, format: Format) -> Result<QueryStream, LakeError> {
        let bytes_max = if format.is_streamed() { u64::MAX } else { self.0.config.bytes_max };
        self.open(Question::Rows(sql.to_owned()), input, format, bytes_max).await
    }

    /// Runs a query in PostgreSQL's dialect and returns its result as batches as they are made.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub async fn pg_rows(&self, query: PgQuery, input: QueryInput) -> Result<BatchStream, LakeError> {
        BatchStream::of(self.open(Question::PgRows(query), input, Format::Arrow, u64::MAX).await?).await
    }

    /// What a query in PostgreSQL's dialect takes and gives. It is planned in a child like any other, and not run.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn pg_describe(&self, query: PgQuery, input: QueryInput) -> Result<PgDescription, LakeError> {
        let stream = self.open(Question::PgDescribe(query), input, Format::Arrow, self.0.config.bytes_max).await?;
        let output = Self::whole(stream).await?;
        let mut bytes = output.bytes.as_slice();
        let (parameters, _) = read_stream(&mut bytes)?;
        let (columns, _) = read_stream(&mut bytes)?;
        let parameters = parameters.fields().iter().map(|field| field.data_type().clone()).collect();
        Ok(PgDescription { parameters, columns })
    }

    /// Runs a query and returns its result as batches as they are made.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub async fn stream_batches(&self, sql: &str, input: QueryInput) -> Result<BatchStream, LakeError> {
        BatchStream::of(self.stream(sql, input, Format::Arrow).await?).await
    }

    async fn open(
        &self,
        question: Question,
        input: QueryInput,
        format: Format,
        bytes_max: u64,
    ) -> Result<QueryStream, LakeError> {
        let (inner, config) = (&self.0, &self.0.config);
        let waits = Waiting::enter(inner, config.running_max + config.waiting_max)?;
        let permit = Arc::clone(&inner.running).acquire_owned().await;
        let permit = permit.map_err(|error| LakeError::QueryWorker(error.to_string()))?;
        let request = self.request(question, input, format, bytes_max).await?;
        let child = self.take()?;
        // The next one starts while this one works.
        self.warm()?;
        let deadline = Instant::now() + config.deadline;
        let conversation = Conversation { child, request, deadline, bytes_max, config: config.clone() };
        let inner = Arc::clone(inner);
        conversation.start(format, (permit, waits), move |done| inner.tell_confinement(done)).await
    }

    /// Runs a query and returns its result as batches.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn query_batches(
        &self,
        sql: &str,
        input: QueryInput,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), LakeError> {
        let output = self.query(sql, input, Format::Arrow).await?;
        let reader = StreamReader::try_new(std::io::Cursor::new(output.bytes), None)?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<_, _>>()?))
    }

    /// The bytes of a request, part by part.
    async fn request(
        &self,
        question: Question,
        input: QueryInput,
        format: Format,
        bytes_max: u64,
    ) -> Result<Vec<Vec<u8>>, LakeError> {
        let config = &self.0.config;
        let mut request = Request {
            question,
            format,
            rows_max: config.rows_max,
            bytes_max,
            threads: config.threads,
            memory_bytes: config.memory_mib * MIB,
            deadline_ms: u64::try_from(config.deadline.as_millis()).unwrap_or(u64::MAX),
            tables: Vec::new(),
        };
        // A long tail takes a while to encode: not on a thread that others wait for.
        tokio::task::spawn_blocking(move || {
            let mut parts = vec![Vec::new()];
            for QueryTable { name, schema, folder, files, rows } in input.tables {
                let folder = folder.to_string_lossy().into_owned();
                let files = files.iter().map(|file| file.as_ref().clone()).collect();
                request.tables.push(RequestTable { name, folder, files });
                parts.push(stream(&schema, &rows)?);
            }
            parts[0] = header(&request)?;
            Ok(parts)
        })
        .await?
    }
}

impl Inner {
    fn tell_confinement(&self, done: &Done) {
        if self.told_confinement.swap(true, Ordering::Relaxed) {
            return;
        }
        if done.confined {
            debug!(confinement = done.confinement, "query workers are confined");
        } else {
            warn!(confinement = done.confinement, "query workers are not fully confined on this system");
        }
    }
}

/// Counts a query from when it is asked until it is answered or given up.
struct Waiting(Arc<Inner>);

impl Waiting {
    fn enter(inner: &Arc<Inner>, max: usize) -> Result<Self, LakeError> {
        let entered = Self(Arc::clone(inner));
        if inner.waiting.fetch_add(1, Ordering::Relaxed) >= max { Err(LakeError::QueryBusy) } else { Ok(entered) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
