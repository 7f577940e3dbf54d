//! What the tests share: records and budgets in one line each.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use budget_core::{Core, Disposition, Input, Restates, RestoredRow};
use usage_types::{
    AlertRule, Amount, Budget, BudgetSet, ComputeNs, Cost, CostOrigin, Currency, Dimension, DimensionSet, Dimensions,
    EventPosition, Every, Limit, Limits, Measure, Mode, Pico, Ppm, Priority, Role, Scope, SpecialLimits, TimeUs,
    Tokens, UsageEvent, WindowSpec,
};

pub const UTC: chrono_tz::Tz = chrono_tz::UTC;

pub fn at(text: &str) -> TimeUs {
    TimeUs::parse_rfc3339(text).unwrap()
}

pub fn currency(text: &str) -> Currency {
    text.parse().unwrap()
}

/// A record as the tests keep it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub event: UsageEvent<'static>,
    pub cost: Option<Cost>,
    pub position: EventPosition,
    /// As a row: whether it takes back what it holds.
    pub reversal: bool,
    /// As a correction: the time of what it names, and what counts for that now.
    pub restates: Option<(TimeUs, Option<Box<Record>>)>,
}

impl Record {
    /// An event of so many input tokens that was appended when it happened.
    pub fn new(id: &str, time: TimeUs, dims: &[(Dimension, &str)], tokens: u64) -> Self {
        let mut dimensions = Dimensions::default();
        for (dim, value) in dims {
            dimensions.set(*dim, Some(Cow::Owned((*value).to_owned())));
        }
        let event = UsageEvent {
            id: Some(Cow::Owned(id.to_owned())),
            source: Cow::Borrowed("test"),
            time,
            dimensions,
            tokens: Tokens { input: tokens, ..Tokens::default() },
            requests: 1,
            tool_calls: 0,
            images: 0,
            role: Role::Usage,
            progress: None,
            compute: ComputeNs(0),
            cost: None,
            tags: BTreeMap::new(),
        };
        let position = EventPosition { partition: 0, offset: 0, append_time: time };
        Self { event, cost: None, position, reversal: false, restates: None }
    }

    pub fn appended(mut self, time: TimeUs) -> Self {
        self.position.append_time = time;
        self
    }

    pub fn costing(mut self, pico: i128, currency: Currency) -> Self {
        self.cost = Some(Cost { amount: Pico(pico), currency, origin: CostOrigin::PriceBook });
        self
    }

    /// With another role.
    pub fn role(mut self, role: Role<'static>) -> Self {
        self.event.role = role;
        self
    }

    /// A correction of an event at this time, for which this counts now.
    pub fn restating(mut self, time: TimeUs, counts: Option<&Self>) -> Self {
        self.restates = Some((time, counts.cloned().map(Box::new)));
        self
    }

    pub fn restates(&self) -> Option<Restates<'_>> {
        let (time, counts) = self.restates.as_ref()?;
        Some(Restates { time: *time, counts: counts.as_ref().map(|counts| counts.row(*time)) })
    }

    pub fn input<'a>(&'a self, restates: Option<&'a Restates<'a>>) -> Input<'a> {
        Input { event: &self.event, cost: self.cost, position: self.position, restates }
    }

    /// The row that the lake holds of it.
    pub fn row(&self, time: TimeUs) -> RestoredRow<'_> {
        RestoredRow {
            id: self.event.id.as_deref().unwrap(),
            source: &self.event.source,
            time,
            append_time: self.position.append_time,
            dimensions: &self.event.dimensions,
            tokens: self.event.tokens,
            requests: self.event.requests,
            tool_calls: self.event.tool_calls,
            images: self.event.images,
            compute: self.event.compute,
            cost: self.cost.map(|cost| (cost.amount, cost.currency)),
            reversal: self.reversal,
            progress: self.event.progress,
        }
    }
}

pub fn apply(core: &mut Core, records: &[Record]) -> Vec<Disposition> {
    let restates: Vec<Option<Restates<'_>>> = records.iter().map(Record::restates).collect();
    let inputs: Vec<Input<'_>> =
        records.iter().zip(&restates).map(|(r, restates)| r.input(restates.as_ref())).collect();
    let mut out = Vec::new();
    core.apply_batch(&inputs, &mut out);
    assert_eq!(out.len(), records.len());
    out
}

/// A hard budget of tokens over a day in UTC.
pub fn budget(id: &str, matches: &[(Dimension, &str)], per: &[Dimension], tokens: i128) -> Budget {
    Budget {
        id: id.into(),
        matches: Scope::new(matches.iter().copied()),
        per: DimensionSet::of(per),
        window: WindowSpec::calendar(Every::Day, UTC),
        limits: Limit::new(Measure::Tokens, Amount(tokens)).into(),
        special: SpecialLimits::default(),
        overcommit: false,
        mode: Mode::Hard,
        rollback: None,
        predict: None,
        priority: Priority::Normal,
        pressure: None,
        alerts: AlertRule { at: vec![Ppm(800_000), Ppm::ONE], to: vec!["lead@example.com".into()] },
        http_status: 403,
    }
}

/// Several limits, in the order given.
pub fn limits(limits: &[(Measure, i128)]) -> Limits {
    let limit = |(measure, amount): &(Measure, i128)| Limit::new(*measure, Amount(*amount));
    Limits::new(limits.iter().map(limit).collect()).unwrap()
}

pub fn set(budgets: impl IntoIterator<Item = Budget>) -> Arc<BudgetSet> {
    let budgets = budgets.into_iter().map(|b| (Arc::clone(&b.id), Arc::new(b))).collect();
    Arc::new(BudgetSet { budgets, ..BudgetSet::default() })
}

/// Sets budgets that need no history: nothing has been folded.
pub fn set_fresh(core: &mut Core, budgets: impl IntoIterator<Item = Budget>, now: TimeUs) {
    for request in core.set_budgets(set(budgets), now) {
        core.finish_history(&request);
    }
}

/// Which decisions and alerts, in one line each.
pub fn told(effects: &budget_core::Effects) -> Vec<String> {
    let decisions = effects.decisions.iter().map(|d| {
        format!(
            "{:?} {} #{} {} {} used {} of {}",
            d.state,
            d.key(),
            d.seq,
            d.reason_code,
            d.http_status,
            d.used,
            d.limit
        )
    });
    let alerts = effects.alerts.iter().map(|a| format!("Alert {} used {}", a.id, a.used));
    decisions.chain(alerts).collect()
}
