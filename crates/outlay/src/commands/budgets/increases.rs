//! `outlay budgets request`, `requests`, `approve`, `deny` and `withdraw`: ask a server for more, and answer.

use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use http_api::{Act, IncreaseRequest, IncreaseState};
use serde_json::{Map, Value, json};
use usage_types::{Limit, Limits};

use crate::client::{Server, ServerOptions};
use crate::commands::stated::stated;

const PATH: &str = "/v1/increase-requests";

#[derive(Debug, Args)]
pub struct AskOptions {
    /// The budget's id
    budget: String,
    /// For whom: a value of what the budget splits by; once for each dimension
    #[arg(long, value_name = "DIMENSION=VALUE")]
    scope: Vec<String>,
    /// The limit that is wished, like tokens=2000000 or "cost=50.00 USD"; once for each measure
    #[arg(long, value_name = "MEASURE=AMOUNT", required_unless_present = "add", conflicts_with = "add")]
    limit: Vec<String>,
    /// So much more than the limit of now, likewise
    #[arg(long, value_name = "MEASURE=AMOUNT")]
    add: Vec<String>,
    /// Until when, like 2026-11-22T18:00:00Z [default: to the end of the window in which it is granted]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why it is needed
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct ListOptions {
    /// Only those that stand so: pending, approved, denied, withdrawn or expired
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those of this budget
    #[arg(long, value_name = "ID")]
    budget: Option<String>,
    /// Answer as a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Debug, Args)]
pub struct ApproveOptions {
    /// The request, like r-17
    id: String,
    /// Less than was asked for, like tokens=1500000; once for each measure
    #[arg(long, value_name = "MEASURE=AMOUNT")]
    limit: Vec<String>,
    /// Sooner than was asked for, like 2026-11-22T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct DenyOptions {
    /// The request, like r-17
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct WithdrawOptions {
    /// The request, like r-17
    id: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Who, for the audit log [default: the user who runs this]
    #[arg(long, env = "OUTLAY_ACTOR", value_name = "NAME")]
    actor: Option<String>,
    /// Answer as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerOptions,
}

/// Asks for more.
pub fn ask(options: &AskOptions, out: &mut dyn Write) -> Result<()> {
    let mut body = json!({
        "budget": options.budget, "scope": pairs(&options.scope)?, "justification": options.reason,
    });
    let (name, limits) = if options.add.is_empty() { ("limits", &options.limit) } else { ("add", &options.add) };
    body[name] = measures(limits)?;
    if let Some(until) = &options.until {
        body["until"] = until.as_str().into();
    }
    send(&options.common, PATH, &body, out)
}

/// Shows requests.
pub fn list(options: &ListOptions, out: &mut dyn Write) -> Result<()> {
    let filters = [("state", &options.state), ("budget", &options.budget)];
    let filters: Vec<(&str, &str)> =
        filters.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))).collect();
    let body = Server::new(&options.server)?.get(PATH, &filters)?;
    if options.json {
        writeln!(out, "{}", String::from_utf8(body)?)?;
        return Ok(());
    }
    let requests: Vec<IncreaseRequest> =
        serde_json::from_slice(&body).context("the server's answer is no list of requests")?;
    if requests.is_empty() {
        writeln!(out, "there are none")?;
    }
    requests.iter().try_for_each(|request| show(request, out))
}

/// Grants a request.
pub fn approve(options: &ApproveOptions, out: &mut dyn Write) -> Result<()> {
    let mut body = json!({ "reason": options.reason, "until": options.until });
    if !options.limit.is_empty() {
        body["limits"] = measures(&options.limit)?;
    }
    send(&options.common, &format!("{PATH}/{}/approve", options.id), &body, out)
}

/// Refuses a request.
pub fn deny(options: &DenyOptions, out: &mut dyn Write) -> Result<()> {
    send(&options.common, &format!("{PATH}/{}/deny", options.id), &json!({ "reason": options.reason }), out)
}

/// Takes back a request, or what is granted.
pub fn withdraw(options: &WithdrawOptions, out: &mut dyn Write) -> Result<()> {
    send(&options.common, &format!("{PATH}/{}/withdraw", options.id), &json!({ "reason": options.reason }), out)
}

fn send(common: &Common, path: &str, body: &Value, out: &mut dyn Write) -> Result<()> {
    let stated = stated(common.actor.clone(), None);
    let headers: Vec<(&str, &str)> = stated.iter().map(|(name, words)| (*name, words.as_str())).collect();
    let answer = Server::new(&common.server)?.post_text_with(path, &body.to_string(), &headers)?;
    if common.json {
        writeln!(out, "{}", String::from_utf8(answer)?)?;
        return Ok(());
    }
    show(&serde_json::from_slice(&answer).context("the server's answer is no request; is it an older version?")?, out)
}

/// `NAME=VALUE`s as an object.
fn pairs(given: &[String]) -> Result<Value> {
    let mut object = Map::new();
    for pair in given {
        let (name, value) = split(pair)?;
        anyhow::ensure!(object.insert(name.to_owned(), value.into()).is_none(), "{name} is given twice; give it once");
    }
    Ok(Value::Object(object))
}

/// `MEASURE=AMOUNT`s as a list of limits.
fn measures(given: &[String]) -> Result<Value> {
    let limit = |pair: &String| split(pair).map(|(name, value)| json!({ name: value }));
    given.iter().map(limit).collect()
}

fn split(pair: &str) -> Result<(&str, &str)> {
    pair.split_once('=').with_context(|| format!("{pair:?} is no NAME=VALUE"))
}

fn show(request: &IncreaseRequest, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}  {}  {}  {}", request.id, request.state.name(), request.budget, request.scope)?;
    let until = request.until.map_or("the end of the window".to_owned(), |until| until.to_string());
    writeln!(out, "    wishes     {} until {until}", limits(&request.limits))?;
    for now in &request.present {
        let currency = now.currency.map(|currency| format!(" {currency}")).unwrap_or_default();
        writeln!(out, "    now        {} of {}{currency} {} used", now.used, now.limit, now.measure)?;
    }
    act("asked", &request.asked, out)?;
    if let Some(grant) = &request.grant {
        writeln!(out, "    granted    {} until {}", limits(&grant.limits), grant.expires_at)?;
    }
    if let Some(answered) = &request.answered {
        let what = if request.grant.is_some() { "approved" } else { "denied" };
        act(what, answered, out)?;
    }
    if let Some(ended) = &request.ended {
        act(if request.state == IncreaseState::Expired { "expired" } else { "withdrawn" }, ended, out)?;
    }
    Ok(())
}

fn limits(limits: &Limits) -> String {
    let text = |Limit { measure, amount, .. }: Limit| {
        let currency = measure.currency().map(|currency| format!(" {currency}")).unwrap_or_default();
        format!("{}{currency} {}", measure.format(amount), measure.name())
    };
    limits.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn act(what: &str, act: &Act, out: &mut dyn Write) -> Result<()> {
    let by = act.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
    let why = act.reason.as_ref().map(|reason| format!(": {}", reason.replace('\n', " "))).unwrap_or_default();
    writeln!(out, "    {what:<9}  {}{by}{why}", act.at)?;
    Ok(())
}
