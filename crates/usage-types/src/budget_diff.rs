//! How one set of budgets differs from another, by the fields of their canonical form. Nothing here knows what a field means, so that
//! every field there is and will be is compared.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::{BudgetId, BudgetSet};

/// What becomes of one budget or breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetDiff {
    /// Which.
    pub budget: BudgetId,
    /// What.
    #[serde(flatten)]
    pub change: BudgetChange,
}

/// What becomes of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum BudgetChange {
    /// It is new.
    Add {
        /// The budget in canonical form.
        new: Value,
    },
    /// It goes.
    Remove {
        /// The budget in canonical form.
        old: Value,
    },
    /// It stays, and says something else.
    Change {
        /// At least one.
        fields: Vec<FieldChange>,
    },
}

/// A field that has another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its path, like `limits.tokens` or `overrides[user=u-7].limits.requests`.
    pub path: String,
    /// Its value before; `None` where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// Its value after; `None` where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// What turns one set into the other, in the order of ids; empty exactly if they are equal.
#[must_use]
pub fn diff(old: &BudgetSet, new: &BudgetSet) -> Vec<BudgetDiff> {
    let mut ids: Vec<&BudgetId> = old.ids().chain(new.ids()).collect();
    ids.sort_unstable();
    ids.dedup();
    let change = |id: &BudgetId| match (old.form(id), new.form(id)) {
        (None, Some(new)) => Some(BudgetChange::Add { new }),
        (Some(old), None) => Some(BudgetChange::Remove { old }),
        (Some(old), Some(new)) => {
            let fields = fields(&old, &new);
            (!fields.is_empty()).then_some(BudgetChange::Change { fields })
        }
        (None, None) => None,
    };
    ids.into_iter().filter_map(|id| Some(BudgetDiff { budget: Arc::clone(id), change: change(id)? })).collect()
}

fn fields(old: &Value, new: &Value) -> Vec<FieldChange> {
    let (before, after) = (budget_fields(old), budget_fields(new));
    let mut changes: Vec<FieldChange> = Vec::new();
    for (path, value) in &before {
        let new = after.iter().find(|(other, _)| other == path).map(|(_, value)| value);
        if new != Some(value) {
            changes.push(FieldChange { path: path.clone(), old: Some(value.clone()), new: new.cloned() });
        }
    }
    let is_new = |path: &str| !before.iter().any(|(other, _)| other == path);
    let added = after.iter().filter(|(path, _)| is_new(path));
    changes.extend(added.map(|(path, value)| FieldChange { path: path.clone(), old: None, new: Some(value.clone()) }));
    if let (true, Value::Object(old), Value::Object(new)) = (changes.is_empty(), old, new) {
        // The same fields in another order, which decides among equals.
        let moved = old.iter().filter_map(|(name, value)| Some((name, value, new.get(name)?)));
        let moved = moved.filter(|(_, old, new)| old != new);
        changes.extend(moved.map(|(name, old, new)| FieldChange {
            path: name.clone(),
            old: Some(old.clone()),
            new: Some(new.clone()),
        }));
    }
    changes
}

/// Every field of a budget's canonical form with its path; a list of plain values is one field, and an empty one is none.
#[must_use]
pub fn budget_fields(budget: &Value) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    flatten(String::new(), budget, &mut fields);
    fields
}

fn flatten(path: String, value: &Value, fields: &mut Vec<(String, Value)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(name, value)| flatten(below(name), value, fields));
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            let mut taken: Vec<String> = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let mut item = item.clone();
                let overage = item.as_object_mut().and_then(|limit| limit.remove("overage"));
                let mut label = label(&path, &mut item).unwrap_or_else(|| format!("{path}[{at}]"));
                if taken.contains(&label) {
                    label = format!("{label}[{at}]");
                }
                taken.push(label.clone());
                overage.iter().for_each(|overage| flatten(format!("{label}.overage"), overage, fields));
                flatten(label, &item, fields);
            }
        }
        Value::Null => {}
        empty if is_empty(empty) => {}
        plain => fields.push((path, plain.clone())),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What an element of a list is called, which is taken out of it: whom it is for, or the measure that it limits.
fn label(path: &str, item: &mut Value) -> Option<String> {
    let members = item.as_object_mut()?;
    if let Some(Value::Object(values)) = members.remove("match") {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let values: Vec<String> = values.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        return Some(format!("{path}[{}]", values.join(",")));
    }
    let (name, value) = members.iter().next().filter(|_| members.len() == 1)?;
    let (name, value) = (format!("{path}.{name}"), value.clone());
    *item = value;
    Some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(budgets: &str) -> BudgetSet {
        BudgetSet::from_yaml(&format!("budgets: [{budgets}]")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn shown(old: &str, new: &str) -> Value {
        serde_json::to_value(diff(&set(old), &set(new))).unwrap()
    }

    #[test]
    fn each_field_that_changes_is_named_with_both_values() {
        let old = "{ id: a, per: [user], window: { every: day }, limits: [{ tokens: 5 }, { cost: 2 USD }], \
                   overrides: [{ match: { user: u }, limit: { tokens: 7 } }], alerts: { at: [0.5] } }";
        let new = "{ id: a, per: [user], window: { every: day, zone: Europe/Berlin }, limits: [{ tokens: 6 }, { requests: 9 }], \
                   overrides: [{ match: { user: v }, limit: { tokens: 7 } }], alerts: { at: [0.5, 1] }, mode: soft, overcommit: true }";
        let fields = shown(old, new)[0]["fields"].clone();
        for expected in [
            json!({ "path": "window.zone", "old": "UTC", "new": "Europe/Berlin" }),
            json!({ "path": "limits.tokens", "old": 5, "new": 6 }),
            json!({ "path": "limits.cost", "old": "2 USD" }),
            json!({ "path": "limits.requests", "new": 9 }),
            json!({ "path": "overrides[user=u].limits.tokens", "old": 7 }),
            json!({ "path": "overrides[user=v].limits.tokens", "new": 7 }),
            json!({ "path": "alerts.at", "old": ["0.5"], "new": ["0.5", "1"] }),
            json!({ "path": "mode", "old": "hard", "new": "soft" }),
            json!({ "path": "overcommit", "old": false, "new": true }),
        ] {
            assert!(fields.as_array().unwrap().contains(&expected), "{expected} is not in {fields:#}");
        }
        assert_eq!(fields.as_array().unwrap().len(), 9, "{fields:#}");
    }

    #[test]
    fn what_a_budget_does_when_it_is_reached_is_compared_too() {
        let old = "{ id: a, per: [user], window: { every: day }, limits: [{ tokens: 100 }, { cost: 2 USD, overage: 1 USD }] }";
        let new = "{ id: a, per: [user], window: { every: day }, limits: [{ tokens: 100 }, { cost: 2 USD, overage: 0.5 USD }], \
                   overage: { tokens: 7 }, mode: canary, canary: 12.5%, rollback: { blocked_over: 20%, at_least: 4 } }";
        let changed = json!([
            { "path": "canary", "new": "0.125" },
            { "path": "limits.cost.overage", "old": "1 USD", "new": "0.5 USD" },
            { "path": "limits.tokens.overage", "new": 7 },
            { "path": "mode", "old": "hard", "new": "canary" },
            { "path": "rollback.at_least", "new": 4 },
            { "path": "rollback.blocked_over", "new": "0.2" },
        ]);
        let mut fields = shown(old, new)[0]["fields"].as_array().unwrap().clone();
        fields.sort_by_key(|field| field["path"].to_string());
        assert_eq!(json!(fields), changed);
    }

    #[test]
    fn sets_differ_exactly_where_a_change_is_named() {
        let base = "{ id: a, window: { every: day }, limits: [{ cost: 1 USD }, { cost: 2 EUR }] }";
        let written_out = "{ id: a, match: {}, per: [], window: { every: day, zone: UTC }, limits: [{ cost: 1.00 USD }, { cost: 2 EUR }], mode: hard }";
        assert_eq!(shown(base, written_out), json!([]));
        let turned = "{ id: a, window: { every: day }, limits: [{ cost: 2 EUR }, { cost: 1 USD }] }";
        assert_eq!(shown(base, turned)[0]["fields"][0]["path"], "limits.cost");
        let tokens = |limits: &str| format!("{{ id: a, window: {{ every: day }}, limits: [{limits}] }}");
        let moved = shown(&tokens("{ tokens: 1 }, { requests: 2 }"), &tokens("{ requests: 2 }, { tokens: 1 }"));
        assert_eq!(
            moved[0]["fields"][0],
            json!({ "path": "limits", "old": [{ "tokens": 1 }, { "requests": 2 }], "new": [{ "requests": 2 }, { "tokens": 1 }] })
        );
    }

    #[test]
    fn breakers_are_compared_as_budgets_are() {
        let breaker = |trip: &str| {
            let text = format!("breakers: [{{ id: loops, per: [agent], trip: [{trip}] }}]");
            BudgetSet::from_yaml(&text).unwrap_or_else(|error| panic!("{error}"))
        };
        let (slow, fast) = (breaker("{ requests: 5, within: 1m }"), breaker("{ requests: 9, within: 60s }"));
        let shown = serde_json::to_value(diff(&slow, &fast)).unwrap();
        assert_eq!((&shown[0]["budget"], &shown[0]["action"]), (&json!("loops"), &json!("change")));
        assert_eq!(shown[0]["fields"], json!([{ "path": "trip[0].requests", "old": 5, "new": 9 }]));
        let gone = serde_json::to_value(diff(&slow, &BudgetSet::default())).unwrap();
        assert_eq!((&gone[0]["action"], &gone[0]["old"]["id"]), (&json!("remove"), &json!("loops")));
        assert_eq!(diff(&slow, &slow), []);
    }

    #[test]
    fn what_comes_and_what_goes_is_shown_whole() {
        let (a, b) = (
            "{ id: a, window: { every: day }, limit: { tokens: 1 } }",
            "{ id: b, window: { every: day }, limit: { tokens: 1 } }",
        );
        let shown = shown(a, b);
        assert_eq!(
            (&shown[0]["budget"], &shown[0]["action"], &shown[0]["old"]["id"]),
            (&json!("a"), &json!("remove"), &json!("a"))
        );
        assert_eq!(
            (&shown[1]["budget"], &shown[1]["action"], &shown[1]["new"]["id"]),
            (&json!("b"), &json!("add"), &json!("b"))
        );
    }
}
