//! Reading what a check asks: dimensions from headers, the URL and a body.

use std::borrow::Cow;

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};
use usage_types::{Dimension, Dimensions, Scope, UsageEvent};

use crate::ApiProblem;

/// A body.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    estimate: Map<String, Value>,
    ttl_s: Option<u64>,
    #[serde(flatten)]
    scope: Scope,
}

/// What a body says besides dimensions.
#[derive(Default)]
pub(super) struct Besides {
    pub(super) estimate: Map<String, Value>,
    pub(super) ttl_s: Option<u64>,
}

/// The dimensions as they are found, each with what named it first.
#[derive(Default)]
pub(super) struct Found {
    dimensions: Dimensions<'static>,
    named_by: [Option<Place>; Dimension::COUNT],
}

/// What names a dimension.
#[derive(Clone)]
enum Place {
    Header(String),
    Parameter,
    Body,
}

impl Place {
    fn describe(&self) -> String {
        match self {
            Self::Header(name) => format!("the header {name}"),
            Self::Parameter => "the URL".to_owned(),
            Self::Body => "the body".to_owned(),
        }
    }

    /// What a problem names as its field.
    fn field(&self, dimension: Dimension) -> String {
        match self {
            Self::Header(name) => name.clone(),
            Self::Parameter | Self::Body => dimension.name().to_owned(),
        }
    }
}

impl Found {
    /// Takes the headers that name dimensions; `names` says which do.
    pub(super) fn headers(&mut self, headers: &HeaderMap, names: &[(String, Dimension)]) -> Result<(), ApiProblem> {
        for (name, dimension) in names {
            for value in headers.get_all(name) {
                let place = Place::Header(name.clone());
                let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
                    let detail = format!("the header {name} is not UTF-8; encode it as UTF-8");
                    return Err(ApiProblem::invalid(name, detail));
                };
                self.put(*dimension, text.trim().to_owned(), place)?;
            }
        }
        Ok(())
    }

    /// Takes a parameter of the URL.
    pub(super) fn parameter(&mut self, dimension: Dimension, value: String) -> Result<(), ApiProblem> {
        self.put(dimension, value, Place::Parameter)
    }

    /// Takes a body: an object of dimensions, and what it says besides.
    pub(super) fn body(&mut self, body: &[u8]) -> Result<Besides, ApiProblem> {
        let Body { scope, estimate, ttl_s } = serde_json::from_slice(body).map_err(|error| {
            let detail = format!("{error}; send dimensions like {{\"namespace\": \"support\"}}");
            ApiProblem::new(400, "invalid_body", detail)
        })?;
        scope.iter().try_for_each(|(dimension, value)| self.put(dimension, value.to_owned(), Place::Body))?;
        Ok(Besides { estimate, ttl_s })
    }

    /// Sets a value, unless another one is there already: who can add a header must not choose whose budget is looked at.
    fn put(&mut self, dimension: Dimension, value: String, place: Place) -> Result<(), ApiProblem> {
        if value.is_empty() {
            return Ok(());
        }
        if value.len() > UsageEvent::TEXT_BYTES_MAX {
            let detail =
                format!("`{dimension}` by {} is longer than {} bytes", place.describe(), UsageEvent::TEXT_BYTES_MAX);
            return Err(ApiProblem::invalid(place.field(dimension), detail));
        }
        let first = &mut self.named_by[dimension as usize];
        match (&first, self.dimensions.get(dimension)) {
            (Some(first), Some(known)) if known != value => {
                let (one, other) = (first.describe(), place.describe());
                let detail = if one == other {
                    format!("`{dimension}` is given twice by {one} with different values; give it once")
                } else {
                    format!("`{dimension}` has one value by {one} and another by {other}; give it once")
                };
                Err(ApiProblem::invalid(place.field(dimension), detail))
            }
            (Some(_), _) => Ok(()),
            (None, _) => {
                *first = Some(place);
                self.dimensions.set(dimension, Some(Cow::Owned(value)));
                Ok(())
            }
        }
    }

    /// All of them, where the namespace is among them.
    pub(super) fn finish(self, names: &[(String, Dimension)]) -> Result<Dimensions<'static>, ApiProblem> {
        if self.dimensions.get(Dimension::Namespace).is_some() {
            return Ok(self.dimensions);
        }
        // An answer would look at global budgets alone: a gateway that forgot the header would never be blocked.
        let of_namespace = names.iter().filter(|(_, dimension)| *dimension == Dimension::Namespace);
        let of_namespace: Vec<&str> = of_namespace.map(|(name, _)| name.as_str()).collect();
        let detail = format!("no namespace is named; send the header {}", of_namespace.join(" or "));
        Err(ApiProblem { field: Some("namespace".into()), ..ApiProblem::new(400, "missing_field", detail) })
    }
}
