//! The demo's budgets: sized to the trace, so that one namespace is blocked on the way, one only warned, and one stays within.

use chrono::Datelike as _;
use usage_types::TimeUs;

use super::trace;

/// Zones to choose from, so that the whole trace lies in one day of one of them, whatever the hour of the demo.
const ZONES: [chrono_tz::Tz; 4] =
    [chrono_tz::UTC, chrono_tz::Europe::Berlin, chrono_tz::America::Los_Angeles, chrono_tz::Asia::Tokyo];

/// A zone in whose local day both the trace's start and an hour after its end lie.
fn zone(end: TimeUs) -> chrono_tz::Tz {
    let day = |time: TimeUs, zone: &chrono_tz::Tz| time.to_utc().with_timezone(zone).num_days_from_ce();
    let (first, last) = (end.plus_us(-trace::duration_us()), end.plus_us(TimeUs::HOUR));
    ZONES.into_iter().find(|zone| day(first, zone) == day(last, zone)).unwrap_or(chrono_tz::UTC)
}

/// The budgets file. The trace holds 4,437,538 tokens of `support`, $6.44 of `checkout` and 8,819 requests.
pub fn yaml(end: TimeUs) -> String {
    let zone = zone(end);
    format!(
        "# Written by `outlay demo`; change it while the demo serves, and see it take effect.
budgets:
  - id: support-daily                       # blocked on the way: 80 % is mailed, then 100 %
    match: {{ namespace: support }}
    window: {{ every: day, zone: {zone} }}
    limit: {{ tokens: 3000000 }}
    alerts: {{ at: [0.8, 1.0], to: [support-leads@example.com] }}

  - id: checkout-daily-cost                 # money; only warns
    match: {{ namespace: checkout }}
    window: {{ every: day, zone: {zone} }}
    limit: {{ cost: \"7.00 USD\" }}
    mode: soft
    alerts: {{ at: [0.8, 1.0], to: [checkout-leads@example.com] }}

  - id: search-teams-daily                  # one balance for each team; stays within
    match: {{ namespace: search }}
    per: [team]
    window: {{ every: day, zone: {zone} }}
    limit: {{ tokens: 10000000 }}
    alerts: {{ to: [search-leads@example.com] }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_every_minute_of_a_day_the_trace_lies_in_one_day_of_the_chosen_zone() {
        for minute in 0..24 * 60 {
            let end = TimeUs::parse_rfc3339("2026-03-29T00:00:00Z").unwrap().plus_us(minute * TimeUs::MINUTE);
            let zone = zone(end);
            let local = |time: TimeUs| time.to_utc().with_timezone(&zone).date_naive();
            assert_eq!(local(end.plus_us(-trace::duration_us())), local(end.plus_us(TimeUs::HOUR)), "{end} {zone}");
        }
    }

    #[test]
    fn the_file_is_a_valid_set_of_three_budgets() {
        let set = usage_types::BudgetSet::from_yaml(&yaml(TimeUs::from(chrono::Utc::now()))).unwrap();
        assert_eq!(set.budgets.len(), 3);
    }
}
