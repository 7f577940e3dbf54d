//! What the mail of an alert says: subject, text and HTML. A pure function of the alert, so that writing it again writes the same.
//!
//! Holds here: every text from outside (scope values, ids) is cleaned once on the way in, and escaped on the way into HTML.

use std::fmt::Write as _;
use std::str::FromStr;

use usage_types::{Alert, Dimension, Every, Pico, Scope, TimeUs, WindowKind};

use crate::text::{Unit, clean, escape_html, moment, per_mille, percent, span, threshold_percent};

/// A mail as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// One line without control characters.
    pub subject: String,
    /// The plain text part, lines ended by `\n`.
    pub text: String,
    /// The HTML part: one self-contained document without links, images or scripts.
    pub html: String,
}

impl Content {
    /// The mail of this alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        let facts = Facts::of(alert);
        Self { subject: facts.subject(), text: facts.text(), html: facts.html() }
    }
}

/// What a mail states, in words.
struct Facts {
    budget: String,
    threshold: String,
    /// For a subject: `support, team helpdesk`.
    scope_short: String,
    /// The same as the beginning of a sentence.
    scope_lead: String,
    /// Each dimension with its value.
    scope: String,
    used: String,
    limit: String,
    unit: String,
    per_mille: Option<i128>,
    window: String,
    resets: String,
    burn: String,
    projection: String,
    consequence: String,
    /// How far the job has come, where that is known.
    progress: Option<String>,
    as_of: String,
    /// Whether the window moves, so that it has no end at which it resets.
    moves: bool,
    /// Where it is foreseen that the limit falls: in how long.
    foreseen: Option<String>,
    /// Over how long the burn was measured.
    over: String,
    /// Whether the limit itself is reached.
    exhausted: bool,
    blocks: bool,
}

impl Facts {
    fn of(alert: &Alert) -> Self {
        let unit = Unit::new(&alert.measure, alert.currency);
        let zone = alert.window.zone;
        let (used, limit) = (Pico::from_str(&alert.used), Pico::from_str(&alert.limit));
        let exhausted = matches!((used, limit), (Ok(used), Ok(limit)) if used >= limit);
        let end = moment(alert.window.end, zone);
        let after = span(alert.window.end.0.saturating_sub(alert.raised_at.0));
        let blocks = alert.mode == "hard";
        let seconds = |predicted: usage_types::Predicted| i64::try_from(predicted.over_s).unwrap_or(i64::MAX);
        let over = alert.predicted.map_or("the window so far".to_owned(), |predicted| {
            format!("the last {}", span(seconds(predicted).saturating_mul(TimeUs::SECOND)))
        });
        let kind = alert.every.parse().ok().filter(|kind| matches!(kind, WindowKind::Rolling | WindowKind::Lifetime));
        Self {
            budget: clean(&alert.budget),
            threshold: threshold_percent(&alert.threshold),
            scope_lead: scope_lead(alert),
            scope_short: scope_short(&alert.scope),
            scope: scope_words(&alert.scope),
            used: unit.number(&alert.used),
            limit: unit.number(&alert.limit),
            per_mille: per_mille(&alert.used, &alert.limit),
            window: {
                let name = clean(alert.window_name.as_ref().unwrap_or(&alert.every));
                match kind {
                    // Such a window has no end of its own.
                    Some(_) => format!("{name}, from {} ({zone})", moment(alert.window.start, zone)),
                    None => format!("{name}, {} to {end} ({zone})", moment(alert.window.start, zone)),
                }
            },
            burn: format!("{} {} per hour over {over}", unit.number(&alert.burn_per_hour), unit.name()),
            foreseen: alert
                .predicted
                .zip(alert.exhausted_at)
                .map(|(_, at)| span(at.0.saturating_sub(alert.raised_at.0))),
            over,
            projection: projection(alert, exhausted, kind),
            consequence: match kind {
                Some(kind) if blocks => consequence_of_moving(alert, kind, &end, &unit),
                _ => consequence(alert, exhausted, blocks, &end, &unit),
            },
            moves: kind.is_some(),
            progress: alert.progress.map(|progress| progress.to_string()),
            as_of: moment(alert.raised_at, zone),
            unit: unit.name(),
            resets: match kind {
                None => format!("{end}, {after} after this alert"),
                Some(_) if is_over(alert) => format!("{end}, {after} after this alert, if nothing more is spent"),
                Some(kind) => releases(kind).to_owned(),
            },
            exhausted,
            blocks,
        }
    }

    fn subject(&self) -> String {
        let Self { threshold, budget, scope_short, used, limit, unit, .. } = self;
        if let Some(left) = &self.foreseen {
            return format!(
                "Budget {budget} is used up in {left} at the present rate: {scope_short} ({used} of {limit} {unit})"
            );
        }
        format!("{threshold} of budget {budget} reached: {scope_short} ({used} of {limit} {unit})")
    }

    /// `81.2%`; the amount where no share can be told.
    fn share(&self) -> String {
        self.per_mille.map_or_else(|| self.used.clone(), percent)
    }

    /// The rows of both parts.
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("Budget", self.budget.clone()),
            ("Scope", self.scope.clone()),
            ("Used", format!("{} of {} {} ({})", self.used, self.limit, self.unit, self.share())),
            ("Burn rate", self.burn.clone()),
            ("Projection", self.projection.clone()),
            ("Window", self.window.clone()),
            (if self.moves { "Until" } else { "Resets" }, self.resets.clone()),
        ];
        rows.extend(self.progress.clone().map(|progress| ("Job so far", progress)));
        rows
    }

    fn headline(&self) -> String {
        let used = format!("{} has used {} of its {} {}", self.scope_lead, self.share(), self.limit, self.unit);
        match &self.foreseen {
            Some(left) => format!("{used}, and the rest in {left} if it goes on as in {}.", self.over),
            None => format!("{used}."),
        }
    }

    /// What the alert is about, in a few words.
    fn what(&self) -> String {
        match &self.foreseen {
            Some(left) => format!("used up in {left} at the present rate"),
            None => format!("{} reached", self.threshold),
        }
    }

    fn footer(&self) -> String {
        format!(
            "As of {}. Outlay sends this mail once for this budget, scope{}. Figures may have grown since.",
            self.as_of,
            if self.foreseen.is_some() { " and window" } else { ", window and threshold" },
        )
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.headline());
        for (label, value) in self.rows() {
            let _ = writeln!(text, "{label:<11} {value}");
        }
        let _ = write!(text, "\n{}\n\n-- \n{}\n", self.consequence, self.footer());
        text
    }

    /// Tables and inline styles, because that is what every mail program shows alike.
    fn html(&self) -> String {
        let colour = match (self.exhausted, self.blocks) {
            (true, true) => "#b42318",
            (true, false) => "#b54708",
            (false, _) => "#b7791f",
        };
        let mut rows = String::new();
        for (label, value) in self.rows() {
            let _ = writeln!(
                rows,
                "<tr><td style=\"padding:7px 16px 7px 0;color:#667085;vertical-align:top;white-space:nowrap\">{label}</td>\
                 <td style=\"padding:7px 0;color:#101828;word-break:break-word\">{}</td></tr>",
                escape_html(&value)
            );
        }
        include_str!("mail.html").lines().map(|line| self.fill(line, colour, &rows)).collect::<Vec<_>>().join("\n")
    }

    /// One line of the template with its places filled. Each line is scanned once, so that a value which looks like a place stays text.
    fn fill(&self, line: &str, colour: &str, rows: &str) -> String {
        let mut filled = String::with_capacity(line.len());
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((place, tail)) = after.split_once("}}") else { break };
            filled.push_str(before);
            let width = self.per_mille.map_or(0, |share| (share / 10).clamp(1, 100));
            match place {
                "subject" => filled.push_str(&escape_html(&self.subject())),
                "headline" => filled.push_str(&escape_html(&self.headline())),
                "what" => filled.push_str(&escape_html(&self.what())),
                "budget" => filled.push_str(&escape_html(&self.budget)),
                "used" => filled.push_str(&escape_html(&self.used)),
                "limit" => filled.push_str(&escape_html(&format!("{} {}", self.limit, self.unit))),
                "consequence" => filled.push_str(&escape_html(&self.consequence)),
                "footer" => filled.push_str(&escape_html(&self.footer())),
                "colour" => filled.push_str(colour),
                "bar" => filled.push_str(&bar(width, colour)),
                "rows" => filled.push_str(rows),
                other => unreachable!("the template names an unknown place {other}"),
            }
            rest = tail;
        }
        filled.push_str(rest);
        filled
    }
}

/// The cells of the progress bar.
fn bar(width: i128, colour: &str) -> String {
    let full = format!(
        "<td style=\"width:{width}%;background:{colour};border-radius:5px;font-size:0;line-height:10px\">&nbsp;</td>"
    );
    if width == 100 { full } else { format!("{full}<td style=\"font-size:0;line-height:10px\">&nbsp;</td>") }
}

/// `support, team helpdesk`; the namespace goes without its name, being the commonest.
pub(crate) fn scope_short(scope: &Scope) -> String {
    let parts: Vec<String> = scope
        .iter()
        .map(|(dimension, value)| match dimension {
            Dimension::Namespace => clean(value),
            _ => format!("{} {}", dimension.name().replace('_', " "), clean(value)),
        })
        .collect();
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

/// Each dimension with its value.
pub(crate) fn scope_words(scope: &Scope) -> String {
    let words = scope.iter().map(|(dim, value)| format!("{} {}", dim.name().replace('_', " "), clean(value)));
    if scope.is_empty() { "everything".to_owned() } else { words.collect::<Vec<_>>().join(", ") }
}

/// A namespace keeps its spelling; our own words begin a sentence with a capital.
fn scope_lead(alert: &Alert) -> String {
    let short = scope_short(&alert.scope);
    if alert.scope.get(Dimension::Namespace).is_some() {
        return short;
    }
    let mut chars = short.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn projection(alert: &Alert, exhausted: bool, moving: Option<WindowKind>) -> String {
    match alert.exhausted_at {
        _ if exhausted => "The limit is reached.".to_owned(),
        Some(at) => {
            let early = span(alert.window.end.0.saturating_sub(at.0));
            format!("At this rate the limit is reached on {}, {early} before the reset.", moment(at, alert.window.zone))
        }
        None => match moving {
            Some(WindowKind::Rolling) => "At this rate it stays about as it is: usage leaves the window as it comes.",
            Some(_) => "How long this lifetime goes on is not known.",
            None => "At this rate the limit is not reached in this window.",
        }
        .to_owned(),
    }
}

fn consequence(alert: &Alert, exhausted: bool, blocks: bool, resets: &str, unit: &Unit) -> String {
    // The alert does not carry a status that the budget overrides, so the text must not claim to know it.
    let status = Every::from_str(&alert.every).map_or(403, Every::default_status);
    let status = format!("HTTP {status}, unless the budget sets another status");
    let ends = format!("until the window resets on {resets} or the limit is raised");
    match (exhausted, blocks) {
        (true, true) if is_over(alert) => {
            format!("Requests that count towards this budget are now refused ({status}) {ends}.")
        }
        (_, true) => {
            let when = refused_when(alert, unit);
            format!("{when} requests that count towards this budget are refused ({status}) {ends}.")
        }
        (false, false) => format!("At 100% nothing is refused: {}.", harmless(&alert.mode)),
        (true, false) => format!("Nothing is refused: {}.", harmless(&alert.mode)),
    }
}

/// When a budget that has something left begins to refuse.
fn refused_when(alert: &Alert, unit: &Unit) -> String {
    match &alert.overage {
        Some(overage) => format!("When {} {} more than the limit are used,", unit.number(overage), unit.name()),
        None => "At 100%".to_owned(),
    }
}

/// Whether the limit and its overage are used up.
fn is_over(alert: &Alert) -> bool {
    let amount = |text: &str| Pico::from_str(text).ok();
    let overage = alert.overage.as_deref().map_or(Some(Pico(0)), amount);
    let blocks_at = amount(&alert.limit).zip(overage).and_then(|(limit, overage)| limit.checked_add(overage));
    amount(&alert.used).zip(blocks_at).is_some_and(|(used, blocks_at)| used >= blocks_at)
}

/// Why a budget that does not block does not.
fn harmless(mode: &str) -> &'static str {
    match mode {
        "shadow" => "this budget is in shadow and only says what it would refuse",
        _ => "this budget is soft and only alerts",
    }
}

/// When there is room again under a limit of a window that moves.
fn releases(kind: WindowKind) -> &'static str {
    match kind {
        WindowKind::Lifetime => "it has been idle for long enough",
        _ => "enough of the usage is older than the window",
    }
}

fn consequence_of_moving(alert: &Alert, kind: WindowKind, end: &str, unit: &Unit) -> String {
    if is_over(alert) {
        return format!(
            "Requests that count towards this budget are now refused, until {end} if nothing more is spent, or until the limit is raised."
        );
    }
    let (when, until) = (refused_when(alert, unit), releases(kind));
    format!("{when} requests that count towards this budget are refused until {until} or the limit is raised.")
}
