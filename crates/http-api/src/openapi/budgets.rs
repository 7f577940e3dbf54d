//! The operations of budgets.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::operations::{Operation, json_answer, text_parameter};
use crate::Method;
use crate::budgets::BudgetsPlan;
use crate::routes::budgets::{ACTOR, REASON};

const FROM_FILE: &str = "The server was started with --budgets FILE, which rules: change that file.";
const MOVED_ON: &str = "They have changed since: read them again.";
const NO_VERSION: &str = "Neither If-Match nor If-None-Match was sent.";

/// All of them.
pub(super) fn all(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let operation = |method, path, object| Operation { method, path, object };
    vec![
        operation(Method::Get, "/v1/budgets", read("budgets", "All budgets", Vec::new())),
        operation(
            Method::Put,
            "/v1/budgets",
            write("replaceBudgets", "Replace all budgets", Vec::new(), &[("200", "The budgets now.")], true),
        ),
        operation(Method::Post, "/v1/budgets-plan", plan(generator)),
        operation(Method::Get, "/v1/budgets/{id}", read("budget", "One budget", vec![id()])),
        operation(
            Method::Put,
            "/v1/budgets/{id}",
            write(
                "putBudget",
                "Make or replace one budget",
                vec![id(), text_parameter("If-None-Match", "header", "`*` to make a new one, instead of If-Match.")],
                &[("200", "The budget now."), ("201", "The new budget.")],
                true,
            ),
        ),
        operation(
            Method::Delete,
            "/v1/budgets/{id}",
            write("deleteBudget", "Remove one budget", vec![id()], &[("204", "It is gone.")], false),
        ),
    ]
}

fn id() -> Value {
    text_parameter("id", "path", "The budget's id.")
}

/// A document with its tag. Its shape is that of the budgets file.
fn document(description: &str) -> Value {
    let schema =
        json!({ "type": "object", "description": "As in schemas/budgets.v1.json, with every default written out." });
    json!({
        "description": description,
        "headers": { "ETag": { "description": "Its version, for If-Match.", "schema": { "type": "string" } } },
        "content": { "application/json": { "schema": schema } },
    })
}

fn body() -> Value {
    let json = json!({ "type": "object", "description": "As in schemas/budgets.v1.json." });
    let yaml = json!({ "type": "string", "description": "The same in YAML." });
    json!({
        "required": true,
        "content": { "application/json": { "schema": json }, "application/yaml": { "schema": yaml } },
    })
}

fn read(id: &str, summary: &str, parameters: Vec<Value>) -> Value {
    json!({
        "operationId": id, "summary": summary, "parameters": parameters, "responses": { "200": document("The answer.") },
    })
}

fn plan(generator: &mut SchemaGenerator) -> Value {
    json!({
        "operationId": "planBudgets",
        "summary": "What these budgets would change",
        "description": "Compares a whole budgets file with the budgets in force, field by field, and says which scopes each change would \
                        block, or not block any more, at the balances of now. Nothing is changed.",
        "requestBody": body(),
        "responses": { "200": json_answer::<BudgetsPlan>(generator) },
    })
}

fn write(id: &str, summary: &str, parameters: Vec<Value>, answers: &[(&str, &str)], has_body: bool) -> Value {
    let mut parameters = parameters;
    parameters.extend([
        text_parameter("If-Match", "header", "The ETag of the version that the change is meant for, or `*` for any."),
        text_parameter(ACTOR, "header", "Who asks, for the audit log; not proven."),
        text_parameter(REASON, "header", "Why, for the audit log."),
    ]);
    let mut operation = json!({
        "operationId": id,
        "summary": summary,
        "description": "The change is on disk and in force when this answers.",
        "parameters": parameters,
        "responses": {},
    });
    if has_body {
        operation["requestBody"] = body();
    }
    for (status, description) in answers {
        operation["responses"][status] =
            if *status == "204" { json!({ "description": description }) } else { document(description) };
    }
    for (status, description) in [("409", FROM_FILE), ("412", MOVED_ON), ("428", NO_VERSION)] {
        operation["responses"][status] = json!({
            "description": description,
            "content": { crate::ApiProblem::CONTENT_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
    }
    operation
}
