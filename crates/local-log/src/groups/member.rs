//! Members of a group, and what they ask and are told.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Assignment strategies of a member with its subscription in each, in order of preference.
pub(crate) type Protocols = Vec<(String, Bytes)>;

pub(crate) struct Member {
    pub id: String,
    /// Set for static members (KIP-345).
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocols: Protocols,
    pub assignment: Bytes,
    /// When it counts as gone, unless it waits for an answer.
    pub expires: Instant,
    pub join: Option<oneshot::Sender<JoinReply>>,
    pub sync: Option<oneshot::Sender<SyncReply>>,
}

impl Member {
    pub fn touch(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}

/// Who a member says it is.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Debug)]
pub(crate) struct JoinRequest {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    pub protocols: Protocols,
    /// A new dynamic member must come back with the id that it is given (version 4 and later).
    pub requires_known_id: bool,
    /// The client understands "you lead, but do not assign" (version 9 and later).
    pub understands_skip: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct JoinReply {
    pub error: Option<ResponseError>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// Id, instance id and subscription of all members; for the leader only.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

impl JoinReply {
    pub fn failed(error: ResponseError, member_id: String) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id,
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct SyncRequest {
    pub caller: Caller,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Given by the leader: member id and assignment.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone)]
pub(crate) struct SyncReply {
    pub error: Option<ResponseError>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

impl SyncReply {
    pub fn failed(error: ResponseError) -> Self {
        Self { error: Some(error), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}
