//! Who spent: the dimensions of an event, sets of dimensions, and the scope that a balance belongs to.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! dimensions {
    ($($variant:ident $name:literal $header:literal $doc:literal;)*) => {
        /// One dimension of an event. The order is the canonical order of every text form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Dimension { $(#[doc = $doc] $variant,)* }

        impl Dimension {
            /// All of them, in canonical order.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = [$($name,)*].len();

            /// The name in JSON, YAML and SQL.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is, in a sentence.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// The HTTP header that carries it.
            #[must_use]
            pub const fn header(self) -> &'static str {
                match self { $(Self::$variant => $header,)* }
            }
        }

        impl FromStr for Dimension {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(format!("`{text}` is no dimension; use one of {}", [$($name,)*].join(", "))),
                }
            }
        }
    };
}

dimensions! {
    Namespace "namespace" "x-outlay-namespace" "The tenant or organisational unit that pays.";
    Team "team" "x-outlay-team" "The team within the namespace.";
    Repository "repository" "x-outlay-repository" "The source repository on whose behalf the request was made.";
    User "user" "x-outlay-user" "The person or service account.";
    ApiKey "api_key" "x-outlay-api-key" "The identifier (never the secret) of the API key.";
    Agent "agent" "x-outlay-agent" "The agent.";
    Session "session" "x-outlay-session" "The session or conversation.";
    Task "task" "x-outlay-task" "The task within a session.";
    Job "job" "x-outlay-job" "The batch job or CI run.";
    Provider "provider" "x-outlay-provider" "Who served the model (`gen_ai.provider.name`).";
    Model "model" "x-outlay-model" "The model that answered.";
    Operation "operation" "x-outlay-operation" "What was asked of it (`gen_ai.operation.name`).";
    ServiceTier "service_tier" "x-outlay-service-tier" "The provider's service tier that it was billed at, like `batch`, `flex` or `priority`.";
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Dimension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Dimension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A set of dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DimensionSet(u16);

impl DimensionSet {
    /// The set of these.
    #[must_use]
    pub fn of(dimensions: &[Dimension]) -> Self {
        dimensions.iter().copied().collect()
    }

    /// Whether the dimension is in it.
    #[must_use]
    pub const fn contains(self, dimension: Dimension) -> bool {
        self.0 & (1 << dimension as u16) != 0
    }

    /// Whether all of these are in it.
    #[must_use]
    pub const fn contains_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Adds one.
    pub const fn insert(&mut self, dimension: Dimension) {
        self.0 |= 1 << dimension as u16;
    }

    /// Those in it, in canonical order.
    pub fn iter(self) -> impl Iterator<Item = Dimension> {
        Dimension::ALL.into_iter().filter(move |d| self.contains(*d))
    }

    /// How many are in it.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether none is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Dimension> for DimensionSet {
    fn from_iter<I: IntoIterator<Item = Dimension>>(iter: I) -> Self {
        let mut set = Self::default();
        iter.into_iter().for_each(|dimension| set.insert(dimension));
        set
    }
}

/// The value of each dimension that an event names; borrowed from the record while it is on the hot path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dimensions<'a>([Option<Cow<'a, str>>; Dimension::COUNT]);

impl<'a> Dimensions<'a> {
    /// The value, where the event names one.
    #[must_use]
    #[inline]
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        self.0[dimension as usize].as_deref()
    }

    /// Sets the value; an empty text counts as not named.
    #[inline]
    pub fn set(&mut self, dimension: Dimension, value: Option<Cow<'a, str>>) {
        self.0[dimension as usize] = value.filter(|text| !text.is_empty());
    }

    /// Those that are named, in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (Dimension, &str)> {
        Dimension::ALL.into_iter().filter_map(|d| self.get(d).map(|value| (d, value)))
    }

    /// The same, owning its texts.
    #[must_use]
    pub fn into_owned(self) -> Dimensions<'static> {
        Dimensions(self.0.map(|value| value.map(|text| Cow::Owned(text.into_owned()))))
    }
}

/// Whose balance: the dimensions that the budget fixes or splits by, each with its value, in canonical order.
/// In JSON an object like `{"namespace": "support", "user": "u-17"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Vec<(Dimension, String)>);

impl Scope {
    /// The scope of these values; a dimension given twice keeps its last value.
    pub fn new<S: Into<String>>(values: impl IntoIterator<Item = (Dimension, S)>) -> Self {
        let mut scope = Self::default();
        for (dimension, value) in values {
            scope.set(dimension, value.into());
        }
        scope
    }

    fn set(&mut self, dimension: Dimension, value: String) {
        match self.0.binary_search_by_key(&dimension, |(d, _)| *d) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (dimension, value)),
        }
    }

    /// The value of one dimension.
    #[must_use]
    #[inline]
    pub fn get(&self, dimension: Dimension) -> Option<&str> {
        self.0.binary_search_by_key(&dimension, |(d, _)| *d).ok().map(|at| self.0[at].1.as_str())
    }

    /// All of them, in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (Dimension, &str)> {
        self.0.iter().map(|(d, value)| (*d, value.as_str()))
    }

    /// Which dimensions it names.
    #[must_use]
    pub fn dimensions(&self) -> DimensionSet {
        self.0.iter().map(|(d, _)| *d).collect()
    }

    /// Whether it is the scope of everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Scope {
    /// `namespace=support,user=u-17`, or `*` for everything. `%`, `,`, `=`, `|` and control characters in values are
    /// percent-encoded, so that two scopes never have the same text: it is part of the keys of compacted topics.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (at, (dimension, value)) in self.0.iter().enumerate() {
            write!(f, "{}{dimension}=", if at == 0 { "" } else { "," })?;
            for c in value.chars() {
                match c {
                    '%' | ',' | '=' | '|' => write!(f, "%{:02X}", c as u32)?,
                    c if c.is_control() => {
                        let mut buffer = [0; 4];
                        c.encode_utf8(&mut buffer).bytes().try_for_each(|b| write!(f, "%{b:02X}"))?;
                    }
                    c => write!(f, "{c}")?,
                }
            }
        }
        Ok(())
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (dimension, value) in self.iter() {
            map.serialize_entry(dimension.name(), value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScopeVisitor;
        impl<'de> Visitor<'de> for ScopeVisitor {
            type Value = Scope;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dimensions with their values, like {namespace: support}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scope, A::Error> {
                let mut scope = Scope::default();
                while let Some((dimension, value)) = map.next_entry::<Dimension, String>()? {
                    if scope.get(dimension).is_some() {
                        return Err(de::Error::custom(format!("`{dimension}` is given twice")));
                    }
                    if value.is_empty() {
                        return Err(de::Error::custom(format!("`{dimension}` is empty; name a value or leave it out")));
                    }
                    scope.set(dimension, value);
                }
                Ok(scope)
            }
        }
        deserializer.deserialize_map(ScopeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_text_is_canonical_and_unambiguous() {
        let a = Scope::new([(Dimension::User, "u,1"), (Dimension::Namespace, "a=b|c%")]);
        assert_eq!(a.to_string(), "namespace=a%3Db%7Cc%25,user=u%2C1");
        assert_eq!(Scope::default().to_string(), "*");
        assert_ne!(
            Scope::new([(Dimension::Namespace, "x,team=y")]).to_string(),
            Scope::new([(Dimension::Namespace, "x"), (Dimension::Team, "y")]).to_string()
        );
    }

    #[test]
    fn scope_json_round_trips_and_names_a_wrong_dimension() {
        let scope: Scope = serde_json::from_str(r#"{"user":"u-1","namespace":"support"}"#).unwrap();
        assert_eq!(serde_json::to_string(&scope).unwrap(), r#"{"namespace":"support","user":"u-1"}"#);
        let error = serde_json::from_str::<Scope>(r#"{"namspace":"support"}"#).unwrap_err().to_string();
        assert!(error.contains("`namspace` is no dimension"), "{error}");
    }
}
