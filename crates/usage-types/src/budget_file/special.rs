//! Overrides and plans of a budget: who has other limits than it.

use std::collections::BTreeMap;

use crate::budget_file::field::{Field, Members};
use crate::budget_file::limit::limits;
use crate::budget_file::{dimension, value};
use crate::{BudgetError, Dimension, DimensionSet, Limits, Scope, SpecialLimit, SpecialLimits, Whom};

/// What is written with a plan besides its limits.
const PLAN: [&str; 3] = ["of", "limit", "limits"];

/// Each with the field that it stands in: overrides first, then plans. `matches` and `per` are the budget's.
pub(super) fn special<'n>(
    members: &Members<'n>,
    matches: &Scope,
    per: DimensionSet,
) -> Result<Vec<(Field<'n>, SpecialLimit)>, BudgetError> {
    let mut all = Vec::new();
    let mut seen: BTreeMap<Scope, usize> = BTreeMap::new();
    if let Some(list) = members.get("overrides") {
        for field in list.list("a list, like `overrides: [{ match: { user: u-7 }, limit: { tokens: 5000000 } }]`")? {
            let (values, limits) = one_override(&field, matches, per)?;
            if let Some(line) = seen.insert(values.clone(), field.node.place.line()) {
                return Err(field.error(format!("`{values}` has an override in line {line} already; keep one of them")));
            }
            all.push((field, SpecialLimit { whom: Whom::Override, values: vec![values], limits }));
        }
    }
    if let Some(field) = members.get("plans") {
        plans(&field, matches, per, &mut all)?;
    }
    let values: usize = all.iter().map(|(_, entry)| entry.values.len()).sum();
    match all.last() {
        Some((last, _)) if values > SpecialLimits::MAX => {
            let message = format!("the overrides and plans name {values} values; {} are possible", SpecialLimits::MAX);
            Err(last.error(message))
        }
        _ => Ok(all),
    }
}

fn one_override(field: &Field<'_>, matches: &Scope, per: DimensionSet) -> Result<(Scope, Limits), BudgetError> {
    let like = "it like `{ match: { user: u-7 }, limit: { tokens: 5000000 } }`";
    let members = field.members(&["match", "limit", "limits"], like)?;
    let whom = members.required("match", "whom it is for, like `match: { user: u-7 }`")?;
    let mut values = Vec::new();
    for (name, field) in whom.members(&Dimension::ALL.map(Dimension::name), "it like `match: { user: u-7 }`")?.iter() {
        values.push((splits_by(&field, dimension(name, &field)?, matches, per)?, value(&field)?));
    }
    if values.is_empty() {
        return Err(whom.error("no value is named, so this would be for all; change the budget's own limit instead"));
    }
    Ok((Scope::new(values), limits(&members)?))
}

fn plans<'n>(
    field: &Field<'n>,
    matches: &Scope,
    per: DimensionSet,
    all: &mut Vec<(Field<'n>, SpecialLimit)>,
) -> Result<(), BudgetError> {
    let like = "it like `plans: { by: namespace, enterprise: { of: [acme], limit: { tokens: 100000000 } } }`";
    let members = field.any_members(like)?;
    let by = members.required("by", "the dimension whose values have the plans, like `by: namespace`")?;
    let by = splits_by(&by, dimension(by.text("a dimension, like namespace")?, &by)?, matches, per)?;
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, plan) in members.iter().filter(|(name, _)| *name != "by") {
        let members = plan.members(&PLAN, like)?;
        let mut of = Vec::new();
        match members.get("of") {
            Some(list) => {
                for field in list.list("a list of values, like `of: [acme, globex]`")? {
                    of.push((value(&field)?, field));
                }
            }
            // Without a list the plan is for the value that is called as it is.
            None => of.push((name, Field { node: plan.node, path: plan.path.clone() })),
        }
        for (value, field) in &of {
            if let Some(first) = seen.insert(value, name) {
                let message = format!("{value:?} has the plan `{first}` already; a value has one plan");
                return Err(field.error(message));
            }
        }
        let values = of.iter().map(|(value, _)| Scope::new([(by, *value)])).collect();
        let entry = SpecialLimit { whom: Whom::Plan(name.to_owned()), values, limits: limits(&members)? };
        all.push((plan, entry));
    }
    Ok(())
}

/// A dimension that the budget splits by.
fn splits_by(field: &Field<'_>, dim: Dimension, matches: &Scope, per: DimensionSet) -> Result<Dimension, BudgetError> {
    if per.contains(dim) {
        return Ok(dim);
    }
    Err(field.error(match matches.get(dim) {
        Some(_) => format!("`{dim}` is fixed by `match`, so it has one value only; leave it out here"),
        None => format!("the budget has no balance of its own for each `{dim}`; add it to `per`"),
    }))
}
