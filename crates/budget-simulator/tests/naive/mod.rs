//! The same question answered in the simplest way: nothing is kept but the rows that counted, and every balance is summed anew from them.

mod breakers;
mod moving;

use std::collections::{BTreeMap, BTreeSet};

use budget_core::{RestoredRow, mode_of};
use budget_simulator::Spend;
use usage_types::{
    Amount, Bounds, Budget, BudgetId, BudgetSet, Currency, Dimension, Limit, Measure, Mode, Ppm, Scope, TimeUs,
    TokenClass, Window,
};

/// Budget, scope, time and threshold.
pub type AlertKey = (String, String, TimeUs, String);
/// Budget, scope and begin.
pub type BlockKey = (String, String, TimeUs);
/// Measure, currency, limit and what is used of it.
pub type Named = (String, Option<Currency>, String, String);
/// End, end of the window, what is named, what was refused, and whether it refuses or only would.
pub type SeenBlock = (Option<TimeUs>, TimeUs, Named, Spend, bool);

/// A measure, its limit, what is used of it, and from how much on it blocks.
type Used = (Measure, i128, i128, i128);
/// A window, and what a scope has used in it of each limit.
type Filled = (Window, Vec<Used>);

/// What came out.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    pub spend: Spend,
    pub refused: Spend,
    pub would_refuse: Spend,
    /// By budget, scope and begin.
    pub blocks: BTreeMap<BlockKey, SeenBlock>,
    pub alerts: BTreeMap<AlertKey, Named>,
}

pub struct Naive<'a> {
    set: &'a BudgetSet,
    from: TimeUs,
    to: TimeUs,
    count_refused: bool,
    /// What was told. A threshold of a window that moves which was reached again too soon may be told at any later look: at which ones without a row is not said.
    told: &'a BTreeMap<AlertKey, Named>,
    counted: Vec<RestoredRow<'a>>,
    /// The places of the rows of each budget and scope among them.
    rows_of: BTreeMap<(BudgetId, Scope), Vec<usize>>,
    started: bool,
    /// Blocks that have not ended: when they began.
    open: BTreeMap<Whose, TimeUs>,
    /// Thresholds that were told of windows of the calendar.
    raised: BTreeSet<(Whose, TimeUs, Ppm)>,
    /// Those of windows that move.
    crossed: BTreeMap<(Whose, Ppm), Crossed>,
    /// When something may change in a window that moves though no row comes, and whether it is looked at then.
    leaving: BTreeMap<(TimeUs, Whose), bool>,
    circuits: breakers::Circuits<'a>,
    seen: Seen,
}

/// A budget, or breaker, and one of its scopes.
type Whose = (BudgetId, Scope);

/// A threshold that was told.
struct Crossed {
    at: TimeUs,
    /// The start of the window then.
    of: TimeUs,
    /// Whether the fill has been below it since.
    fell: bool,
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
    pub fn new(
        set: &'a BudgetSet,
        from: TimeUs,
        to: TimeUs,
        count_refused: bool,
        told: &'a BTreeMap<AlertKey, Named>,
    ) -> Self {
        Self {
            set,
            from,
            to,
            count_refused,
            told,
            counted: Vec::new(),
            rows_of: BTreeMap::new(),
            started: false,
            open: BTreeMap::new(),
            raised: BTreeSet::new(),
            crossed: BTreeMap::new(),
            leaving: BTreeMap::new(),
            circuits: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// Counts a row; whose it is.
    fn count(&mut self, row: RestoredRow<'a>) -> Vec<Whose> {
        let mut of = Vec::new();
        for budget in self.set.budgets.values() {
            if let Some(scope) = scope_of(budget, &row) {
                let whose = (budget.id.clone(), scope);
                self.rows_of.entry(whose.clone()).or_default().push(self.counted.len());
                for time in moving::leaves(budget.window, row.time) {
                    self.leaving.entry((time, whose.clone())).or_default();
                }
                of.push(whose);
            }
        }
        self.counted.push(row);
        of
    }

    fn rows(&self, whose: &Whose) -> Vec<&RestoredRow<'a>> {
        self.rows_of.get(whose).into_iter().flatten().map(|at| &self.counted[*at]).collect()
    }

    fn fills_of(budget: &Budget, scope: &Scope, rows: &[&RestoredRow<'_>]) -> Vec<Used> {
        let used = |measure| rows.iter().map(|row| amount(row, measure)).sum::<i128>();
        let limits = budget.limits_of(|dim| scope.get(dim));
        let fill =
            |limit: Limit| (limit.measure, limit.amount.0, used(limit.measure), limit.amount.0 + limit.overage.0);
        limits.iter().map(fill).collect()
    }

    /// The window of a time and the fills of a scope in it, in the order of its limits; `None` where it has no row there. The window of one that
    /// moves ends where it is reached no more, if it is and nothing comes.
    fn fills(&self, budget: &Budget, scope: &Scope, now: TimeUs) -> Option<Filled> {
        let rows = self.rows(&(budget.id.clone(), scope.clone()));
        let (counting, mut window) = moving::counting(budget.window, &rows, now);
        let fills = Self::fills_of(budget, scope, &counting);
        if budget.window.is_moving() && Self::is_reached(&fills) {
            let is_within = |time: &TimeUs| {
                let left = moving::counting(budget.window, &rows, *time).0;
                !Self::is_reached(&Self::fills_of(budget, scope, &left))
            };
            window.end = moving::ticks(budget.window, now).find(is_within).unwrap();
        }
        (!counting.is_empty()).then_some((window, fills))
    }

    fn tightest(fills: &[Used]) -> Used {
        let mut best = fills[0];
        for fill in &fills[1..] {
            if fill.2 * best.1 > best.2 * fill.1 {
                best = *fill;
            }
        }
        best
    }

    fn is_reached(fills: &[Used]) -> bool {
        fills.iter().any(|(_, _, used, blocks_at)| used >= blocks_at)
    }

    fn named((measure, limit, used, _): Used) -> Named {
        let text = |amount| measure.format(Amount(amount));
        (measure.name().to_owned(), measure.currency(), text(limit), text(used))
    }

    /// Looks at scopes anew.
    fn look(&mut self, scopes: impl IntoIterator<Item = Whose>, now: TimeUs) {
        for whose in scopes {
            let budget = &self.set.budgets[&whose.0];
            let fills = self.fills(budget, &whose.1, now);
            self.alert(budget, &whose, fills.as_ref(), now, true);
            self.block(budget, &whose, fills, now);
            self.look_where_it_rises(budget, &whose, now);
        }
    }

    /// Has a window that moves looked at when its fill rises, if nothing more comes, because money that was given back leaves it.
    fn look_where_it_rises(&mut self, budget: &Budget, whose: &Whose, now: TimeUs) {
        let rows = self.rows(whose);
        let level = |time| {
            let fills = Self::fills_of(budget, &whose.1, &moving::counting(budget.window, &rows, time).0);
            let (_, limit, used, _) = Self::tightest(&fills);
            let shares = budget.alerts.at.iter().filter(|at| at.reached(Amount(used), Amount(limit)));
            (u32::from(Self::is_reached(&fills)), shares.count())
        };
        let times: BTreeSet<TimeUs> = rows.iter().flat_map(|row| moving::leaves(budget.window, row.time)).collect();
        let mut before = level(now);
        for time in times.into_iter().filter(|time| *time > now) {
            let then = level(time);
            if then.0 > before.0 || then.1 > before.1 {
                self.leaving.insert((time, whose.clone()), true);
                return;
            }
            before = then;
        }
    }

    /// Begins or ends a block, where it is time; whether it does.
    fn block(&mut self, budget: &Budget, whose: &Whose, fills: Option<Filled>, now: TimeUs) -> bool {
        let (id, scope) = (whose.0.to_string(), whose.1.to_string());
        let mode = mode_of(budget, &whose.1);
        let reached = fills.filter(|(_, fills)| mode.decides() && Self::is_reached(fills));
        match (reached, self.open.get(whose).copied()) {
            (Some((window, fills)), None) => {
                self.open.insert(whose.clone(), now);
                let over: Vec<Used> = fills.into_iter().filter(|fill| Self::is_reached(&[*fill])).collect();
                let block =
                    (None, window.end, Self::named(Self::tightest(&over)), Spend::default(), mode == Mode::Hard);
                self.seen.blocks.insert((id, scope, now), block);
                true
            }
            (Some((window, _)), Some(begin)) => {
                self.seen.blocks.get_mut(&(id, scope, begin)).unwrap().1 = window.end;
                false
            }
            (None, Some(begin)) => {
                self.open.remove(whose);
                self.seen.blocks.get_mut(&(id, scope, begin)).unwrap().0 = Some(now);
                true
            }
            (None, None) => false,
        }
    }

    /// Notes which thresholds are reached; with `tell` those are told that are to be.
    fn alert(&mut self, budget: &Budget, whose: &Whose, fills: Option<&Filled>, now: TimeUs, tell: bool) {
        for threshold in &budget.alerts.at {
            let is_above = |fills: &[Used]| {
                let (_, limit, used, _) = Self::tightest(fills);
                threshold.reached(Amount(used), Amount(limit))
            };
            let above = fills.filter(|(_, fills)| is_above(fills));
            let is_new = match budget.window.bounds {
                Bounds::Calendar { .. } => {
                    above.is_some_and(|(window, _)| self.raised.insert((whose.clone(), window.start, *threshold)))
                }
                bounds @ (Bounds::Rolling(_) | Bounds::Lifetime { .. }) => {
                    let start = above.map(|(window, _)| window.start);
                    let id = (whose.0.to_string(), whose.1.to_string(), now, threshold.to_string());
                    let tell = tell || self.told.contains_key(&id);
                    self.crosses((whose.clone(), *threshold), start, bounds, now, tell)
                }
            };
            if let Some((_, fills)) = above.filter(|_| is_new) {
                let id = (whose.0.to_string(), whose.1.to_string(), now, threshold.to_string());
                self.seen.alerts.insert(id, Self::named(Self::tightest(fills)));
            }
        }
    }

    /// Whether a threshold of a window that moves is to be told; `above`: the window's start, where it is reached.
    fn crosses(&mut self, key: (Whose, Ppm), above: Option<TimeUs>, bounds: Bounds, now: TimeUs, tell: bool) -> bool {
        let (pause_us, is_lifetime) = match bounds {
            Bounds::Calendar { .. } => unreachable!("those do not move"),
            Bounds::Rolling(span) => (span.us(), false),
            Bounds::Lifetime { idle, .. } => (idle.us(), true),
        };
        if let Some(told) = self.crossed.get_mut(&key) {
            told.fell |= above.is_none();
        }
        let Some(of) = above.filter(|_| tell) else { return false };
        // Of a lifetime that lasts, what counts begins later and later: until that is after it was told it is the same lifetime.
        let is_another = |told: &Crossed| told.of < of && (!is_lifetime || told.at < of);
        let may = |told: &Crossed| told.fell && now.0 - told.at.0 >= pause_us && is_another(told);
        let is_new = self.crossed.get(&key).is_none_or(may);
        if is_new {
            self.crossed.insert(key, Crossed { at: now, of, fell: false });
        }
        is_new
    }

    /// Has all happen that happens by itself until then: windows end, and rows leave those that move.
    fn turn(&mut self, now: TimeUs) {
        while let Some(entry) = self.leaving.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((time, whose), tell) = entry.remove_entry();
            if time <= self.from {
                continue;
            }
            let budget = &self.set.budgets[&whose.0];
            let fills = self.fills(budget, &whose.1, time);
            self.alert(budget, &whose, fills.as_ref(), time, tell);
            if self.block(budget, &whose, fills, time) || tell {
                self.look_where_it_rises(budget, &whose, time);
            }
        }
        self.end(now);
    }

    /// Ends the blocks whose window has ended by then.
    fn end(&mut self, now: TimeUs) {
        let blocks = &mut self.seen.blocks;
        self.open.retain(|(budget, scope), begin| {
            let block = blocks.get_mut(&(budget.to_string(), scope.to_string(), *begin)).unwrap();
            let is_over = block.1 <= now;
            if is_over {
                block.0 = Some(block.1);
            }
            !is_over
        });
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.look(self.rows_of.keys().cloned().collect::<Vec<_>>(), self.from);
        }
    }

    /// Has breakers meter a row.
    fn meter(&mut self, row: RestoredRow<'a>, tags: &'a BTreeMap<String, String>) {
        for breaker in self.set.breakers.values() {
            let Some(scope) = breaker.scope_of(|dim| row.dimensions.get(dim)) else { continue };
            let whose = (breaker.id.clone(), scope);
            let (circuit, last) = self.circuits.entry(whose.clone()).or_default();
            let Some((at, used)) = circuit.meter(breaker, row, tags, *last) else { continue };
            *last = Some((at, used));
            let limit = breaker.trips[at].limit;
            let named = Self::named((limit.measure, limit.amount.0, used, 0));
            let is_hard = breaker.mode == Mode::Hard;
            let block = (None, row.time.plus_us(breaker.open_us), named, Spend::default(), is_hard);
            self.seen.blocks.insert((whose.0.to_string(), whose.1.to_string(), row.time), block);
            self.open.insert(whose, row.time);
        }
    }

    /// `burn`: its tags, where breakers meter it.
    pub fn row(&mut self, row: RestoredRow<'a>, burn: Option<&'a BTreeMap<String, String>>) {
        if row.time >= self.to {
            return;
        }
        if row.time < self.from {
            self.count(row);
            return;
        }
        self.start();
        self.turn(row.time);
        self.seen.spend.add(&row);
        // Of those that refuse, and of those that would.
        let mut longest: [Option<(TimeUs, BlockKey)>; 2] = [None, None];
        for budget in self.set.budgets.values().filter(|_| !row.reversal) {
            let Some(scope) = scope_of(budget, &row) else { continue };
            let Some(begin) = self.open.get(&(budget.id.clone(), scope.clone())) else { continue };
            let (window, fills) = self.fills(budget, &scope, row.time).unwrap();
            assert!(Self::is_reached(&fills), "{} {scope} is open and not reached", budget.id);
            let longest = &mut longest[usize::from(mode_of(budget, &scope) != Mode::Hard)];
            if longest.as_ref().is_none_or(|(end, _)| window.end > *end) {
                *longest = Some((window.end, (budget.id.to_string(), scope.to_string(), *begin)));
            }
        }
        // A breaker is named where no budget refuses and, of those in shadow, where it lasts longer than any budget's block.
        let budget_refuses = longest[0].is_some();
        for breaker in self.set.breakers.values().filter(|_| !row.reversal) {
            let Some(scope) = breaker.scope_of(|dim| row.dimensions.get(dim)) else { continue };
            let Some(begin) = self.open.get(&(breaker.id.clone(), scope.clone())) else { continue };
            let is_shadow = breaker.mode == Mode::Shadow;
            if !is_shadow && budget_refuses {
                continue;
            }
            let (longest, end) = (&mut longest[usize::from(is_shadow)], begin.plus_us(breaker.open_us));
            if longest.as_ref().is_none_or(|(other, _)| end > *other) {
                *longest = Some((end, (breaker.id.to_string(), scope.to_string(), *begin)));
            }
        }
        let [refused_by, would_refuse] = longest;
        let is_refused = refused_by.is_some();
        if let Some((_, key)) = refused_by.or(would_refuse) {
            let sum = if is_refused { &mut self.seen.refused } else { &mut self.seen.would_refuse };
            sum.add(&row);
            self.seen.blocks.get_mut(&key).unwrap().3.add(&row);
        }
        if !is_refused || self.count_refused {
            let time = row.time;
            let of = self.count(row);
            if let Some(tags) = burn {
                self.meter(row, tags);
            }
            self.look(of, time);
        }
    }

    pub fn finish(mut self) -> Seen {
        self.start();
        self.turn(self.to.plus_us(-1));
        self.end(self.to);
        self.seen
    }
}
