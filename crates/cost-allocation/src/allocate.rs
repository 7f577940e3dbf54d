//! Sums of usage and rules in, parts out.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use num_bigint::BigInt;
use usage_types::{Currency, Dimension, DimensionSet, Money, Pico, Scope, shares};

use crate::{Allocation, AllocationError, Every, Rule, Shared, Split};

/// Usage of one day or month that no rule tells apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageSum {
    /// A day of the report: of its month the first one, unless [`Allocation::needs_days`].
    pub day: NaiveDate,
    /// The dimensions that the rules ask for ([`Allocation::dimensions`]), and others.
    pub dimensions: Scope,
    /// Tags of its events, where a rule asks for them ([`Allocation::tagged`]).
    pub tags: BTreeMap<String, String>,
    /// Tokens of all classes. Negative where more was taken back than used.
    pub tokens: i128,
    /// What it costs; `None`: it has no price, and nothing of it is shared.
    pub cost: Option<Money>,
}

/// What an invoice has more than was metered of its provider in a month; negative: less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceDifference {
    /// The provider.
    pub provider: String,
    /// The first day of its month.
    pub month: NaiveDate,
    /// How much.
    pub amount: Money,
}

/// What one receiver bears of what a rule shared of one month or day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The rule's id.
    pub rule: String,
    /// The first day of the month or day.
    pub begin: NaiveDate,
    /// Who bears it; names nobody where the rule found no receiver of a cost that fell on nobody.
    pub receiver: Scope,
    /// All that was shared at once.
    pub shared: Money,
    /// Its weight, and those of all receivers together: tokens, pico-units, or parts. 0 of 0 where a tag or nobody decided.
    pub weight: (BigInt, BigInt),
    /// What it bears, in the shared cost's currency.
    pub amount: Pico,
}

/// Something that a reader of the report must know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The rule's id.
    pub rule: String,
    /// The first day of the month or day.
    pub begin: NaiveDate,
    /// What.
    pub reason: Reason,
}

/// Why a rule did not share a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The period has only a part of the month.
    PartOfMonth,
    /// Nobody has a weight: usage's cost stays where it fell, a fee is borne by nobody.
    NoReceiver,
    /// There is no invoice of this month yet.
    NoInvoice,
}

/// What became of the shared costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Who bears what, by rule, begin, currency and receiver. None is 0.
    pub parts: Vec<Part>,
    /// For each of the sums whether its cost is shared out, and so no direct cost of where it fell.
    pub is_shared: Vec<bool>,
    /// What was not shared, and why.
    pub notes: Vec<Note>,
}

/// Shares the costs of the days `span.0..span.1` (the end is not in it).
///
/// # Errors
/// A sum does not fit.
pub fn allocate(
    allocation: &Allocation,
    sums: &[UsageSum],
    invoices: &[InvoiceDifference],
    span: (NaiveDate, NaiveDate),
) -> Result<Allocated, AllocationError> {
    let mut work = Work { sums, span, owner: owners(allocation, sums, span), result: Allocated::default() };
    work.result.is_shared = vec![false; sums.len()];
    for (index, rule) in allocation.rules.iter().enumerate() {
        match &rule.share {
            Shared::Fee(fee) => work.fee(rule, *fee)?,
            Shared::Usage(_) => work.usage(index, rule)?,
            Shared::Invoice(provider) => work.invoice(rule, provider, invoices)?,
        }
    }
    work.result.parts.retain(|part| part.amount.0 != 0);
    work.result.notes.sort();
    work.result.notes.dedup();
    Ok(work.result)
}

/// The rule that each sum's cost belongs to.
fn owners(allocation: &Allocation, sums: &[UsageSum], span: (NaiveDate, NaiveDate)) -> Vec<Option<usize>> {
    let owns = |rule: &Rule, sum: &UsageSum| {
        let Shared::Usage(selector) = &rule.share else { return false };
        let begin = rule.every.begin(sum.day);
        let has_tag = if let Split::Tag(tag) = &rule.split { sum.tags.contains_key(tag) } else { true };
        sum.cost.is_some()
            && has_tag
            && rule.is_in_force(begin)
            && is_whole(rule.every, begin, span)
            && selector.selects(&sum.dimensions)
    };
    sums.iter().map(|sum| allocation.rules.iter().position(|rule| owns(rule, sum))).collect()
}

fn is_whole(every: Every, begin: NaiveDate, span: (NaiveDate, NaiveDate)) -> bool {
    span.0 <= begin && every.next(begin).is_some_and(|end| end <= span.1)
}

struct Work<'a> {
    sums: &'a [UsageSum],
    span: (NaiveDate, NaiveDate),
    owner: Vec<Option<usize>>,
    result: Allocated,
}

impl Work<'_> {
    /// The whole months or days in which the rule is in force.
    fn begins(&mut self, rule: &Rule) -> Vec<NaiveDate> {
        let mut begins = Vec::new();
        let mut at = Some(rule.every.begin(self.span.0));
        while let Some(begin) = at.filter(|begin| *begin < self.span.1) {
            if rule.is_in_force(begin) {
                match is_whole(rule.every, begin, self.span) {
                    true => begins.push(begin),
                    false => self.note(rule, begin, Reason::PartOfMonth),
                }
            }
            at = rule.every.next(begin);
        }
        begins
    }

    fn fee(&mut self, rule: &Rule, fee: Money) -> Result<(), AllocationError> {
        for begin in self.begins(rule) {
            if !self.share(rule, begin, fee)? {
                self.nobody(rule, begin, fee);
            }
        }
        Ok(())
    }

    fn invoice(&mut self, rule: &Rule, provider: &str, invoices: &[InvoiceDifference]) -> Result<(), AllocationError> {
        for begin in self.begins(rule) {
            let of_month: Vec<_> =
                invoices.iter().filter(|invoice| invoice.provider == provider && invoice.month == begin).collect();
            if of_month.is_empty() {
                self.note(rule, begin, Reason::NoInvoice);
            }
            for difference in of_month.into_iter().map(|invoice| invoice.amount) {
                if !self.share(rule, begin, difference)? {
                    self.nobody(rule, begin, difference);
                }
            }
        }
        Ok(())
    }

    fn usage(&mut self, index: usize, rule: &Rule) -> Result<(), AllocationError> {
        self.begins(rule);
        let mut pools: BTreeMap<(NaiveDate, String), (Money, Vec<usize>)> = BTreeMap::new();
        for (at, sum) in self.sums.iter().enumerate().filter(|(at, _)| self.owner[*at] == Some(index)) {
            let Some(cost) = sum.cost else { continue };
            let key = (rule.every.begin(sum.day), cost.currency.to_string());
            let zero = Money { amount: Pico(0), currency: cost.currency };
            let (pool, from) = pools.entry(key).or_insert((zero, Vec::new()));
            pool.amount = add(rule, pool.amount, cost.amount)?;
            from.push(at);
        }
        for ((begin, _), (pool, from)) in pools {
            let is_shared = match &rule.split {
                Split::Tag(tag) => self.by_tag(rule, begin, tag, pool, &from)?,
                _ => self.share(rule, begin, pool)?,
            };
            if is_shared {
                from.into_iter().for_each(|at| self.result.is_shared[at] = true);
            }
        }
        Ok(())
    }

    /// Each sum's cost to whom its tag names.
    fn by_tag(
        &mut self,
        rule: &Rule,
        begin: NaiveDate,
        tag: &str,
        shared: Money,
        from: &[usize],
    ) -> Result<bool, AllocationError> {
        let mut named: BTreeMap<Scope, Pico> = BTreeMap::new();
        for sum in from.iter().map(|at| &self.sums[*at]) {
            let (Some(value), Some(cost)) = (sum.tags.get(tag), sum.cost) else { continue };
            let receiver = Scope::new(rule.by.iter().map(|dimension| (dimension, value.as_str())));
            let amount = named.entry(receiver).or_default();
            *amount = add(rule, *amount, cost.amount)?;
        }
        let weight = (BigInt::ZERO, BigInt::ZERO);
        self.result.parts.extend(named.into_iter().map(|(receiver, amount)| Part {
            rule: rule.id.clone(),
            begin,
            receiver,
            shared,
            weight: weight.clone(),
            amount,
        }));
        Ok(true)
    }

    /// Shares an amount by weights; false where there is no weight.
    fn share(&mut self, rule: &Rule, begin: NaiveDate, shared: Money) -> Result<bool, AllocationError> {
        let weights = self.weights(rule, begin, shared.currency);
        let of_all: BigInt = weights.values().sum();
        if of_all == BigInt::ZERO {
            self.note(rule, begin, Reason::NoReceiver);
            return Ok(false);
        }
        let (receivers, weights): (Vec<Scope>, Vec<BigInt>) = weights.into_iter().unzip();
        let parts = shares(shared.amount.0, &weights);
        let parts = receivers.into_iter().zip(weights).zip(parts).map(|((receiver, weight), amount)| Part {
            rule: rule.id.clone(),
            begin,
            receiver,
            shared,
            weight: (weight, of_all.clone()),
            amount: Pico(amount),
        });
        self.result.parts.extend(parts);
        Ok(true)
    }

    /// The receivers in canonical order, which is also who gets a remainder first among equals.
    fn weights(&self, rule: &Rule, begin: NaiveDate, currency: Currency) -> BTreeMap<Scope, BigInt> {
        if let Split::Fixed(parts) = &rule.split {
            return parts.iter().map(|part| (part.receiver.clone(), BigInt::from(part.weight_ppm))).collect();
        }
        let mut weights: BTreeMap<Scope, BigInt> = BTreeMap::new();
        for (at, sum) in self.sums.iter().enumerate() {
            if self.owner[at].is_some()
                || rule.every.begin(sum.day) != begin
                || !rule.among.selects(&sum.dimensions)
                || is_of_other_provider(rule, &sum.dimensions)
            {
                continue;
            }
            let weight = weights.entry(restrict(&sum.dimensions, rule.by)).or_default();
            match &rule.split {
                Split::Even => *weight = BigInt::from(1),
                Split::Tokens => *weight += sum.tokens,
                Split::Cost => *weight += sum.cost.filter(|cost| cost.currency == currency).map_or(0, |c| c.amount.0),
                Split::Fixed(_) | Split::Tag(_) => {}
            }
        }
        // Whoever had more taken back than used bears nothing.
        weights.values_mut().filter(|weight| **weight < BigInt::ZERO).for_each(|weight| *weight = BigInt::ZERO);
        weights
    }

    /// A cost that fell on nobody stays with nobody, so that totals hold.
    fn nobody(&mut self, rule: &Rule, begin: NaiveDate, shared: Money) {
        let (rule, weight) = (rule.id.clone(), (BigInt::ZERO, BigInt::ZERO));
        let amount = shared.amount;
        self.result.parts.push(Part { rule, begin, receiver: Scope::default(), shared, weight, amount });
    }

    fn note(&mut self, rule: &Rule, begin: NaiveDate, reason: Reason) {
        self.result.notes.push(Note { rule: rule.id.clone(), begin, reason });
    }
}

/// What an invoice has more is borne by those who used its provider.
fn is_of_other_provider(rule: &Rule, usage: &Scope) -> bool {
    matches!(&rule.share, Shared::Invoice(provider) if usage.get(Dimension::Provider) != Some(provider))
}

fn restrict(scope: &Scope, to: DimensionSet) -> Scope {
    Scope::new(scope.iter().filter(|(dimension, _)| to.contains(*dimension)))
}

fn add(rule: &Rule, one: Pico, other: Pico) -> Result<Pico, AllocationError> {
    one.checked_add(other).ok_or_else(|| AllocationError::OutOfRange { rule: rule.id.clone() })
}
