//! Which keys the topic may forget, and what numbers go on with then.
//!
//! Holds here: a tombstone comes only when everything that was ever said of its key is over by its own `expires_at`, so it means what the
//! key meant before: allowed. And no key ever gets a number that it had already, neither after its tombstone nor after a restart,
//! when the numbers of forgotten keys are nowhere any more: a key that comes begins above all of them.

use std::collections::BTreeSet;

use usage_types::{Decision, TimeUs};

use super::Decisions;

/// How long after its end a decision stays on the topic: more than clocks of followers may be wrong.
pub const DECISIONS_KEPT_US: i64 = TimeUs::HOUR;

/// What is over, and the numbers of what is gone.
#[derive(Debug, Default)]
pub(super) struct Endings {
    /// Keys that nothing holds back, by when they may be forgotten. A block or a throttle is no such key, nor what would be one: at its end it is replaced.
    due: BTreeSet<(TimeUs, String)>,
    /// Keys whose tombstone did not reach the log.
    unpublished: BTreeSet<String>,
    /// No key that is gone had a higher number.
    floor: u64,
    /// How many records the topic has taken, at least: the next start finds as many or more.
    records: u64,
}

impl Endings {
    /// The number below the first one of a new key.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn next_after(&self, after: TimeUs) -> Option<TimeUs> {
        self.due.range((after, String::new())..).next().map(|(time, _)| *time)
    }

    /// Notes that a decision takes the place of the last one of its key.
    pub(super) fn replace(&mut self, last: Option<&Decision>, key: &str, decision: &Decision) {
        if let Some(last) = last {
            self.due.remove(&(due(last), key.to_owned()));
        }
        self.unpublished.remove(key);
        if !decision.restrains() {
            self.due.insert((due(decision), key.to_owned()));
        }
    }

    /// Notes that so many records go to the topic.
    pub(super) fn sent(&mut self, records: usize) {
        self.records += records as u64;
    }

    /// Notes that one of these did not reach it.
    pub(super) fn lost(&mut self) {
        self.records = self.records.saturating_sub(1);
    }
}

fn due(decision: &Decision) -> TimeUs {
    decision.expires_at.max(decision.decided_at).plus_us(DECISIONS_KEPT_US)
}

impl Decisions {
    /// What the log has taken before this start: the numbers of keys that it has forgotten are not higher than that.
    pub(crate) fn load_end(&mut self, records: u64) {
        self.endings.floor = records;
        self.endings.records = records;
    }

    /// Forgets the keys that are over, and returns them for their tombstones.
    pub(crate) fn forget(&mut self, now: TimeUs) -> Vec<String> {
        let later = self.endings.due.split_off(&(now.plus_us(1), String::new()));
        let looked_at = std::mem::replace(&mut self.endings.due, later);
        let mut gone = std::mem::take(&mut self.endings.unpublished);
        for (_, key) in looked_at {
            // One that was put off may have been decided anew since, and is due by that decision then.
            let Some(last) = self.published.get(&key).filter(|last| !last.restrains() && due(last) <= now) else {
                continue;
            };
            // Numbers that were lost on their way to the log are none of its records. One of these may be the highest, and the next
            // start has to know it: from the decision itself, until there are as many records.
            if last.seq > self.endings.records || self.unpublished.contains(&key) {
                self.endings.due.insert((now.plus_us(DECISIONS_KEPT_US), key));
                continue;
            }
            self.endings.floor = self.endings.floor.max(last.seq);
            self.recheck.remove(&key);
            self.published.remove(&key);
            gone.insert(key);
        }
        self.endings.sent(gone.len());
        gone.into_iter().collect()
    }

    /// Has a tombstone made again that did not reach the log, unless its key has come back since.
    pub(crate) fn retract_tombstone(&mut self, key: &str) {
        self.endings.lost();
        if !self.published.contains_key(key) {
            self.endings.unpublished.insert(key.to_owned());
        }
    }
}
