//! The usage objects of model providers, as they come with an answer, to disjoint token classes: what a thin gateway can forward without
//! understanding it.
//!
//! Providers differ in what contains what. OpenAI's input holds what the cache held and wrote, and its output holds the reasoning;
//! Anthropic's and Bedrock's input holds neither cache reads nor writes; Gemini's prompt holds the cached content, and its candidates do
//! not hold the thoughts. One module for each says so, and how the stated totals prove it: a total that does not agree with its
//! parts is refused, since one of the two would be billed wrongly.
//!
//! Holds here: every token that the object tells of is in exactly one class. Which format an object has is read off its members; the
//! provider's name decides only where they leave it open. Members that are not known are skipped: providers add some every month.
//! Deliberately absent: modalities (audio, image and video tokens stay in the class that contains them).

mod anthropic;
mod bedrock;
mod fields;
mod gemini;
mod litellm;
mod openai;

use std::borrow::Cow;

use usage_types::{RejectCode, TokenClass, Tokens, UsageEvent};

use crate::field::Fault;
pub(crate) use fields::{Counts, Field};

/// A broken rule and the path of the field that breaks it, within the usage object.
pub(crate) type Broken = (String, Fault);

/// What a usage object tells, in our terms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Normalised<'a> {
    pub(crate) tokens: Tokens,
    /// Tools that the provider ran itself.
    pub(crate) tool_calls: u64,
    /// The service tier, where the object tells it.
    pub(crate) service_tier: Option<Cow<'a, str>>,
}

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenAI's chat completions, embeddings, responses, images and realtime, and whoever copies them.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's REST API and its SDKs.
    Gemini,
    /// Amazon Bedrock's Converse.
    Bedrock,
}

impl Format {
    /// By its name in `usage_format`.
    ///
    /// # Errors
    /// It is none that is read.
    pub(crate) fn named(name: &str) -> Result<Self, Fault> {
        match name {
            "openai" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "gemini" => Ok(Self::Gemini),
            "bedrock" => Ok(Self::Bedrock),
            _ => {
                let message = format!("{name:?} is no format; use one of openai, anthropic, gemini, bedrock");
                Err((RejectCode::OutOfRange, message))
            }
        }
    }

    /// The format that a provider of this name answers in, by the names of OpenTelemetry (`gen_ai.provider.name`) and of LiteLLM.
    fn of_provider(provider: &str) -> Option<Self> {
        match provider.to_ascii_lowercase().as_str() {
            "openai" | "azure" | "azure.ai.openai" | "azure.ai.inference" | "azure_ai" | "az.ai.openai"
            | "openrouter" | "deepseek" | "groq" | "mistral" | "mistral_ai" | "perplexity" | "xai" | "x_ai"
            | "fireworks_ai" | "together_ai" | "vllm" | "ollama" => Some(Self::OpenAi),
            "anthropic" => Some(Self::Anthropic),
            "gemini" | "google" | "gcp.gemini" | "gcp.gen_ai" | "gcp.vertex_ai" | "vertex_ai" => Some(Self::Gemini),
            "bedrock" | "aws.bedrock" => Some(Self::Bedrock),
            _ => None,
        }
    }

    /// The format that only these members can be of; `None` where they fit two, or none.
    fn of_members(counts: &Counts<'_>) -> Option<Self> {
        let has = |fields: &[Field]| fields.iter().any(|field| counts.get(*field).is_some());
        if has(&[Field::PromptTokens]) {
            return Some(Self::OpenAi);
        }
        if has(&[Field::PromptTokenCount, Field::TotalTokenCount]) {
            return Some(Self::Gemini);
        }
        if has(&[Field::BedrockInput, Field::BedrockOutput]) {
            return Some(Self::Bedrock);
        }
        let is_openai = has(&[Field::Cached, Field::CacheWritten, Field::Reasoning, Field::TotalTokens]);
        let is_anthropic = has(&[Field::CacheCreation, Field::CacheRead, Field::Ephemeral5m, Field::Thinking])
            || counts.has_tool_requests
            || counts.speed.is_some();
        match (is_openai, is_anthropic) {
            (true, false) => Some(Self::OpenAi),
            (false, true) => Some(Self::Anthropic),
            _ => None,
        }
    }

    /// The format of these counts.
    fn detect(counts: &Counts<'_>, provider: Option<&str>) -> Result<Self, Broken> {
        let by_provider = || provider.and_then(Self::of_provider).filter(|format| format.fits(counts));
        if let Some(format) = Self::of_members(counts).or_else(by_provider) {
            return Ok(format);
        }
        let message = if counts.get(Field::InputTokens).is_none() && counts.get(Field::OutputTokens).is_none() {
            "no member is known; send a usage object of OpenAI, Anthropic, Gemini or Bedrock, or count the tokens in `tokens`"
        } else if Self::is_open(counts) {
            // Two plain numbers: what contains what makes no difference.
            return Ok(Self::OpenAi);
        } else {
            "the members fit two formats; say which with `usage_format`, like \"openai\" or \"anthropic\""
        };
        Err((String::new(), (RejectCode::UnsupportedFormat, message.to_owned())))
    }

    /// Whether nothing but input and output is told.
    fn is_open(counts: &Counts<'_>) -> bool {
        Field::ALL.iter().all(|field| {
            matches!(field, Field::InputTokens | Field::OutputTokens) || counts.get(*field).unwrap_or(0) == 0
        })
    }

    /// Whether the members that this format cannot do without are there.
    fn fits(self, counts: &Counts<'_>) -> bool {
        let any: &[Field] = match self {
            Self::OpenAi => &[Field::PromptTokens, Field::InputTokens],
            Self::Anthropic => &[Field::InputTokens, Field::OutputTokens],
            Self::Gemini => &[Field::PromptTokenCount, Field::TotalTokenCount],
            Self::Bedrock => &[Field::BedrockInput],
        };
        any.iter().any(|field| counts.get(*field).is_some())
    }

    /// The member that this format cannot do without.
    const fn required(self) -> &'static str {
        match self {
            Self::OpenAi => "prompt_tokens",
            Self::Anthropic => "input_tokens",
            Self::Gemini => "promptTokenCount",
            Self::Bedrock => "inputTokens",
        }
    }
}

/// Reads a usage object, or the usage objects of one stream in their order, of which each member's last value counts.
///
/// # Errors
/// What is wrong, with the path within the object.
pub(crate) fn normalise<'a>(
    json: &'a str,
    format: Option<Format>,
    provider: Option<&str>,
) -> Result<Normalised<'a>, Broken> {
    let counts = Counts::read(json)?;
    let format = match format {
        None => Format::detect(&counts, provider)?,
        Some(format) if format.fits(&counts) => format,
        Some(format) => {
            let message = format!("`{}` is missing; the object is not of the format that is named", format.required());
            return Err((format.required().to_owned(), (RejectCode::MissingField, message)));
        }
    };
    let tokens = match format {
        Format::OpenAi => openai::tokens(&counts),
        Format::Anthropic => anthropic::tokens(&counts),
        Format::Gemini => gemini::tokens(&counts),
        Format::Bedrock => bedrock::tokens(&counts),
    }?;
    check_bounds(&tokens, counts.tool_requests)?;
    let service_tier = match format {
        Format::Anthropic => anthropic::service_tier(counts.service_tier, counts.speed.as_deref()),
        Format::Gemini => gemini::service_tier(counts.service_tier, counts.traffic_type.as_deref()),
        Format::OpenAi | Format::Bedrock => counts.service_tier,
    };
    Ok(Normalised { tokens, tool_calls: counts.tool_requests, service_tier })
}

/// Reads LiteLLM's usage object, which has members of several formats; one that is a provider's own is read as such.
///
/// # Errors
/// What is wrong, with the path within the object.
pub(crate) fn normalise_litellm<'a>(json: &'a str, provider: Option<&str>) -> Result<Normalised<'a>, Broken> {
    let counts = Counts::read(json)?;
    if counts.get(Field::PromptTokens).is_none() {
        return normalise(json, None, provider);
    }
    let tokens = litellm::tokens(&counts)?;
    check_bounds(&tokens, counts.tool_requests)?;
    Ok(Normalised { tokens, tool_calls: counts.tool_requests, service_tier: counts.service_tier })
}

/// Each number is bounded when it is read; what several add up to is bounded here.
fn check_bounds(tokens: &Tokens, tool_calls: u64) -> Result<(), Broken> {
    let sums = TokenClass::ALL.into_iter().map(|class| tokens.get(class)).chain([tool_calls]);
    match sums.into_iter().find(|sum| *sum > UsageEvent::COUNT_MAX) {
        None => Ok(()),
        Some(sum) => Err((String::new(), too_many(sum))),
    }
}

fn too_many(count: u64) -> Fault {
    let max = UsageEvent::COUNT_MAX;
    (RejectCode::OutOfRange, format!("together {count} are more than {max}, the most that one event may count"))
}
