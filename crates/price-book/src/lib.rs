//! What an event costs: dated prices per provider, model and token class.
//!
//! Why: a sender seldom knows what a request cost, and a report is only as good as the price it used. So prices live in a file
//! that people can read, check against the provider's page and put under review: [`PriceBook::from_yaml`] reads one,
//! [`PriceBook::shipped`] is the one that comes with Outlay.
//!
//! What holds here:
//! - Money is an integer of pico-units, a price is text until it is one; no float is involved.
//! - An event is priced by exactly one rule, or by none and then says why: nothing is free in silence. A token class, a service
//!   tier or a length of prompt without a price makes an event that used it unpriced, not cheaper.
//! - The price is that of the event's own time, whenever it is counted; replaying gives the same cost. So is the exchange rate.
//! - What an event costs is added up exactly, multiplied by at most one adjustment and one exchange rate exactly, and rounded once,
//!   at the end, to the pico-unit, half of one up. A price finer than that is refused when the file is read.
//! - Between two entries, adjustments or exchange rates one is more specific, or the file is refused, naming both lines.
//! - [`Pricer`] remembers what it looked up, [`PriceBook::price`] does not; both always say the same.
//!
//! The order for one event: its own cost, where it brings one, as it is. Else the rule of its provider, model and time
//! ([`PriceBook::explain`]); the prices of its service tier ([`PriceRule::card`]) and of the length of its prompt
//! ([`ContextTier`]); the most specific [`Adjustment`]; the [`ExchangeRate`] to the currency of the books. The file's format is
//! described at the top of `prices/default.yaml`.
//!
//! Deliberately absent: I/O and clocks (the caller reads the file and knows the time), prices by the hour of the day, discounts by
//! volume (they depend on other events), and surcharges for regions: a file may state them as prices of their own.

mod adjust;
mod book;
mod card;
mod diff;
mod exact;
mod exchange;
mod explain;
mod file;
mod litellm;
mod matching;
mod pricer;
mod provider;
mod rates;
mod rows;
mod write;

pub use adjust::Adjustment;
pub use book::{MatchKind, PriceBook, PriceRule};
pub use card::{ContextTier, RateCard, STANDARD_TIER, ServiceTier, canonical_service_tier, prompt_tokens};
pub use diff::{BookDiff, ChangedPrice, ListedPrice, PriceKey, diff};
pub use exact::Factor;
pub use exchange::ExchangeRate;
pub use explain::{ExplainedPrice, Explanation};
pub use litellm::{Imported, LITELLM_SOURCE, SkipReason, Skipped, import_litellm};
pub use pricer::Pricer;
pub use provider::canonical_provider;
pub use rates::{Priced, Rates, UnpricedReason};
pub use rows::{PriceClass, PriceRow};
pub use write::write_yaml;
pub use yaml_file::FileError;
