//! The settings of the state machine.

use std::time::Duration;

use usage_types::{Dimension, DimensionSet, Every, TimeUs, WindowSpec};

/// What balances are kept for without any budget: of one set of dimensions over some kinds of window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The dimensions; an event that lacks one of them is not counted here.
    pub dimensions: DimensionSet,
    /// The kinds of window.
    pub windows: Vec<WindowSpec>,
}

/// Settings.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// What balances are kept for without any budget.
    pub tracked: Vec<Tracked>,
    /// How long an id is remembered, and how old an event may be, both by the log's append time.
    pub dedup_horizon: Duration,
    /// The most ids that are remembered; beyond it the oldest are forgotten early, and counted.
    pub dedup_ids_max: usize,
    /// How far after its append time an event's time may lie before it is set to that, in microseconds.
    pub future_tolerance_us: i64,
    /// How long after the end of its UTC hour an event is not yet late, in microseconds.
    pub late_grace_us: i64,
    /// Keys of the hashes of senders' texts; from the system's randomness, new in each process.
    pub hash_key: [u64; 2],
}

impl CoreConfig {
    /// For what counts stored rows in the order of their time, for the budgets that it is given and nothing else: each row is there once and
    /// never late, so nothing has to be remembered.
    #[must_use]
    pub fn of_stored_rows() -> Self {
        Self { tracked: Vec::new(), dedup_horizon: Duration::ZERO, dedup_ids_max: 1, ..Self::default() }
    }
}

impl Default for CoreConfig {
    /// Namespace; namespace and team; namespace, team and repository; each over hour, day and month in UTC. 24 hours.
    fn default() -> Self {
        let windows: Vec<WindowSpec> =
            [Every::Hour, Every::Day, Every::Month].map(|every| WindowSpec::calendar(every, chrono_tz::UTC)).into();
        let path = [Dimension::Namespace, Dimension::Team, Dimension::Repository];
        Self {
            tracked: (1..=path.len())
                .map(|len| Tracked { dimensions: DimensionSet::of(&path[..len]), windows: windows.clone() })
                .collect(),
            dedup_horizon: Duration::from_secs(24 * 60 * 60),
            dedup_ids_max: 100_000_000,
            future_tolerance_us: 5 * TimeUs::MINUTE,
            late_grace_us: 5 * TimeUs::MINUTE,
            hash_key: [0x6F75_746C_6179_2D31, 0x636F_7265_2D6B_6579],
        }
    }
}
