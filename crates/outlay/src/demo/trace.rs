//! The request trace that the demo replays: real times and token counts, and an organisation made up around them.
//!
//! Why: a demo on made-up load shows made-up behaviour. The times, the context and the generated tokens are those of the Azure
//! LLM inference trace 2023 (`tests/data/README.md` has the source and the licence). Who sent a request, for what, to which
//! model and with which part of its context cached is not in the data: it is assigned here, from the row's number alone, by
//! integer arithmetic, so that every run and every machine has the same events.
//!
//! What holds: the input classes of an event add up to the row's context, the output classes to its generated tokens; every
//! model but [`UNPRICED_MODEL`] has a price in the shipped price book. The rule is written down in `tests/data/README.md` and
//! done a second time in `tests/data/recompute.py`; a change here changes both.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde::ser::SerializeMap;
use usage_types::{ComputeNs, Dimension, Dimensions, Pico, TimeUs, Tokens, UsageEvent};

/// One request of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRow {
    /// The row's number, from 0.
    pub index: u32,
    /// Microseconds since the first request.
    pub offset_us: i64,
    /// Tokens of the prompt.
    pub context: u64,
    /// Tokens of the answer.
    pub generated: u64,
}

/// The model that no price book knows; about one request in a thousand asks it.
pub const UNPRICED_MODEL: &str = "acme-internal-llm";
/// The source of every event of the trace.
pub const SOURCE: &str = "demo/trace";
/// Rows in which a user's requests are one session.
const SESSION_ROWS: u32 = 400;

struct Team {
    namespace: &'static str,
    team: &'static str,
    /// Of a thousand requests.
    weight: u64,
    users: u64,
    repositories: &'static [&'static str],
}

const fn team(
    namespace: &'static str,
    team: &'static str,
    weight: u64,
    users: u64,
    repositories: &'static [&'static str],
) -> Team {
    Team { namespace, team, weight, users, repositories }
}

/// Forty users, numbered through the table.
const TEAMS: [Team; 11] = [
    team("checkout", "payments", 190, 6, &["acme/payments-api", "acme/fraud-rules"]),
    team("checkout", "storefront", 110, 4, &["acme/storefront"]),
    team("search", "ranking", 130, 5, &["acme/ranker", "acme/query-parser"]),
    team("search", "indexing", 90, 3, &["acme/indexer"]),
    team("support", "helpdesk", 150, 5, &["acme/helpdesk-bot", "acme/macros"]),
    team("support", "triage", 100, 3, &["acme/triage"]),
    team("data-platform", "pipelines", 70, 4, &["acme/pipelines", "acme/dbt-models", "acme/airflow-dags"]),
    team("data-platform", "warehouse", 50, 3, &["acme/warehouse"]),
    team("data-platform", "governance", 30, 2, &["acme/catalog"]),
    team("research", "evals", 50, 3, &["acme/evals", "acme/prompt-lab"]),
    team("research", "agents", 30, 2, &["acme/agent-runtime"]),
];

const AGENTS: [&str; 4] = ["coder", "reviewer", "tester", "planner"];

struct Model {
    provider: &'static str,
    model: &'static str,
    /// Of a hundred sessions.
    weight: u64,
    /// Whether the provider bills what it writes into its cache.
    writes_cache: bool,
    reasons: bool,
}

const fn model(provider: &'static str, model: &'static str, weight: u64, writes_cache: bool, reasons: bool) -> Model {
    Model { provider, model, weight, writes_cache, reasons }
}

/// Only models whose price has no dates: the trace ends now, and must cost the same whenever that is.
const MODELS: [Model; 7] = [
    model("openai", "gpt-6.1-sol", 22, false, true),
    model("openai", "gpt-5.1", 18, false, true),
    model("openai", "gpt-5-mini", 10, false, false),
    model("anthropic", "claude-sonnet-5", 24, true, false),
    model("anthropic", "claude-haiku-4-5", 10, true, false),
    model("gcp.gemini", "gemini-2.5-pro", 10, false, true),
    model("gcp.gemini", "gemini-3.5-flash", 6, false, false),
];

const UNPRICED: Model = model("acme", UNPRICED_MODEL, 0, false, false);

/// What is drawn; each has a sequence of its own.
#[derive(Clone, Copy)]
enum Draw {
    Team = 1,
    User = 2,
    Repository = 3,
    Agent = 4,
    Model = 5,
    Unpriced = 6,
    CacheHour = 7,
    ToolCalls = 8,
}

static ROWS: LazyLock<Vec<TraceRow>> = LazyLock::new(|| parse(include_str!("../../../../tests/data/llm-trace.csv")));

/// All rows, in the order of their times.
#[must_use]
pub fn rows() -> Vec<TraceRow> {
    ROWS.clone()
}

/// From the first request to the last, in microseconds.
#[must_use]
pub fn duration_us() -> i64 {
    ROWS.last().map_or(0, |row| row.offset_us)
}

/// The event of a row, where the trace's last request is at `end`.
#[must_use]
pub fn event_for(row: &TraceRow, end: TimeUs) -> UsageEvent<'static> {
    let (team, user) = sender(row.index);
    let session = Session::of(user, row.index);
    let model = model_of(row.index, session);
    UsageEvent {
        id: Some(Cow::Owned(format!("azure-code-2023-{}", row.index))),
        source: Cow::Borrowed(SOURCE),
        time: end.plus_us(row.offset_us - duration_us()),
        dimensions: dimensions(team, session, model),
        tokens: tokens(row, session, model),
        requests: 1,
        tool_calls: draw(u64::from(row.index), Draw::ToolCalls, 3),
        images: 0,
        role: usage_types::Role::Usage,
        progress: None,
        compute: ComputeNs(0),
        cost: None,
        tags: BTreeMap::from([(Cow::Borrowed("env"), Cow::Borrowed("demo"))]),
    }
}

/// The event as the native JSON that the documentation shows; what it does not name is left out.
#[must_use]
pub fn to_json(event: &UsageEvent<'_>) -> String {
    serde_json::to_string(&NativeJson(event)).expect("texts and integers only, which always serialize")
}

fn parse(csv: &str) -> Vec<TraceRow> {
    let line = |(index, line): (u32, &str)| {
        let mut fields = line.split(',').map(|field| field.parse::<u64>().ok());
        let mut next = || fields.next().flatten();
        let (offset_us, context, generated) = (next()?, next()?, next()?);
        Some(TraceRow { index, offset_us: i64::try_from(offset_us).ok()?, context, generated })
    };
    (0..).zip(csv.lines().skip(1)).map(|row| line(row).expect("a test reads every line of the file")).collect()
}

/// A number below `n` that depends on the key and on what is drawn: SplitMix64's finaliser (Steele, Lea, Flood 2014).
fn draw(key: u64, what: Draw, n: u64) -> u64 {
    let seed = (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = seed.wrapping_add((what as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % n
}

/// The item in whose part of the summed weights the number falls.
fn weighted<T>(items: &'static [T], number: u64, weight: impl Fn(&T) -> u64) -> (usize, &'static T) {
    let mut end = 0;
    let found = items.iter().enumerate().find(|(_, item)| {
        end += weight(item);
        number < end
    });
    found.expect("the weights add up to what was drawn from; a test adds them")
}

/// The team and the number of the user, from 1.
fn sender(index: u32) -> (&'static Team, u64) {
    let (at, team) = weighted(&TEAMS, draw(u64::from(index), Draw::Team, 1000), |team| team.weight);
    let before: u64 = TEAMS[..at].iter().map(|team| team.users).sum();
    (team, before + 1 + draw(u64::from(index), Draw::User, team.users))
}

/// A user's requests within a block of rows.
#[derive(Clone, Copy)]
struct Session {
    user: u64,
    block: u32,
    /// Whether the user has an earlier row in the block.
    goes_on: bool,
}

impl Session {
    fn of(user: u64, index: u32) -> Self {
        let block = index / SESSION_ROWS;
        let goes_on = (block * SESSION_ROWS..index).any(|earlier| sender(earlier).1 == user);
        Self { user, block, goes_on }
    }

    fn key(self) -> u64 {
        self.user * 1000 + u64::from(self.block)
    }
}

fn model_of(index: u32, session: Session) -> &'static Model {
    if draw(u64::from(index), Draw::Unpriced, 1000) == 0 {
        return &UNPRICED;
    }
    weighted(&MODELS, draw(session.key(), Draw::Model, 100), |model| model.weight).1
}

fn dimensions(team: &'static Team, session: Session, model: &'static Model) -> Dimensions<'static> {
    let pick = |what, items: &[&'static str]| items[draw(session.key(), what, items.len() as u64) as usize];
    let mut dimensions = Dimensions::default();
    for (dimension, value) in [
        (Dimension::Namespace, Cow::Borrowed(team.namespace)),
        (Dimension::Team, Cow::Borrowed(team.team)),
        (Dimension::Repository, Cow::Borrowed(pick(Draw::Repository, team.repositories))),
        (Dimension::User, Cow::Owned(format!("u-{:02}", session.user))),
        (Dimension::ApiKey, Cow::Owned(format!("k-{}", team.team))),
        (Dimension::Agent, Cow::Borrowed(pick(Draw::Agent, &AGENTS))),
        (Dimension::Session, Cow::Owned(format!("s-{:02}-{:02}", session.user, session.block))),
        (Dimension::Provider, Cow::Borrowed(model.provider)),
        (Dimension::Model, Cow::Borrowed(model.model)),
        (Dimension::Operation, Cow::Borrowed("chat")),
    ] {
        dimensions.set(dimension, Some(value));
    }
    dimensions
}

/// Splits context and answer into the disjoint classes. Divisions round down; the remainder stays in `input` and `output`.
fn tokens(row: &TraceRow, session: Session, model: &Model) -> Tokens {
    let cache_read = if session.goes_on && model.model != UNPRICED_MODEL { row.context * 40 / 100 } else { 0 };
    let written = if model.writes_cache { (row.context - cache_read) * 25 / 100 } else { 0 };
    let for_an_hour = draw(u64::from(row.index), Draw::CacheHour, 8) == 0;
    let reasoning = if model.reasons { row.generated * 30 / 100 } else { 0 };
    Tokens {
        input: row.context - cache_read - written,
        cache_read,
        cache_write_5m: if for_an_hour { 0 } else { written },
        cache_write_1h: if for_an_hour { written } else { 0 },
        output: row.generated - reasoning,
        reasoning,
    }
}

struct NativeJson<'a>(&'a UsageEvent<'a>);

#[derive(Serialize)]
struct NativeCost {
    amount: Pico,
    currency: usage_types::Currency,
}

impl Serialize for NativeJson<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = &event.id {
            map.serialize_entry("id", id)?;
        }
        if !event.source.is_empty() {
            map.serialize_entry("source", &event.source)?;
        }
        map.serialize_entry("time", &event.time)?;
        for (dimension, value) in event.dimensions.iter() {
            map.serialize_entry(dimension.name(), value)?;
        }
        map.serialize_entry("tokens", &event.tokens)?;
        map.serialize_entry("requests", &event.requests)?;
        map.serialize_entry("tool_calls", &event.tool_calls)?;
        map.serialize_entry("compute_seconds", &event.compute)?;
        if let Some((amount, currency)) = event.cost {
            map.serialize_entry("cost", &NativeCost { amount, currency })?;
        }
        if !event.tags.is_empty() {
            map.serialize_entry("tags", &event.tags)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use price_book::{PriceBook, Priced, Pricer};
    use serde_json::{Value, json};
    use usage_intake::{Headers, Intake};
    use usage_types::TokenClass;

    use super::*;

    fn end() -> TimeUs {
        TimeUs::parse_rfc3339("2026-11-21T10:00:00Z").unwrap()
    }

    fn events() -> impl Iterator<Item = (TraceRow, UsageEvent<'static>)> {
        rows().into_iter().map(|row| (row, event_for(&row, end())))
    }

    /// The counts and sums are those of the published file, by `awk -F, 'NR>1 {n++; c+=$2; g+=$3} END {print n, c, g}'`.
    #[test]
    fn the_rows_are_those_of_the_data() {
        let rows = rows();
        assert_eq!(rows.len(), 8819);
        assert_eq!(rows.iter().map(|row| row.context).sum::<u64>(), 18_059_974);
        assert_eq!(rows.iter().map(|row| row.generated).sum::<u64>(), 245_896);
        assert!(rows.is_sorted_by_key(|row| row.offset_us));
        // From 18:17:03.979960 until 19:14:19.928016.
        assert_eq!((rows[0].offset_us, duration_us()), (0, (57 * 60 + 15) * 1_000_000 + 948_056));
    }

    #[test]
    fn the_tables_add_up_to_what_is_drawn_from() {
        assert_eq!(TEAMS.iter().map(|team| team.weight).sum::<u64>(), 1000);
        assert_eq!(MODELS.iter().map(|model| model.weight).sum::<u64>(), 100);
        assert_eq!(TEAMS.iter().map(|team| team.users).sum::<u64>(), 40);
    }

    #[test]
    fn the_classes_of_an_event_add_up_to_its_row_and_its_time_keeps_the_pace() {
        for (row, event) in events() {
            let t = event.tokens;
            assert_eq!(t.input + t.cache_read + t.cache_write_5m + t.cache_write_1h, row.context, "{row:?}");
            assert_eq!(t.output + t.reasoning, row.generated, "{row:?}");
            assert_eq!(event.time.0 - (end().0 - duration_us()), row.offset_us, "{row:?}");
        }
        assert_eq!(event_for(rows().last().unwrap(), end()).time, end());
    }

    #[test]
    fn every_dimension_and_class_is_in_use() {
        let namespaces: BTreeSet<String> =
            events().map(|(_, event)| event.dimensions.get(Dimension::Namespace).unwrap().to_owned()).collect();
        assert_eq!(
            namespaces.iter().collect::<Vec<_>>(),
            ["checkout", "data-platform", "research", "search", "support"]
        );
        let users: BTreeSet<String> =
            events().map(|(_, event)| event.dimensions.get(Dimension::User).unwrap().to_owned()).collect();
        assert_eq!(users.len(), 40);
        for class in TokenClass::ALL {
            assert!(events().any(|(_, event)| event.tokens.get(class) > 0), "no event has {}", class.name());
        }
    }

    #[test]
    fn only_the_models_that_nobody_sells_have_no_price() {
        let mut pricer = Pricer::new(PriceBook::shipped());
        let mut unpriced = 0;
        for (row, event) in events() {
            let is_unpriced = event.dimensions.get(Dimension::Model) == Some(UNPRICED_MODEL);
            assert_eq!(matches!(pricer.price(&event, event.time), Priced::Unpriced(_)), is_unpriced, "{row:?}");
            unpriced += u32::from(is_unpriced);
        }
        assert!((4..=18).contains(&unpriced), "{unpriced} of 8819 are unpriced; about one in a thousand should be");
    }

    /// `recompute.py` shares no code with this file: it remembers sessions as it goes, and multiplies decimals.
    #[test]
    fn every_event_and_its_cost_is_the_one_of_the_second_computation() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/recompute.py");
        let run = Command::new("python3").arg(script).arg("--events").output().expect("this test needs python3");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let second: Vec<Value> =
            String::from_utf8(run.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut pricer = Pricer::new(PriceBook::shipped());
        let first: Vec<Value> = events()
            .map(|(row, event)| {
                let of = |dimension| event.dimensions.get(dimension);
                let cost = match pricer.price(&event, event.time) {
                    Priced::Cost(cost) => Some(cost.amount.to_string()),
                    Priced::Unpriced(_) => None,
                };
                json!([
                    row.index,
                    of(Dimension::Namespace),
                    of(Dimension::Team),
                    of(Dimension::Repository),
                    of(Dimension::User),
                    of(Dimension::Session),
                    of(Dimension::Model),
                    TokenClass::ALL.map(|class| event.tokens.get(class)),
                    cost,
                ])
            })
            .collect();
        assert_eq!(first.len(), second.len());
        for (first, second) in first.iter().zip(&second) {
            assert_eq!(first, second);
        }
    }

    #[test]
    fn the_json_is_the_native_event_and_names_nothing_that_is_not_there() {
        let row = rows()[0];
        let mut event = event_for(&row, end());
        let value: Value = serde_json::from_str(&to_json(&event)).unwrap();
        assert_eq!(value["id"], "azure-code-2023-0");
        assert_eq!(value["time"], "2026-11-21T09:02:44.051944Z");
        assert_eq!(value["namespace"], event.dimensions.get(Dimension::Namespace).unwrap());
        assert_eq!(value["tokens"]["input"], event.tokens.input);
        assert_eq!((&value["compute_seconds"], &value["requests"]), (&json!("0"), &json!(1)));
        assert_eq!(value["tags"], json!({"env": "demo"}));
        for absent in ["cost", "task", "job"] {
            assert!(value.get(absent).is_none(), "{absent} is there");
        }
        event.cost = Some((Pico(12_300_000_000), "USD".parse().unwrap()));
        let value: Value = serde_json::from_str(&to_json(&event)).unwrap();
        assert_eq!(value["cost"], json!({"amount": "0.0123", "currency": "USD"}));
    }
    #[test]
    fn intake_reads_the_same_event_back_from_the_json() {
        for (row, event) in events() {
            let json = to_json(&event);
            let read = Intake::default().decode_record(Some(json.as_bytes()), &Headers::default(), None);
            assert_eq!(read.as_ref(), Ok(&event), "{row:?}");
        }
    }
}
