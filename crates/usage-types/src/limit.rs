//! The limits of a budget, and how full they are.

use std::cmp::Ordering;

use crate::{Amount, Measure, Ppm};

/// How much of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub measure: Measure,
    /// How much, in the measure's smallest unit; more than zero.
    pub amount: Amount,
    /// How much more is let through before it blocks, likewise. Shares and alerts are of the amount without it.
    pub overage: Amount,
}

impl Limit {
    /// A limit without overage.
    #[must_use]
    pub const fn new(measure: Measure, amount: Amount) -> Self {
        Self { measure, amount, overage: Amount(0) }
    }

    /// The overage as text in units of the measure, where there is one.
    #[must_use]
    pub fn told_overage(&self) -> Option<String> {
        (self.overage.0 > 0).then(|| self.measure.format(self.overage))
    }

    /// How much has to be used for it to block.
    #[must_use]
    pub fn blocks_at(&self) -> Amount {
        Amount(self.amount.0.saturating_add(self.overage.0))
    }
}

/// The limits of a budget, in the order of its file: at least one, each of another measure. The first that is reached blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits(Vec<Limit>);

impl Limits {
    /// The most limits of one budget: each measure once, and a few currencies.
    pub const MAX: usize = 16;

    /// These limits. `None` where there is none, there are more than [`Limits::MAX`], or two are of one measure.
    #[must_use]
    pub fn new(limits: Vec<Limit>) -> Option<Self> {
        let is_twice = |at: usize| limits[..at].iter().any(|before| before.measure == limits[at].measure);
        let is_good = (1..=Self::MAX).contains(&limits.len()) && !(1..limits.len()).any(is_twice);
        is_good.then_some(Self(limits))
    }

    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = Limit> {
        self.0.iter().copied()
    }

    /// Each as something else, of the same measure.
    #[must_use]
    pub fn with(&self, each: impl Fn(Limit) -> Limit) -> Self {
        Self(self.0.iter().map(|limit| Limit { measure: limit.measure, ..each(*limit) }).collect())
    }

    /// The first of the file.
    #[must_use]
    pub fn first(&self) -> Limit {
        self.0[0]
    }

    /// The one of a measure.
    #[must_use]
    pub fn of(&self, measure: Measure) -> Option<Amount> {
        self.0.iter().find(|limit| limit.measure == measure).map(|limit| limit.amount)
    }

    /// These, with the amounts of the others where those are more.
    #[must_use]
    pub fn raised(&self, others: &Self) -> Self {
        let raise = |limit: Limit| {
            let amount = others.of(limit.measure).map_or(limit.amount, |other| other.max(limit.amount));
            Limit { amount, ..limit }
        };
        self.with(raise)
    }

    /// Each with what is used of it.
    pub fn fills(&self, used: impl Fn(Measure) -> Amount) -> impl Iterator<Item = Fill> {
        self.0.iter().map(move |limit| Fill { limit: *limit, used: used(limit.measure) })
    }

    /// The one of which the largest share is used; among equals the first.
    #[must_use]
    pub fn tightest(&self, used: impl Fn(Measure) -> Amount) -> Fill {
        let first = Fill { limit: self.first(), used: used(self.first().measure) };
        self.fills(used).skip(1).fold(first, |best, fill| if fill.cmp_share(&best).is_gt() { fill } else { best })
    }

    /// Of those that are reached, with their overage, the one of which the largest share is used; among equals the first.
    #[must_use]
    pub fn tripped(&self, used: impl Fn(Measure) -> Amount) -> Option<Fill> {
        let reached = self.fills(used).filter(Fill::is_reached);
        reached.reduce(|best, fill| if fill.cmp_share(&best).is_gt() { fill } else { best })
    }

    /// Whether one of them is reached, with its overage.
    #[must_use]
    pub fn is_reached(&self, used: impl Fn(Measure) -> Amount) -> bool {
        self.fills(used).any(|fill| fill.is_reached())
    }
}

impl From<Limit> for Limits {
    fn from(limit: Limit) -> Self {
        Self(vec![limit])
    }
}

/// A limit with what is used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// The limit.
    pub limit: Limit,
    /// How much is used, in the limit's measure. Below zero where money was given back.
    pub used: Amount,
}

impl Fill {
    /// Whether nothing is left, of the overage either.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.used >= self.limit.blocks_at()
    }

    /// Whether this share of the limit is used.
    #[must_use]
    pub fn has_reached(&self, share: Ppm) -> bool {
        share.reached(self.used, self.limit.amount)
    }

    /// What is left, in parts per million of the limit; 0 where nothing is.
    #[must_use]
    pub fn remaining_ppm(&self) -> u32 {
        let (limit, used) = (self.limit.amount.0, self.used.0);
        let left = limit.saturating_sub(used).max(0);
        let ppm = left.checked_mul(1_000_000).map_or_else(|| left / (limit / 1_000_000).max(1), |l| l / limit.max(1));
        u32::try_from(ppm).unwrap_or(u32::MAX)
    }

    /// Which has the larger share used, exactly, whatever the measures: as in Euclid's algorithm the whole parts are compared, then the
    /// reciprocals of the rests, so that nothing has to be multiplied.
    #[must_use]
    pub fn cmp_share(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.used.0, self.limit.amount.0.max(1));
        let (mut c, mut d) = (other.used.0, other.limit.amount.0.max(1));
        loop {
            let whole = a.div_euclid(b).cmp(&c.div_euclid(d));
            if whole.is_ne() {
                return whole;
            }
            let rests = (a.rem_euclid(b), c.rem_euclid(d));
            match rests {
                (0, 0) => return Ordering::Equal,
                (0, _) => return Ordering::Less,
                (_, 0) => return Ordering::Greater,
                // rest/b < rest'/d just where d/rest' < b/rest.
                (rest, rest_other) => (a, b, c, d) = (d, rest_other, b, rest),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(used: i128, limit: i128) -> Fill {
        Fill { limit: Limit::new(Measure::Tokens, Amount(limit)), used: Amount(used) }
    }

    #[test]
    fn shares_are_compared_exactly_whatever_their_size() {
        let huge = i128::MAX / 2;
        for (a, b, order) in [
            ((1, 3), (333_333, 1_000_000), Ordering::Greater),
            ((2, 6), (1, 3), Ordering::Equal),
            ((huge, huge - 1), (huge - 1, huge - 2), Ordering::Less),
            ((huge - 1, huge), (huge - 2, huge - 1), Ordering::Greater),
            ((-1, 5), (0, 7), Ordering::Less),
            ((-1, 5), (-1, 7), Ordering::Less),
            ((0, 5), (0, 7), Ordering::Equal),
            ((15, 10), (16, 10), Ordering::Less),
            ((5, 10), (1, 1), Ordering::Less),
        ] {
            let (left, right) = (fill(a.0, a.1), fill(b.0, b.1));
            assert_eq!(left.cmp_share(&right), order, "{a:?} {b:?}");
            assert_eq!(right.cmp_share(&left), order.reverse(), "{a:?} {b:?}");
        }
        for (a, b) in (-20..60).flat_map(|a| (1..30).map(move |b| (a, b))) {
            for (c, d) in (-7..40).flat_map(|c| (1..12).map(move |d| (c, d))) {
                assert_eq!(fill(a, b).cmp_share(&fill(c, d)), (a * d).cmp(&(c * b)), "{a}/{b} and {c}/{d}");
            }
        }
    }

    #[test]
    fn the_tightest_limit_is_the_one_with_the_largest_share_used() {
        let limit = |measure, amount| Limit::new(measure, Amount(amount));
        let limits = vec![limit(Measure::Tokens, 100), limit(Measure::Requests, 10), limit(Measure::ToolCalls, 5)];
        let limits = Limits::new(limits).unwrap();
        let used = |tokens, requests, calls| {
            move |measure| match measure {
                Measure::Tokens => Amount(tokens),
                Measure::Requests => Amount(requests),
                _ => Amount(calls),
            }
        };
        let tightest = |tokens, requests, calls| limits.tightest(used(tokens, requests, calls)).limit.measure;
        assert_eq!(tightest(50, 5, 2), Measure::Tokens, "among equals the first");
        assert_eq!(tightest(59, 6, 2), Measure::Requests);
        assert_eq!(tightest(100, 10, 6), Measure::ToolCalls);
        assert!(limits.is_reached(used(0, 0, 5)) && !limits.is_reached(used(99, 9, 4)));
        let allowed = |limit: Limit| match limit.measure {
            Measure::Tokens => Limit { overage: Amount(50), ..limit },
            _ => limit,
        };
        let limits = limits.with(allowed);
        let tripped = |tokens, requests| limits.tripped(used(tokens, requests, 0)).map(|fill| fill.limit.measure);
        assert_eq!([tripped(149, 9), tripped(150, 9)], [None, Some(Measure::Tokens)]);
        assert_eq!(tripped(149, 10), Some(Measure::Requests), "the fullest has overage left");
        assert_eq!(tripped(150, 16), Some(Measure::Requests));
        assert_eq!(Limits::new(vec![limit(Measure::Tokens, 1), limit(Measure::Tokens, 2)]), None);
        assert_eq!(Limits::new(Vec::new()), None);
    }
}
