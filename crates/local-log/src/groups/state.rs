//! The state machine of one group: who is a member, who leads, who got what.
//!
//! ```text
//!            join                  all joined, or time is up            leader's assignment
//! Empty ───────────────▶ Joining ───────────────────────────▶ Syncing ─────────────────────▶ Stable
//!   ▲                      ▲  │ nobody left                      │ member gone, new member     │
//!   └──────────────────────┼──┘                                  │                             │
//!                          └─────────────────────────────────────┴─────────────────────────────┘
//! ```
//!
//! It reads no clock and does no I/O: `now` comes in, answers go out through channels. Time works through
//! [`Group::next_deadline`] and [`Group::tick`].

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::member::{Caller, JoinReply, JoinRequest, Member, SyncReply, SyncRequest};

/// So many members a group may have.
const MEMBERS_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Joining,
    Syncing,
    Stable,
}

impl State {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Joining => "PreparingRebalance",
            Self::Syncing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

pub(crate) struct Group {
    pub id: String,
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member id by instance id.
    instances: HashMap<String, String>,
    /// Ids that were given out to members that did not come back yet, and when that expires.
    pending: HashMap<String, Instant>,
    /// End of the joining or the syncing phase.
    phase_ends: Option<Instant>,
    /// While joining: not complete before this.
    not_before: Option<Instant>,
    initial_delay: Duration,
}

impl Group {
    pub fn new(id: String, initial_delay: Duration) -> Self {
        Self {
            id,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            phase_ends: None,
            not_before: None,
            initial_delay,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or_default()
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Nobody is or is about to be a member.
    pub fn is_idle(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// Takes a member in, or back in. The answer comes when the generation is complete.
    pub fn join(&mut self, now: Instant, request: JoinRequest, reply: oneshot::Sender<JoinReply>) {
        if let Err(error) = self.check_join(&request) {
            let _ = reply.send(JoinReply::failed(error, request.member_id));
            return;
        }
        let known = self.members.contains_key(&request.member_id);
        if request.member_id.is_empty() {
            self.join_new(now, request, reply);
        } else if known {
            self.join_again(now, request, reply);
        } else {
            // It comes back with the id that it was given.
            self.pending.remove(&request.member_id);
            self.add(now, request, reply);
        }
        self.complete_join_if_ready(now);
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), ResponseError> {
        let is_new = !self.members.contains_key(&request.member_id);
        if let Some(instance) = &request.instance_id
            && !request.member_id.is_empty()
            && let Some(current) = self.instances.get(instance)
            && *current != request.member_id
        {
            return Err(ResponseError::FencedInstanceId);
        }
        if is_new && !request.member_id.is_empty() && !self.pending.contains_key(&request.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if is_new && self.members.len() + self.pending.len() >= MEMBERS_MAX {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        let others = || self.members.values().filter(|member| member.id != request.member_id);
        let same_type = others().next().is_none() || self.protocol_type.as_ref() == Some(&request.protocol_type);
        let common = request.protocols.iter().any(|(name, _)| others().all(|member| member.supports(name)));
        if !same_type || !common || request.protocol_type.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn join_new(&mut self, now: Instant, mut request: JoinRequest, reply: oneshot::Sender<JoinReply>) {
        let base = request.instance_id.as_deref().unwrap_or(&request.client_id);
        let new_id = format!("{base}-{}", Uuid::new_v4());
        if let Some(instance) = request.instance_id.clone() {
            request.member_id = new_id;
            match self.instances.get(&instance).cloned() {
                Some(old_id) => self.replace_static(now, &old_id, request, reply),
                None => self.add(now, request, reply),
            }
        } else if request.requires_known_id {
            self.pending.insert(new_id.clone(), now + request.session_timeout);
            let _ = reply.send(JoinReply::failed(ResponseError::MemberIdRequired, new_id));
        } else {
            request.member_id = new_id;
            self.add(now, request, reply);
        }
    }

    fn add(&mut self, now: Instant, request: JoinRequest, reply: oneshot::Sender<JoinReply>) {
        if let Some(instance) = &request.instance_id {
            self.instances.insert(instance.clone(), request.member_id.clone());
        }
        self.protocol_type = Some(request.protocol_type);
        let member = Member {
            id: request.member_id.clone(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: request.protocols,
            assignment: Bytes::new(),
            expires: now + request.session_timeout,
            join: Some(reply),
            sync: None,
        };
        self.members.insert(request.member_id, member);
        self.rebalance(now);
    }

    fn join_again(&mut self, now: Instant, request: JoinRequest, reply: oneshot::Sender<JoinReply>) {
        let is_leader = self.leader.as_ref() == Some(&request.member_id);
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        let same_protocols = member.protocols == request.protocols;
        member.touch(now);
        member.protocols = request.protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        // Its answer to the last join got lost, or it has nothing new to say: it is told again what holds.
        let nothing_new = match self.state {
            State::Syncing => same_protocols,
            State::Stable => same_protocols && !is_leader,
            State::Empty | State::Joining => false,
        };
        if nothing_new {
            let answer = self.join_reply(&request.member_id);
            let _ = reply.send(answer);
            return;
        }
        member.join = Some(reply);
        if self.state != State::Joining {
            self.rebalance(now);
        }
    }

    /// A static member came back (after a restart, say) and takes the place of its former self.
    fn replace_static(&mut self, now: Instant, old_id: &str, request: JoinRequest, reply: oneshot::Sender<JoinReply>) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        let was_leader = self.leader.as_deref() == Some(old_id);
        if was_leader {
            self.leader = Some(request.member_id.clone());
        }
        let chosen = self.protocol.clone().unwrap_or_default();
        let old_metadata = member.metadata(&chosen);
        if let Some(waiting) = member.join.take() {
            let _ = waiting.send(JoinReply::failed(ResponseError::FencedInstanceId, old_id.to_owned()));
        }
        if let Some(waiting) = member.sync.take() {
            let _ = waiting.send(SyncReply::failed(ResponseError::FencedInstanceId));
        }
        member.id.clone_from(&request.member_id);
        member.protocols = request.protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        member.touch(now);
        let unchanged =
            self.state == State::Stable && member.supports(&chosen) && member.metadata(&chosen) == old_metadata;
        if let Some(instance) = &request.instance_id {
            self.instances.insert(instance.clone(), request.member_id.clone());
        }
        if !unchanged {
            member.join = Some(reply);
            self.members.insert(request.member_id, member);
            self.rebalance(now);
            return;
        }
        self.members.insert(request.member_id.clone(), member);
        let mut answer = self.join_reply(&request.member_id);
        if was_leader {
            // It keeps its assignment and so does everybody: it must not assign anew.
            answer.skip_assignment = request.understands_skip;
            if !request.understands_skip {
                answer.leader = old_id.to_owned();
                answer.members.clear();
            }
        }
        let _ = reply.send(answer);
    }

    /// Hands out assignments once the leader gave them.
    pub fn sync(&mut self, now: Instant, request: SyncRequest, reply: oneshot::Sender<SyncReply>) {
        let checked = self.check_member(&request.caller).and_then(|()| {
            let same = |given: &Option<String>, held: &Option<String>| given.is_none() || given == held;
            if same(&request.protocol_type, &self.protocol_type) && same(&request.protocol, &self.protocol) {
                Ok(())
            } else {
                Err(ResponseError::InconsistentGroupProtocol)
            }
        });
        let id = request.caller.member_id;
        let refuse = match (checked, self.state) {
            (Err(error), _) => Some(error),
            (Ok(()), State::Joining) => Some(ResponseError::RebalanceInProgress),
            (Ok(()), State::Empty) => Some(ResponseError::UnknownMemberId),
            (Ok(()), State::Syncing | State::Stable) => None,
        };
        if let Some(error) = refuse {
            let _ = reply.send(SyncReply::failed(error));
            return;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.touch(now);
            member.sync = Some(reply);
        }
        if self.state == State::Syncing && self.leader.as_ref() == Some(&id) {
            for (member_id, assignment) in request.assignments {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
            self.phase_ends = None;
        }
        if self.state == State::Stable {
            self.answer_syncs(now);
        }
    }

    pub fn heartbeat(&mut self, now: Instant, caller: &Caller) -> Result<(), ResponseError> {
        self.check_member(caller)?;
        self.touch(now, &caller.member_id);
        match self.state {
            State::Joining => Err(ResponseError::RebalanceInProgress),
            State::Empty | State::Syncing | State::Stable => Ok(()),
        }
    }

    pub fn leave(&mut self, now: Instant, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if self.pending.remove(member_id).is_some() {
            self.complete_join_if_ready(now);
            return Ok(());
        }
        let id = match instance_id {
            Some(instance) => {
                let id = self.instances.get(instance).ok_or(ResponseError::UnknownMemberId)?.clone();
                if !member_id.is_empty() && id != member_id {
                    return Err(ResponseError::FencedInstanceId);
                }
                id
            }
            None => member_id.to_owned(),
        };
        if !self.members.contains_key(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.remove(now, &id);
        Ok(())
    }

    pub fn check_commit(&mut self, now: Instant, caller: &Caller) -> Result<(), ResponseError> {
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        self.check_member(caller)?;
        if self.state == State::Syncing {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.touch(now, &caller.member_id);
        Ok(())
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|member| !is_waiting(member)).map(|member| member.expires);
        sessions.chain(self.pending.values().copied()).chain(self.phase_ends).chain(self.not_before).min()
    }

    /// Acts on the deadlines that have passed.
    pub fn tick(&mut self, now: Instant) {
        self.pending.retain(|_, expires| *expires > now);
        self.not_before = self.not_before.filter(|until| *until > now);
        let expired = self
            .members
            .values()
            .filter(|member| !is_waiting(member) && member.expires <= now)
            .map(|member| member.id.clone());
        for id in expired.collect::<Vec<_>>() {
            tracing::debug!(group = %self.id, member = %id, "member's session expired");
            self.remove(now, &id);
        }
        if self.phase_ends.is_some_and(|ends| ends <= now) {
            match self.state {
                State::Joining => self.complete_join(now),
                State::Syncing => self.give_up_sync(now),
                State::Empty | State::Stable => self.phase_ends = None,
            }
        }
        self.complete_join_if_ready(now);
    }

    fn check_member(&self, caller: &Caller) -> Result<(), ResponseError> {
        if let Some(instance) = &caller.instance_id {
            match self.instances.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(id) if *id != caller.member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(&caller.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if caller.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    fn touch(&mut self, now: Instant, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now);
        }
    }

    fn remove(&mut self, now: Instant, id: &str) {
        let Some(mut member) = self.members.remove(id) else { return };
        if let Some(waiting) = member.join.take() {
            let _ = waiting.send(JoinReply::failed(ResponseError::UnknownMemberId, id.to_owned()));
        }
        if let Some(waiting) = member.sync.take() {
            let _ = waiting.send(SyncReply::failed(ResponseError::UnknownMemberId));
        }
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
        if self.state != State::Joining {
            self.rebalance(now);
        }
        self.complete_join_if_ready(now);
    }

    /// Asks all members to join again.
    fn rebalance(&mut self, now: Instant) {
        if self.state == State::Joining {
            return;
        }
        for member in self.members.values_mut() {
            if let Some(waiting) = member.sync.take() {
                let _ = waiting.send(SyncReply::failed(ResponseError::RebalanceInProgress));
                member.touch(now);
            }
        }
        self.not_before =
            (self.state == State::Empty && !self.initial_delay.is_zero()).then(|| now + self.initial_delay);
        self.state = State::Joining;
        self.phase_ends = Some(now + self.longest_rebalance());
    }

    fn longest_rebalance(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn complete_join_if_ready(&mut self, now: Instant) {
        let all_joined = self.pending.is_empty() && self.members.values().all(|member| member.join.is_some());
        if self.state == State::Joining && all_joined && self.not_before.is_none() {
            self.complete_join(now);
        }
    }

    /// Starts a generation with those that joined. Static members may be late, up to their session timeout.
    fn complete_join(&mut self, now: Instant) {
        self.members.retain(|_, member| member.join.is_some() || member.instance_id.is_some());
        self.not_before = None;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.generation += 1;
            self.phase_ends = None;
            (self.protocol, self.leader) = (None, None);
            return;
        }
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.join.is_some());
        let leader = self.leader.take().filter(joined);
        self.leader = leader.or_else(|| self.members.values().find(|m| m.join.is_some()).map(|m| m.id.clone()));
        self.phase_ends = Some(now + self.longest_rebalance());
        if self.leader.is_none() {
            return;
        }
        self.generation += 1;
        self.protocol = self.choose_protocol();
        self.state = State::Syncing;
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let answer = self.join_reply(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.assignment = Bytes::new();
            if let Some(waiting) = member.join.take() {
                member.touch(now);
                let _ = waiting.send(answer);
            }
        }
    }

    /// Members that joined but did not ask for their assignment in time are gone.
    fn give_up_sync(&mut self, now: Instant) {
        let silent =
            self.members.values().filter(|m| m.sync.is_none() && m.instance_id.is_none()).map(|m| m.id.clone());
        let silent = silent.collect::<Vec<_>>();
        self.rebalance(now);
        for id in silent {
            self.remove(now, &id);
        }
    }

    /// The strategy that all support and most prefer.
    fn choose_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |name: &&String| self.members.values().all(|other| other.supports(name));
            if let Some(choice) = member.protocols.iter().map(|(name, _)| name).find(common) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }

    fn join_reply(&self, id: &str) -> JoinReply {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let described = |member: &Member| (member.id.clone(), member.instance_id.clone(), member.metadata(&protocol));
        let members = if leader == id { self.members.values().map(described).collect() } else { Vec::new() };
        JoinReply {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: Some(protocol),
            leader,
            member_id: id.to_owned(),
            skip_assignment: false,
            members,
        }
    }

    fn answer_syncs(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            let Some(waiting) = member.sync.take() else { continue };
            member.expires = now + member.session_timeout;
            let _ = waiting.send(SyncReply {
                error: None,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            });
        }
    }
}

/// A member that waits for our answer cannot be late.
fn is_waiting(member: &Member) -> bool {
    member.join.is_some() || member.sync.is_some()
}
