//! Texts and scopes as numbers.
//!
//! A value like `support` is held once, as a **symbol**; the values that a balance is kept for are a **scope** of symbols. Both
//! are counted: a scope goes with its last balance, a symbol with its last scope. Only what has a balance is held,
//! so a sender of endless new values fills memory no faster than it makes balances.
//!
//! Texts come from senders, so their hash is keyed; scopes are hashed by numbers of our own.

use smallvec::SmallVec;

use crate::slab::{Index, Slab, mix};

/// A text by number.
pub(crate) type Sym = u32;
/// A scope by number.
pub(crate) type ScopeId = u32;

/// Texts by number.
#[derive(Debug)]
pub(crate) struct Symbols {
    texts: Slab<Text>,
    index: Index,
    hasher: ahash::RandomState,
    heap_bytes: usize,
}

#[derive(Debug, Default)]
struct Text {
    /// UTF-8. Most values are short: held in place they save an allocation and a read.
    bytes: SmallVec<[u8; 24]>,
    refs: u32,
}

impl Symbols {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self {
            texts: Slab::default(),
            index: Index::default(),
            hasher: ahash::RandomState::with_seeds(key[0], key[1], key[0].rotate_left(32), key[1].rotate_left(32)),
            heap_bytes: 0,
        }
    }

    pub(crate) fn hash(&self, text: &str) -> u32 {
        self.hasher.hash_one(text.as_bytes()) as u32
    }

    /// Reads ahead: first the slot of a hash, then the record that it most likely means.
    pub(crate) fn touch_slot(&self, hash: u32) -> u32 {
        self.index.touch(hash)
    }

    pub(crate) fn touch_record(&self, hash: u32) -> u32 {
        self.index.candidate(hash).map_or(0, |at| self.texts.get(at).refs)
    }

    pub(crate) fn find(&self, text: &str) -> Option<Sym> {
        self.find_hashed(self.hash(text), text)
    }

    pub(crate) fn find_hashed(&self, hash: u32, text: &str) -> Option<Sym> {
        self.index.find(hash, |at| self.texts.get(at).bytes.as_slice() == text.as_bytes())
    }

    /// The symbol of a text, made where there is none. A new one is unreferenced: follow with [`Symbols::retain`].
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        let hash = self.hash(text);
        if let Some(at) = self.find_hashed(hash, text) {
            return at;
        }
        let bytes = SmallVec::from_slice(text.as_bytes());
        self.heap_bytes += if bytes.spilled() { bytes.capacity() } else { 0 };
        let at = self.texts.insert(Text { bytes, refs: 0 });
        self.index.insert(hash, at);
        at
    }

    pub(crate) fn text(&self, sym: Sym) -> &str {
        std::str::from_utf8(&self.texts.get(sym).bytes).expect("symbols are made of texts")
    }

    pub(crate) fn retain(&mut self, sym: Sym) {
        self.texts.get_mut(sym).refs += 1;
    }

    pub(crate) fn release(&mut self, sym: Sym) {
        let text = self.texts.get_mut(sym);
        text.refs -= 1;
        if text.refs == 0 {
            let Text { bytes, .. } = self.texts.remove(sym);
            self.heap_bytes -= if bytes.spilled() { bytes.capacity() } else { 0 };
            let hash = self.hasher.hash_one(bytes.as_slice()) as u32;
            self.index.remove(hash, sym);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.texts.allocated_bytes() + self.index.allocated_bytes() + self.heap_bytes
    }
}

/// Scopes by number.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    scopes: Slab<ScopeEntry>,
    index: Index,
}

#[derive(Debug, Default)]
struct ScopeEntry {
    group: u32,
    /// Balances that have it.
    refs: u32,
    /// One for each dimension of the group, in canonical order.
    symbols: SmallVec<[Sym; 4]>,
}

/// The hash of a scope.
pub(crate) fn scope_hash(group: u32, symbols: &[Sym]) -> u32 {
    mix(group, symbols.iter().copied())
}

impl Scopes {
    /// Reads ahead: first the slot of a hash, then the record that it most likely means.
    pub(crate) fn touch_slot(&self, hash: u32) -> u32 {
        self.index.touch(hash)
    }

    pub(crate) fn touch_record(&self, hash: u32) -> u32 {
        self.index.candidate(hash).map_or(0, |at| self.scopes.get(at).refs)
    }

    pub(crate) fn find(&self, hash: u32, group: u32, symbols: &[Sym]) -> Option<ScopeId> {
        self.index.find(hash, |at| {
            let scope = self.scopes.get(at);
            scope.group == group && scope.symbols.as_slice() == symbols
        })
    }

    /// Makes a scope that is not there. It is unreferenced: follow with [`Scopes::retain`].
    pub(crate) fn insert(&mut self, names: &mut Symbols, hash: u32, group: u32, symbols: &[Sym]) -> ScopeId {
        symbols.iter().for_each(|sym| names.retain(*sym));
        let at = self.scopes.insert(ScopeEntry { group, refs: 0, symbols: SmallVec::from_slice(symbols) });
        self.index.insert(hash, at);
        at
    }

    pub(crate) fn symbols(&self, scope: ScopeId) -> &[Sym] {
        &self.scopes.get(scope).symbols
    }

    pub(crate) fn retain(&mut self, scope: ScopeId) {
        self.scopes.get_mut(scope).refs += 1;
    }

    pub(crate) fn release(&mut self, names: &mut Symbols, scope: ScopeId) {
        let entry = self.scopes.get_mut(scope);
        entry.refs = entry.refs.saturating_sub(1);
        if entry.refs == 0 {
            let entry = self.scopes.remove(scope);
            self.index.remove(scope_hash(entry.group, &entry.symbols), scope);
            entry.symbols.iter().for_each(|sym| names.release(*sym));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.scopes.len()
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.scopes.allocated_bytes() + self.index.allocated_bytes()
    }
}
