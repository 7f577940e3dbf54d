//! JSON Schemas of the types of `usage-types`, which knows no schemas: each type here mirrors one there, for its shape only.
//! A test holds each against what the real type writes.

#![allow(dead_code, reason = "only the derived schemas are used")]

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use usage_types::{Dimension, RejectCode};

/// An RFC 3339 time in UTC.
pub struct Time;

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// An ISO 4217 code.
pub struct Currency;

impl JsonSchema for Currency {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$" })
    }
}

/// Dimensions with their values.
pub struct Scope;

impl JsonSchema for Scope {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scope".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let properties: BTreeMap<&str, serde_json::Value> = Dimension::ALL
            .into_iter()
            .map(|dimension| (dimension.name(), serde_json::json!({ "type": "string", "minLength": 1 })))
            .collect();
        json_schema!({
            "type": "object",
            "description": "Dimensions with their values; empty: everything.",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// Why a decision was made.
pub struct ReasonCode;

impl JsonSchema for ReasonCode {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReasonCode".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut codes: Vec<String> =
            Dimension::ALL.into_iter().map(|d| usage_types::ReasonCode::QuotaExceeded(d).to_string()).collect();
        codes.extend(
            [
                usage_types::ReasonCode::GlobalQuotaExceeded,
                usage_types::ReasonCode::CircuitOpen,
                usage_types::ReasonCode::WithinQuota,
                usage_types::ReasonCode::BudgetRemoved,
            ]
            .map(|code| code.to_string()),
        );
        json_schema!({ "type": "string", "enum": codes })
    }
}

/// Why a scope is throttled.
pub struct ThrottleReason;

impl JsonSchema for ThrottleReason {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ThrottleReason".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": usage_types::ThrottleReason::ALL.map(usage_types::ThrottleReason::name) })
    }
}

/// A rate that a scope may spend at: a token bucket of `burst` that is filled evenly with `requests` in `per_s` seconds.
#[derive(JsonSchema)]
pub struct Throttle {
    reason_code: ThrottleReason,
    /// How many requests may be made.
    requests: u64,
    /// In how many seconds.
    per_s: u64,
    /// How many of them at once.
    burst: u64,
    /// The id of the shared budget that is nearly used up, where that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

/// Whether a scope may spend.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionState {
    /// It may not.
    Blocked,
    /// It may.
    Allowed,
}

/// A window: from `start` to just before `end`.
#[derive(JsonSchema)]
pub struct Window {
    start: Time,
    end: Time,
    /// The IANA time zone in which its bounds lie.
    zone: String,
}

/// One decision; the latest of a budget and scope is in force until `expires_at`.
#[derive(JsonSchema)]
pub struct Decision {
    budget: String,
    scope: Scope,
    state: DecisionState,
    reason_code: ReasonCode,
    /// What a gateway answers: 403 or 429 where blocked, 200 where allowed.
    http_status: u16,
    measure: String,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    /// In units of the measure.
    limit: String,
    /// In units of the measure, when this was decided.
    used: String,
    /// Rises with each decision of one budget and scope, and never goes back.
    seq: u64,
    window: Window,
    decided_at: Time,
    expires_at: Time,
    /// The budget is in shadow, and its limit is reached; the scope may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_block: Option<WouldBlock>,
    /// The budget as a whole has rolled back; the scope is its `match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rolled_back: Option<RolledBack>,
    /// How much more than the limit is let through, in units of the measure; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    overage: Option<String>,
    /// Of a block of a job: how far that has come, where its events say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// The scope may spend, and only at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<Throttle>,
    /// The rate that would hold if the budget or breaker were not in shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_throttle: Option<Throttle>,
}

/// That a budget blocks nobody any more, because it blocked too many.
#[derive(JsonSchema)]
pub struct RolledBack {
    /// Which state of the budget it was.
    revision: String,
    /// How many scopes it blocked.
    blocked: u64,
    /// Of how many that it was effective for and that had used something in the window.
    scopes: u64,
}

/// What a decision of a budget in shadow would say if it were effective.
#[derive(JsonSchema)]
pub struct WouldBlock {
    reason_code: ReasonCode,
    /// What a gateway would answer: 403 or 429.
    http_status: u16,
}

/// How many of its records a job has processed.
#[derive(JsonSchema)]
pub struct Progress {
    processed: u64,
    /// Of how many; absent where the job does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

/// One alert: a balance has reached a threshold of its budget.
#[derive(JsonSchema)]
pub struct Alert {
    id: String,
    budget: String,
    scope: Scope,
    window: Window,
    every: String,
    /// The window in words, where `every` does not say all.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_name: Option<String>,
    /// The threshold as a fraction, like `0.8`.
    threshold: String,
    measure: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    limit: String,
    used: String,
    /// Used per hour over the window so far, in units of the measure.
    burn_per_hour: String,
    /// When the limit is reached at that rate; absent where it is already, or not within the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    exhausted_at: Option<Time>,
    /// What reaching the limit does: `hard` blocks, `soft` and `shadow` do not.
    mode: String,
    raised_at: Time,
    /// Whom to mail.
    to: Vec<String>,
    /// How much more than the limit is let through, in units of the measure; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    overage: Option<String>,
    /// Of a job: how far it has come, where its events say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// It was foreseen, and no threshold reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<Predicted>,
}

/// Why an alert was foreseen.
#[derive(JsonSchema)]
pub struct Predicted {
    /// Over how many seconds the burn was measured.
    over_s: u64,
    /// The cap falls within so many seconds, which the budget warns of.
    within_s: u64,
}

/// The reason code of a rejected event.
pub struct Code;

impl JsonSchema for Code {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RejectCode".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": RejectCode::ALL.map(RejectCode::name).to_vec() })
    }
}

/// Why one event was refused.
#[derive(JsonSchema)]
pub struct Rejection {
    code: Code,
    /// The field's path in the event; absent where the whole event is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What is wrong and what to write instead.
    message: String,
}
