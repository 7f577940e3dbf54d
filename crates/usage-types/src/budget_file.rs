//! The budgets file: YAML as people write it, read into a [`BudgetSet`] or refused as a whole with line, column and field.
//!
//! Refused as a whole, because half a policy is worse than the old one. Numbers are taken as the text that was written, so that 0.8
//! is 800,000 parts per million and no float is between. Deliberately absent: reading the file and noticing that it changed.

mod breaker;
mod field;
mod increase;
mod limit;
mod mode;
mod overage;
mod predict;
mod preset;
mod priority;
mod promise;
mod special;
mod tree;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use crate::budget_file::breaker::breaker;
use crate::budget_file::field::{Field, Members, nearest};
use crate::budget_file::limit::limits;
use crate::budget_file::mode::mode;
use crate::budget_file::overage::Overage;
use crate::budget_file::predict::predict;
use crate::budget_file::preset::Presets;
use crate::budget_file::priority::{pressure, priority};
use crate::budget_file::promise::Promise;
use crate::budget_file::special::special;
use crate::budget_file::window::window;
use crate::{
    AlertRule, Budget, BudgetError, BudgetId, BudgetSet, Dimension, DimensionSet, Limits, Pico, Ppm, Priority, Scope,
    SpecialLimit, SpecialLimits, UsageEvent,
};

/// The largest file, in bytes: 1 MiB, some 5,000 budgets.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The longest id, in bytes.
const ID_BYTES_MAX: usize = 128;
/// The largest threshold: ten times the limit.
const THRESHOLD_MAX: i128 = 10 * Pico::ONE.0;
/// The most thresholds of one budget: each is a mail.
const THRESHOLDS_MAX: usize = 20;
/// The most addresses of one budget.
const ADDRESSES_MAX: usize = 100;
/// The longest mail address, in bytes. Source: RFC 5321, 4.5.3.1.3, less the angle brackets.
const ADDRESS_BYTES_MAX: usize = 254;

impl BudgetSet {
    /// Reads a budgets file. One that is empty, or whose list is, holds no budgets.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, column and field. Nothing of the file is to be used then.
    pub fn from_yaml(text: &str) -> Result<Self, BudgetError> {
        bytes_within(text, FILE_BYTES_MAX)?;
        Self::parse(text)
    }

    /// Reads what [`BudgetSet::canonical`] wrote: defaults that are written out may make it longer than a file of people.
    ///
    /// # Errors
    /// As [`BudgetSet::from_yaml`].
    pub fn from_canonical(text: &str) -> Result<Self, BudgetError> {
        bytes_within(text, Self::CANONICAL_BYTES_MAX)?;
        Self::parse(text)
    }

    fn parse(text: &str) -> Result<Self, BudgetError> {
        let Some(root) = tree::parse(text)? else { return Ok(Self::default()) };
        let built_in = tree::parse(preset::BUILT_IN)?;
        let mut promises = Vec::new();
        let set = budgets(&root, built_in.as_deref(), &mut promises)?;
        promise::check(&promises)?;
        Ok(set)
    }

    /// The set with this budget or breaker, as one element of a file's list, in the place of what has the same id, if there is something; and its id.
    /// What has `trip` is a breaker.
    ///
    /// # Errors
    /// What is wrong with it, or between it and the others: then without a line.
    pub fn with_budget(&self, text: &str) -> Result<(BudgetId, Self), BudgetError> {
        bytes_within(text, FILE_BYTES_MAX)?;
        let root = tree::parse(text)?.ok_or_else(|| whole("it is empty; write a budget, starting with its `id`"))?;
        let field = Field { node: &root, path: String::new() };
        if field.any_members("a budget, starting with its `id`")?.get("trip").is_some() {
            let (_, new) = breaker(&field)?;
            let mut set = self.without(&new.id);
            set.breakers.insert(Arc::clone(&new.id), Arc::clone(&new));
            return Ok((Arc::clone(&new.id), set));
        }
        let built_in = tree::parse(preset::BUILT_IN)?;
        let mut promises = Vec::new();
        let presets = Presets::of(None, built_in.as_deref())?;
        let (_, new) = budget(&field, &presets, &mut promises)?;
        let mut set = self.without(&new.id);
        let others = tree::parse(&set.canonical())?;
        if let Some(others) = &others {
            budgets(others, None, &mut promises)?;
        }
        promise::check(&promises).map_err(|error| match error.field.starts_with("budgets[") {
            // It stands in no text that anybody has written.
            true => whole(error.message),
            false => error,
        })?;
        set.budgets.insert(Arc::clone(&new.id), Arc::clone(&new));
        Ok((Arc::clone(&new.id), set))
    }

    /// The set without the budget or breaker of this id.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        let mut set = self.clone();
        set.budgets.remove(id);
        set.breakers.remove(id);
        set
    }
}

fn whole(message: impl Into<String>) -> BudgetError {
    BudgetError { line: 0, column: 0, field: String::new(), message: message.into() }
}

fn bytes_within(text: &str, max: usize) -> Result<(), BudgetError> {
    if text.len() > max {
        return Err(whole(format!("{} bytes are more than the {max} of a budgets file", text.len())));
    }
    Ok(())
}

/// All budgets of a file. What they promise is added to the list.
fn budgets<'n>(
    root: &'n tree::Node,
    built_in: Option<&'n tree::Node>,
    promises: &mut Vec<Promise<'n>>,
) -> Result<BudgetSet, BudgetError> {
    let mut set = BudgetSet::default();
    let file = Field { node: root, path: String::new() }
        .members(&["presets", "budgets", "breakers"], "`budgets:` and a list")?;
    let presets = Presets::of(file.get("presets"), built_in)?;
    let mut lines = HashMap::new();
    let mut take = |field: &Field<'_>, id: &BudgetId| match lines.insert(Arc::clone(id), field.node.place.line()) {
        Some(first) => Err(field.error(format!("the id `{id}` is already used in line {first}; choose another"))),
        None => Ok(()),
    };
    for field in listed(&file, "budgets", "a list of budgets, each starting with `- id: NAME`")? {
        let (id, budget) = budget(&field, &presets, promises)?;
        take(&id, &budget.id)?;
        set.budgets.insert(Arc::clone(&budget.id), budget);
    }
    for field in listed(&file, "breakers", "a list of breakers, each starting with `- id: NAME`")? {
        let (id, breaker) = breaker(&field)?;
        take(&id, &breaker.id)?;
        set.breakers.insert(Arc::clone(&breaker.id), breaker);
    }
    Ok(set)
}

/// The fields of a budget.
const BUDGET: [&str; 19] = [
    "id",
    "match",
    "per",
    "window",
    "limit",
    "limits",
    "overrides",
    "plans",
    "overcommit",
    "mode",
    "canary",
    "rollback",
    "overage",
    "preset",
    "predict",
    "priority",
    "pressure",
    "alerts",
    "http_status",
];

/// One budget, and the field of its id. What it promises is added to the list.
fn budget<'n>(
    field: &Field<'n>,
    presets: &Presets<'n>,
    promises: &mut Vec<Promise<'n>>,
) -> Result<(Field<'n>, Arc<Budget>), BudgetError> {
    let members = presets.fill(field.members(&BUDGET, "`id`, `window` and `limit`")?)?;
    let id = members.required("id", "a name of its own, like `id: support-daily`")?;
    let matches = members.get("match").map_or(Ok(Scope::default()), |field| scope(&field))?;
    let per = members.get("per").map_or(Ok(DimensionSet::default()), |field| dimensions(&field, &matches))?;
    let dims: DimensionSet = matches.iter().map(|(dim, _)| dim).chain(per.iter()).collect();
    let field = members.required("window", "it like `window: { every: day, zone: Europe/Berlin }`")?;
    let window = window(&field, dims)?;
    let mut limits = limits(&members)?;
    let (places, mut special): (Vec<Field<'n>>, Vec<SpecialLimit>) =
        special(&members, &matches, per)?.into_iter().unzip();
    if let Some(field) = members.get("overage") {
        let overage = Overage::read(&field)?;
        overage.check(&field, [&limits].into_iter().chain(special.iter().map(|entry| &entry.limits)))?;
        limits = overage.on(&limits);
        special.iter_mut().for_each(|entry| entry.limits = overage.on(&entry.limits));
    }
    let (mode, rollback) = mode(&members, per)?;
    let budget = Arc::new(Budget {
        id: budget_id(&id)?,
        matches,
        per,
        window,
        limits,
        special: SpecialLimits::new(special),
        overcommit: members.get("overcommit").map_or(Ok(false), |field| yes_or_no(&field))?,
        mode,
        rollback,
        predict: members.get("predict").map(|field| predict(&field, Some(window))).transpose()?,
        priority: members.get("priority").map_or(Ok(Priority::default()), |field| priority(&field))?,
        pressure: members.get("pressure").map(|field| pressure(&field, window)).transpose()?,
        alerts: members.get("alerts").map_or(Ok(AlertRule::default()), |field| alerts(&field))?,
        http_status: members.get("http_status").map_or(Ok(window.default_status()), |field| status(&field))?,
    });
    let promise = |field: Field<'n>, values: &Scope, limits: &Limits| Promise {
        field,
        budget: Arc::clone(&budget),
        dims: budget.scope_dimensions(),
        scope: Scope::new(budget.matches.iter().chain(values.iter())),
        limits: limits.clone(),
    };
    let own = members.get("limits").or_else(|| members.get("limit"));
    promises.extend(own.map(|field| promise(field, &Scope::default(), &budget.limits)));
    for (place, entry) in places.iter().zip(budget.special.entries()) {
        let place = |values| promise(Field { node: place.node, path: place.path.clone() }, values, &entry.limits);
        promises.extend(entry.values.iter().map(place));
    }
    Ok((id, budget))
}

fn listed<'n>(file: &Members<'n>, name: &str, like: &str) -> Result<Vec<Field<'n>>, BudgetError> {
    file.get(name).map_or(Ok(Vec::new()), |list| list.list(like))
}

fn yes_or_no(field: &Field<'_>) -> Result<bool, BudgetError> {
    match field.text("true or false")? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(field.error(format!("{other:?} is neither; write true or false"))),
    }
}

fn budget_id(field: &Field<'_>) -> Result<BudgetId, BudgetError> {
    let text = field.text("a name like support-daily")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > ID_BYTES_MAX || !text.bytes().all(is_plain) {
        let message =
            format!("{text:?} is no id; use letters, digits, `-`, `_` and `.`, at most {ID_BYTES_MAX} of them");
        return Err(field.error(message));
    }
    Ok(text.into())
}

fn scope(field: &Field<'_>) -> Result<Scope, BudgetError> {
    let names = Dimension::ALL.map(Dimension::name);
    let members = field.members(&names, "it like `match: { namespace: support }`")?;
    let mut values = Vec::new();
    for (name, field) in members.iter() {
        values.push((dimension(name, &field)?, value(&field)?));
    }
    Ok(Scope::new(values))
}

/// A value that events can have.
fn value<'n>(field: &Field<'n>) -> Result<&'n str, BudgetError> {
    let value = field.text("one value; for several write a budget for each")?;
    if value.is_empty() || value.len() > UsageEvent::TEXT_BYTES_MAX || value.chars().any(char::is_control) {
        let max = UsageEvent::TEXT_BYTES_MAX;
        return Err(field.error(format!("no event has this value; write 1 to {max} bytes without control characters")));
    }
    Ok(value)
}

fn dimension(name: &str, field: &Field<'_>) -> Result<Dimension, BudgetError> {
    name.parse().map_err(|message: String| {
        let near = nearest(name, Dimension::ALL.map(Dimension::name).into_iter());
        field.error(near.map_or(message, |near| format!("{name:?} is no dimension; did you mean `{near}`?")))
    })
}

fn dimensions(field: &Field<'_>, matches: &Scope) -> Result<DimensionSet, BudgetError> {
    let mut set = DimensionSet::default();
    for field in field.list("a list of dimensions, like `per: [user]`")? {
        let name = field.text("a dimension, like user")?;
        let dimension = dimension(name, &field)?;
        if matches.get(dimension).is_some() {
            return Err(
                field.error(format!("`{dimension}` is fixed by `match` already; take it out of one of the two"))
            );
        }
        if set.contains(dimension) {
            return Err(field.error(format!("`{dimension}` is there twice; keep one of them")));
        }
        set.insert(dimension);
    }
    Ok(set)
}

fn alerts(field: &Field<'_>) -> Result<AlertRule, BudgetError> {
    let members = field.members(&["at", "to"], "it like `alerts: { at: [0.8, 1.0], to: [lead@example.com] }`")?;
    let mut rule = AlertRule::default();
    if let Some(field) = members.get("at") {
        let fields = bounded(&field, "a list of fractions, like [0.8, 1.0]", THRESHOLDS_MAX)?;
        rule.at = fields.iter().map(threshold).collect::<Result<_, _>>()?;
        rule.at.sort_unstable();
        rule.at.dedup();
    }
    if let Some(field) = members.get("to") {
        let fields = bounded(&field, "a list of mail addresses, like [lead@example.com]", ADDRESSES_MAX)?;
        rule.to = fields.iter().map(address).collect::<Result<_, _>>()?;
    }
    Ok(rule)
}

fn bounded<'n>(field: &Field<'n>, like: &str, max: usize) -> Result<Vec<Field<'n>>, BudgetError> {
    let fields = field.list(like)?;
    match fields.get(max) {
        Some(extra) => Err(extra.error(format!("there are more than {max}; keep fewer"))),
        None => Ok(fields),
    }
}

fn threshold(field: &Field<'_>) -> Result<Ppm, BudgetError> {
    let text = field.text("a fraction of the limit, like 0.8")?;
    let share: Pico = text.parse().map_err(|_| {
        field.error(format!(
            "{text:?} is no fraction of the limit; write 0.8 for 80 %, with at most six digits after the point"
        ))
    })?;
    if share.0 <= 0 || share.0 > THRESHOLD_MAX {
        return Err(field.error(format!("{text} is not above 0 and up to 10; write 0.8 for 80 % of the limit")));
    }
    let per_million = Pico::ONE.0 / i128::from(Ppm::ONE.0);
    match u32::try_from(share.0 / per_million) {
        Ok(ppm) if share.0 % per_million == 0 => Ok(Ppm(ppm)),
        _ => Err(field.error(format!("{text} has more than six digits after the point; round it"))),
    }
}

/// A look that catches slips of the pen; whether the address exists only a mail to it can tell.
fn address(field: &Field<'_>) -> Result<String, BudgetError> {
    let text = field.text("a mail address, like lead@example.com")?;
    let is_wrong = |c: char| c.is_control() || c.is_whitespace() || "<>(),;:\\\"[]".contains(c);
    let is_address = text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !domain.contains('@')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
    });
    if !is_address || text.contains(is_wrong) || text.len() > ADDRESS_BYTES_MAX {
        return Err(field.error(format!("{text:?} is no mail address; write it like lead@example.com, without a name")));
    }
    Ok(text.to_owned())
}

fn status(field: &Field<'_>) -> Result<u16, BudgetError> {
    match field.text("403 or 429")? {
        "403" => Ok(403),
        "429" => Ok(429),
        other => Err(field.error(format!("{other:?} is no status of a block; use 403 or 429"))),
    }
}
