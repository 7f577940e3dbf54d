//! Events that restate what was counted: corrections, backfill and adjustments.
//!
//! A correction needs the row that counts for its original now, which may be in any file of the lake, in the tail, or earlier in the
//! same batch; a backfilled event or an adjustment may have been taken in long before the core's memory of ids begins. Both are looked up
//! once for a whole batch, before the lock is taken: only this thread adds rows, so what was found cannot change until the
//! batch is applied, and a commit in between moves rows from the tail into files without making any.
//!
//! Partitions are read in no order among each other, and after a crash in another one than before. So a correction whose original is
//! nowhere is first published again, and refused only when it comes back and the log has been read up to its present: else a crash
//! could turn a correction that was counted into a dead letter. The copy has its id, so it counts once.
//! A batch without such events pays for one look at each event's role.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use arrow::array::RecordBatch;
use budget_core::{Disposition, Input, Restates, RestoredRow};
use price_book::UnpricedReason;
use tokio::runtime::Handle;
use usage_lake::{Chain, EventName, FoundRow, LakeError, LakeFiles, Lookup, RowKind, RowRef, rows_of};
use usage_types::{Cost, Dimension, EventPosition, RejectCode, Rejection, Role, TimeUs, UsageEvent};

use super::Shared;
use super::counted::{Applied, Counted, Decoded, Forward, Refused};

/// Memory for the ids of the lake's files, in bytes: those of 16 million rows. As much again tells of 64 million that an id is not there.
const IDS_BYTES_MAX: usize = 256 << 20;
/// How long to wait before a lake that could not be read is read again.
const RETRY: Duration = Duration::from_secs(1);

/// Looks up what a batch restates.
pub struct Restater {
    lookup: Lookup,
    runtime: Handle,
}

/// What the events of a batch restate, as far as it was there before the batch; kept up to date while that is applied.
#[derive(Default)]
pub struct Known {
    /// The events that are corrected.
    chains: HashMap<EventName, Chain>,
    /// Backfilled events and adjustments that are in the lake.
    there: HashSet<EventName>,
}

/// Decides that for the record at a position; the last argument says whether the original is nowhere so far, and so may come.
pub type Settle<'s> = dyn Fn(EventPosition, &UsageEvent<'_>, Rejection, bool) -> Unknown + 's;

/// What becomes of a correction whose original is not there.
pub enum Unknown {
    /// It is refused.
    Refused(Box<Refused>),
    /// It is published again, and looked at when it comes back.
    Forward(Forward),
}

/// Whether any event of the batch needs to be looked up.
pub fn is_needed(batch: &[Decoded<'_>]) -> bool {
    batch.iter().any(|decoded| decoded.outcome.as_ref().is_ok_and(|event| event.role != Role::Usage))
}

impl Restater {
    /// With keys for the hashes of ids.
    pub fn new(runtime: Handle, keys: [u64; 2]) -> Self {
        Self { lookup: Lookup::new(keys, IDS_BYTES_MAX), runtime }
    }

    /// What the batch restates. Waits while the lake cannot be read; `None` where the server stops meanwhile.
    ///
    /// # Errors
    /// The tail cannot be read, which only a bug can cause.
    pub fn look_up(&mut self, shared: &Shared, batch: &[Decoded<'_>]) -> Result<Option<Known>> {
        let (mut originals, mut restating) = (HashSet::new(), Vec::new());
        for (event, position) in batch.iter().filter_map(|d| Some((d.outcome.as_ref().ok()?, d.position))) {
            match &event.role {
                Role::Usage => {}
                Role::Amends(id) | Role::Voids(id) => {
                    originals.insert((event.source.to_string(), id.to_string()));
                }
                Role::Backfill | Role::Adjusts(_) => restating.push((name(event), event.time, position.append_time)),
            }
        }
        let (files, rows, ids) = {
            let mut counted = shared.counted.lock();
            // Only a correction looks at rows: the ids of the tail's backfill are in the core's memory.
            let rows = if originals.is_empty() { Vec::new() } else { counted.tail.usage_rows()? };
            let core = &counted.core;
            let ids = restating.into_iter().map(|(name, own, append)| (name, core.effective_time(own, append).0));
            (counted.tail.files().clone(), rows, ids.collect::<HashMap<_, _>>())
        };
        loop {
            match self.find(&files, &rows, &originals, &ids) {
                Ok(known) => return Ok(Some(known)),
                Err(error) => tracing::error!(%error, "the lake could not be read for a correction; trying again"),
            }
            if shared.stopping.load(Ordering::Relaxed) {
                return Ok(None);
            }
            std::thread::sleep(RETRY);
        }
    }

    fn find(
        &mut self,
        files: &LakeFiles,
        tail: &[RecordBatch],
        originals: &HashSet<EventName>,
        ids: &HashMap<EventName, TimeUs>,
    ) -> Result<Known, LakeError> {
        let mut rows = rows_of(tail, originals)?;
        let in_tail: HashSet<EventName> = rows.iter().map(|row| name(&row.event)).collect();
        // Corrections come after what they correct, so of one in the tail nothing is in the files.
        let in_files: HashSet<EventName> = originals.difference(&in_tail).cloned().collect();
        let lookup = &mut self.lookup;
        let (found, there) = self.runtime.block_on(async {
            let found = if in_files.is_empty() { Vec::new() } else { lookup.rows_of(files, &in_files).await? };
            let there = if ids.is_empty() { HashSet::new() } else { lookup.known(files, ids).await? };
            Ok::<_, LakeError>((found, there))
        })?;
        rows.extend(found);
        let chain = |name: &EventName| (name.clone(), Chain::new(name, &rows));
        Ok(Known { chains: originals.iter().map(chain).collect(), there })
    }
}

impl Known {
    /// Whether the event restates something, or is restated by another one of the batch.
    fn concerns(&self, decoded: &Decoded<'_>) -> bool {
        let restated = |event: &UsageEvent<'_>| !self.chains.is_empty() && self.chains.contains_key(&name(event));
        decoded.outcome.as_ref().is_ok_and(|event| event.role != Role::Usage || restated(event))
    }

    fn is_there(&self, event: &UsageEvent<'_>) -> bool {
        match original(event) {
            Some(original) => self.chains.get(&original).is_some_and(|chain| chain.has(&id(event))),
            None => event.role != Role::Usage && self.there.contains(&name(event)),
        }
    }

    /// The event that this one corrects, where it may: an event of another namespace is none of its business.
    fn corrected(&self, event: &UsageEvent<'_>) -> Option<&Chain> {
        let chain = self.chains.get(&original(event)?)?;
        let namespace = |event: &UsageEvent<'_>| event.dimensions.get(Dimension::Namespace).map(str::to_owned);
        let is_same = chain.original.as_ref().is_some_and(|row| namespace(&row.event) == namespace(event));
        is_same.then_some(chain)
    }

    /// Whether nothing is known by the name of what it corrects. What is void or another's will not become anything else by waiting.
    fn is_missing(&self, event: &UsageEvent<'_>) -> bool {
        let chain = original(event).and_then(|name| self.chains.get(&name));
        chain.is_none_or(|chain| chain.original.is_none() && !chain.is_restating)
    }

    fn rejection(&self, event: &UsageEvent<'_>) -> Rejection {
        let (source, id) = original(event).unwrap_or_default();
        let message = if self.corrected(event).is_some() {
            format!("event `{id}` is void already; amend it to have it count again")
        } else if self.chains.get(&(source.clone(), id.clone())).is_some_and(|chain| chain.is_restating) {
            format!(
                "`{id}` is itself a correction or an adjustment; correct the event that it corrects, or adjust again"
            )
        } else {
            format!(
                "there is no event `{id}` of source `{source}` in this namespace; publish a correction after its event and with the \
                 same Kafka key, so that it is read after it"
            )
        };
        Rejection::field(RejectCode::UnknownOriginal, "corrects", message)
    }

    /// Takes in what was counted, for the events behind it.
    fn note(
        &mut self,
        event: &UsageEvent<'_>,
        time: TimeUs,
        cost: Option<Cost>,
        unpriced: Option<UnpricedReason>,
        position: EventPosition,
    ) {
        let (name, original) = (name(event), original(event));
        let Some(chain) = self.chains.get_mut(original.as_ref().unwrap_or(&name)) else { return };
        let row = || FoundRow {
            event: UsageEvent { time, role: Role::Usage, ..event.clone().into_owned() },
            time,
            cost,
            unpriced_reason: unpriced.map(|reason| reason.code().to_owned()),
            append_time: position.append_time,
            kind: kind(event),
            corrects: original.as_ref().map(|(_, id)| id.clone()),
            reverses: None,
        };
        match event.role {
            Role::Usage | Role::Backfill => {
                *chain = Chain { original: Some(row()), counts: Some(row()), ..Chain::default() };
            }
            Role::Amends(_) => chain.counts = Some(row()),
            Role::Voids(_) => chain.counts = None,
            Role::Adjusts(_) => chain.is_restating = true,
        }
        if original.is_some() {
            chain.corrections.insert(name.1);
        }
    }
}

impl Counted {
    /// Applies a batch that restates something, in log order. `settle` says what becomes of a correction whose original is not there.
    pub fn apply_restating(
        &mut self,
        batch: Vec<Decoded<'_>>,
        mut known: Known,
        settle: &Settle<'_>,
    ) -> Result<Applied, LakeError> {
        let (mut applied, mut plain) = (Applied::default(), Vec::new());
        for decoded in batch {
            if !known.concerns(&decoded) {
                plain.push(decoded);
                continue;
            }
            applied.add(self.apply(std::mem::take(&mut plain))?);
            if let Decoded { position, outcome: Ok(event) } = decoded {
                applied.add(self.apply_one(&event, position, &mut known, settle)?);
            }
        }
        applied.add(self.apply(plain)?);
        Ok(applied)
    }

    fn apply_one(
        &mut self,
        event: &UsageEvent<'_>,
        position: EventPosition,
        known: &mut Known,
        settle: &Settle<'_>,
    ) -> Result<Applied, LakeError> {
        self.open_range(position);
        self.seen.newest = self.seen.newest.max(position.append_time);
        let mut applied = Applied::default();
        let chain = known.corrected(event);
        let taken_back = chain.and_then(|chain| chain.counts.clone());
        let at = chain.and_then(|chain| chain.original.as_ref()).map(|original| original.time);
        let (cost, unpriced) = match event.role {
            Role::Voids(_) => (None, None),
            _ => self.price(event, at.unwrap_or_else(|| self.core.effective_time(event.time, position.append_time).0)),
        };
        let restates = at.map(|time| Restates { time, counts: taken_back.as_ref().map(|row| counted(row, time)) });
        let disposition = if known.is_there(event) {
            Disposition::Duplicate
        } else {
            let mut out = Vec::with_capacity(1);
            self.core.apply_batch(&[Input { event, cost, position, restates: restates.as_ref() }], &mut out);
            out[0]
        };
        match disposition {
            Disposition::Accepted { time, late, clamped } => {
                let (id, corrects) = (id(event), corrects(event));
                let reverses = taken_back.as_ref().and_then(|row| row.event.id.as_deref());
                let row = RowRef {
                    event,
                    time,
                    cost,
                    unpriced_reason: unpriced.map(UnpricedReason::code),
                    position,
                    late,
                    clamped,
                    id: &id,
                    kind: kind(event),
                    corrects,
                    reverses,
                };
                if let Some(back) = &taken_back {
                    let (event, cost, unpriced_reason) = (&back.event, back.cost, back.unpriced_reason.as_deref());
                    self.push(RowRef { event, cost, unpriced_reason, kind: RowKind::Reversal, ..row })?;
                }
                if !matches!(event.role, Role::Voids(_)) {
                    applied.unpriced += u64::from(self.seen.note_cost(event, cost));
                    self.push(row)?;
                }
                applied.accepted = 1;
                self.range(position.partition).accepted += 1;
                known.note(event, time, cost, unpriced, position);
            }
            Disposition::Duplicate => {
                applied.duplicate = 1;
                self.range(position.partition).duplicate += 1;
            }
            // Usage that a correction in the same batch names, though it was never counted.
            Disposition::TooLate => {
                let plain = vec![Decoded { position, outcome: Ok(event.clone()) }];
                return self.apply(plain);
            }
            Disposition::NoOriginal => match settle(position, event, known.rejection(event), known.is_missing(event)) {
                Unknown::Forward(forward) => self.forward(position, forward),
                Unknown::Refused(refused) => {
                    applied.rejected = 1;
                    self.refuse(position, *refused);
                }
            },
        }
        self.seen.add(applied);
        Ok(applied)
    }
}

/// The event's source and id; intake has given it one.
fn name(event: &UsageEvent<'_>) -> EventName {
    (event.source.to_string(), id(event))
}

fn id(event: &UsageEvent<'_>) -> String {
    event.id.as_deref().unwrap_or_default().to_owned()
}

fn original(event: &UsageEvent<'_>) -> Option<EventName> {
    match &event.role {
        Role::Amends(id) | Role::Voids(id) => Some((event.source.to_string(), id.to_string())),
        Role::Usage | Role::Backfill | Role::Adjusts(_) => None,
    }
}

fn corrects<'a>(event: &'a UsageEvent<'_>) -> Option<&'a str> {
    match &event.role {
        Role::Amends(what) | Role::Voids(what) | Role::Adjusts(what) => Some(what),
        Role::Usage | Role::Backfill => None,
    }
}

fn kind(event: &UsageEvent<'_>) -> RowKind {
    match event.role {
        Role::Usage => RowKind::Usage,
        Role::Backfill => RowKind::Backfill,
        Role::Amends(_) => RowKind::Amendment,
        Role::Voids(_) => RowKind::Reversal,
        Role::Adjusts(_) => RowKind::Adjustment,
    }
}

/// A row as the core takes it.
fn counted(row: &FoundRow, time: TimeUs) -> RestoredRow<'_> {
    RestoredRow {
        id: row.event.id.as_deref().unwrap_or_default(),
        source: &row.event.source,
        time,
        append_time: row.append_time,
        dimensions: &row.event.dimensions,
        tokens: row.event.tokens,
        requests: row.event.requests,
        tool_calls: row.event.tool_calls,
        images: row.event.images,
        compute: row.event.compute,
        cost: row.cost.map(|cost| (cost.amount, cost.currency)),
        reversal: false,
        progress: row.event.progress,
    }
}
