//! Promises: budgets below another one must not allow more than that one has, unless they say so with `overcommit: true`.
//!
//! A budget is below another where each of its scopes lies in one scope of that one, over the same window, and both may block. Then no
//! limit of it, with its overage, is larger than that one's limit of the same measure, and what it and its like allow to scopes that are named in the file is
//! not more than that in sum. Whom `per` will find is not known, so those are not summed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::budget_file::field::Field;
use crate::{Amount, Budget, BudgetError, DimensionSet, Limit, Limits, Measure, Scope};

/// What a budget allows to whom, and where that is written.
pub(super) struct Promise<'n> {
    pub(super) field: Field<'n>,
    pub(super) budget: Arc<Budget>,
    /// The dimensions of its scopes.
    pub(super) dims: DimensionSet,
    /// The values of its scope that are known from the file.
    pub(super) scope: Scope,
    pub(super) limits: Limits,
}

impl Promise<'_> {
    /// Whether every scope that this is for lies in one of `other`'s budget, and is narrower.
    fn is_below(&self, other: &Budget, others: DimensionSet) -> bool {
        // The bits first: there may be thousands of budgets, each compared with each.
        self.dims != others
            && self.dims.contains_all(others)
            && other.matches.iter().all(|(dim, value)| self.scope.get(dim) == Some(value))
    }

    /// Whether the file names the whole scope, so that it is one.
    fn is_named(&self) -> bool {
        self.scope.dimensions() == self.dims
    }

    fn of(&self, measure: Measure) -> Option<Amount> {
        self.limits.iter().find(|limit| limit.measure == measure).map(|limit| limit.blocks_at())
    }
}

/// Refuses the first promise that is too large.
pub(super) fn check(promises: &[Promise<'_>]) -> Result<(), BudgetError> {
    // Those of one budget follow each other.
    for of_one in promises.chunk_by(|a, b| Arc::ptr_eq(&a.budget, &b.budget)) {
        let (parent, dims) = (&of_one[0].budget, of_one[0].dims);
        if !parent.mode.may_block() {
            continue;
        }
        let is_child = |child: &&Promise<'_>| {
            child.is_below(parent, dims)
                && child.budget.mode.may_block()
                && child.budget.window == parent.window
                && !child.budget.overcommit
        };
        let mut sums: BTreeMap<(DimensionSet, usize, Scope), Named> = BTreeMap::new();
        for child in promises.iter().filter(is_child) {
            let parents_limits = parent.limits_of(|dim| child.scope.get(dim));
            for (at, limit) in parents_limits.iter().enumerate() {
                let Some(amount) = child.of(limit.measure) else { continue };
                if amount > limit.blocks_at() {
                    return Err(child.field.error(too_much(child, amount, parent, limit, "")));
                }
                let parents_scope =
                    Scope::new(child.scope.iter().filter(|(dim, _)| parent.scope_dimensions().contains(*dim)));
                if child.is_named() {
                    let named = sums.entry((child.scope.dimensions(), at, parents_scope)).or_default();
                    let sum = named.add(&child.scope, amount);
                    if sum > limit.blocks_at() {
                        return Err(child.field.error(too_much(child, sum, parent, limit, " with the others like it")));
                    }
                }
            }
        }
    }
    Ok(())
}

/// What scopes of the same dimensions are allowed, each once: the largest where several budgets are for it.
#[derive(Default)]
struct Named {
    of_scope: BTreeMap<Scope, i128>,
    sum: i128,
}

impl Named {
    /// The sum with this one.
    fn add(&mut self, scope: &Scope, amount: Amount) -> Amount {
        let before = self.of_scope.entry(scope.clone()).or_default();
        let more = (amount.0 - *before).max(0);
        *before += more;
        self.sum += more;
        Amount(self.sum)
    }
}

fn too_much(child: &Promise<'_>, amount: Amount, parent: &Budget, limit: Limit, how: &str) -> String {
    let measure = limit.measure;
    let unit = measure.currency().map_or_else(|| measure.name().replace('_', " "), |currency| currency.to_string());
    format!(
        "`{}` promises {} {unit}{how}, and `{}` above it has {}; lower one of them, or write `overcommit: true` in `{}`",
        child.budget.id,
        measure.format(amount),
        parent.id,
        measure.format(limit.blocks_at()),
        child.budget.id,
    )
}
