//! Removes whole segments that are past their retention, and starts new segments by age.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::partition::PartitionLog;
use super::{now_ms, recovery, sync_dir};

impl PartitionLog {
    /// Applies `segment.ms`, `retention.ms` and `retention.bytes`. Blocks on the disk.
    pub fn apply_retention(&self) -> io::Result<()> {
        let config = self.config();
        if self.active_age_ms()? > config.segment_ms {
            self.roll()?;
        }
        if !config.delete {
            return Ok(());
        }
        let _maintenance = self.maintenance.lock();
        if self.is_closed() {
            return Ok(());
        }
        let view = self.view();
        let mut total_bytes: u64 = view.segments.iter().map(|segment| segment.committed_bytes()).sum();
        let mut start = view.log_start;
        // The segment that is written to stays, whatever its age.
        for pair in view.segments.windows(2) {
            let (segment, next) = (&pair[0], &pair[1]);
            // Records without a timestamp are kept: their age is not known.
            let newest_ms = segment.max_timestamp_ms()?;
            let too_old =
                config.retention_ms >= 0 && newest_ms >= 0 && now_ms().saturating_sub(newest_ms) > config.retention_ms;
            let without_bytes = total_bytes - segment.committed_bytes();
            let too_much = u64::try_from(config.retention_bytes).is_ok_and(|limit| without_bytes >= limit);
            if !too_old && !too_much {
                break;
            }
            total_bytes = without_bytes;
            start = start.max(next.base_offset);
        }
        self.change_view(|view| view.log_start = view.log_start.max(start));
        self.remove_segments_before_start()
    }

    /// Removes the segments that end before the log's start; oldest first, so that a crash leaves no hole.
    ///
    /// The caller holds the maintenance lock. Readers that have a segment open go on reading it.
    pub(super) fn remove_segments_before_start(&self) -> io::Result<()> {
        let mut gone = Vec::new();
        self.change_view(|view| {
            let ends_before = view.segments.windows(2).take_while(|pair| pair[1].base_offset <= view.log_start).count();
            gone = view.segments.drain(..ends_before).collect();
        });
        for segment in &gone {
            recovery::remove_if_there(&segment.path)?;
            recovery::remove_if_there(&recovery::closing_note_path(&segment.path))?;
            sync_dir(&self.dir)?;
            tracing::debug!(partition = %self.label, base_offset = segment.base_offset, "removed a segment");
        }
        Ok(())
    }

    /// Milliseconds since the first record of the written segment, as far as its file tells; 0 when it is empty.
    fn active_age_ms(&self) -> io::Result<i64> {
        let view = self.view();
        let Some(active) = view.segments.last().filter(|segment| segment.committed_bytes() > 0) else { return Ok(0) };
        let created = created_at(&active.path)?;
        let age = SystemTime::now().duration_since(created).unwrap_or_default();
        Ok(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Birth time where the file system keeps it, else the last change, which only delays a new segment.
fn created_at(path: &Path) -> io::Result<SystemTime> {
    let metadata = fs::metadata(path)?;
    metadata.created().or_else(|_| metadata.modified())
}
