//! Who may come in: the key as a bearer token, compared in constant time.

use std::fmt;

use axum::http::{HeaderMap, header};
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
pub enum BearerError {
    /// There is no such header, or more than one.
    #[error("send the key once, in a header: Authorization: Bearer KEY")]
    NotOnce,
    /// It is there by another scheme.
    #[error("the authorization scheme is not Bearer; send Authorization: Bearer KEY")]
    OtherScheme,
    /// It is another key.
    #[error("the key is wrong; use the admin key that was printed at the first start or set in OUTLAY_ADMIN_KEY")]
    WrongKey,
}

/// Lets headers (or the metadata of gRPC) through that carry the key once, as a bearer token.
///
/// # Errors
/// They do not.
pub fn check_bearer(headers: &HeaderMap, key: &Secret) -> Result<(), BearerError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(BearerError::NotOnce) };
    // The scheme's name is case-insensitive (RFC 9110, 11.1).
    let bearer = value.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let (_, given) = bearer.ok_or(BearerError::OtherScheme)?;
    if bool::from(given.trim_ascii().ct_eq(key.expose().as_bytes())) { Ok(()) } else { Err(BearerError::WrongKey) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str]) -> Result<(), BearerError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        check_bearer(&headers, &Secret::new("a-long-admin-key"))
    }

    #[test]
    fn only_the_whole_key_as_one_bearer_token_is_let_in() {
        assert_eq!(check(&["Bearer a-long-admin-key"]), Ok(()));
        assert_eq!(check(&["bearer  a-long-admin-key"]), Ok(()));
        for (refused, why) in [
            (&["Bearer a-long-admin-ke"][..], BearerError::WrongKey),
            (&["Bearer a-long-admin-keyy"], BearerError::WrongKey),
            (&["Bearer "], BearerError::WrongKey),
            (&["Bearer"], BearerError::OtherScheme),
            (&["Basic a-long-admin-key"], BearerError::OtherScheme),
            (&["Bearer%20a-long-admin-key"], BearerError::OtherScheme),
            (&["a-long-admin-key"], BearerError::OtherScheme),
            (&[], BearerError::NotOnce),
            (&["Bearer a-long-admin-key", "Bearer a-long-admin-key"], BearerError::NotOnce),
        ] {
            assert_eq!(check(refused), Err(why), "{refused:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("hidden")), "Secret(…)");
    }
}
