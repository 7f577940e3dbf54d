//! What comes out of the state machine.

use usage_types::{Alert, Decision};

/// What to publish: each sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Decisions.
    pub decisions: Vec<Decision>,
    /// Keys of decisions that are over: each gets a tombstone, which means what the key meant before, allowed.
    pub tombstones: Vec<String>,
    /// Alerts.
    pub alerts: Vec<Alert>,
}

impl Effects {
    /// Whether there is nothing to publish.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.tombstones.is_empty() && self.alerts.is_empty()
    }
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreStats {
    /// Live balances.
    pub balances: usize,
    /// Scopes that have one.
    pub scopes: usize,
    /// Distinct values in them.
    pub symbols: usize,
    /// Ids that are remembered.
    pub dedup_ids: usize,
    /// Ids that were forgotten before the horizon, because there were too many.
    pub dedup_ids_dropped: u64,
    /// Budgets in force.
    pub budgets: usize,
    /// Of these, how many wait for their history.
    pub budgets_warming: usize,
    /// Keys with a decision.
    pub decisions: usize,
    /// Of these, how many are blocked.
    pub blocked: usize,
    /// And how many would be, if their budgets were not in shadow.
    pub would_block: usize,
    /// And how many are throttled, or would be.
    pub throttled: usize,
    /// Budgets that have rolled back.
    pub rolled_back: usize,
    /// Scopes that a circuit breaker watches.
    pub circuits: usize,
    /// Ids of alerts that are remembered.
    pub alerts: usize,
    /// Additions that did not fit: the balance stands at the end of its range.
    pub saturated: u64,
    /// Contributions to windows that had ended for good, or that were not known from their start.
    pub outside: u64,
    /// Open reservations.
    pub holds: usize,
    /// Memory of balances, scopes, symbols and their indexes, in bytes.
    pub balances_bytes: usize,
    /// Memory of remembered ids, in bytes.
    pub dedup_bytes: usize,
}

/// There are as many reservations as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldsFull;
