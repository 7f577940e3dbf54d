//! Two containers that everything else here is built of: records in chunks, addressed by a 32-bit number, and an index that
//! finds such a number by a hash of its record.
//!
//! Why not maps of records: a record never moves, growing never holds two copies of all of them, a number is half a
//! pointer, and an index slot carries its hash, so that growing an index touches no record.

/// Records in a chunk: at 128 bytes each half a mebibyte, which the allocator maps and returns whole.
const CHUNK: usize = 4096;

/// "No record": the end of a chain.
pub(crate) const NONE: u32 = u32::MAX;

/// Records addressed by number. A number is given out again after its record was removed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(at) = self.free.pop() {
            *self.get_mut(at) = value;
            return at;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let last = self.chunks.last_mut().expect("one was pushed where there was none");
        let at = (chunks - 1) * CHUNK + last.len();
        last.push(value);
        u32::try_from(at).ok().filter(|at| *at != NONE).expect("four billion records do not fit into memory")
    }

    pub(crate) fn get(&self, at: u32) -> &T {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> &mut T {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    pub(crate) fn remove(&mut self, at: u32) -> T {
        self.free.push(at);
        std::mem::take(self.get_mut(at))
    }

    pub(crate) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len()) - self.free.len()
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }
}

/// Numbers of records by hash: open addressing with linear probing, 8 bytes a slot, at most 3/4 full.
///
/// Why not hashbrown's table, which the first version had: a slot is one read where that takes two (tag, then entry), and it can be read
/// ahead of the search for it without a branch ([`Index::touch`]). In a table larger than the cache that is most of the cost.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A power of two of them.
    slots: Vec<Slot>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    at: u32,
}

const EMPTY: Slot = Slot { hash: 0, at: NONE };
const SLOTS_MIN: usize = 16;

impl Index {
    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// Brings the first slot of a hash into the cache. What it returns is of no use but to keep the read from being left out.
    pub(crate) fn touch(&self, hash: u32) -> u32 {
        self.slots.get(hash as usize & self.mask()).map_or(0, |slot| slot.at)
    }

    /// The first number with this hash, most likely the one that is meant.
    pub(crate) fn candidate(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    pub(crate) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask();
        loop {
            let slot = self.slots.get(at)?;
            if slot.at == NONE {
                return None;
            }
            if slot.hash == hash && is(slot.at) {
                return Some(slot.at);
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Inserts a record that is not in it.
    pub(crate) fn insert(&mut self, hash: u32, at: u32) {
        if self.len >= self.slots.len() / 4 * 3 {
            let larger = vec![EMPTY; (self.slots.len() * 2).max(SLOTS_MIN)];
            for slot in std::mem::replace(&mut self.slots, larger) {
                if slot.at != NONE {
                    self.place(slot);
                }
            }
        }
        self.place(Slot { hash, at });
        self.len += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.mask();
        let mut at = slot.hash as usize & mask;
        while self.slots[at].at != NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    pub(crate) fn remove(&mut self, hash: u32, number: u32) {
        let mask = self.mask();
        let mut hole = hash as usize & mask;
        loop {
            match self.slots.get(hole) {
                Some(slot) if slot.at == number => break,
                Some(slot) if slot.at != NONE => hole = (hole + 1) & mask,
                _ => return,
            }
        }
        // Moves back whatever would not be found across the hole, so that no mark of a removal is needed.
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let slot = self.slots[next];
            if slot.at == NONE {
                break;
            }
            let home = slot.hash as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = next;
            }
        }
        self.slots[hole] = EMPTY;
        self.len -= 1;
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

/// A hash of a few numbers that are ours (never a sender's): two rounds of a folded multiplication.
pub(crate) fn mix(seed: u32, values: impl IntoIterator<Item = u32>) -> u32 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    };
    let mut state = fold(u64::from(seed) ^ 0x2437_54A9_6B2C_31D5, 0x9E37_79B9_7F4A_7C15);
    for value in values {
        state = fold(state ^ u64::from(value), 0xD6E8_FEB8_6659_FD93);
    }
    (state ^ (state >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_index_finds_what_is_in_it_and_nothing_else_after_any_removals() {
        // Hashes that collide a lot, and wrap around the end of the table.
        let hash = |at: u32| mix(at % 37, []) | 0xF;
        let (mut index, mut model, mut state) = (Index::default(), HashMap::new(), 1_u32);
        for step in 0..20_000_u32 {
            state = mix(state, [step]);
            let at = state % 200;
            if model.remove(&at).is_some() {
                index.remove(hash(at), at);
            } else {
                model.insert(at, hash(at));
                index.insert(hash(at), at);
            }
            if step % 64 == 0 {
                for at in 0..200 {
                    let found = index.find(hash(at), |found| found == at);
                    assert_eq!(found.is_some(), model.contains_key(&at), "{at} at step {step}");
                }
            }
        }
    }
}
