//! PostgreSQL's binary `numeric`: groups of four decimal digits, with the place of the first.

use bytes::{BufMut, BytesMut};

use crate::PgError;
use crate::types::state;

const NEGATIVE: u16 = 0x4000;
/// Digits in a group.
const GROUP: usize = 4;

/// Writes a decimal, given as its text.
pub(crate) fn put(out: &mut BytesMut, text: &str) {
    let (sign, digits) = text.strip_prefix('-').map_or((0, text), |digits| (NEGATIVE, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let padding = |length: usize| "0".repeat((GROUP - length % GROUP) % GROUP);
    let padded = format!("{}{whole}{fraction}{}", padding(whole.len()), padding(fraction.len()));
    let groups: Vec<u16> = padded
        .as_bytes()
        .chunks(GROUP)
        .map(|group| group.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0')))
        .collect();
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups[leading..].iter().rev().take_while(|group| **group == 0).count();
    let kept = &groups[leading..groups.len() - trailing];
    // A decimal of Arrow has at most 76 digits, so these all fit.
    let weight = whole.len().div_ceil(GROUP) as i16 - 1 - leading as i16;
    out.put_u16(kept.len() as u16);
    out.put_i16(if kept.is_empty() { 0 } else { weight });
    out.put_u16(if kept.is_empty() { 0 } else { sign });
    out.put_u16(fraction.len() as u16);
    kept.iter().for_each(|group| out.put_u16(*group));
}

/// Reads one as text.
pub(crate) fn text(bytes: &[u8]) -> Result<String, PgError> {
    let wrong = || PgError::new(state::INVALID_BINARY, "a binary numeric is not in its form");
    let word = |at: usize| {
        let bytes = bytes.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
        Ok::<u16, PgError>(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (count, weight, sign, scale) = (word(0)?, word(1)?.cast_signed(), word(2)?, usize::from(word(3)?));
    if sign & !NEGATIVE != 0 || bytes.len() != 8 + 2 * usize::from(count) || scale > 1000 || weight.abs() > 1000 {
        // What has other signs is no number or infinite, which no decimal here is.
        return Err(wrong());
    }
    let groups = (0..usize::from(count)).map(|at| word(4 + at)).collect::<Result<Vec<_>, _>>()?;
    // The group of so many places of four before the point; negative after it.
    let group = |place: i32| {
        let at = i32::from(weight) - place;
        usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let mut whole: String = (0..=i32::from(weight).max(0)).rev().map(|place| format!("{:04}", group(place))).collect();
    whole = whole.trim_start_matches('0').to_owned();
    let fraction: String = (1..=scale.div_ceil(GROUP)).map(|place| format!("{:04}", group(-(place as i32)))).collect();
    let fraction = fraction.get(..scale).ok_or_else(wrong)?;
    let sign = if sign == NEGATIVE { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { &whole };
    let point = if scale > 0 { "." } else { "" };
    Ok(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_the_groups_that_postgresql_sends_and_is_read_back() {
        // As PostgreSQL's numeric_send writes them.
        let known: [(&str, &[u16]); 6] = [
            ("0", &[0, 0, 0, 0]),
            ("1", &[1, 0, 0, 0, 1]),
            ("-12345.678", &[3, 1, NEGATIVE, 3, 1, 2345, 6780]),
            ("10000", &[1, 1, 0, 0, 1]),
            ("0.000000000001", &[1, (-3_i16).cast_unsigned(), 0, 12, 1]),
            ("0.00", &[0, 0, 0, 2]),
        ];
        for (decimal, words) in known {
            let mut bytes = BytesMut::new();
            put(&mut bytes, decimal);
            let found: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            assert_eq!(found, words, "{decimal}");
            assert_eq!(text(&bytes).unwrap(), decimal);
        }
        for longer in ["99999999999999999999999999.999999999999", "-0.0123", "123456789012345678901234567890"] {
            let mut bytes = BytesMut::new();
            put(&mut bytes, longer);
            assert_eq!(text(&bytes).unwrap(), longer);
        }
        let nan: Vec<u8> = [0_u16, 0, 0xC000, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
        assert!(text(&nan).is_err() && text(&[0, 1]).is_err());
    }
}
