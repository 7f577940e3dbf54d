//! Budgets as a file for people: YAML, one line for each member that is not at its default.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use usage_types::BudgetSet;

/// The members that come first, in this order; others follow by name.
const FIRST: [&str; 8] = ["id", "match", "per", "window", "limits", "overrides", "plans", "trip"];

/// Words that some reader of YAML 1.1 or 1.2 takes for something else than a text.
const OTHER_WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// A file that is read as this set.
pub fn file(comment: &str, set: &BudgetSet) -> String {
    let mut text: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    if set.ids().next().is_none() {
        text.push_str("budgets: []\n");
        return text;
    }
    list("budgets", set.budgets.keys().filter_map(|id| set.form(id)), &mut text);
    list("breakers", set.breakers.keys().filter_map(|id| set.form(id)), &mut text);
    text
}

/// A list of budgets or of breakers, where there is one.
fn list(name: &str, forms: impl Iterator<Item = Value>, text: &mut String) {
    for (at, form) in forms.enumerate() {
        if at == 0 {
            // Writing into a text cannot fail.
            let _infallible = writeln!(text, "{name}:");
        }
        let Value::Object(members) = form else { continue };
        let defaults = defaults(&members);
        let is_said = |name: &&String| members.get(*name) != defaults.get(*name);
        let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
        let mut names: Vec<&String> = members.keys().filter(is_said).collect();
        names.sort_by_key(|name| rank(name));
        for (at, name) in names.into_iter().enumerate() {
            let _infallible = writeln!(text, "  {} {name}: {}", if at == 0 { "-" } else { " " }, flow(&members[name]));
        }
    }
}

/// What a budget of this window, or a breaker, would say if it said only what it must. Some windows ask for a dimension.
fn defaults(members: &Map<String, Value>) -> Map<String, Value> {
    let of = |name| members.get(name);
    let least = match of("window") {
        Some(window) => json!({ "budgets": [{
            "id": "a", "match": of("match"), "per": of("per"), "window": window, "limit": { "tokens": 1 },
        }] }),
        None => json!({ "breakers": [{ "id": "a", "trip": [{ "requests": 1, "within": "1s" }] }] }),
    };
    let set = BudgetSet::from_canonical(&least.to_string()).unwrap_or_default();
    let Some(Value::Object(mut defaults)) = set.form("a") else { return Map::new() };
    // These must be said, whatever they are.
    for name in ["id", "window", "limits", "trip"] {
        defaults.remove(name);
    }
    defaults.insert("match".to_owned(), json!({}));
    defaults.insert("per".to_owned(), json!([]));
    defaults
}

/// In one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{}: {}", plain(name), flow(value));
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// A text without quotes where that is read as the same text.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./@".contains(c);
    let is_safe = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_plain);
    let is_word = OTHER_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_safe && !is_word { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_not_at_its_default_and_is_read_as_the_same_set() {
        let text = "budgets:
  - id: users
    match: { namespace: \"null\", model: \"a: {b}\" }
    per: [team, user]
    window: { every: hour, zone: Europe/Berlin }
    limits: [{ requests: 5 }, { cost: \"2.5 USD\" }]
    overrides: [{ limits: [{ tokens: 7 }], match: { user: \"~\" } }]
    alerts: { at: [0.5], to: [a@b.c] }
    mode: soft
    predict: { warn: 30m, slow: 10m, floor: { requests: 3, within: 1h } }
    priority: low
    pressure: { normal: { at: 90%, requests: 5, within: 1m } }
breakers:
  - id: loops
    per: [agent]
    trip: [{ requests: 600, within: 1m }, { repeats: 20, within: 30s, tag: hash }]
    mode: shadow
";
        let set = BudgetSet::from_yaml(text).unwrap_or_else(|error| panic!("{error}"));
        let written = file("made by a test\nof two lines", &set);
        assert_eq!(BudgetSet::from_yaml(&written).unwrap_or_else(|error| panic!("{error}\n{written}")), set);
        let least = BudgetSet::from_yaml("budgets: [{ id: a, window: { every: day }, limit: { tokens: 5 } }]").unwrap();
        assert_eq!(
            file("made by a test", &least),
            "# made by a test\nbudgets:\n  - id: a\n    window: { every: day, zone: UTC }\n    limits: [{ tokens: 5 }]\n"
        );
        assert_eq!(file("", &BudgetSet::default()), "budgets: []\n");
        for (text, quoted) in
            [("007", true), ("1e3", true), ("No", true), ("null", true), ("a:b", true), ("gpt-5.1", false)]
        {
            assert_eq!(plain(text).starts_with('"'), quoted, "{text}");
        }
    }
}
