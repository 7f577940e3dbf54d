//! Numbers of exports, as they are written.

use usage_types::Pico;

/// Digits before the point, leading zeros left out: more do not fit the lake's decimal.
const WHOLE_DIGITS_MAX: usize = 26;

/// Reads a decimal number, also one with an exponent as programs write small floats (`6e-05`), times a power of ten. Digits beyond the
/// pico-unit are rounded to the nearest, halves away from zero. `None`: it is no number, or too large.
pub(crate) fn pico(text: &str, times_ten_to: i32) -> Option<Pico> {
    let text = text.trim();
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Where the point is in the digits, once the number is in pico-units.
    let digits_kept = i32::try_from(Pico::DIGITS).ok()?;
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(times_ten_to)? + digits_kept;
    let significant = digits.trim_start_matches('0');
    let point = point - i32::try_from(digits.len() - significant.len()).ok()?;
    if significant.is_empty() || point < 0 {
        return Some(Pico(0));
    }
    let point = usize::try_from(point).ok().filter(|point| *point <= WHOLE_DIGITS_MAX + Pico::DIGITS as usize)?;
    let kept: String = significant.chars().chain(std::iter::repeat('0')).take(point).collect();
    let magnitude: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let rounds_up = significant.as_bytes().get(point).is_some_and(|digit| *digit >= b'5');
    let value = magnitude.checked_add(i128::from(rounds_up))?;
    (value <= Pico::MAX.0).then_some(Pico(if is_negative { -value } else { value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for (text, shift, expected) in [
            ("0.06", 0, "0.06"),
            ("0.8958740000000000", 0, "0.895874"),
            ("6e-05", 0, "0.00006"),
            ("1.5E3", 0, "1500"),
            ("123.78912", -2, "1.2378912"),
            ("-3", 0, "-3"),
            ("0", 0, "0"),
            ("0.0000000000004", 0, "0"),
            ("0.0000000000005", 0, "0.000000000001"),
            ("0.9999999999999", 0, "1"),
            ("00012.50", 0, "12.5"),
            ("99999999999999999999999999", 0, "99999999999999999999999999"),
            ("5e-13", 0, "0.000000000001"),
            ("5e-14", 0, "0"),
        ] {
            assert_eq!(pico(text, shift).map(|value| value.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "-", ".", "1,5", "abc", "1e", "NaN", "100000000000000000000000000", "1e40", "1.2.3"] {
            assert_eq!(pico(text, 0), None, "{text}");
        }
    }
}
