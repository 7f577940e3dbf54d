//! What reads: the bounds and the configuration, and the entrances to every format.

use std::cell::Cell;

use usage_types::{Dimension, RejectCode, Rejection, TimeUs, UsageEvent};

use crate::cloudevents;
use crate::config::IntakeConfig;
use crate::field::check_text;
use crate::framed::schema_id;
use crate::headers::{Binding, Headers};

/// Bounds on what intake reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeLimits {
    /// The largest record value, in bytes. Default 256 KiB: hundreds of times a real event, a quarter of Kafka's own limit.
    pub record_bytes_max: usize,
    /// The most events in one HTTP body. Default 10,000.
    pub items_max: usize,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        Self { record_bytes_max: 256 * 1024, items_max: 10_000 }
    }
}

/// Reads every format, within its limits and by its configuration. Our own event costs no look at either.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intake {
    /// Bounds on what is read.
    pub limits: IntakeLimits,
    /// What the names of other formats mean.
    pub config: IntakeConfig,
}

/// What the readers know beside the value.
pub(crate) struct Site<'s> {
    pub(crate) config: &'s IntakeConfig,
    /// Dimensions that headers name.
    pub(crate) named: &'s [(Dimension, &'s str)],
    /// When the value arrived: the time of a mapped event that has none.
    pub(crate) received_at: Option<TimeUs>,
    /// Set where the value was read by a mapping, so that another reader would need the same one.
    pub(crate) is_mapped: Cell<bool>,
}

impl Intake {
    /// Reads one record's value, which holds one event: the native JSON, a structured CloudEvent, or (with `ce_…` headers) the data of
    /// a binary one. One with a schema registry's prefix is read as [`Intake::decode_framed`] does without a writer's schema. The event borrows from `value` wherever JSON needs no unescaping.
    ///
    /// Headers name dimensions that the event itself lacks. A CloudEvent that is mapped and has no time happened at `received_at`;
    /// without that it is refused.
    ///
    /// # Errors
    /// The [`Rejection`] says which rule the event breaks: for a dead letter or an HTTP problem.
    pub fn decode_record<'a>(
        &self,
        value: Option<&'a [u8]>,
        headers: &Headers<'_>,
        received_at: Option<TimeUs>,
    ) -> Result<UsageEvent<'a>, Rejection> {
        let value = value.unwrap_or_default();
        if schema_id(value).is_some() {
            return self.decode_framed(value, headers, received_at, None);
        }
        let text = self.text_of(value)?;
        if headers.is_empty() {
            return cloudevents::detect(text, &self.site(&[], received_at));
        }
        let binding = headers.binding()?;
        let named = self.named(headers)?;
        read(text, binding, headers, &self.site(&named, received_at))
    }

    pub(crate) fn site<'s>(&'s self, named: &'s [(Dimension, &'s str)], received_at: Option<TimeUs>) -> Site<'s> {
        Site { config: &self.config, named, received_at, is_mapped: Cell::new(false) }
    }

    /// The dimensions that headers name.
    pub(crate) fn named<'h>(&self, headers: &Headers<'h>) -> Result<Vec<(Dimension, &'h str)>, Rejection> {
        let mut named: Vec<(Dimension, &str)> = Vec::new();
        for (name, dimension) in &self.config.headers {
            if named.iter().any(|(is, _)| is == dimension) {
                continue;
            }
            let Some(value) = headers.get(name) else { continue };
            let text = std::str::from_utf8(value).map_err(|_| {
                let message = format!("the header `{name}` is not UTF-8; encode it as UTF-8");
                Rejection::field(RejectCode::BadUtf8, name, message)
            })?;
            check_text(text.trim()).map_err(|(code, message)| Rejection::field(code, name, message))?;
            if !text.trim().is_empty() {
                named.push((*dimension, text.trim()));
            }
        }
        Ok(named)
    }

    /// The value as text, once its size and encoding are known to be right.
    pub(crate) fn text_of<'a>(&self, value: &'a [u8]) -> Result<&'a str, Rejection> {
        self.check_size(value)?;
        if value.first() == Some(&0) {
            let message = "the value starts with a zero byte, as a schema registry's serializers write it, which is read from Kafka records \
                           of five bytes and more only; send plain JSON";
            return Err(Rejection::new(RejectCode::UnsupportedFormat, message));
        }
        text(value)
    }

    pub(crate) fn check_size(&self, value: &[u8]) -> Result<(), Rejection> {
        if value.len() > self.limits.record_bytes_max {
            let message = format!(
                "{} bytes are more than the {} that one event may have; send events one by one, without prompts or answers",
                value.len(),
                self.limits.record_bytes_max
            );
            return Err(Rejection::new(RejectCode::TooLarge, message));
        }
        Ok(())
    }
}

/// Reads a value that is bound to an event in this way.
pub(crate) fn read<'a>(
    text: &'a str,
    binding: Binding,
    headers: &Headers<'_>,
    site: &Site<'_>,
) -> Result<UsageEvent<'a>, Rejection> {
    match binding {
        Binding::Undeclared => cloudevents::detect(text, site),
        Binding::Structured => cloudevents::structured(text, site),
        Binding::Binary => cloudevents::binary(text, headers, site),
    }
}

/// The bytes as UTF-8 that is not blank, without a byte order mark.
pub(crate) fn text(value: &[u8]) -> Result<&str, Rejection> {
    let text = std::str::from_utf8(value).map_err(|error| {
        let message = format!("byte {} is not UTF-8; encode the JSON as UTF-8", error.valid_up_to());
        Rejection::new(RejectCode::BadUtf8, message)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(Rejection::new(RejectCode::Empty, "there is no value; send one usage event as a JSON object"));
    }
    Ok(text)
}
