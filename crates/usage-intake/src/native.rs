//! The native event: the contract's own JSON, read in one pass without an intermediate tree.
//!
//! Required are `time`, `namespace` and one measure that is not zero. Everything else may be left out or `null`, and members
//! that this version does not know are skipped, so that a newer sender is not refused. A token class that is not known is
//! refused: its tokens would be lost in silence.
//!
//! `requests` left out means one where the event tells of a model at work (it names tokens, a model or a provider), else none:
//! a tool call or a second of compute by itself is no request to a model, nor is an event that voids another or adjusts a cost.
//!
//! In the place of `tokens` an event may have `usage`: the provider's own object, see [`crate::provider_usage`].
//!
//! What an event is in the books is said by one of three members: `corrects` (an id, with `correction` `amend` or `void`), `backfill`
//! or `adjusts` (a run). Two of them together are refused, and so is a measure that the role has no use for.

mod member;
mod values;
mod whole;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use usage_types::{ComputeNs, Dimension, Dimensions, RejectCode, Rejection, Role, TimeUs, Tokens, UsageEvent};

use crate::field::{Context, Count, Text, Time, given_twice};
pub(crate) use member::Member;
use values::{CostOf, TagsOf, TokensOf, compute, correction, usage_format};
pub(crate) use whole::{Given, fill, finish};

/// What an envelope says in the event's place. What it names goes before the event's own members, which are then not even read.
#[derive(Default)]
pub(crate) struct Envelope<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) source: Cow<'a, str>,
    pub(crate) time: Option<TimeUs>,
}

/// Reads a native event, or the data of an envelope; `named` are dimensions that it may lack. An event that has a `specversion` is
/// refused as soon as that is met: the caller has a reader for CloudEvents.
pub(crate) fn decode<'a>(
    text: &'a str,
    envelope: Option<Envelope<'a>>,
    named: &[(Dimension, &str)],
) -> Result<UsageEvent<'a>, Rejection> {
    let context = Context::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(Event { context: &context, envelope, named });
    read.and_then(|event| json.end().map(|()| event)).map_err(|error| context.conclude(&error))
}

struct Event<'c, 'a> {
    context: &'c Context,
    envelope: Option<Envelope<'a>>,
    named: &'c [(Dimension, &'c str)],
}

impl<'de> Visitor<'de> for Event<'_, 'de> {
    type Value = UsageEvent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one usage event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UsageEvent<'de>, A::Error> {
        let context = self.context;
        let is_data = self.envelope.is_some();
        let time = self.envelope.as_ref().and_then(|envelope| envelope.time);
        let time_is_given = time.is_some();
        let (id, source) = self.envelope.map_or_else(Default::default, |envelope| (Some(envelope.id), envelope.source));
        let mut event = blank(id, source);
        let mut given = Given { time, ..Given::default() };
        let mut seen = 0;
        while let Some(member) = map.next_key::<Member>()? {
            context.at(member.name());
            if seen & member.bit() != 0 && !matches!(member, Member::Other) {
                return Err(context.refuse(given_twice(member.name())));
            }
            seen |= member.bit();
            match member {
                Member::Id | Member::Source if is_data => drop(map.next_value::<IgnoredAny>()?),
                Member::Time if time_is_given => drop(map.next_value::<IgnoredAny>()?),
                Member::SpecVersion if !is_data => {
                    return Err(context.refuse((RejectCode::UnknownField, String::new())));
                }
                Member::SpecVersion | Member::Other => drop(map.next_value::<IgnoredAny>()?),
                Member::Dimension(dimension) => event.dimensions.set(dimension, map.next_value_seed(Text(context))?),
                Member::Id => event.id = map.next_value_seed(Text(context))?.filter(|id| !id.is_empty()),
                Member::Source => event.source = map.next_value_seed(Text(context))?.unwrap_or_default(),
                Member::Time => given.time = map.next_value_seed(Time(context))?,
                Member::Tokens => {
                    let tokens = map.next_value_seed(TokensOf(context))?;
                    (event.tokens, given.has_tokens) = (tokens.unwrap_or_default(), tokens.is_some());
                }
                Member::Usage => given.usage = map.next_value()?,
                Member::UsageFormat => {
                    let text = map.next_value_seed(Text(context))?;
                    given.usage_format = usage_format(text).map_err(|fault| context.refuse(fault))?;
                }
                Member::Requests => given.requests = map.next_value_seed(Count(context))?,
                Member::ToolCalls => event.tool_calls = map.next_value_seed(Count(context))?.unwrap_or(0),
                Member::Images => event.images = map.next_value_seed(Count(context))?.unwrap_or(0),
                Member::ComputeSeconds => {
                    let json = map.next_value::<Option<&'de RawValue>>()?;
                    event.compute = json.map_or(Ok(ComputeNs(0)), compute).map_err(|fault| context.refuse(fault))?;
                }
                Member::Cost => event.cost = map.next_value_seed(CostOf(context))?,
                Member::Tags => event.tags = map.next_value_seed(TagsOf(context))?,
                Member::Corrects => given.corrects = map.next_value_seed(Text(context))?,
                Member::Correction => {
                    let text = map.next_value_seed(Text(context))?;
                    given.correction = correction(text).map_err(|fault| context.refuse(fault))?;
                }
                Member::Backfill => given.backfill = map.next_value::<Option<bool>>()?.unwrap_or(false),
                Member::Adjusts => given.adjusts = map.next_value_seed(Text(context))?,
                Member::Processed => given.processed = map.next_value_seed(Count(context))?,
                Member::Total => given.total = map.next_value_seed(Count(context))?,
            }
        }
        fill(&mut event.dimensions, self.named);
        match finish(&mut event, given) {
            Ok(()) => Ok(event),
            Err((field, fault)) => Err(context.refuse_at(field.into_owned(), fault)),
        }
    }
}

/// An event that has used nothing yet: every reader fills it in and ends with [`finish`].
pub(crate) fn blank<'a>(id: Option<Cow<'a, str>>, source: Cow<'a, str>) -> UsageEvent<'a> {
    UsageEvent {
        id,
        source,
        time: TimeUs(0),
        dimensions: Dimensions::default(),
        tokens: Tokens::default(),
        requests: 0,
        tool_calls: 0,
        images: 0,
        role: Role::Usage,
        progress: None,
        compute: ComputeNs(0),
        cost: None,
        tags: BTreeMap::new(),
    }
}
