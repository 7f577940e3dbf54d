//! What comes out of a simulation.

use std::collections::BTreeMap;

use budget_core::RestoredRow;
use usage_types::{Alert, Budget, BudgetId, Currency, Decision, Pico, Scope, TimeUs, Window};

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

/// A time in which a scope would have been blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From the row on that reached the limit, or from the begin of the simulation where it was reached before.
    pub begin: TimeUs,
    /// Until then; `None`: to the end of the simulation and beyond.
    pub end: Option<TimeUs>,
    /// The window that it belongs to.
    pub window: Window,
    /// What was limited: [`usage_types::Measure::name`].
    pub measure: String,
    /// The currency of a cost.
    pub currency: Option<Currency>,
    /// The limit, as text in units of the measure.
    pub limit: String,
    /// The balance as the block began, likewise.
    pub used: String,
    /// What it would have refused. A row that several blocks refuse counts for the one of them that lasts longest, as `/v1/check` names it.
    pub refused: Spend,
}

impl Block {
    pub(crate) fn new(decision: &Decision) -> Self {
        Self {
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
    /// The budget.
    pub budget: BudgetId,
    /// Whose balance.
    pub scope: Scope,
    /// How often it would have been blocked.
    pub blocks_count: u64,
    /// For how long in all, in microseconds of the time that was simulated.
    pub blocked_us: i64,
    /// How many alerts would have been raised.
    pub alerts_count: u64,
    /// What would have been refused.
    pub refused: Spend,
    /// The blocks in order, as far as they were kept.
    pub blocks: Vec<Block>,
    /// The alerts in order, as far as they were kept.
    pub alerts: Vec<AlertRaised>,
}

/// What became of one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetOutcome {
    /// Its id.
    pub id: BudgetId,
    /// What it does when it is reached: [`usage_types::Mode::name`].
    pub mode: &'static str,
    /// How many of its scopes would have been blocked.
    pub scopes_blocked: u64,
    /// How many blocks in all.
    pub blocks: u64,
    /// For how long in all, summed over scopes, in microseconds.
    pub blocked_us: i64,
    /// How many alerts would have been raised.
    pub alerts: u64,
    /// What it would have refused.
    pub refused: Spend,
}

impl BudgetOutcome {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            id: budget.id.clone(),
            mode: budget.mode.name(),
            scopes_blocked: 0,
            blocks: 0,
            blocked_us: 0,
            alerts: 0,
            refused: Spend::default(),
        }
    }

    pub(crate) fn add(&mut self, scope: &ScopeOutcome) {
        self.scopes_blocked += u64::from(scope.blocks_count > 0);
        self.blocks += scope.blocks_count;
        self.blocked_us = self.blocked_us.saturating_add(scope.blocked_us);
        self.alerts += scope.alerts_count;
        self.refused.add_all(&scope.refused);
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// All usage of the time that was simulated, refused or not.
    pub spend: Spend,
    /// What would have been refused; each row once.
    pub refused: Spend,
    /// Every budget, by id, also those that did nothing.
    pub budgets: Vec<BudgetOutcome>,
    /// Scopes that would have been blocked or alerted, by budget and scope.
    pub scopes: Vec<ScopeOutcome>,
    /// Blocks and alerts that are counted but not listed, because there were too many.
    pub omitted: u64,
}
