//! What parent and child say to each other.
//!
//! Request, on the child's standard input: the length of a JSON header (4 bytes, little endian), the header, then for each
//! table of the header the length of an Arrow IPC stream (8 bytes, little endian) and the stream. The input then stays open:
//! its end tells the child that the parent is gone.
//! Response, on its standard output: frames of a kind (1 byte), a length (4 bytes, little endian) and a payload.

use std::io::{self, Read, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::encode::Format;
use super::postgres::PgQuery;
use crate::LakeError;
use crate::datafile::FileRef;

/// The largest header: a million files of 200 bytes each.
const HEADER_BYTES_MAX: u32 = 256 << 20;
/// The largest payload of one frame.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 20;

/// Bytes of the result in its format.
pub(super) const FRAME_DATA: u8 = b'D';
/// The query failed: a [`Failure`] as JSON. The last frame.
pub(super) const FRAME_FAILURE: u8 = b'E';
/// The result is complete: a [`Done`] as JSON. The last frame.
pub(super) const FRAME_DONE: u8 = b'O';

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub question: Question,
    pub format: Format,
    pub rows_max: u64,
    pub bytes_max: u64,
    pub threads: usize,
    pub memory_bytes: u64,
    pub deadline_ms: u64,
    pub tables: Vec<RequestTable>,
}

/// What is asked, by which door.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// In DataFusion's own dialect.
    Rows(String),
    /// In PostgreSQL's.
    PgRows(PgQuery),
    /// What a query takes and gives, without running it: two streams without rows, of its parameters and of its columns.
    PgDescribe(PgQuery),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RequestTable {
    pub name: String,
    pub folder: String,
    pub files: Vec<FileRef>,
}

/// Why the child could not answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub(super) enum Failure {
    Sql(String),
    Memory,
    Depth,
    Rows,
    Bytes,
    Worker(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub rows: u64,
    /// How far the child was confined, like `landlock fully, seccomp`.
    pub confinement: String,
    /// Whether that is all that we ask for.
    pub confined: bool,
}

pub(super) fn header(request: &Request) -> Result<Vec<u8>, LakeError> {
    let json = serde_json::to_vec(request)?;
    let len = u32::try_from(json.len()).ok().filter(|len| *len <= HEADER_BYTES_MAX);
    let len =
        len.ok_or_else(|| LakeError::QueryWorker("too many files for one query; choose a shorter time".into()))?;
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend(json);
    Ok(bytes)
}

/// The rows of one table, with their length before them.
pub(super) fn stream(schema: &Schema, rows: &[RecordBatch]) -> Result<Vec<u8>, LakeError> {
    let mut bytes = vec![0; 8];
    let mut writer = StreamWriter::try_new(&mut bytes, schema)?;
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    drop(writer);
    let len = (bytes.len() - 8) as u64;
    bytes[..8].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

pub(super) fn read_header(input: &mut impl Read) -> io::Result<Request> {
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > HEADER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; len as usize];
    input.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

pub(super) fn read_stream(input: &mut impl Read) -> Result<(arrow::datatypes::SchemaRef, Vec<RecordBatch>), LakeError> {
    let fail = |error: io::Error| LakeError::QueryWorker(error.to_string());
    let mut len = [0; 8];
    input.read_exact(&mut len).map_err(fail)?;
    let mut part = input.take(u64::from_le_bytes(len));
    let reader = StreamReader::try_new(&mut part, None)?;
    let schema = reader.schema();
    let rows = reader.collect::<Result<Vec<_>, _>>()?;
    io::copy(&mut part, &mut io::sink()).map_err(fail)?;
    Ok((schema, rows))
}

pub(super) fn write_frame(output: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    output.write_all(&[kind])?;
    output.write_all(&len.to_le_bytes())?;
    output.write_all(payload)
}
