//! CloudEvents whose data is their sender's own, as OpenMeter's users send them: read by the mapping that the site sets for their type.

use std::borrow::Cow;

use serde_json::value::RawValue;
use usage_types::{ComputeNs, Dimension, RejectCode, Rejection, TokenClass, UsageEvent};

use crate::Site;
use crate::config::{CloudEventMap, DataPath, DataSource, MappedMeasure};
use crate::field::{Fault, bounded};
use crate::foreign::{compute, count, find, label, money, number_text};
use crate::native::{Envelope, Given, blank, fill, finish};
use crate::provider_usage;

/// A broken rule and the path of the field that breaks it.
type Broken = (String, Fault);

/// Reads a mapped event. The data is valid JSON, or `null` where there is none; its path in the whole is `parent`.
pub(crate) fn decode<'a>(
    map: &CloudEventMap,
    data: &'a RawValue,
    subject: Option<Cow<'a, str>>,
    envelope: Envelope<'a>,
    site: &Site<'_>,
    parent: &str,
) -> Result<UsageEvent<'a>, Rejection> {
    site.is_mapped.set(true);
    let time = envelope.time.or(site.received_at);
    let mut event = blank(Some(envelope.id), envelope.source);
    let requests = read(map, data, subject, &mut event).map_err(|(field, (code, message))| {
        let path = [parent, &field].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
        Rejection { code, field: (!path.is_empty()).then_some(path), message: bounded(message) }
    })?;
    fill(&mut event.dimensions, site.named);
    match finish(&mut event, Given { time, requests, ..Given::default() }) {
        Ok(()) => Ok(event),
        Err((field, (code, message))) => {
            let field = (!field.is_empty()).then(|| field.into_owned());
            let message = format!("{message} (the event's type is mapped by the configuration)");
            Err(Rejection { code, field, message })
        }
    }
}

/// Reads what the mapping names into the event; the requests, where they are mapped.
fn read<'a>(
    map: &CloudEventMap,
    data: &'a RawValue,
    subject: Option<Cow<'a, str>>,
    event: &mut UsageEvent<'a>,
) -> Result<Option<u64>, Broken> {
    let json = data.get();
    for (dimension, source) in &map.dimensions {
        event.dimensions.set(*dimension, text(json, source)?);
    }
    if let Some(dimension) = map.subject.filter(|dimension| event.dimensions.get(*dimension).is_none()) {
        event.dimensions.set(dimension, subject);
    }
    for (name, source) in &map.tags {
        if let Some(value) = text(json, source)? {
            event.tags.insert(Cow::Owned(name.clone()), value);
        }
    }
    let mut requests = None;
    for (measure, source) in &map.measures {
        let Some((value, path)) = value(json, source) else { continue };
        let refuse = |fault| (path, fault);
        match measure {
            MappedMeasure::Tokens(class) => *event.tokens.get_mut(*class) = count(&value).map_err(refuse)?,
            MappedMeasure::Requests => requests = Some(count(&value).map_err(refuse)?),
            MappedMeasure::ToolCalls => event.tool_calls = count(&value).map_err(refuse)?,
            MappedMeasure::Images => event.images = count(&value).map_err(refuse)?,
            MappedMeasure::ComputeSeconds => event.compute = compute(&value, ComputeNs::DIGITS).map_err(refuse)?,
            MappedMeasure::ComputeMilliseconds => {
                event.compute = compute(&value, ComputeNs::DIGITS - 3).map_err(refuse)?;
            }
        }
    }
    exclude(map, event)?;
    if let Some(path) = &map.usage {
        usage(map, json, path, event)?;
    }
    if let Some(cost) = &map.cost
        && let Some(amount) = find(json, &cost.amount.0)
    {
        let refuse = |fault| (dotted(&cost.amount), fault);
        let pico = money(amount).map_err(refuse)?;
        match &cost.as_tag {
            None => event.cost = Some((pico, cost.currency)),
            Some(tag) => {
                let text = number_text(amount).map_err(refuse)?;
                event.tags.insert(Cow::Owned(tag.clone()), text);
            }
        }
    }
    Ok(requests)
}

/// Takes out of the input and the output what they contain of the other classes.
fn exclude(map: &CloudEventMap, event: &mut UsageEvent<'_>) -> Result<(), Broken> {
    let cached = [TokenClass::CacheRead, TokenClass::CacheWrite5m, TokenClass::CacheWrite1h];
    let containers: [(bool, TokenClass, &[TokenClass]); 2] = [
        (map.includes_cache, TokenClass::Input, &cached),
        (map.includes_reasoning, TokenClass::Output, &[TokenClass::Reasoning]),
    ];
    for (_, whole, parts) in containers.into_iter().filter(|(is_set, ..)| *is_set) {
        let contained: u64 = parts.iter().map(|class| event.tokens.get(*class)).sum();
        let rest = event.tokens.get(whole).checked_sub(contained).ok_or_else(|| {
            let source = map.measures.iter().find(|(measure, _)| *measure == MappedMeasure::Tokens(whole));
            let path = match source {
                Some((_, DataSource::Path(path))) => dotted(path),
                _ => String::new(),
            };
            let message = format!(
                "{contained} tokens cannot be contained in {} {}; see the mapping's `includes_…`",
                event.tokens.get(whole),
                whole.name()
            );
            (path, (RejectCode::OutOfRange, message))
        })?;
        *event.tokens.get_mut(whole) = rest;
    }
    Ok(())
}

/// Counts a provider's usage object. Data that is one only at times (`$`) counts no tokens at the others.
fn usage<'a>(map: &CloudEventMap, json: &'a str, path: &DataPath, event: &mut UsageEvent<'a>) -> Result<(), Broken> {
    let Some(usage) = find(json, &path.0) else { return Ok(()) };
    let provider = event.dimensions.get(Dimension::Provider);
    let usage = match provider_usage::normalise(usage, map.usage_format, provider) {
        Ok(usage) => usage,
        Err((_, (RejectCode::UnsupportedFormat, _))) if path.0.is_empty() => return Ok(()),
        Err((field, fault)) => {
            let path = [dotted(path), field].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            return Err((path, fault));
        }
    };
    event.tokens = usage.tokens;
    if event.tool_calls == 0 {
        event.tool_calls = usage.tool_calls;
    }
    if event.dimensions.get(Dimension::ServiceTier).is_none() {
        event.dimensions.set(Dimension::ServiceTier, usage.service_tier);
    }
    Ok(())
}

fn dotted(path: &DataPath) -> String {
    path.0.join(".")
}

/// The JSON of a value and its path; a constant's is its text.
fn value<'a>(json: &'a str, source: &DataSource) -> Option<(Cow<'a, str>, String)> {
    match source {
        DataSource::Value(text) => Some((Cow::Owned(text.clone()), String::new())),
        DataSource::Path(path) => find(json, &path.0).map(|found| (Cow::Borrowed(found), dotted(path))),
    }
}

fn text<'a>(json: &'a str, source: &DataSource) -> Result<Option<Cow<'a, str>>, Broken> {
    match source {
        DataSource::Value(text) => Ok(Some(Cow::Owned(text.clone()))),
        DataSource::Path(path) => match find(json, &path.0) {
            None => Ok(None),
            Some(found) => label(found).map_err(|fault| (dotted(path), fault)),
        },
    }
}
