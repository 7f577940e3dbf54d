//! Claude Code's log record for each request to the model (its documentation: Monitoring, "API request event").
//!
//! Its counts are Anthropic's own: the input leaves the cache out, so the classes are disjoint as they come. Its metrics
//! `claude_code.token.usage` and `claude_code.cost.usage` and its spans `claude_code.llm_request` tell the same once more.

use std::borrow::Cow;

use usage_types::{Currency, Dimension, Pico, RejectCode, Rejection, Tokens, UsageEvent};

use crate::OtlpMap;
use crate::attributes::{Attributes, bounded, count, text_of};
use crate::decode::Outcome;
use crate::gen_ai::{blank, event, event_name, is_usual_tier, record_time, time};
use crate::id;
use crate::protobuf::{LogRecord, Value};

/// The record's full name, which is its body and, in some versions, its event name.
const API_REQUEST: &str = "claude_code.api_request";
/// How the names of its instrumentation scopes begin.
const SCOPE: &str = "com.anthropic.claude_code";

/// Whether a log record is one of these: by its full name, or by its short one in Claude Code's own scope.
pub(crate) fn is_api_request(record: &LogRecord, attributes: &Attributes<'_>) -> bool {
    let body = record.body.as_ref().and_then(|body| body.value.as_ref());
    let is_full_name = |name: &str| name == API_REQUEST;
    if matches!(body, Some(Value::String(text)) if is_full_name(text)) {
        return true;
    }
    event_name(record, attributes).is_some_and(|name| {
        is_full_name(&name) || (name == "api_request" && attributes.scope_name().starts_with(SCOPE))
    })
}

/// Reads it.
pub(crate) fn api_request(record: &LogRecord, attributes: &Attributes<'_>, map: &OtlpMap) -> Outcome {
    event(|| {
        let read = |name: &'static str| attributes.first_own(&[name]).map_or(Ok(0), |(name, value)| count(name, value));
        let tokens = Tokens {
            input: read("input_tokens")?,
            cache_read: read("cache_read_tokens")?,
            // Which time to live was bought is not told; five minutes is the default.
            cache_write_5m: read("cache_creation_tokens")?,
            cache_write_1h: 0,
            output: read("output_tokens")?,
            reasoning: 0,
        };
        let (field, time_ns) = record_time(record);
        let id = request_id(record, attributes, time_ns)?;
        let mut event: UsageEvent<'static> = blank(attributes, map, id, time(field, time_ns)?, tokens)?;
        let mut set = |dimension, value: Option<String>| event.dimensions.set(dimension, value.map(Cow::Owned));
        set(Dimension::Operation, Some("chat".to_owned()));
        set(Dimension::Provider, Some("anthropic".to_owned()));
        set(Dimension::Model, attributes.own_text(&["model"])?);
        set(Dimension::ServiceTier, attributes.own_text(&["speed"])?.filter(|speed| !is_usual_tier(speed)));
        if map.claude_code_cost {
            event.cost = attributes.first_own(&["cost_usd"]).map(|(name, value)| cost(name, value)).transpose()?;
        }
        Ok(event)
    })
}

/// Anthropic's id of the request; without it the record's number within its session; else what the record holds.
fn request_id(record: &LogRecord, attributes: &Attributes<'_>, time_ns: u64) -> Result<String, Rejection> {
    if let Some(id) = attributes.own_text(&["request_id"])? {
        return Ok(id);
    }
    if let (Some(session), Some(number)) =
        (attributes.own_text(&["session.id"])?, attributes.own_text(&["event.sequence"])?)
    {
        return Ok(format!("{session}/{number}"));
    }
    Ok(id::of_call(None, &record.trace_id, &record.span_id)
        .unwrap_or_else(|| id::of_content(time_ns, API_REQUEST, attributes.own())))
}

/// A cost in US dollars, which comes as a double (or as text). A double's shortest decimal text is the number that its sender meant: 0.0210743
/// and not 0.0210742999…; of that text 12 digits after the point are kept, rounded half up.
fn cost(name: &'static str, value: &Value) -> Result<(Pico, Currency), Rejection> {
    let text = text_of(value).unwrap_or_default();
    let refuse = |code| {
        let message = bounded(format!("{text:?} is no amount of dollars; send a number like 0.0123"));
        Rejection::field(code, name, message)
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = Pico::DIGITS as usize;
    let is_plain = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return Err(refuse(if text.starts_with('-') { RejectCode::Negative } else { RejectCode::WrongType }));
    }
    let kept = &fraction[..fraction.len().min(digits)];
    let rounds_up = fraction.as_bytes().get(digits).is_some_and(|digit| *digit >= b'5');
    let amount: Pico = format!("{whole}.{kept}").parse().map_err(|_| refuse(RejectCode::OutOfRange))?;
    let amount = Pico(amount.0 + i128::from(rounds_up));
    if amount > COST_MAX {
        return Err(refuse(RejectCode::OutOfRange));
    }
    Ok((amount, Currency::USD))
}

/// The largest cost of one event: that of `usage-intake`, which reads it again.
const COST_MAX: Pico = Pico(1_000_000_000_000 * Pico::ONE.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_becomes_the_decimal_that_was_meant() {
        let pico = |value: Value| cost("cost_usd", &value).map(|(amount, _)| amount.0);
        for (value, amount) in [
            (Value::Double(0.021_074_3), 21_074_300_000),
            (Value::Double(0.1 + 0.2), 300_000_000_000), // 0.30000000000000004
            (Value::Double(0.000_000_000_000_5), 1),
            (Value::Double(0.0), 0),
            (Value::Double(3.0), 3_000_000_000_000),
            (Value::Int(2), 2_000_000_000_000),
            (Value::String("0.0123".to_owned()), 12_300_000_000),
        ] {
            assert_eq!(pico(value.clone()), Ok(amount), "{value:?}");
        }
        for (value, code) in [
            (Value::Double(-0.5), RejectCode::Negative),
            (Value::Double(f64::NAN), RejectCode::WrongType),
            (Value::Double(f64::INFINITY), RejectCode::WrongType),
            (Value::Double(1e300), RejectCode::OutOfRange),
            (Value::String("much".to_owned()), RejectCode::WrongType),
        ] {
            assert_eq!(pico(value.clone()).map_err(|rejection| rejection.code), Err(code), "{value:?}");
        }
    }
}
