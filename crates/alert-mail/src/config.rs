//! Where mails go, as people configure it: one URL, or a folder.
//!
//! Holds here: no password is ever in a `Debug` or `Display` text or in an error, and none crosses a network unencrypted unless
//! the URL says so in words. Deliberately absent: connections (`smtp`).

use std::fmt;
use std::path::{Path, PathBuf};

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::MailError;
use crate::address::parse_mailbox;

/// Who sends, and where to.
#[derive(Debug, Clone)]
pub struct MailConfig {
    pub(crate) from: Mailbox,
    pub(crate) destination: Destination,
}

/// Where mails go.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    Smtp(Box<SmtpServer>),
    Folder(PathBuf),
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// STARTTLS where the server offers it.
    Opportunistic,
    /// STARTTLS, or nothing is sent.
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

/// One SMTP server with its login.
#[derive(Clone)]
pub(crate) struct SmtpServer {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) login: Option<Login>,
    pub(crate) hello: ClientId,
    roots: Vec<Certificate>,
}

/// A user with a password.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    password: String,
}

impl Login {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(self.user.clone(), self.password.clone())
    }
}

impl fmt::Display for SmtpServer {
    /// The URL without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.security == Security::Implicit { "smtps://" } else { "smtp://" })?;
        if let Some(login) = &self.login {
            write!(f, "{}:***@", login.user)?;
        }
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{host}:{}", self.port)?;
        match self.security {
            Security::StartTls => f.write_str("?tls=required"),
            Security::Opportunistic => f.write_str("?tls=opportunistic"),
            Security::Plain | Security::Implicit => Ok(()),
        }
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpServer({self})")
    }
}

impl fmt::Display for MailConfig {
    /// Where mails go, for a log line: the URL without its password, or the folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Destination::Smtp(server) => server.fmt(f),
            Destination::Folder(folder) => folder.display().fmt(f),
        }
    }
}

impl MailConfig {
    /// Mails are written into this folder as `.eml` files, one for each alert. The folder is created when it is missing.
    #[must_use]
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        let from = parse_mailbox("Outlay <outlay@localhost>").expect("the constant is a valid address");
        Self { from, destination: Destination::Folder(folder.into()) }
    }

    /// Mails are sent to this SMTP server.
    ///
    /// | URL | meaning | default port |
    /// | --- | --- | --- |
    /// | `smtps://user:pass@host` | TLS from the first byte | 465 |
    /// | `smtp://user:pass@host?tls=required` | STARTTLS, or nothing is sent | 587 |
    /// | `smtp://host?tls=opportunistic` | STARTTLS where offered | 587 |
    /// | `smtp://host` | no encryption | 25 |
    ///
    /// These are the URLs that lettre documents for `AsyncSmtpTransport::from_url`; `tls=starttls` means `tls=required`. User
    /// and password are percent-encoded. `?from=outlay@example.com` says who sends, `?ca=/path/ca.pem` adds a root certificate, and a
    /// path (`/relay.example.com`) is the name for EHLO. A login over an unencrypted connection is refused, except on loopback or where the URL
    /// says `tls=none`.
    ///
    /// # Errors
    /// The URL cannot be used; the text says what to write. It never holds the password.
    pub fn smtp(url: &str) -> Result<Self, MailError> {
        let wrong = |reason: &str| MailError::Url(reason.to_owned());
        let url = Url::parse(url.trim()).map_err(|error| {
            MailError::Url(format!(
                "{error}; write it like smtp://user:password@mail.example.com:587?tls=required, with every special character of \
                 user and password percent-encoded (@ is %40, / is %2F)"
            ))
        })?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host =
            host.ok_or_else(|| wrong("it names no host; write it like smtp://mail.example.com:587?tls=required"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let options = UrlOptions::read(&url)?;
        let (security, default_port) = security(url.scheme(), options.tls.as_deref())?;
        let login = login(&url)?;
        let in_the_clear = matches!(security, Security::Plain | Security::Opportunistic);
        if login.is_some() && in_the_clear && options.tls.as_deref() != Some("none") && !is_loopback(&host) {
            return Err(wrong(
                "the password could cross the network unencrypted; add ?tls=required (STARTTLS) or write smtps://, or ?tls=none where \
                 that is meant",
            ));
        }
        let from = match options.from {
            Some(from) => read_from(&from)?,
            None => default_from(&host, login.as_ref())?,
        };
        let name = url.path().trim_matches('/');
        let hello = match name {
            "" => ClientId::default(),
            name if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b)) => {
                ClientId::Domain(name.to_owned())
            }
            _ => return Err(wrong("its path is no host name; write the name for EHLO there, or nothing")),
        };
        let server =
            SmtpServer { host, port: url.port().unwrap_or(default_port), security, login, hello, roots: Vec::new() };
        let config = Self { from, destination: Destination::Smtp(Box::new(server)) };
        match options.ca {
            Some(path) => config.with_root_ca(path),
            None => Ok(config),
        }
    }

    /// Says who sends, like `Outlay <outlay@example.com>`.
    ///
    /// # Errors
    /// The text is no address.
    pub fn with_from(mut self, from: &str) -> Result<Self, MailError> {
        self.from = read_from(from)?;
        Ok(self)
    }

    /// Trusts the certificates of this PEM file beside the public authorities: for a company's own authority. Without effect
    /// where mails go to a folder.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn with_root_ca(mut self, path: impl AsRef<Path>) -> Result<Self, MailError> {
        let path = path.as_ref();
        let wrong = |reason: String| MailError::RootCa { path: path.to_owned(), reason };
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        // An empty list of certificates is no error to lettre.
        if !pem.windows(17).any(|window| window == b"BEGIN CERTIFICATE") {
            return Err(wrong("it holds no certificate".to_owned()));
        }
        let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
        if let Destination::Smtp(server) = &mut self.destination {
            server.roots.push(certificate);
            // Found now, not at the first alert.
            server.tls_parameters()?;
        }
        Ok(self)
    }

    /// Whether mails are only written to a folder.
    #[must_use]
    pub const fn is_folder(&self) -> bool {
        matches!(self.destination, Destination::Folder(_))
    }
}

impl SmtpServer {
    /// What TLS needs to know: the host's name and whom to trust.
    pub(crate) fn tls_parameters(&self) -> Result<TlsParameters, MailError> {
        let builder = TlsParameters::builder(self.host.clone());
        let builder = self.roots.iter().cloned().fold(builder, |builder, root| builder.add_root_certificate(root));
        builder.build().map_err(|error| MailError::Tls(error.to_string()))
    }
}

/// The query of the URL.
#[derive(Default)]
struct UrlOptions {
    tls: Option<String>,
    from: Option<String>,
    ca: Option<String>,
}

impl UrlOptions {
    fn read(url: &Url) -> Result<Self, MailError> {
        let mut options = Self::default();
        for (key, value) in url.query_pairs() {
            let slot = match &*key {
                "tls" => &mut options.tls,
                "from" => &mut options.from,
                "ca" => &mut options.ca,
                _ => return Err(MailError::Url(format!("`{key}` is no option of it; use tls, from or ca"))),
            };
            *slot = Some(value.into_owned());
        }
        Ok(options)
    }
}

/// The protection that scheme and `tls` ask for, with the default port.
fn security(scheme: &str, tls: Option<&str>) -> Result<(Security, u16), MailError> {
    Ok(match (scheme, tls) {
        ("smtps", None | Some("required" | "wrapper" | "implicit")) => (Security::Implicit, 465),
        ("smtp", Some("required" | "starttls")) | ("smtp+starttls", None | Some("required" | "starttls")) => {
            (Security::StartTls, 587)
        }
        ("smtp", Some("opportunistic")) => (Security::Opportunistic, 587),
        ("smtp", None | Some("none")) => (Security::Plain, 25),
        ("smtp" | "smtps" | "smtp+starttls", Some(tls)) => {
            return Err(MailError::Url(format!(
                "`tls={tls}` does not go with {scheme}://; write smtps:// for TLS, or smtp:// with tls=required for STARTTLS"
            )));
        }
        (scheme, _) => {
            return Err(MailError::Url(format!("`{scheme}:` is no mail server; it begins with smtp:// or smtps://")));
        }
    })
}

fn login(url: &Url) -> Result<Option<Login>, MailError> {
    let decode = |text: &str, what: &str| {
        percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| {
            MailError::Url(format!("its {what} is no UTF-8 after percent-decoding; encode each byte of it as %XX"))
        })
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        (user, Some(password)) if !user.is_empty() => {
            Ok(Some(Login { user: decode(user, "user")?, password: decode(password, "password")? }))
        }
        ("", Some(_)) => {
            Err(MailError::Url("it has a password without a user; write smtp://user:password@host".to_owned()))
        }
        _ => Err(MailError::Url(
            "it has a user without a password; write smtp://user:password@host, or leave out both".to_owned(),
        )),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read_from(text: &str) -> Result<Mailbox, MailError> {
    parse_mailbox(text).map_err(|reason| MailError::From { text: crate::text::clean(text), reason })
}

/// Who sends where nobody said: the login where it is an address; on a host without a public name, `outlay` there. A made-up
/// sender at a public mail server would end in spam folders without a word, so that must be said.
fn default_from(host: &str, login: Option<&Login>) -> Result<Mailbox, MailError> {
    if let Some(mailbox) = login.and_then(|login| parse_mailbox(&login.user).ok()) {
        return Ok(Mailbox::new(Some("Outlay".to_owned()), mailbox.email));
    }
    let domain = if is_loopback(host) || host.parse::<std::net::IpAddr>().is_ok() {
        "localhost"
    } else if host.contains('.') {
        return Err(MailError::Url("it does not say who sends; add from=outlay@example.com to its query".to_owned()));
    } else {
        host
    };
    read_from(&format!("Outlay <outlay@{domain}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> SmtpServer {
        match MailConfig::smtp(url).unwrap().destination {
            Destination::Smtp(server) => *server,
            Destination::Folder(_) => panic!("a folder"),
        }
    }

    #[test]
    fn each_url_form_has_its_protection_and_port() {
        for (url, security, port) in [
            ("smtps://u:p@mail.example.com?from=a@example.com", Security::Implicit, 465),
            ("smtp://u:p@mail.example.com?tls=required&from=a@example.com", Security::StartTls, 587),
            ("smtp://u:p@mail.example.com:2525?tls=starttls&from=a@example.com", Security::StartTls, 2525),
            ("smtp+starttls://mail.example.com?from=a@example.com", Security::StartTls, 587),
            ("smtp://mail?tls=opportunistic", Security::Opportunistic, 587),
            ("smtp://localhost:1025", Security::Plain, 1025),
            ("smtp://[::1]", Security::Plain, 25),
        ] {
            let server = server(url);
            assert_eq!((server.security, server.port), (security, port), "{url}");
        }
        assert_eq!(server("smtp://[::1]").host, "::1");
    }

    #[test]
    fn user_and_password_are_percent_decoded_and_never_shown() {
        let config = MailConfig::smtp("smtps://me%40example.com:p%40ss%2Fw%C3%B6rd@mail.example.com").unwrap();
        let Destination::Smtp(server) = &config.destination else { panic!("a folder") };
        let login = server.login.as_ref().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("me@example.com", "p@ss/wörd"));
        assert_eq!(config.from.to_string(), "Outlay <me@example.com>");
        for shown in [format!("{config:?}"), format!("{config:#?}"), config.to_string()] {
            assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
        }
    }

    #[test]
    fn an_unusable_url_says_what_to_write_and_hides_the_password() {
        for (url, says) in [
            ("smtp://u:s3cret@mail.example.com?from=a@example.com", "tls=required"),
            ("smtp://u:s3cret@mail.example.com?tls=opportunistic&from=a@example.com", "tls=required"),
            ("smtps://u:s3cret@mail.example.com", "from=outlay@example.com"),
            ("smtps://u:s3cret@mail.example.com?tls=opportunistic", "smtps://"),
            ("smtps://u:s3cret@mail.example.com?tsl=required", "`tsl` is no option"),
            ("smtps://u@mail.example.com", "without a password"),
            ("smtps://:s3cret@mail.example.com", "without a user"),
            ("smtp://u:s3cret%FF@localhost", "percent-decoding"),
            ("smtp://u:s3cret@localhost:notaport", "percent-encoded"),
            ("https://u:s3cret@mail.example.com", "smtp://"),
            ("smtp:mail", "names no host"),
            ("mail.example.com:25", "smtp://"),
            ("mail.example.com", "smtp://"),
            ("smtp://localhost?from=nobody", "`nobody` is no sender"),
            ("smtp://localhost?ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ] {
            let error = MailConfig::smtp(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{url}: {error}");
        }
    }
}
