//! Token counts to disjoint classes.
//!
//! The conventions *include* in the input what was read from and written to a cache, and in the output what was spent on reasoning:
//!
//! | class | is |
//! |---|---|
//! | `input` | input − cache read − cache write |
//! | `cache_read` | cache read |
//! | `cache_write_5m` | cache write: which time to live it was bought with is not told, and five minutes is every provider's default |
//! | `output` | output − reasoning |
//! | `reasoning` | reasoning |
//!
//! So do OpenLLMetry's instrumentations for Anthropic and OpenAI (0.62), OpenInference's (`llm.token_count.…`; Anthropic 3.1, OpenAI 0.1.66),
//! OpenTelemetry's own for OpenAI and Google, and Logfire since March 2026. OpenLLMetry's for Bedrock (0.62.4) passes on `inputTokens`, which
//! leave the cache out; such scopes are listed in [`OtlpMap::input_excludes_cache`].
//!
//! Parts that are larger than their whole prove that a sender counts otherwise. They are refused, since either reading could be the wrong
//! bill; where the parts happen to be smaller, nothing shows it, which is why the list above matters.
//!
//! [`OtlpMap::input_excludes_cache`]: crate::OtlpMap::input_excludes_cache

use usage_types::{RejectCode, Rejection, Tokens, UsageEvent};

use crate::OtlpMap;
use crate::attributes::{Attributes, count};

// Of each list the first that is there counts: the current name, the names before it, what OpenLLMetry and Sentry call it, OpenInference's.
const INPUT: &[&str] =
    &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt"];
const OUTPUT: &[&str] = &[
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
];
const CACHE_READ: &[&str] = &[
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "llm.token_count.prompt_details.cache_read",
];
const CACHE_WRITE: &[&str] = &[
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.input_tokens.cache_write",
    "llm.token_count.prompt_details.cache_write",
];
const REASONING: &[&str] = &[
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
];

/// Whether an attribute tells of tokens. One look at each attribute decides for the many spans that have none.
pub(crate) fn tells_of_usage(name: &str) -> bool {
    (name.starts_with("gen_ai.usage.") || name.starts_with("llm."))
        && [INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, REASONING].into_iter().flatten().any(|known| *known == name)
}

/// Reads the counts.
pub(crate) fn tokens(attributes: &Attributes<'_>, map: &OtlpMap) -> Result<Tokens, Rejection> {
    let read = |names: &[&'static str]| -> Result<(&'static str, u64), Rejection> {
        attributes.first_own(names).map_or(Ok(("", 0)), |(name, value)| Ok((name, count(name, value)?)))
    };
    let ((input_name, input), (output_name, output)) = (read(INPUT)?, read(OUTPUT)?);
    let ((cache_read_name, cache_read), (cache_write_name, cache_write)) = (read(CACHE_READ)?, read(CACHE_WRITE)?);
    let (reasoning_name, reasoning) = read(REASONING)?;
    let excludes_cache = map.input_excludes_cache.iter().any(|scope| scope == attributes.scope_name());
    let cached = cache_read + cache_write;
    let uncached = match input.checked_sub(cached) {
        _ if excludes_cache => input,
        Some(uncached) => uncached,
        None => {
            let part = if cache_read > 0 { cache_read_name } else { cache_write_name };
            return Err(impossible(part, cached, or(input_name, INPUT[0]), input, attributes.scope_name()));
        }
    };
    let visible = output.checked_sub(reasoning).ok_or_else(|| {
        impossible(reasoning_name, reasoning, or(output_name, OUTPUT[0]), output, attributes.scope_name())
    })?;
    if uncached + cached + output > UsageEvent::COUNT_MAX {
        let message = format!("the counts together are more than {}", UsageEvent::COUNT_MAX);
        return Err(Rejection::field(RejectCode::OutOfRange, or(input_name, INPUT[0]), message));
    }
    Ok(Tokens {
        input: uncached,
        cache_read,
        cache_write_5m: cache_write,
        cache_write_1h: 0,
        output: visible,
        reasoning,
    })
}

fn or(name: &'static str, default: &'static str) -> &'static str {
    if name.is_empty() { default } else { name }
}

fn impossible(part: &'static str, parts: u64, whole: &'static str, total: u64, scope: &str) -> Rejection {
    let hint = if part.contains("cache") {
        format!("; if the scope {scope:?} counts the cache beside its input, list it under input_excludes_cache")
    } else {
        String::new()
    };
    let message = format!(
        "{parts} tokens are part of {whole}, which is only {total}; send totals that include their parts, as the conventions say{hint}"
    );
    Rejection::field(RejectCode::OutOfRange, part, crate::attributes::bounded(message))
}
