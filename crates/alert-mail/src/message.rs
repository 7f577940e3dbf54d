//! From an alert, or what else is mailed, to the bytes of its message, and the names that follow from its id.
//!
//! Holds here: the message is a function of what it is about, sender and recipients, to the byte: a copy sent again after a crash is the same mail
//! with the same `Message-ID`, which mail servers and programs drop. Bodies are base64: no line of a body can begin with a dot or
//! hold a bare line break (RUSTSEC-2026-0561).

use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, MultiPart, SinglePart, header};
use ring::digest::{SHA256, digest};
use usage_types::TimeUs;

use crate::MailError;
use crate::entry::About;

/// The alert's id, for filters of mail programs.
#[derive(Clone)]
struct AlertId(String);

/// The id of a request for higher limits, likewise.
#[derive(Clone)]
struct RequestId(String);

impl Header for RequestId {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Outlay-Increase-Request")
    }
    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

impl Header for AlertId {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Outlay-Alert-Id")
    }
    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

/// RFC 3834: no vacation notice answers this mail.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The message as it goes over the wire, lines ended by CR LF.
pub(crate) fn message_bytes(about: &About, from: &Mailbox, to: &[Mailbox]) -> Result<Vec<u8>, MailError> {
    let (content, id) = (about.content(), about.id());
    let part = |kind: ContentType, body: String| {
        SinglePart::builder().header(kind).header(ContentTransferEncoding::Base64).body(body)
    };
    // Named after what it is about: lettre's own boundary is random, and the mail would differ each time it is built.
    let boundary = format!("outlay-{}", &hex(id.as_bytes())[..32]);
    let parts = MultiPart::alternative()
        .boundary(boundary)
        .singlepart(part(ContentType::TEXT_PLAIN, content.text))
        .singlepart(part(ContentType::TEXT_HTML, content.html));
    let builder = Message::builder()
        .from(from.clone())
        .mailbox(header::To::from(Mailboxes::from_iter(to.iter().cloned())))
        .subject(content.subject)
        .date(system_time(about.time()))
        .message_id(Some(message_id(&id, from)))
        .header(AutoSubmitted);
    let builder = match about {
        About::Alert(alert) => builder.header(AlertId(header_text(&alert.id))),
        About::Increase(notice) => builder.header(RequestId(header_text(&notice.request))),
    };
    builder.multipart(parts).map(|message| message.formatted()).map_err(|error| MailError::Message(error.to_string()))
}

/// `<sha256 of sender and alert id, its first half@the sender's domain>`. The sender is in it because two installations may
/// have a budget of the same name, and the mailbox that hears from both must not drop one as a copy of the other.
pub(crate) fn message_id(alert_id: &str, from: &Mailbox) -> String {
    let key = format!("{}\n{alert_id}", from.email);
    format!("<outlay.{}@{}>", &hex(key.as_bytes())[..32], from.email.domain())
}

/// The file of an alert in a folder of mails: readable, safe on every file system, and its own.
pub(crate) fn eml_name(alert_id: &str) -> String {
    let readable: String = alert_id
        .chars()
        .take(80)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '.') { c } else { '_' })
        .collect();
    format!("{}-{}.eml", readable.trim_start_matches('.'), &hex(alert_id.as_bytes())[..16])
}

/// The id in printable ASCII, so that no encoding of headers can change it: filters compare it as text.
fn header_text(alert_id: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(alert_id.len());
    for b in alert_id.bytes() {
        // A line of a header has at most 998 characters, and this one has no spaces to fold it at.
        if text.len() > 900 {
            break;
        }
        if b.is_ascii_graphic() {
            text.push(char::from(b));
        } else {
            let _ = write!(text, "%{b:02X}");
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn system_time(time: TimeUs) -> std::time::SystemTime {
    // A mail's date has no years before 1970 or beyond 9999.
    let seconds = u64::try_from(time.0 / TimeUs::SECOND).unwrap_or(0).min(253_402_300_799);
    std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}
