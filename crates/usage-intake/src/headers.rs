//! The headers of a record or of a request, as far as they say how its value is to be read.

use std::borrow::Cow;

use usage_types::{RejectCode, Rejection};

use crate::framed::Encoding;

/// Header names and values, borrowed from a Kafka record or from an HTTP request. Names are compared without regard to case.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'h> {
    pairs: &'h [(&'h str, &'h [u8])],
}

impl<'h> Headers<'h> {
    /// No headers.
    pub const NONE: Self = Self { pairs: &[] };

    /// These headers; of a name given twice the first counts.
    #[must_use]
    pub const fn new(pairs: &'h [(&'h str, &'h [u8])]) -> Self {
        Self { pairs }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'h [u8]> {
        self.iter().find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'h str, &'h [u8])> + 'h {
        self.pairs.iter().copied()
    }

    /// A CloudEvents attribute in the binary binding: `ce_id` in Kafka, `ce-id` in HTTP, whose value is percent-encoded.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub(crate) fn attribute(&self, name: &str) -> Result<Option<Cow<'h, str>>, Rejection> {
        let found = self.iter().find_map(|(is, value)| Some((attribute_separator(is, name)?, value)));
        let Some((separator, value)) = found else { return Ok(None) };
        let bytes = if separator == b'-' { percent_decoded(value) } else { Cow::Borrowed(value) };
        let text = match bytes {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.map(Some).ok_or_else(|| {
            let message = format!("the header of `{name}` is not UTF-8; encode it as UTF-8");
            Rejection::field(RejectCode::BadUtf8, name, message)
        })
    }

    /// How the value is bound to an event, by `content-type` and the `ce_…` headers.
    ///
    /// # Errors
    /// The content type or encoding is none that intake reads.
    pub(crate) fn binding(&self) -> Result<Binding, Rejection> {
        self.check_plain()?;
        let is_binary = self.is_binary();
        match self.get("content-type").map(MediaType::of).transpose()? {
            Some(MediaType::CloudEvent) => Ok(Binding::Structured),
            Some(MediaType::Json) | None if is_binary => Ok(Binding::Binary),
            Some(MediaType::Json) | None => Ok(Binding::Undeclared),
            Some(MediaType::CloudEventBatch | MediaType::JsonLines) => {
                let message = "a record holds one event; publish the events of a batch as records of their own";
                Err(Rejection::field(RejectCode::UnsupportedFormat, "content-type", message))
            }
        }
    }

    /// How a framed value is bound to an event, and in what its content type says that it is written.
    ///
    /// # Errors
    /// The content type or encoding is none that intake reads.
    pub(crate) fn framed_binding(&self) -> Result<(Option<Encoding>, Binding), Rejection> {
        let Some(encoding) = self.get("content-type").and_then(framed_encoding) else {
            let declared = self.get("content-type").map(|_| Encoding::Json);
            return self.binding().map(|binding| (declared, binding));
        };
        self.check_plain()?;
        Ok((Some(encoding), if self.is_binary() { Binding::Binary } else { Binding::Undeclared }))
    }

    fn check_plain(&self) -> Result<(), Rejection> {
        match self.get("content-encoding") {
            Some(encoding) if !encoding.eq_ignore_ascii_case(b"identity") => {
                let message = "the value has a content encoding; send it plain and let Kafka compress the batch";
                Err(Rejection::field(RejectCode::UnsupportedFormat, "content-encoding", message))
            }
            _ => Ok(()),
        }
    }

    fn is_binary(&self) -> bool {
        self.iter().any(|(name, _)| attribute_separator(name, "specversion").is_some())
    }
}

/// The encoding behind a schema registry's prefix that a content type names, other than JSON.
fn framed_encoding(content_type: &[u8]) -> Option<Encoding> {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match essence.as_slice() {
        b"application/avro"
        | b"avro/binary"
        | b"application/vnd.apache.avro+binary"
        | b"application/vnd.apache.avro"
        | b"application/x-avro" => Some(Encoding::Avro),
        b"application/protobuf"
        | b"application/x-protobuf"
        | b"application/vnd.google.protobuf"
        | b"application/x-google-protobuf" => Some(Encoding::Protobuf),
        _ => None,
    }
}

/// The character between `ce` and the attribute's name, where the header carries that attribute.
pub(crate) fn attribute_separator(header: &str, attribute: &str) -> Option<u8> {
    let (prefix, name) = header.as_bytes().split_at_checked(3)?;
    let is_attribute = prefix[..2].eq_ignore_ascii_case(b"ce")
        && matches!(prefix[2], b'_' | b'-')
        && name.eq_ignore_ascii_case(attribute.as_bytes());
    is_attribute.then_some(prefix[2])
}

/// How a value is bound to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Not declared: the value itself shows it.
    Undeclared,
    /// A structured CloudEvent.
    Structured,
    /// The data of a CloudEvent whose attributes are headers.
    Binary,
}

/// The media types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    Json,
    JsonLines,
    CloudEvent,
    CloudEventBatch,
}

impl MediaType {
    /// Reads a content type.
    ///
    /// # Errors
    /// It is none of those, or its charset is not UTF-8.
    pub(crate) fn of(content_type: &[u8]) -> Result<Self, Rejection> {
        let text = String::from_utf8_lossy(content_type).to_ascii_lowercase();
        let (essence, parameters) = text.split_once(';').unwrap_or((&text, ""));
        let refuse = |message| Err(Rejection::field(RejectCode::UnsupportedFormat, "content-type", message));
        let is_utf8 = parameters
            .split(';')
            .filter_map(|parameter| parameter.trim().strip_prefix("charset="))
            .all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
        if !is_utf8 {
            return refuse(format!(
                "{:?} has a charset other than UTF-8; encode the JSON as UTF-8",
                crate::field::bounded(text)
            ));
        }
        match essence.trim() {
            "application/cloudevents+json" => Ok(Self::CloudEvent),
            "application/cloudevents-batch+json" => Ok(Self::CloudEventBatch),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::JsonLines),
            "application/json" | "text/json" => Ok(Self::Json),
            essence if essence.ends_with("+json") && !essence.starts_with("application/cloudevents") => Ok(Self::Json),
            _ => refuse(format!(
                "{:?} is not read here; send application/json, application/x-ndjson, application/cloudevents+json or \
                 application/cloudevents-batch+json",
                crate::field::bounded(text)
            )),
        }
    }
}

/// Undoes percent-encoding; what is no valid escape stays as it is, as the CloudEvents HTTP binding asks.
fn percent_decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'%') {
        return Cow::Borrowed(value);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match (byte, hex(value.get(at + 1)), hex(value.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}
