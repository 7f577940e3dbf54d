//! Splitting an amount so that nothing of it is lost: the method of the largest remainder (Hamilton's).

use num_bigint::BigInt;

/// The parts of an amount in proportion to weights of 0 or more, of which one at least is more than 0. They add up to it: each has its
/// proportional part rounded towards zero, and of what is left one goes to each of those whose remainder is largest; among equals
/// the first. All are 0 where no weight is more than 0.
#[must_use]
pub fn shares(amount: i128, weights: &[BigInt]) -> Vec<i128> {
    let sum: BigInt = weights.iter().sum();
    if sum <= BigInt::ZERO {
        return vec![0; weights.len()];
    }
    let magnitude = BigInt::from(amount.unsigned_abs());
    let mut parts: Vec<(BigInt, BigInt)> = weights
        .iter()
        .map(|weight| {
            let product = &magnitude * weight;
            (&product / &sum, product % &sum)
        })
        .collect();
    let given: BigInt = parts.iter().map(|(part, _)| part).sum();
    // Less than one for each part that has a remainder.
    let left = usize::try_from(magnitude - given).unwrap_or(0);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|one, other| parts[*other].1.cmp(&parts[*one].1));
    for index in order.into_iter().take(left) {
        parts[index].0 += 1;
    }
    let signed = |part: &BigInt| i128::try_from(if amount < 0 { -part } else { part.clone() });
    // No part is larger than the amount.
    parts.iter().map(|(part, _)| signed(part).unwrap_or(amount)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(amount: i128, weights: &[u64]) -> Vec<i128> {
        shares(amount, &weights.iter().map(|weight| BigInt::from(*weight)).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_left_goes_to_the_largest_remainders_and_among_equals_to_the_first() {
        // 10/3 = 3.33 each: one is left, for the first.
        assert_eq!(split(10, &[1, 1, 1]), [4, 3, 3]);
        // 2.5, 3.75, 3.75.
        assert_eq!(split(10, &[2, 3, 3]), [2, 4, 4]);
        assert_eq!(split(-10, &[2, 3, 3]), [-2, -4, -4]);
        assert_eq!(split(1, &[0, 0, 7]), [0, 0, 1]);
        assert_eq!(split(0, &[1, 2]), [0, 0]);
        // What weighs nothing gets nothing.
        assert_eq!(split(7, &[0, 3, 3]), [0, 4, 3]);
    }

    proptest::proptest! {
        #[test]
        fn parts_add_up_and_none_is_a_whole_unit_off(
            amount in -(10_i128.pow(38) - 1)..10_i128.pow(38),
            weights in proptest::collection::vec(0..u64::MAX, 1..11),
        ) {
            proptest::prop_assume!(weights.iter().any(|weight| *weight > 0));
            let parts = split(amount, &weights);
            proptest::prop_assert_eq!(parts.iter().sum::<i128>(), amount);
            let sum: BigInt = weights.iter().map(|weight| BigInt::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                // |part × sum − amount × weight| < sum: off by less than one.
                let off = BigInt::from(*part) * &sum - BigInt::from(amount) * BigInt::from(*weight);
                proptest::prop_assert!(off.magnitude() < sum.magnitude());
            }
        }
    }
}
