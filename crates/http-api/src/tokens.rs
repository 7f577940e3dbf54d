//! Counting the tokens of a text before it is sent.

use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
use tiktoken_rs::{CoreBPE, bpe_for_tokenizer};

/// Bytes that are counted at once: the tokenizer's regular expressions go back and forth in runs of white space, and give up (by a panic) on one that
/// is too long. A cut costs at most a token or two.
const PIECE_BYTES: usize = 16 * 1024;

/// The tokens of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// How many.
    pub(crate) tokens: u64,
    /// By which vocabulary, like `o200k_base`.
    pub(crate) tokenizer: &'static str,
    /// Whether the model has another one, which is not public or not known here.
    pub(crate) is_approximate: bool,
}

/// Counts a text for a model: by the tokenizer of OpenAI's models, and by the newest of these for all others. Takes about a second per 10 MB, and
/// some tenths of a second more for the first text of a tokenizer.
pub(crate) fn count(model: Option<&str>, text: &str) -> Counted {
    // Gateways put the provider before the name.
    let model = model.map(|model| model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase());
    let known = model.and_then(|model| get_tokenizer(&model));
    let (tokenizer, name) = match known {
        Some(Tokenizer::Cl100kBase) => (Tokenizer::Cl100kBase, "cl100k_base"),
        Some(Tokenizer::O200kHarmony) => (Tokenizer::O200kHarmony, "o200k_harmony"),
        Some(Tokenizer::P50kBase) => (Tokenizer::P50kBase, "p50k_base"),
        Some(Tokenizer::P50kEdit) => (Tokenizer::P50kEdit, "p50k_edit"),
        Some(Tokenizer::R50kBase | Tokenizer::Gpt2) => (Tokenizer::R50kBase, "r50k_base"),
        Some(Tokenizer::O200kBase) | None => (Tokenizer::O200kBase, "o200k_base"),
    };
    // The vocabularies are in the program.
    let tokens = bpe_for_tokenizer(tokenizer).map_or(text.len(), |bpe| count_by(bpe, text));
    Counted { tokens: tokens as u64, tokenizer: name, is_approximate: known.is_none() }
}

fn count_by(bpe: &CoreBPE, mut text: &str) -> usize {
    let mut tokens = 0;
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(PIECE_BYTES));
        tokens += bpe.encode_ordinary(piece).len();
        text = rest;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_counted_by_the_models_own_tokenizer_or_about() {
        let count = |model, text| count(model, text);
        let of = |tokens, tokenizer, is_approximate| Counted { tokens, tokenizer, is_approximate };
        assert_eq!(count(Some("gpt-4o"), "hello world"), of(2, "o200k_base", false));
        assert_eq!(count(Some("openai/gpt-5.1"), "hello world"), of(2, "o200k_base", false));
        assert_eq!(count(Some("gpt-4"), "hello world"), of(2, "cl100k_base", false));
        assert_eq!(count(Some("claude-sonnet-4-5"), "hello world"), of(2, "o200k_base", true));
        assert_eq!(count(None, ""), of(0, "o200k_base", true));
        // What looks like a special token is text.
        assert!(count(Some("gpt-4o"), "<|endoftext|>").tokens > 1);
    }

    #[test]
    fn no_text_is_too_odd_to_count() {
        for odd in [" ", "\n", "a", "ä", "日", "\u{200b}", "1", "!"] {
            let text = odd.repeat(300_000 / odd.len());
            let counted = count(Some("gpt-4o"), &text);
            assert!((1..=300_000).contains(&counted.tokens), "{odd:?}: {counted:?}");
        }
        // Cutting changes the count little.
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(2000);
        let whole = bpe_for_tokenizer(Tokenizer::O200kBase).unwrap().encode_ordinary(&text).len() as u64;
        let cut = count(Some("gpt-4o"), &text).tokens;
        assert!((whole..whole + 12).contains(&cut), "{whole} {cut}");
    }
}
