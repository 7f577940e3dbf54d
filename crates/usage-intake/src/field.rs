//! The fields of an event: how each kind (text, count, decimal, money, time) is read and which rule it may break.
//!
//! serde gives an error no room for a code or a path, so both go into a [`Context`] beside it: where the reader stands, and what
//! it refused. That keeps the good event's way to one pass, and a bad one needs no second.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde_json::error::Category;
use usage_types::{ComputeNs, Pico, RejectCode, Rejection, TimeUs, UnitError, UsageEvent};

use crate::time::event_time;

/// The longest compute time of one event: a million hours. A hundred thousand accelerators for ten hours, and it fits a signed
/// 64-bit column of nanoseconds.
pub const COMPUTE_MAX: ComputeNs = ComputeNs(1_000_000 * 3_600 * 1_000_000_000);
/// The largest cost of one event: a trillion units of its currency, so that 10¹⁴ of them fit the lake's decimal.
pub const COST_MAX: Pico = Pico(1_000_000_000_000 * Pico::ONE.0);

/// A message quotes no more than this of what somebody sent.
const MESSAGE_BYTES_MAX: usize = 400;

/// A broken rule: its code and the sentence that says what to write instead.
pub(crate) type Fault = (RejectCode, String);

/// Where the reader stands in the event, and what it refused.
#[derive(Default)]
pub(crate) struct Context {
    path: Cell<(&'static str, &'static str)>,
    refused: Cell<Option<Box<Rejection>>>,
}

impl Context {
    /// The reader is now at this field.
    pub(crate) fn at(&self, field: &'static str) {
        self.path.set((field, ""));
    }

    /// The reader is now at this member of the field.
    pub(crate) fn at_member(&self, member: &'static str) {
        self.path.set((self.path.get().0, member));
    }

    fn path(&self) -> String {
        let (field, member) = self.path.get();
        if member.is_empty() { field.to_owned() } else { format!("{field}.{member}") }
    }

    /// Refuses the field at which the reader stands.
    pub(crate) fn refuse<E: Error>(&self, (code, message): Fault) -> E {
        self.refuse_at(self.path(), (code, message))
    }

    /// Refuses the field of this path; none where the whole event is meant.
    pub(crate) fn refuse_at<E: Error>(&self, field: String, (code, message): Fault) -> E {
        let field = (!field.is_empty()).then_some(field);
        self.refused.set(Some(Box::new(Rejection { code, field, message: bounded(message) })));
        E::custom("refused")
    }

    /// The rejection that a failed reading ends in.
    pub(crate) fn conclude(&self, error: &serde_json::Error) -> Rejection {
        if let Some(refused) = self.refused.take() {
            return *refused;
        }
        let text = error.to_string();
        let (what, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
        let code = if error.classify() == Category::Data {
            RejectCode::WrongType
        } else if what == "number out of range" {
            RejectCode::OutOfRange
        } else {
            let message = format!("not JSON: {text}; send one JSON object for one event");
            return Rejection::new(RejectCode::NotJson, bounded(message));
        };
        let field = self.path();
        Rejection { code, field: (!field.is_empty()).then_some(field), message: bounded(what.to_owned()) }
    }
}

/// Cuts a message where it quotes too much, and keeps it on one line: it goes into logs, mails and headers.
pub(crate) fn bounded(message: String) -> String {
    let is_cut = message.len() > MESSAGE_BYTES_MAX;
    let end = (0..=message.len().min(MESSAGE_BYTES_MAX)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    if !is_cut && !message.contains(char::is_control) {
        return message;
    }
    let head = message[..end].chars().map(|c| if c.is_control() { ' ' } else { c });
    head.chain(is_cut.then_some('…')).collect()
}

/// A member that is given twice: two programs would read two different events.
pub(crate) fn given_twice(name: &str) -> Fault {
    (RejectCode::WrongType, format!("`{name}` is given twice; send it once"))
}

/// A text that needs no unescaping borrows. (serde's own `Cow` always copies.)
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Borrowed<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Checks a text that becomes an id, a source, a dimension or a tag.
#[inline]
pub(crate) fn check_text(text: &str) -> Result<(), Fault> {
    if text.len() > UsageEvent::TEXT_BYTES_MAX {
        let (is, may) = (text.len(), UsageEvent::TEXT_BYTES_MAX);
        return Err((
            RejectCode::OutOfRange,
            format!("{is} bytes are more than the {may} that a text may have; shorten it"),
        ));
    }
    // Without a way out of the loop, so that it looks at many bytes at a time.
    let plain = text.bytes().fold(true, |plain, byte| plain & (0x20..0x7f).contains(&byte));
    // The second look, by character, is for the rare text that is not plain ASCII.
    if !plain && text.chars().any(char::is_control) {
        let message = format!("{text:?} holds a control character; remove line breaks, tabs and zero bytes");
        return Err((RejectCode::OutOfRange, message));
    }
    Ok(())
}

/// A text; `null` counts as absent.
pub(crate) struct Text<'c>(pub(crate) &'c Context);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = Option<Cow<'de, str>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = Option<Cow<'de, str>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes")
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        check_text(text).map_err(|fault| self.0.refuse(fault))?;
        Ok(Some(Cow::Borrowed(text)))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        check_text(text).map_err(|fault| self.0.refuse(fault))?;
        Ok(Some(Cow::Owned(text.to_owned())))
    }
}

/// The event's time; `null` counts as absent.
pub(crate) struct Time<'c>(pub(crate) &'c Context);

impl<'de> DeserializeSeed<'de> for Time<'_> {
    type Value = Option<TimeUs>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Time<'_> {
    type Value = Option<TimeUs>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in quotes like \"2026-11-21T10:00:00.123Z\"")
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        event_time(text).map(Some).map_err(|message| self.0.refuse((RejectCode::BadTime, message)))
    }
}

/// A whole number from 0 to [`UsageEvent::COUNT_MAX`]; `null` counts as absent.
pub(crate) struct Count<'c>(pub(crate) &'c Context);

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = Option<u64>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = Option<u64>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number without quotes")
    }
    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_u64(self)
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        if value > UsageEvent::COUNT_MAX {
            return Err(self.0.refuse(too_many(&value)));
        }
        Ok(Some(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(self.0.refuse(negative(&value))),
        }
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Err(self.0.refuse(if value < 0.0 {
            negative(&value)
        } else if value > UsageEvent::COUNT_MAX as f64 {
            too_many(&value)
        } else {
            (RejectCode::WrongType, format!("{value:?} is a fraction; write a whole number without point or exponent"))
        }))
    }
}

pub(crate) fn negative(value: &dyn fmt::Display) -> Fault {
    (RejectCode::Negative, format!("{value} is negative; write 0 or more (corrections are events of their own)"))
}

fn too_many(value: &dyn fmt::Display) -> Fault {
    (
        RejectCode::OutOfRange,
        format!("{value} is more than {}, the most that one event may count", UsageEvent::COUNT_MAX),
    )
}

/// Reads a decimal of zero or more out of its JSON text: a text in quotes or a whole number, never a fraction without quotes.
pub(crate) fn decimal<T: FromStr<Err = UnitError>>(json: &str) -> Result<T, Fault> {
    let digits = json.strip_prefix('"').unwrap_or(json).strip_prefix('-').map(|rest| rest.trim_end_matches('"'));
    let is_negative = digits.is_some_and(|digits| {
        digits.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()) && digits.bytes().any(|byte| byte > b'0')
    });
    if is_negative {
        return Err(negative(&json.trim_matches('"')));
    }
    signed_decimal(json)
}

/// Reads a decimal that may be negative out of its JSON text: a text in quotes or a whole number, never a fraction without quotes.
pub(crate) fn signed_decimal<T: FromStr<Err = UnitError>>(json: &str) -> Result<T, Fault> {
    let text = match json.as_bytes().first() {
        Some(b'"') => json_text(json)?,
        Some(b'-' | b'0'..=b'9') if json.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) => json.into(),
        Some(b'-' | b'0'..=b'9') => {
            let message = format!("{json} may have been a float; write it in quotes, like \"0.0123\"");
            return Err((RejectCode::WrongType, message));
        }
        _ => {
            let message = format!("{json} is no decimal number; write it in quotes, like \"0.0123\"");
            return Err((RejectCode::WrongType, message));
        }
    };
    text.parse().map_err(|error: UnitError| {
        let code = match error {
            UnitError::TooFine { .. } | UnitError::TooLarge(_) => RejectCode::OutOfRange,
            _ => RejectCode::WrongType,
        };
        (code, error.to_string())
    })
}

/// The text that a JSON string stands for. Without escapes it is the string less its quotes.
pub(crate) fn json_text(json: &str) -> Result<Cow<'_, str>, Fault> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains(['\\', '"']) => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<Borrowed<'_>>(json).map(|text| text.0).map_err(|error| match error.classify() {
            Category::Data => (RejectCode::WrongType, format!("{json} is no text; write a text in quotes")),
            _ => (RejectCode::NotJson, format!("not JSON: {error}")),
        }),
    }
}
