//! The operations of increase requests.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::operations::{Operation, json_answer, text_parameter};
use crate::Method;
use crate::increases::{IncreaseRequest, IncreaseState};
use crate::routes::budgets::{ACTOR, REASON};

const ANSWERED: &str = "It was answered, withdrawn or over already: `state` says which. Or what it asks for cannot be granted any more: `field` \
                        says what.";

/// All of them.
pub(super) fn all(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let operation = |method, path, object| Operation { method, path, object };
    let one = json_answer::<IncreaseRequest>(generator);
    let terms = [
        ("limit", json!({ "type": "object", "description": "Less than was asked for, of one measure." })),
        ("limits", json!({ "type": "array", "items": { "type": "object" }, "description": "The same of several." })),
        ("until", json!({ "type": "string", "format": "date-time", "description": "Sooner than was asked for." })),
    ];
    vec![
        operation(Method::Get, "/v1/increase-requests", list(generator)),
        operation(Method::Post, "/v1/increase-requests", ask(&one)),
        operation(Method::Get, "/v1/increase-requests/{id}", read(&one)),
        operation(
            Method::Post,
            "/v1/increase-requests/{id}/approve",
            answer(&one, "approveIncrease", "Grant a request, or less than it asks for", &terms, false),
        ),
        operation(
            Method::Post,
            "/v1/increase-requests/{id}/deny",
            answer(&one, "denyIncrease", "Refuse a request", &[], true),
        ),
        operation(
            Method::Post,
            "/v1/increase-requests/{id}/withdraw",
            answer(&one, "withdrawIncrease", "Take back a request, or end what is granted", &[], false),
        ),
    ]
}

fn id() -> Value {
    text_parameter("id", "path", "The request's id.")
}

fn list(generator: &mut SchemaGenerator) -> Value {
    let states = IncreaseState::ALL.map(IncreaseState::name).join(", ");
    json!({
        "operationId": "increaseRequests",
        "summary": "Requests for higher limits, the newest first",
        "description": "All that are pending or granted, and the last of those that are over; the audit log has all.",
        "parameters": [
            text_parameter("state", "query", &format!("Only those that stand so: {states}.")),
            text_parameter("budget", "query", "Only those of this budget."),
        ],
        "responses": { "200": json_answer::<Vec<IncreaseRequest>>(generator) },
    })
}

fn read(one: &Value) -> Value {
    json!({
        "operationId": "increaseRequest", "summary": "One request for higher limits", "parameters": [id()], "responses": { "200": one },
    })
}

fn ask(one: &Value) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let limit = |description: &str| json!({ "type": "object", "description": description });
    let schema = json!({
        "type": "object",
        "required": ["budget", "justification"],
        "properties": {
            "budget": text("The budget's id."),
            "scope": limit("For whom: the values of what the budget splits by."),
            "limit": limit("The limit that is wished, as in a budgets file, like `{\"tokens\": 2000000}`. One of `limit`, `limits` and `add` is needed."),
            "limits": { "type": "array", "items": { "type": "object" }, "description": "The same of several measures." },
            "add": limit("So much more than the limit of now; or a list."),
            "until": { "type": "string", "format": "date-time", "description": "Until when; left out: to the end of the window in which it is granted." },
            "justification": text("Why."),
        },
    });
    let mut made = one.clone();
    made["description"] = "It waits for an answer.".into();
    json!({
        "operationId": "askIncrease",
        "summary": "Ask for higher limits of one scope of a budget, for a time",
        "parameters": [text_parameter(ACTOR, "header", "Who asks; not proven.")],
        "requestBody": { "required": true, "content": { "application/json": { "schema": schema } } },
        "responses": {
            "201": made,
            "409": problem("There is a pending request of this budget and scope already (`id`), or there are too many of all."),
        },
    })
}

fn answer(one: &Value, id_of: &str, summary: &str, more: &[(&str, Value)], is_needed: bool) -> Value {
    let mut properties = json!({ "reason": { "type": "string", "description": "Why." } });
    more.iter().for_each(|(name, schema)| properties[*name] = schema.clone());
    let mut schema = json!({ "type": "object", "properties": properties });
    if is_needed {
        schema["required"] = json!(["reason"]);
    }
    json!({
        "operationId": id_of,
        "summary": summary,
        "description": "It is on disk and in force when this answers. Of several answers at the same time one is taken.",
        "parameters": [
            id(),
            text_parameter(ACTOR, "header", "Who answers; not proven."),
            text_parameter(REASON, "header", "Why, where the body does not say."),
        ],
        "requestBody": { "required": false, "content": { "application/json": { "schema": schema } } },
        "responses": { "200": one, "409": problem(ANSWERED) },
    })
}

fn problem(description: &str) -> Value {
    json!({
        "description": description,
        "content": { crate::ApiProblem::CONTENT_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}
