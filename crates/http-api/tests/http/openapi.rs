//! The OpenAPI document against the table of routes, against what is checked in, and against what is really answered.

use std::collections::BTreeSet;

use http_api::{Engine, Method, openapi, routes};
use serde_json::Value;

use crate::client::{ask, get, start};
use crate::fake::FakeEngine;
use crate::increases::ASK;

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = openapi::document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            described.insert((path.clone(), method.clone()));
        }
    }
    let otlp = openapi::OTLP_PATHS.map(|path| (Method::Post, path));
    let served: BTreeSet<_> = routes()
        .into_iter()
        .chain(otlp)
        .flat_map(|(method, path)| {
            openapi::names(method).iter().map(move |name| (openapi::templated(path), (*name).to_owned()))
        })
        .collect();
    assert_eq!(described, served);
}

#[test]
fn the_checked_in_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/openapi.json");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == openapi::text(),
        "schemas/openapi.json is not current; run: cargo run -p http-api --example openapi > schemas/openapi.json"
    );
}

#[test]
fn operation_ids_are_unique_and_references_lead_somewhere() {
    let document = openapi::document();
    let mut ids = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(id) = value["operationId"].as_str() {
            assert!(ids.insert(id.to_owned()), "{id} twice");
        }
        if let Some(reference) = value["$ref"].as_str() {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    });
}

fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn what_is_answered_has_the_shape_that_the_document_promises() {
    let server = start().await;
    let document: Value = get(server.addr, "/openapi.json").await.json();
    for (method, path, pattern, body) in [
        ("GET", "/v1/status", "/v1/status", ""),
        ("GET", "/v1/balances", "/v1/balances", ""),
        ("GET", "/v1/decisions", "/v1/decisions", ""),
        ("GET", "/v1/check?namespace=support", "/v1/check", ""),
        ("GET", "/v1/check?namespace=other", "/v1/check", ""),
        ("POST", "/v1/check", "/v1/check", r#"{"namespace":"other","estimate":{"text":"hello"}}"#),
        ("POST", "/v1/reservations", "/v1/reservations", r#"{"namespace":"other"}"#),
        ("POST", "/v1/reservations", "/v1/reservations", r#"{"namespace":"support"}"#),
        (
            "POST",
            "/v1/events",
            "/v1/events",
            r#"[{"time":"2026-11-21T10:00:00Z","namespace":"a","requests":1},{"time":5}]"#,
        ),
        ("GET", "/v1/reports", "/v1/reports", ""),
        (
            "POST",
            "/v1/budgets-plan",
            "/v1/budgets-plan",
            "budgets: [{ id: support-daily, window: { every: day }, limit: { tokens: 5 } }, { id: b, window: { every: day }, limit: { tokens: 5 } }]",
        ),
        ("POST", "/v1/budgets-plan", "/v1/budgets-plan", ""),
        ("GET", "/v1/increase-requests", "/v1/increase-requests", ""),
        ("GET", "/v1/increase-requests/r-1", "/v1/increase-requests/{id}", ""),
        ("POST", "/v1/increase-requests", "/v1/increase-requests", ASK),
        ("POST", "/v1/increase-requests/r-1/approve", "/v1/increase-requests/{id}/approve", ""),
        ("POST", "/v1/increase-requests/r-2/withdraw", "/v1/increase-requests/{id}/withdraw", ""),
        (
            "POST",
            "/v1/simulations",
            "/v1/simulations",
            r#"{"budgets":{"budgets":[{"id":"a","window":{"every":"day"},"limit":{"requests":1}}]},"from":"2026-11-01T00:00:00Z","to":"2026-11-02T00:00:00Z"}"#,
        ),
        ("GET", "/v1/standing?budget=a&namespace=support", "/v1/standing", ""),
        ("GET", "/v1/nothing", "/v1/status", ""),
    ] {
        let answer = ask(server.addr, method, path, &[], body).await;
        let responses = &document["paths"][pattern][method.to_lowercase()]["responses"];
        let response = if answer.status == 404 { &responses["default"] } else { &responses[answer.status.as_str()] };
        let shared = response["$ref"].as_str().map(|path| document.pointer(path.trim_start_matches('#')).unwrap());
        let response = shared.unwrap_or(response);
        let schema = &response["content"][answer.header("content-type")]["schema"];
        assert!(schema.is_object(), "{path}: {response}");
        conforms(&document, schema, &answer.json(), path);
    }
}

/// Whether a value has the shape of a schema, as far as the schemas of this document go.
fn conforms(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(document, document.pointer(reference.trim_start_matches('#')).unwrap(), value, place);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        conforms(document, part, value, place);
    }
    if let Some(options) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        if value.is_null() {
            assert!(options.iter().any(|option| option["type"] == "null"), "{place} is null");
            return;
        }
        // Either the enum of constants, or a nullable reference.
        if options.iter().all(|option| option["const"].is_string()) {
            assert!(options.iter().any(|option| option["const"] == *value), "{place}: {value} is none of {options:?}");
            return;
        }
        let option = options.iter().find(|option| option["type"] != "null").unwrap();
        return conforms(document, option, value, place);
    }
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{place}: {value} is none of {values:?}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    let is_type =
        types == kind || types.as_array().is_some_and(|types| types.iter().any(|t| t == kind)) || types.is_null();
    assert!(is_type, "{place}: {kind} instead of {types}");
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, &format!("{place}[]"));
    }
    let Some(members) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(members.contains_key(name.as_str().unwrap()), "{place} lacks {name}");
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, member) in members {
            let property = properties.get(name);
            assert!(property.is_some(), "{place}.{name} is not described");
            conforms(document, property.unwrap(), member, &format!("{place}.{name}"));
        }
    }
}

#[test]
fn mirrored_schemas_describe_every_field_of_the_real_types() {
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    let mut decision = crate::fake::blocked("support", 1).shadowed();
    decision.rolled_back = Some(usage_types::RolledBack { revision: "a4".into(), blocked: 1, scopes: 2 });
    decision.overage = Some("5".into());
    decision.progress = Some(usage_types::Progress { processed: 1, total: None });
    decision.currency = Some(usage_types::Currency::USD);
    decision.throttle = Some(crate::fake::throttle());
    decision.would_throttle = Some(crate::fake::throttle());
    let mut alert = FakeEngine::default().status().alerts.remove(0);
    alert.currency = Some(usage_types::Currency::USD);
    alert.overage = Some("5".into());
    alert.predicted = Some(usage_types::Predicted { over_s: 300, within_s: 1800 });
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&serde_json::to_value(&decision).unwrap()), names(&schemas["Decision"]["properties"]));
    assert_eq!(names(&serde_json::to_value(&alert).unwrap()), names(&schemas["Alert"]["properties"]));
}
