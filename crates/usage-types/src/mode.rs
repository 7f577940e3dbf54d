//! What a budget does when it is reached.

use crate::Ppm;

/// What a budget does when it is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Blocks.
    #[default]
    Hard,
    /// Alerts only.
    Soft,
    /// Decides as a hard one does and says so, and blocks nobody.
    Shadow,
    /// Hard for this share of its scopes, always the same ones, and in shadow for the others.
    Canary(Ppm),
}

impl Mode {
    /// The names in YAML and JSON.
    pub const NAMES: [&str; 4] = ["hard", "soft", "shadow", "canary"];

    /// The name in YAML and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Shadow => "shadow",
            Self::Canary(_) => "canary",
        }
    }

    /// Whether decisions are made, effective or not.
    #[must_use]
    pub const fn decides(self) -> bool {
        !matches!(self, Self::Soft)
    }

    /// Whether some scopes may be blocked.
    #[must_use]
    pub const fn may_block(self) -> bool {
        matches!(self, Self::Hard | Self::Canary(_))
    }
}

/// When a budget gives up blocking by itself and goes on in shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rollback {
    /// When more than this share of the scopes that it is effective for, and that have used something in the window, is blocked.
    pub blocked_over: Ppm,
    /// And there are at least so many such scopes.
    pub at_least: u32,
}

impl Rollback {
    /// The number of scopes where none is given: with fewer a single block is a large share.
    pub const AT_LEAST: u32 = 10;

    /// Whether so many blocked of so many scopes are too many.
    #[must_use]
    pub fn is_due(&self, blocked: u64, scopes: u64) -> bool {
        let share = u128::from(blocked) * u128::from(Ppm::ONE.0);
        scopes >= u64::from(self.at_least) && share > u128::from(scopes) * u128::from(self.blocked_over.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_is_due_above_its_share_and_not_at_it() {
        let rollback = Rollback { blocked_over: Ppm(200_000), at_least: 10 };
        let due =
            [(2, 10), (3, 10), (9, 9), (3, 15), (4, 15)].map(|(blocked, scopes)| rollback.is_due(blocked, scopes));
        assert_eq!(due, [false, true, false, false, true]);
    }
}
