//! Reading the balances.
//!
//! All of it borrows the core and changes nothing. A page of balances looks at a bounded number of them, so that a reader never
//! holds up ingest for long, however many there are and however few the filter admits.

use std::sync::Arc;

use usage_types::{
    Amount, BudgetId, ComputeNs, DimensionSet, Fill, Measure, Mode, Money, Progress, Scope, TimeUs, Tokens, Window,
    WindowKind, WindowSpec,
};

use crate::balance::{Balance, Flags};
use crate::budgets::{BudgetState, Budgets};
use crate::ledger::Ledger;

/// The most balances that one page looks at: about a millisecond.
const LOOKED_AT_MAX: usize = 10_000;
/// What summing up a moving window costs, in balances.
const MOVING_COST: usize = 20;

/// Which balances.
#[derive(Debug, Clone, Default)]
pub struct BalanceFilter {
    /// Only of these.
    pub kind: KindFilter,
    /// Only of exactly these dimensions.
    pub dimensions: Option<DimensionSet>,
    /// Only of scopes that have these values.
    pub values: Scope,
    /// Only over windows of this kind.
    pub every: Option<WindowKind>,
    /// Only of windows that contain this time; `None`: of all windows that are kept. Of windows that move only those of now or of this time.
    pub at: Option<TimeUs>,
}

/// Whose balances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KindFilter {
    /// All.
    #[default]
    Any,
    /// Of the tracked dimensions.
    Tracked,
    /// Of any budget.
    Budgets,
    /// Of this budget.
    Budget(BudgetId),
}

/// Where a page ended. Balances that come while a reader turns pages may be missed, none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The tracker's number.
    pub tracker: u32,
    /// The start of the window.
    pub window_start: TimeUs,
    /// The last balance's number; `None`: before the first.
    pub balance: Option<u32>,
}

/// Whether a balance is a budget's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It belongs to the tracked dimensions.
    Tracked,
    /// It belongs to a budget.
    Budget(BudgetStanding),
}

/// How a budget stands in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStanding {
    /// Its id.
    pub id: BudgetId,
    /// Its limits, in the order of the file, each with what is used of it.
    pub fills: Vec<Fill>,
    /// The one of them that is tightest.
    pub tightest: Fill,
    /// What it does for this scope when it is reached: hard, soft or shadow.
    pub mode: Mode,
    /// How it stands.
    pub state: StandingState,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingState {
    /// Its history is being read: what is shown is incomplete.
    Warming,
    /// Below its first threshold.
    Within,
    /// At or above its first threshold.
    Alerted,
    /// At or above one of its limits with its overage.
    Exceeded,
}

/// One balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceView {
    /// Whose.
    pub kind: Kind,
    /// For whom.
    pub scope: Scope,
    /// Over which window.
    pub window: Window,
    /// Which kind of window that is.
    pub spec: WindowSpec,
    /// Tokens by class.
    pub tokens: Tokens,
    /// Requests.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Images that a model made.
    pub images: u64,
    /// Compute time.
    pub compute: ComputeNs,
    /// Money, by currency.
    pub costs: Vec<Money>,
    /// Events whose cost is not known.
    pub unpriced: u64,
    /// A sum has reached the end of its range and stands still.
    pub saturated: bool,
    /// Of a job: how far it has come, by its latest event that says so.
    pub progress: Option<Progress>,
}

impl BalanceView {
    /// How much of a measure it holds.
    #[must_use]
    pub fn amount(&self, measure: Measure) -> Amount {
        Amount(match measure {
            Measure::Tokens => i128::from(self.tokens.total()),
            Measure::TokensOf(class) => i128::from(self.tokens.get(class)),
            Measure::Requests => i128::from(self.requests),
            Measure::ToolCalls => i128::from(self.tool_calls),
            Measure::Images => i128::from(self.images),
            Measure::Compute => i128::from(self.compute.0),
            Measure::Cost(currency) => {
                self.costs.iter().find(|cost| cost.currency == currency).map_or(0, |cost| cost.amount.0)
            }
        })
    }
}

/// A page of balances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalancePage {
    /// The balances, by tracker and window; within a window the newest first.
    pub rows: Vec<BalanceView>,
    /// Where to go on; `None`: that was all. A page may be empty and yet have a next one.
    pub next: Option<Cursor>,
}

pub(crate) fn balances(
    ledger: &Ledger,
    budgets: &Budgets,
    filter: &BalanceFilter,
    now: TimeUs,
    after: Option<Cursor>,
    rows_max: usize,
) -> BalancePage {
    let mut page = BalancePage::default();
    let mut looked_at = 0;
    let first = after.map_or(0, |after| after.tracker as usize);
    for (at, tracker) in ledger.trackers.iter().enumerate().skip(first) {
        let Some(tracker) = tracker.as_ref() else { continue };
        let state = tracker.budget.and_then(|slot| budgets.slot(slot));
        if !admits(ledger, filter, tracker, state) {
            continue;
        }
        let tracker_at = at as u32;
        let resumed = after.filter(|after| after.tracker == tracker_at);
        let now = filter.at.unwrap_or(now).max(ledger.moved_to);
        let first = tracker.moving.map_or(TimeUs(i64::MIN), |moving| moving.first(now));
        let from = resumed.map_or(first, |after| after.window_start.max(first));
        for (start, window) in tracker.windows.range(from..) {
            let is_of = |time| ledger.windows.get(*window).window.contains(time);
            if tracker.moving.is_none() && filter.at.is_some_and(|time| !is_of(time)) {
                continue;
            }
            // Going on behind the last one, where it is still of this window.
            let last = resumed.filter(|after| after.window_start == *start).and_then(|after| after.balance);
            let behind = last.filter(|last| ledger.balances.get(*last).window == *window).is_some();
            let chain = ledger.chain(*window).skip_while(|at| behind && Some(*at) != last).skip(usize::from(behind));
            let mut before = last;
            for balance in chain {
                if page.rows.len() >= rows_max || looked_at >= LOOKED_AT_MAX {
                    page.next = Some(Cursor { tracker: tracker_at, window_start: *start, balance: before });
                    return page;
                }
                looked_at += if tracker.moving.is_some() { MOVING_COST } else { 1 };
                before = Some(balance);
                if has_values(ledger, filter, balance) {
                    page.rows.extend(view(ledger, tracker_at, balance, state, now));
                }
            }
        }
    }
    page
}

fn admits(
    ledger: &Ledger,
    filter: &BalanceFilter,
    tracker: &crate::tracker::Tracker,
    state: Option<&BudgetState>,
) -> bool {
    let dims: DimensionSet = ledger.group(tracker.group).dims.iter().copied().collect();
    if tracker.is_burn {
        return false;
    }
    let kind = match (&filter.kind, state) {
        (KindFilter::Any, _) | (KindFilter::Tracked, None) | (KindFilter::Budgets, Some(_)) => true,
        (KindFilter::Budget(id), Some(state)) => state.budget.id == *id,
        _ => false,
    };
    kind && filter.every.is_none_or(|every| every == tracker.spec.kind())
        && filter.dimensions.is_none_or(|wanted| wanted == dims)
        && filter.values.iter().all(|(dim, _)| dims.contains(dim))
}

fn has_values(ledger: &Ledger, filter: &BalanceFilter, balance: u32) -> bool {
    let balance = ledger.balances.get(balance);
    let tracker = ledger.windows.get(balance.window).tracker;
    let dims = &ledger.group(ledger.tracker(tracker).group).dims;
    let symbols = ledger.scopes.symbols(balance.scope);
    filter.values.iter().all(|(wanted, value)| {
        dims.iter().zip(symbols).any(|(dim, sym)| *dim == wanted && ledger.symbols.text(*sym) == value)
    })
}

/// A balance of a calendar window. Of a moving one all of it, where the balance is of the newest bucket of it.
fn view(ledger: &Ledger, tracker: u32, at: u32, state: Option<&BudgetState>, now: TimeUs) -> Option<BalanceView> {
    let (of_cell, spec) = (ledger.balances.get(at), ledger.tracker(tracker).spec);
    if !spec.is_moving() {
        let window = ledger.windows.get(of_cell.window).window;
        return Some(view_of(ledger, at, of_cell, window, spec, state));
    }
    let used = ledger.used_at(tracker, Some(of_cell.scope), now);
    (used.newest() == Some(at)).then(|| view_of(ledger, at, &used.sum_anew(ledger), used.window, spec, state))
}

fn view_of(
    ledger: &Ledger,
    at: u32,
    balance: &Balance,
    window: Window,
    spec: WindowSpec,
    state: Option<&BudgetState>,
) -> BalanceView {
    let [requests, tool_calls, images, compute_ns, unpriced] = balance.counts();
    BalanceView {
        kind: state.map_or(Kind::Tracked, |state| Kind::Budget(budget_standing(ledger, at, balance, state))),
        scope: ledger.scope_of(at),
        window,
        spec,
        tokens: balance.tokens(),
        requests,
        tool_calls,
        images,
        compute: ComputeNs(compute_ns),
        costs: balance.costs(),
        unpriced,
        saturated: balance.flags.has(Flags::SATURATED),
        progress: None,
    }
}

fn budget_standing(ledger: &Ledger, at: u32, balance: &Balance, state: &BudgetState) -> BudgetStanding {
    let budget = &state.budget;
    let limits = ledger.limits(at, budget);
    let tightest = limits.tightest(|measure| balance.amount(measure));
    let standing = match () {
        () if state.warming.is_some() => StandingState::Warming,
        () if limits.is_reached(|measure| balance.amount(measure)) => StandingState::Exceeded,
        () if budget.alerts.at.first().is_some_and(|at| tightest.has_reached(*at)) => StandingState::Alerted,
        () => StandingState::Within,
    };
    let fills = limits.fills(|measure| balance.amount(measure)).collect();
    let mode = state.mode_at(|| ledger.scope_of(at));
    BudgetStanding { id: Arc::clone(&budget.id), fills, tightest, mode, state: standing }
}
