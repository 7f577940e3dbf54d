//! The configuration as people write it: YAML, read into an [`IntakeConfig`] or refused as a whole with line, column and field.
//!
//! Refused as a whole, because half a mapping would count half the usage.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};
use usage_types::{Dimension, TokenClass, UsageEvent};

use super::{
    CloudEventMap, DataPath, DataSource, IntakeConfig, LiteLlmMap, MappedCost, MappedMeasure, OtlpMap, replace,
};
use crate::field::check_text;
use crate::provider_usage::Format;

/// The largest file, in bytes: 1 MiB, thousands of mappings.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The most tags of a mapping: as many as an event may have, less the cost's.
const TAGS_MAX: usize = UsageEvent::TAGS_MAX - 1;

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {}{message}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct IntakeConfigError {
    /// The line in the file, from 1; 0 where the file as a whole is wrong.
    pub line: u64,
    /// The column in the line, in characters from 1.
    pub column: u64,
    /// Which field, like `cloudevents[0].measures.input`; only the key where the file is no valid YAML of this shape.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

type Text = Spanned<String>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    cloudevents: Option<Vec<RawMap>>,
    headers: Option<BTreeMap<String, Text>>,
    litellm: Option<RawLiteLlm>,
    opentelemetry: Option<RawOtlp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMap {
    #[serde(rename = "type")]
    event_type: Text,
    subject: Option<Text>,
    #[serde(default)]
    dimensions: BTreeMap<String, Spanned<RawSource>>,
    #[serde(default)]
    measures: RawMeasures,
    usage: Option<Text>,
    usage_format: Option<Text>,
    #[serde(default)]
    tags: BTreeMap<String, Spanned<RawSource>>,
    #[serde(default)]
    includes_cache: bool,
    #[serde(default)]
    includes_reasoning: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawMeasures {
    input: Option<Spanned<RawSource>>,
    cache_read: Option<Spanned<RawSource>>,
    cache_write_5m: Option<Spanned<RawSource>>,
    cache_write_1h: Option<Spanned<RawSource>>,
    output: Option<Spanned<RawSource>>,
    reasoning: Option<Spanned<RawSource>>,
    requests: Option<Spanned<RawSource>>,
    tool_calls: Option<Spanned<RawSource>>,
    images: Option<Spanned<RawSource>>,
    compute_seconds: Option<Spanned<RawSource>>,
    compute_milliseconds: Option<Spanned<RawSource>>,
    cost: Option<RawCost>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCost {
    amount: Text,
    currency: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawLiteLlm {
    default_namespace: Option<Text>,
    cost: Option<Text>,
    dimensions: BTreeMap<String, Spanned<OneOrMore>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawOtlp {
    default_namespace: Option<Text>,
    attributes: BTreeMap<String, Spanned<OneOrMore>>,
    tags: Option<Spanned<OneOrMore>>,
    operations: Option<Spanned<OneOrMore>>,
    input_excludes_cache: Option<Spanned<OneOrMore>>,
    claude_code_cost: Option<Text>,
}

/// `$.path`, or `{ value: … }`.
enum RawSource {
    Path(String),
    Value(String),
}

impl<'de> Deserialize<'de> for RawSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Constant {
            value: String,
        }
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = RawSource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path like `$.model`, or a constant like `{ value: gpt-5.1 }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawSource, E> {
                Ok(RawSource::Path(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSource, A::Error> {
                Constant::deserialize(MapAccessDeserializer::new(map)).map(|constant| RawSource::Value(constant.value))
            }
        }
        deserializer.deserialize_any(Source)
    }
}

/// `team.name` or `[team.name, team.id]`.
struct OneOrMore(Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

pub(super) fn read(text: &str) -> Result<IntakeConfig, IntakeConfigError> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes are more than the {FILE_BYTES_MAX} of a configuration", text.len());
        return Err(IntakeConfigError { line: 0, column: 0, field: String::new(), message });
    }
    let raw: Option<RawConfig> = serde_saphyr::from_str(text).map_err(|error| not_of_this_shape(text, &error))?;
    let raw = raw.unwrap_or_default();
    let mut config = IntakeConfig {
        litellm: litellm(raw.litellm.unwrap_or_default())?,
        opentelemetry: otlp(raw.opentelemetry.unwrap_or_default())?,
        ..IntakeConfig::default()
    };
    let named = headers(raw.headers.unwrap_or_default())?;
    config.headers.splice(0..0, named);
    let maps = raw.cloudevents.unwrap_or_default().into_iter().enumerate();
    config.cloudevents =
        maps.map(|(at, raw)| cloud_event_map(raw, &format!("cloudevents[{at}]"))).collect::<Result<_, _>>()?;
    config.cloudevents.push(CloudEventMap::litellm_openmeter(&config.litellm));
    Ok(config)
}

fn error(at: Location, field: impl Into<String>, message: impl Into<String>) -> IntakeConfigError {
    IntakeConfigError { line: at.line(), column: at.column(), field: field.into(), message: message.into() }
}

fn dimension(name: &str, at: Location, field: &str) -> Result<Dimension, IntakeConfigError> {
    name.parse().map_err(|message: String| error(at, field, message))
}

/// A text that becomes a dimension, a tag or the name of one.
fn label(text: &str, at: Location, field: &str) -> Result<String, IntakeConfigError> {
    if text.trim().is_empty() {
        return Err(error(at, field, "nothing is written here; write a text"));
    }
    check_text(text).map(|()| text.to_owned()).map_err(|(_, message)| error(at, field, message))
}

fn path(text: &str, at: Location, field: &str) -> Result<DataPath, IntakeConfigError> {
    let wrong =
        || error(at, field, format!("{text:?} is no path; write one like `$.usage.input`, or `$` for all the data"));
    let rest = text.strip_prefix('$').ok_or_else(wrong)?;
    if rest.is_empty() {
        return Ok(DataPath::default());
    }
    let names: Vec<String> = rest.strip_prefix('.').ok_or_else(wrong)?.split('.').map(str::to_owned).collect();
    if names.iter().any(|name| name.is_empty() || name.contains(['[', ']', '*', '$'])) {
        return Err(wrong());
    }
    Ok(DataPath(names))
}

fn source(raw: &Spanned<RawSource>, field: &str) -> Result<DataSource, IntakeConfigError> {
    match &raw.value {
        RawSource::Path(text) => path(text, raw.referenced, field).map(DataSource::Path),
        RawSource::Value(text) => label(text, raw.referenced, field).map(DataSource::Value),
    }
}

fn cloud_event_map(raw: RawMap, at: &str) -> Result<CloudEventMap, IntakeConfigError> {
    let field = |name: &str| format!("{at}.{name}");
    let event_type = label(&raw.event_type.value, raw.event_type.referenced, &field("type"))?;
    let stem = event_type.strip_suffix('*').unwrap_or(&event_type);
    if stem.contains('*') {
        return Err(error(raw.event_type.referenced, field("type"), "a `*` stands only at the end, like `prompt.*`"));
    }
    let subject = raw.subject.map(|text| dimension(&text.value, text.referenced, &field("subject"))).transpose()?;
    let mut dimensions = Vec::new();
    for (name, value) in &raw.dimensions {
        let field = field(&format!("dimensions.{name}"));
        dimensions.push((dimension(name, value.referenced, &field)?, source(value, &field)?));
    }
    let mut tags = Vec::new();
    for (name, value) in &raw.tags {
        let field = field(&format!("tags.{name}"));
        tags.push((label(name, value.referenced, &field)?, source(value, &field)?));
    }
    if tags.len() > TAGS_MAX {
        let message = format!("{} tags are more than the {TAGS_MAX} that one mapping may set", tags.len());
        return Err(error(raw.event_type.referenced, field("tags"), message));
    }
    let usage = raw.usage.as_ref().map(|text| path(&text.value, text.referenced, &field("usage"))).transpose()?;
    let usage_format = raw
        .usage_format
        .map(|text| {
            Format::named(&text.value).map_err(|(_, message)| error(text.referenced, field("usage_format"), message))
        })
        .transpose()?;
    let measures = measures(&raw.measures, &field("measures"))?;
    let cost = raw.measures.cost.map(|raw| cost(&raw, &field("measures.cost"))).transpose()?;
    let at_type = raw.event_type.referenced;
    if usage.is_some() && measures.iter().any(|(measure, _)| matches!(measure, MappedMeasure::Tokens(_))) {
        let message = "`usage` counts the tokens already; take the token classes out of `measures`";
        return Err(error(at_type, field("usage"), message));
    }
    if measures.is_empty() && cost.is_none() && usage.is_none() {
        let message =
            "no measure is mapped; write at least one, like `input: \"$.tokens\"` or `requests: { value: 1 }`";
        return Err(error(at_type, field("measures"), message));
    }
    Ok(CloudEventMap {
        is_prefix: stem.len() < event_type.len(),
        event_type: stem.to_owned(),
        subject,
        dimensions,
        measures,
        cost,
        usage,
        usage_format,
        tags,
        includes_cache: raw.includes_cache,
        includes_reasoning: raw.includes_reasoning,
    })
}

fn measures(raw: &RawMeasures, at: &str) -> Result<Vec<(MappedMeasure, DataSource)>, IntakeConfigError> {
    let tokens = MappedMeasure::Tokens;
    let given = [
        (tokens(TokenClass::Input), &raw.input),
        (tokens(TokenClass::CacheRead), &raw.cache_read),
        (tokens(TokenClass::CacheWrite5m), &raw.cache_write_5m),
        (tokens(TokenClass::CacheWrite1h), &raw.cache_write_1h),
        (tokens(TokenClass::Output), &raw.output),
        (tokens(TokenClass::Reasoning), &raw.reasoning),
        (MappedMeasure::Requests, &raw.requests),
        (MappedMeasure::ToolCalls, &raw.tool_calls),
        (MappedMeasure::Images, &raw.images),
        (MappedMeasure::ComputeSeconds, &raw.compute_seconds),
        (MappedMeasure::ComputeMilliseconds, &raw.compute_milliseconds),
    ];
    let mut measures = Vec::new();
    for (measure, raw) in given {
        if let Some(raw) = raw {
            let field = format!("{at}.{}", measure.name());
            let source = source(raw, &field)?;
            let is_number = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if matches!(&source, DataSource::Value(text) if !is_number(text)) {
                return Err(error(raw.referenced, field, "a constant measure is a whole number, like `{ value: 1 }`"));
            }
            measures.push((measure, source));
        }
    }
    Ok(measures)
}

fn cost(raw: &RawCost, at: &str) -> Result<MappedCost, IntakeConfigError> {
    let (amount, currency) = (&raw.amount, &raw.currency);
    Ok(MappedCost {
        amount: path(&amount.value, amount.referenced, &format!("{at}.amount"))?,
        currency: (currency.value.parse()).map_err(|wrong: usage_types::UnitError| {
            error(currency.referenced, format!("{at}.currency"), wrong.to_string())
        })?,
        as_tag: None,
    })
}

fn headers(raw: BTreeMap<String, Text>) -> Result<Vec<(String, Dimension)>, IntakeConfigError> {
    let mut headers = Vec::new();
    for (name, text) in raw {
        let field = format!("headers.{name}");
        let at = text.referenced;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(error(
                at,
                field,
                format!("{name:?} is no header's name; use letters, digits, `-`, `_` and `.`"),
            ));
        }
        let name = name.to_ascii_lowercase();
        if name.starts_with("ce_") || name.starts_with("ce-") || name.starts_with("content-") || name == "authorization"
        {
            return Err(error(at, field, "this header has a meaning of its own; choose another"));
        }
        headers.push((name, dimension(&text.value, at, &field)?));
    }
    Ok(headers)
}

fn lists(
    defaults: &mut Vec<(Dimension, Vec<String>)>,
    raw: BTreeMap<String, Spanned<OneOrMore>>,
    at: &str,
) -> Result<(), IntakeConfigError> {
    for (name, names) in raw {
        let field = format!("{at}.{name}");
        let dimension = dimension(&name, names.referenced, &field)?;
        if names.value.0.iter().any(|name| name.is_empty()) {
            return Err(error(names.referenced, field, "a name is empty; write one or leave it out"));
        }
        replace(defaults, dimension, names.value.0);
    }
    Ok(())
}

fn litellm(raw: RawLiteLlm) -> Result<LiteLlmMap, IntakeConfigError> {
    let mut map = LiteLlmMap::default();
    if let Some(text) = raw.default_namespace {
        map.default_namespace = label(&text.value, text.referenced, "litellm.default_namespace")?;
    }
    if let Some(text) = raw.cost {
        map.cost_counts = is_theirs(&text, "litellm.cost", "LiteLLM's")?;
    }
    lists(&mut map.dimensions, raw.dimensions, "litellm.dimensions")?;
    Ok(map)
}

/// Whether the sender's cost counts, and not the price book's.
fn is_theirs(text: &Text, field: &str, theirs: &str) -> Result<bool, IntakeConfigError> {
    match text.value.as_str() {
        "event" => Ok(true),
        "price_book" => Ok(false),
        other => {
            let message = format!("{other:?} sets no cost; write `event` for {theirs} or `price_book` for ours");
            Err(error(text.referenced, field, message))
        }
    }
}

fn otlp(raw: RawOtlp) -> Result<OtlpMap, IntakeConfigError> {
    let mut map = OtlpMap::default();
    if let Some(text) = raw.default_namespace {
        map.default_namespace = label(&text.value, text.referenced, "opentelemetry.default_namespace")?;
    }
    lists(&mut map.dimensions, raw.attributes, "opentelemetry.attributes")?;
    if let Some(raw) = raw.tags {
        let (field, at) = ("opentelemetry.tags", raw.referenced);
        map.tags = labels(raw, field)?;
        if map.tags.len() > UsageEvent::TAGS_MAX {
            let (is, may) = (map.tags.len(), UsageEvent::TAGS_MAX);
            return Err(error(at, field, format!("{is} tags are more than the {may} that an event may have")));
        }
    }
    if let Some(raw) = raw.operations {
        let (field, at) = ("opentelemetry.operations", raw.referenced);
        map.operations = labels(raw, field)?;
        if map.operations.is_empty() {
            let message = "no operation would be counted; write the calls of a model, like `[chat, embeddings]`";
            return Err(error(at, field, message));
        }
    }
    if let Some(raw) = raw.input_excludes_cache {
        map.input_excludes_cache = labels(raw, "opentelemetry.input_excludes_cache")?;
    }
    if let Some(text) = raw.claude_code_cost {
        map.claude_code_cost = is_theirs(&text, "opentelemetry.claude_code_cost", "Claude Code's")?;
    }
    Ok(map)
}

/// Texts of which each may be a dimension, a tag or the name of one.
fn labels(raw: Spanned<OneOrMore>, field: &str) -> Result<Vec<String>, IntakeConfigError> {
    raw.value.0.iter().map(|text| label(text, raw.referenced, field)).collect()
}

/// An error of the YAML reader, without its excerpt of the file: the field is the one it names, else the key on the line.
fn not_of_this_shape(text: &str, wrong: &serde_saphyr::Error) -> IntakeConfigError {
    let (line, column) = wrong.location().map_or((0, 0), |at| (at.line(), at.column()));
    let message = wrong.without_snippet().to_string();
    let message = message.strip_suffix(&format!(" at line {line}, column {column}")).unwrap_or(&message);
    let named = message.split_once("field `").and_then(|(_, rest)| rest.split('`').next());
    let on_line = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?)).unwrap_or("");
    let key = on_line.trim_start().trim_start_matches("- ").split_once(':').map_or("", |(key, _)| key.trim());
    let plain = |name: &&str| name.len() < 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    IntakeConfigError {
        line,
        column,
        field: named.or(Some(key)).filter(plain).unwrap_or_default().to_owned(),
        message: message.to_owned(),
    }
}
