//! The events that are counted, and the budgets that they are held against.
//!
//! 40,000 users in 200 namespaces, few of them heavy and most light, so that some reach their budget; every id is new, every model has a
//! price, every time is now.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use event_log::{LogConfig, Publisher, topics};

const USERS: u64 = 40_000;
const NAMESPACES: u64 = 200;
const TEAMS: u64 = 400;
const REPOSITORIES: u64 = 800;
const MODELS: [(&str, &str); 4] = [
    ("openai", "gpt-5.1"),
    ("openai", "gpt-5.4-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
];
/// How long the broker may take for what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// The user whose decisions are waited for; see [`budgets`].
pub fn probe_user(at: usize) -> String {
    format!("probe-{at:06}")
}

/// Namespace of [`probe_user`]s.
pub const PROBE_NAMESPACE: &str = "probes";
/// The budget that each of them reaches with the first event.
pub const PROBE_BUDGET: &str = "one-request";

/// Three budgets for the events, of which one has a balance for each user, and the one of the probes. About a hundred users reach theirs.
pub fn budgets(events: u64) -> String {
    let per_user = (events / 4_000).max(2);
    format!(
        "budgets:
  - {{ id: per-user, per: [user], window: {{ every: day, zone: UTC }}, limit: {{ requests: {per_user} }} }}
  - {{ id: per-namespace, per: [namespace], window: {{ every: day, zone: Europe/Berlin }}, limit: {{ tokens: 1000000000000 }} }}
  - {{ id: company, window: {{ every: month, zone: UTC }}, limit: {{ cost: \"1000000.00 USD\" }}, mode: soft }}
  - {{ id: {PROBE_BUDGET}, match: {{ namespace: {PROBE_NAMESPACE} }}, per: [user], window: {{ every: day, zone: UTC }}, limit: {{ requests: 1 }} }}
"
    )
}

/// Publishes the events; returns their mean size in bytes.
pub fn fill(kafka: &str, events: u64) -> Result<u64> {
    let mut config = LogConfig::new(kafka, "bench-fill");
    // Full batches, as busy gateways send them.
    config.extra.insert("linger.ms".to_owned(), "20".to_owned());
    let publisher = Publisher::open(&config)?;
    let (mut key, mut value, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut now = Utc::now();
    for number in 0..events {
        if number % 256 == 0 {
            now = Utc::now();
        }
        write(number, now, &mut key, &mut value)?;
        bytes += value.len() as u64;
        publisher.publish(topics::USAGE_EVENTS, &key, Some(&value), &[], None)?;
    }
    publisher.flush(FLUSH_TIMEOUT).context("the broker did not take the events")?;
    Ok(bytes / events.max(1))
}

/// Writes key and value of an event.
pub fn write(number: u64, time: DateTime<Utc>, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<()> {
    let random = scramble(number);
    // The square of a uniform number: the user at 1 % of the line is ten times as busy as the last.
    let uniform = random % USERS;
    let user = uniform * uniform / USERS;
    let (namespace, team, repository) = (user % NAMESPACES, user % TEAMS, user % REPOSITORIES);
    let (provider, model) = MODELS[(random >> 32) as usize % MODELS.len()];
    let input = 200 + (random >> 20) % 4_000;
    let (cached, output) = (input / 3, 20 + (random >> 40) % 800);
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    key.clear();
    write!(key, "namespace-{namespace:03}/user-{user:05}")?;
    value.clear();
    write!(
        value,
        r#"{{"id":"01J8{random:016X}{number:08X}","source":"gateway/eu-{}","time":"{time}","namespace":"namespace-{namespace:03}","team":"team-{team:03}","repository":"acme/service-{repository:03}","user":"user-{user:05}","api_key":"key-{:03}","agent":"triage","session":"s-{:x}","provider":"{provider}","model":"{model}","operation":"chat","tokens":{{"input":{input},"cache_read":{cached},"output":{output},"reasoning":{}}},"requests":1,"tags":{{"env":"ci"}}}}"#,
        number % 3,
        user % 997,
        user * 64 + number / 100_000,
        output / 4,
    )?;
    Ok(())
}

/// SplitMix64, by Sebastiano Vigna (public domain): numbers without a pattern, the same in each run.
pub fn scramble(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
