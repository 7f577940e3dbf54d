//! What comes out of a simulation.

use std::collections::BTreeMap;

use budget_core::RestoredRow;
use usage_types::{
    Alert, Breaker, Budget, BudgetId, Currency, Decision, DecisionState, Mode, Pico, Scope, TimeUs, Window,
};

/// What rows come to. Each is a sum of what the rows say; wide enough for any number of rows. Below zero only where more was taken back than used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spend {
    /// Rows.
    pub events: i128,
    /// Requests.
    pub requests: i128,
    /// Tokens of all classes.
    pub tokens: i128,
    /// Tool calls.
    pub tool_calls: i128,
    /// Images.
    pub images: i128,
    /// Compute time, in nanoseconds.
    pub compute_ns: i128,
    /// Rows whose cost is not known.
    pub unpriced: i128,
    /// Money, by currency.
    pub costs: BTreeMap<Currency, Pico>,
}

impl Spend {
    /// Adds a row, or takes it off where it is a reversal.
    pub fn add(&mut self, row: &RestoredRow<'_>) {
        let sign = if row.reversal { -1 } else { 1 };
        self.events += sign;
        self.requests += sign * i128::from(row.requests);
        self.tokens += sign * i128::from(row.tokens.total());
        self.tool_calls += sign * i128::from(row.tool_calls);
        self.images += sign * i128::from(row.images);
        self.compute_ns += sign * i128::from(row.compute.0);
        match row.cost {
            Some((amount, currency)) => {
                let sum = self.costs.entry(currency).or_default();
                sum.0 = sum.0.saturating_add(sign * amount.0);
            }
            None => self.unpriced += sign,
        }
    }

    /// Adds another sum.
    pub fn add_all(&mut self, other: &Self) {
        self.events += other.events;
        self.requests += other.requests;
        self.tokens += other.tokens;
        self.tool_calls += other.tool_calls;
        self.images += other.images;
        self.compute_ns += other.compute_ns;
        self.unpriced += other.unpriced;
        for (currency, amount) in &other.costs {
            let sum = self.costs.entry(*currency).or_default();
            sum.0 = sum.0.saturating_add(amount.0);
        }
    }
}

/// A time in which a scope would have been blocked, or would be if its budget were not in shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Whether it refuses. A budget in shadow only says that it would.
    pub effective: bool,
    /// From the row on that reached the limit, or from the begin of the simulation where it was reached before.
    pub begin: TimeUs,
    /// Until then; `None`: to the end of the simulation and beyond.
    pub end: Option<TimeUs>,
    /// The window that it belongs to. One that moves is as it was when the block began, up to where the block ends if nothing more is spent.
    pub window: Window,
    /// What was limited: [`usage_types::Measure::name`].
    pub measure: String,
    /// The currency of a cost.
    pub currency: Option<Currency>,
    /// The limit, as text in units of the measure.
    pub limit: String,
    /// The balance as the block began, likewise.
    pub used: String,
    /// What it would have refused. A row that several blocks refuse counts for the one of them that lasts longest, as `/v1/check` names it; one that
    /// an effective block refuses counts for none in shadow.
    pub refused: Spend,
}

impl Block {
    pub(crate) fn new(decision: &Decision) -> Self {
        Self {
            effective: decision.state == DecisionState::Blocked,
            begin: decision.decided_at,
            end: None,
            window: decision.window,
            measure: decision.measure.clone(),
            currency: decision.currency,
            limit: decision.limit.clone(),
            used: decision.used.clone(),
            refused: Spend::default(),
        }
    }
}

/// Blocks in sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocked {
    /// How many.
    pub count: u64,
    /// How long in all, in microseconds of the time that was simulated.
    pub us: i64,
    /// What they would have refused.
    pub refused: Spend,
}

impl Blocked {
    pub(crate) fn add(&mut self, us: i64, refused: &Spend) {
        self.count += 1;
        self.us = self.us.saturating_add(us);
        self.refused.add_all(refused);
    }

    fn add_all(&mut self, other: &Self) {
        self.count += other.count;
        self.us = self.us.saturating_add(other.us);
        self.refused.add_all(&other.refused);
    }
}

/// That a budget would have given up blocking by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolledBack {
    /// When. From then on it is in shadow.
    pub at: TimeUs,
    /// How many scopes it blocked.
    pub blocked: u64,
    /// Of how many.
    pub scopes: u64,
}

/// An alert that would have been raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRaised {
    /// When.
    pub at: TimeUs,
    /// The threshold as a fraction, like `0.8`.
    pub threshold: String,
    /// What is limited.
    pub measure: String,
    /// The currency of a cost.
    pub currency: Option<Currency>,
    /// The limit, as text in units of the measure.
    pub limit: String,
    /// The balance at that time, likewise.
    pub used: String,
}

impl AlertRaised {
    pub(crate) fn new(alert: Alert) -> Self {
        let Alert { threshold, measure, currency, limit, used, raised_at, .. } = alert;
        Self { at: raised_at, threshold, measure, currency, limit, used }
    }
}

/// What became of one scope by one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeOutcome {
    /// The budget, or breaker.
    pub budget: BudgetId,
    /// Whose balance, or circuit.
    pub scope: Scope,
    /// Its blocks.
    pub blocked: Blocked,
    /// What would be blocks if the budget were not in shadow.
    pub would_block: Blocked,
    /// How many alerts would have been raised.
    pub alerts_count: u64,
    /// The blocks in order, effective or not, as far as they were kept.
    pub blocks: Vec<Block>,
    /// The alerts in order, as far as they were kept.
    pub alerts: Vec<AlertRaised>,
}

/// What became of one budget, or circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetOutcome {
    /// Its id.
    pub id: BudgetId,
    /// Whether it is a circuit breaker; its blocks are the times that its circuits are open.
    pub is_breaker: bool,
    /// What it does when it is reached: [`usage_types::Mode::name`].
    pub mode: &'static str,
    /// How many of its scopes would have been blocked.
    pub scopes_blocked: u64,
    /// The blocks of all of them.
    pub blocked: Blocked,
    /// How many of its scopes would be blocked if it were not in shadow.
    pub scopes_would_block: u64,
    /// What would be the blocks of all of these.
    pub would_block: Blocked,
    /// How many alerts would have been raised.
    pub alerts: u64,
    /// Whether it would have rolled back; the first time.
    pub rolled_back: Option<RolledBack>,
}

impl BudgetOutcome {
    pub(crate) fn of_budget(budget: &Budget) -> Self {
        Self::new(&budget.id, budget.mode, false)
    }

    pub(crate) fn of_breaker(breaker: &Breaker) -> Self {
        Self::new(&breaker.id, breaker.mode, true)
    }

    fn new(id: &BudgetId, mode: Mode, is_breaker: bool) -> Self {
        Self {
            id: id.clone(),
            is_breaker,
            mode: mode.name(),
            scopes_blocked: 0,
            blocked: Blocked::default(),
            scopes_would_block: 0,
            would_block: Blocked::default(),
            alerts: 0,
            rolled_back: None,
        }
    }

    pub(crate) fn add(&mut self, scope: &ScopeOutcome) {
        self.scopes_blocked += u64::from(scope.blocked.count > 0);
        self.blocked.add_all(&scope.blocked);
        self.scopes_would_block += u64::from(scope.would_block.count > 0);
        self.would_block.add_all(&scope.would_block);
        self.alerts += scope.alerts_count;
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// All usage of the time that was simulated, refused or not.
    pub spend: Spend,
    /// What would have been refused; each row once.
    pub refused: Spend,
    /// What was not refused, and would be if no budget were in shadow; each row once.
    pub would_refuse: Spend,
    /// Every budget and breaker, by id, also those that did nothing.
    pub budgets: Vec<BudgetOutcome>,
    /// Scopes that would have been blocked or alerted, by budget and scope.
    pub scopes: Vec<ScopeOutcome>,
    /// Blocks and alerts that are counted but not listed, because there were too many.
    pub omitted: u64,
}
