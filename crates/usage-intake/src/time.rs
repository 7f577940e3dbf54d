//! RFC 3339 on the hot path: the fixed UTC form that nearly every sender writes, read digit by digit, and chrono for the rest.

use usage_types::TimeUs;

/// 2000-01-01T00:00:00Z: nothing that bills AI is older, so an earlier time is a sender's mistake (often an epoch of 0).
pub(crate) const EARLIEST: TimeUs = TimeUs(946_684_800_000_000);
/// 10000-01-01T00:00:00Z: RFC 3339 has no year beyond 9999, though an offset can reach it.
pub(crate) const AFTER_LATEST: TimeUs = TimeUs(253_402_300_800_000_000);

/// Reads an event's time.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn event_time(text: &str) -> Result<TimeUs, String> {
    let time = match utc_fast(text.as_bytes()) {
        Some(time) => time,
        None => TimeUs::parse_rfc3339(text)
            .map_err(|_| format!("{text:?} is no RFC 3339 time; write it like \"2026-11-21T10:00:00.123Z\""))?,
    };
    if (EARLIEST..AFTER_LATEST).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{text:?} is not between the years 2000 and 9999; send the time at which the usage happened"))
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.f…]Z` with up to nine fractional digits. `None` wherever it is not exactly that: chrono decides then.
fn utc_fast(text: &[u8]) -> Option<TimeUs> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let two = |at: usize| -> Option<i64> {
        let (tens, ones) = (seconds[at].wrapping_sub(b'0'), seconds[at + 1].wrapping_sub(b'0'));
        (tens <= 9 && ones <= 9).then(|| i64::from(tens * 10 + ones))
    };
    let separated =
        seconds[4] == b'-' && seconds[7] == b'-' && seconds[10] == b'T' && seconds[13] == b':' && seconds[16] == b':';
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    let plausible = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !(separated && plausible) {
        return None;
    }
    let micros = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => fraction_us(digits)?,
        _ => return None,
    };
    let seconds = ((days_from_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(TimeUs(seconds * TimeUs::SECOND + micros))
}

/// Fractional digits of a second as microseconds; finer digits are cut off.
fn fraction_us(digits: &[u8]) -> Option<i64> {
    let mut micros = 0;
    for at in 0..digits.len().max(6) {
        let digit = digits.get(at).map_or(0, |byte| byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        if at < 6 {
            micros = micros * 10 + i64::from(digit);
        }
    }
    Some(micros)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years from 0. The year is taken to start in March, which puts
/// the leap day last; 719,468 is the number of days from 0000-03-01 to 1970-01-01.
const fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_outside_2000_to_9999_is_refused() {
        for (text, fits) in [
            ("2000-01-01T00:00:00Z", true),
            ("1999-12-31T23:59:59.999999Z", false),
            ("2000-01-01T00:30:00+01:00", false),
            ("9999-12-31T23:59:59.999999Z", true),
            ("9999-12-31T23:59:59-01:00", false),
            ("1970-01-01T00:00:00Z", false),
            ("2026-11-21", false),
            ("2026-02-29T00:00:00Z", false),
            ("", false),
        ] {
            assert_eq!(event_time(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn the_usual_form_takes_the_fast_path() {
        for text in ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.123Z", "2024-02-29T23:59:59.123456789Z"] {
            assert_eq!(utc_fast(text.as_bytes()), TimeUs::parse_rfc3339(text).ok(), "{text}");
            assert!(utc_fast(text.as_bytes()).is_some(), "{text}");
        }
    }

    proptest! {
        /// Texts near the valid form: where the fast path answers at all, it answers what chrono does.
        #[test]
        fn the_fast_path_equals_chrono(
            text in "[0-9]{3,4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|z|\\+0[0-9]:00)"
        ) {
            if let Some(fast) = utc_fast(text.as_bytes()) {
                prop_assert_eq!(Some(fast), TimeUs::parse_rfc3339(&text).ok());
            }
        }

        /// Every instant that is written in the usual form is read by the fast path, as itself.
        #[test]
        fn every_written_instant_is_read_back(micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            prop_assert_eq!(utc_fast(TimeUs(micros).to_string().as_bytes()), Some(TimeUs(micros)));
        }
    }
}
