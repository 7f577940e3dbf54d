//! Numbers, times and foreign texts as people read them in a mail. Pure.

use std::borrow::Cow;
use std::str::FromStr;

use usage_types::{Currency, Pico, TimeUs};

/// The longest text from outside that a mail shows, in characters.
const FOREIGN_CHARS_MAX: usize = 200;

/// A text from outside (a scope's value, a server's answer) made safe to show on one line: control characters and those that
/// reorder or hide text become spaces, and what is too long is cut.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len().min(4 * FOREIGN_CHARS_MAX));
    for (at, c) in text.trim().chars().enumerate() {
        if at == FOREIGN_CHARS_MAX {
            cleaned.push('…');
            break;
        }
        cleaned.push(if c.is_control() || reorders_or_hides(c) { ' ' } else { c });
    }
    cleaned
}

/// Line separators, bidirectional overrides and zero-width characters: none is a control character to `char::is_control`.
const fn reorders_or_hides(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

/// The text for HTML, in content and in attribute values.
pub(crate) fn escape_html(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The digits of a decimal text in groups of three: `1234567.5` is `1,234,567.5`.
pub(crate) fn group(decimal: &str) -> String {
    let (sign, rest) = decimal.strip_prefix('-').map_or(("", decimal), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut grouped = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// Cuts a fraction to so many digits (never rounds up: what is used must not look like more), and fills it up to `digits_min`.
fn cut_fraction(decimal: &str, digits_min: usize, digits_max: usize) -> String {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let mut fraction = fraction.get(..digits_max).unwrap_or(fraction).trim_end_matches('0').to_owned();
    while fraction.len() < digits_min {
        fraction.push('0');
    }
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

/// A measure's unit, and how its amounts are written.
pub(crate) struct Unit {
    measure: String,
    currency: Option<Currency>,
}

impl Unit {
    pub(crate) fn new(measure: &str, currency: Option<Currency>) -> Self {
        Self { measure: measure.to_owned(), currency }
    }

    /// The amount alone: `812,345`, `412.33`, `1.25`. A text that is no number is shown as it is.
    pub(crate) fn number(&self, amount: &str) -> String {
        let Ok(value) = Pico::from_str(amount) else { return clean(amount) };
        match self.measure.as_str() {
            // Below one unit of the currency two digits would hide the amount.
            "cost" => group(&cut_fraction(&value.to_string(), 2, if value.0.abs() < Pico::ONE.0 { 6 } else { 2 })),
            "compute_seconds" => group(&cut_fraction(&Pico(value.0 / 3600).to_string(), 0, 2)),
            _ => group(&value.to_string()),
        }
    }

    /// What is counted: `tokens`, `output tokens`, `USD`, `compute hours`.
    pub(crate) fn name(&self) -> String {
        match (self.measure.as_str(), self.currency) {
            ("cost", Some(currency)) => currency.to_string(),
            ("compute_seconds", _) => "compute hours".to_owned(),
            (measure, _) => clean(&measure.replace('_', " ")),
        }
    }
}

/// `used` of `limit` in tenths of a percent, rounded down; `None` where either is no number.
pub(crate) fn per_mille(used: &str, limit: &str) -> Option<i128> {
    let (used, limit) = (Pico::from_str(used).ok()?.0, Pico::from_str(limit).ok()?.0);
    // Dividing the limit instead of multiplying where 10³⁸ would overflow costs no visible digit.
    let (used, limit) = match used.checked_mul(1000) {
        Some(used) => (used, limit),
        None => (used, limit / 1000),
    };
    used.checked_div(limit)
}

/// Tenths of a percent as text: `812` is `81.2%`, `800` is `80%`.
pub(crate) fn percent(per_mille: i128) -> String {
    let (whole, tenth) = (per_mille / 10, per_mille % 10);
    if tenth == 0 {
        format!("{}%", group(&whole.to_string()))
    } else {
        format!("{}.{tenth}%", group(&whole.to_string()))
    }
}

/// A threshold as a percentage, with all its digits: `0.8` is `80%`, `0.8125` is `81.25%`.
pub(crate) fn threshold_percent(fraction: &str) -> String {
    match Pico::from_str(fraction).ok().and_then(|value| value.0.checked_mul(100)) {
        Some(hundredfold) => format!("{}%", Pico(hundredfold)),
        None => clean(fraction),
    }
}

/// `Sat 21 Nov 2026, 14:03 CET`.
pub(crate) fn moment(time: TimeUs, zone: impl chrono::TimeZone<Offset: std::fmt::Display>) -> String {
    time.to_utc().with_timezone(&zone).format("%a %-d %b %Y, %H:%M %Z").to_string()
}

/// A span in its two largest units: `2 d 3 h`, `3 h 20 min`, `45 s`.
pub(crate) fn span(us: i64) -> String {
    let seconds = us.max(0) / TimeUs::SECOND;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown =
        parts[from..].iter().take(2).filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}"));
    let text = shown.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "0 s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_never_rounded_up() {
        let tokens = Unit::new("tokens", None);
        let cost = Unit::new("cost", Some(Currency::USD));
        let compute = Unit::new("compute_seconds", None);
        for (unit, amount, number) in [
            (&tokens, "0", "0"),
            (&tokens, "999", "999"),
            (&tokens, "1000", "1,000"),
            (&tokens, "1234567", "1,234,567"),
            (&tokens, "-123456", "-123,456"),
            (&cost, "1234.5", "1,234.50"),
            (&cost, "499.999999999999", "499.99"),
            (&cost, "500", "500.00"),
            (&cost, "0.001234567", "0.001234"),
            (&compute, "4500", "1.25"),
            (&compute, "36000000", "10,000"),
            (&tokens, "many\r\n", "many"),
        ] {
            assert_eq!(unit.number(amount), number, "{amount}");
        }
        assert_eq!(
            [cost.name(), compute.name(), Unit::new("cache_read_tokens", None).name()],
            ["USD", "compute hours", "cache read tokens"]
        );
    }

    #[test]
    fn shares_are_exact_percentages() {
        assert_eq!(per_mille("812345", "1000000").map(percent).as_deref(), Some("81.2%"));
        assert_eq!(per_mille("999999", "1000000").map(percent).as_deref(), Some("99.9%"));
        assert_eq!(per_mille("12000", "1000").map(percent).as_deref(), Some("1,200%"));
        assert_eq!(per_mille("1", "0"), None);
        assert_eq!(["0.8", "1", "0.8125", "1.5"].map(threshold_percent), ["80%", "100%", "81.25%", "150%"]);
    }

    #[test]
    fn times_are_shown_in_the_zone_of_the_window() {
        let time = TimeUs::parse_rfc3339("2026-03-29T00:30:00Z").unwrap();
        assert_eq!(moment(time, chrono_tz::Europe::Berlin), "Sun 29 Mar 2026, 01:30 CET");
        assert_eq!(moment(time.plus_us(TimeUs::HOUR), chrono_tz::Europe::Berlin), "Sun 29 Mar 2026, 03:30 CEST");
        for (us, text) in [
            (0, "0 s"),
            (45 * TimeUs::SECOND, "45 s"),
            (200 * TimeUs::MINUTE, "3 h 20 min"),
            (3 * TimeUs::HOUR, "3 h"),
            (51 * TimeUs::HOUR, "2 d 3 h"),
        ] {
            assert_eq!(span(us), text);
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_in_its_order() {
        assert_eq!(clean("a\r\nBcc: x\u{202E}evil\u{2028}b"), "a  Bcc: x evil b");
        assert_eq!(clean(&"x".repeat(500)).chars().count(), FOREIGN_CHARS_MAX + 1);
        assert_eq!(escape_html("<b a='1'>&\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
    }
}
