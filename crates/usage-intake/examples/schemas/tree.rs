//! JSON that keeps its members in the order in which people wrote them, so that filling in a name does not shuffle a file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// An object.
    Object(Vec<(String, Tree)>),
    /// An array.
    Array(Vec<Tree>),
    /// Everything else.
    Plain(Value),
}

impl Tree {
    /// An array of texts.
    pub fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Self {
        Self::Array(texts.into_iter().map(|text| Self::Plain(Value::String(text.into()))).collect())
    }

    /// An object.
    pub fn object<S: Into<String>>(members: impl IntoIterator<Item = (S, Self)>) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// The place that a JSON pointer without escapes names; its last member is made where it is missing.
    ///
    /// # Errors
    /// The pointer leads nowhere.
    pub fn at(&mut self, pointer: &str) -> Result<&mut Self, String> {
        let names: Vec<&str> = pointer.split('/').skip(1).collect();
        let mut place = self;
        for (depth, name) in names.iter().enumerate() {
            let is_last = depth + 1 == names.len();
            place = place.child(name, is_last).ok_or_else(|| format!("{pointer} leads nowhere at {name:?}"))?;
        }
        Ok(place)
    }

    fn child(&mut self, name: &str, is_made: bool) -> Option<&mut Self> {
        match self {
            Self::Object(members) => {
                let found = members.iter().position(|(is, _)| is == name);
                if found.is_none() && is_made {
                    members.push((name.to_owned(), Self::Plain(Value::Null)));
                }
                let at = found.or(is_made.then(|| members.len() - 1))?;
                members.get_mut(at).map(|(_, value)| value)
            }
            Self::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
            Self::Plain(_) => None,
        }
    }
}

impl<T: Into<Value>> From<T> for Tree {
    fn from(plain: T) -> Self {
        Self::Plain(plain.into())
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
            Self::Array(items) => items.serialize(serializer),
            Self::Plain(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Value::Null.into())
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(value.into())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(value.into())
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(value.into())
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(value.into())
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(value.into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
