//! One partition: appends in groups with one sync each, reads of what is synced.
//!
//! Appends queue up; whoever finds the queue idle starts one blocking job that drains it. Each turn takes all that queued
//! while the previous turn synced, so one sync serves all producers that wait. Only then are offsets shown to readers and
//! acknowledged. A write that fails is cut off again: nothing of it is visible, nothing acknowledged is touched, and the
//! partition goes on when space returns.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::producers::{Producer, ProducerStates, Verdict};
use super::segment::Segment;
use super::waiters::Waiters;
use super::{now_ms, recovery, replace_file};
use crate::batch::{self, BatchHeader};
use crate::topic_config::TopicConfig;

/// Settings of a topic, shared by its partitions and replaced whole when altered.
pub(crate) type SharedConfig = Arc<RwLock<Arc<TopicConfig>>>;

/// Offsets within a segment stay below this distance from its base, as Kafka's tools expect of a segment.
const SEGMENT_OFFSETS_MAX: i64 = i32::MAX as i64;

pub(crate) struct PartitionLog {
    /// Topic and partition, for messages.
    pub label: String,
    pub dir: PathBuf,
    config: SharedConfig,
    queue: Mutex<Queue>,
    pub(super) writer: Mutex<Writer>,
    view: RwLock<View>,
    waiters: Waiters,
    /// Held by retention, compaction and deletion of records, which replace segments.
    pub(super) maintenance: Mutex<()>,
    /// Up to where closed segments are compacted; forgotten at a restart, which costs one pass.
    compacted_until: AtomicI64,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    draining: bool,
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

struct Job {
    batch: Bytes,
    header: BatchHeader,
    reply: Reply,
}

pub(super) struct Writer {
    next_offset: i64,
    pub producers: ProducerStates,
    /// A failed write could not be cut off; nothing is written until that succeeds.
    damaged: bool,
    /// The topic was deleted or the log is stopping.
    closed: bool,
}

/// What readers see.
#[derive(Clone)]
pub(super) struct View {
    /// In order of offsets; never empty; the last is written to.
    pub segments: Vec<Arc<Segment>>,
    pub log_start: i64,
    /// One past the last synced record.
    pub end_offset: i64,
}

/// An acknowledged append.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    /// -1 when the records are in the log already and their offset is no longer known.
    pub base_offset: i64,
    /// -1 unless the topic stamps with append time.
    pub log_append_time_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppendError {
    OutOfOrderSequence,
    DuplicateSequence,
    StaleEpoch,
    /// Writing or syncing failed, most often for lack of space.
    Storage,
    Closed,
}

/// Batches from a partition, and the bounds at that moment.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub records: Bytes,
    pub bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub log_start: i64,
    pub end_offset: i64,
}

#[derive(Debug)]
pub(crate) enum ReadError {
    OutOfRange(Bounds),
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl PartitionLog {
    pub fn new(label: String, dir: PathBuf, config: SharedConfig, recovered: recovery::Recovered) -> Arc<Self> {
        let recovery::Recovered { segments, log_start, next_offset, producers } = recovered;
        Arc::new(Self {
            label,
            dir,
            config,
            queue: Mutex::default(),
            writer: Mutex::new(Writer { next_offset, producers, damaged: false, closed: false }),
            view: RwLock::new(View { segments, log_start, end_offset: next_offset }),
            waiters: Waiters::default(),
            maintenance: Mutex::new(()),
            compacted_until: AtomicI64::new(0),
        })
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    pub fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub fn bounds(&self) -> Bounds {
        let view = self.view.read();
        Bounds { log_start: view.log_start, end_offset: view.end_offset }
    }

    pub(super) fn view(&self) -> View {
        self.view.read().clone()
    }

    pub(super) fn compacted_until(&self) -> i64 {
        self.compacted_until.load(Ordering::Relaxed)
    }

    pub(super) fn set_compacted_until(&self, offset: i64) {
        self.compacted_until.store(offset, Ordering::Relaxed);
    }

    /// Replaces what readers see; only under the writer's or the maintenance lock.
    pub(super) fn change_view(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write());
    }

    /// Queues one validated batch. The answer comes after it is synced, or could not be written.
    ///
    /// The queue is bounded by what the server admits of unanswered requests.
    pub fn append(
        self: &Arc<Self>,
        batch: Bytes,
        header: BatchHeader,
    ) -> oneshot::Receiver<Result<Appended, AppendError>> {
        let (reply, answer) = oneshot::channel();
        let mut queue = self.queue.lock();
        queue.jobs.push(Job { batch, header, reply });
        if !queue.draining {
            queue.draining = true;
            let partition = Arc::clone(self);
            tokio::task::spawn_blocking(move || partition.drain());
        }
        answer
    }

    fn drain(&self) {
        loop {
            let jobs = {
                let mut queue = self.queue.lock();
                if queue.jobs.is_empty() {
                    queue.draining = false;
                    return;
                }
                std::mem::take(&mut queue.jobs)
            };
            self.write_group(jobs);
        }
    }

    /// Reads whole batches from `offset` on; see [`Segment::read`]. Blocks on the disk.
    pub fn read(&self, offset: i64, max_bytes: usize, oversized_first: bool) -> Result<Fetched, ReadError> {
        let view = self.view();
        let bounds = Bounds { log_start: view.log_start, end_offset: view.end_offset };
        if offset < bounds.log_start || offset > bounds.end_offset {
            return Err(ReadError::OutOfRange(bounds));
        }
        let from = view.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
        for segment in &view.segments[from..] {
            if offset >= bounds.end_offset {
                break;
            }
            if let Some(records) = segment.read(offset, max_bytes, oversized_first)? {
                return Ok(Fetched { records, bounds });
            }
        }
        Ok(Fetched { records: Bytes::new(), bounds })
    }

    /// The first batch that may hold a record of `timestamp_ms` or later.
    pub fn find_timestamp(&self, timestamp_ms: i64) -> io::Result<Option<Bytes>> {
        let view = self.view();
        for segment in &view.segments {
            if let Some(batch) = segment.find_timestamp(timestamp_ms)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The greatest timestamp in the partition, `None` when it is empty.
    pub fn max_timestamp_ms(&self) -> io::Result<Option<i64>> {
        let mut greatest = None;
        for segment in &self.view().segments {
            if segment.committed_bytes() > 0 {
                greatest = greatest.max(Some(segment.max_timestamp_ms()?));
            }
        }
        Ok(greatest)
    }

    /// Refuses appends and upkeep from now on and waits for what is in progress: nothing changes the files any more.
    pub fn close(&self) {
        self.writer.lock().closed = true;
        self.waiters.wake_all();
        drop(self.maintenance.lock());
    }

    /// Starts a new segment when the written one is not empty. Blocks on the disk.
    pub fn roll(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        if writer.closed || writer.damaged || self.active().committed_bytes() == 0 {
            return Ok(());
        }
        self.start_segment(&mut writer)
    }

    pub fn is_closed(&self) -> bool {
        self.writer.lock().closed
    }

    /// Size of the written segment, when it is known to be whole.
    pub fn clean_size_bytes(&self) -> Option<u64> {
        let writer = self.writer.lock();
        (!writer.damaged).then(|| self.active().committed_bytes())
    }

    fn active(&self) -> Arc<Segment> {
        let view = self.view.read();
        Arc::clone(view.segments.last().expect("a partition always has a segment to write to"))
    }

    /// Everything written so far must be synced and visible.
    fn start_segment(&self, writer: &mut Writer) -> io::Result<()> {
        let closing = self.active();
        writer.producers.expire(now_ms());
        recovery::write_closing_note(&closing, &writer.producers)?;
        let segment = Arc::new(Segment::create(&self.dir, writer.next_offset)?);
        self.change_view(|view| view.segments.push(segment));
        Ok(())
    }

    fn write_group(&self, jobs: Vec<Job>) {
        let mut writer = self.writer.lock();
        let config = self.config();
        let mut turn = Turn::new(self.active());
        for job in jobs {
            let outcome = self.write_job(&mut writer, &mut turn, &config, &job);
            turn.replies.push((job.reply, outcome));
        }
        self.finish_turn(&mut writer, &mut turn);
    }

    fn write_job(
        &self,
        writer: &mut Writer,
        turn: &mut Turn,
        config: &TopicConfig,
        job: &Job,
    ) -> Result<Appended, AppendError> {
        if writer.closed {
            return Err(AppendError::Closed);
        }
        if writer.damaged {
            self.repair(writer, turn)?;
        }
        match writer.producers.check(&job.header) {
            Verdict::Append => {}
            Verdict::Retry(seen) => {
                return Ok(Appended { base_offset: seen.base_offset, log_append_time_ms: seen.timestamp_ms });
            }
            Verdict::OldDuplicate => return Err(AppendError::DuplicateSequence),
            Verdict::OutOfOrder => return Err(AppendError::OutOfOrderSequence),
            Verdict::StaleEpoch => return Err(AppendError::StaleEpoch),
        }
        let span = writer.next_offset - turn.segment.base_offset + i64::from(job.header.last_offset_delta);
        let full = turn.end + job.batch.len() as u64 > config.segment_bytes || span >= SEGMENT_OFFSETS_MAX;
        if full && turn.end > 0 {
            self.finish_turn(writer, turn);
            if writer.damaged {
                return Err(AppendError::Storage);
            }
            self.start_segment(writer).map_err(|error| self.storage_failed("start a segment", &error))?;
            *turn = Turn::new(self.active());
        }
        self.write_batch(writer, turn, config, job)
    }

    fn write_batch(
        &self,
        writer: &mut Writer,
        turn: &mut Turn,
        config: &TopicConfig,
        job: &Job,
    ) -> Result<Appended, AppendError> {
        let now = now_ms();
        let mut bytes = job.batch.to_vec();
        let base_offset = writer.next_offset;
        batch::set_base_offset(&mut bytes, base_offset);
        if config.log_append_time {
            batch::set_log_append_time(&mut bytes, now);
        }
        let header = BatchHeader::peek(&bytes).ok_or(AppendError::Storage)?;
        if let Err(error) = turn.segment.file.write_all_at(&bytes, turn.end) {
            if let Err(error) = turn.segment.file.set_len(turn.end) {
                self.storage_failed("cut off a failed write", &error);
                writer.damaged = true;
            }
            return Err(self.storage_failed("append", &error));
        }
        turn.undo.extend(writer.producers.record(&header, base_offset, now));
        turn.written.push((turn.end, header));
        turn.end += bytes.len() as u64;
        writer.next_offset = header.last_offset() + 1;
        let log_append_time_ms = if config.log_append_time { now } else { -1 };
        Ok(Appended { base_offset, log_append_time_ms })
    }

    /// Syncs what the turn wrote, shows it to readers, and answers.
    fn finish_turn(&self, writer: &mut Writer, turn: &mut Turn) {
        let synced = if turn.written.is_empty() { Ok(()) } else { turn.segment.file.sync_data() };
        match synced {
            Ok(()) => {
                turn.segment.commit(turn.end, &turn.written);
                if !turn.written.is_empty() {
                    self.change_view(|view| view.end_offset = writer.next_offset);
                    self.waiters.wake_all();
                }
            }
            Err(error) => {
                let failed = self.storage_failed("sync", &error);
                self.roll_back(writer, turn);
                for (_, outcome) in turn.replies.iter_mut().filter(|(_, outcome)| outcome.is_ok()) {
                    *outcome = Err(failed);
                }
            }
        }
        turn.written.clear();
        turn.undo.clear();
        for (reply, outcome) in turn.replies.drain(..) {
            // A producer that hung up needs no answer.
            let _ = reply.send(outcome);
        }
    }

    /// Forgets what the turn wrote. After a failed sync the kernel may have dropped those pages, so they are cut off, not retried.
    fn roll_back(&self, writer: &mut Writer, turn: &mut Turn) {
        for (producer_id, before) in turn.undo.drain(..).rev() {
            writer.producers.restore(producer_id, before);
        }
        writer.next_offset = self.bounds().end_offset;
        turn.end = turn.segment.committed_bytes();
        writer.damaged = true;
        let _ = self.repair(writer, turn);
    }

    /// Cuts the file back to what is synced.
    fn repair(&self, writer: &mut Writer, turn: &Turn) -> Result<(), AppendError> {
        turn.segment
            .file
            .set_len(turn.end)
            .and_then(|()| turn.segment.file.sync_all())
            .map_err(|error| self.storage_failed("cut off a failed write", &error))?;
        writer.damaged = false;
        Ok(())
    }

    fn storage_failed(&self, doing: &str, error: &io::Error) -> AppendError {
        tracing::error!(partition = %self.label, %error, "local log could not {doing}; free space or check the disk");
        AppendError::Storage
    }

    /// Makes `offset` the first one that readers see, and removes the segments before it. Returns the new start.
    pub fn delete_before(&self, offset: i64) -> Result<i64, ReadError> {
        let _maintenance = self.maintenance.lock();
        let bounds = self.bounds();
        if offset > bounds.end_offset {
            return Err(ReadError::OutOfRange(bounds));
        }
        if offset <= bounds.log_start {
            return Ok(bounds.log_start);
        }
        replace_file(&self.dir.join(recovery::LOG_START_FILE), offset.to_string().as_bytes())?;
        self.change_view(|view| view.log_start = view.log_start.max(offset));
        self.remove_segments_before_start()?;
        Ok(offset)
    }
}

/// One group of appends to one segment, up to its sync.
struct Turn {
    segment: Arc<Segment>,
    /// Where the next batch goes.
    end: u64,
    written: Vec<(u64, BatchHeader)>,
    undo: Vec<(i64, Option<Producer>)>,
    replies: Vec<(Reply, Result<Appended, AppendError>)>,
}

impl Turn {
    fn new(segment: Arc<Segment>) -> Self {
        let end = segment.committed_bytes();
        Self { segment, end, written: Vec::new(), undo: Vec::new(), replies: Vec::new() }
    }
}
