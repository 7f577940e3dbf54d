//! One balance: what a scope has used in a window.
//!
//! Holds here: sums never wrap. One that would not fit stays at the end of its range and the balance says so. Sums are signed: rows
//! are folded in any order when the lake is read back, so a reversal may come before the row that it takes back.
//! 128 bytes, two cache lines; what is rare (images, money of a second currency) lives in a box.

use usage_types::{Amount, ComputeNs, Currency, Measure, Money, Pico, TokenClass, Tokens};

use crate::intern::ScopeId;
use crate::slab::NONE;

/// What one event adds to each of its balances, or takes back from them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage<'a> {
    /// Whether it is taken back.
    pub(crate) reversal: bool,
    pub(crate) tokens: &'a Tokens,
    pub(crate) requests: u64,
    pub(crate) tool_calls: u64,
    pub(crate) images: u64,
    pub(crate) compute: ComputeNs,
    pub(crate) cost: Option<(Pico, Currency)>,
    /// When the log took it, in whole seconds since the epoch.
    pub(crate) append_s: u32,
}

impl Usage<'_> {
    /// Whether something may be less by it.
    pub(crate) fn takes_back(&self) -> bool {
        self.reversal || self.cost.is_some_and(|(amount, _)| amount.0 < 0)
    }
}

/// What a scope has used in a window. Aligned, or it would lie on three cache lines.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Balance {
    pub(crate) scope: ScopeId,
    pub(crate) window: u32,
    /// The next balance of the same window.
    pub(crate) next: u32,
    /// The newest append time of an event in it.
    pub(crate) touched_s: u32,
    requests: i64,
    tokens: [i64; TokenClass::COUNT],
    tool_calls: i64,
    compute_ns: i64,
    /// Events without a cost.
    unpriced: i64,
    cost_pico: i128,
    currency: Option<Currency>,
    pub(crate) flags: Flags,
    /// Which of its budget's limits the published block names.
    pub(crate) tripped: u8,
    /// Which of its budget's limits it has, by [`usage_types::Budget::limits_at`]; [`UNRESOLVED`] until that was looked up.
    pub(crate) limits: u16,
    rare: Option<Box<Rare>>,
}

/// Nobody has asked yet which limits a balance has.
pub(crate) const UNRESOLVED: u16 = u16::MAX;

/// What few balances have.
#[derive(Debug, Clone, Default)]
struct Rare {
    images: i64,
    /// Money of other currencies than the first.
    others: Vec<Money>,
}

// The figure of bytes per balance rests on it.
const _: () = assert!(size_of::<Balance>() == 128);

/// What is known about a balance besides its sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// It is in the list of balances to look at.
    pub(crate) const DIRTY: u8 = 1;
    /// The block of this window by the present budget is published.
    pub(crate) const BLOCK_PUBLISHED: u8 = 2;
    /// A sum has reached the end of its range.
    pub(crate) const SATURATED: u8 = 4;
    /// It is in the sum of its lane.
    pub(crate) const SUMMED: u8 = 8;
    /// Above these bits: how many thresholds of the present budget are settled.
    const THRESHOLDS_SHIFT: u32 = 4;
    const THRESHOLDS_MAX: usize = 15;

    pub(crate) fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8, on: bool) {
        if on { self.0 |= flag } else { self.0 &= !flag }
    }

    /// How many thresholds, from the lowest, need no look any more.
    pub(crate) fn thresholds(self) -> usize {
        usize::from(self.0 >> Self::THRESHOLDS_SHIFT)
    }

    /// Beyond 15 the others are simply looked at each time.
    pub(crate) fn set_thresholds(&mut self, count: usize) {
        let low = self.0 & ((1 << Self::THRESHOLDS_SHIFT) - 1);
        self.0 = low | ((count.min(Self::THRESHOLDS_MAX) as u8) << Self::THRESHOLDS_SHIFT);
    }
}

impl Default for Balance {
    fn default() -> Self {
        Self::new(NONE, NONE, NONE)
    }
}

impl Balance {
    pub(crate) fn new(scope: ScopeId, window: u32, next: u32) -> Self {
        Self {
            scope,
            window,
            next,
            touched_s: 0,
            requests: 0,
            tokens: [0; TokenClass::COUNT],
            tool_calls: 0,
            compute_ns: 0,
            unpriced: 0,
            cost_pico: 0,
            currency: None,
            flags: Flags::default(),
            tripped: 0,
            limits: UNRESOLVED,
            rare: None,
        }
    }

    /// Reads ahead both of its cache lines.
    pub(crate) fn touch(&self) -> u32 {
        // The compiler orders fields by alignment: money first, flags last.
        (self.cost_pico as u32) ^ u32::from(self.flags.0)
    }

    /// Adds an event, or takes it back. Whether every sum fitted.
    pub(crate) fn add(&mut self, usage: &Usage<'_>) -> bool {
        let mut fits = true;
        let mut sum = |into: &mut i64, count: u64| {
            let delta = i64::try_from(count).map(|count| if usage.reversal { -count } else { count });
            let sum = delta.ok().and_then(|delta| into.checked_add(delta));
            *into = sum.unwrap_or(if usage.reversal { i64::MIN } else { i64::MAX });
            fits &= sum.is_some();
        };
        for (into, class) in self.tokens.iter_mut().zip(TokenClass::ALL) {
            sum(into, usage.tokens.get(class));
        }
        sum(&mut self.requests, usage.requests);
        sum(&mut self.tool_calls, usage.tool_calls);
        sum(&mut self.compute_ns, usage.compute.0);
        sum(&mut self.unpriced, u64::from(usage.cost.is_none()));
        if usage.images > 0 {
            sum(&mut self.rare.get_or_insert_default().images, usage.images);
        }
        self.touched_s = self.touched_s.max(usage.append_s);
        if let Some((amount, currency)) = usage.cost {
            fits &= self.add_cost(if usage.reversal { Pico(-amount.0) } else { amount }, currency);
        }
        if !fits {
            self.flags.set(Flags::SATURATED, true);
        }
        fits
    }

    /// Adds what another balance holds.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.combine(other, i64::checked_add, |amount| amount);
    }

    /// Takes off what another balance holds, which was added before.
    pub(crate) fn give_back(&mut self, other: &Self) {
        self.combine(other, i64::checked_sub, |amount| Pico(-amount.0));
    }

    fn combine(&mut self, other: &Self, add: impl Fn(i64, i64) -> Option<i64>, signed: impl Fn(Pico) -> Pico) {
        let mut fits = !other.flags.has(Flags::SATURATED);
        let mut sum = |into: &mut i64, more: i64| {
            let sum = add(*into, more);
            *into = sum.unwrap_or(if more < 0 { i64::MIN } else { i64::MAX });
            fits &= sum.is_some();
        };
        for (into, more) in self.tokens.iter_mut().zip(other.tokens) {
            sum(into, more);
        }
        sum(&mut self.requests, other.requests);
        sum(&mut self.tool_calls, other.tool_calls);
        sum(&mut self.compute_ns, other.compute_ns);
        sum(&mut self.unpriced, other.unpriced);
        if other.images() != 0 {
            sum(&mut self.rare.get_or_insert_default().images, other.images());
        }
        self.touched_s = self.touched_s.max(other.touched_s);
        for money in other.costs() {
            fits &= self.add_cost(signed(money.amount), money.currency);
        }
        if !fits {
            self.flags.set(Flags::SATURATED, true);
        }
    }

    fn add_cost(&mut self, amount: Pico, currency: Currency) -> bool {
        let into = if *self.currency.get_or_insert(currency) == currency {
            &mut self.cost_pico
        } else {
            let others = &mut self.rare.get_or_insert_default().others;
            let at = others.iter().position(|money| money.currency == currency).unwrap_or_else(|| {
                others.push(Money { amount: Pico(0), currency });
                others.len() - 1
            });
            &mut others[at].amount.0
        };
        // The end of the range is the lake's decimal, which is narrower than 128 bits.
        let sum = Pico(*into).checked_add(amount);
        *into = sum.map_or(if amount.0 < 0 { -Pico::MAX.0 } else { Pico::MAX.0 }, |sum| sum.0);
        sum.is_some()
    }

    /// The sums of money, by currency.
    pub(crate) fn costs(&self) -> Vec<Money> {
        let mut costs: Vec<Money> = self
            .currency
            .map(|currency| Money { amount: Pico(self.cost_pico), currency })
            .into_iter()
            .chain(self.others().iter().copied())
            .collect();
        costs.sort_unstable_by_key(|money| money.currency);
        costs
    }

    /// How much of a measure. Below zero only while not all rows are folded, or where money was given back.
    pub(crate) fn amount(&self, measure: Measure) -> Amount {
        Amount(match measure {
            Measure::Tokens => self.tokens.iter().map(|tokens| i128::from(*tokens)).sum(),
            Measure::TokensOf(class) => i128::from(self.tokens[class as usize]),
            Measure::Requests => i128::from(self.requests),
            Measure::ToolCalls => i128::from(self.tool_calls),
            Measure::Images => i128::from(self.images()),
            Measure::Compute => i128::from(self.compute_ns),
            Measure::Cost(currency) if self.currency == Some(currency) => self.cost_pico,
            Measure::Cost(currency) => {
                self.others().iter().find(|money| money.currency == currency).map_or(0, |money| money.amount.0)
            }
        })
    }

    /// Tokens by class, for people: a count that waits for its rows shows as 0.
    pub(crate) fn tokens(&self) -> Tokens {
        let mut tokens = Tokens::default();
        for (count, class) in self.tokens.iter().zip(TokenClass::ALL) {
            *tokens.get_mut(class) = shown(*count);
        }
        tokens
    }

    /// Requests, tool calls, images, compute time in nanoseconds and events without a cost, for people.
    pub(crate) fn counts(&self) -> [u64; 5] {
        [self.requests, self.tool_calls, self.images(), self.compute_ns, self.unpriced].map(shown)
    }

    fn images(&self) -> i64 {
        self.rare.as_ref().map_or(0, |rare| rare.images)
    }

    fn others(&self) -> &[Money] {
        self.rare.as_ref().map_or(&[], |rare| &rare.others)
    }
}

fn shown(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
