//! The parent's side: a bounded number of children, some started ahead, each killed when its query is over or given up.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::encode::Format;
use super::protocol::{
    Done, FRAME_BYTES_MAX, FRAME_DATA, FRAME_DONE, FRAME_FAILURE, Failure, Request, RequestTable, header, stream,
};
use super::worker::{MEMORY_VARIABLE, OUT_OF_MEMORY, limit_bytes};
use super::{QueryInput, QueryTable};
use crate::LakeError;

/// How much of a child's last words is kept.
const STDERR_BYTES_MAX: u64 = 16 * 1024;
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
    /// How long a query may run, from when it has a child.
    pub deadline: Duration,
    /// The most rows of a result.
    pub rows_max: u64,
    /// The largest result, in bytes of its format.
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
    running: Semaphore,
    waiting: AtomicUsize,
    warm: Mutex<VecDeque<Child>>,
    told_confinement: AtomicBool,
}

impl QueryPool {
    /// A pool; its first children start with the first call of [`warm`](Self::warm) or of a query.
    #[must_use]
    pub fn new(config: QueryConfig) -> Self {
        let running = Semaphore::new(config.running_max.max(1));
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

    /// Runs a query and returns its result in a format. Dropping the future kills the child.
    ///
    /// # Errors
    /// [`LakeError::Sql`] where the query is wrong, not allowed or fails; the `Query…` errors where a limit is reached.
    pub async fn query(&self, sql: &str, input: QueryInput, format: Format) -> Result<QueryOutput, LakeError> {
        let inner = &self.0;
        let waits = Waiting::enter(&inner.waiting, inner.config.running_max + inner.config.waiting_max)?;
        let _permit = inner.running.acquire().await.map_err(|error| LakeError::QueryWorker(error.to_string()))?;
        let request = self.request(sql, input, format).await?;
        let child = self.take()?;
        // The next one starts while this one works.
        self.warm()?;
        let limit = inner.config.deadline;
        let answered = tokio::time::timeout(limit, self.converse(child, request)).await;
        drop(waits);
        let (bytes, done) = answered.map_err(|_| LakeError::QueryTime { limit_s: limit.as_secs().max(1) })??;
        if !inner.told_confinement.swap(true, Ordering::Relaxed) {
            if done.confined {
                debug!(confinement = done.confinement, "query workers are confined");
            } else {
                warn!(confinement = done.confinement, "query workers are not fully confined on this system");
            }
        }
        Ok(QueryOutput { format, bytes, rows: done.rows })
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
    async fn request(&self, sql: &str, input: QueryInput, format: Format) -> Result<Vec<Vec<u8>>, LakeError> {
        let config = &self.0.config;
        let mut request = Request {
            sql: sql.to_owned(),
            format,
            rows_max: config.rows_max,
            bytes_max: config.bytes_max,
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

    async fn converse(&self, mut child: Child, request: Vec<Vec<u8>>) -> Result<(Vec<u8>, Done), LakeError> {
        let missing = || LakeError::QueryWorker("a child without pipes".to_owned());
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let mut stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let speak = async {
            for part in &request {
                // A child that died does not read on; how it ended says why.
                if stdin.write_all(part).await.is_err() {
                    return;
                }
            }
            let _ = stdin.flush().await;
        };
        let last_words = async {
            let mut text = Vec::new();
            let _ = stderr.take(STDERR_BYTES_MAX).read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        };
        let (_, answer) = tokio::join!(speak, self.listen(&mut stdout));
        if let Some(answer) = answer? {
            // The answer is complete: what the child still does is of no interest.
            let _ = child.start_kill();
            return answer;
        }
        drop(stdin);
        let (words, status) = tokio::join!(last_words, child.wait());
        let status = status.map_err(|error| LakeError::QueryWorker(error.to_string()))?;
        Err(self.ended(status, &words))
    }

    /// Reads frames up to the last one; `None` where the child ended before it.
    async fn listen(
        &self,
        stdout: &mut (impl AsyncReadExt + Unpin),
    ) -> Result<Option<Result<(Vec<u8>, Done), LakeError>>, LakeError> {
        let config = &self.0.config;
        let mut bytes = Vec::new();
        loop {
            let mut head = [0; 5];
            if stdout.read_exact(&mut head).await.is_err() {
                return Ok(None);
            }
            let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if len > FRAME_BYTES_MAX || (bytes.len() + len) as u64 > config.bytes_max + FRAME_BYTES_MAX as u64 {
                return Err(LakeError::QueryWorker("it sent more than it may".to_owned()));
            }
            let mut payload = vec![0; len];
            if stdout.read_exact(&mut payload).await.is_err() {
                return Ok(None);
            }
            match head[0] {
                FRAME_DATA => bytes.append(&mut payload),
                FRAME_DONE => return Ok(Some(Ok((bytes, serde_json::from_slice(&payload)?)))),
                FRAME_FAILURE => return Ok(Some(Err(self.failed(serde_json::from_slice(&payload)?)))),
                kind => return Err(LakeError::QueryWorker(format!("it sent a frame of kind {kind}"))),
            }
        }
    }

    fn failed(&self, failure: Failure) -> LakeError {
        let config = &self.0.config;
        match failure {
            Failure::Sql(message) => LakeError::Sql(message),
            Failure::Memory => LakeError::QueryMemory { limit_mib: config.memory_mib },
            Failure::Depth => LakeError::QueryDepth,
            Failure::Rows => LakeError::QueryResult { limit: config.rows_max, unit: "rows" },
            Failure::Bytes => LakeError::QueryResult { limit: config.bytes_max, unit: "bytes" },
            Failure::Worker(message) => LakeError::QueryWorker(message),
        }
    }

    /// What it means that a child ended without an answer: the standard library says on the error output which limit it was.
    fn ended(&self, status: ExitStatus, words: &str) -> LakeError {
        let limit_mib = self.0.config.memory_mib;
        if words.contains("overflowed its stack") {
            return LakeError::QueryDepth;
        }
        if OUT_OF_MEMORY.iter().any(|sign| words.contains(sign)) {
            return LakeError::QueryMemory { limit_mib };
        }
        #[cfg(unix)]
        if std::os::unix::process::ExitStatusExt::signal(&status) == Some(9) {
            // We kill a child only after its answer: this was the system, short of memory.
            return LakeError::QueryMemory { limit_mib };
        }
        warn!(%status, words, "a query worker ended without an answer");
        LakeError::QueryWorker(format!("it ended without an answer ({status})"))
    }
}

/// Counts a query from when it is asked until it is answered or given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Result<Self, LakeError> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= max { Err(LakeError::QueryBusy) } else { Ok(entered) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
