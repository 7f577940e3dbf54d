//! An invoice and its lines.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, Months, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use usage_types::{Currency, Money, Pico};

use crate::InvoiceError;

/// The item of what no line explains: taxes, credits, rounding, or an invoice of which only the total is known.
const NOT_ITEMISED: &str = "not itemised";

/// A calendar month, in UTC; `2026-10` as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(NaiveDate);

/// What one provider asks for one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// The provider, as events name it.
    pub provider: String,
    /// The invoice's number: with the provider its identity.
    pub number: String,
    /// Of which month.
    pub month: Month,
    /// The currency of all its costs.
    pub currency: Currency,
    /// What explains it, by day, model and item.
    pub lines: Vec<Line>,
}

/// One line. Several with the same day, model and item are one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The day, in UTC; absent where the invoice does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<NaiveDate>,
    /// The model, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What of it, like `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// Tokens of all classes; absent where the line does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// The cost; absent where the line is of usage only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Pico>,
}

/// What a caller sends: a total, lines, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    month: Month,
    currency: Currency,
    total: Option<Pico>,
    #[serde(default)]
    lines: Vec<Line>,
}

impl Invoice {
    /// The most lines of one invoice: 31 days of some hundred models and items.
    pub const LINES_MAX: usize = 50_000;
    /// The longest text, in bytes.
    pub const TEXT_BYTES_MAX: usize = 256;

    /// Makes an invoice of lines and its total. Where the total is not given it is that of the lines.
    ///
    /// # Errors
    /// A text is empty or too long, a day is not in the month, or there is neither a total nor a cost.
    pub fn new(
        provider: &str,
        number: &str,
        month: Month,
        currency: Currency,
        total: Option<Pico>,
        lines: Vec<Line>,
    ) -> Result<Self, InvoiceError> {
        let (provider, number) = (text("provider", provider)?, text("number", number)?);
        if lines.len() > Self::LINES_MAX {
            let message =
                format!("{} lines are more than {}; sum them up by day and model", lines.len(), Self::LINES_MAX);
            return Err(InvoiceError::new("lines", message));
        }
        let mut lines = merge(month, lines)?;
        let itemised = sum("lines", &lines)?;
        let has_cost = lines.iter().any(|line| line.cost.is_some());
        let left = match total {
            None if has_cost => Pico(0),
            None => {
                let message = "there is neither a `total` nor a line with a `cost`; give the invoice's total";
                return Err(InvoiceError::new("total", message));
            }
            Some(total) => total.checked_add(Pico(-itemised.0)).ok_or_else(|| out_of_range("total"))?,
        };
        if left.0 != 0 || !has_cost {
            lines.push(Line { item: Some(NOT_ITEMISED.to_owned()), cost: Some(left), ..Line::default() });
        }
        Ok(Self { provider, number, month, currency, lines })
    }

    /// Reads what a caller sent as JSON: `{"month": "2026-10", "currency": "USD", "total": "1234.56", "lines": […]}`.
    ///
    /// # Errors
    /// It is no such JSON, or as of [`Self::new`].
    pub fn from_json(provider: &str, number: &str, body: &[u8]) -> Result<Self, InvoiceError> {
        let sent: Sent = serde_json::from_slice(body).map_err(|error| InvoiceError::new("", error.to_string()))?;
        Self::new(provider, number, sent.month, sent.currency, sent.total, sent.lines)
    }

    /// What is owed: the sum of its lines.
    #[must_use]
    pub fn total(&self) -> Money {
        let amount =
            self.lines.iter().filter_map(|line| line.cost).fold(0_i128, |sum, cost| sum.saturating_add(cost.0));
        Money { amount: Pico(amount), currency: self.currency }
    }
}

/// What tells lines apart: day, model and item.
type LineKey = (Option<NaiveDate>, Option<String>, Option<String>);

/// Checks lines, and makes one of those with the same day, model and item.
fn merge(month: Month, lines: Vec<Line>) -> Result<Vec<Line>, InvoiceError> {
    let mut merged: BTreeMap<LineKey, Line> = BTreeMap::new();
    for (index, line) in lines.into_iter().enumerate() {
        let field = |name: &str| format!("lines[{index}].{name}");
        if let Some(day) = line.day.filter(|day| Month::of(*day) != month) {
            let message = format!("{day} is not in {month}; import each month as an invoice of its own");
            return Err(InvoiceError::new(field("day"), message));
        }
        let named = |name: &str, value: Option<String>| value.map(|value| text(&field(name), &value)).transpose();
        let (model, item) = (named("model", line.model)?, named("item", line.item)?);
        let same = merged.entry((line.day, model.clone(), item.clone())).or_insert(Line {
            day: line.day,
            model,
            item,
            ..Line::default()
        });
        if let Some(tokens) = line.tokens {
            let total = same.tokens.unwrap_or(0).checked_add(tokens);
            same.tokens = Some(total.ok_or_else(|| out_of_range(&field("tokens")))?);
        }
        if let Some(cost) = line.cost {
            let total = same.cost.unwrap_or_default().checked_add(cost);
            same.cost = Some(total.ok_or_else(|| out_of_range(&field("cost")))?);
        }
    }
    Ok(merged.into_values().collect())
}

fn sum(field: &str, lines: &[Line]) -> Result<Pico, InvoiceError> {
    let costs = lines.iter().filter_map(|line| line.cost);
    costs.into_iter().try_fold(Pico(0), Pico::checked_add).ok_or_else(|| out_of_range(field))
}

fn out_of_range(field: &str) -> InvoiceError {
    InvoiceError::new(field, "the sum is too large")
}

fn text(field: &str, value: &str) -> Result<String, InvoiceError> {
    let value = value.trim();
    if value.is_empty() || value.len() > Invoice::TEXT_BYTES_MAX || value.chars().any(char::is_control) {
        let message = format!("write 1 to {} bytes without control characters", Invoice::TEXT_BYTES_MAX);
        return Err(InvoiceError::new(field, message));
    }
    Ok(value.to_owned())
}

impl Month {
    /// The month that a day is in.
    #[must_use]
    pub fn of(day: NaiveDate) -> Self {
        // Every month has a first day.
        Self(day.with_day(1).unwrap_or(day))
    }

    /// Its first day.
    #[must_use]
    pub const fn first_day(self) -> NaiveDate {
        self.0
    }

    /// The first day after it; `None` at the end of the calendar.
    #[must_use]
    pub fn end(self) -> Option<NaiveDate> {
        self.0.checked_add_months(Months::new(1))
    }
}

impl FromStr for Month {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = text.len() == 7;
        let day = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok().filter(|_| is_plain);
        day.map(Self).ok_or_else(|| format!("`{text}` is no month like 2026-10"))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
