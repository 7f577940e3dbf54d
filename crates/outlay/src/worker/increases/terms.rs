//! What may be asked for, and what may be granted of it.

use budget_core::window::window_at;
use http_api::{ApiProblem, Granted, IncreaseRequest};
use usage_types::{Amount, Budget, BudgetSet, IncreaseAsk, IncreaseTerms, Limit, Limits, Measure, Scope, TimeUs, Wish};

/// The longest that a grant may be for. What is to last belongs into the budget.
const LONGEST_US: i64 = 366 * TimeUs::DAY;

/// What somebody wishes, made out.
pub struct Wished {
    /// The whole scope.
    pub scope: Scope,
    /// The limits in total.
    pub limits: Limits,
}

/// What a request asks for, where the budgets are these and with grants those.
pub fn wished(ask: &IncreaseAsk, own: &BudgetSet, granted: &BudgetSet, now: TimeUs) -> Result<Wished, ApiProblem> {
    let find = |set: &BudgetSet| set.budgets.get(ask.budget.as_str()).cloned();
    let (Some(own), Some(granted)) = (find(own), find(granted)) else {
        return Err(ApiProblem::invalid("budget", format!("there is no budget {:?}", ask.budget)));
    };
    let scope = whole_scope(&own, &ask.scope)?;
    let wrong = |detail: String| ApiProblem::invalid(ask.wish_field, detail);
    let limits_of = |budget: &Budget| budget.limits_of(|dim| scope.get(dim)).clone();
    let (own_limits, granted_limits) = (limits_of(&own), limits_of(&granted));
    let (Wish::To(wish) | Wish::By(wish)) = &ask.wish;
    let total = |limit: Limit| match &ask.wish {
        Wish::To(_) => limit,
        Wish::By(_) => {
            let now = granted_limits.of(limit.measure).unwrap_or_default();
            Limit { amount: Amount(now.0.saturating_add(limit.amount.0)), ..limit }
        }
    };
    let limits = Limits::new(wish.iter().map(total).collect()).ok_or_else(|| wrong("no limit is named".to_owned()))?;
    exceeds(&limits, &own_limits, &scope).map_err(wrong)?;
    // As it will be read from the file that it is kept in.
    serde_json::to_value(&limits)
        .and_then(serde_json::from_value::<Limits>)
        .map_err(|error| wrong(format!("in total that is too much: {error}")))?;
    end(&own, ask.until, now).map_err(|detail| ApiProblem::invalid("until", detail))?;
    Ok(Wished { scope, limits })
}

/// The scope of a budget with these values, with or without those that the budget matches.
fn whole_scope(budget: &Budget, given: &Scope) -> Result<Scope, ApiProblem> {
    for (dim, value) in given.iter() {
        let detail = match budget.matches.get(dim) {
            Some(matched) if matched == value => continue,
            Some(matched) => format!("the budget is for {dim} {matched:?} only; leave it out"),
            None if budget.per.contains(dim) => continue,
            None => format!("the budget has no balance of its own for each {dim}; leave it out"),
        };
        return Err(ApiProblem::invalid(format!("scope.{dim}"), detail));
    }
    if let Some(missing) = budget.per.iter().find(|dim| given.get(*dim).is_none()) {
        let detail = format!("the budget has a balance for each {missing}; name the one that is meant");
        return Err(ApiProblem::invalid(format!("scope.{missing}"), detail));
    }
    Ok(Scope::new(budget.matches.iter().chain(given.iter())))
}

/// Whether each of these limits is more than the one that the scope has without grants.
///
/// # Errors
/// Which is not, as a sentence.
fn exceeds(limits: &Limits, own: &Limits, scope: &Scope) -> Result<(), String> {
    for Limit { measure, amount, .. } in limits.iter() {
        let Some(has) = own.of(measure) else {
            let measures: Vec<String> = own.iter().map(|limit| name(limit.measure)).collect();
            return Err(format!(
                "the budget does not limit {} for {scope}, but {}",
                name(measure),
                measures.join(", ")
            ));
        };
        if amount <= has {
            let (asked, has) = (measure.format(amount), measure.format(has));
            return Err(format!("{asked} {} is not more than the {has} that {scope} has", name(measure)));
        }
    }
    Ok(())
}

fn name(measure: Measure) -> String {
    let currency = measure.currency().map(|currency| format!(" in {currency}")).unwrap_or_default();
    format!("{}{currency}", measure.name())
}

/// When a grant of now would end that was asked for until then.
///
/// # Errors
/// Why it cannot be, as a sentence.
fn end(budget: &Budget, until: Option<TimeUs>, now: TimeUs) -> Result<TimeUs, String> {
    match until {
        Some(until) if until <= now => Err(format!("{until} is over; name a time to come")),
        Some(until) if until.0.saturating_sub(now.0) > LONGEST_US => {
            Err(format!("{until} is more than 366 days away; change the budget for what is to last"))
        }
        Some(until) => Ok(until),
        None if budget.window.is_moving() => {
            Err("the budget's window has no end that is known; say until when".to_owned())
        }
        None => Ok(window_at(budget.window, now).end),
    }
}

/// What is granted of a request on these terms.
pub fn granted(
    request: &IncreaseRequest,
    terms: &IncreaseTerms,
    budgets: &BudgetSet,
    now: TimeUs,
) -> Result<Granted, ApiProblem> {
    let gone = |field: &str, detail: String| ApiProblem {
        field: Some(field.to_owned()),
        ..ApiProblem::new(409, "cannot_be_granted", detail)
    };
    let budget = budgets.budgets.get(request.budget.as_str());
    let budget =
        budget.ok_or_else(|| gone("budget", format!("there is no budget {:?} any more; deny it", request.budget)))?;
    if !budget.owns(&request.scope) {
        let detail = format!("the budget has no balance of {} any more; deny it", request.scope);
        return Err(gone("scope", detail));
    }
    let own = budget.limits_of(|dim| request.scope.get(dim));
    let limits = match &terms.limits {
        None => {
            exceeds(&request.limits, own, &request.scope).map_err(|detail| gone("limits", detail))?;
            &request.limits
        }
        Some(limits) => {
            let wrong = |detail: String| ApiProblem::invalid(terms.limits_field, detail);
            within(limits, &request.limits).map_err(wrong)?;
            exceeds(limits, own, &request.scope).map_err(wrong)?;
            limits
        }
    };
    let asked = end(budget, request.until, now);
    let expires_at = match terms.until {
        None => asked.map_err(|detail| gone("until", detail))?,
        Some(_) => {
            let wrong = |detail: String| ApiProblem::invalid("until", detail);
            let given = end(budget, terms.until, now).map_err(wrong)?;
            // What was asked for may be over by now, and then nothing of it can be given.
            let asked = asked.map_err(|detail| gone("until", detail))?;
            if given > asked {
                return Err(wrong(format!("it was asked for until {asked} only; have it asked for anew for longer")));
            }
            given
        }
    };
    Ok(Granted { limits: limits.clone(), expires_at })
}

/// Whether these limits give no more than was asked for.
fn within(limits: &Limits, asked: &Limits) -> Result<(), String> {
    for Limit { measure, amount, .. } in limits.iter() {
        let most = asked.of(measure).ok_or_else(|| format!("{} was not asked for; leave it out", name(measure)))?;
        if amount > most {
            let (given, most) = (measure.format(amount), measure.format(most));
            return Err(format!(
                "{given} {} is more than the {most} that was asked for; give at most that",
                name(measure)
            ));
        }
    }
    Ok(())
}
