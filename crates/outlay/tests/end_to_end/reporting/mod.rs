//! Every report's numbers against a recomputation from the events, through HTTP on a real server.

mod history;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeZone, Utc};
use serde_json::{Map, Value, json};

use crate::common::Server;
use crate::common::events::month;
use history::{Fact, PRICES, decimal, tell};

/// A row by the names of its columns.
type Row = Map<String, Value>;
/// The values that a row is grouped by, null where there is none.
type Key = Vec<Option<String>>;
/// Compares a report with the facts.
type Check = fn(&Server, &[Fact]);

fn start(dir: &std::path::Path) -> Server {
    let prices = dir.join("prices.yaml");
    std::fs::write(&prices, PRICES).unwrap();
    Server::start(&dir.join("data"), &["--prices", prices.to_str().unwrap()])
}

fn report(server: &Server, name: &str, parameters: &str) -> Vec<Row> {
    let answer = server.get(&format!("/v1/reports/{name}?{parameters}&format=json")).expect(200);
    serde_json::from_slice(&answer.body).unwrap()
}

/// The facts of a half-open time.
fn within(facts: &[Fact], from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<&Fact> {
    facts.iter().filter(|fact| from <= fact.time && fact.time < to).collect()
}

fn day(year: i32, month: u32, day: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(year, month, day, 0, 0, 0).unwrap()
}

/// March of 2026, in UTC.
fn march(facts: &[Fact]) -> Vec<&Fact> {
    within(facts, day(2026, 3, 1), day(2026, 4, 1))
}

fn key(fact: &Fact, dimensions: &[&str]) -> Key {
    dimensions.iter().map(|dimension| fact.of(dimension).map(str::to_owned)).collect()
}

fn currency(fact: &Fact) -> Option<String> {
    fact.cost.as_ref().map(|(_, currency)| currency.clone())
}

fn grouped<'a, K: Ord>(facts: &[&'a Fact], key: impl Fn(&Fact) -> K) -> BTreeMap<K, Vec<&'a Fact>> {
    let mut groups: BTreeMap<K, Vec<&Fact>> = BTreeMap::new();
    facts.iter().for_each(|fact| groups.entry(key(fact)).or_default().push(fact));
    groups
}

fn sum(facts: &[&Fact], of: impl Fn(&Fact) -> i128) -> i128 {
    facts.iter().map(|fact| of(fact)).sum()
}

fn events(facts: &[&Fact]) -> i128 {
    sum(facts, |fact| i128::from(!fact.is_adjustment))
}

fn unpriced(facts: &[&Fact]) -> i128 {
    sum(facts, |fact| i128::from(fact.cost.is_none()))
}

/// The cost; null where nothing has one.
fn cost(facts: &[&Fact]) -> Option<i128> {
    facts.iter().filter_map(|fact| fact.cost.as_ref().map(|(amount, _)| *amount)).reduce(|a, b| a + b)
}

fn money(cost: Option<i128>) -> Value {
    cost.map_or(Value::Null, |cost| decimal(cost, 12).into())
}

/// A quotient of costs as SQL has it: four digits more than the cost, cut off.
fn each(cost: Option<i128>, count: i128) -> Value {
    match cost {
        Some(cost) if count != 0 => decimal(cost * 10_000 / count, 16).into(),
        _ => Value::Null,
    }
}

/// A ratio with two digits after the point, half away from zero.
fn rounded(numerator: i128, denominator: i128) -> Value {
    if denominator == 0 {
        return Value::Null;
    }
    let (a, b) = (numerator.abs() * 200, denominator.abs());
    let hundredths = (a / b + 1) / 2;
    decimal(if (numerator < 0) != (denominator < 0) { -hundredths } else { hundredths }, 2).into()
}

fn percent(part: i128, whole: i128) -> Value {
    rounded(part * 100, whole)
}

fn sessions(facts: &[&Fact]) -> BTreeSet<(String, String)> {
    let used = facts.iter().filter(|fact| !fact.is_adjustment);
    used.filter_map(|fact| Some((fact.of("namespace")?.to_owned(), fact.of("session")?.to_owned()))).collect()
}

fn row(dimensions: &[&str], key: &[Option<String>], columns: Value) -> Row {
    let mut row: Row = dimensions.iter().zip(key).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    row.extend(columns.as_object().unwrap().clone());
    row
}

/// Both have the same rows, whatever their order.
#[track_caller]
fn assert_same(what: &str, actual: &[Row], expected: &[Row]) {
    let text = |rows: &[Row]| -> BTreeSet<String> {
        let sorted =
            |row: &Row| row.iter().collect::<BTreeMap<_, _>>().iter().map(|(k, v)| format!("{k}={v} ")).collect();
        rows.iter().map(sorted).collect()
    };
    let (found, wanted) = (text(actual), text(expected));
    let surplus: Vec<_> = found.difference(&wanted).take(3).collect();
    let missing: Vec<_> = wanted.difference(&found).take(3).collect();
    assert!(surplus.is_empty() && missing.is_empty(), "{what}: surplus {surplus:#?} missing {missing:#?}");
    assert_eq!(actual.len(), expected.len(), "{what}");
    assert!(!actual.is_empty(), "{what} is empty");
}

fn cost_reports(server: &Server, facts: &[Fact]) {
    let march = march(facts);
    for dimensions in [&["namespace", "team"][..], &["user", "model"], &["session"], &[]] {
        let groups = grouped(&march, |fact| (key(fact, dimensions), currency(fact)));
        let tokens = |facts: &[&Fact], class: usize| sum(facts, |fact| fact.tokens[class]) as i64;
        let expected: Vec<Row> = groups.iter().map(|((key, currency), facts)| row(dimensions, key, json!({
            "currency": currency, "events": events(facts) as i64, "requests": sum(facts, |fact| fact.requests) as i64,
            "input_tokens": tokens(facts, 0), "cache_read_tokens": tokens(facts, 1), "cache_write_5m_tokens": tokens(facts, 2),
            "cache_write_1h_tokens": tokens(facts, 3), "output_tokens": tokens(facts, 4), "reasoning_tokens": tokens(facts, 5),
            "total_tokens": sum(facts, Fact::total) as i64, "tool_calls": sum(facts, |fact| fact.tool_calls) as i64,
            "compute_seconds": "0", "direct_cost": money(cost(facts)), "allocated_cost": "0", "cost": money(cost(facts)),
            "unpriced_events": unpriced(facts) as i64,
        }))).collect();
        let list = dimensions.join(",");
        let actual = report(server, "chargeback", &format!("period=2026-03&group_by={list}"));
        assert_same(&format!("chargeback by {list}"), &actual, &expected);
    }

    // Days nine hours ahead, of a week that both months have a part in.
    let zone = chrono_tz::Asia::Tokyo;
    let monday = zone.with_ymd_and_hms(2026, 2, 23, 0, 0, 0).unwrap().to_utc();
    let week = within(facts, monday, monday + chrono::Duration::days(7));
    let groups =
        grouped(&week, |fact| (fact.time.with_timezone(&zone).date_naive(), key(fact, &["team"]), currency(fact)));
    let expected: Vec<Row> = groups.iter().map(|((day, key, currency), facts)| row(&["team"], key, json!({
        "day": day.to_string(), "currency": currency, "events": events(facts) as i64, "requests": sum(facts, |fact| fact.requests) as i64,
        "total_tokens": sum(facts, Fact::total) as i64, "cost": money(cost(facts)), "unpriced_events": unpriced(facts) as i64,
    }))).collect();
    assert_same("showback", &report(server, "showback", "period=2026-W09&group_by=team&zone=Asia/Tokyo"), &expected);
}

fn model_reports(server: &Server, facts: &[Fact]) {
    let march = march(facts);
    let groups = grouped(&march, |fact| (key(fact, &["provider", "model"]), currency(fact)));
    let expected: Vec<Row> = groups.iter().map(|((key, currency), facts)| {
        let total = sum(facts, Fact::total);
        row(&["provider", "model"], key, json!({
            "currency": currency, "events": events(facts) as i64, "requests": sum(facts, |fact| fact.requests) as i64,
            "prompt_tokens": sum(facts, Fact::prompt) as i64, "completion_tokens": (total - sum(facts, Fact::prompt)) as i64,
            "total_tokens": total as i64, "cost": money(cost(facts)),
            "cost_per_million_tokens": each(cost(facts).map(|cost| cost * 1_000_000), total),
        }))
    }).collect();
    assert_same("by_model", &report(server, "by_model", "period=2026-03"), &expected);

    let used: Vec<&Fact> = march.iter().copied().filter(|fact| !fact.is_adjustment).collect();
    let groups = grouped(&used, |fact| key(fact, &["model"]));
    let expected: Vec<Row> = groups
        .iter()
        .map(|(key, facts)| {
            let read = sum(facts, |fact| fact.tokens[1]);
            row(
                &["model"],
                key,
                json!({
                    "input_tokens": sum(facts, |fact| fact.tokens[0]) as i64, "cache_read_tokens": read as i64,
                    "cache_write_tokens": sum(facts, |fact| fact.tokens[2] + fact.tokens[3]) as i64,
                    "cache_read_percent": percent(read, sum(facts, Fact::prompt)),
                }),
            )
        })
        .collect();
    assert_same("cache", &report(server, "cache", "period=2026-03"), &expected);

    let without: Vec<&Fact> = march.iter().copied().filter(|fact| fact.cost.is_none()).collect();
    let groups = grouped(&without, |fact| key(fact, &["namespace", "provider", "model"]));
    let actual = report(server, "unpriced", "period=2026-03&group_by=namespace");
    // Times are those of rows, and what was amended has none of its own; the other columns say how much is left.
    let actual: Vec<Row> = actual
        .into_iter()
        .map(|mut row| {
            row.retain(|name, _| !name.ends_with("_time"));
            row
        })
        .collect();
    let expected: Vec<Row> = groups.iter().map(|(key, facts)| row(&["namespace", "provider", "model"], key, json!({
        "reason": "unknown_model", "events": events(facts) as i64, "total_tokens": sum(facts, Fact::total) as i64,
    }))).collect();
    assert_same("unpriced", &actual, &expected);
}

fn unit_economics(server: &Server, facts: &[Fact]) {
    let march = march(facts);
    for (dimensions, tag) in [(&["namespace"][..], None), (&["team", "model"], Some("variant")), (&[], Some("variant"))]
    {
        let tag_of = |fact: &Fact| tag.and_then(|tag: &str| fact.tags.get(tag).cloned());
        let mut expected = Vec::new();
        for ((key, tag), facts) in grouped(&march, |fact| (key(fact, dimensions), tag_of(fact))) {
            let (requests, calls) = (sum(&facts, |fact| fact.requests), sum(&facts, |fact| fact.tool_calls));
            let used = sessions(&facts).len() as i128;
            let mut currencies: BTreeSet<Option<String>> = facts.iter().map(|fact| currency(fact)).collect();
            if currencies.len() > 1 {
                currencies.remove(&None);
            }
            for currency in currencies {
                let of: Vec<&Fact> = facts
                    .iter()
                    .copied()
                    .filter(|fact| currency.is_some() && self::currency(fact) == currency)
                    .collect();
                let in_sessions: Vec<&Fact> = of.iter().copied().filter(|fact| fact.of("session").is_some()).collect();
                expected.push(row(dimensions, &key, json!({
                    "tag": tag, "currency": currency, "events": events(&facts) as i64, "requests": requests as i64,
                    "tool_calls": calls as i64, "sessions": used as i64, "total_tokens": sum(&facts, Fact::total) as i64,
                    "cost": money(cost(&of)), "unpriced_events": unpriced(&facts) as i64,
                    "cost_per_request": each(cost(&of), requests), "cost_per_session": each(cost(&in_sessions), used),
                    "cost_per_action": each(cost(&of), calls),
                    "tokens_per_request": rounded(sum(&facts, Fact::total), requests),
                })));
            }
        }
        let asked = format!("period=2026-03&group_by={}&tag={}", dimensions.join(","), tag.unwrap_or_default());
        assert_same(&format!("unit_economics {asked}"), &report(server, "unit_economics", &asked), &expected);
    }
}

fn slo(server: &Server, facts: &[Fact]) {
    let march = march(facts);
    for dimensions in [&["namespace"][..], &["team"], &[]] {
        let mut expected = Vec::new();
        for (key, facts) in grouped(&march, |fact| key(fact, dimensions)) {
            let mut sizes: Vec<i128> = sessions(&facts)
                .iter()
                .map(|(namespace, session)| {
                    sum(&facts, |fact| match (fact.of("namespace"), fact.of("session")) {
                        (Some(n), Some(s)) if n == namespace && s == session => fact.total(),
                        _ => 0,
                    })
                })
                .collect();
            sizes.sort_unstable();
            let (count, under) = (sizes.len(), sizes.iter().filter(|size| **size < 30_000).count());
            let nearest = |percent: usize| sizes[(count * percent).div_ceil(100) - 1] as i64;
            if count > 0 {
                expected.push(row(dimensions, &key, json!({
                    "sessions": count, "sessions_under": under, "percent_under": percent(under as i128, count as i128),
                    "total_tokens": sizes.iter().sum::<i128>() as i64, "median_tokens": nearest(50), "p95_tokens": nearest(95),
                    "max_tokens": sizes[count - 1] as i64,
                })));
            }
        }
        let asked = format!("period=2026-03&group_by={}&tokens=30000", dimensions.join(","));
        assert_same(&format!("slo {asked}"), &report(server, "slo", &asked), &expected);
    }
}

fn top_movers(server: &Server, facts: &[Fact]) {
    let (before, now) = (within(facts, day(2026, 2, 1), day(2026, 3, 1)), march(facts));
    let dimensions = ["namespace", "team"];
    let all: Vec<&Fact> = [&before[..], &now[..]].concat();
    let mut expected = Vec::new();
    for ((key, currency), _) in grouped(&all, |fact| (key(fact, &dimensions), currency(fact))) {
        let of = |facts: &[&'_ Fact]| -> (i128, i128, Option<i128>) {
            let mine: Vec<&Fact> = facts
                .iter()
                .copied()
                .filter(|fact| self::key(fact, &dimensions) == key && self::currency(fact) == currency)
                .collect();
            (events(&mine), sum(&mine, Fact::total), currency.as_ref().map(|_| cost(&mine).unwrap_or(0)))
        };
        let ((events, tokens, cost), (events_before, tokens_before, cost_before)) = (of(&now), of(&before));
        let change = cost.zip(cost_before).map(|(now, before)| now - before);
        let columns = json!({
            "currency": currency, "events": events as i64, "events_before": events_before as i64, "total_tokens": tokens as i64,
            "total_tokens_before": tokens_before as i64, "cost": money(cost), "cost_before": money(cost_before), "cost_change": money(change),
            "cost_change_percent": change.map_or(Value::Null, |change| percent(change, cost_before.unwrap())),
            "tokens_change": (tokens - tokens_before) as i64, "tokens_change_percent": percent(tokens - tokens_before, tokens_before),
        });
        let rank = (change.is_none(), -change.unwrap_or(0).abs(), -(tokens - tokens_before).abs());
        expected.push((rank, row(&dimensions, &key, columns)));
    }
    expected.sort_by_key(|(rank, _)| *rank);
    let expected: Vec<Row> = expected.into_iter().map(|(_, row)| row).collect();
    for (limit, compare) in [(7, ""), (1000, "&compare=2026-02")] {
        let actual = report(server, "top_movers", &format!("period=2026-03&limit={limit}{compare}"));
        let expected: Vec<Row> = expected.iter().take(limit).cloned().collect();
        assert_same("top_movers", &actual, &expected);
        let changes = |rows: &[Row]| -> Vec<Value> { rows.iter().map(|row| row["cost_change"].clone()).collect() };
        assert_eq!(changes(&actual), changes(&expected), "the largest first");
    }
}

fn unattributed(server: &Server, facts: &[Fact]) {
    let march = march(facts);
    let all = sum(&march, Fact::total);
    let mut expected = Vec::new();
    for missing in ["team", "user"] {
        let without: Vec<&Fact> = march.iter().copied().filter(|fact| fact.of(missing).is_none()).collect();
        for ((key, currency), facts) in grouped(&without, |fact| (key(fact, &["namespace"]), currency(fact))) {
            expected.push(row(&["namespace"], &key, json!({
                "missing": missing, "currency": currency, "events": events(&facts) as i64, "requests": sum(&facts, |fact| fact.requests) as i64,
                "total_tokens": sum(&facts, Fact::total) as i64, "cost": money(cost(&facts)),
                "percent_of_tokens": percent(sum(&facts, Fact::total), all),
            })));
        }
    }
    assert_same("unattributed", &report(server, "unattributed", "period=2026-03&missing=user,team"), &expected);
}

#[test]
fn every_parameter_of_every_report_is_in_the_description_of_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let described = server.get_json("/openapi.json")["paths"]["/v1/reports/{name}"]["get"]["parameters"].clone();
    let described: BTreeSet<String> =
        described.as_array().unwrap().iter().map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
    let reports = server.get_json("/v1/reports");
    for report in reports.as_array().unwrap() {
        for parameter in report["parameters"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            assert!(described.contains(name), "{name} of {} is not in {described:?}", report["name"]);
            // The command has a flag for each.
            let help = crate::common::server::run("report", &["--help"]);
            assert!(
                String::from_utf8_lossy(&help.stdout).contains(&format!("--{} ", name.replace('_', "-"))),
                "{name}"
            );
        }
    }
}

#[test]
fn every_report_has_the_numbers_that_the_events_come_to() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let facts = tell(&server);
    let checks: [(&str, Check); 6] = [
        ("costs", cost_reports),
        ("models", model_reports),
        ("unit_economics", unit_economics),
        ("slo", slo),
        ("top_movers", top_movers),
        ("unattributed", unattributed),
    ];
    // All are tried, so that one run says which are wrong.
    let is_wrong =
        |check: Check| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&server, &facts))).is_err();
    let wrong: Vec<&str> = checks.into_iter().filter(|(_, check)| is_wrong(*check)).map(|(name, _)| name).collect();
    assert_eq!(wrong, [""; 0], "reports with wrong numbers");

    // What came late counts in the month that it happened in.
    let late: i128 = facts.iter().filter(|fact| month(fact.time) == month(Utc::now())).map(Fact::total).sum();
    let rows = report(&server, "chargeback", &format!("period={}&group_by=", month(Utc::now())));
    assert_eq!(rows.iter().map(|row| row["total_tokens"].as_i64().unwrap()).sum::<i64>(), late as i64);
    assert_eq!(server.sql("select count(*) as n from usage where late and kind = 'usage'")[0]["n"], 2);
}
