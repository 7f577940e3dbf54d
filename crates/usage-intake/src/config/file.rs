//! The configuration as people write it: YAML, read into an [`IntakeConfig`] or refused as a whole with line, column and field.
//!
//! Refused as a whole, because half a mapping would count half the usage.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use usage_types::{Dimension, TokenClass, UsageEvent};
use yaml_file::{FileError, Location, OneOrMore, Spanned, Text};

use super::{
    CloudEventMap, DataPath, DataSource, IntakeConfig, LiteLlmMap, MappedCost, MappedMeasure, OtlpMap, replace,
};
use crate::field::check_text;
use crate::framed::Encoding;
use crate::provider_usage::Format;

/// The largest file, in bytes: 1 MiB, thousands of mappings.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The most tags of a mapping: as many as an event may have, less the cost's.
const TAGS_MAX: usize = UsageEvent::TAGS_MAX - 1;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    cloudevents: Option<Vec<RawMap>>,
    headers: Option<BTreeMap<String, Text>>,
    framed: Option<Text>,
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

pub(super) fn read(text: &str) -> Result<IntakeConfig, FileError> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes are more than the {FILE_BYTES_MAX} of a configuration", text.len());
        return Err(FileError::whole(message));
    }
    let raw: Option<RawConfig> = yaml_file::from_str(text)?;
    let raw = raw.unwrap_or_default();
    let mut config = IntakeConfig {
        litellm: litellm(raw.litellm.unwrap_or_default())?,
        opentelemetry: otlp(raw.opentelemetry.unwrap_or_default())?,
        ..IntakeConfig::default()
    };
    if let Some(text) = raw.framed {
        config.framed = framed(&text)?;
    }
    let named = headers(raw.headers.unwrap_or_default())?;
    config.headers.retain(|(name, _)| named.iter().all(|(own, _)| own != name));
    config.headers.splice(0..0, named);
    let maps = raw.cloudevents.unwrap_or_default().into_iter().enumerate();
    config.cloudevents =
        maps.map(|(at, raw)| cloud_event_map(raw, &format!("cloudevents[{at}]"))).collect::<Result<_, _>>()?;
    config.cloudevents.push(CloudEventMap::litellm_openmeter(&config.litellm));
    Ok(config)
}

fn dimension(name: &str, at: Location, field: &str) -> Result<Dimension, FileError> {
    name.parse().map_err(|message: String| FileError::at(at, field, message))
}

/// A text that becomes a dimension, a tag or the name of one.
fn label(text: &str, at: Location, field: &str) -> Result<String, FileError> {
    if text.trim().is_empty() {
        return Err(FileError::at(at, field, "nothing is written here; write a text"));
    }
    check_text(text).map(|()| text.to_owned()).map_err(|(_, message)| FileError::at(at, field, message))
}

fn path(text: &str, at: Location, field: &str) -> Result<DataPath, FileError> {
    let wrong = || {
        FileError::at(
            at,
            field,
            format!("{text:?} is no path; write one like `$.usage.input`, or `$` for all the data"),
        )
    };
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

fn source(raw: &Spanned<RawSource>, field: &str) -> Result<DataSource, FileError> {
    match &raw.value {
        RawSource::Path(text) => path(text, raw.referenced, field).map(DataSource::Path),
        RawSource::Value(text) => label(text, raw.referenced, field).map(DataSource::Value),
    }
}

fn cloud_event_map(raw: RawMap, at: &str) -> Result<CloudEventMap, FileError> {
    let field = |name: &str| format!("{at}.{name}");
    let event_type = label(&raw.event_type.value, raw.event_type.referenced, &field("type"))?;
    let stem = event_type.strip_suffix('*').unwrap_or(&event_type);
    if stem.contains('*') {
        return Err(FileError::at(
            raw.event_type.referenced,
            field("type"),
            "a `*` stands only at the end, like `prompt.*`",
        ));
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
        return Err(FileError::at(raw.event_type.referenced, field("tags"), message));
    }
    let usage = raw.usage.as_ref().map(|text| path(&text.value, text.referenced, &field("usage"))).transpose()?;
    let usage_format = raw
        .usage_format
        .map(|text| {
            Format::named(&text.value)
                .map_err(|(_, message)| FileError::at(text.referenced, field("usage_format"), message))
        })
        .transpose()?;
    let measures = measures(&raw.measures, &field("measures"))?;
    let cost = raw.measures.cost.map(|raw| cost(&raw, &field("measures.cost"))).transpose()?;
    let at_type = raw.event_type.referenced;
    if usage.is_some() && measures.iter().any(|(measure, _)| matches!(measure, MappedMeasure::Tokens(_))) {
        let message = "`usage` counts the tokens already; take the token classes out of `measures`";
        return Err(FileError::at(at_type, field("usage"), message));
    }
    if measures.is_empty() && cost.is_none() && usage.is_none() {
        let message =
            "no measure is mapped; write at least one, like `input: \"$.tokens\"` or `requests: { value: 1 }`";
        return Err(FileError::at(at_type, field("measures"), message));
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

fn measures(raw: &RawMeasures, at: &str) -> Result<Vec<(MappedMeasure, DataSource)>, FileError> {
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
                return Err(FileError::at(
                    raw.referenced,
                    field,
                    "a constant measure is a whole number, like `{ value: 1 }`",
                ));
            }
            measures.push((measure, source));
        }
    }
    Ok(measures)
}

fn cost(raw: &RawCost, at: &str) -> Result<MappedCost, FileError> {
    let (amount, currency) = (&raw.amount, &raw.currency);
    Ok(MappedCost {
        amount: path(&amount.value, amount.referenced, &format!("{at}.amount"))?,
        currency: (currency.value.parse()).map_err(|wrong: usage_types::UnitError| {
            FileError::at(currency.referenced, format!("{at}.currency"), wrong.to_string())
        })?,
        as_tag: None,
    })
}

fn framed(text: &Text) -> Result<Encoding, FileError> {
    Encoding::named(&text.value).ok_or_else(|| {
        let names = Encoding::ALL.map(Encoding::name).join("`, `");
        let message = format!("{:?} is no encoding of framed records; write one of `{names}`", text.value);
        FileError::at(text.referenced, "framed", message)
    })
}

fn headers(raw: BTreeMap<String, Text>) -> Result<Vec<(String, Dimension)>, FileError> {
    let mut headers = Vec::new();
    for (name, text) in raw {
        let field = format!("headers.{name}");
        let at = text.referenced;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(FileError::at(
                at,
                field,
                format!("{name:?} is no header's name; use letters, digits, `-`, `_` and `.`"),
            ));
        }
        let name = name.to_ascii_lowercase();
        if name.starts_with("ce_") || name.starts_with("ce-") || name.starts_with("content-") || name == "authorization"
        {
            return Err(FileError::at(at, field, "this header has a meaning of its own; choose another"));
        }
        headers.push((name, dimension(&text.value, at, &field)?));
    }
    Ok(headers)
}

fn lists(
    defaults: &mut Vec<(Dimension, Vec<String>)>,
    raw: BTreeMap<String, Spanned<OneOrMore>>,
    at: &str,
) -> Result<(), FileError> {
    for (name, names) in raw {
        let field = format!("{at}.{name}");
        let dimension = dimension(&name, names.referenced, &field)?;
        if names.value.0.iter().any(|name| name.is_empty()) {
            return Err(FileError::at(names.referenced, field, "a name is empty; write one or leave it out"));
        }
        replace(defaults, dimension, names.value.0);
    }
    Ok(())
}

fn litellm(raw: RawLiteLlm) -> Result<LiteLlmMap, FileError> {
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
fn is_theirs(text: &Text, field: &str, theirs: &str) -> Result<bool, FileError> {
    match text.value.as_str() {
        "event" => Ok(true),
        "price_book" => Ok(false),
        other => {
            let message = format!("{other:?} sets no cost; write `event` for {theirs} or `price_book` for ours");
            Err(FileError::at(text.referenced, field, message))
        }
    }
}

fn otlp(raw: RawOtlp) -> Result<OtlpMap, FileError> {
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
            return Err(FileError::at(at, field, format!("{is} tags are more than the {may} that an event may have")));
        }
    }
    if let Some(raw) = raw.operations {
        let (field, at) = ("opentelemetry.operations", raw.referenced);
        map.operations = labels(raw, field)?;
        if map.operations.is_empty() {
            let message = "no operation would be counted; write the calls of a model, like `[chat, embeddings]`";
            return Err(FileError::at(at, field, message));
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
fn labels(raw: Spanned<OneOrMore>, field: &str) -> Result<Vec<String>, FileError> {
    raw.value.0.iter().map(|text| label(text, raw.referenced, field)).collect()
}
