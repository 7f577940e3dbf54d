//! May a request be made: its own estimate, the balances and the open reservations against every budget that counts it and is effective for it.

use std::cmp::Ordering;
use std::sync::Arc;

use usage_types::{
    Amount, Budget, Decision, Dimensions, Estimate, Fill, Limits, Measure, Mode, ReasonCode, Scope, TimeUs, Window,
};

use crate::breaker::OpenCircuit;
use crate::budgets::{BudgetState, Budgets};
use crate::decide::Decisions;
use crate::holds::{Counted, Holds, Sums};
use crate::ledger::Ledger;
use crate::throttle::{InForce, Ration};

/// What is asked of [`crate::Core::ask`].
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// For whom.
    pub dimensions: &'a Dimensions<'a>,
    /// What the request is expected to use; `None`: anything above nothing.
    pub estimate: Option<&'a Estimate>,
    /// For while the balances may be behind what was already decided, as they are before the log has been read up to where it ended: what the
    /// last decision of a budget in force blocks is blocked too, also where the budget waits for its history.
    pub last_known: bool,
}

/// How a budget stands for a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub budget: Arc<Budget>,
    /// For whom.
    pub scope: Scope,
    /// The window that contains the time that was asked for. One that moves ends when a limit that is reached would not be, if nothing more
    /// were spent.
    pub window: Window,
    /// The limit that refuses, with its overage, or, where none does, the tightest one; and how much of it is used.
    pub fill: Fill,
    /// How much of that limit open reservations hold.
    pub held: Amount,
}

impl Standing {
    /// Why it blocks.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        ReasonCode::exceeded(self.budget.narrowest_dimension())
    }
}

/// What one scope of a budget has used in the window of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeUsage {
    /// The window. One that moves begins with what counts now.
    pub window: Window,
    /// The limits that the scope has, in their order, each with what is used of it.
    pub fills: Vec<Fill>,
    /// The budget's history is being read: what is used is incomplete.
    pub warming: bool,
}

/// Whether a scope may spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It may. The effective budget of which the largest share is used, if there is one.
    Allowed(Option<Standing>),
    /// It may, and would not where budgets or breakers in shadow were hard.
    WouldBlock {
        /// Among those, the one that would block it for longest.
        by: Restraint,
        /// As in [`Check::Allowed`].
        tightest: Option<Standing>,
    },
    /// It may not now: what is left of a budget is held by reservations, and may be free again in a moment.
    Reserved(Standing),
    /// It may not: its estimate is more than what is left.
    Exceeds(Standing),
    /// It may not: its circuit is open, and no budget blocks it. Of several the one that is open for longest.
    CircuitOpen(OpenCircuit),
    /// It may not. Among the budgets that block it, the one that does so for longest: answer with its `http_status`.
    Blocked(Standing),
}

impl Check {
    /// Whether it may.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_) | Self::WouldBlock { .. })
    }

    /// With the circuits that are open besides what budgets say.
    pub(crate) fn beside(self, circuits: impl Iterator<Item = OpenCircuit>) -> Self {
        let circuits = circuits.filter(|circuit| !circuit.is_half_open);
        // The id settles a tie.
        let longest = |a: OpenCircuit, b: OpenCircuit| if b.order() > a.order() { b } else { a };
        let (shadow, hard): (Vec<_>, Vec<_>) = circuits.partition(|circuit| circuit.breaker.mode == Mode::Shadow);
        if let (false, Some(open)) = (matches!(self, Self::Blocked(_)), hard.into_iter().reduce(longest)) {
            return Self::CircuitOpen(open);
        }
        let Some(open) = shadow.into_iter().reduce(longest) else { return self };
        match self {
            Self::Allowed(tightest) => Self::WouldBlock { by: Restraint::Circuit(open), tightest },
            Self::WouldBlock { by, tightest } if by.window().end < open.window.end => {
                Self::WouldBlock { by: Restraint::Circuit(open), tightest }
            }
            other => other,
        }
    }
}

/// What a request is told that is made if it may be: the throttles that it meets are charged for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// What budgets, reservations and circuits say.
    pub check: Check,
    /// Where they let it pass, the throttle that refuses it ([`Ration::retry_at`]) or, where none does, the one that leaves least.
    pub throttled: Option<Ration>,
    /// The throttle in shadow that would refuse it.
    pub would_throttle: Option<Ration>,
}

impl Admission {
    /// Whether it may be made now.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.check.is_allowed() && self.throttled.as_ref().is_none_or(|ration| ration.retry_at.is_none())
    }
}

/// What holds a request back, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restraint {
    /// A budget that is reached.
    Budget(Standing),
    /// A circuit that is open.
    Circuit(OpenCircuit),
}

impl Restraint {
    /// Until when: of a circuit, until it is half open.
    #[must_use]
    pub fn window(&self) -> Window {
        match self {
            Self::Budget(standing) => standing.window,
            Self::Circuit(circuit) => circuit.window,
        }
    }
}

/// What a budget says, the weakest word first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Allowed,
    Reserved,
    Exceeds,
    Blocked,
}

/// How a budget stands, and what it says because of that.
type Found = (Word, Standing);

/// What a check looks at.
pub(crate) struct State<'s> {
    pub(crate) ledger: &'s Ledger,
    pub(crate) budgets: &'s Budgets,
    pub(crate) holds: &'s Holds,
    pub(crate) decisions: &'s Decisions,
}

impl State<'_> {
    pub(crate) fn ask(&self, question: &Question<'_>, now: TimeUs) -> Check {
        let (mut best, mut in_shadow): (Option<Found>, Option<Found>) = (None, None);
        self.ledger.each_tracker(question.dimensions, |at, tracker| {
            let Some(state) = tracker.budget.and_then(|slot| self.budgets.slot(slot)) else { return };
            let Some((mode, found)) = self.word(at, state, question, now) else { return };
            let best = if mode == Mode::Shadow { &mut in_shadow } else { &mut best };
            if best.as_ref().is_none_or(|best| goes_before(&found, best).is_gt()) {
                *best = Some(found);
            }
        });
        // What a request would use is not held against a budget in shadow: only what is used up is told.
        let would_block = in_shadow.filter(|(word, _)| *word == Word::Blocked).map(|(_, standing)| standing);
        match best {
            None | Some((Word::Allowed, _)) => {
                let tightest = best.map(|(_, standing)| standing);
                match would_block {
                    Some(by) => Check::WouldBlock { by: Restraint::Budget(by), tightest },
                    None => Check::Allowed(tightest),
                }
            }
            Some((Word::Reserved, standing)) => Check::Reserved(standing),
            Some((Word::Exceeds, standing)) => Check::Exceeds(standing),
            Some((Word::Blocked, standing)) => Check::Blocked(standing),
        }
    }

    /// What a budget says, and whether it is effective for the scope; `None` where it has no say.
    fn word(&self, tracker: u32, state: &BudgetState, question: &Question<'_>, now: TimeUs) -> Option<(Mode, Found)> {
        if !state.budget.mode.decides() {
            return None;
        }
        let (ledger, dimensions) = (self.ledger, question.dimensions);
        let counted: Counted = (Arc::clone(&state.budget.id), scope_of(&state.budget, dimensions));
        let mode = state.mode_of(&counted.1);
        let is_last_asked = question.last_known && mode != Mode::Shadow;
        let last = is_last_asked.then(|| self.decisions.block(&counted.0, &counted.1, now)).flatten();
        if state.warming.is_some() && last.is_none() {
            return None;
        }
        let counted_now = ledger.used_at(tracker, ledger.find_scope(tracker, |dim| dimensions.get(dim)), now);
        let used = |measure| counted_now.amount(measure);
        let held = self.holds.of(&counted);
        let limits = state.budget.limits_of(|dim| dimensions.get(dim));
        let (mut word, fill) = judge(limits, used, held, question.estimate);
        let mut window = match word {
            Word::Blocked => counted_now.reached_window(ledger, limits),
            _ => counted_now.window,
        };
        if let Some(Decision { window: blocked, .. }) = last {
            (word, window) = (Word::Blocked, *blocked);
        }
        let held = held.map_or(Amount(0), |held| held.get(fill.limit.measure));
        Some((mode, (word, Standing { budget: Arc::clone(&state.budget), scope: counted.1, window, fill, held })))
    }

    /// The throttles that budgets have published and that are in force. Who waits for its history has no say, as for blocks.
    pub(crate) fn throttles(&self, question: &Question<'_>, now: TimeUs) -> Vec<InForce> {
        let mut found = Vec::new();
        if self.decisions.throttled() == 0 {
            return found;
        }
        let (ledger, dimensions) = (self.ledger, question.dimensions);
        ledger.each_tracker(dimensions, |at, tracker| {
            let Some(state) = tracker.budget.and_then(|slot| self.budgets.slot(slot)) else { return };
            let scope = scope_of(&state.budget, dimensions);
            let has_say = question.last_known || state.warming.is_none();
            let Some(last) = self.decisions.throttle(&state.budget.id, &scope, now).filter(|_| has_say) else { return };
            let counted = ledger.used_at(at, ledger.find_scope(at, |dim| dimensions.get(dim)), now);
            let limits = state.budget.limits_of(|dim| dimensions.get(dim));
            let fill = limits.tightest(|measure| counted.amount(measure));
            let window = Window { end: last.expires_at, ..last.window };
            let both = [(&last.throttle, false), (&last.would_throttle, true)];
            found.extend(both.into_iter().filter_map(|(throttle, is_shadow)| {
                let (budget, scope) = (Arc::clone(&state.budget.id), scope.clone());
                Some(InForce { budget, scope, throttle: throttle.clone()?, window, fill, is_shadow })
            }));
        });
        found
    }

    /// What one scope of a budget has used, whatever the budget does with it.
    pub(crate) fn usage(&self, budget: &str, scope: &Scope, now: TimeUs) -> Option<ScopeUsage> {
        let state = self.budgets.by_id(budget).filter(|state| state.budget.owns(scope))?;
        let value = |dim| scope.get(dim);
        let counted = self.ledger.used_at(state.tracker, self.ledger.find_scope(state.tracker, value), now);
        let fills = state.budget.limits_of(value).fills(|measure| counted.amount(measure)).collect();
        Some(ScopeUsage { window: counted.window, fills, warming: state.warming.is_some() })
    }

    /// The balances that an event with these dimensions counts in.
    pub(crate) fn counted(ledger: &Ledger, budgets: &Budgets, dimensions: &Dimensions<'_>) -> Vec<Counted> {
        let mut counted = Vec::new();
        ledger.each_tracker(dimensions, |_, tracker| {
            if let Some(state) = tracker.budget.and_then(|slot| budgets.slot(slot)) {
                counted.push((Arc::clone(&state.budget.id), scope_of(&state.budget, dimensions)));
            }
        });
        counted
    }
}

/// What the limits say, and which of them is meant.
fn judge(
    limits: &Limits,
    used: impl Fn(Measure) -> Amount + Copy,
    held: Option<&Sums>,
    estimate: Option<&Estimate>,
) -> (Word, Fill) {
    if let Some(tripped) = limits.tripped(used) {
        return (Word::Blocked, tripped);
    }
    let tightest = limits.tightest(used);
    let wanted = |fill: &Fill| estimate.map_or(0, |estimate| estimate.amount(fill.limit.measure).0);
    let is_over = |fill: &Fill, more: i128| fill.used.0.saturating_add(more) > fill.limit.blocks_at().0;
    if let Some(fill) = limits.fills(used).find(|fill| is_over(fill, wanted(fill))) {
        return (Word::Exceeds, fill);
    }
    let is_held = |fill: &Fill| {
        let held = held.map_or(0, |held| held.get(fill.limit.measure).0);
        held > 0 && is_over(fill, held.saturating_add(wanted(fill).max(1)))
    };
    limits.fills(used).find(is_held).map_or((Word::Allowed, tightest), |fill| (Word::Reserved, fill))
}

/// Whether one is to be named rather than the other: the stronger word; where both refuse the one that does so for longer, else the tighter
/// one. The id settles a tie, so that the answer does not depend on the order in which budgets are found.
fn goes_before(a: &Found, b: &Found) -> Ordering {
    let ((word_a, a), (word_b, b)) = (a, b);
    let by_rest = match word_a {
        Word::Allowed => a.fill.cmp_share(&b.fill),
        _ => a.window.end.cmp(&b.window.end),
    };
    word_a.cmp(word_b).then(by_rest).then_with(|| b.budget.id.cmp(&a.budget.id))
}

/// The scope of a budget that these dimensions are in.
fn scope_of(budget: &Budget, dimensions: &Dimensions<'_>) -> Scope {
    let dims = budget.scope_dimensions();
    Scope::new(dims.iter().filter_map(|dim| dimensions.get(dim).map(|value| (dim, value))))
}
