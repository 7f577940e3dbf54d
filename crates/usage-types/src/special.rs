//! Limits of single scopes: overrides for single values, and plans.
//!
//! Precedence: a grant, else the first override that a scope has the values of, else the first plan, else the budget's own limits. A look-up takes one probe
//! for each set of dimensions that is asked for, however many values there are.

use std::collections::HashMap;

use crate::{Dimension, DimensionSet, Limits, Scope};

/// Whose limits these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Scopes with these values.
    Override,
    /// Members of the plan of this name.
    Plan(String),
    /// The scope of one or more grants, for as long as they hold.
    Grant,
}

/// Limits that take the place of the budget's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialLimit {
    /// What they are called.
    pub whom: Whom,
    /// A scope that has all the values of one of these has these limits.
    pub values: Vec<Scope>,
    /// The limits.
    pub limits: Limits,
}

/// All of a budget's, in the order of precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialLimits {
    entries: Vec<SpecialLimit>,
    /// The place of the first entry for each combination of values.
    by_values: HashMap<Scope, u16>,
    shapes: Vec<DimensionSet>,
}

impl SpecialLimits {
    /// The most of one budget.
    pub const MAX: usize = 10_000;
    /// The most of grants, besides.
    pub const GRANTS_MAX: usize = 1_000;

    /// These, in this order. Those beyond [`SpecialLimits::MAX`] are left out.
    #[must_use]
    pub fn new(mut entries: Vec<SpecialLimit>) -> Self {
        entries.truncate(Self::MAX);
        Self::of(entries)
    }

    /// Those of grants, at most [`SpecialLimits::GRANTS_MAX`], and then these.
    #[must_use]
    pub fn behind(&self, mut grants: Vec<SpecialLimit>) -> Self {
        grants.truncate(Self::GRANTS_MAX);
        Self::of(grants.into_iter().chain(self.entries.iter().cloned()).collect())
    }

    fn of(entries: Vec<SpecialLimit>) -> Self {
        let (mut by_values, mut shapes) = (HashMap::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            for values in &entry.values {
                // The bounds on their number keep it within 16 bits.
                by_values.entry(values.clone()).or_insert(at as u16);
                if !shapes.contains(&values.dimensions()) {
                    shapes.push(values.dimensions());
                }
            }
        }
        Self { entries, by_values, shapes }
    }

    /// In the order of precedence.
    #[must_use]
    pub fn entries(&self) -> &[SpecialLimit] {
        &self.entries
    }

    /// The place of the entry that holds for a scope with these values.
    #[must_use]
    pub fn find<'t>(&self, value: impl Fn(Dimension) -> Option<&'t str>) -> Option<u16> {
        let of_shape = |shape: &DimensionSet| {
            let values: Option<Vec<_>> = shape.iter().map(|dim| Some((dim, value(dim)?))).collect();
            self.by_values.get(&Scope::new(values?)).copied()
        };
        self.shapes.iter().filter_map(of_shape).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Amount, Limit, Measure};

    #[test]
    fn the_first_entry_that_a_scope_has_the_values_of_holds() {
        let entry = |whom, values: &[&[(Dimension, &str)]]| SpecialLimit {
            whom,
            values: values.iter().map(|values| Scope::new(values.iter().copied())).collect(),
            limits: Limit::new(Measure::Tokens, Amount(1)).into(),
        };
        let special = SpecialLimits::new(vec![
            entry(Whom::Override, &[&[(Dimension::Team, "t"), (Dimension::User, "a")]]),
            entry(Whom::Override, &[&[(Dimension::User, "b")]]),
            entry(Whom::Plan("big".into()), &[&[(Dimension::Team, "t")], &[(Dimension::Team, "u")]]),
        ]);
        let find = |team: &'static str, user: &'static str| {
            special.find(|dim| match dim {
                Dimension::Team => Some(team),
                Dimension::User => Some(user),
                _ => None,
            })
        };
        assert_eq!([find("t", "a"), find("t", "b"), find("t", "c")], [Some(0), Some(1), Some(2)]);
        assert_eq!([find("u", "a"), find("v", "a"), find("v", "b")], [Some(2), None, Some(1)]);
        assert_eq!(SpecialLimits::default().find(|_| Some("t")), None);
    }
}
