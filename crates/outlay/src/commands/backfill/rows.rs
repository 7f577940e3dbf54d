//! The rows of a file, one at a time, whatever its format: each as the JSON of an event.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use usage_intake::{TableColumns, TableRow};
use usage_types::{RejectCode, Rejection};

use super::parquet::ParquetRows;

/// Read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// The longest row of a text file, in bytes: a hundred times an event's limit. A quote that is not closed would make the rest of the file
/// one row.
const ROW_BYTES_MAX: usize = 16 << 20;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// One JSON event a line: native, or a CloudEvent
    Ndjson,
    /// With a header line of field names
    Csv,
    /// Columns with field names
    Parquet,
}

/// One row.
pub struct Row {
    /// Where it is, for people: the line of a text file, the row of a Parquet file, from 1.
    pub line: u64,
    /// What it holds, or why that cannot be told.
    pub content: Result<TableRow, Rejection>,
    /// The row as it was read, where it cannot be made an event.
    pub raw: String,
}

/// The rows of a file.
pub enum Rows {
    /// Lines of JSON.
    Ndjson(Lines),
    /// Of a CSV file.
    Csv(CsvRows),
    /// Of a Parquet file.
    Parquet(ParquetRows),
}

/// A file to read, and how.
#[derive(Debug, Clone)]
pub struct Input {
    /// Where it is; `-` is standard input.
    pub path: PathBuf,
    /// Its format, where the options say so.
    pub format: Option<FileFormat>,
    /// Whether columns that nobody knows are skipped.
    pub skip_unknown: bool,
}

impl Input {
    /// Whether it is standard input, which can be read once.
    pub fn is_stdin(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    /// Its name, for people.
    pub fn name(&self) -> String {
        if self.is_stdin() { "standard input".to_owned() } else { self.path.display().to_string() }
    }

    fn format(&self) -> Result<FileFormat> {
        let extension = self.path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        match (self.format, extension.as_deref()) {
            (Some(format), _) => Ok(format),
            (None, _) if self.is_stdin() => Ok(FileFormat::Ndjson),
            (None, Some("ndjson" | "jsonl" | "json")) => Ok(FileFormat::Ndjson),
            (None, Some("csv")) => Ok(FileFormat::Csv),
            (None, Some("parquet")) => Ok(FileFormat::Parquet),
            (None, _) => {
                bail!("{}: its name does not tell the format; give --format ndjson, csv or parquet", self.name())
            }
        }
    }

    /// Its size in bytes, where that is known.
    pub fn size(&self) -> Option<u64> {
        if self.is_stdin() { None } else { self.path.metadata().ok().map(|metadata| metadata.len()) }
    }

    /// Opens it.
    pub fn open(&self) -> Result<Rows> {
        let format = self.format()?;
        let in_file = || format!("in {}", self.name());
        if format == FileFormat::Parquet {
            if self.is_stdin() {
                bail!("a Parquet file is read from its end, so it cannot come from standard input; name the file");
            }
            return ParquetRows::open(&open(&self.path)?, self.skip_unknown).map(Rows::Parquet).with_context(in_file);
        }
        let text: Box<dyn Read> =
            if self.is_stdin() { Box::new(io::stdin().lock()) } else { Box::new(open(&self.path)?) };
        Ok(match format {
            FileFormat::Ndjson => Rows::Ndjson(Lines::new(text)),
            _ => Rows::Csv(CsvRows::open(text, self.skip_unknown).with_context(in_file)?),
        })
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Rows {
    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on. What is wrong with one row is in the row.
    pub fn next(&mut self) -> Result<Option<Row>> {
        match self {
            Self::Ndjson(rows) => rows.next(),
            Self::Csv(rows) => rows.next(),
            Self::Parquet(rows) => rows.next(),
        }
    }

    /// How much of the file is read: so many parts of a thousand of a Parquet file, bytes of another.
    pub fn bytes_read(&self, size: u64) -> u64 {
        match self {
            Self::Ndjson(rows) => rows.bytes,
            Self::Csv(rows) => rows.reader.position().byte(),
            Self::Parquet(rows) => rows.bytes_read(size),
        }
    }

    /// The columns, where it has some.
    pub fn columns(&self) -> Option<&TableColumns> {
        match self {
            Self::Ndjson(_) => None,
            Self::Csv(rows) => Some(&rows.columns),
            Self::Parquet(rows) => Some(rows.columns()),
        }
    }
}

/// Lines that are not blank.
pub struct Lines {
    input: BufReader<Box<dyn Read>>,
    line: u64,
    bytes: u64,
}

impl Lines {
    fn new(input: Box<dyn Read>) -> Self {
        Self { input: BufReader::with_capacity(BUFFER_BYTES, input), line: 0, bytes: 0 }
    }

    fn next(&mut self) -> Result<Option<Row>> {
        loop {
            let mut text = Vec::new();
            let read = (&mut self.input).take(ROW_BYTES_MAX as u64).read_until(b'\n', &mut text)?;
            if read == 0 {
                return Ok(None);
            }
            if read == ROW_BYTES_MAX && text.last() != Some(&b'\n') {
                bail!("line {} is longer than {ROW_BYTES_MAX} bytes; write one event a line", self.line + 1);
            }
            self.line += 1;
            self.bytes += read as u64;
            if text.trim_ascii().is_empty() {
                continue;
            }
            let text = String::from_utf8(text);
            let content = match &text {
                Ok(text) => Ok(TableRow::Event(text.trim().to_owned())),
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let message = format!("byte {at} of the line is not UTF-8; encode the file as UTF-8");
                    Err(Rejection::new(RejectCode::BadUtf8, message))
                }
            };
            let raw = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            return Ok(Some(Row { line: self.line, content, raw: raw.trim_end().to_owned() }));
        }
    }
}

/// Rows of a CSV file (RFC 4180) with a header.
pub struct CsvRows {
    reader: csv::Reader<Bounded<Box<dyn Read>>>,
    columns: TableColumns,
    record: csv::ByteRecord,
    left: Rc<Cell<usize>>,
}

impl CsvRows {
    fn open(input: Box<dyn Read>, skip_unknown: bool) -> Result<Self> {
        let left = Rc::new(Cell::new(ROW_BYTES_MAX));
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(Bounded { input, left: Rc::clone(&left) });
        let header = reader.headers().context("the header line")?;
        let columns = TableColumns::new(header.iter(), skip_unknown).map_err(|rejection| anyhow::anyhow!(rejection))?;
        if columns.is_empty() {
            bail!("there is no header line; name the columns, like time,namespace,model,tokens.input");
        }
        Ok(Self { reader, columns, record: csv::ByteRecord::new(), left })
    }

    fn next(&mut self) -> Result<Option<Row>> {
        self.left.set(ROW_BYTES_MAX);
        let line = self.reader.position().line();
        if !self.reader.read_byte_record(&mut self.record).with_context(|| format!("the row at line {line}"))? {
            return Ok(None);
        }
        // A blank line before it is not counted by the position before.
        let line = self.record.position().map_or(line, csv::Position::line);
        let cells: Result<Vec<Option<&str>>, usize> =
            (0..self.record.len()).map(|at| std::str::from_utf8(&self.record[at]).map(Some).map_err(|_| at)).collect();
        let content = match cells {
            Ok(cells) => self.columns.row(&cells),
            Err(at) => {
                let message = format!("cell {} is not UTF-8; encode the file as UTF-8", at + 1);
                Err(Rejection::new(RejectCode::BadUtf8, message))
            }
        };
        let raw = if content.is_err() { raw_csv(&self.record) } else { String::new() };
        Ok(Some(Row { line, content, raw }))
    }
}

/// The record as a line of CSV again.
fn raw_csv(record: &csv::ByteRecord) -> String {
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
    let written = writer.write_byte_record(record).ok().and_then(|()| writer.into_inner().ok());
    String::from_utf8_lossy(&written.unwrap_or_default()).trim_end().to_owned()
}

/// Ends where a row is too long, before it fills the memory.
struct Bounded<R> {
    input: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            let message = format!("a row is longer than {ROW_BYTES_MAX} bytes; is a quote not closed?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let read = self.input.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(read));
        Ok(read)
    }
}
