//! Refuses two entries with an equal right to the same request, naming both lines.

use yaml_file::FileError;

use crate::PriceRule;
use crate::book::MatchKind;

/// Refuses two rules that match the same name in the same way, for the same provider, at the same time.
pub(super) fn refuse_equal_rules(rules: &[PriceRule]) -> Result<(), FileError> {
    let mut seen: hashbrown::HashMap<(MatchKind, &str), Vec<usize>, ahash::RandomState> = hashbrown::HashMap::default();
    for (index, rule) in rules.iter().enumerate() {
        for (kind, pattern) in rule.patterns() {
            let same_name = seen.entry((kind, pattern)).or_default();
            if let Some(other) = same_name.iter().map(|other| &rules[*other]).find(|other| overlap(rule, other)) {
                let star = if kind == MatchKind::Wildcard { "*" } else { "" };
                return Err(FileError {
                    line: rule.line,
                    column: rule.column,
                    field: format!("prices[{index}]"),
                    message: format!(
                        "prices `{pattern}{star}` a second time, after line {}, for the same provider and an overlapping \
                         time; end one with `to` or remove it",
                        other.line
                    ),
                });
            }
            same_name.push(index);
        }
    }
    Ok(())
}

fn overlap(a: &PriceRule, b: &PriceRule) -> bool {
    let same_provider = (a.providers.is_empty() && b.providers.is_empty())
        || a.providers.iter().any(|provider| b.providers.contains(provider));
    let ends_before =
        |first: &PriceRule, then: &PriceRule| matches!((first.to, then.from), (Some(to), Some(from)) if to <= from);
    same_provider && !ends_before(a, b) && !ends_before(b, a)
}
