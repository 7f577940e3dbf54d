//! What a check asks and answers, and what is answered while the balances are not current.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use usage_types::{
    Currency, DecisionState, Dimension, Dimensions, Estimate, ReasonCode, Scope, ThrottleReason, TimeUs, Window,
};

use crate::schema;

/// What is asked.
#[derive(Debug, Clone)]
pub struct CheckQuestion<'q> {
    /// For whom.
    pub dimensions: Dimensions<'q>,
    /// What the request is expected to use.
    pub estimate: Option<Estimate>,
    /// Whether decisions that were published count beside the balances, because these may be behind what was decided.
    pub last_known: bool,
}

/// The answer to a check. `budget` and what follows it name the budget, or the circuit breaker, that blocks or, where the request is allowed, the
/// one closest to its limit; all are absent where no budget matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckAnswer {
    /// Whether the request may be made.
    #[schemars(with = "schema::DecisionState")]
    pub state: DecisionState,
    /// Why, for programs.
    pub reason_code: CheckReason,
    /// The status of this answer: 200, or the budget's 403 or 429 (429 where what is left is reserved, and for what a throttle refuses); 503 where enforcement is behind and the fail policy is `closed`.
    pub http_status: u16,
    /// The id of the budget or breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Whose balance it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Scope>")]
    pub scope: Option<Scope>,
    /// What the budget limits, like `tokens` or `cost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Currency>")]
    pub currency: Option<Currency>,
    /// The limit, in units of the measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// How much more than the limit is let through, likewise; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overage: Option<String>,
    /// The balance, in units of the measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// What open reservations hold of it, likewise; absent where they hold nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What this request is expected to use of it, likewise; absent where no estimate was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<String>,
    /// The window of the balance. `Retry-After` counts to its end. Of a block over a window that moves, that is when the scope would be within
    /// its limits if nothing more were spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Window>")]
    pub window: Option<Window>,
    /// The budget or breaker in shadow that would refuse this request if it were hard; absent where the request is refused anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_block: Option<ShadowFinding>,
    /// The throttle that this request met: the one that refuses it or, where none does, the one that leaves least; absent where none is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleFinding>,
    /// The throttle in shadow that would refuse this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_throttle: Option<ThrottleFinding>,
}

impl CheckAnswer {
    /// An answer that no budget gives.
    #[must_use]
    pub const fn of_no_budget(state: DecisionState, reason_code: CheckReason, http_status: u16) -> Self {
        Self {
            state,
            reason_code,
            http_status,
            budget: None,
            scope: None,
            measure: None,
            currency: None,
            limit: None,
            overage: None,
            used: None,
            held: None,
            estimate: None,
            window: None,
            would_block: None,
            throttle: None,
            would_throttle: None,
        }
    }
}

/// A rate that requests are held to: a token bucket of `burst` that is filled evenly with `requests` in `per_s` seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ThrottleFinding {
    /// The id of the budget or breaker.
    pub budget: String,
    /// Who is held to it together.
    #[schemars(with = "schema::Scope")]
    pub scope: Scope,
    /// Why.
    #[schemars(with = "schema::ThrottleReason")]
    pub reason_code: ThrottleReason,
    /// How many requests may be made.
    pub requests: u64,
    /// In how many seconds.
    pub per_s: u64,
    /// How many of them at once.
    pub burst: u64,
    /// The id of the shared budget that is nearly used up, where that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How many would pass at once after this one.
    pub remaining: u64,
    /// Where nothing remains, when the next one passes; else when as many do as ever.
    #[schemars(with = "schema::Time")]
    pub reset_at: TimeUs,
    /// When the throttle is over by itself.
    #[schemars(with = "schema::Time")]
    pub expires_at: TimeUs,
}

/// What a budget or a breaker in shadow would have answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShadowFinding {
    /// The id of the budget or breaker.
    pub budget: String,
    /// Whose balance it is.
    #[schemars(with = "schema::Scope")]
    pub scope: Scope,
    /// Why it would block.
    #[schemars(with = "schema::ReasonCode")]
    pub reason_code: ReasonCode,
    /// The status that it would answer: 403 or 429.
    pub http_status: u16,
    /// What the budget limits, like `tokens` or `cost`.
    pub measure: String,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::Currency>")]
    pub currency: Option<Currency>,
    /// The limit, in units of the measure.
    pub limit: String,
    /// How much more than the limit is let through, in units of the measure; absent where nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overage: Option<String>,
    /// The balance, in units of the measure.
    pub used: String,
    /// The window of the balance.
    #[schemars(with = "schema::Window")]
    pub window: Window,
}

/// The answer to a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// The estimate is held.
    Held {
        /// What the event names that settles it: hard to guess.
        id: String,
        /// When it ends by itself.
        expires_at: TimeUs,
        /// As a check without a reservation is answered.
        answer: CheckAnswer,
    },
    /// The request may not be made.
    Refused(CheckAnswer),
    /// There are as many reservations as there may be.
    Full,
}

/// Why a check is answered as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckReason {
    /// As a decision says it.
    Decision(ReasonCode),
    /// The estimate is more than what is left of a budget with this narrowest dimension: `USER_ESTIMATE_EXCEEDS_QUOTA`,
    /// `GLOBAL_ESTIMATE_EXCEEDS_QUOTA`, …
    EstimateExceeds(Option<Dimension>),
    /// What is left is held by reservations: `USER_QUOTA_RESERVED`, `GLOBAL_QUOTA_RESERVED`, …
    Reserved(Option<Dimension>),
    /// A throttle lets no more requests through now: `CIRCUIT_HALF_OPEN`, …
    Throttled(ThrottleReason),
    /// The balances are further behind than the bound, so the fail policy answers: `ENFORCEMENT_BEHIND`.
    EnforcementBehind,
}

impl fmt::Display for CheckReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decision(reason) => reason.fmt(f),
            Self::EstimateExceeds(narrowest) => write!(f, "{}_ESTIMATE_EXCEEDS_QUOTA", whose(*narrowest)),
            Self::Reserved(narrowest) => write!(f, "{}_QUOTA_RESERVED", whose(*narrowest)),
            Self::Throttled(reason) => reason.fmt(f),
            Self::EnforcementBehind => f.write_str("ENFORCEMENT_BEHIND"),
        }
    }
}

fn whose(narrowest: Option<Dimension>) -> String {
    narrowest.map_or("GLOBAL".to_owned(), |dimension| dimension.name().to_ascii_uppercase())
}

impl Serialize for CheckReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for CheckReason {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CheckReason".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let of_budget = |narrowest| {
            let exceeded = Self::Decision(ReasonCode::exceeded(narrowest));
            [exceeded, Self::EstimateExceeds(narrowest), Self::Reserved(narrowest)]
        };
        let of_budgets = Dimension::ALL.map(Some).into_iter().chain([None]).flat_map(of_budget);
        let others = [ReasonCode::CircuitOpen, ReasonCode::WithinQuota].map(Self::Decision);
        let others = others.into_iter().chain(ThrottleReason::ALL.map(Self::Throttled));
        let others = others.chain([Self::EnforcementBehind]);
        let codes: Vec<String> = of_budgets.chain(others).map(|reason| reason.to_string()).collect();
        json_schema!({ "type": "string", "enum": codes })
    }
}

/// How current the balances are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// How old the newest event is that the balances hold, in microseconds; 0 where they hold all.
    pub lag_us: u64,
    /// Why the balances cannot be relied on, whatever the lag; as a sentence for people.
    pub problem: Option<String>,
}

/// What is answered while the balances are further behind than the bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum FailPolicy {
    /// All requests may be made.
    Open,
    /// None may be made: 503.
    Closed,
    /// Those may be made that neither a balance nor the last published decision blocks.
    #[default]
    LastKnown,
}

impl FailPolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Closed, Self::LastKnown];

    /// The name in settings, headers and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::LastKnown => "last-known",
        }
    }
}

impl FromStr for FailPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| format!("`{text}` is no fail policy; use one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl<'de> Deserialize<'de> for FailPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for FailPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl JsonSchema for FailPolicy {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FailPolicy".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::ALL.map(Self::name) })
    }
}

/// The settings of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckConfig {
    /// What is answered while the balances are further behind than `lag_max`.
    pub fail: FailPolicy,
    /// How far the balances may be behind.
    pub lag_max: Duration,
}

impl Default for CheckConfig {
    /// The last known, from five seconds on: far longer than a healthy worker's lag, which is milliseconds.
    fn default() -> Self {
        Self { fail: FailPolicy::default(), lag_max: Duration::from_secs(5) }
    }
}

impl CheckConfig {
    /// Why the fail policy answers, if it does.
    #[must_use]
    pub fn failure(&self, enforcement: &Enforcement) -> Option<String> {
        if enforcement.problem.is_some() {
            return enforcement.problem.clone();
        }
        let lag = Duration::from_micros(enforcement.lag_us);
        (lag > self.lag_max)
            .then(|| format!("balances are {} ms behind, more than {} ms", lag.as_millis(), self.lag_max.as_millis()))
    }
}
