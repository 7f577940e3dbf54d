//! The blocks in force, effective or in shadow, and which of them a row meets.
//!
//! Blocks are found by the values of their scope's dimensions: one look-up for each set of dimensions that is blocked now, however many
//! budgets and scopes there are. While nothing is blocked it costs nothing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;

use usage_types::{BudgetId, Dimension, Dimensions, Scope, TimeUs};

/// Which scope outcome a block in force belongs to, and what tells which of several lasts longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InForce {
    /// The place of its scope in the list of outcomes.
    pub(crate) place: usize,
    pub(crate) until: TimeUs,
    /// Or breaker.
    pub(crate) budget: BudgetId,
    pub(crate) by: By,
    /// Whether it refuses, or only would.
    pub(crate) effective: bool,
}

/// What blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Breaker,
    Budget,
}

impl InForce {
    /// Of several blocks the one that comes last in this order is named, as by `/v1/check`: the one that lasts longest, but of those that refuse one of a budget
    /// before any of a breaker; among equals that of the first by id.
    fn order(&self) -> (Option<By>, TimeUs, By, Reverse<&str>) {
        (self.effective.then_some(self.by), self.until, self.by, Reverse(&*self.budget))
    }
}

/// The blocks that a row meets, by the places of their scopes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    /// That refuses it.
    pub(crate) refused_by: Option<usize>,
    /// That would if it were effective.
    pub(crate) would_refuse: Option<usize>,
}

/// Blocks of scopes with the same dimensions.
#[derive(Debug)]
struct Shape {
    dims: Vec<Dimension>,
    by_values: HashMap<String, Vec<InForce>>,
}

/// All blocks in force.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    shapes: Vec<Shape>,
    key: String,
}

/// The values in order, or `None` where one is missing. Values hold no control characters.
fn write_key<'t>(key: &mut String, dims: &[Dimension], value: impl Fn(Dimension) -> Option<&'t str>) -> Option<()> {
    key.clear();
    for dim in dims {
        let _infallible = writeln!(key, "{}", value(*dim)?);
    }
    Some(())
}

impl Blocks {
    pub(crate) fn insert(&mut self, scope: &Scope, block: InForce) {
        let dims: Vec<Dimension> = scope.iter().map(|(dim, _)| dim).collect();
        let at = self.shapes.iter().position(|shape| shape.dims == dims).unwrap_or_else(|| {
            self.shapes.push(Shape { dims, by_values: HashMap::new() });
            self.shapes.len() - 1
        });
        let shape = &mut self.shapes[at];
        if write_key(&mut self.key, &shape.dims, |dim| scope.get(dim)).is_some() {
            shape.by_values.entry(self.key.clone()).or_default().push(block);
        }
    }

    pub(crate) fn remove(&mut self, scope: &Scope, place: usize) {
        for shape in &mut self.shapes {
            if !shape.dims.iter().copied().eq(scope.iter().map(|(dim, _)| dim)) {
                continue;
            }
            if write_key(&mut self.key, &shape.dims, |dim| scope.get(dim)).is_some()
                && let Some(blocks) = shape.by_values.get_mut(&self.key)
            {
                blocks.retain(|block| block.place != place);
                if blocks.is_empty() {
                    shape.by_values.remove(&self.key);
                }
            }
        }
        self.shapes.retain(|shape| !shape.by_values.is_empty());
    }

    /// What a row with these dimensions meets.
    pub(crate) fn find(&mut self, dimensions: &Dimensions<'_>) -> Met {
        let (mut refusing, mut shadow): (Option<&InForce>, Option<&InForce>) = (None, None);
        for shape in &self.shapes {
            if write_key(&mut self.key, &shape.dims, |dim| dimensions.get(dim)).is_none() {
                continue;
            }
            for block in shape.by_values.get(&self.key).into_iter().flatten() {
                let found = if block.effective { &mut refusing } else { &mut shadow };
                if found.is_none_or(|best| best.order() < block.order()) {
                    *found = Some(block);
                }
            }
        }
        let place = |found: Option<&InForce>| found.map(|block| block.place);
        Met { refused_by: place(refusing), would_refuse: place(shadow) }
    }
}
