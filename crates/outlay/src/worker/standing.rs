//! `GET /v1/standing`: from the balances in memory for now, from the lake for the past.

use std::sync::Arc;

use budget_core::{BalanceFilter, KindFilter};
use http_api::{ApiProblem, StandingQuery, StandingView};
use usage_lake::LakeError;
use usage_types::TimeUs;

use super::engine::{Outlay, SIMULATION_DEADLINE, SIMULATION_MEMORY_MIB, balance_rows, problem};
use crate::simulation::Failure;
use crate::standing::{Task, Windows, answer, check_scope};

/// When to ask again while a budget's history is being read.
const WARMING_RETRY_S: u64 = 1;

impl Outlay {
    /// How full a budget in force is.
    pub(super) async fn stand(&self, query: StandingQuery) -> Result<StandingView, ApiProblem> {
        let now = TimeUs::from(chrono::Utc::now());
        let set = self.shared.budgets.load_full();
        let budget = set.budgets.get(query.budget.as_str()).map(Arc::clone);
        let budget =
            budget.ok_or_else(|| ApiProblem::not_found(format!("there is no budget `{}` in force", query.budget)))?;
        check_scope(&budget, &query.scope).map_err(|(dimension, why)| ApiProblem::invalid(dimension.name(), why))?;
        let windows = Windows::of(&budget, query.period.as_deref(), now).map_err(problem)?;
        if let Windows::Of(now) = windows {
            // Until its history is in, a budget looks emptier than it is.
            if self.shared.counted.lock().core.stats().budgets_warming > 0 {
                let detail = "the history of a budget is being read; ask again when it is in";
                return Err(ApiProblem::unavailable("budgets_warming", detail, WARMING_RETRY_S));
            }
            let filter = BalanceFilter {
                kind: KindFilter::Budget(Arc::clone(&budget.id)),
                values: query.scope.clone(),
                at: Some(now),
                ..BalanceFilter::default()
            };
            let rows = self.balance_pages(&filter, usize::MAX).iter().flat_map(balance_rows).collect();
            return Ok(answer(&budget, &query.scope, windows, rows));
        }
        let _turn = self.turn()?;
        let snapshot = self.snapshot().await?;
        let task = Task {
            files: snapshot.files,
            tail: snapshot.rows,
            budget: Arc::clone(&budget),
            scope: query.scope.clone(),
            windows,
            memory_mib: SIMULATION_MEMORY_MIB,
        };
        match tokio::time::timeout(SIMULATION_DEADLINE, task.rows()).await {
            Ok(Ok(rows)) => Ok(answer(&budget, &query.scope, windows, rows)),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(too_long()),
        }
    }
}

/// What a caller is told of a failure.
pub(super) fn failed(error: Failure) -> ApiProblem {
    match error {
        error @ (Failure::Memory { .. } | Failure::Lake(LakeError::Unordered { .. })) => {
            ApiProblem::new(422, "memory_exceeded", error.to_string())
        }
        Failure::Lake(error) => problem(error),
    }
}

/// What a caller is told who asked for too much.
pub(super) fn too_long() -> ApiProblem {
    let limit_s = SIMULATION_DEADLINE.as_secs();
    ApiProblem::new(
        422,
        "time_exceeded",
        format!("this took longer than {limit_s} s; take a shorter time, or the command of `outlay`"),
    )
}
