//! Reading what a request is expected to use: members of `estimate` in the body, or headers of the same names.

use std::collections::BTreeSet;

use axum::http::HeaderMap;
use serde_json::{Map, Value};
use usage_types::{ComputeNs, Estimate, Money, TokenClass, UsageEvent};

use crate::ApiProblem;

/// The beginning of the headers that name amounts, like `X-Outlay-Estimate-Output`.
pub(crate) const HEADER_PREFIX: &str = "x-outlay-estimate-";
/// What is no token class.
pub(crate) const OTHERS: [(&str, &str); 6] = [
    ("tokens", "Tokens whose class is not known; they count in limits of all tokens only."),
    ("requests", "Requests; 1 where it is left out."),
    ("tool_calls", "Tool calls."),
    ("images", "Images that the model makes."),
    ("compute_seconds", "Compute time in seconds."),
    (
        "cost",
        "Money, like `0.05 USD`. Left out: what the price book makes of the tokens, where the dimension `model` is named.",
    ),
];
/// The text to be counted; of the body only.
pub(crate) const TEXT: &str = "text";

/// An estimate as it is read.
#[derive(Default)]
pub(super) struct Reading {
    estimate: Estimate,
    text: Option<String>,
    named: BTreeSet<String>,
}

/// An estimate, and a text whose tokens belong to its input.
pub(super) struct Read {
    pub(super) estimate: Estimate,
    pub(super) text: Option<String>,
}

/// All names of amounts.
pub(crate) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    TokenClass::ALL.map(|class| (class.name(), class.doc())).into_iter().chain(OTHERS)
}

impl Reading {
    /// Takes the headers.
    pub(super) fn headers(&mut self, headers: &HeaderMap) -> Result<(), ApiProblem> {
        for (header, value) in headers {
            let Some(name) = header.as_str().strip_prefix(HEADER_PREFIX) else { continue };
            let name = name.replace('-', "_");
            let text = String::from_utf8_lossy(value.as_bytes());
            self.amount(&name, &Value::String(text.trim().to_owned()), header.as_str())?;
        }
        Ok(())
    }

    /// Takes the body's member.
    pub(super) fn body(&mut self, members: &Map<String, Value>) -> Result<(), ApiProblem> {
        for (name, value) in members {
            let field = format!("estimate.{name}");
            match (name.as_str(), value) {
                (TEXT, Value::String(text)) => self.text = Some(text.clone()),
                (TEXT, _) => return Err(ApiProblem::invalid(field, "`estimate.text` is no text; send one text")),
                _ => self.amount(name, value, &field)?,
            }
        }
        Ok(())
    }

    fn amount(&mut self, name: &str, value: &Value, field: &str) -> Result<(), ApiProblem> {
        let refuse = |what: String| Err(ApiProblem::invalid(field, format!("{field}: {what}")));
        if !self.named.insert(name.to_owned()) {
            return refuse("this amount is given twice; give it once".to_owned());
        }
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let estimate = &mut self.estimate;
        if let Some(class) = TokenClass::ALL.into_iter().find(|class| class.name() == name) {
            *estimate.tokens.get_mut(class) = count(&text, field)?;
            return Ok(());
        }
        match name {
            "tokens" => estimate.other_tokens = count(&text, field)?,
            "requests" => estimate.requests = count(&text, field)?,
            "tool_calls" => estimate.tool_calls = count(&text, field)?,
            "images" => estimate.images = count(&text, field)?,
            "compute_seconds" => match text.parse::<ComputeNs>() {
                Ok(compute) => estimate.compute = compute,
                Err(error) => return refuse(error.to_string()),
            },
            "cost" => match text.parse::<Money>() {
                Ok(cost) if cost.amount.0 >= 0 => estimate.cost = Some(cost),
                Ok(_) => return refuse(format!("`{text}` is negative; send zero or more")),
                Err(error) => return refuse(error.to_string()),
            },
            _ => {
                let known: Vec<&str> = names().map(|(name, _)| name).collect();
                return refuse(format!("`{name}` is no amount; use {}", known.join(", ")));
            }
        }
        Ok(())
    }

    /// What was named; `None` where nothing was.
    pub(super) fn finish(self) -> Result<Option<Read>, ApiProblem> {
        let has_class = self.text.is_some() || TokenClass::ALL.iter().any(|class| self.named.contains(class.name()));
        if has_class && self.named.contains("tokens") {
            let detail = "an estimate has `tokens`, whose classes are not known, or single classes and a text; send the one or the other";
            return Err(ApiProblem::invalid("estimate.tokens", detail));
        }
        let is_there = !self.named.is_empty() || self.text.is_some();
        Ok(is_there.then_some(Read { estimate: self.estimate, text: self.text }))
    }
}

fn count(text: &str, field: &str) -> Result<u64, ApiProblem> {
    let count = text.parse().ok().filter(|count| *count <= UsageEvent::COUNT_MAX);
    count.ok_or_else(|| {
        let detail = format!("{field}: `{text}` is no whole number from 0 to {}", UsageEvent::COUNT_MAX);
        ApiProblem::invalid(field, detail)
    })
}
