//! A policy of quotas for each user and each project, as gateways keep it, as a budgets file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use usage_types::{BudgetSet, Dimension, Every};

use super::{read, yaml};
use crate::files::replace;

/// Options of `outlay budgets import`.
#[derive(Debug, Args)]
pub struct ImportOptions {
    /// The policy (JSON), with `user_quota`, `project_quota` or both
    #[arg(value_name = "POLICY.json")]
    policy: PathBuf,
    /// The budgets file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The dimension that a project is
    #[arg(long, value_name = "DIMENSION", default_value = "namespace")]
    project: Dimension,
    /// The dimension that a user is
    #[arg(long, value_name = "DIMENSION", default_value = "user")]
    user: Dimension,
    /// The IANA time zone of the windows
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    zone: String,
}

/// A policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    user_quota: Option<Quota>,
    project_quota: Option<Quota>,
}

/// What each one may use in each window.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    requests: Option<u64>,
    tokens: Option<u64>,
    window: String,
}

/// Imports a policy.
pub fn import(options: &ImportOptions, out: &mut dyn std::io::Write) -> Result<()> {
    let name = options.policy.display();
    let set = budgets(&read(&options.policy)?, options).with_context(|| name.to_string())?;
    let text = yaml::file(&format!("Imported from {name} by `outlay budgets import`."), &set);
    match &options.out {
        Some(path) => {
            replace(path, &text)?;
            writeln!(out, "wrote {}: {} budgets", path.display(), set.budgets.len())?;
        }
        None => out.write_all(text.as_bytes())?,
    }
    Ok(())
}

fn budgets(policy: &str, options: &ImportOptions) -> Result<BudgetSet> {
    let mut reader = serde_json::Deserializer::from_str(policy);
    let policy: Policy = Policy::deserialize(&mut reader).context("it is no policy")?;
    reader.end().context("it is no policy: something follows it")?;
    let mut list = Vec::new();
    for (field, quota, dimension) in
        [("user_quota", policy.user_quota, options.user), ("project_quota", policy.project_quota, options.project)]
    {
        let Some(quota) = quota else { continue };
        list.push(budget(&quota, dimension, options).with_context(|| format!("field {field}"))?);
    }
    if list.is_empty() {
        anyhow::bail!("it has neither `user_quota` nor `project_quota`, so there is nothing to import");
    }
    // What the file may say is checked where all budgets are.
    Ok(BudgetSet::from_yaml(&json!({ "budgets": list }).to_string())?)
}

fn budget(quota: &Quota, dimension: Dimension, options: &ImportOptions) -> Result<serde_json::Value> {
    let mut limits = Vec::new();
    for (measure, limit) in [("requests", quota.requests), ("tokens", quota.tokens)] {
        match limit {
            Some(0) => anyhow::bail!("field {measure}: 0 would block everybody; leave it out where there is no limit"),
            Some(limit) => limits.push(json!({ measure: limit })),
            None => {}
        }
    }
    if limits.is_empty() {
        anyhow::bail!("it limits neither `requests` nor `tokens`; write one of them");
    }
    let every = window(&quota.window).context("field window")?;
    let id = format!("{dimension}-quota-{}", every.name());
    let window = json!({ "every": every.name(), "zone": options.zone });
    Ok(json!({ "id": id, "per": [dimension.name()], "window": window, "limits": limits }))
}

/// A window by its name (`day`, `daily`) or by its length (`24h`, `1d`).
fn window(text: &str) -> Result<Every> {
    let name = text.trim().to_ascii_lowercase();
    let by_adverb = [
        ("hourly", Every::Hour),
        ("daily", Every::Day),
        ("weekly", Every::Week),
        ("monthly", Every::Month),
        ("quarterly", Every::Quarter),
        ("yearly", Every::Year),
        ("annually", Every::Year),
    ];
    let by_name =
        name.parse().ok().or_else(|| by_adverb.into_iter().find(|(adverb, _)| *adverb == name).map(|(_, every)| every));
    let by_length = || match seconds(&name)? {
        60 => Some(Every::Minute),
        3_600 => Some(Every::Hour),
        86_400 => Some(Every::Day),
        604_800 => Some(Every::Week),
        _ => None,
    };
    by_name.or_else(by_length).with_context(|| {
        format!(
            "{text:?} is no window of a budget; write minute, hour, day, week, month, quarter or year, or a length that is one: 1m, 1h, 24h, 1d, 7d, 1w"
        )
    })
}

/// A length like `90s`, `1m` (a minute), `24h`, `7d`, `1w`, or plain seconds.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ImportOptions {
        let project = Dimension::Namespace;
        ImportOptions {
            policy: PathBuf::new(),
            out: None,
            project,
            user: Dimension::User,
            zone: "Europe/Berlin".to_owned(),
        }
    }

    #[test]
    fn each_quota_becomes_a_budget_with_a_balance_for_each_value() {
        let policy = r#"{"user_quota": {"requests": 1000, "tokens": 500000, "window": "24h"}, "project_quota": {"tokens": 9000000, "window": "monthly"}}"#;
        let set = budgets(policy, &options()).unwrap();
        assert_eq!(
            yaml::file("", &set),
            "budgets:
  - id: namespace-quota-month
    per: [namespace]
    window: { every: month, zone: Europe/Berlin }
    limits: [{ tokens: 9000000 }]
  - id: user-quota-day
    per: [user]
    window: { every: day, zone: Europe/Berlin }
    limits: [{ requests: 1000 }, { tokens: 500000 }]
"
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_name() {
        for (policy, says) in [
            (r#"{"user_quota": {"requests": 1, "window": "day", "burst": 5}}"#, "burst"),
            (r#"{"team_quota": {"requests": 1, "window": "day"}}"#, "team_quota"),
            (r#"{"user_quota": {"requests": 1}}"#, "window"),
            (r#"{"user_quota": {"requests": -1, "window": "day"}}"#, "-1"),
            (r#"{"user_quota": {"requests": 1.5, "window": "day"}}"#, "1.5"),
            (r#"{"user_quota": {"requests": 0, "window": "day"}}"#, "user_quota: field requests"),
            (r#"{"project_quota": {"window": "day"}}"#, "project_quota: it limits neither"),
            (r#"{"user_quota": {"tokens": 1, "window": "30d"}}"#, "user_quota: field window: \"30d\" is no window"),
            (r#"{"user_quota": {"tokens": 1, "window": ""}}"#, "field window"),
            (r#"{"user_quota": {"tokens": 1, "window": "99999999999999999w"}}"#, "field window"),
            ("{}", "neither `user_quota` nor `project_quota`"),
            (r#"{"user_quota": {"tokens": 1, "window": "day"}} {}"#, "something follows"),
            ("[]", "no policy"),
        ] {
            let error = format!("{:#}", budgets(policy, &options()).unwrap_err());
            assert!(error.contains(says), "{policy}: {error}");
        }
    }

    #[test]
    fn a_window_has_many_names() {
        for (text, every) in [
            ("minute", Every::Minute),
            ("1m", Every::Minute),
            ("60", Every::Minute),
            ("3600s", Every::Hour),
            ("Hourly", Every::Hour),
            ("1 hour", Every::Hour),
            ("24h", Every::Day),
            ("86400", Every::Day),
            ("7d", Every::Week),
            ("1w", Every::Week),
            ("monthly", Every::Month),
            ("quarter", Every::Quarter),
            ("annually", Every::Year),
        ] {
            assert_eq!(window(text).unwrap(), every, "{text}");
        }
    }
}
