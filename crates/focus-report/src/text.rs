//! The texts of a charge: identifiers, units, descriptions, and objects of key and value.

use price_book::PriceClass;
use serde_json::{Map, Value as Json};
use usage_types::{Dimension, DimensionSet, TokenClass};

use crate::bill::{Bill, Charge};
use crate::usage::Entry;

/// Dimensions that have columns of their own, and so are no tags.
const IN_COLUMNS: [Dimension; 4] =
    [Dimension::Namespace, Dimension::Provider, Dimension::Model, Dimension::ServiceTier];

/// `openai/gpt-5.1/output`: what is sold, whatever it costs and whoever buys it.
pub(crate) fn sku_id(bill: &Bill<'_>, class: PriceClass) -> String {
    let parts = [bill.provider.as_deref(), bill.usage.dimensions.get(Dimension::Model), Some(class.name())];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// `openai/gpt-5.1/output/batch/above-200000`: the SKU at what its published price depends on.
pub(crate) fn sku_price_id(bill: &Bill<'_>, class: PriceClass) -> String {
    let id = format!("{}/{}", sku_id(bill, class), bill.service_tier);
    match bill.above_input_tokens {
        Some(above @ 1..) => format!("{id}/above-{above}"),
        _ => id,
    }
}

/// The properties of a SKU price. All are texts: a number would have to be one of a single unit of the price.
pub(crate) fn sku_price_details(bill: &Bill<'_>, class: PriceClass) -> String {
    let mut details = Map::new();
    let mut put = |name: &str, value: String| details.insert(name.to_owned(), Json::from(value));
    if let Some(model) = bill.usage.dimensions.get(Dimension::Model) {
        put("x_Model", model.to_owned());
    }
    match class {
        PriceClass::Tokens(token_class) => put("x_TokenClass", token_class.name().to_owned()),
        other => put("x_Fee", other.name().to_owned()),
    };
    put("x_ServiceTier", bill.service_tier.clone());
    // As in the identifier: its properties stay the same, also where the book knows nothing.
    if let Some(above @ 1..) = bill.above_input_tokens {
        put("x_AboveInputTokens", above.to_string());
    }
    Json::Object(details).to_string()
}

/// What is measured.
pub(crate) const fn sku_meter(class: PriceClass) -> &'static str {
    match class {
        PriceClass::Tokens(TokenClass::Input) => "Input Tokens",
        PriceClass::Tokens(TokenClass::CacheRead) => "Cache Read Tokens",
        PriceClass::Tokens(TokenClass::CacheWrite5m) => "Cache Write Tokens (5 Minutes)",
        PriceClass::Tokens(TokenClass::CacheWrite1h) => "Cache Write Tokens (1 Hour)",
        PriceClass::Tokens(TokenClass::Output) => "Output Tokens",
        PriceClass::Tokens(TokenClass::Reasoning) => "Reasoning Tokens",
        PriceClass::Request => "Requests",
        PriceClass::ToolCall => "Tool Calls",
        PriceClass::Image => "Images",
        PriceClass::ComputeSecond => "Compute Time",
    }
}

/// The unit of a quantity, in the specification's unit format.
pub(crate) const fn unit(class: PriceClass) -> &'static str {
    match class {
        PriceClass::Tokens(_) => "Tokens",
        PriceClass::Request => "Requests",
        PriceClass::ToolCall => "Tool Calls",
        PriceClass::Image => "Images",
        PriceClass::ComputeSecond => "Seconds",
    }
}

/// The unit of a price.
pub(crate) fn pricing_unit(class: PriceClass) -> String {
    match class.units() {
        1 => unit(class).to_owned(),
        units => format!("{units} {}", unit(class)),
    }
}

/// A sentence for people.
pub(crate) fn description(bill: &Bill<'_>, charge: &Charge) -> String {
    let usage = bill.usage;
    let mut text = String::new();
    if usage.is_correction {
        text.push_str("Correction: ");
    }
    match (&usage.entry, charge.class) {
        (Entry::Adjustment(run), _) if run.is_empty() => text.push_str("Adjustment of the cost"),
        (Entry::Adjustment(run), _) => text.push_str(&format!("Adjustment of the cost by {run}")),
        (Entry::Usage, None) => text.push_str("Cost without usage"),
        (Entry::Usage, Some(class)) => text.push_str(sku_meter(class)),
    }
    if let Some(model) = usage.dimensions.get(Dimension::Model) {
        text.push_str(&format!(" of {model}"));
    }
    if charge.class.is_some() && bill.service_tier != price_book::STANDARD_TIER {
        text.push_str(&format!(", {}", bill.service_tier));
    }
    if let (Some(_), Some(above @ 1..)) = (charge.class, bill.above_input_tokens) {
        text.push_str(&format!(", prompts above {above} tokens"));
    }
    text
}

/// The tags: the dimensions that were grouped by and have no column of their own. `None` where none of them has a value.
pub(crate) fn tags(bill: &Bill<'_>, dimensions: DimensionSet) -> Option<String> {
    let named = bill.usage.dimensions.iter().filter(|(dimension, _)| dimensions.contains(*dimension));
    let tags: Map<String, Json> = named
        .filter(|(dimension, _)| !IN_COLUMNS.contains(dimension))
        .map(|(dimension, value)| (dimension.name().to_owned(), Json::from(value)))
        .collect();
    (!tags.is_empty()).then(|| Json::Object(tags).to_string())
}
