//! Calendar windows in an IANA time zone.
//!
//! Holds here: the windows of one kind tile time, without gap and without overlap, whatever a zone does with its clocks.
//! - A **day** (week, month, quarter, year) begins at the first instant at which the local calendar shows its first date or a
//!   later one. A midnight that the clocks skip begins at the first instant after it; a midnight that comes twice
//!   begins at its first coming, so a calendar that jumps back across midnight does not return to the day before.
//!   A date that a zone left out (Apia, 30 December 2011) has no window.
//! - An **hour** (minute) is one of the wall clock, cut at every change of the offset: the hour that is repeated in autumn
//!   is two windows, and a change of half an hour (Lord Howe) makes windows of half an hour.
//!
//! Deliberately absent: any cache ([`crate::tracker`] has it) and any clock.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::Tz;
use usage_types::{Every, TimeUs, Window, WindowSpec};

/// 0001-01-01T00:00:00Z and 9999-01-01T00:00:00Z: beyond these calendars are not meaningful, and chrono's arithmetic
/// between them cannot leave its range.
const TIME_MIN: i64 = -62_135_596_800 * TimeUs::SECOND;
const TIME_MAX: i64 = 253_370_764_800 * TimeUs::SECOND;

/// The window of a kind that contains a time. A time outside the years 1 to 9998 counts as the nearest inside them.
#[must_use]
pub fn window_at(spec: WindowSpec, time: TimeUs) -> Window {
    let time = TimeUs(time.0.clamp(TIME_MIN, TIME_MAX));
    match spec.every {
        Every::Minute => clock_window(spec.zone, time, TimeUs::MINUTE),
        Every::Hour => clock_window(spec.zone, time, TimeUs::HOUR),
        _ => calendar_window(spec, time),
    }
}

/// A whole unit of the wall clock around the time, cut where the offset changes within it.
fn clock_window(zone: Tz, time: TimeUs, unit_us: i64) -> Window {
    let offset = offset_us(zone, time.0);
    let local = time.0 + offset;
    let mut start = local - local.rem_euclid(unit_us) - offset;
    let mut end = start + unit_us;
    if offset_us(zone, start) != offset {
        start = first_second(start, time.0, |at| offset_us(zone, at) == offset);
    }
    if offset_us(zone, end - TimeUs::SECOND) != offset {
        end = first_second(time.0, end, |at| offset_us(zone, at) != offset);
    }
    Window { start: TimeUs(start), end: TimeUs(end), zone }
}

/// The calendar period around the time.
fn calendar_window(spec: WindowSpec, time: TimeUs) -> Window {
    let zone = spec.zone;
    let local_date = local(zone, time.0).date();
    let mut first = first_date(spec.every, local_date);
    let mut start = first_instant(zone, first);
    // The local date is not always that of the window: after a jump back across midnight it is the day before.
    while time.0 < start {
        first = first_date(spec.every, first.pred_opt().unwrap_or(NaiveDate::MIN));
        start = first_instant(zone, first);
    }
    loop {
        let next = next_first_date(spec.every, first);
        let end = first_instant(zone, next);
        if time.0 < end {
            return Window { start: TimeUs(start), end: TimeUs(end), zone };
        }
        (first, start) = (next, end);
    }
}

/// The first date of the period that a date is in.
fn first_date(every: Every, date: NaiveDate) -> NaiveDate {
    let day_one = |month| NaiveDate::from_ymd_opt(date.year(), month, 1).unwrap_or(date);
    match every {
        Every::Week => {
            date.checked_sub_days(Days::new(u64::from(date.weekday().num_days_from_monday()))).unwrap_or(date)
        }
        Every::Month => day_one(date.month()),
        Every::Quarter => day_one(date.month0() / 3 * 3 + 1),
        Every::Year => day_one(1),
        Every::Day | Every::Hour | Every::Minute => date,
    }
}

/// The first date of the period after the one that begins on `first`.
fn next_first_date(every: Every, first: NaiveDate) -> NaiveDate {
    let next = match every {
        Every::Week => first.checked_add_days(Days::new(7)),
        Every::Month => first.checked_add_months(Months::new(1)),
        Every::Quarter => first.checked_add_months(Months::new(3)),
        Every::Year => first.checked_add_months(Months::new(12)),
        Every::Day | Every::Hour | Every::Minute => first.succ_opt(),
    };
    next.unwrap_or(NaiveDate::MAX)
}

/// The first instant at which the zone's calendar shows the date, or a later one where it leaves the date out.
fn first_instant(zone: Tz, date: NaiveDate) -> i64 {
    let midnight = date.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&midnight).earliest() {
        Some(instant) => instant.timestamp_micros(),
        None => {
            // The clocks skip this midnight. The jump lies between where it would be by the offset after and by the one before.
            let naive = midnight.and_utc().timestamp_micros();
            let before = offset_us(zone, naive - 2 * TimeUs::DAY);
            let after = offset_us(zone, naive + 2 * TimeUs::DAY);
            first_second(naive - before.max(after), naive - before.min(after), |at| local(zone, at) >= midnight)
        }
    }
}

/// The first whole second in `(low, high]` from which `holds` holds; it does at `high` and not at `low`, or is true
/// throughout. Offsets change at whole seconds in all of the IANA data.
fn first_second(low: i64, high: i64, holds: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (low.div_euclid(TimeUs::SECOND), -(-high).div_euclid(TimeUs::SECOND));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle * TimeUs::SECOND) { high = middle } else { low = middle }
    }
    high * TimeUs::SECOND
}

fn utc_naive(time_us: i64) -> NaiveDateTime {
    TimeUs(time_us).to_utc().naive_utc()
}

fn offset_us(zone: Tz, time_us: i64) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&utc_naive(time_us)).fix().local_minus_utc()) * TimeUs::SECOND
}

fn local(zone: Tz, time_us: i64) -> NaiveDateTime {
    utc_naive(time_us + offset_us(zone, time_us))
}
