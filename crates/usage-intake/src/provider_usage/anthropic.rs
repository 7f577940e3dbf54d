//! Anthropic's usage object: `input_tokens` contains neither what the cache held nor what was written to it, and `output_tokens`
//! contains the thinking. Of a stream, `message_start` and each `message_delta` tell cumulative numbers, so the last of each counts.
//! Source: the types of Anthropic's Python library, and its guides to prompt caching and streaming.

use std::borrow::Cow;

use usage_types::Tokens;

use super::{Broken, Counts, Field};

pub(super) fn tokens(counts: &Counts<'_>) -> Result<Tokens, Broken> {
    let (five_minutes, one_hour) = (counts.of(Field::Ephemeral5m), counts.of(Field::Ephemeral1h));
    let has_breakdown = counts.get(Field::Ephemeral5m).is_some() || counts.get(Field::Ephemeral1h).is_some();
    let written = counts.get(Field::CacheCreation).unwrap_or(five_minutes + one_hour);
    // Of a stream only the first object breaks the writes down; what was written since is held as long as is usual.
    let may_be_outdated = counts.is_stream && written > five_minutes + one_hour;
    if has_breakdown && !may_be_outdated {
        counts.check_total(Field::CacheCreation, five_minutes + one_hour)?;
    }
    let beside = &counts.compaction;
    Ok(Tokens {
        input: counts.of(Field::InputTokens) + beside.input,
        cache_read: counts.of(Field::CacheRead) + beside.cache_read,
        cache_write_5m: written - one_hour + beside.cache_write_5m,
        cache_write_1h: one_hour + beside.cache_write_1h,
        output: counts.without(Field::OutputTokens, &[Field::Thinking])? + beside.output,
        reasoning: counts.of(Field::Thinking),
    })
}

/// The tier that is billed: the fast mode has prices of its own, which `speed` tells beside the tier.
pub(super) fn service_tier<'a>(tier: Option<Cow<'a, str>>, speed: Option<&str>) -> Option<Cow<'a, str>> {
    match tier.as_deref() {
        None | Some("standard") if speed == Some("fast") => Some(Cow::Borrowed("fast")),
        _ => tier,
    }
}
