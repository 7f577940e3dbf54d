//! The canonical form of budgets: a budgets file in which every default is written out, in JSON, which is YAML too.
//!
//! This is the one place where a budget is written. What compares, stores, shows or sends budgets goes through it, so a member that is
//! added to [`Budget`] is missed by the compiler here, and nowhere else.

use std::collections::BTreeMap;

use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    AlertRule, Breaker, Budget, BudgetId, BudgetSet, Dimension, Limit, Limits, Measure, Mode, Predict, Pressure,
    PressureStep, Rate, Rollback, SpecialLimits, Surge, TimeUs, Trip, Whom, WindowSpec,
};

impl BudgetSet {
    /// The most bytes of a canonical text that is read back.
    pub const CANONICAL_BYTES_MAX: usize = 8 * 1024 * 1024;

    /// The canonical text: the same for two sets exactly if they are equal, and read as this set by [`BudgetSet::from_canonical`].
    #[must_use]
    pub fn canonical(&self) -> String {
        // Nothing in it can fail to be written: keys are texts.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl BudgetSet {
    /// The ids of all budgets and breakers.
    pub fn ids(&self) -> impl Iterator<Item = &BudgetId> {
        self.budgets.keys().chain(self.breakers.keys())
    }

    /// The canonical form of the budget or breaker of this id.
    #[must_use]
    pub fn form(&self, id: &str) -> Option<Value> {
        let budget = self.budgets.get(id).and_then(|budget| serde_json::to_value(&**budget).ok());
        budget.or_else(|| self.breakers.get(id).and_then(|breaker| serde_json::to_value(&**breaker).ok()))
    }

    /// The text of the same.
    #[must_use]
    pub fn form_text(&self, id: &str) -> Option<String> {
        let budget = self.budgets.get(id).and_then(|budget| serde_json::to_string(&**budget).ok());
        budget.or_else(|| self.breakers.get(id).and_then(|breaker| serde_json::to_string(&**breaker).ok()))
    }
}

impl Serialize for BudgetSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { budgets, breakers } = self;
        let mut file = serializer.serialize_struct("BudgetSet", 2)?;
        file.serialize_field("budgets", &budgets.values().collect::<Vec<_>>())?;
        match breakers.is_empty() {
            true => file.skip_field("breakers")?,
            false => file.serialize_field("breakers", &breakers.values().collect::<Vec<_>>())?,
        }
        file.end()
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Named one by one and without `..`, so that a new member is not forgotten.
        let Self { id, matches, per, window, limits, special, overcommit, mode, rollback, .. } = self;
        let Self { predict, priority, pressure, alerts, http_status, .. } = self;
        let AlertRule { at, to } = alerts;
        let mut budget = serializer.serialize_struct("Budget", 16)?;
        budget.serialize_field("id", id)?;
        budget.serialize_field("match", matches)?;
        budget.serialize_field("per", &per.iter().map(Dimension::name).collect::<Vec<_>>())?;
        budget.serialize_field("window", &Window(*window))?;
        budget.serialize_field("limits", limits)?;
        budget.serialize_field("overrides", &Overrides(special))?;
        budget.serialize_field("plans", &Plans(self))?;
        budget.serialize_field("overcommit", overcommit)?;
        budget.serialize_field("mode", mode.name())?;
        let canary = if let Mode::Canary(share) = mode { Some(share.to_string()) } else { None };
        budget.serialize_field("canary", &canary)?;
        budget.serialize_field("rollback", &rollback.map(RollsBack::from))?;
        budget.serialize_field("predict", &predict.map(Predicts::from))?;
        budget.serialize_field("priority", priority.name())?;
        budget.serialize_field("pressure", &pressure.map(Presses::from))?;
        budget.serialize_field("alerts", &Alerts { at: at.iter().map(ToString::to_string).collect(), to })?;
        budget.serialize_field("http_status", http_status)?;
        budget.end()
    }
}

impl Serialize for Breaker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct HalfOpen {
            r#for: String,
            requests: u64,
        }
        let Self { id, matches, per, trips, open_us, half_open_us, trickle, mode } = self;
        let mut breaker = serializer.serialize_struct("Breaker", 7)?;
        breaker.serialize_field("id", id)?;
        breaker.serialize_field("match", matches)?;
        breaker.serialize_field("per", &per.iter().map(Dimension::name).collect::<Vec<_>>())?;
        breaker.serialize_field("trip", trips)?;
        breaker.serialize_field("open_for", &seconds(*open_us))?;
        breaker.serialize_field("half_open", &HalfOpen { r#for: seconds(*half_open_us), requests: *trickle })?;
        breaker.serialize_field("mode", mode.name())?;
        breaker.end()
    }
}

impl Serialize for Trip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { limit, within_us, surge, same } = self;
        let mut trip = serializer.serialize_map(None)?;
        match same {
            Some(tag) => {
                serialize_count(&mut trip, "repeats", limit.amount.0)?;
                trip.serialize_entry("tag", tag)?;
            }
            None => serialize_limit(&mut trip, *limit)?,
        }
        trip.serialize_entry("within", &seconds(*within_us))?;
        if let Some(Surge { times, of_us }) = surge {
            trip.serialize_entry("times", times)?;
            trip.serialize_entry("of", &seconds(*of_us))?;
        }
        trip.end()
    }
}

/// A time as the file writes it; all of them are of whole seconds.
fn seconds(us: i64) -> String {
    format!("{}s", us / TimeUs::SECOND)
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Limit {
    /// One measure by its name in the file: counts as numbers, everything else as text, so that no reader makes a float of it. An overage is
    /// written with its limit, whichever way it was given.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut limit = serializer.serialize_map(None)?;
        serialize_limit(&mut limit, *self)?;
        limit.end()
    }
}

fn serialize_limit<M: SerializeMap>(limit: &mut M, of: Limit) -> Result<(), M::Error> {
    let Limit { measure, amount, overage } = of;
    let name = match measure {
        Measure::Cost(_) => "cost",
        Measure::Compute => "compute_seconds",
        Measure::TokensOf(class) => class.name(),
        Measure::Tokens | Measure::Requests | Measure::ToolCalls | Measure::Images => measure.name(),
    };
    for (name, amount) in [(name, amount), ("overage", overage)].into_iter().filter(|(_, amount)| amount.0 > 0) {
        let text = measure.format(amount);
        match measure {
            Measure::Cost(currency) => limit.serialize_entry(name, &format!("{text} {currency}"))?,
            Measure::Compute => limit.serialize_entry(name, &text)?,
            _ => serialize_count(limit, name, amount.0)?,
        }
    }
    Ok(())
}

/// A count: the file's bound keeps it within 64 bits.
fn serialize_count<M: SerializeMap>(limit: &mut M, name: &str, count: i128) -> Result<(), M::Error> {
    limit.serialize_entry(name, &i64::try_from(count).unwrap_or(i64::MAX))
}

#[derive(Serialize)]
struct RollsBack {
    blocked_over: String,
    at_least: u32,
}

impl From<Rollback> for RollsBack {
    fn from(Rollback { blocked_over, at_least }: Rollback) -> Self {
        Self { blocked_over: blocked_over.to_string(), at_least }
    }
}

#[derive(Serialize)]
struct Predicts {
    #[serde(skip_serializing_if = "Option::is_none")]
    warn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<String>,
    over: String,
    floor: Paced,
}

impl From<Predict> for Predicts {
    fn from(Predict { over, warn_us, slow_us, floor }: Predict) -> Self {
        Self { warn: warn_us.map(seconds), slow: slow_us.map(seconds), over: seconds(over.us()), floor: floor.into() }
    }
}

#[derive(Serialize)]
struct Presses {
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal: Option<Step>,
}

#[derive(Serialize)]
struct Step {
    at: String,
    #[serde(flatten)]
    rate: Paced,
}

impl From<Pressure> for Presses {
    fn from(Pressure { low, normal }: Pressure) -> Self {
        let step = |PressureStep { at, rate }| Step { at: at.to_string(), rate: rate.into() };
        Self { low: low.map(step), normal: normal.map(step) }
    }
}

/// A rate as the file writes it.
#[derive(Serialize)]
struct Paced {
    requests: u64,
    within: String,
}

impl From<Rate> for Paced {
    fn from(Rate { requests, per_s }: Rate) -> Self {
        Self { requests, within: format!("{per_s}s") }
    }
}

struct Window(WindowSpec);

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.fields())
    }
}

#[derive(Serialize)]
struct Alerts<'a> {
    at: Vec<String>,
    to: &'a [String],
}

struct Overrides<'a>(&'a SpecialLimits);

impl Serialize for Overrides<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Override<'a> {
            r#match: &'a crate::Scope,
            limits: &'a Limits,
        }
        let mut list = serializer.serialize_seq(None)?;
        for entry in self.0.entries().iter().filter(|entry| entry.whom == Whom::Override) {
            for values in &entry.values {
                list.serialize_element(&Override { r#match: values, limits: &entry.limits })?;
            }
        }
        list.end()
    }
}

struct Plans<'a>(&'a Budget);

impl Serialize for Plans<'_> {
    /// `null` where there are none: a plan says of which dimension, and of none there is nothing to say.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plan<'a> {
            of: Vec<&'a str>,
            limits: &'a Limits,
        }
        let mut plans = BTreeMap::new();
        let mut by = None;
        for entry in self.0.special.entries() {
            let Whom::Plan(name) = &entry.whom else { continue };
            by = by.or_else(|| entry.values.first().and_then(|scope| scope.dimensions().iter().next()));
            let of = entry.values.iter().flat_map(|scope| scope.iter().map(|(_, value)| value)).collect();
            plans.insert(name.as_str(), Plan { of, limits: &entry.limits });
        }
        // Where no plan has a member, any dimension that a plan may have says the same.
        let Some(by) = by.or_else(|| self.0.per.iter().next()).filter(|_| !plans.is_empty()) else {
            return serializer.serialize_none();
        };
        let mut map = serializer.serialize_map(Some(plans.len() + 1))?;
        map.serialize_entry("by", by.name())?;
        plans.iter().try_for_each(|(name, plan)| map.serialize_entry(name, plan))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = r#"budgets:
  - id: all
    match: { provider: "null", model: "a: {b}" }
    per: [user, namespace]
    window: { every: quarter, anchor: 02-15, at: "06:30", zone: Europe/Berlin }
    limits: [{ tokens: 1000000000000000000 }, { cost: "0.000000000001 USD" }, { cost: 3 EUR }, { compute_hours: 0.5 }, { output: 7 }, { tool_calls: 2 }]
    overrides:
      - { match: { user: "~" }, limit: { requests: 1 } }
      - { match: { user: b, namespace: n }, limit: { images: 2 } }
    plans: { by: namespace, zeta: { of: [x, "1"], limit: { requests: 9 } }, alpha: { limit: { tokens: 8 } }, nobody: { of: [], limit: { tokens: 8 } } }
    overcommit: true
    overage: 50%
    mode: canary
    canary: 12.5%
    rollback: { blocked_over: 1%, at_least: 3 }
    predict: { warn: 2h, slow: 30 minutes, over: 10m, floor: { requests: 6, within: 1h } }
    priority: low
    pressure: { low: { at: 80%, requests: 10, within: 1m }, normal: { at: 0.95, requests: 1, within: 1h } }
    alerts: { at: [0.000001, 0.8, 10], to: [a@b.c] }
    http_status: 429
  - { id: few, window: { every: hour }, limit: { requests: 5 } }
  - { id: rolls, window: { rolling: 90 minutes, zone: Asia/Tokyo }, limit: { requests: 5 } }
  - { id: lives, per: [session], window: { lifetime: session, idle: 24h }, limit: { requests: 5 } }
breakers:
  - id: loops
    match: { team: t }
    per: [agent]
    trip: [{ cost: 5 USD, within: 1h }, { output: 9, within: 90s, times: 5, of: 30m }, { repeats: 3, within: 5s, tag: hash }]
    open_for: 30s
    half_open: { for: 2m, requests: 1 }
    mode: shadow
"#;

    #[test]
    fn what_is_written_is_read_as_the_same_set() {
        let set = BudgetSet::from_yaml(EVERYTHING).unwrap();
        let text = set.canonical();
        let again = BudgetSet::from_canonical(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again.canonical(), text);
        // The order of plans in the file says nothing: a value has one plan.
        let by_scope = |set: &BudgetSet| {
            let budget = &set.budgets["all"];
            let limits = |namespace, user| {
                budget.limits_of(|dim| match dim {
                    Dimension::Namespace => Some(namespace),
                    Dimension::User => Some(user),
                    _ => None,
                })
            };
            [
                limits("n", "~"),
                limits("n", "b"),
                limits("x", "c"),
                limits("1", "c"),
                limits("alpha", "c"),
                limits("o", "c"),
            ]
            .map(Clone::clone)
        };
        assert_eq!(by_scope(&again), by_scope(&set));
        assert_eq!(by_scope(&set).iter().map(|limits| limits.iter().count()).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 6]);
        let plain = |set: &BudgetSet| Budget { special: SpecialLimits::default(), ..(*set.budgets["all"]).clone() };
        assert_eq!(plain(&again), plain(&set));
        for id in ["few", "rolls", "lives"] {
            assert_eq!(again.budgets[id], set.budgets[id]);
        }
        assert_eq!(again.breakers, set.breakers);
    }

    #[test]
    fn every_default_is_written_out() {
        let set =
            BudgetSet::from_yaml("budgets:\n- { id: few, window: { every: hour }, limit: { requests: 5 } }\n").unwrap();
        assert_eq!(
            set.canonical(),
            concat!(
                r#"{"budgets":[{"id":"few","match":{},"per":[],"window":{"every":"hour","zone":"UTC"},"limits":[{"requests":5}],"#,
                r#""overrides":[],"plans":null,"overcommit":false,"mode":"hard","canary":null,"rollback":null,"predict":null,"priority":"normal","pressure":null,"alerts":{"at":["0.8","1"],"to":[]},"http_status":429}]}"#
            )
        );
        assert_eq!(BudgetSet::default().canonical(), r#"{"budgets":[]}"#);
    }
}
