//! What changes when one price book takes the place of another: name by name, price by price.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use usage_types::{Currency, Pico, TimeUs};

use crate::PriceBook;

/// The difference between two books. Serializes to JSON with the fields as they are named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BookDiff {
    /// Prices that only the new book has.
    pub added: Vec<ListedPrice>,
    /// Prices that only the old book has.
    pub removed: Vec<ListedPrice>,
    /// Prices of the same thing that differ.
    pub changed: Vec<ChangedPrice>,
    /// How many are the same.
    pub unchanged: usize,
    /// Adjustments, exchange rates and the currency to settle in that only the new book has.
    pub terms_added: Vec<String>,
    /// Those that only the old book has.
    pub terms_removed: Vec<String>,
}

/// What a price is for. Aliases count as names of their own: taking one away leaves its events unpriced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PriceKey {
    /// The provider; `None`: whoever serves the model.
    pub provider: Option<String>,
    /// The model's name or another of it, or a prefix with `*`.
    pub model: String,
    /// From when it holds.
    pub from: Option<TimeUs>,
    /// Until when.
    pub to: Option<TimeUs>,
    /// The service tier.
    pub service_tier: String,
    /// The length of the prompt above which it holds.
    pub above_input_tokens: u64,
    /// The class, by its name in the file.
    pub class: &'static str,
}

/// One price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedPrice {
    /// What it is for.
    #[serde(flatten)]
    pub key: PriceKey,
    /// How much, of a million tokens or of one of anything else.
    pub price: Pico,
    /// Of which currency.
    pub currency: Currency,
}

/// One price that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedPrice {
    /// What it is for.
    #[serde(flatten)]
    pub key: PriceKey,
    /// The old price.
    pub old: Pico,
    /// Of which currency.
    pub old_currency: Currency,
    /// The new price.
    pub new: Pico,
    /// Of which currency.
    pub new_currency: Currency,
    /// By how much it changes, in percent with one digit after the point, like `-20.0`; `None` from 0 or to another currency.
    pub percent: Option<String>,
}

/// Compares two books.
#[must_use]
pub fn diff(old: &PriceBook, new: &PriceBook) -> BookDiff {
    let (mut before, after) = (prices(old), prices(new));
    let mut diff = BookDiff::default();
    for (key, (price, currency)) in after {
        match before.remove(&key) {
            None => diff.added.push(ListedPrice { key, price, currency }),
            Some(same) if same == (price, currency) => diff.unchanged += 1,
            Some((old, old_currency)) => {
                let percent = (old_currency == currency).then(|| percent(old, price)).flatten();
                diff.changed.push(ChangedPrice { key, old, old_currency, new: price, new_currency: currency, percent });
            }
        }
    }
    diff.removed = before.into_iter().map(|(key, (price, currency))| ListedPrice { key, price, currency }).collect();
    let (mut gone, terms) = (terms(old), terms(new));
    diff.terms_added = terms.into_iter().filter(|term| !take(&mut gone, term)).collect();
    diff.terms_removed = gone;
    diff
}

fn take(list: &mut Vec<String>, text: &str) -> bool {
    let found = list.iter().position(|other| other == text);
    found.map(|at| list.remove(at)).is_some()
}

fn prices(book: &PriceBook) -> BTreeMap<PriceKey, (Pico, Currency)> {
    let named = book.rows().flat_map(|row| {
        let names = std::iter::once(row.model).chain(row.aliases.iter().map(String::as_str));
        names.map(move |name| {
            let key = PriceKey {
                provider: row.provider.map(str::to_owned),
                model: name.to_owned(),
                from: row.from,
                to: row.to,
                service_tier: row.service_tier.to_owned(),
                above_input_tokens: row.above_input_tokens,
                class: row.class.name(),
            };
            (key, (row.price, row.currency))
        })
    });
    named.collect()
}

fn terms(book: &PriceBook) -> Vec<String> {
    let settle = book.settle_in().map(|currency| format!("settle in {currency}"));
    let rates = book.exchange_rates().iter().map(|rate| {
        let until = rate.to.map(|to| format!(" until {to}")).unwrap_or_default();
        format!("1 {} is {} {} from {}{until}", rate.from_currency, rate.rate, rate.to_currency, rate.from)
    });
    let adjustments = book.adjustments().iter().map(|adjustment| {
        let from = adjustment.from.map(|from| format!(" from {from}")).unwrap_or_default();
        let until = adjustment.to.map(|to| format!(" until {to}")).unwrap_or_default();
        format!("× {} for {}{from}{until}", adjustment.multiply, adjustment.matches)
    });
    settle.into_iter().chain(rates).chain(adjustments).collect()
}

/// In tenths of a percent, half of one away from zero.
fn percent(old: Pico, new: Pico) -> Option<String> {
    let scaled = new.0.checked_sub(old.0)?.checked_mul(2000)?;
    let doubled = scaled.checked_div(old.0)?;
    let tenths = (doubled + doubled.signum()) / 2;
    let sign = if tenths < 0 { "-" } else { "+" };
    Some(format!("{sign}{}.{}", tenths.abs() / 10, tenths.abs() % 10))
}

impl BookDiff {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, changed, terms_added, terms_removed, .. } = self;
        added.is_empty()
            && removed.is_empty()
            && changed.is_empty()
            && terms_added.is_empty()
            && terms_removed.is_empty()
    }

    /// The lines of the diff for people: changed prices with their percentage each, added (`+`) and removed (`-`) ones together for a
    /// model, a service tier and a length of prompt.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.changed.iter().map(ToString::to_string).collect();
        lines.extend(self.terms_removed.iter().map(|term| format!("- {term}")));
        lines.extend(self.terms_added.iter().map(|term| format!("+ {term}")));
        lines.extend(together('-', &self.removed));
        lines.extend(together('+', &self.added));
        lines
    }
}

impl fmt::Display for BookDiff {
    /// One line: how many prices of which kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, removed, changed, unchanged, terms_added, terms_removed } = self;
        let (added, removed, changed) = (added.len(), removed.len(), changed.len());
        write!(f, "{added} prices added, {removed} removed, {changed} changed, {unchanged} the same")?;
        match (terms_added.len(), terms_removed.len()) {
            (0, 0) => Ok(()),
            (new, gone) => write!(f, "; of adjustments and exchange rates {new} added, {gone} removed"),
        }
    }
}

impl fmt::Display for ChangedPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, old_currency, new, new_currency, percent } = self;
        write!(f, "~ {key} {}: {old} {old_currency} → {new} {new_currency}", key.class)?;
        percent.as_ref().map_or(Ok(()), |percent| write!(f, " ({percent} %)"))
    }
}

impl fmt::Display for PriceKey {
    /// Without the class.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider.as_deref().unwrap_or("(any provider)"), self.model)?;
        if self.service_tier != crate::STANDARD_TIER {
            write!(f, " {}", self.service_tier)?;
        }
        if self.above_input_tokens > 0 {
            write!(f, " above {}", self.above_input_tokens)?;
        }
        self.from.map_or(Ok(()), |from| write!(f, " from {from}"))?;
        self.to.map_or(Ok(()), |to| write!(f, " until {to}"))
    }
}

/// Prices that differ in their class only, in one line.
fn together(sign: char, prices: &[ListedPrice]) -> Vec<String> {
    let mut groups: BTreeMap<(PriceKey, Currency), Vec<String>> = BTreeMap::new();
    for ListedPrice { key, price, currency } in prices {
        let group = groups.entry((PriceKey { class: "", ..key.clone() }, *currency)).or_default();
        group.push(format!("{} {price}", key.class));
    }
    let line = |((key, currency), prices): ((PriceKey, Currency), Vec<String>)| {
        format!("{sign} {key}: {} {currency}", prices.join(", "))
    };
    groups.into_iter().map(line).collect()
}
