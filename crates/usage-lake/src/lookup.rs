//! Finding events by their ids: what a correction restates, and whether a backfilled event is there already.
//!
//! Holds here: all rows of an event (its own, and those of its corrections) have one effective time, so they lie in files of one date.
//! A search goes from the newest date back and ends with the date on which the last of the wanted events was found; an id that is
//! nowhere costs a look at every file. Data files never change, so which ids one holds is remembered: 16 bytes for each row, up to a
//! bound. Files are then read only where they hold something wanted. Of two events with one id (a sender that uses an id again after the
//! deduplication horizon) the newer date's is found.
//! Deliberately absent: rows that are not committed. Whoever has a tail looks through it with [`rows_of`] first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt as _;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use usage_types::{Cost, TimeUs, UsageEvent};

use crate::LakeError;
use crate::datafile::{FileRef, date_of, decode};
use crate::kind::RowKind;
use crate::lake::LakeFiles;
use crate::replay::{ReplayColumns, StoredRow, rows_where};
use crate::schema::{DATE, usage_schema};

/// An event's source and id.
pub type EventName = (String, String);

/// A row of `usage` that was found, owning its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    /// What it holds, as an event without a role; of a reversal, what that takes back.
    pub event: UsageEvent<'static>,
    /// Its effective time.
    pub time: TimeUs,
    /// What it cost.
    pub cost: Option<Cost>,
    /// Why no price was known.
    pub unpriced_reason: Option<String>,
    /// When the log took it.
    pub append_time: TimeUs,
    /// What it is.
    pub kind: RowKind,
    /// The event that it corrects.
    pub corrects: Option<String>,
    /// The row that it takes back or replaces.
    pub reverses: Option<String>,
}

impl FoundRow {
    fn of(row: &StoredRow<'_>) -> Result<Self, LakeError> {
        let tags: BTreeMap<String, String> = row.tags.map_or(Ok(BTreeMap::new()), serde_json::from_str)?;
        let event = UsageEvent {
            id: Some(row.id.to_owned().into()),
            source: row.source.to_owned().into(),
            time: row.time,
            dimensions: row.dimensions.clone().into_owned(),
            tokens: row.tokens,
            requests: row.requests,
            tool_calls: row.tool_calls,
            images: row.images,
            compute: row.compute,
            cost: None,
            tags: tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            role: usage_types::Role::Usage,
        };
        Ok(Self {
            event,
            time: row.time,
            cost: row.cost,
            unpriced_reason: row.unpriced_reason.map(str::to_owned),
            append_time: row.position.append_time,
            kind: row.kind,
            corrects: row.corrects.map(str::to_owned),
            reverses: row.reverses.map(str::to_owned),
        })
    }

    fn id(&self) -> &str {
        self.event.id.as_deref().unwrap_or_default()
    }
}

/// The rows in these batches that belong to the wanted events: their own, and those of their corrections.
///
/// # Errors
/// A batch does not have the columns of `usage`.
pub fn rows_of(batches: &[RecordBatch], wanted: &HashSet<EventName>) -> Result<Vec<FoundRow>, LakeError> {
    let ids: HashSet<&str> = wanted.iter().map(|(_, id)| id.as_str()).collect();
    let mut found = Vec::new();
    for batch in batches {
        let may_match =
            |id: &str, corrects: Option<&str>| ids.contains(id) || corrects.is_some_and(|c| ids.contains(c));
        for row in rows_where(batch, may_match)? {
            let row = row?;
            let is_wanted = |id: &str| wanted.contains(&(row.source.to_owned(), id.to_owned()));
            if is_wanted(row.id) || (restates(row.kind) && row.corrects.is_some_and(is_wanted)) {
                found.push(FoundRow::of(&row)?);
            }
        }
    }
    Ok(found)
}

/// An adjustment's `corrects` is a run, not an event.
fn restates(kind: RowKind) -> bool {
    matches!(kind, RowKind::Reversal | RowKind::Amendment)
}

/// An event that can be corrected, as it stands.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Its own row.
    pub original: Option<FoundRow>,
    /// The row that counts for it now: its own or that of its last amendment; none where it is void.
    pub counts: Option<FoundRow>,
    /// The ids of its corrections.
    pub corrections: HashSet<String>,
    /// The id is there, but as that of a correction or an adjustment, which cannot be corrected themselves.
    pub is_restating: bool,
}

impl Chain {
    /// From all rows that belong to the event, in any order; rows of other events are ignored.
    #[must_use]
    pub fn new(name: &EventName, rows: &[FoundRow]) -> Self {
        let own = rows.iter().filter(|row| row.event.source == name.0);
        let (mut chain, mut reversed, mut candidates) = (Self::default(), HashSet::new(), Vec::new());
        for row in own {
            if restates(row.kind) && row.corrects.as_deref() == Some(name.1.as_str()) {
                chain.corrections.insert(row.id().to_owned());
                match row.kind {
                    RowKind::Reversal => reversed.extend(row.reverses.as_deref()),
                    _ => candidates.push(row),
                }
            } else if row.id() == name.1 {
                match row.kind {
                    RowKind::Usage | RowKind::Backfill => {
                        let is_newer = |other: &FoundRow| row.append_time > other.append_time;
                        if chain.original.as_ref().is_none_or(is_newer) {
                            chain.original = Some(row.clone());
                        }
                    }
                    _ => chain.is_restating = true,
                }
            }
        }
        candidates.extend(chain.original.as_ref());
        chain.counts = candidates.into_iter().find(|row| !reversed.contains(row.id())).cloned();
        chain
    }

    /// Whether this id is that of the event or of one of its corrections.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.corrections.contains(id) || self.original.as_ref().is_some_and(|original| original.id() == id)
    }
}

/// Which ids a file holds: hashes in order. An id that is corrected is there too, under a hash of its own.
type Ids = Arc<[u128]>;

/// Finds events in the files of a lake.
#[derive(Debug)]
pub struct Lookup {
    keys: [u64; 2],
    cached: HashMap<String, (u64, Ids)>,
    cached_bytes: usize,
    bytes_max: usize,
    /// Counts uses, so that what was not used for longest is dropped.
    clock: u64,
}

/// What an id is hashed as.
#[derive(Clone, Copy)]
enum As {
    Id,
    Corrected,
}

impl Lookup {
    /// That remembers ids in so many bytes. The keys are the process's own randomness: see [`Lookup::known`].
    #[must_use]
    pub fn new(keys: [u64; 2], bytes_max: usize) -> Self {
        Self { keys, cached: HashMap::new(), cached_bytes: 0, bytes_max, clock: 0 }
    }

    /// All rows that belong to the wanted events, for [`Chain::new`].
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn rows_of(
        &mut self,
        files: &LakeFiles,
        wanted: &HashSet<EventName>,
    ) -> Result<Vec<FoundRow>, LakeError> {
        let mut by_date: BTreeMap<Option<&str>, Vec<&FileRef>> = BTreeMap::new();
        for file in files.usage.iter() {
            by_date.entry(date(file)).or_default().push(file);
        }
        let hashes = |name: &EventName| [As::Id, As::Corrected].map(|kind| self.hash(kind, &name.0, &name.1));
        let mut missing: HashMap<&EventName, [u128; 2]> = wanted.iter().map(|name| (name, hashes(name))).collect();
        let mut found = Vec::new();
        for on_date in by_date.into_values().rev() {
            if missing.is_empty() {
                break;
            }
            let from = found.len();
            for file in on_date {
                let ids = self.ids(files, file).await?;
                let has = |hashes: &[u128; 2]| hashes.iter().any(|hash| ids.binary_search(hash).is_ok());
                let here: HashSet<EventName> =
                    missing.iter().filter(|(_, hashes)| has(hashes)).map(|(name, _)| (*name).clone()).collect();
                if !here.is_empty() {
                    found.extend(rows_of(&read(files, file, ReplayColumns::All).await?, &here)?);
                }
            }
            for row in &found[from..] {
                let name = (row.event.source.to_string(), row.id().to_owned());
                missing.remove(&name);
            }
        }
        Ok(found)
    }

    /// Which of the events are in the lake, of those on the UTC date of the given time or on the days beside it. Ids are compared by
    /// hashes of 128 bits under the process's keys: see `budget-core`'s `dedup` for why that is enough, and why the keys matter.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn known(
        &mut self,
        files: &LakeFiles,
        wanted: &HashMap<EventName, TimeUs>,
    ) -> Result<HashSet<EventName>, LakeError> {
        let mut by_date: HashMap<String, Vec<(&EventName, u128)>> = HashMap::new();
        for (name, time) in wanted {
            let hash = self.hash(As::Id, &name.0, &name.1);
            for days in -1..=1 {
                by_date.entry(date_of(time.plus_us(days * TimeUs::DAY))).or_default().push((name, hash));
            }
        }
        let mut found = HashSet::new();
        for file in files.usage.iter() {
            let Some(wanted) = date(file).and_then(|date| by_date.get(date)) else { continue };
            let ids = self.ids(files, file).await?;
            let here = wanted.iter().filter(|(_, hash)| ids.binary_search(hash).is_ok());
            found.extend(here.map(|(name, _)| (*name).clone()));
        }
        Ok(found)
    }

    async fn ids(&mut self, files: &LakeFiles, file: &FileRef) -> Result<Ids, LakeError> {
        self.clock += 1;
        if let Some((used, ids)) = self.cached.get_mut(&file.path) {
            *used = self.clock;
            return Ok(Arc::clone(ids));
        }
        let mut hashes = Vec::new();
        for batch in read(files, file, ReplayColumns::Ids).await? {
            for row in rows_where(&batch, |_, _| true)? {
                let row = row?;
                hashes.push(self.hash(As::Id, row.source, row.id));
                if let Some(corrects) = row.corrects.filter(|_| restates(row.kind)) {
                    hashes.push(self.hash(As::Corrected, row.source, corrects));
                }
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        let ids: Ids = hashes.into();
        self.cached_bytes += bytes(&file.path, &ids);
        self.cached.insert(file.path.clone(), (self.clock, Arc::clone(&ids)));
        self.make_room();
        Ok(ids)
    }

    /// Drops what was not used for longest, a quarter at a time, so that it is not sorted out for every file.
    fn make_room(&mut self) {
        if self.cached_bytes <= self.bytes_max {
            return;
        }
        let mut by_use: Vec<(u64, String)> =
            self.cached.iter().map(|(path, (used, _))| (*used, path.clone())).collect();
        by_use.sort_unstable();
        for (_, path) in by_use {
            if self.cached_bytes <= self.bytes_max / 4 * 3 {
                break;
            }
            if let Some((_, ids)) = self.cached.remove(&path) {
                self.cached_bytes -= bytes(&path, &ids);
            }
        }
    }

    fn hash(&self, kind: As, source: &str, id: &str) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.keys[0], self.keys[1]);
        hasher.write(&[kind as u8]);
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        hasher.write(&(source.len() as u64).to_le_bytes());
        hasher.write(source.as_bytes());
        hasher.write(id.as_bytes());
        hasher.finish128().as_u128()
    }
}

fn bytes(path: &str, ids: &Ids) -> usize {
    path.len() + std::mem::size_of_val(&**ids) + 64
}

fn date(file: &FileRef) -> Option<&str> {
    file.partition_values.get(DATE)?.as_deref()
}

async fn read(files: &LakeFiles, file: &FileRef, columns: ReplayColumns) -> Result<Vec<RecordBatch>, LakeError> {
    let location = object_store::path::Path::from(file.path.as_str());
    let bytes = files.usage_store.get(&location).await?.bytes().await?;
    let rows = decode(bytes, &usage_schema(), columns.names().as_deref())?;
    Ok(rows.collect::<Result<_, _>>()?)
}
