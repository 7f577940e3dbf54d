//! One segment file of a partition: batches one after the other, and a sparse index kept in memory.
//!
//! Readers see only the first `committed_bytes` of the file, which were synced. The index is filled as batches are
//! committed; for a segment that was closed before this start it is built from the batch headers when first needed, so that starting
//! costs nothing for old segments. Deliberately absent: index files on disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::batch::{BatchHeader, HEADER_BYTES};

/// One index entry for at least so many bytes of log.
const INDEX_INTERVAL_BYTES: u64 = 4096;
pub(crate) const LOG_SUFFIX: &str = "log";

pub(crate) struct Segment {
    pub base_offset: i64,
    pub path: PathBuf,
    pub file: File,
    committed_bytes: AtomicU64,
    max_timestamp_ms: AtomicI64,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    entries: Vec<IndexEntry>,
    /// How much of the file the entries and the maximum timestamp stand for.
    covered_bytes: u64,
}

#[derive(Clone, Copy)]
struct IndexEntry {
    base_offset: i64,
    position: u64,
    /// The greatest timestamp before this position.
    max_timestamp_before_ms: i64,
}

impl Segment {
    pub fn path_in(dir: &Path, base_offset: i64) -> PathBuf {
        dir.join(format!("{base_offset:020}.{LOG_SUFFIX}"))
    }

    pub fn create(dir: &Path, base_offset: i64) -> io::Result<Self> {
        let path = Self::path_in(dir, base_offset);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.sync_all()?;
        super::sync_dir(dir)?;
        Ok(Self::with_file(base_offset, path, file, 0))
    }

    /// Opens a file that exists; the caller says how much of it is whole (after recovery, or from the closing note).
    pub fn open(path: PathBuf, base_offset: i64, committed_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self::with_file(base_offset, path, file, committed_bytes))
    }

    fn with_file(base_offset: i64, path: PathBuf, file: File, committed_bytes: u64) -> Self {
        Self {
            base_offset,
            path,
            file,
            committed_bytes: AtomicU64::new(committed_bytes),
            max_timestamp_ms: AtomicI64::new(-1),
            index: Mutex::new(Index::default()),
        }
    }

    pub fn committed_bytes(&self) -> u64 {
        self.committed_bytes.load(Ordering::Acquire)
    }

    /// Makes synced batches visible: `batches` are those between the old and the new end, with their positions.
    pub fn commit(&self, end_bytes: u64, batches: &[(u64, BatchHeader)]) {
        let mut index = self.index.lock();
        // An index that was never built is built from the file when needed; adding to it now would leave a gap.
        if index.covered_bytes == self.committed_bytes() {
            for (position, header) in batches {
                self.add_to_index(&mut index, *position, header);
            }
        }
        self.committed_bytes.store(end_bytes, Ordering::Release);
    }

    /// The greatest timestamp in the segment, -1 when it is empty.
    pub fn max_timestamp_ms(&self) -> io::Result<i64> {
        self.cover()?;
        Ok(self.max_timestamp_ms.load(Ordering::Relaxed))
    }

    /// Whole batches from the one that holds `offset` on (or the first after it), at most `max_bytes`, but one batch at least when
    /// `oversized_first` (otherwise empty when it is larger). `None` when the segment ends before `offset`.
    pub fn read(&self, offset: i64, max_bytes: usize, oversized_first: bool) -> io::Result<Option<Bytes>> {
        let end = self.committed_bytes();
        let Some((start, header)) = self.find(offset, end)? else { return Ok(None) };
        if header.size_bytes > max_bytes && !oversized_first {
            return Ok(Some(Bytes::new()));
        }
        let wanted = max_bytes.max(header.size_bytes) as u64;
        let mut buffer = vec![0; usize::try_from(wanted.min(end - start)).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut buffer, start)?;
        let mut whole = 0;
        while let Some(header) = BatchHeader::peek(&buffer[whole..]) {
            if header.size_bytes > buffer.len() - whole {
                break;
            }
            whole += header.size_bytes;
        }
        buffer.truncate(whole);
        Ok(Some(Bytes::from(buffer)))
    }

    /// The first batch whose greatest timestamp is at least `timestamp_ms`.
    pub fn find_timestamp(&self, timestamp_ms: i64) -> io::Result<Option<Bytes>> {
        if self.max_timestamp_ms()? < timestamp_ms {
            return Ok(None);
        }
        let from = {
            let index = self.index.lock();
            let after = index.entries.partition_point(|entry| entry.max_timestamp_before_ms < timestamp_ms);
            after.checked_sub(1).map_or(0, |at| index.entries[at].position)
        };
        let mut found = None;
        scan_headers(&self.file, from, self.committed_bytes(), |position, header| {
            if header.max_timestamp_ms < timestamp_ms {
                return true;
            }
            found = Some((position, header.size_bytes));
            false
        })?;
        let Some((position, size_bytes)) = found else { return Ok(None) };
        let mut batch = vec![0; size_bytes];
        self.file.read_exact_at(&mut batch, position)?;
        Ok(Some(Bytes::from(batch)))
    }

    /// Position and header of the first batch that ends at or after `offset`.
    fn find(&self, offset: i64, end: u64) -> io::Result<Option<(u64, BatchHeader)>> {
        self.cover()?;
        let from = {
            let index = self.index.lock();
            let after = index.entries.partition_point(|entry| entry.base_offset <= offset);
            after.checked_sub(1).map_or(0, |at| index.entries[at].position)
        };
        let mut found = None;
        scan_headers(&self.file, from, end, |position, header| {
            if header.last_offset() < offset {
                return true;
            }
            found = Some((position, *header));
            false
        })?;
        Ok(found)
    }

    /// Extends the index over everything committed.
    fn cover(&self) -> io::Result<()> {
        let mut index = self.index.lock();
        let (from, to) = (index.covered_bytes, self.committed_bytes());
        if from < to {
            scan_headers(&self.file, from, to, |position, header| {
                self.add_to_index(&mut index, position, header);
                true
            })?;
        }
        Ok(())
    }

    fn add_to_index(&self, index: &mut Index, position: u64, header: &BatchHeader) {
        let max_before = self.max_timestamp_ms.load(Ordering::Relaxed);
        if index.entries.last().is_none_or(|last| position - last.position >= INDEX_INTERVAL_BYTES) {
            let entry = IndexEntry { base_offset: header.base_offset, position, max_timestamp_before_ms: max_before };
            index.entries.push(entry);
        }
        self.max_timestamp_ms.store(max_before.max(header.max_timestamp_ms), Ordering::Relaxed);
        index.covered_bytes = position + header.size_bytes as u64;
    }
}

/// Calls `visit` with position and header of each batch in `[from, to)` until it returns false.
///
/// Ends early, without an error, at the first thing that is not a whole batch; returns where it ended.
pub(crate) fn scan_headers(
    file: &File,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, &BatchHeader) -> bool,
) -> io::Result<u64> {
    let mut position = from;
    let mut buffer = [0; HEADER_BYTES];
    while position + HEADER_BYTES as u64 <= to {
        file.read_exact_at(&mut buffer, position)?;
        let Some(header) = BatchHeader::peek(&buffer) else { break };
        let next = position + header.size_bytes as u64;
        if !header.is_plausible() || next > to || !visit(position, &header) {
            break;
        }
        position = next;
    }
    Ok(position)
}
