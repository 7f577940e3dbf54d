//! Opening a partition: finishes what a crash interrupted, cuts off a torn tail, rebuilds the producers' state.
//!
//! Only the last segment is read; the others were synced before it was started. After an orderly stop even that is limited to
//! its headers and the last stretch of its bytes. A tail that is not a whole batch with a matching CRC was never acknowledged (the
//! sync comes first), unless the disk changed it; it is cut off and logged.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::producers::ProducerStates;
use super::segment::{LOG_SUFFIX, Segment, scan_headers};
use super::{replace_file, sync_dir};
use crate::batch;

pub(crate) const LOG_START_FILE: &str = "log-start";
pub(super) const SWAP_SUFFIX: &str = "swap";
const CLOSED_SUFFIX: &str = "closed";
const UNFINISHED_SUFFIXES: [&str; 2] = ["tmp", "cleaned"];
/// After an orderly stop the CRCs of so much of the end are still checked.
const CHECKED_TAIL_BYTES: u64 = 1024 * 1024;

/// A partition's content as found on disk.
pub(crate) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    pub log_start: i64,
    pub next_offset: i64,
    pub producers: ProducerStates,
}

/// Written beside a segment when the next one is started.
#[derive(Serialize, Deserialize)]
struct ClosingNote {
    producers: ProducerStates,
}

/// Opens the partition in `dir`, creating it when it is not there.
///
/// `clean_size_bytes`: size of the last segment at an orderly stop, if there was one.
pub(crate) fn open(label: &str, dir: &Path, clean_size_bytes: Option<u64>) -> io::Result<Recovered> {
    if !dir.exists() {
        fs::create_dir_all(dir)?;
        dir.parent().map_or(Ok(()), sync_dir)?;
    }
    finish_interrupted(dir)?;
    let mut bases = files_with_suffix(dir, LOG_SUFFIX)?;
    bases.sort_unstable();
    let log_start_file = read_log_start(dir)?;
    let Some((last_base, closed_bases)) = bases.split_last() else {
        let base = log_start_file.unwrap_or(0);
        let segment = Arc::new(Segment::create(dir, base)?);
        let producers = ProducerStates::default();
        return Ok(Recovered { segments: vec![segment], log_start: base, next_offset: base, producers });
    };
    let mut segments = Vec::with_capacity(bases.len());
    for base in closed_bases {
        let path = Segment::path_in(dir, *base);
        let size_bytes = fs::metadata(&path)?.len();
        segments.push(Arc::new(Segment::open(path, *base, size_bytes)?));
    }
    let mut producers = producers_before(label, &segments)?;
    let (last, next_offset) = open_last(label, dir, *last_base, clean_size_bytes, &mut producers)?;
    segments.push(Arc::new(last));
    let log_start = log_start_file.unwrap_or(0).max(bases[0]).min(next_offset);
    Ok(Recovered { segments, log_start, next_offset, producers })
}

/// Notes size and producers beside a segment that will not be written to any more.
pub(super) fn write_closing_note(segment: &Segment, producers: &ProducerStates) -> io::Result<()> {
    let note = ClosingNote { producers: producers.clone() };
    let json = serde_json::to_vec(&note).map_err(io::Error::other)?;
    replace_file(&closing_note_path(&segment.path), &json)
}

pub(super) fn closing_note_path(segment_path: &Path) -> PathBuf {
    segment_path.with_extension(CLOSED_SUFFIX)
}

fn open_last(
    label: &str,
    dir: &Path,
    base: i64,
    clean_size_bytes: Option<u64>,
    producers: &mut ProducerStates,
) -> io::Result<(Segment, i64)> {
    let path = Segment::path_in(dir, base);
    let found_bytes = fs::metadata(&path)?.len();
    let segment = Segment::open(path, base, found_bytes)?;
    let trusted_bytes = match clean_size_bytes {
        Some(size_bytes) if size_bytes == found_bytes => size_bytes.saturating_sub(CHECKED_TAIL_BYTES),
        _ => 0,
    };
    let mut next_offset = base;
    let mut failed = None;
    let mut bytes = Vec::new();
    let whole_bytes = scan_headers(&segment.file, 0, found_bytes, |position, header| {
        if header.base_offset < next_offset {
            return false;
        }
        if position >= trusted_bytes {
            bytes.resize(header.size_bytes, 0);
            match segment.file.read_exact_at(&mut bytes, position) {
                Ok(()) if batch::crc_matches(&bytes) => {}
                Ok(()) => return false,
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            }
        }
        producers.record(header, header.base_offset, header.max_timestamp_ms.min(super::now_ms()));
        next_offset = header.last_offset() + 1;
        true
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if whole_bytes < found_bytes {
        tracing::warn!(
            partition = label,
            offset = next_offset,
            bytes = found_bytes - whole_bytes,
            "cut off a torn tail: the bytes after the last whole batch were never acknowledged"
        );
        segment.file.set_len(whole_bytes)?;
        segment.file.sync_all()?;
    }
    let path = segment.path.clone();
    drop(segment);
    Ok((Segment::open(path, base, whole_bytes)?, next_offset))
}

/// The producers' state at the end of the closed segments: from the note of the last one, else from all their headers.
fn producers_before(label: &str, closed: &[Arc<Segment>]) -> io::Result<ProducerStates> {
    let Some(last) = closed.last() else { return Ok(ProducerStates::default()) };
    match fs::read(closing_note_path(&last.path)) {
        Ok(json) => match serde_json::from_slice::<ClosingNote>(&json) {
            Ok(note) => return Ok(note.producers),
            Err(error) => {
                tracing::warn!(partition = label, %error, "unreadable note on a closed segment; reading the segments")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut producers = ProducerStates::default();
    for segment in closed {
        scan_headers(&segment.file, 0, segment.committed_bytes(), |_, header| {
            producers.record(header, header.base_offset, header.max_timestamp_ms.min(super::now_ms()));
            true
        })?;
    }
    Ok(producers)
}

/// Completes a compaction whose result was already whole, and removes the beginnings of others.
///
/// `BASE-NEXT.swap` replaces all segments that start in `[BASE, NEXT)`.
fn finish_interrupted(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        if UNFINISHED_SUFFIXES.contains(&suffix) {
            fs::remove_file(&path)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == SWAP_SUFFIX) {
            finish_swap(dir, &path)?;
        }
    }
    Ok(())
}

/// Puts a whole compacted file in the place of the segments it stands for. Can be repeated after a crash at any point.
pub(super) fn finish_swap(dir: &Path, swap: &Path) -> io::Result<()> {
    let name = swap.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let range =
        name.split_once('-').and_then(|(base, next)| Some((base.parse::<i64>().ok()?, next.parse::<i64>().ok()?)));
    let Some((base, next)) = range else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: not a name that compaction gives", swap.display()),
        ));
    };
    let mut covered = files_with_suffix(dir, LOG_SUFFIX)?;
    covered.retain(|found| *found > base && *found < next);
    covered.sort_unstable();
    if let Some(last) = covered.last() {
        // The producers' state at the end of the range moves to the segment that stands for the range now.
        let note = closing_note_path(&Segment::path_in(dir, *last));
        if note.exists() {
            fs::rename(note, closing_note_path(&Segment::path_in(dir, base)))?;
        }
    }
    for covered in covered {
        let path = Segment::path_in(dir, covered);
        remove_if_there(&closing_note_path(&path))?;
        fs::remove_file(path)?;
    }
    fs::rename(swap, Segment::path_in(dir, base))?;
    sync_dir(dir)
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn files_with_suffix(dir: &Path, suffix: &str) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == suffix) {
            bases.extend(path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<i64>().ok()));
        }
    }
    Ok(bases)
}

fn read_log_start(dir: &Path) -> io::Result<Option<i64>> {
    match fs::read_to_string(dir.join(LOG_START_FILE)) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
