//! A generated history of usage with everything that restates it, and what is left of it when all is said: the facts that reports are
//! recomputed from. Facts know nothing of rows, reversals or SQL.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, SecondsFormat, TimeZone, Utc};
use serde_json::{Map, Value, json};

use crate::common::{Server, pico, wait_until_eq};

/// Pico-dollars of one token by class: input, cache read, writes for 5 minutes and an hour, output, reasoning.
const TINY: [i128; 6] = [2_000_000, 200_000, 2_500_000, 4_000_000, 8_000_000, 8_000_000];
/// The same of the other model.
const BIG: [i128; 6] = [15_000_000, 1_500_000, 18_750_000, 30_000_000, 60_000_000, 60_000_000];
/// The classes in the order of the prices.
pub const CLASSES: [&str; 6] = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"];

/// The price book of the server.
pub const PRICES: &str = r#"
currency: USD
source: https://example.com/prices
as_of: 2026-01-01
prices:
  - model: tiny-1
    provider: acme
    per_million: { input: "2", cache_read: "0.2", cache_write_5m: "2.5", cache_write_1h: "4", output: "8", reasoning: "8" }
  - model: big-1
    provider: acme
    per_million: { input: "15", cache_read: "1.5", cache_write_5m: "18.75", cache_write_1h: "30", output: "60", reasoning: "60" }
"#;

/// Something that happened, as it counts in the end.
#[derive(Debug, Clone)]
pub struct Fact {
    /// When.
    pub time: DateTime<Utc>,
    /// Whose, and of which model.
    pub dimensions: BTreeMap<&'static str, String>,
    /// Its tags.
    pub tags: BTreeMap<&'static str, String>,
    /// Tokens by class.
    pub tokens: [i128; 6],
    /// Requests.
    pub requests: i128,
    /// Tool calls.
    pub tool_calls: i128,
    /// What it cost, in pico-units of a currency.
    pub cost: Option<(i128, String)>,
    /// Whether it changes a cost and is nothing that happened.
    pub is_adjustment: bool,
}

impl Fact {
    /// Tokens of all classes.
    pub fn total(&self) -> i128 {
        self.tokens.iter().sum()
    }

    /// Tokens that were sent to the model.
    pub fn prompt(&self) -> i128 {
        self.tokens[..4].iter().sum()
    }

    /// A dimension's value.
    pub fn of(&self, dimension: &str) -> Option<&str> {
        self.dimensions.get(dimension).map(String::as_str)
    }

    fn price(&mut self) {
        let prices = match self.of("model") {
            Some("tiny-1") => TINY,
            Some("big-1") => BIG,
            _ => return,
        };
        let cost: i128 = self.tokens.iter().zip(prices).map(|(tokens, price)| tokens * price).sum();
        self.cost = Some((cost, "USD".to_owned()));
    }

    /// The event that says so, with the members that make it what it is.
    fn event(&self, id: &str, more: Value) -> Value {
        let mut event = Map::new();
        event.insert("id".into(), id.into());
        event.insert("source".into(), "history".into());
        event.insert("time".into(), self.time.to_rfc3339_opts(SecondsFormat::Micros, true).into());
        event.extend(self.dimensions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        if !self.tags.is_empty() {
            event.insert("tags".into(), json!(self.tags));
        }
        if !self.is_adjustment {
            let tokens: Map<String, Value> = CLASSES
                .iter()
                .zip(self.tokens)
                .map(|(class, count)| ((*class).to_owned(), json!(count as u64)))
                .collect();
            event.insert("tokens".into(), tokens.into());
            event.insert("requests".into(), json!(self.requests as u64));
            event.insert("tool_calls".into(), json!(self.tool_calls as u64));
        }
        event.extend(more.as_object().unwrap().clone());
        event.into()
    }
}

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn of<'t>(&mut self, values: &[&'t str]) -> &'t str {
        values[self.below(values.len() as u64) as usize]
    }

    /// One of these, or none as often as each of them.
    fn maybe<'t>(&mut self, values: &[&'t str]) -> Option<&'t str> {
        values.get(self.below(values.len() as u64 + 1) as usize).copied()
    }

    /// Usage within two months that are over, whenever this runs.
    fn fact(&mut self) -> Fact {
        let begin = Utc.with_ymd_and_hms(2026, 2, 1, 0, 0, 0).unwrap();
        let time = begin
            + Duration::seconds(self.below(59 * 24 * 3600) as i64)
            + Duration::microseconds(self.below(1_000_000) as i64);
        let namespace = self.of(&["shop", "lab", "ops"]);
        let mut dimensions: BTreeMap<&'static str, String> =
            [("namespace", namespace.to_owned()), ("provider", "acme".to_owned())].into();
        let mut maybe = |name, value: Option<&str>| {
            if let Some(value) = value {
                dimensions.insert(name, value.to_owned());
            }
        };
        maybe("model", Some(self.of(&["tiny-1", "big-1", "tiny-1", "mystery-9"])));
        maybe("team", self.maybe(&["web", "search", "a \"b\", c"]));
        maybe("user", self.maybe(&["u-1", "u-2", "u-3"]));
        // The same ids in every namespace: they are not the same sessions.
        maybe("session", self.maybe(&["s-1", "s-2", "s-3", "s-4", "s-5", "s-6"]));
        let mut tags = BTreeMap::new();
        if let Some(variant) = self.maybe(&["A", "B \"quoted\", \\ {more}"]) {
            tags.insert("variant", variant.to_owned());
        }
        let tokens = [4000, 6000, 300, 200, 900, 500].map(|most| i128::from(self.below(most)));
        let (requests, tool_calls) = (1 + i128::from(self.below(3)), i128::from(self.below(4)));
        let mut fact = Fact { time, dimensions, tags, tokens, requests, tool_calls, cost: None, is_adjustment: false };
        fact.price();
        if self.below(9) == 0 {
            let currency = self.of(&["EUR", "USD"]).to_owned();
            fact.cost = Some((i128::from(self.below(1 << 40)), currency));
        }
        fact
    }
}

/// The cost member of an event whose sender gives it; an empty object where the price book says it.
fn given(fact: &Fact) -> Value {
    let mut priced = fact.clone();
    priced.cost = None;
    priced.price();
    match &fact.cost {
        Some((amount, currency)) if fact.cost != priced.cost => {
            json!({"cost": {"amount": decimal(*amount, 12), "currency": currency}})
        }
        _ => json!({}),
    }
}

/// A number of so many digits after the point as a text, without zeros at its end.
pub fn decimal(value: i128, digits: u32) -> String {
    let scale = 10_u128.pow(digits);
    let (whole, part) = (value.unsigned_abs() / scale, value.unsigned_abs() % scale);
    let part = format!("{part:0width$}", width = digits as usize);
    let text = format!("{}{whole}.{part}", if value < 0 { "-" } else { "" });
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn merged(mut one: Value, other: Value) -> Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

/// Publishes the history to a server and waits until all of it is counted; what is left of it.
pub fn tell(server: &Server) -> Vec<Fact> {
    let mut dice = Dice(20_260_321);
    let mut facts: Vec<Option<Fact>> = (0..400).map(|_| Some(dice.fact())).collect();
    // One session that nothing is left of, and usage of now, of which some comes late.
    let now = Utc::now();
    for (at, minutes) in [(0, 0), (1, 130), (2, 70)] {
        let mut fact = dice.fact();
        fact.time = now - Duration::minutes(minutes);
        fact.dimensions.insert("user", format!("now-{at}"));
        facts.push(Some(fact));
    }
    let mut ghost = dice.fact();
    ghost.dimensions.insert("session", "ghost".to_owned());
    facts.push(Some(ghost));
    let ghost = facts.len() - 1;

    let is_past = |fact: &Fact| now - fact.time > Duration::hours(20);
    let event = |(at, fact): (usize, &Option<Fact>)| {
        let fact = fact.as_ref().unwrap();
        let more = if is_past(fact) { json!({"backfill": true}) } else { json!({}) };
        fact.event(&format!("e-{at}"), merged(given(fact), more))
    };
    let events: Vec<Value> = facts.iter().enumerate().map(event).collect();
    let mut rows = publish(server, &events, 0, 1);

    // Every eleventh is taken back, every thirteenth was another one.
    let mut voids = Vec::new();
    let mut amendments = Vec::new();
    for (at, fact) in facts.iter_mut().enumerate() {
        let old = fact.clone().unwrap();
        let name = format!("e-{at}");
        if at % 11 == 3 || at == ghost {
            let void = json!({"corrects": name, "correction": "void"});
            let mut gone = json!({"id": format!("v-{at}"), "source": "history", "namespace": old.of("namespace")});
            gone["time"] = now.to_rfc3339_opts(SecondsFormat::Micros, true).into();
            voids.push(merged(gone, void));
            *fact = None;
        } else if at % 13 == 5 {
            let mut new = dice.fact();
            new.time = old.time;
            new.dimensions.insert("namespace", old.of("namespace").unwrap().to_owned());
            amendments.push(new.event(&format!("a-{at}"), merged(given(&new), json!({"corrects": name}))));
            *fact = Some(new);
        }
    }
    rows = publish(server, &voids, rows, 1);
    rows = publish(server, &amendments, rows, 2);

    let mut adjustments = Vec::new();
    for at in 0..40 {
        let mut fact = dice.fact();
        fact.dimensions.remove("model");
        fact.is_adjustment = true;
        (fact.tokens, fact.requests, fact.tool_calls) = ([0; 6], 0, 0);
        let (amount, currency) = (i128::from(dice.below(1 << 40)) - (1 << 39), dice.of(&["USD", "USD", "EUR"]));
        fact.cost = Some((amount, currency.to_owned()));
        let cost = json!({"adjusts": "contract", "cost": {"amount": decimal(amount, 12), "currency": currency}});
        adjustments.push(fact.event(&format!("d-{at}"), cost));
        facts.push(Some(fact));
    }
    publish(server, &adjustments, rows, 1);
    facts.into_iter().flatten().collect()
}

/// Publishes events of which each makes so many rows; how many there are then.
fn publish(server: &Server, events: &[Value], rows: usize, each: usize) -> usize {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    server.post_events("application/x-ndjson", lines).expect(202);
    let rows = rows + each * events.len();
    wait_until_eq("rows", &json!(rows), || server.sql("select count(*) as n from usage")[0]["n"].clone());
    rows
}

/// A cost as it was sent is the cost in pico-units.
#[test]
fn decimals_are_read_as_they_are_written() {
    for value in [0, 1, -1, 1_000_000_000_000, -2_500_000_000_000, 123_456_789_012_345] {
        assert_eq!(pico(&decimal(value, 12)), value);
    }
}
