//! The JSON Schemas in `schemas/` describe what the code reads and writes: names and bounds in them are generated from the types, and the
//! whole is held against what is written, what is accepted and what is refused.
#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "../examples/schemas/fill.rs"]
mod fill;
#[path = "../examples/schemas/tree.rs"]
mod tree;

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};
use usage_intake::{DeadLetter, Headers, Intake, RecordParts};
use usage_types::{
    Alert, BudgetSet, Currency, Decision, DecisionState, Dimension, Every, Predicted, Progress, Rate, ReasonCode,
    RejectCode, Rejection, RolledBack, Scope, Throttle, ThrottleReason, TimeUs, TokenClass, Window, WindowKind,
};

const EVENT: &str = include_str!("../../../schemas/usage-event.v1.json");
const DECISION: &str = include_str!("../../../schemas/decision.v1.json");
const ALERT: &str = include_str!("../../../schemas/alert.v1.json");
const REJECTED: &str = include_str!("../../../schemas/rejected.v1.json");
const BUDGETS: &str = include_str!("../../../schemas/budgets.v1.json");

fn json_of(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap()
}

fn validator(schema: &str) -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(&json_of(schema)).unwrap()
}

fn check_valid(validator: &Validator, what: &str, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value}");
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A schema has exactly the members that the type writes; each required one is missed when it is gone, and a wrong type of any is noticed.
fn check_written(schema: &str, written: &Value) {
    let (schema, validator) = (json_of(schema), validator(schema));
    check_valid(&validator, "as written", written);
    assert_eq!(names(&schema["properties"]), names(written));
    for name in texts(&schema["required"]) {
        let mut without = written.clone();
        without.as_object_mut().unwrap().remove(&name);
        assert!(!validator.is_valid(&without), "{name} is not missed");
    }
    for name in names(written) {
        let mut wrong = written.clone();
        wrong[&name] = json!([[]]);
        assert!(!validator.is_valid(&wrong), "a wrong {name} is not noticed");
    }
}

fn values(fixture: &str) -> Vec<(String, Value)> {
    let rows = fixture.lines().map(json_of);
    rows.filter_map(|row| {
        let value: Value = serde_json::from_str(row["value"].as_str()?).ok()?;
        Some((row["case"].as_str()?.to_owned(), value))
    })
    .filter(|(_, value)| value.get("specversion").is_none())
    .collect()
}

#[test]
fn every_schema_is_a_schema() {
    for schema in [EVENT, DECISION, ALERT, REJECTED, BUDGETS] {
        let schema = json_of(schema);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{}", schema["$id"]);
    }
}

#[test]
fn every_schema_has_the_names_and_bounds_of_the_types() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    for file in fill::FILES {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(fill::filled(file, &text).unwrap() == text, "schemas/{file} is not current; run: ./dev generate");
    }
}

#[test]
fn the_events_schema_takes_every_good_event() {
    let validator = validator(EVENT);
    let good = values(include_str!("../../../tests/data/good-events.ndjson"));
    assert!(good.len() >= 12);
    for (case, value) in good {
        check_valid(&validator, &case, &value);
    }
    for example in json_of(EVENT)["examples"].as_array().unwrap() {
        check_valid(&validator, "example", example);
        assert!(Intake::default().decode_record(Some(example.to_string().as_bytes()), &Headers::NONE, None).is_ok());
    }
}

/// Cases that JSON Schema cannot tell from good ones: a member given twice is gone once the JSON is read, 1.0 is an integer to it,
/// and it cannot compute a date.
const BEYOND_A_SCHEMA: [&str; 10] = [
    "a count with a point",
    "a count with an exponent",
    "a member given twice",
    "a member given twice, once escaped",
    "a token class given twice",
    "a tag given twice",
    "a cost's amount given twice",
    "a correction of itself",
    "a role given twice",
    "more records done than there are",
];

#[test]
fn the_events_schema_refuses_every_bad_event_that_a_schema_can() {
    let validator = validator(EVENT);
    let bad = values(include_str!("../../../tests/data/bad-events.ndjson"));
    assert!(bad.len() >= 60);
    let taken: BTreeSet<_> =
        bad.iter().filter(|(_, value)| validator.is_valid(value)).map(|(case, _)| case.as_str()).collect();
    assert_eq!(taken, BTreeSet::from(BEYOND_A_SCHEMA));
}

#[test]
fn the_names_in_the_schemas_are_those_of_the_code() {
    let dimensions: BTreeSet<_> = Dimension::ALL.iter().map(|dimension| dimension.name().to_owned()).collect();
    let classes: BTreeSet<_> = TokenClass::ALL.iter().map(|class| class.name().to_owned()).collect();
    let columns: BTreeSet<_> = TokenClass::ALL.iter().map(|class| class.column().to_owned()).collect();
    let windows: BTreeSet<_> = Every::ALL.iter().map(|every| every.name().to_owned()).collect();
    let event = json_of(EVENT);
    assert!(dimensions.is_subset(&names(&event["properties"])));
    assert_eq!(names(&event["properties"]["tokens"]["properties"]), classes);
    let decision = json_of(DECISION);
    let alert = json_of(ALERT);
    for schema in [&decision, &alert] {
        assert_eq!(texts(&schema["properties"]["scope"]["propertyNames"]["enum"]), dimensions);
        assert!(columns.is_subset(&texts(&schema["properties"]["measure"]["enum"])));
    }
    let reasons: BTreeSet<_> = (Dimension::ALL.into_iter().map(ReasonCode::QuotaExceeded))
        .chain([ReasonCode::GlobalQuotaExceeded, ReasonCode::CircuitOpen])
        .chain([ReasonCode::WithinQuota, ReasonCode::BudgetRemoved])
        .map(|reason| reason.to_string())
        .collect();
    assert_eq!(texts(&decision["properties"]["reason_code"]["enum"]), reasons);
    let throttles: BTreeSet<_> = ThrottleReason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    for member in ["throttle", "would_throttle"] {
        assert_eq!(texts(&decision["properties"][member]["properties"]["reason_code"]["enum"]), throttles);
    }
    let kinds: BTreeSet<_> = WindowKind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(texts(&alert["properties"]["every"]["enum"]), kinds);
    let codes: BTreeSet<_> = RejectCode::ALL.iter().map(|code| code.name().to_owned()).collect();
    assert_eq!(texts(&json_of(REJECTED)["properties"]["code"]["enum"]), codes);
    let budgets = json_of(BUDGETS);
    let budget = &budgets["$defs"]["budget"]["properties"];
    assert_eq!(texts(&budget["match"]["propertyNames"]["enum"]), dimensions);
    assert_eq!(texts(&budget["per"]["items"]["enum"]), dimensions);
    assert_eq!(texts(&budget["window"]["properties"]["every"]["enum"]), windows);
    let limits = names(&budgets["$defs"]["limit"]["properties"]);
    assert!(classes.is_subset(&limits) && columns.is_subset(&limits));
}

fn window() -> Window {
    Window { start: TimeUs(0), end: TimeUs(TimeUs::DAY), zone: chrono_tz::Europe::Berlin }
}

fn decision() -> Decision {
    Decision {
        budget: "support-daily".into(),
        scope: Scope::new([(Dimension::Namespace, "support")]),
        state: DecisionState::Blocked,
        reason_code: ReasonCode::exceeded(Some(Dimension::Namespace)),
        http_status: 403,
        measure: "cost".into(),
        currency: Some(Currency::USD),
        limit: "500".into(),
        used: "500.0000125".into(),
        seq: 17,
        window: window(),
        decided_at: TimeUs(1),
        expires_at: TimeUs(TimeUs::DAY),
        would_block: None,
        rolled_back: None,
        overage: None,
        progress: Some(Progress { processed: 8200, total: Some(10_000) }),
        throttle: None,
        would_throttle: None,
    }
}

#[test]
fn the_decisions_schema_describes_what_is_published() {
    let rolled_back = Some(RolledBack { revision: "a4".into(), blocked: 3, scopes: 12 });
    let overage = Some("50".into());
    let throttle = Some(Throttle::new(ThrottleReason::CircuitHalfOpen, Rate { requests: 5, per_s: 60 }, 1));
    let everything = Decision {
        rolled_back: rolled_back.clone(),
        overage,
        throttle: throttle.clone(),
        would_throttle: throttle.clone(),
        ..decision().shadowed()
    };
    check_written(DECISION, &serde_json::to_value(everything).unwrap());
    let validator = validator(DECISION);
    check_valid(&validator, "blocked", &serde_json::to_value(decision()).unwrap());
    let circuit = Decision { reason_code: ReasonCode::CircuitOpen, http_status: 429, ..decision() };
    check_valid(&validator, "an open circuit", &serde_json::to_value(&circuit).unwrap());
    check_valid(&validator, "one in shadow", &serde_json::to_value(circuit.shadowed()).unwrap());
    let allowed = Decision {
        state: DecisionState::Allowed,
        reason_code: ReasonCode::WithinQuota,
        http_status: 200,
        measure: "tokens".into(),
        currency: None,
        scope: Scope::default(),
        ..decision()
    };
    check_valid(&validator, "allowed", &serde_json::to_value(&allowed).unwrap());
    let throttled = Decision { throttle: throttle.clone(), ..allowed.clone() };
    check_valid(&validator, "throttled", &serde_json::to_value(&throttled).unwrap());
    check_valid(&validator, "throttled in shadow", &serde_json::to_value(throttled.shadowed()).unwrap());
    for contradiction in [
        Decision { http_status: 200, ..decision() },
        Decision { reason_code: ReasonCode::WithinQuota, ..decision() },
        Decision { currency: None, ..decision() },
        Decision { currency: Some(Currency::USD), ..allowed.clone() },
        Decision { http_status: 403, ..allowed.clone() },
        Decision { seq: 0, ..decision() },
        Decision { measure: "money".into(), ..decision() },
        Decision { would_block: decision().shadowed().would_block, ..decision() },
        Decision { http_status: 200, ..decision() }.shadowed(),
        Decision { rolled_back, ..decision() },
        Decision { throttle: throttle.clone(), ..decision() },
        Decision { would_throttle: throttle, ..decision() },
        Decision { reason_code: ReasonCode::WithinQuota, ..decision() }.shadowed(),
    ] {
        assert!(!validator.is_valid(&serde_json::to_value(&contradiction).unwrap()), "{contradiction:?}");
    }
}

#[test]
fn the_followers_vectors_are_decisions_under_their_keys() {
    let vectors = json_of(include_str!("../../../examples/followers/vectors.json"));
    let validator = validator(DECISION);
    let mut seen = 0;
    for record in vectors["steps"].as_array().unwrap().iter().flat_map(|step| step["publish"].as_array().unwrap()) {
        let Some(text) = record["value"].get("scope").map(|_| record["value"].to_string()) else { continue };
        check_valid(&validator, "a vector", &record["value"]);
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap().key(), record["key"]);
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn the_alerts_schema_describes_what_is_published() {
    let alert = Alert {
        id: "support-daily|namespace=support|day|1970-01-01T00:00:00Z|0.8".into(),
        budget: "support-daily".into(),
        scope: Scope::new([(Dimension::Namespace, "support")]),
        window: window(),
        every: Every::Day.name().into(),
        window_name: Some("day at 06:00".into()),
        threshold: "0.8".into(),
        measure: "cost".into(),
        currency: Some(Currency::USD),
        limit: "500".into(),
        used: "400.5".into(),
        burn_per_hour: "20".into(),
        exhausted_at: Some(TimeUs(TimeUs::HOUR)),
        mode: "hard".into(),
        raised_at: TimeUs(1),
        to: vec!["lead@example.com".into()],
        overage: Some("50.5".into()),
        progress: Some(Progress { processed: 8200, total: None }),
        predicted: Some(Predicted { over_s: 300, within_s: 1800 }),
    };
    check_written(ALERT, &serde_json::to_value(&alert).unwrap());
    let least = Alert {
        measure: "tokens".into(),
        currency: None,
        exhausted_at: None,
        window_name: None,
        to: Vec::new(),
        overage: None,
        progress: None,
        predicted: None,
        ..alert
    };
    check_valid(&validator(ALERT), "least", &serde_json::to_value(&least).unwrap());
}

#[test]
fn the_rejecteds_schema_describes_what_is_published() {
    let headers: [(&str, &[u8]); 1] = [("x", b"\xff")];
    let mut record = RecordParts {
        topic: "usage.events",
        partition: 0,
        offset: 0,
        append_time: TimeUs(0),
        key: Some(b"k"),
        value: Some(b"\xff"),
        headers: Headers::new(&headers),
    };
    let rejection = Rejection::field(RejectCode::BadUtf8, "id", "no");
    check_written(REJECTED, &serde_json::to_value(DeadLetter::new(&record, &rejection)).unwrap());
    (record.key, record.value, record.headers) = (None, None, Headers::NONE);
    let least = DeadLetter::new(&record, &Rejection::new(RejectCode::Empty, "nothing"));
    check_valid(&validator(REJECTED), "least", &serde_json::to_value(least).unwrap());
}

#[test]
fn the_budgets_schema_and_the_reader_agree() {
    let validator = validator(BUDGETS);
    let check = |text: &str, is_good: bool| {
        assert_eq!(BudgetSet::from_yaml(text).is_ok(), is_good, "reader: {:?}\n{text}", BudgetSet::from_yaml(text));
        let value: Value = serde_saphyr::from_str(text).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), is_good, "schema: {errors:?}\n{text}");
    };
    for good in ["budgets: []", "budgets:", "{}"] {
        check(good, true);
    }
    for bad in ["budgets: 5", "budgts: []", "[]", "budgets: [{}]", "budgets: [a]"] {
        check(bad, false);
    }
    let budget = |limit: &str, rest: &str| {
        format!("budgets:\n  - {{ id: b, window: {{ every: day, zone: Europe/Berlin }}, limit: {limit}{rest} }}\n")
    };
    for (limit, is_good) in [
        ("{ tokens: 1000000 }", true),
        ("{ tokens: \"1000000\" }", true),
        ("{ cache_read: 5 }", true),
        ("{ output_tokens: 5 }", true),
        ("{ compute_hours: 12.5 }", true),
        ("{ compute_seconds: \"0.5\" }", true),
        ("{ cost: \"500.00 USD\" }", true),
        ("{ cost: 500 USD }", true),
        ("{}", false),
        ("5", false),
        ("{ tokens: 0 }", false),
        ("{ tokens: -1 }", false),
        ("{ tokens: 1.5 }", false),
        ("{ tokens: many }", false),
        ("{ token: 5 }", false),
        ("{ tokens: 5, requests: 5 }", false),
        ("{ tokens: 5, overage: 2 }", true),
        ("{ overage: 2 }", false),
        ("{ tokens: 5 }, limits: [{ requests: 5 }]", false),
        ("{ images: 5 }", true),
        ("{ compute_hours: 0 }", false),
        ("{ cost: 500 }", false),
        ("{ cost: 0.00 USD }", false),
        ("{ cost: 5 usd }", false),
    ] {
        check(&budget(limit, ""), is_good);
    }
    for (limits, is_good) in [
        ("[{ tokens: 5 }]", true),
        ("[{ tokens: 5 }, { output: 3 }, { cost: 5 USD }, { cost: 5 EUR }]", true),
        ("[]", false),
        ("{ tokens: 5 }", false),
        ("[{ tokens: 5, requests: 5 }]", false),
        ("[5]", false),
    ] {
        let text = format!("budgets:\n  - {{ id: b, window: {{ every: day }}, limits: {limits} }}\n");
        check(&text, is_good);
    }
    check("budgets:\n  - { id: b, window: { every: day } }\n", false);
    check("budgets:\n  - { id: b, window: { rolling: 1h }, limit: { tokens: 5 }, predict: { warn: 5m } }\n", false);
    let presses = "pressure: { low: { at: 80%, requests: 10, within: 1m } }";
    check(&format!("budgets:\n  - {{ id: b, window: {{ rolling: 1h }}, limit: {{ tokens: 5 }}, {presses} }}\n"), false);
    for (window, is_good) in [
        ("{ every: month, anchor: 31, at: \"06:00\", zone: UTC }", true),
        ("{ every: month, anchor: \"15\" }", true),
        ("{ every: week, anchor: Sunday }", true),
        ("{ every: quarter, anchor: 02-29 }", true),
        ("{ every: year, anchor: 04-06 }", true),
        ("{ every: day, at: \"06:00\" }", true),
        ("{ rolling: 90 minutes, zone: Asia/Tokyo }", true),
        ("{ rolling: 24h }", true),
        ("{ rolling: 1 day, zone: }", true),
        ("{ rolling: 90 }", false),
        ("{ rolling: 90 seconds }", false),
        ("{ rolling: 0 minutes }", false),
        ("{ rolling: 1 hour, anchor: 5 }", false),
        ("{ rolling: 1 hour, idle: 1 hour }", false),
        ("{ rolling: 1 hour, every: day }", false),
        ("{ lifetime: session, idle: 24 hours }", true),
        ("{ lifetime: session }", false),
        ("{ lifetime: user, idle: 1 hour }", false),
        ("{ idle: 1 hour }", false),
        ("{ zone: UTC }", false),
        ("{ every: month, anchor: 32 }", false),
        ("{ every: month, anchor: sunday }", false),
        ("{ every: week, anchor: 1 }", false),
        ("{ every: year, anchor: 04-31 }", false),
        ("{ every: quarter, anchor: 2 }", false),
        ("{ every: day, anchor: 5 }", false),
        ("{ every: hour, at: \"06:00\" }", false),
        ("{ every: day, at: \"24:00\" }", false),
    ] {
        check(
            &format!("budgets:\n  - {{ id: b, per: [session], window: {window}, limit: {{ tokens: 5 }} }}\n"),
            is_good,
        );
    }
    for (preset, is_good) in [
        ("{ mode: shadow }", true),
        ("{ mode: canary, canary: 10%, rollback: { blocked_over: 20% }, overage: 5%, alerts: { at: [] } }", true),
        ("{}", true),
        ("{ limit: { tokens: 5 } }", false),
        ("{ mode: canary }", false),
        ("{ canary: 10% }", false),
        ("{ mode: soft, rollback: { blocked_over: 20% } }", false),
        ("{ http_status: 500 }", false),
        ("5", false),
    ] {
        check(&format!("presets:\n  mine: {preset}\nbudgets: []\n"), is_good);
    }
    for (breaker, is_good) in [
        ("trip: [{ requests: 600, within: 1m }]", true),
        (
            "match: { team: a }, per: [agent], trip: [{ cost: 5 USD, within: 5m }, { output: 9, within: 10s }], mode: shadow",
            true,
        ),
        (
            "trip: [{ tokens: 5, within: 1m, times: 5, of: 30m }], open_for: 30s, half_open: { for: 1h, requests: 1 }",
            true,
        ),
        ("trip: [{ repeats: 20, within: 1 minute, tag: prompt_hash }], half_open: {}", true),
        ("trip: [{ requests: 5, within: 30 seconds }], open_for: 1 hour", true),
        ("trip: [{ requests: 5, within: 1 day }]", false),
        ("per: [agent]", false),
        ("trip: []", false),
        ("trip: [{ requests: 600 }]", false),
        ("trip: [{ within: 1m }]", false),
        ("trip: [{ requests: 600, tokens: 5, within: 1m }]", false),
        ("trip: [{ requests: 600, within: 60 }]", false),
        ("trip: [{ requests: 600, within: 0s }]", false),
        ("trip: [{ requests: 600, within: 1m, times: 5 }]", false),
        ("trip: [{ requests: 600, within: 1m, of: 5m }]", false),
        ("trip: [{ repeats: 20, within: 1m }]", false),
        ("trip: [{ requests: 20, within: 1m, tag: prompt_hash }]", false),
        ("trip: [{ repeats: 20, requests: 5, within: 1m, tag: prompt_hash }]", false),
        ("trip: [{ requests: 600, within: 1m }], mode: soft", false),
        ("trip: [{ requests: 600, within: 1m }], half_open: { requests: 0 }", false),
        ("trip: [{ requests: 600, within: 1m }], limit: { tokens: 5 }", false),
    ] {
        check(&format!("breakers:\n  - {{ id: b, {breaker} }}\n"), is_good);
    }
    for (rest, is_good) in [
        (", match: { namespace: support }, per: [user, api_key], mode: soft", true),
        (", match: {}, per: [], mode: hard, http_status: 429", true),
        (", match: { job: 17 }", true),
        (", alerts: { at: [0.8, 1.0, \"0.5\"], to: [a@b.org] }", true),
        (", alerts: {}", true),
        (", per: [user], overrides: [{ match: { user: a }, limit: { tokens: 9 } }]", true),
        (", per: [user], overrides: [{ match: { user: a }, limits: [{ tokens: 9 }] }]", true),
        (", per: [user], overrides: [{ match: {}, limit: { tokens: 9 } }]", false),
        (", per: [user], overrides: [{ match: { user: a } }]", false),
        (", per: [user], overrides: [{ match: { user: a }, limit: { tokens: 9 }, mode: soft }]", false),
        (
            ", per: [user], plans: { by: user, free: { limit: { tokens: 9 } }, paid: { of: [a, b], limit: { tokens: 9 } } }",
            true,
        ),
        (", per: [user], plans: { free: { limit: { tokens: 9 } } }", false),
        (", per: [user], plans: { by: user, free: { tokens: 9 } }", false),
        (", overcommit: true", true),
        (", overcommit: maybe", false),
        (", match: { tenant: x }", false),
        (", match: { user: [a, b] }", false),
        (", match: { user: \"\" }", false),
        (", per: user", false),
        (", per: [users]", false),
        (", per: [user, user]", false),
        (", mode: shadow", true),
        (", mode: block", false),
        (", overage: 10%", true),
        (", overage: { tokens: 5 }", true),
        (", overage: [{ tokens: 5 }]", true),
        (", overage: 10", false),
        (", overage: { token: 5 }", false),
        (", preset: ci", true),
        (", preset: production, mode: hard", true),
        (", preset: {}", false),
        (", per: [user], mode: canary, canary: 10%", true),
        (", per: [user], mode: canary, canary: 0.1, rollback: { blocked_over: 20%, at_least: 5 }", true),
        (", per: [user], rollback: { blocked_over: 0.25 }", true),
        (", per: [user], mode: canary", false),
        (", per: [user], canary: 10%", false),
        (", mode: canary, canary: 10%", false),
        (", per: [user], mode: canary, canary: 0%", false),
        (", per: [user], mode: canary, canary: 101%", false),
        (", per: [user], mode: canary, canary: 1.5", false),
        (", per: [user], mode: canary, canary: some", false),
        (", rollback: { blocked_over: 20% }", false),
        (", per: [user], mode: soft, rollback: { blocked_over: 20% }", false),
        (", per: [user], rollback: { at_least: 5 }", false),
        (", per: [user], rollback: { blocked_over: 20%, at_least: 0 }", false),
        (", predict: { warn: 30m, slow: 10 minutes, over: 5m, floor: { requests: 1, within: 1m } }", true),
        (", predict: { slow: 1h }", true),
        (
            ", priority: low, pressure: { low: { at: 80%, requests: 10, within: 1m }, normal: { at: 0.95, requests: 60, within: 1m } }",
            true,
        ),
        (", pressure: { normal: { at: 90%, requests: 10, within: 1h } }", true),
        (", priority: urgent", false),
        (", pressure: {}", false),
        (", pressure: { high: { at: 80%, requests: 10, within: 1m } }", false),
        (", pressure: { low: { at: 80% } }", false),
        (", pressure: { low: { at: 120%, requests: 10, within: 1m } }", false),
        (", predict: {}", false),
        (", predict: { over: 5m }", false),
        (", predict: { warn: soon }", false),
        (", predict: { warn: 5m, floor: 3 }", false),
        (", http_status: 500", false),
        (", alerts: { at: [0] }", false),
        (", alerts: { at: [10.5] }", false),
        (", alerts: { at: [80%] }", false),
        (", alerts: { to: [nobody] }", false),
        (", alerts: { to: [\"A <a@b.org>\"] }", false),
        (", alerts: { whom: [a@b.org] }", false),
        (", colour: red", false),
    ] {
        check(&budget("{ tokens: 5 }", rest), is_good);
    }
}
