//! Amazon Bedrock's usage of Converse: `inputTokens` contains neither what the cache held nor what was written to it.
//! The total is documented as input and output, and answers with a cache have one that counts what went through the cache too: either
//! is taken.
//! Source: the shape `TokenUsage` of the service's model in botocore.

use usage_types::Tokens;

use super::{Broken, Counts, Field};

pub(super) fn tokens(counts: &Counts<'_>) -> Result<Tokens, Broken> {
    let (read, written) = (counts.of(Field::BedrockCacheRead), counts.of(Field::BedrockCacheWrite));
    let (five_minutes, one_hour) = (counts.of(Field::Ephemeral5m), counts.of(Field::Ephemeral1h));
    // The list of writes is empty where the model does not break them down.
    let written = if five_minutes + one_hour > 0 {
        counts.check_total(Field::BedrockCacheWrite, five_minutes + one_hour)?;
        five_minutes + one_hour
    } else {
        written
    };
    let (input, output) = (counts.of(Field::BedrockInput), counts.of(Field::BedrockOutput));
    if counts.get(Field::BedrockTotal) != Some(input + output) {
        counts.check_total(Field::BedrockTotal, input + output + read + written)?;
    }
    Ok(Tokens {
        input,
        cache_read: read,
        cache_write_5m: written - one_hour,
        cache_write_1h: one_hour,
        output,
        reasoning: 0,
    })
}
