//! CloudEvents 1.0 around the native event: the structured JSON form and the binary binding of Kafka and HTTP.
//!
//! `id`, `source` and `time` are the envelope's and go before members of these names in the data. CloudEvents leaves `time`
//! optional; usage needs one, so it is then taken from the data. Any `type` is accepted, and extension attributes are skipped; a `type`
//! that the site maps has data of its own kind, see [`crate::mapped`].
//! Source: CloudEvents 1.0.2, its JSON format, its Kafka binding and its HTTP binding.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use usage_types::{RejectCode, Rejection, TimeUs, UsageEvent};

use crate::Site;
use crate::config::CloudEventMap;
use crate::field::{Borrowed, Context, Fault, bounded, check_text, given_twice, json_text};
use crate::headers::{Headers, MediaType};
use crate::mapped;
use crate::native::{self, Envelope};
use crate::time::event_time;

/// Reads a text of a form not declared: a native event, or a structured CloudEvent where it has a `specversion`.
///
/// The native reader goes first and stops at a `specversion`. It may stumble before it gets there (an extension attribute may
/// be called like one of our members), so a refused text is looked at once more.
pub(crate) fn detect<'a>(text: &'a str, site: &Site<'_>) -> Result<UsageEvent<'a>, Rejection> {
    native::decode(text, None, site.named).or_else(|rejection| {
        let attributes = Attributes::read(text)?;
        if attributes.is_present(SPEC_VERSION) { attributes.decode(site) } else { Err(rejection) }
    })
}

/// Reads a structured CloudEvent.
pub(crate) fn structured<'a>(text: &'a str, site: &Site<'_>) -> Result<UsageEvent<'a>, Rejection> {
    Attributes::read(text)?.decode(site)
}

/// Reads the data of a binary CloudEvent, whose attributes are headers.
pub(crate) fn binary<'a>(text: &'a str, headers: &Headers<'_>, site: &Site<'_>) -> Result<UsageEvent<'a>, Rejection> {
    let attribute = |name| headers.attribute(name).map(|text| text.map(|text| Cow::Owned(text.into_owned())));
    check_spec_version(attribute("specversion")?)?;
    let envelope = envelope(attribute("id")?, attribute("source")?, attribute("time")?)?;
    let event_type = attribute("type")?;
    match event_type.and_then(|event_type| mapping(&event_type, site)) {
        Some(map) => mapped::decode(map, json(text, "")?, subject(attribute("subject")?)?, envelope, site, ""),
        None => data(text, envelope, site, ""),
    }
}

const NAMES: [&str; 9] =
    ["specversion", "id", "source", "time", "datacontenttype", "data", "data_base64", "type", "subject"];
const SPEC_VERSION: usize = 0;
const ID: usize = 1;
const SOURCE: usize = 2;
const TIME: usize = 3;
const CONTENT_TYPE: usize = 4;
const DATA: usize = 5;
const DATA_BASE64: usize = 6;
const TYPE: usize = 7;
const SUBJECT: usize = 8;

/// The attributes that matter, each as its JSON: the version decides first what the others mean.
#[derive(Default)]
struct Attributes<'a>([Option<&'a RawValue>; NAMES.len()]);

impl<'a> Attributes<'a> {
    fn read(text: &'a str) -> Result<Self, Rejection> {
        let context = Context::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(AttributesVisitor(&context));
        read.and_then(|attributes| json.end().map(|()| attributes)).map_err(|error| context.conclude(&error))
    }

    fn is_present(&self, attribute: usize) -> bool {
        self.0[attribute].is_some()
    }

    /// An attribute's text; absent where it is `null`.
    fn text(&self, attribute: usize) -> Result<Option<Cow<'a, str>>, Rejection> {
        match self.0[attribute].map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(json) => json_text(json).map(Some).map_err(|fault| refused(NAMES[attribute], fault)),
        }
    }

    fn decode(&self, site: &Site<'_>) -> Result<UsageEvent<'a>, Rejection> {
        check_spec_version(self.text(SPEC_VERSION)?)?;
        if let Some(content_type) = self.text(CONTENT_TYPE)? {
            check_content_type(&content_type)?;
        }
        let envelope = envelope(self.text(ID)?, self.text(SOURCE)?, self.text(TIME)?)?;
        // Any type is taken, also one that is no text: only a mapping's is looked at.
        let map = self.text(TYPE).ok().flatten().and_then(|event_type| mapping(&event_type, site));
        let subject = map.map_or(Ok(None), |_| subject(self.text(SUBJECT)?))?;
        match (self.0[DATA].filter(|json| json.get() != "null"), self.text(DATA_BASE64)?) {
            (json, None) if let Some(map) = map => {
                mapped::decode(map, json.unwrap_or(RawValue::NULL), subject, envelope, site, NAMES[DATA])
            }
            (Some(json), None) => data(json.get(), envelope, site, NAMES[DATA]),
            (None, Some(encoded)) => encoded_data(&encoded, map, subject, envelope, site),
            (Some(_), Some(_)) => {
                let message = "`data` and `data_base64` are both there; send one of them";
                Err(Rejection::field(RejectCode::WrongType, NAMES[DATA_BASE64], message))
            }
            (None, None) => {
                let message = "`data` is missing; put the usage event there";
                Err(Rejection::field(RejectCode::MissingField, NAMES[DATA], message))
            }
        }
    }
}

struct AttributesVisitor<'c>(&'c Context);

impl<'de> Visitor<'de> for AttributesVisitor<'_> {
    type Value = Attributes<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one event as a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes<'de>, A::Error> {
        let mut attributes = Attributes::default();
        while let Some(Borrowed(name)) = map.next_key()? {
            match NAMES.iter().position(|known| *known == name) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(at) if attributes.0[at].is_some() => {
                    self.0.at(NAMES[at]);
                    return Err(self.0.refuse::<A::Error>(given_twice(NAMES[at])));
                }
                Some(at) => attributes.0[at] = Some(map.next_value()?),
            }
        }
        Ok(attributes)
    }
}

fn refused(field: &str, (code, message): Fault) -> Rejection {
    Rejection::field(code, field, bounded(message))
}

fn check_spec_version(version: Option<Cow<'_, str>>) -> Result<(), Rejection> {
    match version.as_deref() {
        Some("1.0") => Ok(()),
        Some(other) => {
            let message = format!("{other:?} is a CloudEvents version that is not read here; send specversion \"1.0\"");
            Err(refused(NAMES[SPEC_VERSION], (RejectCode::UnknownSpecVersion, message)))
        }
        None => {
            let message = "`specversion` is missing; a CloudEvent has \"specversion\": \"1.0\"";
            Err(Rejection::field(RejectCode::MissingField, NAMES[SPEC_VERSION], message))
        }
    }
}

fn check_content_type(content_type: &str) -> Result<(), Rejection> {
    match MediaType::of(content_type.as_bytes()) {
        Ok(MediaType::Json) => Ok(()),
        _ => {
            let message = format!("the data is {content_type:?}; send application/json");
            Err(refused(NAMES[CONTENT_TYPE], (RejectCode::UnsupportedFormat, message)))
        }
    }
}

/// Checks the attributes that become the event's.
fn envelope<'a>(
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
) -> Result<Envelope<'a>, Rejection> {
    let required = |name, text: Option<Cow<'a, str>>| match text.filter(|text| !text.is_empty()) {
        Some(text) => check_text(&text).map(|()| text).map_err(|fault| refused(name, fault)),
        None => {
            let message = format!("`{name}` is missing; every CloudEvent has one");
            Err(Rejection::field(RejectCode::MissingField, name, message))
        }
    };
    let time: Option<Result<TimeUs, String>> = time.map(|text| event_time(&text));
    Ok(Envelope {
        id: required(NAMES[ID], id)?,
        source: required(NAMES[SOURCE], source)?,
        time: time.transpose().map_err(|message| refused(NAMES[TIME], (RejectCode::BadTime, message)))?,
    })
}

/// The mapping for events of this type, where the site has one.
fn mapping<'s>(event_type: &str, site: &Site<'s>) -> Option<&'s CloudEventMap> {
    site.config.cloudevents.iter().find(|map| map.is_for(event_type))
}

/// The subject, which may become a dimension.
fn subject(text: Option<Cow<'_, str>>) -> Result<Option<Cow<'_, str>>, Rejection> {
    let Some(text) = text else { return Ok(None) };
    check_text(&text).map_err(|fault| refused(NAMES[SUBJECT], fault))?;
    Ok(Some(text))
}

/// The data as JSON that is known to be valid.
fn json<'a>(text: &'a str, parent: &str) -> Result<&'a RawValue, Rejection> {
    serde_json::from_str(text).map_err(|error| {
        let field = (!parent.is_empty()).then(|| parent.to_owned());
        Rejection { code: RejectCode::NotJson, field, message: bounded(format!("the data is not JSON: {error}")) }
    })
}

/// Reads the data; the path of a refused field starts with `parent` where that is not empty.
fn data<'a>(text: &'a str, envelope: Envelope<'a>, site: &Site<'_>, parent: &str) -> Result<UsageEvent<'a>, Rejection> {
    native::decode(text, Some(envelope), site.named).map_err(|rejection| within(parent, rejection))
}

/// The rejection with its path as seen from outside. A time is the envelope's to give, and missing there.
fn within(parent: &str, mut rejection: Rejection) -> Rejection {
    let is_envelopes = rejection.code == RejectCode::MissingField && rejection.field.as_deref() == Some(NAMES[TIME]);
    if !parent.is_empty() && !is_envelopes {
        rejection.field = Some(match rejection.field {
            Some(field) => format!("{parent}.{field}"),
            None => parent.to_owned(),
        });
    }
    rejection
}

fn encoded_data(
    encoded: &str,
    map: Option<&CloudEventMap>,
    subject: Option<Cow<'_, str>>,
    envelope: Envelope<'_>,
    site: &Site<'_>,
) -> Result<UsageEvent<'static>, Rejection> {
    let field = NAMES[DATA_BASE64];
    let bytes = BASE64_STANDARD
        .decode(encoded)
        .map_err(|error| refused(field, (RejectCode::WrongType, format!("not base64: {error}"))))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Rejection::field(RejectCode::BadUtf8, field, "the decoded data is not UTF-8; encode the JSON as UTF-8")
    })?;
    let event = match map {
        Some(map) => mapped::decode(map, json(&text, field)?, subject, envelope, site, field),
        None => data(&text, envelope, site, field),
    };
    event.map(UsageEvent::into_owned)
}
