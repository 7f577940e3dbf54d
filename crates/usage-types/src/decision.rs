//! What the core publishes: decisions to block or allow, and alerts.

use std::fmt;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::{Currency, Dimension, Ppm, Progress, Scope, Throttle, TimeUs, WindowSpec};

/// One window: half-open, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Its first instant.
    pub start: TimeUs,
    /// The first instant after it.
    pub end: TimeUs,
    /// The time zone in which its bounds lie.
    pub zone: Tz,
}

impl Window {
    /// Whether the instant is in it.
    #[must_use]
    pub fn contains(&self, time: TimeUs) -> bool {
        self.start <= time && time < self.end
    }
}

/// Whether a scope may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionState {
    /// It may not.
    Blocked,
    /// It may.
    Allowed,
}

/// Why: for programs. A block names the narrowest dimension of the scope; what is allowed again says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasonCode {
    /// The quota of a scope is used up: `NAMESPACE_QUOTA_EXCEEDED`, `TEAM_QUOTA_EXCEEDED`, …
    QuotaExceeded(Dimension),
    /// The quota of everything is used up: `GLOBAL_QUOTA_EXCEEDED`.
    GlobalQuotaExceeded,
    /// The scope burnt too fast, and its circuit is open.
    CircuitOpen,
    /// Within its quota (again): the window turned, the limit was raised, or the balance was corrected.
    WithinQuota,
    /// The budget is gone, or blocks no longer.
    BudgetRemoved,
}

impl ReasonCode {
    /// The reason of a block by a budget with this narrowest dimension.
    #[must_use]
    pub const fn exceeded(narrowest: Option<Dimension>) -> Self {
        match narrowest {
            Some(dimension) => Self::QuotaExceeded(dimension),
            None => Self::GlobalQuotaExceeded,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QuotaExceeded(dimension) => write!(f, "{}_QUOTA_EXCEEDED", dimension.name().to_ascii_uppercase()),
            Self::GlobalQuotaExceeded => f.write_str("GLOBAL_QUOTA_EXCEEDED"),
            Self::CircuitOpen => f.write_str("CIRCUIT_OPEN"),
            Self::WithinQuota => f.write_str("WITHIN_QUOTA"),
            Self::BudgetRemoved => f.write_str("BUDGET_REMOVED"),
        }
    }
}

impl std::str::FromStr for ReasonCode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "GLOBAL_QUOTA_EXCEEDED" => Ok(Self::GlobalQuotaExceeded),
            "CIRCUIT_OPEN" => Ok(Self::CircuitOpen),
            "WITHIN_QUOTA" => Ok(Self::WithinQuota),
            "BUDGET_REMOVED" => Ok(Self::BudgetRemoved),
            _ => text
                .strip_suffix("_QUOTA_EXCEEDED")
                .and_then(|dimension| dimension.to_ascii_lowercase().parse().ok())
                .map(Self::QuotaExceeded)
                .ok_or_else(|| format!("`{text}` is no reason code")),
        }
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReasonCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a decision of a budget in shadow would say if it were effective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WouldBlock {
    /// Why it would block.
    pub reason_code: ReasonCode,
    /// What a gateway would answer: 403 or 429.
    pub http_status: u16,
}

/// What a decision says when its budget has rolled back: it blocks nobody any more, and its scopes are decided as in shadow until the budget
/// is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RolledBack {
    /// Which state of the budget it was: a change of its limits, scopes, window, mode or rollback makes another one.
    pub revision: String,
    /// How many scopes it blocked.
    pub blocked: u64,
    /// Of how many that it was effective for and that had used something in the window.
    pub scopes: u64,
}

/// One decision: the latest per key is in force until `expires_at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The budget that decided.
    pub budget: String,
    /// For whom.
    pub scope: Scope,
    /// Blocked or allowed.
    pub state: DecisionState,
    /// Why.
    pub reason_code: ReasonCode,
    /// What a gateway answers: 403 or 429 where blocked, 200 where allowed.
    pub http_status: u16,
    /// Of what: [`crate::Measure::name`].
    pub measure: String,
    /// The currency of a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// The limit, as text in units of the measure.
    pub limit: String,
    /// The balance when this was decided, likewise. It goes on growing while requests in flight finish.
    pub used: String,
    /// Rises with each decision of one key and never goes back. A key that the topic has not had begins at 1 or above.
    pub seq: u64,
    /// The window that it belongs to.
    pub window: Window,
    /// When it was decided, by the worker's clock.
    pub decided_at: TimeUs,
    /// When it ends by itself: the end of the window.
    pub expires_at: TimeUs,
    /// The budget is in shadow, and its limit is reached. What stands above this is for all who do not know of it: the scope may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_block: Option<WouldBlock>,
    /// The budget has rolled back: said once for the budget, with the values of its `match` as the scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// How much more than the limit the budget lets through before it blocks, likewise; absent where nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<String>,
    /// Of a block of a job: how far that has come, where its events say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The scope may spend, and only at this rate. To all who do not know of it it is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// The rate that would hold if the budget or breaker were not in shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_throttle: Option<Throttle>,
}

impl Decision {
    /// Every outcome, see [`Decision::outcome`].
    pub const OUTCOMES: [&str; 6] = ["blocked", "would_block", "rolled_back", "throttled", "would_throttle", "allowed"];

    /// Whether the limit was reached: it blocks, or would.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.state == DecisionState::Blocked || self.would_block.is_some()
    }

    /// Whether it throttles, or would.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.throttle.is_some() || self.would_throttle.is_some()
    }

    /// Whether it holds its scope back, or would, until it expires: something has to be said then.
    #[must_use]
    pub fn restrains(&self) -> bool {
        self.is_reached() || self.is_throttled()
    }

    /// What it comes to in one word, of [`Decision::OUTCOMES`].
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self.state {
            DecisionState::Blocked => "blocked",
            DecisionState::Allowed if self.would_block.is_some() => "would_block",
            DecisionState::Allowed if self.rolled_back.is_some() => "rolled_back",
            DecisionState::Allowed if self.throttle.is_some() => "throttled",
            DecisionState::Allowed if self.would_throttle.is_some() => "would_throttle",
            DecisionState::Allowed => "allowed",
        }
    }

    /// As a budget in shadow says it: a block becomes what would be one, and so does a throttle.
    #[must_use]
    pub fn shadowed(self) -> Self {
        if self.throttle.is_some() {
            return Self { throttle: None, would_throttle: self.throttle, ..self };
        }
        let would_block = WouldBlock { reason_code: self.reason_code, http_status: self.http_status };
        Self {
            state: DecisionState::Allowed,
            reason_code: ReasonCode::WithinQuota,
            http_status: 200,
            would_block: Some(would_block),
            ..self
        }
    }

    /// The key on the compacted topic.
    #[must_use]
    pub fn key(&self) -> String {
        decision_key(&self.budget, &self.scope)
    }
}

/// The key of a decision: `budget|scope`, in the canonical text of [`Scope`]. A budget's id holds no `|`.
#[must_use]
pub fn decision_key(budget: &str, scope: &Scope) -> String {
    format!("{budget}|{scope}")
}

/// One alert: a balance has reached a threshold of its budget. Mailed once for each id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// [`alert_id`]: also the key on the compacted topic.
    pub id: String,
    /// The budget.
    pub budget: String,
    /// Whose balance.
    pub scope: Scope,
    /// Over which window.
    pub window: Window,
    /// How long the window is, like `day`.
    pub every: String,
    /// The window in words, like `month from day 15`, where `every` does not say all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_name: Option<String>,
    /// The threshold as a fraction, like `0.8`.
    pub threshold: String,
    /// Of what: [`crate::Measure::name`].
    pub measure: String,
    /// The currency of a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// The limit, as text in units of the measure.
    pub limit: String,
    /// The balance when the alert was raised, likewise.
    pub used: String,
    /// Used per hour over the window so far, likewise (rounded down).
    pub burn_per_hour: String,
    /// When the limit is reached at that rate; `None` where it is reached already or not within the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted_at: Option<TimeUs>,
    /// What reaching the limit does: `hard` blocks, `soft` and `shadow` do not.
    pub mode: String,
    /// When it was raised, by the worker's clock.
    pub raised_at: TimeUs,
    /// Whom to mail.
    pub to: Vec<String>,
    /// How much more than the limit the budget lets through before it blocks, in units of the measure; absent where nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<String>,
    /// Of a job: how far it has come, where its events say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// It was foreseen, and no threshold reached: `threshold` is the share that is used, `burn_per_hour` that of the last while, and `exhausted_at`
    /// when requests will be refused if that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
}

/// Why an alert was foreseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicted {
    /// Over how many seconds the burn was measured.
    pub over_s: u64,
    /// The cap falls within so many seconds, which the budget warns of.
    pub within_s: u64,
}

/// The id of an alert that a budget foresees: one for each scope and window.
#[must_use]
pub fn predicted_alert_id(budget: &str, scope: &Scope, spec: WindowSpec, window_start: TimeUs) -> String {
    format!("{budget}|{scope}|{}|{window_start}|predicted", spec.id_name())
}

/// The id of an alert: a function of budget, scope, window and threshold alone, so that raising it twice is raising it once.
/// The window is named by its kind and start.
#[must_use]
pub fn alert_id(budget: &str, scope: &Scope, spec: WindowSpec, window_start: TimeUs, threshold: Ppm) -> String {
    format!("{budget}|{scope}|{}|{window_start}|{threshold}", spec.id_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rate, ThrottleReason};

    #[test]
    fn a_decision_has_the_contracts_json() {
        let decision = Decision {
            budget: "support-daily".into(),
            scope: Scope::new([(Dimension::Namespace, "support")]),
            state: DecisionState::Blocked,
            reason_code: ReasonCode::exceeded(Some(Dimension::Namespace)),
            http_status: 403,
            measure: "tokens".into(),
            currency: None,
            limit: "1000000".into(),
            used: "1000450".into(),
            seq: 17,
            window: Window { start: TimeUs(0), end: TimeUs(TimeUs::DAY), zone: chrono_tz::Europe::Berlin },
            decided_at: TimeUs(1),
            expires_at: TimeUs(TimeUs::DAY),
            would_block: None,
            rolled_back: None,
            overage: None,
            progress: None,
            throttle: None,
            would_throttle: None,
        };
        let json = serde_json::to_string(&decision).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"budget":"support-daily","scope":{"namespace":"support"},"state":"blocked","#,
                r#""reason_code":"NAMESPACE_QUOTA_EXCEEDED","http_status":403,"measure":"tokens","limit":"1000000","#,
                r#""used":"1000450","seq":17,"window":{"start":"1970-01-01T00:00:00Z","end":"1970-01-02T00:00:00Z","#,
                r#""zone":"Europe/Berlin"},"decided_at":"1970-01-01T00:00:00.000001Z","expires_at":"1970-01-02T00:00:00Z"}"#
            )
        );
        assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
        assert_eq!(decision.key(), "support-daily|namespace=support");
        let shadowed = serde_json::to_value(decision.clone().shadowed()).unwrap();
        assert_eq!((&shadowed["state"], &shadowed["http_status"]), (&"allowed".into(), &200.into()));
        let would_block = serde_json::json!({"reason_code": "NAMESPACE_QUOTA_EXCEEDED", "http_status": 403});
        assert_eq!(shadowed["would_block"], would_block);
        let rate = Rate { requests: 5, per_s: 60 };
        let throttle = Some(Throttle::new(ThrottleReason::CircuitHalfOpen, rate, 1));
        let throttled = Decision { state: DecisionState::Allowed, throttle, ..decision };
        let json = serde_json::to_value(&throttled).unwrap();
        let told = serde_json::json!({"reason_code": "CIRCUIT_HALF_OPEN", "requests": 5, "per_s": 60, "burst": 1});
        assert_eq!((&json["throttle"], throttled.outcome()), (&told, "throttled"));
        assert_eq!(serde_json::from_value::<Decision>(json).unwrap(), throttled);
        let shadowed = throttled.shadowed();
        assert_eq!((&shadowed.throttle, shadowed.outcome(), shadowed.restrains()), (&None, "would_throttle", true));
    }
}
