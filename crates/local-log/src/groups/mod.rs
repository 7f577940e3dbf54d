//! Consumer groups of the classic protocol, and their committed offsets.
//!
//! [`state::Group`] holds the rules and takes the time as an argument; this module gives it a clock, a lock and a timer
//! that sleeps until the group's next deadline. Membership is not kept across restarts (members join again, as
//! after any coordinator change); committed offsets are. Deliberately absent: KIP-848 groups and share groups.

pub(crate) mod member;
pub(crate) mod offsets;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use member::{Caller, JoinReply, JoinRequest, SyncReply, SyncRequest};
use offsets::OffsetStore;
use state::{Group, State};

/// So many groups may have members at a time.
const GROUPS_MAX: usize = 10_000;

pub(crate) struct Coordinator {
    groups: Mutex<Groups>,
    pub offsets: OffsetStore,
    initial_delay: Duration,
}

type Groups = BTreeMap<String, Arc<Running>>;

/// A group with its timer.
struct Running {
    group: Mutex<Group>,
    /// The deadlines changed.
    changed: Notify,
}

impl Coordinator {
    pub fn open(data_dir: &Path, initial_delay: Duration) -> io::Result<Self> {
        Ok(Self { groups: Mutex::default(), offsets: OffsetStore::open(data_dir)?, initial_delay })
    }

    pub fn close(&self) {
        self.offsets.log.close();
    }

    pub fn join(self: &Arc<Self>, id: &str, request: JoinRequest) -> oneshot::Receiver<JoinReply> {
        let (reply, answer) = oneshot::channel();
        // Held throughout, so that an idle group cannot be given up between finding and joining it.
        let mut groups = self.groups.lock();
        match self.running_or_new(&mut groups, id) {
            Some(running) => {
                running.group.lock().join(Instant::now(), request, reply);
                running.changed.notify_one();
            }
            None => {
                let _ = reply.send(JoinReply::failed(ResponseError::GroupMaxSizeReached, request.member_id));
            }
        }
        answer
    }

    pub fn sync(&self, id: &str, request: SyncRequest) -> oneshot::Receiver<SyncReply> {
        let (reply, answer) = oneshot::channel();
        match self.running(id) {
            Some(running) => {
                running.group.lock().sync(Instant::now(), request, reply);
                running.changed.notify_one();
            }
            None => {
                let _ = reply.send(SyncReply::failed(ResponseError::UnknownMemberId));
            }
        }
        answer
    }

    pub fn heartbeat(&self, id: &str, caller: &Caller) -> Result<(), ResponseError> {
        let running = self.running(id).ok_or(ResponseError::UnknownMemberId)?;
        running.group.lock().heartbeat(Instant::now(), caller)
    }

    pub fn leave(&self, id: &str, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        let running = self.running(id).ok_or(ResponseError::UnknownMemberId)?;
        let left = running.group.lock().leave(Instant::now(), member_id, instance_id);
        running.changed.notify_one();
        left
    }

    /// Whether `caller` may commit offsets now. Outside of membership (generation below 0) only for a group without members.
    pub fn check_commit(&self, id: &str, caller: &Caller) -> Result<(), ResponseError> {
        match self.running(id) {
            Some(running) => running.group.lock().check_commit(Instant::now(), caller),
            None if caller.generation < 0 => Ok(()),
            None => Err(ResponseError::IllegalGeneration),
        }
    }

    /// Looks at a group; one without members but with committed offsets counts as an empty group.
    pub fn inspect<T>(&self, id: &str, look: impl FnOnce(&Group) -> T) -> Option<T> {
        match self.running(id) {
            Some(running) => Some(look(&running.group.lock())),
            None if self.offsets.has_group(id) => Some(look(&Group::new(id.to_owned(), self.initial_delay))),
            None => None,
        }
    }

    /// All groups that have members or offsets.
    pub fn ids(&self) -> BTreeSet<String> {
        let mut ids = self.offsets.groups();
        ids.extend(self.groups.lock().keys().cloned());
        ids
    }

    /// Forgets an empty group with its offsets.
    pub async fn delete(&self, id: &str) -> Result<(), ResponseError> {
        match self.inspect(id, |group| group.state()) {
            None => return Err(ResponseError::GroupIdNotFound),
            Some(State::Empty) => {}
            Some(_) => return Err(ResponseError::NonEmptyGroup),
        }
        self.groups.lock().remove(id);
        self.offsets.delete_group(id).await
    }

    fn running(&self, id: &str) -> Option<Arc<Running>> {
        self.groups.lock().get(id).cloned()
    }

    fn running_or_new(self: &Arc<Self>, groups: &mut Groups, id: &str) -> Option<Arc<Running>> {
        if let Some(running) = groups.get(id) {
            return Some(Arc::clone(running));
        }
        if groups.len() >= GROUPS_MAX {
            return None;
        }
        let group = Mutex::new(Group::new(id.to_owned(), self.initial_delay));
        let running = Arc::new(Running { group, changed: Notify::new() });
        groups.insert(id.to_owned(), Arc::clone(&running));
        tokio::spawn(Arc::clone(self).keep_time(id.to_owned(), Arc::clone(&running)));
        Some(running)
    }

    /// Acts on a group's deadlines until the group has no members any more.
    async fn keep_time(self: Arc<Self>, id: String, running: Arc<Running>) {
        loop {
            let deadline = running.group.lock().next_deadline();
            let elapsed = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, running.changed.notified()).await.is_err(),
                None => {
                    running.changed.notified().await;
                    false
                }
            };
            if elapsed {
                running.group.lock().tick(Instant::now());
            }
            let mut groups = self.groups.lock();
            let group = running.group.lock();
            if group.is_idle() {
                // Whoever joins next gets a new group; requests of former members find none, and join again.
                if groups.get(&id).is_some_and(|current| Arc::ptr_eq(current, &running)) {
                    groups.remove(&id);
                }
                return;
            }
        }
    }
}
