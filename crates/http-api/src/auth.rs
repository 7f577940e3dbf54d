//! Who may ask: the admin key as a bearer token, compared in constant time.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::router::AppState;
use crate::{ApiProblem, Secret};

/// Lets a request through that carries the key, and answers every other with 401 before its body is read.
pub(crate) async fn require_key(State(app): State<AppState>, request: Request, next: Next) -> Response {
    match check_key(request.headers(), &app.config.admin_key) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_key(headers: &HeaderMap, key: &Secret) -> Result<(), ApiProblem> {
    let refuse = |detail: &str| Err(ApiProblem::new(401, "unauthorized", detail));
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return refuse("send the key once, in a header: Authorization: Bearer KEY");
    };
    let value = value.as_bytes();
    // The scheme's name is case-insensitive (RFC 9110, 11.1).
    let Some(given) = value.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")) else {
        return refuse("the authorization scheme is not Bearer; send Authorization: Bearer KEY");
    };
    if bool::from(given.1.trim_ascii().ct_eq(key.expose().as_bytes())) {
        return Ok(());
    }
    refuse("the key is wrong; use the admin key that was printed at the first start or set in OUTLAY_ADMIN_KEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_as_one_bearer_token_is_let_in() {
        let key = Secret::new("a-long-admin-key");
        let outcome = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            check_key(&headers, &key).is_ok()
        };
        assert!(outcome(&["Bearer a-long-admin-key"]));
        assert!(outcome(&["bearer  a-long-admin-key"]));
        for refused in [
            &["Bearer a-long-admin-ke"][..],
            &["Bearer a-long-admin-keyy"],
            &["Bearer "],
            &["Bearer"],
            &["Basic a-long-admin-key"],
            &["a-long-admin-key"],
            &[],
            &["Bearer a-long-admin-key", "Bearer a-long-admin-key"],
        ] {
            assert!(!outcome(refused), "{refused:?}");
        }
    }
}
