//! Predictions: whether a cap falls soon, at the present burn.

use crate::{Rate, Span};

/// What a budget does while it has something left, and burns so fast that it will not have for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predict {
    /// Over how long burn is measured, up to now.
    pub over: Span,
    /// It alerts where the cap falls within so long, in microseconds.
    pub warn_us: Option<i64>,
    /// It throttles where the cap falls within so long, in microseconds.
    pub slow_us: Option<i64>,
    /// It throttles to no less than this.
    pub floor: Rate,
}

impl Predict {
    /// Over how long, where nothing is said: some requests of whoever is worth predicting, and not the burst of a moment.
    pub const OVER: Span = Span::minutes(5);
    /// The floor where nothing is said.
    pub const FLOOR: Rate = Rate { requests: 1, per_s: 60 };
}
