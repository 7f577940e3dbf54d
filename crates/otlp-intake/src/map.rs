//! What a site may set about OpenTelemetry.

use usage_intake::AttributeMap;

/// How spans and log records become events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpMap {
    /// Which attributes name which dimension, and the namespace of what names none (empty: it is refused). For each dimension the names are
    /// tried in their order; each is looked for on the span or log record, then on its scope, then on its resource. An empty value counts
    /// as absent.
    pub attributes: AttributeMap,
    /// Attributes that are kept as tags under their own names.
    pub tags: Vec<String>,
    /// The values of `gen_ai.operation.name` that are calls of a model. A span without an operation is one as well.
    pub operations: Vec<String>,
    /// Names of instrumentation scopes whose input count leaves out what came from or went to a cache, against the conventions.
    ///
    /// Default: `opentelemetry.instrumentation.bedrock` (OpenLLMetry, up to 0.62.4 at least), which passes Bedrock's `inputTokens` on.
    pub input_excludes_cache: Vec<String>,
    /// Whether Claude Code's own estimate of a cost goes before the price book, as any sender's does. Default true.
    pub claude_code_cost: bool,
}

impl Default for OtlpMap {
    fn default() -> Self {
        AttributeMap::default().into()
    }
}

impl From<AttributeMap> for OtlpMap {
    /// These attributes, and everything else at its default.
    fn from(attributes: AttributeMap) -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            attributes,
            tags: names(&["deployment.environment.name", "query_source"]),
            operations: names(&["chat", "text_completion", "generate_content", "embeddings"]),
            input_excludes_cache: names(&["opentelemetry.instrumentation.bedrock"]),
            claude_code_cost: true,
        }
    }
}
