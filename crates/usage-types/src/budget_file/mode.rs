//! What a budget does when it is reached: `mode`, and what belongs to it.

use crate::budget_file::field::{Field, Members, nearest};
use crate::{BudgetError, DimensionSet, Mode, Pico, Ppm, Rollback};

/// The most scopes that `at_least` may ask for.
const AT_LEAST_MAX: u32 = 1_000_000_000;

/// The mode, and when it rolls back. `per` is the budget's.
pub(super) fn mode(members: &Members<'_>, per: DimensionSet) -> Result<(Mode, Option<Rollback>), BudgetError> {
    let (field, share) = (members.get("mode"), members.get("canary"));
    let mode = match field.as_ref().map(|field| name(field)).transpose()? {
        None => Mode::default(),
        Some("soft") => Mode::Soft,
        Some("shadow") => Mode::Shadow,
        Some("canary") => {
            let share = members.required("canary", "the share of the scopes that it blocks, like `canary: 10%`")?;
            Mode::Canary(of_scopes(&share, per)?)
        }
        Some(_) => Mode::Hard,
    };
    if let (Some(share), Mode::Hard | Mode::Soft | Mode::Shadow) = (share, mode) {
        return Err(share.error(format!("the mode is `{}`; write `mode: canary`, or take this out", mode.name())));
    }
    let rollback = members.get("rollback").map(|field| rollback(&field, mode, per)).transpose()?;
    Ok((mode, rollback))
}

fn name<'n>(field: &Field<'n>) -> Result<&'n str, BudgetError> {
    let text = field.text("hard, soft, shadow or canary")?;
    if Mode::NAMES.contains(&text) {
        return Ok(text);
    }
    let hint = match nearest(text, Mode::NAMES.into_iter()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("use one of {}", Mode::NAMES.join(", ")),
    };
    Err(field.error(format!("{text:?} is no mode; {hint}")))
}

fn of_scopes(field: &Field<'_>, per: DimensionSet) -> Result<Ppm, BudgetError> {
    if per == DimensionSet::default() {
        return Err(field
            .error("the budget has one balance for all, of which there is no share; add `per`, like `per: [user]`"));
    }
    share(field)
}

fn rollback(field: &Field<'_>, mode: Mode, per: DimensionSet) -> Result<Rollback, BudgetError> {
    let members = field.members(&["blocked_over", "at_least"], "it like `rollback: { blocked_over: 20% }`")?;
    if !mode.may_block() {
        return Err(field.error(format!("in mode `{}` nobody is blocked; take this out", mode.name())));
    }
    let over = members.required("blocked_over", "the share of scopes that may be blocked, like `blocked_over: 20%`")?;
    let blocked_over = of_scopes(&over, per)?;
    if blocked_over == Ppm::ONE {
        return Err(over.error("more than all are never blocked; write less than 100%"));
    }
    let at_least = members.get("at_least").map_or(Ok(Rollback::AT_LEAST), |field| at_least(&field))?;
    Ok(Rollback { blocked_over, at_least })
}

fn at_least(field: &Field<'_>) -> Result<u32, BudgetError> {
    let text = field.text("a number of scopes, like 10")?;
    let count = text.parse().ok().filter(|count| (1..=AT_LEAST_MAX).contains(count));
    count.ok_or_else(|| field.error(format!("{text:?} is no number of scopes; write one from 1 to {AT_LEAST_MAX}")))
}

/// A share above nothing and up to all: `10%` or `0.1`.
pub(super) fn share(field: &Field<'_>) -> Result<Ppm, BudgetError> {
    let text = field.text("a share, like 10%")?;
    let wrong = || field.error(format!("{text:?} is no share; write it like 10%, above 0% and up to 100%"));
    let (number, whole) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100 * Pico::ONE.0),
        None => (text, Pico::ONE.0),
    };
    let number: Pico = number.parse().map_err(|_| wrong())?;
    let per_million = whole / i128::from(Ppm::ONE.0);
    if number.0 <= 0 || number.0 > whole {
        return Err(wrong());
    }
    match u32::try_from(number.0 / per_million) {
        Ok(ppm) if number.0 % per_million == 0 => Ok(Ppm(ppm)),
        _ => Err(field.error(format!("{text} is finer than a millionth; round it"))),
    }
}
