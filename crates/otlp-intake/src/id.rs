//! The id of a call: the same for a span, for the log record that repeats it, and for an export that is repeated.
//!
//! 1. The provider's own id of the answer (`gen_ai.response.id`), which other entrances of the same source know as well. One shorter
//!    than [`RESPONSE_ID_BYTES_MIN`] is not unique and is not used.
//! 2. `TRACE/SPAN` in hexadecimal; a log record carries the ids of the span that it belongs to.
//! 3. Where both are missing, as in a log record outside of any span: a hash of its time, its name and its attributes. Two records that
//!    agree in all of these, to the nanosecond, are taken for one.

use std::fmt::Write as _;
use std::hash::Hasher;

use prost::Message;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::protobuf::KeyValue;

/// Servers that number their answers do it with few digits (Ollama: `chatcmpl-` and up to three). The shortest ids of providers that are
/// meant to be unique have 22 characters.
pub(crate) const RESPONSE_ID_BYTES_MIN: usize = 16;

/// Chooses the id; `None` where what the call says must tell it from others.
pub(crate) fn of_call(response_id: Option<String>, trace_id: &[u8], span_id: &[u8]) -> Option<String> {
    response_id.filter(|id| id.len() >= RESPONSE_ID_BYTES_MIN).or_else(|| of_span(trace_id, span_id))
}

/// The id of a span; `None` where either part is missing. All zeros mean missing.
fn of_span(trace_id: &[u8], span_id: &[u8]) -> Option<String> {
    let is_set = |id: &[u8]| id.iter().any(|byte| *byte != 0);
    (is_set(trace_id) && is_set(span_id)).then(|| format!("{}/{}", hex(trace_id), hex(span_id)))
}

/// The id of what belongs to no span, by what it says.
pub(crate) fn of_content(time_unix_nano: u64, event_name: &str, attributes: &[KeyValue]) -> String {
    // No keys: the same record must give the same id in every process. Whoever forges a collision loses an event of their own.
    let mut hasher = SipHasher13::new();
    hasher.write_u64(time_unix_nano);
    hasher.write(event_name.as_bytes());
    // In order of the names, since an exporter may keep them in a map.
    let mut attributes: Vec<Vec<u8>> = attributes.iter().map(Message::encode_to_vec).collect();
    attributes.sort_unstable();
    for attribute in attributes {
        hasher.write_usize(attribute.len());
        hasher.write(&attribute);
    }
    format!("content-{:032x}", hasher.finish128().as_u128())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
