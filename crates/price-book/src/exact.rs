//! Multiplying money without losing anything until the one rounding at the end.

use std::fmt;

use usage_types::Pico;

/// A multiplier or an exchange rate: a decimal of 0 or more, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    numerator: u64,
    /// A power of ten.
    scale: u64,
}

impl Factor {
    /// The most digits after the point of a multiplier.
    pub const MULTIPLIER_DIGITS: u32 = 6;
    /// The largest multiplier: what is larger is a typing error.
    pub const MULTIPLIER_MAX: u64 = 1000;
    /// The most digits after the point of an exchange rate.
    pub const RATE_DIGITS: u32 = Pico::DIGITS;
    /// The largest exchange rate. The dearest unit of money buys some hundred thousand of the cheapest.
    pub const RATE_MAX: u64 = 1_000_000;

    /// Reads a decimal text; says what is wrong with it.
    pub(crate) fn parse(text: &str, digits: u32, max: u64) -> Result<Self, String> {
        let value: Pico = text.parse().map_err(|why| format!("{why}"))?;
        if value.0 < 0 {
            return Err(format!("`{text}` is negative; it must be 0 or more"));
        }
        if value.0 > i128::from(max) * Pico::ONE.0 {
            return Err(format!("`{text}` is more than {max}; check the point"));
        }
        let (mut numerator, mut scale) = (value.0.unsigned_abs(), Pico::ONE.0.unsigned_abs());
        while scale > 1 && numerator.is_multiple_of(10) {
            (numerator, scale) = (numerator / 10, scale / 10);
        }
        if scale > 10_u128.pow(digits) {
            return Err(format!("`{text}` has more than {digits} digits after the point"));
        }
        let fits = |number: u128| u64::try_from(number).map_err(|_| format!("`{text}` is too large"));
        Ok(Self { numerator: fits(numerator)?, scale: fits(scale)? })
    }

    /// The product, where it is a whole number of pico-units that fits.
    pub(crate) fn exactly(self, price: Pico) -> Option<Pico> {
        let product = price.0.checked_mul(i128::from(self.numerator))?;
        let scale = i128::from(self.scale);
        (product % scale == 0).then_some(Pico(product / scale))
    }

    /// The number above the line: the factor is `numerator / denominator`.
    #[must_use]
    pub const fn numerator(self) -> u64 {
        self.numerator
    }

    /// The number below the line: a power of ten.
    #[must_use]
    pub const fn denominator(self) -> u64 {
        self.scale
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.numerator == 0
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A scale is a power of ten up to that of a pico-unit, so this is exact.
        Pico(i128::from(self.numerator) * (Pico::ONE.0 / i128::from(self.scale))).fmt(f)
    }
}

/// An amount of 0 or more in pico-units with the fraction of one that is not rounded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exact {
    whole: i128,
    /// Less than `of`.
    part: u128,
    of: u128,
}

impl Exact {
    pub(crate) const fn new(whole: i128) -> Self {
        Self { whole, part: 0, of: 1 }
    }

    /// `whole + part / of`; compute time is the only one who needs it, with nanoseconds of a second.
    pub(crate) const fn with_part(whole: i128, part: u128, of: u128) -> Self {
        Self { whole, part, of }
    }

    /// The product; `None` where it does not fit.
    ///
    /// One amount takes a part of nanoseconds (10⁹), one multiplier (10⁶) and one exchange rate (10¹²): `of` stays at 10²⁷ or
    /// less and what is multiplied at 10³³, which 128 bits hold.
    pub(crate) fn times(self, factor: Factor) -> Option<Self> {
        let (numerator, scale) = (i128::from(factor.numerator), i128::from(factor.scale));
        // The whole is split first, so that only a product that does not fit overflows.
        let high = (self.whole / scale).checked_mul(numerator)?;
        let low = (self.whole % scale) * numerator;
        let of = self.of * u128::from(factor.scale);
        let part = self.part * u128::from(factor.numerator) + (low % scale).unsigned_abs() * self.of;
        let carried = i128::try_from(part / of).ok()?;
        let whole = high.checked_add(low / scale)?.checked_add(carried)?;
        Some(Self { whole, part: part % of, of })
    }

    /// In whole pico-units, half of one up.
    pub(crate) fn rounded(self) -> Option<Pico> {
        let up = i128::from(self.part * 2 >= self.of);
        self.whole.checked_add(up).filter(|amount| *amount <= Pico::MAX.0).map(Pico)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(text: &str) -> Factor {
        Factor::parse(text, Factor::RATE_DIGITS, Factor::RATE_MAX).expect(text)
    }

    #[test]
    fn a_factor_is_read_exactly_or_refused() {
        for (text, written) in [("0.85", "0.85"), ("2", "2"), ("1.0834", "1.0834"), ("0", "0"), ("1.50", "1.5")] {
            assert_eq!(Factor::parse(text, 6, 1000).expect(text).to_string(), written);
        }
        for text in ["-1", "1000.1", "0.0000001", "1e3", "", "half", "99999999999999999999999999"] {
            assert!(Factor::parse(text, 6, 1000).is_err(), "{text}");
        }
        assert!(Factor::parse("0.1234560", 6, 1000).is_ok(), "zeros at the end are no digits");
    }

    #[test]
    fn products_are_rounded_once_and_half_goes_up() {
        let product = |whole, factors: &[&str]| {
            let product = factors.iter().try_fold(Exact::new(whole), |sum, text| sum.times(factor(text)));
            product.and_then(Exact::rounded).map(|pico| pico.0)
        };
        // 1 × 0.5 = 0.5 goes up, 1 × 0.49 goes down.
        assert_eq!(product(1, &["0.5"]), Some(1));
        assert_eq!(product(1, &["0.49"]), Some(0));
        // 0.5 × 0.5 = 0.25: rounding between the two would have made it 1 × 0.5, and so 1.
        assert_eq!(product(1, &["0.5", "0.5"]), Some(0));
        // 3 × 0.7 × 1.5 = 3.15.
        assert_eq!(product(3, &["0.7", "1.5"]), Some(3));
        // 1,000,000,007 × 0.85 = 850,000,005.95, × 1.0834 = 920,890,006.446…
        assert_eq!(product(1_000_000_007, &["0.85", "1.0834"]), Some(920_890_006));
        assert_eq!(product(42, &["0", "3"]), Some(0));
    }

    #[test]
    fn only_a_product_that_does_not_fit_is_out_of_range() {
        let (max, digits) = (Pico::MAX.0, "0.999999999999");
        // 10³⁸ − 1 less a trillionth part of it, and the half below.
        let expected = max - max / 1_000_000_000_000;
        let nearly = Exact::new(max).times(factor(digits)).and_then(Exact::rounded).map(|pico| pico.0);
        assert!(nearly.is_some_and(|nearly| (nearly - expected).abs() <= 1), "{nearly:?}");
        assert_eq!(Exact::new(max).times(factor("2")).and_then(Exact::rounded), None);
        assert_eq!(Exact::new(max).times(factor("1000000")), None);
        // The finest part that there is: a nanosecond, a multiplier of six digits and a rate of twelve.
        let finest = Exact::with_part(0, 999_999_999, 1_000_000_000).times(factor("999.999999"));
        let finest = finest.and_then(|sum| sum.times(factor("999999.999999999999"))).and_then(Exact::rounded);
        // 0.999999999 × 999.999999 × 999,999.999999999999 = 999,999,998.000000000000000001999…
        assert_eq!(finest, Some(Pico(999_999_998)));
    }
}
