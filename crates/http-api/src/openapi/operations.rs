//! What each route takes and answers, in words and schemas.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use usage_intake::IntakeConfig;
use usage_types::{Dimension, WindowKind};

use crate::routes::balances::TRUNCATED;
use crate::routes::check::{CheckBody, REFUSE_WITH, ReservationBody, TTL_DEFAULT_S, TTL_MAX_S, estimate};
use crate::routes::events::EventsAnswer;
use crate::routes::query::SqlBody;
use crate::routes::simulations::SimulationBody;
use crate::{BalanceRow, Method, OutputFormat, ReportInfo, SimulationView, StandingView, StatusView, page, schema};

/// One operation, before what all have in common is added.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) object: Value,
}

/// Every operation there is.
pub(super) fn all(generator: &mut SchemaGenerator) -> Vec<Operation> {
    let get = |path, object| Operation { method: Method::Get, path, object };
    let post = |path, object| Operation { method: Method::Post, path, object };
    let delete = |path, object| Operation { method: Method::Delete, path, object };
    let any = |path, object| Operation { method: Method::Any, path, object };
    let check_with_body = check("checkWithBody", Some(&question(&[])));
    let mut operations = vec![
        post("/v1/events", publish(generator, "publishEvents", "Publish usage events")),
        post(
            "/api/v1/events",
            publish(generator, "publishOpenMeterEvents", "The same, where clients of OpenMeter send"),
        ),
        post("/v1/litellm", litellm(generator)),
        get("/v1/check", check("check", None)),
        post("/v1/check", check_with_body),
        any("/v1/check/", forwarded_check("checkRoot")),
        any("/v1/check/{*path}", forwarded_check("checkBelow")),
        post("/v1/reservations", reserve(generator)),
        delete("/v1/reservations/{id}", release()),
        get("/v1/balances", balances(generator)),
        get("/v1/decisions", decisions(generator)),
        get("/v1/decisions/stream", stream()),
        post("/v1/sql", sql(generator)),
        get("/v1/reports", simple("reports", "Which reports there are", &json_answer::<Vec<ReportInfo>>(generator))),
        get("/v1/reports/{name}", report()),
        post("/v1/simulations", simulate(generator)),
        get("/v1/standing", standing(generator)),
        get("/v1/status", simple("status", "Everything that the page shows", &json_answer::<StatusView>(generator))),
        get("/v1/mails/{id}", mail()),
        get("/healthz", simple("healthz", "Whether the process answers", &object_answer())),
        get("/readyz", simple("readyz", "Whether events and checks are served; 503 where not", &object_answer())),
        get("/metrics", simple("metrics", "Metrics for Prometheus", &text_answer("text/plain"))),
        get("/openapi.json", simple("openapi", "This document", &object_answer())),
    ];
    operations.extend(super::budgets::all(generator));
    operations.extend(super::increases::all(generator));
    operations.extend(super::invoices::all(generator));
    operations.extend(OTLP_PATHS.map(|path| post(path, otlp(path))));
    operations.extend(page::ASSETS.iter().map(|asset| {
        let id = format!("page{}", asset.path.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        get(asset.path, simple(&id, "A file of the web page", &text_answer(asset.content_type)))
    }));
    operations
}

/// Where OTLP is taken. These routes are served by whoever brings them ([`crate::Server::with_routes`]), and are described here because
/// they are found at the same address.
pub const OTLP_PATHS: [&str; 3] = ["/v1/traces", "/v1/logs", "/v1/metrics"];

/// OTLP's answers are its own: in the encoding of the request, errors as `google.rpc.Status`.
fn otlp(path: &str) -> Value {
    let (id, summary, message) = match path {
        "/v1/traces" => {
            ("exportTraces", "Take OpenTelemetry spans: the calls of models among them are counted", "Trace")
        }
        "/v1/logs" => {
            ("exportLogs", "Take OpenTelemetry log records: the calls of models among them are counted", "Logs")
        }
        _ => ("exportMetrics", "Take OpenTelemetry metrics, which are not counted", "Metrics"),
    };
    let both = |what: &str, json: &Value| {
        let protobuf = json!({ "description": format!("{what} in Protobuf.") });
        json!({ "application/x-protobuf": { "schema": protobuf }, "application/json": { "schema": json } })
    };
    let request = format!("Export{message}ServiceRequest");
    let body = json!({ "type": "object", "description": format!("{request} in OTLP's JSON.") });
    let rejected = if path == "/v1/logs" { "rejectedLogRecords" } else { "rejectedSpans" };
    let answer = json!({
        "type": "object",
        "properties": { "partialSuccess": {
            "type": "object",
            "description": "Only where something was refused or is to be told.",
            "properties": {
                rejected: { "type": "string", "description": "How many, as text." },
                "errorMessage": { "type": "string", "description": "The first reasons, by place and attribute." },
            },
        } },
    });
    let status = json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": { "code": { "type": "integer", "description": "The code of gRPC." }, "message": { "type": "string" } },
    });
    let failed =
        |description: &str| json!({ "description": description, "content": both("google.rpc.Status", &status) });
    json!({
        "operationId": id,
        "summary": summary,
        "description": "OTLP over HTTP as any exporter sends it; the body may be compressed (Content-Encoding gzip, deflate or zstd). \
                        The same is taken on the ports 4317 and 4318.",
        "requestBody": { "required": true, "content": both(&request, &body) },
        "responses": {
            "200": {
                "description": "Taken; in the encoding of the request.",
                "content": both(&format!("Export{message}ServiceResponse"), &answer),
            },
            "401": failed("The key is missing or wrong."),
            "default": failed("What went wrong. 429 and 503 say in Retry-After when to send again."),
        },
    })
}

pub(super) fn simple(id: &str, summary: &str, answer: &Value) -> Value {
    json!({ "operationId": id, "summary": summary, "responses": { "200": answer } })
}

pub(super) fn json_answer<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let schema = generator.subschema_for::<T>();
    json!({ "description": "The answer.", "content": { "application/json": { "schema": schema } } })
}

fn object_answer() -> Value {
    json!({ "description": "The answer.", "content": { "application/json": { "schema": { "type": "object" } } } })
}

fn text_answer(content_type: &str) -> Value {
    let media_type = content_type.split(';').next().unwrap_or(content_type);
    json!({ "description": "The answer.", "content": { media_type: { "schema": { "type": "string" } } } })
}

fn parameter(name: &str, place: &str, description: &str, schema: &Value) -> Value {
    json!({
        "name": name, "in": place, "description": description, "required": place == "path", "schema": schema,
    })
}

pub(super) fn text_parameter(name: &str, place: &str, description: &str) -> Value {
    parameter(name, place, description, &json!({ "type": "string" }))
}

fn publish(generator: &mut SchemaGenerator, id: &str, summary: &str) -> Value {
    let event = json!({ "type": "object", "description": "A usage event; schemas/ has its JSON Schema." });
    let batch = json!({ "type": "array", "items": event });
    let mut accepted = json_answer::<EventsAnswer>(generator);
    accepted["description"] = "At least one event is in the log; `rejected` names those that are wrong.".into();
    json!({
        "operationId": id,
        "summary": summary,
        "description": "One event, an array of them, or one a line; native or as CloudEvents (structured, batch, or binary \
                        with `ce-…` headers). A wrong event does not cost the others. 503 names in `unpublished` those to \
                        send again.",
        "requestBody": { "required": true, "content": {
            "application/json": { "schema": { "oneOf": [event, batch] } },
            "application/x-ndjson": { "schema": { "type": "string" } },
            "application/cloudevents+json": { "schema": event },
            "application/cloudevents-batch+json": { "schema": batch },
        } },
        "responses": { "202": accepted },
    })
}

fn litellm(generator: &mut SchemaGenerator) -> Value {
    let payload = json!({ "type": "object", "description": "A StandardLoggingPayload of LiteLLM." });
    let mut accepted = json_answer::<EventsAnswer>(generator);
    accepted["description"] = "What was used is in the log; calls that used nothing are left out.".into();
    json!({
        "operationId": "publishLiteLlm",
        "summary": "Take the payloads of LiteLLM's generic API callback",
        "description": "One payload, an array of them, or one a line. Messages and responses are dropped here and never stored.",
        "requestBody": { "required": true, "content": {
            "application/json": { "schema": { "oneOf": [payload, { "type": "array", "items": payload }] } },
            "application/x-ndjson": { "schema": { "type": "string" } },
        } },
        "responses": { "202": accepted },
    })
}

fn check(id: &str, body: Option<&Value>) -> Value {
    let mut parameters = check_headers();
    parameters.extend(
        Dimension::ALL.map(|dimension| text_parameter(dimension.name(), "query", "The same dimension in the URL.")),
    );
    let statuses = json!({ "type": "integer", "enum": [401, 403, 429, 503] });
    let description =
        "The status of every refusal, for gateways that know only some; X-Outlay-Status has the answer's own.";
    parameters.push(parameter(REFUSE_WITH, "query", description, &statuses));
    let mut operation = json!({
        "operationId": id,
        "summary": "May this request be made?",
        "description": "For gateways: dimensions as headers (or in the URL, or the body of a POST); the status is the answer. \
                        The namespace must be named.",
        "parameters": parameters,
        "responses": check_responses(),
    });
    if let Some(schema) = body {
        operation["requestBody"] =
            json!({ "required": false, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// The body of a question: dimensions, the estimate, and further members.
fn question(more: &[(&str, Value)]) -> Value {
    let text =
        |name: &str, description: &str| (name.to_owned(), json!({ "type": "string", "description": description }));
    let amount = |(name, description): (&str, &str)| match name {
        "cost" | "compute_seconds" => text(name, description),
        _ => (name.to_owned(), json!({ "type": "integer", "minimum": 0, "description": description })),
    };
    let counted = "A text whose tokens, counted for the dimension `model`, belong to the input.";
    let estimate: Map<_, _> = estimate::names().map(amount).chain([text(estimate::TEXT, counted)]).collect();
    let dimensions = Dimension::ALL.map(|dimension| text(dimension.name(), dimension.doc()));
    let mut members: Map<_, _> = dimensions.into_iter().collect();
    let description = "What the request is expected to use: `tokens`, or single classes and a text.";
    members.insert(
        "estimate".into(),
        json!({ "type": "object", "description": description, "properties": estimate, "additionalProperties": false }),
    );
    members.extend(more.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())));
    json!({ "type": "object", "properties": members, "additionalProperties": false })
}

fn reserve(generator: &mut SchemaGenerator) -> Value {
    let ttl = json!({
        "type": "integer", "minimum": 1, "maximum": TTL_MAX_S, "default": TTL_DEFAULT_S,
        "description": "After how many seconds it ends by itself.",
    });
    let mut held = json_answer::<ReservationBody>(generator);
    held["description"] = "The estimate is held.".into();
    let mut responses = check_responses();
    responses["201"] = held;
    if let Some(responses) = responses.as_object_mut() {
        responses.remove("200");
    }
    json!({
        "operationId": "reserve",
        "summary": "Hold what a request is expected to use",
        "description": "Asks as a check does and, where the request may be made, holds the estimate: for the event with the tag `outlay.reservation` \
                        and the same namespace, for a release, or for `ttl_s`. Held amounts are promised to nobody else.",
        "parameters": check_headers(),
        "requestBody": { "required": false, "content": { "application/json": { "schema": question(&[("ttl_s", ttl)]) } } },
        "responses": responses,
    })
}

fn release() -> Value {
    json!({
        "operationId": "release",
        "summary": "Release a reservation whose request is not made",
        "parameters": [text_parameter("id", "path", "The reservation.")],
        "responses": { "204": { "description": "It is released." } },
    })
}

fn forwarded_check(id: &str) -> Value {
    let below = text_parameter("path", "path", "The path of the original request; not read.");
    let parameters = if id == "checkBelow" { vec![below] } else { Vec::new() };
    json!({
        "operationId": id,
        "summary": "The same for gateways that append the original request's path",
        "description": "As Envoy's ext_authz does. Any method. The headers of `GET /v1/check` are read and nothing else, since query and body are \
                        the original request's.",
        "parameters": parameters,
        "responses": check_responses(),
    })
}

/// The headers that name dimensions unless configured otherwise, and amounts.
fn check_headers() -> Vec<Value> {
    let of_amount = |(name, doc): (&str, &str)| {
        let header = format!("{}{}", estimate::HEADER_PREFIX, name.replace('_', "-"));
        text_parameter(&header, "header", &format!("What the request is expected to use. {doc}"))
    };
    let of_dimension = |(name, dimension): &(String, Dimension)| {
        text_parameter(name, "header", &format!("The dimension `{dimension}`."))
    };
    IntakeConfig::default().headers.iter().map(of_dimension).chain(estimate::names().map(of_amount)).collect()
}

/// The statuses of a check, each with the name of its response and what it says.
const CHECK_RESPONSES: [(&str, &str, &str); 4] = [
    ("200", "CheckAllowed", "It may."),
    (
        "403",
        "CheckForbidden",
        "It may not: a daily or longer budget is used up, or the estimate is more than what is left.",
    ),
    ("429", "CheckThrottled", "It may not now: a short budget is used up, or what is left is reserved."),
    ("503", "CheckBehind", "It may not now: the balances are behind, and the fail policy is `closed`."),
];

fn check_responses() -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/responses/{name}") });
    CHECK_RESPONSES
        .iter()
        .map(|(status, name, _)| ((*status).to_owned(), reference(name)))
        .collect::<Map<_, _>>()
        .into()
}

/// The responses that several operations refer to.
pub(super) fn shared_responses(generator: &mut SchemaGenerator) -> Value {
    let headers: Map<String, Value> = [
        ("X-Outlay-Status", "The answer's own status, whatever `refuse_with` asks for."),
        ("X-Outlay-Reason", "The reason code."),
        ("X-Outlay-Enforcement-Lag-Ms", "How old the newest event is that this answer takes into account."),
        ("X-Outlay-Fail-Policy", "The policy that answered because the balances are behind; only then."),
        ("X-Outlay-Budget", "The budget."),
        ("X-Outlay-Measure", "What it limits."),
        ("X-Outlay-Limit", "Its limit."),
        ("X-Outlay-Used", "Its balance."),
        ("X-Outlay-Held", "What open reservations hold of it."),
        ("X-Outlay-Estimate", "What the request is expected to use of it."),
        ("X-Outlay-Reset", "When its window ends."),
        ("Retry-After", "After how many seconds to ask again: then, or soon where that may help; only where blocked."),
    ]
    .into_iter()
    .map(|(name, description)| (name.to_owned(), json!({ "description": description, "schema": { "type": "string" } })))
    .collect();
    let schema = generator.subschema_for::<CheckBody>().to_value();
    let content = json!({ "application/json": { "schema": schema } });
    let response = |description: &str| json!({ "description": description, "headers": headers, "content": content });
    CHECK_RESPONSES.iter().map(|(_, name, says)| ((*name).to_owned(), response(says))).collect::<Map<_, _>>().into()
}

fn balances(generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = Dimension::ALL
        .into_iter()
        .map(|dimension| text_parameter(dimension.name(), "query", "Only scopes with this value of the dimension."))
        .collect();
    parameters.extend([
        parameter(
            "every",
            "query",
            "Only windows of this kind.",
            &json!({ "enum": WindowKind::ALL.map(WindowKind::name) }),
        ),
        text_parameter("budget", "query", "Only this budget."),
        text_parameter("measure", "query", "Only this measure."),
        parameter(
            "limit",
            "query",
            "At most so many rows.",
            &json!({ "type": "integer", "minimum": 1, "maximum": 10000, "default": 100 }),
        ),
    ]);
    let mut answer = json_answer::<Vec<BalanceRow>>(generator);
    answer["headers"] =
        json!({ TRUNCATED: { "description": "`true` where rows were left out.", "schema": { "type": "string" } } });
    json!({ "operationId": "balances", "summary": "Live balances", "parameters": parameters, "responses": { "200": answer } })
}

fn decisions(generator: &mut SchemaGenerator) -> Value {
    let state = parameter("state", "query", "Only those of this state.", &json!({ "enum": ["blocked", "allowed"] }));
    let answer = json_answer::<Vec<schema::Decision>>(generator);
    json!({
        "operationId": "decisions", "summary": "The decisions in force", "parameters": [state], "responses": { "200": answer },
    })
}

fn stream() -> Value {
    json!({
        "operationId": "followDecisions",
        "summary": "The decisions as server-sent events",
        "description": "`reset` (forget what you have), each decision in force as `decision`, `ready`, then every new one as \
                        `decision`. A client that falls behind gets `reset` and everything again.",
        "responses": { "200": text_answer("text/event-stream") },
    })
}

/// Rows in the formats that a route offers.
fn rows_answer(formats: &[OutputFormat]) -> Value {
    let mut content = serde_json::Map::new();
    for format in formats {
        let media_type = format.content_type().split(';').next().unwrap_or_default();
        let schema = match format {
            OutputFormat::Json => json!({
                "type": "array",
                "items": { "type": "object" },
                "description": "Integers beyond 2^53 and decimals are strings.",
            }),
            _ => json!({ "type": "string" }),
        };
        content.insert(media_type.to_owned(), json!({ "schema": schema }));
    }
    json!({ "description": "The rows.", "content": content })
}

fn sql(generator: &mut SchemaGenerator) -> Value {
    let body = generator.subschema_for::<SqlBody>();
    let answer = rows_answer(&OutputFormat::ALL);
    json!({
        "operationId": "sql",
        "summary": "Ask in SQL",
        "description": "Rows are sent while the query runs. What fails before the first MiB is a problem document; after it the connection is \
                        cut before the end of the body, and JSON lines end in a line with the one member `error`.",
        "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
        "responses": { "200": answer },
    })
}

fn simulate(generator: &mut SchemaGenerator) -> Value {
    let body = generator.subschema_for::<SimulationBody>();
    json!({
        "operationId": "simulate",
        "summary": "What would these budgets have done?",
        "description": "Runs them over the history in the lake, beside the budgets in force. One at a time; 503 says in Retry-After when to \
                        ask again.",
        "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
        "responses": { "200": json_answer::<SimulationView>(generator) },
    })
}

fn standing(generator: &mut SchemaGenerator) -> Value {
    let mut budget = text_parameter("budget", "query", "The id of a budget in force.");
    budget["required"] = true.into();
    let mut parameters = vec![
        budget,
        text_parameter(
            "period",
            "query",
            "`YYYY`, `YYYY-MM` or `YYYY-MM-DD` in the budget's time zone: all its windows that begin in it, from the lake. Else the window of now.",
        ),
    ];
    let of = |dimension: Dimension| {
        text_parameter(dimension.name(), "query", "Only scopes with this value of the dimension.")
    };
    parameters.extend(Dimension::ALL.map(of));
    json!({
        "operationId": "standing",
        "summary": "How full a budget is",
        "description": "A row for each limit of each balance that matches. Where all dimensions of the budget are named, there is a row also \
                        where nothing was used.",
        "parameters": parameters,
        "responses": { "200": json_answer::<StandingView>(generator) },
    })
}

fn report() -> Value {
    let format = json!({ "enum": OutputFormat::ALL.map(OutputFormat::name), "default": "json" });
    json!({
        "operationId": "report",
        "summary": "A report",
        "description": "Which parameters a report takes is in the list of reports. The header `Outlay-Warning` tells of what is not in the answer.",
        "parameters": [
            text_parameter("name", "path", "The report, like `chargeback`."),
            text_parameter("period", "query", "`YYYY`, `YYYY-MM`, `YYYY-Www` (an ISO week) or `YYYY-MM-DD`."),
            text_parameter("zone", "query", "The IANA time zone of the period; UTC where it is left out."),
            text_parameter("group_by", "query", "Dimensions, separated by commas."),
            text_parameter("tag", "query", "Of `unit_economics`: the name of a tag whose values are told apart."),
            text_parameter("tokens", "query", "Of `slo`: a session that uses fewer is a good one."),
            text_parameter("compare", "query", "Of `top_movers`: the period to compare with, else the one before."),
            text_parameter("limit", "query", "Of `top_movers`: the most rows."),
            text_parameter("missing", "query", "Of `unattributed`: the dimensions that are looked for, separated by commas."),
            text_parameter("by", "query", "Of `reconciliation`: `day_and_model`, which is the default, `day`, `model` or `total`."),
            text_parameter("version", "query", "Of `focus`: `1.2`, which is the default, or `1.0`."),
            text_parameter("billing_account", "query", "Of `focus`: identifier and name of the organisation that pays."),
            parameter("format", "query", "Else the `Accept` header decides.", &format),
        ],
        "responses": { "200": rows_answer(&OutputFormat::ALL) },
    })
}

fn mail() -> Value {
    json!({
        "operationId": "mail",
        "summary": "One mail as a file",
        "parameters": [text_parameter("id", "path", "Its id in the status.")],
        "responses": { "200": text_answer("message/rfc822") },
    })
}
