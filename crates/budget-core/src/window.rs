//! The bounds of windows: those of the calendar in an IANA time zone, and the buckets of those that move.
//!
//! Holds here: the windows of one kind tile time, without gap and without overlap, whatever a zone does with its clocks.
//! - A **day** (week, month, quarter, year) begins at the first instant at which the local calendar shows its first date or a
//!   later one. With an anchor that date is another one of the period (its last where the month is too short), and with a time of day it is the
//!   first instant at which date and clock show it. A midnight that the clocks skip begins at the first instant after it; a midnight that comes twice
//!   begins at its first coming, so a calendar that jumps back across midnight does not return to the day before.
//!   A date that a zone left out (Apia, 30 December 2011) has no window.
//! - An **hour** (minute) is one of the wall clock, cut at every change of the offset: the hour that is repeated in autumn
//!   is two windows, and a change of half an hour (Lord Howe) makes windows of half an hour.
//!
//! Deliberately absent: any cache ([`crate::tracker`] has it) and any clock.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
use usage_types::{Anchor, Bounds, Every, TimeUs, Window, WindowSpec};

use crate::moving::Moving;

/// 0001-01-01T00:00:00Z and 9999-01-01T00:00:00Z: beyond these calendars are not meaningful, and chrono's arithmetic
/// between them cannot leave its range.
const TIME_MIN: i64 = -62_135_596_800 * TimeUs::SECOND;
const TIME_MAX: i64 = 253_370_764_800 * TimeUs::SECOND;

/// The window of a kind that contains a time. A time outside the years 1 to 9998 counts as the nearest inside them. Of a kind that moves
/// what can count at that time: up to the end of its bucket.
#[must_use]
pub fn window_at(spec: WindowSpec, time: TimeUs) -> Window {
    let cell = cell_at(spec, time);
    Moving::of(spec).map_or(cell, |moving| Window { start: moving.first(cell.start), ..cell })
}

/// What a tracker keeps one balance of a scope for: a window of the calendar, or a bucket of a window that moves.
pub(crate) fn cell_at(spec: WindowSpec, time: TimeUs) -> Window {
    let time = TimeUs(time.0.clamp(TIME_MIN, TIME_MAX));
    match spec.bounds {
        Bounds::Calendar { every: Every::Minute, .. } => clock_window(spec.zone, time, TimeUs::MINUTE),
        Bounds::Calendar { every: Every::Hour, .. } => clock_window(spec.zone, time, TimeUs::HOUR),
        Bounds::Calendar { every, anchor } => calendar_window(every, anchor, spec.zone, time),
        Bounds::Rolling(_) | Bounds::Lifetime { .. } => bucket(spec, time),
    }
}

fn bucket(spec: WindowSpec, time: TimeUs) -> Window {
    let (start, end) = Moving::of(spec).map_or((time, time), |moving| {
        let start = moving.bucket(time);
        (start, moving.after(start, 1))
    });
    Window { start, end, zone: spec.zone }
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
fn calendar_window(every: Every, anchor: Anchor, zone: Tz, time: TimeUs) -> Window {
    let at = NaiveTime::MIN + TimeDelta::minutes(i64::from(anchor.minute));
    let local_date = local(zone, time.0).date();
    let mut first = first_date(every, anchor, local_date);
    let mut start = first_instant(zone, first, at);
    // The period is not always that of the local date: before its time of day it is the one before, and so it is after a jump back across it.
    while time.0 < start {
        first = first_date(every, anchor, first.pred_opt().unwrap_or(NaiveDate::MIN));
        start = first_instant(zone, first, at);
    }
    loop {
        let next = next_first_date(every, anchor, first);
        let end = first_instant(zone, next, at);
        if time.0 < end {
            return Window { start: TimeUs(start), end: TimeUs(end), zone };
        }
        (first, start) = (next, end);
    }
}

/// The first date of the period that a date is in.
fn first_date(every: Every, anchor: Anchor, date: NaiveDate) -> NaiveDate {
    let months = match every {
        Every::Month => 1,
        Every::Quarter => 3,
        Every::Year => 12,
        Every::Week => {
            let days = (date.weekday().number_from_monday() + 7 - u32::from(anchor.day.clamp(1, 7))) % 7;
            return date.checked_sub_days(Days::new(u64::from(days))).unwrap_or(date);
        }
        Every::Day | Every::Hour | Every::Minute => return date,
    };
    // The month of this year's calendar in which a period begins, and the period before where that has not come to its day.
    let back = (date.month0() + 12 - u32::from(anchor.month)) % months;
    let begins = |back| month_day(date.with_day(1).unwrap_or(date).checked_sub_months(Months::new(back)), anchor.day);
    let first = begins(back);
    if first <= date { first } else { begins(back + months) }
}

/// The first date of the period after the one that begins on `first`.
fn next_first_date(every: Every, anchor: Anchor, first: NaiveDate) -> NaiveDate {
    let months_on =
        |months| month_day(first.with_day(1).unwrap_or(first).checked_add_months(Months::new(months)), anchor.day);
    match every {
        Every::Week => first.checked_add_days(Days::new(7)).unwrap_or(NaiveDate::MAX),
        Every::Month => months_on(1),
        Every::Quarter => months_on(3),
        Every::Year => months_on(12),
        Every::Day | Every::Hour | Every::Minute => first.succ_opt().unwrap_or(NaiveDate::MAX),
    }
}

/// A day of a month that is given by its first: the last one where it is shorter.
fn month_day(first: Option<NaiveDate>, day: u8) -> NaiveDate {
    let first = first.unwrap_or(NaiveDate::MAX);
    let last = u32::from(first.num_days_in_month());
    first.with_day(u32::from(day).clamp(1, last)).unwrap_or(first)
}

/// The first instant at which the zone's calendar and clock show the date and time, or later ones where they leave it out.
fn first_instant(zone: Tz, date: NaiveDate, at: NaiveTime) -> i64 {
    let wanted = date.and_time(at);
    match zone.from_local_datetime(&wanted).earliest() {
        Some(instant) => instant.timestamp_micros(),
        None => {
            // The clocks skip it. The jump lies between where it would be by the offset after and by the one before.
            let naive = wanted.and_utc().timestamp_micros();
            let before = offset_us(zone, naive - 2 * TimeUs::DAY);
            let after = offset_us(zone, naive + 2 * TimeUs::DAY);
            first_second(naive - before.max(after), naive - before.min(after), |at| local(zone, at) >= wanted)
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
