//! The bodies of `POST /v1/events`: cut into the records that are published, each read as it will be read from the log.
//!
//! Each item is published under its own record, so a bad one costs only itself: verbatim, unless the site's configuration was needed to read
//! it. A body is refused as a whole only where its
//! parts cannot be told: a content type that is not read, an array that does not end, more items than the limit.

use std::borrow::Cow;
use std::cell::Cell;

use usage_types::{RejectCode, Rejection, TimeUs, UsageEvent};

use crate::headers::{Binding, Headers, MediaType, attribute_separator};
use crate::intake::read;
use crate::{Intake, IntakeLimits, Site, encode};

/// Binary-mode attributes that are kept with a record; each at most this long, in bytes. The event's own are read, the others are
/// for whoever reads the topic beside us.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// The most attributes that are kept with a record.
const ATTRIBUTES_MAX: usize = 32;

/// One event of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Item<'a> {
    /// Its place in the request, from 0; blank lines do not count.
    pub index: usize,
    /// The record's value, to be published: as it came, or native JSON where its format needs the site's configuration. Empty where a
    /// format of the second kind was refused.
    pub value: Cow<'a, [u8]>,
    /// The record's headers: [`Intake::decode_record`] needs them beside the value. Empty except for binary CloudEvents, and where
    /// the request's headers name dimensions.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The event, or why it is refused.
    pub event: Result<UsageEvent<'a>, Rejection>,
}

impl Intake {
    /// Reads the body of `POST /v1/events`: one event, a JSON array of events, or one on each line. Without a content type it is read
    /// as `application/json`. `headers` are the request's; of them `ce-…` count here, and those that name dimensions.
    /// `received_at` is the time of mapped CloudEvents that have none.
    ///
    /// # Errors
    /// The body's parts cannot be told, so nothing of it is to be published.
    pub fn decode_http<'a>(
        &self,
        content_type: Option<&str>,
        headers: &Headers<'_>,
        body: &'a [u8],
        received_at: Option<TimeUs>,
    ) -> Result<Vec<Item<'a>>, Rejection> {
        let media_type = MediaType::of(content_type.unwrap_or("application/json").as_bytes())?;
        let is_binary = headers.iter().any(|(name, _)| attribute_separator(name, "specversion").is_some());
        let values = match (media_type, is_binary) {
            (MediaType::JsonLines, true) => {
                let message = "ce-… headers tell of one event; send lines without them";
                return Err(Rejection::field(RejectCode::UnsupportedFormat, "content-type", message));
            }
            (MediaType::JsonLines, false) => lines(body, &self.limits)?,
            (MediaType::CloudEventBatch, _) => elements(body, &self.limits)?,
            (MediaType::Json, false) if body.trim_ascii_start().first() == Some(&b'[') => elements(body, &self.limits)?,
            (MediaType::Json | MediaType::CloudEvent, _) => vec![body.trim_ascii()],
        };
        let (binding, mut kept) = match media_type {
            MediaType::CloudEvent | MediaType::CloudEventBatch => (Binding::Structured, Vec::new()),
            MediaType::Json if is_binary => (Binding::Binary, binary_headers(headers)?),
            MediaType::Json | MediaType::JsonLines => (Binding::Undeclared, Vec::new()),
        };
        let named = self.named(headers)?;
        kept.extend(named.iter().map(|(dimension, value)| (dimension.header().to_owned(), value.as_bytes().to_vec())));
        let pairs: Vec<(&str, &[u8])> = kept.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let record_headers = Headers::new(&pairs);
        let item = |(index, value)| {
            let site = Site { config: &self.config, named: &named, received_at, is_mapped: Cell::new(false) };
            let event = self.text_of(value).and_then(|text| read(text, binding, &record_headers, &site));
            match &event {
                _ if !site.is_mapped.get() => Item { index, value: Cow::Borrowed(value), headers: kept.clone(), event },
                Ok(mapped) => Item { index, value: Cow::Owned(encode(mapped)), headers: Vec::new(), event },
                Err(_) => Item { index, value: Cow::Borrowed(&[]), headers: Vec::new(), event },
            }
        };
        Ok(values.into_iter().enumerate().map(item).collect())
    }
}

/// The headers of a binary CloudEvent's record, in Kafka's spelling.
fn binary_headers(headers: &Headers<'_>) -> Result<Vec<(String, Vec<u8>)>, Rejection> {
    let mut kept = vec![("content-type".to_owned(), b"application/json".to_vec())];
    for (name, _) in headers.iter() {
        let Some(attribute) = name.get(3..).filter(|attribute| attribute_separator(name, attribute).is_some()) else {
            continue;
        };
        let attribute = attribute.to_ascii_lowercase();
        let text = headers.attribute(&attribute)?.unwrap_or(Cow::Borrowed(""));
        if text.len() <= ATTRIBUTE_BYTES_MAX && kept.len() <= ATTRIBUTES_MAX {
            kept.push((format!("ce_{attribute}"), text.into_owned().into_bytes()));
        }
    }
    Ok(kept)
}

pub(crate) fn lines<'a>(body: &'a [u8], limits: &IntakeLimits) -> Result<Vec<&'a [u8]>, Rejection> {
    let mut lines = Vec::new();
    for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        push_bounded(&mut lines, line, limits)?;
    }
    Ok(lines)
}

fn push_bounded<'a>(items: &mut Vec<&'a [u8]>, item: &'a [u8], limits: &IntakeLimits) -> Result<(), Rejection> {
    if items.len() == limits.items_max {
        let message = format!("more than {} events in one request; send several requests", limits.items_max);
        return Err(Rejection::new(RejectCode::TooLarge, message));
    }
    items.push(item.trim_ascii());
    Ok(())
}

/// Cuts a JSON array into its elements by strings and brackets alone, without reading them: an element that is no JSON then spoils
/// neither its neighbours nor the body.
pub(crate) fn elements<'a>(body: &'a [u8], limits: &IntakeLimits) -> Result<Vec<&'a [u8]>, Rejection> {
    let not_an_array = |what: &str| Rejection::new(RejectCode::NotJson, format!("the body is no JSON array: {what}"));
    let inner = body.trim_ascii().strip_prefix(b"[").ok_or_else(|| not_an_array("it does not start with ["))?;
    let (mut elements, mut start, mut depth) = (Vec::new(), 0, 1_usize);
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, byte) in inner.iter().enumerate() {
        if in_string {
            in_string = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 1 => {
                push_bounded(&mut elements, &inner[start..at], limits)?;
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            if *byte != b']' || at + 1 != inner.len() {
                return Err(not_an_array("something follows its end; send one array"));
            }
            // `[]` holds nothing; `[a,]` holds an empty second element, which is refused by itself.
            if !(elements.is_empty() && inner[start..at].trim_ascii().is_empty()) {
                push_bounded(&mut elements, &inner[start..at], limits)?;
            }
            return Ok(elements);
        }
    }
    Err(not_an_array("it does not end with ]"))
}
