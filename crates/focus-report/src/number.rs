//! Decimals as integers of a fixed number of digits after the point.

use num_bigint::{BigInt, Sign};

/// Digits of a cost: pico-units, as in the lake.
pub(crate) const COST_DIGITS: u32 = 12;
/// Digits of a unit price: a price per million tokens has six, a discount six more and six are left for an exchange rate.
pub(crate) const PRICE_DIGITS: u32 = 18;
/// Digits of a quantity as it was consumed: nanoseconds of a second.
pub(crate) const CONSUMED_DIGITS: u32 = 9;
/// Digits of a quantity in units of its price: a single token is 10⁻⁶ of them.
pub(crate) const PRICED_DIGITS: u32 = 12;

pub(crate) fn ten_to(digits: u32) -> BigInt {
    BigInt::from(10).pow(digits)
}

/// The quotient, half of one away from zero. The divisor is positive.
pub(crate) fn divided(number: &BigInt, by: &BigInt) -> BigInt {
    let magnitude: BigInt = (BigInt::from(number.magnitude().clone()) * 2 + by) / (by * 2_u8);
    if number.sign() == Sign::Minus { -magnitude } else { magnitude }
}

/// As what a column of 38 digits holds.
pub(crate) fn fitting(number: &BigInt) -> Option<i128> {
    // 10³⁸ is less than 2¹²⁷.
    i128::try_from(number).ok().filter(|value| value.unsigned_abs() < 10_u128.pow(38))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_goes_away_from_zero_on_both_sides() {
        for (number, by, expected) in [(5, 10, 1), (4, 10, 0), (-5, 10, -1), (-4, 10, 0), (25, 10, 3), (0, 7, 0)] {
            assert_eq!(divided(&BigInt::from(number), &BigInt::from(by)), BigInt::from(expected), "{number}/{by}");
        }
    }

    #[test]
    fn what_has_more_than_38_digits_does_not_fit() {
        assert_eq!(fitting(&(ten_to(38) - 1)), Some(10_i128.pow(37) * 9 + (10_i128.pow(37) - 1)));
        assert_eq!(fitting(&ten_to(38)), None);
        assert_eq!(fitting(&-ten_to(38)), None);
    }
}
