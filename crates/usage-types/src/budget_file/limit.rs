//! The limits of a budget: `limit: { tokens: 1000000 }` for one, `limits: [...]` for several.

use crate::budget_file::field::{Field, Members};
use crate::{Amount, BudgetError, Limit, Limits, Measure, Money, Pico, TokenClass};

/// The largest limit of a count: 10¹⁸ fits every signed 64-bit column and is a million times the world's daily tokens.
const COUNT_MAX: i128 = 1_000_000_000_000_000_000;
/// The largest limit of compute time: five million hours, which unsigned 64 bits of nanoseconds still hold.
const COMPUTE_HOURS_MAX: i128 = 5_000_000;
/// The largest limit of a cost: 10¹⁵ units of the currency.
const COST_MAX: i128 = 1_000_000_000_000_000 * Pico::ONE.0;

const NS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_HOUR: i128 = 3_600;

/// What a budget limits: `limit` with one measure or `limits` with a list of them, not both.
pub(super) fn limits(members: &Members<'_>) -> Result<Limits, BudgetError> {
    let Some(list) = members.get("limits") else {
        return limit(&members.required("limit", "it like `limit: { tokens: 1000000 }`")?).map(Limits::from);
    };
    if let Some(one) = members.get("limit") {
        return Err(one.error("`limit` and `limits` are both there; move this one into the list of `limits`"));
    }
    let limits = self::list(&list)?;
    Limits::new(limits).ok_or_else(|| list.error("`limits` is empty; write one, like `limits: [{ tokens: 1000000 }]`"))
}

/// Several limits, each of another measure.
pub(super) fn list(list: &Field<'_>) -> Result<Vec<Limit>, BudgetError> {
    let fields = list.list("a list, like `[{ tokens: 1000000 }, { cost: 500.00 USD }]`")?;
    let mut limits: Vec<Limit> = Vec::new();
    for field in &fields {
        let limit = limit(field)?;
        if limits.iter().any(|before| before.measure == limit.measure) {
            let of = limit.measure.currency().map_or(String::new(), |currency| format!(" in {currency}"));
            let message = format!("`{}`{of} is limited twice; keep one of them", limit.measure.name());
            return Err(field.error(message));
        }
        limits.push(limit);
        if limits.len() > Limits::MAX {
            return Err(field.error(format!("there are more than {}; write a second budget", Limits::MAX)));
        }
    }
    Ok(limits)
}

/// One limit: a mapping of one measure.
pub(super) fn limit(field: &Field<'_>) -> Result<Limit, BudgetError> {
    limit_with(field, &["overage"])
}

/// One limit in a mapping that may have other members of these names.
pub(super) fn limit_with(field: &Field<'_>, others: &[&str]) -> Result<Limit, BudgetError> {
    let mut known = vec!["tokens", "requests", "tool_calls", "images", "compute_hours", "compute_seconds", "cost"];
    known.extend(TokenClass::ALL.map(TokenClass::name));
    known.extend(TokenClass::ALL.map(TokenClass::column));
    known.extend(others);
    let members = field.members(&known, "one measure, like `{ tokens: 1000000 }`")?;
    let mut given = members.iter().filter(|(name, _)| !others.contains(name));
    let Some((name, first)) = given.next() else {
        return Err(field.error("no measure is named; write one, like `limit: { tokens: 1000000 }`"));
    };
    if let Some((_, second)) = given.next() {
        return Err(second.error("this is a second measure; for several write a list, like `limits: [{ tokens: 1000000 }, { requests: 500 }]`"));
    }
    let (measure, amount) = amount_of(name, &first)?;
    let mut limit = Limit::new(measure, Amount(amount));
    if let Some(field) = members.get("overage") {
        let (of, overage) = amount_of(name, &field)?;
        if of != measure {
            return Err(field.error("the overage is in another currency than the limit; write it in the same one"));
        }
        limit.overage = Amount(overage);
    }
    Ok(limit)
}

/// An amount of what this name means.
fn amount_of(name: &str, first: &Field<'_>) -> Result<(Measure, i128), BudgetError> {
    Ok(match name {
        "tokens" => (Measure::Tokens, count(first)?),
        "requests" => (Measure::Requests, count(first)?),
        "tool_calls" => (Measure::ToolCalls, count(first)?),
        "images" => (Measure::Images, count(first)?),
        "compute_hours" => (Measure::Compute, compute(first, SECONDS_PER_HOUR)?),
        "compute_seconds" => (Measure::Compute, compute(first, 1)?),
        "cost" => cost(first)?,
        class => (Measure::TokensOf(class.parse().map_err(|message: String| first.error(message))?), count(first)?),
    })
}

fn positive(field: &Field<'_>, text: &str, amount: i128, max: i128) -> Result<i128, BudgetError> {
    if amount <= 0 {
        return Err(
            field.error(format!("a limit is more than zero, and {text} is not; to turn a budget off take it out"))
        );
    }
    if amount > max {
        return Err(field.error(format!("{text} is more than any budget needs; look for a digit too many")));
    }
    Ok(amount)
}

fn count(field: &Field<'_>) -> Result<i128, BudgetError> {
    let text = field.text("a whole number, like 1000000")?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(field.error(format!("{text:?} is no whole number; write digits only, like 1000000")));
    }
    // More digits than 128 bits hold are too many in any case.
    positive(field, text, text.parse().unwrap_or(i128::MAX), COUNT_MAX)
}

fn compute(field: &Field<'_>, seconds_per_unit: i128) -> Result<i128, BudgetError> {
    let text = field.text("a number, like 12.5")?;
    let units: Pico = text.parse().map_err(|error: crate::UnitError| field.error(error.to_string()))?;
    let max = COMPUTE_HOURS_MAX * SECONDS_PER_HOUR / seconds_per_unit * Pico::ONE.0;
    let units = positive(field, text, units.0, max)?;
    let nanoseconds = units * seconds_per_unit * NS_PER_SECOND;
    if nanoseconds % Pico::ONE.0 != 0 {
        return Err(field.error(format!("{text} is finer than a nanosecond; write fewer digits")));
    }
    Ok(nanoseconds / Pico::ONE.0)
}

fn cost(field: &Field<'_>) -> Result<(Measure, i128), BudgetError> {
    let text = field.text("an amount with its currency, like \"500.00 USD\"")?;
    let money: Money = text.parse().map_err(|error: crate::UnitError| field.error(error.to_string()))?;
    Ok((Measure::Cost(money.currency), positive(field, text, money.amount.0, COST_MAX)?))
}
