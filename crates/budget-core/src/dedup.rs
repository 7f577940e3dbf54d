//! Which events were counted already: (source, id) for the horizon.
//!
//! An id is remembered as 128 bits of SipHash-1-3 under a key of the process. Among n ids two share a hash with a probability below
//! n² / 2¹²⁹: for a billion ids 1.5 · 10⁻²¹. The key matters: a sender who could compute the hash could make two ids that
//! share one, and have the second event not counted. It need not outlive the process, since ids are hashed again at restart.
//!
//! Whether an id is a duplicate depends on append times alone: seen at a, it is one at b if b − a ≤ horizon, in whole seconds.
//! When memory is cleaned does not matter. The first sighting counts and is not refreshed, because after a restart
//! only first sightings (the lake's rows) are known.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// Each table grows and is swept by itself, so that neither ever holds up ingest for long: at 100 million ids one holds 400,000.
const SHARDS: usize = 256;

/// The finest share of the horizon that is dropped at once when there are too many ids.
const GENERATIONS_PER_HORIZON: u32 = 8192;

/// The hash of a source and an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    high: u64,
    low: u64,
}

/// An id that was seen: 20 bytes, in a table that is between 7/16 and 7/8 full: 24 to 48 bytes with its control byte.
#[derive(Debug, Clone, Copy)]
struct Seen {
    fingerprint: [u32; 4],
    append_s: u32,
}

impl Fingerprint {
    fn packed(self) -> [u32; 4] {
        [self.high as u32, (self.high >> 32) as u32, self.low as u32, (self.low >> 32) as u32]
    }

    fn shard(self) -> usize {
        (self.high >> 56) as usize % SHARDS
    }
}

impl Seen {
    fn hash(&self) -> u64 {
        u64::from(self.fingerprint[2]) | u64::from(self.fingerprint[3]) << 32
    }
}

/// Ids that were seen.
#[derive(Debug)]
pub(crate) struct Dedup {
    shards: Vec<HashTable<Seen>>,
    key: [u64; 2],
    horizon_s: u32,
    ids_max: usize,
    generation_s: u32,
    /// How many ids were first seen in each generation; generations below the floor are not in it.
    generations: BTreeMap<u32, usize>,
    len: usize,
    /// Ids seen before this are forgotten, whether or not they are still in a table.
    floor_s: u32,
    /// The next shard to sweep, and to how many the present floor is still news.
    sweep_next: usize,
    sweep_left: usize,
    dropped_early: u64,
}

impl Dedup {
    pub(crate) fn new(key: [u64; 2], horizon_s: u32, ids_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            key,
            horizon_s,
            ids_max: ids_max.max(1),
            generation_s: (horizon_s / GENERATIONS_PER_HORIZON).max(1),
            generations: BTreeMap::new(),
            len: 0,
            floor_s: 0,
            sweep_next: 0,
            sweep_left: 0,
            dropped_early: 0,
        }
    }

    pub(crate) fn fingerprint(&self, source: &str, id: &str) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        hasher.write(&(source.len() as u64).to_le_bytes());
        hasher.write(source.as_bytes());
        hasher.write(id.as_bytes());
        let hash = hasher.finish128();
        Fingerprint { high: hash.h1, low: hash.h2 }
    }

    /// Brings the place of an id into the cache; the answer is only there so that the read is not optimised away.
    pub(crate) fn touch(&self, fingerprint: Fingerprint) -> bool {
        let packed = fingerprint.packed();
        self.shards[fingerprint.shard()].find(fingerprint.low, |seen| seen.fingerprint == packed).is_some()
    }

    /// Whether an id that was seen then is still worth remembering.
    pub(crate) fn remembers(&self, append_s: u32) -> bool {
        append_s >= self.floor_s
    }

    /// Whether the id is a duplicate if it comes at this time. Changes nothing.
    pub(crate) fn knows(&self, fingerprint: Fingerprint, append_s: u32) -> bool {
        let packed = fingerprint.packed();
        let table = &self.shards[fingerprint.shard()];
        let seen = table.find(fingerprint.low, |seen| seen.fingerprint == packed);
        seen.is_some_and(|seen| {
            seen.append_s >= self.floor_s && append_s.saturating_sub(seen.append_s) <= self.horizon_s
        })
    }

    /// Whether the id is new; then it is remembered.
    pub(crate) fn admit(&mut self, fingerprint: Fingerprint, append_s: u32) -> bool {
        let packed = fingerprint.packed();
        let table = &mut self.shards[fingerprint.shard()];
        match table.entry(fingerprint.low, |seen| seen.fingerprint == packed, Seen::hash) {
            Entry::Occupied(mut entry) => {
                let seen_s = entry.get().append_s;
                let known = seen_s >= self.floor_s;
                if known && append_s.saturating_sub(seen_s) <= self.horizon_s {
                    return false;
                }
                entry.get_mut().append_s = append_s;
                if known {
                    self.uncount(seen_s);
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(Seen { fingerprint: packed, append_s });
            }
        }
        self.count(append_s);
        true
    }

    fn count(&mut self, append_s: u32) {
        // One below the floor is not remembered anyway: nothing that it could be compared with is.
        if append_s < self.floor_s {
            return;
        }
        *self.generations.entry(append_s / self.generation_s).or_default() += 1;
        self.len += 1;
        if self.len <= self.ids_max {
            return;
        }
        // Somewhat more than the bound asks for, so that sweeping pays.
        while self.len > self.ids_max / 16 * 15 && self.generations.len() > 1 {
            let Some((generation, count)) = self.generations.pop_first() else { break };
            self.len -= count;
            self.dropped_early += count as u64;
            self.raise_floor((generation + 1).saturating_mul(self.generation_s));
        }
    }

    fn uncount(&mut self, append_s: u32) {
        let generation = append_s / self.generation_s;
        if let Some(count) = self.generations.get_mut(&generation) {
            *count -= 1;
            self.len -= 1;
            if *count == 0 {
                self.generations.remove(&generation);
            }
        }
    }

    fn raise_floor(&mut self, floor_s: u32) {
        if floor_s > self.floor_s {
            self.floor_s = floor_s;
            self.sweep_left = SHARDS;
        }
    }

    /// Forgets what was seen before this. Memory is freed by [`Dedup::sweep`].
    pub(crate) fn forget_before(&mut self, floor_s: u32) {
        // In steps of 1/64 of the horizon, or every call would sweep every table.
        let step_s = self.generation_s * (GENERATIONS_PER_HORIZON / 64);
        let floor_s = floor_s / step_s * step_s;
        self.raise_floor(floor_s);
        let kept = self.generations.split_off(&(self.floor_s / self.generation_s));
        let gone: usize = self.generations.values().sum();
        self.generations = kept;
        self.len -= gone;
    }

    /// Frees the memory of forgotten ids in so many tables. Whether more is left to free.
    pub(crate) fn sweep(&mut self, shards: usize) -> bool {
        for _ in 0..shards.min(self.sweep_left) {
            let floor_s = self.floor_s;
            let table = &mut self.shards[self.sweep_next];
            table.retain(|seen| seen.append_s >= floor_s);
            if table.capacity() > 1024 && table.len() < table.capacity() / 4 {
                table.shrink_to(table.len() * 2, Seen::hash);
            }
            self.sweep_next = (self.sweep_next + 1) % SHARDS;
            self.sweep_left -= 1;
        }
        self.sweep_left > 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn dropped_early(&self) -> u64 {
        self.dropped_early
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}
