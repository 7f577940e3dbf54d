//! The rules that concern a native event as a whole: what must be there, what the event is in the books, and which members do not go
//! together.

use std::borrow::Cow;

use serde_json::value::RawValue;
use usage_types::{ComputeNs, Dimension, Dimensions, Pico, Progress, RejectCode, Role, TimeUs, UsageEvent};

use crate::field::{Fault, negative};
use crate::provider_usage::{self, Format};

/// A broken rule and the path of the field that breaks it; empty where no one field is meant.
pub(crate) type Broken = (Cow<'static, str>, Fault);

/// What a `correction` does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Correction {
    Amend,
    Void,
}

/// What was read beside the event, whose meaning only the whole shows.
#[derive(Default)]
pub(crate) struct Given<'a> {
    pub(crate) time: Option<TimeUs>,
    pub(crate) requests: Option<u64>,
    pub(crate) has_tokens: bool,
    pub(crate) usage: Option<&'a RawValue>,
    pub(crate) usage_format: Option<Format>,
    pub(crate) corrects: Option<Cow<'a, str>>,
    pub(crate) correction: Option<Correction>,
    pub(crate) adjusts: Option<Cow<'a, str>>,
    pub(crate) backfill: bool,
    pub(crate) processed: Option<u64>,
    pub(crate) total: Option<u64>,
}

/// Completes the event, which is [`Role::Usage`] until another role is found.
pub(crate) fn finish<'a>(event: &mut UsageEvent<'a>, given: Given<'a>) -> Result<(), Broken> {
    let Some(time) = given.time else {
        let message = "`time` is missing; send when the usage happened, like \"2026-11-21T10:00:00.123Z\"";
        return Err(missing("time", message));
    };
    if event.dimensions.get(Dimension::Namespace).is_none_or(|namespace| namespace.trim().is_empty()) {
        return Err(missing("namespace", "`namespace` is missing; name the tenant that pays, like \"support\""));
    }
    event.time = time;
    event.progress = progress(given.processed, given.total)?;
    let requests = given.requests;
    if let Some(usage) = given.usage {
        count_usage(event, usage, &given)?;
    }
    if given.corrects.is_some() || given.correction.is_some() || given.adjusts.is_some() || given.backfill {
        event.role = role(given)?;
    }
    match &event.role {
        Role::Usage | Role::Backfill => {}
        Role::Amends(id) => check_corrected(id, event)?,
        Role::Voids(id) => {
            check_corrected(id, event)?;
            check_no_progress(event, "an event that voids another")?;
            return check_unused(event, requests, event.cost.is_some(), "an event that voids another");
        }
        Role::Adjusts(_) => {
            check_no_progress(event, "an event that adjusts a cost")?;
            check_unused(event, requests, false, "an event that adjusts a cost")?;
            return check_adjustment(event);
        }
    }
    check_used(event, requests)?;
    let by_a_model = event.tokens.total() > 0
        || [Dimension::Model, Dimension::Provider].into_iter().any(|d| event.dimensions.get(d).is_some());
    event.requests = requests.unwrap_or(u64::from(by_a_model));
    Ok(())
}

/// Names the dimensions that the event itself does not.
pub(crate) fn fill(dimensions: &mut Dimensions<'_>, named: &[(Dimension, &str)]) {
    for (dimension, value) in named {
        if dimensions.get(*dimension).is_none() {
            dimensions.set(*dimension, Some(Cow::Owned((*value).to_owned())));
        }
    }
}

fn missing(field: &'static str, message: &str) -> Broken {
    (field.into(), (RejectCode::MissingField, message.to_owned()))
}

fn contradiction(field: &'static str, message: impl Into<String>) -> Broken {
    (field.into(), (RejectCode::OutOfRange, message.into()))
}

/// How far the event's job has come.
fn progress(processed: Option<u64>, total: Option<u64>) -> Result<Option<Progress>, Broken> {
    match (processed, total) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(missing("processed", "`total` says of how many, but `processed` is missing; send how many are done"))
        }
        (Some(processed), Some(total)) if processed > total => Err(contradiction(
            "processed",
            format!("{processed} of {total} records are more than there are; send both as of now"),
        )),
        (Some(processed), total) => Ok(Some(Progress { processed, total })),
    }
}

fn check_no_progress(event: &UsageEvent<'_>, what: &str) -> Result<(), Broken> {
    match event.progress {
        None => Ok(()),
        Some(_) => Err(contradiction("processed", format!("{what} has no `processed`; leave it out"))),
    }
}

/// Counts what the provider's own object tells. What the event tells itself goes first.
fn count_usage<'a>(event: &mut UsageEvent<'a>, usage: &'a RawValue, given: &Given<'_>) -> Result<(), Broken> {
    if given.has_tokens {
        return Err(contradiction("usage", "`tokens` and `usage` are both there; send one of them"));
    }
    if given.adjusts.is_some() || given.correction == Some(Correction::Void) {
        return Err(contradiction(
            "usage",
            "an event that voids another or adjusts a cost has no `usage`; leave it out",
        ));
    }
    let provider = event.dimensions.get(Dimension::Provider);
    let usage = provider_usage::normalise(usage.get(), given.usage_format, provider).map_err(|(field, fault)| {
        let path = if field.is_empty() { "usage".into() } else { format!("usage.{field}").into() };
        (path, fault)
    })?;
    event.tokens = usage.tokens;
    if event.tool_calls == 0 {
        event.tool_calls = usage.tool_calls;
    }
    if event.dimensions.get(Dimension::ServiceTier).is_none() {
        event.dimensions.set(Dimension::ServiceTier, usage.service_tier);
    }
    Ok(())
}

/// What the event is in the books: one thing only.
fn role(given: Given<'_>) -> Result<Role<'_>, Broken> {
    if given.correction.is_some() && given.corrects.is_none() {
        return Err(missing(
            "corrects",
            "`correction` says how, but `corrects` is missing; name the corrected event's id",
        ));
    }
    match (given.corrects, given.adjusts, given.backfill) {
        (None, None, false) => Ok(Role::Usage),
        (None, None, true) => Ok(Role::Backfill),
        (Some(id), None, false) if given.correction == Some(Correction::Void) => Ok(Role::Voids(id)),
        (Some(id), None, false) => Ok(Role::Amends(id)),
        (None, Some(run), false) => Ok(Role::Adjusts(run)),
        (Some(_), Some(_), _) => {
            Err(contradiction("adjusts", "an event either `corrects` or `adjusts`; send two events"))
        }
        (_, _, true) => {
            let message = "an event that corrects or adjusts is never too late; leave `backfill` out";
            Err(contradiction("backfill", message))
        }
    }
}

/// A correction under the id of what it corrects would be a duplicate of that.
fn check_corrected(id: &str, event: &UsageEvent<'_>) -> Result<(), Broken> {
    if id.is_empty() {
        return Err(contradiction("corrects", "`corrects` is empty; name the id of the event that is corrected"));
    }
    if event.id.as_deref() == Some(id) {
        return Err(contradiction("corrects", "the event corrects itself; give the correction an id of its own"));
    }
    Ok(())
}

fn check_used(event: &UsageEvent<'_>, requests: Option<u64>) -> Result<(), Broken> {
    let cost = event.cost.map_or(Pico(0), |(amount, _)| amount);
    if cost < Pico(0) {
        return Err(("cost.amount".into(), negative(&cost)));
    }
    if event.tokens.total() > 0 || cost > Pico(0) || first_used(event, requests).is_some() {
        return Ok(());
    }
    let message =
        "nothing was used; send `tokens`, `requests`, `tool_calls`, `images`, `compute_seconds` or `cost` above zero";
    Err(("".into(), (RejectCode::NoMeasure, message.to_owned())))
}

/// The first measure other than a cost that is above zero.
fn first_used(event: &UsageEvent<'_>, requests: Option<u64>) -> Option<&'static str> {
    [
        (event.tokens.total() > 0, "tokens"),
        (requests.unwrap_or(0) > 0, "requests"),
        (event.tool_calls > 0, "tool_calls"),
        (event.images > 0, "images"),
        (event.compute > ComputeNs(0), "compute_seconds"),
    ]
    .into_iter()
    .find_map(|(is_used, name)| is_used.then_some(name))
}

fn check_unused(event: &UsageEvent<'_>, requests: Option<u64>, has_cost: bool, what: &str) -> Result<(), Broken> {
    match first_used(event, requests).or(has_cost.then_some("cost")) {
        None => Ok(()),
        Some(measure) => Err(contradiction(measure, format!("{what} has no `{measure}`; leave it out"))),
    }
}

fn check_adjustment(event: &UsageEvent<'_>) -> Result<(), Broken> {
    if matches!(&event.role, Role::Adjusts(run) if run.is_empty()) {
        return Err(contradiction("adjusts", "`adjusts` is empty; name the run on whose behalf the cost changes"));
    }
    match event.cost {
        None => Err(missing("cost", "`cost` is missing; an event that adjusts says by how much, like \"-0.0123\"")),
        Some((Pico(0), _)) => {
            let message = "the cost is adjusted by nothing; send no event, or a `cost.amount` other than zero";
            Err(("".into(), (RejectCode::NoMeasure, message.to_owned())))
        }
        Some(_) => Ok(()),
    }
}
