//! The same question answered in the simplest way: nothing is kept but the rows that counted, and every balance is summed anew from them.

use std::collections::{BTreeMap, BTreeSet};

use budget_core::RestoredRow;
use budget_core::window::window_at;
use budget_simulator::Spend;
use usage_types::{
    Amount, Budget, BudgetId, BudgetSet, Currency, Dimension, Measure, Mode, Scope, TimeUs, TokenClass, Window,
};

/// Measure, currency, limit and what is used of it.
pub type Named = (String, Option<Currency>, String, String);
/// End, end of the window, what is named and what was refused.
pub type SeenBlock = (Option<TimeUs>, TimeUs, Named, Spend);

/// What came out.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    pub spend: Spend,
    pub refused: Spend,
    /// By budget, scope and begin.
    pub blocks: BTreeMap<(String, String, TimeUs), SeenBlock>,
    /// By budget, scope, time and threshold.
    pub alerts: BTreeMap<(String, String, TimeUs, String), Named>,
}

pub struct Naive<'a> {
    set: &'a BudgetSet,
    from: TimeUs,
    to: TimeUs,
    count_refused: bool,
    counted: Vec<RestoredRow<'a>>,
    /// The places of the rows of each budget and scope among them.
    rows_of: BTreeMap<(BudgetId, Scope), Vec<usize>>,
    started: bool,
    /// Blocks that have not ended, by budget and scope: when they began.
    open: BTreeMap<(String, String), TimeUs>,
    raised: BTreeSet<(String, String, TimeUs, String)>,
    seen: Seen,
}

fn scope_of(budget: &Budget, row: &RestoredRow<'_>) -> Option<Scope> {
    let matches = budget.matches.iter().all(|(dim, value)| row.dimensions.get(dim) == Some(value));
    let values: Option<Vec<(Dimension, String)>> =
        budget.scope_dimensions().iter().map(|dim| Some((dim, row.dimensions.get(dim)?.to_owned()))).collect();
    values.filter(|_| matches).map(Scope::new)
}

fn amount(row: &RestoredRow<'_>, measure: Measure) -> i128 {
    let amount = match measure {
        Measure::Tokens => TokenClass::ALL.iter().map(|class| i128::from(row.tokens.get(*class))).sum(),
        Measure::TokensOf(class) => i128::from(row.tokens.get(class)),
        Measure::Requests => i128::from(row.requests),
        Measure::ToolCalls => i128::from(row.tool_calls),
        Measure::Images => i128::from(row.images),
        Measure::Compute => i128::from(row.compute.0),
        Measure::Cost(currency) => row.cost.filter(|(_, of)| *of == currency).map_or(0, |(amount, _)| amount.0),
    };
    if row.reversal { -amount } else { amount }
}

impl<'a> Naive<'a> {
    pub fn new(set: &'a BudgetSet, from: TimeUs, to: TimeUs, count_refused: bool) -> Self {
        Self {
            set,
            from,
            to,
            count_refused,
            counted: Vec::new(),
            rows_of: BTreeMap::new(),
            started: false,
            open: BTreeMap::new(),
            raised: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    fn count(&mut self, row: RestoredRow<'a>) {
        for budget in self.set.budgets.values() {
            if let Some(scope) = scope_of(budget, &row) {
                self.rows_of.entry((budget.id.clone(), scope)).or_default().push(self.counted.len());
            }
        }
        self.counted.push(row);
    }

    /// The fills of a scope in a window, in the order of its limits; `None` where it has no row there.
    fn fills(&self, budget: &Budget, scope: &Scope, window: Window) -> Option<Vec<(Measure, i128, i128)>> {
        let places = self.rows_of.get(&(budget.id.clone(), scope.clone()))?;
        let rows: Vec<_> = places.iter().map(|at| &self.counted[*at]).filter(|row| window.contains(row.time)).collect();
        let limits = budget.limits_of(|dim| scope.get(dim));
        let used = |measure| rows.iter().map(|row| amount(row, measure)).sum::<i128>();
        let fills = limits.iter().map(|limit| (limit.measure, limit.amount.0, used(limit.measure))).collect();
        (!rows.is_empty()).then_some(fills)
    }

    fn tightest(fills: &[(Measure, i128, i128)]) -> (Measure, i128, i128) {
        let mut best = fills[0];
        for fill in &fills[1..] {
            if fill.2 * best.1 > best.2 * fill.1 {
                best = *fill;
            }
        }
        best
    }

    fn is_reached(fills: &[(Measure, i128, i128)]) -> bool {
        fills.iter().any(|(_, limit, used)| used >= limit)
    }

    fn named((measure, limit, used): (Measure, i128, i128)) -> Named {
        let text = |amount| measure.format(Amount(amount));
        (measure.name().to_owned(), measure.currency(), text(limit), text(used))
    }

    /// Looks at every scope of every budget anew.
    fn look(&mut self, now: TimeUs) {
        for budget in self.set.budgets.values() {
            let window = window_at(budget.window, now);
            let scopes: Vec<Scope> =
                self.rows_of.keys().filter(|(id, _)| *id == budget.id).map(|(_, scope)| scope.clone()).collect();
            for scope in scopes {
                let Some(fills) = self.fills(budget, &scope, window) else { continue };
                let key = (budget.id.to_string(), scope.to_string());
                let tightest = Self::tightest(&fills);
                for threshold in &budget.alerts.at {
                    let id = (key.0.clone(), key.1.clone(), window.start, threshold.to_string());
                    if threshold.reached(Amount(tightest.2), Amount(tightest.1)) && self.raised.insert(id) {
                        let id = (key.0.clone(), key.1.clone(), now, threshold.to_string());
                        self.seen.alerts.insert(id, Self::named(tightest));
                    }
                }
                if budget.mode != Mode::Hard {
                    continue;
                }
                match (Self::is_reached(&fills), self.open.get(&key).copied()) {
                    (true, None) => {
                        self.open.insert(key.clone(), now);
                        let block = (None, window.end, Self::named(tightest), Spend::default());
                        self.seen.blocks.insert((key.0, key.1, now), block);
                    }
                    (false, Some(begin)) => {
                        self.open.remove(&key);
                        self.seen.blocks.get_mut(&(key.0, key.1, begin)).unwrap().0 = Some(now);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Ends the blocks whose window has ended by then.
    fn turn(&mut self, now: TimeUs) {
        let blocks = &mut self.seen.blocks;
        self.open.retain(|(budget, scope), begin| {
            let block = blocks.get_mut(&(budget.clone(), scope.clone(), *begin)).unwrap();
            let is_over = block.1 <= now;
            if is_over {
                block.0 = Some(block.1);
            }
            !is_over
        });
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.look(self.from);
        }
    }

    pub fn row(&mut self, row: RestoredRow<'a>) {
        if row.time >= self.to {
            return;
        }
        if row.time < self.from {
            return self.count(row);
        }
        self.start();
        self.turn(row.time);
        self.seen.spend.add(&row);
        let mut longest: Option<(TimeUs, (String, String, TimeUs))> = None;
        for budget in self.set.budgets.values().filter(|_| !row.reversal) {
            let Some(scope) = scope_of(budget, &row) else { continue };
            let key = (budget.id.to_string(), scope.to_string());
            let Some(begin) = self.open.get(&key) else { continue };
            let window = window_at(budget.window, row.time);
            let fills = self.fills(budget, &scope, window);
            assert!(fills.is_some_and(|fills| Self::is_reached(&fills)), "{key:?} is open and not reached");
            if longest.as_ref().is_none_or(|(end, _)| window.end > *end) {
                longest = Some((window.end, (key.0, key.1, *begin)));
            }
        }
        if let Some((_, key)) = &longest {
            self.seen.refused.add(&row);
            self.seen.blocks.get_mut(key).unwrap().3.add(&row);
        }
        if longest.is_none() || self.count_refused {
            let time = row.time;
            self.count(row);
            self.look(time);
        }
    }

    pub fn finish(mut self) -> Seen {
        self.start();
        self.turn(self.to);
        self.seen
    }
}
