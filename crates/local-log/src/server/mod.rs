//! Accepts connections, frames requests, and answers them in order.
//!
//! Each connection has a reader and a writer. The reader decodes a request and hands its answer, not yet computed, to the writer through a
//! bounded queue; the writer computes and sends one after the other, which is the order that Kafka clients rely on. Appends are
//! the exception: they start in the reader, so that pipelined produce requests share syncs. A malformed request or a slow reader costs its own
//! connection only. Deliberately absent: TLS and authentication; this log is for loopback.

mod guard;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

pub(crate) use guard::decode;

use crate::api;
use crate::broker::Broker;

/// Permits for bytes in flight are handed out in this unit.
const PERMIT_BYTES: usize = 1024;
/// Body memory is reserved in steps, as the bytes come in.
const READ_STEP_BYTES: usize = 256 * 1024;

/// An answer that may still have to be computed. `None` inside: the client wants no answer.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Option<BytesMut>, BadRequest>> + Send>>;

/// Why a connection is closed. Clients get no answer to such a request: there is none they could decode.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("request of {0} bytes is above the limit or impossible")]
    Size(i64),
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("api {api_key} version {version} is not offered")]
    NotOffered { api_key: i16, version: i16 },
    #[error("answer cannot be encoded in version {version} of api {api_key}: {message}")]
    Encoding { api_key: i16, version: i16, message: String },
}

/// Who a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub remote: SocketAddr,
    /// The address on which the client reached us.
    pub local: SocketAddr,
}

struct Queued {
    answer: Answer,
    _in_flight: OwnedSemaphorePermit,
}

/// Accepts until `stop` turns true, then waits for the connections to end.
pub(crate) async fn run(broker: Arc<Broker>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(broker.config.max_connections));
    let in_flight = Arc::new(Semaphore::new(permits(broker.config.max_in_flight_bytes)));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: let connections end before trying again.
                tracing::warn!(%error, "local log could not accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(limit = broker.config.max_connections, "local log refused a connection; close some clients");
            continue;
        };
        let (broker, in_flight, mut stop) = (Arc::clone(&broker), Arc::clone(&in_flight), stop.clone());
        connections.spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = serve(broker, in_flight, stream) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn serve(broker: Arc<Broker>, in_flight: Arc<Semaphore>, stream: TcpStream) {
    let (Ok(remote), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let peer = Peer { remote, local };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote, %error, "no TCP_NODELAY");
    }
    let (reader, writer) = stream.into_split();
    let (queue, answers) = mpsc::channel(broker.config.max_in_flight_per_connection);
    let write_stall = broker.config.stall_timeout;
    let ended = tokio::select! {
        ended = read_requests(&broker, &in_flight, peer, reader, queue) => ended,
        ended = write_answers(answers, writer, write_stall) => ended,
    };
    match ended {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(%remote, %error, "local log closed a connection");
        }
        Err(error) => tracing::debug!(%remote, %error, "connection ended"),
        Ok(()) => {}
    }
}

async fn read_requests(
    broker: &Arc<Broker>,
    in_flight: &Arc<Semaphore>,
    peer: Peer,
    mut reader: OwnedReadHalf,
    queue: mpsc::Sender<Queued>,
) -> io::Result<()> {
    let config = &broker.config;
    loop {
        let Ok(first) = timeout(config.idle_timeout, reader.read_u8()).await else { return Ok(()) };
        let first = match first {
            Ok(byte) => byte,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut rest = [0; 3];
        timeout(config.stall_timeout, reader.read_exact(&mut rest)).await??;
        let announced = i32::from_be_bytes([first, rest[0], rest[1], rest[2]]);
        let length = usize::try_from(announced).ok().filter(|length| *length <= config.max_request_bytes);
        let Some(length) = length else { return Err(refused(BadRequest::Size(announced.into()))) };
        let share = permits(length).min(permits(config.max_in_flight_bytes));
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let permit = Arc::clone(in_flight).acquire_many_owned(share).await.map_err(io::Error::other)?;
        let frame = read_frame(&mut reader, length, config.stall_timeout).await?;
        let answer = api::dispatch(broker, peer, frame).map_err(refused)?;
        if queue.send(Queued { answer, _in_flight: permit }).await.is_err() {
            return Ok(());
        }
    }
}

async fn read_frame(reader: &mut OwnedReadHalf, length: usize, stall: std::time::Duration) -> io::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(length.min(READ_STEP_BYTES));
    while frame.len() < length {
        if frame.len() == frame.capacity() {
            frame.reserve((length - frame.len()).min(frame.len().max(READ_STEP_BYTES)));
        }
        let mut part = (&mut *reader).take((length - frame.len()) as u64);
        if timeout(stall, part.read_buf(&mut frame)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

async fn write_answers(
    mut answers: mpsc::Receiver<Queued>,
    mut writer: OwnedWriteHalf,
    stall: std::time::Duration,
) -> io::Result<()> {
    while let Some(queued) = answers.recv().await {
        let Some(frame) = queued.answer.await.map_err(refused)? else { continue };
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let written = timeout(stall, writer.write(rest)).await??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
        }
    }
    Ok(())
}

fn permits(bytes: usize) -> usize {
    bytes.div_ceil(PERMIT_BYTES).max(1)
}

fn refused(error: BadRequest) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
