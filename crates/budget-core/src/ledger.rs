//! All balances, and what they belong to. How events find theirs is in [`crate::fold`].
//!
//! Holds here: a balance is complete or absent. An event never makes a balance of a window whose earlier events are not known:
//! not of one that was dropped because it had ended, nor of one that began before its tracker's history.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;
use usage_types::{Budget, Dimension, DimensionSet, Dimensions, Limits, Scope, TimeUs, WindowSpec};

use crate::balance::{Balance, Flags, UNRESOLVED};
use crate::fold::Scratch;
use crate::intern::{ScopeId, Scopes, Sym, Symbols, scope_hash};
use crate::slab::{Index, NONE, Slab, mix};
use crate::tracker::{Filters, Group, Matches, Tracker, WindowEntry, list};

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) symbols: Symbols,
    pub(crate) scopes: Scopes,
    pub(crate) groups: Vec<Option<Group>>,
    pub(crate) trackers: Vec<Option<Tracker>>,
    pub(crate) windows: Slab<WindowEntry>,
    pub(crate) balances: Slab<Balance>,
    pub(crate) index: Index,
    pub(crate) filters: Filters,
    /// Groups by what they are.
    by_group: HashMap<(DimensionSet, Matches), u32>,
    /// The dimensions of all groups.
    pub(crate) dims: SmallVec<[Dimension; Dimension::COUNT]>,
    /// Windows that end by then are gone.
    pub(crate) floor: TimeUs,
    /// Buckets of moving windows that count no more by then are gone. Not before `floor`.
    pub(crate) moved_to: TimeUs,
    /// Balances of budgets that have changed since they were looked at.
    pub(crate) dirty: Vec<u32>,
    /// Windows that were taken from their trackers and still have balances to drop.
    doomed: VecDeque<u32>,
    /// Additions that did not fit, and contributions to windows that are gone or not known from their start.
    pub(crate) saturated: u64,
    pub(crate) outside: u64,
    pub(crate) scratch: Scratch,
}

pub(crate) fn balance_hash(scope: ScopeId, window: u32) -> u32 {
    mix(window, [scope])
}

impl Ledger {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self {
            symbols: Symbols::new(key),
            scopes: Scopes::default(),
            groups: Vec::new(),
            trackers: Vec::new(),
            windows: Slab::default(),
            balances: Slab::default(),
            index: Index::default(),
            filters: Filters::new(key),
            by_group: HashMap::new(),
            dims: SmallVec::new(),
            floor: TimeUs(i64::MIN),
            moved_to: TimeUs(i64::MIN),
            dirty: Vec::new(),
            doomed: VecDeque::new(),
            saturated: 0,
            outside: 0,
            scratch: Scratch::default(),
        }
    }

    /// Adds a tracker, and the group that it needs where there is none: trackers of the same scopes share one.
    pub(crate) fn add_tracker(
        &mut self,
        dims: DimensionSet,
        matches: &Scope,
        spec: WindowSpec,
        budget: Option<u32>,
        from: TimeUs,
    ) -> u32 {
        let group = self.add_group(dims, matches);
        let at = place(&mut self.trackers);
        self.trackers[at as usize] = Some(Tracker::new(group, spec, budget, from));
        self.group_mut(group).trackers.push(at);
        at
    }

    /// Adds a tracker that measures burn: of no budget, so that nobody looks at it when an event comes.
    pub(crate) fn add_burn_tracker(&mut self, budget: &Budget, spec: WindowSpec, from: TimeUs) -> u32 {
        let at = self.add_tracker(budget.scope_dimensions(), &budget.matches, spec, None, from);
        self.tracker_mut(at).is_burn = true;
        at
    }

    /// The values that a group asks for stay as symbols for as long as it exists.
    fn add_group(&mut self, dims: DimensionSet, matches: &Scope) -> u32 {
        let matches: Matches = matches.iter().map(|(dim, text)| (dim, self.symbols.intern(text))).collect();
        if let Some(at) = self.by_group.get(&(dims, matches.clone())) {
            return *at;
        }
        matches.iter().for_each(|(_, sym)| self.symbols.retain(*sym));
        let at = place(&mut self.groups);
        self.filters.insert(&matches, at);
        self.by_group.insert((dims, matches.clone()), at);
        self.groups[at as usize] = Some(Group { dims: list(dims), matches, trackers: SmallVec::new() });
        self.list_dims();
        at
    }

    /// Removes a tracker, and its group with the last one. Its balances are gone at once; their memory is freed by
    /// [`Ledger::drop_doomed`].
    pub(crate) fn remove_tracker(&mut self, at: u32) {
        let Some(tracker) = self.trackers[at as usize].take() else { return };
        self.doomed.extend(tracker.windows.into_values());
        let group = self.group_mut(tracker.group);
        group.trackers.retain(|other| *other != at);
        if !group.trackers.is_empty() {
            return;
        }
        let Some(group) = self.groups[tracker.group as usize].take() else { return };
        self.filters.remove(&group.matches, tracker.group);
        group.matches.iter().for_each(|(_, sym)| self.symbols.release(*sym));
        self.by_group.remove(&(group.dims.iter().copied().collect(), group.matches));
        self.list_dims();
    }

    fn list_dims(&mut self) {
        let used: DimensionSet = self.groups.iter().flatten().flat_map(|group| group.dims.iter().copied()).collect();
        self.dims = used.iter().collect();
    }

    pub(crate) fn group(&self, at: u32) -> &Group {
        self.groups[at as usize].as_ref().expect("a group is removed with its last tracker")
    }

    fn group_mut(&mut self, at: u32) -> &mut Group {
        self.groups[at as usize].as_mut().expect("a group is removed with its last tracker")
    }

    pub(crate) fn tracker(&self, at: u32) -> &Tracker {
        self.trackers[at as usize].as_ref().expect("a tracker is removed with its budget")
    }

    pub(crate) fn tracker_mut(&mut self, at: u32) -> &mut Tracker {
        self.trackers[at as usize].as_mut().expect("a tracker is removed with its budget")
    }

    pub(crate) fn find_balance(&self, scope: ScopeId, window: u32) -> Option<u32> {
        self.index.find(balance_hash(scope, window), |at| {
            let balance = self.balances.get(at);
            balance.scope == scope && balance.window == window
        })
    }

    /// The scope of these values in a tracker, where it has a balance.
    pub(crate) fn find_scope<'t>(
        &self,
        tracker: u32,
        mut value: impl FnMut(Dimension) -> Option<&'t str>,
    ) -> Option<ScopeId> {
        let group_at = self.tracker(tracker).group;
        let syms: Option<SmallVec<[Sym; 4]>> =
            self.group(group_at).dims.iter().map(|dim| self.symbols.find(value(*dim)?)).collect();
        let syms = syms?;
        self.scopes.find(scope_hash(group_at, &syms), group_at, &syms)
    }

    /// Gives the trackers of every group that dimensions belong to.
    pub(crate) fn each_tracker(&self, dimensions: &Dimensions<'_>, mut found: impl FnMut(u32, &Tracker)) {
        let value = |dim| self.symbols.find(dimensions.get(dim)?);
        self.filters.each_match(value, |group| {
            let group = self.group(group);
            if group.dims.iter().all(|dim| dimensions.get(*dim).is_some()) {
                group.trackers.iter().for_each(|at| found(*at, self.tracker(*at)));
            }
        });
    }

    /// The values of a balance's scope as texts.
    pub(crate) fn scope_of(&self, balance: u32) -> Scope {
        let balance = self.balances.get(balance);
        let tracker = self.windows.get(balance.window).tracker;
        let dims = &self.group(self.tracker(tracker).group).dims;
        let symbols = self.scopes.symbols(balance.scope);
        Scope::new(dims.iter().copied().zip(symbols.iter().map(|sym| self.symbols.text(*sym))))
    }

    /// The limits that a budget sets for a balance of its own.
    pub(crate) fn limits<'b>(&self, balance: u32, budget: &'b Budget) -> &'b Limits {
        if budget.special.entries().is_empty() {
            return &budget.limits;
        }
        match self.balances.get(balance).limits {
            UNRESOLVED => budget.limits_at(self.limits_place(balance, budget)),
            place => budget.limits_at(place),
        }
    }

    /// Looks up which limits a balance has, where that is not known, so that it is known from now on.
    pub(crate) fn resolve_limits(&mut self, balance: u32, budget: &Budget) {
        if !budget.special.entries().is_empty() && self.balances.get(balance).limits == UNRESOLVED {
            self.balances.get_mut(balance).limits = self.limits_place(balance, budget);
        }
    }

    fn limits_place(&self, balance: u32, budget: &Budget) -> u16 {
        let balance = self.balances.get(balance);
        let dims = &self.group(self.tracker(self.windows.get(balance.window).tracker).group).dims;
        let symbols = self.scopes.symbols(balance.scope);
        budget.limits_place(|dim| {
            let at = dims.iter().position(|known| *known == dim)?;
            Some(self.symbols.text(symbols[at]))
        })
    }

    /// The balances of a window, newest first.
    pub(crate) fn chain(&self, window: u32) -> impl Iterator<Item = u32> {
        let follow = |at: u32| (at != NONE).then_some(at);
        std::iter::successors(follow(self.windows.get(window).head), move |at| follow(self.balances.get(*at).next))
    }

    /// Has every balance of a tracker looked at, as if it had just changed. `forget` clears what was settled about it.
    pub(crate) fn mark_all_dirty(&mut self, tracker: u32, forget: bool) {
        let windows: Vec<u32> = self.tracker(tracker).windows.values().copied().collect();
        if forget {
            self.tracker_mut(tracker).lanes.iter_mut().for_each(|lane| lane.has_crossed = None);
        }
        for window in windows {
            let mut at = self.windows.get(window).head;
            while at != NONE {
                self.mark_dirty(at, forget);
                at = self.balances.get(at).next;
            }
        }
    }

    pub(crate) fn mark_dirty(&mut self, at: u32, forget: bool) {
        let balance = self.balances.get_mut(at);
        let flags = &mut balance.flags;
        if forget {
            balance.limits = UNRESOLVED;
            flags.set(Flags::BLOCK_PUBLISHED, false);
            flags.set_thresholds(0);
        }
        if !flags.has(Flags::DIRTY) {
            flags.set(Flags::DIRTY, true);
            self.dirty.push(at);
        }
    }

    /// Takes away the windows that end by the floor, and the buckets that count no more at `moved_to`.
    pub(crate) fn raise_floor(&mut self, floor: TimeUs, moved_to: TimeUs) {
        let raised = (self.floor.max(floor), self.moved_to.max(floor).max(moved_to));
        if raised == (self.floor, self.moved_to) {
            return;
        }
        (self.floor, self.moved_to) = raised;
        for at in 0..self.trackers.len() {
            let Some(tracker) = &self.trackers[at] else { continue };
            // Windows are in order, so the ended ones are the first.
            let ended: SmallVec<[(TimeUs, u32); 4]> = tracker
                .windows
                .iter()
                .map(|(start, id)| (*start, *id))
                .take_while(|(_, id)| tracker.counts_until(self.windows.get(*id).window) <= self.floor_of(tracker))
                .collect();
            for (start, id) in ended {
                self.tracker_mut(at as u32).forget(start);
                self.doomed.push_back(id);
            }
        }
    }

    pub(crate) fn floor_of(&self, tracker: &Tracker) -> TimeUs {
        if tracker.moving.is_some() { self.moved_to } else { self.floor }
    }

    /// Drops at most so many balances of windows that were taken away. Whether more are left.
    pub(crate) fn drop_doomed(&mut self, mut balances_max: usize) -> bool {
        while let Some(window) = self.doomed.front().copied() {
            let mut at = self.windows.get(window).head;
            while at != NONE && balances_max > 0 {
                let balance = self.balances.remove(at);
                let tracker = self.trackers[self.windows.get(window).tracker as usize].as_mut();
                if let Some(tracker) = tracker.filter(|tracker| tracker.moving.is_some()) {
                    tracker.lanes.remove(balance.scope, at, &balance);
                }
                self.index.remove(balance_hash(balance.scope, window), at);
                self.scopes.release(&mut self.symbols, balance.scope);
                at = balance.next;
                balances_max -= 1;
            }
            self.windows.get_mut(window).head = at;
            if at != NONE {
                return true;
            }
            self.windows.remove(window);
            self.doomed.pop_front();
        }
        false
    }

    /// Whether a balance's number still means a balance that can be looked at.
    pub(crate) fn is_live(&self, at: u32) -> bool {
        let window = self.balances.get(at).window;
        if window == NONE {
            return false;
        }
        let entry = self.windows.get(window);
        let tracker = self.trackers.get(entry.tracker as usize).and_then(Option::as_ref);
        tracker.is_some_and(|tracker| tracker.windows.get(&entry.window.start) == Some(&window))
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.symbols.allocated_bytes()
            + self.scopes.allocated_bytes()
            + self.windows.allocated_bytes()
            + self.balances.allocated_bytes()
            + self.index.allocated_bytes()
            + self.trackers.iter().flatten().map(|tracker| tracker.lanes.allocated_bytes()).sum::<usize>()
    }
}

/// A free place in a list of places.
fn place<T>(places: &mut Vec<Option<T>>) -> u32 {
    let at = places.iter().position(Option::is_none).unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    });
    u32::try_from(at).expect("there are fewer than four billion budgets")
}
