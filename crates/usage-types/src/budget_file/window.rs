//! The window of a budget: `window: { every: month, anchor: 15, at: "06:00", zone: Europe/Berlin }`.

use chrono_tz::{TZ_VARIANTS, Tz};

use crate::budget_file::field::{Field, Members, nearest};
use crate::{Anchor, Bounds, BudgetError, Dimension, DimensionSet, Every, Span, WindowSpec};

const LIKE: &str = "it like `window: { every: day, zone: Europe/Berlin }`";
const WINDOW: [&str; 7] = ["every", "rolling", "lifetime", "anchor", "at", "idle", "zone"];

/// The longest rolling window, in minutes: 366 days, which is as much history as a year has.
const ROLLING_MAX: u32 = 366 * 24 * 60;
/// The longest idle time of a lifetime, in minutes: a week. Thirty times of it count.
const IDLE_MAX: u32 = 7 * 24 * 60;

/// The longest that a month can be, from January on. Of a leap year, because a day that a month lacks means its last.
const DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// `dims` are the dimensions of the budget's scopes.
pub(super) fn window(field: &Field<'_>, dims: DimensionSet) -> Result<WindowSpec, BudgetError> {
    let members = field.members(&WINDOW, LIKE)?;
    let zone = members.get("zone").map_or(Ok(Tz::UTC), |field| zone(&field))?;
    let kinds: Vec<&str> = WINDOW[..3].iter().copied().filter(|kind| members.get(kind).is_some()).collect();
    if let ([first, _, ..], Some(second)) = (kinds.as_slice(), kinds.get(1).and_then(|kind| members.get(kind))) {
        let message = format!("`{first}` and `{}` are both there; a window is one of them", kinds[1]);
        return Err(second.error(message));
    }
    let only = |name: &str, kind: &str| match members.get(name) {
        Some(field) => Err(field.error(format!("only windows with `{kind}` have this; take `{name}` out"))),
        None => Ok(()),
    };
    if kinds.first().is_some_and(|kind| *kind != "every") {
        only("anchor", "every")?;
        only("at", "every")?;
    }
    if let Some(field) = members.get("lifetime") {
        let of = lives(&field, dims)?;
        let like = "how long it must be idle to be over, like `idle: 24 hours`";
        let idle = span(&members.required("idle", like)?, IDLE_MAX)?;
        return Ok(WindowSpec { bounds: Bounds::Lifetime { of, idle }, zone });
    }
    only("idle", "lifetime")?;
    if let Some(field) = members.get("rolling") {
        return Ok(WindowSpec::rolling(span(&field, ROLLING_MAX)?, zone));
    }
    let every = members.required("every", "it like `every: day`")?;
    let every = every.text("a window like day")?.parse::<Every>().map_err(|message| every.error(message))?;
    Ok(WindowSpec::anchored(every, anchor(&members, every)?, zone))
}

/// What has a lifetime, which must be a part of each scope: or one budget would have many lifetimes at a time.
fn lives(field: &Field<'_>, dims: DimensionSet) -> Result<Dimension, BudgetError> {
    const LIVES: [Dimension; 3] = [Dimension::Session, Dimension::Task, Dimension::Job];
    let name = field.text("what lives, like session")?;
    let of = LIVES.into_iter().find(|of| of.name() == name);
    let of = of.ok_or_else(|| field.error(format!("{name:?} has no lifetime; use session, task or job")))?;
    if dims.contains(of) {
        return Ok(of);
    }
    Err(field.error(format!("the budget has no balance of its own for each `{of}`; add it to `per`")))
}

/// Like `90 minutes`, `1 hour` or `30 days`, or in short `90m`, `1h`, `30d`; whole numbers.
fn span(field: &Field<'_>, minutes_max: u32) -> Result<Span, BudgetError> {
    let text = field.text("a length of time, like 90 minutes")?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "m" | "minute" | "minutes" => 1,
        "h" | "hour" | "hours" => 60,
        "d" | "day" | "days" => 24 * 60,
        _ => {
            let message =
                format!("{text:?} is no length of time; write a number of minutes, hours or days, like 90 minutes");
            return Err(field.error(message));
        }
    };
    let minutes = count.parse::<u32>().ok().and_then(|count| count.checked_mul(unit));
    minutes.filter(|minutes| (1..=minutes_max).contains(minutes)).map(Span::minutes).ok_or_else(|| {
        let max = Span::minutes(minutes_max);
        field.error(format!("{text} is not between 1 minute and {max}; write a length in these bounds"))
    })
}

fn zone(field: &Field<'_>) -> Result<Tz, BudgetError> {
    let name = field.text("a time zone like Europe/Berlin")?;
    name.parse().map_err(|_| {
        let near = nearest(name, TZ_VARIANTS.iter().map(|zone| zone.name()));
        let hint =
            near.map_or("write one like Europe/Berlin or UTC".to_owned(), |near| format!("did you mean {near}?"));
        field.error(format!("{name:?} is no IANA time zone; {hint}"))
    })
}

fn anchor(members: &Members<'_>, every: Every) -> Result<Anchor, BudgetError> {
    let mut anchor = Anchor::default();
    if let Some(field) = members.get("anchor") {
        match every {
            Every::Week => anchor.day = weekday(&field)?,
            Every::Month => anchor.day = day_of_month(&field)?,
            Every::Quarter | Every::Year => {
                let (month, day) = month_and_day(&field)?;
                // A quarter may begin in any month; the other three follow from it.
                anchor.month = if every == Every::Quarter { (month - 1) % 3 } else { month - 1 };
                anchor.day = day;
            }
            Every::Day => {
                return Err(field.error("a day has no anchor; to begin it at another time write `at: \"06:00\"`"));
            }
            Every::Minute | Every::Hour => return Err(field.error(of_the_clock("anchor", every))),
        }
    }
    if let Some(field) = members.get("at") {
        if matches!(every, Every::Minute | Every::Hour) {
            return Err(field.error(of_the_clock("at", every)));
        }
        anchor.minute = time_of_day(&field)?;
    }
    Ok(anchor)
}

fn of_the_clock(name: &str, every: Every) -> String {
    format!("the windows of `every: {}` begin with those of the clock; take `{name}` out", every.name())
}

fn weekday(field: &Field<'_>) -> Result<u8, BudgetError> {
    let name = field.text("a day of the week, like sunday")?;
    let at = Anchor::WEEKDAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    // Seven of them.
    at.map(|at| at as u8 + 1).ok_or_else(|| {
        let days = Anchor::WEEKDAYS.join(", ");
        field.error(format!("{name:?} is no day on which a week can begin; use one of {days}"))
    })
}

fn day_of_month(field: &Field<'_>) -> Result<u8, BudgetError> {
    let text = field.text("a day of the month, like 15")?;
    text.parse().ok().filter(|day| (1..=31).contains(day)).ok_or_else(|| {
        field
            .error(format!("{text:?} is no day of a month; write 1 to 31, where 31 is the last day of a shorter month"))
    })
}

fn month_and_day(field: &Field<'_>) -> Result<(u8, u8), BudgetError> {
    let text = field.text("a month and a day, like 04-06 for 6 April")?;
    let parts = text.split_once('-').and_then(|(month, day)| Some((two_digits(month)?, two_digits(day)?)));
    let exists = |(month, day): &(u8, u8)| {
        let days = usize::from(*month).checked_sub(1).and_then(|at| DAYS.get(at));
        *day >= 1 && days.is_some_and(|days| day <= days)
    };
    parts.filter(exists).ok_or_else(|| {
        field.error(format!("{text:?} is no date of a year; write the month and the day, like 04-06 for 6 April"))
    })
}

fn time_of_day(field: &Field<'_>) -> Result<u16, BudgetError> {
    let text = field.text("a time of day, like \"06:00\"")?;
    let parts = text.split_once(':').and_then(|(hour, minute)| Some((two_digits(hour)?, two_digits(minute)?)));
    let time = parts.filter(|(hour, minute)| *hour < 24 && *minute < 60);
    time.map(|(hour, minute)| u16::from(hour) * 60 + u16::from(minute)).ok_or_else(|| {
        field.error(format!("{text:?} is no time of day; write hours and minutes from \"00:00\" to \"23:59\""))
    })
}

fn two_digits(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}
