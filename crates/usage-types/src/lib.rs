//! The vocabulary that every crate of Outlay shares: units, dimensions, events, budgets, decisions.
//!
//! Holds here: money is an integer of pico-units, time is an integer of microseconds, every token is in exactly one class,
//! and each text form (JSON, YAML, the key of a compacted topic) of these types is written in one place only.
//! Deliberately absent: I/O, async, clocks, wire formats other than our own ([`usage-intake`] reads those), and any rule
//! that changes a balance ([`budget-core`] has all of them).
//!
//! [`usage-intake`]: https://docs.rs/usage-intake
//! [`budget-core`]: https://docs.rs/budget-core

mod breaker;
mod budget;
mod budget_diff;
mod budget_file;
mod budget_form;
mod decision;
mod dimension;
mod estimate;
mod event;
mod grant;
mod increase;
mod limit;
mod measure;
mod mode;
mod partition;
mod predict;
mod priority;
mod progress;
mod reject;
mod share;
mod special;
mod throttle;
mod time;
mod units;
mod window;

pub use breaker::{Breaker, Surge, Trip};
pub use budget::{AlertRule, Budget, BudgetError, BudgetId, BudgetSet, Ppm};
pub use budget_diff::{BudgetChange, BudgetDiff, FieldChange, budget_fields, diff};
pub use decision::{
    Alert, Decision, DecisionState, Predicted, ReasonCode, RolledBack, Window, WouldBlock, alert_id, decision_key,
    predicted_alert_id,
};
pub use dimension::{Dimension, DimensionSet, Dimensions, Scope};
pub use estimate::Estimate;
pub use event::{Cost, CostOrigin, EventPosition, Role, TokenClass, Tokens, UsageEvent};
pub use grant::Grant;
pub use increase::{IncreaseAsk, IncreaseTerms, Wish};
pub use limit::{Fill, Limit, Limits};
pub use measure::{Amount, Measure};
pub use mode::{Mode, Rollback};
pub use partition::canonical_key;
pub use predict::Predict;
pub use priority::{Pressure, PressureStep, Priority};
pub use progress::Progress;
pub use reject::{RejectCode, Rejection};
pub use share::shares;
pub use special::{SpecialLimit, SpecialLimits, Whom};
pub use throttle::{Rate, Throttle, ThrottleReason};
pub use time::TimeUs;
pub use units::{ComputeNs, Currency, Money, Pico, UnitError};
pub use window::{Anchor, Bounds, Every, Span, WindowKind, WindowSpec};
