//! One set of budgets over one stretch of time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use budget_core::{Core, CoreConfig, HistoryRequest, RestoredRow};
use usage_types::{
    Alert, BudgetSet, Cost, CostOrigin, Decision, DecisionState, Role, TimeUs, UsageEvent, decision_key,
};

use crate::blocks::{Blocks, By, InForce, Met};
use crate::outcome::{AlertRaised, Block, Blocked, BudgetOutcome, Outcome, RolledBack, ScopeOutcome, Spend};

/// Rows between two times that ended windows are forgotten: often enough that they do not pile up, seldom enough to cost nothing.
const FORGET_ROWS: u32 = 65_536;
/// What one scope, block or alert takes about, in bytes, with its texts.
const DETAIL_BYTES: usize = 512;
/// What a circuit takes about.
const CIRCUIT_BYTES: usize = 2_048;

/// The tags of an event.
pub type Tags<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// From then on. The budgets come into force here, with the history of their windows.
    pub from: TimeUs,
    /// Until before then.
    pub to: TimeUs,
    /// Whether what a block refuses counts towards balances all the same. In truth it does not: a refused request uses nothing.
    pub count_refused: bool,
    /// The most blocks and alerts that are kept one by one; all are counted.
    pub details_max: usize,
}

/// One set of budgets on its way through usage of the past. The order of calls: [`Simulation::new`], [`Simulation::row`] for every row from
/// [`Simulation::history_from`] on in order of time, [`Simulation::finish`].
#[derive(Debug)]
pub struct Simulation {
    settings: Settings,
    set: Arc<BudgetSet>,
    core: Core,
    /// Histories to be finished when the time that is simulated begins; `None` afterwards.
    histories: Option<Vec<HistoryRequest>>,
    history_from: TimeUs,
    blocks: Blocks,
    places: HashMap<String, usize>,
    scopes: Vec<Running>,
    spend: Spend,
    refused: Spend,
    would_refuse: Spend,
    /// By budget.
    rolled_back: HashMap<String, RolledBack>,
    /// When something follows though no row comes.
    wakeup: Option<TimeUs>,
    rows_to_forget: u32,
    details: usize,
    omitted: u64,
}

/// A scope and the block that is in force for it.
#[derive(Debug)]
struct Running {
    outcome: ScopeOutcome,
    block: Option<Block>,
}

impl Simulation {
    /// Of these budgets.
    #[must_use]
    pub fn new(set: Arc<BudgetSet>, settings: Settings) -> Self {
        let mut core = Core::new(CoreConfig::of_stored_rows());
        let histories = core.set_budgets(Arc::clone(&set), settings.from);
        let history_from = histories.iter().map(|request| request.from).min().unwrap_or(settings.from);
        Self {
            settings,
            set,
            core,
            histories: Some(histories),
            history_from,
            blocks: Blocks::default(),
            places: HashMap::new(),
            scopes: Vec::new(),
            spend: Spend::default(),
            refused: Spend::default(),
            would_refuse: Spend::default(),
            rolled_back: HashMap::new(),
            wakeup: None,
            rows_to_forget: FORGET_ROWS,
            details: 0,
            omitted: 0,
        }
    }

    /// The time of the first row that is needed: the windows in which the simulation begins have begun before.
    #[must_use]
    pub fn history_from(&self) -> TimeUs {
        self.history_from.min(self.settings.from)
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let stats = self.core.stats();
        let kept = self.scopes.len() + stats.decisions + stats.alerts + self.details;
        stats.balances_bytes + stats.dedup_bytes + kept * DETAIL_BYTES + stats.circuits * CIRCUIT_BYTES
    }

    /// The next row. One that comes before [`Simulation::history_from`] or after the end is ignored. `burn`: the tags of one that breakers meter, which
    /// is usage that was reported when it was made; `None`: it is something else.
    pub fn row(&mut self, row: &RestoredRow<'_>, burn: Option<Tags<'_>>) {
        // Neither is looked at in rows of the lake, and its own append time would have old rows forgotten.
        let row = RestoredRow { id: "", source: "", append_time: row.time, ..*row };
        if row.time >= self.settings.to {
            return;
        }
        if row.time < self.settings.from {
            self.core.restore(&row);
            return;
        }
        self.advance(row.time);
        self.spend.add(&row);
        // What takes a row back is nothing that could be refused.
        let met = if row.reversal { Met::default() } else { self.blocks.find(row.dimensions) };
        if let Some(place) = met.refused_by.or(met.would_refuse) {
            let sum = if met.refused_by.is_some() { &mut self.refused } else { &mut self.would_refuse };
            sum.add(&row);
            if let Some(block) = &mut self.scopes[place].block {
                block.refused.add(&row);
            }
        }
        if met.refused_by.is_some() && !self.settings.count_refused {
            return;
        }
        self.core.restore(&row);
        if let Some(tags) = burn.filter(|_| !self.set.breakers.is_empty()) {
            self.meter(&row, tags);
        }
        self.look(row.time);
    }

    /// Has breakers meter a row, at its own time.
    fn meter(&mut self, row: &RestoredRow<'_>, tags: Tags<'_>) {
        let event = UsageEvent {
            id: None,
            source: Cow::Borrowed(""),
            time: row.time,
            dimensions: row.dimensions.clone(),
            tokens: row.tokens,
            requests: row.requests,
            tool_calls: row.tool_calls,
            images: row.images,
            compute: row.compute,
            role: Role::Usage,
            cost: None,
            tags,
            progress: row.progress,
        };
        let cost = row.cost.map(|(amount, currency)| Cost { amount, currency, origin: CostOrigin::Event });
        self.core.meter(&event, cost, row.time);
    }

    /// Has all happen that happens by itself until then.
    fn advance(&mut self, to: TimeUs) {
        if let Some(histories) = self.histories.take() {
            histories.iter().for_each(|request| self.core.finish_history(request));
            self.forget(self.settings.from);
            self.look(self.settings.from);
        }
        while let Some(wakeup) = self.wakeup.filter(|wakeup| *wakeup <= to) {
            self.look(wakeup);
        }
        self.rows_to_forget -= 1;
        if self.rows_to_forget == 0 {
            self.forget(to);
        }
    }

    /// Drops the windows that have ended.
    fn forget(&mut self, now: TimeUs) {
        self.rows_to_forget = FORGET_ROWS;
        while self.core.evict(now) {}
    }

    /// Asks the core what follows from the balances at this time.
    fn look(&mut self, now: TimeUs) {
        let effects = self.core.effects(now);
        self.wakeup = self.core.next_wakeup();
        effects.decisions.iter().for_each(|decision| self.decided(decision));
        effects.alerts.into_iter().for_each(|alert| self.alerted(alert));
    }

    fn place(&mut self, budget: &str, scope: &usage_types::Scope) -> usize {
        let key = decision_key(budget, scope);
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        let outcome = ScopeOutcome {
            budget: budget.into(),
            scope: scope.clone(),
            blocked: Blocked::default(),
            would_block: Blocked::default(),
            alerts_count: 0,
            blocks: Vec::new(),
            alerts: Vec::new(),
        };
        self.scopes.push(Running { outcome, block: None });
        self.places.insert(key, self.scopes.len() - 1);
        self.scopes.len() - 1
    }

    fn decided(&mut self, decision: &Decision) {
        if let Some(told) = &decision.rolled_back {
            let rolled_back = RolledBack { at: decision.decided_at, blocked: told.blocked, scopes: told.scopes };
            self.rolled_back.entry(decision.budget.clone()).or_insert(rolled_back);
        }
        let place = self.place(&decision.budget, &decision.scope);
        if decision.is_reached() && self.goes_on(place, decision) {
            return;
        }
        self.end_block(place, decision.decided_at, true);
        if decision.is_reached() {
            self.scopes[place].block = Some(Block::new(decision));
            self.put_in_force(place, decision);
        }
    }

    /// Whether a decision is one of the block that is in force: only another limit is named, or a window that moves has put its end off or forward.
    fn goes_on(&mut self, place: usize, decision: &Decision) -> bool {
        let budget = self.set.budgets.get(decision.budget.as_str());
        let is_moving = budget.is_some_and(|budget| budget.window.is_moving());
        let Some(block) = &mut self.scopes[place].block else { return false };
        if block.effective != (decision.state == DecisionState::Blocked) {
            return false;
        }
        let is_same = is_moving || block.window == decision.window;
        if is_moving && block.window.end != decision.window.end {
            block.window.end = decision.window.end;
            self.blocks.remove(&decision.scope, place);
            self.put_in_force(place, decision);
        }
        is_same
    }

    fn put_in_force(&mut self, place: usize, decision: &Decision) {
        let budget = self.scopes[place].outcome.budget.clone();
        let by = if self.set.breakers.contains_key(&budget) { By::Breaker } else { By::Budget };
        let effective = decision.state == DecisionState::Blocked;
        self.blocks.insert(&decision.scope, InForce { place, until: decision.expires_at, budget, by, effective });
    }

    /// Ends the block that is in force for a scope. `has_ended`: not only the simulation has.
    fn end_block(&mut self, place: usize, at: TimeUs, has_ended: bool) {
        let running = &mut self.scopes[place];
        let Some(mut block) = running.block.take() else { return };
        block.end = has_ended.then_some(at);
        let outcome = &mut running.outcome;
        let sum = if block.effective { &mut outcome.blocked } else { &mut outcome.would_block };
        sum.add(at.0 - block.begin.0, &block.refused);
        self.blocks.remove(&outcome.scope, place);
        if self.details < self.settings.details_max {
            outcome.blocks.push(block);
            self.details += 1;
        } else {
            self.omitted += 1;
        }
    }

    fn alerted(&mut self, alert: Alert) {
        let place = self.place(&alert.budget, &alert.scope);
        let outcome = &mut self.scopes[place].outcome;
        outcome.alerts_count += 1;
        if self.details < self.settings.details_max {
            outcome.alerts.push(AlertRaised::new(alert));
            self.details += 1;
        } else {
            self.omitted += 1;
        }
    }

    /// What became of it.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let to = self.settings.to;
        // What happens at the end itself belongs to what comes after.
        self.advance(to.plus_us(-1));
        for place in 0..self.scopes.len() {
            let ends = self.scopes[place].block.as_ref().is_some_and(|block| block.window.end <= to);
            self.end_block(place, to, ends);
        }
        let mut scopes: Vec<ScopeOutcome> =
            std::mem::take(&mut self.scopes).into_iter().map(|running| running.outcome).collect();
        // The decision that a budget has rolled back is of none of its scopes.
        scopes.retain(|scope| scope.blocked.count + scope.would_block.count + scope.alerts_count > 0);
        scopes.sort_by(|a, b| (&a.budget, &a.scope).cmp(&(&b.budget, &b.scope)));
        let mut budgets: Vec<BudgetOutcome> =
            self.set.budgets.values().map(|budget| BudgetOutcome::of_budget(budget)).collect();
        budgets.extend(self.set.breakers.values().map(|breaker| BudgetOutcome::of_breaker(breaker)));
        budgets.sort_by(|a, b| a.id.cmp(&b.id));
        for scope in &scopes {
            if let Ok(at) = budgets.binary_search_by(|budget| budget.id.cmp(&scope.budget)) {
                budgets[at].add(scope);
            }
        }
        for budget in &mut budgets {
            budget.rolled_back = self.rolled_back.get(&*budget.id).copied();
        }
        let Self { spend, refused, would_refuse, omitted, .. } = self;
        Outcome { spend, refused, would_refuse, budgets, scopes, omitted }
    }
}
