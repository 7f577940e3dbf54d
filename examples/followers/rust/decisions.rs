//! The last decision of each key, as docs/decisions.md has a follower keep them. For a gateway in Rust: take this file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::Deserialize;

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
}

impl Decision {
    fn blocks(&self) -> bool {
        self.state == "blocked"
    }

    fn index(&self) -> (Vec<String>, Vec<String>) {
        self.scope.clone().into_iter().unzip()
    }
}

/// Keys of blocks by the values of their scope's dimensions.
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
        if let Some(before) = before.filter(|before| before.blocks()) {
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
        if decision.blocks() {
            let (names, values) = decision.index();
            self.blocks.entry(names).or_default().entry(values).or_default().insert(key.to_owned());
        }
        self.latest.insert(key.to_owned(), decision);
        Ok(())
    }

    /// The block that lasts longest of those that are in force for a request with these dimensions; `None`: it may spend.
    pub fn check(&self, dimensions: &BTreeMap<String, String>, now: DateTime<Utc>) -> Option<&Decision> {
        let keys = self.blocks.iter().filter_map(|(names, by_values)| {
            let values: Option<Vec<String>> = names.iter().map(|name| dimensions.get(name).cloned()).collect();
            by_values.get(&values?)
        });
        let blocks = keys.flatten().filter_map(|key| self.latest.get(key));
        // A block ends by itself.
        blocks.filter(|block| now < block.expires_at).max_by_key(|block| block.expires_at)
    }
}
