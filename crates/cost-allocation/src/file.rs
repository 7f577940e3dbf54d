//! The file of rules: reads YAML, and refuses what it cannot read exactly, with line and field.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, NaiveDate};
use serde::Deserialize;
use usage_types::{Dimension, DimensionSet, Money, Scope};
use yaml_file::{FileError, Location, OneOrMore, Spanned, Text};

use crate::{Allocation, Every, FixedPart, Rule, Selector, Shared, Split};

/// The longest id, tag or provider, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// The largest stated part: with its six digits it is still far from what a weight holds.
const PART_MAX: u64 = 1_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    allocations: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: Text,
    from: Option<Text>,
    to: Option<Text>,
    every: Option<Text>,
    share: Spanned<RawShare>,
    /// One of these three.
    split: Option<Text>,
    tag: Option<Text>,
    fixed: Option<Spanned<Vec<RawPart>>>,
    among: Option<Spanned<RawSelector>>,
    by: Option<Spanned<OneOrMore>>,
    /// Why, for whoever reads the file.
    #[serde(rename = "note")]
    _note: Option<String>,
}

/// A receiver's dimensions and its `part`.
type RawPart = Spanned<BTreeMap<String, Text>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShare {
    fee: Option<Text>,
    #[serde(rename = "match")]
    matches: Option<BTreeMap<String, Spanned<OneOrMore>>>,
    without: Option<Spanned<OneOrMore>>,
    invoice: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSelector {
    #[serde(rename = "match")]
    matches: Option<BTreeMap<String, Spanned<OneOrMore>>>,
    without: Option<Spanned<OneOrMore>>,
}

pub(crate) fn read(text: &str) -> Result<Allocation, FileError> {
    let raw: RawFile = yaml_file::from_str(text)?;
    let mut rules = Vec::with_capacity(raw.allocations.len());
    let mut ids = BTreeSet::new();
    for (index, raw) in raw.allocations.iter().enumerate() {
        let path = format!("allocations[{index}]");
        let rule = rule(raw, &path)?;
        if !ids.insert(rule.id.clone()) {
            let message = format!("`{}` is the id of another rule already; reports tell rules apart by it", rule.id);
            return Err(FileError::at(raw.value.id.referenced, format!("{path}.id"), message));
        }
        rules.push(rule);
    }
    Ok(Allocation { rules })
}

fn rule(raw: &Spanned<RawRule>, path: &str) -> Result<Rule, FileError> {
    let field = |name: &str| format!("{path}.{name}");
    let value = &raw.value;
    let every = match value.every.as_ref().map(|text| (text.value.as_str(), text)) {
        None | Some(("month", _)) => Every::Month,
        Some(("day", _)) => Every::Day,
        Some((other, text)) => return wrong(text, field("every"), format!("`{other}` is neither month nor day")),
    };
    let from = value.from.as_ref().map(|text| begin(text, every, field("from"))).transpose()?;
    let to = value.to.as_ref().map(|text| begin(text, every, field("to"))).transpose()?;
    if let (Some(from), Some(to), Some(text)) = (from, to, &value.to)
        && to <= from
    {
        return wrong(text, field("to"), format!("`{}` is not after `from`", text.value));
    }
    let split = split(raw, path)?;
    let by = by(raw, &split, path)?;
    let share = share(&value.share, &field("share"))?;
    fits(value, every, &share, &split, by, path)?;
    let among = value
        .among
        .as_ref()
        .map(|raw| selector(raw.value.matches.as_ref(), raw.value.without.as_ref(), raw.referenced, &field("among")));
    let among = among.transpose()?.unwrap_or_default();
    Ok(Rule { id: name(&value.id, field("id"))?, from, to, every, share, split, among, by })
}

/// What does not go together.
fn fits(
    raw: &RawRule,
    every: Every,
    share: &Shared,
    split: &Split,
    by: DimensionSet,
    path: &str,
) -> Result<(), FileError> {
    let field = |name: &str| format!("{path}.{name}");
    let is_usage = matches!(share, Shared::Usage(_));
    if let Some(tag) = &raw.tag
        && (!is_usage || by.len() != 1)
    {
        let message = "a tag names one receiver of usage: share { match: … } or { without: … }, by one dimension";
        return wrong(tag, field("tag"), message);
    }
    if !is_usage && raw.from.is_none() {
        let message = "say from which date on it is paid, or it would be shared for all of the past";
        return wrong(&raw.id, field("from"), message);
    }
    if matches!(share, Shared::Invoice(_)) && every == Every::Day {
        return wrong(&raw.share, field("every"), "an invoice is of a month; leave it out");
    }
    if let (Some(among), Split::Fixed(_) | Split::Tag(_)) = (&raw.among, split) {
        return wrong(among, field("among"), "the receivers are named already; leave it out");
    }
    Ok(())
}

fn share(raw: &Spanned<RawShare>, path: &str) -> Result<Shared, FileError> {
    let RawShare { fee, matches, without, invoice } = &raw.value;
    match (fee, matches.is_some() || without.is_some(), invoice) {
        (Some(fee), false, None) => {
            let field = format!("{path}.fee");
            let money: Money = fee.value.parse().or_else(|why| wrong(fee, &field, format!("{why}")))?;
            if money.amount.0 <= 0 {
                return wrong(fee, field, format!("`{}` is not more than 0", fee.value));
            }
            Ok(Shared::Fee(money))
        }
        (None, true, None) => Ok(Shared::Usage(selector(matches.as_ref(), without.as_ref(), raw.referenced, path)?)),
        (None, false, Some(provider)) => Ok(Shared::Invoice(name(provider, format!("{path}.invoice"))?)),
        _ => wrong(raw, path, "name one: `fee`, usage by `match` and `without`, or `invoice`"),
    }
}

fn selector(
    matches: Option<&BTreeMap<String, Spanned<OneOrMore>>>,
    without: Option<&Spanned<OneOrMore>>,
    at: Location,
    path: &str,
) -> Result<Selector, FileError> {
    let mut selector = Selector::default();
    for (key, values) in matches.into_iter().flatten() {
        let field = format!("{path}.match.{key}");
        let dimension = key.parse().or_else(|why: String| wrong(values, &field, why))?;
        if values.value.0.is_empty() || values.value.0.iter().any(String::is_empty) {
            return wrong(values, field, "name one value at least, none of them empty");
        }
        selector.matches.push((dimension, values.value.0.clone()));
    }
    if let Some(without) = without {
        selector.without = dimensions(without, &format!("{path}.without"))?;
    }
    if selector.matches.is_empty() && selector.without.is_empty() {
        return Err(FileError::at(at, path, "it selects everything; name dimensions under `match` or `without`"));
    }
    Ok(selector)
}

fn split(raw: &Spanned<RawRule>, path: &str) -> Result<Split, FileError> {
    let field = |name: &str| format!("{path}.{name}");
    match (&raw.value.split, &raw.value.tag, &raw.value.fixed) {
        (Some(text), None, None) => match text.value.as_str() {
            "even" => Ok(Split::Even),
            "tokens" => Ok(Split::Tokens),
            "cost" => Ok(Split::Cost),
            other => wrong(text, field("split"), format!("`{other}` is none of even, tokens and cost")),
        },
        (None, Some(tag), None) => Ok(Split::Tag(name(tag, field("tag"))?)),
        (None, None, Some(parts)) => {
            let mut receivers = BTreeMap::new();
            for (index, part) in parts.value.iter().enumerate() {
                let path = format!("{path}.fixed[{index}]");
                let FixedPart { receiver, weight_ppm } = fixed(part, &path)?;
                if receivers.insert(receiver, weight_ppm).is_some() {
                    return wrong(part, path, "this receiver is named twice");
                }
            }
            if receivers.values().all(|weight| *weight == 0) {
                return wrong(parts, field("fixed"), "name a receiver with a part of more than 0");
            }
            let parts = receivers.into_iter().map(|(receiver, weight_ppm)| FixedPart { receiver, weight_ppm });
            Ok(Split::Fixed(parts.collect()))
        }
        _ => wrong(raw, path, "write one: `split: even`, `tokens` or `cost`; `tag: NAME`; `fixed:` with parts"),
    }
}

fn fixed(raw: &RawPart, path: &str) -> Result<FixedPart, FileError> {
    let Some(part) = raw.value.get("part") else {
        return wrong(raw, format!("{path}.part"), "it is missing; write a number like 60 or 12.5");
    };
    let Some(weight_ppm) = part_ppm(&part.value) else {
        let message =
            format!("`{}` is no number from 0 to {PART_MAX} with at most 6 digits after the point", part.value);
        return wrong(part, format!("{path}.part"), message);
    };
    let mut values = Vec::new();
    for (key, value) in raw.value.iter().filter(|(key, _)| *key != "part") {
        let field = format!("{path}.{key}");
        let dimension: Dimension = key.parse().or_else(|why: String| wrong(value, &field, why))?;
        values.push((dimension, name(value, field)?));
    }
    Ok(FixedPart { receiver: Scope::new(values), weight_ppm })
}

/// A decimal text in millionths.
fn part_ppm(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 6 || !is_plain(whole) || !is_plain(fraction) {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= PART_MAX)?;
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    Some(whole * 1_000_000 + fraction)
}

/// The receivers' dimensions: those that are stated, those of the fixed receivers, else the namespace.
fn by(raw: &Spanned<RawRule>, split: &Split, path: &str) -> Result<DimensionSet, FileError> {
    let stated = raw.value.by.as_ref().map(|by| dimensions(by, &format!("{path}.by"))).transpose()?;
    let Split::Fixed(parts) = split else {
        return Ok(stated.unwrap_or(DimensionSet::of(&[Dimension::Namespace])));
    };
    let by = stated.unwrap_or(parts[0].receiver.dimensions());
    if by.is_empty() || parts.iter().any(|part| part.receiver.dimensions() != by) {
        let message = "each receiver must name the same dimensions, those of `by` where that is written";
        return wrong(raw, format!("{path}.fixed"), message);
    }
    Ok(by)
}

fn dimensions(raw: &Spanned<OneOrMore>, field: &str) -> Result<DimensionSet, FileError> {
    let parsed = raw.value.0.iter().map(|name| name.parse::<Dimension>());
    let set: DimensionSet = parsed.collect::<Result<_, _>>().or_else(|why| wrong(raw, field, why))?;
    if set.is_empty() {
        return wrong(raw, field, "name one dimension at least");
    }
    Ok(set)
}

fn begin(text: &Text, every: Every, field: String) -> Result<NaiveDate, FileError> {
    let Ok(date) = NaiveDate::parse_from_str(&text.value, "%Y-%m-%d") else {
        return wrong(text, field, format!("`{}` is no date like 2026-11-01", text.value));
    };
    if every == Every::Month && date.day() != 1 {
        let message =
            format!("`{date}` is not the first of a month; costs of whole months are shared, or write `every: day`");
        return wrong(text, field, message);
    }
    Ok(date)
}

fn name(text: &Text, field: String) -> Result<String, FileError> {
    let name = text.value.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return wrong(text, field, format!("write a name of 1 to {NAME_BYTES_MAX} bytes"));
    }
    Ok(name.to_owned())
}

fn wrong<T, R>(at: &Spanned<T>, field: impl Into<String>, message: impl Into<String>) -> Result<R, FileError> {
    Err(FileError::at(at.referenced, field, message))
}
