//! What a window costs now and what it would cost by a price book, slot by slot.
//!
//! A slot is a quarter of an hour and all dimensions of its usage. Every window in every time zone begins and ends between two quarters of
//! an hour, so a difference that is booked at a slot's begin is in the same windows, scopes and groups as the usage that it is for.
//!
//! What a slot costs now is what the price book made of its rows when they came, and what earlier repricings added. Costs that senders
//! gave and other adjustments are left out on both sides. A reversal is the negative of its row on both sides, too, so what was
//! corrected counts as it stands.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use price_book::{Priced, Pricer, UnpricedReason};
use ring::digest::{SHA256, digest};
use usage_intake::COST_MAX;
use usage_lake::{LakeFiles, ReplayColumns, RowKind, StoredRow, rows};
use usage_types::{
    ComputeNs, Cost, CostOrigin, Currency, Dimension, Dimensions, Pico, Role, TimeUs, Tokens, UsageEvent,
};

/// The length of a slot.
pub const SLOT_US: i64 = 15 * TimeUs::MINUTE;
/// What the name of every repricing begins with: that is how a later one knows it.
pub const RUN_PREFIX: &str = "reprice-";
/// The source of every adjustment; with the id it tells one from another.
const SOURCE: &str = "outlay/reprice";
/// Models without a price that are told apart.
const MODELS_MAX: usize = 1_000;

/// What is repriced.
pub struct Window {
    /// From then on; the begin of a slot.
    pub from: TimeUs,
    /// Until before then; the begin of a slot.
    pub to: TimeUs,
    /// Only these namespaces; all where there is none.
    pub namespaces: Vec<String>,
    /// On whose behalf; with [`RUN_PREFIX`].
    pub run: String,
}

/// The cost of something in one currency, in pico-units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// What it costs now.
    pub now: i128,
    /// What it costs by the book.
    pub new: i128,
}

impl Costs {
    /// By how much it changes.
    pub const fn difference(self) -> i128 {
        self.new - self.now
    }

    fn add(&mut self, more: Self) {
        self.now += more.now;
        self.new += more.new;
    }
}

/// All usage of one quarter of an hour and of the same dimensions.
#[derive(Debug, Default)]
struct Slot {
    begin: TimeUs,
    dimensions: Dimensions<'static>,
    costs: BTreeMap<Currency, Costs>,
    /// Rows without a price in the book, less those taken back: those that have a cost now, and those that have none.
    lost: i64,
    unpriced: i64,
    reason: Option<UnpricedReason>,
    /// Whether an earlier repricing changed it, and whether that was this run.
    is_repriced: bool,
    is_by_this_run: bool,
}

/// The slots of one UTC date.
#[derive(Default)]
pub struct Day {
    slots: HashMap<String, Slot>,
    key: String,
}

/// A provider and a model.
pub type Model = (String, String);

/// What a repricing would do.
#[derive(Debug, Default)]
pub struct Totals {
    /// By namespace and model and currency.
    pub by_model: BTreeMap<(String, String, Currency), Costs>,
    /// Rows that were priced, also those taken back and those that do.
    pub rows: u64,
    /// Rows whose cost the sender gave.
    pub own_cost: u64,
    /// Slots whose cost changes.
    pub adjustments: u64,
    /// Slots whose cost changes although this run has adjusted them already.
    pub already: u64,
    /// Usage that has a cost now and none by the book, with why.
    pub lost: BTreeMap<Model, (i64, Option<UnpricedReason>)>,
    /// Usage without a cost, now and by the book.
    pub unpriced: BTreeMap<Model, i64>,
}

impl Window {
    /// Reads one date.
    pub async fn day(&self, files: &LakeFiles, date: &str, pricer: &mut Pricer, totals: &mut Totals) -> Result<Day> {
        let mut day = Day::default();
        let mut batches = files.on_date(date, ReplayColumns::Balances);
        while let Some(batch) = batches.next().await {
            let batch = batch.context("cannot read the lake")?;
            for row in rows(&batch)? {
                let row = row?;
                if self.takes(&row) {
                    self.add(&mut day, &row, pricer, totals);
                }
            }
        }
        Ok(day)
    }

    fn takes(&self, row: &StoredRow<'_>) -> bool {
        let namespace = row.dimensions.get(Dimension::Namespace).unwrap_or_default();
        let is_named = self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == namespace);
        is_named && row.time >= self.from && row.time < self.to
    }

    fn add(&self, day: &mut Day, row: &StoredRow<'_>, pricer: &mut Pricer, totals: &mut Totals) {
        if row.kind == RowKind::Adjustment {
            let (Some(run), Some(cost)) = (row.corrects.filter(|run| run.starts_with(RUN_PREFIX)), row.cost) else {
                return;
            };
            let slot = day.slot(row);
            slot.is_repriced = true;
            slot.is_by_this_run |= run == self.run;
            slot.costs.entry(cost.currency).or_default().now += cost.amount.0;
            return;
        }
        if row.cost.is_some_and(|cost| cost.origin == CostOrigin::Event) {
            totals.own_cost += 1;
            return;
        }
        totals.rows += 1;
        let sign = if row.kind == RowKind::Reversal { -1 } else { 1 };
        let new = pricer.price(&row.usage(), row.time);
        let is_usage = row.tokens.total() > 0 || row.dimensions.get(Dimension::Model).is_some();
        let slot = day.slot(row);
        if let Some(old) = row.cost {
            slot.costs.entry(old.currency).or_default().now += sign * old.amount.0;
        }
        match (row.cost, new) {
            (_, Priced::Cost(Cost { amount, currency, .. })) => {
                slot.costs.entry(currency).or_default().new += sign * amount.0;
            }
            (Some(old), Priced::Unpriced(reason)) => {
                slot.costs.entry(old.currency).or_default().new += sign * old.amount.0;
                slot.lost += if sign < 0 { -1 } else { 1 };
                slot.reason = Some(reason);
            }
            (None, Priced::Unpriced(_)) if is_usage => slot.unpriced += if sign < 0 { -1 } else { 1 },
            (None, Priced::Unpriced(_)) => {}
        }
    }
}

impl Day {
    fn slot(&mut self, row: &StoredRow<'_>) -> &mut Slot {
        let begin = TimeUs(row.time.0 - row.time.0.rem_euclid(SLOT_US));
        write_key(&mut self.key, begin, &row.dimensions);
        if !self.slots.contains_key(&self.key) {
            let slot = Slot { begin, dimensions: row.dimensions.clone().into_owned(), ..Slot::default() };
            self.slots.insert(self.key.clone(), slot);
        }
        self.slots.get_mut(&self.key).expect("it was just put there")
    }

    /// Adds what the day's slots come to.
    pub fn total(&self, totals: &mut Totals) {
        for slot in self.slots.values() {
            let text = |dimension| slot.dimensions.get(dimension).unwrap_or_default().to_owned();
            let model = (text(Dimension::Provider), text(Dimension::Model));
            for (currency, costs) in slot.costs.iter().filter(|(_, costs)| **costs != Costs::default()) {
                let key = (text(Dimension::Namespace), model.1.clone(), *currency);
                totals.by_model.entry(key).or_default().add(*costs);
                totals.adjustments += u64::from(costs.difference() != 0);
                totals.already += u64::from(costs.difference() != 0 && slot.is_by_this_run);
            }
            // What an earlier repricing gave a cost is lost, too, where this book has none for it.
            let (lost, unpriced) =
                if slot.is_repriced { (slot.lost + slot.unpriced, 0) } else { (slot.lost, slot.unpriced) };
            if lost != 0 && (totals.lost.len() < MODELS_MAX || totals.lost.contains_key(&model)) {
                let entry = totals.lost.entry(model.clone()).or_default();
                *entry = (entry.0 + lost, entry.1.or(slot.reason));
            }
            if unpriced != 0 && (totals.unpriced.len() < MODELS_MAX || totals.unpriced.contains_key(&model)) {
                *totals.unpriced.entry(model).or_default() += unpriced;
            }
        }
    }

    /// The events that bring the slots to their new costs, in an order that is always the same.
    pub fn adjustments<'a>(&'a self, run: &'a str) -> Vec<UsageEvent<'a>> {
        let mut slots: Vec<(&String, &Slot)> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|(key, _)| *key);
        let events = slots.into_iter().flat_map(|(key, slot)| {
            let changed = slot.costs.iter().filter(|(_, costs)| costs.difference() != 0);
            changed.flat_map(move |(currency, costs)| {
                let parts = parts(costs.difference());
                parts
                    .into_iter()
                    .enumerate()
                    .map(move |(at, amount)| adjustment(run, key, slot, (amount, *currency), at))
            })
        });
        events.collect()
    }
}

fn adjustment<'a>(run: &'a str, key: &str, slot: &'a Slot, cost: (Pico, Currency), part: usize) -> UsageEvent<'a> {
    UsageEvent {
        id: Some(id_of(run, key, cost.1, part).into()),
        source: SOURCE.into(),
        time: slot.begin,
        dimensions: slot.dimensions.clone(),
        tokens: Tokens::default(),
        requests: 0,
        tool_calls: 0,
        images: 0,
        compute: ComputeNs(0),
        cost: Some(cost),
        tags: BTreeMap::new(),
        role: Role::Adjusts(run.into()),
        progress: None,
    }
}

/// The amount in parts that one event may cost: nearly always one.
fn parts(amount: i128) -> Vec<Pico> {
    let (mut left, mut parts) = (amount, Vec::with_capacity(1));
    while left != 0 {
        let part = left.clamp(-COST_MAX.0, COST_MAX.0);
        parts.push(Pico(part));
        left -= part;
    }
    parts
}

/// A slot's name: its begin and its dimensions, which hold no control characters.
fn write_key(key: &mut String, begin: TimeUs, dimensions: &Dimensions<'_>) {
    key.clear();
    key.push_str(&begin.to_string());
    for (dimension, value) in dimensions.iter() {
        for part in ["\n", dimension.name(), "=", value] {
            key.push_str(part);
        }
    }
}

/// The id of a slot's adjustment: the same in every run of this name, so that a run that was interrupted adds only what is missing.
fn id_of(run: &str, key: &str, currency: Currency, part: usize) -> String {
    let hash = digest(&SHA256, format!("{key}\n{currency}\n{part}").as_bytes());
    hash.as_ref()[..16].iter().fold(format!("{run}/"), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was cut off may be finished by a newer version.
    #[test]
    fn the_id_of_an_adjustment_stays_the_same_from_version_to_version() {
        let mut dimensions = Dimensions::default();
        dimensions.set(Dimension::Namespace, Some("a".into()));
        dimensions.set(Dimension::Model, Some("m".into()));
        let mut key = "old".to_owned();
        write_key(&mut key, TimeUs(1_767_323_700_000_000), &dimensions);
        assert_eq!(key, "2026-01-02T03:15:00Z\nnamespace=a\nmodel=m");
        assert_eq!(id_of("reprice-x", &key, Currency::USD, 0), "reprice-x/401b685ee0370e90205bf1262ed4f2e5");
    }

    #[test]
    fn an_amount_beyond_what_one_event_may_cost_is_parted() {
        assert_eq!(parts(0), []);
        assert_eq!(parts(-5), [Pico(-5)]);
        assert_eq!(parts(-2 * COST_MAX.0 - 1), [Pico(-COST_MAX.0), Pico(-COST_MAX.0), Pico(-1)]);
    }
}
