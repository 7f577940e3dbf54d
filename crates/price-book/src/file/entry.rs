//! One entry of the file as a rule: names, dates, and a card of prices for each service tier.

use usage_types::{Currency, Pico, TokenClass};
use yaml_file::{FileError, Location, Spanned, Text};

use super::field::{currency, date, factor, period, price, token_price};
use super::{RawBook, RawContextTier, RawEntry, RawServiceTier, RawTokens};
use crate::card::{ContextTier, RateCard, STANDARD_TIER, ServiceTier, canonical_service_tier};
use crate::{Factor, PriceRule, Rates, canonical_provider};

type PerToken = [Option<Pico>; TokenClass::COUNT];

pub(super) fn rule(
    raw: &RawBook,
    entry: &Spanned<RawEntry>,
    currency: Currency,
    path: &str,
) -> Result<PriceRule, FileError> {
    let (at, entry) = (entry.referenced, &entry.value);
    let field = |name: &str| format!("{path}.{name}");
    let (from, to) = period(&entry.from, &entry.to, path)?;
    let missing = |name: &str, what: &str| FileError::at(at, field(name), format!("missing; {what}"));
    let model = entry.model.as_ref().ok_or_else(|| missing("model", "name the model as events name it"))?;
    let source = entry.source.as_ref().or(raw.source.as_ref());
    let source = source.ok_or_else(|| missing("source", "say where the prices are published"))?;
    let as_of = entry.as_of.as_ref().or(raw.as_of.as_ref());
    let as_of = as_of.ok_or_else(|| missing("as_of", "say when the prices were read there"))?;
    let standard = standard_card(entry, at, currency, path)?;
    let service_tiers = service_tiers(entry, &standard, path)?;
    Ok(PriceRule {
        providers: providers(entry, path)?,
        model: model_name(model, &field("model"))?,
        aliases: aliases(entry, &model.value, path)?,
        from,
        to,
        standard,
        service_tiers,
        source: source.value.clone(),
        as_of: date(as_of, &field("as_of"))?.to_string(),
        note: entry.note.clone(),
        line: at.line(),
        column: at.column(),
    })
}

fn providers(entry: &RawEntry, path: &str) -> Result<Vec<String>, FileError> {
    let Some(given) = &entry.provider else { return Ok(Vec::new()) };
    let mut names: Vec<String> = Vec::new();
    for name in &given.value.0 {
        let name = canonical_provider(name);
        if name.is_empty() || names.iter().any(|other| other == name) {
            let message = if name.is_empty() {
                "empty; name a provider, or leave the field out for all providers".to_owned()
            } else {
                format!("`{name}` is listed twice")
            };
            return Err(FileError::at(given.referenced, format!("{path}.provider"), message));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        let message = "empty; name a provider, or leave the field out for all providers";
        return Err(FileError::at(given.referenced, format!("{path}.provider"), message));
    }
    Ok(names)
}

fn aliases(entry: &RawEntry, model: &str, path: &str) -> Result<Vec<String>, FileError> {
    let mut names: Vec<String> = Vec::with_capacity(entry.aliases.len());
    for (index, alias) in entry.aliases.iter().enumerate() {
        let field = format!("{path}.aliases[{index}]");
        let name = model_name(alias, &field)?;
        if name == model || names.contains(&name) {
            return Err(FileError::at(alias.referenced, field, format!("`{name}` is listed twice")));
        }
        names.push(name);
    }
    Ok(names)
}

fn model_name(text: &Text, field: &str) -> Result<String, FileError> {
    let name = &text.value;
    let prefix = name.strip_suffix('*').unwrap_or(name);
    if name.is_empty() || name.trim() != name {
        return Err(FileError::at(
            text.referenced,
            field,
            "empty or with spaces around it; write the model's name as events have it",
        ));
    }
    if prefix.contains('*') {
        return Err(FileError::at(text.referenced, field, format!("`{name}`: a `*` may stand at the end only")));
    }
    Ok(name.clone())
}

fn standard_card(
    entry: &RawEntry,
    at: Location,
    default_currency: Currency,
    path: &str,
) -> Result<RateCard, FileError> {
    let fee = |text, name| price(text, &format!("{path}.{name}"));
    let given = entry.currency.as_ref();
    let rates = Rates {
        currency: given.map_or(Ok(default_currency), |text| currency(text, &format!("{path}.currency")))?,
        per_token: entry.per_million.as_ref().map_or(Ok(PerToken::default()), |tokens| per_token(tokens, path))?,
        per_request: fee(&entry.per_request, "per_request")?,
        per_tool_call: fee(&entry.per_tool_call, "per_tool_call")?,
        per_image: fee(&entry.per_image, "per_image")?,
        per_compute_second: fee(&entry.per_compute_second, "per_compute_second")?,
    };
    if rates.names_no_price() {
        return Err(FileError::at(at, path, "names no price; give `per_million`, or a price of 0 where it is free"));
    }
    let tiers = context_tiers(&entry.tiers, &rates, path)?;
    Ok(RateCard { rates, tiers })
}

fn per_token(tokens: &RawTokens, path: &str) -> Result<PerToken, FileError> {
    let of_class = |class| match class {
        TokenClass::Input => &tokens.input,
        TokenClass::CacheRead => &tokens.cache_read,
        TokenClass::CacheWrite5m => &tokens.cache_write_5m,
        TokenClass::CacheWrite1h => &tokens.cache_write_1h,
        TokenClass::Output => &tokens.output,
        // Every provider that tells reasoning apart bills it as output.
        TokenClass::Reasoning if tokens.reasoning.is_none() => &tokens.output,
        TokenClass::Reasoning => &tokens.reasoning,
    };
    let mut prices = PerToken::default();
    for class in TokenClass::ALL {
        prices[class as usize] = token_price(of_class(class), &format!("{path}.per_million.{}", class.name()))?;
    }
    Ok(prices)
}

/// The token prices of a tier: its own, or those of `base` times a number. A fraction of a pico-unit is refused here as in a price.
fn tier_tokens(
    (own, multiply): (&Option<RawTokens>, &Option<Text>),
    base: &Rates,
    path: &str,
) -> Result<Option<PerToken>, FileError> {
    let Some(text) = multiply else { return own.as_ref().map(|tokens| per_token(tokens, path)).transpose() };
    let refuse = |message: String| FileError::at(text.referenced, format!("{path}.multiply"), message);
    if own.is_some() {
        return Err(refuse("given beside `per_million`; give one of them".to_owned()));
    }
    let field = format!("{path}.multiply");
    let factor = factor(text, &field, Factor::MULTIPLIER_DIGITS, Factor::MULTIPLIER_MAX)?;
    let mut prices = PerToken::default();
    for class in TokenClass::ALL {
        let Some(price) = base.token(class) else { continue };
        let product = factor.exactly(price).ok_or_else(|| {
            let name = class.name();
            refuse(format!("`{}` of the price of {name} tokens has more than 6 digits after the point", text.value))
        })?;
        prices[class as usize] = Some(product);
    }
    if base.per_token.iter().all(Option::is_none) {
        return Err(refuse("the entry has no `per_million` to multiply".to_owned()));
    }
    Ok(Some(prices))
}

/// Fees are the same however long the prompt is; only tokens cost more.
fn context_tiers(raw: &[Spanned<RawContextTier>], base: &Rates, path: &str) -> Result<Vec<ContextTier>, FileError> {
    let mut tiers: Vec<ContextTier> = Vec::with_capacity(raw.len());
    for (index, tier) in raw.iter().enumerate() {
        let (at, tier, path) = (tier.referenced, &tier.value, format!("{path}.tiers[{index}]"));
        let above = tier.above_input_tokens.as_ref().ok_or_else(|| {
            let message = "missing; say above how many input tokens the tier begins";
            FileError::at(at, format!("{path}.above_input_tokens"), message)
        })?;
        if tiers.last().is_some_and(|shorter| above.value <= shorter.above_input_tokens) || above.value == 0 {
            let message = format!("`{}` is not more than in the tier before; list the shortest first", above.value);
            return Err(FileError::at(above.referenced, format!("{path}.above_input_tokens"), message));
        }
        let per_token = tier_tokens((&tier.per_million, &tier.multiply), base, &path)?
            .ok_or_else(|| FileError::at(at, &path, "names no price; give `per_million` or `multiply`"))?;
        let rates = Some(Rates { per_token, ..*base });
        tiers.push(ContextTier { above_input_tokens: above.value, rates });
    }
    Ok(tiers)
}

fn service_tiers(entry: &RawEntry, standard: &RateCard, path: &str) -> Result<Vec<ServiceTier>, FileError> {
    let mut tiers: Vec<ServiceTier> = Vec::with_capacity(entry.service_tiers.len());
    for (given, tier) in &entry.service_tiers {
        let path = format!("{path}.service_tiers.{given}");
        let name = canonical_service_tier(given);
        if given.trim() != given || given.is_empty() {
            return Err(FileError::at(
                tier.referenced,
                &path,
                "empty or with spaces around it; write the name as events have it",
            ));
        }
        if name == STANDARD_TIER {
            return Err(FileError::at(
                tier.referenced,
                &path,
                "the standard tier's prices are the entry's own; move them there",
            ));
        }
        if tiers.iter().any(|other| other.name == name) {
            return Err(FileError::at(
                tier.referenced,
                &path,
                format!("prices `{name}` a second time, under another name of it"),
            ));
        }
        tiers.push(ServiceTier { name: name.to_owned(), card: service_card(tier, standard, &path)? });
    }
    Ok(tiers)
}

fn service_card(tier: &Spanned<RawServiceTier>, standard: &RateCard, path: &str) -> Result<RateCard, FileError> {
    let (at, tier, base) = (tier.referenced, &tier.value, &standard.rates);
    let fee = |text: &Option<Text>, name: &str, inherited: Option<Pico>| {
        price(text, &format!("{path}.{name}")).map(|own| own.or(inherited))
    };
    let own_tokens = tier_tokens((&tier.per_million, &tier.multiply), base, path)?;
    let fees = [&tier.per_request, &tier.per_tool_call, &tier.per_image, &tier.per_compute_second];
    if own_tokens.is_none() && fees.iter().all(|fee| fee.is_none()) {
        return Err(FileError::at(at, path, "names no price; give `per_million` or `multiply`"));
    }
    let rates = Rates {
        currency: base.currency,
        per_token: own_tokens.unwrap_or_default(),
        per_request: fee(&tier.per_request, "per_request", base.per_request)?,
        per_tool_call: fee(&tier.per_tool_call, "per_tool_call", base.per_tool_call)?,
        per_image: fee(&tier.per_image, "per_image", base.per_image)?,
        per_compute_second: fee(&tier.per_compute_second, "per_compute_second", base.per_compute_second)?,
    };
    let tiers = match (&tier.tiers, &tier.multiply) {
        (Some(own), _) => context_tiers(own, &rates, path)?,
        // What multiplies the prices multiplies those of long prompts as well.
        (None, Some(_)) => multiplied_tiers(&standard.tiers, tier, &rates, path)?,
        // Prices of its own say nothing of long prompts where those cost more at the standard tier: unpriced, until they do.
        (None, None) => standard.tiers.iter().map(|long| ContextTier { rates: None, ..long.clone() }).collect(),
    };
    Ok(RateCard { rates, tiers })
}

fn multiplied_tiers(
    standard: &[ContextTier],
    tier: &RawServiceTier,
    rates: &Rates,
    path: &str,
) -> Result<Vec<ContextTier>, FileError> {
    let multiplied = |long: &ContextTier| {
        let per_token = long.rates.as_ref().map(|base| tier_tokens((&None, &tier.multiply), base, path)).transpose()?;
        let long_rates = per_token.flatten().map(|per_token| Rates { per_token, ..*rates });
        Ok(ContextTier { above_input_tokens: long.above_input_tokens, rates: long_rates })
    };
    standard.iter().map(multiplied).collect()
}
