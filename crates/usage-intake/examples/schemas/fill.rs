//! What the JSON Schemas have from the types: names, descriptions of dimensions and token classes, and bounds. What relates members to
//! each other is written in the files themselves, and tests hold it against the readers.

use serde_json::{Value, json};
use usage_intake::{COMPUTE_MAX, COST_MAX};
use usage_types::{
    Currency, Dimension, Every, Measure, Pico, ReasonCode, RejectCode, ThrottleReason, TokenClass, UsageEvent,
    WindowKind,
};

use super::tree::Tree;

/// The files in `schemas/` that are filled in.
pub const FILES: [&str; 7] = [
    "usage-event.v1.json",
    "decision.v1.json",
    "alert.v1.json",
    "rejected.v1.json",
    "budgets.v1.json",
    "prices.v1.json",
    "allocation.v1.json",
];

/// The text of a schema with everything in it that comes from the types.
///
/// # Errors
/// It is no JSON, or lacks a place that is to be filled in.
pub fn filled(file: &str, text: &str) -> Result<String, String> {
    let wrong = |error: serde_json::Error| format!("{file}: {error}");
    let mut schema: Tree = serde_json::from_str(text).map_err(wrong)?;
    match file {
        "usage-event.v1.json" => event(&mut schema),
        "decision.v1.json" => decision(&mut schema),
        "alert.v1.json" => alert(&mut schema),
        "rejected.v1.json" => set(&mut schema, "/properties/code/enum", names(RejectCode::ALL, RejectCode::name)),
        "budgets.v1.json" => budgets(&mut schema),
        "prices.v1.json" => set(&mut schema, "/$defs/adjustment/properties/match/propertyNames/enum", dimensions()),
        "allocation.v1.json" => allocation(&mut schema),
        _ => Err("there is no such schema".to_owned()),
    }
    .map_err(|error| format!("{file}: {error}"))?;
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema).map_err(wrong)?))
}

fn set(schema: &mut Tree, pointer: &str, value: impl Into<Tree>) -> Result<(), String> {
    *schema.at(pointer)? = value.into();
    Ok(())
}

fn names<T>(all: impl IntoIterator<Item = T>, name: impl Fn(T) -> &'static str) -> Tree {
    Tree::texts(all.into_iter().map(name))
}

fn dimensions() -> Tree {
    names(Dimension::ALL, Dimension::name)
}

/// A description without the marks of Rust's documentation.
fn plain(doc: &str) -> String {
    doc.replace('`', "")
}

fn event(schema: &mut Tree) -> Result<(), String> {
    for dimension in Dimension::ALL {
        let member = schema.at(&format!("/properties/{dimension}"))?;
        if *member == Tree::Plain(Value::Null) {
            *member = Tree::object([("$ref", Tree::from("#/$defs/optionalText"))]);
        }
        set(member, "/description", plain(dimension.doc()))?;
    }
    let class = |class: TokenClass| {
        let count = [("$ref", Tree::from("#/$defs/count")), ("description", plain(class.doc()).into())];
        (class.name(), Tree::object(count))
    };
    set(schema, "/properties/tokens/properties", Tree::object(TokenClass::ALL.map(class)))?;
    let above_zero = |class: TokenClass| {
        let count = Tree::object([("minimum", Tree::from(1)), ("type", "integer".into())]);
        let properties = Tree::object([(class.name(), count)]);
        Tree::object([("required", Tree::texts([class.name()])), ("properties", properties)])
    };
    let used = "/allOf/3/else/else/anyOf/0/properties/tokens/anyOf";
    set(schema, used, Tree::Array(TokenClass::ALL.map(above_zero).to_vec()))?;
    let cost_max = i64::try_from(COST_MAX.0 / Pico::ONE.0).map_err(|error| error.to_string())?;
    for (pointer, bound) in [
        ("/$defs/count/maximum", json!(UsageEvent::COUNT_MAX)),
        ("/$defs/text/maxLength", json!(UsageEvent::TEXT_BYTES_MAX)),
        ("/properties/tags/maxProperties", json!(UsageEvent::TAGS_MAX)),
        ("/properties/compute_seconds/oneOf/1/maximum", json!(COMPUTE_MAX.0 / 1_000_000_000)),
        ("/properties/cost/properties/amount/oneOf/0/minimum", json!(-cost_max)),
        ("/properties/cost/properties/amount/oneOf/0/maximum", json!(cost_max)),
    ] {
        set(schema, pointer, bound)?;
    }
    Ok(())
}

fn decision(schema: &mut Tree) -> Result<(), String> {
    scope_and_measure(schema)?;
    let reasons = Dimension::ALL.into_iter().map(ReasonCode::QuotaExceeded);
    let reasons = reasons.chain([ReasonCode::GlobalQuotaExceeded, ReasonCode::CircuitOpen]);
    let reasons = reasons.chain([ReasonCode::WithinQuota, ReasonCode::BudgetRemoved]);
    set(schema, "/properties/reason_code/enum", Tree::texts(reasons.map(|reason| reason.to_string())))?;
    for member in ["throttle", "would_throttle"] {
        let pointer = format!("/properties/{member}/properties/reason_code/enum");
        set(schema, &pointer, names(ThrottleReason::ALL, ThrottleReason::name))?;
    }
    Ok(())
}

fn alert(schema: &mut Tree) -> Result<(), String> {
    scope_and_measure(schema)?;
    set(schema, "/properties/every/enum", names(WindowKind::ALL, WindowKind::name))
}

fn scope_and_measure(schema: &mut Tree) -> Result<(), String> {
    set(schema, "/properties/scope/propertyNames/enum", dimensions())?;
    let measures = [Measure::Tokens].into_iter().chain(TokenClass::ALL.map(Measure::TokensOf));
    let measures = measures.chain([
        Measure::Requests,
        Measure::ToolCalls,
        Measure::Images,
        Measure::Compute,
        Measure::Cost(Currency::USD),
    ]);
    set(schema, "/properties/measure/enum", names(measures, Measure::name))
}

fn budgets(schema: &mut Tree) -> Result<(), String> {
    let breaker = schema.at("/$defs/breaker/properties")?;
    set(breaker, "/match/propertyNames/enum", dimensions())?;
    set(breaker, "/per/items/enum", dimensions())?;
    let budget = schema.at("/$defs/budget/properties")?;
    set(budget, "/match/propertyNames/enum", dimensions())?;
    set(budget, "/per/items/enum", dimensions())?;
    set(budget, "/overrides/items/properties/match/propertyNames/enum", dimensions())?;
    set(budget, "/plans/properties/by/enum", dimensions())?;
    set(budget, "/window/properties/every/enum", names(Every::ALL, Every::name))
}

fn allocation(schema: &mut Tree) -> Result<(), String> {
    set(schema, "/$defs/match/propertyNames/enum", dimensions())?;
    set(schema, "/$defs/dimensions/oneOf/0/enum", dimensions())?;
    set(schema, "/$defs/dimensions/oneOf/1/items/enum", dimensions())?;
    let part = Dimension::ALL.into_iter().map(Dimension::name).chain(["part"]);
    set(schema, "/$defs/part/propertyNames/enum", Tree::texts(part))
}
