//! What the mail of a request for higher limits says. A pure function of what is told of the request, as for alerts.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use usage_types::{Currency, Limits, Scope, TimeUs};

use crate::content::{Content, scope_short, scope_words};
use crate::text::{Unit, clean, escape_html, moment};

/// That somebody asks for higher limits, for those who may grant them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncreaseNotice {
    /// The request's id, like `r-17`.
    pub request: String,
    /// Of which budget.
    pub budget: String,
    /// For whom.
    pub scope: Scope,
    /// The limits that are wished.
    pub limits: Limits,
    /// Until when; `None`: to the end of the window in which it is granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeUs>,
    /// How the scope stood when it was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<Standing>,
    /// When it was asked.
    pub asked_at: TimeUs,
    /// Who asked, by their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why.
    pub justification: String,
    /// Who is told.
    pub to: Vec<String>,
}

/// A limit of a scope, and what is used of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What is limited: [`usage_types::Measure::name`].
    pub measure: String,
    /// The currency of a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// How much, as text in units of the measure.
    pub limit: String,
    /// Of that is used, likewise.
    pub used: String,
}

impl IncreaseNotice {
    /// What the outbox knows it by: requests are numbered anew where their file was taken away, so the time is in it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("increase|{}|{}", self.request, self.asked_at)
    }

    pub(crate) fn content(&self) -> Content {
        let (request, budget) = (clean(&self.request), clean(&self.budget));
        let subject = format!("{request}: more of budget {budget} is asked for {}", scope_short(&self.scope));
        let answer = format!(
            "To answer: outlay budgets approve {request}, or outlay budgets deny {request} --reason '...'. Until then the limit stays as it is."
        );
        let footer = "Outlay sends this mail once for each request.";
        let (mut text, mut cells) = (format!("{subject}.\n\n"), String::new());
        for (label, value) in self.rows(&budget) {
            let _ = writeln!(text, "{label:<11} {value}");
            let _ = write!(
                cells,
                "<tr><td style=\"padding:7px 16px 7px 0;color:#667085;vertical-align:top;white-space:nowrap\">{label}</td>\
                 <td style=\"padding:7px 0;color:#101828;word-break:break-word\">{}</td></tr>",
                escape_html(&value)
            );
        }
        let _ = write!(text, "\n{answer}\n\n-- \n{footer}\n");
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
             <body style=\"font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:15px;color:#101828\">\n\
             <h1 style=\"font-size:21px;font-weight:600;word-break:break-word\">{title}</h1>\n<table role=\"presentation\">{cells}</table>\n\
             <p>{answer}</p>\n<p style=\"font-size:12px;color:#667085\">{footer}</p>\n</body></html>\n",
            title = escape_html(&subject),
            answer = escape_html(&answer),
        );
        Content { subject, text, html }
    }

    /// The rows of both parts.
    fn rows(&self, budget: &str) -> Vec<(&'static str, String)> {
        let wished = self.limits.iter().map(|limit| {
            let measure = limit.measure;
            let unit = Unit::new(measure.name(), measure.currency());
            format!("{} {}", unit.number(&measure.format(limit.amount)), unit.name())
        });
        let mut rows = vec![
            ("Budget", budget.to_owned()),
            ("Scope", scope_words(&self.scope)),
            ("Asked for", wished.collect::<Vec<_>>().join(", ")),
        ];
        rows.extend(self.present.iter().map(|standing| {
            let unit = Unit::new(&standing.measure, standing.currency);
            ("Used now", format!("{} of {} {}", unit.number(&standing.used), unit.number(&standing.limit), unit.name()))
        }));
        let until = self.until.map(|until| moment(until, chrono::Utc));
        rows.push(("Until", until.unwrap_or_else(|| "the end of the window in which it is granted".to_owned())));
        rows.push(("Asked by", self.actor.as_deref().map_or_else(|| "not said".to_owned(), clean)));
        rows.push(("Asked on", moment(self.asked_at, chrono::Utc)));
        rows.push(("Why", clean(&self.justification)));
        rows
    }
}
