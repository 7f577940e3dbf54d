//! One name per provider: that of OpenTelemetry's `gen_ai.provider.name`, whatever a gateway calls it.

/// What gateways and SDKs call a provider, beside the name that OpenTelemetry gives it.
/// Sources: the well-known values of `gen_ai.provider.name` and of its predecessor `gen_ai.system` (semantic conventions 1.37
/// and before), and the provider prefixes of LiteLLM.
const ALIASES: &[(&str, &str)] = &[
    ("amazon_bedrock", "aws.bedrock"),
    ("anthropic_text", "anthropic"),
    ("aws_bedrock", "aws.bedrock"),
    ("az.ai.inference", "azure.ai.inference"),
    ("az.ai.openai", "azure.ai.openai"),
    ("azure", "azure.ai.openai"),
    ("azure_ai", "azure.ai.inference"),
    ("azure_openai", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("bedrock_converse", "aws.bedrock"),
    ("claude", "anthropic"),
    ("cohere_chat", "cohere"),
    ("gemini", "gcp.gemini"),
    ("google", "gcp.gemini"),
    ("google_ai_studio", "gcp.gemini"),
    ("google_genai", "gcp.gen_ai"),
    ("google_vertex", "gcp.vertex_ai"),
    ("grok", "x_ai"),
    ("mistral", "mistral_ai"),
    ("mistralai", "mistral_ai"),
    ("text-completion-openai", "openai"),
    ("vertex", "gcp.vertex_ai"),
    ("vertex_ai", "gcp.vertex_ai"),
    ("watsonx", "ibm.watsonx.ai"),
    ("x-ai", "x_ai"),
    ("x.ai", "x_ai"),
    ("xai", "x_ai"),
];

/// The provider's name in `gen_ai.provider.name` where this is another name of it, else the text as it is. Case counts for
/// nothing in the names known here and for everything in others.
#[must_use]
pub fn canonical_provider(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, canonical)| alias.eq_ignore_ascii_case(name) || canonical.eq_ignore_ascii_case(name))
        .map_or(name, |(_, canonical)| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_a_provider_become_the_one_of_opentelemetry() {
        for (given, canonical) in [
            ("google", "gcp.gemini"),
            ("azure", "azure.ai.openai"),
            ("Bedrock", "aws.bedrock"),
            ("AWS.Bedrock", "aws.bedrock"),
            ("vertex_ai", "gcp.vertex_ai"),
            ("xai", "x_ai"),
            ("mistral", "mistral_ai"),
            ("openai", "openai"),
            ("acme-cloud", "acme-cloud"),
        ] {
            assert_eq!(canonical_provider(given), canonical);
            assert_eq!(canonical_provider(canonical), canonical, "canonical names stay");
        }
    }

    #[test]
    fn no_alias_leads_to_another_alias() {
        for (alias, canonical) in ALIASES {
            assert!(!ALIASES.iter().any(|(other, _)| other == canonical), "{alias} leads to {canonical}");
        }
    }
}
