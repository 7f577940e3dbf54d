//! Circuit breakers as people write them.

use std::sync::Arc;

use crate::budget_file::field::Field;
use crate::budget_file::limit::limit_with;
use crate::budget_file::{budget_id, dimensions, scope};
use crate::{Amount, Breaker, BudgetError, DimensionSet, Limit, Measure, Mode, Scope, Surge, TimeUs, Trip};

/// The fields of a breaker.
const BREAKER: [&str; 7] = ["id", "match", "per", "trip", "open_for", "half_open", "mode"];
/// What a trip says besides its measure.
const TRIP: [&str; 5] = ["within", "times", "of", "repeats", "tag"];
/// The most trips of one breaker.
const TRIPS_MAX: usize = 16;
/// The shortest time that burn is measured over: a sender's clock and the log's are not finer than that among each other.
const WITHIN_MIN_US: i64 = TimeUs::SECOND;
/// The longest: what is slower is a budget's.
const WITHIN_MAX_US: i64 = TimeUs::HOUR;
/// The longest past that a surge is measured against, in times `within`: so much is kept for each scope.
const PAST_MAX: i64 = 60;
/// The longest time to be open or half open.
const OPEN_MAX_US: i64 = TimeUs::DAY;
const TIMES_MAX: u32 = 1_000;
const COUNT_MAX: u64 = 1_000_000_000;
/// How long a breaker is open where nothing is said: a loop is over by then, or it is one still.
const OPEN_US: i64 = TimeUs::MINUTE;
/// The trickle where nothing is said.
const TRICKLE: u64 = 5;

/// One breaker, and the field of its id.
pub(super) fn breaker<'n>(field: &Field<'n>) -> Result<(Field<'n>, Arc<Breaker>), BudgetError> {
    let members = field.members(&BREAKER, "`id` and `trip`")?;
    let id = members.required("id", "a name of its own, like `id: runaway-agents`")?;
    let matches = members.get("match").map_or(Ok(Scope::default()), |field| scope(&field))?;
    let per = members.get("per").map_or(Ok(DimensionSet::default()), |field| dimensions(&field, &matches))?;
    let like = "what opens it, like `trip: [{ requests: 600, within: 1m }]`";
    let list = members.required("trip", like)?;
    let fields = list.list("a list, like `trip: [{ requests: 600, within: 1m }]`")?;
    if let Some(extra) = fields.get(TRIPS_MAX) {
        return Err(extra.error(format!("there are more than {TRIPS_MAX}; keep fewer")));
    }
    let trips = fields.iter().map(trip).collect::<Result<Vec<_>, _>>()?;
    if trips.is_empty() {
        return Err(list.error(format!("nothing opens it; write {like}")));
    }
    let open_us = members.get("open_for").map_or(Ok(OPEN_US), |field| duration(&field, WITHIN_MIN_US, OPEN_MAX_US))?;
    let (half_open_us, trickle) =
        members.get("half_open").map_or(Ok((open_us, TRICKLE)), |field| half_open(&field, open_us))?;
    let mode = members.get("mode").map_or(Ok(Mode::Hard), |field| mode(&field))?;
    let breaker = Breaker { id: budget_id(&id)?, matches, per, trips, open_us, half_open_us, trickle, mode };
    Ok((id, Arc::new(breaker)))
}

fn half_open(field: &Field<'_>, open_us: i64) -> Result<(i64, u64), BudgetError> {
    let members = field.members(&["for", "requests"], "it like `half_open: { for: 1m, requests: 5 }`")?;
    let half_open_us = members.get("for").map_or(Ok(open_us), |field| duration(&field, WITHIN_MIN_US, OPEN_MAX_US))?;
    Ok((half_open_us, members.get("requests").map_or(Ok(TRICKLE), |field| whole(&field, COUNT_MAX))?))
}

fn mode(field: &Field<'_>) -> Result<Mode, BudgetError> {
    match field.text("hard or shadow")? {
        "hard" => Ok(Mode::Hard),
        "shadow" => Ok(Mode::Shadow),
        other => Err(field.error(format!("{other:?} is no mode of a breaker; use hard or shadow"))),
    }
}

fn trip(field: &Field<'_>) -> Result<Trip, BudgetError> {
    let like = "`{ requests: 600, within: 1m }`";
    let members = field.any_members(like)?;
    let within = members.required("within", "over which time, like `within: 1m`")?;
    let within_us = duration(&within, WITHIN_MIN_US, WITHIN_MAX_US)?;
    let surge = match (members.get("times"), members.get("of")) {
        (None, None) => None,
        (None, Some(of)) => return Err(of.error("say how many times its rate, like `times: 5`")),
        (Some(times), of) => {
            let of = of.ok_or_else(|| times.error("say of which time before, like `of: 30m`"))?;
            let of_us = duration(&of, within_us, within_us * PAST_MAX)?;
            let factor = u32::try_from(whole(&times, u64::from(TIMES_MAX))?).unwrap_or(TIMES_MAX);
            Some(Surge { times: factor, of_us })
        }
    };
    let Some(repeats) = members.get("repeats") else {
        if let Some(tag) = members.get("tag") {
            return Err(tag.error("a tag tells which requests are the same; write `repeats: 20` with it"));
        }
        return Ok(Trip { limit: limit_with(field, &TRIP)?, within_us, surge, same: None });
    };
    if let Some((_, other)) = members.iter().find(|(name, _)| !TRIP.contains(name)) {
        return Err(other.error("`repeats` counts requests; write another trip for this"));
    }
    let like = "the tag whose value is the same in identical requests, like `tag: prompt_hash`";
    let tag = members.required("tag", like)?;
    let count = whole(&repeats, COUNT_MAX)?;
    let limit = Limit::new(Measure::Requests, Amount(i128::from(count)));
    Ok(Trip { limit, within_us, surge, same: Some(tag.text(like)?.to_owned()) })
}

pub(super) fn whole(field: &Field<'_>, max: u64) -> Result<u64, BudgetError> {
    let text = field.text("a whole number, like 5")?;
    let count = text.parse().ok().filter(|count| (1..=max).contains(count));
    count.ok_or_else(|| field.error(format!("{text:?} is no number from 1 to {max}")))
}

/// A time like `30 seconds`, `5 minutes`, `1 hour`, in short `30s`, `5m`, `1h`.
pub(super) fn duration(field: &Field<'_>, min_us: i64, max_us: i64) -> Result<i64, BudgetError> {
    let text = field.text("a time, like 30s or 5m")?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let unit_us = match unit.trim_start() {
        "s" | "second" | "seconds" => TimeUs::SECOND,
        "m" | "minute" | "minutes" => TimeUs::MINUTE,
        "h" | "hour" | "hours" => TimeUs::HOUR,
        _ => return Err(field.error(format!("{text:?} is no time; write it like 30s, 5m or 1h"))),
    };
    let us = count.parse::<u32>().ok().map(|count| i64::from(count) * unit_us);
    us.filter(|us| (min_us..=max_us).contains(us)).ok_or_else(|| {
        let (min, max) = (min_us / TimeUs::SECOND, max_us / TimeUs::SECOND);
        field.error(format!("{text} is not from {min}s to {max}s"))
    })
}
