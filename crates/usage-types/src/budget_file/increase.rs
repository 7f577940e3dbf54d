//! Requests for higher limits and the answers to them: bodies of JSON or YAML, with the limits and scopes of a budgets file.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::budget_file::field::{Field, Members};
use crate::budget_file::limit::{limit, limits, list};
use crate::budget_file::{scope, tree, whole};
use crate::{BudgetError, IncreaseAsk, IncreaseTerms, Limits, Scope, TimeUs, Wish};

const ASK: [&str; 7] = ["budget", "scope", "limit", "limits", "add", "until", "justification"];
const LIKE: &str =
    "it like `{ budget: support-daily, scope: { user: u-7 }, limit: { tokens: 2000000 }, justification: launch week }`";

impl IncreaseAsk {
    /// The most bytes of a request or an answer.
    pub const BYTES_MAX: usize = 64 * 1024;
    /// The most bytes of a justification or reason.
    pub const WORDS_BYTES_MAX: usize = 4096;

    /// Reads a request.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, column and field.
    pub fn from_yaml(text: &str) -> Result<Self, BudgetError> {
        let root = tree::parse(text)?.ok_or_else(|| whole(format!("it is empty; write {LIKE}")))?;
        let members = Field { node: &root, path: String::new() }.members(&ASK, LIKE)?;
        let budget = members.required("budget", "the id of the budget, like `budget: support-daily`")?;
        let budget = budget.text("the id of a budget, like support-daily")?.to_owned();
        let scope = members.get("scope").map_or(Ok(Scope::default()), |field| scope(&field))?;
        let (wish, wish_field) = wish(&members)?;
        let justification = members.required("justification", "why it is needed")?;
        Ok(Self { budget, scope, wish, wish_field, until: until(&members)?, justification: words(&justification)? })
    }
}

impl IncreaseTerms {
    /// Reads the answer to a request, with what may be given where it is granted. One that is empty gives what was asked for.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, column and field.
    pub fn from_yaml(text: &str) -> Result<Self, BudgetError> {
        Self::read(text, &["limit", "limits", "until", "reason"])
    }

    /// Reads an answer that gives nothing: it has a reason at most.
    ///
    /// # Errors
    /// As [`IncreaseTerms::from_yaml`].
    pub fn reason_from_yaml(text: &str) -> Result<Self, BudgetError> {
        Self::read(text, &["reason"])
    }

    fn read(text: &str, known: &[&str]) -> Result<Self, BudgetError> {
        let Some(root) = tree::parse(text)? else { return Ok(Self::default()) };
        let members = Field { node: &root, path: String::new() }.members(known, "it like `{ reason: once }`")?;
        let is_given = |name| members.get(name).is_some();
        let (limits, limits_field) = match (is_given("limit"), is_given("limits")) {
            (false, false) => (None, "limit"),
            (_, several) => {
                let field = if several { "limits" } else { "limit" };
                (Some(without_overage(&members, field)?), field)
            }
        };
        let reason = members.get("reason").map(|field| words(&field)).transpose()?;
        Ok(Self { limits, limits_field, until: until(&members)?, reason })
    }
}

fn wish(members: &Members<'_>) -> Result<(Wish, &'static str), BudgetError> {
    let Some(add) = members.get("add") else {
        let field = if members.get("limits").is_some() { "limits" } else { "limit" };
        return Ok((Wish::To(without_overage(members, field)?), field));
    };
    if let Some(limit) = members.get("limit").or_else(|| members.get("limits")) {
        return Err(limit.error("`add` is there too; give the limit that is wished, or what is to be added"));
    }
    let more = match add.node.value {
        tree::Value::List(_) => {
            Limits::new(list(&add)?).ok_or_else(|| add.error("the list is empty; write what is to be added"))?
        }
        _ => limit(&add)?.into(),
    };
    no_overage(&more, &add)?;
    Ok((Wish::By(more), "add"))
}

/// The limits of `limit` or `limits`. What is let through beyond a limit is the budget's own.
fn without_overage(members: &Members<'_>, field: &str) -> Result<Limits, BudgetError> {
    let limits = limits(members)?;
    members.get(field).map_or(Ok(()), |field| no_overage(&limits, &field))?;
    Ok(limits)
}

fn no_overage(limits: &Limits, field: &Field<'_>) -> Result<(), BudgetError> {
    match limits.iter().any(|limit| limit.overage.0 > 0) {
        true => Err(field.error("the overage is the budget's; leave it out")),
        false => Ok(()),
    }
}

fn until(members: &Members<'_>) -> Result<Option<TimeUs>, BudgetError> {
    let Some(field) = members.get("until") else { return Ok(None) };
    let text = field.text("a time, like 2026-11-22T18:00:00Z")?;
    let time = TimeUs::parse_rfc3339(text);
    time.map(Some).map_err(|_| field.error(format!("{text:?} is no RFC 3339 time; write it like 2026-11-22T18:00:00Z")))
}

/// What people say, of one or more lines.
fn words(field: &Field<'_>) -> Result<String, BudgetError> {
    let text = field.text("why, in words")?.trim();
    let max = IncreaseAsk::WORDS_BYTES_MAX;
    if text.is_empty() || text.len() > max || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(field.error(format!("write why, in 1 to {max} bytes without control characters")));
    }
    Ok(text.to_owned())
}

impl<'de> Deserialize<'de> for Limits {
    /// As a list of a budgets file.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // JSON is YAML. Amounts beyond what JSON has as a whole number are texts.
        let text = Value::deserialize(deserializer)?.to_string();
        let read = || {
            let root = tree::parse(&text)?.ok_or_else(|| whole("there are no limits"))?;
            let field = Field { node: &root, path: String::new() };
            Self::new(list(&field)?).ok_or_else(|| field.error("there are no limits"))
        };
        read().map_err(|error| D::Error::custom(error.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dimension;

    #[test]
    fn a_request_is_read_from_json_and_yaml() {
        let json = r#"{"budget": "b", "scope": {"user": "u-7"}, "limits": [{"tokens": 2000000}, {"cost": "5 USD"}],
            "until": "2026-11-22T18:00:00+01:00", "justification": " launch week\nof ours "}"#;
        let ask = IncreaseAsk::from_yaml(json).unwrap();
        assert_eq!((ask.budget.as_str(), &ask.scope), ("b", &Scope::new([(Dimension::User, "u-7")])));
        assert_eq!(
            (ask.until.unwrap().to_string().as_str(), ask.justification.as_str()),
            ("2026-11-22T17:00:00Z", "launch week\nof ours")
        );
        let Wish::To(limits) = &ask.wish else { panic!("{ask:?}") };
        let written = serde_json::to_string(limits).unwrap();
        assert_eq!((written.as_str(), ask.wish_field), (r#"[{"tokens":2000000},{"cost":"5 USD"}]"#, "limits"));
        assert_eq!(&serde_json::from_str::<Limits>(&written).unwrap(), limits);
        let more = IncreaseAsk::from_yaml("budget: b\nadd: { tokens: 5 }\njustification: why\n").unwrap();
        assert_eq!((more.wish_field, more.until, matches!(more.wish, Wish::By(_))), ("add", None, true));
    }

    #[test]
    fn what_is_wrong_in_a_request_or_an_answer_is_named() {
        let ask =
            |more: &str| IncreaseAsk::from_yaml(&format!("{{ budget: b, justification: why, {more} }}")).unwrap_err();
        for (more, field) in [
            ("", "limit"),
            ("limit: { token: 5 }", "limit.token"),
            ("limit: { tokens: 5 }, add: { tokens: 5 }", "limit"),
            ("add: []", "add"),
            ("add: { tokens: 0 }", "add.tokens"),
            ("limits: [{ tokens: 5 }, { tokens: 6 }]", "limits[1]"),
            ("scope: { usr: u }, limit: { tokens: 5 }", "scope.usr"),
            ("limit: { tokens: 5, overage: 1 }", "limit"),
            ("add: [{ tokens: 5, overage: 1 }]", "add"),
            ("limit: { tokens: 5 }, until: tomorrow", "until"),
            ("limit: { tokens: 5 }, untill: 2026-11-22T18:00:00Z", "untill"),
        ] {
            assert_eq!(ask(more).field, field, "{more}: {}", ask(more));
        }
        for (text, field) in [
            ("{ budget: b, limit: { tokens: 5 } }", "justification"),
            ("{ budget: b, limit: { tokens: 5 }, justification: \" \" }", "justification"),
            ("{ limit: { tokens: 5 }, justification: why }", "budget"),
            ("", ""),
        ] {
            assert_eq!(IncreaseAsk::from_yaml(text).unwrap_err().field, field, "{text}");
        }
        assert_eq!(IncreaseTerms::from_yaml("").unwrap(), IncreaseTerms::default());
        assert_eq!(IncreaseTerms::from_yaml("{ limit: { tokens: 5, overage: 1 } }").unwrap_err().field, "limit");
        assert_eq!(IncreaseTerms::from_yaml("{ reason: [] }").unwrap_err().field, "reason");
        assert_eq!(IncreaseTerms::reason_from_yaml("{ limit: { tokens: 5 } }").unwrap_err().field, "limit");
        assert!(
            serde_json::from_str::<Limits>("[]").is_err()
                && serde_json::from_str::<Limits>(r#"[{"tokens":0}]"#).is_err()
        );
    }
}
