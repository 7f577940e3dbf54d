//! Priorities: who is slowed first when a budget that several share is nearly used up.

use crate::{Ppm, Rate};

/// How important a budget's scopes are to those who share a budget above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Slowed first.
    Low,
    /// Slowed next.
    #[default]
    Normal,
    /// Never slowed.
    High,
}

impl Priority {
    /// The names in YAML and JSON.
    pub const NAMES: [&str; 3] = ["low", "normal", "high"];

    /// The name in YAML and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// What a budget that is nearly used up does to the scopes of the narrower budgets below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// To those of low priority.
    pub low: Option<PressureStep>,
    /// To those of normal priority; not before those of low priority.
    pub normal: Option<PressureStep>,
}

/// From which share on, and to which rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PressureStep {
    /// The share of a limit from which on it holds.
    pub at: Ppm,
    /// What each scope is held to.
    pub rate: Rate,
}

impl Pressure {
    /// What it does to a priority.
    #[must_use]
    pub const fn step(&self, priority: Priority) -> Option<PressureStep> {
        match priority {
            Priority::Low => self.low,
            Priority::Normal => self.normal,
            Priority::High => None,
        }
    }

    /// How many of its steps hold, where it is told which shares are reached.
    #[must_use]
    pub fn level(&self, has_reached: impl Fn(Ppm) -> bool) -> usize {
        [self.low, self.normal].into_iter().flatten().filter(|step| has_reached(step.at)).count()
    }
}
