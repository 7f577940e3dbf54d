//! Files that people write in YAML: read as a whole, or refused as a whole with line, column and field, because half a file would count or
//! price the rest wrong.
//!
//! Deliberately absent: reading the file, noticing that it changed, and what any field means.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, de};
pub use serde_saphyr::{Location, Spanned};

/// A field's text with where it stands.
pub type Text = Spanned<String>;

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {}{message}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct FileError {
    /// The line in the file, from 1; 0 where the file as a whole is wrong.
    pub line: u64,
    /// The column in the line, in characters from 1.
    pub column: u64,
    /// Which field, like `prices[3].per_million.input`; only the key where the file is no valid YAML of this shape.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl FileError {
    /// A field that stands here is wrong.
    pub fn at(at: Location, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { line: at.line(), column: at.column(), field: field.into(), message: message.into() }
    }

    /// The file as a whole is wrong.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, field: String::new(), message: message.into() }
    }

    /// An error of the YAML reader, without its excerpt of the file: the field is the one it names, else the key on the line.
    fn of_shape(text: &str, wrong: &serde_saphyr::Error) -> Self {
        let (line, column) = wrong.location().map_or((0, 0), |at| (at.line(), at.column()));
        let message = wrong.without_snippet().to_string();
        let message = message.strip_suffix(&format!(" at line {line}, column {column}")).unwrap_or(&message);
        let named = message.split_once("field `").and_then(|(_, rest)| rest.split('`').next());
        let on_line = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?)).unwrap_or("");
        let key = on_line.trim_start().trim_start_matches("- ").split_once(':').map_or("", |(key, _)| key.trim());
        let plain =
            |name: &&str| name.len() < 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let field = named.or(Some(key)).filter(plain).unwrap_or_default().to_owned();
        Self { line, column, field, message: message.to_owned() }
    }
}

/// Reads YAML of this shape.
///
/// # Errors
/// It is no YAML, or not of this shape: the first thing that is wrong.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, FileError> {
    serde_saphyr::from_str(text).map_err(|error| FileError::of_shape(text, &error))
}

/// A text or a list of texts: `openai` or `[openai, azure.ai.openai]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMore, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(OneOrMore)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        names: Option<Spanned<OneOrMore>>,
    }

    #[test]
    fn one_or_more_names_are_a_list() {
        let names = |text| from_str::<File>(text).unwrap().names.map(|names| names.value.0);
        assert_eq!(names("names: a"), Some(vec!["a".to_owned()]));
        assert_eq!(names("names: [a, b]"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names("names: []"), Some(vec![]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_without_the_file() {
        for (text, line, field, says) in [
            ("name: a", 1, "name", "unknown field"),
            ("\nnames: { a: b }", 2, "names", "a name or a list of names"),
            ("names: [", 1, "names", ""),
        ] {
            let error = from_str::<File>(text).unwrap_err();
            assert_eq!((error.line, error.field.as_str()), (line, field), "{error}");
            assert!(error.message.contains(says) && !error.message.contains('\n'), "{error}");
        }
        assert_eq!(FileError::whole("too long").to_string(), "line 0, column 0: too long");
    }
}
