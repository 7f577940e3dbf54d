//! The last decision of each key, as docs/decisions.md has a follower keep them. For a gateway in Rust: take this file.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a follower needs of a decision. Members that are not named here are nobody's business: the contract grows by them.
#[derive(Debug, Clone, Deserialize)]
pub struct Decision {
    /// The budget that decided.
    pub budget: String,
    /// For whom: dimensions and their values.
    pub scope: BTreeMap<String, String>,
    /// `blocked`; whatever else it is, the scope may spend.
    pub state: String,
    /// Why, for programs.
    pub reason_code: String,
    /// What a gateway answers.
    pub http_status: u16,
    /// Rises with each decision of a key.
    pub seq: u64,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// The scope may spend, at this rate.
    pub throttle: Option<Throttle>,
}

/// A rate: a token bucket of `burst` that is filled evenly with `requests` in `per_s` seconds.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Throttle {
    /// Why, for programs.
    pub reason_code: String,
    /// How many requests may be made.
    pub requests: u64,
    /// In how many seconds.
    pub per_s: u64,
    /// How many of them at once.
    pub burst: u64,
    /// The shared budget that is nearly used up, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Decision {
    /// Whether its scope may not spend.
    pub fn blocks(&self) -> bool {
        self.state == "blocked"
    }

    fn restrains(&self) -> bool {
        self.blocks() || self.throttle.is_some()
    }

    /// Which of several that are in force is told: the block that lasts longest, else the slowest throttle.
    fn order(&self, other: &Self) -> Ordering {
        let slower = |a: &Throttle, b: &Throttle| {
            (u128::from(b.requests) * u128::from(a.per_s)).cmp(&(u128::from(a.requests) * u128::from(b.per_s)))
        };
        self.blocks().cmp(&other.blocks()).then_with(|| match (&self.throttle, &other.throttle) {
            (Some(a), Some(b)) => slower(a, b),
            _ => self.expires_at.cmp(&other.expires_at),
        })
    }

    fn index(&self) -> (Vec<String>, Vec<String>) {
        self.scope.clone().into_iter().unzip()
    }
}

/// Keys of blocks and throttles by the values of their scope's dimensions.
type ByValues = HashMap<Vec<String>, BTreeSet<Vec<u8>>>;

/// All of them.
#[derive(Debug, Default)]
pub struct Decisions {
    latest: HashMap<Vec<u8>, Decision>,
    /// By the names of these dimensions.
    blocks: HashMap<Vec<String>, ByValues>,
}

impl Decisions {
    /// Takes one record, a tombstone where there is no value.
    ///
    /// # Errors
    /// It is no decision; what was known of the key stays.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), serde_json::Error> {
        let decision: Option<Decision> = value.map(serde_json::from_slice).transpose()?;
        let before = self.latest.get(key);
        if let (Some(decision), Some(before)) = (&decision, before)
            && decision.seq <= before.seq
        {
            // Older than what is known, or the same again.
            return Ok(());
        }
        if let Some(before) = before.filter(|before| before.restrains()) {
            let (names, values) = before.index();
            if let Some(by_values) = self.blocks.get_mut(&names)
                && let Some(keys) = by_values.get_mut(&values)
            {
                keys.remove(key);
                if keys.is_empty() {
                    by_values.remove(&values);
                }
            }
        }
        let Some(decision) = decision else {
            self.latest.remove(key);
            return Ok(());
        };
        if decision.restrains() {
            let (names, values) = decision.index();
            self.blocks.entry(names).or_default().entry(values).or_default().insert(key.to_owned());
        }
        self.latest.insert(key.to_owned(), decision);
        Ok(())
    }

    /// What is in force for a request with these dimensions: the block that lasts longest, else the slowest throttle (hold requests to its rate);
    /// `None`: it may spend.
    pub fn check(&self, dimensions: &BTreeMap<String, String>, now: DateTime<Utc>) -> Option<&Decision> {
        let keys = self.blocks.iter().filter_map(|(names, by_values)| {
            let values: Option<Vec<String>> = names.iter().map(|name| dimensions.get(name).cloned()).collect();
            by_values.get(&values?)
        });
        let blocks = keys.flatten().filter_map(|key| self.latest.get(key));
        // It ends by itself.
        blocks.filter(|block| now < block.expires_at).max_by(|a, b| a.order(b))
    }
}
