//! Alerts, and requests for higher limits, to mails: opens the outbox over SMTP or into the data folder, and keeps the ingest thread out of its troubles.

use std::future::Future;

use alert_mail::{IncreaseNotice, MailConfig, MailError, Outbox, OutboxEntry};
use anyhow::{Context, Result};
use usage_types::{Alert, TimeUs};

use super::data_dir::DataDir;
use crate::options::Settings;

/// At start, alerts of the topic are offered to the outbox again for windows that ended up to so long ago: a crash between the two is
/// covered, and an outbox that has forgotten an old alert does not mail it twice (it remembers for 35 days after the window).
const OFFERED_AGAIN_US: i64 = 2 * TimeUs::DAY;

/// The outbox.
pub struct Mail {
    outbox: Outbox,
}

impl Mail {
    /// Opens it in the data folder.
    pub fn open(settings: &Settings, data: &DataDir) -> Result<Self> {
        let mut config = match &settings.smtp {
            Some(url) => MailConfig::smtp(url).context("--smtp")?,
            None => MailConfig::folder(data.join("mail")),
        };
        config = config.with_from(&settings.mail_from).context("--mail-from")?;
        if let Some(path) = &settings.smtp_ca {
            config = config.with_root_ca(path).context("--smtp-ca")?;
        }
        Ok(Self { outbox: Outbox::open(data.join("outbox"), config).context("the outbox of mails")? })
    }

    /// Takes alerts; each once by its id. Waits for the disk.
    pub fn enqueue_all(&self, alerts: &[Alert]) {
        if let Err(error) = self.outbox.enqueue_all(alerts) {
            // The alerts are on the topic, so the next start offers them again.
            tracing::error!(%error, alerts = alerts.len(), "the outbox did not take alerts; they are offered again at the next start");
        }
    }

    /// Takes requests for higher limits; each once. Those from before a crash that came between storing and mailing them are offered at the next start.
    /// Waits for the disk.
    pub fn enqueue_increases(&self, notices: &[IncreaseNotice], now: TimeUs) {
        let recent = notices.iter().filter(|notice| notice.asked_at > now.plus_us(-OFFERED_AGAIN_US));
        if let Err(error) = self.outbox.enqueue_increases(recent) {
            tracing::error!(%error, requests = notices.len(), "the outbox did not take increase requests; they are offered again at the next start");
        }
    }

    /// Offers what the topic holds, for alerts that a crash kept out of the outbox.
    pub fn offer_again<'a>(
        &self,
        alerts: impl IntoIterator<Item = &'a Alert>,
        now: TimeUs,
    ) -> Result<usize, MailError> {
        self.outbox.enqueue_all(alerts.into_iter().filter(|alert| alert.window.end > now.plus_us(-OFFERED_AGAIN_US)))
    }

    /// Delivers until told to stop.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        self.outbox.run(shutdown).await;
    }

    /// The newest mails.
    pub fn list(&self, limit: usize) -> Vec<OutboxEntry> {
        self.outbox.list(limit)
    }

    /// One mail as a message: the file where mails are files, else its text as it was sent.
    pub fn message(&self, alert_id: &str) -> Option<Vec<u8>> {
        let entry = self.outbox.get(alert_id)?;
        if let Some(path) = &entry.eml {
            return std::fs::read(path).ok();
        }
        let content = entry.about.content();
        Some(
            format!("Subject: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}", content.subject, content.text)
                .into_bytes(),
        )
    }

    /// The outbox itself, for figures.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}
