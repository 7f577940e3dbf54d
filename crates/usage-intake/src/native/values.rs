//! The values of a native event that are more than a text or a number: tokens, cost, compute time, tags, the kind of a correction.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use usage_types::{ComputeNs, Currency, Pico, RejectCode, TokenClass, Tokens, UsageEvent};

use super::whole::Correction;
use crate::field::{
    Borrowed, COMPUTE_MAX, COST_MAX, Context, Count, Fault, bounded, check_text, decimal, given_twice, json_text,
    signed_decimal,
};
use crate::provider_usage::Format;

pub(super) fn compute(json: &RawValue) -> Result<ComputeNs, Fault> {
    let compute: ComputeNs = decimal(json.get())?;
    if compute > COMPUTE_MAX {
        let message = format!("{compute} seconds are more than {COMPUTE_MAX}, the most that one event may have used");
        return Err((RejectCode::OutOfRange, message));
    }
    Ok(compute)
}

/// The classes of `tokens`; `null` counts as absent.
pub(super) struct TokensOf<'c>(pub(super) &'c Context);

impl<'de> DeserializeSeed<'de> for TokensOf<'_> {
    type Value = Option<Tokens>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TokensOf<'_> {
    type Value = Option<Tokens>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of token classes like {\"input\": 900, \"output\": 80}")
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tokens = Tokens::default();
        let mut seen = 0_u8;
        while let Some(Class(class)) = map.next_key()? {
            let class = match class {
                Ok(class) => class,
                Err(name) => return Err(self.0.refuse_at(format!("tokens.{name}"), unknown_class(&name))),
            };
            self.0.at_member(class.name());
            if seen & (1 << class as u8) != 0 {
                return Err(self.0.refuse(given_twice(class.name())));
            }
            seen |= 1 << class as u8;
            *tokens.get_mut(class) = map.next_value_seed(Count(self.0))?.unwrap_or(0);
        }
        Ok(Some(tokens))
    }
}

/// A token class, or the name that is none.
struct Class(Result<TokenClass, String>);

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Class;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token class")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Class, E> {
                Ok(Class(match name.as_bytes() {
                    b"input" => Ok(TokenClass::Input),
                    b"cache_read" => Ok(TokenClass::CacheRead),
                    b"cache_write_5m" => Ok(TokenClass::CacheWrite5m),
                    b"cache_write_1h" => Ok(TokenClass::CacheWrite1h),
                    b"output" => Ok(TokenClass::Output),
                    b"reasoning" => Ok(TokenClass::Reasoning),
                    _ => Err(bounded(name.to_owned())),
                }))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

fn unknown_class(name: &str) -> Fault {
    let classes = TokenClass::ALL.map(TokenClass::name).join(", ");
    let message = format!("{name:?} is no token class; put every token into exactly one of {classes}");
    (RejectCode::UnknownField, message)
}

/// The cost that the sender knows; `null` counts as not known. Whether it may be negative is for the whole event to say.
pub(super) struct CostOf<'c>(pub(super) &'c Context);

impl<'de> DeserializeSeed<'de> for CostOf<'_> {
    type Value = Option<(Pico, Currency)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CostOf<'_> {
    type Value = Option<(Pico, Currency)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object like {\"amount\": \"0.0123\", \"currency\": \"USD\"}")
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut amount, mut currency) = (None, None);
        while let Some(Borrowed(name)) = map.next_key()? {
            let refuse = |fault| self.0.refuse(fault);
            match name.as_ref() {
                "amount" if amount.is_none() => {
                    self.0.at_member("amount");
                    amount = Some(cost_amount(map.next_value::<&'de RawValue>()?).map_err(refuse)?);
                }
                "currency" if currency.is_none() => {
                    self.0.at_member("currency");
                    currency = Some(cost_currency(map.next_value::<&'de RawValue>()?).map_err(refuse)?);
                }
                name @ ("amount" | "currency") => {
                    return Err(self.0.refuse_at(format!("cost.{name}"), given_twice(name)));
                }
                name => {
                    let fault = (RejectCode::UnknownField, "a cost has `amount` and `currency` only".to_owned());
                    return Err(self.0.refuse_at(format!("cost.{}", bounded(name.to_owned())), fault));
                }
            }
        }
        let missing = |field: &str, like: &str| {
            let message = format!("`{field}` is missing; send it like \"{like}\"");
            self.0.refuse_at(field.to_owned(), (RejectCode::MissingField, message))
        };
        let amount = amount.ok_or_else(|| missing("cost.amount", "0.0123"))?;
        let currency = currency.ok_or_else(|| missing("cost.currency", "USD"))?;
        Ok(Some((amount, currency)))
    }
}

fn cost_amount(json: &RawValue) -> Result<Pico, Fault> {
    let amount: Pico = signed_decimal(json.get())?;
    if amount.0.unsigned_abs() > COST_MAX.0.unsigned_abs() {
        let message = format!("{amount} is more than {COST_MAX}, the most that one event may cost");
        return Err((RejectCode::OutOfRange, message));
    }
    Ok(amount)
}

fn cost_currency(json: &RawValue) -> Result<Currency, Fault> {
    let text = json_text(json.get())?;
    text.parse().map_err(|error: usage_types::UnitError| (RejectCode::OutOfRange, error.to_string()))
}

/// Free labels; `null` counts as none. A number or a boolean is kept as the text that was sent.
pub(super) struct TagsOf<'c>(pub(super) &'c Context);

impl<'de> DeserializeSeed<'de> for TagsOf<'_> {
    type Value = BTreeMap<Cow<'de, str>, Cow<'de, str>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TagsOf<'_> {
    type Value = BTreeMap<Cow<'de, str>, Cow<'de, str>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts like {\"env\": \"ci\"}")
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tags = BTreeMap::new();
        while let Some(Borrowed(name)) = map.next_key()? {
            let json = map.next_value::<&'de RawValue>()?;
            let path = || format!("tags.{}", bounded(name.to_string()));
            match tag(&name, json).map_err(|fault| self.0.refuse_at(path(), fault))? {
                None => {}
                Some(_) if tags.contains_key(&name) => return Err(self.0.refuse_at(path(), given_twice(&name))),
                Some(_) if tags.len() == UsageEvent::TAGS_MAX => {
                    let message = format!("more than {} tags; send fewer", UsageEvent::TAGS_MAX);
                    return Err(self.0.refuse_at("tags".to_owned(), (RejectCode::OutOfRange, message)));
                }
                Some(value) => drop(tags.insert(name, value)),
            }
        }
        Ok(tags)
    }
}

fn tag<'de>(name: &str, json: &'de RawValue) -> Result<Option<Cow<'de, str>>, Fault> {
    if name.is_empty() {
        return Err((RejectCode::OutOfRange, "a tag has no name; name it or leave it out".to_owned()));
    }
    check_text(name)?;
    let value = match json.get().as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => json_text(json.get())?,
        Some(b'{' | b'[') => {
            return Err((
                RejectCode::WrongType,
                "a tag is a text, a number or a boolean; flatten what is nested".to_owned(),
            ));
        }
        _ => Cow::Borrowed(json.get()),
    };
    check_text(&value)?;
    Ok(Some(value))
}

/// `amend` or `void`; `null` counts as absent.
pub(super) fn correction(text: Option<Cow<'_, str>>) -> Result<Option<Correction>, Fault> {
    match text.as_deref() {
        None => Ok(None),
        Some("amend") => Ok(Some(Correction::Amend)),
        Some("void") => Ok(Some(Correction::Void)),
        Some(other) => {
            let message = format!("{other:?} is no correction; write \"amend\" or \"void\"");
            Err((RejectCode::OutOfRange, message))
        }
    }
}

/// The name of a format of usage objects; `null` counts as absent.
pub(super) fn usage_format(text: Option<Cow<'_, str>>) -> Result<Option<Format>, Fault> {
    text.map(|name| Format::named(&name)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_class_is_read() {
        for class in TokenClass::ALL {
            let Class(read) = serde_json::from_str(&format!("\"{}\"", class.name())).unwrap();
            assert_eq!(read, Ok(class));
        }
    }
}
