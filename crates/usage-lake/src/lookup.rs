//! Finding events by their ids: what a correction restates, and whether a backfilled event is there already.
//!
//! Holds here: all rows of an event (its own, and those of its corrections) have one effective time, so they lie in files of one date.
//! A search goes from the newest date back and ends with the date on which the last of the wanted events was found; an id that is
//! nowhere costs a look at every file. Data files never change, so which ids one holds is remembered: 20 bytes for each row, up to a
//! bound. Of files beyond it 4 bytes for each row are still known, which tell nearly always that an id is not there. Files
//! are then read only where they hold something wanted. Of two events with one id (a sender that uses an id again after the
//! deduplication horizon) the newer date's is found.
//! Deliberately absent: rows that are not committed. Whoever has a tail looks through it with [`rows_of`] first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher as _;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use parquet::arrow::arrow_reader::RowSelection;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use usage_types::{Cost, TimeUs, UsageEvent};

use crate::LakeError;
use crate::datafile::{FileRef, date_of, decode, decode_rows};
use crate::kind::RowKind;
use crate::lake::LakeFiles;
use crate::replay::{ReplayColumns, StoredRow, rows_where};
use crate::schema::usage_schema;

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
            tags: tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            ..row.usage().into_owned()
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

/// The upper quarters of the hashes of a file, in order: of ids that are not in a file of a million rows one of four thousand seems to be.
type Prints = Box<[u32]>;

/// Finds events in the files of a lake.
#[derive(Debug)]
pub struct Lookup {
    keys: [u64; 2],
    cached: HashMap<String, (u64, Ids)>,
    cached_bytes: usize,
    prints: HashMap<String, (u64, Prints)>,
    prints_bytes: usize,
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
    /// That remembers ids in so many bytes, and of further files what tells that an id is not there, in as many. The keys are the process's own randomness: see [`Lookup::known`].
    #[must_use]
    pub fn new(keys: [u64; 2], bytes_max: usize) -> Self {
        let (cached, prints) = Default::default();
        Self { keys, cached, cached_bytes: 0, prints, prints_bytes: 0, bytes_max, clock: 0 }
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
            by_date.entry(file.date()).or_default().push(file);
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
                if self.lacks(file, missing.values().flatten()) {
                    continue;
                }
                let ids = self.ids(files, file).await?;
                let has = |hashes: &[u128; 2]| hashes.iter().any(|hash| ids.binary_search(hash).is_ok());
                let here: HashSet<EventName> =
                    missing.iter().filter(|(_, hashes)| has(hashes)).map(|(name, _)| (*name).clone()).collect();
                if !here.is_empty() {
                    found.extend(rows_in(files, file, &here).await?);
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
            let Some(wanted) = file.date().and_then(|date| by_date.get(date)) else { continue };
            if self.lacks(file, wanted.iter().map(|(_, hash)| hash)) {
                continue;
            }
            let ids = self.ids(files, file).await?;
            let here = wanted.iter().filter(|(_, hash)| ids.binary_search(hash).is_ok());
            found.extend(here.map(|(name, _)| (*name).clone()));
        }
        Ok(found)
    }

    /// Whether it is known that the file has none of these, though its ids are not remembered.
    fn lacks<'h>(&mut self, file: &FileRef, mut hashes: impl Iterator<Item = &'h u128>) -> bool {
        if self.cached.contains_key(&file.path) {
            return false;
        }
        self.clock += 1;
        let Some((used, prints)) = self.prints.get_mut(&file.path) else { return false };
        *used = self.clock;
        !hashes.any(|hash| prints.binary_search(&print(*hash)).is_ok())
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
        if !self.prints.contains_key(&file.path) {
            let mut prints: Vec<u32> = ids.iter().map(|hash| print(*hash)).collect();
            prints.dedup();
            let prints: Prints = prints.into();
            self.prints_bytes += bytes(&file.path, &prints);
            self.prints.insert(file.path.clone(), (self.clock, prints));
            make_room(&mut self.prints, &mut self.prints_bytes, self.bytes_max);
        }
        self.cached_bytes += bytes(&file.path, &ids);
        self.cached.insert(file.path.clone(), (self.clock, Arc::clone(&ids)));
        make_room(&mut self.cached, &mut self.cached_bytes, self.bytes_max);
        Ok(ids)
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

/// What is remembered of a hash in short. In the order of the hashes.
const fn print(hash: u128) -> u32 {
    (hash >> 96) as u32
}

fn bytes<T>(path: &str, values: &[T]) -> usize {
    path.len() + std::mem::size_of_val(values) + 64
}

/// Drops what was not used for longest, a quarter at a time, so that it is not sorted out for every file.
fn make_room<T, V: std::ops::Deref<Target = [T]>>(of: &mut HashMap<String, (u64, V)>, taken: &mut usize, max: usize) {
    if *taken <= max {
        return;
    }
    let mut by_use: Vec<(u64, String)> = of.iter().map(|(path, (used, _))| (*used, path.clone())).collect();
    by_use.sort_unstable();
    for (_, path) in by_use {
        if *taken <= max / 4 * 3 {
            break;
        }
        if let Some((_, values)) = of.remove(&path) {
            *taken -= bytes(&path, &values);
        }
    }
}

/// The rows of a file that belong to the wanted events. All columns are decoded of those rows only that the ids choose.
async fn rows_in(files: &LakeFiles, file: &FileRef, wanted: &HashSet<EventName>) -> Result<Vec<FoundRow>, LakeError> {
    let bytes = fetch(files, file).await?;
    let ids: HashSet<&str> = wanted.iter().map(|(_, id)| id.as_str()).collect();
    let (mut chosen, mut at) = (Vec::new(), 0);
    for batch in decode(bytes.clone(), &usage_schema(), Some(&["id", "corrects"]))? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let columns = [column("id"), column("corrects")];
        for row in 0..batch.num_rows() {
            let has = |column: &StringArray| column.is_valid(row) && ids.contains(column.value(row));
            if columns.into_iter().flatten().any(has) {
                chosen.push(at + row..at + row + 1);
            }
        }
        at += batch.num_rows();
    }
    let chosen = RowSelection::from_consecutive_ranges(chosen.into_iter(), at);
    let rows = decode_rows(bytes, &usage_schema(), None, Some(chosen))?;
    rows_of(&rows.collect::<Result<Vec<_>, _>>()?, wanted)
}

async fn read(files: &LakeFiles, file: &FileRef, columns: ReplayColumns) -> Result<Vec<RecordBatch>, LakeError> {
    let rows = decode(fetch(files, file).await?, &usage_schema(), columns.names().as_deref())?;
    Ok(rows.collect::<Result<_, _>>()?)
}

async fn fetch(files: &LakeFiles, file: &FileRef) -> Result<Bytes, LakeError> {
    let location = object_store::path::Path::from(file.path.as_str());
    Ok(files.usage_store.get(&location).await?.bytes().await?)
}
