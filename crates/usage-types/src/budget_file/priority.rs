//! Priorities, and the pressure of a shared budget, as people write them.

use crate::budget_file::field::{Field, nearest};
use crate::budget_file::mode::share;
use crate::budget_file::predict::rate;
use crate::{BudgetError, Pressure, PressureStep, Priority, WindowSpec};

pub(super) fn priority(field: &Field<'_>) -> Result<Priority, BudgetError> {
    let text = field.text("low, normal or high")?;
    [Priority::Low, Priority::Normal, Priority::High].into_iter().find(|priority| priority.name() == text).ok_or_else(
        || match nearest(text, Priority::NAMES.into_iter()) {
            Some(near) => field.error(format!("{text:?} is no priority; did you mean `{near}`?")),
            None => field.error(format!("{text:?} is no priority; use one of {}", Priority::NAMES.join(", "))),
        },
    )
}

/// The pressure of a budget with this window.
pub(super) fn pressure(field: &Field<'_>, window: WindowSpec) -> Result<Pressure, BudgetError> {
    let like = "it like `pressure: { low: { at: 80%, requests: 10, within: 1m } }`";
    let members = field.members(&["low", "normal"], like)?;
    if window.is_moving() {
        let why = "a window that moves does not fill up to an end";
        return Err(field.error(format!("{why}; write a window of the calendar (`every`), or take this out")));
    }
    let step = |name| members.get(name).map(|field| step(&field)).transpose();
    let (low, normal) = (step("low")?, step("normal")?);
    if low.is_none() && normal.is_none() {
        return Err(field.error(format!("say who is slowed; write {like}")));
    }
    if let (Some(field), true) =
        (members.get("normal"), low.zip(normal).is_some_and(|(low, normal)| normal.at < low.at))
    {
        return Err(field.error("`low` is slowed first; write a share here that is not below its `at`"));
    }
    Ok(Pressure { low, normal })
}

fn step(field: &Field<'_>) -> Result<PressureStep, BudgetError> {
    let members =
        field.members(&["at", "requests", "within"], "it like `low: { at: 80%, requests: 10, within: 1m }`")?;
    let at = members.required("at", "from which share of the limit on, like `at: 80%`")?;
    Ok(PressureStep { at: share(&at)?, rate: rate(&members)? })
}
