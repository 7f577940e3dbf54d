//! Protobuf: the message of `schemas/usage-event.v1.proto`, written here by hand so that no build needs a compiler of schemas.
//!
//! Fields are known by their numbers and unknown ones are passed over, so a schema whose numbers mean something else would be a wrong bill
//! in silence: a writer's schema is held against ours before any record of it is read. A class of tokens that is not known is refused, as
//! everywhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, int64, skip_field};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto, Timestamp};
use usage_types::{Dimension, RejectCode, Rejection, TokenClass};

use super::json;
use crate::encode::Json;
use crate::field::{Fault, bounded};

/// Our schema, and its message.
const SCHEMA: &str = include_str!("../../../../schemas/usage-event.v1.proto");
const MESSAGE: &str = "UsageEvent";
/// Messages within messages in a schema; also the longest index of a message.
const NESTING_MAX: usize = 8;

/// A writer's schema.
#[derive(Debug)]
pub(super) struct ProtobufWriter {
    /// Each message by its index, and why it is not ours where it is not.
    messages: HashMap<Vec<i32>, Result<(), String>>,
}

impl ProtobufWriter {
    /// Reads a `.proto`, or its `FileDescriptorProto` in base64 as some serializers register it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn new(schema: &str) -> Result<Self, String> {
        let descriptor = BASE64_STANDARD.decode(schema.trim()).ok();
        let file = match descriptor.and_then(|bytes| FileDescriptorProto::decode(bytes.as_slice()).ok()) {
            Some(file) => file,
            None => protox_parse::parse("schema.proto", schema)
                .map_err(|error| format!("the registry's Protobuf schema cannot be read: {error}"))?,
        };
        let mut messages = HashMap::new();
        collect(&file.message_type, &mut Vec::new(), &mut messages);
        Ok(Self { messages })
    }

    /// Our own schema.
    pub(super) fn published() -> &'static Self {
        static PUBLISHED: LazyLock<ProtobufWriter> =
            LazyLock::new(|| ProtobufWriter::new(SCHEMA).expect("the published schema is one, which a test checks"));
        &PUBLISHED
    }

    /// The event as native JSON.
    pub(super) fn to_json(&self, bytes: &[u8]) -> Result<String, Rejection> {
        let (index, message) = message_index(bytes).ok_or_else(|| {
            let message = "the index of the message, which is behind the schema's id, is cut short; publish with a registry's serializer";
            Rejection::new(RejectCode::BadEncoding, message)
        })?;
        match self.messages.get(&index) {
            Some(Ok(())) => {}
            Some(Err(message)) => return Err(Rejection::new(RejectCode::UnknownSchema, bounded(message.clone()))),
            None => {
                let message = format!(
                    "the message index {index:?} is that of no message of the schema; publish {MESSAGE} of schemas/usage-event.v1.proto"
                );
                return Err(Rejection::new(RejectCode::UnknownSchema, message));
            }
        }
        let event = UsageEvent::decode(message).map_err(|error| {
            let message = format!("not Protobuf as the schema has it: {error}; check that the record was written with the schema of its id");
            Rejection::new(RejectCode::BadEncoding, bounded(message))
        })?;
        event.to_json().map_err(|(field, (code, message))| Rejection::field(code, field, bounded(message)))
    }
}

/// The index of the message in its file, from the outermost message inwards, and what follows it: the number of its places, then each, as
/// zigzag varints. No places at all are the first message.
fn message_index(mut bytes: &[u8]) -> Option<(Vec<i32>, &[u8])> {
    let mut next = || {
        let raw = prost::encoding::decode_varint(&mut bytes).ok()?;
        let value = i64::try_from(raw >> 1).ok()? ^ -i64::from(raw & 1 == 1);
        i32::try_from(value).ok()
    };
    let places = usize::try_from(next()?).ok()?;
    let index = match places {
        0 => vec![0],
        1..=NESTING_MAX => (0..places).map(|_| next()).collect::<Option<_>>()?,
        // No schema has it: the caller says so.
        _ => vec![-1],
    };
    Some((index, bytes))
}

/// Enters messages and those inside them under their indexes.
fn collect(messages: &[DescriptorProto], above: &mut Vec<i32>, into: &mut HashMap<Vec<i32>, Result<(), String>>) {
    for (place, message) in (0_i32..).zip(messages) {
        above.push(place);
        into.insert(above.clone(), check_ours(message));
        if above.len() < NESTING_MAX {
            collect(&message.nested_type, above, into);
        }
        above.pop();
    }
}

/// Whether the fields of a writer's message mean what ours do.
fn check_ours(message: &DescriptorProto) -> Result<(), String> {
    static OURS: LazyLock<Option<DescriptorProto>> =
        LazyLock::new(|| protox_parse::parse("usage-event.v1.proto", SCHEMA).ok()?.message_type.into_iter().next());
    if message.name() != MESSAGE {
        return Err(format!(
            "the record holds a message {:?} and not {MESSAGE}; publish {MESSAGE} of schemas/usage-event.v1.proto",
            message.name()
        ));
    }
    let ours = OURS.as_ref().expect("the published schema has a message, which a test checks");
    check_fields(message, ours)
}

fn check_fields(theirs: &DescriptorProto, ours: &DescriptorProto) -> Result<(), String> {
    for field in &theirs.field {
        let same =
            |our: &&prost_types::FieldDescriptorProto| our.number() == field.number() || our.name() == field.name();
        let Some(our) = ours.field.iter().find(same) else { continue };
        if (our.number(), our.name()) != (field.number(), field.name()) || wire(our) != wire(field) {
            return Err(format!(
                "the schema's {}.{} = {} is not {} = {} of schemas/usage-event.v1.proto; number and type the fields as there",
                theirs.name(),
                field.name(),
                field.number(),
                our.name(),
                our.number()
            ));
        }
    }
    for our in &ours.nested_type {
        if let Some(nested) = theirs.nested_type.iter().find(|nested| nested.name() == our.name()) {
            check_fields(nested, our)?;
        }
    }
    Ok(())
}

/// Types with the same value of this are read alike; `None` for messages.
fn wire(field: &prost_types::FieldDescriptorProto) -> Option<Type> {
    match Type::try_from(field.r#type?).ok()? {
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => Some(Type::Int64),
        Type::Message | Type::Group => None,
        other => Some(other),
    }
}

/// The message. Numbers are those of the schema, which a test holds against it.
#[derive(Clone, PartialEq, prost::Message)]
struct UsageEvent {
    #[prost(string, optional, tag = "1")]
    id: Option<String>,
    #[prost(string, optional, tag = "2")]
    source: Option<String>,
    #[prost(message, optional, tag = "3")]
    time: Option<Timestamp>,
    #[prost(string, optional, tag = "4")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "5")]
    team: Option<String>,
    #[prost(string, optional, tag = "6")]
    repository: Option<String>,
    #[prost(string, optional, tag = "7")]
    user: Option<String>,
    #[prost(string, optional, tag = "8")]
    api_key: Option<String>,
    #[prost(string, optional, tag = "9")]
    agent: Option<String>,
    #[prost(string, optional, tag = "10")]
    session: Option<String>,
    #[prost(string, optional, tag = "11")]
    task: Option<String>,
    #[prost(string, optional, tag = "12")]
    job: Option<String>,
    #[prost(string, optional, tag = "13")]
    provider: Option<String>,
    #[prost(string, optional, tag = "14")]
    model: Option<String>,
    #[prost(string, optional, tag = "15")]
    operation: Option<String>,
    #[prost(string, optional, tag = "16")]
    service_tier: Option<String>,
    #[prost(message, optional, tag = "17")]
    tokens: Option<Tokens>,
    #[prost(string, optional, tag = "18")]
    usage: Option<String>,
    #[prost(string, optional, tag = "19")]
    usage_format: Option<String>,
    #[prost(int64, optional, tag = "20")]
    requests: Option<i64>,
    #[prost(int64, optional, tag = "21")]
    tool_calls: Option<i64>,
    #[prost(int64, optional, tag = "22")]
    images: Option<i64>,
    #[prost(string, optional, tag = "23")]
    compute_seconds: Option<String>,
    #[prost(message, optional, tag = "24")]
    cost: Option<Cost>,
    #[prost(btree_map = "string, string", tag = "25")]
    tags: BTreeMap<String, String>,
    #[prost(string, optional, tag = "26")]
    corrects: Option<String>,
    #[prost(string, optional, tag = "27")]
    correction: Option<String>,
    #[prost(bool, optional, tag = "28")]
    backfill: Option<bool>,
    #[prost(string, optional, tag = "29")]
    adjusts: Option<String>,
    #[prost(int64, optional, tag = "30")]
    processed: Option<i64>,
    #[prost(int64, optional, tag = "31")]
    total: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Cost {
    #[prost(string, optional, tag = "1")]
    amount: Option<String>,
    #[prost(string, optional, tag = "2")]
    currency: Option<String>,
}

/// Tokens by class, numbered from 1 in the order of [`TokenClass::ALL`].
#[derive(Clone, PartialEq, Debug, Default)]
struct Tokens {
    counts: [Option<i64>; TokenClass::ALL.len()],
    /// The number of a class that is not known.
    unknown: Option<u32>,
}

impl Tokens {
    fn counts(&self) -> impl Iterator<Item = (TokenClass, i64)> + '_ {
        TokenClass::ALL.into_iter().zip(&self.counts).filter_map(|(class, count)| Some((class, (*count)?)))
    }
}

impl prost::Message for Tokens {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        (1..).zip(&self.counts).for_each(|(tag, count)| {
            if let Some(count) = count {
                int64::encode(tag, count, buf);
            }
        });
    }
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        let place = usize::try_from(tag).unwrap_or(usize::MAX).wrapping_sub(1);
        match self.counts.get_mut(place) {
            Some(count) => int64::merge(wire_type, count.get_or_insert(0), buf, context),
            None => {
                self.unknown = Some(tag);
                skip_field(wire_type, tag, buf, context)
            }
        }
    }
    fn encoded_len(&self) -> usize {
        (1..).zip(&self.counts).map(|(tag, count)| count.map_or(0, |count| int64::encoded_len(tag, &count))).sum()
    }
    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A broken rule and the field that breaks it.
type Broken = (String, Fault);

impl UsageEvent {
    fn dimension(&self, dimension: Dimension) -> Option<&String> {
        let value = match dimension {
            Dimension::Namespace => &self.namespace,
            Dimension::Team => &self.team,
            Dimension::Repository => &self.repository,
            Dimension::User => &self.user,
            Dimension::ApiKey => &self.api_key,
            Dimension::Agent => &self.agent,
            Dimension::Session => &self.session,
            Dimension::Task => &self.task,
            Dimension::Job => &self.job,
            Dimension::Provider => &self.provider,
            Dimension::Model => &self.model,
            Dimension::Operation => &self.operation,
            Dimension::ServiceTier => &self.service_tier,
        };
        value.as_ref()
    }

    fn to_json(&self) -> Result<String, Broken> {
        let mut json = Json::new();
        json.open('{');
        if let Some(time) = &self.time {
            json.name("time");
            let micros = time.seconds.checked_mul(1_000_000);
            let micros = micros.and_then(|micros| micros.checked_add(i64::from(time.nanos).div_euclid(1000)));
            json::time(&mut json, micros).map_err(|fault| ("time".to_owned(), fault))?;
        }
        for dimension in Dimension::ALL {
            text(&mut json, dimension.name(), self.dimension(dimension));
        }
        for (name, value) in [
            ("id", &self.id),
            ("source", &self.source),
            ("usage_format", &self.usage_format),
            ("compute_seconds", &self.compute_seconds),
            ("corrects", &self.corrects),
            ("correction", &self.correction),
            ("adjusts", &self.adjusts),
        ] {
            text(&mut json, name, value.as_ref());
        }
        self.measures(&mut json)?;
        if !self.tags.is_empty() {
            json.begin("tags");
            self.tags.iter().for_each(|(name, value)| json.text(name, value));
            json.end();
        }
        if self.backfill == Some(true) {
            json.name("backfill");
            json.raw("true");
        }
        json.end();
        Ok(json.into_text())
    }

    fn measures(&self, json: &mut Json) -> Result<(), Broken> {
        if let Some(tokens) = &self.tokens {
            if let Some(tag) = tokens.unknown {
                let message = format!(
                    "{tag} is the number of no token class; put every token into one of 1 to {}",
                    TokenClass::ALL.len()
                );
                return Err((format!("tokens.{tag}"), (RejectCode::UnknownField, message)));
            }
            json.begin("tokens");
            tokens.counts().for_each(|(class, count)| integer(json, class.name(), count));
            json.end();
        }
        if let Some(usage) = &self.usage {
            json.name("usage");
            json::usage(json, usage).map_err(|fault| ("usage".to_owned(), fault))?;
        }
        for (name, count) in [
            ("requests", self.requests),
            ("tool_calls", self.tool_calls),
            ("images", self.images),
            ("processed", self.processed),
            ("total", self.total),
        ] {
            if let Some(count) = count {
                integer(json, name, count);
            }
        }
        if let Some(cost) = &self.cost {
            json.begin("cost");
            text(json, "amount", cost.amount.as_ref());
            text(json, "currency", cost.currency.as_ref());
            json.end();
        }
        Ok(())
    }
}

fn text(json: &mut Json, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        json.text(name, value);
    }
}

fn integer(json: &mut Json, name: &str, value: i64) {
    json.name(name);
    json.integer(value);
}
