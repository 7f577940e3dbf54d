//! Gemini's usage metadata, as the REST API spells it and as the SDKs do: the prompt contains the cached content; the candidates do not
//! contain the thoughts; what tools put into the prompt is counted beside it, and is input all the same.
//! Source: `GenerateContentResponseUsageMetadata` of Google's Python library, which states what the total is the sum of.

use std::borrow::Cow;

use usage_types::Tokens;

use super::{Broken, Counts, Field};

pub(super) fn tokens(counts: &Counts<'_>) -> Result<Tokens, Broken> {
    let parts = [Field::PromptTokenCount, Field::Candidates, Field::Thoughts, Field::ToolUsePrompt];
    counts.check_total(Field::TotalTokenCount, parts.iter().map(|field| counts.of(*field)).sum())?;
    Ok(Tokens {
        input: counts.without(Field::PromptTokenCount, &[Field::CachedContent])? + counts.of(Field::ToolUsePrompt),
        cache_read: counts.of(Field::CachedContent),
        cache_write_5m: 0,
        cache_write_1h: 0,
        output: counts.of(Field::Candidates),
        reasoning: counts.of(Field::Thoughts),
    })
}

/// The tier that is billed. Vertex AI tells it as a type of traffic.
pub(super) fn service_tier<'a>(tier: Option<Cow<'a, str>>, traffic_type: Option<&str>) -> Option<Cow<'a, str>> {
    tier.or(match traffic_type {
        Some("ON_DEMAND_PRIORITY") => Some(Cow::Borrowed("priority")),
        Some("ON_DEMAND_FLEX") => Some(Cow::Borrowed("flex")),
        Some("ON_DEMAND_OFFPEAK") => Some(Cow::Borrowed("offpeak")),
        Some("PROVISIONED_THROUGHPUT") => Some(Cow::Borrowed("provisioned")),
        _ => None,
    })
}
