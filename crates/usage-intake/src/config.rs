//! What a site sets about the formats of others: which of their names mean which of our dimensions and measures.
//!
//! Our own event needs none of this, and its reader never looks here. What is not set has a default that fits the format's usual
//! senders; a list that is set takes the default's place for that dimension alone.
//! Deliberately absent: reading the file, and noticing that it changed.

mod file;

use usage_types::{Currency, Dimension, TokenClass};

pub use yaml_file::FileError;

use crate::framed::Encoding;
use crate::provider_usage::Format;

/// The mappings of the formats that are not our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeConfig {
    /// CloudEvents whose data is not our event, by their `type`; the first that fits counts.
    pub cloudevents: Vec<CloudEventMap>,
    /// Headers of records and requests, in lower case, that name a dimension which the event itself lacks; the first that is there
    /// counts. By default `x-outlay-namespace` and so on, then `x-policy-project` and `x-policy-user`. The questions of gateways
    /// (`/v1/check`) name their dimensions by these, too.
    pub headers: Vec<(String, Dimension)>,
    /// In what a record with a schema registry's prefix is written, where neither a registry nor its header `content-type` says it.
    pub framed: Encoding,
    /// LiteLLM's logging payload.
    pub litellm: LiteLlmMap,
    /// OpenTelemetry's spans and log records.
    pub opentelemetry: OtlpMap,
}

/// What gateways with a policy check by project and user send; a project pays, so it is the namespace.
const POLICY_HEADERS: [(&str, Dimension); 2] =
    [("x-policy-project", Dimension::Namespace), ("x-policy-user", Dimension::User)];

/// The namespace of what names none, in the formats that know no namespace.
const DEFAULT_NAMESPACE: &str = "default";

impl Default for IntakeConfig {
    fn default() -> Self {
        let litellm = LiteLlmMap::default();
        Self {
            cloudevents: vec![CloudEventMap::litellm_openmeter(&litellm)],
            headers: Dimension::ALL
                .map(|dimension| (dimension.header(), dimension))
                .into_iter()
                .chain(POLICY_HEADERS)
                .map(|(name, dimension)| (name.to_owned(), dimension))
                .collect(),
            framed: Encoding::default(),
            litellm,
            opentelemetry: OtlpMap::default(),
        }
    }
}

impl IntakeConfig {
    /// Reads the YAML of a configuration. An empty one is the default.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, column and field. Nothing of the text is to be used then.
    pub fn from_yaml(text: &str) -> Result<Self, FileError> {
        file::read(text)
    }
}

/// Where in a CloudEvent's data a value is: the names of members from the outermost inwards; none: the data itself. Written like
/// `$.usage.prompt_tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataPath(pub(crate) Vec<String>);

/// A value of a mapped event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// It is in the data.
    Path(DataPath),
    /// It is the same for every event.
    Value(String),
}

/// A measure of a mapped event other than its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappedMeasure {
    /// Tokens of a class.
    Tokens(TokenClass),
    /// Requests to a model.
    Requests,
    /// Tool calls.
    ToolCalls,
    /// Images that a model made.
    Images,
    /// Compute time in seconds.
    ComputeSeconds,
    /// Compute time in milliseconds.
    ComputeMilliseconds,
}

impl MappedMeasure {
    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens(class) => class.name(),
            Self::Requests => "requests",
            Self::ToolCalls => "tool_calls",
            Self::Images => "images",
            Self::ComputeSeconds => "compute_seconds",
            Self::ComputeMilliseconds => "compute_milliseconds",
        }
    }
}

/// Where the cost of a mapped event is, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedCost {
    /// The amount: a number or a text in the data.
    pub amount: DataPath,
    /// The currency of every amount.
    pub currency: Currency,
    /// The tag that keeps the amount, as it was written, in the place of the cost: the price book then sets the cost.
    pub as_tag: Option<String>,
}

/// How the CloudEvents of one type become usage events: what OpenMeter's senders write, `subject` and `data` of their own making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEventMap {
    /// The `type` of the events; with `is_prefix` how it starts.
    pub event_type: String,
    /// Whether every type that starts like this is meant.
    pub is_prefix: bool,
    /// The dimension that `subject` names.
    pub subject: Option<Dimension>,
    /// The dimensions.
    pub dimensions: Vec<(Dimension, DataSource)>,
    /// The measures.
    pub measures: Vec<(MappedMeasure, DataSource)>,
    /// The cost.
    pub cost: Option<MappedCost>,
    /// A provider's usage object, in the place of measured tokens.
    pub usage: Option<DataPath>,
    /// The format of the usage object, where it does not show.
    pub(crate) usage_format: Option<Format>,
    /// Tags.
    pub tags: Vec<(String, DataSource)>,
    /// Whether `input` contains the other classes of input, which are then taken out of it.
    pub includes_cache: bool,
    /// Whether `output` contains `reasoning`, which is then taken out of it.
    pub includes_reasoning: bool,
}

impl CloudEventMap {
    /// The events of LiteLLM's OpenMeter callback under the type that it has unless told otherwise. They know no namespace.
    /// Source: `litellm/integrations/openmeter.py`, LiteLLM 1.109.
    #[must_use]
    pub fn litellm_openmeter(litellm: &LiteLlmMap) -> Self {
        let path = |names: &[&str]| DataPath(names.iter().map(|name| (*name).to_owned()).collect());
        let namespace = DataSource::Value(litellm.default_namespace.clone());
        Self {
            event_type: "litellm_tokens".to_owned(),
            is_prefix: false,
            subject: Some(Dimension::User),
            dimensions: vec![(Dimension::Namespace, namespace), (Dimension::Model, DataSource::Path(path(&["model"])))],
            measures: vec![(MappedMeasure::Requests, DataSource::Value("1".to_owned()))],
            cost: Some(MappedCost {
                amount: path(&["cost"]),
                currency: Currency::USD,
                as_tag: (!litellm.cost_counts).then(|| LiteLlmMap::COST_TAG.to_owned()),
            }),
            usage: Some(DataPath::default()),
            usage_format: None,
            tags: Vec::new(),
            includes_cache: false,
            includes_reasoning: false,
        }
    }

    /// Whether events of this type are meant.
    #[must_use]
    pub fn is_for(&self, event_type: &str) -> bool {
        if self.is_prefix { event_type.starts_with(&self.event_type) } else { event_type == self.event_type }
    }
}

/// How LiteLLM's logging payload becomes a usage event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiteLlmMap {
    /// The namespace of a payload that names none.
    pub default_namespace: String,
    /// Whether LiteLLM's cost is the event's. Otherwise the price book sets the cost, and LiteLLM's is kept as a tag.
    pub cost_counts: bool,
    /// For each dimension where it may be, in the order of preference: the name of a member of `metadata`, else of the payload
    /// itself (`end_user`, `session_id`, `trace_id`, `model_parameters`), or a path of such names with dots between. Dimensions that the payload names itself (provider, model, operation,
    /// service tier) need none.
    pub dimensions: Vec<(Dimension, Vec<String>)>,
}

impl LiteLlmMap {
    /// The tag that keeps LiteLLM's cost where it does not count.
    pub const COST_TAG: &'static str = "litellm_cost";
}

impl Default for LiteLlmMap {
    fn default() -> Self {
        let of_request = |name: &str| vec![format!("requester_metadata.{name}"), format!("spend_logs_metadata.{name}")];
        Self {
            default_namespace: DEFAULT_NAMESPACE.to_owned(),
            cost_counts: false,
            dimensions: vec![
                (Dimension::Namespace, owned(&["user_api_key_org_alias", "user_api_key_org_id"])),
                (Dimension::Team, owned(&["user_api_key_team_alias", "team_alias", "user_api_key_team_id", "team_id"])),
                (Dimension::Repository, of_request("repository")),
                (
                    Dimension::User,
                    owned(&[
                        "user_api_key_end_user_id",
                        "end_user",
                        "user_api_key_user_id",
                        "user_api_key_user_email",
                        "model_parameters.user",
                    ]),
                ),
                (Dimension::ApiKey, owned(&["user_api_key_alias", "user_api_key_hash"])),
                (Dimension::Agent, of_request("agent")),
                (Dimension::Session, owned(&["session_id", "trace_id"])),
                (Dimension::Task, of_request("task")),
                (Dimension::Job, of_request("job")),
            ],
        }
    }
}

/// How OpenTelemetry's spans and log records become usage events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpMap {
    /// For each dimension the names of attributes, in the order of preference; each is looked for on the span or log record, then on its
    /// scope, then on its resource. An empty value counts as absent.
    pub dimensions: Vec<(Dimension, Vec<String>)>,
    /// The namespace of what names none; empty: it is refused.
    pub default_namespace: String,
    /// Attributes that are kept as tags under their own names, at most [`usage_types::UsageEvent::TAGS_MAX`] of them.
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

impl OtlpMap {
    /// The names of a dimension's attributes, in the order of preference.
    #[must_use]
    pub fn names(&self, dimension: Dimension) -> &[String] {
        self.dimensions.iter().find(|(is, _)| *is == dimension).map_or(&[], |(_, names)| names)
    }
}

impl Default for OtlpMap {
    /// Ours first (`outlay.team`), then those of the semantic conventions, then those that clients are known to send.
    fn default() -> Self {
        let theirs = |dimension| -> &[&str] {
            match dimension {
                Dimension::Namespace => &["service.namespace"],
                Dimension::Team => &["team.name", "team.id"],
                Dimension::Repository => &["vcs.repository.name", "vcs.repository.url.full"],
                // Claude Code's `user.id` is a random number of an installation: what names a person goes before it.
                Dimension::User => &["enduser.id", "user.email", "user.id"],
                Dimension::ApiKey => &["api_key.id"],
                Dimension::Agent => &["gen_ai.agent.name", "gen_ai.agent.id", "agent.name"],
                Dimension::Session => &["gen_ai.conversation.id", "session.id"],
                Dimension::Task => &["task.id"],
                Dimension::Job => &["cicd.pipeline.run.id", "job.id"],
                Dimension::Provider => &["gen_ai.provider.name", "gen_ai.system"],
                Dimension::Model => &["gen_ai.response.model", "gen_ai.request.model"],
                Dimension::Operation => &["gen_ai.operation.name"],
                Dimension::ServiceTier => &["openai.response.service_tier", "gen_ai.openai.response.service_tier"],
            }
        };
        let names = |dimension: Dimension| {
            let ours = format!("outlay.{}", dimension.name());
            (dimension, [ours].into_iter().chain(owned(theirs(dimension))).collect())
        };
        Self {
            dimensions: Dimension::ALL.map(names).to_vec(),
            default_namespace: DEFAULT_NAMESPACE.to_owned(),
            tags: owned(&["deployment.environment.name", "query_source"]),
            operations: owned(&["chat", "text_completion", "generate_content", "embeddings"]),
            input_excludes_cache: owned(&["opentelemetry.instrumentation.bedrock"]),
            claude_code_cost: true,
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Puts the names that a file gives for a dimension in the place of the default's.
fn replace(lists: &mut Vec<(Dimension, Vec<String>)>, dimension: Dimension, names: Vec<String>) {
    match lists.iter_mut().find(|(is, _)| *is == dimension) {
        Some((_, list)) => *list = names,
        None => lists.push((dimension, names)),
    }
}
