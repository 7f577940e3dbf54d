//! The budgets in force, and how a new one comes by its history.
//!
//! A budget's balances depend on whom it matches, what it splits by and over which window, and on nothing else: a new
//! limit, mode, threshold or recipient leaves them as they are. Where they do change, the budget gets a new tracker and is
//! **warming** until the shell has read its history: it counts new events at once, and decides and alerts nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use usage_types::{Budget, BudgetId, BudgetSet, Decision, DimensionSet, Mode, RolledBack, Scope, TimeUs, WindowSpec};

use crate::ledger::Ledger;
use crate::mode::mode_of;
use crate::rollback::revision;
use crate::window::window_at;

/// Asks the shell for a budget's history: every accepted row with `time` at or after `from` that `scope` and
/// `dimensions` admit, up to what had been folded when the budget was set. Rows beyond these are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Whose.
    pub budget: BudgetId,
    /// Which of its histories: an answer to an older request is ignored.
    pub generation: u64,
    /// Effective time of the first row that is needed.
    pub from: TimeUs,
    /// The values that a row must have.
    pub matches: Scope,
    /// The dimensions that a row must name: those of `matches` and those that the budget splits by.
    pub dimensions: DimensionSet,
}

/// From when on balances of ended windows still raise alerts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// It was there when the core started.
    Start,
    /// It came or changed later.
    At(TimeUs),
}

/// A budget in force.
#[derive(Debug)]
pub(crate) struct BudgetState {
    pub(crate) budget: Arc<Budget>,
    pub(crate) tracker: u32,
    /// Its tracker of burn, where it predicts.
    pub(crate) burn: Option<u32>,
    /// The generation of the history that it waits for.
    pub(crate) warming: Option<u64>,
    pub(crate) since: Since,
    /// It has rolled back, and goes on in shadow.
    pub(crate) rolled_back: Option<RolledBack>,
}

impl BudgetState {
    /// What it does for a scope when it is reached: hard, soft or shadow.
    pub(crate) fn mode_of(&self, scope: &Scope) -> Mode {
        self.mode_at(|| scope.clone())
    }

    /// The same; the scope is asked for only where the mode depends on it.
    pub(crate) fn mode_at(&self, scope: impl FnOnce() -> Scope) -> Mode {
        match self.budget.mode {
            Mode::Hard | Mode::Canary(_) if self.rolled_back.is_some() => Mode::Shadow,
            Mode::Canary(_) => mode_of(&self.budget, &scope()),
            mode => mode,
        }
    }

    /// That it has rolled back, where this is the scope under which that is said.
    pub(crate) fn rolled_back_for(&self, scope: &Scope) -> Option<&RolledBack> {
        self.rolled_back.as_ref().filter(|_| *scope == self.budget.matches)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    slots: Vec<Option<BudgetState>>,
    by_id: BTreeMap<BudgetId, u32>,
    /// Those that slow others when they are nearly used up.
    pressing: Vec<u32>,
    generation: u64,
}

/// What changed, for those who decide and alert.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) requests: Vec<HistoryRequest>,
    /// Budgets whose published decisions need another look.
    pub(crate) recheck: Vec<BudgetId>,
}

impl Budgets {
    pub(crate) fn slot(&self, slot: u32) -> Option<&BudgetState> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&BudgetState> {
        self.by_id.get(id).and_then(|slot| self.slot(*slot))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &BudgetState> {
        self.by_id.values().filter_map(|slot| self.slot(*slot))
    }

    /// Those that slow others when they are nearly used up.
    pub(crate) fn pressing(&self) -> impl Iterator<Item = &BudgetState> {
        self.pressing.iter().filter_map(|slot| self.slot(*slot))
    }

    fn list_pressing(&mut self) {
        let presses = |slot: &u32| self.slot(*slot).is_some_and(|state| state.budget.pressure.is_some());
        self.pressing = self.by_id.values().copied().filter(presses).collect();
    }

    /// Takes over that a budget has rolled back, where it is still what it was then.
    pub(crate) fn load(&mut self, decision: &Decision) {
        let state = self.by_id(&decision.budget).filter(|state| state.budget.rollback.is_some());
        if let (Some(state), Some(rolled_back)) = (state, &decision.rolled_back)
            && revision(&state.budget) == rolled_back.revision
        {
            self.roll_back(&decision.budget, rolled_back.clone());
        }
    }

    /// Goes on with a budget in shadow.
    pub(crate) fn roll_back(&mut self, id: &str, rolled_back: RolledBack) {
        let slot = self.by_id.get(id).and_then(|slot| self.slots[*slot as usize].as_mut());
        if let Some(state) = slot {
            state.rolled_back = Some(rolled_back);
        }
    }

    /// Replaces them. `oldest` is the earliest time that an event still to come may have.
    pub(crate) fn set(&mut self, set: &BudgetSet, ledger: &mut Ledger, oldest: TimeUs, since: Since) -> Changes {
        let mut changes = Changes::default();
        let gone: Vec<BudgetId> = self.by_id.keys().filter(|id| !set.budgets.contains_key(*id)).cloned().collect();
        for id in gone {
            self.remove(&id, ledger);
            changes.recheck.push(id);
        }
        for (id, budget) in &set.budgets {
            let before = self.by_id.get(id).and_then(|slot| self.slots[*slot as usize].as_mut());
            match before {
                Some(state) if state.budget == *budget => {}
                Some(state) if same_balances(&state.budget, budget) => {
                    let (tracker, warming) = (state.tracker, state.warming);
                    state.rolled_back.take_if(|rolled_back| rolled_back.revision != revision(budget));
                    (state.budget, state.since) = (Arc::clone(budget), since);
                    if warming.is_none() {
                        ledger.mark_all_dirty(tracker, true);
                    }
                    changes.recheck.push(Arc::clone(id));
                }
                before => {
                    if before.is_some() {
                        self.remove(id, ledger);
                        changes.recheck.push(Arc::clone(id));
                    }
                    changes.requests.push(self.add(budget, ledger, oldest, since));
                }
            }
        }
        self.list_pressing();
        changes
    }

    fn add(&mut self, budget: &Arc<Budget>, ledger: &mut Ledger, oldest: TimeUs, since: Since) -> HistoryRequest {
        self.generation += 1;
        let burns_over = budget.predict.map(|predict| WindowSpec::rolling(predict.over, budget.window.zone));
        let starts = [Some(budget.window), burns_over].into_iter().flatten().map(|spec| window_at(spec, oldest).start);
        let from = starts.min().unwrap_or(oldest);
        let slot = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let slot_at = u32::try_from(slot).expect("there are fewer than four billion budgets");
        let dims = budget.scope_dimensions();
        let tracker = ledger.add_tracker(dims, &budget.matches, budget.window, Some(slot_at), from);
        let burn = burns_over.map(|spec| ledger.add_burn_tracker(budget, spec, from));
        self.slots[slot] = Some(BudgetState {
            budget: Arc::clone(budget),
            tracker,
            burn,
            warming: Some(self.generation),
            since,
            rolled_back: None,
        });
        self.by_id.insert(Arc::clone(&budget.id), slot_at);
        request(budget, self.generation, from)
    }

    fn remove(&mut self, id: &BudgetId, ledger: &mut Ledger) {
        if let Some(state) = self.by_id.remove(id).and_then(|slot| self.slots[slot as usize].take()) {
            ledger.remove_tracker(state.tracker);
            state.burn.into_iter().for_each(|burn| ledger.remove_tracker(burn));
        }
    }

    /// The budget that waits for this history.
    pub(crate) fn waiting(&self, request: &HistoryRequest) -> Option<&BudgetState> {
        self.by_id(&request.budget).filter(|state| state.warming == Some(request.generation))
    }

    /// Ends the wait. The tracker, where it was this history that it waited for.
    pub(crate) fn finish(&mut self, request: &HistoryRequest) -> Option<u32> {
        let tracker = self.waiting(request)?.tracker;
        let slot = *self.by_id.get(&request.budget)?;
        self.slots[slot as usize].as_mut()?.warming = None;
        Some(tracker)
    }

    /// Begins a history anew, with nothing counted.
    pub(crate) fn restart(
        &mut self,
        old: &HistoryRequest,
        ledger: &mut Ledger,
        oldest: TimeUs,
    ) -> Option<HistoryRequest> {
        self.waiting(old)?;
        let state = self.by_id(&old.budget)?;
        let (budget, since, rolled_back) = (Arc::clone(&state.budget), state.since, state.rolled_back.clone());
        self.remove(&budget.id, ledger);
        let request = self.add(&budget, ledger, oldest, since);
        self.list_pressing();
        if let Some(rolled_back) = rolled_back {
            self.roll_back(&budget.id, rolled_back);
        }
        Some(request)
    }
}

fn request(budget: &Budget, generation: u64, from: TimeUs) -> HistoryRequest {
    HistoryRequest {
        budget: Arc::clone(&budget.id),
        generation,
        from,
        matches: budget.matches.clone(),
        dimensions: budget.scope_dimensions(),
    }
}

/// Whether two versions of a budget have the same balances, so that one takes over those of the other.
#[must_use]
pub fn same_balances(a: &Budget, b: &Budget) -> bool {
    let burns_over = |budget: &Budget| budget.predict.map(|predict| predict.over);
    let counts = |budget: &Budget| (budget.scope_dimensions(), budget.window, burns_over(budget));
    a.matches == b.matches && counts(a) == counts(b)
}
