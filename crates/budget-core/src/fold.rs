//! How events find their balances: in passes over up to [`BATCH`] events.
//!
//! Nearly all of the time here is waiting for memory: a value's slot, its record, the scope's slot, its record, the balance's slot, its
//! record, each known only when the one before is read. So each step is made for all events before the next, and ahead of each search
//! a loop reads what it will need and does nothing else: then the processor waits for many reads at a time.
//! (A prefetch instruction would need `unsafe`.) Measured by `examples/apply_rate.rs`.

use std::hint::black_box;

use smallvec::SmallVec;
use usage_types::{Dimension, Dimensions, TimeUs};

use crate::balance::{Balance, Flags, Usage};
use crate::intern::{ScopeId, Sym, scope_hash};
use crate::ledger::{Ledger, balance_hash};
use crate::slab::NONE;
use crate::tracker::WindowEntry;

/// Events that are folded together. More would push what a pass has read ahead out of the first-level cache again.
pub(crate) const BATCH: usize = 64;

/// An event on its way into the balances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fold<'a> {
    pub(crate) time: TimeUs,
    pub(crate) dimensions: &'a Dimensions<'a>,
    pub(crate) usage: Usage<'a>,
}

/// Lists that are kept between batches only for their memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    texts: Vec<TextJob>,
    /// For each event the symbol of each dimension; [`NONE`] where it has none (yet).
    symbols: Vec<[Sym; Dimension::COUNT]>,
    groups: SmallVec<[u32; 8]>,
    scope_symbols: Vec<Sym>,
    scopes: Vec<ScopeJob>,
    updates: Vec<Update>,
    /// Scopes that were made for this batch and are held until their balances hold them.
    held: Vec<ScopeId>,
}

/// A value of an event.
#[derive(Debug, Clone, Copy)]
struct TextJob {
    event: u32,
    dim: Dimension,
    hash: u32,
}

/// An event with a group that it belongs to.
#[derive(Debug, Clone, Copy)]
struct ScopeJob {
    event: u32,
    group: u32,
    hash: u32,
    symbols_from: u32,
    symbols_to: u32,
}

/// An event with a balance that it belongs to.
#[derive(Debug, Clone, Copy)]
struct Update {
    event: u32,
    scope: ScopeId,
    window: u32,
    hash: u32,
    candidate: u32,
    budget: bool,
}

impl Ledger {
    /// Folds about [`BATCH`] events (a correction is two) into all balances that they belong to.
    pub(crate) fn fold(&mut self, events: &[Fold<'_>]) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.find_symbols(events, &mut scratch);
        self.find_groups(events, &mut scratch);
        self.find_scopes(events, &mut scratch);
        self.update_balances(events, &mut scratch.updates);
        for scope in scratch.held.drain(..) {
            self.scopes.release(&mut self.symbols, scope);
        }
        self.scratch = scratch;
    }

    /// Folds an event into the balances of one tracker only.
    pub(crate) fn fold_into(&mut self, tracker: u32, event: &Fold<'_>) {
        let group_at = self.tracker(tracker).group;
        let group = self.group(group_at);
        let asked_for = |(dim, sym): &(Dimension, Sym)| {
            event.dimensions.get(*dim).is_some_and(|t| self.symbols.find(t) == Some(*sym))
        };
        if !group.matches.iter().all(asked_for) || !group.dims.iter().all(|dim| event.dimensions.get(*dim).is_some()) {
            return;
        }
        let dims = group.dims.clone();
        let texts = dims.iter().filter_map(|dim| event.dimensions.get(*dim));
        let symbols: SmallVec<[Sym; 4]> = texts.map(|text| self.symbols.intern(text)).collect();
        let mut held = Vec::new();
        let scope = self.scope(scope_hash(group_at, &symbols), group_at, &symbols, &mut held);
        let mut updates = Vec::new();
        self.find_window(tracker, 0, scope, event.time, &mut updates);
        self.update_balances(std::slice::from_ref(event), &mut updates);
        held.into_iter().for_each(|scope| self.scopes.release(&mut self.symbols, scope));
    }

    /// The symbols of the events' values, as far as there are any.
    fn find_symbols(&self, events: &[Fold<'_>], scratch: &mut Scratch) {
        scratch.texts.clear();
        scratch.symbols.clear();
        scratch.symbols.resize(events.len(), [NONE; Dimension::COUNT]);
        let mut sink = 0;
        for (at, event) in events.iter().enumerate() {
            for dim in &self.dims {
                if let Some(text) = event.dimensions.get(*dim) {
                    scratch.texts.push(TextJob { event: at as u32, dim: *dim, hash: self.symbols.hash(text) });
                }
            }
        }
        for job in &scratch.texts {
            sink ^= self.symbols.touch_slot(job.hash);
        }
        for job in &scratch.texts {
            sink ^= self.symbols.touch_record(job.hash);
        }
        black_box(sink);
        for job in &scratch.texts {
            let text = events[job.event as usize].dimensions.get(job.dim).unwrap_or_default();
            if let Some(sym) = self.symbols.find_hashed(job.hash, text) {
                scratch.symbols[job.event as usize][job.dim as usize] = sym;
            }
        }
    }

    /// The groups that the events belong to, and the symbols of their scopes there: from here on all of them exist.
    fn find_groups(&mut self, events: &[Fold<'_>], scratch: &mut Scratch) {
        scratch.scopes.clear();
        scratch.scope_symbols.clear();
        for (at, (event, symbols)) in events.iter().zip(&mut scratch.symbols).enumerate() {
            scratch.groups.clear();
            let value = |dim: Dimension| Some(symbols[dim as usize]).filter(|sym| *sym != NONE);
            self.filters.each_match(value, |group| scratch.groups.push(group));
            for group_at in &scratch.groups {
                let group = self.groups[*group_at as usize].as_ref().expect("filters hold only groups that exist");
                if !group.dims.iter().all(|dim| event.dimensions.get(*dim).is_some()) {
                    continue;
                }
                let from = scratch.scope_symbols.len();
                for dim in &group.dims {
                    let sym = &mut symbols[*dim as usize];
                    if *sym == NONE {
                        *sym = self.symbols.intern(event.dimensions.get(*dim).unwrap_or_default());
                    }
                    scratch.scope_symbols.push(*sym);
                }
                let hash = scope_hash(*group_at, &scratch.scope_symbols[from..]);
                scratch.scopes.push(ScopeJob {
                    event: at as u32,
                    group: *group_at,
                    hash,
                    symbols_from: from as u32,
                    symbols_to: scratch.scope_symbols.len() as u32,
                });
            }
        }
        let mut sink = 0;
        for job in &scratch.scopes {
            sink ^= self.scopes.touch_slot(job.hash);
        }
        for job in &scratch.scopes {
            sink ^= self.scopes.touch_record(job.hash);
        }
        black_box(sink);
    }

    fn find_scopes(&mut self, events: &[Fold<'_>], scratch: &mut Scratch) {
        scratch.updates.clear();
        for job in &scratch.scopes {
            let symbols = &scratch.scope_symbols[job.symbols_from as usize..job.symbols_to as usize];
            let scope = self.scope(job.hash, job.group, symbols, &mut scratch.held);
            for at in 0..self.group(job.group).trackers.len() {
                let tracker = self.group(job.group).trackers[at];
                let time = events[job.event as usize].time;
                self.find_window(tracker, job.event, scope, time, &mut scratch.updates);
            }
        }
    }

    /// The scope, made and held where there is none: its windows may all be gone, and then it must not stay.
    fn scope(&mut self, hash: u32, group: u32, symbols: &[Sym], held: &mut Vec<ScopeId>) -> ScopeId {
        if let Some(scope) = self.scopes.find(hash, group, symbols) {
            return scope;
        }
        let scope = self.scopes.insert(&mut self.symbols, hash, group, symbols);
        self.scopes.retain(scope);
        held.push(scope);
        scope
    }

    fn find_window(&mut self, at: u32, event: u32, scope: ScopeId, time: TimeUs, updates: &mut Vec<Update>) {
        let floor = self.floor_of(self.tracker(at));
        let tracker = self.trackers[at as usize].as_mut().expect("a tracker is removed with its budget");
        let Some(window) = tracker.window(at, time, floor, &mut self.windows) else {
            self.outside += 1;
            return;
        };
        let (budget, hash) = (tracker.budget.is_some(), balance_hash(scope, window));
        updates.push(Update { event, scope, window, hash, candidate: NONE, budget });
    }

    fn update_balances(&mut self, events: &[Fold<'_>], updates: &mut [Update]) {
        let mut sink = 0;
        for update in updates.iter() {
            sink ^= self.index.touch(update.hash);
        }
        for update in updates.iter_mut() {
            if let Some(candidate) = self.index.candidate(update.hash) {
                update.candidate = candidate;
                sink ^= self.balances.get(candidate).touch();
            }
        }
        black_box(sink);
        for update in updates.iter() {
            let at = self.balance(update);
            let (balance, usage) = (self.balances.get_mut(at), &events[update.event as usize].usage);
            self.saturated += u64::from(!balance.add(usage));
            if balance.flags.has(Flags::SUMMED) || usage.takes_back() {
                let entry = self.windows.get(update.window);
                let tracker = self.trackers[entry.tracker as usize].as_mut();
                tracker.into_iter().for_each(|tracker| tracker.lanes.note(balance, entry.window.start, usage));
            }
            if update.budget && !balance.flags.has(Flags::DIRTY) {
                balance.flags.set(Flags::DIRTY, true);
                self.dirty.push(at);
            }
        }
    }

    fn balance(&mut self, update: &Update) -> u32 {
        let is = |balance: &Balance| balance.scope == update.scope && balance.window == update.window;
        if update.candidate != NONE && is(self.balances.get(update.candidate)) {
            return update.candidate;
        }
        // Another balance with its hash came first, or another event of this batch has made it.
        if let Some(at) = self.find_balance(update.scope, update.window) {
            return at;
        }
        let &WindowEntry { tracker, window, head } = self.windows.get(update.window);
        let at = self.balances.insert(Balance::new(update.scope, update.window, head));
        let tracker = self.tracker_mut(tracker);
        if tracker.moving.is_some() && tracker.lanes.insert(update.scope, (window.start, at)) {
            self.balances.get_mut(at).flags.set(Flags::SUMMED, true);
        }
        self.windows.get_mut(update.window).head = at;
        self.index.insert(update.hash, at);
        self.scopes.retain(update.scope);
        at
    }
}
