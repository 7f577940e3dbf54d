//! How full a budget is, from the lake's rows by the code that decides.

use std::sync::Arc;

use arrow::array::RecordBatch;
use budget_core::window::window_at;
use budget_core::{BalanceFilter, BalanceView, Core, CoreConfig, KindFilter, mode_of};
use futures::StreamExt as _;
use http_api::{BalanceRow, StandingView};
use usage_lake::{LakeError, LakeFiles, OrderedRead, period};
use usage_types::{Amount, Bounds, Budget, BudgetSet, DecisionState, Dimension, Fill, Scope, TimeUs, Window};

use crate::simulation::Failure;
use crate::worker::{balance_rows, restored};

const MIB: usize = 1 << 20;
/// The most rows of an answer.
const ROWS_MAX: usize = 10_000;
/// Balances of one page.
const PAGE_ROWS: usize = 10_000;

/// What is looked at.
pub struct Task {
    /// The lake's files.
    pub files: LakeFiles,
    /// Rows that are in none of them yet.
    pub tail: Vec<RecordBatch>,
    /// The budget.
    pub budget: Arc<Budget>,
    /// The values that a scope must have.
    pub scope: Scope,
    /// In which of its windows.
    pub windows: Windows,
    /// The most memory, in MiB.
    pub memory_mib: usize,
}

/// Which windows of a budget are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// The one that contains this time. One that moves is as it was then.
    Of(TimeUs),
    /// Those of the calendar that begin from a time on and before another.
    BeginIn(TimeUs, TimeUs),
}

impl Windows {
    /// Those that begin in a period in the budget's time zone, or only that of now.
    ///
    /// # Errors
    /// It is no period, or the budget's windows do not begin in periods.
    pub fn of(budget: &Budget, period_text: Option<&str>, now: TimeUs) -> Result<Self, LakeError> {
        let Some(text) = period_text else { return Ok(Self::Of(now)) };
        if budget.window.is_moving() {
            let reason = format!(
                "the budget {} counts over {}, and such windows do not begin on dates: leave the period out for what counts now, or ask for a \
                 budget over a calendar window",
                budget.id, budget.window
            );
            return Err(LakeError::ReportParameter { parameter: "period".to_owned(), reason });
        }
        period(text, budget.window.zone).map(|(from, to)| Self::BeginIn(from, to))
    }

    /// A time in the first of them.
    fn first(self) -> TimeUs {
        match self {
            Self::Of(time) | Self::BeginIn(time, _) => time,
        }
    }

    /// The end of the rows that count in them.
    fn end(self, budget: &Budget) -> TimeUs {
        match self {
            // What a sender says whose clock is ahead counts at once.
            Self::Of(time) if budget.window.is_moving() => time.plus_us(TimeUs::DAY),
            Self::Of(time) => window_at(budget.window, time).end,
            // The last one that begins in time ends later.
            Self::BeginIn(_, to) => window_at(budget.window, to.plus_us(-1)).end,
        }
    }
}

/// Refuses values that no scope of the budget has.
///
/// # Errors
/// The dimension, and what is wrong with it.
pub fn check_scope(budget: &Budget, scope: &Scope) -> Result<(), (Dimension, String)> {
    for (dimension, value) in scope.iter() {
        if !budget.scope_dimensions().contains(dimension) {
            let dims: Vec<&str> = budget.scope_dimensions().iter().map(Dimension::name).collect();
            let own = if dims.is_empty() { "none: it counts everything".to_owned() } else { dims.join(", ") };
            return Err((
                dimension,
                format!("the budget {} has no balances by {dimension}; its dimensions are {own}", budget.id),
            ));
        }
        if let Some(fixed) = budget.matches.get(dimension).filter(|fixed| *fixed != value) {
            return Err((dimension, format!("the budget {} counts only the {dimension} {fixed}", budget.id)));
        }
    }
    Ok(())
}

/// The answer. Where one scope is meant and has used nothing, it says so of the first window.
pub fn answer(budget: &Budget, scope: &Scope, windows: Windows, mut rows: Vec<BalanceRow>) -> StandingView {
    if rows.is_empty() {
        rows = unused(budget, scope, windows.first());
    }
    rows.sort_by(|a, b| (b.used_ppm, &a.scope, a.window.start).cmp(&(a.used_ppm, &b.scope, b.window.start)));
    let omitted = rows.len().saturating_sub(ROWS_MAX) as u64;
    rows.truncate(ROWS_MAX);
    StandingView { budget: budget.id.to_string(), mode: budget.mode.name().to_owned(), rows, omitted }
}

fn unused(budget: &Budget, scope: &Scope, at: TimeUs) -> Vec<BalanceRow> {
    let scope = Scope::new(budget.matches.iter().chain(scope.iter()));
    if scope.dimensions() != budget.scope_dimensions() {
        return Vec::new();
    }
    let window = match budget.window.bounds {
        // It has not begun.
        Bounds::Lifetime { idle, .. } => Window { start: at, end: at.plus_us(idle.us()), zone: budget.window.zone },
        Bounds::Calendar { .. } | Bounds::Rolling(_) => window_at(budget.window, at),
    };
    let limits = budget.limits_of(|dim| scope.get(dim));
    let row = |Fill { limit, used }| BalanceRow {
        budget: Some(budget.id.to_string()),
        scope: scope.clone(),
        every: budget.window.every_name().to_owned(),
        window_name: budget.window.window_name(),
        window,
        measure: limit.measure.name().to_owned(),
        currency: limit.measure.currency(),
        used: limit.measure.format(used),
        limit: Some(limit.measure.format(limit.amount)),
        used_ppm: Some(0),
        state: Some(DecisionState::Allowed),
        mode: Some(mode_of(budget, &scope).name().to_owned()),
        progress: None,
    };
    limits.fills(|_| Amount(0)).map(row).collect()
}

impl Task {
    /// The rows of all balances that match.
    ///
    /// # Errors
    /// The lake cannot be read, or it takes more memory than it may.
    pub async fn rows(self) -> Result<Vec<BalanceRow>, Failure> {
        let Self { files, tail, budget, scope, windows, memory_mib } = self;
        let mut core = Core::new(CoreConfig::of_stored_rows());
        let set = BudgetSet { budgets: [(Arc::clone(&budget.id), Arc::clone(&budget))].into(), ..BudgetSet::default() };
        let requests = core.set_budgets(Arc::new(set), windows.first());
        let from = requests.iter().map(|request| request.from).min().unwrap_or(windows.first());
        let dimensions = budget.scope_dimensions();
        let read = OrderedRead { from, to: windows.end(&budget), dimensions, tags: false, tail, memory_mib };
        let mut groups = files.in_order(read);
        while let Some(rows) = groups.next().await {
            let rows = rows?;
            let folded = tokio::task::spawn_blocking(move || {
                let result = rows.each(|row| core.restore(&restored(row)));
                (core, result)
            });
            let (back, result) = folded.await.map_err(LakeError::from)?;
            result?;
            core = back;
            let stats = core.stats();
            if stats.balances_bytes + stats.dedup_bytes > memory_mib * MIB {
                return Err(Failure::Memory { limit_mib: memory_mib });
            }
        }
        requests.iter().for_each(|request| core.finish_history(request));
        let filter = BalanceFilter {
            kind: KindFilter::Budget(Arc::clone(&budget.id)),
            values: scope,
            at: if let Windows::Of(time) = windows { Some(time) } else { None },
            ..BalanceFilter::default()
        };
        let is_meant = |view: &BalanceView| match windows {
            Windows::Of(_) => true,
            Windows::BeginIn(from, to) => view.window.start >= from && view.window.start < to,
        };
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = core.balances(&filter, after, PAGE_ROWS);
            rows.extend(page.rows.iter().filter(|view| is_meant(view)).flat_map(balance_rows));
            after = page.next;
            if after.is_none() {
                return Ok(rows);
            }
        }
    }
}
