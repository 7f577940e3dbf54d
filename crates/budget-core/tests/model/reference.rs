//! The model: what a reader of the rules would compute with lists and loops, and nothing that the core does for speed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use budget_core::window::window_at;
use budget_core::{BalanceFilter, BalanceView, Core, CoreConfig, Disposition, Kind};
use ring::digest::{SHA256, digest};
use usage_types::{
    Amount, Budget, Dimension, DimensionSet, Limit, Limits, Measure, Mode, Money, Role, Scope, TimeUs, TokenClass,
    Tokens, Whom, Window, WindowSpec, decision_key,
};

use crate::HORIZON_US;
use crate::common::Record;
use crate::moving::{Row, blocked_window, counting, sum};

/// A small generator (SplitMix64), so that a seed names a run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// The sums of a balance, recomputed.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Sums {
    pub tokens: Tokens,
    requests: u64,
    tool_calls: u64,
    images: u64,
    compute_ns: u64,
    pub costs: BTreeMap<String, i128>,
    unpriced: u64,
}

impl Sums {
    pub fn of(view: &BalanceView) -> Self {
        assert!(!view.saturated);
        let cost = |money: &Money| (money.currency.to_string(), money.amount.0);
        Self {
            tokens: view.tokens,
            requests: view.requests,
            tool_calls: view.tool_calls,
            images: view.images,
            compute_ns: view.compute.0,
            costs: view.costs.iter().map(cost).collect(),
            unpriced: view.unpriced,
        }
    }

    pub fn add(&mut self, record: &Record) {
        let event = &record.event;
        // Rows come in the order in which they were made, so what is taken back is there.
        let count = |sum: &mut u64, more: u64| *sum = if record.reversal { *sum - more } else { *sum + more };
        for class in TokenClass::ALL {
            count(self.tokens.get_mut(class), event.tokens.get(class));
        }
        count(&mut self.requests, event.requests);
        count(&mut self.tool_calls, event.tool_calls);
        count(&mut self.images, event.images);
        count(&mut self.compute_ns, event.compute.0);
        match record.cost {
            Some(cost) => {
                let amount = if record.reversal { -cost.amount.0 } else { cost.amount.0 };
                *self.costs.entry(cost.currency.to_string()).or_default() += amount;
            }
            None => count(&mut self.unpriced, 1),
        }
    }

    pub fn amount(&self, measure: Measure) -> Amount {
        Amount(match measure {
            Measure::Tokens => i128::from(self.tokens.total()),
            Measure::TokensOf(class) => i128::from(self.tokens.get(class)),
            Measure::Requests => i128::from(self.requests),
            Measure::ToolCalls => i128::from(self.tool_calls),
            Measure::Images => i128::from(self.images),
            Measure::Compute => i128::from(self.compute_ns),
            Measure::Cost(currency) => self.costs.get(&currency.to_string()).copied().unwrap_or(0),
        })
    }
}

/// Balances by whose they are, scope, kind of window and start.
pub type Balances = BTreeMap<(String, String, String, TimeUs), Sums>;

pub fn balances_of(core: &Core) -> Balances {
    let (mut found, mut after) = (Balances::new(), None);
    loop {
        let page = core.balances(&BalanceFilter::default(), after, 7);
        for view in &page.rows {
            let whose = match &view.kind {
                Kind::Tracked => format!("tracked {}", view.window.zone),
                Kind::Budget(standing) => standing.id.to_string(),
            };
            let key = (whose, view.scope.to_string(), view.spec.id_name(), view.window.start);
            assert_eq!(found.insert(key, Sums::of(view)), None, "a balance is given once");
        }
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

pub fn scope_in(dims: DimensionSet, matches: &Scope, record: &Record) -> Option<Scope> {
    let values: Option<Vec<(Dimension, &str)>> =
        dims.iter().map(|dim| Some((dim, record.event.dimensions.get(dim)?))).collect();
    let scope = Scope::new(values?);
    matches.iter().all(|(dim, value)| scope.get(dim) == Some(value)).then_some(scope)
}

/// What is in force, as a model that knows no tricks has it.
pub struct Model {
    pub config: CoreConfig,
    /// The rows that were made, with their effective times.
    pub accepted: Vec<Row>,
    pub seen: HashMap<(String, String), i64>,
    /// What can be corrected, by source and id: its time, and what counts for it now.
    pub originals: HashMap<(String, String), (TimeUs, Option<Record>)>,
    pub floor: TimeUs,
    /// Budgets, whether they wait for history, and from which window start on they are complete.
    pub budgets: BTreeMap<String, (Budget, bool, TimeUs)>,
    /// Those that have rolled back.
    pub rolled_back: BTreeSet<String>,
}

impl Model {
    pub fn dispose(&mut self, record: &Record) -> Disposition {
        let (append, own) = (record.position.append_time, record.event.time);
        if record.event.role == Role::Usage && own.0 < append.0 - HORIZON_US {
            return Disposition::TooLate;
        }
        let source = record.event.source.to_string();
        let id = (source.clone(), record.event.id.clone().unwrap().into_owned());
        let append_s = append.0.div_euclid(TimeUs::SECOND);
        if self.seen.get(&id).is_some_and(|seen| append_s - seen <= HORIZON_US / TimeUs::SECOND) {
            return Disposition::Duplicate;
        }
        let mut clamped = own.0 > append.0 + 5 * TimeUs::MINUTE;
        let mut time = if clamped { append } else { own };
        let row = Record { restates: None, ..record.clone() };
        match &record.event.role {
            Role::Amends(original) | Role::Voids(original) => {
                let is_void = matches!(record.event.role, Role::Voids(_));
                let Some((at, counts)) = self.originals.get_mut(&(source, original.to_string())) else {
                    return Disposition::NoOriginal;
                };
                if is_void && counts.is_none() {
                    return Disposition::NoOriginal;
                }
                (time, clamped) = (*at, false);
                if let Some(counts) = counts.take() {
                    let mut reversal = Record { position: record.position, reversal: true, ..counts };
                    reversal.event.id.clone_from(&record.event.id);
                    self.accepted.push((reversal, time));
                }
                if !is_void {
                    *counts = Some(row.clone());
                    self.accepted.push((row, time));
                }
            }
            Role::Adjusts(_) => self.accepted.push((row, time)),
            Role::Usage | Role::Backfill => {
                self.originals.insert(id.clone(), (time, Some(row.clone())));
                self.accepted.push((row, time));
            }
        }
        self.seen.insert(id, append_s);
        let hour_end = (time.0.div_euclid(TimeUs::HOUR) + 1) * TimeUs::HOUR;
        Disposition::Accepted { time, late: append.0 > hour_end + 5 * TimeUs::MINUTE, clamped }
    }

    pub fn sum(
        &self,
        into: &mut Balances,
        whose: &str,
        (dims, matches): (DimensionSet, &Scope),
        spec: WindowSpec,
        from: TimeUs,
        now: TimeUs,
    ) {
        if spec.is_moving() {
            for (scope, rows) in self.rows_in(dims, matches) {
                let (counts, window) = counting(spec, &rows, now);
                if !counts.is_empty() {
                    into.insert((whose.to_owned(), scope.to_string(), spec.id_name(), window.start), sum(&counts));
                }
            }
            return;
        }
        for (record, time) in &self.accepted {
            let window = window_at(spec, *time);
            if window.end <= self.floor || window.start < from {
                continue;
            }
            if let Some(scope) = scope_in(dims, matches, record) {
                let key = (whose.to_owned(), scope.to_string(), spec.id_name(), window.start);
                into.entry(key).or_default().add(record);
            }
        }
    }

    pub fn balances(&self, now: TimeUs) -> Balances {
        let mut all = Balances::new();
        for tracked in &self.config.tracked {
            for spec in &tracked.windows {
                let whose = format!("tracked {}", spec.zone);
                let group = (tracked.dimensions, &Scope::default());
                self.sum(&mut all, &whose, group, *spec, TimeUs(i64::MIN), now);
            }
        }
        for (id, (budget, warming, from)) in &self.budgets {
            if !warming {
                let group = (budget.scope_dimensions(), &budget.matches);
                self.sum(&mut all, id, group, budget.window, *from, now);
            }
        }
        all
    }

    /// What a budget does for a scope.
    pub fn mode_of(&self, budget: &Budget, scope: &Scope) -> Mode {
        match budget.mode {
            Mode::Hard | Mode::Canary(_) if self.rolled_back.contains(&*budget.id) => Mode::Shadow,
            Mode::Canary(share) => {
                let hash = digest(&SHA256, decision_key(&budget.id, scope).as_bytes());
                let first = u64::from_be_bytes(hash.as_ref()[..8].try_into().unwrap());
                if first % 1_000_000 < u64::from(share.0) { Mode::Hard } else { Mode::Shadow }
            }
            mode => mode,
        }
    }

    /// Rolls back what blocks too many scopes.
    pub fn roll_back(&mut self, now: TimeUs) {
        let is_due = |(budget, warming, _): &&(Budget, bool, TimeUs)| {
            let Some(rollback) = budget.rollback.filter(|_| !warming) else { return false };
            let mut scopes = self.used(budget, now);
            let moved_out =
                |rows: &[&Row]| budget.window.is_moving() && counting(budget.window, rows, now).0.is_empty();
            self.rows_of(budget)
                .iter()
                .filter(|(_, rows)| moved_out(rows))
                .for_each(|(scope, _)| _ = scopes.remove(scope));
            scopes.retain(|scope, _| self.mode_of(budget, scope) == Mode::Hard);
            let is_blocked = |scope: &Scope, sums: &Sums| !reached(limits_of(budget, scope), sums).is_empty();
            let blocked = scopes.iter().filter(|(scope, (_, sums))| is_blocked(scope, sums)).count() as u64;
            let scopes = scopes.len() as u64;
            scopes >= u64::from(rollback.at_least) && blocked * 1_000_000 > scopes * u64::from(rollback.blocked_over.0)
        };
        let due: Vec<String> = self.budgets.values().filter(is_due).map(|(budget, ..)| budget.id.to_string()).collect();
        self.rolled_back.extend(due);
    }

    /// The scopes of a budget that have used something in the window that contains a time, and what. A window that moves is as a block tells it.
    pub fn used(&self, budget: &Budget, now: TimeUs) -> BTreeMap<Scope, (Window, Sums)> {
        let mut used = BTreeMap::new();
        for (scope, rows) in self.rows_of(budget) {
            if budget.window.is_moving() {
                let sums = sum(&counting(budget.window, &rows, now).0);
                let is_over = !reached(limits_of(budget, &scope), &sums).is_empty();
                let window =
                    if is_over { blocked_window(budget, &scope, &rows, now) } else { window_at(budget.window, now) };
                used.insert(scope, (window, sums));
                continue;
            }
            let window = window_at(budget.window, now);
            let counts: Vec<&Row> = rows.into_iter().filter(|(_, time)| window.contains(*time)).collect();
            if !counts.is_empty() {
                used.insert(scope, (window, sum(&counts)));
            }
        }
        used
    }

    /// The rows of each scope of a budget.
    pub fn rows_of(&self, budget: &Budget) -> BTreeMap<Scope, Vec<&Row>> {
        self.rows_in(budget.scope_dimensions(), &budget.matches)
    }

    fn rows_in(&self, dims: DimensionSet, matches: &Scope) -> BTreeMap<Scope, Vec<&Row>> {
        let mut rows: BTreeMap<Scope, Vec<&Row>> = BTreeMap::new();
        for row in &self.accepted {
            if let Some(scope) = scope_in(dims, matches, &row.0) {
                rows.entry(scope).or_default().push(row);
            }
        }
        rows
    }
}

/// The limits of a scope: of the first override that it has all the values of, else of the first plan, else the budget's own.
pub fn limits_of<'b>(budget: &'b Budget, scope: &Scope) -> &'b Limits {
    let holds = |values: &Scope| values.iter().all(|(dim, value)| scope.get(dim) == Some(value));
    for wanted in [true, false] {
        for entry in budget.special.entries() {
            if (entry.whom == Whom::Override) == wanted && entry.values.iter().any(holds) {
                return &entry.limits;
            }
        }
    }
    &budget.limits
}

/// The limits that are reached with their overage.
pub fn reached(limits: &Limits, sums: &Sums) -> Vec<Limit> {
    limits.iter().filter(|limit| sums.amount(limit.measure).0 >= limit.amount.0 + limit.overage.0).collect()
}

/// The limit with the largest share used; among equals the first. Amounts are small here, so that products fit.
pub fn tightest(limits: &[Limit], sums: &Sums) -> Limit {
    let used = |limit: &Limit| sums.amount(limit.measure).0;
    let mut best = limits[0];
    for limit in limits {
        if used(limit) * best.amount.0 > used(&best) * limit.amount.0 {
            best = *limit;
        }
    }
    best
}
