//! Events and time zones that tests use.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike as _, Duration, Timelike as _, Utc};
use chrono_tz::Tz;
use serde_json::{Value, json};

/// A native event of now: only what is required, and so many input tokens.
pub fn event(id: &str, namespace: &str, tokens: u64) -> Value {
    json!({"id": id, "time": now(), "namespace": namespace, "tokens": {"input": tokens}})
}

/// The same with further members.
pub fn event_with(id: &str, namespace: &str, tokens: u64, more: Value) -> Value {
    let mut event = event(id, namespace, tokens);
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// The time now, as RFC 3339.
pub fn now() -> String {
    Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A zone in which no midnight is near, so that a test never runs over the end of a day. One for the whole process: a test that asks twice
/// gets the same zone, whatever the hour has become.
pub fn zone_without_midnight() -> Tz {
    static ZONE: LazyLock<Tz> = LazyLock::new(|| {
        let is_calm = |zone: &Tz| (3..21).contains(&Utc::now().with_timezone(zone).hour());
        [Tz::UTC, Tz::Asia__Tokyo, Tz::America__Los_Angeles].into_iter().find(is_calm).unwrap()
    });
    *ZONE
}

/// A zone in which no full hour is near: one of two that are half an hour apart.
pub fn zone_without_full_hour() -> Tz {
    let is_calm = |zone: &Tz| (5..50).contains(&Utc::now().with_timezone(zone).minute());
    [Tz::UTC, Tz::Asia__Kolkata].into_iter().find(is_calm).unwrap()
}

/// Waits for the next month, in UTC, where this one ends within so long. What is tracked without a budget is shown for the present month,
/// and reports are of one: a test that ran over the end of it would look for its events in the wrong one.
pub fn let_the_month_end(margin: Duration) {
    while (Utc::now() + margin).month() != Utc::now().month() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// The month of a report that holds a time, as `YYYY-MM` in UTC.
pub fn month(time: DateTime<Utc>) -> String {
    time.format("%Y-%m").to_string()
}

/// Seconds from now until a time in RFC 3339.
pub fn seconds_until(time: &str) -> i64 {
    let end = DateTime::parse_from_rfc3339(time).unwrap();
    (end.with_timezone(&Utc) - Utc::now()).max(Duration::zero()).num_seconds()
}
