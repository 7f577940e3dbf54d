//! The parent's side of one query: what its child says becomes a stream, and what goes wrong becomes an error.
//!
//! Holds here: at most [`FRAMES_AHEAD`] frames wait for whoever reads the stream; then the child waits, too. The child is killed when the
//! stream is dropped, when the deadline passes, and when it has said its last word, whichever comes first.

use std::process::ExitStatus;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::encode::Format;
use super::pool::QueryConfig;
use super::protocol::{Done, FRAME_BYTES_MAX, FRAME_DATA, FRAME_DONE, FRAME_FAILURE, Failure};
use super::worker::OUT_OF_MEMORY;
use crate::LakeError;

/// Frames of a result, of a MiB each, that wait in this process for a client that takes them slowly.
const FRAMES_AHEAD: usize = 8;
/// How much of a child's last words is kept.
const STDERR_BYTES_MAX: u64 = 16 * 1024;

/// A result on its way from the child. Dropping it kills the child.
#[derive(Debug)]
pub struct QueryStream {
    format: Format,
    pieces: Receiver<Piece>,
    first: Option<Bytes>,
    rows: Option<u64>,
    is_over: bool,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End(Result<Done, LakeError>),
}

impl QueryStream {
    /// Waits for the first full frame or for the end, so that what fails before is an error and no stream.
    async fn begin(format: Format, mut pieces: Receiver<Piece>) -> Result<Self, LakeError> {
        let (mut first, mut rows) = (None, None);
        // Only the last frame of a result is not full.
        while rows.is_none() && first.as_ref().is_none_or(|first: &Bytes| first.len() < FRAME_BYTES_MAX) {
            match pieces.recv().await {
                Some(Piece::Data(bytes)) if first.is_none() => first = Some(bytes),
                Some(Piece::End(done)) => rows = Some(done?.rows),
                Some(Piece::Data(_)) | None => return Err(ended_early()),
            }
        }
        Ok(Self { format, pieces, first, is_over: rows.is_some(), rows })
    }

    /// The form of the bytes.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The whole result, where it is there already: what has less than a MiB always is. The stream is then at its end.
    pub fn whole(&mut self) -> Option<Bytes> {
        self.rows.map(|_| self.first.take().unwrap_or_default())
    }

    /// How many rows the result has, once that is known: at the end of the stream.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// The next bytes of the result, up to a MiB; `None` at its end. After an error, which says that the result is not whole, nothing comes.
    pub async fn next(&mut self) -> Option<Result<Bytes, LakeError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if self.is_over {
            return None;
        }
        let piece = self.pieces.recv().await;
        if let Some(Piece::Data(bytes)) = piece {
            return Some(Ok(bytes));
        }
        self.is_over = true;
        match piece {
            Some(Piece::End(Ok(done))) => {
                self.rows = Some(done.rows);
                None
            }
            Some(Piece::End(Err(error))) => Some(Err(error)),
            _ => Some(Err(ended_early())),
        }
    }
}

fn ended_early() -> LakeError {
    LakeError::QueryWorker("the conversation with it ended early".to_owned())
}

/// A result on its way from the child, as batches. Dropping it kills the child.
#[derive(Debug)]
pub struct BatchStream {
    bytes: QueryStream,
    decoder: StreamDecoder,
    buffer: Buffer,
    schema: SchemaRef,
    first: Option<RecordBatch>,
}

impl BatchStream {
    /// Of a result in the format Arrow; waits for its first bytes, which name the columns.
    pub(super) async fn of(bytes: QueryStream) -> Result<Self, LakeError> {
        let schema = SchemaRef::new(arrow::datatypes::Schema::empty());
        let (decoder, buffer) = (StreamDecoder::new(), Buffer::default());
        let mut stream = Self { bytes, decoder, buffer, schema, first: None };
        loop {
            if let Some(schema) = stream.decoder.schema() {
                stream.schema = schema;
                return Ok(stream);
            }
            if !stream.fill().await? {
                return Err(ended_early());
            }
            stream.first = stream.decoder.decode(&mut stream.buffer)?;
        }
    }

    /// The columns, with plain texts.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The next rows; `None` at the end. After an error, which says that the result is not whole, nothing comes.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, LakeError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => return Some(Err(error.into())),
            }
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn fill(&mut self) -> Result<bool, LakeError> {
        let Some(bytes) = self.bytes.next().await else { return Ok(false) };
        self.buffer = Buffer::from(bytes?);
        Ok(true)
    }
}

/// One query's child, from the request to its last word.
pub(super) struct Conversation {
    pub(super) child: Child,
    pub(super) request: Vec<Vec<u8>>,
    pub(super) deadline: Instant,
    pub(super) bytes_max: u64,
    pub(super) config: QueryConfig,
}

impl Conversation {
    /// Talks to the child in a task of its own, which holds `place` for as long as the child lives and tells `done` about a good end. Returns
    /// once the first bytes are there.
    pub(super) async fn start(
        self,
        format: Format,
        place: impl Send + 'static,
        done: impl FnOnce(&Done) + Send + 'static,
    ) -> Result<QueryStream, LakeError> {
        let (sender, pieces) = channel(FRAMES_AHEAD);
        tokio::spawn(async move {
            let reader_gone = sender.clone();
            let end = tokio::select! {
                end = self.run(&sender) => end,
                // The child dies with the future beside this.
                () = reader_gone.closed() => return,
            };
            if let Ok(end) = &end {
                done(end);
            }
            drop(place);
            let _gone = sender.send(Piece::End(end)).await;
        });
        QueryStream::begin(format, pieces).await
    }

    /// Up to the end, with the child killed at the deadline. What waits for its reader counts: a child is not there for slow ones.
    async fn run(self, sender: &Sender<Piece>) -> Result<Done, LakeError> {
        let limit_s = self.config.deadline.as_secs().max(1);
        let (config, deadline) = (self.config.clone(), self.deadline);
        timeout_at(deadline, self.converse(&config, sender)).await.map_err(|_| LakeError::QueryTime { limit_s })?
    }

    async fn converse(mut self, config: &QueryConfig, sender: &Sender<Piece>) -> Result<Done, LakeError> {
        let (mut stdin, mut stdout, stderr) = pipes(&mut self.child)?;
        let speak = async {
            for part in &self.request {
                // A child that died does not read on; how it ended says why.
                if stdin.write_all(part).await.is_err() {
                    return;
                }
            }
            let _ = stdin.flush().await;
        };
        let (_, answer) = tokio::join!(speak, listen(&mut stdout, config, self.bytes_max, sender));
        if let Some(done) = answer? {
            // The answer is complete: what the child still does is of no interest, and dropping it kills it.
            return Ok(done);
        }
        drop(stdin);
        let last_words = async {
            let mut text = Vec::new();
            let _ = stderr.take(STDERR_BYTES_MAX).read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        };
        let (words, status) = tokio::join!(last_words, self.child.wait());
        let status = status.map_err(|error| LakeError::QueryWorker(error.to_string()))?;
        Err(ended(config, status, &words))
    }
}

fn pipes(child: &mut Child) -> Result<(ChildStdin, ChildStdout, ChildStderr), LakeError> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(LakeError::QueryWorker("a child without pipes".to_owned()));
    };
    Ok((stdin, stdout, stderr))
}

/// Passes frames on up to the last one; `None` where the child ended before it.
async fn listen(
    stdout: &mut ChildStdout,
    config: &QueryConfig,
    bytes_max: u64,
    sender: &Sender<Piece>,
) -> Result<Option<Done>, LakeError> {
    let mut bytes = 0;
    loop {
        let mut head = [0; 5];
        if stdout.read_exact(&mut head).await.is_err() {
            return Ok(None);
        }
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > FRAME_BYTES_MAX || bytes + len as u64 > bytes_max.saturating_add(FRAME_BYTES_MAX as u64) {
            return Err(LakeError::QueryWorker("it sent more than it may".to_owned()));
        }
        let mut payload = vec![0; len];
        if stdout.read_exact(&mut payload).await.is_err() {
            return Ok(None);
        }
        match head[0] {
            FRAME_DATA => {
                bytes += len as u64;
                // Where nobody reads any more, this future is about to be dropped.
                let _gone = sender.send(Piece::Data(Bytes::from(payload))).await;
            }
            FRAME_DONE => return Ok(Some(serde_json::from_slice(&payload)?)),
            FRAME_FAILURE => return Err(failed(config, bytes_max, serde_json::from_slice(&payload)?)),
            kind => return Err(LakeError::QueryWorker(format!("it sent a frame of kind {kind}"))),
        }
    }
}

fn failed(config: &QueryConfig, bytes_max: u64, failure: Failure) -> LakeError {
    match failure {
        Failure::Sql(message) => LakeError::Sql(message),
        Failure::Memory => LakeError::QueryMemory { limit_mib: config.memory_mib },
        Failure::Depth => LakeError::QueryDepth,
        Failure::Rows => LakeError::QueryResult { limit: config.rows_max, unit: "rows" },
        Failure::Bytes => LakeError::QueryResult { limit: bytes_max, unit: "bytes" },
        Failure::Worker(message) => LakeError::QueryWorker(message),
    }
}

/// What it means that a child ended without an answer: the standard library says on the error output which limit it was.
fn ended(config: &QueryConfig, status: ExitStatus, words: &str) -> LakeError {
    let limit_mib = config.memory_mib;
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
