//! Grants: higher limits of one scope of a budget, for a time. They are kept apart from the budgets, so that a budgets file stays what it is,
//! and laid over them where they are put in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Budget, BudgetId, BudgetSet, Limits, Scope, SpecialLimit, Whom};

/// A grant that holds now. For how long is the business of whoever keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of which budget.
    pub budget: BudgetId,
    /// Whose: a whole scope of the budget.
    pub scope: Scope,
    /// What is granted. It only ever raises limits: of a measure that the budget does not limit, or limits at more, it says nothing.
    pub limits: Limits,
}

impl BudgetSet {
    /// The set in which the scopes of these grants have what is granted. A grant for a budget or a scope that is not there is left out.
    #[must_use]
    pub fn with_grants(&self, grants: &[Grant]) -> Self {
        let mut set = self.clone();
        let mut of: BTreeMap<&BudgetId, Vec<&Grant>> = BTreeMap::new();
        grants.iter().for_each(|grant| of.entry(&grant.budget).or_default().push(grant));
        for (id, grants) in of {
            if let Some(budget) = set.budgets.get_mut(id) {
                *budget = Arc::new(granted(budget, &grants));
            }
        }
        set
    }
}

fn granted(budget: &Budget, grants: &[&Grant]) -> Budget {
    let mut of: BTreeMap<String, SpecialLimit> = BTreeMap::new();
    for grant in grants.iter().filter(|grant| budget.owns(&grant.scope)) {
        let entry = of.entry(grant.scope.to_string()).or_insert_with(|| SpecialLimit {
            whom: Whom::Grant,
            values: vec![grant.scope.clone()],
            limits: budget.limits_of(|dim| grant.scope.get(dim)).clone(),
        });
        entry.limits = entry.limits.raised(&grant.limits);
    }
    Budget { special: budget.special.behind(of.into_values().collect()), ..budget.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dimension, IncreaseAsk, Wish};

    const BUDGETS: &str = "budgets:
- { id: users, match: { namespace: shop }, per: [user], window: { every: day }, limits: [{ tokens: 100 }, { requests: 5 }],
    overrides: [{ match: { user: b }, limit: { tokens: 500 } }, { match: { user: d }, limit: { tokens: 500 } }] }
- { id: all, window: { every: day }, limit: { tokens: 1000 } }
";

    fn set() -> BudgetSet {
        BudgetSet::from_yaml(BUDGETS).unwrap()
    }

    fn grant(budget: &str, scope: &[(Dimension, &str)], limits: &str) -> Grant {
        let ask = format!("{{ budget: {budget}, limits: {limits}, justification: why }}");
        let Wish::To(limits) = IncreaseAsk::from_yaml(&ask).unwrap().wish else { panic!("these are limits") };
        Grant { budget: budget.into(), scope: Scope::new(scope.iter().copied()), limits }
    }

    fn limits(set: &BudgetSet, budget: &str, user: &str) -> String {
        let value = |dim| match dim {
            Dimension::Namespace => Some("shop"),
            Dimension::User => Some(user),
            _ => None,
        };
        serde_json::to_string(set.budgets[budget].limits_of(value)).unwrap()
    }

    #[test]
    fn a_grant_raises_the_limits_of_its_scope_alone_and_lowers_none() {
        let of = |user| vec![(Dimension::Namespace, "shop"), (Dimension::User, user)];
        let grants = [
            grant("users", &of("a"), "[{ tokens: 300 }, { cost: 5 USD }]"),
            grant("users", &of("a"), "[{ tokens: 200 }, { requests: 6 }]"),
            grant("users", &of("b"), "[{ tokens: 400 }]"),
            grant("users", &of("d"), "[{ tokens: 600 }]"),
            grant("users", &[(Dimension::User, "c")], "[{ tokens: 400 }]"),
            grant("nothing", &of("a"), "[{ tokens: 400 }]"),
            grant("all", &[], "[{ tokens: 1001 }]"),
        ];
        let set = set();
        let granted = set.with_grants(&grants);
        for (user, expected) in [
            ("a", r#"[{"tokens":300},{"requests":6}]"#),
            ("b", r#"[{"tokens":500}]"#),
            ("d", r#"[{"tokens":600}]"#),
            ("c", r#"[{"tokens":100},{"requests":5}]"#),
        ] {
            assert_eq!(limits(&granted, "users", user), expected, "{user}");
        }
        assert_eq!(limits(&granted, "all", "a"), r#"[{"tokens":1001}]"#);
        // What is stored, compared and shown of budgets does not have them.
        assert_eq!(granted.canonical(), set.canonical());
        assert_eq!(set.with_grants(&[]), set);
    }
}
