//! The bodies of LiteLLM's generic API callback: its `StandardLoggingPayload`, one, a list, or one on each line.
//!
//! A payload tells of one call: who (keys, teams and users of the proxy, in `metadata`), what (model, provider, tokens), what LiteLLM
//! thinks it cost, and what was said. What was said is skipped unread: of `messages` and `response` nothing gets into an event. The
//! event is published as native JSON.
//!
//! A call that failed before anything was used is no event and is left out. One that LiteLLM's own cache answered used no tokens of
//! the provider: it is an event of one request without tokens, its cost zero.
//! Source: `litellm/types/utils.py` and `litellm/integrations/generic_api`, LiteLLM 1.109.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use usage_types::{Currency, Dimension, Dimensions, Pico, RejectCode, Rejection, TimeUs, Tokens, UsageEvent};

use crate::config::LiteLlmMap;
use crate::field::{Borrowed, Fault, bounded};
use crate::foreign::{self, Object, find};
use crate::headers::Headers;
use crate::http::{Item, elements, lines};
use crate::native::{Given, blank, fill, finish};
use crate::time::{AFTER_LATEST, EARLIEST};
use crate::{Intake, encode, intake, provider_usage};

/// The source of every event of LiteLLM: with the call's id it tells a repeated payload.
const SOURCE: &str = "litellm";
/// The longest list of request tags that is kept, in bytes.
const TAGS_BYTES_MAX: usize = 256;

/// A broken rule and the path of the field that breaks it.
type Broken = (String, Fault);

impl Intake {
    /// Reads the body of LiteLLM's generic API callback, in any of its log formats (`json_array`, `ndjson`, `single`). Payloads that
    /// tell of no usage are left out, so that the answer may be empty; the others keep their place as index. `headers` are the
    /// request's; of them only those count that name dimensions.
    ///
    /// # Errors
    /// The body's parts cannot be told, so nothing of it is to be published.
    pub fn decode_litellm<'a>(&self, headers: &Headers<'_>, body: &'a [u8]) -> Result<Vec<Item<'a>>, Rejection> {
        let body = body.trim_ascii();
        let values = match body.first() {
            None => Vec::new(),
            Some(b'[') => elements(body, &self.limits)?,
            Some(_) if serde_json::from_slice::<&RawValue>(body).is_ok() => vec![body],
            Some(_) => lines(body, &self.limits)?,
        };
        let named = self.named(headers)?;
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let event = match intake::text(value).and_then(|text| payload(text, &self.config.litellm, &named)) {
                Ok(None) => continue,
                Ok(Some(event)) => Ok(event),
                Err(rejection) => Err(rejection),
            };
            let value = event.as_ref().map_or(Cow::Borrowed(&[][..]), |event| Cow::Owned(encode(event)));
            items.push(Item { index, value, headers: Vec::new(), event });
        }
        Ok(items)
    }
}

/// The members of a payload that matter, each as its JSON; `None` where it is `null` or absent.
struct Members<'a>([Option<&'a str>; NAMES.len()]);

const NAMES: [&str; 19] = [
    "id",
    "status",
    "call_type",
    "model",
    "custom_llm_provider",
    "response_cost",
    "cost_breakdown",
    "cache_hit",
    "startTime",
    "endTime",
    "prompt_tokens",
    "completion_tokens",
    "request_tags",
    "end_user",
    "session_id",
    "trace_id",
    "metadata",
    "model_parameters",
    "response",
];

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Self, Rejection> {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(MembersVisitor);
        read.and_then(|members| json.end().map(|()| members)).map_err(|error| {
            let message = bounded(format!("no logging payload of LiteLLM: {error}; send JSON objects"));
            Rejection::new(RejectCode::NotJson, message)
        })
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        NAMES.iter().position(|known| *known == name).and_then(|at| self.0[at])
    }

    /// A text, also where a number was written.
    fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Broken> {
        self.get(name).map_or(Ok(None), |json| foreign::label(json).map_err(|fault| (name.to_owned(), fault)))
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members([None; NAMES.len()]);
        while let Some(Borrowed(name)) = map.next_key()? {
            match NAMES.iter().position(|known| *known == name) {
                Some(at) => {
                    let json = map.next_value::<&RawValue>()?.get();
                    members.0[at] = (json != "null").then_some(json);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

/// Reads one payload; `None` where nothing was used.
fn payload<'a>(
    text: &'a str,
    map: &LiteLlmMap,
    named: &[(Dimension, &str)],
) -> Result<Option<UsageEvent<'a>>, Rejection> {
    if text.trim_ascii() == "null" {
        return Ok(None);
    }
    let members = Members::read(text)?;
    let refuse = |(field, (code, message)): Broken| Rejection {
        code,
        field: (!field.is_empty()).then_some(field),
        message: bounded(message),
    };
    let Some((mut event, time)) = event(&members, map).map_err(refuse)? else { return Ok(None) };
    fill(&mut event.dimensions, named);
    if event.dimensions.get(Dimension::Namespace).is_none() {
        event.dimensions.set(Dimension::Namespace, Some(Cow::Owned(map.default_namespace.clone())));
    }
    let given = Given { time: Some(time), requests: Some(1), ..Given::default() };
    finish(&mut event, given).map_err(|(field, fault)| refuse((field.into_owned(), fault)))?;
    Ok(Some(event))
}

fn event<'a>(members: &Members<'a>, map: &LiteLlmMap) -> Result<Option<(UsageEvent<'a>, TimeUs)>, Broken> {
    let mut event = blank(members.text("id")?, Cow::Borrowed(SOURCE));
    let metadata = Object::read(members.get("metadata").unwrap_or_default());
    dimensions(members, &metadata, map, &mut event.dimensions)?;
    usage(members, &metadata, &mut event)?;
    let cost = members.get("response_cost");
    let pico = cost.map_or(Ok(Pico(0)), foreign::money).map_err(|fault| ("response_cost".to_owned(), fault))?;
    if members.is("status", "\"failure\"") && event.tokens.total() == 0 && pico == Pico(0) {
        return Ok(None);
    }
    if members.is("cache_hit", "true") {
        (event.tokens, event.tool_calls, event.images) = (Tokens::default(), 0, 0);
        event.cost = Some((Pico(0), Currency::USD));
        event.tags.insert("litellm_cache_hit".into(), "true".into());
    } else if map.cost_counts {
        event.cost = cost.map(|_| (pico, Currency::USD));
    } else if let Some(cost) = cost.filter(|_| pico > Pico(0)) {
        let text = foreign::number_text(cost).map_err(|fault| ("response_cost".to_owned(), fault))?;
        event.tags.insert(LiteLlmMap::COST_TAG.into(), text);
    }
    if let Some(tags) = request_tags(members) {
        event.tags.insert("litellm_tags".into(), tags);
    }
    Ok(Some((event, time(members)?)))
}

/// Seconds since the epoch, as Python's floats show them. A call counts when it ended: then its tokens are known.
fn time(members: &Members<'_>) -> Result<TimeUs, Broken> {
    let Some((name, json)) = ["endTime", "startTime"].into_iter().find_map(|name| Some((name, members.get(name)?)))
    else {
        let message = "`endTime` is missing; send the payload as LiteLLM's generic API callback writes it";
        return Err(("endTime".to_owned(), (RejectCode::MissingField, message.to_owned())));
    };
    let refuse = |fault| (name.to_owned(), fault);
    let text = foreign::number_text(json).map_err(refuse)?;
    let (micros, _) = foreign::scaled(&text, 6).map_err(refuse)?;
    let time = i64::try_from(micros).map(TimeUs).ok().filter(|time| (EARLIEST..AFTER_LATEST).contains(time));
    time.ok_or_else(|| {
        let message = format!("{text} is no time in seconds since 1970 between the years 2000 and 9999");
        refuse((RejectCode::BadTime, message))
    })
}

fn dimensions<'a>(
    members: &Members<'a>,
    metadata: &Object<'a>,
    map: &LiteLlmMap,
    to: &mut Dimensions<'a>,
) -> Result<(), Broken> {
    let provider = members.text("custom_llm_provider")?;
    let model = members.text("model")?.map(|model| without_provider(model, provider.as_deref()));
    to.set(Dimension::Model, model);
    to.set(Dimension::Provider, provider);
    to.set(Dimension::Operation, members.text("call_type")?.map(operation));
    for (dimension, paths) in &map.dimensions {
        for path in paths {
            let (first, rest) = path.split_once('.').map_or((path.as_str(), None), |(first, rest)| (first, Some(rest)));
            let in_payload = || find(members.get(first)?, rest.into_iter().flat_map(|rest| rest.split('.')));
            let (prefix, found) = match metadata.find(path) {
                Some(json) => ("metadata.", Some(json)),
                None => ("", in_payload()),
            };
            let Some(json) = found else { continue };
            if let Some(value) = foreign::label(json).map_err(|fault| (format!("{prefix}{path}"), fault))? {
                to.set(*dimension, Some(value));
                break;
            }
        }
    }
    Ok(())
}

/// `bedrock/us.amazon.nova` of the provider `bedrock` is its model `us.amazon.nova`.
fn without_provider<'a>(model: Cow<'a, str>, provider: Option<&str>) -> Cow<'a, str> {
    let stem = |model: &str| {
        let rest = model.strip_prefix(provider?)?.strip_prefix('/')?;
        (!rest.is_empty()).then(|| model.len() - rest.len())
    };
    match (stem(&model), model) {
        (None, model) => model,
        (Some(at), Cow::Borrowed(model)) => Cow::Borrowed(&model[at..]),
        (Some(at), Cow::Owned(model)) => Cow::Owned(model[at..].to_owned()),
    }
}

/// LiteLLM's call types in the words of OpenTelemetry (`gen_ai.operation.name`), where it has one.
fn operation(call_type: Cow<'_, str>) -> Cow<'_, str> {
    match call_type.as_ref() {
        "completion" | "acompletion" | "responses" | "aresponses" | "anthropic_messages" | "aanthropic_messages" => {
            Cow::Borrowed("chat")
        }
        "text_completion" | "atext_completion" => Cow::Borrowed("text_completion"),
        "embedding" | "aembedding" => Cow::Borrowed("embeddings"),
        "generate_content" | "agenerate_content" | "generate_content_stream" | "agenerate_content_stream" => {
            Cow::Borrowed("generate_content")
        }
        _ => call_type,
    }
}

/// The tokens: of the usage object in the metadata, else of the answer's, else the payload's own two numbers.
fn usage<'a>(members: &Members<'a>, metadata: &Object<'a>, event: &mut UsageEvent<'a>) -> Result<(), Broken> {
    let provider = event.dimensions.get(Dimension::Provider).map(str::to_owned);
    let objects: [(&str, &dyn Fn() -> Option<&'a str>); 2] = [
        ("metadata.usage_object", &|| metadata.find("usage_object")),
        ("response.usage", &|| find(members.get("response")?, ["usage"])),
    ];
    for (path, object) in objects {
        let Some(object) = object() else { continue };
        match provider_usage::normalise_litellm(object, provider.as_deref()) {
            Ok(usage) => {
                (event.tokens, event.tool_calls) = (usage.tokens, usage.tool_calls);
                event.dimensions.set(Dimension::ServiceTier, usage.service_tier);
                break;
            }
            // A reranking counts searches, a transcription seconds.
            Err((_, (RejectCode::UnsupportedFormat, _))) => {}
            Err((field, fault)) => return Err((format!("{path}.{field}"), fault)),
        }
    }
    if event.tokens.total() == 0 {
        let number = |name: &str| {
            members.get(name).map_or(Ok(0), |json| foreign::count(json).map_err(|fault| (name.to_owned(), fault)))
        };
        event.tokens.input = number("prompt_tokens")?;
        event.tokens.output = number("completion_tokens")?;
    }
    if let Some(images) = metadata.find("usage_object.output_image_count") {
        let path = || "metadata.usage_object.output_image_count".to_owned();
        event.images = foreign::count(images).map_err(|fault| (path(), fault))?;
    }
    for name in ["cost_breakdown", "response"] {
        if event.dimensions.get(Dimension::ServiceTier).is_none()
            && let Some(tier) = members.get(name).and_then(|json| find(json, ["service_tier"]))
            && let Ok(tier) = foreign::label(tier)
        {
            event.dimensions.set(Dimension::ServiceTier, tier);
        }
    }
    Ok(())
}

/// The tags of the request, with commas between; those that do not fit any more are left out.
fn request_tags(members: &Members<'_>) -> Option<Cow<'static, str>> {
    let tags: Vec<Cow<'_, str>> = serde_json::from_str(members.get("request_tags")?).ok()?;
    let mut joined = String::new();
    for tag in tags.iter().filter(|tag| !tag.is_empty() && !tag.chars().any(char::is_control)) {
        if joined.len() + tag.len() < TAGS_BYTES_MAX {
            joined.push_str(if joined.is_empty() { "" } else { "," });
            joined.push_str(tag);
        }
    }
    (!joined.is_empty()).then_some(Cow::Owned(joined))
}
