//! Who may send: the key as a bearer token, in the HTTP header or gRPC metadata `authorization`, compared in constant time.

use std::fmt;

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use crate::failure::Failure;

/// The key that senders must know. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerKey(String);

impl BearerKey {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Lets a request through that carries the key once.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let refuse = |message: &str| Err(Failure::Unauthorized(message.to_owned()));
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return refuse(
                "send the key once, as `authorization: Bearer KEY`; exporters take it from OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20KEY",
            );
        };
        // The scheme's name is case-insensitive (RFC 9110, 11.1).
        let bearer = value.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        let Some((_, given)) = bearer else {
            return refuse("the authorization scheme is not Bearer; send `authorization: Bearer KEY`");
        };
        if bool::from(given.trim_ascii().ct_eq(self.0.as_bytes())) {
            return Ok(());
        }
        refuse("the key is wrong; use the admin key that was printed at the first start or set in OUTLAY_ADMIN_KEY")
    }
}

impl fmt::Debug for BearerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_as_one_bearer_token_is_let_in() {
        let key = BearerKey::new("a-long-admin-key");
        let is_let_in = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            key.check(&headers).is_ok()
        };
        assert!(is_let_in(&["Bearer a-long-admin-key"]));
        assert!(is_let_in(&["bearer  a-long-admin-key"]));
        for refused in [
            &["Bearer a-long-admin-ke"][..],
            &["Bearer a-long-admin-keyy"],
            &["Bearer "],
            &["Bearer"],
            &["Basic a-long-admin-key"],
            &["Bearer%20a-long-admin-key"],
            &["a-long-admin-key"],
            &[],
            &["Bearer a-long-admin-key", "Bearer a-long-admin-key"],
        ] {
            assert!(!is_let_in(refused), "{refused:?}");
        }
    }
}
