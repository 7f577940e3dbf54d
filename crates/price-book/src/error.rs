//! The one error of this crate: a price file that cannot be used, and where in it.

/// Why a price file was refused. It is refused whole: half a price book would price the rest wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {}{message}", if field.is_empty() { String::new() } else { format!("`{field}`: ") })]
pub struct PriceError {
    /// The line in the file, from 1; 0 where the file as a whole is wrong.
    pub line: u64,
    /// The column in the line, in characters from 1.
    pub column: u64,
    /// Which field, like `prices[3].per_million.input`; only the key where the file is no valid YAML of this shape.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}
