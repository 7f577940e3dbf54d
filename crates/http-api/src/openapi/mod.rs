//! The OpenAPI 3.1 document. The shapes of bodies come from the Rust types themselves (through schemars), the operations from
//! [`operations`]; a test holds them against the table of routes, and another against the copy in `schemas/`.

mod budgets;
mod increases;
mod invoices;
mod operations;

pub use operations::OTLP_PATHS;

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::router::needs_key;
use crate::{ApiProblem, Method, schema};

static DOCUMENT: LazyLock<String> = LazyLock::new(text);

/// Serves the document.
pub(crate) async fn serve() -> Response {
    let mut response = Response::new(Body::from(DOCUMENT.as_str()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The document as it is checked in: indented, with a line end.
#[must_use]
pub fn text() -> String {
    format!("{:#}\n", document())
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths = Map::new();
    for operation in operations::all(&mut generator) {
        let entry = paths.entry(templated(operation.path)).or_insert_with(|| json!({}));
        for name in names(operation.method) {
            let mut object = operation.object.clone();
            if operation.method == Method::Any {
                object["operationId"] = format!("{}_{name}", object["operationId"].as_str().unwrap_or_default()).into();
            }
            entry[*name] = finish(operation.path, object);
        }
    }
    let responses = operations::shared_responses(&mut generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Outlay",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Meters AI spend, enforces budgets, charges back.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas(generator), "responses": responses, "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } } },
    })
}

/// The operations that a route's method stands for.
#[must_use]
pub const fn names(method: Method) -> &'static [&'static str] {
    match method {
        Method::Get => &["get"],
        Method::Post => &["post"],
        Method::Put => &["put"],
        Method::Delete => &["delete"],
        Method::Any => &["get", "post", "put", "patch", "delete"],
    }
}

/// A path of the router as the document writes it: `{path}` for what may have slashes in it, too.
#[must_use]
pub fn templated(path: &str) -> String {
    path.replace("{*", "{")
}

/// Adds what every operation has: the key where it is needed, and, where it says nothing of that itself, problems as the answer to what goes
/// wrong.
fn finish(path: &str, mut operation: Value) -> Value {
    let is_ours = operation["responses"]["default"].is_null();
    operation["security"] = if needs_key(path) { json!([{ "key": [] }]) } else { json!([]) };
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": { ApiProblem::CONTENT_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } },
        })
    };
    if !is_ours {
        return operation;
    }
    if needs_key(path) {
        operation["responses"]["401"] = problem("The key is missing or wrong.");
    }
    operation["responses"]["default"] = problem("What went wrong, for programs (`code`) and people (`detail`).");
    operation
}

fn schemas(mut generator: SchemaGenerator) -> Value {
    // Those that no body refers to by itself.
    generator.subschema_for::<schema::Decision>();
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".into(), problem_schema());
    Value::Object(schemas)
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457). Some problems have further members.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "description": "For programs." },
            "detail": { "type": "string", "description": "For people: what is wrong and what to do." },
            "field": { "type": "string", "description": "The field or parameter that is meant." },
        },
    })
}
