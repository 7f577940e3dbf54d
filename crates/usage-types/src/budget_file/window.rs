//! The window of a budget: `window: { every: month, anchor: 15, at: "06:00", zone: Europe/Berlin }`.

use chrono_tz::{TZ_VARIANTS, Tz};

use crate::budget_file::field::{Field, Members, nearest};
use crate::{Anchor, BudgetError, Every, WindowSpec};

const LIKE: &str = "it like `window: { every: day, zone: Europe/Berlin }`";
const WINDOW: [&str; 4] = ["every", "anchor", "at", "zone"];

/// The longest that a month can be, from January on. Of a leap year, because a day that a month lacks means its last.
const DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

pub(super) fn window(field: &Field<'_>) -> Result<WindowSpec, BudgetError> {
    let members = field.members(&WINDOW, LIKE)?;
    let zone = members.get("zone").map_or(Ok(Tz::UTC), |field| zone(&field))?;
    let every = members.required("every", "it like `every: day`")?;
    let every = every.text("a window like day")?.parse::<Every>().map_err(|message| every.error(message))?;
    Ok(WindowSpec { every, anchor: anchor(&members, every)?, zone })
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
            Every::Day => return Err(field.error("a day has no anchor; to begin it at another time write `at: \"06:00\"`")),
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
        field.error(format!("{text:?} is no day of a month; write 1 to 31, where 31 is the last day of a shorter month"))
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
