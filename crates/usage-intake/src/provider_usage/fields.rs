//! The numbers of a usage object, whoever wrote it: read in one pass by their place and name, before anything is made of them.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use usage_types::{RejectCode, Rejection, TokenClass, Tokens, UsageEvent};

use super::{Broken, too_many};
use crate::field::{Borrowed, Context, Count, Text, given_twice};

macro_rules! fields {
    ($($variant:ident $doc:literal;)*) => {
        /// A number that some provider tells.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Field { $(#[doc = $doc] $variant,)* }

        impl Field {
            /// All of them.
            pub(crate) const ALL: [Self; Self::COUNT] = [$(Self::$variant,)*];
            /// How many there are.
            pub(crate) const COUNT: usize = [$($doc,)*].len();
        }
    };
}

fields! {
    PromptTokens "OpenAI chat: all input.";
    CompletionTokens "OpenAI chat: all output.";
    InputTokens "OpenAI responses: all input. Anthropic: input that no cache held.";
    OutputTokens "OpenAI responses and Anthropic: all output.";
    TotalTokens "OpenAI: input and output.";
    Cached "OpenAI: of the input, what was read from the cache.";
    CacheWritten "OpenAI: of the input, what was written to the cache.";
    Written30m "OpenAI: of that, for 30 minutes.";
    Written12h "OpenAI: of that, for 12 hours.";
    CacheCreated "LiteLLM: the same by another name.";
    CacheHit "DeepSeek: of the input, what was read from the cache.";
    Reasoning "OpenAI: of the output, the reasoning.";
    Thinking "Anthropic: of the output, the thinking.";
    CacheCreation "Anthropic: input written to the cache.";
    CacheRead "Anthropic: input read from the cache.";
    Ephemeral5m "Anthropic, Bedrock: of the input written, for five minutes.";
    Ephemeral1h "Anthropic, Bedrock: of the input written, for one hour.";
    PromptTokenCount "Gemini: the prompt with the cached content.";
    CachedContent "Gemini: of the prompt, the cached content.";
    Candidates "Gemini: the answer without the thoughts.";
    Thoughts "Gemini: the thoughts.";
    ToolUsePrompt "Gemini: what tools put into the prompt, beside it.";
    TotalTokenCount "Gemini: all of that.";
    BedrockInput "Bedrock: input that no cache held.";
    BedrockOutput "Bedrock: all output.";
    BedrockTotal "Bedrock: input and output.";
    BedrockCacheRead "Bedrock: input read from the cache.";
    BedrockCacheWrite "Bedrock: input written to the cache.";
}

/// What a usage object tells. Of several objects each member's last value.
#[derive(Debug, Default)]
pub(crate) struct Counts<'a> {
    values: [Option<u64>; Field::COUNT],
    /// How each was spelled: the object that it is in, empty where that is the outermost, and its name.
    spelled: [(&'static str, &'static str); Field::COUNT],
    /// Requests to the tools that the provider runs itself, and whether it tells of them at all.
    pub(crate) tool_requests: u64,
    pub(crate) has_tool_requests: bool,
    /// Whether it was an array: the objects of a stream.
    pub(crate) is_stream: bool,
    /// What Anthropic's own summing-up of the conversation used, beside the rest.
    pub(crate) compaction: Tokens,
    pub(crate) service_tier: Option<Cow<'a, str>>,
    pub(crate) speed: Option<Cow<'a, str>>,
    pub(crate) traffic_type: Option<Cow<'a, str>>,
}

impl<'a> Counts<'a> {
    /// Reads a usage object, or an array of them.
    pub(crate) fn read(json: &'a str) -> Result<Self, Broken> {
        let context = Context::default();
        let mut counts = Self::default();
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let read = Usage { context: &context, counts: &mut counts }.deserialize(&mut deserializer);
        match read {
            Ok(()) => Ok(counts),
            Err(error) => {
                let Rejection { code, field, message } = context.conclude(&error);
                Err((field.unwrap_or_default(), (code, message)))
            }
        }
    }

    /// The number, where it is told.
    pub(crate) const fn get(&self, field: Field) -> Option<u64> {
        self.values[field as usize]
    }

    /// The number, 0 where it is not told.
    pub(crate) fn of(&self, field: Field) -> u64 {
        self.get(field).unwrap_or(0)
    }

    /// The first of these that is told and is not 0.
    pub(crate) fn first(&self, fields: &[Field; 3]) -> Field {
        fields.iter().copied().find(|field| self.of(*field) > 0).unwrap_or(fields[0])
    }

    /// What remains of the whole without these parts of it.
    pub(crate) fn without(&self, whole: Field, parts: &[Field]) -> Result<u64, Broken> {
        let mut rest = self.of(whole);
        for part in parts {
            rest = rest.checked_sub(self.of(*part)).ok_or_else(|| {
                let message = format!(
                    "{} is more than what is left of the {} that `{}` states; send the object as the provider wrote it",
                    self.of(*part),
                    self.of(whole),
                    self.path(whole)
                );
                (self.path(*part), (RejectCode::OutOfRange, message))
            })?;
        }
        Ok(rest)
    }

    /// Checks a stated total against what its parts add up to. A total of 0 is one that was not filled in.
    pub(crate) fn check_total(&self, total: Field, sum: u64) -> Result<(), Broken> {
        match self.get(total) {
            Some(stated) if stated != sum && stated > 0 => {
                let message = format!(
                    "{stated} is stated, but the parts add up to {sum}; send the object as the provider wrote it"
                );
                Err((self.path(total), (RejectCode::OutOfRange, message)))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, field: Field) -> String {
        let (parent, name) = self.spelled[field as usize];
        if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
    }
}

/// Where in the object a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Top,
    InputDetails,
    OutputDetails,
    /// Within the details of the input.
    WriteDetails,
    /// Within the details of the input, LiteLLM's.
    CreationDetails,
    CacheCreation,
    ServerToolUse,
}

/// What a member is.
enum Place {
    Count(Field, &'static str),
    Object(Group, &'static str),
    CacheDetails,
    Iterations,
    ServiceTier,
    Speed,
    TrafficType,
    ToolRequests,
    Other,
}

fn place(group: Group, name: &str) -> Place {
    match group {
        Group::Top => place_at_top(name),
        Group::InputDetails => match name {
            "cached_tokens" => Place::Count(Field::Cached, "cached_tokens"),
            "cache_write_tokens" => Place::Count(Field::CacheWritten, "cache_write_tokens"),
            "cache_creation_tokens" => Place::Count(Field::CacheCreated, "cache_creation_tokens"),
            "cache_creation_token_details" => Place::Object(Group::CreationDetails, "cache_creation_token_details"),
            "cache_write_tokens_details" => Place::Object(Group::WriteDetails, "cache_write_tokens_details"),
            _ => Place::Other,
        },
        Group::WriteDetails => match name {
            "ttl_30m_tokens" => Place::Count(Field::Written30m, "cache_write_tokens_details.ttl_30m_tokens"),
            "ttl_12h_tokens" => Place::Count(Field::Written12h, "cache_write_tokens_details.ttl_12h_tokens"),
            _ => Place::Other,
        },
        Group::CreationDetails => match name {
            "ephemeral_1h_input_tokens" => {
                Place::Count(Field::Ephemeral1h, "cache_creation_token_details.ephemeral_1h_input_tokens")
            }
            "ephemeral_12h_input_tokens" => {
                Place::Count(Field::Written12h, "cache_creation_token_details.ephemeral_12h_input_tokens")
            }
            _ => Place::Other,
        },
        Group::OutputDetails => match name {
            "reasoning_tokens" => Place::Count(Field::Reasoning, "reasoning_tokens"),
            "thinking_tokens" => Place::Count(Field::Thinking, "thinking_tokens"),
            _ => Place::Other,
        },
        Group::CacheCreation => match name {
            "ephemeral_5m_input_tokens" => Place::Count(Field::Ephemeral5m, "ephemeral_5m_input_tokens"),
            "ephemeral_1h_input_tokens" => Place::Count(Field::Ephemeral1h, "ephemeral_1h_input_tokens"),
            _ => Place::Other,
        },
        Group::ServerToolUse if name.ends_with("_requests") => Place::ToolRequests,
        Group::ServerToolUse => Place::Other,
    }
}

fn place_at_top(name: &str) -> Place {
    let count = Place::Count;
    match name {
        "prompt_tokens" => count(Field::PromptTokens, "prompt_tokens"),
        "completion_tokens" => count(Field::CompletionTokens, "completion_tokens"),
        "input_tokens" => count(Field::InputTokens, "input_tokens"),
        "output_tokens" => count(Field::OutputTokens, "output_tokens"),
        "total_tokens" => count(Field::TotalTokens, "total_tokens"),
        "prompt_cache_hit_tokens" => count(Field::CacheHit, "prompt_cache_hit_tokens"),
        "cache_creation_input_tokens" => count(Field::CacheCreation, "cache_creation_input_tokens"),
        "cache_read_input_tokens" => count(Field::CacheRead, "cache_read_input_tokens"),
        "promptTokenCount" => count(Field::PromptTokenCount, "promptTokenCount"),
        "prompt_token_count" => count(Field::PromptTokenCount, "prompt_token_count"),
        "cachedContentTokenCount" => count(Field::CachedContent, "cachedContentTokenCount"),
        "cached_content_token_count" => count(Field::CachedContent, "cached_content_token_count"),
        "candidatesTokenCount" => count(Field::Candidates, "candidatesTokenCount"),
        "candidates_token_count" => count(Field::Candidates, "candidates_token_count"),
        "responseTokenCount" => count(Field::Candidates, "responseTokenCount"),
        "response_token_count" => count(Field::Candidates, "response_token_count"),
        "thoughtsTokenCount" => count(Field::Thoughts, "thoughtsTokenCount"),
        "thoughts_token_count" => count(Field::Thoughts, "thoughts_token_count"),
        "toolUsePromptTokenCount" => count(Field::ToolUsePrompt, "toolUsePromptTokenCount"),
        "tool_use_prompt_token_count" => count(Field::ToolUsePrompt, "tool_use_prompt_token_count"),
        "totalTokenCount" => count(Field::TotalTokenCount, "totalTokenCount"),
        "total_token_count" => count(Field::TotalTokenCount, "total_token_count"),
        "inputTokens" => count(Field::BedrockInput, "inputTokens"),
        "outputTokens" => count(Field::BedrockOutput, "outputTokens"),
        "totalTokens" => count(Field::BedrockTotal, "totalTokens"),
        "cacheReadInputTokens" => count(Field::BedrockCacheRead, "cacheReadInputTokens"),
        "cacheWriteInputTokens" => count(Field::BedrockCacheWrite, "cacheWriteInputTokens"),
        "prompt_tokens_details" => Place::Object(Group::InputDetails, "prompt_tokens_details"),
        "input_tokens_details" => Place::Object(Group::InputDetails, "input_tokens_details"),
        "input_token_details" => Place::Object(Group::InputDetails, "input_token_details"),
        "completion_tokens_details" => Place::Object(Group::OutputDetails, "completion_tokens_details"),
        "output_tokens_details" => Place::Object(Group::OutputDetails, "output_tokens_details"),
        "output_token_details" => Place::Object(Group::OutputDetails, "output_token_details"),
        "cache_creation" => Place::Object(Group::CacheCreation, "cache_creation"),
        "server_tool_use" => Place::Object(Group::ServerToolUse, "server_tool_use"),
        "cacheDetails" => Place::CacheDetails,
        "iterations" => Place::Iterations,
        "service_tier" | "serviceTier" => Place::ServiceTier,
        "speed" => Place::Speed,
        "traffic_type" | "trafficType" => Place::TrafficType,
        _ => Place::Other,
    }
}

/// A usage object or an array of them.
struct Usage<'c, 'r, 'a> {
    context: &'c Context,
    counts: &'r mut Counts<'a>,
}

impl<'a> DeserializeSeed<'a> for Usage<'_, '_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Usage<'_, '_, 'a> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a provider's usage object, or an array of those of a stream")
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<(), A::Error> {
        let mut seen = 0;
        Members { context: self.context, counts: self.counts, group: Group::Top, parent: "", seen: &mut seen }
            .visit_map(map)
    }
    fn visit_seq<A: SeqAccess<'a>>(self, mut objects: A) -> Result<(), A::Error> {
        if self.counts.is_stream {
            let fault =
                (RejectCode::WrongType, "an array within the array; send the objects one after the other".to_owned());
            return Err(self.context.refuse_at(String::new(), fault));
        }
        self.counts.is_stream = true;
        while objects.next_element_seed(Usage { context: self.context, counts: self.counts })?.is_some() {}
        Ok(())
    }
}

/// The members of the object or of one within it.
struct Members<'c, 'r, 'a> {
    context: &'c Context,
    counts: &'r mut Counts<'a>,
    group: Group,
    parent: &'static str,
    /// The numbers that this object has told already.
    seen: &'r mut u64,
}

impl<'a> DeserializeSeed<'a> for Members<'_, '_, 'a> {
    type Value = ();
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Members<'_, '_, 'a> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of token counts")
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { context, counts, group, parent, seen } = self;
        if group == Group::ServerToolUse {
            (counts.tool_requests, counts.has_tool_requests) = (0, true);
        }
        while let Some(Borrowed(name)) = map.next_key()? {
            match place(group, &name) {
                Place::Count(field, name) => {
                    at(context, parent, name);
                    if *seen & (1 << field as u64) != 0 {
                        return Err(context.refuse(given_twice(name)));
                    }
                    *seen |= 1 << field as u64;
                    counts.spelled[field as usize] = (parent, name);
                    let count = map.next_value_seed(Count(context))?;
                    counts.values[field as usize] = count.or(counts.values[field as usize]);
                }
                Place::Object(group, name) => {
                    at(context, parent, name);
                    let parent = if parent.is_empty() { name } else { parent };
                    map.next_value_seed(Members { context, counts, group, parent, seen })?;
                }
                Place::ToolRequests => {
                    at(context, parent, "");
                    counts.tool_requests += map.next_value_seed(Count(context))?.unwrap_or(0);
                }
                Place::CacheDetails => cache_details(context, counts, map.next_value::<&RawValue>()?)?,
                Place::Iterations => iterations(context, counts, map.next_value::<&RawValue>()?)?,
                Place::ServiceTier => {
                    at(context, parent, "service_tier");
                    counts.service_tier = map.next_value_seed(Text(context))?.or(counts.service_tier.take());
                }
                Place::Speed => {
                    at(context, parent, "speed");
                    counts.speed = map.next_value_seed(Text(context))?.or(counts.speed.take());
                }
                Place::TrafficType => {
                    at(context, parent, "trafficType");
                    counts.traffic_type = map.next_value_seed(Text(context))?.or(counts.traffic_type.take());
                }
                Place::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

fn at(context: &Context, parent: &'static str, name: &'static str) {
    if parent.is_empty() {
        context.at(name);
    } else {
        context.at(parent);
        context.at_member(name);
    }
}

/// Bedrock's writes to the cache by how long they are held.
fn cache_details<E: Error>(context: &Context, counts: &mut Counts<'_>, json: &RawValue) -> Result<(), E> {
    #[derive(Deserialize)]
    struct Detail<'a> {
        #[serde(borrow)]
        ttl: Cow<'a, str>,
        #[serde(rename = "inputTokens")]
        input_tokens: u64,
    }
    context.at("cacheDetails");
    let details: Option<Vec<Detail<'_>>> = serde_json::from_str(json.get()).map_err(|error| {
        let message = format!("no list like [{{\"ttl\": \"5m\", \"inputTokens\": 9}}]: {error}");
        context.refuse::<E>((RejectCode::WrongType, message))
    })?;
    let Some(details) = details else { return Ok(()) };
    let (mut five_minutes, mut one_hour) = (0_u64, 0_u64);
    for detail in details {
        let sum = match detail.ttl.as_ref() {
            "5m" => &mut five_minutes,
            "1h" => &mut one_hour,
            other => {
                let message = format!("{other:?} is no time to live that is known; send the writes as 5m or 1h");
                return Err(context.refuse((RejectCode::UnknownField, message)));
            }
        };
        *sum = sum.saturating_add(detail.input_tokens);
    }
    for (field, sum) in [(Field::Ephemeral5m, five_minutes), (Field::Ephemeral1h, one_hour)] {
        if sum > UsageEvent::COUNT_MAX {
            return Err(context.refuse(too_many(sum)));
        }
        counts.values[field as usize] = Some(sum);
        counts.spelled[field as usize] = ("", "cacheDetails");
    }
    Ok(())
}

/// What Anthropic lists beside the totals: of its iterations only a compaction is not in them.
fn iterations<E: Error>(context: &Context, counts: &mut Counts<'_>, json: &RawValue) -> Result<(), E> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Creation {
        ephemeral_5m_input_tokens: u64,
        ephemeral_1h_input_tokens: u64,
    }
    #[derive(Deserialize)]
    struct Iteration<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
        #[serde(default)]
        input_tokens: u64,
        #[serde(default)]
        output_tokens: u64,
        #[serde(default)]
        cache_read_input_tokens: u64,
        #[serde(default)]
        cache_creation_input_tokens: u64,
        cache_creation: Option<Creation>,
    }
    context.at("iterations");
    let iterations: Option<Vec<Iteration<'_>>> = serde_json::from_str(json.get()).map_err(|error| {
        context.refuse::<E>((RejectCode::WrongType, format!("no list of iterations with their tokens: {error}")))
    })?;
    let Some(iterations) = iterations else { return Ok(()) };
    let mut tokens = Tokens::default();
    for iteration in iterations.iter().filter(|iteration| iteration.kind.as_deref() == Some("compaction")) {
        let one_hour = iteration.cache_creation.as_ref().map_or(0, |creation| creation.ephemeral_1h_input_tokens);
        let five_minutes = match &iteration.cache_creation {
            Some(creation) => creation.ephemeral_5m_input_tokens,
            None => iteration.cache_creation_input_tokens,
        };
        let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
        add(&mut tokens.input, iteration.input_tokens);
        add(&mut tokens.output, iteration.output_tokens);
        add(&mut tokens.cache_read, iteration.cache_read_input_tokens);
        add(&mut tokens.cache_write_5m, five_minutes);
        add(&mut tokens.cache_write_1h, one_hour);
    }
    if let Some(class) = TokenClass::ALL.into_iter().find(|class| tokens.get(*class) > UsageEvent::COUNT_MAX) {
        return Err(context.refuse(too_many(tokens.get(class))));
    }
    counts.compaction = tokens;
    Ok(())
}
