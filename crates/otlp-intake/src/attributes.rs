//! The attributes of a span or log record, with those of its scope and resource behind them, and how values are read.

use usage_types::{RejectCode, Rejection, UsageEvent};

use crate::protobuf::{InstrumentationScope, KeyValue, Value};

/// A message quotes no more than this of what somebody sent, in bytes.
const MESSAGE_BYTES_MAX: usize = 400;

/// The attributes that are seen from one span or log record.
pub(crate) struct Attributes<'a> {
    own: &'a [KeyValue],
    scope: &'a InstrumentationScope,
    resource: &'a [KeyValue],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(own: &'a [KeyValue], scope: &'a InstrumentationScope, resource: &'a [KeyValue]) -> Self {
        Self { own, scope, resource }
    }

    /// The span's or record's own.
    pub(crate) fn own(&self) -> &'a [KeyValue] {
        self.own
    }

    /// The name of the instrumentation scope.
    pub(crate) fn scope_name(&self) -> &'a str {
        &self.scope.name
    }

    /// The first of these names among the span's own attributes, with its value.
    pub(crate) fn first_own(&self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        names.iter().find_map(|name| find(self.own, name).map(|value| (*name, value)))
    }

    /// The text of the first of these names among the span's own attributes.
    pub(crate) fn own_text(&self, names: &[&'static str]) -> Result<Option<String>, Rejection> {
        for name in names {
            if let Some(text) = find(self.own, name).and_then(text_of) {
                return checked(name, text).map(Some);
            }
        }
        Ok(None)
    }

    /// The text of the first of these names, each looked for on the span, then the scope, then the resource.
    pub(crate) fn text<S: AsRef<str>>(&self, names: &[S]) -> Result<Option<String>, Rejection> {
        for name in names.iter().map(AsRef::as_ref) {
            let places = [self.own, &self.scope.attributes, self.resource];
            if let Some(text) = places.into_iter().find_map(|place| find(place, name).and_then(text_of)) {
                return checked(name, text).map(Some);
            }
        }
        Ok(None)
    }
}

fn find<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    attributes.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()
}

/// A value as text; `None` where it is empty or has no plain text.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Int(int) => Some(int.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Double(double) => Some(double.to_string()),
        _ => None,
    }
}

/// A text that becomes an id, a source, a dimension or a tag.
fn checked(name: &str, text: String) -> Result<String, Rejection> {
    let refuse = |message: String| Err(Rejection::field(RejectCode::OutOfRange, bounded(name.to_owned()), message));
    if text.len() > UsageEvent::TEXT_BYTES_MAX {
        let (is, may) = (text.len(), UsageEvent::TEXT_BYTES_MAX);
        return refuse(format!("{is} bytes are more than the {may} that a text may have; shorten it"));
    }
    if text.chars().any(char::is_control) {
        return refuse(bounded(format!("{text:?} holds a control character; remove line breaks, tabs and zero bytes")));
    }
    Ok(text)
}

/// A whole number from 0 to [`UsageEvent::COUNT_MAX`]. Some SDKs send it as text (older Claude Code) or as a double (JavaScript's numbers).
pub(crate) fn count(name: &str, value: &Value) -> Result<u64, Rejection> {
    let refuse = |code, message: String| Err(Rejection::field(code, name, bounded(message)));
    let given: i128 = match value {
        Value::Int(int) => i128::from(*int),
        // A double holds every whole number up to 2⁵³, far above the largest count, so none is rounded here.
        Value::Double(double) if double.fract() == 0.0 => *double as i128,
        Value::String(text) if text.parse::<i64>().is_ok() => text.parse().unwrap_or_default(),
        Value::String(_) | Value::Double(_) | Value::Bool(_) => {
            let given = text_of(value).unwrap_or_default();
            return refuse(RejectCode::WrongType, format!("{given:?} is no whole number; send an integer"));
        }
        _ => return refuse(RejectCode::WrongType, "a list or a map is no count; send an integer".to_owned()),
    };
    match u64::try_from(given) {
        Err(_) if given < 0 => refuse(RejectCode::Negative, format!("{given} is negative; send 0 or more")),
        Ok(count) if count <= UsageEvent::COUNT_MAX => Ok(count),
        _ => {
            let may = UsageEvent::COUNT_MAX;
            refuse(RejectCode::OutOfRange, format!("{given} is more than {may}, the most that one event may count"))
        }
    }
}

/// Cuts a message where it quotes too much, and keeps it on one line.
pub(crate) fn bounded(message: String) -> String {
    let is_cut = message.len() > MESSAGE_BYTES_MAX;
    if !is_cut && !message.contains(char::is_control) {
        return message;
    }
    let end = (0..=message.len().min(MESSAGE_BYTES_MAX)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    let head = message[..end].chars().map(|c| if c.is_control() { ' ' } else { c });
    head.chain(is_cut.then_some('…')).collect()
}
