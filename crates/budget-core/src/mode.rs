//! What a budget does for each of its scopes; of a canary, which ones are held to it.

use ring::digest::{SHA256, digest};
use usage_types::{Budget, Mode, Ppm, Scope, decision_key};

/// What a budget does for a scope when it is reached, unless it has rolled back: hard, soft or shadow.
#[must_use]
pub fn mode_of(budget: &Budget, scope: &Scope) -> Mode {
    match budget.mode {
        Mode::Canary(share) if is_in_canary(&budget.id, scope, share) => Mode::Hard,
        Mode::Canary(_) => Mode::Shadow,
        mode => mode,
    }
}

/// Whether a scope is among this share of a budget's scopes. The first 8 bytes of the SHA-256 of the decision's key `budget|scope`, as a big-endian
/// number, modulo a million, lie below the share in parts per million. So every process and every follower agrees, a larger share
/// only adds scopes, and another budget has others.
fn is_in_canary(budget: &str, scope: &Scope, share: Ppm) -> bool {
    let hash = digest(&SHA256, decision_key(budget, scope).as_bytes());
    let first = hash.as_ref().iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    first % u64::from(Ppm::ONE.0) < u64::from(share.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use usage_types::Dimension;

    fn user(user: u32) -> Scope {
        Scope::new([(Dimension::User, user.to_string())])
    }

    #[test]
    fn a_share_of_the_scopes_is_in_the_canary_and_a_larger_share_only_adds_some() {
        let count = |share: u32| (0..10_000).filter(|at| is_in_canary("b", &user(*at), Ppm(share))).count();
        assert!((900..1_100).contains(&count(100_000)), "{}", count(100_000));
        assert_eq!(count(1_000_000), 10_000);
        let is_in = |at, share| is_in_canary("b", &user(at), Ppm(share));
        assert!((0..10_000).all(|at| !is_in(at, 100_000) || is_in(at, 150_000)));
        assert!((0..10_000).any(|at| is_in(at, 100_000) != is_in_canary("c", &user(at), Ppm(100_000))));
    }

    /// `printf 'users|user=7' | sha256sum`: the first 16 digits, modulo a million.
    #[test]
    fn the_hash_is_the_documented_one() {
        assert!(!is_in_canary("users", &user(7), Ppm(702_084)));
        assert!(is_in_canary("users", &user(7), Ppm(702_085)));
    }
}
