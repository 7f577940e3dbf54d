//! OpenAI's usage object, and whoever copies it: chat completions and embeddings (`prompt_tokens`, `completion_tokens`), responses,
//! images and realtime (`input_tokens`, `output_tokens`).
//!
//! The input contains what was read from the cache and what was written to it; the output contains the reasoning; predicted and audio
//! tokens are in their side already. Writes are held for 30 minutes or 12 hours, where our classes are five minutes and one hour:
//! the shorter goes to the shorter, the longer to the longer, and one that is not told to the shorter.
//! Source: the types of OpenAI's Python library, and its guide to prompt caching.

use usage_types::Tokens;

use super::{Broken, Counts, Field};

pub(super) fn tokens(counts: &Counts<'_>) -> Result<Tokens, Broken> {
    let (input, output) = match counts.get(Field::PromptTokens) {
        Some(_) => (Field::PromptTokens, Field::CompletionTokens),
        None => (Field::InputTokens, Field::OutputTokens),
    };
    // DeepSeek and LiteLLM tell what the cache held and took in places of their own, at times in several.
    let cached = counts.first(&[Field::Cached, Field::CacheHit, Field::CacheRead]);
    let written = counts.first(&[Field::CacheWritten, Field::CacheCreated, Field::CacheCreation]);
    let one_hour = counts.of(Field::Written12h);
    let has_details = counts.get(Field::Written30m).is_some() || counts.get(Field::Written12h).is_some();
    if has_details && counts.get(written).is_some() {
        counts.check_total(written, counts.of(Field::Written30m) + one_hour)?;
    }
    let written: &[Field] = if has_details { &[Field::Written30m, Field::Written12h] } else { &[written] };
    let parts: Vec<Field> = [cached].into_iter().chain(written.iter().copied()).collect();
    let reasoning = counts.of(Field::Reasoning);
    // xAI counts the reasoning beside the output, not in it: its total tells.
    let is_beside =
        reasoning > 0 && counts.get(Field::TotalTokens) == Some(counts.of(input) + counts.of(output) + reasoning);
    if !is_beside {
        counts.check_total(Field::TotalTokens, counts.of(input) + counts.of(output))?;
    }
    Ok(Tokens {
        input: counts.without(input, &parts)?,
        cache_read: counts.of(cached),
        cache_write_5m: written.iter().map(|field| counts.of(*field)).sum::<u64>() - one_hour,
        cache_write_1h: one_hour,
        output: if is_beside { counts.of(output) } else { counts.without(output, &[Field::Reasoning])? },
        reasoning,
    })
}
