//! Windows tile time, whatever a zone does with its clocks.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

mod common;

use budget_core::window::window_at;
use chrono::{TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use common::at;
use proptest::prelude::*;
use usage_types::{Every, TimeUs, WindowSpec};

fn spec(every: Every, zone: &str) -> WindowSpec {
    WindowSpec { every, zone: zone.parse().unwrap() }
}

#[track_caller]
fn check(every: Every, zone: &str, time: &str, start: &str, end: &str) {
    let window = window_at(spec(every, zone), at(time));
    assert_eq!((window.start.to_string(), window.end.to_string()), (start.to_owned(), end.to_owned()), "{zone} {time}");
}

#[test]
fn calendar_windows_begin_at_local_midnight() {
    use Every::{Day, Hour, Minute, Month, Quarter, Week, Year};
    let time = "2026-11-21T23:30:15Z"; // A Sunday already in Berlin, still Saturday in New York.
    for (every, zone, start, end) in [
        (Minute, "UTC", "2026-11-21T23:30:00Z", "2026-11-21T23:31:00Z"),
        (Hour, "Asia/Kolkata", "2026-11-21T23:30:00Z", "2026-11-22T00:30:00Z"),
        (Day, "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
        (Day, "Europe/Berlin", "2026-11-21T23:00:00Z", "2026-11-22T23:00:00Z"),
        (Day, "America/New_York", "2026-11-21T05:00:00Z", "2026-11-22T05:00:00Z"),
        (Week, "UTC", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        (Month, "Europe/Berlin", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
        // Quarters that begin in summer time and end in winter time.
        (Quarter, "Europe/Berlin", "2026-09-30T22:00:00Z", "2026-12-31T23:00:00Z"),
        (Year, "Asia/Kathmandu", "2025-12-31T18:15:00Z", "2026-12-31T18:15:00Z"),
    ] {
        check(every, zone, time, start, end);
    }
}

#[test]
fn days_have_23_or_25_hours_where_the_clocks_change() {
    check(Every::Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    check(Every::Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
}

#[test]
fn a_midnight_that_is_skipped_begins_the_day_an_hour_later() {
    // 00:00 became 01:00 in each.
    check(Every::Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    check(Every::Day, "Africa/Cairo", "2024-04-26T12:00:00Z", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z");
    check(Every::Day, "Asia/Beirut", "2022-03-27T12:00:00Z", "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z");
}

#[test]
fn the_hour_before_midnight_that_comes_twice_belongs_to_its_day() {
    // 24:00 became 23:00 in each: a day of 25 hours.
    check(Every::Day, "America/Sao_Paulo", "2019-02-17T02:30:00Z", "2019-02-16T02:00:00Z", "2019-02-17T03:00:00Z");
    check(Every::Day, "Africa/Cairo", "2024-10-31T21:30:00Z", "2024-10-30T21:00:00Z", "2024-10-31T22:00:00Z");
    // 00:00 came twice within the day: it begins at the first.
    check(Every::Day, "America/Havana", "2024-11-03T05:30:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
    // 00:01 became 23:01 of the day before: the calendar returned, the window does not.
    check(Every::Day, "America/St_Johns", "2006-10-29T03:00:00Z", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z");
}

#[test]
fn a_date_that_was_left_out_has_no_window() {
    // Samoa went from the end of 29 December to 31 December 2011.
    check(Every::Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    check(Every::Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
}

#[test]
fn an_hour_that_is_repeated_is_two_windows_and_half_an_hour_is_one() {
    check(Every::Hour, "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
    check(Every::Hour, "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z");
    // Lord Howe: 02:00 at +11 became 01:30 at +10:30, and in spring 02:00 became 02:30.
    check(Every::Hour, "Australia/Lord_Howe", "2026-04-04T14:30:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z");
    check(Every::Hour, "Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z");
    check(Every::Hour, "Australia/Lord_Howe", "2026-10-03T15:40:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z");
    check(Every::Hour, "Australia/Lord_Howe", "2026-10-03T16:10:00Z", "2026-10-03T16:00:00Z", "2026-10-03T17:00:00Z");
}

#[test]
fn times_outside_the_calendar_do_not_panic() {
    for every in Every::ALL {
        for zone in ["UTC", "Asia/Kathmandu", "America/Los_Angeles"] {
            for time in [i64::MIN, i64::MIN + 1, -62_135_596_800_000_000, i64::MAX] {
                let window = window_at(spec(every, zone), TimeUs(time));
                assert!(window.start < window.end);
            }
        }
    }
}

/// Times near changes of the clocks are where windows can go wrong, so half of them are.
fn time_in(zone: Tz) -> impl Strategy<Value = TimeUs> {
    let seconds = 0..4_102_444_800_i64; // 1970 to 2099
    (seconds, any::<bool>(), -7_200_i64..7_200, 0..1_000_000_i64).prop_map(move |(second, near, delta, micro)| {
        let second = if near { change_after(zone, second).unwrap_or(second) + delta } else { second };
        TimeUs(second * TimeUs::SECOND + micro)
    })
}

fn offset(zone: Tz, second: i64) -> i32 {
    use chrono::Offset;
    zone.offset_from_utc_datetime(&chrono::DateTime::from_timestamp(second, 0).unwrap().naive_utc())
        .fix()
        .local_minus_utc()
}

fn change_after(zone: Tz, from: i64) -> Option<i64> {
    let (mut low, mut high) = (1..400)
        .map(|day| (from + (day - 1) * 86_400, from + day * 86_400))
        .find(|(low, high)| offset(zone, *low) != offset(zone, *high))?;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset(zone, middle) == offset(zone, low) { low = middle } else { high = middle }
    }
    Some(high)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn windows_tile_time_in_every_zone(
        (zone, time) in prop::sample::select(TZ_VARIANTS.as_slice()).prop_flat_map(|zone| (Just(zone), time_in(zone))),
        every in prop::sample::select(Every::ALL.as_slice()),
    ) {
        let spec = WindowSpec { every, zone };
        let window = window_at(spec, time);
        prop_assert!(window.contains(time), "{zone} {time} {window:?}");
        prop_assert_eq!(window_at(spec, window.start), window);
        prop_assert_eq!(window_at(spec, window.end.plus_us(-1)), window);
        prop_assert_eq!(window_at(spec, window.end).start, window.end);
        prop_assert_eq!(window_at(spec, window.start.plus_us(-1)).end, window.start);
        let local = zone.timestamp_micros(window.start.0).unwrap();
        if !matches!(every, Every::Minute | Every::Hour) {
            // The day begins with its date: the instant before shows an earlier one, or the clocks jumped back to this midnight.
            let before = zone.timestamp_micros(window.start.0 - 1).unwrap();
            prop_assert!(before.date_naive() < local.date_naive(), "{} {}", before, local);
        } else if local.second() != 0 {
            prop_assert!(offset(zone, window.start.0 / 1_000_000 - 1) != offset(zone, window.start.0 / 1_000_000));
        }
    }
}
