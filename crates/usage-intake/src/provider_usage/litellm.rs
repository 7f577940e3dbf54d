//! LiteLLM's usage object: OpenAI's members, with Anthropic's and its own beside them, whatever the provider.
//!
//! The prompt contains what was read from the cache and written to it, for every provider. LiteLLM computes some of these numbers
//! itself (a count of the reasoning by its own tokenizer, a total from elsewhere), so that what only describes does not fail: the total
//! is not checked, and reasoning is at most the output. What the invoice is made of is checked all the same.
//! Source: `Usage` and `PromptTokensDetailsWrapper` in `litellm/types/utils.py`, LiteLLM 1.109.

use usage_types::Tokens;

use super::{Broken, Counts, Field};

pub(super) fn tokens(counts: &Counts<'_>) -> Result<Tokens, Broken> {
    let cached = counts.first(&[Field::Cached, Field::CacheRead, Field::CacheHit]);
    let written = counts.first(&[Field::CacheWritten, Field::CacheCreated, Field::CacheCreation]);
    let one_hour = (counts.of(Field::Ephemeral1h) + counts.of(Field::Written12h)).min(counts.of(written));
    let (prompt, output) = (counts.of(Field::PromptTokens), counts.of(Field::CompletionTokens));
    let reasoning = counts.of(Field::Reasoning);
    let is_beside = reasoning > 0 && counts.get(Field::TotalTokens) == Some(prompt + output + reasoning);
    let reasoning = if is_beside { reasoning } else { reasoning.min(output) };
    Ok(Tokens {
        input: counts.without(Field::PromptTokens, &[cached, written])?,
        cache_read: counts.of(cached),
        cache_write_5m: counts.of(written) - one_hour,
        cache_write_1h: one_hour,
        output: if is_beside { output } else { output - reasoning },
        reasoning,
    })
}
