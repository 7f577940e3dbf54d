//! What balances are kept for.
//!
//! A **group** is a set of dimensions with the values that an event must have: an event that has them all belongs to one scope of the
//! group. A **tracker** keeps balances for a group over one kind of window; it belongs to the configuration or to a
//! budget. The tracked dimensions over hour, day and month are one group with three trackers, so that an event's scope is found once.
//! A **window** of a tracker is a number; its balances are chained, so that a window can be listed and dropped alone.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use smallvec::SmallVec;
use usage_types::{Dimension, DimensionSet, TimeUs, Window, WindowSpec};

use crate::intern::Sym;
use crate::lane::Lanes;
use crate::moving::Moving;
use crate::slab::{NONE, Slab};
use crate::window::cell_at;

/// The values that an event must have, in canonical order.
pub(crate) type Matches = Vec<(Dimension, Sym)>;

/// Whose scopes these are.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) dims: SmallVec<[Dimension; 4]>,
    pub(crate) matches: Matches,
    pub(crate) trackers: SmallVec<[u32; 4]>,
}

/// Balances of a group over one kind of window.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub(crate) group: u32,
    pub(crate) spec: WindowSpec,
    /// How its windows move, if they do: then each entry of `windows` is a bucket.
    pub(crate) moving: Option<Moving>,
    /// The budget slot that it belongs to; `None`: the configuration.
    pub(crate) budget: Option<u32>,
    /// It measures burn for a budget, and is nobody's balance.
    pub(crate) is_burn: bool,
    /// Its windows that have a balance, by start.
    pub(crate) windows: BTreeMap<TimeUs, u32>,
    /// Its buckets by scope, where they are such.
    pub(crate) lanes: Lanes,
    /// Windows that begin before this would lack their first events: there are none.
    pub(crate) complete_from: TimeUs,
    /// The window that was last asked for: events come nearly in order.
    last: Window,
    last_id: u32,
}

/// A window of a tracker and the chain of its balances.
#[derive(Debug)]
pub(crate) struct WindowEntry {
    pub(crate) tracker: u32,
    pub(crate) window: Window,
    pub(crate) head: u32,
}

impl Default for WindowEntry {
    fn default() -> Self {
        let nothing = Window { start: TimeUs(0), end: TimeUs(0), zone: chrono_tz::UTC };
        Self { tracker: NONE, window: nothing, head: NONE }
    }
}

impl Tracker {
    pub(crate) fn new(group: u32, spec: WindowSpec, budget: Option<u32>, complete_from: TimeUs) -> Self {
        let last = cell_at(spec, TimeUs(0));
        Self {
            group,
            spec,
            moving: Moving::of(spec),
            budget,
            is_burn: false,
            windows: BTreeMap::new(),
            lanes: Lanes::default(),
            complete_from,
            last,
            last_id: NONE,
        }
    }

    /// The number of the window that contains the time, made where there is none. `None` where the window has ended for good
    /// (by `floor`) or is not known from its start.
    pub(crate) fn window(
        &mut self,
        own: u32,
        time: TimeUs,
        floor: TimeUs,
        entries: &mut Slab<WindowEntry>,
    ) -> Option<u32> {
        if self.last_id != NONE && self.last.contains(time) {
            return Some(self.last_id);
        }
        let window = self.window_of(time, entries);
        if self.counts_until(window) <= floor || window.start < self.complete_from {
            return None;
        }
        let id = *self
            .windows
            .entry(window.start)
            .or_insert_with(|| entries.insert(WindowEntry { tracker: own, window, head: NONE }));
        (self.last, self.last_id) = (window, id);
        Some(id)
    }

    /// When a window, or a bucket, is over for good.
    pub(crate) fn counts_until(&self, window: Window) -> TimeUs {
        self.moving.map_or(window.end, |moving| moving.leaves(window.start))
    }

    /// The bounds of the window, or bucket, that contains the time.
    pub(crate) fn window_of(&self, time: TimeUs, entries: &Slab<WindowEntry>) -> Window {
        if self.last.contains(time) {
            return self.last;
        }
        match self.windows.range(..=time).next_back().map(|(_, id)| entries.get(*id).window) {
            Some(window) if window.contains(time) => window,
            _ => cell_at(self.spec, time),
        }
    }

    /// Takes out a window; its balances are the caller's to drop.
    pub(crate) fn forget(&mut self, start: TimeUs) {
        self.windows.remove(&start);
        self.last_id = NONE;
    }
}

/// Groups by the values that they ask for. Groups that ask for the same dimensions are found by one look-up, however many there are.
#[derive(Debug)]
pub(crate) struct Filters {
    /// Groups that ask for nothing.
    unfiltered: SmallVec<[u32; 8]>,
    shapes: Vec<Shape>,
    hasher: ahash::RandomState,
}

/// What a group asks for, in the order of its shape's dimensions.
type Values = SmallVec<[Sym; 4]>;

#[derive(Debug)]
struct Shape {
    dims: SmallVec<[Dimension; 4]>,
    by_values: HashTable<(Values, SmallVec<[u32; 2]>)>,
}

impl Filters {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        Self {
            unfiltered: SmallVec::new(),
            shapes: Vec::new(),
            hasher: ahash::RandomState::with_seeds(key[0], key[1], !key[0], !key[1]),
        }
    }

    pub(crate) fn insert(&mut self, matches: &[(Dimension, Sym)], group: u32) {
        if matches.is_empty() {
            return self.unfiltered.push(group);
        }
        let dims: SmallVec<[Dimension; 4]> = matches.iter().map(|(d, _)| *d).collect();
        let values: Values = matches.iter().map(|(_, sym)| *sym).collect();
        let at = self.shapes.iter().position(|shape| shape.dims == dims).unwrap_or_else(|| {
            self.shapes.push(Shape { dims, by_values: HashTable::new() });
            self.shapes.len() - 1
        });
        let (shape, hasher) = (&mut self.shapes[at], &self.hasher);
        let hash = hasher.hash_one(&values);
        shape
            .by_values
            .entry(hash, |(have, _)| *have == values, |(have, _)| hasher.hash_one(have))
            .or_insert_with(|| (values.clone(), SmallVec::new()))
            .into_mut()
            .1
            .push(group);
    }

    pub(crate) fn remove(&mut self, matches: &[(Dimension, Sym)], group: u32) {
        if matches.is_empty() {
            return self.unfiltered.retain(|at| *at != group);
        }
        let values: Values = matches.iter().map(|(_, sym)| *sym).collect();
        for shape in &mut self.shapes {
            if !shape.dims.iter().eq(matches.iter().map(|(d, _)| d)) {
                continue;
            }
            if let Ok(mut found) =
                shape.by_values.find_entry(self.hasher.hash_one(&values), |(have, _)| *have == values)
            {
                found.get_mut().1.retain(|at| *at != group);
                if found.get().1.is_empty() {
                    found.remove();
                }
            }
        }
        self.shapes.retain(|shape| !shape.by_values.is_empty());
    }

    /// Gives every group whose values are those that `value` has. `value` is asked only for dimensions that a group asks for.
    pub(crate) fn each_match(&self, mut value: impl FnMut(Dimension) -> Option<Sym>, mut found: impl FnMut(u32)) {
        self.unfiltered.iter().for_each(|group| found(*group));
        'shapes: for shape in &self.shapes {
            let mut values = Values::new();
            for dim in &shape.dims {
                match value(*dim) {
                    Some(sym) => values.push(sym),
                    None => continue 'shapes,
                }
            }
            let hash = self.hasher.hash_one(&values);
            if let Some((_, groups)) = shape.by_values.find(hash, |(have, _)| *have == values) {
                groups.iter().for_each(|group| found(*group));
            }
        }
    }
}

/// The dimensions of a set, in canonical order.
pub(crate) fn list(dims: DimensionSet) -> SmallVec<[Dimension; 4]> {
    dims.iter().collect()
}
