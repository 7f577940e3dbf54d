//! Who may come in: the key as a bearer token or as the password of Basic authentication, compared in constant time.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

/// A text that must not be shown. Its `Debug` hides it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether a text is this one, in constant time.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        given.as_bytes().ct_eq(self.0.as_bytes()).into()
    }

    /// The text itself; for comparing, never for showing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a request may not come in; the text is for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no such header, or more than one.
    #[error("send the key once, in a header: Authorization: Bearer KEY")]
    NotOnce,
    /// It is there by another scheme, or Basic without a password.
    #[error("the authorization scheme is neither Bearer nor Basic; send Authorization: Bearer KEY")]
    OtherScheme,
    /// It is another key.
    #[error("the key is wrong; use the admin key that was printed at the first start or set in OUTLAY_ADMIN_KEY")]
    WrongKey,
}

/// Lets headers (or the metadata of gRPC) through that carry the key once: as a bearer token (RFC 6750) or as the password of Basic
/// authentication (RFC 7617), whoever the user is, for senders that can only be given a URL like `http://outlay:KEY@host`.
///
/// # Errors
/// They do not.
pub fn check_key(headers: &HeaderMap, key: &Secret) -> Result<(), KeyError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(KeyError::NotOnce) };
    let is_key = |given: &[u8]| bool::from(given.ct_eq(key.expose().as_bytes()));
    let is_let_in = match (after(value.as_bytes(), b"bearer "), after(value.as_bytes(), b"basic ")) {
        (Some(token), _) => is_key(token),
        (_, Some(credentials)) => is_key(&password(credentials).ok_or(KeyError::OtherScheme)?),
        _ => return Err(KeyError::OtherScheme),
    };
    if is_let_in { Ok(()) } else { Err(KeyError::WrongKey) }
}

/// What follows a scheme's name, which is case-insensitive (RFC 9110, 11.1).
fn after<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    name.eq_ignore_ascii_case(scheme).then_some(rest.trim_ascii())
}

/// The password of `user:password` in Base64.
fn password(credentials: &[u8]) -> Option<Vec<u8>> {
    let pair = STANDARD.decode(credentials).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str]) -> Result<(), KeyError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        check_key(&headers, &Secret::new("a-long-admin-key"))
    }

    #[test]
    fn only_the_whole_key_is_let_in_as_one_bearer_token_or_password() {
        assert_eq!(check(&["Bearer a-long-admin-key"]), Ok(()));
        assert_eq!(check(&["bearer  a-long-admin-key"]), Ok(()));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(check(&[&basic("outlay:a-long-admin-key")]), Ok(()));
        assert_eq!(check(&[&basic(":a-long-admin-key").replace("Basic", "basic")]), Ok(()));
        for (refused, why) in [
            (&["Bearer a-long-admin-ke"][..], KeyError::WrongKey),
            (&["Bearer a-long-admin-keyy"], KeyError::WrongKey),
            (&["Bearer "], KeyError::WrongKey),
            (&["Bearer"], KeyError::OtherScheme),
            (&["Basic a-long-admin-key"], KeyError::OtherScheme),
            (&[&basic("a-long-admin-key")], KeyError::OtherScheme),
            (&[&basic("a-long-admin-key:")], KeyError::WrongKey),
            (&[&basic("outlay:a-long-admin-keyy")], KeyError::WrongKey),
            (&["Digest a-long-admin-key"], KeyError::OtherScheme),
            (&["Bearer%20a-long-admin-key"], KeyError::OtherScheme),
            (&["a-long-admin-key"], KeyError::OtherScheme),
            (&[], KeyError::NotOnce),
            (&["Bearer a-long-admin-key", "Bearer a-long-admin-key"], KeyError::NotOnce),
        ] {
            assert_eq!(check(refused), Err(why), "{refused:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("hidden")), "Secret(…)");
    }
}
