//! What lies in the data folder, and how it survives crashes.
//!
//! ```text
//! DIR/lock                          held while a process uses the folder
//! DIR/cluster.json                  identity of this log
//! DIR/producer-ids                  next producer id that was never handed out
//! DIR/clean-stop                    sizes at the last orderly stop; gone while running
//! DIR/topics/NAME/topic.json        id, partition count and settings of a topic
//! DIR/topics/NAME/P/BASE.log        a segment: record batches, nothing else
//! DIR/topics/NAME/P/BASE.closed     note on a closed segment: size, greatest timestamp, producers
//! DIR/topics/NAME/P/log-start       first offset after DeleteRecords
//! DIR/group-offsets/                a partition that holds committed offsets
//! ```
//!
//! Everything small is replaced whole (written aside, synced, renamed). Segments only grow, and nothing in them is
//! acknowledged or shown to a reader before it was synced.

pub(crate) mod compaction;
pub(crate) mod maintenance;
pub(crate) mod partition;
pub(crate) mod producers;
pub(crate) mod recovery;
pub(crate) mod retention;
pub(crate) mod segment;
pub(crate) mod topics;
pub(crate) mod waiters;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Makes creations, renames and removals in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces a small file whole: after a crash there is the old content or the new, never a mixture.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("tmp");
    let written = (|| {
        let mut file = File::create(&aside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        // Space matters when the disk is full; the old content still stands.
        let _ = fs::remove_file(&aside);
    }
    written?;
    path.parent().map_or(Ok(()), sync_dir)
}
