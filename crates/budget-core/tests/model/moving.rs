//! The model of windows that move: which rows count at a time, found by looking at all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use usage_types::{Alert, Bounds, Budget, Limits, Ppm, Scope, TimeUs, Window, WindowSpec};

use crate::common::Record;
use crate::reference::{Model, Sums, limits_of, reached, tightest};

/// A row and its effective time.
pub type Row = (Record, TimeUs);

/// The rows that count at a time, and from when to when that is told.
pub fn counting<'r>(spec: WindowSpec, rows: &[&'r Row], now: TimeUs) -> (Vec<&'r Row>, Window) {
    let window =
        |start, end, width: i64| Window { start: TimeUs(start * width), end: TimeUs(end * width), zone: spec.zone };
    match spec.bounds {
        Bounds::Calendar { .. } => unreachable!("those do not move"),
        Bounds::Rolling(span) => {
            let width = span.us() / 60;
            let present = now.0.div_euclid(width);
            let counts = rows.iter().copied().filter(|(_, time)| time.0 >= (present - 60) * width).collect();
            (counts, window(present - 60, present + 1, width))
        }
        Bounds::Lifetime { idle, .. } => {
            let width = idle.us() / 12;
            let present = now.0.div_euclid(width);
            let bucket = |row: &Row| row.1.0.div_euclid(width);
            let known: BTreeSet<i64> = rows.iter().map(|row| bucket(row)).filter(|at| *at >= present - 360).collect();
            let (mut first, mut last) = (present, None);
            for at in known.into_iter().rev() {
                if first - at > 12 {
                    break;
                }
                (first, last) = (at, last.or(Some(at)));
            }
            let counts = rows.iter().copied().filter(|row| last.is_some() && bucket(row) >= first).collect();
            (counts, window(first, last.unwrap_or(present) + 13, width))
        }
    }
}

pub fn sum(rows: &[&Row]) -> Sums {
    let mut sums = Sums::default();
    rows.iter().for_each(|(record, _)| sums.add(record));
    sums
}

/// The first time from now on at which something no longer holds of what counts then, if nothing more comes; it holds of something.
pub fn until(spec: WindowSpec, rows: &[&Row], now: TimeUs, holds: impl Fn(&Sums) -> bool) -> TimeUs {
    let width = match spec.bounds {
        Bounds::Lifetime { idle, .. } => idle.us() / 12,
        Bounds::Rolling(span) => span.us() / 60,
        Bounds::Calendar { .. } => unreachable!("those do not move"),
    };
    let times = (now.0.div_euclid(width) + 1..).map(|at| TimeUs(at * width));
    times.into_iter().find(|at| !holds(&sum(&counting(spec, rows, *at).0))).unwrap()
}

/// What was told of the thresholds of moving windows: each crossing once.
#[derive(Default)]
pub struct Told {
    /// By budget, scope, kind and threshold: when it was told, and whether the fill has been below since.
    last: HashMap<(String, Scope, String, Ppm), (TimeUs, bool)>,
    /// When a fill falls below if nothing more comes, as of the last look.
    falls: HashMap<(String, Scope, String, Ppm), TimeUs>,
    seen: BTreeSet<String>,
}

impl Told {
    /// To be called after each step, with all that is published.
    pub fn check(&mut self, model: &Model, alerts: &BTreeMap<String, Alert>, now: TimeUs) {
        let mut above: HashMap<(String, Scope, String, Ppm), TimeUs> = HashMap::new();
        let mut pauses: HashMap<(String, String), i64> = HashMap::new();
        for (id, (budget, warming, _)) in &model.budgets {
            let pause = match budget.window.bounds {
                Bounds::Rolling(span) | Bounds::Lifetime { idle: span, .. } => span.us(),
                Bounds::Calendar { .. } => continue,
            };
            if *warming {
                // It says nothing, and what happens meanwhile nobody sees.
                self.last.iter_mut().filter(|(key, _)| key.0 == *id).for_each(|(_, told)| told.1 = true);
                continue;
            }
            pauses.insert((id.clone(), budget.window.id_name()), pause);
            for (scope, rows) in model.rows_of(budget) {
                let (counts, _) = counting(budget.window, &rows, now);
                for threshold in &budget.alerts.at {
                    let is_above = |sums: &Sums| has_reached(limits_of(budget, &scope), sums, *threshold);
                    if is_above(&sum(&counts)) {
                        let key = (id.clone(), scope.clone(), budget.window.id_name(), *threshold);
                        above.insert(key, until(budget.window, &rows, now, is_above));
                    }
                }
            }
        }
        for (key, told) in &mut self.last {
            let fell = self.falls.get(key).is_none_or(|at| *at <= now);
            told.1 |= fell || !above.contains_key(key);
        }
        for alert in alerts.values().filter(|alert| alert.every == "rolling" || alert.every == "lifetime") {
            if !self.seen.insert(alert.id.clone()) {
                continue;
            }
            let kind = alert.id.split('|').nth(2).unwrap().to_owned();
            let ppm = (alert.threshold.parse::<usage_types::Pico>().unwrap().0 / 1_000_000) as u32;
            let key = (alert.budget.clone(), alert.scope.clone(), kind.clone(), Ppm(ppm));
            assert!(above.contains_key(&key), "nothing is to be told: {alert:?}");
            if let Some((at, was_below)) = self.last.insert(key, (alert.raised_at, false)) {
                let pause = pauses[&(alert.budget.clone(), kind)];
                assert!(alert.raised_at.0 - at.0 >= pause, "too soon after {at}: {alert:?}");
                assert!(was_below, "told twice: {alert:?}");
            }
        }
        for key in above.keys() {
            assert!(self.last.contains_key(key), "{key:?} is not told");
        }
        self.falls = above;
    }
}

fn has_reached(limits: &Limits, sums: &Sums, threshold: Ppm) -> bool {
    let limit = tightest(&limits.iter().collect::<Vec<_>>(), sums);
    threshold.reached(sums.amount(limit.measure), limit.amount)
}

/// The window that a block is told with: until when the scope would be over its limits if nothing more came.
pub fn blocked_window(budget: &Budget, scope: &Scope, rows: &[&Row], now: TimeUs) -> Window {
    let limits = limits_of(budget, scope);
    let end = until(budget.window, rows, now, |sums| !reached(limits, sums).is_empty());
    Window { end, ..counting(budget.window, rows, now).1 }
}
