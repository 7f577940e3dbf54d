//! Budgets over the lake's history: reads rows in order and gives them to one simulation, or to two that are compared.
//!
//! Off the way of events: it takes the files as they are, and no lock. Dropping the future ends it after the rows at hand.

use std::sync::Arc;

use arrow::array::RecordBatch;
use budget_simulator::{AlertRaised, Block, Blocked, Outcome, ScopeOutcome, Settings, Simulation, Spend, Tags};
use futures::StreamExt as _;
use http_api::{
    SimulatedAlert, SimulatedBlock, SimulatedBudget, SimulatedBudgets, SimulatedRollback, SimulatedScope,
    SimulatedShadow, SimulatedSpend, SimulationView,
};
use usage_lake::{LakeError, LakeFiles, OrderedRead, OrderedRows, RowKind, StoredRow};
use usage_types::{Amount, BudgetSet, DimensionSet, Measure, TimeUs};

use crate::worker::restored;

const MIB: usize = 1 << 20;

/// What is simulated, on what.
pub struct Task {
    /// The lake's files.
    pub files: LakeFiles,
    /// Rows that are in none of them yet.
    pub tail: Vec<RecordBatch>,
    /// The budgets.
    pub new: Arc<BudgetSet>,
    /// Those that they are compared with.
    pub present: Option<Arc<BudgetSet>>,
    /// Time and assumptions. As many scopes are listed as blocks and alerts are kept.
    pub settings: Settings,
    /// The most memory for balances and what came of them, and as much again for rows that wait to be in order, in MiB.
    pub memory_mib: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The rows cannot be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// It takes too much memory.
    #[error(
        "this took more than {limit_mib} MiB of memory; take a shorter time, or budgets that split usage less finely"
    )]
    Memory {
        /// The limit, in MiB.
        limit_mib: usize,
    },
}

/// The tags of a row that breakers meter. What was amended burns as it was corrected; backfill, adjustments and what is taken back are no burn.
fn burn<'a>(row: &StoredRow<'_>) -> Option<Tags<'a>> {
    if !matches!(row.kind, RowKind::Usage | RowKind::Amendment) {
        return None;
    }
    // Where another program wrote something else there, they are not there.
    Some(row.tags.and_then(|tags| serde_json::from_str(tags).ok()).unwrap_or_default())
}

/// Both sets of budgets, on the same rows.
struct Pair {
    new: Simulation,
    present: Option<Simulation>,
}

impl Pair {
    /// Each on a thread of its own.
    fn take(&mut self, rows: &OrderedRows) -> Result<(), LakeError> {
        let run = |simulation: &mut Simulation| rows.each(|row| simulation.row(&restored(row), burn(row)));
        let (Self { new, present }, run) = (self, &run);
        std::thread::scope(|scope| {
            let other = present.as_mut().map(|present| scope.spawn(move || run(present)));
            run(new)?;
            match other.map(std::thread::ScopedJoinHandle::join) {
                None => Ok(()),
                Some(Ok(result)) => result,
                Some(Err(_)) => Err(LakeError::Task("a thread of the simulation panicked".to_owned())),
            }
        })
    }

    fn bytes(&self) -> usize {
        self.new.bytes() + self.present.as_ref().map_or(0, Simulation::bytes)
    }
}

impl Task {
    /// How many rows are looked at.
    pub fn rows(&self) -> u64 {
        self.files.rows_between(self.pair().history_from(), self.settings.to)
    }

    fn pair(&self) -> Pair {
        let simulation = |set: &Arc<BudgetSet>| Simulation::new(Arc::clone(set), self.settings);
        Pair { new: simulation(&self.new), present: self.present.as_ref().map(simulation) }
    }

    fn sets(&self) -> impl Iterator<Item = &Arc<BudgetSet>> {
        [Some(&self.new), self.present.as_ref()].into_iter().flatten()
    }

    /// The dimensions that any budget or breaker asks for.
    fn dimensions(&self) -> DimensionSet {
        let budgets = self.sets().flat_map(|set| set.budgets.values()).map(|budget| budget.scope_dimensions());
        let breakers = self.sets().flat_map(|set| set.breakers.values()).map(|breaker| breaker.scope_dimensions());
        budgets.chain(breakers).flat_map(|dimensions| dimensions.iter()).collect()
    }

    /// Whether a breaker tells requests apart by a tag.
    fn needs_tags(&self) -> bool {
        let mut breakers = self.sets().flat_map(|set| set.breakers.values());
        breakers.any(|breaker| breaker.trips.iter().any(|trip| trip.same.is_some()))
    }

    /// Simulates; `done` is told of rows as they are.
    ///
    /// # Errors
    /// The lake cannot be read, or it takes more memory than it may.
    pub async fn run(self, mut done: impl FnMut(u64)) -> Result<SimulationView, Failure> {
        let mut pair = self.pair();
        let (dimensions, tags) = (self.dimensions(), self.needs_tags());
        let Self { files, tail, settings, memory_mib, .. } = self;
        let read = OrderedRead { from: pair.history_from(), to: settings.to, dimensions, tags, tail, memory_mib };
        let mut groups = files.in_order(read);
        while let Some(rows) = groups.next().await {
            let rows = rows?;
            done(rows.len() as u64);
            let taken = tokio::task::spawn_blocking(move || {
                let result = pair.take(&rows);
                (pair, result)
            });
            let (back, result) = taken.await.map_err(LakeError::from)?;
            result?;
            pair = back;
            if pair.bytes() > memory_mib * MIB {
                return Err(Failure::Memory { limit_mib: memory_mib });
            }
        }
        let finished = tokio::task::spawn_blocking(move || {
            let new = pair.new.finish();
            let spend = shown_spend(&new.spend);
            SimulationView {
                from: settings.from,
                to: settings.to,
                count_refused: settings.count_refused,
                lake_version: files.version,
                spend,
                new: shown(new, settings.details_max),
                present: pair.present.map(|present| shown(present.finish(), settings.details_max)),
            }
        });
        Ok(finished.await.map_err(LakeError::from)?)
    }
}

impl Pair {
    fn history_from(&self) -> TimeUs {
        let new = self.new.history_from();
        self.present.as_ref().map_or(new, |present| new.min(present.history_from()))
    }
}

/// Whole seconds.
fn seconds(us: i64) -> u64 {
    u64::try_from(us / TimeUs::SECOND).unwrap_or(0)
}

fn shown(outcome: Outcome, scopes_max: usize) -> SimulatedBudgets {
    let Outcome { refused, would_refuse, budgets, mut scopes, mut omitted, .. } = outcome;
    if scopes.len() > scopes_max {
        // Those that were blocked longest are looked for first.
        scopes.sort_by_key(|scope| {
            (std::cmp::Reverse((scope.blocked.us, scope.would_block.us, scope.alerts_count)), scope.scope.clone())
        });
        omitted += (scopes.len() - scopes_max) as u64;
        scopes.truncate(scopes_max);
        scopes.sort_by(|a, b| (&a.budget, &a.scope).cmp(&(&b.budget, &b.scope)));
    }
    SimulatedBudgets {
        refused: shown_spend(&refused),
        would_refuse: (would_refuse != Spend::default()).then(|| shown_spend(&would_refuse)),
        budgets: budgets
            .iter()
            .map(|budget| SimulatedBudget {
                budget: budget.id.to_string(),
                breaker: budget.is_breaker,
                mode: budget.mode.to_owned(),
                scopes_blocked: budget.scopes_blocked,
                blocks: budget.blocked.count,
                blocked_seconds: seconds(budget.blocked.us),
                alerts: budget.alerts,
                refused: shown_spend(&budget.blocked.refused),
                would_block: shown_shadow(budget.scopes_would_block, &budget.would_block),
                rolled_back: budget.rolled_back.map(|told| SimulatedRollback {
                    at: told.at,
                    blocked: told.blocked,
                    scopes: told.scopes,
                }),
            })
            .collect(),
        scopes: scopes.into_iter().map(shown_scope).collect(),
        omitted,
    }
}

fn shown_scope(scope: ScopeOutcome) -> SimulatedScope {
    let (effective, shadow): (Vec<Block>, Vec<Block>) = scope.blocks.into_iter().partition(|block| block.effective);
    SimulatedScope {
        budget: scope.budget.to_string(),
        scope: scope.scope,
        blocks: scope.blocked.count,
        blocked_seconds: seconds(scope.blocked.us),
        alerts: scope.alerts_count,
        refused: shown_spend(&scope.blocked.refused),
        blocked: effective.into_iter().map(shown_block).collect(),
        would_block: shown_shadow(1, &scope.would_block),
        would_be_blocked: shadow.into_iter().map(shown_block).collect(),
        alerted: scope.alerts.into_iter().map(shown_alert).collect(),
    }
}

/// Nothing where nothing would block.
fn shown_shadow(scopes: u64, would_block: &Blocked) -> Option<SimulatedShadow> {
    (would_block.count > 0).then(|| SimulatedShadow {
        scopes,
        blocks: would_block.count,
        blocked_seconds: seconds(would_block.us),
        refused: shown_spend(&would_block.refused),
    })
}

fn shown_block(block: Block) -> SimulatedBlock {
    let Block { begin, end, window, measure, currency, limit, used, refused, .. } = block;
    SimulatedBlock { begin, end, window, measure, currency, limit, used, refused: shown_spend(&refused) }
}

fn shown_alert(alert: AlertRaised) -> SimulatedAlert {
    let AlertRaised { at, threshold, measure, currency, limit, used } = alert;
    SimulatedAlert { at, threshold, measure, currency, limit, used }
}

fn shown_spend(spend: &Spend) -> SimulatedSpend {
    let count = |count: i128| i64::try_from(count).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX });
    let costs = spend.costs.iter().filter(|(_, amount)| amount.0 != 0);
    SimulatedSpend {
        events: count(spend.events),
        requests: spend.requests.to_string(),
        tokens: spend.tokens.to_string(),
        tool_calls: spend.tool_calls.to_string(),
        images: spend.images.to_string(),
        compute_seconds: Measure::Compute.format(Amount(spend.compute_ns)),
        costs: costs.map(|(currency, amount)| (currency.to_string(), amount.to_string())).collect(),
        unpriced: count(spend.unpriced),
    }
}
