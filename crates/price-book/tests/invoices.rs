//! Invoices by the price file that comes with Outlay, one or more of each provider, worked out by hand from the prices on its page.

mod support;

use price_book::{PriceBook, Priced};
use usage_types::{Dimension, TimeUs, Tokens};

struct Case {
    provider: &'static str,
    model: &'static str,
    tier: Option<&'static str>,
    tokens: Tokens,
    dollars: &'static str,
}

fn case(
    provider: &'static str,
    model: &'static str,
    tier: &'static str,
    tokens: Tokens,
    dollars: &'static str,
) -> Case {
    Case { provider, model, tier: Some(tier).filter(|tier| !tier.is_empty()), tokens, dollars }
}

/// `[input, cache_read, cache_write_5m, cache_write_1h, output, reasoning]`.
fn tokens([input, cache_read, cache_write_5m, cache_write_1h, output, reasoning]: [u64; 6]) -> Tokens {
    Tokens { input, cache_read, cache_write_5m, cache_write_1h, output, reasoning }
}

#[test]
fn an_invoice_of_each_provider_is_the_one_worked_out_by_hand() {
    let cases = [
        // OpenAI: GPT-6 Sol at $2 / $0.20 cached / $10, "prompts with more than 272K input tokens" at $4 / $0.40 / $15.
        // 72,000 × $2 + 200,000 × $0.20 + (1,000 + 500) × $10 a million = 0.144 + 0.04 + 0.015.
        case("openai", "gpt-6-sol", "default", tokens([72_000, 200_000, 0, 0, 1000, 500]), "0.199"),
        // One token more: 72,001 × $4 + 200,000 × $0.40 + 1,500 × $15 = 0.288004 + 0.08 + 0.0225.
        case("openai", "gpt-6-sol", "", tokens([72_001, 200_000, 0, 0, 1000, 500]), "0.390504"),
        // "Batch and Flex take 50 % off whichever rate applies", priority costs twice as much.
        case("openai", "gpt-6-sol", "flex", tokens([72_001, 200_000, 0, 0, 1000, 500]), "0.195252"),
        case("openai", "gpt-6-sol", "batch", tokens([72_000, 200_000, 0, 0, 1000, 500]), "0.0995"),
        case("openai", "gpt-6-sol", "priority", tokens([72_000, 200_000, 0, 0, 1000, 500]), "0.398"),
        // GPT-5.1 priority: $2.50 / $0.25 / $20. 900 × 2.5 + 300 × 0.25 + 120 × 20 = 2,250 + 75 + 2,400 millionths.
        case("openai", "gpt-5.1", "priority", tokens([900, 300, 0, 0, 80, 40]), "0.004725"),
        // GPT-5.5 priority "excludes long context": $12.50 a million up to 272,000, no price beyond.
        case("openai", "gpt-5.5", "priority", tokens([100_000, 0, 0, 0, 0, 0]), "1.25"),
        case("openai", "gpt-5.5", "priority", tokens([272_001, 0, 0, 0, 0, 0]), "no_context_tier"),
        case("openai", "gpt-5.1", "scale", tokens([1, 0, 0, 0, 0, 0]), "no_service_tier"),
        // Azure: the same list price; its service tiers are not listed.
        case("azure", "gpt-5.1", "", tokens([900, 300, 0, 0, 80, 40]), "0.0023625"),
        case("azure", "gpt-5.1", "batch", tokens([900, 300, 0, 0, 80, 40]), "no_service_tier"),
        // Anthropic: Opus 5.5 at $4 / $20, 5,000 in and 800 out: 0.02 + 0.016; half of it in a batch.
        case("anthropic", "claude-opus-5-5", "standard", tokens([5000, 0, 0, 0, 800, 0]), "0.036"),
        case("anthropic", "claude-opus-5-5", "batch", tokens([5000, 0, 0, 0, 800, 0]), "0.018"),
        // Its cache: 1,000 × $4 + 40,000 × $0.20 + 10,000 × $5 + 2,000 × $8 + 500 × $20 = 4 + 8 + 50 + 16 + 10 thousandths.
        case("anthropic", "claude-opus-5-5", "", tokens([1000, 40_000, 10_000, 2000, 500, 0]), "0.088"),
        // Anthropic's priority tier is committed to in advance; it has no price per token.
        case("anthropic", "claude-opus-5-5", "priority", tokens([5000, 0, 0, 0, 800, 0]), "no_service_tier"),
        // Haiku 5.5: $0.10 / $0.50, five times as much when "the prompt exceeds 100,000 tokens", cached ones among them.
        // 20,000 × $0.10 + 80,000 × $0.01 + 1,000 × $0.50 = 0.002 + 0.0008 + 0.0005.
        case("anthropic", "claude-haiku-5-5", "", tokens([20_000, 80_000, 0, 0, 1000, 0]), "0.0033"),
        // 20,000 × $0.50 + 80,000 × $0.05 + 1 × $0.625 a million + 1,000 × $2.50 = 0.01 + 0.004 + 0.000000625 + 0.0025.
        case("anthropic", "claude-haiku-5-5", "", tokens([20_000, 80_000, 1, 0, 1000, 0]), "0.016500625"),
        // Google: Gemini 2.5 Pro at $1.25 / $0.125 / $10, "prompts > 200k" at $2.50 / $0.25 / $15; thoughts are output.
        // 150,000 × 1.25 + 50,000 × 0.125 + 3,000 × 10 = 187,500 + 6,250 + 30,000 millionths.
        case("google", "gemini-2.5-pro", "", tokens([150_000, 50_000, 0, 0, 1000, 2000]), "0.22375"),
        // 150,001 × 2.5 + 50,000 × 0.25 + 3,000 × 15 = 375,002.5 + 12,500 + 45,000.
        case("google", "gemini-2.5-pro", "ON_DEMAND", tokens([150_001, 50_000, 0, 0, 1000, 2000]), "0.4325025"),
        // A batch halves input and output and leaves the cache's price: 150,000 × 0.625 + 50,000 × 0.125 + 3,000 × 5.
        case("gemini", "gemini-2.5-pro", "batch", tokens([150_000, 50_000, 0, 0, 1000, 2000]), "0.115"),
        // xAI: Grok 4.6 at $2 / $0.50 / $6, "long context ≥ 200k tokens" twice as much.
        // 199,999 × 2 + 1,000 × 6 = 405,998 millionths; 200,000 × 4 + 1,000 × 12 = 812,000.
        case("xai", "grok-4.6", "", tokens([199_999, 0, 0, 0, 1000, 0]), "0.405998"),
        case("xai", "grok-4.6", "", tokens([200_000, 0, 0, 0, 1000, 0]), "0.812"),
        // Mistral: Large 3 at $0.50 / $1.50, half in a batch: (10,000 × 0.5 + 2,000 × 1.5) / 2 = 4,000 millionths.
        case("mistral", "mistral-large-2512", "batch", tokens([10_000, 0, 0, 0, 2000, 0]), "0.004"),
        // Groq: gpt-oss-120b at $0.15 / $0.60; "cached input is billed at the halved input rate" in a batch:
        // (10,000 + 5,000) × 0.075 + 2,000 × 0.3 = 1,125 + 600 millionths.
        case("groq", "openai/gpt-oss-120b", "batch", tokens([10_000, 5000, 0, 0, 2000, 0]), "0.001725"),
        // Bedrock: Nova Pro at $0.80 / $0.20 cached / $3.20: 10,000 × 0.8 + 5,000 × 0.2 + 1,000 × 3.2.
        case("bedrock", "amazon.nova-pro-v1:0", "default", tokens([10_000, 5000, 0, 0, 1000, 0]), "0.0122"),
        // Cohere: Command A at $2.50 / $10: 4,000 × 2.5 + 500 × 10.
        case("cohere", "command-a-03-2025", "", tokens([4000, 0, 0, 0, 500, 0]), "0.015"),
        // DeepSeek: V4 Flash at $0.22 / $0.007 cached / $0.66 off the peak: 10,000 × 0.22 + 90,000 × 0.007 + 1,000 × 0.66.
        case("deepseek", "deepseek-v4-flash", "", tokens([10_000, 90_000, 0, 0, 1000, 0]), "0.00349"),
    ];
    let book = PriceBook::shipped();
    for Case { provider, model, tier, tokens, dollars } in cases {
        let named =
            [(Dimension::Provider, Some(provider)), (Dimension::Model, Some(model)), (Dimension::ServiceTier, tier)];
        let at = TimeUs::parse_rfc3339("2026-11-21T10:00:00Z").expect("a time of this test");
        let priced = match book.price(&support::event(&named, tokens), at) {
            Priced::Cost(cost) => cost.amount.to_string(),
            Priced::Unpriced(reason) => reason.code().to_owned(),
        };
        assert_eq!(priced, dollars, "{provider} {model} {tier:?} {tokens:?}");
    }
}
