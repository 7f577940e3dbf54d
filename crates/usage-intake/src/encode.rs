//! A usage event as native JSON: what the adapters of other formats publish, so that the log holds one format that every reader knows.
//!
//! Holds here: [`crate::decode_record`] reads what is written as the same event, for every event that intake itself would accept.
//! `requests` is always written, since what its absence means depends on the rest.

use std::fmt::Display;
use std::io::Write as _;

use usage_types::{Role, TokenClass, UsageEvent};

/// Writes an event as one line of native JSON. Zeros and what is not named are left out.
#[must_use]
pub fn encode(event: &UsageEvent<'_>) -> Vec<u8> {
    let mut json = Json::new();
    json.open('{');
    if let Some(id) = &event.id {
        json.text("id", id);
    }
    if !event.source.is_empty() {
        json.text("source", &event.source);
    }
    json.quoted("time", &event.time);
    for (dimension, value) in event.dimensions.iter() {
        json.text(dimension.name(), value);
    }
    role(&mut json, &event.role);
    if event.tokens.total() > 0 {
        json.begin("tokens");
        for class in TokenClass::ALL.into_iter().filter(|class| event.tokens.get(*class) > 0) {
            json.count(class.name(), event.tokens.get(class));
        }
        json.end();
    }
    json.count("requests", event.requests);
    for (name, count) in [("tool_calls", event.tool_calls), ("images", event.images)] {
        if count > 0 {
            json.count(name, count);
        }
    }
    if event.compute.0 > 0 {
        json.quoted("compute_seconds", &event.compute);
    }
    if let Some((amount, currency)) = event.cost {
        json.begin("cost");
        json.quoted("amount", &amount);
        json.quoted("currency", &currency);
        json.end();
    }
    if let Some(progress) = event.progress {
        json.count("processed", progress.processed);
        if let Some(total) = progress.total {
            json.count("total", total);
        }
    }
    if !event.tags.is_empty() {
        json.begin("tags");
        for (name, value) in &event.tags {
            json.text(name, value);
        }
        json.end();
    }
    json.end();
    json.0
}

fn role(json: &mut Json, role: &Role<'_>) {
    match role {
        Role::Usage => {}
        Role::Backfill => {
            json.name("backfill");
            json.raw("true");
        }
        Role::Amends(id) => json.text("corrects", id),
        Role::Voids(id) => {
            json.text("corrects", id);
            json.text("correction", "void");
        }
        Role::Adjusts(run) => json.text("adjusts", run),
    }
}

/// JSON in the making, without blanks.
#[derive(Default)]
pub(crate) struct Json(Vec<u8>);

impl Json {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(512))
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_text(self) -> String {
        String::from_utf8(self.0).expect("texts only were written")
    }

    /// Ends the element before the next one, where there is one.
    pub(crate) fn separate(&mut self) {
        if !matches!(self.0.last(), Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.separate();
        self.string(name);
        self.0.push(b':');
    }

    pub(crate) fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("a text is always JSON, and memory takes every byte");
    }

    /// A value whose JSON is known.
    pub(crate) fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// A value whose text needs no escaping.
    pub(crate) fn quoted_value(&mut self, value: &dyn Display) {
        write!(self.0, "\"{value}\"").expect("memory takes every byte");
    }

    fn quoted(&mut self, name: &str, value: &dyn Display) {
        self.name(name);
        self.quoted_value(value);
    }

    fn count(&mut self, name: &str, count: u64) {
        self.name(name);
        write!(self.0, "{count}").expect("memory takes every byte");
    }

    pub(crate) fn integer(&mut self, value: i64) {
        write!(self.0, "{value}").expect("memory takes every byte");
    }

    /// A number that is finite.
    pub(crate) fn float(&mut self, value: f64) {
        serde_json::to_writer(&mut self.0, &value).expect("memory takes every byte");
    }

    pub(crate) fn begin(&mut self, name: &str) {
        self.name(name);
        self.open('{');
    }

    pub(crate) fn end(&mut self) {
        self.close('}');
    }

    pub(crate) fn open(&mut self, bracket: char) {
        self.0.push(bracket as u8);
    }

    pub(crate) fn close(&mut self, bracket: char) {
        self.0.push(bracket as u8);
    }
}
