//! What goes into the state machine, what becomes of it, and what it adds to balances.

use usage_types::{ComputeNs, Cost, Currency, Dimensions, EventPosition, Pico, Progress, TimeUs, Tokens, UsageEvent};

use crate::balance::Usage;
use crate::fold::Fold;

/// An event from the log.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The event. Its id should be there; one without is taken as identified by its partition and offset.
    pub event: &'a UsageEvent<'a>,
    /// What it cost; `None` where that is not known.
    pub cost: Option<Cost>,
    /// Where it stands in the log.
    pub position: EventPosition,
    /// What it corrects, where it amends or voids; the shell looks that up. Ignored for other events.
    pub restates: Option<&'a Restates<'a>>,
}

/// What a correction finds: the event that it names, as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Restates<'a> {
    /// The effective time of that event, at which its corrections count too: its windows are restated.
    pub time: TimeUs,
    /// The row that counts for it now: its own or that of its last amendment. `None` where it is void, and can be amended still.
    pub counts: Option<RestoredRow<'a>>,
}

/// A row that was accepted before, from the lake.
#[derive(Debug, Clone, Copy)]
pub struct RestoredRow<'a> {
    /// The event's id.
    pub id: &'a str,
    /// Who emitted it.
    pub source: &'a str,
    /// The effective time.
    pub time: TimeUs,
    /// When the log took it.
    pub append_time: TimeUs,
    /// Who and what.
    pub dimensions: &'a Dimensions<'a>,
    /// Tokens by class.
    pub tokens: Tokens,
    /// Requests.
    pub requests: u64,
    /// Tool calls.
    pub tool_calls: u64,
    /// Images that a model made.
    pub images: u64,
    /// Compute time.
    pub compute: ComputeNs,
    /// What it cost.
    pub cost: Option<(Pico, Currency)>,
    /// Whether it takes back all of this instead of adding it. The amounts are those of the row that it takes back.
    pub reversal: bool,
    /// How far its job had come with it.
    pub progress: Option<Progress>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is counted.
    Accepted {
        /// Its effective time: its own, or the append time where it was clamped.
        time: TimeUs,
        /// It came after the end of its UTC hour and the grace.
        late: bool,
        /// Its own time lay too far in the future.
        clamped: bool,
    },
    /// Its id was counted already.
    Duplicate,
    /// It corrects an event that is not there, or voids one that is void. It is not counted, and its id not remembered.
    NoOriginal,
    /// It is older than the horizon, so whether it is a duplicate cannot be told. It is not counted.
    TooLate,
}

/// What an event adds, at its effective time.
pub(crate) fn fold<'a>(input: &Input<'a>, time: TimeUs) -> Fold<'a> {
    let event = input.event;
    Fold {
        time,
        dimensions: &event.dimensions,
        usage: Usage {
            reversal: false,
            tokens: &event.tokens,
            requests: event.requests,
            tool_calls: event.tool_calls,
            images: event.images,
            compute: event.compute,
            cost: input.cost.map(|cost| (cost.amount, cost.currency)),
            append_s: seconds(input.position.append_time),
        },
    }
}

/// What a correction takes back, as of the correction's own append time.
pub(crate) fn taken_back<'a>(input: &Input<'a>, restates: &'a Restates<'a>) -> Option<Fold<'a>> {
    let counts = restates.counts.as_ref()?;
    let mut fold = row_fold(counts);
    (fold.time, fold.usage.reversal) = (restates.time, true);
    fold.usage.append_s = seconds(input.position.append_time);
    Some(fold)
}

/// What a row adds, or takes back.
pub(crate) fn row_fold<'a>(row: &'a RestoredRow<'_>) -> Fold<'a> {
    Fold {
        time: row.time,
        dimensions: row.dimensions,
        usage: Usage {
            reversal: row.reversal,
            tokens: &row.tokens,
            requests: row.requests,
            tool_calls: row.tool_calls,
            images: row.images,
            compute: row.compute,
            cost: row.cost,
            append_s: seconds(row.append_time),
        },
    }
}

/// Whole seconds since the epoch, at the ends of the range where it would not fit.
pub(crate) fn seconds(time: TimeUs) -> u32 {
    u32::try_from(time.0.div_euclid(TimeUs::SECOND).max(0)).unwrap_or(u32::MAX)
}
