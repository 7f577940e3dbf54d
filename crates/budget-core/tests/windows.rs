//! Windows tile time, whatever a zone does with its clocks.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside a test function")]

mod common;

use budget_core::window::window_at;
use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use common::at;
use proptest::prelude::*;
use usage_types::{Anchor, Every, TimeUs, WindowSpec};

fn spec(every: Every, zone: &str) -> WindowSpec {
    WindowSpec::calendar(every, zone.parse().unwrap())
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

#[track_caller]
fn check_anchored(every: Every, anchor: (u8, u8, u16), zone: &str, time: &str, start: &str, end: &str) {
    let anchor = Anchor { month: anchor.0, day: anchor.1, minute: anchor.2 };
    let window = window_at(WindowSpec::anchored(every, anchor, zone.parse().unwrap()), at(time));
    assert_eq!((window.start.to_string(), window.end.to_string()), (start.to_owned(), end.to_owned()), "{zone} {time}");
}

#[test]
fn a_month_begins_on_its_anchor_day_or_its_last() {
    let month = |day, time, start, end| check_anchored(Every::Month, (0, day, 0), "UTC", time, start, end);
    month(15, "2026-11-14T23:59:59Z", "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z");
    month(15, "2026-11-15T00:00:00Z", "2026-11-15T00:00:00Z", "2026-12-15T00:00:00Z");
    // 31 is the last day of a shorter month, and the 31st again in the next.
    month(31, "2026-02-27T12:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z");
    month(31, "2026-02-28T12:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z");
    month(31, "2028-02-28T12:00:00Z", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z");
    month(30, "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z", "2028-03-30T00:00:00Z");
    month(29, "2026-03-01T12:00:00Z", "2026-02-28T00:00:00Z", "2026-03-29T00:00:00Z");
    check_anchored(
        Every::Month,
        (0, 31, 0),
        "Europe/Berlin",
        "2026-03-31T12:00:00Z",
        "2026-03-30T22:00:00Z",
        "2026-04-29T22:00:00Z",
    );
}

#[test]
fn weeks_quarters_and_years_begin_on_their_anchor() {
    let time = "2026-11-21T12:00:00Z"; // A Saturday.
    for (every, anchor, start, end) in [
        (Every::Week, (0, 7, 0), "2026-11-15T00:00:00Z", "2026-11-22T00:00:00Z"),
        (Every::Week, (0, 6, 0), "2026-11-21T00:00:00Z", "2026-11-28T00:00:00Z"),
        (Every::Quarter, (1, 15, 0), "2026-11-15T00:00:00Z", "2027-02-15T00:00:00Z"),
        (Every::Quarter, (2, 1, 0), "2026-09-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        (Every::Year, (3, 6, 0), "2026-04-06T00:00:00Z", "2027-04-06T00:00:00Z"),
        (Every::Year, (10, 22, 0), "2025-11-22T00:00:00Z", "2026-11-22T00:00:00Z"),
    ] {
        check_anchored(every, anchor, "UTC", time, start, end);
    }
    // 29 February of a common year is its last day.
    check_anchored(Every::Year, (1, 29, 0), "UTC", time, "2026-02-28T00:00:00Z", "2027-02-28T00:00:00Z");
    check_anchored(
        Every::Year,
        (1, 29, 0),
        "UTC",
        "2028-02-28T12:00:00Z",
        "2027-02-28T00:00:00Z",
        "2028-02-29T00:00:00Z",
    );
}

#[test]
fn a_day_may_begin_at_a_time_that_the_clocks_skip_or_repeat() {
    let day = |minute, time, start, end| check_anchored(Every::Day, (0, 1, minute), "Europe/Berlin", time, start, end);
    day(360, "2026-11-21T04:59:59Z", "2026-11-20T05:00:00Z", "2026-11-21T05:00:00Z");
    day(360, "2026-11-21T05:00:00Z", "2026-11-21T05:00:00Z", "2026-11-22T05:00:00Z");
    // 02:30 is skipped on 29 March: 03:00 follows 02:00. On 25 October it comes twice, and the first counts.
    day(150, "2026-03-29T00:59:59Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z");
    day(150, "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
    day(150, "2026-10-25T01:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
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

type Spec = (Every, Anchor, Tz);

/// Every kind of calendar window, half of them with an anchor.
fn spec_in(zone: Tz) -> impl Strategy<Value = Spec> {
    let day = prop_oneof![1..=31_u8, 28..=31_u8];
    let anchor = prop::option::of((0..12_u8, day, prop_oneof![Just(0), Just(150), 0..1440_u16]));
    (prop::sample::select(Every::ALL.as_slice()), anchor).prop_map(move |(every, anchor)| {
        let (month, day, minute) = anchor.unwrap_or((0, 1, 0));
        let anchor = match every {
            Every::Minute | Every::Hour => Anchor::default(),
            Every::Day => Anchor { minute, ..Anchor::default() },
            Every::Week => Anchor { month: 0, day: (day - 1) % 7 + 1, minute },
            Every::Month => Anchor { month: 0, day, minute },
            Every::Quarter => Anchor { month: month % 3, day, minute },
            Every::Year => Anchor { month, day, minute },
        };
        (every, anchor, zone)
    })
}

/// Places where clocks do what they rarely do: half an hour, a left-out date, jumps at midnight, many changes; then any zone.
fn zone_and_time() -> impl Strategy<Value = (Tz, TimeUs)> {
    let awkward = [
        chrono_tz::Australia::Lord_Howe,
        chrono_tz::Pacific::Apia,
        chrono_tz::America::St_Johns,
        chrono_tz::Africa::Cairo,
        chrono_tz::Africa::Casablanca,
        chrono_tz::Asia::Beirut,
    ];
    prop_oneof![prop::sample::select(awkward.to_vec()), prop::sample::select(TZ_VARIANTS.as_slice())]
        .prop_flat_map(|zone| (Just(zone), time_in(zone)))
}

fn local(zone: Tz, second: i64) -> NaiveDateTime {
    zone.timestamp_opt(second, 0).unwrap().naive_local()
}

/// Whether a period begins on a date, told from that date alone.
fn begins_on((every, anchor, _): Spec, date: NaiveDate) -> bool {
    let is_last = (date + Days::new(1)).month() != date.month();
    let is_day = date.day() == u32::from(anchor.day) || is_last && date.day() < u32::from(anchor.day);
    let month = u32::from(anchor.month);
    match every {
        Every::Day => true,
        Every::Week => date.weekday().number_from_monday() == u32::from(anchor.day),
        Every::Month => is_day,
        Every::Quarter => is_day && date.month0() % 3 == month,
        Every::Year => is_day && date.month0() == month,
        Every::Minute | Every::Hour => unreachable!("those are cut by the clock"),
    }
}

/// The first second at which the zone shows this date and time or a later one, found by looking at each minute and then each second.
fn first_second_showing(zone: Tz, wanted: NaiveDateTime) -> i64 {
    let around = wanted.and_utc().timestamp();
    let minute = (around - 26 * 3600..).step_by(60).find(|at| local(zone, *at) >= wanted).unwrap();
    (minute - 60..).find(|at| local(zone, *at) >= wanted).unwrap()
}

/// The window as the rules have it, by looking at dates one after the other: the last beginning up to now, and the next one.
fn naive_window(spec @ (every, anchor, zone): Spec, time: TimeUs) -> (i64, i64) {
    let second = time.0.div_euclid(TimeUs::SECOND);
    let unit = match every {
        Every::Minute => 60,
        Every::Hour => 3600,
        _ => {
            let at = NaiveTime::MIN + TimeDelta::minutes(i64::from(anchor.minute));
            let today = local(zone, second).date();
            // Two days on either side, for a date that is left out and a clock that goes back.
            let earlier = (0..).map(|days| today - Days::new(days)).filter(|date| begins_on(spec, *date)).take(3);
            let later = (1..).map(|days| today + Days::new(days)).filter(|date| begins_on(spec, *date)).take(3);
            let begins = earlier.chain(later).map(|date| first_second_showing(zone, date.and_time(at)));
            let (before, after): (Vec<i64>, Vec<i64>) = begins.partition(|begin| *begin <= second);
            return (before.into_iter().max().unwrap(), after.into_iter().min().unwrap());
        }
    };
    let begins =
        |at: &i64| offset(zone, *at) != offset(zone, *at - 1) || (local(zone, *at).and_utc().timestamp()) % unit == 0;
    ((second - 7_200..=second).rev().find(begins).unwrap(), (second + 1..).find(begins).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn windows_tile_time_in_every_zone(
        (spec, time) in zone_and_time().prop_flat_map(|(zone, time)| (spec_in(zone), Just(time))),
    ) {
        let (every, anchor, zone) = spec;
        let spec = WindowSpec::anchored(every, anchor, zone);
        let window = window_at(spec, time);
        prop_assert!(window.contains(time), "{zone} {time} {window:?}");
        prop_assert_eq!(window_at(spec, window.start), window);
        prop_assert_eq!(window_at(spec, window.end.plus_us(-1)), window);
        prop_assert_eq!(window_at(spec, window.end).start, window.end);
        prop_assert_eq!(window_at(spec, window.start.plus_us(-1)).end, window.start);
        let local = zone.timestamp_micros(window.start.0).unwrap();
        if matches!(every, Every::Minute | Every::Hour) && local.second() != 0 {
            prop_assert!(offset(zone, window.start.0 / 1_000_000 - 1) != offset(zone, window.start.0 / 1_000_000));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn windows_are_those_that_a_reader_of_the_calendar_finds(
        (spec, time) in zone_and_time().prop_flat_map(|(zone, time)| (spec_in(zone), Just(time))),
    ) {
        let window = window_at(WindowSpec::anchored(spec.0, spec.1, spec.2), time);
        let seconds = |time: TimeUs| time.0 / TimeUs::SECOND;
        prop_assert_eq!((seconds(window.start), seconds(window.end)), naive_window(spec, time), "{} {:?}", time, spec);
    }
}
