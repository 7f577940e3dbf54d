//! LiteLLM's `model_prices_and_context_window.json` as rules of ours.
//!
//! Its prices are numbers like `1.5e-07` dollars per token. Their text is read exactly; what is finer than a pico-unit (mostly
//! remains of float arithmetic like `3.0000000000000004e-07`) is skipped, not rounded. So is every entry that our rules would price
//! wrong: what is billed by units that events do not count, what has two prices for one class of ours, and prices of zero alone,
//! which LiteLLM writes also where nobody knows the price. Each is listed with its reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use usage_types::{Currency, Pico, TokenClass};

use crate::card::{ContextTier, RateCard, ServiceTier};
use crate::{PriceRule, Rates, canonical_provider, canonical_service_tier};

/// Where LiteLLM keeps the file; the source of entries that name none.
pub const LITELLM_SOURCE: &str = "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json";

/// What became of a file.
#[derive(Debug)]
pub struct Imported {
    /// The entries, by provider and model; their line is 0 until they are written and read as a file of ours.
    pub rules: Vec<PriceRule>,
    /// What is not in them.
    pub skipped: Vec<Skipped>,
}

/// An entry, or a price of one, that was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The entry's key.
    pub name: String,
    /// The price; `None`: the whole entry.
    pub field: Option<String>,
    /// Why.
    pub reason: SkipReason,
}

/// Why something was not imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// It is no model, like `sample_spec`.
    NotAModel,
    /// The name has a `*`, which would match other names here.
    Pattern,
    /// Speech, video, search and the like are billed by units that events do not count.
    Mode,
    /// It has no price that we could use.
    NoPrice,
    /// All its prices are zero, which need not mean that it is free.
    AllZero,
    /// A price has a fraction of a pico-unit per token.
    TooFine,
    /// A price is no number of 0 or more.
    NotANumber,
    /// Output of text and of images or sound have prices of their own, and events count them as one class.
    MixedOutput,
    /// The price depends on the hour.
    ByTheHour,
    /// Another entry has the same provider and name.
    NameTaken,
    /// A price by a unit that events do not count.
    Unit,
    /// A price at a service tier that no provider's answer is known to name so.
    Tier,
    /// A price per image beside prices per token, which would bill an image twice.
    ImageBesideTokens,
}

impl SkipReason {
    /// A short name, for counting.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAModel => "not_a_model",
            Self::Pattern => "pattern",
            Self::Mode => "mode",
            Self::NoPrice => "no_price",
            Self::AllZero => "all_zero",
            Self::TooFine => "too_fine",
            Self::NotANumber => "not_a_number",
            Self::MixedOutput => "mixed_output",
            Self::ByTheHour => "by_the_hour",
            Self::NameTaken => "name_taken",
            Self::Unit => "unit",
            Self::Tier => "tier",
            Self::ImageBesideTokens => "image_beside_tokens",
        }
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAModel => "no model",
            Self::Pattern => "its name has a `*`",
            Self::Mode => "billed by units that events do not count (speech, video, search, …)",
            Self::NoPrice => "no price per token, request or image",
            Self::AllZero => "all prices are zero, also written where nobody knows the price",
            Self::TooFine => "a price finer than a pico-unit per token",
            Self::NotANumber => "a price that is no number of 0 or more",
            Self::MixedOutput => "output of two prices that events count as one class",
            Self::ByTheHour => "a price that depends on the hour",
            Self::NameTaken => "another entry has the same provider and name",
            Self::Unit => "a price by a unit that events do not count",
            Self::Tier => "a price at a service tier that answers do not name",
            Self::ImageBesideTokens => "a price per image beside prices per token",
        })
    }
}

/// Kinds of use that events count: tokens, requests, images.
const MODES: [&str; 7] =
    ["chat", "completion", "responses", "embedding", "moderation", "image_generation", "image_edit"];
/// The service tiers in names of fields.
const TIERS: [&str; 3] = ["batches", "flex", "priority"];
/// The names of fields with the price of a token; where one begins like another, the longer is first.
const TOKEN_FIELDS: [(&str, TokenClass); 6] = [
    ("input_cost_per_token", TokenClass::Input),
    ("cache_read_input_token_cost", TokenClass::CacheRead),
    ("cache_creation_input_token_cost_above_1hr", TokenClass::CacheWrite1h),
    ("cache_creation_input_token_cost", TokenClass::CacheWrite5m),
    ("output_cost_per_token", TokenClass::Output),
    ("output_cost_per_reasoning_token", TokenClass::Reasoning),
];
/// The provider whose long prompts begin at the very length in the field's name: "Long context ≥ 200k tokens", as it says itself
/// (<https://docs.x.ai/developers/pricing>) and as LiteLLM treats it.
const AT_OR_ABOVE: &str = "x_ai";
const PER_TOKEN: &str = "input_cost_per_token";
/// Another name of the price of a cache read.
const CACHE_HIT: &str = "input_cost_per_token_cache_hit";

/// Reads LiteLLM's file. `as_of` is the day on which it was fetched, as `YYYY-MM-DD`.
///
/// # Errors
/// The text is no JSON object.
pub fn import_litellm(text: &str, as_of: &str) -> Result<Imported, serde_json::Error> {
    let models: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let mut import = Import { rules: Vec::new(), skipped: Vec::new(), names: BTreeSet::new() };
    // A name without a provider's prefix is what answers carry, so it goes first.
    let (plain, prefixed): (Vec<_>, Vec<_>) = models.iter().partition(|(name, _)| !name.contains('/'));
    for (name, raw) in plain.into_iter().chain(prefixed) {
        let known = import.skipped.len();
        if let Err(reason) = import.entry(name, raw.get(), as_of) {
            // What was left out of an entry that is left out itself is no news.
            import.skipped.truncate(known);
            import.skipped.push(Skipped { name: name.clone(), field: None, reason });
        }
    }
    import.rules.sort_by(|a, b| (&a.providers, &a.model).cmp(&(&b.providers, &b.model)));
    Ok(Imported { rules: import.rules, skipped: import.skipped })
}

struct Import {
    rules: Vec<PriceRule>,
    skipped: Vec<Skipped>,
    /// Provider and name.
    names: BTreeSet<(String, String)>,
}

/// The prices of one entry by service tier (empty: standard) and length, as far as they have a place here.
#[derive(Default)]
struct Costs {
    tokens: BTreeMap<(String, u64), BTreeMap<TokenClass, Pico>>,
    per_request: Option<Pico>,
    per_image: Option<Pico>,
}

impl Import {
    fn entry(&mut self, name: &str, raw: &str, as_of: &str) -> Result<(), SkipReason> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(raw).map_err(|_| SkipReason::NotAModel)?;
        let text = |field: &str| fields.get(field).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let provider = text("litellm_provider").ok_or(SkipReason::NotAModel)?;
        if name == "sample_spec" || name.is_empty() || name.trim() != name {
            return Err(SkipReason::NotAModel);
        }
        if name.contains('*') {
            return Err(SkipReason::Pattern);
        }
        if text("mode").is_some_and(|mode| !MODES.contains(&mode.as_str())) {
            return Err(SkipReason::Mode);
        }
        if fields.contains_key("off_peak_pricing") {
            return Err(SkipReason::ByTheHour);
        }
        if ["output_cost_per_image_token", "output_cost_per_audio_token"].iter().any(|other| differs(&fields, other)) {
            return Err(SkipReason::MixedOutput);
        }
        let provider = otel_provider(&provider);
        let costs = self.costs(name, &fields, provider == AT_OR_ABOVE)?;
        let (model, full) = match name.split_once('/') {
            Some((prefix, model)) if otel_provider(prefix) == provider && !model.is_empty() => (model, Some(name)),
            _ => (name, None),
        };
        if !self.names.insert((provider.clone(), model.to_owned())) {
            return Err(SkipReason::NameTaken);
        }
        let aliases = full.filter(|full| self.names.insert((provider.clone(), (*full).to_owned())));
        let (standard, service_tiers) = cards(&costs);
        let source = text("source").filter(|source| source.starts_with("https://"));
        self.rules.push(PriceRule {
            providers: vec![provider],
            model: model.to_owned(),
            aliases: aliases.into_iter().map(str::to_owned).collect(),
            from: None,
            to: None,
            standard,
            service_tiers,
            source: source.unwrap_or_else(|| LITELLM_SOURCE.to_owned()),
            as_of: as_of.to_owned(),
            note: audio_note(&fields),
            line: 0,
            column: 0,
        });
        Ok(())
    }

    fn costs(
        &mut self,
        name: &str,
        fields: &BTreeMap<String, &RawValue>,
        at_or_above: bool,
    ) -> Result<Costs, SkipReason> {
        let mut costs = Costs::default();
        let mut left_out = Vec::new();
        for (field, raw) in fields {
            // Everything else says what a model can, not what it costs.
            let is_price = (field.contains("cost") || field.contains("pricing")) && field != CACHE_HIT;
            if !is_price || raw.get() == "null" {
                continue;
            }
            match place(field) {
                Ok(Place::Tokens(class, above, tier)) => {
                    let price = pico(raw.get())?;
                    let above = if at_or_above { above.saturating_sub(1) } else { above };
                    costs.tokens.entry((tier.to_owned(), above)).or_default().insert(class, price);
                }
                Ok(Place::Request) => costs.per_request = Some(pico(raw.get())?),
                Ok(Place::Image) => costs.per_image = Some(pico(raw.get())?),
                Ok(Place::Ranges) => ranges(raw.get(), &mut costs)?,
                Err(_) if pico(raw.get()).is_ok_and(|price| price.0 == 0) => {}
                Err(reason) => left_out.push((field, reason)),
            }
        }
        if let Some(raw) = fields.get(CACHE_HIT) {
            let price = pico(raw.get())?;
            costs.tokens.entry((String::new(), 0)).or_default().entry(TokenClass::CacheRead).or_insert(price);
        }
        let tokens = || costs.tokens.values().flat_map(BTreeMap::values);
        if costs.per_image.is_some() && tokens().any(|price| price.0 > 0) {
            costs.per_image = None;
            left_out
                .extend(fields.get_key_value("output_cost_per_image").map(|(n, _)| (n, SkipReason::ImageBesideTokens)));
        }
        let fees = [costs.per_request, costs.per_image];
        let mut all = costs.tokens.values().flat_map(BTreeMap::values).chain(fees.iter().flatten()).peekable();
        if all.peek().is_none() {
            return Err(SkipReason::NoPrice);
        }
        if all.all(|price| price.0 == 0) {
            return Err(SkipReason::AllZero);
        }
        // What costs by image alone has its tokens listed as zero, if at all; they are not free here but not counted there.
        if costs.per_image.is_some() {
            costs.tokens.clear();
        }
        if !costs.tokens.contains_key(&(String::new(), 0)) && fees.iter().all(Option::is_none) {
            return Err(SkipReason::NoPrice);
        }
        let skipped = left_out.into_iter();
        self.skipped.extend(skipped.map(|(field, reason)| Skipped {
            name: name.to_owned(),
            field: Some(field.clone()),
            reason,
        }));
        Ok(costs)
    }
}

/// Where a price belongs.
enum Place<'a> {
    /// A class, above so many input tokens, at a service tier as LiteLLM calls it (empty: standard).
    Tokens(TokenClass, u64, &'a str),
    Request,
    Image,
    /// Several lengths, each with its own fields.
    Ranges,
}

fn place(field: &str) -> Result<Place<'_>, SkipReason> {
    match field {
        "input_cost_per_request" => return Ok(Place::Request),
        "output_cost_per_image" => return Ok(Place::Image),
        "tiered_pricing" => return Ok(Place::Ranges),
        _ => {}
    }
    let known = TOKEN_FIELDS.iter().find_map(|(name, class)| field.strip_prefix(name).map(|rest| (*class, rest)));
    let (class, rest) = known.ok_or(SkipReason::Unit)?;
    let (above, tier) = match rest.strip_prefix("_above_").map(|rest| rest.split_once("_tokens")) {
        Some(Some((length, tier))) => (tokens(length).ok_or(SkipReason::Unit)?, tier),
        Some(None) => return Err(SkipReason::Unit),
        None => (0, rest),
    };
    match tier.strip_prefix('_') {
        None if tier.is_empty() => Ok(Place::Tokens(class, above, "")),
        Some(tier) if TIERS.contains(&tier) => Ok(Place::Tokens(class, above, tier)),
        Some(_) => Err(SkipReason::Tier),
        None => Err(SkipReason::Unit),
    }
}

/// `200k` or `200000`.
fn tokens(length: &str) -> Option<u64> {
    let (digits, unit) = length.strip_suffix('k').map_or((length, 1), |digits| (digits, 1000));
    digits.parse::<u32>().ok().map(|count| u64::from(count) * unit)
}

/// `tiered_pricing`: a list of `{range: [from, to], input_cost_per_token, …}`. A prompt of exactly `from` tokens is in the range
/// before: LiteLLM asks whether the prompt is longer.
fn ranges(raw: &str, costs: &mut Costs) -> Result<(), SkipReason> {
    let ranges: Vec<BTreeMap<String, &RawValue>> = serde_json::from_str(raw).map_err(|_| SkipReason::NotANumber)?;
    for range in &ranges {
        let bounds = range.get("range").and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
        let start = bounds.as_ref().and_then(|bounds| bounds.first()).ok_or(SkipReason::NotANumber)?;
        let above = pico(start.get())?.0 / Pico::ONE.0;
        let above = u64::try_from(above).map_err(|_| SkipReason::NotANumber)?;
        for (field, raw) in range {
            if let Ok(Place::Tokens(class, 0, tier)) = place(field) {
                let price = pico(raw.get())?;
                costs.tokens.entry((tier.to_owned(), above)).or_default().insert(class, price);
            }
        }
    }
    Ok(())
}

fn cards(costs: &Costs) -> (RateCard, Vec<ServiceTier>) {
    let rates = |tokens: &BTreeMap<TokenClass, Pico>| {
        let mut per_token = [None; TokenClass::COUNT];
        for (class, price) in tokens {
            per_token[*class as usize] = Some(*price);
        }
        let reasoning = &mut per_token[TokenClass::Reasoning as usize];
        *reasoning = reasoning.or(tokens.get(&TokenClass::Output).copied());
        Rates {
            currency: Currency::USD,
            per_token,
            per_request: costs.per_request,
            per_tool_call: None,
            per_image: costs.per_image,
            per_compute_second: None,
        }
    };
    let card = |tier: &str| {
        let of_tier = || costs.tokens.iter().filter(move |((name, _), _)| name == tier);
        let base = costs.tokens.get(&(tier.to_owned(), 0)).map(rates);
        let tiers = of_tier().filter(|((_, above), _)| *above > 0);
        let tiers: Vec<ContextTier> = tiers
            .map(|((_, above), tokens)| ContextTier { above_input_tokens: *above, rates: Some(rates(tokens)) })
            .collect();
        RateCard { rates: base.unwrap_or_else(|| rates(&BTreeMap::new())), tiers }
    };
    let standard = card("");
    let service_tiers = TIERS.iter().filter(|tier| costs.tokens.contains_key(&((**tier).to_owned(), 0)));
    let service_tiers = service_tiers.map(|tier| {
        let mut card = card(tier);
        if card.tiers.is_empty() {
            // It says nothing of long prompts where the standard prices do.
            card.tiers = standard.tiers.iter().map(|long| ContextTier { rates: None, ..long.clone() }).collect();
        }
        ServiceTier { name: canonical_service_tier(tier).to_owned(), card }
    });
    let service_tiers = service_tiers.collect();
    (standard, service_tiers)
}

/// Whether the field has a price that is not that of an output token.
fn differs(fields: &BTreeMap<String, &RawValue>, field: &str) -> bool {
    let price = |field: &str| fields.get(field).filter(|raw| raw.get() != "null").map(|raw| pico(raw.get()));
    price(field).is_some_and(|other| other != Ok(Pico(0)) && Some(other) != price("output_cost_per_token"))
}

fn audio_note(fields: &BTreeMap<String, &RawValue>) -> Option<String> {
    let price = |field: &str| fields.get(field).and_then(|raw| pico(raw.get()).ok());
    let audio = price("input_cost_per_audio_token").filter(|audio| Some(*audio) != price(PER_TOKEN))?;
    let per_million = Pico(audio.0.checked_mul(i128::from(Rates::TOKENS_PER_PRICE))?);
    Some(format!("a million tokens of sound as input cost {per_million} USD, which events do not tell apart"))
}

/// The provider's OpenTelemetry name; LiteLLM tells apart what Vertex AI serves by who made it.
fn otel_provider(name: &str) -> String {
    let name = if name.starts_with("vertex_ai") { "vertex_ai" } else { name };
    let name = match name {
        "bedrock_mantle" => "bedrock",
        "azure_text" => "azure",
        "codestral" | "text-completion-codestral" => "mistral",
        name => name,
    };
    canonical_provider(name).to_owned()
}

/// A JSON number (or a text with one) as pico-units, exactly: `1.5e-07` is 150,000.
fn pico(json: &str) -> Result<Pico, SkipReason> {
    let text = json.trim_matches('"').trim();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| SkipReason::NotANumber)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) || exponent.abs() > 60 {
        return Err(SkipReason::NotANumber);
    }
    let value: i128 = digits.parse().map_err(|_| SkipReason::NotANumber)?;
    let fraction_len = i32::try_from(fraction.len()).map_err(|_| SkipReason::NotANumber)?;
    let shift = exponent - fraction_len + Pico::DIGITS.cast_signed();
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let pico = match (value, shift, power) {
        (0, ..) => Some(0),
        (_, 0.., Some(power)) => value.checked_mul(power),
        (_, _, Some(power)) if value % power == 0 => Some(value / power),
        (_, ..0, _) => return Err(SkipReason::TooFine),
        _ => None,
    };
    pico.filter(|pico| *pico <= Pico::MAX.0 / i128::from(Rates::TOKENS_PER_PRICE))
        .map(Pico)
        .ok_or(SkipReason::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_json_is_read_as_its_text_says() {
        for (text, expected) in [
            ("1.5e-07", Ok(150_000)),
            ("0.0000025", Ok(2_500_000)),
            ("3e-6", Ok(3_000_000)),
            ("\"1e-12\"", Ok(1)),
            ("0.039", Ok(39_000_000_000)),
            ("1E+2", Ok(100_000_000_000_000)),
            ("0.0", Ok(0)),
            ("0e-99", Err(SkipReason::NotANumber)),
            // What is left of 0.1 + 0.2 in floats.
            ("3.0000000000000004e-07", Err(SkipReason::TooFine)),
            ("1e-13", Err(SkipReason::TooFine)),
            ("-1e-6", Err(SkipReason::NotANumber)),
            ("true", Err(SkipReason::NotANumber)),
            ("1e40", Err(SkipReason::NotANumber)),
            ("1e99999999999", Err(SkipReason::NotANumber)),
        ] {
            assert_eq!(pico(text).map(|pico| pico.0), expected, "{text}");
        }
    }
}
