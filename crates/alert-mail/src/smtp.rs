//! One connection to an SMTP server, and what it answered for each recipient.
//!
//! Holds here: a recipient that the server refuses never costs the others their mail (lettre's own `send` gives up at the first), and
//! the caller is told right before the message leaves, which is the moment from which a crash makes the outcome unknown. Deliberately absent: retries.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt, Rset};

use crate::MailError;
use crate::config::{Security, SmtpServer};
use crate::text::clean;

/// How long one command may take; RFC 5321, 4.5.3.2 asks for 5 minutes at the most patient.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the server may take over a whole message. RFC 5321, 4.5.3.2.6: giving up earlier sends mails twice.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(600);

/// What the server said about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It took the mail, with this answer.
    Delivered(String),
    /// It never will (5xx).
    Refused(String),
    /// Not now (4xx).
    Deferred(String),
}

impl Verdict {
    const fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered(_))
    }
}

/// The connection is of no use, for this mail or another.
#[derive(Debug)]
pub(crate) struct Broken {
    /// What happened, for people.
    pub(crate) reason: String,
    /// The message had left: the server may have taken it.
    pub(crate) unknown: bool,
}

impl Broken {
    fn before(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), unknown: false }
    }
}

/// An open connection, logged in.
pub(crate) struct Session {
    connection: AsyncSmtpConnection,
    server: String,
    /// The server said it closes the connection (421).
    closing: bool,
}

impl Session {
    /// Connects, encrypts and logs in. The error is for people, and says what to change where that is known.
    pub(crate) async fn open(server: &SmtpServer) -> Result<Self, String> {
        within(COMMAND_TIMEOUT, Self::connect(server))
            .await
            .unwrap_or_else(|| Err(format!("{server} did not answer within {} seconds", COMMAND_TIMEOUT.as_secs())))
    }

    async fn connect(server: &SmtpServer) -> Result<Self, String> {
        let address = (server.host.as_str(), server.port);
        let tls = || server.tls_parameters().map_err(|error| error.to_string());
        let implicit = if server.security == Security::Implicit { Some(tls()?) } else { None };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(COMMAND_TIMEOUT), &server.hello, implicit, None)
                .await
                .map_err(|error| format!("cannot connect to {server}: {}", explain(&error)))?;
        let upgrade = match server.security {
            Security::Plain | Security::Implicit => false,
            Security::Opportunistic => connection.can_starttls(),
            Security::StartTls if connection.can_starttls() => true,
            Security::StartTls => {
                return Err(format!(
                    "{server} offers no STARTTLS; nothing was sent. Use smtps:// where it speaks TLS from the start"
                ));
            }
        };
        if upgrade {
            let started = connection.starttls(tls()?, &server.hello).await;
            started.map_err(|error| format!("cannot encrypt the connection to {server}: {}", explain(&error)))?;
        }
        if let Some(login) = &server.login {
            let accepted = connection.auth(&[Mechanism::Plain, Mechanism::Login], &login.credentials()).await;
            accepted.map_err(|error| match error.status() {
                Some(_) => format!("{server} refused the login: {}; check user and password of the SMTP URL", explain(&error)),
                None if error.is_client() => format!(
                    "{server} offers no login with PLAIN or LOGIN; leave user and password out of the SMTP URL, or encrypt with tls=required"
                ),
                None => format!("the login at {server} failed: {}", explain(&error)),
            })?;
        }
        Ok(Self { connection, server: server.to_string(), closing: false })
    }

    /// Sends one message, and says for each recipient what became of it. `before_message` is called once some recipient is
    /// accepted, right before the message leaves; its error stops the sending.
    pub(crate) async fn send<F>(
        &mut self,
        from: &Mailbox,
        to: &[Mailbox],
        message: &[u8],
        before_message: impl FnOnce() -> F,
    ) -> Result<Vec<Verdict>, Broken>
    where
        F: Future<Output = Result<(), MailError>>,
    {
        if let Err(verdict) = self.command(Mail::new(Some(from.email.clone()), Vec::new())).await? {
            return Ok(vec![verdict; to.len()]);
        }
        let mut verdicts = Vec::with_capacity(to.len());
        for recipient in to {
            verdicts.push(match self.command(Rcpt::new(recipient.email.clone(), Vec::new())).await? {
                Ok(answer) => Verdict::Delivered(answer),
                Err(verdict) => verdict,
            });
        }
        if !verdicts.iter().any(Verdict::is_delivered) {
            let _ = self.command(Rset).await?;
            return Ok(verdicts);
        }
        let answer = match self.command(Data).await? {
            Err(verdict) => verdict,
            Ok(_) => {
                before_message().await.map_err(|error| Broken::before(error.to_string()))?;
                self.message(message).await?
            }
        };
        verdicts.iter_mut().filter(|verdict| verdict.is_delivered()).for_each(|verdict| *verdict = answer.clone());
        Ok(verdicts)
    }

    /// Whether another message can be sent.
    pub(crate) fn usable(&self) -> bool {
        !self.closing && !self.connection.has_broken()
    }

    /// Says goodbye; without it some servers log an error.
    pub(crate) async fn close(mut self) {
        let _ = within(Duration::from_secs(5), self.connection.command(Quit)).await;
    }

    async fn message(&mut self, message: &[u8]) -> Result<Verdict, Broken> {
        let unknown = |reason: String| Broken { reason, unknown: true };
        match within(MESSAGE_TIMEOUT, self.connection.message(message)).await {
            None => {
                Err(unknown(format!("{} did not answer within {} seconds", self.server, MESSAGE_TIMEOUT.as_secs())))
            }
            Some(Ok(response)) => Ok(Verdict::Delivered(clean(&format!(
                "{} {}",
                response.code(),
                response.message().collect::<Vec<_>>().join(" ")
            )))),
            Some(Err(error)) => match self.verdict(&error) {
                Some(verdict) => Ok(verdict),
                None => Err(unknown(format!("the connection to {} broke: {}", self.server, explain(&error)))),
            },
        }
    }

    /// One command: the server's yes, or its verdict where it says no.
    async fn command(&mut self, command: impl std::fmt::Display) -> Result<Result<String, Verdict>, Broken> {
        match within(COMMAND_TIMEOUT, self.connection.command(command)).await {
            None => Err(Broken::before(format!(
                "{} did not answer within {} seconds",
                self.server,
                COMMAND_TIMEOUT.as_secs()
            ))),
            Some(Ok(response)) => Ok(Ok(response.code().to_string())),
            Some(Err(error)) if needs_login(&error) => Err(Broken::before(format!(
                "{} wants a login or TLS: {}; put both into the SMTP URL",
                self.server,
                explain(&error)
            ))),
            Some(Err(error)) => match self.verdict(&error) {
                Some(verdict) => Ok(Err(verdict)),
                None => Err(Broken::before(format!("the connection to {} broke: {}", self.server, explain(&error)))),
            },
        }
    }

    /// The server's no; `None` where it said nothing that can be understood.
    fn verdict(&mut self, error: &SmtpError) -> Option<Verdict> {
        let code = u16::from(error.status()?);
        self.closing |= code == 421;
        Some(if error.is_permanent() { Verdict::Refused(explain(error)) } else { Verdict::Deferred(explain(error)) })
    }
}

/// RFC 4954 and 3207: answers that are about our configuration, not about this mail.
fn needs_login(error: &SmtpError) -> bool {
    error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

/// The server's answer with its code, or the innermost cause.
fn explain(error: &SmtpError) -> String {
    use std::error::Error as _;
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let text = match error.status() {
        Some(code) => format!("{code} {cause}"),
        None => cause,
    };
    let hint = if text.contains("UnknownIssuer") || text.contains("CaUsedAsEndEntity") {
        " (name the authority that signed its certificate: ca=/path/to/ca.pem in the SMTP URL)"
    } else {
        ""
    };
    format!("{}{hint}", clean(&text))
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}
