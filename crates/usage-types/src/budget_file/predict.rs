//! Predictions as people write them.

use crate::budget_file::breaker::{duration, whole};
use crate::budget_file::field::Field;
use crate::{BudgetError, Predict, Rate, Span, TimeUs, WindowSpec};

/// The longest that is looked ahead: beyond it a burn of minutes says little.
const AHEAD_MAX_US: i64 = 7 * TimeUs::DAY;
/// The longest that burn is measured over.
const OVER_MAX_US: i64 = TimeUs::HOUR;
/// The longest time of a rate.
const PER_MAX_US: i64 = TimeUs::DAY;
const REQUESTS_MAX: u64 = 1_000_000_000;

/// The prediction of a budget with this window; of a preset without one.
pub(super) fn predict(field: &Field<'_>, window: Option<WindowSpec>) -> Result<Predict, BudgetError> {
    let like = "it like `predict: { warn: 30m, slow: 10m }`";
    let members = field.members(&["warn", "slow", "over", "floor"], like)?;
    if window.is_some_and(WindowSpec::is_moving) {
        let why = "as much leaves a window that moves as comes, so there is nothing to predict";
        return Err(field.error(format!("{why}; write a window of the calendar (`every`), or take this out")));
    }
    let ahead = |name| members.get(name).map(|field| duration(&field, TimeUs::MINUTE, AHEAD_MAX_US)).transpose();
    let (warn_us, slow_us) = (ahead("warn")?, ahead("slow")?);
    if warn_us.is_none() && slow_us.is_none() {
        return Err(field.error("say what to do, and how long before the cap falls: `warn: 30m`, `slow: 10m` or both"));
    }
    if let (Some(slow), true) = (members.get("slow"), warn_us.zip(slow_us).is_some_and(|(warn, slow)| warn < slow)) {
        return Err(slow.error("nobody would be warned before; write less than `warn`"));
    }
    let over = members.get("over").map_or(Ok(Predict::OVER), |field| {
        let us = duration(&field, TimeUs::MINUTE, OVER_MAX_US)?;
        let minutes = (us % TimeUs::MINUTE == 0).then_some(us / TimeUs::MINUTE).and_then(|at| u32::try_from(at).ok());
        minutes.map(Span::minutes).ok_or_else(|| field.error("burn is measured over whole minutes, like `over: 5m`"))
    })?;
    let floor = members.get("floor").map_or(Ok(Predict::FLOOR), |field| {
        rate(&field.members(&["requests", "within"], "it like `floor: { requests: 1, within: 1m }`")?)
    })?;
    Ok(Predict { over, warn_us, slow_us, floor })
}

/// A rate, of `requests` and `within` among these.
pub(super) fn rate(members: &super::Members<'_>) -> Result<Rate, BudgetError> {
    let requests = members.required("requests", "how many, like `requests: 10`")?;
    let within = members.required("within", "in how long, like `within: 1m`")?;
    let per_us = duration(&within, TimeUs::SECOND, PER_MAX_US)?;
    Ok(Rate { requests: whole(&requests, REQUESTS_MAX)?, per_s: (per_us / TimeUs::SECOND).unsigned_abs() })
}
