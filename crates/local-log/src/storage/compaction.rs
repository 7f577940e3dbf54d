//! Compaction: of a key's records in closed segments, only the last stays.
//!
//! One pass over a partition first notes, for each key in the segments that were not compacted yet, the offset of its last record, then
//! rewrites all closed segments without the records that a later one replaces. Offsets do not change; records that stay
//! are copied byte for byte. A tombstone stays until `delete.retention.ms` after its segment was last written to, so that a
//! consumer that is behind sees it. The result is written aside, synced, and renamed to a name that says which segments
//! it stands for; a crash before that leaves the old segments, a crash after it is completed at the next start (see [`super::recovery`]).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::partition::PartitionLog;
use super::segment::{Segment, scan_headers};
use super::{now_ms, recovery, sync_dir};
use crate::batch::{self, BatchHeader};
use crate::records::{self, RecordsError};

/// A pass remembers so many keys at most (about 40 bytes each); segments beyond wait for the next pass.
const KEYS_MAX: usize = 4_000_000;

/// Keys by 128 bits of two hash functions with random keys: equal hashes of different keys need not be feared.
struct Latest {
    offsets: HashMap<(u64, u64), i64>,
    first: RandomState,
    second: RandomState,
}

impl Latest {
    fn new() -> Self {
        Self { offsets: HashMap::new(), first: RandomState::new(), second: RandomState::new() }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.first.hash_one(key), self.second.hash_one(key))
    }

    fn note(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.offsets.insert(hash, offset);
    }

    /// Whether a record of the same key follows `offset`.
    fn is_replaced(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|last| *last > offset)
    }
}

/// What a pass did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl PartitionLog {
    /// Compacts the closed segments if the topic asks for it and enough of them is new. Blocks on the disk.
    pub fn compact(&self) -> io::Result<Option<Compacted>> {
        let config = self.config();
        if !config.compact {
            return Ok(None);
        }
        let _maintenance = self.maintenance.lock();
        if self.is_closed() {
            return Ok(None);
        }
        let view = self.view();
        let Some((_, closed)) = view.segments.split_last() else { return Ok(None) };
        let lag_ends = now_ms().saturating_sub(config.min_compaction_lag_ms);
        let mut eligible = 0;
        while eligible < closed.len()
            && (config.min_compaction_lag_ms == 0 || closed[eligible].max_timestamp_ms()? <= lag_ends)
        {
            eligible += 1;
        }
        let closed = &closed[..eligible];
        let compacted_until = self.compacted_until();
        let dirty_from = closed.partition_point(|segment| segment.base_offset < compacted_until);
        let total_bytes: u64 = closed.iter().map(|segment| segment.committed_bytes()).sum();
        let dirty_bytes: u64 = closed[dirty_from..].iter().map(|segment| segment.committed_bytes()).sum();
        #[allow(clippy::cast_precision_loss)]
        let ratio = dirty_bytes as f64 / (total_bytes.max(1)) as f64;
        if dirty_bytes == 0 || ratio < config.min_cleanable_dirty_ratio {
            return Ok(None);
        }
        let mut latest = Latest::new();
        let mut until = dirty_from;
        for segment in &closed[dirty_from..] {
            if until > dirty_from && latest.offsets.len() > KEYS_MAX {
                break;
            }
            note_keys(segment, &mut latest)?;
            until += 1;
        }
        let next_base = |at: usize| view.segments[at].base_offset;
        let mut done = Compacted::default();
        let mut at = 0;
        while at < until {
            let group = group_len(&closed[at..until], config.segment_bytes);
            let keep_tombstones_after =
                SystemTime::now() - Duration::from_millis(config.delete_retention_ms.unsigned_abs());
            let last_offset = next_base(until) - 1;
            let rewrite = Rewrite { latest: &latest, keep_tombstones_after, last_offset };
            let (before, after) = self.replace(&closed[at..at + group], next_base(at + group), &rewrite)?;
            done.bytes_before += before;
            done.bytes_after += after;
            at += group;
        }
        self.set_compacted_until(next_base(until));
        tracing::debug!(partition = %self.label, before = done.bytes_before, after = done.bytes_after, "compacted");
        Ok(Some(done))
    }

    /// Puts one compacted segment in the place of `group`. Returns the bytes before and after.
    fn replace(&self, group: &[Arc<Segment>], next_base: i64, rewrite: &Rewrite<'_>) -> io::Result<(u64, u64)> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok((0, 0)) };
        let base = first.base_offset;
        let cleaned = self.dir.join(format!("{base:020}.cleaned"));
        let written = rewrite_segments(group, &cleaned, rewrite);
        if written.is_err() {
            // Space matters when the disk is full; the old segments still stand.
            let _ = fs::remove_file(&cleaned);
        }
        let bytes_after = written?;
        // The age of the records decides about tombstones next time, so it stays with them.
        let modified = fs::metadata(&last.path)?.modified()?;
        File::options().write(true).open(&cleaned)?.set_modified(modified)?;
        let swap = self.dir.join(format!("{base:020}-{next_base:020}.{}", recovery::SWAP_SUFFIX));
        fs::rename(&cleaned, &swap)?;
        sync_dir(&self.dir)?;
        recovery::finish_swap(&self.dir, &swap)?;
        let compacted = Arc::new(Segment::open(Segment::path_in(&self.dir, base), base, bytes_after)?);
        self.change_view(|view| {
            // Only this module and retention, which waits, replace segments; appends add to the end.
            view.segments.retain(|segment| segment.base_offset < base || segment.base_offset >= next_base);
            let at = view.segments.partition_point(|segment| segment.base_offset < base);
            view.segments.insert(at, compacted);
        });
        Ok((group.iter().map(|segment| segment.committed_bytes()).sum(), bytes_after))
    }
}

/// How many segments from the first on fit into one.
fn group_len(segments: &[Arc<Segment>], segment_bytes: u64) -> usize {
    let mut bytes = 0;
    let first = segments.first().map_or(0, |segment| segment.base_offset);
    let fits = |segment: &&Arc<Segment>| {
        bytes += segment.committed_bytes();
        bytes <= segment_bytes && segment.base_offset - first < i64::from(i32::MAX) / 2
    };
    segments.iter().take_while(fits).count().max(1)
}

struct Rewrite<'a> {
    latest: &'a Latest,
    /// Tombstones in segments last written before this go.
    keep_tombstones_after: SystemTime,
    /// The record here always stays: a consumer at the end must find something to advance over.
    last_offset: i64,
}

fn note_keys(segment: &Segment, latest: &mut Latest) -> io::Result<()> {
    each_batch(segment, |bytes, header| {
        let noted = records::decompressed(bytes, header).and_then(|records| {
            records::walk(&records, header, |record| {
                if let Some(key) = record.key {
                    latest.note(key, record.offset);
                }
                true
            })
        });
        // Such a batch is copied whole below, so its keys need not be known.
        warn_unreadable(segment, header, noted);
        Ok(())
    })
}

fn rewrite_segments(group: &[Arc<Segment>], path: &std::path::Path, rewrite: &Rewrite<'_>) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut bytes_after = 0;
    for segment in group {
        let drop_tombstones = fs::metadata(&segment.path)?.modified()? < rewrite.keep_tombstones_after;
        each_batch(segment, |bytes, header| {
            let kept = rewrite_batch(bytes, header, rewrite, drop_tombstones);
            if let Some(kept) = kept {
                bytes_after += kept.len() as u64;
                out.write_all(&kept)?;
            }
            Ok(())
        })?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(bytes_after)
}

/// The batch without its replaced records; `None` when none stays.
fn rewrite_batch(bytes: &Bytes, header: &BatchHeader, rewrite: &Rewrite<'_>, drop_tombstones: bool) -> Option<Bytes> {
    let records = match records::decompressed(bytes, header) {
        Ok(records) => records,
        Err(_) => return Some(bytes.clone()),
    };
    let mut kept = Vec::with_capacity(records.len());
    let mut count = 0;
    let walked = records::walk(&records, header, |record| {
        let replaced = record.key.is_some_and(|key| rewrite.latest.is_replaced(key, record.offset));
        let expired = drop_tombstones && !record.has_value && record.offset != rewrite.last_offset;
        if !replaced && !expired {
            kept.extend_from_slice(record.raw);
            count += 1;
        }
        true
    });
    if walked.is_err() || count == header.record_count {
        return Some(bytes.clone());
    }
    (count > 0).then(|| Bytes::from(batch::with_records(bytes, &kept, count)))
}

fn each_batch(segment: &Segment, mut visit: impl FnMut(&Bytes, &BatchHeader) -> io::Result<()>) -> io::Result<()> {
    let mut failed = None;
    scan_headers(&segment.file, 0, segment.committed_bytes(), |position, header| {
        let mut bytes = vec![0; header.size_bytes];
        let visited =
            segment.file.read_exact_at(&mut bytes, position).and_then(|()| visit(&Bytes::from(bytes), header));
        failed = visited.err();
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}

fn warn_unreadable(segment: &Segment, header: &BatchHeader, walked: Result<(), RecordsError>) {
    if let Err(error) = walked {
        let offset = header.base_offset;
        tracing::warn!(segment = %segment.path.display(), offset, %error, "compaction leaves a batch as it is");
    }
}
