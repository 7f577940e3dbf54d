//! Mail addresses as people write them into a budgets file.

use lettre::message::Mailbox;

use crate::text::clean;

/// Reads `leads@example.com` or `Leads <leads@example.com>`. What it accepts is safe in a header and in an SMTP command: no control
/// characters (lettre 0.11.23 panics on a line break in a name, RUSTSEC-2026-0561), and an address in ASCII, which every server takes.
///
/// # Errors
/// Says what is wrong with it, for people.
pub(crate) fn parse_mailbox(text: &str) -> Result<Mailbox, String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    if text.len() > 1000 {
        return Err("it is longer than 1000 bytes".to_owned());
    }
    let mailbox: Mailbox = text.trim().parse().map_err(|_| "it is no mail address".to_owned())?;
    let email: &str = mailbox.email.as_ref();
    if email.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("the address is not plain ASCII; write its domain in punycode (xn--…)".to_owned());
    }
    // RFC 5321, 4.5.3.1.3: a path has at most 256 octets, with its brackets.
    if email.len() > 254 {
        return Err("the address is longer than 254 bytes".to_owned());
    }
    let name = mailbox.name.map(|name| clean(&name)).filter(|name| !name.is_empty());
    Ok(Mailbox::new(name, mailbox.email))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_name_are_read() {
        for (text, email, name) in [
            ("leads@example.com", "leads@example.com", None),
            (" Support Leads <leads@example.com> ", "leads@example.com", Some("Support Leads")),
            ("\"Zoë, Müller\" <z@example.com>", "z@example.com", Some("Zoë, Müller")),
        ] {
            let mailbox = parse_mailbox(text).unwrap();
            assert_eq!((mailbox.email.to_string().as_str(), mailbox.name.as_deref()), (email, name), "{text}");
        }
    }

    #[test]
    fn what_could_leave_its_header_or_command_is_refused() {
        for text in [
            "",
            "nobody",
            "a@b@c",
            "a@example.com\r\nBcc: x@example.com",
            "A\r\nBcc: x@example.com <a@example.com>",
            "a b@example.com",
            "\"a b\"@example.com",
            "a@example.com> RCPT TO:<x@example.com",
            "a@example.com, b@example.com",
            "jörg@example.com",
            "a@müller.example",
            "a@example.com\0",
            "a@example.com\r\n",
            "\"A\u{1}B\" <a@example.com>",
        ] {
            assert!(parse_mailbox(text).is_err(), "{text:?} was accepted");
        }
    }
}
