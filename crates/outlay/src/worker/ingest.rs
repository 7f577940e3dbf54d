//! The loop that everything turns around: poll, decode, apply, decide, publish, hand over.
//!
//! One thread runs it. Decoding happens outside the lock; the lock is held for one batch at a time, so that `/v1/check` never
//! waits long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use event_log::{EventReader, Position};
use usage_intake::Intake;
use usage_types::{EventPosition, Rejection, TimeUs, UsageEvent, canonical_key};

use super::Shared;
use super::commit::Work;
use super::counted::{Decoded, Forward};
use super::publish::EffectsPublisher;
use super::record::Record;
use super::restate::{self, Restater, Unknown};
use super::schemas::Schemas;

/// Records taken at once: enough to apply in groups, few enough that they stay in the cache, and the lock is held for less than a
/// millisecond.
const BATCH_RECORDS: usize = 256;
/// The longest wait for a record, and so for a stop, a window's turn or a due commit to be noticed.
const POLL: Duration = Duration::from_millis(50);
/// Ingest waits while so many times the rows of one commit are uncommitted: the store is slower than the log, or away.
const TAIL_COMMITS_MAX: usize = 4;
/// Slices of eviction per refresh: with about a millisecond each, ingest and checks hardly notice.
const EVICTIONS_MAX: usize = 8;
/// How often a correction is published again at most; each time waits for a commit.
const FORWARDS_MAX: u32 = 10_000;
/// A log whose newest event was taken so long before now is behind.
const BEHIND_US: u64 = 5_000_000;
/// The header that says how often an event was published again.
pub const FORWARDED_HEADER: &str = "outlay-forwarded";
/// How often figures that need the lock or the broker's answers are refreshed.
const REFRESH: Duration = Duration::from_millis(500);
/// How often offsets are shown again that did not move: a new cluster may not have taken them, and an old one forgets them after days.
const SHOW_AGAIN: Duration = Duration::from_secs(10);

/// The ingest thread's own.
pub struct Ingest {
    shared: Arc<Shared>,
    reader: EventReader,
    effects: EffectsPublisher,
    handed: SyncSender<Work>,
    intake: Arc<Intake>,
    /// Those of the registry, where there is one.
    schemas: Option<Schemas>,
    restater: Restater,
    /// Where the log ended at start: decisions wait until it has been read up to there.
    catch_up: BTreeMap<i32, i64>,
    /// The append time of the last record of each partition.
    reached: BTreeMap<i32, TimeUs>,
    refreshed: Instant,
    shown: BTreeMap<i32, i64>,
    shown_at: Instant,
}

impl Ingest {
    /// Ready to run, from where the reader was opened.
    pub fn new(
        shared: Arc<Shared>,
        reader: EventReader,
        (intake, schemas): (Arc<Intake>, Option<Schemas>),
        effects: EffectsPublisher,
        handed: SyncSender<Work>,
        restater: Restater,
        catch_up: BTreeMap<i32, i64>,
    ) -> Self {
        let refreshed = Instant::now();
        Self {
            shared,
            reader,
            effects,
            handed,
            intake,
            schemas,
            restater,
            catch_up,
            reached: BTreeMap::new(),
            refreshed,
            shown: BTreeMap::new(),
            shown_at: refreshed,
        }
    }

    /// Runs until told to stop; hands over what is left.
    ///
    /// # Errors
    /// The log lost records that were not read, or cannot be read any more; or the committer has stopped.
    pub fn run(mut self) -> Result<()> {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            if self.tail_is_full() {
                self.hand_over_if_due(false)?;
                std::thread::sleep(POLL);
            } else {
                self.turn()?;
            }
            self.publish_effects();
            self.refresh();
        }
        self.finish()
    }

    fn turn(&mut self) -> Result<()> {
        self.release()?;
        let batch = self.reader.poll_batch(BATCH_RECORDS, POLL).context("cannot go on reading usage.events")?;
        if !batch.is_empty() {
            let records = batch.iter().map(|record| Record::from(&record));
            let records = match &mut self.schemas {
                Some(schemas) => schemas.admit(records),
                None => records.collect(),
            };
            let counting = Counting { shared: &self.shared, intake: &self.intake, schemas: self.schemas.as_ref() };
            counting.count(&records, &mut self.reached, &mut self.restater)?;
        }
        for partition in self.schemas.as_mut().map(Schemas::take_unpaused).unwrap_or_default() {
            self.reader.pause(partition).context("cannot hold usage.events back")?;
        }
        self.hand_over_if_due(false)
    }

    /// Counts what waited for a schema that has come.
    fn release(&mut self) -> Result<()> {
        while let Some(released) = self.schemas.as_mut().and_then(Schemas::release) {
            let records: Vec<Record<'_>> = released.records.iter().map(Record::from).collect();
            let counting = Counting { shared: &self.shared, intake: &self.intake, schemas: self.schemas.as_ref() };
            counting.count(&records, &mut self.reached, &mut self.restater)?;
            if let Some(next) = released.next {
                self.reader.resume(next).context("cannot go on reading usage.events")?;
            }
        }
        Ok(())
    }

    fn tail_is_full(&self) -> bool {
        self.shared.counted.lock().tail.len() >= TAIL_COMMITS_MAX * self.shared.settings.commit_rows
    }

    fn hand_over_if_due(&mut self, anyway: bool) -> Result<()> {
        let handed = {
            let mut counted = self.shared.counted.lock();
            let tail = &mut counted.tail;
            let is_due = tail.waiting() >= self.shared.settings.commit_rows
                || tail.since().is_some_and(|since| since.elapsed() >= self.shared.settings.commit_interval);
            if !(is_due || anyway) || tail.is_handed() { None } else { tail.hand_over()? }
        };
        match handed {
            Some(unit) => {
                self.handed.send(Work::Commit(unit)).map_err(|_| anyhow::anyhow!("the commit thread has stopped"))
            }
            None => Ok(()),
        }
    }

    /// Decides and publishes, once the log has been read up to where it ended at start.
    fn publish_effects(&mut self) {
        if !self.caught_up() {
            return;
        }
        let now = TimeUs::from(chrono::Utc::now());
        self.effects.turn(&self.shared, now);
    }

    fn caught_up(&mut self) -> bool {
        if self.shared.caught_up.load(Ordering::Relaxed) {
            return true;
        }
        // The end of a partition that waits is reported again once it is read on.
        let is_held = |partition| self.schemas.as_ref().is_some_and(|schemas| schemas.holds(partition));
        for end in self.reader.ends().iter().filter(|end| !is_held(end.partition)) {
            self.catch_up.remove(&end.partition);
        }
        let counted = self.shared.counted.lock();
        let next = counted.next();
        self.catch_up.retain(|partition, end| next.get(partition).is_none_or(|next| next < end));
        drop(counted);
        let is_caught_up = self.catch_up.is_empty();
        if is_caught_up {
            tracing::info!("caught up with the log; decisions are in force");
            self.shared.caught_up.store(true, Ordering::Relaxed);
        }
        is_caught_up
    }

    /// Lag, gauges, eviction, and the offsets that Kafka's tools show.
    fn refresh(&mut self) {
        if self.refreshed.elapsed() < REFRESH {
            return;
        }
        self.refreshed = Instant::now();
        let now = TimeUs::from(chrono::Utc::now());
        let highs: BTreeMap<i32, i64> =
            self.reader.watermarks().iter().map(|mark| (mark.partition, mark.high)).collect();
        let mut counted = self.shared.counted.lock();
        let lags: BTreeMap<i32, i64> = highs
            .iter()
            .map(|(partition, high)| (*partition, (high - counted.next().get(partition).copied().unwrap_or(0)).max(0)))
            .collect();
        let lag: i64 = lags.values().sum();
        // A partition that is read to its end has reached the present; one that lags has reached its last record.
        let reached =
            lags.iter().filter(|(_, lag)| **lag > 0).filter_map(|(partition, _)| self.reached.get(partition)).min();
        if let Some(reached) = reached.copied().or((lag == 0 && self.catch_up.is_empty()).then_some(now)) {
            // Each call frees a bounded amount; what is left waits for the next refresh.
            let _more = (0..EVICTIONS_MAX).any(|_| !counted.core.evict(reached));
        }
        let stats = counted.core.stats();
        let (newest, total) = (counted.seen.newest, counted.seen.total());
        let next = counted.tail.offsets().clone();
        self.shared.metrics.tail_rows.set(i64::try_from(counted.tail.len()).unwrap_or(i64::MAX));
        drop(counted);
        self.shared.note_lag(lag, newest, now);
        self.shared.note_stats(&stats);
        self.shared.note_events(total);
        if let Some((at, trouble)) = self.reader.last_trouble() {
            self.shared.note_log_trouble(at, trouble);
        }
        if next != self.shown || self.shown_at.elapsed() >= SHOW_AGAIN {
            let positions: Vec<Position> =
                next.iter().map(|(partition, offset)| Position { partition: *partition, offset: *offset }).collect();
            self.reader.commit_for_display(&positions);
            (self.shown, self.shown_at) = (next, Instant::now());
        }
    }

    /// Waits for the commit under way, then hands over the rest.
    fn finish(mut self) -> Result<()> {
        while self.shared.counted.lock().tail.is_handed() {
            // The commit thread has given up: what is not committed is read again at the next start.
            if self.shared.ended().is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.hand_over_if_due(true)?;
        self.effects.finish(&self.shared);
        Ok(())
    }
}

/// What turns records into what is counted.
struct Counting<'c> {
    shared: &'c Shared,
    intake: &'c Intake,
    schemas: Option<&'c Schemas>,
}

impl Counting<'_> {
    fn count(
        &self,
        records: &[Record<'_>],
        reached: &mut BTreeMap<i32, TimeUs>,
        restater: &mut Restater,
    ) -> Result<()> {
        let Self { shared, intake, schemas } = self;
        let decoded: Vec<Decoded<'_>> = records.iter().map(|record| record.decode(intake, *schemas)).collect();
        for run in decoded.chunk_by(|one, other| one.position.partition == other.position.partition) {
            reached.extend(run.last().map(|last| (last.position.partition, last.position.append_time)));
        }
        for refused in decoded.iter().filter_map(|record| record.outcome.as_ref().err()) {
            shared.metrics.count_rejected(refused.row.rejection.code);
        }
        let applied = if restate::is_needed(&decoded) {
            let Some(known) = restater.look_up(shared, &decoded)? else { return Ok(()) };
            let is_behind = is_behind(shared);
            let settle = |position: EventPosition, event: &UsageEvent<'_>, rejection: Rejection, may_come: bool| {
                let unknown = settle_at(records, position, event, rejection, (may_come, is_behind));
                if let Unknown::Refused(refused) = &unknown {
                    shared.metrics.count_rejected(refused.row.rejection.code);
                }
                unknown
            };
            shared.counted.lock().apply_restating(decoded, known, &settle)?
        } else {
            shared.counted.lock().apply(decoded)?
        };
        shared.metrics.count_events("accepted", applied.accepted);
        shared.metrics.count_events("duplicate", applied.duplicate);
        shared.metrics.count_events("too_late", applied.too_late);
        shared.metrics.count_events("rejected", applied.rejected);
        shared.metrics.unpriced.inc_by(applied.unpriced);
        Ok(())
    }
}

/// Whether a partition may hold older events that were not read yet.
fn is_behind(shared: &Shared) -> bool {
    let (events, age_us) = shared.lag();
    !shared.caught_up.load(Ordering::Relaxed) || (events > 0 && age_us > BEHIND_US)
}

/// A correction that cannot be applied. One whose original may come still is published again at least once, and for as long as the log is
/// not read to its present.
fn settle_at(
    records: &[Record<'_>],
    position: EventPosition,
    event: &UsageEvent<'_>,
    rejection: Rejection,
    (may_come, is_behind): (bool, bool),
) -> Unknown {
    let place = |position: &EventPosition| (position.partition, position.offset);
    let is_it = |record: &&Record<'_>| place(&record.position) == place(&position);
    let record = records.iter().find(is_it).expect("it was decoded from these");
    let hops = record.headers.iter().find(|(name, _)| *name == FORWARDED_HEADER).map(|(_, value)| *value);
    let hops = hops.and_then(|value| std::str::from_utf8(value).ok()?.parse::<u32>().ok()).unwrap_or(0);
    if may_come && (hops == 0 || (is_behind && hops < FORWARDS_MAX)) {
        let (key, value) = (canonical_key(event), usage_intake::encode(event));
        return Unknown::Forward(Forward { key, value, hops: hops + 1 });
    }
    Unknown::Refused(Box::new(record.refused(rejection)))
}
