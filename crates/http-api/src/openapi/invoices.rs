//! The operations of invoices.

use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::operations::{Operation, json_answer, text_parameter};
use crate::Method;
use crate::invoices::InvoiceView;
use crate::routes::budgets::{ACTOR, REASON};

const PATH: &str = "/v1/invoices/{provider}/{number}";

/// All of them.
pub(super) fn all(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let operation = |method, path, object| Operation { method, path, object };
    let one = json_answer::<InvoiceView>(generator);
    vec![
        operation(Method::Get, "/v1/invoices", list(generator)),
        operation(Method::Get, PATH, read(&one)),
        operation(Method::Put, PATH, put(&one)),
        operation(Method::Delete, PATH, delete()),
    ]
}

fn identity() -> [Value; 2] {
    [
        text_parameter("provider", "path", "The provider, as events name it."),
        text_parameter("number", "path", "The invoice's number."),
    ]
}

fn stated() -> [Value; 2] {
    [text_parameter(ACTOR, "header", "Who does it; not proven."), text_parameter(REASON, "header", "Why.")]
}

fn list(generator: &mut SchemaGenerator) -> Value {
    json!({
        "operationId": "invoices",
        "summary": "Invoices of providers, the newest month first, without their lines",
        "responses": { "200": json_answer::<Vec<InvoiceView>>(generator) },
    })
}

fn read(one: &Value) -> Value {
    json!({
        "operationId": "invoice", "summary": "One invoice with its lines", "parameters": identity(), "responses": { "200": one },
    })
}

fn put(one: &Value) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let line = json!({
        "type": "object",
        "properties": {
            "day": { "type": "string", "format": "date", "description": "In UTC; in the invoice's month." },
            "model": text("As the provider names it."),
            "item": text("What of it, like `input`."),
            "tokens": { "type": "integer", "description": "Of all classes." },
            "cost": text("In whole units of the currency, like `12.5`."),
        },
    });
    let schema = json!({
        "type": "object",
        "required": ["month", "currency"],
        "properties": {
            "month": text("Like `2026-10`, in UTC."),
            "currency": text("Of all costs, like `USD`."),
            "total": text("What is owed. What the lines do not explain of it becomes a line. Left out: the sum of the lines."),
            "lines": { "type": "array", "items": line, "description": "Several of the same day, model and item are summed up." },
        },
    });
    let mut made = one.clone();
    made["description"] = "It was not known before.".into();
    json!({
        "operationId": "putInvoice",
        "summary": "Keep an invoice, in place of an earlier one of this provider and number",
        "description": "It is in the audit log and on disk when this answers.",
        "parameters": identity().into_iter().chain(stated()).collect::<Vec<_>>(),
        "requestBody": { "required": true, "content": { "application/json": { "schema": schema } } },
        "responses": { "200": one, "201": made },
    })
}

fn delete() -> Value {
    json!({
        "operationId": "deleteInvoice",
        "summary": "Forget an invoice",
        "parameters": identity().into_iter().chain(stated()).collect::<Vec<_>>(),
        "responses": { "204": { "description": "It is forgotten; the audit log has it." } },
    })
}
